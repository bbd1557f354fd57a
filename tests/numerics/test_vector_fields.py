"""Losses with `stop_gradient`: their updates follow a field whose derivatives JAX does not give."""

from dataclasses import dataclass, field
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings

from numerics import (
    alignment,
    attribution,
    averages,
    comparison,
    drift,
    losses,
    networks,
    optimizers,
    problems,
    schedules,
)
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule
from numerics.vector_fields import as_computed
from tests.support.rounding import assert_equal_to_round_off, flat
from tests.support.strategies import SCHEDULES, seeds

SGD = optimizers.gradient_descent()
WORD = schedules.interleaved(2, first="-")
stop = jax.lax.stop_gradient


# The on-policy ratio: the field of the log-likelihood -----------------------------------------------------------------


def _ratio(logits, arm):
    log_prob = jax.nn.log_softmax(logits)[arm]
    return -jnp.exp(log_prob - stop(log_prob))


def test_the_correction_of_a_ratio_is_that_of_the_policy_gradient():
    """Three arms; c_2 = H+ g- with H+ = diag p - p p^T and g- = e_1 - p, whichever arm is preferred."""
    logits = np.array([0.3, -0.2, 0.5])
    pairs = losses.pairs(losses.negated(_ratio), jnp.array([1]), _ratio, jnp.array([0]))
    word = schedules.interleaved(1, first="-")
    p = np.exp(logits) / np.exp(logits).sum()
    exact = (np.diag(p) - np.outer(p, p)) @ (np.eye(3)[1] - p)
    np.testing.assert_allclose(exact, [-0.0744, 0.1992, -0.1247], atol=5e-5)
    for coefficients in (
        drift.closed_form(pairs, word, jnp.asarray(logits), frame="accumulated", order=2),
        drift.taylor(Epoch(pairs, word, SGD, jnp.asarray(logits)), frame="accumulated", order=2),
    ):
        assert_equal_to_round_off(coefficients[1], exact)


def _predictions(name):
    """Everything that takes derivatives of gradients, on n = 2 pairs."""
    made = problems.make(name, 2, seed=0)
    setting = made.losses, made.params
    adam = optimizers.parse("adam")
    yield drift.closed_form(made.losses, WORD, made.params, frame="gradient-flow", order=2)
    yield drift.taylor(Epoch(made.losses, WORD, adam, made.params), frame="accumulated", order=2)
    yield averages.terms(*setting)
    yield averages.closed_form(made.losses, RandomSchedule("joint", "random"), made.params, frame="pair-accumulated")
    yield alignment.split(*setting)
    yield alignment.change(
        Epoch(made.losses, WORD, SGD, made.params), step_size=0.1, grouping="step", quantity="pair-mean"
    )
    stages = {"learning rate": SGD, "normalisation": adam}
    yield attribution.gap(
        made.losses, WORD, stages, made.params, step_size=0.1, rate=0.5, reduction="mean", num_warm_up=1
    )


def test_every_prediction_for_a_ratio_is_that_for_the_log_likelihood():
    """A law: both losses have one gradient at all parameters, so they make the same updates."""
    for of_ratio, of_log in zip(_predictions("ratio-bandit"), _predictions("bandit"), strict=True):
        assert_equal_to_round_off(of_ratio, of_log, scale=max(1.0, np.abs(flat(of_log)).max()))


# Others of the kind ---------------------------------------------------------------------------------------------------


def _distillation(params, batch):
    """A target network: the teacher is the student itself, at another input and held."""

    def output(x):
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["weights"] + layer["bias"])
        return x @ params[-1]["weights"]

    here, there = batch
    return jnp.mean((output(here) - 0.7 * stop(output(there))) ** 2)


def _on_policy_language_model(params, batch):
    tokens, advantages = batch
    value = networks.language_model_loss(params, tokens)
    return advantages * jnp.exp(value - stop(value))


def _straight_through(params, batch):
    """The forward pass sees a smooth staircase, the backward pass the identity."""
    features, targets = batch
    w = params["w"]
    stairs = w + stop(w + jnp.sin(6 * w) / 3 - w)
    return jnp.mean((features @ stairs - targets) ** 2)


def _example(name):
    random = np.random.default_rng(3)
    match name:
        case "target network":
            draw = [jnp.asarray(random.normal(size=(2, 5, 4))) for _ in range(4)]
            params = jax.tree.map(jnp.asarray, networks.perceptron_params(random, (4, 8, 8, 2)))
            return params, losses.pairs(_distillation, (draw[0], draw[1]), _distillation, (draw[2], draw[3]))
        case "transformer":
            params = networks.language_model_params(random, num_tokens=11, width=8, num_layers=2, length=6)
            params = jax.tree.map(jnp.asarray, params)
            tokens = [jnp.asarray(random.integers(11, size=(2, 2, 7)), jnp.int32) for _ in range(2)]
            loss = _on_policy_language_model
            return params, losses.pairs(loss, (tokens[0], -jnp.ones(2)), loss, (tokens[1], jnp.ones(2)))
        case "straight through":
            draw = [(jnp.asarray(random.normal(size=(2, 5, 3))), jnp.asarray(random.normal(size=(2, 5)))) for _ in "ab"]
            return {"w": jnp.asarray(random.normal(size=3))}, losses.pairs(
                _straight_through, draw[0], _straight_through, draw[1]
            )
        case _:
            made = problems.make(name, 2, seed=5)
            return made.params, made.losses


@pytest.mark.parametrize("name", ["ratio-bandit", "target network", "transformer", "straight through"])
def test_real_updates_agree_through_third_order(name):
    params, made = _example(name)
    found = comparison.compare(Epoch(made, WORD, SGD, params), frame="accumulated")
    assert [fit.verdict for fit in found.fits] == ["met"] * 3


@settings(max_examples=10)
@given(seeds)
def test_a_game_of_two_players_turns(seed):
    """L = x stop(y) - stop(x) y: the field is (y, -x), and m steps multiply x + iy by (1 + i s)^m."""
    start = np.random.default_rng(seed).integers(-8, 9, size=2) / 8
    x, y = map(Fraction, start)
    game = losses.of_params([lambda p: p["x"] * stop(p["y"]) - stop(p["x"]) * p["y"]])
    params = {"x": jnp.asarray(start[0]), "y": jnp.asarray(start[1])}
    coefficients = drift.closed_form(game, schedules.steps([0] * 5), params, frame="start", order=3)
    exact = (-5 * y, 5 * x), (-10 * x, -10 * y), (10 * y, -10 * x)  # 5i, -10, -10i times x + iy
    for got, (of_x, of_y) in zip(coefficients, exact, strict=True):
        assert_equal_to_round_off(got, {"x": float(of_x), "y": float(of_y)}, scale=10.0)


# The programs in which a stop may stand -------------------------------------------------------------------------------


@jax.custom_jvp
def _exponential(x):
    return jnp.exp(x)


@_exponential.defjvp
def _exponential_rule(primals, tangents):
    return _exponential(*primals), stop(jnp.exp(primals[0])) * tangents[0]


@jax.custom_vjp
def _reversed(x):
    return x


_reversed.defvjp(lambda x: (x, None), lambda _, g: (-g,))


@jax.custom_jvp
def _staircase(x):
    return x + jnp.sin(6 * x) / 3


_staircase.defjvp(lambda primals, tangents: (_staircase(*primals), tangents[0]))  # straight through


@jax.custom_jvp
def _called(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


_called.defjvp(lambda primals, tangents: (_called(*primals), jnp.cos(primals[0]) * tangents[0]))


@jax.custom_jvp
def _dithered(x, key):
    return x * (1 + jax.random.uniform(key, x.shape))


_dithered.defjvp(lambda primals, tangents: (_dithered(*primals), tangents[0]))

_twice = jax.jit(_reversed, inline=True)  # one program in two places

PROGRAMS = {
    "backward pass, inlined": lambda x: jnp.sum(x * stop(_twice(jnp.sin(x))) * stop(_twice(2 * x))),
    "jit": jax.jit(lambda x: jnp.sum(jnp.sin(x) * stop(x * x))),
    "scan": lambda x: jnp.sum(jax.lax.scan(lambda c, i: (jnp.sin(c * stop(c)) + i, None), x, jnp.arange(3.0))[0]),
    "loop": lambda x: jnp.sum(jax.lax.fori_loop(0, 3, lambda i, c: jnp.sin(c * stop(c)), x)),
    "branch": lambda x: jax.lax.cond(True, lambda y: jnp.sum(y**3 * stop(jnp.cos(y))), jnp.sum, x),
    "checkpoint": jax.checkpoint(lambda x: jnp.sum(jnp.sin(x) * stop(jnp.exp(x)))),
    "map": lambda x: jnp.sum(jax.vmap(lambda y: y**2 * stop(jnp.sin(y)))(x)),
    "rule": lambda x: jnp.sum(jnp.sin(x) * stop(_exponential(x)) * _exponential(x)),
    "straight through in a scan": lambda x: jnp.sum(
        jax.lax.scan(lambda c, i: (_staircase(c) * x + i, None), x, jnp.arange(2.0))[0]
    ),
    "checkpointed rule": jax.checkpoint(lambda x: jnp.sum(_exponential(x) ** 2 * stop(x))),
    "backward pass": lambda x: jnp.sum(_reversed(jnp.sin(x)) * jnp.exp(x)),
    "straight through": lambda x: jnp.sum((_staircase(x) - 0.3) ** 2 * x),
    "rule with a random key": lambda x: jnp.sum(_dithered(x, jax.random.key(0)) ** 2 * x),
    "rule of a callback": lambda x: jnp.sum(_called(x) ** 2 * stop(x)),
    "log softmax": lambda x: jax.nn.log_softmax(x * x)[0],
    "library rules": lambda x: jnp.sum(jax.nn.relu(x) ** 3 + jax.nn.silu(x) * stop(jnp.logaddexp(x, 0.5 * x))),
    "solve": lambda x: jnp.sum(jnp.linalg.solve(jnp.eye(3) + jnp.outer(stop(x), x) / 4, x)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_are_those_of_the_computed_field(name):
    """Against differences of `jax.grad` itself: of fourth order, so the error is about (1e-3)^4 and 1e-16 / 1e-3^k."""
    gradient = jax.grad(PROGRAMS[name])
    at, along = jnp.array([0.3, 0.7, -0.2]), jnp.array([1.0, -0.5, 0.2])
    computed = as_computed(gradient)

    def derivative(point):
        return jax.jvp(computed, (point,), (along,))[1]

    second = jax.jvp(derivative, (at,), (along,))[1]
    h = 1e-3
    values = [np.asarray(gradient(at + k * h * along)) for k in (-2, -1, 0, 1, 2)]
    first = np.tensordot([1, -8, 0, 8, -1], values, 1) / (12 * h)
    np.testing.assert_array_equal(np.asarray(computed(at)), values[2])
    np.testing.assert_allclose(derivative(at), first, atol=1e-9)
    np.testing.assert_allclose(second, np.tensordot([-1, 16, -30, 16, -1], values, 1) / (12 * h * h), atol=1e-6)
    np.testing.assert_allclose(jax.linearize(computed, at)[1](along), derivative(at), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.vmap(derivative))(at[None])[0], derivative(at), rtol=1e-12)


@pytest.mark.parametrize("function", [jnp.log, jnp.sqrt, lambda mask: jax.pure_callback(np.sign, mask, mask)])
def test_what_the_batch_alone_decides_needs_no_derivative(function):
    """log and sqrt of a mask of zeros have infinite derivatives, in a direction that nothing moves in."""

    def loss(params, mask):
        return jnp.sum(params**3 * jnp.exp(-(function(mask) ** 2))) + params[0] * params[1] * stop(params[0])

    mask, point = jnp.array([1.0, 1.0, 0.0]), jnp.array([0.1, 0.2, 0.3])
    made = losses.Losses((loss,), (mask[None],), ("a",))
    found = drift.closed_form(made, schedules.steps([0, 0]), point, frame="accumulated", order=2)[1]
    x, y, z = point
    a, b, c = np.exp(-(np.asarray(function(mask)) ** 2))
    gradient = np.array([3 * a * x**2 + x * y, 3 * b * y**2 + x * x, 3 * c * z**2])
    jacobian = np.array([[6 * a * x + y, x, 0], [2 * x, 6 * b * y, 0], [0, 0, 6 * c * z]])
    assert_equal_to_round_off(found, jacobian @ gradient)


def test_functions_that_are_called_equal_and_are_not_are_both_evaluated():
    @dataclass(frozen=True)
    class Scaled:
        factor: float = field(compare=False)

        def __call__(self, params, batch):
            return self.factor * jnp.sum(params**2 * batch)

    made = losses.pairs(Scaled(1.0), jnp.ones((1, 2)), Scaled(3.0), jnp.ones((1, 2)))
    found = drift.closed_form(made, schedules.steps([0, 1]), jnp.array([0.3, -0.7]), frame="start", order=1)
    assert_equal_to_round_off(found[0], np.array([-2.4, 5.6]))


@pytest.mark.parametrize("name", ["quadratic", "mlp", "transformer"])
def test_without_a_stop_nothing_changes(name):
    made = problems.make(name, 1, seed=4)
    function = made.losses.functions[0]
    batch = jax.tree.map(lambda leaf: leaf[0], made.losses.batches[0])
    along = jax.grad(function)(made.params, batch)
    plain = jax.jvp(lambda p: jax.grad(function)(p, batch), (made.params,), (along,))[1]
    computed = as_computed(jax.grad(function))
    assert_equal_to_round_off(jax.jvp(lambda p: computed(p, batch), (made.params,), (along,))[1], plain)


def test_a_ratio_to_a_fixed_policy_keeps_its_second_derivatives():
    """Where the old log-likelihood is data nothing is stopped, and the ratio's own Hessian counts."""

    def loss(logits, batch):
        arm, old = batch
        return -jnp.exp(jax.nn.log_softmax(logits)[arm] - old)

    logits = np.array([0.3, -0.2, 0.5])
    p = np.exp(logits) / np.exp(logits).sum()
    pairs = losses.pairs(
        losses.negated(loss), (jnp.array([1]), jnp.log(p[1:2])), loss, (jnp.array([0]), jnp.log(p[0:1]))
    )
    score = np.eye(3)[0] - p
    hessian = np.diag(p) - np.outer(p, p) - np.outer(score, score)
    word = schedules.interleaved(1, first="-")
    found = drift.closed_form(pairs, word, jnp.asarray(logits), frame="accumulated", order=2)
    assert_equal_to_round_off(found[1], hessian @ (np.eye(3)[1] - p))


def test_a_rule_that_stops_gradients_is_differentiated_as_it_computes():
    """Optax's division by the norm of the update holds that norm: two steps of -g/|g| on x.A x/2, by hand."""
    matrix, start = np.diag([1.0, 3.0]), np.array([1.0, 0.5])
    pairs = losses.of_params([lambda p: p @ jnp.asarray(matrix) @ p / 2])
    rule = optax.chain(optax.normalize_by_update_norm(scale_factor=1.0), optax.sgd(1.0))
    gradient = matrix @ start
    size = np.linalg.norm(gradient)
    direction = gradient / size
    exact = (np.eye(2) - np.outer(direction, direction)) @ matrix @ direction / size
    found = drift.taylor(Epoch(pairs, schedules.steps([0, 0]), rule, jnp.asarray(start)), frame="accumulated", order=2)
    np.testing.assert_allclose(found[1], exact, rtol=1e-4)  # Optax adds 1e-6 to the norm


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_ratio_is_the_log_likelihood_in_every_word(name):
    made, peer = problems.make("ratio-bandit", 2, seed=7), problems.make("bandit", 2, seed=7)
    of_ratio, of_log = (
        drift.closed_form(each.losses, SCHEDULES[name], each.params, frame="start", order=3) for each in (made, peer)
    )
    assert_equal_to_round_off(of_ratio, of_log, scale=max(1.0, np.abs(flat(of_log)).max()))
