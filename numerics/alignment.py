"""Alignment: the inner product g+ . g- of the two gradients, and its change by an update.

Two numbers go by that name and behave differently (claim `bias-sign`): the mean over pairs E_k[g+_k . g-_k], and the
product of the mean gradients. Both are about pairs of losses; others are refused, and results that are not finite
(`causes`).
"""

from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from numerics import causes, checks, contents, schedules, updates
from numerics.epoch import Epoch
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import Params, Reduction, Scalar
from numerics.updates import Grouping, displaced

__all__ = ["Alignment", "Change", "Quantity", "Split", "change", "measured", "of_gradients", "of_products", "split"]

Quantity: TypeAlias = Literal["pair-mean", "mean-gradients"]
"""E_k[g+_k . g-_k], or (E_k g+_k) . (E_k g-_k)."""


def _product(first: Params, second: Params) -> Scalar:
    return jnp.asarray(optax.tree.vdot(first, second))


class Alignment(NamedTuple):
    """Inner product, cosine and norms of two gradients. NaN where a gradient is zero: there is no angle.

    Attributes:
        product: g+ . g-.
        cosine: product / (|g+| |g-|).
        norm_minus: |g-|.
        norm_plus: |g+|.
        ratio_minus: product / |g-|^2, the entanglement ratio against the dispreferred side.
        ratio_plus: product / |g+|^2, against the preferred side. With L+ = -log pi(y+) and L- = log pi(y-) the
            gradients of the two log-likelihoods are -g+ and g-: their product, which Yuan et al. set against the
            squared norms, is minus this one, and so are both ratios.
    """

    product: Scalar
    cosine: Scalar
    norm_minus: Scalar
    norm_plus: Scalar
    ratio_minus: Scalar
    ratio_plus: Scalar


@checks.arguments
def of_gradients(minus: Params, plus: Params) -> Alignment:
    """The alignment of two gradients, over all parameters together.

    Source: claim `entanglement`; Yuan et al. 2024 (2410.13828).
    """
    checks.alike("plus", plus, "minus", minus)
    return of_products(_product(minus, plus), jnp.asarray(optax.tree.norm(minus)), jnp.asarray(optax.tree.norm(plus)))


@checks.arguments
def of_products(product: Scalar, norm_minus: Scalar, norm_plus: Scalar) -> Alignment:
    """The alignment of two gradients of this inner product and these norms."""
    cosine = product / (norm_minus * norm_plus)
    return Alignment(product, cosine, norm_minus, norm_plus, product / norm_minus**2, product / norm_plus**2)


def _side_means(losses: Losses, params: Params) -> tuple[Params, Params]:
    sums = losses.sum_over_pairs(lambda k: losses.pair_gradients(params, k))
    minus, plus = jax.tree.map(lambda leaf: leaf / losses.num_pairs, sums)
    return minus, plus


@checks.arguments
@jax.jit
def measured(losses: Losses, params: Params) -> tuple[Alignment, Alignment]:
    """The alignment of the mean gradients, and of every pair (fields of shape [n]).

    Source: claims `entanglement`, `bias-sign`.
    """
    each = jax.lax.map(lambda k: of_gradients(*losses.pair_gradients(params, k)), jnp.arange(losses.num_pairs))
    return of_gradients(*_side_means(losses, params)), each


# Its cause ------------------------------------------------------------------------------------------------------------


class Split(NamedTuple):
    """E_k[H+_k g-_k] = gradient_part + bracket: the effect of a fixed start with L-, per pair and step_size^2.

    Attributes:
        gradient_part: E_k[H+_k g-_k + H-_k g+_k] / 2, which a random start keeps. For losses it is
            grad E_k[g+_k . g-_k] / 2; where `stop_gradient` makes g a field that is no gradient, H is its Jacobian and
            this need not be a gradient.
        bracket: E_k[H+_k g-_k - H-_k g+_k] / 2, which changes sign with the start and is in general no gradient.
    """

    gradient_part: Params
    bracket: Params


@jax.jit
def _split(losses: Losses, params: Params) -> Split:
    n = losses.num_pairs

    def products(k: Int[Array, ""]) -> tuple[Params, Params]:
        minus, plus = losses.pair_gradients(params, k)
        _, minus_plus = jax.jvp(lambda at: losses.gradient(at, k), (params,), (plus,))
        _, plus_minus = jax.jvp(lambda at: losses.gradient(at, n + k), (params,), (minus,))
        return minus_plus, plus_minus

    minus_plus, plus_minus = losses.sum_over_pairs(products)
    return Split(
        jax.tree.map(lambda a, b: (a + b) / (2 * n), plus_minus, minus_plus),
        jax.tree.map(lambda a, b: (a - b) / (2 * n), plus_minus, minus_plus),
    )


@checks.arguments
def split(losses: Losses, params: Params) -> Split:
    """The gradient part and the bracket of E_k[H+_k g-_k], a mean over pairs.

    Raises:
        ValueError: If the losses are not pairs.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claims `fixed-start`, `bracket-curl`.
    """
    parts = _split(losses, params)
    causes.require_finite(parts, losses, params)
    return parts


# Its change by an update ----------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """The change of an alignment by one run through a schedule.

    Attributes:
        measured: The change that real updates make.
        first: Its coefficient of step_size: grad(alignment) . c_1.
        of_first_order: The part of the coefficient of step_size^2 that a straight path c_1 has: half its second
            derivative along c_1.
        of_gradient_part: The part that the mean of c_2 over the schedule and its reversal makes. For sequential
            gradient descent with equal steps that mean is the gradient [(sum H)(sum g) - sum H_b g_b] / 2, whatever
            the order; under a rule with memory it need not be a gradient.
        of_bracket: The part that the other half of c_2 makes, which changes sign when the schedule is reversed. For
            gradient descent: half a sum of brackets.
    """

    measured: Scalar
    first: Scalar
    of_first_order: Scalar
    of_gradient_part: Scalar
    of_bracket: Scalar

    @property
    def second(self) -> Scalar:
        """The coefficient of step_size^2."""
        return self.of_first_order + self.of_gradient_part + self.of_bracket

    @checks.arguments
    def predicted(self, step_size: Scalar | float) -> Scalar:
        """The change to second order; the remainder is O(step_size^3)."""
        return step_size * self.first + step_size**2 * self.second


def _value(losses: Losses, params: Params, quantity: Quantity) -> Scalar:
    if quantity == "mean-gradients":
        return _product(*_side_means(losses, params))

    return losses.sum_over_pairs(lambda k: _product(*losses.pair_gradients(params, k))) / losses.num_pairs


def _difference(losses: Losses, params: Params, displacement: Params, quantity: Quantity) -> Scalar:
    """The change of the alignment, from changes of gradients: no difference of two nearly equal products."""
    there = displaced(params, displacement)

    def products(before: tuple[Params, Params], after: tuple[Params, Params]) -> Scalar:
        (minus, plus), changes = before, [jax.tree.map(jnp.subtract, a, b) for a, b in zip(after, before, strict=True)]
        return _product(changes[0], plus) + _product(minus, changes[1]) + _product(changes[0], changes[1])

    if quantity == "mean-gradients":
        return products(_side_means(losses, params), _side_means(losses, there))

    def of_pair(k: Int[Array, ""]) -> Scalar:
        return products(losses.pair_gradients(params, k), losses.pair_gradients(there, k))

    return losses.sum_over_pairs(of_pair) / losses.num_pairs


@contents.compiled(static=("grouping", "quantity", "reduction"))
def _change(
    epoch: Epoch, step_size: Scalar | float, grouping: Grouping, quantity: Quantity, reduction: Reduction
) -> Change:
    losses, params = epoch.losses, epoch.params

    def series(schedule: Schedule) -> tuple[Params, ...]:
        return updates.series(replace(epoch, schedule=schedule), grouping=grouping, reduction=reduction, order=2)

    zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
    one = jnp.ones_like(zero)
    first, second = series(epoch.word)
    _, mirrored = series(schedules.reverse(epoch.word))

    def along(direction: Params, at: Scalar) -> Scalar:
        return _value(losses, displaced(params, direction, at), quantity)

    def slope(direction: Params, at: Scalar) -> Scalar:
        return jax.jvp(lambda t: along(direction, t), (at,), (one,))[1]

    of_first, curvature = jax.jvp(lambda t: slope(first, t), (zero,), (one,))
    size = jnp.asarray(step_size, zero.dtype)
    unit = updates.unit_displacement(epoch, size, grouping=grouping, reduction=reduction)
    real = jax.tree.map(lambda by: size * by, unit.displacement)
    return Change(
        measured=_difference(losses, params, real, quantity),
        first=of_first,
        of_first_order=curvature / 2,
        of_gradient_part=slope(jax.tree.map(lambda a, b: (a + b) / 2, second, mirrored), zero),
        of_bracket=slope(jax.tree.map(lambda a, b: (a - b) / 2, second, mirrored), zero),
    )


@checks.arguments
def change(
    epoch: Epoch,
    *,
    step_size: Scalar | float,
    grouping: Grouping,
    quantity: Quantity,
    reduction: Reduction = "sum",
) -> Change:
    """The change of an alignment under an update, predicted to second order and measured.

    Args:
        epoch: The epoch; its losses are n pairs.
        step_size: The step size of the measured update.
        grouping: "step" for sequential updates, "pair" or "schedule" for accumulated ones.
        quantity: The alignment: "pair-mean" or "mean-gradients", both over all n pairs. Scales do not enter it.
        reduction: Whether the gradients of an update are added up or averaged.

    Raises:
        ValueError: If the losses are not pairs, or the number of steps does not fit the grouping.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claim `bias-sign`.
    """
    updates.groups(epoch.word, grouping)
    _ = epoch.losses.num_pairs
    updates.check_expansion(epoch)
    result = _change(epoch, step_size, grouping, quantity, reduction)
    causes.require_finite(result, epoch.losses, epoch.params, epoch.rule, has_steps=True)
    return result
