"""The problems are what they say: closed forms, finite differences, and the same for the same seed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from numerics import catalogue, drift, optimizers, problems, schedules
from tests.support.rounding import assert_equal_to_round_off, flat, norm


@pytest.mark.parametrize("is_opposite", [False, True])
@pytest.mark.parametrize("name", problems.BY_NAME)
def test_every_problem(name, is_opposite):
    """Derivatives by finite differences, the scale that is promised, and random in the seed alone."""
    made = problems.make(name, 3, seed=5, is_opposite=is_opposite)
    again = problems.make(name, 3, seed=5, is_opposite=is_opposite)
    other = problems.make(name, 3, seed=6, is_opposite=is_opposite)
    assert made.losses.num_pairs == 3
    assert np.array_equal(flat(made), flat(again))
    assert not np.array_equal(flat(made.params), flat(other.params))
    for number in (0, 4):
        loss = jax.jit(lambda params, b=number: made.losses.value(params, jnp.asarray(b)))
        if name == "ratio-bandit":  # a constant whose gradient is that of another loss
            peer = problems.make("bandit", 3, seed=5, is_opposite=is_opposite)
            gradient, expected = (m.losses.gradient(m.params, jnp.asarray(number)) for m in (made, peer))
            assert_equal_to_round_off(gradient, expected)
            continue
        # Second derivatives of the networks take half a minute; the orders of their remainders test them.
        check_grads(loss, (made.params,), order=1 if name in ("mlp", "transformer") else 2, modes=["rev"], rtol=1e-4)
    word = schedules.interleaved(3, first="-")
    first, second = drift.closed_form(made.losses, word, made.params, frame="start", order=2)
    assert 0.1 < norm(first) / 3 < 10
    assert norm(second) < 30 * norm(first)
    minus, plus = made.losses.functions
    assert (minus is not plus) == is_opposite


def test_a_larger_set_of_pairs_begins_anew():
    """n is part of what is drawn: nobody should take the first two of three pairs for the problem of two."""
    two, three = (problems.make("polynomial", n, seed=1) for n in (2, 3))
    assert np.array_equal(flat(two.params), flat(three.params))


def test_quadratics_are_indefinite_and_commute_only_where_they_say():
    for name, is_commuting in (("quadratic", False), ("commuting-quadratic", True)):
        made = problems.make(name, 2, seed=2)
        matrices = np.concatenate([np.asarray(stack[0]) for stack in made.losses.batches])
        assert (np.linalg.eigvalsh(matrices).min(axis=1) < 0).all()
        assert (np.linalg.eigvalsh(matrices).max(axis=1) > 0).all()
        commutator = matrices[0] @ matrices[1] - matrices[1] @ matrices[0]
        assert (np.abs(commutator).max() < 1e-12) == is_commuting


def test_polynomials_have_integer_coefficients_and_a_dyadic_start():
    made = problems.make("polynomial", 2, seed=3)
    assert (flat(made.losses.batches) == np.round(flat(made.losses.batches))).all()
    assert (8 * flat(made.params) == np.round(8 * flat(made.params))).all()
    x = np.asarray(made.params["x"])
    by_hand = sum(c * np.prod(x**e) for c, e in zip(made.losses.batches[1][0], problems.MONOMIALS, strict=True))
    assert_equal_to_round_off(made.losses.value(made.params, jnp.asarray(2)), by_hand, scale=100.0)


def test_logistic_and_softmax_gradients_by_hand():
    made = problems.make("logistic", 1, seed=4)
    features, signs = (np.asarray(leaf[0]) for leaf in made.losses.batches[0])
    margins = signs * (features @ np.asarray(made.params["weights"]) + float(made.params["bias"]))
    by_hand = -np.mean(signs[:, None] * features / (1 + np.exp(margins))[:, None], axis=0)
    assert_equal_to_round_off(made.losses.gradient(made.params, jnp.asarray(0))["weights"], by_hand, scale=10.0)
    made = problems.make("softmax", 1, seed=4)
    features, classes = (np.asarray(leaf[0]) for leaf in made.losses.batches[0])
    scores = features @ np.asarray(made.params["weights"]) + np.asarray(made.params["bias"])
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    by_hand = features.T @ (shares - np.eye(3)[classes]) / len(classes)
    assert_equal_to_round_off(made.losses.gradient(made.params, jnp.asarray(0))["weights"], by_hand, scale=10.0)


def test_the_bandit_is_a_policy_gradient():
    """Over all actions, weighted by the policy and by a reward, the loss's gradient is that of -E[reward]."""
    made = problems.make("bandit", 1, seed=5)
    (contexts, _, _), rewards = made.losses.batches[1], jnp.array([0.3, -1.2, 2.0])
    context = contexts[0][:1]
    loss = made.losses.functions[1]

    def policy(params):
        return jax.nn.softmax(context @ params["weights"] + params["bias"])[0]

    expected = jax.grad(lambda params: -policy(params) @ rewards)(made.params)
    shares = policy(made.params)
    terms = [
        jax.tree.map(
            lambda leaf, a=action: shares[a] * leaf,
            jax.grad(loss)(made.params, (context, jnp.array([action], jnp.int32), rewards[action][None])),
        )
        for action in range(3)
    ]
    assert_equal_to_round_off(jax.tree.map(lambda *leaves: sum(leaves), *terms), expected, scale=10.0)
    # L+ holds what was better than average, L- what was worse, in either variant.
    for is_opposite in (False, True):
        made = problems.make("bandit", 1, seed=5, is_opposite=is_opposite)
        signs = [np.sign(np.asarray(stack[2])) for stack in made.losses.batches]
        assert (signs[1] == 1).all()
        assert (signs[0] == (1 if is_opposite else -1)).all()


def test_the_language_model_reads_only_the_past():
    made = problems.make("transformer", 1, seed=6)
    tokens = made.losses.batches[1][0]
    loss = made.losses.functions[1]

    def of_first(length):
        return float(loss(made.params, tokens[:, :length])) * (length - 1)

    # The mean over the first tokens does not know what comes later: log-probabilities add up.
    changed = tokens.at[:, -1].set((tokens[:, -1] + 1) % 11)
    longer = float(loss(made.params, tokens)) * 6
    other = float(loss(made.params, changed)) * 6
    last = [float(x) - of_first(6) for x in (longer, other)]
    assert all(value > 0 for value in last)
    assert last[0] != last[1]
    uniform = jax.tree.map(jnp.zeros_like, made.params)
    assert float(loss(uniform, tokens)) == pytest.approx(np.log(11))


def test_optimizers_by_name_are_optax():
    gradient = {"x": jnp.array([0.3, -2.0])}
    params = {"x": jnp.array([1.0, 1.0])}
    expected = {
        "sgd": optax.sgd(1.0),
        "heavy-ball:momentum=0.5": optax.sgd(1.0, momentum=0.5),
        "nesterov": optax.sgd(1.0, momentum=0.9, nesterov=True),
        "adam:eps=1e-3,b2=0.9": optax.adam(1.0, b2=0.9, eps=1e-3, eps_root=1e-2),
        "adamw:weight_decay=0.5": optax.adamw(1.0, eps_root=1e-2, weight_decay=0.5),
        "clipped-sgd:max_norm=1": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)),
        "clipped-adamw": optax.chain(
            optax.clip_by_global_norm(0.5), optax.adamw(1.0, eps_root=1e-2, weight_decay=1e-2)
        ),
    }
    assert {text.partition(":")[0] for text in expected} == set(catalogue.NAMED_OPTIMIZERS)
    for text, rule in expected.items():
        found, state, other = optimizers.parse(text), optimizers.parse(text).init(params), rule.init(params)
        assert found is optimizers.parse(text)
        for _ in range(3):
            one, state = found.update(gradient, state, params)
            two, other = rule.update(gradient, other, params)
            assert_equal_to_round_off(one, two)
