"""One compiled update of a run and its measurements, for every arm the same function.

Nothing here steps by itself, chooses data, writes, or knows text. `arm_update` calls the maps of the numerics; the
measurements are read from the gradients that the update computes anyway.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, Sharding
from jaxtyping import Array, Bool, Float

from experiments.arms import Arm, Hyperparams
from experiments.data.tokens import Batch
from experiments.model import sharding
from experiments.model.transformer import Params
from experiments.training import arm_update
from experiments.training.batches import PairBatch
from numerics import alignment, losses, optimizers, schedules, updates
from numerics.alignment import Alignment
from numerics.epoch import Epoch
from numerics.schedules import Schedule
from numerics.types import LossFn, Scalar

__all__ = [
    "GROUPS",
    "HalfBatches",
    "SideInfo",
    "State",
    "StepInfo",
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
    """Measurements of one half of an update, at the place where its gradient was read.

    Attributes:
        loss: L+ or L-, in nats, averaged as the reduction says.
        log_probs: Of the completions, in nats per sequence.
        squares: The squared norm of the gradient by group of parameters, in the order of `GROUPS`.
    """

    loss: Scalar
    log_probs: Float[Array, " b"]
    squares: Float[Array, " groups"]


class StepInfo(NamedTuple):
    """Measurements of one update: norms and inner products of gradients that the update computes anyway.

    Attributes:
        preferred: Of the preferred half.
        dispreferred: Of the dispreferred half; None where it takes no part.
        alignment: Of the two gradients as they were read: of an accumulated update both at its start, of a sequential
            one the second after the first step. None where there is one half.
        norm_plus: The norm of the preferred gradient.
        update_norm: The norm of the displacement.
        distance: The norm of the parameters minus those of the start of the run.
        is_finite: Whether all of it is finite.
    """

    preferred: SideInfo
    dispreferred: SideInfo | None
    alignment: Alignment | None
    norm_plus: Scalar
    update_norm: Scalar
    distance: Scalar
    is_finite: Bool[Array, ""]


def _group_squares(gradient: Params) -> Float[Array, " groups"]:
    """Squared norms by group, in the order of `GROUPS`; 0 for a head that is not there."""
    by_layer = [jnp.sum(leaf * leaf, axis=tuple(range(1, leaf.ndim))) for leaf in gradient["layers"].values()]
    layers = jnp.sum(jnp.stack(by_layer), axis=0)
    cuts = [round(layers.shape[0] * k / 4) for k in range(5)]
    quarters = [jnp.sum(layers[a:b]) for a, b in pairwise(cuts)]
    others = [jnp.sum(gradient[name] ** 2) for name in ("embedding", "norm")]
    head = jnp.sum(gradient["head"] ** 2) if "head" in gradient else jnp.zeros_like(others[0])
    return jnp.stack([others[0], *quarters, others[1], head])


def _gradient_stats(gradient: Params, before: Params) -> tuple[Scalar, Float[Array, " groups"]]:
    return jnp.asarray(optax.tree.vdot(gradient, before)), _group_squares(gradient)


def make_step(
    arm: Arm, hyperparams: Hyperparams, learning_rate: float, loss: LossFn, mesh: Mesh | None = None
) -> Callable[[State, Params, PairBatch, bool], tuple[State, StepInfo]]:
    """The compiled update of an arm.

    Args:
        arm: The arm.
        hyperparams: The numbers of the optimizers.
        learning_rate: eta.
        loss: The negative log-likelihood, with log-probabilities as aux.
        mesh: The devices, where there are several.

    Returns:
        A function of the state, the parameters at the start of the run, the batch, and whether a random start begins
        with L+. It returns the next state and the measurements. Its argument, the old state, stays valid, for the case
        that the next one is not finite.
    """

    def step(state: State, start: Params, batch: PairBatch, numbers: Array) -> tuple[State, StepInfo]:
        schedule = Schedule(numbers, np.ones(numbers.shape))
        epoch = Epoch(
            arm_update.losses_of(arm, learning_rate, loss, batch),
            schedule,
            arm_update.optimizer(arm, hyperparams, state.second_moment),
            state.params,
            state.rule,
        )
        update = arm_update.update(arm, hyperparams, learning_rate, epoch, _gradient_stats)
        products, squares = update.info.stats
        values, log_probs = update.info.values, update.info.aux
        has_both = arm.sides == "both"
        weight = arm.side_weight

        def side(number: int) -> SideInfo:
            place = jnp.argmax(numbers == number) if has_both else 0
            return SideInfo(values[place] / weight, log_probs[place], squares[place] / weight**2)

        preferred = side(arm_update.PLUS)
        dispreferred = side(arm_update.MINUS) if has_both else None
        norm_plus = jnp.sqrt(jnp.sum(preferred.squares))
        of_both = None
        if dispreferred is not None:
            norm_minus = jnp.sqrt(jnp.sum(dispreferred.squares))
            of_both = alignment.of_products(products[1] / weight**2, norm_minus, norm_plus)
        update_norm = optax.tree.norm(update.displacement)
        # The squares too: where they overflow, Adam's second moment would be infinite for good, and its updates zero.
        is_finite = jnp.isfinite(update_norm) & jnp.isfinite(values).all() & jnp.isfinite(squares).all()
        params = updates.displaced(state.params, update.displacement)
        distance = optax.tree.norm(jax.tree.map(jnp.subtract, params, start))
        info = StepInfo(preferred, dispreferred, of_both, norm_plus, update_norm, distance, is_finite)
        return State(params, update.state, state.second_moment), info

    @cache
    def compiled(structure: Hashable, places: tuple[Sharding, ...]) -> Callable[..., tuple[State, StepInfo]]:
        """The step, whose state stays at its place and whose measurements every process can read."""
        shardings = None if mesh is None else (jax.tree.unflatten(structure, places), sharding.everywhere(mesh))
        return jax.jit(step, out_shardings=shardings)

    def run(state: State, start: Params, batch: PairBatch, is_plus_first: bool) -> tuple[State, StepInfo]:
        leaves, structure = jax.tree.flatten(state)
        program = compiled(structure, tuple(leaf.sharding for leaf in leaves))
        return program(state, start, batch, arm_update.schedule_of(arm, is_plus_first).losses)

    return run


def quantities(info: StepInfo, batch: PairBatch, groups: Sequence[str]) -> dict[str, object]:
    """The measurements of an update as quantities of `records.UpdateRow`; those of an absent half are None.

    `groups` are the groups of parameters that the model has.
    """
    row: dict[str, object] = {
        "norm_plus": float(info.norm_plus),
        "update_norm": float(info.update_norm),
        "distance": float(info.distance),
    }
    gradient_norms: dict[str, dict[str, float]] = {}
    for name, side, half in zip(("plus", "minus"), info[:2], batch, strict=True):
        if side is None:
            row |= dict.fromkeys((f"loss_{name}", f"log_prob_{name}", f"log_prob_{name}_per_token"))
            continue
        log_probs, norms = (np.asarray(part, np.float64) for part in (side.log_probs, side.squares))
        row |= {
            f"loss_{name}": float(side.loss),
            f"log_prob_{name}": float(log_probs.mean()),
            f"log_prob_{name}_per_token": float(log_probs.sum() / np.sum(half.lengths)),
        }
        gradient_norms[name] = dict(zip(groups, np.sqrt(norms).tolist(), strict=False))
    of_both = info.alignment
    row |= {
        name: None if of_both is None else float(getattr(of_both, name))
        for name in ("norm_minus", "product", "cosine", "ratio_plus", "ratio_minus")
    }
    return row | {"gradient_norms": gradient_norms}


def initial_state(arm: Arm, hyperparams: Hyperparams, params: Params, second: Params | None) -> State:
    """The state before the first update; moments are placed as their parameters are."""
    return State(params, sharding.init(arm_update.optimizer(arm, hyperparams, second), params), second)


def state_like(arm: Arm, hyperparams: Hyperparams, params: Params) -> State:
    """A state with the structure, shapes and places of a run's: a second moment has those of the parameters."""
    return initial_state(arm, hyperparams, params, params if arm.needs_second_moment else None)


def second_moment(loss: LossFn, params: Params, batches: Sequence[PairBatch]) -> Params:
    """The mean square of the gradients of both halves of several updates, all at one place, for `frozen-adamw`."""

    @jax.jit
    def add(params: Params, total: Params, batch: PairBatch) -> Params:
        stacked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], batch)
        both = losses.pairs(losses.negated(loss), stacked.dispreferred, loss, stacked.preferred, has_aux=True)
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
