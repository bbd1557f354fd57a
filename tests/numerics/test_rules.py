"""Rules at learning rate 1 and as functions of the rate: which are taken, and what they do."""

import inspect
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from numerics import alignment, attribution, comparison, drift, losses, optimizers, problems, rules, schedules, updates
from numerics.epoch import Epoch
from tests.support.rounding import assert_equal_to_round_off

SGD = optimizers.gradient_descent()
WORD = schedules.interleaved(2, first="-")
PARAMS = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
BEHIND = {
    "clip": lambda rate: optax.chain(optax.sgd(rate), optax.clip_by_global_norm(0.1)),
    "clip of a momentum": lambda rate: optax.chain(optax.sgd(rate, momentum=0.9), optax.clip(0.5)),
    "decay": lambda rate: optax.chain(optax.adam(rate), optax.add_decayed_weights(-1e-3)),
    "projection": lambda rate: optax.chain(optax.sgd(rate), optax.keep_params_nonnegative()),
    "masked": lambda rate: optax.masked(optax.chain(optax.sgd(rate), optax.clip(0.1)), {"w": True, "b": False}),
    "injected": lambda rate: optax.inject_hyperparams(optax.fromage)(learning_rate=rate),
    "mechanize": lambda rate: optax.contrib.mechanize(optax.sgd(rate)),
    "schedule": lambda rate: optax.chain(optax.sgd(optax.linear_schedule(rate, rate / 2, 9)), optax.clip(0.1)),
}
IN_FRONT = {
    "clip": lambda rate: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(rate)),
    "factor, clip": lambda rate: optax.chain(optax.scale(0.5), optax.clip(0.1), optax.adamw(rate)),
    "injected": lambda rate: optax.inject_hyperparams(optax.adamw)(learning_rate=rate),
    "schedule": lambda rate: optax.adam(optax.linear_schedule(rate, rate / 2, 9)),
    "two rates": lambda rate: optax.partition({"a": optax.adam(rate), "b": optax.sgd(rate / 4)}, {"w": "a", "b": "b"}),
    "if finite": lambda rate: optax.apply_if_finite(optax.lion(rate), 3),
    "mean": lambda rate: optax.chain(optax.sgd(rate), optax.ema(0.9)),
}
# What Optax asks more of than gradients and parameters, or what takes no rate at all.
NEED_MORE = {"lbfgs", "momo", "momo_adam", "sophia", "dpsgd", "schedule_free", "optimistic_adam"}
NAMES = sorted(
    name
    for module in (optax, optax.contrib)
    for name, make in vars(module).items()
    if inspect.isfunction(make)
    and "learning_rate" in inspect.signature(make).parameters
    and not name.startswith(("scale_by", "_"))
    and name not in NEED_MORE
)
# One of each kind by default; `pytest -m slow` runs through all of Optax.
DEFAULT = ("adam", "cocob", "dadapt_adamw", "fromage", "lion", "madgrad", "muon", "rprop", "schedule_free_sgd", "sgd")


def _is_linear(make):
    """A peer: the optimizer made at two rates, both stepped on the same gradients as Optax is meant to be."""
    key = {"key": 0} if "key" in inspect.signature(make).parameters else {}
    random = np.random.default_rng(11)

    def drawn(*axes):
        return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=(*axes, *leaf.shape))), PARAMS)

    start, gradients = drawn(), drawn(80)

    def places(rate, scale, magnitude):
        optimizer = make(rate, **key)

        def step(carry, gradient):
            reached, state = carry
            here = jax.tree.map(jnp.add, start, reached)
            update, state = optimizer.update(jax.tree.map(lambda g: magnitude * g, gradient), state, here)
            return (jax.tree.map(lambda at, by: at + scale * by, reached, update), state), None

        zero = jax.tree.map(jnp.zeros_like, start)
        return jax.lax.scan(step, (zero, optimizer.init(start)), gradients)[0][0]

    for magnitude in (1e-3, 1.0, 1e3):
        one, other = places(1.0, 0.25, magnitude), places(0.25, 1.0, magnitude)
        gap = optax.tree.norm(jax.tree.map(jnp.subtract, one, other)) / optax.tree.norm(other)
        if gap > 1e-9:
            return False
    return True


def _check(rule):
    try:
        rules.check("rule", rule, PARAMS)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "name", [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_rules_that_are_not_linear_in_their_rate_are_refused_and_no_others(name):
    make = getattr(optax, name, None) or getattr(optax.contrib, name)
    key = {"key": 0} if "key" in inspect.signature(make).parameters else {}
    assert _check(make(1.0, **key)) == _is_linear(make)


@pytest.mark.parametrize("name", BEHIND)
def test_what_stands_behind_the_rate_is_refused_by_name(name):
    with pytest.raises(
        ValueError, match=r"proportional to the rate; those of [a-z_, ]+ are not. Give the rule as a fun"
    ):
        rules.check("rule", BEHIND[name](1.0), PARAMS)


@pytest.mark.parametrize("name", IN_FRONT)
def test_what_stands_in_front_of_the_rate_is_taken(name):
    rules.check("rule", IN_FRONT[name](1.0), PARAMS)


def test_every_way_in_refuses():
    made = problems.make("softmax", 2, seed=0)
    rule = optax.fromage(1.0)
    here = made.losses, WORD, rule, made.params
    ways = [
        lambda: updates.sequential(Epoch(*here), step_size=0.1),
        lambda: updates.accumulated(Epoch(*here), step_size=0.1, per="pair", reduction="sum"),
        lambda: drift.taylor(Epoch(*here), frame="start", order=1),
        lambda: drift.measured(Epoch(*here), frame="start", step_size=0.1),
        lambda: comparison.compare(Epoch(*here), frame="start"),
        lambda: alignment.change(Epoch(*here), step_size=0.1, grouping="step", quantity="pair-mean"),
        lambda: attribution.gap(
            made.losses,
            WORD,
            {"fromage": rule},
            made.params,
            step_size=0.1,
            rate=0.5,
            reduction="mean",
            num_warm_up=0,
        ),
    ]
    for way in ways:
        with pytest.raises(ValueError, match="scale_by_trust_ratio"):
            way()


# Functions of the rate ------------------------------------------------------------------------------------------------


def _by_hand(made, rate_rule, rate, word):
    """Steps as a training loop takes them, with Optax alone."""
    optimizer = rate_rule(rate)
    params, state = made.params, optimizer.init(made.params)
    for number in word.losses:
        gradient = made.losses.gradient(params, jnp.asarray(number))
        update, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, update)
    return jax.tree.map(jnp.subtract, params, made.params)


# MADGRAD is left out: Optax takes its sqrt(k + 1) in float32, whose last digit depends on how it is compiled.
@pytest.mark.parametrize("name", ["fromage", "schedule_free_sgd", "cocob", "dadapt_adamw"])
def test_a_function_of_the_rate_is_stepped_as_optax_steps_it(name):
    made = problems.make("softmax", 2, seed=1)
    make = getattr(optax, name, None) or getattr(optax.contrib, name)
    found = updates.sequential(Epoch(made.losses, WORD, make, made.params), step_size=0.1)
    assert_equal_to_round_off(found.displacement, _by_hand(made, make, 0.1, WORD), scale=10.0)
    assert found.info.update_norms.shape == (4,)


def test_both_ways_to_give_a_rule_are_one_where_it_is_linear():
    made = problems.make("softmax", 2, seed=2)
    found = [
        updates.accumulated(Epoch(made.losses, WORD, rule, made.params), step_size=0.1, per="pair", reduction="mean")
        for rule in (optax.adamw(1.0), optax.adamw)
    ]
    assert_equal_to_round_off(found[0].displacement, found[1].displacement)
    assert_equal_to_round_off(found[0].info, found[1].info)
    coefficients = [
        drift.taylor(Epoch(made.losses, WORD, rule, made.params), frame="pair-accumulated", order=3)
        for rule in (optax.sgd(1.0, momentum=0.9), lambda rate: optax.sgd(rate, momentum=0.9))
    ]
    assert_equal_to_round_off(*coefficients, scale=10.0)


def test_fromage_has_the_expansion_that_is_on_paper():
    """One step from x: (x - s |x| g/|g|) / sqrt(1 + s^2) = x - s |x| g/|g| - s^2 x/2 + s^3 |x| g/(2|g|) + O(s^4)."""
    x, g = np.array([1.0, -2.0]), np.array([0.5, 0.25])
    linear = losses.of_params([lambda p: p @ jnp.asarray(g)])
    found = drift.taylor(Epoch(linear, schedules.steps([0]), optax.fromage, jnp.asarray(x)), frame="start", order=3)
    along = np.linalg.norm(x) * g / np.linalg.norm(g)
    # Optax adds 1e-6 to nothing here: min_norm and eps are far below these numbers.
    for got, exact in zip(found, (-along, -x / 2, along / 2), strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-5)


@pytest.mark.parametrize("frame", ["start", "accumulated", "pair-accumulated"])
@pytest.mark.parametrize("name", ["fromage", "clip"])
def test_real_updates_agree_with_derivatives_in_the_rate(name, frame):
    made = problems.make("softmax", 2, seed=3)
    rule = optax.fromage if name == "fromage" else BEHIND["clip"]  # which does not act at small rates
    found = comparison.compare(Epoch(made.losses, WORD, rule, made.params), frame=frame)
    assert [fit.verdict for fit in found.fits] == ["met"] * 3


def test_a_wrong_coefficient_of_a_function_of_the_rate_is_missed():
    made = problems.make("softmax", 2, seed=3)
    first, second, third = drift.taylor(
        Epoch(made.losses, WORD, optax.fromage, made.params), frame="accumulated", order=3
    )
    wrong = first, jax.tree.map(lambda leaf: 1.01 * leaf, second), third
    found = comparison.compare(
        Epoch(made.losses, WORD, optax.fromage, made.params), frame="accumulated", coefficients=wrong
    )
    assert [fit.verdict for fit in found.fits[1:]] == ["missed"] * 2


@pytest.mark.parametrize("name", ["schedule_free_sgd", "cocob", "rprop", "dadapt_adamw", "madgrad"])
def test_a_rule_without_an_expansion_in_the_rate_is_measured_and_not_predicted(name):
    made = problems.make("softmax", 2, seed=1)
    make = getattr(optax, name, None) or getattr(optax.contrib, name)
    moved = drift.measured(Epoch(made.losses, WORD, make, made.params), frame="accumulated", step_size=0.1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))
    for way in (
        lambda: drift.taylor(Epoch(made.losses, WORD, make, made.params), frame="accumulated", order=2),
        lambda: comparison.compare(Epoch(made.losses, WORD, make, made.params), frame="accumulated"),
    ):
        with pytest.raises(ValueError, match=r"rate 0.* can be measured"):
            way()


def test_a_rule_that_moves_at_rate_zero_has_no_expansion():
    made = problems.make("softmax", 2, seed=1)
    with pytest.raises(ValueError, match="must leave the parameters alone at rate 0"):
        drift.taylor(Epoch(made.losses, WORD, BEHIND["decay"], made.params), frame="start", order=1)


def test_what_frozen_gradients_do_is_asked_of_rules_at_rate_one():
    made = problems.make("softmax", 2, seed=1)
    with pytest.raises(TypeError, match=r"stages\['f'\] must be .* at learning rate 1, .* is read at rate 1"):
        attribution.gap(
            made.losses,
            WORD,
            {"f": optax.fromage},  # pyright: ignore[reportArgumentType]
            made.params,
            step_size=0.1,
            rate=0.5,
            reduction="mean",
            num_warm_up=0,
        )


# Gradient descent, by what a rule does --------------------------------------------------------------------------------

ALL, NONE = {"w": True, "b": True}, {"w": False, "b": False}
DESCENT = {
    "sgd": lambda: optax.sgd(1.0),
    "sgd, whole number": lambda: optax.sgd(1),
    "sgd, array": lambda: optax.sgd(jnp.asarray(1.0)),
    "sgd, NumPy": lambda: optax.sgd(np.float64(1.0)),
    "scale": lambda: optax.scale(-1.0),
    "by learning rate": lambda: optax.scale_by_learning_rate(1.0),
    "chain of one": lambda: optax.chain(optax.sgd(1.0)),
    "identity before": lambda: optax.chain(optax.identity(), optax.sgd(1.0)),
    "three signs": lambda: optax.chain(optax.scale(-1.0), optax.scale(-1.0), optax.scale(-1.0)),
    "negative, by hand": lambda: optax.stateless(lambda updates, _: jax.tree.map(jnp.negative, updates)),
    "operator, by hand": lambda: optax.stateless(lambda updates, _: jax.tree.map(lambda g: -g, updates)),
    "compiled by hand": lambda: optax.stateless(jax.jit(lambda updates, _: jax.tree.map(lambda g: -1.0 * g, updates))),
    "masked, all": lambda: optax.masked(optax.sgd(1.0), ALL),
    "partition of two": lambda: optax.partition({"a": optax.sgd(1.0), "b": optax.scale(-1.0)}, {"w": "a", "b": "b"}),
    "a state that stays": lambda: optax.GradientTransformation(
        lambda params: {"count": jnp.zeros((), int), "start": params},
        lambda updates, state, params=None: (jax.tree.map(jnp.negative, updates), state),
    ),
}
OTHERS = {
    "ascent": lambda: optax.scale(1.0),
    "sgd(-1)": lambda: optax.sgd(-1.0),
    "sgd(0.5)": lambda: optax.sgd(0.5),
    "sgd(2)": lambda: optax.sgd(2.0),
    "sgd(0)": lambda: optax.sgd(0.0),
    "sgd, nearly": lambda: optax.sgd(float(np.nextafter(1.0, 2.0))),
    "sgd, array, nearly": lambda: optax.sgd(jnp.asarray(np.nextafter(1.0, 2.0))),
    "sgd, one half twice": lambda: optax.chain(optax.scale(0.5), optax.sgd(2.0)),  # not where numbers underflow
    "two signs": lambda: optax.chain(optax.scale(-1.0), optax.sgd(1.0)),
    "a function of the rate": lambda: optax.sgd,
    "schedule": lambda: optax.sgd(lambda count: 1.0),
    "schedule that moves": lambda: optax.sgd(optax.linear_schedule(1.0, 0.5, 9)),
    "injected": lambda: optax.inject_hyperparams(optax.sgd)(learning_rate=1.0),
    "momentum": lambda: optax.sgd(1.0, momentum=0.9),
    "momentum of 0": lambda: optax.sgd(1.0, momentum=0.0),
    "nesterov": lambda: optax.sgd(1.0, momentum=0.9, nesterov=True),
    "decay": lambda: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(1.0)),
    "clip far away": lambda: optax.chain(optax.clip(1e30), optax.sgd(1.0)),
    "norm clip far away": lambda: optax.chain(optax.clip_by_global_norm(1e30), optax.sgd(1.0)),
    "clip behind": lambda: optax.chain(optax.sgd(1.0), optax.clip(1e30)),
    "noise": lambda: optax.noisy_sgd(1.0, key=0),
    "sign": lambda: optax.sign_sgd(1.0),
    "adam": lambda: optax.adam(1.0),
    "lion": lambda: optax.lion(1.0),
    "masked, none": lambda: optax.masked(optax.sgd(1.0), NONE),
    "masked, half": lambda: optax.masked(optax.sgd(1.0), {"w": True, "b": False}),
    "partition with another": lambda: optax.partition({"a": optax.sgd(1.0), "b": optax.sgd(2.0)}, {"w": "a", "b": "b"}),
    "zero": optax.set_to_zero,
    "every second": lambda: optax.MultiSteps(optax.sgd(1.0), 2).gradient_transformation(),
    "a count": lambda: optax.GradientTransformation(
        lambda params: jnp.zeros((), int),
        lambda updates, state, params=None: (jax.tree.map(jnp.negative, updates), state + 1),
    ),
    "turns at the third update": lambda: optax.GradientTransformation(
        lambda params: jnp.zeros((), int),
        lambda updates, state, params=None: (
            jax.tree.map(lambda g: jnp.where(state < 3, -g, g), updates),
            state + 1,
        ),
    ),
    "swaps parameters": lambda: optax.stateless(lambda updates, params: jax.tree.map(jnp.negative, params)),
    "one coordinate": lambda: optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: -g * jnp.ones_like(g).at[0].set(-1.0), updates)
    ),
    "reversed coordinates": lambda: optax.stateless(lambda updates, _: jax.tree.map(lambda g: -g[::-1], updates)),
    "fewer digits": lambda: optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: -g.astype(jnp.float32).astype(g.dtype), updates)
    ),
    "at large gradients": lambda: optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: jnp.where(jnp.abs(g) > 1e6, g, -g), updates)
    ),
    "by a callback": lambda: optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: jax.pure_callback(lambda x: -x, g, g), updates)
    ),
}


@pytest.mark.parametrize("name", DESCENT)
def test_gradient_descent_is_seen_in_any_dress(name):
    assert rules.is_gradient_descent(DESCENT[name](), PARAMS)


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_rule_is_taken_for_gradient_descent(name):
    assert not rules.is_gradient_descent(OTHERS[name](), PARAMS)


def test_a_rule_that_has_changed_is_read_again():
    scale = SimpleNamespace(value=-1.0)
    rule = optax.stateless(lambda updates, _: jax.tree.map(lambda g: scale.value * g, updates))
    assert rules.is_gradient_descent(rule, PARAMS)
    scale.value = -2.0
    assert not rules.is_gradient_descent(rule, PARAMS)


def test_a_rule_of_the_user_s_gets_the_closed_forms(monkeypatch):
    made = problems.make("softmax", 2, seed=1)
    own, table = (Epoch(made.losses, WORD, rule, made.params) for rule in (optax.sgd(1.0), SGD))
    assert own.rule is not table.rule
    monkeypatch.setattr(drift, "taylor", None)
    for frame in ("accumulated", "gradient-flow"):
        assert_equal_to_round_off(*(comparison.predicted(epoch, frame=frame) for epoch in (own, table)))
    with pytest.raises(TypeError, match="not callable"):
        comparison.predicted(Epoch(made.losses, WORD, optax.sgd(0.5), made.params), frame="accumulated")
