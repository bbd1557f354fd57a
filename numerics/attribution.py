"""Where the gap between a sequential and an accumulated run comes from: first order by cause, second order by kind.

First order is the gap when gradients are frozen at the start: rates that do not match, clipping, memory, normalisation,
weight decay. The rule is built up, one cause at a time (`optimizers.stages`), and the change of the frozen gap is read;
causes interact, so the order in which they enter is part of the answer. Second order is absent with frozen gradients;
it is split by reversing the schedule.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from numerics import causes, checks, contents, drift, rules, schedules, updates
from numerics.epoch import Epoch
from numerics.losses import Losses
from numerics.rules import at_rate
from numerics.schedules import Schedule
from numerics.types import Params, Reduction, Scalar

__all__ = ["Attribution", "gap"]


class Attribution(NamedTuple):
    """sequential - accumulated displacement = sum of first_order + gradient_part + bracket + remainder.

    Attributes:
        total: The measured gap, of real updates.
        first_order: By stage: the change of the gap with frozen gradients by this cause; power 1 of the step size.
        gradient_part: The mean of the second orders of the schedule and of its reversal, both from the state that this
            arm is in; power 2. For gradient descent a gradient that does not know the order: alignment and gradient
            norms. Under another rule it need not be a gradient.
        bracket: The other half, which changes sign if the schedule is reversed and the state kept; power 2. For
            gradient descent a sum of brackets. A rule with memory keeps brackets in the first half too (claim
            `heavy-ball`).
        remainder: The rest; power 3.
    """

    total: Params
    first_order: dict[str, Params]
    gradient_part: Params
    bracket: Params
    remainder: Params


@contents.compiled(static=("reduction", "num_warm_up"))
def _frozen(epoch: Epoch, reduction: Reduction, num_warm_up: int) -> tuple[updates.Update, updates.Update]:
    """Both arms with frozen gradients, each after its own warm-up: (the states before are in `state`)."""

    def one(state: optax.OptState, grouping: updates.Grouping) -> updates.Update:
        return updates.unit_displacement(replace(epoch, state=state), 0.0, grouping=grouping, reduction=reduction)

    def arm(grouping: updates.Grouping) -> updates.Update:
        def warm(state: optax.OptState, _: None) -> tuple[optax.OptState, None]:
            return one(state, grouping).state, None

        state, _ = jax.lax.scan(warm, at_rate(epoch.rule, 1.0).init(epoch.params), None, length=num_warm_up)
        return one(state, grouping)._replace(state=state)

    return arm("step"), arm("schedule")


@contents.compiled(static=("reduction",))
def _derivative(epoch: Epoch, reduction: Reduction) -> Params:
    return drift.taylor_coefficients(epoch, "start", order=2, reduction=reduction)[1]


@checks.arguments
def gap(
    losses: Losses,
    schedule: Schedule,
    stages: Mapping[str, optax.GradientTransformation],
    params: Params,
    *,
    step_size: Scalar | float,
    rate: Scalar | float,
    reduction: Reduction,
    num_warm_up: int,
) -> Attribution:
    """The gap between one sequential run through a schedule and one accumulated update, by cause.

    Args:
        losses: The losses.
        schedule: The steps.
        stages: The rule, built up cause by cause: names and rules at learning rate 1 with updates proportional to the
            rate (`numerics.rules`), from the simplest to the one that is compared. The first stage's gap goes by its
            name: for gradient descent it is the mismatch of the rates.
        params: The start.
        step_size: The step size of the accumulated update.
        rate: The step size of the sequential updates, in units of it: 1/2 matches gradient descent on a mean over two
            losses, 1/sqrt(2) is the post's choice.
        reduction: Whether the accumulated update, and a bracket of the schedule, adds gradients up or averages them.
        num_warm_up: How many runs each arm makes before, at the start and with frozen gradients, so that its memory is
            its own and no longer that of the first step. 0 compares the first update of a training.

    Raises:
        TypeError: If a stage is a function of the rate.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claims `lr-match`, `optimizer-map`, `adamw-alternation`.
    """
    for name, rule in stages.items():
        rules.check(f"stages[{name!r}]", rule, params)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    size, ratio = jnp.asarray(step_size, dtype), jnp.asarray(rate, dtype)
    epochs = [Epoch(losses, schedule, rule, params) for rule in stages.values()]
    arms = [_frozen(epoch, reduction, num_warm_up) for epoch in epochs]
    gaps = [
        jax.tree.map(lambda s, a: size * (ratio * s - a), sequential.displacement, accumulated.displacement)
        for sequential, accumulated in arms
    ]
    before = [jax.tree.map(jnp.zeros_like, params), *gaps[:-1]]
    first_order = {
        name: jax.tree.map(jnp.subtract, after, previous)
        for name, after, previous in zip(stages, gaps, before, strict=True)
    }
    # From here on the rule itself, and gradients that are not frozen.
    sequential, accumulated = arms[-1]
    epoch = replace(epochs[-1], state=sequential.state)
    both = epoch, replace(epoch, schedule=schedules.reverse(schedule))
    forwards, mirrored = (_derivative(each, reduction) for each in both)
    square = (size * ratio) ** 2
    gradient_part = jax.tree.map(lambda a, b: square * (a + b) / 2, forwards, mirrored)
    bracket = jax.tree.map(lambda a, b: square * (a - b) / 2, forwards, mirrored)
    real = updates.sequential(epoch, step_size=size * ratio, reduction=reduction)
    total = jax.tree.map(lambda s, a: s - size * a, real.displacement, accumulated.displacement)
    explained = jax.tree.map(lambda *parts: sum(parts), gaps[-1], gradient_part, bracket)
    result = Attribution(total, first_order, gradient_part, bracket, jax.tree.map(jnp.subtract, total, explained))
    causes.require_finite(result, losses, params, epoch.rule, has_steps=True)
    return result
