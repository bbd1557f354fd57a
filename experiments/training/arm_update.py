"""The update of an arm: its losses, its schedule and its rule, given to the maps of the numerics.

The rules are those of `numerics.optimizers` and Optax, at learning rate 1. Nothing here measures or knows a loop.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from experiments import arms
from experiments.arms import Arm, Hyperparams, scaled_hyperparams
from experiments.model import objectives
from experiments.training.batches import PairBatch
from numerics import catalogue, losses, optimizers, schedules, updates
from numerics.epoch import Epoch
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import LossFn, Params, Scalar

__all__ = ["MINUS", "PLUS", "TERM", "clip_halves", "losses_of", "optimizer", "schedule_of", "update"]

MINUS, PLUS, TERM = 0, 1, 2
"""Numbers of the losses of an update: L-, L+, and the explicit term."""


def optimizer(arm: Arm, hyperparams: Hyperparams, second_moment: Params | None = None) -> optax.GradientTransformation:
    """The rule of an arm, at learning rate 1.

    Raises:
        ValueError: If `frozen-adamw` has no second moment.
    """
    own = scaled_hyperparams(arm, hyperparams)
    # Gradient descent has no weight decay: it would be one more difference between arms.
    options = {name: getattr(own, name) for name in catalogue.OPTIMIZERS[arm.optimizer].options}
    rule = optimizers.build(arm.optimizer, options, second_moment)
    return optax.chain(optax.clip_by_global_norm(own.max_norm), rule) if arm.clipping == "update" else rule


def clip_halves(arm: Arm, hyperparams: Hyperparams) -> Callable[[Params], Params] | None:
    """The clip of the gradient of each half before the two are added; None unless the arm clips there.

    The gradient of a half has its weight in their mean, and so has the norm that it is clipped to.
    """
    if arm.clipping != "step":
        return None
    clip = optax.clip_by_global_norm(hyperparams.max_norm * arm.side_weight)

    def transform(gradient: Params) -> Params:
        clipped, _ = clip.update(gradient, clip.init(gradient))
        return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), clipped, gradient)

    return transform


def losses_of(arm: Arm, learning_rate: float, loss: LossFn, batch: PairBatch) -> Losses:
    """The losses of one update, numbered L- 0, L+ 1 and the explicit term 2, with the weights that the arm gives them.

    Args:
        arm: The arm.
        learning_rate: eta, the unit of the strength of an explicit term.
        loss: The negative log-likelihood, with log-probabilities as aux.
        batch: The two halves.
    """
    weighted = PairBatch(*(half._replace(weights=half.weights * arm.side_weight) for half in batch))
    plus, minus = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], weighted)
    ascended = losses.negated(loss)
    # A pair also where the preferred half is alone, so that all arms have one structure: no step of it is on L-.
    pair = losses.pairs(ascended, minus, loss, plus, has_aux=True)
    if not arm.term:
        return pair
    coefficient = arms.term_coefficient(arm, learning_rate)
    term = objectives.alignment_term(
        lambda params, batch: loss(params, batch)[0], lambda params, batch: ascended(params, batch)[0]
    )

    def term_with_aux(params: Params, batch: tuple) -> tuple[Scalar, Array]:
        _, kind = jax.eval_shape(loss, params, batch[1])
        return term(params, batch), jnp.zeros(kind.shape, kind.dtype)

    halves = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], batch)
    term_batch = (jnp.full((1,), coefficient), *halves)
    return Losses((*pair.functions, term_with_aux), (*pair.batches, term_batch), ("-", "+", "term"), has_aux=True)


def schedule_of(arm: Arm, is_plus_first: bool) -> Schedule:
    """The steps of one update: losses, in their order. `is_plus_first` counts where the start is random."""
    if arm.sides == "preferred":
        return schedules.steps([PLUS])
    plus_first = is_plus_first if arm.first == "random" else arm.first == "+"
    both = [PLUS, MINUS] if plus_first else [MINUS, PLUS]
    return schedules.steps([*both, TERM] if arm.term else both)


def update(
    arm: Arm,
    hyperparams: Hyperparams,
    learning_rate: float,
    epoch: Epoch,
    gradient_stats: updates.GradientStats | None = None,
) -> updates.Update:
    """The update of an arm, by the maps of the numerics; its displacement has leading power 1 of the learning rate.

    Args:
        arm: The arm.
        hyperparams: The numbers of all arms.
        learning_rate: eta.
        epoch: The losses, the schedule and the rule of the arm, at the place of the update.
        gradient_stats: The measurements of each gradient, as in `numerics.updates`.
    """
    step_size, transform = learning_rate * arm.step, clip_halves(arm, hyperparams)
    if arm.update == "sequential":
        return updates.sequential(
            epoch, step_size=step_size, transform_gradient=transform, gradient_stats=gradient_stats
        )
    return updates.accumulated(
        epoch,
        step_size=step_size,
        per="schedule",
        reduction="sum",  # the weights of the halves make it their mean
        transform_gradient=transform,
        gradient_stats=gradient_stats,
    )
