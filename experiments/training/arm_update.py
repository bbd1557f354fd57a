"""The update of an arm: its losses, its schedule and its rule, given to the maps of the numerics.

The rules are those of `numerics.optimizers` and Optax, at learning rate 1. Nothing here measures or knows a loop.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from experiments import arms
from experiments.arms import Arm, Rule, rule_of
from experiments.model import objectives
from experiments.training.batches import Halves
from numerics import catalogue, losses, optimizers, schedules, updates
from numerics.epoch import Epoch
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import LossFn, Params, Scalar

__all__ = ["MINUS", "PLUS", "TERM", "each", "losses_of", "optimizer", "schedule_of", "update"]

MINUS, PLUS, TERM = 0, 1, 2
"""Numbers of the losses of an update: L-, L+, and the explicit term."""


def optimizer(arm: Arm, rule: Rule, second_moment: Params | None = None) -> optax.GradientTransformation:
    """The rule of an arm, at learning rate 1.

    Args:
        arm: The arm.
        rule: The numbers of all arms.
        second_moment: Of `frozen-adamw`.

    Raises:
        ValueError: If `frozen-adamw` is not given its second moment.
    """
    own = rule_of(arm, rule)
    # Gradient descent has no weight decay here: it would be one more thing that differs.
    options = {name: getattr(own, name) for name in catalogue.OPTIMIZERS[arm.optimizer].options}
    made = optimizers.build(arm.optimizer, options, second_moment)
    return optax.chain(optax.clip_by_global_norm(own.max_norm), made) if arm.clipping == "update" else made


def each(arm: Arm, rule: Rule) -> Callable[[Params], Params] | None:
    """What is done to the gradient of each half before they are added up: a mean of clips, where a mean is taken.

    A half's gradient comes with its weight in that mean, and so does the norm that it is clipped to.
    """
    if arm.clipping != "step":
        return None
    clip = optax.clip_by_global_norm(rule.max_norm * arm.side_weight)

    def clipped(gradient: Params) -> Params:
        made, _ = clip.update(gradient, clip.init(gradient))
        return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), made, gradient)

    return clipped


def losses_of(arm: Arm, learning_rate: float, loss: LossFn, halves: Halves) -> Losses:
    """The losses of one update, numbered L- 0, L+ 1 and the explicit term 2; each weighs what the arm gives it.

    Args:
        arm: The arm.
        learning_rate: eta, which the strength of an explicit term is in.
        loss: The negative log-likelihood, with log-probabilities as aux.
        halves: The batches; traced or not.
    """
    weighed = Halves(*(half._replace(weights=half.weights * arm.side_weight) for half in halves))
    plus, minus = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], weighed)
    ascended = losses.negated(loss)
    # A pair also where the preferred half is alone, so that every arm tells the same: the schedule never steps on L-.
    made = losses.pairs(ascended, minus, loss, plus, has_aux=True)
    if not arm.term:
        return made
    coefficient = arms.term_coefficient(arm, learning_rate)
    term = objectives.alignment_term(
        lambda params, batch: loss(params, batch)[0], lambda params, batch: ascended(params, batch)[0]
    )

    def told(params: Params, batch: tuple) -> tuple[Scalar, Array]:
        _, kind = jax.eval_shape(loss, params, batch[1])
        return term(params, batch), jnp.zeros(kind.shape, kind.dtype)

    plain_plus, plain_minus = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], halves)
    batch = (jnp.full((1,), coefficient), plain_plus, plain_minus)
    return Losses((*made.functions, told), (*made.batches, batch), ("-", "+", "term"), has_aux=True)


def schedule_of(arm: Arm, is_plus_first: bool) -> Schedule:
    """The steps of one update: which losses, in which order.

    Args:
        arm: The arm.
        is_plus_first: The outcome of the coin, which counts where the start is random.
    """
    if arm.sides == "preferred":
        return schedules.steps([PLUS])
    plus_first = is_plus_first if arm.first == "random" else arm.first == "+"
    both = [PLUS, MINUS] if plus_first else [MINUS, PLUS]
    return schedules.steps([*both, TERM] if arm.term else both)


def update(
    arm: Arm,
    rule: Rule,
    learning_rate: float,
    loss: LossFn,
    halves: Halves,
    schedule: Schedule,
    params: Params,
    state: optax.OptState,
    second_moment: Params | None,
    observe: updates.GradientStats | None = None,
) -> updates.Update:
    """The arm's update of these parameters, by the numerics' own maps."""
    epoch = Epoch(
        losses_of(arm, learning_rate, loss, halves), schedule, optimizer(arm, rule, second_moment), params, state
    )
    transform = each(arm, rule)
    step_size = learning_rate * arm.step
    if arm.update == "sequential":
        return updates.sequential(epoch, step_size=step_size, transform_gradient=transform, gradient_stats=observe)
    return updates.accumulated(
        epoch,
        step_size=step_size,
        per="schedule",
        reduction="sum",  # the weights of the halves make it their mean
        transform_gradient=transform,
        gradient_stats=observe,
    )
