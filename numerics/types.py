"""The vocabulary of shapes. A tree is a pytree of floating-point arrays; trees that belong together are built alike."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Array, Float, PyTree

from numerics.catalogue import Frame

__all__ = ["Batch", "Frame", "LossFn", "Order", "Params", "Reduction", "Scalar", "Sign"]

Scalar: TypeAlias = Float[Array, ""]

Params: TypeAlias = PyTree[Float[Array | np.ndarray, "..."]]
"""Parameters, and everything of their structure: gradients, displacements, directions, coefficients."""

Batch: TypeAlias = PyTree[Array | np.ndarray]
"""The data of one loss; None where it reads the parameters alone."""

LossFn: TypeAlias = Callable[[Params, Batch], PyTree]
"""A scalar loss; or a pair of it and auxiliary outputs, where `Losses.has_aux` is True."""

Sign: TypeAlias = Literal["-", "+"]
"""The side of a pair: "+" preferred, "-" dispreferred."""

Reduction: TypeAlias = Literal["sum", "mean"]

Order: TypeAlias = Literal[1, 2, 3]
"""A power of the step size: the highest of a prediction."""
