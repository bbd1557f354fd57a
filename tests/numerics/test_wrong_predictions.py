"""A wrong prediction is missed: each of these is a mistake that one could make in good faith."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from numerics import averages, comparison, drift, losses, optimizers, problems, schedules
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule

SGD = optimizers.gradient_descent()
WORD = schedules.interleaved(2, first="-")
JOINT = RandomSchedule("joint", "-")


@cache
def setting():
    return problems.make("softmax", 2, seed=21, is_opposite=True)


@cache
def right(schedule_name, frame):
    made = setting()
    schedule = WORD if schedule_name == "word" else JOINT
    return comparison.predicted(Epoch(made.losses, schedule, SGD, made.params), frame=frame)


def of_word(schedule):
    made = setting()
    return drift.closed_form(made.losses, schedule, made.params, frame="accumulated", order=3)


def mean(order, frame):
    made = setting()
    return averages.closed_form(made.losses, order, made.params, frame=frame)[1]


def times(factor, tree):
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def pair_mean_read_as_a_single_loss():
    """eq. (1) with L_i a single loss: the spread of all 2n losses in place of that of the n pair means."""
    made = setting()
    found = averages.terms(made.losses, made.params)

    def spread(params):
        gradients = [made.losses.gradient(params, jnp.asarray(b)) for b in range(4)]
        whole = jax.tree.map(lambda *leaves: sum(leaves) / 4, *gradients)
        apart = [jax.tree.map(jnp.subtract, g, whole) for g in gradients]
        return sum(jnp.vdot(a, b) for g in apart for a, b in zip(*[jax.tree.leaves(g)] * 2, strict=True)) / 4

    of_spread = times(-16 / 8, jax.grad(spread)(made.params))
    return jax.tree.map(lambda a, b, c: a + b + c, found.of_mean, of_spread, found.fixed_start)


# name -> (schedule, frame, the order that is wrong, the mistaken coefficient of that order)
MISTAKES = {
    "order swapped": ("word", "accumulated", 2, lambda: of_word(schedules.interleaved(2, first="+"))[1]),
    "pairs swapped": (
        "word",
        "accumulated",
        2,
        lambda: of_word(schedules.interleaved(2, first="-", order=[1, 0]))[1],
    ),
    "sign flipped": ("word", "accumulated", 2, lambda: times(-1.0, right("word", "accumulated")[1])),
    "off by 1 %": ("word", "accumulated", 2, lambda: times(1.01, right("word", "accumulated")[1])),
    "off by -1 %": ("word", "accumulated", 2, lambda: times(0.99, right("word", "accumulated")[1])),
    "third order off by 1 %": ("word", "accumulated", 3, lambda: times(1.01, right("word", "accumulated")[2])),
    "third order swapped": ("word", "accumulated", 3, lambda: of_word(schedules.reverse(WORD))[2]),
    "first order off by 1 %": ("word", "start", 1, lambda: times(1.01, right("word", "start")[0])),
    "frame: pairs read as everything": (
        "word",
        "accumulated",
        2,
        lambda: right("word", "pair-accumulated")[1],
    ),
    "frame: everything read as pairs": ("word", "pair-accumulated", 2, lambda: right("word", "accumulated")[1]),
    "frame: flow read as accumulated": ("word", "accumulated", 2, lambda: right("word", "gradient-flow")[1]),
    "pair mean read as single loss": ("mean", "accumulated", 2, pair_mean_read_as_a_single_loss),
    "independent instead of joint": (
        "mean",
        "accumulated",
        2,
        lambda: mean(RandomSchedule("independent", "-"), "accumulated"),
    ),
    "random instead of fixed start": (
        "mean",
        "accumulated",
        2,
        lambda: mean(RandomSchedule("joint", "random"), "accumulated"),
    ),
    "wrong start": ("mean", "pair-accumulated", 2, lambda: mean(RandomSchedule("joint", "+"), "pair-accumulated")),
}


def verdict(schedule_name, frame, power, coefficient):
    made = setting()
    coefficients = list(right(schedule_name, frame))
    if coefficient is not None:
        coefficients[power - 1] = coefficient
    schedule = WORD if schedule_name == "word" else JOINT
    found = comparison.compare(
        Epoch(made.losses, schedule, SGD, made.params), frame=frame, coefficients=tuple(coefficients)
    )
    return found.fits[power - 1]


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_missed(name):
    schedule_name, frame, power, wrong = MISTAKES[name]
    fit = verdict(schedule_name, frame, power, wrong())
    assert fit.verdict == "missed", fit
    assert fit.order < fit.theory - 0.9


@pytest.mark.parametrize("key", sorted({m[:3] for m in MISTAKES.values()}))
def test_and_the_right_one_is_met(key):
    schedule_name, frame, power = key
    fit = verdict(schedule_name, frame, power, None)
    assert fit.verdict == "met"
    assert abs(fit.order - fit.theory) < 0.1


@pytest.mark.parametrize("share", [1.01, -1.0])
@pytest.mark.parametrize("rule", ["adamw", "nesterov"])
def test_a_mistake_about_another_rule_is_missed(rule, share):
    made = setting()
    optimizer = optimizers.parse(rule)
    first, second, third = comparison.predicted(Epoch(made.losses, WORD, optimizer, made.params), frame="accumulated")
    wrong = first, times(share, second), third
    found = comparison.compare(
        Epoch(made.losses, WORD, optimizer, made.params), frame="accumulated", coefficients=wrong
    )
    assert found.fits[0].verdict == "met"
    assert found.fits[1].verdict == "missed"


@pytest.mark.parametrize("factor", [-1.0, 0.0, 10.0, 1e20])
@pytest.mark.parametrize(("rule", "frame"), [("sgd", "start"), ("adam", "accumulated"), ("sgd", "accumulated")])
def test_what_cannot_be_seen_is_no_pass(rule, frame, factor):
    """A wrong third order at steps at which it drowns, given or chosen from the wrong coefficient itself."""
    made = setting()
    optimizer = optimizers.parse(rule)
    first, second, third = comparison.predicted(Epoch(made.losses, WORD, optimizer, made.params), frame=frame)
    found = comparison.compare(
        Epoch(made.losses, WORD, optimizer, made.params),
        frame=frame,
        coefficients=(first, second, times(factor, third)),
        largest_step=1e-8 if factor < 1e3 else None,
    )
    assert found.fits[2].verdict in ("not resolved", "missed")


def test_the_same_data_on_both_sides_is_judged_like_any_other():
    """L+ = -L- on the same data: the first order vanishes, and the steps must not be chosen from it."""
    made = problems.make("softmax", 1, seed=0)
    function, batches = made.losses.functions[1], made.losses.batches[1]
    several = losses.pairs(losses.negated(function), batches, function, batches)
    word = schedules.interleaved(1, first="-")
    c = comparison.predicted(Epoch(several, word, SGD, made.params), frame="accumulated")
    found = comparison.compare(Epoch(several, word, SGD, made.params), frame="accumulated")
    assert [fit.verdict for fit in found.fits] == ["met"] * 3
    for factor in (-1.0, 0.0, 3.0):
        wrong = c[0], c[1], times(factor, c[2])
        found = comparison.compare(Epoch(several, word, SGD, made.params), frame="accumulated", coefficients=wrong)
        assert found.fits[2].verdict == "missed"


def test_a_mean_over_many_words_in_float32_is_not_missed():
    made = problems.make("quadratic", 4, seed=0, is_opposite=True, dtype="float32")
    order = RandomSchedule("independent", "random-per-pair")
    found = comparison.compare(Epoch(made.losses, order, SGD, made.params), frame="accumulated")
    assert all(fit.verdict != "missed" for fit in found.fits)
    assert found.fits[0].verdict == "met"


def test_no_drift_at_all_is_exact():
    """One step is its own accumulated update."""
    made = setting()
    found = comparison.compare(Epoch(made.losses, schedules.steps([0]), SGD, made.params), frame="accumulated")
    assert [fit.verdict for fit in found.fits] == ["exact"] * 3
