"""The observed order of a remainder: the slope of its logarithm over that of the step size, and whether theory is met.

A remainder c * step^p * (1 + O(step)) has slopes between successive steps that tend to p. Above, higher powers bend
them; below, round-off takes over. So the order is fitted over the smallest steps whose remainder stands clear of
round-off, and where these are too few, or the slopes are still on their way, there is no verdict.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from numerics import checks

__all__ = ["Fit", "Verdict", "fit"]

Verdict = Literal["met", "exact", "missed", "not resolved"]

TOLERANCE = 0.1
STEADY = 0.3  # how far the last three local slopes may lie apart: a remainder that passes through zero bends them
MIN_HALVINGS = 5
CLEARANCE = 20.0  # round-off of 5 % of the smallest remainder bends the slope over five halvings by about 0.01
EXACT = 0.01  # a remainder that is all round-off says something where one per cent of the last term would be seen

# Two-sided 95 % points of Student's t with 1 ... 30 degrees of freedom (any table): the fit has few of them.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Fit:
    """A fitted order and what it says.

    Attributes:
        theory: The order that the remainder must have at least.
        verdict: "met"; "exact" where all that is left is round-off; "missed"; "not resolved".
        order: The fitted slope, None where too few steps stand clear of round-off.
        half_width: Half of its 95 % interval, by Student's t from the residuals of the fit: it shows how straight the
            line is and holds no guarantee for what lies beyond the steps.
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
        floors: What round-off alone may make of it.
        terms: The size that the last predicted term has, or would have if it were not zero; it tells a remainder that
            is exact from one that cannot be seen.
        theory: The order that is to be met.
        is_usable: Which steps may be used: all unless given.
        excluded: Why the others may not.

    Raises:
        ValueError: If the step sizes do not descend, or there are fewer than two.
    """
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
    # The smallest steps that stand clear, all of them: what comes after is round-off, and a remainder
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
    freedom = len(x) - 2
    variance = np.sum((y - design @ solution) ** 2) / freedom / np.sum(design[:, 0] ** 2)
    return float(solution[0]), float(_T95[min(freedom, len(_T95)) - 1] * np.sqrt(variance))
