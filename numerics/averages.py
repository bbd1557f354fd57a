"""Means of the drift over random schedules of pairs: in O(n), by enumeration, and by sampling.

Every mean of the second-order correction that is worth a name has one form: loss b contributes its Hessian times a
combination of four vectors, the total gradient of its own side and of the other, its own gradient and that of its
partner. So one pass of Hessian-vector products, one per loss, is enough; the schedule only chooses the weights. Losses
that are not pairs are refused, and results that are not finite (`causes`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from numerics import causes, checks, random_schedules
from numerics.losses import Losses
from numerics.random_schedules import RandomSchedule, Words
from numerics.schedules import Schedule
from numerics.types import Frame, Params, Reduction
from numerics.updates import displaced

__all__ = [
    "Estimate",
    "Terms",
    "closed_form",
    "exact_mean",
    "has_closed_form",
    "mean_over",
    "sample_mean",
    "terms",
]


# The second order in O(n) ---------------------------------------------------------------------------------------------


class _Weights(NamedTuple):
    """Weights of four gradients: the Hessian of a loss is applied to their combination."""

    own_side: float
    other_side: float
    own: float
    partner: float


def _weights_per_pair(schedule: RandomSchedule, num_pairs: int) -> _Weights:
    """The weights where every two steps that stand together are one update."""
    match schedule.pairs:
        # Per pair there are as many places before as after, and nothing comes from within a pair.
        case "joint":
            return _Weights(0.5, 0.5, -0.5, -0.5)
        case "independent":
            return _Weights(0.5, (num_pairs - 1) / (2 * num_pairs), -0.5, 0.0)
        case _:  # any two losses may come to stand together, and such a pair accumulates nothing
            share = (1 - 1 / (2 * num_pairs - 1)) / 2
            return _Weights(share, share, -share, 0.0)


def _weights_of_steps(schedule: RandomSchedule, num_pairs: int) -> tuple[_Weights, _Weights]:
    """The weights for an L- and for an L+ in the displacement itself, gradients added up.

    In a uniform order any two different places are equally likely to hold any two different members, so a sum over
    earlier steps becomes half of the sum over all of them, but for the partner: it comes before the loss or after it as
    the start says. Independent permutations have no partners; the start then decides on one place more or less.
    """
    if not has_closed_form(schedule):
        raise ValueError(
            "schedule must have permuted pairs, and updates per step or per pair, for a mean in O(n); got "
            f"pairs={schedule.pairs!r}, per={schedule.per}. Use drift.closed_form for a word, or `exact_mean`."
        )
    if schedule.per == 2:
        return _weights_per_pair(schedule, num_pairs), _weights_per_pair(schedule, num_pairs)
    n = num_pairs
    half = _Weights(0.5, 0.5, -0.5, 0.0)
    # The place of the own pair: 1 if the other side is there before, 0 if after, 1/2 if a coin decides.
    before = {"-": (0.0, 1.0), "+": (1.0, 0.0)}.get(cast("str", schedule.start), (0.5, 0.5))
    match schedule.pairs:
        case "all":
            return half, half
        case "joint":
            minus, plus = (_Weights(0.5, 0.5, -0.5, place - 0.5) for place in before)
        case _:
            minus, plus = (_Weights(0.5, ((n - 1) / 2 + place) / n, -0.5, 0.0) for place in before)
    return minus, plus


def _weights(
    schedule: RandomSchedule, num_pairs: int, frame: Frame, reduction: Reduction
) -> tuple[float, tuple[_Weights, _Weights]]:
    """The weight of all gradients at first order; and at second order the weights for an L- and for an L+."""
    # Where updates average, every step is shorter by the size of its update.
    share = 1 / schedule.per if reduction == "mean" else 1.0
    match frame:
        case "start":
            share_of_frame, of_frame = 0.0, _Weights(0.0, 0.0, 0.0, 0.0)
        case "accumulated":  # one accumulated update has no second order
            share_of_frame, of_frame = 1 / (2 * num_pairs), _Weights(0.0, 0.0, 0.0, 0.0)
        case "pair-accumulated":
            share_of_frame, of_frame = 1 / 2, _weights_per_pair(schedule, num_pairs)
        case "gradient-flow":
            share_of_frame, of_frame = share, _Weights(0.5, 0.5, 0.0, 0.0)
    if reduction == "sum" and frame != "start":
        share_of_frame = 1.0

    def difference(of_steps: _Weights) -> _Weights:
        return _Weights(*(share**2 * a - share_of_frame**2 * b for a, b in zip(of_steps, of_frame, strict=True)))

    minus, plus = map(difference, _weights_of_steps(schedule, num_pairs))
    return share - share_of_frame, (minus, plus)


@checks.arguments
def has_closed_form(schedule: RandomSchedule) -> bool:
    """Whether `closed_form` knows a mean: pairs are permuted, and an update is one step or two."""
    return schedule.pairs != "fixed" and schedule.per <= 2


def _combined(weights: Sequence[float] | Float[Array, " terms"], trees: Sequence[Params]) -> Params:
    return jax.tree.map(lambda *leaves: sum(w * leaf for w, leaf in zip(weights, leaves, strict=True)), *trees)


def _side_totals(losses: Losses, params: Params) -> tuple[Params, Params]:
    """The sums of the gradients of each side."""
    return losses.sum_over_pairs(lambda k: losses.pair_gradients(params, k))


def _linearized(losses: Losses, params: Params, k: Int[Array, ""]) -> tuple[Params, Params, Callable]:
    """g-_k, g+_k, and (v, w) -> (H-_k v, H+_k w): the Hessians of both at the cost of one pass each."""

    def gradients(at_minus: Params, at_plus: Params) -> tuple[Params, Params]:
        return losses.gradient(at_minus, k), losses.gradient(at_plus, losses.num_pairs + k)

    (minus, plus), hvp = jax.linearize(gradients, params, params)
    return minus, plus, hvp


@jax.jit
def _closed_form(
    losses: Losses, params: Params, scales: Float[Array, " 2"], weights: tuple[Float[Array, " 4"], Float[Array, " 4"]]
) -> tuple[Params, Params]:
    """The mean displacement in powers 1 and 2; the weights are data, so all orders and frames share one program."""
    minus, plus = _side_totals(losses, params)
    for_minus, for_plus = weights
    by_minus, by_plus = scales[0], scales[1]
    # A step of scale s on a loss is a step on s times the loss.
    minus_first, plus_first = scales[jnp.array([0, 1, 0, 1])], scales[jnp.array([1, 0, 1, 0])]

    def add(total: Params, k: Int[Array, ""]) -> tuple[Params, None]:
        own_minus, own_plus, hvp = _linearized(losses, params, k)
        both = hvp(
            _combined(by_minus * minus_first * for_minus, (minus, plus, own_minus, own_plus)),
            _combined(by_plus * plus_first * for_plus, (plus, minus, own_plus, own_minus)),
        )
        return jax.tree.map(lambda t, a, b: t + a + b, total, *both), None

    zero = jax.tree.map(jnp.zeros_like, params)
    correction, _ = jax.lax.scan(add, zero, jnp.arange(losses.num_pairs))
    return _combined(-scales, (minus, plus)), correction


@checks.arguments
def closed_form(
    losses: Losses, schedule: RandomSchedule, params: Params, *, frame: Frame, reduction: Reduction = "sum"
) -> tuple[Params, Params]:
    """The mean drift of one epoch of gradient descent to second order: 2n Hessian-vector products, whatever the order.

    In the pair-accumulated frame the frame's pairs are those that stand together.

    Args:
        losses: The n pairs.
        schedule: The random schedule, with its scales and its updates of one step or two.
        params: The start.
        frame: The reference of the displacement.
        reduction: Whether the gradients of an update are added up or averaged, in the frame as well.

    Returns:
        c_1 and c_2, the mean coefficients of step_size and step_size^2; sums over the updates.

    Raises:
        ValueError: If the pairs are not permuted, or an update has more than two steps.

    Source: claims `eq-1`, `boxed`, `interleaving-is-reshuffling`.
    """
    dtype = jnp.result_type(*jax.tree.leaves(params))
    share, weights = _weights(schedule, losses.num_pairs, frame, reduction)
    for_minus, for_plus = (jnp.asarray(w, dtype) for w in weights)
    displacement, second = _closed_form(losses, params, jnp.asarray(schedule.scales, dtype), (for_minus, for_plus))
    first = jax.tree.map(lambda leaf: share * leaf, displacement)
    causes.require_finite((first, second), losses, params)
    return first, second


class Terms(NamedTuple):
    """The terms of the post's eq. (1), as coefficients of step_size^2: its right side times B^2.

    With joint permutations of the pairs the mean correction is of_mean + of_spread + fixed_start where L-
    begins; where a coin decides, boxed takes the place of fixed_start. Where a loss is a field that is no gradient
    (`fields`), H is its Jacobian, `grad |g|^2 / 2` is read as H g, and the sums are right all the same.

    Attributes:
        of_mean: (B - 2)/(4B) grad |mean gradient|^2, times B^2.
        of_spread: -1/(2B) grad E |grad M_k - mean gradient|^2, times B^2; M_k is the mean of a pair.
        fixed_start: 1/(2B) E[H+_k g-_k], times B^2.
        boxed: 1/(4B) grad E[g-_k . g+_k], times B^2.
    """

    of_mean: Params
    of_spread: Params
    fixed_start: Params
    boxed: Params


@jax.jit
def _terms(losses: Losses, params: Params) -> Terms:
    minus, plus = _side_totals(losses, params)
    total = displaced(minus, plus)

    def products(k: Int[Array, ""]) -> tuple[Params, ...]:
        own_minus, own_plus, hvp = _linearized(losses, params, k)
        pair = displaced(own_minus, own_plus)
        return displaced(*hvp(total, total)), displaced(*hvp(pair, pair)), *hvp(own_plus, own_minus)

    of_total, of_pairs, minus_plus, plus_minus = losses.sum_over_pairs(products)
    num_steps = 2 * losses.num_pairs
    return Terms(
        of_mean=_combined(((num_steps - 2) / (2 * num_steps),), (of_total,)),
        of_spread=_combined((1 / num_steps, -0.5), (of_total, of_pairs)),
        fixed_start=plus_minus,
        boxed=_combined((0.5, 0.5), (minus_plus, plus_minus)),
    )


@checks.arguments
def terms(losses: Losses, params: Params) -> Terms:
    """Each term of eq. (1) and the boxed term by itself: 6n Hessian-vector products.

    Raises:
        ValueError: If the losses are not pairs.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claims `eq-1`, `boxed`.
    """
    result = _terms(losses, params)
    causes.require_finite(result, losses, params)
    return result


# Functions of a schedule ----------------------------------------------------------------------------------------------


@checks.arguments
def mean_over(function: Callable[[Schedule], Params], words: Words) -> Params:
    """The mean of a function of the schedule over words; to be transformed."""
    word = words.schedule.word

    def add(carry: tuple[Params, Params], chunk: Words) -> tuple[tuple[Params, Params], None]:
        # Kahan's sum: over thousands of words a plain float32 sum would be wrong by more than the third order.
        total, lost = carry
        values = jax.vmap(lambda numbers: function(word(numbers)))(chunk.numbers)
        new = jax.tree.map(lambda v, low: jnp.tensordot(chunk.weights.astype(v.dtype), v, axes=1) - low, values, lost)
        after = jax.tree.map(jnp.add, total, new)
        lost = jax.tree.map(lambda high, before, n: (high - before) - n, after, total, new)
        return (after, lost), None

    # A new function, for JAX keeps traces by function, and this one may compute something else by now.
    shape = jax.eval_shape(lambda numbers: function(word(numbers)), words.numbers[0, 0])
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    return jax.lax.scan(add, (zero, zero), words)[0][0]


@checks.arguments
def exact_mean(function: Callable[[Schedule], Params], schedule: RandomSchedule, num_pairs: int) -> Params:
    """The exact mean of a function over all words, such as `lambda schedule: drift.unit_drift(...)`.

    The function goes from a schedule, with the scales and the brackets of the random one, to a tree; it will be
    vectorised over words. May be called inside `jit`; calls outside compile the function anew. Refused where there are
    too many words.
    """
    return mean_over(function, random_schedules.chunks(schedule, num_pairs))


class Estimate(NamedTuple):
    """A mean over words drawn at random.

    Attributes:
        mean: Unbiased.
        standard_error: Of the mean, coordinate by coordinate: sample standard deviation / sqrt(number of words).
    """

    mean: Params
    standard_error: Params


@checks.arguments
def sample_mean(
    function: Callable[[Schedule], Params],
    schedule: RandomSchedule,
    num_pairs: int,
    key: PRNGKeyArray,
    *,
    num_samples: int,
) -> Estimate:
    """The mean of a function over independent random words, for any number of pairs.

    The function goes from a schedule, with the scales and the brackets of the random one, to a tree. There are two
    words at least: one has no spread.
    """

    def add(carry: tuple[Params, Params, Array], key: PRNGKeyArray) -> tuple[tuple[Params, Params, Array], None]:
        mean, squares, count = carry  # Welford's recurrence: no difference of large sums
        value = function(random_schedules.sample(schedule, num_pairs, key))
        count = count + 1
        before = jax.tree.map(jnp.subtract, value, mean)
        mean = jax.tree.map(lambda m, d: m + d / count.astype(m.dtype), mean, before)
        squares = jax.tree.map(lambda s, d, v, m: s + d * (v - m), squares, before, value, mean)
        return (mean, squares, count), None

    shape = jax.eval_shape(lambda k: function(random_schedules.sample(schedule, num_pairs, k)), key)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    start = zero, zero, jnp.zeros((), jnp.int32)
    (mean, squares, _), _ = jax.lax.scan(add, start, jax.random.split(key, num_samples))
    return Estimate(mean, jax.tree.map(lambda s: jnp.sqrt(s / (num_samples * (num_samples - 1))), squares))
