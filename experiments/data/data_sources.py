"""The sources of problems, by the names that the commands use: a table, and any other name is the path of a folder.

A new source is a class with the two methods of `DataSource` and a row of `SOURCES`.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from experiments.data import gsm8k, word_problems
from experiments.data.gsm8k import Problem, Split

__all__ = ["GENERATED", "HUB", "SOURCES", "DataSource", "Split", "count", "problems"]

GENERATED = "generated"
HUB = "hub"


class DataSource(Protocol):
    """A source of problems."""

    def problems(self, split: Split, *, limit: int | None, seed: int, skipped: list[str] | None) -> Iterator[Problem]:
        """The problems of a split; the arguments are those of the function `problems`."""
        ...

    def count(self, split: Split) -> int:
        """The number of problems of a split."""
        ...


class _Folder:
    """A folder of JSONL files; the seed does not matter."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def problems(self, split: Split, *, limit: int | None, seed: int, skipped: list[str] | None) -> Iterator[Problem]:
        del seed
        return islice(gsm8k.from_folder(self._path, split, skipped), limit)

    def count(self, split: Split) -> int:
        return sum(1 for _ in gsm8k.from_folder(self._path, split))


class _Hub:
    """openai/gsm8k through Hugging Face `datasets`; the seed does not matter, and a broken row is an error."""

    def problems(self, split: Split, *, limit: int | None, seed: int, skipped: list[str] | None) -> Iterator[Problem]:
        del seed, skipped
        return islice(gsm8k.from_hub(split), limit)

    def count(self, split: Split) -> int:
        return gsm8k.NUM_PROBLEMS[split]


class _Generated:
    """Generated problems; without a limit as many as GSM8K has."""

    def problems(self, split: Split, *, limit: int | None, seed: int, skipped: list[str] | None) -> Iterator[Problem]:
        del skipped
        return word_problems.generate(limit or self.count(split), seed=seed, split=split)

    def count(self, split: Split) -> int:
        return gsm8k.NUM_PROBLEMS[split]


SOURCES: dict[str, DataSource] = {GENERATED: _Generated(), HUB: _Hub()}
"""The sources that have a name."""


def _source(name: str) -> DataSource:
    return SOURCES[name] if name in SOURCES else _Folder(Path(name))


def problems(
    source: str, split: Split, *, limit: int | None = None, seed: int = 0, skipped: list[str] | None = None
) -> Iterator[Problem]:
    """The problems of a split, one at a time.

    Args:
        source: A name of `SOURCES`, or the path of a folder of JSONL files.
        split: Train or test.
        limit: Only the first ones.
        seed: Of generated problems.
        skipped: A list for descriptions of broken lines, which are then passed over; None makes them an error.

    Raises:
        ValueError: At a broken line, or if `limit` is more than can be generated.
        FileNotFoundError: If the folder has no such file.
        ModuleNotFoundError: If `datasets` is needed and not installed.
    """
    return _source(source).problems(split, limit=limit, seed=seed, skipped=skipped)


def count(source: str, split: Split) -> int:
    """The number of problems of a split.

    Raises:
        FileNotFoundError: If the folder has no such file.
    """
    return _source(source).count(split)
