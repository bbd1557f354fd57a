"""The Llama family in plain JAX: the parameters a dict of arrays, the model a few pure functions to be read whole.

Written here because the update rules under study need gradients and Hessian-vector products of an ordinary function of
an ordinary tree. It knows no file, no tokenizer and no loss.

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

__all__ = [
    "Architecture",
    "Cache",
    "Params",
    "Remat",
    "RopeScaling",
    "empty_cache",
    "hidden",
    "logits",
    "with_cache",
]


class Params(TypedDict):
    """A plain dict. Every leaf of `layers` has the layers along its first axis; a tied model has no head."""

    embedding: Float[Array, "v d"]
    layers: dict[str, Float[Array, "n ..."]]
    norm: Float[Array, " d"]
    head: NotRequired[Float[Array, "d v"]]


Remat: TypeAlias = Literal["nothing", "products", "everything"]
"""What the backward pass computes again: nothing, all but the products with weights, every layer from its input."""


_Kept = TypeVar("_Kept")


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3.1's stretching of slow rotations to longer contexts.

    Source:
        Llama Team 2024 (arXiv 2407.21783), section 3.2, as published with the weights.
    """

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


@dataclass(frozen=True)
class Architecture:
    """The sizes that make one member of the family.

    Attributes:
        vocabulary: Number of tokens v.
        width: Of the residual stream, d.
        num_layers: n.
        num_heads: Query heads h.
        num_kv_heads: Key-value heads k; divides h.
        head_dim: e.
        mlp_width: f.
        norm_epsilon: Added to the mean square in every norm.
        rope_theta: The base of the rotations' wavelengths.
        rope_scaling: Llama 3.1's, or None.
        is_tied: Whether the head is the embedding.
        context: The most places that the model was trained for.
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


class Cache(NamedTuple):
    """Keys and values of the places seen so far."""

    keys: Float[Array, "n b k s e"]
    values: Float[Array, "n b k s e"]


def _normalised(x: Float[Array, "*b d"], weight: Float[Array, " d"], epsilon: float) -> Float[Array, "*b d"]:
    """RMSNorm, in float32 at least whatever the model computes in."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return wide.astype(x.dtype) * weight


def _frequencies(a: Architecture) -> Float[Array, " half"]:
    """Rotations per place, in radians: theta^(-2i/e), slow ones stretched where the architecture says so."""
    rates = a.rope_theta ** (-jnp.arange(0, a.head_dim, 2, dtype=jnp.float32) / a.head_dim)
    if (scaling := a.rope_scaling) is None:
        return rates
    turns = scaling.original_context * rates / (2 * pi)  # in the context that the model was first trained for
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    kept = jnp.clip((turns - low) / (high - low), 0, 1)  # 1: fast, as it was; 0: slow, stretched by the factor
    return rates * (kept + (1 - kept) / scaling.factor)


def _rotation(a: Architecture, positions: Int[Array, "b t"]) -> tuple[Float[Array, "b t 1 half"], ...]:
    angles = positions[..., None, None].astype(jnp.float32) * _frequencies(a)
    return jnp.cos(angles), jnp.sin(angles)


def _rotated(x: Float[Array, "b t heads e"], rotation: tuple[Float[Array, "b t 1 half"], ...]) -> Array:
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
    """Softmax attention, each key-value head shared by h/k query heads; the weights in float32 at least."""
    b, t, h, e = queries.shape
    k, s = keys.shape[1:3]
    # One product per row and key-value head: all query heads that share it lie one after another.
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
    attend: Callable[[Array, Array, Array], tuple[Array, _Kept]],
    rotation: tuple[Float[Array, "b t 1 half"], ...],
) -> tuple[Float[Array, "bt d"], _Kept]:
    """One layer; `attend` gets queries, keys and values, and hands on what is to be kept of them.

    Rows and places are one axis wherever they can be: products of matrices then need no transposed copies.
    """
    weights = {name: weight.astype(x.dtype) for name, weight in weights.items()}
    b, t = rotation[0].shape[:2]
    normed = _normalised(x, weights["attention_norm"], a.norm_epsilon)
    queries = (normed @ weights["query"]).reshape(b, t, a.num_heads, a.head_dim)
    keys = (normed @ weights["key"]).reshape(b, t, a.num_kv_heads, a.head_dim)
    values = (normed @ weights["value"]).reshape(b, t, a.num_kv_heads, a.head_dim)
    keys, values = (x.transpose(0, 2, 1, 3) for x in (_rotated(keys, rotation), values))
    mixed, kept = attend(_rotated(queries, rotation), keys, values)
    x = x + mixed.reshape(b * t, -1) @ weights["output"]
    normed = _normalised(x, weights["mlp_norm"], a.norm_epsilon)
    return x + (jax.nn.silu(normed @ weights["gate"]) * (normed @ weights["up"])) @ weights["down"], kept


def hidden(
    params: Params,
    architecture: Architecture,
    tokens: Int[Array | np.ndarray, "b t"],
    *,
    compute_dtype: DTypeLike = jnp.float32,
    remat: Remat = "products",
    residual_sharding: Sharding | None = None,
) -> Float[Array, "b t d"]:
    """The normalised last hidden states of texts, one in a row.

    Padding goes to the right, where no token of the text sees it.

    Args:
        params: float32 masters; they are cast where they are used.
        architecture: The model.
        tokens: Token ids.
        compute_dtype: Of everything but norms and attention weights, which are float32 at least.
        remat: What the backward pass computes again, to save memory.
        residual_sharding: Where the residual stream, (b t, d), lies between layers; the partitioner's choice if None.

    Returns:
        Hidden states after the last norm, in the compute type.
    """
    tokens = jnp.asarray(tokens)
    b, t = tokens.shape
    is_seen = jnp.tril(jnp.ones((1, t, t), bool))
    rotation = _rotation(architecture, jnp.broadcast_to(jnp.arange(t), (b, t)))

    def placed(x: Array) -> Array:
        return x if residual_sharding is None else jax.lax.with_sharding_constraint(x, residual_sharding)

    def attend(queries: Array, keys: Array, values: Array) -> tuple[Array, None]:
        return _attention(queries, keys, values, is_seen), None

    def layer(x: Array, weights: dict[str, Array]) -> tuple[Array, None]:
        x, kept = _layer(architecture, x, weights, attend, rotation)
        return placed(x), kept

    if remat == "everything":
        layer = jax.checkpoint(layer)
    elif remat == "products":
        layer = jax.checkpoint(layer, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
    x = placed(params["embedding"][tokens.reshape(-1)].astype(compute_dtype))
    x, _ = jax.lax.scan(layer, x, params["layers"])
    return _normalised(x, params["norm"].astype(compute_dtype), architecture.norm_epsilon).reshape(b, t, -1)


def logits(params: Params, states: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
    """Unnormalised log-probabilities of the next token, float32 at least, from hidden states after the last norm."""
    wide = jnp.promote_types(states.dtype, jnp.float32)
    if "head" in params:
        return jnp.matmul(states, params["head"].astype(states.dtype), preferred_element_type=wide)
    return jnp.einsum("...d,vd->...v", states, params["embedding"].astype(states.dtype), preferred_element_type=wide)


def empty_cache(architecture: Architecture, rows: int, places: int, dtype: DTypeLike = jnp.float32) -> Cache:
    """A cache in which nothing has been seen."""
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
    """The hidden states of further tokens of texts whose earlier places lie in a cache.

    Every row puts its tokens into the same places of the cache, so that nothing is scattered; which place of its own
    text a token has is said apart, and so is what it sees: rows may have different lengths.

    Args:
        params: The parameters.
        architecture: The model.
        tokens: The next tokens of every row.
        positions: The place of each of them in its own text, from 0.
        is_seen: Which places of the cache a token sees, its own among them.
        cache: What was seen; the compute type is its type.
        start: The place of the cache where the first of the tokens goes.

    Returns:
        Hidden states after the last norm, and the cache with these tokens in it.
    """
    rotation = _rotation(architecture, jnp.asarray(positions))
    start = jnp.asarray(start, jnp.int32)
    zero = jnp.zeros_like(start)

    def put(kept: Array, new: Array, layer: Array) -> Array:
        return jax.lax.dynamic_update_slice(kept, new[None], (layer, zero, zero, start, zero))

    def layer(so_far: tuple[Array, Cache], at: tuple[dict[str, Array], Array]) -> tuple[tuple[Array, Cache], None]:
        (x, cache), (weights, number) = so_far, at

        def attend(queries: Array, keys: Array, values: Array) -> tuple[Array, Cache]:
            kept = Cache(put(cache.keys, keys, number), put(cache.values, values, number))
            return _attention(queries, kept.keys[number], kept.values[number], is_seen), kept

        return _layer(architecture, x, weights, attend, rotation), None

    x = params["embedding"][jnp.asarray(tokens).reshape(-1)].astype(cache.keys.dtype)
    numbers = jnp.arange(architecture.num_layers, dtype=jnp.int32)
    (x, cache), _ = jax.lax.scan(layer, (x, cache), (params["layers"], numbers))
    x = _normalised(x, params["norm"].astype(x.dtype), architecture.norm_epsilon)
    return x.reshape(*tokens.shape, -1), cache
