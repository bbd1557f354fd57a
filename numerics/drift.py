"""Drift: the displacement of an update minus that of its frame; predicted in powers of the step size, and measured.

The prediction is computed in two ways that share no step. `closed_form` writes down the tree sums of gradient descent
with Hessian-vector products and prefix sums. `taylor` knows no tree: it differentiates the update map of any Optax rule
forward in the one scalar that scales the reads of the parameters. `measured` takes the steps. All three refuse a frame
that does not fit (`check_frame`), and a result that is not finite (`causes`).

A drift has coefficients c_1, c_2, c_3: step_size * c_1 + step_size^2 * c_2 + step_size^3 * c_3 + O(step_size^4).
Relative to the accumulated or the pair-accumulated frame, or to the flow, c_1 is zero for gradient descent, where
gradients are added up.

Every function here takes the scales and the brackets of the schedule, and a `reduction`: whether the gradients of an
update are added up or averaged, in the brackets of the schedule and in the frame alike. The flow has the length of the
steps: within a bracket that averages, a loss has its share of the time.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from numerics import causes, checks, contents, flow, rules, updates
from numerics.epoch import Epoch
from numerics.losses import Losses
from numerics.rules import is_function_of_rate
from numerics.schedules import Schedule
from numerics.types import Frame, Order, Params, Reduction, Scalar
from numerics.updates import Grouping, displaced

__all__ = [
    "check_frame",
    "closed_form",
    "evaluate",
    "measured",
    "taylor",
    "taylor_coefficients",
    "unit_drift",
    "unit_parts",
]

_GROUPING: dict[Frame, Grouping] = {"accumulated": "schedule", "pair-accumulated": "pair"}


@checks.arguments
def check_frame(epoch: Epoch, frame: Frame) -> None:
    """Refuses a frame that does not fit an epoch.

    Raises:
        ValueError: If the number of steps is odd in the pair-accumulated frame, or the frame is the flow under another
            rule than gradient descent.
    """
    updates.groups(epoch.word, _GROUPING.get(frame, "step"))
    if frame == "gradient-flow" and not rules.is_gradient_descent(epoch.rule, epoch.params):
        raise ValueError(
            "frame must be start, accumulated or pair-accumulated for this rule; got gradient-flow. The flow of the "
            "losses is the limit of gradient descent at learning rate 1, optax.sgd(1.0); another rule follows another "
            "flow."
        )


def _minus(first: Params, second: Params) -> Params:
    return jax.tree.map(jnp.subtract, first, second)


@checks.arguments
def evaluate(coefficients: tuple[Params, ...], step_size: Scalar | float) -> Params:
    """step_size * c_1 + step_size^2 * c_2 + ..."""

    def total(*leaves: Array) -> Array:
        size = jnp.asarray(step_size, leaves[0].dtype)
        value = leaves[-1]
        for leaf in leaves[-2::-1]:
            value = leaf + size * value
        return size * value

    return jax.tree.map(total, *coefficients)


# Gradient descent by Hessian-vector products --------------------------------------------------------------------------


def _tree_sums(
    losses: Losses, schedule: Schedule, params: Params, grouping: Grouping, order: int
) -> tuple[Params, ...]:
    """The displacement of gradient descent whose gradients are read once per group of steps, by powers.

    With prefix sums S_i = sum s_j g_j and C_i = sum s_j H_j S_j over the groups before that of i:
    c_1 = -sum s_i g_i,  c_2 = sum s_i H_i S_i,  c_3 = -sum s_i (H_i C_i + T_i[S_i, S_i] / 2).
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    numbers, scales = jnp.asarray(schedule.losses), jnp.asarray(schedule.scales).astype(dtype)
    zero = jax.tree.map(jnp.zeros_like, params)

    def one_step(before: tuple[Params, ...], sums: tuple[Params, ...], step: tuple[Array, Array]) -> tuple:
        number, scale = step
        prefix, *corrections = before

        def gradient(at: Params) -> Params:
            return losses.gradient(at, number)

        match order:
            case 1:
                terms = (gradient(params),)
            case 2:
                terms = jax.jvp(gradient, (params,), (prefix,))
            case _:
                # Along the curve start + t S + t^2 C the gradient is g + t H S + t^2 (H C + T[S, S] / 2) + ...
                def along(t: Scalar) -> Params:
                    return gradient(displaced(displaced(params, prefix, t), corrections[0], t * t))

                def first_along(t: Scalar) -> tuple[Params, Params]:
                    return jax.jvp(along, (t,), (jnp.ones_like(t),))

                zero_time = jnp.zeros((), dtype)
                terms, (_, twice) = jax.jvp(first_along, (zero_time,), (jnp.ones_like(zero_time),))
                terms = (*terms, jax.tree.map(lambda leaf: leaf / 2, twice))
        return tuple(displaced(total, term, scale) for total, term in zip(sums, terms, strict=True)), None

    def one_group(before: tuple[Params, ...], group: tuple[Array, Array]) -> tuple:
        if len(group[0]) == 1:
            return one_step(before, before, (group[0][0], group[1][0]))
        return jax.lax.scan(lambda sums, step: one_step(before, sums, step), before, group)[0], None

    sums, start = (zero,) * order, 0
    for size, count in updates.groups(schedule, grouping):
        stop = start + size * count
        words = numbers[start:stop].reshape(count, size), scales[start:stop].reshape(count, size)
        sums, _ = jax.lax.scan(one_group, sums, words)
        start = stop
    signs = (-1.0, 1.0, -1.0)
    return tuple(jax.tree.map(lambda leaf, s=sign: s * leaf, total) for sign, total in zip(signs, sums, strict=False))


@partial(jax.jit, static_argnames=("frame", "order", "reduction"))
def _closed_form(
    losses: Losses, schedule: Schedule, params: Params, frame: Frame, order: int, reduction: Reduction
) -> tuple[Params, ...]:
    def sums(grouping: Grouping, order: int) -> tuple[Params, ...]:
        return _tree_sums(losses, updates.reduced(schedule, grouping, reduction), params, grouping, order)

    displacement = sums("step", order)
    zero = jax.tree.map(jnp.zeros_like, params)
    match frame:
        case "start":
            return displacement
        case "accumulated":  # linear in the step size
            of_frame = (displacement if reduction == "sum" else sums("schedule", 1))[:1] + (zero,) * (order - 1)
        case "pair-accumulated":
            of_frame = sums("pair", order)
        case "gradient-flow":
            of_frame = flow.coefficients(losses, updates.reduced(schedule, "step", reduction), params)[:order]
    first = zero if reduction == "sum" or frame == "gradient-flow" else _minus(displacement[0], of_frame[0])
    return (first, *(_minus(*both) for both in zip(displacement[1:], of_frame[1:], strict=True)))


@checks.arguments
def closed_form(
    losses: Losses, schedule: Schedule, params: Params, *, frame: Frame, order: Order, reduction: Reduction = "sum"
) -> tuple[Params, ...]:
    """The drift of gradient descent by tree sums: m gradients and m Hessian-vector products at second order.

    As many again where the frame has a second order of its own. In the accumulated frame c_2 is the
    correction  C_w = sum over b1 > b2 of s_b1 s_b2 H_b1 g_b2.

    Returns:
        The coefficients c_1 ... c_order; sums over updates. All derivatives are taken at `params`.

    Raises:
        ValueError: If the number of steps is odd in the pair-accumulated frame.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claims `m-step`, `order-three`.
    """
    updates.groups(schedule, _GROUPING.get(frame, "step"))
    coefficients = _closed_form(losses, schedule, params, frame, order, reduction)
    causes.require_finite(coefficients, losses, params)
    return coefficients


# Any rule, by derivatives in the step ---------------------------------------------------------------------------------


@checks.arguments
def unit_parts(
    epoch: Epoch, read_scale: Scalar | float, frame: Frame, reduction: Reduction = "sum"
) -> tuple[updates.Update, Params]:
    """The sequential update and the frame's displacement, both divided by the step size, as functions of `read_scale`.

    To be transformed.
    """

    def update(grouping: Grouping) -> updates.Update:
        # One accumulated update reads the start, whatever the step size; its rate may still be in the rule.
        place = 0.0 if grouping == "schedule" and not is_function_of_rate(epoch.rule) else read_scale
        return updates.unit_displacement(epoch, place, grouping=grouping, reduction=reduction)

    match frame:
        case "start":
            of_frame = jax.tree.map(jnp.zeros_like, epoch.params)
        case "gradient-flow":
            word = updates.reduced(epoch.word, "step", reduction)
            of_frame = flow.unit_displacement(epoch.losses, word, epoch.params, read_scale)
        case _:
            of_frame = update(_GROUPING[frame]).displacement
    return update("step"), of_frame


@checks.arguments
def unit_drift(epoch: Epoch, read_scale: Scalar | float, frame: Frame, reduction: Reduction = "sum") -> Params:
    """The drift divided by the step size, as a function of `read_scale`; to be transformed."""
    sequential, of_frame = unit_parts(epoch, read_scale, frame, reduction)
    return _minus(sequential.displacement, of_frame)


@checks.arguments
def taylor_coefficients(epoch: Epoch, frame: Frame, order: Order, reduction: Reduction = "sum") -> tuple[Params, ...]:
    """The coefficients of `taylor`; to be transformed."""

    def series(grouping: Grouping, order: Order) -> tuple[Params, ...]:
        return updates.series(epoch, grouping=grouping, reduction=reduction, order=order)

    sequential = series("step", order)
    match frame:
        case "start":
            return sequential
        case "gradient-flow":
            word = updates.reduced(epoch.word, "step", reduction)
            of_frame = flow.coefficients(epoch.losses, word, epoch.params)[:order]
        case "accumulated" if not is_function_of_rate(epoch.rule):  # linear in the step size
            return _minus(sequential[0], series("schedule", 1)[0]), *sequential[1:]
        case _:
            of_frame = series(_GROUPING[frame], order)
    return tuple(map(_minus, sequential, of_frame))


_taylor = contents.compiled(static=("frame", "order", "reduction"))(taylor_coefficients)


@checks.arguments
def taylor(epoch: Epoch, *, frame: Frame, order: Order, reduction: Reduction = "sum") -> tuple[Params, ...]:
    """The drift of any rule by forward derivatives in the step: c_1 = D(0), c_2 = D'(0), c_3 = D''(0)/2.

    D(0) is the displacement with frozen gradients; of a function of the rate the derivatives are those of the
    displacement in the rate, at zero. The coefficients mean something where the update map is smooth:
    not with a clip at its threshold, nor with an Adam whose eps is small beside a gradient that changes sign
    (`comparison.compare` looks).

    Args:
        epoch: The epoch; its state is held fixed.
        frame: The reference of the displacement, under the same rule and the same step size.
        order: The highest power of the step size, 1 to 3.
        reduction: Whether the gradients of an update are added up or averaged, in the frame as well.

    Returns:
        The coefficients c_1 ... c_order; sums over updates.

    Raises:
        ValueError: If the frame does not fit the schedule or the rule.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claim `optimizer-map`.
    """
    check_frame(epoch, frame)
    updates.check_expansion(epoch)
    coefficients = _taylor(epoch, frame, order, reduction)
    causes.require_finite(coefficients, epoch.losses, epoch.params, epoch.rule)
    return coefficients


# Real updates ---------------------------------------------------------------------------------------------------------


@contents.compiled(static=("frame", "reduction"))
def _measured(epoch: Epoch, step_size: Scalar | float, frame: Frame, reduction: Reduction) -> Params:
    drift = unit_drift(epoch, step_size, frame, reduction)
    return jax.tree.map(lambda by: jnp.asarray(step_size, by.dtype) * by, drift)


@checks.arguments
def measured(epoch: Epoch, *, step_size: Scalar | float, frame: Frame, reduction: Reduction = "sum") -> Params:
    """The drift of real updates of this step size: sequential displacement minus that of the frame.

    Both are carried in units of the step size, so the cost of round-off is about the machine epsilon over the step
    size, relative to the drift.

    Args:
        epoch: The epoch.
        step_size: The step size epsilon.
        frame: The reference of the displacement, under the same rule and the same step size.
        reduction: Whether the gradients of an update are added up or averaged, in the frame as well.

    Returns:
        The drift, of the structure of the parameters; leading power 2 for gradient descent whose gradients are added
        up, except in the frame "start".

    Raises:
        ValueError: If the frame does not fit the schedule or the rule.
        FloatingPointError: If a gradient is NaN or infinite on the way, or the flow of the frame cannot be integrated.
    """
    check_frame(epoch, frame)
    drift = _measured(epoch, step_size, frame, reduction)
    remedy = flow.REMEDY if frame == "gradient-flow" else ""
    causes.require_finite(drift, epoch.losses, epoch.params, epoch.rule, has_steps=True, remedy=remedy)
    return drift
