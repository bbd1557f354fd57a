"""A smooth model of a few dozen parameters, in a tree like the Llama's: what steps it cannot tell the two apart.

Every token of a completion is predicted from the mean of the prompt's embeddings, by a few layers of tanh.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments.arms import Reduction
from experiments.data import tokens
from experiments.training import batches

VOCABULARY, WIDTH, NUM_LAYERS = 7, 3, 4


def params(seed=0, dtype: type = np.float64) -> Any:
    rng = np.random.default_rng(seed)
    return {
        "embedding": jnp.asarray(rng.normal(size=(VOCABULARY, WIDTH)), dtype),
        "layers": {"w": jnp.asarray(rng.normal(size=(NUM_LAYERS, WIDTH, WIDTH)), dtype)},
        "norm": jnp.asarray(1 + 0.3 * rng.normal(size=WIDTH), dtype),
    }


def log_probs(at, batch):
    """log p of every completion."""
    is_prompt = jnp.arange(batch.tokens.shape[1]) <= batch.first[:, None]
    states = jnp.einsum("bt,btw->bw", is_prompt.astype(at["norm"].dtype), at["embedding"][batch.tokens])
    states = states / (batch.first[:, None] + 1)
    for place in range(NUM_LAYERS):
        states = jnp.tanh(states @ at["layers"]["w"][place])
    chances = jax.nn.log_softmax((states * at["norm"]) @ at["embedding"].T)
    each = jnp.take_along_axis(chances, batch.targets, axis=1)
    return jnp.sum(jnp.where(jnp.arange(batch.targets.shape[1]) < batch.lengths[:, None], each, 0), axis=1)


def loss(at, batch):
    """As `objectives.negative_log_likelihood` with aux."""
    each = log_probs(at, batch)
    return -jnp.sum(each * batch.weights), jax.lax.stop_gradient(each)


def text(rng):
    draw = lambda most: rng.integers(1, VOCABULARY, rng.integers(1, most)).tolist()  # noqa: E731
    return tokens.Encoded(draw(5), draw(4))


def pairs(count, seed=0):
    rng = np.random.default_rng(seed)
    return [batches.EncodedPair(str(place), text(rng), text(rng)) for place in range(count)]


def halves(count=3, seed=0, reduction: Reduction = "token-half"):
    several = pairs(count, seed)
    return batches.pair_batch([p.preferred for p in several], [p.dispreferred for p in several], reduction, (8, 4))


def sides(both):
    """The values of L+ and L- as functions of one vector, and the way back from it: L- is what is ascended."""
    tree: Any = ravel_pytree(params())[1]

    def plus(vector):
        return loss(tree(vector), both.preferred)[0]

    def minus(vector):
        return -loss(tree(vector), both.dispreferred)[0]

    return plus, minus, tree


def vector(tree):
    return np.asarray(ravel_pytree(tree)[0])


def sides_of(info):
    """The measurements of both halves of an update that has both."""
    assert info.preferred is not None
    assert info.dispreferred is not None
    return info.preferred, info.dispreferred
