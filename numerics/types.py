"""The vocabulary of shapes. A tree is a pytree of floating-point arrays; trees that belong together are built alike."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Array, Float, PyTree

__all__ = ["Batch", "Direction", "Frame", "LossFn", "Params", "Reduction", "Scalar", "Sign"]

Scalar: TypeAlias = Float[Array, ""]

Params: TypeAlias = PyTree[Float[Array | np.ndarray, "..."]]
"""Parameters, and everything of their structure: gradients, displacements, coefficients."""

Direction: TypeAlias = Params
"""A tangent vector at the parameters."""

Batch: TypeAlias = PyTree[Array | np.ndarray]
"""What one loss reads besides the parameters; None where it reads nothing."""

LossFn: TypeAlias = Callable[[Params, Batch], PyTree]
"""A scalar; or a pair with whatever else is to be told, where `Losses.has_aux` says so."""

Sign: TypeAlias = Literal["-", "+"]
"""The side of a pair: "+" preferred, "-" dispreferred."""

Frame: TypeAlias = Literal["start", "accumulated", "pair-accumulated", "gradient-flow"]
"""What a displacement is compared with.

start             nothing: the displacement itself
accumulated       one update on everything, all gradients read at the start
pair-accumulated  one accumulated update for every two steps, in the same order
gradient-flow     the exact flow of the same losses for the same total time; for plain gradient descent only
"""

Reduction: TypeAlias = Literal["sum", "mean"]
