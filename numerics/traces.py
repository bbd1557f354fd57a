"""Shapes of trees, and of the results of functions that are traced and never run."""

import inspect
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from jax.tree_util import PyTreeDef
from jaxtyping import PyTree

from numerics import checks
from numerics.contents import Snapshot

__all__ = ["Shapes", "abstract", "loss_output", "shapes_of", "traced"]

Shapes: TypeAlias = tuple[
    PyTreeDef,  # pyright: ignore[reportInvalidTypeForm]  # jax says Any
    tuple[tuple[tuple[int, ...], Any], ...],  # a random key has a dtype of JAX's own
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


@lru_cache(maxsize=1024)
def loss_output(
    name: str, function: Snapshot, has_aux: bool, params: Shapes, batch: Shapes
) -> tuple[Hashable, Hashable]:
    """The dtype of a loss, and the structure, shapes and dtypes of its auxiliary outputs."""
    arguments = abstract(params), abstract(batch)
    loss = cast("Callable", function.value)
    try:
        inspect.signature(loss).bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"loss {name!r} must take the parameters and one batch; got one for which this fails: {error}. For a "
            "function of the parameters alone take losses.of_params."
        ) from None
    except ValueError:
        pass  # some callables have no signature
    try:
        out = traced(loss, *arguments)
    except Exception as error:
        raise TypeError(
            f"loss {name!r} must be computable, by JAX, from params and its batches; got "
            f"{type(error).__name__} for shapes {[shape for shape, _ in params[1]]} and "
            f"{[shape for shape, _ in batch[1]]}: {checks.first_line(error)}"
        ) from error
    aside: Hashable = None
    if has_aux:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(f"loss {name!r} must return a pair, as has_aux says; got {out}.")
        out, aux = out
        aside = shapes_of(aux)
    if not isinstance(out, jax.ShapeDtypeStruct) or out.shape or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(
            f"loss {name!r} must return a real scalar; got {out}. Reduce it inside the loss, and say there whether by "
            "sum or by mean."
        )
    if out.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"loss {name!r} must return float32 or float64; got {out.dtype}. Cast before the reduction: "
            "the gradient is read from its last digits."
        )
    return out.dtype, aside
