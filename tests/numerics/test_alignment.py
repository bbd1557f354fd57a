"""Alignment against hand-made gradients, dense derivatives and the post's claim where it holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numerics import alignment, averages, optimizers, problems, schedules
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule
from tests.support.rounding import assert_equal_to_round_off, flat

SGD = optimizers.gradient_descent()


def test_two_gradients_by_hand():
    found = alignment.of_gradients(
        {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}, {"a": jnp.array([1.0, 2.0]), "b": jnp.array(2.0)}
    )
    assert found.product == 11
    assert found.norm_minus == 5
    assert found.norm_plus == 3
    assert_equal_to_round_off(found[1:2] + found[4:], [11 / 15, 11 / 25, 11 / 9])


def test_a_vanishing_gradient_has_no_angle():
    found = alignment.of_gradients({"a": jnp.zeros(2)}, {"a": jnp.ones(2)})
    assert found.product == 0
    assert np.isnan(found.cosine)
    assert np.isnan(found.ratio_minus)
    assert found.ratio_plus == 0


@jax.jit
def stacked_gradients(several, params):
    return jax.lax.map(lambda number: several.gradient(params, number), jnp.arange(several.num_losses))


def gradients(made, params=None):
    stack = stacked_gradients(made.losses, made.params if params is None else params)
    return [jax.tree.map(lambda leaf, b=b: leaf[b], stack) for b in range(made.losses.num_losses)]


def dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_pairs_and_means_are_different_numbers():
    made = problems.make("mlp", 3, seed=1, is_opposite=True)
    of_means, of_pairs = alignment.measured(made.losses, made.params)
    each = gradients(made)
    assert_equal_to_round_off(of_pairs.product, [dot(each[k], each[3 + k]) for k in range(3)], scale=10.0)
    minus, plus = (jax.tree.map(lambda *leaves: sum(leaves) / 3, *half) for half in (each[:3], each[3:]))
    assert_equal_to_round_off(of_means.product, dot(minus, plus), scale=10.0)
    assert abs(of_means.product - of_pairs.product.mean()) > 1e-3


def test_the_split_is_a_gradient_and_a_bracket():
    made = problems.make("softmax", 2, seed=2)
    found = alignment.split(made.losses, made.params)

    def mean_product(params):
        each = gradients(made, params)
        return sum(dot(each[k], each[2 + k]) for k in range(2)) / 2

    half = jax.tree.map(lambda leaf: leaf / 2, jax.grad(mean_product)(made.params))
    assert_equal_to_round_off(found.gradient_part, half, scale=10.0)
    # Relabelling the sides keeps the one and turns the other round.
    swapped = made.losses.__class__(made.losses.functions[::-1], made.losses.batches[::-1], made.losses.names)
    other = alignment.split(swapped, made.params)
    assert_equal_to_round_off(other.gradient_part, found.gradient_part, scale=10.0)
    assert_equal_to_round_off(other.bracket, jax.tree.map(jnp.negative, found.bracket), scale=10.0)
    # Together they are what the fixed start adds in the pair-accumulated frame, per pair.
    _, second = averages.closed_form(made.losses, RandomSchedule("joint", "-"), made.params, frame="pair-accumulated")
    both = jax.tree.map(lambda a, b: 2 * (a + b), found.gradient_part, found.bracket)
    assert_equal_to_round_off(second, both, scale=10.0)


@pytest.mark.parametrize("quantity", ["pair-mean", "mean-gradients"])
@pytest.mark.parametrize(("rule", "grouping"), [("sgd", "step"), ("sgd", "schedule"), ("adamw", "step")])
def test_the_predicted_change_leaves_a_third_order(rule, grouping, quantity):
    made = problems.make("softmax", 2, seed=3, is_opposite=True)
    word = schedules.interleaved(2, first="-")
    sizes = (0.004 * 0.5 ** np.arange(6)).tolist()
    found = [
        alignment.change(
            Epoch(made.losses, word, optimizers.parse(rule), made.params),
            step_size=size,
            grouping=grouping,
            quantity=quantity,
        )
        for size in sizes
    ]
    left = [abs(float(c.measured - c.predicted(size))) for c, size in zip(found, sizes, strict=True)]
    slopes = np.log2(np.array(left[:-1]) / left[1:])
    assert abs(slopes[-1] - 3) < 0.1
    if grouping == "schedule":
        assert found[0].of_gradient_part == 0
        assert found[0].of_bracket == 0


def test_the_measured_change_is_the_change_of_the_product():
    made = problems.make("mlp", 2, seed=4)
    word = schedules.interleaved(2, first="+")
    found = alignment.change(
        Epoch(made.losses, word, SGD, made.params), step_size=0.1, grouping="step", quantity="pair-mean"
    )
    params = made.params
    for number in (2, 0, 3, 1):
        step = made.losses.gradient(params, jnp.asarray(number))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, step)
    before, after = (
        np.mean([float(dot(each[k], each[2 + k])) for k in range(2)])
        for each in (gradients(made), gradients(made, params))
    )
    assert_equal_to_round_off(found.measured, after - before, scale=10.0)


def test_a_fixed_start_can_lower_what_a_random_start_raises():
    """Claim bias-sign, in the pair-accumulated frame: the mean over the start raises E[g+ . g-] at second order, by

    |grad E[g+ . g-]|^2 / 2 per pair; one of the two starts may lower it.
    """
    signs = set()
    for seed in range(12):
        made = problems.make("quadratic", 1, seed=seed)
        found = alignment.split(made.losses, made.params)
        gradient = 2 * flat(found.gradient_part)
        rates = [float(gradient @ (flat(found.gradient_part) + s * flat(found.bracket))) for s in (1, -1)]
        assert np.mean(rates) == pytest.approx(gradient @ gradient / 2)
        signs |= {np.sign(rate) for rate in rates}
        sequential, pairs = (
            alignment.change(
                Epoch(made.losses, schedules.interleaved(1, first="-"), SGD, made.params),
                step_size=1e-3,
                grouping=grouping,
                quantity="pair-mean",
            )
            for grouping in ("step", "pair")
        )
        assert float(sequential.second - pairs.second) == pytest.approx(rates[0], abs=1e-10)
    assert signs == {1.0, -1.0}
