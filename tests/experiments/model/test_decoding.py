"""Greedy decoding against choosing token after token with the loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.model import decoding
from tests.oracles import plain_transformer
from tests.support.tiny_models import STRETCHED, random_params

PROMPTS = [[3, 1, 4], [1, 5, 9, 2, 6, 5], [7], [2, 7, 1, 8, 2], [1, 6], [20, 22, 21, 23]]
MOST = 16  # long enough that a place that is off by one changes a token


def plainly(params, prompt, stops):
    ids = list(prompt)
    while len(ids) < len(prompt) + MOST:
        token = int(plain_transformer.logits(params, STRETCHED, ids)[-1].argmax())
        if token in stops:
            return ids[len(prompt) :], True
        ids.append(token)
    return ids[len(prompt) :], False


@pytest.fixture(scope="module")
def params():
    return random_params(STRETCHED)


@pytest.fixture(scope="module")
def padded():
    width = max(map(len, PROMPTS))
    return (
        np.array([prompt + [11] * (width - len(prompt)) for prompt in PROMPTS], np.int32),
        np.array([len(prompt) for prompt in PROMPTS], np.int32),
    )


def test_tokens_are_those_of_the_loops(params, padded):
    unstopped = [plainly(params, prompt, ())[0] for prompt in PROMPTS]
    # Tokens that come up in the middle of some answers, at the start of one and in others not at all.
    stops = (unstopped[0][4], unstopped[1][0])
    made = decoding.greedy(
        params, STRETCHED, *padded, stop_tokens=stops, max_new_tokens=MOST, compute_dtype=jnp.float64
    )
    for row, prompt in enumerate(PROMPTS):
        expected, is_ended = plainly(params, prompt, stops)
        length = int(made.lengths[row])
        assert np.asarray(made.tokens)[row, :length].tolist() == expected
        assert not np.asarray(made.tokens)[row, length:].any()
        assert bool(made.is_ended[row]) == is_ended
    assert any(made.lengths == 0) or not plainly(params, PROMPTS[1], stops)[0]


def test_the_loop_ends_with_the_last_text(params, padded):
    """As many passes as the longest answer has tokens: counted by a callback in the compiled loop."""
    passes = []
    original = decoding.transformer.with_cache

    def counted(*arguments):
        jax.debug.callback(lambda: passes.append(1))
        return original(*arguments)

    firsts = tuple({plainly(params, prompt, ())[0][1] for prompt in PROMPTS})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding.transformer, "with_cache", counted)
        # Stop tokens that no other test has: compiled here, with the callback.
        made = decoding.greedy(
            params, STRETCHED, *padded, stop_tokens=firsts, max_new_tokens=MOST, compute_dtype=jnp.float64
        )
        jax.effects_barrier()
    assert bool(made.is_ended.all())
    assert len(passes) == int(made.lengths.max()) + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stop_tokens": ()}, "stop_tokens must be at least one"),
        ({"max_new_tokens": 0}, "must be at least 1"),
        ({"max_new_tokens": 60}, "fit the context of 64 behind 6 tokens"),
    ],
)
def test_refusals(params, padded, change, message):
    with pytest.raises(ValueError, match=message):
        decoding.greedy(params, STRETCHED, *padded, **{"stop_tokens": [1], "max_new_tokens": 4} | change)
