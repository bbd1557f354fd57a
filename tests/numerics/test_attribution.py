"""The gap between two runs: closed forms for each cause by itself, and a sum that is the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from numerics import alignment, attribution, losses, optimizers, problems, schedules, updates
from numerics.epoch import Epoch
from tests.support.rounding import assert_equal_to_round_off, flat, norm

SGD = optimizers.gradient_descent()
ETA = 0.01


def linear(params, gradient):
    """A loss with a constant gradient: nothing but first order happens."""
    return params["x"] @ gradient


def constant_gradients(minus, plus):
    several = losses.pairs(linear, jnp.array(minus)[None], linear, jnp.array(plus)[None])
    return several, {"x": jnp.zeros(len(minus))}


def attributed(several, params, stages, *, rate, num_warm_up=0, step_size=ETA):
    word = schedules.interleaved(several.num_pairs, first="-")
    return attribution.gap(
        several,
        word,
        stages,
        params,
        step_size=step_size,
        rate=rate,
        reduction="mean",
        num_warm_up=num_warm_up,
    )


def test_the_rate_of_gradient_descent():
    """At eta/2 two steps are one step on the mean; at eta/sqrt(2) they go sqrt(2) times as far (claim lr-match)."""
    several, params = constant_gradients([1.0, -2.0], [3.0, 1.0])
    mean = np.array([2.0, -0.5])
    matched = attributed(several, params, {"learning rate": SGD}, rate=0.5)
    assert_equal_to_round_off(matched.first_order["learning rate"], np.zeros(2), scale=ETA)
    post = attributed(several, params, {"learning rate": SGD}, rate=0.5**0.5)
    assert_equal_to_round_off(post.first_order["learning rate"], -ETA * (2**0.5 - 1) * mean, scale=ETA)
    assert_equal_to_round_off(post.total, post.first_order["learning rate"], scale=ETA)
    assert not flat(post.bracket).any()


def test_the_clip_of_a_mean_is_not_the_mean_of_clips():
    several, params = constant_gradients([3.0, 0.0], [0.0, 0.5])
    stages = optimizers.stages(
        "clipped-adamw", {"max_norm": 1.0, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "eps_root": 0.0}
    )
    found = attributed(several, params, {k: stages[k] for k in ("learning rate", "clipping")}, rate=0.5)
    mean = np.array([1.5, 0.25])
    sequential = -ETA / 2 * np.array([1.0, 0.5])
    accumulated = -ETA * mean / np.linalg.norm(mean)
    assert_equal_to_round_off(found.first_order["clipping"], sequential - accumulated, scale=ETA)


def test_adamw_in_its_steady_state():
    """Claim adamw-alternation: -eta (a + b)/sqrt(a^2 + b^2) against -eta sign(a + b), at the post's eta/sqrt(2)."""
    a, b = np.array([1.0, 2.0, -3.0, 1.0]), np.array([-0.9, 1.0, 0.5, 1.0])
    several, params = constant_gradients(list(a), list(b))
    stages = optimizers.stages("adamw", {"b1": 0.9, "b2": 0.9999, "eps": 1e-12, "weight_decay": 0.0, "eps_root": 0.0})
    found = attributed(several, params, stages, rate=0.5**0.5, num_warm_up=100_000)
    expected = -ETA * ((a + b) / np.sqrt(a**2 + b**2) - np.sign(a + b))
    # beta_2 is not 1: v swings by (1 - beta_2)/2 = 5e-5 within a pair.
    assert np.abs(flat(found.total) - expected).max() < 1e-4 * ETA
    parts = sum(flat(part) for part in found.first_order.values())
    assert_equal_to_round_off(found.total, parts, scale=ETA)


def test_weight_decay_counts_every_step():
    """Decoupled decay pulls sqrt(2) times as hard per pair at eta/sqrt(2) (THEORY: confounds)."""
    several, params = constant_gradients([1.0, -2.0], [3.0, 1.0])
    params = {"x": jnp.array([5.0, 7.0])}
    stages = optimizers.stages("adamw", {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.1, "eps_root": 0.0})
    found = attributed(several, params, stages, rate=0.5**0.5)
    expected = -ETA * 0.1 * (2**0.5 - 1) * np.array([5.0, 7.0])
    assert_equal_to_round_off(found.first_order["weight decay"], expected, scale=10 * ETA)


def test_a_frozen_preconditioner_takes_normalisation_away():
    """With one v for all schedules the frozen gap at the matching rate is only that of memory; without memory none."""
    made = problems.make("mlp", 1, seed=1, is_opposite=True)
    word = schedules.interleaved(1, first="-")
    v = optimizers.second_moment(made.losses, word, made.params)
    each = [made.losses.gradient(made.params, jnp.asarray(k)) for k in range(2)]
    assert_equal_to_round_off(v, jax.tree.map(lambda a, b: (a * a + b * b) / 2, *each), scale=10.0)
    frozen = optimizers.frozen_adamw(v, b1=0.0, eps=1e-3)
    found = attributed(made.losses, made.params, {"frozen": frozen}, rate=0.5)
    assert_equal_to_round_off(found.first_order["frozen"], jax.tree.map(jnp.zeros_like, v), scale=ETA)
    adam = optax.adam(1.0, b1=0.0, b2=0.999, eps=1e-3)
    moving = attributed(made.losses, made.params, {"adam": adam}, rate=0.5)
    assert norm(moving.first_order["adam"]) > 0.1 * ETA
    # What it does with one gradient is Adam's own first step, whose v is the square of that gradient.
    alone = optimizers.frozen_adamw(jax.tree.map(lambda g: g * g, each[0]), eps=1e-8, weight_decay=0.1)
    real = optax.adamw(1.0, eps=1e-8, weight_decay=0.1)
    steps = [
        updates.sequential(Epoch(made.losses, schedules.steps([0]), rule, made.params), step_size=ETA).displacement
        for rule in (alone, real)
    ]
    assert_equal_to_round_off(*steps, scale=ETA)


def test_the_parts_are_the_whole_and_the_remainder_is_of_third_order():
    made = problems.make("softmax", 2, seed=2, is_opposite=True)
    stages = optimizers.stages(
        "clipped-adamw", {"max_norm": 0.05, "b1": 0.9, "b2": 0.99, "eps": 1e-8, "eps_root": 1e-2, "weight_decay": 0.1}
    )
    every = [
        attributed(made.losses, made.params, stages, rate=0.25, num_warm_up=3, step_size=size)
        for size in (0.05 * 0.5 ** np.arange(6)).tolist()
    ]
    for found in every:
        parts = [*found.first_order.values(), found.gradient_part, found.bracket, found.remainder]
        assert_equal_to_round_off(sum(flat(part) for part in parts), found.total, scale=1.0)
        assert list(found.first_order) == ["learning rate", "clipping", "memory", "normalisation", "weight decay"]
    left = [norm(found.remainder) for found in every]
    slopes = np.log2(np.array(left[:-1]) / left[1:])
    assert abs(slopes[-1] - 3) < 0.1


@pytest.mark.parametrize("first", ["-", "+"])
def test_the_second_order_of_descent_is_alignment_and_bracket(first):
    """One pair at eta/2: eta^2/8 grad(g+ . g-) whoever begins, and a bracket that depends on it."""
    made = problems.make("softmax", 1, seed=3)
    found = attribution.gap(
        made.losses,
        schedules.interleaved(1, first=first),
        {"learning rate": SGD},
        made.params,
        step_size=ETA,
        rate=0.5,
        reduction="mean",
        num_warm_up=0,
    )
    split = alignment.split(made.losses, made.params)
    sign = 1.0 if first == "-" else -1.0
    share = ETA**2 / 4
    assert_equal_to_round_off(
        found.gradient_part, jax.tree.map(lambda leaf: share * leaf, split.gradient_part), scale=ETA**2
    )
    assert_equal_to_round_off(
        found.bracket, jax.tree.map(lambda leaf: sign * share * leaf, split.bracket), scale=ETA**2
    )
