"""The sources of pairs of solutions, by the names that runs use: a table, and any other name is a source of problems.

A new source, such as a file of human preferences, is a class with the two methods of `PairSource` and a row of
`SOURCES`. The solutions of a source of problems are made wrong here, and each pair is checked.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from experiments.data import data_sources
from experiments.data.gsm8k import Split
from experiments.pairs import check, corruption

__all__ = ["SOURCES", "Pair", "PairSource", "Report", "count", "pairs"]

Report = Callable[[int], None]
"""Is called with the number of problems, or pairs, that are done."""


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


class PairSource(Protocol):
    """A source of pairs."""

    def pairs(self, split: Split, *, limit: int | None, seed: int, report: Report) -> Iterator[Pair]:
        """The pairs of a split; the arguments are those of the function `pairs`."""
        ...

    def count(self, split: Split) -> int:
        """The number of problems, or pairs, of a split."""
        ...


class _WrongSolutions:
    """The problems of a data source, each with its solution and a wrong one, where one can be made soundly."""

    def __init__(self, data: str) -> None:
        self._data = data

    def pairs(self, split: Split, *, limit: int | None, seed: int, report: Report) -> Iterator[Pair]:
        problems = list(data_sources.problems(self._data, split, limit=limit, seed=seed))
        for place, problem in enumerate(problems, start=1):
            pair = corruption.corrupt(problem, seed=seed)
            if isinstance(pair, corruption.Corruption) and not check.findings(pair.record()):
                yield pair
            report(place)

    def count(self, split: Split) -> int:
        return data_sources.count(self._data, split)


SOURCES: dict[str, PairSource] = {}
"""The sources that have a name and are no source of problems."""


def _source(name: str) -> PairSource:
    return SOURCES[name] if name in SOURCES else _WrongSolutions(name)


def pairs(
    source: str, split: Split, *, seed: int, limit: int | None = None, report: Report = lambda done: None
) -> Iterator[Pair]:
    """The pairs of a split, one at a time.

    Args:
        source: A name of `SOURCES`, or a source of problems as in `data_sources.problems`.
        split: Train or test.
        seed: Of the errors, and of problems that are generated.
        limit: Only those of the first problems, or the first pairs.
        report: Is called with the number of problems, or pairs, that are done.
    """
    return _source(source).pairs(split, limit=limit, seed=seed, report=report)


def count(source: str, split: Split) -> int:
    """The number of problems, or pairs, of a split."""
    return _source(source).count(split)
