"""One update of a run, for every arm the same function: losses of two halves, stepped by `numerics.updates`.

Nothing here steps by itself, chooses data, writes, or knows text. The arm decides with which schedule, grouping and
rule the numerics are called; what is measured is read from the gradients that the update takes anyway.
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

from experiments.arms import Arm, Rule
from experiments.data.tokens import Batch
from experiments.model import sharding
from experiments.model.llama import Params
from experiments.training import arm_update
from experiments.training.batches import Halves
from numerics import alignment, losses, optimizers, schedules, updates
from numerics.alignment import Alignment
from numerics.schedules import Schedule
from numerics.types import LossFn, Scalar

__all__ = [
    "GROUPS",
    "HalfBatches",
    "State",
    "Told",
    "half_batches",
    "initial",
    "second_moment",
    "stepper",
]

GROUPS = ("embedding", "layers-1", "layers-2", "layers-3", "layers-4", "norm", "head")
"""Parameters by where they lie; the layers in quarters, from the first to the last."""


class State(NamedTuple):
    """What the next update needs.

    Attributes:
        params: The parameters, float32 masters.
        rule: The optimizer's state.
        second_moment: What `frozen-adamw` divides by the root of; None under other rules.
    """

    params: Params
    rule: optax.OptState
    second_moment: Params | None


class Told(NamedTuple):
    """What an update tells, with nothing computed for it but norms and inner products.

    Attributes:
        losses: L+ and L-, each where its gradient was read; in nats, averaged as the reduction says.
        log_probs: Of the preferred and the dispreferred completions there, in nats per sequence.
        alignment: Of the two gradients as they were read: of an accumulated update both at its start, of a sequential
            one the second after the first step.
        squares: The squared norm of each side's gradient by group of parameters, in the order of `GROUPS`.
        update_norm: The norm of the displacement.
        distance: The norm of the parameters minus those of the start.
        is_finite: Whether all of it is.
    """

    losses: Float[Array, " 2"]
    log_probs: Float[Array, "2 b"]
    alignment: Alignment
    squares: Float[Array, "2 groups"]
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


def _observe(gradient: Params, before: Params) -> tuple[Scalar, Float[Array, " groups"]]:
    return jnp.asarray(optax.tree.vdot(gradient, before)), _group_squares(gradient)


def stepper(
    arm: Arm, rule: Rule, learning_rate: float, loss: LossFn, mesh: Mesh | None = None
) -> Callable[[State, Params, Halves, bool], tuple[State, Told]]:
    """The compiled update of an arm.

    Args:
        arm: The arm.
        rule: The numbers of the optimizers.
        learning_rate: eta.
        loss: The negative log-likelihood, with log-probabilities as aux.
        mesh: Where everything lies on several devices.

    Returns:
        A function of the state, the parameters at the start of the run, the halves, and whether a random start begins
        with L+; it returns the next state and what the update tells. The state that it is given stays as it is, for
        the case that the next one is not finite.
    """

    def step(state: State, start: Params, halves: Halves, numbers: Array) -> tuple[State, Told]:
        schedule = Schedule(numbers, np.ones(numbers.shape))
        made = arm_update.update(
            arm,
            rule,
            learning_rate,
            loss,
            halves,
            schedule,
            state.params,
            state.rule,
            state.second_moment,
            _observe,
        )
        products, squares = made.info.stats
        values, log_probs = made.info.values, made.info.aux
        is_alone = arm.sides == "preferred"
        plus, minus = (
            (0, 0) if is_alone else (jnp.argmax(numbers == arm_update.PLUS), jnp.argmax(numbers == arm_update.MINUS))
        )
        absent = jnp.nan if is_alone else 1.0
        weight = arm.side_weight
        both = jnp.stack([squares[plus], squares[minus] * absent]) / weight**2
        norm_plus, norm_minus = jnp.sqrt(jnp.sum(both, axis=1))
        update_norm = optax.tree.norm(made.displacement)
        # The squares too: where they overflow, Adam's second moment would be infinite for good, and its updates zero.
        is_finite = jnp.isfinite(update_norm) & jnp.isfinite(values).all() & jnp.isfinite(squares).all()
        params = updates.displaced(state.params, made.displacement)
        told = Told(
            losses=jnp.stack([values[plus], values[minus] * absent]) / weight,
            log_probs=jnp.stack([log_probs[plus], log_probs[minus] * absent]),
            alignment=alignment.of_products(products[0 if is_alone else 1] * absent / weight**2, norm_minus, norm_plus),
            squares=both,
            update_norm=update_norm,
            distance=optax.tree.norm(jax.tree.map(jnp.subtract, params, start)),
            is_finite=is_finite,
        )
        return State(params, made.state, state.second_moment), told

    @cache
    def compiled(structure: Hashable, places: tuple[Sharding, ...]) -> Callable[..., tuple[State, Told]]:
        """The step, whose state stays where it lies and whose tale every process can read."""
        if mesh is None:
            return jax.jit(step)
        state = jax.tree.unflatten(structure, places)
        return jax.jit(step, out_shardings=(state, sharding.everywhere(mesh)))

    def placed(state: State, start: Params, halves: Halves, is_plus_first: bool) -> tuple[State, Told]:
        leaves, structure = jax.tree.flatten(state)
        run = compiled(structure, tuple(leaf.sharding for leaf in leaves))
        return run(state, start, halves, arm_update.schedule_of(arm, is_plus_first).losses)

    return placed


def initial(arm: Arm, rule: Rule, params: Params, second: Params | None) -> State:
    """The state before the first update; moments lie where their parameters do."""
    return State(params, sharding.initialised(arm_update.optimizer(arm, rule, second), params), second)


def second_moment(loss: LossFn, params: Params, several: Sequence[Halves]) -> Params:
    """The mean square of the gradients of both halves of several updates, all at one place, for `frozen-adamw`.

    Args:
        loss: The negative log-likelihood, with log-probabilities as aux.
        params: Where.
        several: The halves.
    """

    @jax.jit
    def added(params: Params, total: Params, halves: Halves) -> Params:
        batches = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], halves)
        both = losses.pairs(losses.negated(loss), batches.minus, loss, batches.plus, has_aux=True)
        square = optimizers.second_moment(both, schedules.interleaved(1, first="+"), params)
        return jax.tree.map(jnp.add, total, square)

    total = jax.tree.map(jnp.zeros_like, params)
    for halves in several:
        total = added(params, total, halves)
    return jax.tree.map(lambda leaf: leaf / len(several), total)


class HalfBatches(NamedTuple):
    """The alignment of a set of pairs, and what two halves of it estimate without bias.

    The product of two gradients of the same texts has the covariance of their noise in it, over the number of pairs;
    gradients of different texts have not. Variance: that of one half's product, of order 1 over the pairs.

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
    gradient: Callable[[Params, Batch], Params], params: Params, first: Halves, second: Halves
) -> HalfBatches:
    """The alignment of the mean gradients of two half-batches, whole and without bias.

    Args:
        gradient: Of the negative log-likelihood.
        params: Where.
        first: The one half-batch, of both sides.
        second: The other, of as many pairs.
    """
    plus_a, plus_b = gradient(params, first.plus), gradient(params, second.plus)
    minus_a, minus_b = (jax.tree.map(jnp.negative, gradient(params, half.minus)) for half in (first, second))
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
