"""Update maps: losses, a schedule and an Optax rule make (params, state) -> (displacement, state, info).

One scan serves all. A schedule is cut into groups of consecutive steps; the gradients of a group are read at one place
and added up, and the rule makes one update of them. Groups of one are sequential updates, groups of two accumulate
every pair, one group accumulates everything. The displacement is carried and the parameters stay where they are:
subtracting two parameter trees would lose in float32 exactly what is to be measured.

The rule is an `optax.GradientTransformation` at learning rate 1, such as `optax.adamw(1.0)`; the step size multiplies
its updates. So the displacement is step_size * D(step_size), where D(s) is what the rule makes when every read of the
parameters (gradient, weight decay, trust ratio) is at start + s * (what D has reached so far): `unit_displacement`
(claim `optimizer-map`). A rule that is not linear in its rate is given as a function of the rate (`numerics.rules`);
its displacement is carried as it is.
"""

from collections.abc import Callable
from math import factorial
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from numerics import checks, contents
from numerics.losses import Losses
from numerics.rules import Rule, at_rate, is_function_of_rate
from numerics.schedules import Schedule
from numerics.types import Params, Reduction, Scalar
from numerics.vector_fields import as_computed

__all__ = [
    "NOT_FINITE",
    "Grouping",
    "Info",
    "Observe",
    "Update",
    "accumulated",
    "check",
    "check_expansion",
    "displaced",
    "group_size",
    "sequential",
    "series",
    "unit_displacement",
]

Grouping: TypeAlias = Literal["step", "pair", "schedule"]
"""Over how many consecutive steps gradients are accumulated before the rule makes an update."""


Observe: TypeAlias = Callable[[Params, Params], PyTree]
"""What to keep of the gradient of a step, given it and the sum of the gradients of the steps before it (zero at first).

With their inner product the sum over all steps is sum over b < b' of g_b . g_b': of one pair, g+ . g-.
"""

NOT_FINITE = (
    "derivatives must be finite along the schedule. Check the loss at the start, take smaller steps, and give a rule "
    "such as Adam eps_root of at least 1.2e-38: its root has no derivative where a gradient is exactly zero"
)


class Info(NamedTuple):
    """What a reader of an update needs.

    Attributes:
        values: The loss of every step where its gradient was read.
        gradient_norms: The Euclidean norm of what the rule was given, per update of the rule.
        update_norms: The norm of what it made of it, in units of the step size.
        aux: What the losses tell beside their values, per step along the first axis; None where they tell nothing.
        observed: What `observe` made of the gradients, per step along the first axis; None without it.
    """

    values: Float[Array, " m"]
    gradient_norms: Float[Array, " groups"]
    update_norms: Float[Array, " groups"]
    aux: PyTree = None
    observed: PyTree = None


class Update(NamedTuple):
    """The result of an update map.

    Attributes:
        displacement: What is added to the parameters; leading power of the step size: 1.
        state: The state of the rule, which the next update needs.
        info: What a reader needs.
    """

    displacement: Params
    state: optax.OptState
    info: Info


@checks.arguments
def displaced(params: Params, displacement: Params, scale: Scalar | float = 1.0) -> Params:
    """params + scale * displacement, every leaf in its own dtype."""
    return jax.tree.map(lambda at, by: at + jnp.asarray(scale, at.dtype) * by, params, displacement)


@checks.arguments
def group_size(grouping: Grouping, num_steps: int) -> int:
    """The number of consecutive steps that one update of the rule accumulates.

    Raises:
        ValueError: If pairs are asked for and the number of steps is odd.
    """
    match grouping:
        case "step":
            return 1
        case "schedule":
            return num_steps
        case "pair":
            if num_steps % 2:
                raise ValueError(
                    f"schedule must have an even number of steps to be accumulated per pair; got {num_steps}. "
                    "Add the missing step, or use the accumulated frame."
                )
            return 2


@checks.arguments
def unit_displacement(
    losses: Losses,
    schedule: Schedule,
    optimizer: Rule,
    params: Params,
    state: optax.OptState | None,
    read: Scalar | float,
    *,
    grouping: Grouping,
    reduction: Reduction,
    each: Callable[[Params], Params] | None = None,
    observe: Observe | None = None,
) -> Update:
    """D(read): the displacement in units of the step size when the parameters are read at start + read * D so far.

    D(0) is the displacement with frozen gradients; step_size * D(step_size) is the update itself. For a function of the
    rate D(read) is the displacement at that rate, divided by it; it has no value at zero (`series` has the limit). To
    be transformed: it validates nothing.

    Args:
        losses: The losses.
        schedule: The steps; a scale multiplies the update of its step, and within a group it weighs the gradient.
        optimizer: The rule.
        params: The start.
        state: The state of the rule before the first step; None for that of its `init`, at this rate.
        read: The scalar s above.
        grouping: Over how many steps gradients are accumulated.
        reduction: Whether the gradients of a group are added up or averaged.
        each: What is done to the gradient of every step before it is accumulated, such as a clip of its norm.
        observe: What to keep of the gradient of every step, as it was read; it takes the memory of one more tree.
    """
    made = _walk(
        losses,
        schedule,
        optimizer,
        params,
        state,
        read,
        grouping=grouping,
        reduction=reduction,
        each=each,
        observe=observe,
    )
    if not is_function_of_rate(optimizer):
        return made
    displacement, norms = jax.tree.map(lambda leaf: leaf / read, (made.displacement, made.info.update_norms))
    return made._replace(displacement=displacement, info=made.info._replace(update_norms=norms))


@checks.arguments
def series(
    losses: Losses,
    schedule: Schedule,
    optimizer: Rule,
    params: Params,
    state: optax.OptState | None,
    *,
    grouping: Grouping,
    reduction: Reduction,
    order: int,
) -> tuple[Params, ...]:
    """The coefficients of step_size, step_size^2, ... of an update, by forward derivatives in the step size at zero.

    To be transformed: it validates nothing.

    Args:
        losses: The losses.
        schedule: The steps.
        optimizer: The rule.
        params: The start.
        state: The state of the rule before the first step; None for that of its `init`.
        grouping: Over how many steps gradients are accumulated.
        reduction: Whether the gradients of a group are added up or averaged.
        order: The highest power.
    """
    first = int(is_function_of_rate(optimizer))  # such a displacement is not divided by its rate
    coefficients = _series(
        losses,
        schedule,
        optimizer,
        params,
        state,
        grouping=grouping,
        reduction=reduction,
        order=order - 1 + first,
    )
    return coefficients[first:]


def _series(
    losses: Losses,
    schedule: Schedule,
    optimizer: Rule,
    params: Params,
    state: optax.OptState | None,
    *,
    grouping: Grouping,
    reduction: Reduction,
    order: int,
    at: float = 0.0,
) -> tuple[Params, ...]:
    """The derivatives 0 ... order of `_walk` in the step size, over their factorials."""

    def displacement(size: Scalar) -> Params:
        return _walk(
            losses, schedule, optimizer, params, state, size, grouping=grouping, reduction=reduction
        ).displacement

    def with_derivative(function: Callable[[Scalar], tuple]) -> Callable[[Scalar], tuple]:
        """(f, f', ...) -> (f, f', ..., and the derivative of the last): one pass, compiled once."""

        def extended(at: Scalar) -> tuple:
            values, derivatives = jax.jvp(function, (at,), (jnp.ones_like(at),))
            return (*values, derivatives[-1])

        return extended

    expansion: Callable[[Scalar], tuple] = lambda size: (displacement(size),)  # noqa: E731
    for _ in range(order):
        expansion = with_derivative(expansion)
    derivatives = expansion(jnp.asarray(at, jnp.result_type(*jax.tree.leaves(params))))
    return tuple(
        jax.tree.map(lambda leaf, k=k: leaf / factorial(k), derivative) for k, derivative in enumerate(derivatives)
    )


NEXT_TO_ZERO = 1e-6  # a rate at which a smooth rule is as at zero but for some millionths


@contents.compiled(static=("rule",))
def _next_to_zero(
    losses: Losses, schedule: Schedule, rule: Rule, params: Params, state: optax.OptState | None
) -> tuple[Scalar, Float[Array, " 3"], Float[Array, " 3"]]:
    """The length of the displacement at rate zero, |c_k| there, and how far c_k is from that next to zero."""

    def series(at: float) -> tuple[Params, ...]:
        return _series(losses, schedule, rule, params, state, grouping="step", reduction="sum", order=3, at=at)

    displacement, *zero = series(0.0)
    _, *near = series(NEXT_TO_ZERO)
    jumps = [optax.tree.norm(jax.tree.map(jnp.subtract, *both)) for both in zip(zero, near, strict=True)]
    return optax.tree.norm(displacement), jnp.stack([*map(optax.tree.norm, zero)]), jnp.stack(jumps)


@checks.arguments
def check_expansion(
    losses: Losses, schedule: Schedule, optimizer: Rule, params: Params, state: optax.OptState | None
) -> None:
    """Refuses a function of the rate that has no expansion in the rate at zero; its updates can still be measured.

    Args:
        losses: The losses.
        schedule: The steps.
        optimizer: The rule; nothing is asked of one at learning rate 1.
        params: The start.
        state: The state of the rule; None for that of its `init`.

    Raises:
        ValueError: If the rule moves the parameters at rate zero, or one of the first three derivatives is not finite
            or jumps there.
    """
    if not is_function_of_rate(optimizer):
        return
    remedy = "Its updates can be measured, with `updates` and `drift.measured`, and not predicted"
    moved, sizes, jumps = map(np.asarray, _next_to_zero(losses, schedule, optimizer, params, state))
    if not moved == 0:
        raise ValueError(
            f"a rule must leave the parameters alone at rate 0; this one moves them by {moved:.3g}. {remedy}."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (sizes[0] / sizes[1:]) ** (1.0 / np.arange(1, len(sizes)))
    scale = np.min(ratios, initial=1.0, where=np.isfinite(ratios) & (ratios > 0))
    powers = scale ** np.arange(len(sizes))
    for k, is_jump in enumerate(~(jumps * powers <= 0.01 * np.max(sizes * powers)), start=1):
        if is_jump:
            raise ValueError(
                f"a rule must have derivatives in the rate at rate 0; derivative {k} of this one jumps there or is not "
                f"finite. {remedy}."
            )


def _walk(
    losses: Losses,
    schedule: Schedule,
    optimizer: Rule,
    params: Params,
    state: optax.OptState | None,
    read: Scalar | float,
    *,
    grouping: Grouping,
    reduction: Reduction,
    each: Callable[[Params], Params] | None = None,
    observe: Observe | None = None,
) -> Update:
    """The steps; in units of the step size unless the rule is a function of it."""
    num_steps = schedule.losses.shape[0]
    size = group_size(grouping, num_steps)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    read = jnp.asarray(read, dtype)
    if state is None:
        state = at_rate(optimizer, read).init(params)
    numbers = jnp.asarray(schedule.losses).reshape(-1, size)
    scales = jnp.asarray(schedule.scales).astype(dtype).reshape(-1, size)
    zero = jax.tree.map(jnp.zeros_like, params)

    def rule_update(rate: Scalar, gradient: Params, state: optax.OptState, here: Params) -> tuple:
        return at_rate(optimizer, rate).update(gradient, state, here)

    def read_step(here: Params, before: Params | None, number: Array) -> tuple[Params, Params | None, tuple]:
        """The gradient of one step, the sum of all so far, and what is told of it."""
        value, gradient, aux = losses.value_gradient_and_aux(here, number)
        seen = None
        if observe is not None:
            seen, before = observe(gradient, before), displaced(before, gradient)
        return gradient if each is None else each(gradient), before, (value, aux, seen)

    def one_group(carry: tuple, group: tuple[Array, Array]) -> tuple:
        reached, state, before = carry
        numbers, scales = group
        # The step of an accumulated update is the mean of its scales, so that the rule sees weights of mean one: a
        # group of one keeps its gradient as it is, and for gradient descent sum and scale come to the same.
        scale = jnp.mean(scales)
        weights = scales / scale if reduction == "sum" else scales / (scale * size)
        # With the rate in the rule, the displacement is not in units of it.
        read_scale, update_scale = (1.0, 1.0) if is_function_of_rate(optimizer) else (read, scale)
        here = displaced(params, reached, read_scale)

        def add(sums: tuple, step: tuple[Array, Array]) -> tuple:
            total, before = sums
            number, weight = step
            gradient, before, told = read_step(here, before, number)
            return (displaced(total, gradient, weight), before), told

        if size == 1:
            gradient, before, told = read_step(here, before, numbers[0])
            told = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], told)
        else:
            (gradient, before), told = jax.lax.scan(add, (zero, before), (numbers, weights))
        update, state = as_computed(rule_update)(read * scale, gradient, state, here)
        norms = optax.tree.norm(gradient), optax.tree.norm(update) * update_scale
        return (displaced(reached, update, update_scale), state, before), (told, *norms)

    start = zero, state, None if observe is None else zero
    end, (told, gradient_norms, update_norms) = jax.lax.scan(one_group, start, (numbers, scales))
    reached, state, _ = end
    values, aux, observed = jax.tree.map(lambda leaf: leaf.reshape(num_steps, *leaf.shape[2:]), told)
    return Update(reached, state, Info(values, gradient_norms, update_norms, aux, observed))


@contents.compiled(static=("optimizer", "grouping", "reduction", "each", "observe"))
def _update(
    losses: Losses,
    schedule: Schedule,
    optimizer: Rule,
    params: Params,
    state: optax.OptState | None,
    step_size: Scalar | float,
    grouping: Grouping,
    reduction: Reduction,
    each: Callable[[Params], Params] | None,
    observe: Observe | None,
) -> Update:
    made = _walk(
        losses,
        schedule,
        optimizer,
        params,
        state,
        step_size,
        grouping=grouping,
        reduction=reduction,
        each=each,
        observe=observe,
    )
    if is_function_of_rate(optimizer):
        return made
    return made._replace(
        displacement=jax.tree.map(lambda by: jnp.asarray(step_size, by.dtype) * by, made.displacement),
        info=made.info._replace(update_norms=step_size * made.info.update_norms),
    )


@checks.arguments
def sequential(
    losses: Losses,
    schedule: Schedule,
    optimizer: Rule,
    params: Params,
    state: optax.OptState | None = None,
    *,
    step_size: Scalar | float,
    each: Callable[[Params], Params] | None = None,
    observe: Observe | None = None,
) -> Update:
    """One update of the rule per step, every gradient read where the step before it has led.

    For gradient descent: theta_b = theta_{b-1} - step_size * scale_b * grad L_b(theta_{b-1}).

    Args:
        losses: The losses.
        schedule: The steps.
        optimizer: The rule, at learning rate 1 (`optax.sgd(1.0)`), with updates proportional to the rate; any other
            rule as a function of the rate (`lambda rate: optax.fromage(rate)`). What is compiled is kept by the rule
            and what it holds.
        params: The start.
        state: The state of the rule; that of its `init` unless given.
        step_size: The step size epsilon.
        each: What is done to every gradient before the rule sees it; kept as the rule is.
        observe: What to keep of every gradient as it was read, for `info.observed`; kept as the rule is.

    Raises:
        TypeError: If a loss is not a real scalar, or a parameter is not float32 or float64.
        ValueError: If the schedule is empty or names a loss that is not there, or the updates of a rule at learning
            rate 1 are not proportional to the rate.

    Source: claim `m-step`; Smith, Dherin, Barrett & De 2021, section 2.2.
    """
    return _update(losses, schedule, optimizer, params, state, step_size, "step", "sum", each, observe)


@checks.arguments
def accumulated(
    losses: Losses,
    schedule: Schedule,
    optimizer: Rule,
    params: Params,
    state: optax.OptState | None = None,
    *,
    step_size: Scalar | float,
    per: Literal["schedule", "pair"],
    reduction: Reduction,
    each: Callable[[Params], Params] | None = None,
    observe: Observe | None = None,
) -> Update:
    """One update of the rule for all steps of the schedule, or for every two, their gradients read at one place.

    For gradient descent over the schedule: theta - step_size * sum_b scale_b grad L_b(theta); with `reduction="mean"`
    divided by the number of steps. Arguments and errors as for `sequential`, and:

    Args:
        losses: The losses.
        schedule: The steps.
        optimizer: The rule, at learning rate 1 or as a function of the rate (`numerics.rules`).
        params: The start.
        state: The state of the rule; that of its `init` unless given.
        step_size: The step size epsilon.
        per: "schedule" for one update on everything, "pair" for one update for every two steps.
        reduction: Whether gradients are added up or averaged.
        each: What is done to the gradient of every step before it is accumulated; kept as the rule is.
        observe: What to keep of every gradient as it was read, for `info.observed`; kept as the rule is.

    Raises:
        ValueError: If `per` is "pair" and the number of steps is odd.
    """
    group_size(per, len(schedule.losses))
    return _update(losses, schedule, optimizer, params, state, step_size, per, reduction, each, observe)


@checks.arguments
def check(losses: Losses, schedule: Schedule, params: Params, optimizer: Rule | None = None) -> None:
    """Refuses losses, schedules, parameters and rules that no update can be computed for, as `sequential` does.

    Args:
        losses: The losses.
        schedule: The steps.
        params: The start.
        optimizer: The rule; None stands for gradient descent.
    """
    # `arguments` has done it: what stands together is looked at together.
