"""Shapes of trees, and of the results of functions that are traced and never run."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef
from jaxtyping import PyTree

__all__ = ["Shapes", "abstract", "shapes_of", "traced"]

Shapes: TypeAlias = tuple[
    PyTreeDef,  # pyright: ignore[reportInvalidTypeForm]  # jax says Any
    tuple[tuple[tuple[int, ...], np.dtype], ...],
]
"""The structure of a tree, and the shapes and dtypes of its leaves."""


def shapes_of(tree: object) -> Shapes:
    """The shapes of a tree of arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(leaf), leaf.dtype) for leaf in leaves)


def abstract(like: Shapes) -> PyTree:
    """A tree of these shapes, without values."""
    structure, leaves = like
    return structure.unflatten([jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves])


def traced(function: Callable, *arguments: PyTree) -> PyTree:
    """The shapes that a function returns; traced anew, since what the function reads may have changed."""
    return jax.eval_shape(lambda *these: function(*these), *arguments)  # noqa: PLW0108  # JAX keeps traces by function
