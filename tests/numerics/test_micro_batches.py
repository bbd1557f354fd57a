"""Batches of unequal sizes and functions in lists: against losses that are written out one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numerics import alignment, drift, losses, micro_batches, optimizers, schedules, updates
from numerics.epoch import Epoch
from tests.support.rounding import assert_equal_to_round_off

SGD = optimizers.gradient_descent()
RANDOM = np.random.default_rng(0)
SIZES = (3, 1, 5)
BATCHES = [(RANDOM.normal(size=(size, 2)), RANDOM.uniform(0.5, 1.0, size=size)) for size in SIZES]
START = jnp.array([0.5, -0.25])


def of_example(params, example):
    """The logarithm is infinite at a target of zero, which padding with zeros would make."""
    features, target = example
    return (jnp.tanh(features @ params) - jnp.log(target)) ** 2


def whole(params, batch):
    """The losses of all examples of one batch, written out."""
    features, targets = batch
    return (jnp.tanh(features @ params) - jnp.log(targets)) ** 2


@pytest.mark.parametrize("reduction", ["sum", "batch-mean", "example-mean"])
def test_a_padded_batch_is_the_batch(reduction):
    function, stack = micro_batches.padded(of_example, BATCHES, reduction=reduction)
    padded = losses.Losses((function,), (stack,), ("a",))
    divisors = {"sum": (1, 1, 1), "batch-mean": SIZES, "example-mean": (3, 3, 3)}[reduction]
    listed = losses.of_params(
        [lambda p, b=b, d=d: jnp.sum(whole(p, b)) / d for b, d in zip(BATCHES, divisors, strict=True)]
    )
    word = schedules.word("a(aa)", ("a",), (3,))
    found, expected = (drift.closed_form(each, word, START, frame="accumulated", order=3) for each in (padded, listed))
    assert_equal_to_round_off(found, expected, scale=100.0)
    # Accumulated over the batches, "example-mean" averages to the mean over all examples, "batch-mean" does not.
    mean = updates.accumulated(Epoch(padded, word, SGD, START), step_size=1.0, per="schedule", reduction="mean")
    every = jax.grad(lambda p: jnp.mean(jnp.concatenate([whole(p, batch) for batch in BATCHES])))(START)
    is_equal = np.allclose(-mean.displacement, every, rtol=1e-12)
    assert is_equal == (reduction == "example-mean")


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_a_loss_of_one_example_is_a_scalar(shape):
    """Two batches of two examples: a vector of two would be weighted along the wrong axis."""
    batches = [np.ones((2, 2))] * 2
    function, stack = micro_batches.padded(lambda p, x: jnp.ones(shape) * (p @ x), batches, reduction="sum")
    with pytest.raises(TypeError, match="the loss of one example must be a real scalar"):
        losses.check(losses.Losses((function,), (stack,), ("a",)), START)


def test_pairs_of_functions_are_pairs():
    """Three functions a side, of another form each; the batches they hold differ in shape."""
    minus = [lambda p, b=b: -jnp.sum(whole(p, b)) for b in BATCHES]
    plus = [lambda p: jnp.sum(p**4), lambda p: jnp.cos(p[0]) * p[1], lambda p: jnp.sum(whole(p, BATCHES[2]))]
    pairs = losses.pairs_of_params(minus, plus)
    assert pairs.num_pairs == 3
    word = schedules.interleaved(3, first="-")
    listed = losses.of_params([*minus, *plus])
    assert_equal_to_round_off(
        drift.closed_form(pairs, word, START, frame="start", order=3),
        drift.closed_form(listed, word, START, frame="start", order=3),
        scale=1000.0,
    )
    of_means, _ = alignment.measured(pairs, START)
    sides = [[jax.grad(f)(START) for f in side] for side in (minus, plus)]
    assert_equal_to_round_off(of_means.product, np.mean(sides[0], axis=0) @ np.mean(sides[1], axis=0), scale=10.0)
    with pytest.raises(ValueError, match=r"^plus_functions must be as many as minus_functions; got 2 for 3\.$"):
        losses.pairs_of_params(minus, plus[:2])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([np.ones((2, 1)), np.ones((0, 1))], r"batches\[1\] must hold one number of examples, one at least"),
        ([np.ones((2, 1)), np.ones((2, 2))], r"batches\[1\] must hold examples as batches\[0\] does"),
        ([(np.ones((2, 1)), np.ones(3))], r"batches\[0\] must hold one number of examples"),
    ],
)
def test_batches_that_do_not_fit_are_refused(batches, message):
    with pytest.raises(ValueError, match=message):
        micro_batches.padded(of_example, batches, reduction="sum")
