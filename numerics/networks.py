"""Two small networks as losses: a perceptron and a transformer language model. Smooth, and small enough to read."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from numerics import checks
from numerics.types import Params, Scalar

__all__ = ["language_model_loss", "language_model_params", "perceptron_loss", "perceptron_params"]


@checks.arguments
def perceptron_params(random: np.random.Generator, widths: Sequence[int]) -> Params:
    """Weights and biases between layers of these widths, scaled so that activations stay of order one."""
    return [
        {
            "weights": random.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in),
            "bias": random.normal(size=fan_out) / 4,
        }
        for fan_in, fan_out in pairwise(widths)
    ]


def perceptron_loss(params: Params, batch: tuple[Float[Array, "b in"], Float[Array, "b out"]]) -> Scalar:
    """Half the squared error, mean over examples and outputs; tanh between the layers."""
    hidden, targets = batch
    *inner, last = params
    for layer in inner:
        hidden = jnp.tanh(hidden @ layer["weights"] + layer["bias"])
    return jnp.mean((hidden @ last["weights"] + last["bias"] - targets) ** 2) / 2


@checks.arguments
def language_model_params(
    random: np.random.Generator, *, num_tokens: int, width: int, num_layers: int, length: int
) -> Params:
    """A decoder: embeddings, `num_layers` blocks stacked along the first axis, a head of its own."""

    def matrices(*shape: int) -> np.ndarray:
        return random.normal(size=shape) / np.sqrt(shape[-2])

    return {
        "embedding": random.normal(size=(num_tokens, width)),
        "position": random.normal(size=(length, width)) / 2,
        "blocks": {
            "query_key_value": matrices(num_layers, width, 3 * width),
            "output": matrices(num_layers, width, width),
            "up": matrices(num_layers, width, 2 * width),
            "down": matrices(num_layers, 2 * width, width),
        },
        "head": matrices(width, num_tokens),
    }


def _normed(x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
    """Scaled to mean square one; the 1e-3 keeps third derivatives small where an activation vanishes."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-3)


def language_model_loss(params: Params, tokens: Int[Array, "b t"]) -> Scalar:
    """The negative log-likelihood of every token after the first, mean over tokens; one causal attention head."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    length = inputs.shape[1]
    width = params["embedding"].shape[1]
    is_future = np.triu(np.ones((length, length), bool), k=1)

    def block(x: Float[Array, "b t d"], weights: Params) -> tuple[Float[Array, "b t d"], None]:
        query, key, value = jnp.split(_normed(x) @ weights["query_key_value"], 3, axis=-1)
        scores = jnp.einsum("btd,bsd->bts", query, key) / np.sqrt(width).astype(x.dtype)
        attention = jax.nn.softmax(jnp.where(is_future, -jnp.inf, scores), axis=-1)
        x = x + attention @ value @ weights["output"]
        return x + jnp.tanh(_normed(x) @ weights["up"]) @ weights["down"], None

    x = params["embedding"][inputs] + params["position"][:length]
    x, _ = jax.lax.scan(block, x, params["blocks"])
    log_probs = jax.nn.log_softmax(_normed(x) @ params["head"])
    return -jnp.mean(jnp.take_along_axis(log_probs, targets[..., None], axis=-1))
