"""The judge: fitted orders of remainders that are known, and every way to be without a verdict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerics import convergence

SIZES = 0.1 * 0.5 ** np.arange(11)


def judged(remainders, *, theory=3, floor=1e-18, sizes=SIZES, **options):
    return convergence.fit(sizes, remainders, np.full(len(sizes), floor) * sizes, sizes**2, theory=theory, **options)


@given(st.floats(1e-3, 1e3), st.sampled_from([2, 3, 4]), st.floats(-3, 3))
def test_a_power_with_a_correction_is_met(coefficient, theory, correction):
    fit = judged(coefficient * SIZES**theory * (1 + correction * SIZES), theory=theory, floor=1e-22)
    assert fit.verdict == "met"
    assert abs(fit.order - theory) < 0.02


@given(st.floats(1e-3, 1e3), st.sampled_from([2, 3, 4]), st.floats(-3, 3))
def test_one_power_less_is_missed(coefficient, theory, correction):
    fit = judged(coefficient * SIZES ** (theory - 1) * (1 + correction * SIZES), theory=theory, floor=1e-22)
    assert fit.verdict == "missed"


@given(st.floats(0.3, 3.0), st.sampled_from([-1, 1]))
def test_one_per_cent_of_the_order_below_is_missed(ratio, sign):
    """What a coefficient that is off by a hundredth leaves: the slope bends away from theory."""
    fit = judged(np.abs(ratio * SIZES**3 + sign * 0.01 * SIZES**2))
    assert fit.verdict == "missed"


def test_a_slope_that_is_on_its_way_is_no_verdict():
    """A power of three that a power of two still outweighs at every step but does not at smaller ones ... backwards."""
    fit = judged(SIZES**3 / (1 + 300 * SIZES))
    assert fit.verdict == "not resolved"
    assert "smaller steps" in fit.reason


def test_a_higher_order_is_met():
    assert judged(SIZES**4).verdict == "met"


def test_round_off_is_not_fitted():
    noise = 1e-9 * SIZES * np.array([1, -1, 1, 1, -1, 1, -1, -1, 1, -1, 1])
    fit = judged(np.abs(SIZES**3 + noise), floor=1e-9)
    assert not any(fit.used[i] and SIZES[i] ** 3 < 20e-9 * SIZES[i] for i in range(len(SIZES)))
    assert fit.verdict == "met"
    assert fit.used == tuple(SIZES**2 > 20e-9) or sum(fit.used) == 6


def test_a_remainder_that_vanishes_by_accident_is_neither_exact_nor_met():
    """Two powers that cancel at one step: at the first, in the middle, and where the slopes are read."""
    for zero in (SIZES[0], SIZES[3], SIZES[-2] * 1.2):
        fit = judged(np.abs(SIZES**3 - zero * SIZES**2), floor=1e-19)
        assert fit.verdict in ("missed", "not resolved"), fit


def test_too_few_steps_above_round_off():
    fit = judged(SIZES**3, floor=1e-5)
    assert fit.verdict == "not resolved"
    assert "clear of round-off" in fit.reason
    assert fit.order is None


def test_all_round_off_is_exact_only_if_it_would_show_a_per_cent():
    assert judged(1e-17 * SIZES, floor=1e-17).verdict == "exact"
    assert judged(1e-4 * SIZES, floor=1e-4).verdict == "not resolved"


def test_what_is_not_finite_or_not_usable():
    remainders = SIZES**3
    assert judged(np.where(SIZES > 0.05, np.inf, remainders)).verdict == "not resolved"
    usable = SIZES < 0.03
    fit = judged(np.where(SIZES > 0.05, np.inf, remainders), is_usable=usable, excluded="it jumps")
    assert fit.verdict == "met"
    assert not np.any(np.array(fit.used) & ~usable)
    assert judged(remainders, is_usable=SIZES < 0, excluded="it jumps").reason == "it jumps"
    assert "it jumps" in judged(remainders, is_usable=SIZES < 1e-3, excluded="it jumps").reason


def test_the_interval_is_that_of_the_regression():
    """Against numpy's own covariance, with Student's point for four degrees of freedom."""
    wiggle = np.array([0.02, -0.03, 0.01, 0.03, -0.02, 0.01, -0.01, 0.02, -0.02, 0.01, 0.0])
    fit = judged(SIZES**3 * 2**wiggle)
    used = np.array(fit.used)
    slope, covariance = np.polyfit(np.log2(SIZES[used]), np.log2(SIZES**3)[used] + wiggle[used], 1, cov="unscaled")
    rest = np.log2(SIZES**3)[used] + wiggle[used] - np.polyval(slope, np.log2(SIZES[used]))
    assert fit.order == pytest.approx(slope[0], abs=1e-12)
    expected = 2.776 * np.sqrt(covariance[0, 0] * np.sum(rest**2) / 4)
    assert fit.half_width == pytest.approx(expected, rel=1e-9)


# The difference table -------------------------------------------------------------------------------------------------


def table(function, sizes=SIZES):
    values = np.array([[function(x) for x in row] for row in convergence.points(sizes)])
    return np.abs(np.diff(values, n=4, axis=1))


def test_smooth_maps_have_no_kink():
    for function in (np.exp, lambda x: 1 / (1 + x), lambda x: x**2, lambda x: 3.0):
        assert convergence.first_kink(SIZES, table(function), 1e-16) is None


@given(st.floats(1e-4, 0.0999), st.floats(1e-2, 10.0))
def test_a_kink_is_found_where_it_is(place, jump):
    found = convergence.first_kink(SIZES, table(lambda x: np.exp(x) + jump * max(x - place, 0.0)), 1e-16)
    assert found is not None
    low, high = found
    assert low <= place <= high


def test_a_kink_at_the_start_and_the_first_of_two():
    assert convergence.first_kink(SIZES, table(lambda x: np.exp(x) + abs(x)), 1e-16) == (0.0, SIZES[-1])
    found = convergence.first_kink(SIZES, table(lambda x: max(x - 0.06, 0) + max(x - 0.002, 0)), 1e-16)
    assert found is not None
    assert found[0] <= 0.002 <= found[1]


def test_a_pole_is_a_kink():
    with np.errstate(invalid="ignore"):
        found = table(lambda x: np.inf if x > 0.07 else x)
    assert convergence.first_kink(SIZES, found, 1e-16) == (0.05, 0.1)


def test_round_off_is_read_from_the_table():
    random = np.random.default_rng(0)
    rows = [np.abs(np.diff(1.0 + 1e-9 * random.normal(size=17), n=4)) for _ in range(200)]
    found = np.array([convergence.round_off(row) for row in rows])
    # The median of |N| is 0.67 of its deviation.
    assert np.median(found) == pytest.approx(0.67e-9, rel=0.15)
