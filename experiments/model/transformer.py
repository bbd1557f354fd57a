"""Llama, Qwen2 and Qwen3 in plain JAX: the parameters are a dict of arrays, the model is a few pure functions.

All three are decoders with RMSNorm, rotary positions, grouped heads and a gated feed-forward part. Qwen2 adds a bias to
queries, keys and values. Qwen3 norms every head of queries and keys.

The update rules under study need gradients and Hessian-vector products, which JAX gives for an ordinary function of an
ordinary tree. The module knows no file, no tokenizer and no loss; `parameters` has the table of the parameters.

Letters in shapes: b rows, t places in a row, d width, h query heads, k key-value heads, e head dimension, f width of
the feed-forward part, v vocabulary, n layers, s places in a cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Literal, NamedTuple, NotRequired, TypeAlias, TypedDict, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

__all__ = ["Architecture", "Cache", "Params", "Remat", "RopeScaling", "empty_cache", "hidden", "logits", "with_cache"]


class Params(TypedDict):
    """The parameters. Every leaf of `layers` has the layers along its first axis; a tied model has no head."""

    embedding: Float[Array, "v d"]
    layers: dict[str, Float[Array, "n ..."]]
    norm: Float[Array, " d"]
    head: NotRequired[Float[Array, "d v"]]


Remat: TypeAlias = Literal["nothing", "products", "everything"]
"""The part that the backward pass computes again: nothing, all but the products with weights, or every whole layer."""

_Aux = TypeVar("_Aux")


@dataclass(frozen=True)
class RopeScaling:
    """The stretching of slow rotations to longer contexts in Llama 3.1.

    Source:
        Llama Team 2024 (arXiv 2407.21783), section 3.2, as published with the weights.
    """

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


@dataclass(frozen=True)
class Architecture:
    """The sizes that make one model, and the parts that its family has.

    Attributes:
        vocabulary: The number of tokens v.
        width: The width d of the residual stream.
        num_layers: The number of layers n.
        num_heads: The number of query heads h.
        num_kv_heads: The number of key-value heads k; it divides h.
        head_dim: The dimension e of a head; even. It need not be d/h.
        mlp_width: The width f of the feed-forward part.
        norm_epsilon: The constant that every norm adds to the mean square.
        rope_theta: The base of the rotations' wavelengths.
        rope_scaling: The stretching of Llama 3.1; None for a model without it.
        is_tied: Whether the head is the embedding.
        context: The largest number of places that the model was trained for.
        has_qkv_bias: Whether queries, keys and values have a bias, as in Qwen2.
        has_qk_norm: Whether every head of queries and keys is normed before its rotation, as in Qwen3.
    """

    vocabulary: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_width: int
    norm_epsilon: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    is_tied: bool
    context: int
    has_qkv_bias: bool = False
    has_qk_norm: bool = False


class Cache(NamedTuple):
    """Keys and values of earlier places."""

    keys: Float[Array, "n b k s e"]
    values: Float[Array, "n b k s e"]


def _rms_norm(x: Float[Array, "*b d"], weight: Float[Array, " d"], epsilon: float) -> Float[Array, "*b d"]:
    """RMSNorm, computed in float32 at least."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return wide.astype(x.dtype) * weight


def _frequencies(a: Architecture) -> Float[Array, " half"]:
    """Angles per place in radians: theta^(-2i/e); slow rotations are stretched where the architecture says so."""
    rates = a.rope_theta ** (-jnp.arange(0, a.head_dim, 2, dtype=jnp.float32) / a.head_dim)
    if (scaling := a.rope_scaling) is None:
        return rates
    turns = scaling.original_context * rates / (2 * pi)  # in the context of the first training
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    share = jnp.clip((turns - low) / (high - low), 0, 1)  # 1: fast and unchanged; 0: slow and stretched by the factor
    return rates * (share + (1 - share) / scaling.factor)


def _rotation(a: Architecture, positions: Int[Array, "b t"]) -> tuple[Float[Array, "b t 1 half"], ...]:
    """Cosines and sines of the angles."""
    angles = positions[..., None, None].astype(jnp.float32) * _frequencies(a)
    return jnp.cos(angles), jnp.sin(angles)


def _rotate(x: Float[Array, "b t heads e"], rotation: tuple[Float[Array, "b t 1 half"], ...]) -> Array:
    """Coordinate i is rotated with coordinate i + e/2, the layout of the published weights."""
    cos, sin = (part.astype(x.dtype) for part in rotation)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _attention(
    queries: Float[Array, "b t h e"],
    keys: Float[Array, "b k s e"],
    values: Float[Array, "b k s e"],
    is_seen: Bool[Array, "b_or_1 t s"],
) -> Float[Array, "b t he"]:
    """Softmax attention with weights in float32 at least; h/k query heads share a key-value head."""
    b, t, h, e = queries.shape
    k, s = keys.shape[1:3]
    # One product per row and key-value head: the query heads that share it lie one after another.
    grouped = queries.reshape(b, t, k, h // k, e).transpose(0, 2, 3, 1, 4).reshape(b, k, h // k * t, e)
    wide = jnp.promote_types(queries.dtype, jnp.float32)
    scores = jnp.einsum("bkqe,bkse->bkqs", grouped, keys, preferred_element_type=wide)
    scores = jnp.where(is_seen[:, None, None], scores.reshape(b, k, h // k, t, s) * e**-0.5, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype).reshape(b, k, h // k * t, s)
    mixed = jnp.matmul(weights, values)
    return mixed.reshape(b, k, h // k, t, e).transpose(0, 3, 1, 2, 4).reshape(b, t, h * e)


def _layer(
    a: Architecture,
    x: Float[Array, "bt d"],
    weights: dict[str, Array],
    attend: Callable[[Array, Array, Array], tuple[Array, _Aux]],
    rotation: tuple[Float[Array, "b t 1 half"], ...],
) -> tuple[Float[Array, "bt d"], _Aux]:
    """One layer; `attend` takes queries, keys and values and returns their mixture and an auxiliary output.

    Rows and places are one axis wherever possible: products of matrices then need no transposed copies.
    """
    weights = {name: weight.astype(x.dtype) for name, weight in weights.items()}
    b, t = rotation[0].shape[:2]
    normed = _rms_norm(x, weights["attention_norm"], a.norm_epsilon)

    def heads(name: str, count: int) -> Float[Array, "b t heads e"]:
        out = normed @ weights[name]
        if a.has_qkv_bias:
            out += weights[f"{name}_bias"]
        return out.reshape(b, t, count, a.head_dim)

    queries, keys, values = heads("query", a.num_heads), heads("key", a.num_kv_heads), heads("value", a.num_kv_heads)
    if a.has_qk_norm:
        queries = _rms_norm(queries, weights["query_norm"], a.norm_epsilon)
        keys = _rms_norm(keys, weights["key_norm"], a.norm_epsilon)
    keys, values = (x.transpose(0, 2, 1, 3) for x in (_rotate(keys, rotation), values))
    mixed, aux = attend(_rotate(queries, rotation), keys, values)
    x = x + mixed.reshape(b * t, -1) @ weights["output"]
    normed = _rms_norm(x, weights["mlp_norm"], a.norm_epsilon)
    return x + (jax.nn.silu(normed @ weights["gate"]) * (normed @ weights["up"])) @ weights["down"], aux


def hidden(
    params: Params,
    architecture: Architecture,
    tokens: Int[Array | np.ndarray, "b t"],
    *,
    compute_dtype: DTypeLike = jnp.float32,
    remat: Remat = "products",
    residual_sharding: Sharding | None = None,
) -> Float[Array, "b t d"]:
    """The hidden states of texts after the last norm, in the compute type.

    A row holds one text. Padding stands on the right, where no token of the text sees it.

    Args:
        params: The float32 masters; every use casts them.
        architecture: The model.
        tokens: Token ids.
        compute_dtype: The type of all arrays but norms and attention weights, which are float32 at least.
        remat: The part that the backward pass computes again, to save memory.
        residual_sharding: The sharding of the residual stream, (b t, d), between layers; None leaves it to the
            partitioner.
    """
    tokens = jnp.asarray(tokens)
    b, t = tokens.shape
    is_seen = jnp.tril(jnp.ones((1, t, t), bool))
    rotation = _rotation(architecture, jnp.broadcast_to(jnp.arange(t), (b, t)))

    def place(x: Array) -> Array:
        return x if residual_sharding is None else jax.lax.with_sharding_constraint(x, residual_sharding)

    def attend(queries: Array, keys: Array, values: Array) -> tuple[Array, None]:
        return _attention(queries, keys, values, is_seen), None

    def layer(x: Array, weights: dict[str, Array]) -> tuple[Array, None]:
        x, aux = _layer(architecture, x, weights, attend, rotation)
        return place(x), aux

    if remat == "everything":
        layer = jax.checkpoint(layer)
    elif remat == "products":
        layer = jax.checkpoint(layer, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
    x = place(params["embedding"][tokens.reshape(-1)].astype(compute_dtype))
    x, _ = jax.lax.scan(layer, x, params["layers"])
    return _rms_norm(x, params["norm"].astype(compute_dtype), architecture.norm_epsilon).reshape(b, t, -1)


def logits(params: Params, states: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
    """Unnormalised log-probabilities of the next token, float32 at least, from hidden states after the last norm."""
    wide = jnp.promote_types(states.dtype, jnp.float32)
    if "head" in params:
        return jnp.matmul(states, params["head"].astype(states.dtype), preferred_element_type=wide)
    return jnp.einsum("...d,vd->...v", states, params["embedding"].astype(states.dtype), preferred_element_type=wide)


def empty_cache(architecture: Architecture, rows: int, places: int, dtype: DTypeLike = jnp.float32) -> Cache:
    """A cache without any earlier place."""
    a = architecture
    zeros = jnp.zeros((a.num_layers, rows, a.num_kv_heads, places, a.head_dim), dtype)
    return Cache(zeros, zeros)


def with_cache(
    params: Params,
    architecture: Architecture,
    tokens: Int[Array | np.ndarray, "b t"],
    positions: Int[Array | np.ndarray, "b t"],
    is_seen: Bool[Array, "b t s"],
    cache: Cache,
    start: Int[Array, ""] | int,
) -> tuple[Float[Array, "b t d"], Cache]:
    """The hidden states of further tokens of texts, whose earlier places lie in a cache.

    All rows write their tokens to the same places of the cache, so that the writing needs no scatter. Rows may have
    different lengths.

    Args:
        params: The parameters.
        architecture: The model.
        tokens: The next tokens of every row.
        positions: The place of each token in its own text, from 0.
        is_seen: The places of the cache that a token sees; its own place is one of them.
        cache: The earlier places; its type is the compute type.
        start: The place of the cache for the first token.

    Returns:
        Hidden states after the last norm, and the cache with these tokens.
    """
    rotation = _rotation(architecture, jnp.asarray(positions))
    start = jnp.asarray(start, jnp.int32)
    zero = jnp.zeros_like(start)

    def write(old: Array, new: Array, layer: Array) -> Array:
        return jax.lax.dynamic_update_slice(old, new[None], (layer, zero, zero, start, zero))

    def layer(carry: tuple[Array, Cache], inputs: tuple[dict[str, Array], Array]) -> tuple[tuple[Array, Cache], None]:
        (x, cache), (weights, number) = carry, inputs

        def attend(queries: Array, keys: Array, values: Array) -> tuple[Array, Cache]:
            new = Cache(write(cache.keys, keys, number), write(cache.values, values, number))
            return _attention(queries, new.keys[number], new.values[number], is_seen), new

        return _layer(architecture, x, weights, attend, rotation), None

    x = params["embedding"][jnp.asarray(tokens).reshape(-1)].astype(cache.keys.dtype)
    numbers = jnp.arange(architecture.num_layers, dtype=jnp.int32)
    (x, cache), _ = jax.lax.scan(layer, (x, cache), (params["layers"], numbers))
    x = _rms_norm(x, params["norm"].astype(x.dtype), architecture.norm_epsilon)
    return x.reshape(*tokens.shape, -1), cache
