"""Curves over a run and bands over the seeds of an arm; a value that is not finite ends a curve for good."""

from collections.abc import Sequence
from math import isfinite, nan
from typing import NamedTuple

from experiments.records import value
from experiments.report.run_folders import Run

__all__ = ["Band", "Curve", "Spread", "band", "curve", "spread"]


class Curve(NamedTuple):
    """What was measured, up to the first value that is not finite.

    Attributes:
        updates: At which updates.
        x: Where these lie on the axis.
        y: Finite values.
        is_cut: Whether the curve ends because the next value, or the run's, was not finite.
        cut_at: Where on the axis the first value lies that is not finite; the last point's where only the run's was.
    """

    updates: tuple[int, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    is_cut: bool
    cut_at: float | None


class Band(NamedTuple):
    """Over the seeds of an arm: the mean, the least and the greatest, where every seed has a finite value."""

    updates: tuple[int, ...]
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Spread(NamedTuple):
    """Of a number over seeds; all three are NaN where one of the values is not finite."""

    mean: float
    low: float
    high: float


def curve(run: Run, field: str, axis: str) -> Curve:
    """A field of a run against an axis.

    Updates at which it was not measured are passed over. At the first value that is not finite the curve ends: nothing
    after it is shown, whatever it is.

    Args:
        run: The run.
        field: A name with dots.
        axis: The field of the axis.
    """
    measured = [(row.update, value(row, axis), value(row, field)) for row in run.updates]
    points = [(update, x, y) for update, x, y in measured if x is not None and y is not None]
    finite = [isfinite(x) and isfinite(y) for _, x, y in points]
    num_finite = finite.index(False) if False in finite else len(points)
    is_cut = num_finite < len(points) or (bool(points) and run.state == "not-finite")
    cut_at = points[min(num_finite, len(points) - 1)][1] if is_cut else None
    if cut_at is not None and not isfinite(cut_at):  # the distance ends with the values
        cut_at = points[num_finite - 1][1] if num_finite else 0.0
    updates, x, y = ([point[place] for point in points[:num_finite]] for place in range(3))
    return Curve(tuple(map(int, updates)), tuple(x), tuple(y), is_cut, cut_at)


def band(curves: Sequence[Curve]) -> Band:
    """The mean and range of several curves at the updates at which all of them have a value.

    A mean of the seeds that are left would rise as the others fall out; so it ends with the first that does.
    """
    shared = sorted(set.intersection(*(set(each.updates) for each in curves))) if curves else []
    at = [dict(zip(each.updates, zip(each.x, each.y, strict=True), strict=True)) for each in curves]
    columns = [[points[update] for points in at] for update in shared]
    spreads = [spread([y for _, y in column]) for column in columns]
    return Band(
        tuple(shared),
        tuple(sum(x for x, _ in column) / len(column) for column in columns),
        tuple(each.mean for each in spreads),
        tuple(each.low for each in spreads),
        tuple(each.high for each in spreads),
    )


def spread(values: Sequence[float]) -> Spread:
    """The mean, the least and the greatest of at least one value."""
    if not all(map(isfinite, values)):
        return Spread(nan, nan, nan)
    return Spread(sum(values) / len(values), min(values), max(values))
