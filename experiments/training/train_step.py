"""One compiled update of a run and its measurements, for every arm the same function.

Nothing here steps by itself, chooses data, writes, or knows text. `arm_update` calls the maps of the numerics; the
measurements are read from the gradients that the update computes anyway.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, Sharding
from jaxtyping import Array, Bool, Float, PyTree

from experiments.arms import Arm, Hyperparams
from experiments.data.tokens import Batch
from experiments.model import sharding
from experiments.model.transformer import Params
from experiments.training import arm_update
from experiments.training.arm_update import Objective
from experiments.training.batches import PairBatch
from numerics import alignment, losses, optimizers, schedules, updates
from numerics.alignment import Alignment
from numerics.epoch import Epoch
from numerics.types import Scalar

__all__ = [
    "GROUPS",
    "HalfBatches",
    "SideInfo",
    "State",
    "StepInfo",
    "group_products",
    "half_batches",
    "initial_state",
    "make_step",
    "quantities",
    "second_moment",
    "state_like",
]

GROUPS = ("embedding", "layers-1", "layers-2", "layers-3", "layers-4", "norm", "head")
"""Groups of parameters by their place; the layers in quarters, from the first to the last."""


class State(NamedTuple):
    """The input of the next update.

    Attributes:
        params: The parameters, float32 masters.
        rule: The state of the optimizer.
        second_moment: The square that `frozen-adamw` divides by the root of; None under other rules.
    """

    params: Params
    rule: optax.OptState
    second_moment: Params | None


class SideInfo(NamedTuple):
    """Measurements of one half of an update, at the places where the gradients of its letters were read.

    Attributes:
        loss: L+ or L-, in nats, averaged as the reduction says; of several letters the mean.
        log_probs: The auxiliary output of the loss: of the completions, in nats per sequence.
        norm: The norm of the gradient; of several letters that of the mean of their gradients.
        squares: Its square by group of parameters, in the order of `GROUPS`.
    """

    loss: Scalar
    log_probs: PyTree
    norm: Scalar
    squares: Float[Array, " groups"]


class StepInfo(NamedTuple):
    """Measurements of one update: norms and inner products of gradients that the update computes anyway.

    Attributes:
        preferred: Of the preferred half; None where it takes no part.
        dispreferred: Of the dispreferred half; None where it takes no part.
        alignment: Of the two gradients as they were read: of an accumulated update both at its start, of a sequential
            one the second after the first step. None where there is one half.
        update_norm: The norm of the displacement.
        distance: The norm of the parameters minus those of the start of the run.
        is_finite: Whether all of it is finite.
    """

    preferred: SideInfo | None
    dispreferred: SideInfo | None
    alignment: Alignment | None
    update_norm: Scalar
    distance: Scalar
    is_finite: Bool[Array, ""]


def group_products(a: Params, b: Params) -> Float[Array, " groups"]:
    """Inner products of two trees by group, in the order of `GROUPS`; 0 for a head that is not there."""
    by_layer = [
        jnp.sum(x * y, axis=tuple(range(1, x.ndim)))
        for x, y in zip(a["layers"].values(), b["layers"].values(), strict=True)
    ]
    layers = jnp.sum(jnp.stack(by_layer), axis=0)
    cuts = [round(layers.shape[0] * k / 4) for k in range(5)]
    quarters = [jnp.sum(layers[low:high]) for low, high in pairwise(cuts)]
    others = [jnp.sum(a[name] * b[name]) for name in ("embedding", "norm")]
    head = jnp.sum(a["head"] * b["head"]) if "head" in a and "head" in b else jnp.zeros_like(others[0])
    return jnp.stack([others[0], *quarters, others[1], head])


def make_step(
    arm: Arm,
    hyperparams: Hyperparams,
    learning_rate: float,
    objective: Objective,
    mesh: Mesh | None = None,
    products: Callable[[Params, Params], Array] = group_products,
) -> Callable[[State, Params, PairBatch, bool], tuple[State, StepInfo]]:
    """The compiled update of an arm.

    Args:
        arm: The arm.
        hyperparams: The numbers of the optimizers.
        learning_rate: eta.
        objective: The losses, with log-probabilities as aux.
        mesh: The devices, where there are several.
        products: Inner products of two trees by group of parameters.

    Returns:
        A function of the state, the parameters at the start of the run, the batch, and whether the word is stepped as
        it is written where the start is random. It returns the next state and the measurements. Its argument, the old
        state, stays valid, for the case that the next one is not finite.
    """
    template = arm_update.schedule_of(arm, is_as_written=True)
    numbers_of = {side: np.array(arm_update.numbers_of(arm, side)) for side in arm.sides}
    factor = arm_update.weight(arm)
    # Where no side has two letters, the sum of all gradients before the second one is the other side's.
    is_plain = arm.is_plain

    def statistics(gradient: Params, before: Any) -> tuple[Array, Array]:  # noqa: ANN401  # a tree, or one of each kind
        """The squares of a gradient by group, and its products with the sums of those before it: of L-, and of L+."""
        if is_plain:
            return products(gradient, gradient), jnp.asarray(optax.tree.vdot(gradient, before))
        return products(gradient, gradient), jnp.stack([products(gradient, total) for total in before[:2]])

    def step(state: State, start: Params, batch: PairBatch, numbers: Array) -> tuple[State, StepInfo]:
        epoch = Epoch(
            arm_update.losses_of(arm, learning_rate, objective, batch, start),
            template._replace(losses=numbers),
            arm_update.optimizer(arm, hyperparams, state.second_moment, like=state.params),
            state.params,
            state.rule,
        )
        update = arm_update.update(arm, hyperparams, learning_rate, epoch, statistics, has_sums_by_kind=not is_plain)
        values, (squares, dots) = update.info.values, update.info.stats
        places = {side: jnp.stack([jnp.argmax(numbers == k) for k in own]) for side, own in numbers_of.items()}

        def side(name: str) -> SideInfo | None:
            if name not in places:
                return None
            at = places[name]
            total = squares[at].sum(axis=0)
            if not is_plain:  # of the sum of several gradients
                total = total + 2 * dots[at, "-+".index(name)].sum(axis=0)
            half = batch.preferred if name == "+" else batch.dispreferred
            num_rows = len(jax.tree.leaves(half)[0])
            aux = jax.tree.map(
                lambda leaf: leaf[at, : num_rows // len(at)].reshape(num_rows, *leaf.shape[2:]), update.info.aux
            )
            total = total / (factor * len(at)) ** 2
            return SideInfo(jnp.mean(values[at]) / factor, aux, jnp.sqrt(jnp.sum(total)), total)

        preferred, dispreferred = side("+"), side("-")
        of_both = None
        if preferred is not None and dispreferred is not None:
            product = dots[1] if is_plain else dots[places["+"], 0].sum() + dots[places["-"], 1].sum()
            product = product / (factor**2 * len(places["+"]) * len(places["-"]))
            of_both = alignment.of_products(product, dispreferred.norm, preferred.norm)
        update_norm = optax.tree.norm(update.displacement)
        # The squares too: where they overflow, Adam's second moment would be infinite for good, and its updates zero.
        is_finite = jnp.isfinite(update_norm) & jnp.isfinite(values).all() & jnp.isfinite(squares).all()
        params = updates.displaced(state.params, update.displacement)
        distance = optax.tree.norm(jax.tree.map(jnp.subtract, params, start))
        info = StepInfo(preferred, dispreferred, of_both, update_norm, distance, is_finite)
        return State(params, update.state, state.second_moment), info

    @cache
    def compiled(structure: Hashable, places: tuple[Sharding, ...]) -> Callable[..., tuple[State, StepInfo]]:
        """The step, whose state stays at its place and whose measurements every process can read."""
        shardings = None if mesh is None else (jax.tree.unflatten(structure, places), sharding.everywhere(mesh))
        return jax.jit(step, out_shardings=shardings)

    def run(state: State, start: Params, batch: PairBatch, is_as_written: bool) -> tuple[State, StepInfo]:
        leaves, structure = jax.tree.flatten(state)
        program = compiled(structure, tuple(leaf.sharding for leaf in leaves))
        return program(state, start, batch, arm_update.schedule_of(arm, is_as_written).losses)

    return run


def quantities(info: StepInfo, batch: PairBatch, groups: Sequence[str]) -> dict[str, object]:
    """The measurements of an update as quantities of `records.UpdateRow`; those of an absent half are None.

    `groups` are the groups of parameters that the model has.
    """
    row: dict[str, object] = {"update_norm": float(info.update_norm), "distance": float(info.distance)}
    gradient_norms: dict[str, dict[str, float]] = {}
    for name, side, half in zip(("plus", "minus"), info[:2], batch, strict=True):
        row |= dict.fromkeys(f"{key}_{name}" for key in ("loss", "norm", "log_prob"))
        row[f"log_prob_{name}_per_token"] = None
        if side is None:
            continue
        row |= {f"loss_{name}": float(side.loss), f"norm_{name}": float(side.norm)}
        gradient_norms[name] = dict(zip(groups, np.sqrt(np.asarray(side.squares, np.float64)).tolist(), strict=False))
        if isinstance(half, Batch):
            log_probs = np.asarray(side.log_probs, np.float64)
            row[f"log_prob_{name}"] = float(log_probs.mean())
            row[f"log_prob_{name}_per_token"] = float(log_probs.sum() / np.sum(half.lengths))
    of_both = info.alignment
    row |= {
        name: None if of_both is None else float(getattr(of_both, name))
        for name in ("product", "cosine", "ratio_plus", "ratio_minus")
    }
    return row | {"gradient_norms": gradient_norms}


def initial_state(
    arm: Arm, hyperparams: Hyperparams, params: Params, second: Params | None, learning_rate: float = 1.0
) -> State:
    """The state before the first update; moments are placed as their parameters are.

    `learning_rate` is eta; it counts where the rule is a function of its rate.
    """
    rule = arm_update.optimizer(arm, hyperparams, second, like=params)
    return State(params, arm_update.first_state(arm, learning_rate, rule, params), second)


def state_like(arm: Arm, hyperparams: Hyperparams, params: Params, learning_rate: float = 1.0) -> State:
    """A state with the structure, shapes and places of a run's: a second moment has those of the parameters."""
    return initial_state(arm, hyperparams, params, params if arm.needs_second_moment else None, learning_rate)


def second_moment(objective: Objective, params: Params, batches: Sequence[PairBatch]) -> Params:
    """The mean square of the gradients of both halves of several updates, all at one place, for `frozen-adamw`."""

    @jax.jit
    def add(params: Params, total: Params, batch: PairBatch) -> Params:
        stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], batch)
        both = losses.pairs(objective.minus, stacked.dispreferred, objective.plus, stacked.preferred, has_aux=True)
        square = optimizers.second_moment(both, schedules.interleaved(1, first="+"), params)
        return jax.tree.map(jnp.add, total, square)

    total = jax.tree.map(jnp.zeros_like, params)
    for batch in batches:
        total = add(params, total, batch)
    return jax.tree.map(lambda leaf: leaf / len(batches), total)


class HalfBatches(NamedTuple):
    """The alignment of a set of pairs, and estimates without bias from two halves of it.

    The product of two gradients of the same texts has the covariance of their noise in it, over the number of pairs;
    gradients of different texts have not. Variance: that of the product of one half, of order 1 over the pairs.

    Attributes:
        whole: The alignment of the mean gradients of all pairs; biased.
        product: (g+_A . g-_B + g+_B . g-_A) / 2.
        norm_plus_squared: g+_A . g+_B; it may be negative.
        norm_minus_squared: g-_A . g-_B.
    """

    whole: Alignment
    product: Scalar
    norm_plus_squared: Scalar
    norm_minus_squared: Scalar


def half_batches(
    gradient: Callable[[Params, Batch], Params], params: Params, first: PairBatch, second: PairBatch
) -> HalfBatches:
    """The alignment of the mean gradients of two half-batches of as many pairs, whole and without bias.

    `gradient` is that of the negative log-likelihood.
    """
    plus_a, plus_b = gradient(params, first.preferred), gradient(params, second.preferred)
    minus_a, minus_b = (jax.tree.map(jnp.negative, gradient(params, half.dispreferred)) for half in (first, second))
    return _half_batches(plus_a, plus_b, minus_a, minus_b)


@jax.jit
def _half_batches(plus_a: Params, plus_b: Params, minus_a: Params, minus_b: Params) -> HalfBatches:
    def mean(a: Params, b: Params) -> Params:
        return jax.tree.map(lambda x, y: (x + y) / 2, a, b)

    def product(a: Params, b: Params) -> Scalar:
        return jnp.asarray(optax.tree.vdot(a, b))

    return HalfBatches(
        alignment.of_gradients(mean(minus_a, minus_b), mean(plus_a, plus_b)),
        (product(plus_a, minus_b) + product(plus_b, minus_a)) / 2,
        product(plus_a, plus_b),
        product(minus_a, minus_b),
    )
