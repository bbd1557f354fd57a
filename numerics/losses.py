"""Losses as data: a few functions, and for each of them a stack of batches.

A loss is a function and one member of its stack, so 512 losses are traced and compiled once. Nothing here steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, PyTree

from numerics import agreement, checks, contents
from numerics.types import Batch, LossFn, Params, Scalar
from numerics.vector_fields import as_computed

__all__ = ["Losses", "check", "negated", "of_params", "pairs", "require_finite"]

SIDES = ("-", "+")


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True)
class Losses:
    """A list of losses, numbered from 0: all members of the first stack, then all of the second, and so on.

    What is compiled for them is kept by the functions and their content (`numerics.contents`): a function may read
    variables and attributes that change between two calls, and is then compiled anew. It must not read state that
    Python cannot see, such as files, random generators, or what a function under its own `jax.jit` has captured. Data
    that change belong into the batches, where nothing is compiled anew.

    Attributes:
        functions: One `loss(params, batch)` per kind of loss; any callable, hashable or not.
        batches: One stack per kind: every leaf has the losses of this kind along its first axis. None stands for one
            loss that reads nothing but the parameters.
        names: One name per kind, by which words of a schedule call it.
        has_aux: Whether the functions return a pair, as under `jax.value_and_grad(..., has_aux=True)`: the loss, and
            what else a reader wants of the same pass, built alike for all kinds. Updates hand it on in their `info`.
    """

    functions: tuple[LossFn, ...]
    batches: tuple[Batch, ...]
    names: tuple[str, ...]
    has_aux: bool = False

    def __post_init__(self) -> None:
        """Refuses lists that do not fit, and makes every function hashable."""
        functions, batches, names = agreement.family(self.functions, self.batches, self.names, self.has_aux)
        object.__setattr__(self, "functions", tuple(map(contents.hashable, functions)))
        object.__setattr__(self, "batches", batches)
        object.__setattr__(self, "names", names)

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple]:
        """The batches, and beside them the functions with their content at this moment."""
        key = jax.tree_util.GetAttrKey("batches")
        return ((key, self.batches),), (contents.Snapshot(self.functions), self.names, self.has_aux)

    @classmethod
    def tree_unflatten(cls, aside: tuple, children: tuple) -> "Losses":
        """The losses of `tree_flatten_with_keys`, whose leaves may be anything by now."""
        functions, names, has_aux = aside
        losses = object.__new__(cls)
        for name, value in zip(
            ("functions", "batches", "names", "has_aux"), (functions.value, *children, names, has_aux), strict=True
        ):
            object.__setattr__(losses, name, value)
        return losses

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
        if len({contents.Snapshot(function) for function, _ in bases}) == len(shapes) == 1:
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

    @checks.arguments
    def value(self, params: Params, index: Int[Array, ""]) -> Scalar:
        """The loss with this number."""
        return self._applied(lambda f: lambda at, batch: (self._scalar(f)(at, batch), None), params, index)[0]

    @checks.arguments
    def gradient(self, params: Params, index: Int[Array, ""]) -> Params:
        """The gradient of the loss with this number; its derivatives are those of the field that an update follows.

        Where a loss uses `jax.lax.stop_gradient` they are not those that JAX gives (`vector_fields.as_computed`).
        """

        def transform(function: LossFn) -> Callable[[Params, Batch], tuple]:
            field = as_computed(jax.grad(self._scalar(function)))
            return lambda at, batch: (field(at, batch), None)

        return self._applied(transform, params, index)[0]

    @checks.arguments
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


@checks.arguments
def pairs(minus: LossFn, minus_batches: Batch, plus: LossFn, plus_batches: Batch, *, has_aux: bool = False) -> Losses:
    """n pairs (L-_k, L+_k): ascent on a function is descent on its negative, so L- of a reward is `negated(reward)`.

    What the functions read beside their arguments may change between calls, as far as Python can see it: `Losses`
    says what it cannot.

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


@checks.arguments
def of_params(functions: Sequence[Callable[[Params], Scalar]], names: Sequence[str] | None = None) -> Losses:
    """Losses without data, each a function of the parameters alone; named a, b, c, ... unless told otherwise.

    What the functions read beside their arguments may change between calls, as far as Python can see it: `Losses`
    says what it cannot.
    """
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: len(functions)]) if names is None else tuple(names)
    if len(names) != len(functions):
        raise ValueError(f"names must be as many as functions; got {len(names)} for {len(functions)}.")
    return Losses(tuple(_WithoutBatch(contents.hashable(f)) for f in functions), (None,) * len(functions), names)


@dataclass(frozen=True)
class _WithoutBatch:
    function: Callable[[Params], Scalar]

    def __call__(self, params: Params, batch: Batch) -> Scalar | tuple[Scalar, object]:
        return self.function(params)


@dataclass(frozen=True)
class _Negated:
    function: LossFn

    def __call__(self, params: Params, batch: Batch) -> Scalar | tuple[Scalar, object]:
        made: Scalar | tuple[Scalar, object] = self.function(params, batch)
        return (-made[0], made[1]) if isinstance(made, tuple) else -made


@checks.arguments
def negated(function: LossFn) -> LossFn:
    """-loss: descending it ascends the loss. What `Losses` says of a function that changes holds for it too."""
    return function.function if isinstance(function, _Negated) else _Negated(contents.hashable(function))


@checks.arguments
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
    # `arguments` has done it: losses and parameters that stand together are looked at together.


@checks.arguments
def require_finite(tree: object, what: str) -> None:
    """Refuses NaN and infinity, where the values are known: inside `jit` there is nothing to look at yet.

    Raises:
        FloatingPointError: If a leaf holds one; `what` says what the tree is, and the remedy.
    """
    for path, leaf in jax.tree.leaves_with_path(tree):
        if not isinstance(leaf, Tracer) and not np.isfinite(np.asarray(leaf)).all():
            raise FloatingPointError(f"{what}; found in {jax.tree_util.keystr(path) or 'the value'}.")
