"""The task of losses of one's own, over parameters of any structure and examples along the first axis of arrays."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from experiments.config import Config
from experiments.records import Probe, ProbeAlignment, UpdateRow
from experiments.training import arm_update, batches
from experiments.training.arm_update import Objective
from experiments.training.batches import PairBatch
from experiments.training.task import Task
from numerics import alignment
from numerics.types import LossFn, Params, Scalar

__all__ = ["Examples", "OwnLosses", "of"]

Examples = PyTree[Array | np.ndarray]
"""Arrays of one or several kinds, each with the examples along its first axis."""

_MOST_GROUPS = 24  # gradient norms in a row of the records
_ADDRESS = re.compile("0x[0-9a-f]+")  # of functions, in the text of a program; another one in every process


class OwnLosses(NamedTuple):
    """Losses of one's own, with their data.

    Attributes:
        loss: `loss(params, examples)`: the mean over some examples, a real scalar. It is descended on preferred
            examples and ascended on dispreferred ones.
        params: The parameters at the start, arrays in any structure; float32 or float64.
        preferred: The preferred examples.
        dispreferred: The dispreferred examples, in the same structure; as many where pairs stay together.
        dispreferred_loss: Another loss of dispreferred examples, which is descended; None for minus `loss`.
        third: The loss of the letter k, `third(params, start)` of the parameters and those at the start; descended.
        held_out: Preferred and dispreferred examples whose losses are read beside the updates; None for none.
        name: The name in records and reports.
    """

    loss: Callable[[Params, Examples], Scalar]
    params: Params
    preferred: Examples
    dispreferred: Examples
    dispreferred_loss: Callable[[Params, Examples], Scalar] | None = None
    third: Callable[[Params, Params], Scalar] | None = None
    held_out: tuple[Examples, Examples] | None = None
    name: str = "own"


@dataclass(frozen=True)
class _WithAux:
    """A loss with nothing beside it, as those of an objective have something."""

    loss: Callable[[Params, Examples], Scalar]

    def __call__(self, params: Params, examples: Examples) -> tuple[Scalar, tuple]:
        return self.loss(params, examples), ()


@dataclass(frozen=True)
class _Third:
    loss: Callable[[Params, Params], Scalar]

    def __call__(self, params: Params, batch: tuple[Params, PairBatch]) -> Scalar:
        return self.loss(params, batch[0])


def objective(own: OwnLosses) -> Objective:
    """The losses as an arm steps them."""
    plus = _WithAux(own.loss)
    third = None if own.third is None else _Third(own.third)
    if own.dispreferred_loss is None:
        return arm_update.likelihood(plus, third)
    return Objective(plus, _WithAux(own.dispreferred_loss), third)


def of(config: Config, own: OwnLosses) -> Task:
    """The task of a configuration.

    Raises:
        TypeError: If parameters or examples are no arrays.
        ValueError: If halves do not fit each other or the configuration, or the configuration asks for what only a
            language model has.
    """
    if config.arm.objective != "log-likelihood":
        raise ValueError(
            f"arm.objective must be log-likelihood for losses of one's own, which are the objective; got "
            f"{config.arm.objective}."
        )
    if config.arm.reduction != "token-half":
        raise ValueError(
            f"arm.reduction must not be given for losses of one's own, which average themselves; got "
            f"{config.arm.reduction}."
        )
    if config.num_parts > 1 or config.mesh.data * config.mesh.fsdp * config.mesh.tensor > 1:
        raise ValueError("num_parts and mesh must be 1 for losses of one's own.")
    params = jax.tree.map(jnp.asarray, own.params)
    if not jax.tree.leaves(params):
        raise ValueError("params must hold an array; got none.")
    if own.held_out is not None and not (isinstance(own.held_out, tuple) and len(own.held_out) == 2):
        raise ValueError("held_out must be a pair, preferred and dispreferred examples.")
    preferred, dispreferred = _examples("preferred", own.preferred), _examples("dispreferred", own.dispreferred)
    totals = [_count(name, half) for name, half in (("preferred", preferred), ("dispreferred", dispreferred))]
    is_same = config.pairing == "same"
    if is_same and totals[0] != totals[1]:
        raise ValueError(
            f"dispreferred must hold as many examples as preferred, for pairs that stay together; got {totals[1]} for "
            f"{totals[0]}. Give pairing=independent for halves that are drawn apart."
        )
    if min(totals) < config.num_pairs:
        raise ValueError(f"num_pairs must be at most the {min(totals)} examples of a half; got {config.num_pairs}.")
    places, names = _groups(params)

    def products(a: Params, b: Params) -> Array:
        leaves = [jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
        return jax.ops.segment_sum(jnp.stack(leaves), jnp.asarray(places), num_segments=len(names))

    def source(update: int, params: Params) -> PairBatch:
        del params  # the examples do not depend on them
        halves = []
        for side, (half, total) in enumerate(zip((preferred, dispreferred), totals, strict=True)):
            which = batches.drawn(total, config.num_pairs, seed=config.seed, update=update, side=0 if is_same else side)
            halves.append(jax.tree.map(lambda leaf, which=which: leaf[which], half))
        return PairBatch(*halves)

    return Task(
        params=params,
        objective=objective(own),
        source=source,
        measure=_HeldOut(config, own),
        groups=names,
        products=products,
        fingerprint=_fingerprint(own, (params, preferred, dispreferred, own.held_out)),
        facts={"num_parameters": sum(leaf.size for leaf in jax.tree.leaves(params)), "num_pairs_in_all": min(totals)},
    )


def _examples(name: str, half: Examples) -> Examples:
    arrays = jax.tree.map(np.asarray, half)
    if any(leaf.dtype.kind not in "biuf" for leaf in jax.tree.leaves(arrays)):
        raise ValueError(f"{name} must be arrays of numbers.")
    return arrays


def _count(name: str, half: Examples) -> int:
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(half)}
    if len(counts) != 1 or counts == {()}:
        raise ValueError(f"{name} must be arrays with the examples along their first axis; got shapes {counts}.")
    return int(counts.pop()[0])


def _groups(params: Params) -> tuple[list[int], tuple[str, ...]]:
    """The group of every leaf, and the names of the groups: leaves, or the first keys where there are many."""
    paths = [path for path, _ in jax.tree.leaves_with_path(params)]
    if len(paths) > _MOST_GROUPS:
        paths = [path[:1] for path in paths]
    words = [jax.tree_util.keystr(path, simple=True, separator=".") or "parameters" for path in paths]
    names = tuple(dict.fromkeys(words))
    return [names.index(word) for word in words], names


def _fingerprint(own: OwnLosses, tree: PyTree) -> str:
    """A hash of all arrays, and of the programs of the losses: another loss is another run."""
    digest = hashlib.sha256()

    def add(name: str, leaf: object) -> None:
        values = np.asarray(leaf)
        digest.update(f"{name} {values.shape} {values.dtype}".encode())
        digest.update(values.tobytes())

    for path, leaf in jax.tree.leaves_with_path(tree):
        add(jax.tree_util.keystr(path), leaf)
    params, preferred, dispreferred, _ = tree
    calls = (own.loss, preferred), (own.dispreferred_loss, dispreferred), (own.third, params)
    for loss, data in calls:
        if loss is not None:
            with jax.default_matmul_precision("highest"):  # whatever the precision of the call is
                program = jax.make_jaxpr(loss)(params, data)
            digest.update(_ADDRESS.sub("", str(program)).encode())
            for constant in program.consts:
                add("constant", constant)
    return digest.hexdigest()


class _HeldOut:
    """The losses of held-out examples, and the alignment of their gradients."""

    def __init__(self, config: Config, own: OwnLosses) -> None:
        self._config, self._examples = config, own.held_out
        held = objective(own)
        self._losses = [jax.jit(_value(loss)) for loss in (held.plus, held.minus)]
        self._gradients = [jax.jit(jax.grad(_value(loss))) for loss in (held.plus, held.minus)]

    def __call__(
        self, update: int, params: Params, first: UpdateRow | None, *, is_finite: bool = True
    ) -> dict[str, object]:
        measures = self._config.measures

        def is_due(every: int) -> bool:
            is_last = update == self._config.num_updates
            return self._examples is not None and is_finite and every > 0 and (update % every == 0 or is_last)

        probe, of_gradients = None, None
        if is_due(measures.probe_every):
            plus, minus = (
                float(loss(params, half)) for loss, half in zip(self._losses, self._examples or (), strict=True)
            )
            probe = Probe(loss_plus=plus, loss_minus=minus)
        if is_due(measures.alignment_every):
            plus, minus = (
                gradient(params, half) for gradient, half in zip(self._gradients, self._examples or (), strict=True)
            )
            read = alignment.of_gradients(minus, plus)
            of_gradients = ProbeAlignment(**{name: float(value) for name, value in read._asdict().items()})
        # What counts as a collapse depends on the loss: only values that are not finite do, and the loop sees those.
        return {"probe": probe, "probe_alignment": of_gradients, "accuracy": None, "is_collapsed": False}


def _value(loss: LossFn) -> LossFn:
    return lambda params, half: loss(params, half)[0]
