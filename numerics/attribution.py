"""Where the gap between a sequential and an accumulated run comes from: first order by cause, second order by kind.

First order is what is left when gradients are frozen at the start: rates that do not match, clipping, memory,
normalisation, weight decay. It is taken apart by building the rule up, one cause at a time, and reading how the frozen
gap changes; causes interact, so the order in which they enter is part of the answer. Second order is what frozen
gradients cannot show, split by reversing the schedule.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from numerics import causes, checks, contents, drift, optimizers, schedules, updates
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import Params, Reduction, Scalar

__all__ = ["Attribution", "adamw_stages", "gap"]


class Attribution(NamedTuple):
    """sequential - accumulated displacement = sum of first_order + gradient_part + bracket + remainder.

    Attributes:
        total: The measured gap, of real updates.
        first_order: By stage: what this cause adds to the gap with frozen gradients; power 1 of the step size.
        gradient_part: The mean of the second orders of the schedule and of its reversal, both from the state that this
            arm is in; power 2. For gradient descent a gradient that does not know the order: alignment and gradient
            norms. Under another rule it need not be a gradient.
        bracket: The other half, which changes sign if the schedule is reversed and the state kept; power 2. For
            gradient descent a sum of brackets. A rule with memory keeps brackets in the first half too (claim
            `heavy-ball`).
        remainder: What is left; power 3.
    """

    total: Params
    first_order: dict[str, Params]
    gradient_part: Params
    bracket: Params
    remainder: Params


@checks.arguments
def adamw_stages(
    *,
    max_norm: float | None,
    b1: float,
    b2: float,
    eps: float,
    eps_root: float = 0.0,
    weight_decay: float,
) -> dict[str, optax.GradientTransformation]:
    """Gradient descent built up to clipped AdamW, at learning rate 1: the stages of `gap`.

    Args:
        max_norm: The clip of the global norm; None leaves the stage out.
        b1: The decay of the first moment.
        b2: The decay of the second moment.
        eps: Adam's epsilon.
        eps_root: Adam's epsilon under the root.
        weight_decay: Decoupled; 0 leaves the stage out.
    """
    clip = [] if max_norm is None else [optax.clip_by_global_norm(max_norm)]
    stages = {"learning rate": optimizers.gradient_descent()}
    if clip:
        stages["clipping"] = optax.chain(*clip, optax.scale(-1.0))
    stages["memory"] = optax.chain(*clip, optax.ema(b1, debias=True), optax.scale(-1.0))
    stages["normalisation"] = optax.chain(*clip, optax.adam(1.0, b1=b1, b2=b2, eps=eps, eps_root=eps_root))
    if weight_decay:
        stages["weight decay"] = optax.chain(
            *clip, optax.adamw(1.0, b1=b1, b2=b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)
        )
    return stages


@contents.compiled(static=("optimizer", "reduction", "num_warm_up"))
def _frozen(
    losses: Losses,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    params: Params,
    reduction: Reduction,
    num_warm_up: int,
) -> tuple[updates.Update, updates.Update]:
    """Both arms with frozen gradients, each after its own warm-up: (the states before are in `state`)."""

    def one(state: optax.OptState, grouping: updates.Grouping) -> updates.Update:
        return updates.unit_displacement(
            losses, schedule, optimizer, params, state, 0.0, grouping=grouping, reduction=reduction
        )

    def arm(grouping: updates.Grouping) -> updates.Update:
        def warm(state: optax.OptState, _: None) -> tuple[optax.OptState, None]:
            return one(state, grouping).state, None

        state, _ = jax.lax.scan(warm, optimizer.init(params), None, length=num_warm_up)
        return one(state, grouping)._replace(state=state)

    return arm("step"), arm("schedule")


@contents.compiled(static=("optimizer",))
def _derivative(
    losses: Losses,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    params: Params,
    state: optax.OptState,
) -> Params:
    return drift.taylor_coefficients(losses, schedule, optimizer, params, state, "start", order=2)[1]


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
        reduction: Whether the accumulated update adds gradients up or averages them.
        num_warm_up: How many runs each arm makes before, at the start and with frozen gradients, so that its memory is
            its own and no longer that of the first step. 0 compares the first update of a training.

    Raises:
        TypeError: If a loss is not a real scalar, a parameter is not float32 or float64, or a stage is a function of
            the rate.
        ValueError: If there is no stage, the schedule does not fit, or the warm-up is negative.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claims `lr-match`, `optimizer-map`, `adamw-alternation`.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    size, ratio = jnp.asarray(step_size, dtype), jnp.asarray(rate, dtype)
    arms = [_frozen(losses, schedule, rule, params, reduction, num_warm_up) for rule in stages.values()]
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
    *_, optimizer = stages.values()
    sequential, accumulated = arms[-1]
    forwards = _derivative(losses, schedule, optimizer, params, sequential.state)
    mirrored = _derivative(losses, schedules.reverse(schedule), optimizer, params, sequential.state)
    square = (size * ratio) ** 2
    gradient_part = jax.tree.map(lambda a, b: square * (a + b) / 2, forwards, mirrored)
    bracket = jax.tree.map(lambda a, b: square * (a - b) / 2, forwards, mirrored)
    real = updates.sequential(losses, schedule, optimizer, params, sequential.state, step_size=size * ratio)
    total = jax.tree.map(lambda s, a: s - size * a, real.displacement, accumulated.displacement)
    explained = jax.tree.map(lambda *parts: sum(parts), gaps[-1], gradient_part, bracket)
    found = Attribution(total, first_order, gradient_part, bracket, jax.tree.map(jnp.subtract, total, explained))
    causes.require_finite(found, losses, params, optimizer, has_steps=True)
    return found
