"""Scales, brackets and averages in every prediction: against power series of quadratics, and against real updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from numerics import alignment, attribution, averages, comparison, drift, optimizers, problems, random_schedules
from numerics import schedules as schedules_
from numerics.catalogue import FRAMES
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule
from tests.support.rounding import assert_equal_to_round_off, flat, norm

SGD = optimizers.gradient_descent()
MADE = problems.make("quadratic", 2, seed=3, is_opposite=True)
WORD = schedules_.word("(-:3+)-(+:1/2)", ("-", "+"), (2, 2))
REDUCTIONS = ("sum", "mean")


# The second algorithm: a quadratic's gradient of a power series is a power series, exactly ---------------------------


def fields():
    """A and b of every gradient A x + b."""
    sides = zip((-1.0, 1.0), MADE.losses.batches, strict=True)
    return [(sign * A, sign * b) for sign, (As, bs) in sides for A, b in zip(*map(np.asarray, (As, bs)), strict=True)]


def walked(steps, groups, reduction):
    """c_1, c_2, c_3 of the steps (number, scale), whose gradients are read once per group."""
    place = [np.asarray(MADE.params["x"]), *np.zeros((3, 6))]
    start = 0
    for size in groups:
        before = [term.copy() for term in place]
        for number, scale in steps[start : start + size]:
            A, b = fields()[number]
            weight = scale / size if reduction == "mean" else scale
            for k in range(3):
                place[k + 1] = place[k + 1] - weight * (A @ before[k] + (b if k == 0 else 0.0))
        start += size
    return place[1:]


def of_frame(steps, groups, frame, reduction):
    m = len(steps)
    match frame:
        case "start":
            return np.zeros((3, 6))
        case "gradient-flow":
            sizes = np.repeat(groups, groups) if reduction == "mean" else np.ones(m)
            parts = [[s / k * part for part in fields()[b]] for (b, s), k in zip(steps, sizes, strict=True)]
            A, b = (np.sum(each, axis=0) for each in zip(*parts, strict=True))
            f = -(A @ np.asarray(MADE.params["x"]) + b)
            return [f, -A @ f / 2, A @ A @ f / 6]
        case _:
            return walked(steps, [m] if frame == "accumulated" else [2] * (m // 2), reduction)


def drifts(steps, groups, frame, reduction):
    parts = walked(steps, groups, reduction), of_frame(steps, groups, frame, reduction)
    return [a - b for a, b in zip(*parts, strict=True)]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_word_whose_brackets_average(frame):
    steps = list(zip(WORD.losses.tolist(), WORD.scales.tolist(), strict=True))
    expected = drifts(steps, WORD.sizes, frame, "mean")
    epoch = Epoch(MADE.losses, WORD, SGD, MADE.params)
    closed = drift.closed_form(MADE.losses, WORD, MADE.params, frame=frame, order=3, reduction="mean")
    forward = drift.taylor(epoch, frame=frame, order=3, reduction="mean")
    for found in (closed, forward):
        assert_equal_to_round_off(found, expected, scale=30.0)


def test_real_updates_whose_brackets_average():
    made = problems.make("logistic", 2, seed=4)
    epoch = Epoch(made.losses, WORD, optimizers.parse("adamw"), made.params)
    found = comparison.compare(epoch, frame="accumulated", reduction="mean")
    assert [fit.verdict for fit in found.fits] == ["met"] * 3
    real = drift.measured(epoch, step_size=found.step_sizes[0], frame="accumulated", reduction="mean")
    assert norm(real) == pytest.approx(found.measured[0], rel=1e-9)


def test_the_flow_of_a_word_whose_brackets_average_is_an_exponential():
    size = 0.125
    # The scales 3, 1, 1, 1/2 of the losses 0, 2, 1, 3, the first two halved.
    (A0, b0), (A1, b1), (A2, b2), (A3, b3) = fields()
    A, b = 1.5 * A0 + A2 / 2 + A1 + A3 / 2, 1.5 * b0 + b2 / 2 + b1 + b3 / 2
    x = np.asarray(MADE.params["x"])
    field = np.zeros((7, 7))
    field[:6, :6], field[:6, 6] = -A, -b
    flow = (scipy.linalg.expm(size * field) @ [*x, 1.0])[:6] - x
    at = x - size * (3 * (A0 @ x + b0) + A2 @ x + b2) / 2
    at = at - size * (A1 @ at + b1)
    at = at - size * (A3 @ at + b3) / 2
    epoch = Epoch(MADE.losses, WORD, SGD, MADE.params)
    real = drift.measured(epoch, step_size=size, frame="gradient-flow", reduction="mean")
    assert_equal_to_round_off(real, at - x - flow, scale=1.0)


# Means ----------------------------------------------------------------------------------------------------------------

PAIRS = (("joint", "-"), ("joint", "+"), ("joint", "random"), ("independent", "-"), ("all", None))


@pytest.mark.parametrize("per", [1, 2])
@pytest.mark.parametrize(("pairs", "start"), PAIRS)
def test_the_closed_mean_is_the_mean_over_words(pairs, start, per):
    schedule = RandomSchedule(pairs, start, (0.5, 3.0), per)
    words = random_schedules.enumerate(schedule, 2).tolist()
    scaled = [[(number, schedule.scales[number >= 2]) for number in word] for word in words]
    for frame in FRAMES:
        for reduction in REDUCTIONS:
            every = [drifts(word, [per] * (4 // per), frame, reduction)[:2] for word in scaled]
            found = averages.closed_form(MADE.losses, schedule, MADE.params, frame=frame, reduction=reduction)
            assert_equal_to_round_off(found, np.mean(every, axis=0), scale=30.0)


def test_means_of_longer_updates_are_enumerated():
    """No closed form: the mean over the 6 x 6 words of three pairs, each two updates of three steps."""
    made = problems.make("logistic", 3, seed=4)
    schedule = RandomSchedule("joint", "random", (1.0, 0.5), 3)
    assert not averages.has_closed_form(schedule)
    with pytest.raises(ValueError, match=r"must have permuted pairs, and updates per step or per pair.*per=3"):
        averages.closed_form(made.losses, schedule, made.params, frame="start")
    found = comparison.compare(Epoch(made.losses, schedule, SGD, made.params), frame="accumulated", reduction="mean")
    assert [fit.verdict for fit in found.fits] == ["met"] * 3


def test_every_word_of_a_random_schedule_has_its_scales_and_brackets():
    schedule = RandomSchedule("all", None, (0.5, 3.0), 2)
    drawn = random_schedules.sample(schedule, 3, jax.random.key(0))
    for word in (drawn, random_schedules.first_word(schedule, 3)):
        assert word.sizes == (2, 2, 2)
        assert np.asarray(word.scales).tolist() == [0.5 if number < 3 else 3.0 for number in np.asarray(word.losses)]
    mean = averages.exact_mean(lambda word: word.scales[0] * len(word.sizes), schedule, 2)
    assert mean == pytest.approx(2 * (0.5 + 3.0) / 2)
    with pytest.raises(ValueError, match=r"^per must divide the 6 steps of 3 pairs; got 4\.$"):
        random_schedules.sample(RandomSchedule("all", None, per=4), 3, jax.random.key(0))


# Gaps and alignments --------------------------------------------------------------------------------------------------


def slopes(values):
    return np.diff(np.log2(values)) / -1


def test_the_gap_of_a_word_whose_brackets_average_is_explained():
    made = problems.make("softmax", 2, seed=2, is_opposite=True)
    stages = optimizers.stages("heavy-ball")
    left = [
        norm(
            attribution.gap(
                *(made.losses, WORD, stages, made.params),
                step_size=size,
                rate=0.5,
                reduction="mean",
                num_warm_up=1,
            ).remainder
        )
        for size in (0.05 * 0.5 ** np.arange(6)).tolist()
    ]
    assert abs(slopes(left)[-1] - 3) < 0.1


def test_the_change_of_an_alignment_by_updates_that_average():
    made = problems.make("softmax", 2, seed=3, is_opposite=True)
    epoch = Epoch(made.losses, WORD, SGD, made.params)
    sizes = (0.004 * 0.5 ** np.arange(6)).tolist()
    found = [
        alignment.change(epoch, step_size=size, grouping="step", quantity="pair-mean", reduction="mean")
        for size in sizes
    ]
    left = [abs(float(each.measured - each.predicted(size))) for each, size in zip(found, sizes, strict=True)]
    assert abs(slopes(left)[-1] - 3) < 0.1
    # By hand: the mean of g- . g+ over pairs moves at first order by its gradient along the averaged steps.
    steps = gradients(made, made.params)
    first, second = (
        jax.tree.map(lambda *leaves, w=weights: -sum(map(np.multiply, w, leaves)), *steps)
        for weights in ((1.5, 1.0, 0.5, 0.5), (3.0, 1.0, 1.0, 0.5))
    )

    def product(params):
        each = gradients(made, params)
        return sum(flat_dot(each[k], each[2 + k]) for k in range(2)) / 2

    slope = jax.grad(product)(made.params)
    assert found[0].first == pytest.approx(float(flat(slope) @ flat(first)), rel=1e-10)
    added = alignment.change(epoch, step_size=0.004, grouping="step", quantity="pair-mean")
    assert added.first == pytest.approx(float(flat(slope) @ flat(second)), rel=1e-10)


def gradients(made, params):
    return [made.losses.gradient(params, jnp.asarray(number)) for number in range(4)]


def flat_dot(a, b):
    return sum((x * y).sum() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
