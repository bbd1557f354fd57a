"""Means of the drift over random orders of the pairs: in O(n), by enumeration, and sampled.

Every mean of the second-order correction that is worth a name has one form: loss b contributes its Hessian times a
combination of four vectors, the total gradient of its own side and of the other, its own gradient and that of its
partner. So one pass of Hessian-vector products, one per loss, is enough; the order only chooses the weights.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, permutations, product
from math import factorial
from typing import Literal, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from numerics import causes, checks, drift, schedules
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import Frame, Params
from numerics.updates import displaced

__all__ = [
    "Estimate",
    "RandomOrder",
    "Terms",
    "Words",
    "all_words",
    "closed_form",
    "drawn",
    "enumerated",
    "first_word",
    "mean_over",
    "num_words",
    "sampled",
    "terms",
    "words",
]

Pairs: TypeAlias = Literal["fixed", "joint", "independent", "all"]
Start: TypeAlias = Literal["-", "+", "random", "random-per-pair"]

MAX_WORDS = 600_000  # independent permutations of 6 pairs; a minute of small problems


@dataclass(frozen=True)
class RandomOrder:
    """A distribution over schedules of n pairs, every word equally likely.

    Attributes:
        pairs: "fixed" keeps the pairs as numbered, "joint" permutes the pairs, "independent" permutes each side by
            itself, "all" shuffles all 2n losses (random reshuffling).
        start: Which side begins every pair: one of them, "random" by one fair coin per epoch, or "random-per-pair".
            None, and only then, where all losses are shuffled.
    """

    pairs: Pairs
    start: Start | None = None

    def __post_init__(self) -> None:
        """Refuses a start where there is none, and the other way round."""
        if self.pairs not in ("fixed", "joint", "independent", "all"):
            raise ValueError(f'pairs must be "fixed", "joint", "independent" or "all"; got {self.pairs!r}.')
        if (self.pairs == "all") != (self.start is None):
            raise ValueError(
                f"start must be given unless all losses are shuffled; got pairs={self.pairs!r}, start={self.start!r}. "
                "Whether a fair coin or one side begins changes the drift at second order."
            )
        if self.start not in (None, "-", "+", "random", "random-per-pair"):
            raise ValueError(f'start must be "-", "+", "random" or "random-per-pair"; got {self.start!r}.')


@checks.arguments
def num_words(order: RandomOrder, num_pairs: int) -> int:
    """The number of words, counted with multiplicity, that are equally likely."""
    if order.pairs == "all":
        return factorial(2 * num_pairs)
    orders = {"fixed": 1, "joint": factorial(num_pairs), "independent": factorial(num_pairs) ** 2}[order.pairs]
    return orders * {"random": 2, "random-per-pair": 2**num_pairs}.get(cast("str", order.start), 1)


@checks.arguments
def words(order: RandomOrder, num_pairs: int) -> Int[np.ndarray, "words m"]:
    """Every word, one row each.

    Raises:
        ValueError: If there are more than MAX_WORDS.
    """
    if (count := num_words(order, num_pairs)) > MAX_WORDS:
        raise ValueError(
            f"num_pairs must be small enough to enumerate {MAX_WORDS:,} words; got {num_pairs}, which makes "
            f"{f'{count:,}' if count < 10**15 else 'very many'}. Take fewer pairs; from Python, use `sampled`, or "
            "`closed_form` at second order."
        )

    def each() -> Iterator[int]:
        if order.pairs == "all":
            yield from chain.from_iterable(permutations(range(2 * num_pairs)))
            return
        identity = (tuple(range(num_pairs)),)
        every = identity if order.pairs == "fixed" else tuple(permutations(range(num_pairs)))
        others = every if order.pairs == "independent" else (None,)
        match order.start:
            case "random":
                starts = [(0,) * num_pairs, (1,) * num_pairs]
            case "random-per-pair":
                starts = list(product((0, 1), repeat=num_pairs))
            case side:
                starts = [(int(side == "+"),) * num_pairs]
        for minus, other, start in product(every, others, starts):
            for k, partner, plus_begins in zip(minus, other or minus, start, strict=True):
                pair = k, num_pairs + partner
                yield from pair[::-1] if plus_begins else pair

    flat = np.fromiter(each(), np.int32, count * 2 * num_pairs)
    return flat.reshape(count, 2 * num_pairs)


@checks.arguments
def first_word(order: RandomOrder, num_pairs: int) -> Schedule:
    """One of the words, the same every time: pairs as numbered, L+ first only where it always is."""
    return schedules.interleaved(num_pairs, first="+" if order.start == "+" else "-")


@checks.arguments
def drawn(order: RandomOrder, num_pairs: int, key: PRNGKeyArray) -> Schedule:
    """One word at random. May be transformed: only the key is an array."""
    if order.pairs == "all":
        numbers = jax.random.permutation(key, 2 * num_pairs)
        return Schedule(numbers, jnp.ones(2 * num_pairs))
    of_minus, of_plus, of_start = jax.random.split(key, 3)
    in_order = jnp.arange(num_pairs)
    minus = in_order if order.pairs == "fixed" else jax.random.permutation(of_minus, num_pairs)
    plus = jax.random.permutation(of_plus, num_pairs) if order.pairs == "independent" else minus
    columns = jnp.stack([minus, num_pairs + plus], axis=1)
    match order.start:
        case "random":
            is_swapped = jnp.broadcast_to(jax.random.bernoulli(of_start), (num_pairs,))
        case "random-per-pair":
            is_swapped = jax.random.bernoulli(of_start, shape=(num_pairs,))
        case side:
            is_swapped = jnp.full((num_pairs,), side == "+")
    columns = jnp.where(is_swapped[:, None], columns[:, ::-1], columns)
    return Schedule(columns.reshape(-1), jnp.ones(2 * num_pairs))


# The second order in O(n) ---------------------------------------------------------------------------------------------


class _Weights(NamedTuple):
    """What the Hessian of a loss is applied to: weights of four gradients."""

    own_side: float
    other_side: float
    own: float
    partner: float


def _weights(order: RandomOrder, num_pairs: int, frame: Frame) -> tuple[_Weights, _Weights]:
    """The weights for an L- and for an L+.

    In a uniform order any two different places are equally likely to hold any two different members, so a sum over
    earlier steps becomes half of the sum over all of them, but for the partner: it comes before the loss or after it as
    the start says. Independent permutations have no partners; the start then decides on one place more or less.
    """
    n = num_pairs
    half = _Weights(0.5, 0.5, -0.5, 0.0)
    # The place of the own pair: 1 if the other side is there before, 0 if after, 1/2 if a coin decides.
    before = {"-": (0.0, 1.0), "+": (1.0, 0.0)}.get(cast("str", order.start), (0.5, 0.5))
    match order.pairs:
        case "all":
            made = half, half
        case "joint":
            made = tuple(_Weights(0.5, 0.5, -0.5, place - 0.5) for place in before)
        case "independent":
            made = tuple(_Weights(0.5, ((n - 1) / 2 + place) / n, -0.5, 0.0) for place in before)
        case "fixed":
            raise ValueError(
                "pairs must be permuted for a mean in O(n); got a fixed order. Use drift.closed_form for a word, or "
                "`enumerated` for the mean over the start."
            )
    match frame:
        case "start" | "accumulated":  # one accumulated update has no second order
            of_frame = (_Weights(0.0, 0.0, 0.0, 0.0),) * 2
        case "pair-accumulated":
            # As many places before as after, and nothing from within a pair.
            match order.pairs:
                case "joint":
                    of_frame = (_Weights(0.5, 0.5, -0.5, -0.5),) * 2
                case "independent":
                    of_frame = (_Weights(0.5, (n - 1) / (2 * n), -0.5, 0.0),) * 2
                case _:  # any two losses may come to stand together, and such a pair accumulates nothing
                    share = (1 - 1 / (2 * n - 1)) / 2
                    of_frame = (_Weights(share, share, -share, 0.0),) * 2
        case "gradient-flow":
            of_frame = (_Weights(0.5, 0.5, 0.0, 0.0),) * 2
    return cast(
        "tuple[_Weights, _Weights]",
        tuple(
            _Weights(*(a - b for a, b in zip(mine, theirs, strict=True)))
            for mine, theirs in zip(made, of_frame, strict=True)
        ),
    )


def _combined(weights: Sequence[float] | Float[Array, " terms"], trees: Sequence[Params]) -> Params:
    return jax.tree.map(lambda *leaves: sum(w * leaf for w, leaf in zip(weights, leaves, strict=True)), *trees)


def _side_totals(losses: Losses, params: Params) -> tuple[Params, Params]:
    """The sums of the gradients of each side."""

    def add(totals: tuple[Params, Params], k: Int[Array, ""]) -> tuple[tuple[Params, Params], None]:
        minus, plus = totals
        return (
            displaced(minus, losses.gradient(params, k)),
            displaced(plus, losses.gradient(params, losses.num_pairs + k)),
        ), None

    zero = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, (zero, zero), jnp.arange(losses.num_pairs))[0]


def _linearized(losses: Losses, params: Params, k: Int[Array, ""]) -> tuple[Params, Params, Callable]:
    """g-_k, g+_k, and (v, w) -> (H-_k v, H+_k w): the Hessians of both at the cost of one pass each."""

    def gradients(at_minus: Params, at_plus: Params) -> tuple[Params, Params]:
        return losses.gradient(at_minus, k), losses.gradient(at_plus, losses.num_pairs + k)

    (minus, plus), hvp = jax.linearize(gradients, params, params)
    return minus, plus, hvp


@jax.jit
def _closed_form(
    losses: Losses, params: Params, weights: tuple[Float[Array, " 4"], Float[Array, " 4"]]
) -> tuple[Params, Params]:
    """The mean displacement in powers 1 and 2; the weights are data, so all orders and frames share one program."""
    minus, plus = _side_totals(losses, params)
    for_minus, for_plus = weights

    def add(total: Params, k: Int[Array, ""]) -> tuple[Params, None]:
        own_minus, own_plus, hvp = _linearized(losses, params, k)
        both = hvp(
            _combined(for_minus, (minus, plus, own_minus, own_plus)),
            _combined(for_plus, (plus, minus, own_plus, own_minus)),
        )
        return jax.tree.map(lambda t, a, b: t + a + b, total, *both), None

    zero = jax.tree.map(jnp.zeros_like, params)
    correction, _ = jax.lax.scan(add, zero, jnp.arange(losses.num_pairs))
    return jax.tree.map(lambda a, b: -(a + b), minus, plus), correction


@checks.arguments
def closed_form(losses: Losses, order: RandomOrder, params: Params, *, frame: Frame) -> tuple[Params, Params]:
    """The mean drift of one epoch of gradient descent to second order: 2n Hessian-vector products, whatever the order.

    Args:
        losses: n pairs.
        order: The distribution of the schedule; every step of scale 1.
        params: The start.
        frame: What the displacement is compared with; in the pair-accumulated frame the frame's pairs are those that
            stand together.

    Returns:
        c_1 and c_2, the mean coefficients of step_size and step_size^2; sums over the 2n steps.

    Raises:
        TypeError: If a loss is not a real scalar, or a parameter is not float32 or float64.
        ValueError: If the losses are not pairs, or the pairs are not permuted.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claims `eq-1`, `boxed`, `interleaving-is-reshuffling`.
    """
    drift.check_frame(frame, first_word(order, losses.num_pairs), None)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    for_minus, for_plus = (jnp.asarray(w, dtype) for w in _weights(order, losses.num_pairs, frame))
    displacement, second = _closed_form(losses, params, (for_minus, for_plus))
    first = displacement if frame == "start" else jax.tree.map(jnp.zeros_like, displacement)
    coefficients = first, second
    causes.require_finite(coefficients, losses, params)
    return coefficients


class Terms(NamedTuple):
    """The terms of the post's eq. (1), as coefficients of step_size^2: its right side times B^2.

    With joint permutations of the pairs the mean correction is of_mean + of_spread + fixed_start where L-
    begins; where a coin decides, boxed takes the place of fixed_start.

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
    zero = jax.tree.map(jnp.zeros_like, params)

    def add(sums: tuple[Params, ...], k: Int[Array, ""]) -> tuple[tuple[Params, ...], None]:
        own_minus, own_plus, hvp = _linearized(losses, params, k)
        pair = displaced(own_minus, own_plus)
        to_total, to_pair, crossed = hvp(total, total), hvp(pair, pair), hvp(own_plus, own_minus)
        new = displaced(*to_total), displaced(*to_pair), crossed[0], crossed[1]
        return tuple(map(displaced, sums, new)), None

    (of_total, of_pairs, minus_plus, plus_minus), _ = jax.lax.scan(add, (zero,) * 4, jnp.arange(losses.num_pairs))
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
        TypeError: If a loss is not a real scalar, or a parameter is not float32 or float64.
        ValueError: If the losses are not pairs.
        FloatingPointError: If a derivative is NaN or infinite.

    Source: claims `eq-1`, `boxed`.
    """
    found = _terms(losses, params)
    causes.require_finite(found, losses, params)
    return found


# Anything that is a function of a schedule ----------------------------------------------------------------------------

CHUNK = 32  # words at a time: enough to keep the cores busy, few enough for networks


class Words(NamedTuple):
    """All words of a random order, in chunks; words of weight zero fill the last."""

    numbers: Int[Array, "chunks 32 m"]
    weights: Float[Array, "chunks 32"]


@checks.arguments
def all_words(order: RandomOrder, num_pairs: int) -> Words:
    """What `mean_over` takes, as arrays: orders of about the same number of words share what is compiled.

    Raises:
        ValueError: If there are too many words.
    """
    every = words(order, num_pairs)
    count, num_steps = every.shape
    padding = -count % CHUNK
    return Words(
        jnp.asarray(np.concatenate([every, np.repeat(every[:1], padding, axis=0)]).reshape(-1, CHUNK, num_steps)),
        jnp.asarray(np.concatenate([np.full(count, 1 / count), np.zeros(padding)]).reshape(-1, CHUNK)),
    )


@checks.arguments
def mean_over(function: Callable[[Schedule], Params], words: Words) -> Params:
    """The mean of a function of the schedule over words; to be transformed."""
    scales = jnp.ones(words.numbers.shape[-1])

    def add(carry: tuple[Params, Params], chunk: Words) -> tuple[tuple[Params, Params], None]:
        # Kahan's sum: over thousands of words a plain float32 sum would be wrong by more than the third order.
        total, lost = carry
        values = jax.vmap(lambda number: function(Schedule(number, scales)))(chunk.numbers)
        new = jax.tree.map(lambda v, low: jnp.tensordot(chunk.weights.astype(v.dtype), v, axes=1) - low, values, lost)
        after = jax.tree.map(jnp.add, total, new)
        lost = jax.tree.map(lambda high, before, n: (high - before) - n, after, total, new)
        return (after, lost), None

    # A new function, for JAX keeps traces by function, and this one may compute something else by now.
    shape = jax.eval_shape(lambda numbers: function(Schedule(numbers, scales)), words.numbers[0, 0])
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    return jax.lax.scan(add, (zero, zero), words)[0][0]


@checks.arguments
def enumerated(function: Callable[[Schedule], Params], order: RandomOrder, num_pairs: int) -> Params:
    """The exact mean of a function over all words, such as `lambda schedule: drift.unit_drift(...)`.

    May be called inside `jit`; calls outside compile the function anew.

    Args:
        function: From a schedule, with every step of scale 1, to a tree; it will be vectorised over words.
        order: The distribution of the schedule.
        num_pairs: n; 6 at most for independent permutations, by MAX_WORDS.

    Raises:
        ValueError: If there are too many words.
    """
    return mean_over(function, all_words(order, num_pairs))


class Estimate(NamedTuple):
    """A mean over words drawn at random.

    Attributes:
        mean: Unbiased.
        standard_error: Of the mean, coordinate by coordinate: sample standard deviation / sqrt(number of words).
    """

    mean: Params
    standard_error: Params


@checks.arguments
def sampled(
    function: Callable[[Schedule], Params],
    order: RandomOrder,
    num_pairs: int,
    key: PRNGKeyArray,
    *,
    num_samples: int,
) -> Estimate:
    """The mean of a function over independent random words, for any number of pairs.

    Args:
        function: From a schedule, with every step of scale 1, to a tree.
        order: The distribution of the schedule.
        num_pairs: n.
        key: The random key.
        num_samples: How many words are drawn; 2 at least.

    Raises:
        ValueError: If fewer than two words are asked for: one has no spread.
    """

    def add(carry: tuple[Params, Params, Array], key: PRNGKeyArray) -> tuple[tuple[Params, Params, Array], None]:
        mean, squares, count = carry  # Welford's recurrence: no difference of large sums
        value = function(drawn(order, num_pairs, key))
        count = count + 1
        before = jax.tree.map(jnp.subtract, value, mean)
        mean = jax.tree.map(lambda m, d: m + d / count.astype(m.dtype), mean, before)
        squares = jax.tree.map(lambda s, d, v, m: s + d * (v - m), squares, before, value, mean)
        return (mean, squares, count), None

    shape = jax.eval_shape(lambda k: function(drawn(order, num_pairs, k)), key)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    start = zero, zero, jnp.zeros((), jnp.int32)
    (mean, squares, _), _ = jax.lax.scan(add, start, jax.random.split(key, num_samples))
    return Estimate(mean, jax.tree.map(lambda s: jnp.sqrt(s / (num_samples * (num_samples - 1))), squares))
