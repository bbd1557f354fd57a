"""Losses as data: a few functions, and for each of them a stack of batches.

A loss is a function and one member of its stack, so 512 losses are traced and compiled once. Nothing here steps.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import PyTreeDef
from jaxtyping import Array, Int, PyTree

from numerics.types import Batch, LossFn, Params, Scalar
from numerics.vector_fields import as_computed

__all__ = ["Losses", "check", "negated", "of_params", "pairs", "require_finite"]

SIDES = ("-", "+")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Losses:
    """A list of losses, numbered from 0: all members of the first stack, then all of the second, and so on.

    Attributes:
        functions: One `loss(params, batch)` per kind of loss.
        batches: One stack per kind: every leaf has the losses of this kind along its first axis. None stands for one
            loss that reads nothing but the parameters.
        names: One name per kind, by which words of a schedule call it.
        has_aux: Whether the functions return a pair, as under `jax.value_and_grad(..., has_aux=True)`: the loss, and
            what else a reader wants of the same pass, built alike for all kinds. Updates hand it on in their `info`.
    """

    functions: tuple[LossFn, ...] = field(metadata={"static": True})
    batches: tuple[Batch, ...]
    names: tuple[str, ...] = field(metadata={"static": True})
    has_aux: bool = field(default=False, metadata={"static": True})

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """The number of losses of every kind."""
        return tuple(
            (*jnp.shape(leaves[0]), 0)[0] if (leaves := jax.tree.leaves(batch)) else 1 for batch in self.batches
        )

    @property
    def num_losses(self) -> int:
        """The number of all losses."""
        return sum(self.counts)

    @property
    def num_pairs(self) -> int:
        """The number n of pairs: loss k is L-_k and loss n + k is L+_k.

        Raises:
            ValueError: If the losses are not pairs.
        """
        if self.names != SIDES or self.counts[0] != self.counts[1]:
            raise ValueError(
                f"losses must be pairs for this; got kinds {self.names} of {self.counts} losses. Build them with "
                "losses.pairs, with as many batches for one side as for the other."
            )
        return self.counts[0]

    def _applied(
        self, transform: Callable[[LossFn], Callable[[Params, Batch], tuple]], params: Params, index: Int[Array, ""]
    ) -> tuple:
        """`transform(function)(params, batch)` for the loss with this number: a pair, the first linear in the function.

        Where all kinds are one function up to sign on batches of one shape, it is traced once and the batch is chosen;
        else the function is. The second of the pair has no sign: what a loss tells beside its value.
        """
        index = jnp.asarray(index)
        kind = jnp.zeros((), jnp.int32)
        members = []
        first = 0
        for stack, count in zip(self.batches, self.counts, strict=True):
            members.append((stack, jnp.clip(index - first, 0, count - 1)))
            first += count
            kind = kind + (index >= first).astype(jnp.int32)

        def member(stack: Batch, place: Int[Array, ""]) -> Batch:
            return jax.tree.map(lambda leaf: leaf[place], stack)

        bases = [(f.function, -1) if isinstance(f, _Negated) else (f, 1) for f in self.functions]
        shapes = {
            (jax.tree.structure(s), *((leaf.shape[1:], leaf.dtype) for leaf in jax.tree.leaves(s)))
            for s in self.batches
        }
        if len({function for function, _ in bases}) == len(shapes) == 1:
            chosen = jax.tree.map(lambda *leaves: jax.lax.select_n(kind, *leaves), *(member(*m) for m in members))
            result, aside = transform(bases[0][0])(params, chosen)
            if all(sign > 0 for _, sign in bases):
                return result, aside
            sign = jnp.asarray([sign for _, sign in bases])[kind]
            return jax.tree.map(lambda leaf: sign.astype(leaf.dtype) * leaf, result), aside
        branches = [
            lambda at, function=function, m=m: transform(function)(at, member(*m))
            for function, m in zip(self.functions, members, strict=True)
        ]
        return jax.lax.switch(kind, branches, params)

    def _scalar(self, function: LossFn) -> LossFn:
        return (lambda params, batch: function(params, batch)[0]) if self.has_aux else function

    def value(self, params: Params, index: Int[Array, ""]) -> Scalar:
        """The loss with this number."""
        return self._applied(lambda f: lambda at, batch: (self._scalar(f)(at, batch), None), params, index)[0]

    def gradient(self, params: Params, index: Int[Array, ""]) -> Params:
        """The gradient of the loss with this number; its derivatives are those of the field that an update follows.

        Where a loss uses `jax.lax.stop_gradient` they are not those that JAX gives (`vector_fields.as_computed`).
        """

        def transform(function: LossFn) -> Callable[[Params, Batch], tuple]:
            field = as_computed(jax.grad(self._scalar(function)))
            return lambda at, batch: (field(at, batch), None)

        return self._applied(transform, params, index)[0]

    def value_gradient_and_aux(self, params: Params, index: Int[Array, ""]) -> tuple[Scalar, Params, PyTree]:
        """The loss with this number, its gradient, and what it tells beside its value; None where it tells nothing.

        Derivatives of the gradient are as in `gradient`.
        """

        def transform(function: LossFn) -> Callable[[Params, Batch], tuple]:
            def read(at: Params, batch: Batch) -> tuple:
                found, gradient = jax.value_and_grad(function, has_aux=self.has_aux)(at, batch)
                value, aux = found if self.has_aux else (found, None)
                return (value, gradient), aux

            return as_computed(read)

        (value, gradient), aux = self._applied(transform, params, index)
        return value, gradient, aux


def pairs(minus: LossFn, minus_batches: Batch, plus: LossFn, plus_batches: Batch, *, has_aux: bool = False) -> Losses:
    """n pairs (L-_k, L+_k): ascent on a function is descent on its negative, so L- of a reward is `negated(reward)`.

    Args:
        minus: L-, as `loss(params, batch)`.
        minus_batches: The stack for L-; every leaf has n along its first axis.
        plus: L+, as `loss(params, batch)`.
        plus_batches: The stack for L+.
        has_aux: Whether both return a pair, as in `Losses`.

    Raises:
        ValueError: If the two stacks are not of the same length.
    """
    made = Losses((minus, plus), (minus_batches, plus_batches), SIDES, has_aux)
    _ = made.num_pairs
    return made


def of_params(functions: Sequence[Callable[[Params], Scalar]], names: Sequence[str] | None = None) -> Losses:
    """Losses without data, each a function of the parameters alone; named a, b, c, ... unless told otherwise."""
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: len(functions)]) if names is None else tuple(names)
    if len(names) != len(functions):
        raise ValueError(f"names must be as many as functions; got {len(names)} for {len(functions)}.")
    return Losses(tuple(map(_without_batch, functions)), (None,) * len(functions), names)


@cache  # one object per function: what is compiled for it is found again
def _without_batch(function: Callable[[Params], Scalar]) -> LossFn:
    return lambda params, batch: function(params)


@dataclass(frozen=True)
class _Negated:
    function: LossFn

    def __call__(self, params: Params, batch: Batch) -> Scalar | tuple[Scalar, object]:
        made: Scalar | tuple[Scalar, object] = self.function(params, batch)
        return (-made[0], made[1]) if isinstance(made, tuple) else -made


def negated(function: LossFn) -> LossFn:
    """-loss: descending it ascends the loss."""
    return function.function if isinstance(function, _Negated) else _Negated(function)


def check(losses: Losses, params: Params) -> None:
    """Refuses what no update can be computed for. Traces every function once per shape; runs none.

    Args:
        losses: The losses.
        params: Where they will be stepped.

    Raises:
        TypeError: If the parameters hold something else than float32 or float64, or a loss does not return a real
            scalar.
        ValueError: If a stack has leaves of different lengths, or the parameters are empty.
    """
    leaves, structure = jax.tree.flatten(params)
    if not leaves:
        raise ValueError("params must hold at least one array; got an empty tree.")
    for path, leaf in jax.tree.leaves_with_path(params):
        name = f"params{jax.tree_util.keystr(path)}"
        if (dtype := getattr(leaf, "dtype", None)) not in (jnp.float32, jnp.float64):
            raise TypeError(
                f"{name} must be a float32 or float64 array; got {dtype or type(leaf).__name__}. "
                "A second-order effect is lost in fewer digits: keep float32 masters and cast inside the loss."
            )
    if len(losses.functions) != len(losses.batches) or len(losses.functions) != len(losses.names):
        raise ValueError(
            f"losses must have one stack and one name per function; got {len(losses.functions)} functions, "
            f"{len(losses.batches)} stacks and {len(losses.names)} names."
        )
    if not losses.functions:
        raise ValueError("losses must be at least one; got none.")
    described = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    for name, function, stack in zip(losses.names, losses.functions, losses.batches, strict=True):
        stack_leaves, stack_structure = jax.tree.flatten(stack)
        if any(jnp.ndim(leaf) == 0 for leaf in stack_leaves) or len({len(leaf) for leaf in stack_leaves}) > 1:
            raise ValueError(
                f"the batches of loss {name!r} must have the losses along the first axis of every leaf; got shapes "
                f"{[jnp.shape(leaf) for leaf in stack_leaves]}."
            )
        if stack_leaves and not len(stack_leaves[0]):
            raise ValueError(f"the batches of loss {name!r} must hold at least one batch; got none.")
        members = tuple((leaf.shape[1:], leaf.dtype) for leaf in stack_leaves)
        _check_scalar(name, function, losses.has_aux, structure, described, stack_structure, members)


Described = tuple[tuple[tuple[int, ...], Hashable], ...]


@cache
def _check_scalar(
    name: str,
    function: LossFn,
    has_aux: bool,
    structure: PyTreeDef,  # pyright: ignore[reportInvalidTypeForm]  # jax says Any
    described: Described,
    stack_structure: PyTreeDef,  # pyright: ignore[reportInvalidTypeForm]  # pyright: ignore[reportInvalidTypeForm]  # jax says Any
    members: Described,
) -> None:
    params = structure.unflatten([jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in described])
    batch = stack_structure.unflatten([jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in members])
    out = jax.eval_shape(function, params, batch)
    if has_aux:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(f"loss {name!r} must return a pair, as has_aux says; got {out}.")
        out, _ = out
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


def require_finite(tree: object, what: str) -> None:
    """Refuses NaN and infinity, where the values are known: inside `jit` there is nothing to look at yet.

    Raises:
        FloatingPointError: If a leaf holds one; `what` says what the tree is, and the remedy.
    """
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not isinstance(leaf, Tracer) and not np.isfinite(np.asarray(leaf)).all():
            raise FloatingPointError(f"{what}; found in {jax.tree_util.keystr(path) or 'the value'}.")
