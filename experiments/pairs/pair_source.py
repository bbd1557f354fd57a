"""Checked pairs of solutions to the problems of a data source."""

from collections.abc import Callable, Iterator

from experiments.data import data_sources
from experiments.data.gsm8k import Split
from experiments.pairs import check, corruption

__all__ = ["make_pairs"]


def make_pairs(
    data: str,
    split: Split,
    *,
    seed: int,
    num_problems: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[corruption.Corruption]:
    """Checked pairs of the first problems of a split, in their order.

    Args:
        data: As in `data_sources.problems`.
        split: Train or test.
        seed: Of the errors, and of problems that are generated.
        num_problems: How many problems; all if 0.
        report: Is called with the problems done, and all.
    """
    problems = list(data_sources.problems(data, split, limit=num_problems or None, seed=seed))
    for place, problem in enumerate(problems, start=1):
        pair = corruption.corrupt(problem, seed=seed)
        if isinstance(pair, corruption.Corruption) and not check.findings(pair.record()):
            yield pair
        report(place, len(problems))
