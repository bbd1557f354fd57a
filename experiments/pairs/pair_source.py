"""Pairs of a preferred and a dispreferred answer: the solutions of a source of problems, made wrong and checked.

A new source, such as a file of human preferences, is a branch of the two functions for its name.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from experiments.data import data_sources
from experiments.data.gsm8k import Split
from experiments.pairs import check, corruption

__all__ = ["Pair", "count", "pairs"]


class Pair(Protocol):
    """A preferred and a dispreferred answer to one question."""

    @property
    def id(self) -> str:
        """A name that no other pair of the source has."""
        ...

    @property
    def question(self) -> str:
        """The question."""
        ...

    @property
    def preferred(self) -> str:
        """The preferred answer."""
        ...

    @property
    def dispreferred(self) -> str:
        """The dispreferred answer."""
        ...


def pairs(
    source: str, split: Split, *, seed: int, limit: int | None = None, report: Callable[[int], None] = lambda done: None
) -> Iterator[Pair]:
    """The pairs of a split, one at a time: of every problem whose solution can be made wrong soundly.

    Args:
        source: A source of problems, as in `data_sources.problems`.
        split: Train or test.
        seed: Of the errors, and of problems that are generated.
        limit: Only those of the first problems.
        report: A function of the number of problems that are done.
    """
    problems = list(data_sources.problems(source, split, limit=limit, seed=seed))
    for place, problem in enumerate(problems, start=1):
        pair = corruption.corrupt(problem, seed=seed)
        if isinstance(pair, corruption.Corruption) and not check.findings(pair.record()):
            yield pair
        report(place)


def count(source: str, split: Split) -> int:
    """The number of problems of a split."""
    return data_sources.count(source, split)
