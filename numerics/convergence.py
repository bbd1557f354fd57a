"""The observed order of a remainder: the slope of its logarithm over that of the step size, and a verdict on theory.

A remainder c * step^p * (1 + O(step)) has slopes between successive steps that tend to p. Above, higher powers bend
them; below, round-off takes over. So the order is fitted over the smallest steps whose remainder stands clear of
round-off, and where these are too few, or the slopes are still on their way, there is no verdict.

A clip that switches on between two step sizes, or an Adam whose eps is small beside a gradient coordinate that changes
sign, puts a kink into the update map, and there it has no Taylor expansion. Both round-off and kinks are read from
evenly spaced step sizes, without knowledge of the rule. Fourth differences of a smooth map are small and vary little; a
kink stands out in the few that touch it; elsewhere they are round-off (the difference table of Hamming 1962, chapter 1,
and of More and Wild 2011, "Estimating computational noise").
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from numerics import checks

__all__ = ["Fit", "Verdict", "first_kink", "fit", "points", "round_off"]

Verdict = Literal["met", "exact", "missed", "not resolved"]

TOLERANCE = 0.1
STEADY = 0.3  # how far the last three local slopes may lie apart: a remainder that passes through zero bends them
MIN_HALVINGS = 5
CLEARANCE = 20.0  # round-off of 5 % of the smallest remainder bends the slope over five halvings by about 0.01
EXACT = 0.01  # a remainder that is all round-off says something where one per cent of the last term would be seen
T95 = 2.776  # two-sided 95 % point of Student's t with MIN_HALVINGS + 1 points - 2 = 4 degrees of freedom (any table)


@dataclass(frozen=True)
class Fit:
    """A fitted order and its verdict.

    Attributes:
        theory: The order that the remainder must have at least.
        verdict: "met"; "exact" where all that is left is round-off; "missed"; "not resolved".
        order: The fitted slope, None where too few steps stand clear of round-off.
        half_width: Half of its 95 % interval, by Student's t from the residuals of the fit: it shows how straight the
            line is and holds no guarantee beyond the steps.
        used: Which steps were fitted.
        local: The slope between every step and the next smaller one; NaN at the end and where a remainder is zero.
        reason: Why there is no verdict; empty where there is one.
    """

    theory: int
    verdict: Verdict
    order: float | None
    half_width: float | None
    used: tuple[bool, ...]
    local: tuple[float, ...]
    reason: str

    @property
    def is_refuted(self) -> bool:
        """Whether theory was missed."""
        return self.verdict == "missed"


@checks.arguments
def fit(
    step_sizes: Float[np.ndarray, " k"],
    remainders: Float[np.ndarray, " k"],
    floors: Float[np.ndarray, " k"],
    terms: Float[np.ndarray, " k"],
    *,
    theory: int,
    is_usable: Bool[np.ndarray, " k"] | None = None,
    excluded: str = "",
) -> Fit:
    """The observed order of a remainder, over the smallest steps that are resolved.

    Args:
        step_sizes: Descending, each half of the one before.
        remainders: |measured - predicted|.
        floors: The round-off in it.
        terms: The size that the last predicted term has, or would have if it were not zero; it tells a remainder that
            is exact from one that cannot be seen.
        theory: The order that is to be met.
        is_usable: Which steps may be used: all unless given.
        excluded: Why the others may not.

    Raises:
        ValueError: If the step sizes do not descend, or there are fewer than two.
    """
    for name, values in (("remainders", remainders), ("floors", floors), ("terms", terms), ("is_usable", is_usable)):
        if values is not None and len(values) != len(step_sizes):
            raise ValueError(f"{name} must be one per step size; got {len(values)}.")
    x = np.log2(step_sizes)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log2(remainders)
        slopes = np.diff(y) / np.diff(x)
    local = (*np.where(np.isfinite(slopes), slopes, np.nan).tolist(), float("nan"))
    usable = np.ones(len(x), bool) if is_usable is None else is_usable
    is_clear = usable & (remainders > CLEARANCE * floors)

    def result(verdict: Verdict, reason: str = "", window: slice | None = None) -> Fit:
        used = np.zeros(len(x), bool)
        order = half_width = None
        if window is not None:
            used[window] = True
            order, half_width = _slope(x[window], y[window])
        return Fit(theory, verdict, order, half_width, tuple(used.tolist()), local, reason)

    if not usable.any():
        return result("not resolved", excluded)
    first = int(np.argmax(usable))
    if not np.isfinite(remainders[usable]).all():
        return result(
            "not resolved", "a remainder is not finite: the steps are too large or too small for these digits"
        )
    if not (remainders.any() or terms.any() or floors.any()):  # nothing moves, and nothing is predicted to
        return result("exact")
    if not is_clear.any():
        if CLEARANCE * floors[first] < EXACT * terms[first]:
            return result("exact")
        return result("not resolved", "the remainder is round-off, and so would be an error: take larger steps")
    # The smallest steps that stand clear, all of them: after them is round-off, and a remainder
    # that vanishes between steps that do not is an accident.
    last = int(np.flatnonzero(is_clear)[-1])
    window = slice(max(last - MIN_HALVINGS, 0), last + 1)
    num_clear = int(is_clear[window].sum())
    if num_clear <= MIN_HALVINGS:
        within = "clear of round-off" if first == 0 else f"between round-off and where {excluded}"
        return result(
            "not resolved",
            f"{max(num_clear - 1, 0)} of {MIN_HALVINGS} halvings stand {within}: take other steps, or more digits",
        )
    fitted = result("met", window=window)
    assert fitted.order is not None  # the window is not empty
    ends = slopes[window.start : window.stop - 1]
    if fitted.order > theory - TOLERANCE:
        if np.ptp(ends[-3:]) < STEADY:
            return fitted
        return result("not resolved", "the slope is not steady at the smallest steps: take smaller ones", window)
    misses = theory - ends
    if misses[-1] < TOLERANCE or (misses[-1] < 0.7 * misses[-2] < 0.7 * misses[-3]):
        return result("not resolved", "the slope is still on its way to theory: take smaller steps", window)
    return result("missed", window=window)


def _slope(x: Float[np.ndarray, " k"], y: Float[np.ndarray, " k"]) -> tuple[float, float]:
    """The least-squares slope and half of its 95 % interval."""
    design = np.stack([x - x.mean(), np.ones_like(x)], axis=1)
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = np.sum((y - design @ solution) ** 2) / (len(x) - 2) / np.sum(design[:, 0] ** 2)
    return float(solution[0]), float(T95 * np.sqrt(variance))


# Kinks and round-off of an update map ---------------------------------------------------------------------------------

NUM_POINTS = 17  # 13 fourth differences, of which a kink touches at most 4: their median never sees it
_SPREAD = sqrt(70.0)  # the standard deviation of 1, -4, 6, -4, 1 times independent noise of standard deviation one
_OUTLIER = 10.0


@checks.arguments
def points(step_sizes: Float[np.ndarray, " k"], *, is_one_sided: bool = False) -> Float[np.ndarray, "k+1 17"]:
    """Evenly spaced step sizes: one row that ends in each, from half of it, and a row across zero at the end.

    With `is_one_sided` the last row keeps to positive sizes, for a map that need not have a value elsewhere.
    """
    share = np.linspace(0.5, 1.0, NUM_POINTS)
    smallest = step_sizes[-1]
    around_zero = np.linspace(1 / NUM_POINTS if is_one_sided else -1.0, 1.0, NUM_POINTS)
    return np.concatenate([step_sizes[:, None] * share, smallest * around_zero[None]])


@checks.arguments
def round_off(fourth_differences: Float[np.ndarray, " 13"]) -> float:
    """The standard deviation of the round-off in one value, from fourth differences where the map itself has none."""
    return float(np.median(fourth_differences)) / _SPREAD


@checks.arguments
def first_kink(
    step_sizes: Float[np.ndarray, " k"], fourth_differences: Float[np.ndarray, "k+1 13"], noise: float
) -> tuple[float, float] | None:
    """The smallest interval of step sizes in which the map is seen not to be smooth, or None.

    A kink whose jump of slope is below about a thousandth of the change of slope over the interval is not seen; a
    curvature that changes so fast that the interval does not resolve it is taken for one.

    Args:
        step_sizes: The step sizes of `points`.
        fourth_differences: The norms of the fourth differences of the map over each row of `points`.
        noise: The round-off of one value.

    Returns:
        The ends of the interval; from 0 where the kink is at the start itself.
    """
    largest = fourth_differences.max(axis=1)
    usual = np.median(fourth_differences, axis=1)
    is_kink = ~np.isfinite(largest) | (largest > _OUTLIER * (usual + _SPREAD * noise))
    if is_kink[-1]:
        return 0.0, float(step_sizes[-1])
    for size, is_here in zip(step_sizes[::-1], is_kink[-2::-1], strict=True):
        if is_here:
            return float(size / 2), float(size)
    return None
