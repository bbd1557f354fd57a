"""The pairs of a source: preference data as they are, or the solutions of problems, made wrong and checked."""

from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from typing import NamedTuple

from experiments.data import data_sources, preferences
from experiments.data.chat import Message, messages_of
from experiments.data.gsm8k import Split
from experiments.data.preferences import Answer, Preference
from experiments.pairs import check, corruption

__all__ = ["PairSource", "count", "pairs"]


class PairSource(NamedTuple):
    """Where pairs come from.

    Attributes:
        name: A source of problems, as in `data_sources.problems`, or of preferences, as in `preferences.preferences`.
        held_out: The share of the rows of preference data that is the test split; problems have a split of their own.
        columns: The names of the columns of preference data, as `preferences.columns` reads them.
        held_out_file: Preference data that are the test split, in place of a share; empty for none. A pair that they
            hold too is left out of the train split.
        skip_broken: Whether broken rows of preference data are left out.
    """

    name: str
    held_out: float = 0.1
    columns: str = ""
    held_out_file: str = ""
    skip_broken: bool = False

    def preferences(self, name: str, left_out: Counter[str]) -> Iterator[Preference]:
        """The preferences of one of its files."""
        own_columns = preferences.columns(self.columns)
        return preferences.preferences(name, own_columns=own_columns, left_out=left_out, skip_broken=self.skip_broken)


def pairs(
    source: PairSource,
    split: Split,
    *,
    seed: int,
    limit: int | None = None,
    left_out: Counter[str],
    report: Callable[[int], None] = lambda done: None,
) -> Iterator[Preference]:
    """The pairs of a split, one at a time.

    Args:
        source: The source.
        split: Train or test.
        seed: Of the errors, of problems that are generated, and of the rows that are held out.
        limit: Only the first pairs of preference data, or those of the first problems; then a problem without a pair
            counts.
        left_out: The number of problems of the split, or of rows of both splits, without a pair, by reason; it grows.
        report: A function of the number of problems or rows that are done.
    """
    if not preferences.is_source(source.name):
        yield from _of_problems(source.name, split, seed, limit, left_out, report)
        return
    other = source.held_out_file
    name = other if other and split == "test" else source.name
    held_out: set[bytes] = set()
    if other and split == "train":
        held_out.update(map(_digest, source.preferences(other, Counter())))

    def of_split() -> Iterator[Preference]:
        for place, preference in enumerate(source.preferences(name, left_out), start=1):
            if held_out and _digest(preference) in held_out:
                left_out["also in the held-out file"] += 1
            elif other or preferences.is_held_out(preference.id, source.held_out, seed) == (split == "test"):
                yield preference
            report(place)

    yield from islice(of_split(), limit)


def _digest(preference: Preference) -> bytes:
    """A hash of the prompts and answers of a pair, whatever stands around them: 16 bytes, for files of many rows."""
    answers = preference.preferred, preference.dispreferred
    texts = [[*map(tuple, messages_of(answer.prompt)), answer.text.strip()] for answer in answers]
    return sha256(repr(texts).encode()).digest()[:16]


def _of_problems(
    name: str, split: Split, seed: int, limit: int | None, left_out: Counter[str], report: Callable[[int], None]
) -> Iterator[Preference]:
    problems = list(data_sources.problems(name, split, limit=limit, seed=seed))
    for place, problem in enumerate(problems, start=1):
        pair = corruption.corrupt(problem, seed=seed)
        if not isinstance(pair, corruption.Corruption):
            left_out[pair.reason] += 1
        elif check.findings(pair.record()):
            left_out["objected to by the check"] += 1
        else:
            prompt = (Message("user", pair.question),)
            yield Preference(pair.id, Answer(prompt, pair.preferred), Answer(prompt, pair.dispreferred))
        report(place)


def count(source: PairSource, split: Split) -> int | None:
    """The number of problems of a split, or of rows of the file that holds it; None where nothing says it."""
    if preferences.is_source(source.name):
        return preferences.count(source.held_out_file if split == "test" and source.held_out_file else source.name)
    return data_sources.count(source.name, split)
