"""Log-probabilities against the loops, reductions against their words, micro-batches against the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import tokens
from experiments.model import objectives
from numerics import losses, optimizers, schedules, updates
from numerics.epoch import Epoch
from tests.oracles import plain_transformer
from tests.support.rounding import assert_equal_to_round_off
from tests.support.tiny_models import SMALL, STRETCHED, random_params, texts


def plain_log_probs(params, architecture, text):
    scores = plain_transformer.logits(params, architecture, text.prompt + text.completion)
    chances = (
        scores
        - np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1, keepdims=True))
        - scores.max(1, keepdims=True)
    )
    first = len(text.prompt) - 1
    return [chances[first + i, token] for i, token in enumerate(text.completion)]


@pytest.mark.parametrize("architecture", [SMALL, STRETCHED], ids=["tied", "untied"])
@pytest.mark.parametrize("most_scores", [2**23, 24 * 5 * 2])
def test_log_probs_are_those_of_the_loops(architecture, most_scores, monkeypatch):
    """Also where the head is computed in several blocks of places, the last of them not full."""
    monkeypatch.setattr(objectives, "MAX_SCORES", most_scores)
    params, several = random_params(architecture), texts(architecture)
    batch = tokens.batch(several, multiple=5)
    found = jax.jit(lambda p, b: objectives.log_probs(p, architecture, b, compute_dtype=jnp.float64))(params, batch)
    for row, text in zip(np.asarray(found), several, strict=True):
        expected = plain_log_probs(params, architecture, text)
        assert np.allclose(row[: len(expected)], expected, rtol=0, atol=2e-5)
        assert not row[len(expected) :].any()


def test_padding_and_neighbours_change_nothing():
    several = texts(SMALL)
    log_probs = jax.jit(lambda batch: objectives.log_probs(random_params(SMALL), SMALL, batch, compute_dtype="float64"))
    among, alone = (
        log_probs(tokens.batch(rows, shape=shape))[0] for rows, shape in ((several, (16, 8)), (several[:1], (32, 8)))
    )
    assert_equal_to_round_off(among, alone)


def derivatives(loss):
    """Value, gradient, and a Hessian-vector product of a loss of six texts."""
    batch = tokens.batch(texts(SMALL, 6), [0.3, 1.0, 0.5, 2.0, 0.1, 0.7], multiple=4)

    @jax.jit
    def of(params, direction):
        product = jax.jvp(lambda at: jax.grad(loss)(at, batch), (params,), (direction,))[1]
        return *jax.value_and_grad(loss)(params, batch), product

    return of(random_params(SMALL), random_params(SMALL, seed=4))


WHOLE = objectives.negative_log_likelihood(SMALL, compute_dtype=jnp.float64)


@pytest.fixture(scope="module")
def of_whole():
    return derivatives(WHOLE)


@pytest.mark.parametrize("num_parts", [2, 3, 6])
def test_any_split_gives_the_same_gradient(num_parts, of_whole):
    split = objectives.in_parts(WHOLE, num_parts)
    assert_equal_to_round_off(derivatives(split), of_whole)
    # As the loss of the side that is ascended, and inside anything else; and the value alone.
    params, batch = random_params(SMALL), tokens.batch(texts(SMALL, 6), [0.3, 1.0, 0.5, 2.0, 0.1, 0.7], multiple=4)
    scaled = jax.jit(jax.grad(lambda p: -2.5 * losses.negated(split)(p, batch)))(params)
    assert_equal_to_round_off(scaled, jax.tree.map(lambda leaf: 2.5 * leaf, of_whole[1]))
    assert float(jax.jit(split)(params, batch)) == pytest.approx(float(of_whole[0]), rel=1e-13)


def test_splits_that_do_not_divide_are_refused():
    loss = objectives.negative_log_likelihood(SMALL)
    with pytest.raises(ValueError, match="must divide the 5 rows"):
        objectives.in_parts(loss, 2)(random_params(SMALL, np.float32), tokens.batch(texts(SMALL, 5), multiple=4))
    with pytest.raises(ValueError, match="at least 1"):
        objectives.in_parts(loss, 0)


def test_reductions_are_the_averages_that_they_are_called():
    """Each against the average taken over a list of all tokens, and what tells them apart: sides of unlike length."""
    rng = np.random.default_rng(0)
    plus, minus = ([rng.normal(size=length) for length in lengths] for lengths in ([2, 5, 3], [7, 1]))
    count = sum(map(len, plus + minus))

    def value(side, reduction):
        made = objectives.weights([len(row) for row in side], reduction, num_tokens_of_both=count)
        return sum(weight * row.sum() for weight, row in zip(made, side, strict=True))

    for side in (plus, minus):
        every = np.concatenate(side)
        assert value(side, "token-half") == pytest.approx(every.mean())
        assert value(side, "sequence") == pytest.approx(np.mean([row.mean() for row in side]))
        assert value(side, "sum") == pytest.approx(every.sum())
    both = np.concatenate(plus + minus)
    assert (value(plus, "token-union") + value(minus, "token-union")) / 2 == pytest.approx(both.mean())


@pytest.mark.parametrize(
    ("lengths", "reduction", "message"),
    [([], "sum", "at least one"), ([3, 0], "sequence", "each at least 1")],
)
def test_weights_refuse(lengths, reduction, message):
    with pytest.raises(ValueError, match=message):
        objectives.weights(lengths, reduction, num_tokens_of_both=4)
    with pytest.raises(ValueError, match="must be at least the 5 of this side"):
        objectives.weights([2, 3], "token-union", num_tokens_of_both=4)


def test_the_numerics_step_these_very_losses():
    """Two steps by `numerics.updates` are two steps by hand, descent on one batch and then ascent on the other."""
    params = random_params(SMALL)
    several = texts(SMALL, 4)
    plus, minus = (tokens.batch(half, [0.5, 0.5], shape=(16, 8)) for half in (several[:2], several[2:]))
    loss = objectives.negative_log_likelihood(SMALL, compute_dtype=jnp.float64)
    stacked = [jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], side) for side in (minus, plus)]
    pairs = losses.pairs(losses.negated(loss), stacked[0], loss, stacked[1])
    word = schedules.interleaved(1, first="+")
    made = jax.jit(
        lambda p: updates.sequential(Epoch(pairs, word, optimizers.gradient_descent(), p), step_size=0.01).displacement
    )(params)
    gradient = jax.jit(jax.grad(loss))
    first = jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient(params, plus))
    second = jax.tree.map(lambda p, g: p + 0.01 * g, first, gradient(first, minus))
    expected = jax.tree.map(lambda p, q: q - p, params, second)
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(params))
    assert_equal_to_round_off(made, expected, scale=size)
