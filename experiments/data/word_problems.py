"""Word problems with annotated step-by-step solutions, made up on the spot: for machines without a network.

A problem is a function of the seed, the split and its number alone. What its question shows is decided first by a key
that no other problem has, then by chance, so all questions differ and no question of the one split is in the other,
whatever the seeds. Nothing here knows what the problems are for.
"""

import random
from collections.abc import Iterator
from hashlib import blake2b

from experiments.data.gsm8k import SPLITS, Problem, Split
from experiments.data.stories import THEMES
from experiments.data.storytelling import Story

__all__ = ["MOST_PROBLEMS", "MOST_STEPS", "generate"]

MOST_STEPS = 8
MOST_PROBLEMS = 2**20
"""In one split: half of the keys."""

_KEY_BITS = 21
_SEED_LIMIT = 2**64


def generate(
    count: int, *, seed: int, split: Split = "train", min_steps: int = 1, max_steps: int = MOST_STEPS
) -> Iterator[Problem]:
    """The first `count` problems, all different.

    Args:
        count: How many; the first ones do not depend on it.
        seed: Other seeds give other problems.
        split: Train and test share no question, nor do they under different seeds or numbers of steps.
        min_steps: The fewest steps of a solution; as many problems have each number of steps, on average.
        max_steps: The most.

    Raises:
        ValueError: If `count` is not in 0 ... MOST_PROBLEMS, the steps not in 1 ... MOST_STEPS, the seed not in
            0 ... 2^64 - 1, or the split unknown.
    """
    if not 0 <= count <= MOST_PROBLEMS:
        raise ValueError(f"`count` must lie in 0 ... {MOST_PROBLEMS}; got {count}. There are no more distinct ones.")
    if not 0 <= seed < _SEED_LIMIT:
        raise ValueError(f"`seed` must lie in 0 ... 2^64 - 1; got {seed}.")
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}; got {split!r}.")
    if not 1 <= min_steps <= max_steps <= MOST_STEPS:
        raise ValueError(
            f"`min_steps` and `max_steps` must be in order within 1 ... {MOST_STEPS}; got {min_steps} and {max_steps}."
        )
    return (_problem(place, seed, split, min_steps, max_steps) for place in range(count))


def _problem(place: int, seed: int, split: Split, min_steps: int, max_steps: int) -> Problem:
    chance = random.Random(_digest(f"{seed} {split} {place}"))
    num_steps = chance.randint(min_steps, max_steps)
    # The last bit tells the splits apart under every seed; mixed by itself it would show as a habit of the test split.
    key = _mixed(2 * _mixed(place, _digest(f"order {seed}"), _KEY_BITS - 1) + (split == "test"), 0, _KEY_BITS)
    story = Story(key, 2**_KEY_BITS, chance)
    theme = story.one([theme for theme, most_steps in THEMES if num_steps <= most_steps])
    theme(story, num_steps)
    question, solution, gold = story.told(num_steps)
    return Problem(id=f"{split}-{place + 1}", question=question, solution=solution, gold=gold)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(number: int, salt: int, num_bits: int) -> int:
    """A permutation of the numbers below 2^num_bits: every step of it can be undone."""
    for turn in range(4):
        number = (number * 0x9E3779B1 + (salt >> (16 * turn)) + turn) % 2**num_bits  # odd, so invertible
        number ^= number >> (num_bits // 2)
    return number
