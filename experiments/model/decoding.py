"""Greedy decoding in one compiled loop over a batch of prompts of different lengths. Knows no text."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Int

from experiments.model import transformer
from experiments.model.transformer import Architecture, Cache, Params

__all__ = ["Decoded", "greedy"]


class Decoded(NamedTuple):
    """The continuations of a batch of prompts.

    Attributes:
        tokens: The new tokens; from `lengths` on, padding.
        lengths: The lengths of the continuations, without the token that ended them.
        is_ended: Whether a stop token ended the continuation, rather than the limit.
    """

    tokens: Int[Array, "b m"]
    lengths: Int[Array, " b"]
    is_ended: Bool[Array, " b"]


class _Carry(NamedTuple):
    """The state of the loop; `last` are the newest tokens."""

    step: Int[Array, ""]
    last: Int[Array, " b"]
    is_ended: Bool[Array, " b"]
    lengths: Int[Array, " b"]
    tokens: Int[Array, "b m"]
    cache: Cache


def greedy(
    params: Params,
    architecture: Architecture,
    prompts: Int[Array | np.ndarray, "b t"],
    lengths: Int[Array | np.ndarray, " b"],
    *,
    stop_tokens: Sequence[int],
    max_new_tokens: int,
    compute_dtype: DTypeLike = jnp.float32,
) -> Decoded:
    """Continuations of prompts by the most likely token, until a stop token or the limit.

    Prompts are padded on the right; `lengths` are theirs, at least 1. Of equally likely tokens the first is taken. The
    loop ends when all texts have ended. The compute type is that of the cache, too.

    Raises:
        ValueError: If there is no stop token, no new token is wanted, or prompt and answer do not fit the context.
    """
    if not stop_tokens:
        raise ValueError("stop_tokens must be at least one; an id that is no token (-1) ends nothing.")
    if max_new_tokens < 1 or prompts.shape[1] + max_new_tokens > architecture.context:
        raise ValueError(
            f"max_new_tokens must be at least 1 and fit the context of {architecture.context} behind "
            f"{prompts.shape[1]} tokens; got {max_new_tokens}."
        )
    return _greedy(
        params, architecture, prompts, jnp.asarray(lengths), tuple(stop_tokens), max_new_tokens, compute_dtype
    )


@partial(jax.jit, static_argnames=("architecture", "stop_tokens", "max_new_tokens", "compute_dtype"))
def _greedy(
    params: Params,
    architecture: Architecture,
    prompts: Int[Array | np.ndarray, "b t"],
    lengths: Int[Array, " b"],
    stop_tokens: tuple[int, ...],
    max_new_tokens: int,
    compute_dtype: DTypeLike,
) -> Decoded:
    b, t = prompts.shape
    stops = jnp.asarray(stop_tokens, jnp.int32)
    params = jax.tree.map(lambda leaf: leaf.astype(compute_dtype), params)

    def likeliest(states: Array) -> Int[Array, " b"]:
        return jnp.argmax(transformer.logits(params, states), axis=-1).astype(jnp.int32)

    def advance(carry: _Carry, token: Int[Array, " b"], cache: Cache) -> _Carry:
        is_ended = carry.is_ended | (token[:, None] == stops).any(1)
        return _Carry(
            step=carry.step + 1,
            last=token,
            is_ended=is_ended,
            lengths=carry.lengths + ~is_ended,
            tokens=carry.tokens.at[:, carry.step].set(jnp.where(is_ended, 0, token)),
            cache=cache,
        )

    # Prompts and their padding lie in the first t places of the cache; no token sees the padding. Behind them lie the
    # new tokens, those of all rows in the same places.
    places = jnp.arange(t + max_new_tokens)
    is_prompt = places < lengths[:, None]

    def step(carry: _Carry) -> _Carry:
        place = t + carry.step - 1
        is_seen = is_prompt | ((places >= t) & (places <= place))
        states, cache = transformer.with_cache(
            params,
            architecture,
            carry.last[:, None],
            (lengths + carry.step - 1)[:, None],
            is_seen[:, None],
            carry.cache,
            place,
        )
        return advance(carry, likeliest(states[:, 0]), cache)

    cache = transformer.empty_cache(architecture, b, t + max_new_tokens, compute_dtype)
    at = jnp.broadcast_to(jnp.arange(t), (b, t))
    is_seen = jnp.broadcast_to(places <= jnp.arange(t)[:, None], (b, t, t + max_new_tokens))
    states, cache = transformer.with_cache(params, architecture, prompts, at, is_seen, cache, 0)
    last = jnp.take_along_axis(states, (lengths - 1)[:, None, None], axis=1)[:, 0]
    zero, none = jnp.zeros((), jnp.int32), jnp.zeros(b, jnp.int32)
    start = _Carry(zero, none, none > 0, none, jnp.zeros((b, max_new_tokens), jnp.int32), cache)
    end = jax.lax.while_loop(
        lambda carry: (carry.step < max_new_tokens) & ~carry.is_ended.all(),
        step,
        advance(start, likeliest(last), cache),
    )
    return Decoded(end.tokens, end.lengths, end.is_ended)
