"""Losses whose gradients are fields of another kind: those of a player of a game, and fields that a function gives.

Such a field need not be the gradient of one function, and its Jacobian need not be symmetric. `drift`, `averages`,
`alignment`, `attribution`, `comparison` and `flow` take derivatives of the field forwards, in a direction, and nothing
there takes them to be symmetric. Only names speak of gradients: `averages.Terms`, and the gradient parts of
`alignment.Split` and `attribution.Attribution`. For a field these are sums of Jacobians times fields.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from numerics import checks, contents
from numerics.types import Batch, LossFn, Params, Scalar

__all__ = ["masked", "of_function"]


@checks.arguments
def masked(function: LossFn, mask: PyTree) -> LossFn:
    """The loss of a player: its gradient is zero in all parameters but the player's own.

    In general this field is no gradient: its Jacobian has the rows of the Hessian that belong to the player. Every
    prediction takes that Jacobian, and none takes it to be symmetric.

    Args:
        function: The loss, with auxiliary outputs or without.
        mask: A tree of True (the player's own) and False, like params or like the top of it: `{"x": True, "y": False}`.
            A boolean array in place of a flag chooses coordinates.
    """
    for path, flag in jax.tree.leaves_with_path(mask):
        is_flag = isinstance(flag, bool) or getattr(flag, "dtype", None) == np.bool_
        checks.require(is_flag, f"mask{jax.tree_util.keystr(path)}", "be True, False or a boolean array", flag)
    if not any(np.any(flag) for flag in jax.tree.leaves(mask)):
        raise ValueError(f"mask must leave something to step; got {checks.brief(mask)}.")
    return _Masked(contents.hashable(function), mask)


@dataclass(frozen=True)
class _Masked:
    function: LossFn
    mask: PyTree

    def __call__(self, params: Params, batch: Batch) -> Scalar | tuple[Scalar, object]:
        def held(is_own: bool | Array | np.ndarray, part: Params) -> Params:
            return jax.tree.map(lambda leaf: jnp.where(is_own, leaf, jax.lax.stop_gradient(leaf)), part)

        return self.function(jax.tree.map(held, self.mask, params), batch)


@checks.arguments
def of_function(function: Callable[[Params, Batch], Params]) -> LossFn:
    """A vector field in place of a loss: a step subtracts it from the parameters. The value of such a loss is 0.

    Args:
        function: From the parameters and one batch to a tree like the parameters.
    """
    return _Field(contents.hashable(function))


@dataclass(frozen=True)
class _Field:
    function: Callable[[Params, Batch], Params]

    def __call__(self, params: Params, batch: Batch) -> Scalar:
        # The gradient of (x - [x]) . [F(x)], in which [...] is stopped, is F(x); derivatives of it take no notice of
        # the stops (`vector_fields`).
        vector = jax.lax.stop_gradient(self.function(params, batch))
        checks.alike("a field", vector, "params", params)
        moved = jax.tree.map(lambda leaf: leaf - jax.lax.stop_gradient(leaf), params)
        dtype = jnp.result_type(*jax.tree.leaves(params))
        products = jax.tree.map(lambda by, along: jnp.sum(by * along.astype(by.dtype)).astype(dtype), moved, vector)
        return jnp.sum(jnp.stack(jax.tree.leaves(products)))
