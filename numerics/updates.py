"""Update maps: an epoch makes a displacement, the next state of its rule, and readings on the way.

One scan serves all. A schedule is cut into groups of consecutive steps; the gradients of a group are read at one place
and added up, and the rule makes one update of them. Groups of one are sequential updates, groups of two accumulate
every pair, one group accumulates everything, and a word with brackets says its own. The displacement is carried and the
parameters stay where they are: subtracting two parameter trees would lose in float32 exactly the effect that is
measured.

The step size multiplies the updates of a rule at learning rate 1. So the displacement is step_size * D(step_size),
where D(s) is the sum of the rule's updates when every read of the parameters (gradient, weight decay, trust ratio) is
at start + s * (D so far): `unit_displacement` (claim `optimizer-map`). A rule that is a function of the rate
(`numerics.rules`) knows its rate; its displacement is carried as it is.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import groupby
from math import factorial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from numerics import checks, contents, schedules
from numerics.epoch import Epoch
from numerics.rules import at_rate, is_function_of_rate
from numerics.schedules import Schedule
from numerics.traces import abstract, shapes_of, traced
from numerics.types import Order, Params, Reduction, Scalar
from numerics.vector_fields import as_computed

__all__ = [
    "NOT_FINITE",
    "GradientStats",
    "Grouping",
    "Info",
    "Update",
    "accumulated",
    "check_expansion",
    "displaced",
    "groups",
    "reduced",
    "sequential",
    "series",
    "unit_displacement",
]

Grouping: TypeAlias = Literal["step", "pair", "schedule"]
"""The steps whose gradients are accumulated before the rule makes an update.

step      one step, or those of a bracket of the schedule
pair      every two steps, whatever the schedule's brackets are
schedule  all steps
"""

GradientStats: TypeAlias = Callable[[Params, Any], PyTree]
"""Statistics of the gradient of a step, from it and the sum of the gradients of the steps before it (zero at first).

With their inner product the sum over all steps is sum over b < b' of g_b . g_b': of one pair, g+ . g-. With
`has_sums_by_kind` the second argument is a tuple of such sums, one for each kind of loss: their inner products with
the gradients give those of the sums over kinds, whatever the number of steps.
"""

NOT_FINITE = (
    "derivatives must be finite along the schedule. Check the loss at the start, take smaller steps, and give a rule "
    "such as Adam eps_root of at least 1.2e-38: its root has no derivative where a gradient is exactly zero"
)


class Info(NamedTuple):
    """Readings of an update.

    Attributes:
        values: The loss of every step where its gradient was read.
        gradient_norms: The Euclidean norm of the gradient that the rule received, per update of the rule.
        update_norms: The norm of the rule's update, in units of the step size.
        aux: The auxiliary outputs of the losses, per step along the first axis; None where there are none.
        stats: The results of `gradient_stats`, per step along the first axis; None without it.
    """

    values: Float[Array, " m"]
    gradient_norms: Float[Array, " groups"]
    update_norms: Float[Array, " groups"]
    aux: PyTree = None
    stats: PyTree = None


class Update(NamedTuple):
    """The result of an update map.

    Attributes:
        displacement: The change of the parameters, to be added to them; leading power of the step size: 1.
        state: The state of the rule, which the next update needs.
        info: Readings.
    """

    displacement: Params
    state: optax.OptState
    info: Info


@checks.arguments
def displaced(params: Params, displacement: Params, scale: Scalar | float = 1.0) -> Params:
    """params + scale * displacement, every leaf in its own dtype."""
    checks.alike("displacement", displacement, "params", params)
    return jax.tree.map(lambda at, by: at + jnp.asarray(scale, at.dtype) * by, params, displacement)


@checks.arguments
def groups(schedule: Schedule, grouping: Grouping) -> list[tuple[int, int]]:
    """The steps of an update, and how many updates of that size follow one another: (1, 1, 2) are (1, 2), (2, 1).

    Raises:
        ValueError: If the grouping is by pairs and the number of steps is odd.
    """
    num_steps = len(schedule.losses)
    if grouping == "schedule":
        return [(num_steps, 1)]
    if grouping == "step":
        return [(size, sum(1 for _ in same)) for size, same in groupby(schedule.sizes)]
    if num_steps % 2:
        raise ValueError(
            f"schedule must have an even number of steps to be accumulated per pair; got {num_steps}. "
            "Add the missing step, or use the accumulated frame."
        )
    return [(2, num_steps // 2)]


@checks.arguments
def reduced(schedule: Schedule, grouping: Grouping, reduction: Reduction) -> Schedule:
    """The schedule whose sums over groups are these reductions: for "mean" a scale is divided by its group's size.

    The same update for gradient descent alone: another rule may see the size of a gradient.
    """
    if reduction == "sum":
        return schedule
    sizes = np.concatenate([np.full(size * count, size) for size, count in groups(schedule, grouping)])
    return schedule._replace(scales=schedule.scales / sizes.astype(schedule.scales.dtype))


@checks.arguments
def unit_displacement(
    epoch: Epoch,
    read_scale: Scalar | float,
    *,
    grouping: Grouping,
    reduction: Reduction,
    transform_gradient: Callable[[Params], Params] | None = None,
    gradient_stats: GradientStats | None = None,
    has_sums_by_kind: bool = False,
) -> Update:
    """D(s): the displacement in units of the step size when parameters are read at start + s * (D so far).

    D(0) is the displacement with frozen gradients; step_size * D(step_size) is the update itself. For a function of the
    rate D(s) is the displacement at that rate, divided by it; it has no value at zero (`series` has the limit). To be
    transformed.

    Args:
        epoch: The epoch. A scale of its schedule multiplies the update of its step; within a group it weighs the
            gradient.
        read_scale: The scalar s above.
        grouping: The number of steps whose gradients are accumulated.
        reduction: Whether the gradients of a group are added up or averaged.
        transform_gradient: A function of the gradient of every step before it is accumulated, such as a clip.
        gradient_stats: Statistics of the gradient of every step as it was read; they cost the memory of one more tree.
        has_sums_by_kind: Whether they get the sum of the gradients before by kind of loss; one tree for each.
    """
    update = _walk(epoch, read_scale, grouping, reduction, transform_gradient, gradient_stats, has_sums_by_kind)
    if not is_function_of_rate(epoch.rule):
        return update
    displacement, norms = jax.tree.map(lambda leaf: leaf / read_scale, (update.displacement, update.info.update_norms))
    return update._replace(displacement=displacement, info=update.info._replace(update_norms=norms))


@checks.arguments
def series(epoch: Epoch, *, grouping: Grouping, reduction: Reduction, order: Order) -> tuple[Params, ...]:
    """The coefficients of step_size, step_size^2, ... of an update, by forward derivatives in the step size at zero.

    To be transformed. `order` is the highest power; `unit_displacement` has the other arguments.
    """
    first = int(is_function_of_rate(epoch.rule))  # such a displacement is not divided by its rate
    return _derivatives(epoch, grouping=grouping, reduction=reduction, order=order - 1 + first)[first:]


def _derivatives(
    epoch: Epoch, *, grouping: Grouping, reduction: Reduction, order: int, at: float = 0.0
) -> tuple[Params, ...]:
    """The derivatives 0 ... order of `_walk` in the step size, over their factorials."""

    def expansion(order: int, size: Scalar) -> tuple[Params, ...]:
        """(f, f', ..., the derivative of this order): one pass, compiled once."""
        if order == 0:
            return (_walk(epoch, size, grouping, reduction).displacement,)
        values, derivatives = jax.jvp(partial(expansion, order - 1), (size,), (jnp.ones_like(size),))
        return (*values, derivatives[-1])

    derivatives = expansion(order, jnp.asarray(at, jnp.result_type(*jax.tree.leaves(epoch.params))))
    return tuple(
        jax.tree.map(lambda leaf, k=k: leaf / factorial(k), derivative) for k, derivative in enumerate(derivatives)
    )


NEXT_TO_ZERO = 1e-6  # a rate at which a smooth rule is as at zero but for some millionths


@jax.jit
def _next_to_zero(epoch: Epoch) -> tuple[Scalar, Float[Array, " 3"], Float[Array, " 3"]]:
    """The length of the displacement at rate zero, |c_k| there, and the distance of c_k from that next to zero."""

    def series(at: float) -> tuple[Params, ...]:
        return _derivatives(epoch, grouping="step", reduction="sum", order=3, at=at)

    displacement, *zero = series(0.0)
    _, *near = series(NEXT_TO_ZERO)
    jumps = [optax.tree.norm(jax.tree.map(jnp.subtract, *both)) for both in zip(zero, near, strict=True)]
    return optax.tree.norm(displacement), jnp.stack([*map(optax.tree.norm, zero)]), jnp.stack(jumps)


@checks.arguments
def check_expansion(epoch: Epoch) -> None:
    """Refuses a function of the rate that has no expansion in the rate at zero; its updates can still be measured.

    Raises:
        ValueError: If the rule moves the parameters at rate zero, or one of the first three derivatives is not finite
            or jumps there.
    """
    _ = epoch.word  # refuses a random schedule
    if not is_function_of_rate(epoch.rule):
        return
    remedy = "Its updates can be measured, with `updates` and `drift.measured`, and not predicted"
    length, sizes, jumps = map(np.asarray, _next_to_zero(epoch))
    if not length == 0:
        raise ValueError(
            f"a rule must leave the parameters alone at rate 0; this one moves them by {length:.3g}. {remedy}."
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


def _check_of_gradients(
    params: Params,
    transform_gradient: Callable[[Params], Params] | None,
    gradient_stats: GradientStats | None,
    num_sums: int | None,
) -> None:
    """Refuses functions of the gradient that do not return one, or nothing that JAX can keep."""
    like = shapes_of(params)
    tree = abstract(like)
    sums = tree if num_sums is None else (tree,) * num_sums
    takes = "2 trees" if num_sums is None else f"a tree and a tuple of {num_sums}"
    functions = (
        ("transform_gradient", transform_gradient, (tree,), "1 tree"),
        ("gradient_stats", gradient_stats, (tree, sums), takes),
    )
    for name, function, arguments, what in functions:
        if function is None:
            continue
        try:
            out = traced(function, *arguments)
        except Exception as error:
            raise TypeError(
                f"{name} must take {what} like params and return arrays; got {type(error).__name__}: "
                f"{checks.first_line(error)}"
            ) from error
        if name == "transform_gradient" and shapes_of(out) != like:
            raise TypeError(f"{name} must return a gradient of the structure, shapes and dtypes of params; got {out}.")


def _walk(
    epoch: Epoch,
    read_scale: Scalar | float,
    grouping: Grouping,
    reduction: Reduction,
    transform_gradient: Callable[[Params], Params] | None = None,
    gradient_stats: GradientStats | None = None,
    has_sums_by_kind: bool = False,
) -> Update:
    """The steps; in units of the step size unless the rule is a function of it."""
    losses, schedule, rule, params, state = epoch.losses, epoch.word, epoch.rule, epoch.params, epoch.state
    num_sums = len(losses.counts) if has_sums_by_kind else None
    _check_of_gradients(params, transform_gradient, gradient_stats, num_sums)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    read_scale = jnp.asarray(read_scale, dtype)
    if state is None:
        state = at_rate(rule, read_scale).init(params)
    all_numbers, all_scales = jnp.asarray(schedule.losses), jnp.asarray(schedule.scales).astype(dtype)
    zero = jax.tree.map(jnp.zeros_like, params)

    def rule_update(rate: Scalar, gradient: Params, state: optax.OptState, here: Params) -> tuple:
        return at_rate(rule, rate).update(gradient, state, here)

    ends = np.cumsum(losses.counts)  # of the numbers of the losses of each kind

    def with_gradient(before: PyTree, gradient: Params, number: Array) -> PyTree:
        """The sum of all gradients so far, or those of each kind."""
        if num_sums is None:
            return displaced(before, gradient)
        kind = jnp.sum(number >= jnp.asarray(ends))
        return tuple(displaced(total, gradient, (kind == place).astype(dtype)) for place, total in enumerate(before))

    def one_step(here: Params, before: PyTree, number: Array) -> tuple[Params, PyTree, tuple]:
        """The gradient of one step, the sums so far, and the readings."""
        value, gradient, aux = losses.value_gradient_and_aux(here, number)
        stats = None
        if gradient_stats is not None:
            stats, before = gradient_stats(gradient, before), with_gradient(before, gradient, number)
        return gradient if transform_gradient is None else transform_gradient(gradient), before, (value, aux, stats)

    def one_group(carry: tuple, group: tuple[Array, Array]) -> tuple:
        reached, state, before = carry
        numbers, scales = group
        size = len(numbers)
        # The step of an accumulated update is the mean of its scales, so that the rule sees weights of mean one: a
        # group of one keeps its gradient as it is, and for gradient descent sum and scale come to the same.
        scale = jnp.mean(scales)
        weights = scales / scale if reduction == "sum" else scales / (scale * size)
        # With the rate in the rule, the displacement is not in units of it.
        place_scale, update_scale = (1.0, 1.0) if is_function_of_rate(rule) else (read_scale, scale)
        here = displaced(params, reached, place_scale)

        def add(sums: tuple, step: tuple[Array, Array]) -> tuple:
            total, before = sums
            number, weight = step
            gradient, before, readings = one_step(here, before, number)
            return (displaced(total, gradient, weight), before), readings

        if size == 1:
            gradient, before, readings = one_step(here, before, numbers[0])
            readings = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], readings)
        else:
            (gradient, before), readings = jax.lax.scan(add, (zero, before), (numbers, weights))
        update, state = as_computed(rule_update)(read_scale * scale, gradient, state, here)
        norms = optax.tree.norm(gradient), optax.tree.norm(update) * update_scale
        return (displaced(reached, update, update_scale), state, before), (readings, *norms)

    carry = zero, state, None if gradient_stats is None else zero if num_sums is None else (zero,) * num_sums
    parts, start = [], 0
    for size, count in groups(schedule, grouping):
        stop = start + size * count
        words = all_numbers[start:stop].reshape(count, size), all_scales[start:stop].reshape(count, size)
        carry, (readings, *norms) = jax.lax.scan(one_group, carry, words)
        parts.append((jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), readings), *norms))
        start = stop
    (values, aux, stats), gradient_norms, update_norms = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return Update(carry[0], carry[1], Info(values, gradient_norms, update_norms, aux, stats))


@contents.compiled(static=("grouping", "reduction", "transform_gradient", "gradient_stats", "has_sums_by_kind"))
def _update(
    epoch: Epoch,
    step_size: Scalar | float,
    grouping: Grouping,
    reduction: Reduction,
    transform_gradient: Callable[[Params], Params] | None,
    gradient_stats: GradientStats | None,
    has_sums_by_kind: bool,
) -> Update:
    update = _walk(epoch, step_size, grouping, reduction, transform_gradient, gradient_stats, has_sums_by_kind)
    if is_function_of_rate(epoch.rule):
        return update
    return update._replace(
        displacement=jax.tree.map(lambda by: jnp.asarray(step_size, by.dtype) * by, update.displacement),
        info=update.info._replace(update_norms=step_size * update.info.update_norms),
    )


@checks.arguments
def sequential(
    epoch: Epoch,
    *,
    step_size: Scalar | float,
    reduction: Reduction = "sum",
    transform_gradient: Callable[[Params], Params] | None = None,
    gradient_stats: GradientStats | None = None,
    has_sums_by_kind: bool = False,
) -> Update:
    """One update of the rule per step, or per bracket; its gradients are read at the place that the one before reached.

    For gradient descent: theta_b = theta_{b-1} - step_size * scale_b * grad L_b(theta_{b-1}).

    Args:
        epoch: The epoch.
        step_size: The step size epsilon.
        reduction: Whether the gradients within a bracket of the schedule are added up or averaged; a step without
            brackets is the same either way.
        transform_gradient: A function of every gradient before the rule receives it; compiled with the rule.
        gradient_stats: Statistics of every gradient as it was read, for `info.stats`; compiled with the rule.
        has_sums_by_kind: Whether they get the sum of the gradients before by kind of loss.

    Source: claim `m-step`; Smith, Dherin, Barrett & De 2021, section 2.2.
    """
    return _update(epoch, step_size, "step", reduction, transform_gradient, gradient_stats, has_sums_by_kind)


@checks.arguments
def accumulated(
    epoch: Epoch,
    *,
    step_size: Scalar | float,
    per: Literal["schedule", "pair"] | int,
    reduction: Reduction,
    transform_gradient: Callable[[Params], Params] | None = None,
    gradient_stats: GradientStats | None = None,
    has_sums_by_kind: bool = False,
) -> Update:
    """One update of the rule for all steps of the schedule, for every two, or for every k, read at one place.

    For gradient descent over the schedule: theta - step_size * sum_b scale_b grad L_b(theta); with `reduction="mean"`
    divided by the number of steps. `per` is "schedule", "pair", or the number of steps of an update.
    `transform_gradient` comes before the sum. Other arguments as for `sequential`.

    Raises:
        ValueError: If the number of steps is no multiple of the steps that `per` accumulates.
    """
    grouping: Grouping = "step"
    if isinstance(per, str):
        grouping = per
    elif len(epoch.word.losses) % per:
        raise ValueError(f"per must divide the {len(epoch.word.losses)} steps of schedule; got {per}.")
    else:
        epoch = replace(epoch, schedule=schedules.grouped(epoch.word, per))
    groups(epoch.word, grouping)
    return _update(epoch, step_size, grouping, reduction, transform_gradient, gradient_stats, has_sums_by_kind)
