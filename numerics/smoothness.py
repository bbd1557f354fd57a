"""Whether an update map is smooth over the steps that are compared, and how much of it is round-off.

A clip that switches on between two step sizes, or an Adam whose eps is small beside a gradient coordinate that changes
sign, puts a kink into the map, and there it has no Taylor expansion. Nothing about the rule is known here; the map
betrays itself on evenly spaced step sizes. Fourth differences of a smooth map are small and vary little; a kink stands
out in the few that touch it; and where neither is there, what is left is round-off (the difference table of
Hamming 1962, chapter 1, and of More and Wild 2011, "Estimating computational noise").
"""

from math import sqrt

import numpy as np
from jaxtyping import Float

from numerics import checks

__all__ = ["NUM_POINTS", "first_kink", "points", "round_off"]

NUM_POINTS = 17  # 13 fourth differences, of which a kink touches at most 4: their median never sees it
_SPREAD = sqrt(70.0)  # the standard deviation of 1, -4, 6, -4, 1 times independent noise of standard deviation one
_OUTLIER = 10.0


@checks.arguments
def points(step_sizes: Float[np.ndarray, " k"], *, is_one_sided: bool = False) -> Float[np.ndarray, "k+1 17"]:
    """Evenly spaced step sizes: one row that ends in each, from half of it, and a row across zero at the end.

    Args:
        step_sizes: Descending, each half of the one before.
        is_one_sided: Whether the last row keeps to positive sizes, for a map that need not have a value elsewhere.
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
        step_sizes: Those that `points` was given.
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
    for size, found in zip(step_sizes[::-1], is_kink[-2::-1], strict=True):
        if found:
            return float(size / 2), float(size)
    return None
