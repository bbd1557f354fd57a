"""Losses as data: a few functions, and for each of them a stack of batches.

A loss is a function and one member of its stack, so 512 losses are traced and compiled once. Nothing here steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from numerics import checks, contents
from numerics.traces import Shapes, loss_output, shapes_of
from numerics.types import Batch, LossFn, Params, Scalar
from numerics.vector_fields import as_computed

__all__ = [
    "Losses",
    "check",
    "negated",
    "of_params",
    "pairs",
    "pairs_of_params",
    "require_finite",
]

SIDES = ("-", "+")

LossOfParams: TypeAlias = Callable[[Params], Scalar]
"""A scalar loss of the parameters alone."""


@checks.arguments
def _check(functions: tuple[LossFn, ...], names: tuple[str, ...], has_aux: bool) -> None:
    """Refuses parts of losses that are not of their kind; `checks.arguments` does it."""


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True)
class Losses:
    """A list of losses, numbered from 0: all members of the first stack, then all of the second, and so on.

    Compiled programs are kept by the functions and their content (`numerics.contents`): a function may read variables
    and attributes that change between two calls, and is then compiled anew. It must not read state that Python cannot
    see: files, random generators, captures of a function under its own `jax.jit`. Data that change belong into the
    batches, where nothing is compiled anew.

    Attributes:
        functions: One `loss(params, batch)` per kind of loss; any callable, hashable or not.
        batches: One stack per kind: every leaf has the losses of this kind along its first axis. None stands for one
            loss that reads nothing but the parameters.
        names: One name per kind, by which words of a schedule call it.
        has_aux: Whether the functions return a pair, as under `jax.value_and_grad(..., has_aux=True)`: the loss and
            auxiliary outputs, of one structure for all kinds. Updates return them in their `info`.
    """

    functions: tuple[LossFn, ...]
    batches: tuple[Batch, ...]
    names: tuple[str, ...]
    has_aux: bool = False

    def __post_init__(self) -> None:
        """Refuses lists that do not fit, and makes every function hashable."""
        lists = {"functions": self.functions, "batches": self.batches, "names": self.names}
        for name, value in lists.items():
            must = "be a tuple with one entry per kind of loss"
            checks.require(isinstance(value, (tuple, list)), name, must, value)
            object.__setattr__(self, name, tuple(value))
        if not len(self.functions) == len(self.batches) == len(self.names):
            raise ValueError(
                f"losses must have one stack and one name per function; got {len(self.functions)} functions, "
                f"{len(self.batches)} stacks and {len(self.names)} names."
            )
        _check(self.functions, self.names, self.has_aux)
        for name, stack in zip(self.names, self.batches, strict=True):
            leaves = jax.tree.leaves(stack)
            if any(not np.shape(leaf) or not hasattr(leaf, "dtype") for leaf in leaves) or (
                len({np.shape(leaf)[0] for leaf in leaves}) > 1
            ):
                raise ValueError(
                    f"the batches of loss {name!r} must be arrays with the losses along the first axis of every leaf; "
                    f"got {[np.shape(x) if hasattr(x, 'dtype') else type(x).__name__ for x in leaves]}."
                )
            if leaves and not np.shape(leaves[0])[0]:
                raise ValueError(f"the batches of loss {name!r} must hold at least one batch; got none.")
        object.__setattr__(self, "functions", tuple(map(contents.hashable, self.functions)))

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

    def check_beside(self, arguments: Mapping[str, Any]) -> None:
        """Refuses parameters where a loss cannot be computed, or the number of no loss, among these arguments."""
        index = arguments.get("index")
        if "params" in arguments and checks.is_known(index):
            _check_at(self, arguments["params"])
        if index is not None and checks.is_known(index):
            last = self.num_losses - 1
            checks.require(bool(0 <= index <= last), "index", f"be one of 0 ... {last}", index, error=ValueError)

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

    def sum_over_pairs(self, function: Callable[[Int[Array, ""]], PyTree]) -> PyTree:
        """The sum of a tree that is a function of the number of the pair; one after another, at constant memory."""
        numbers = jnp.arange(self.num_pairs)
        shapes = jax.eval_shape(function, jax.ShapeDtypeStruct((), numbers.dtype))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(lambda sums, k: (jax.tree.map(jnp.add, sums, function(k)), None), zero, numbers)[0]

    def pair_gradients(self, params: Params, k: Int[Array, ""]) -> tuple[Params, Params]:
        """The gradients of L-_k and L+_k."""
        return self.gradient(params, k), self.gradient(params, self.num_pairs + k)

    def _applied(
        self, transform: Callable[[LossFn], Callable[[Params, Batch], tuple]], params: Params, index: Int[Array, ""]
    ) -> tuple:
        """`transform(function)(params, batch)` for the loss with this number: a pair, the first linear in the function.

        Where all kinds are one function up to sign on batches of one shape, it is traced once and the batch is chosen;
        else the function is. The second of the pair, the auxiliary outputs, has no sign.
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
        shapes = set(map(_shapes_of_member, self.batches))
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
        """The loss with this number, its gradient as in `gradient`, and its auxiliary outputs or None."""

        def transform(function: LossFn) -> Callable[[Params, Batch], tuple]:
            def read(at: Params, batch: Batch) -> tuple:
                output, gradient = jax.value_and_grad(function, has_aux=self.has_aux)(at, batch)
                value, aux = output if self.has_aux else (output, None)
                return (value, gradient), aux

            return as_computed(read)

        (value, gradient), aux = self._applied(transform, params, index)
        return value, gradient, aux


def _shapes_of_member(stack: Batch) -> Shapes:
    """The shapes of one batch of a stack."""
    structure, leaves = shapes_of(stack)
    return structure, tuple((shape[1:], dtype) for shape, dtype in leaves)


def _check_at(losses: Losses, params: Params) -> None:
    """Refuses losses that are no real scalars of one dtype at these parameters. Traces each once per shape."""
    outputs = {}
    for name, function, stack in zip(losses.names, losses.functions, losses.batches, strict=True):
        for path, leaf in jax.tree.leaves_with_path(stack):
            checks.digits(f"the batches of loss {name!r}{jax.tree_util.keystr(path)}", leaf)
        member = _shapes_of_member(stack)
        outputs[name] = loss_output(name, contents.Snapshot(function), losses.has_aux, shapes_of(params), member)
    for part, meaning in enumerate(("dtype", "structure, shapes and dtypes beside the loss")):
        first, *others = outputs
        for other in others:
            if outputs[first][part] != outputs[other][part]:
                raise TypeError(
                    f"losses must return one {meaning}; got {outputs[first][part]} of {first!r} and "
                    f"{outputs[other][part]} of {other!r}. Cast what one of them returns."
                )


@checks.arguments
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
    losses = Losses((minus, plus), (minus_batches, plus_batches), SIDES, has_aux)
    _ = losses.num_pairs
    return losses


@checks.arguments
def of_params(functions: Sequence[LossOfParams], names: Sequence[str] | None = None) -> Losses:
    """Losses without data, each a function of the parameters alone; the default names are a, b, c, ..."""
    names = tuple("abcdefghijklmnopqrstuvwxyz"[: len(functions)]) if names is None else tuple(names)
    if len(names) != len(functions):
        raise ValueError(f"names must be as many as functions; got {len(names)} for {len(functions)}.")
    return Losses(tuple(_WithoutBatch(contents.hashable(f)) for f in functions), (None,) * len(functions), names)


@checks.arguments
def pairs_of_params(minus_functions: Sequence[LossOfParams], plus_functions: Sequence[LossOfParams]) -> Losses:
    """n pairs of functions of the parameters alone: the k-th of one list is L-_k, the k-th of the other L+_k.

    The functions may differ in everything but the dtype that they return, so they may hold batches of any shapes. All
    of them are compiled, into one program that grows with n; `pairs` compiles one function for each side.

    Raises:
        ValueError: If the lists are not of the same length.
    """
    if len(minus_functions) != len(plus_functions):
        raise ValueError(
            f"plus_functions must be as many as minus_functions; got {len(plus_functions)} for {len(minus_functions)}."
        )
    minus, plus = (_Chosen(tuple(map(contents.hashable, each))) for each in (minus_functions, plus_functions))
    numbers = jnp.arange(len(minus_functions))
    return pairs(minus, numbers, plus, numbers)


@dataclass(frozen=True)
class _Chosen:
    functions: tuple[LossOfParams, ...]

    def __call__(self, params: Params, batch: Int[Array, ""]) -> Scalar:
        return jax.lax.switch(batch, self.functions, params)


@dataclass(frozen=True)
class _WithoutBatch:
    function: LossOfParams

    def __call__(self, params: Params, batch: Batch) -> Scalar | tuple[Scalar, object]:
        return self.function(params)


@dataclass(frozen=True)
class _Negated:
    function: LossFn

    def __call__(self, params: Params, batch: Batch) -> Scalar | tuple[Scalar, object]:
        output: Scalar | tuple[Scalar, object] = self.function(params, batch)
        return (-output[0], output[1]) if isinstance(output, tuple) else -output


@checks.arguments
def negated(function: LossFn) -> LossFn:
    """-loss: descending it ascends the loss."""
    return function.function if isinstance(function, _Negated) else _Negated(contents.hashable(function))


@checks.arguments
def check(losses: Losses, params: Params) -> None:
    """Refuses losses of which no update can be computed, as `checks.arguments` does; traces them and runs none."""


@checks.arguments
def require_finite(tree: object, what: str) -> None:
    """Refuses NaN and infinity, where the values are known: inside `jit` there is nothing to look at yet.

    Raises:
        FloatingPointError: If a leaf holds one. `what` names the tree and the remedy.
    """
    if (place := checks.not_finite(tree)) is not None:
        raise FloatingPointError(f"{what}; found in {place or 'the value'}.")
