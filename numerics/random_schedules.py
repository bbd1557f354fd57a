"""Random schedules of pairs, as data: all their words, and one of them at random."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, permutations, product
from math import factorial, inf
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from numerics import checks, schedules
from numerics.schedules import Brackets, Schedule

__all__ = ["RandomSchedule", "Words", "chunks", "enumerate", "first_word", "num_words", "sample"]

Pairs: TypeAlias = Literal["fixed", "joint", "independent", "all"]
Start: TypeAlias = Literal["-", "+", "random", "random-per-pair"]

MAX_WORDS = 600_000  # independent permutations of 6 pairs; a minute of small problems
CHUNK = 32  # words at a time: enough to keep the cores busy, few enough for networks


@checks.arguments
def _check(scales: Sequence[float], per: int) -> None:
    """Refuses numbers that are not of their kind; `checks.arguments` does it."""


@jax.tree_util.register_static
@dataclass(frozen=True)
class RandomSchedule:
    """A distribution over schedules of n pairs, every word equally likely.

    Attributes:
        pairs: "fixed" keeps the pairs as numbered, "joint" permutes the pairs, "independent" permutes each side by
            itself, "all" shuffles all 2n losses (random reshuffling).
        start: The side that begins every pair: one of them, "random" by one fair coin per epoch, or "random-per-pair".
            None, and only then, where all losses are shuffled.
        scales: The scale of every step on an L-, and that of every step on an L+; positive.
        per: The number of steps of each update, whose gradients are read at one place, whatever comes to stand
            together. It must divide the 2n steps.
    """

    pairs: Pairs
    start: Start | None = None
    scales: tuple[float, float] = (1.0, 1.0)
    per: int = 1

    def __post_init__(self) -> None:
        """Refuses a start where there is none, and the other way round."""
        checks.literal("pairs", self.pairs, get_args(Pairs))
        if (self.pairs == "all") != (self.start is None):
            raise ValueError(
                f"start must be given unless all losses are shuffled; got pairs={self.pairs!r}, start={self.start!r}. "
                "Whether a fair coin or one side begins changes the drift at second order."
            )
        if self.start is not None:
            checks.literal("start", self.start, get_args(Start))
        _check(self.scales, self.per)
        if len(self.scales) != 2 or not all(0 < scale < inf for scale in self.scales):
            raise ValueError(f"scales must be one for each of two sides, positive and finite; got {self.scales}.")
        if self.per < 1:
            raise ValueError(f"per must be at least 1; got {self.per}.")
        object.__setattr__(self, "scales", tuple(map(float, self.scales)))

    def check_beside(self, arguments: Mapping[str, Any]) -> None:
        """Refuses losses that are not pairs, or too few for its updates, among these arguments of a function."""
        num_pairs = arguments["losses"].num_pairs if "losses" in arguments else arguments.get("num_pairs", 0)
        if 2 * num_pairs % self.per:
            raise ValueError(f"per must divide the {2 * num_pairs} steps of {num_pairs} pairs; got {self.per}.")

    def word(self, numbers: Int[Array | np.ndarray, " m"]) -> Schedule:
        """The schedule of these losses in this order, with the scales and the brackets."""
        num_steps = numbers.shape[0]
        is_plus = jnp.asarray(numbers >= num_steps // 2, jnp.int32)
        brackets = Brackets((self.per,) * (num_steps // self.per) if self.per > 1 else ())
        return Schedule(numbers, jnp.asarray(self.scales, float)[is_plus], brackets)


@checks.arguments
def num_words(schedule: RandomSchedule, num_pairs: int) -> int:
    """The number of words, counted with multiplicity, that are equally likely."""
    if schedule.pairs == "all":
        return factorial(2 * num_pairs)
    orders = {"fixed": 1, "joint": factorial(num_pairs), "independent": factorial(num_pairs) ** 2}[schedule.pairs]
    return orders * {"random": 2, "random-per-pair": 2**num_pairs}.get(cast("str", schedule.start), 1)


@checks.arguments
def enumerate(schedule: RandomSchedule, num_pairs: int) -> Int[np.ndarray, "words m"]:  # noqa: A001
    """Every word, one row each; refused where there are more than MAX_WORDS."""
    if (count := num_words(schedule, num_pairs)) > MAX_WORDS:
        raise ValueError(
            f"num_pairs must be small enough to enumerate {MAX_WORDS:,} words; got {num_pairs}, which makes "
            f"{f'{count:,}' if count < 10**15 else 'very many'}. Take fewer pairs; from Python, use "
            "`averages.sample_mean`, or `averages.closed_form` at second order."
        )

    def numbers() -> Iterator[int]:
        if schedule.pairs == "all":
            yield from chain.from_iterable(permutations(range(2 * num_pairs)))
            return
        identity = (tuple(range(num_pairs)),)
        every = identity if schedule.pairs == "fixed" else tuple(permutations(range(num_pairs)))
        others = every if schedule.pairs == "independent" else (None,)
        match schedule.start:
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

    flat = np.fromiter(numbers(), np.int32, count * 2 * num_pairs)
    return flat.reshape(count, 2 * num_pairs)


@checks.arguments
def first_word(schedule: RandomSchedule, num_pairs: int) -> Schedule:
    """One of the words, the same every time: pairs as numbered, L+ first only where it always is."""
    return schedule.word(schedules.interleaved(num_pairs, first="+" if schedule.start == "+" else "-").losses)


@checks.arguments
def sample(schedule: RandomSchedule, num_pairs: int, key: PRNGKeyArray) -> Schedule:
    """One word at random. May be transformed: only the key is an array."""
    if schedule.pairs == "all":
        return schedule.word(jax.random.permutation(key, 2 * num_pairs))
    of_minus, of_plus, of_start = jax.random.split(key, 3)
    in_order = jnp.arange(num_pairs)
    minus = in_order if schedule.pairs == "fixed" else jax.random.permutation(of_minus, num_pairs)
    plus = jax.random.permutation(of_plus, num_pairs) if schedule.pairs == "independent" else minus
    columns = jnp.stack([minus, num_pairs + plus], axis=1)
    match schedule.start:
        case "random":
            is_swapped = jnp.broadcast_to(jax.random.bernoulli(of_start), (num_pairs,))
        case "random-per-pair":
            is_swapped = jax.random.bernoulli(of_start, shape=(num_pairs,))
        case side:
            is_swapped = jnp.full((num_pairs,), side == "+")
    columns = jnp.where(is_swapped[:, None], columns[:, ::-1], columns)
    return schedule.word(columns.reshape(-1))


class Words(NamedTuple):
    """All words of a random schedule, in chunks; words of weight zero fill the last."""

    schedule: RandomSchedule
    numbers: Int[Array, "chunks 32 m"]
    weights: Float[Array, "chunks 32"]


@checks.arguments
def chunks(schedule: RandomSchedule, num_pairs: int) -> Words:
    """All words as arrays: schedules of about the same number of words share a compiled program."""
    every = enumerate(schedule, num_pairs)
    count, num_steps = every.shape
    padding = -count % CHUNK
    return Words(
        schedule,
        jnp.asarray(np.concatenate([every, np.repeat(every[:1], padding, axis=0)]).reshape(-1, CHUNK, num_steps)),
        jnp.asarray(np.concatenate([np.full(count, 1 / count), np.zeros(padding)]).reshape(-1, CHUNK)),
    )
