"""Losses of texts against their gradients written out, and the divergence from the start against plain softmaxes."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import arms
from experiments.model import objectives, text_losses, transformer
from experiments.model.text_losses import Texts
from experiments.training import batches
from tests.support.rounding import assert_equal_to_round_off
from tests.support.tiny_models import UNTIED, random_params, texts

RNG = np.random.default_rng(0)
LENGTHS = np.array([3, 5, 2, 4])
PLACES = np.arange(5) < LENGTHS[:, None]
START = np.where(PLACES, RNG.uniform(-2, -1, PLACES.shape), 0.0)
WEIGHTS = np.array([0.1, 0.2, 0.3, 0.05])


def half(log_ratios):
    """Texts whose log-probability has changed by these amounts since the start, at their first token."""
    log_probs = START.copy()
    log_probs[:, 0] += log_ratios
    return Texts(*map(jnp.asarray, (log_probs, START, LENGTHS, WEIGHTS)))


def gradient(name, side, log_ratios):
    """The derivative by the log-probability of each text."""
    held = half(log_ratios)
    loss = text_losses.BY_NAME[name]
    by_token = jax.grad(lambda log_probs: loss(held._replace(log_probs=log_probs), side))(held.log_probs)
    assert_equal_to_round_off(by_token, np.repeat(by_token[:, :1], 5, axis=1))  # every token of a text alike
    return by_token[:, 0]


RATIOS = np.array([-3.0, -0.5, 0.0, 1.5])


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("log-likelihood", np.ones(4)),
        ("tapered", [np.exp(-3), np.exp(-0.5), 1, 1]),
        ("npo", 2 * np.exp(0.1 * RATIOS) / (1 + np.exp(0.1 * RATIOS))),
    ],
)
def test_gradients_are_those_of_the_papers(name, factor):
    assert_equal_to_round_off(gradient(name, "-", RATIOS), WEIGHTS * factor)
    assert_equal_to_round_off(gradient(name, "+", RATIOS), -WEIGHTS)
    assert_equal_to_round_off(gradient(name, "-", np.zeros(4)), WEIGHTS)  # at the start all are the post's


def test_the_tapered_loss_has_no_jump_where_it_changes_its_form():
    below, above = (float(text_losses.tapered(half(np.full(4, ratio)), "-")) for ratio in (-1e-9, 1e-9))
    assert above - below == pytest.approx(2e-9 * WEIGHTS.sum(), rel=1e-3)


def test_the_names_are_those_of_the_arms():
    assert list(text_losses.BY_NAME) == list(arms.OBJECTIVES)


# On the language model ------------------------------------------------------------------------------------------------


def halves():
    several = texts(UNTIED, 8)
    return batches.pair_batch(several[:4], several[4:], "sequence", (16, 8))


def start_log_probs(params, batch):
    return objectives.log_probs(params, UNTIED, batch, compute_dtype=jnp.float64)


@pytest.mark.parametrize("side", ["+", "-"])
def test_the_log_likelihood_is_one_loss_on_both_ways(side):
    params = random_params(UNTIED)
    batch = halves().preferred
    batch = batch._replace(start_log_probs=start_log_probs(params, batch))
    plain = objectives.negative_log_likelihood(UNTIED, compute_dtype=jnp.float64, has_aux=True)
    loss = objectives.of_texts(UNTIED, text_losses.log_likelihood, side, compute_dtype=jnp.float64)
    sign = 1 if side == "+" else -1
    (value, aux), (expected, expected_aux) = loss(params, batch), plain(params, batch)
    assert_equal_to_round_off([value, aux], [sign * expected, expected_aux])


def test_the_divergence_is_that_of_two_softmaxes():
    """Over the whole vocabulary, at the places that predict a token of a completion; in parts too."""
    params, start = random_params(UNTIED), random_params(UNTIED, seed=1)
    both = halves()
    loss = objectives.from_start(UNTIED, compute_dtype=jnp.float64)
    total, num_tokens = 0.0, 0
    for batch in both:
        log_p, log_q = (
            np.asarray(
                jax.nn.log_softmax(
                    transformer.logits(at, transformer.hidden(at, UNTIED, batch.tokens, compute_dtype=jnp.float64)),
                    axis=-1,
                )
            )
            for at in (params, start)
        )
        for row, (first, length) in enumerate(zip(batch.first, batch.lengths, strict=True)):
            places = slice(int(first), int(first + length))
            total += np.sum(np.exp(log_p[row, places]) * (log_p[row, places] - log_q[row, places]))
            num_tokens += int(length)
    value = jax.jit(loss)(params, (start, both))
    assert_equal_to_round_off(value, total / num_tokens, operations=1000)
    assert float(value) > 0.01
    in_parts = objectives.from_start(UNTIED, num_parts=2, compute_dtype=jnp.float64)
    for one, other in zip(
        jax.tree.leaves(jax.jit(jax.grad(loss))(params, (start, both))),
        jax.tree.leaves(jax.jit(jax.grad(in_parts))(params, (start, both))),
        strict=True,
    ):
        assert_equal_to_round_off(one, other, operations=1000)


def test_the_divergence_begins_flat():
    """At the start it is zero, and so is its gradient."""
    params = random_params(UNTIED)
    value, slope = jax.jit(jax.value_and_grad(objectives.from_start(UNTIED, compute_dtype=jnp.float64)))(
        params, (params, halves())
    )
    assert abs(float(value)) < 1e-14
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) < 1e-14


# One's own ------------------------------------------------------------------------------------------------------------

OWN = """
import jax
import jax.numpy as jnp

def mine(texts, side):
    return jnp.sum(texts.weights * texts.lengths)

def vector(texts, side):
    return texts.weights

def whole(texts, side):
    return jnp.asarray(1)

def of_one(texts):
    return jnp.sum(texts.weights)

def without_derivative(texts, side):
    shape = jax.ShapeDtypeStruct((), texts.log_probs.dtype)
    return jax.pure_callback(lambda values: values.sum(), shape, texts.log_probs)

def broken(texts, side):
    raise RuntimeError("no such thing\\nas this")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_text_losses.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_text_losses", None)


@pytest.mark.usefixtures("own")
def test_a_function_of_one_s_own_is_found_beside_the_caller():
    for path in ("own_text_losses:mine", "own_text_losses.mine"):
        assert float(text_losses.build(path)(half(RATIOS), "+")) == pytest.approx(WEIGHTS @ LENGTHS)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tapred", "objective must be a name or an import path"),
        ("own_text_loses:mine", "there is no such module. Did you mean own_text_losses?"),
        ("own_text_losses:min", "got 'min'. Did you mean mine?"),
        ("own_text_losses:vector", "must return a real scalar; got"),
        ("own_text_losses:whole", "must return a real scalar; got"),
        ("own_text_losses:of_one", "takes 1 positional argument but 2 were given"),
        ("own_text_losses:without_derivative", "must have a derivative in JAX; got none for side +"),
        ("own_text_losses:broken", "got RuntimeError: no such thing"),
    ],
)
def test_what_is_no_loss_of_texts_is_refused_in_one_line(path, message):
    with pytest.raises(ValueError, match=r".") as refused:
        text_losses.build(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
