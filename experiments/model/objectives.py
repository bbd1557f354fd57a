"""Log-probabilities of completions and losses of them, as `numerics.updates` takes them.

A loss is minus a weighted sum of the completions' log-probabilities. The weights are data of the batch, so that all
reductions are one function. The head is computed only where a token of a completion is predicted.
"""

from collections.abc import Sequence
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from experiments.arms import Reduction
from experiments.data.tokens import Batch
from experiments.model import sharding, transformer
from experiments.model.transformer import Architecture, Params, Remat
from numerics.types import LossFn, Scalar

__all__ = ["MAX_SCORES", "alignment_term", "in_parts", "log_probs", "negative_log_likelihood", "weights"]

MAX_SCORES = 2**23
"""Scores of one block of places, 32 MiB of float32."""


def weights(lengths: Sequence[int], reduction: Reduction, *, num_tokens_of_both: int) -> list[float]:
    """The weight of each completion's summed log-probability in its side's loss.

    Args:
        lengths: The tokens of each completion of one side.
        reduction: The set over which the loss is an average.
        num_tokens_of_both: The completion tokens of both sides together. `token-union` divides by half of this number:
            it equals `token-half` where both sides are equally long.

    Raises:
        ValueError: If there is no such reduction, there is no completion, or a completion has no token.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}; got {reduction!r}.")
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths must be at least one, each at least 1; got {list(lengths)}.")
    if num_tokens_of_both < sum(lengths):
        raise ValueError(
            f"num_tokens_of_both must be at least the {sum(lengths)} of this side; got {num_tokens_of_both}."
        )
    if reduction == "sequence":
        return [1 / (length * len(lengths)) for length in lengths]
    scale = {"token-union": 2 / num_tokens_of_both, "token-half": 1 / sum(lengths), "sum": 1.0}[reduction]
    return [scale] * len(lengths)


def log_probs(
    params: Params,
    architecture: Architecture,
    batch: Batch,
    *,
    compute_dtype: DTypeLike = jnp.float32,
    remat: Remat = "products",
    mesh: Mesh | None = None,
) -> Float[Array, "b c"]:
    """The log-probability of every token of the completions, given all tokens before it; 0 in the padding.

    In nats, float32 at least. Options are those of `transformer.hidden`, and the mesh of devices, None for one device:
    gradients have the sharding of their parameters.
    """
    if mesh is not None:
        params = jax.lax.with_sharding_constraint(params, sharding.of_parameters(mesh, architecture))
    states = transformer.hidden(
        params,
        architecture,
        batch.tokens,
        compute_dtype=compute_dtype,
        remat=remat,
        residual_sharding=None if mesh is None else sharding.residual(mesh),
    )
    places = jnp.arange(batch.targets.shape[1])
    # Padding is predicted from the last place; the last line of this function sets it to 0.
    at = jnp.minimum(batch.first[:, None] + places, batch.tokens.shape[1] - 1)
    states = jnp.take_along_axis(states, at[:, :, None], axis=1)

    # The scores would be by far the largest array: they are computed a block of places at a time, and again in the
    # backward pass.
    rows, num_places, width = states.shape
    wide = max(1, min(num_places, MAX_SCORES // (rows * architecture.vocabulary)))
    num_blocks = -(-num_places // wide)
    short = num_blocks * wide - num_places

    def blocks(leaf: Array) -> Array:
        leaf = jnp.pad(leaf, [(0, 0), (0, short)] + [(0, 0)] * (leaf.ndim - 2))
        return jnp.moveaxis(leaf.reshape(rows, num_blocks, wide, *leaf.shape[2:]), 1, 0)

    @jax.checkpoint
    def head(block: tuple[Array, Array]) -> Float[Array, "b w"]:
        scores = transformer.logits(params, block[0].reshape(-1, width))
        of_target = jnp.take_along_axis(scores, block[1].reshape(-1, 1), axis=1)[:, 0]
        return (of_target - jax.nn.logsumexp(scores, axis=-1)).reshape(rows, wide)

    values = jax.lax.map(head, (blocks(states), blocks(jnp.asarray(batch.targets))))
    values = jnp.moveaxis(values, 0, 1).reshape(rows, -1)[:, :num_places]
    return jnp.where(places < batch.lengths[:, None], values, 0)


def negative_log_likelihood(
    architecture: Architecture,
    *,
    compute_dtype: DTypeLike = jnp.float32,
    remat: Remat = "products",
    mesh: Mesh | None = None,
    has_aux: bool = False,
) -> LossFn:
    """The loss -sum_i weight_i log p(completion_i | prompt_i) of a `Batch`, in nats.

    Its descent learns the completions. `numerics.losses.negated` of it is the loss of the dispreferred side. Options
    are those of `log_probs`; with `has_aux` the loss returns a pair: its value, and log p of every completion [b] in
    nats per sequence.
    """

    def loss(params: Params, batch: Batch) -> Scalar | tuple[Scalar, Float[Array, " b"]]:
        by_token = log_probs(params, architecture, batch, compute_dtype=compute_dtype, remat=remat, mesh=mesh)
        by_text = jnp.sum(by_token, axis=1)
        value = -jnp.sum(by_text * batch.weights)
        return (value, jax.lax.stop_gradient(by_text)) if has_aux else value

    return loss


def in_parts(loss: LossFn, num_parts: int, *, has_aux: bool = False) -> LossFn:
    """The same loss with a gradient that is summed over parts of the batch, to need the memory of one part.

    Args:
        loss: A sum over the rows of its batch.
        num_parts: The number of parts; it divides the rows.
        has_aux: Whether the loss returns a pair: its value, and an array with one entry per row.

    Returns:
        A loss with the same value and gradient up to round-off. Its gradient can be differentiated forwards (a
        Hessian-vector product); the loss itself only backwards.
    """
    if num_parts < 1:
        raise ValueError(f"num_parts must be at least 1; got {num_parts}.")
    if num_parts == 1:
        return loss

    def parts(batch: object) -> object:
        def split(leaf: Array | np.ndarray) -> Array:
            if leaf.shape[0] % num_parts:
                raise ValueError(f"num_parts must divide the {leaf.shape[0]} rows of the batch; got {num_parts}.")
            return jnp.asarray(leaf).reshape(num_parts, leaf.shape[0] // num_parts, *leaf.shape[1:])

        return jax.tree.map(split, batch)

    def pair(params: Params, part: object) -> tuple[Scalar, object]:
        value = loss(params, part)
        return value if has_aux else (value, None)

    def join(value: Scalar, aux: object) -> object:
        """The output of the loss, from the auxiliary outputs of the parts along a first axis."""
        return (value, jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), aux)) if has_aux else value

    @jax.custom_vjp
    def whole(params: Params, batch: object) -> object:
        values, aux = jax.lax.map(lambda part: pair(params, part), parts(batch))
        return join(jnp.sum(values), aux)

    def forward(params: Params, batch: object) -> tuple[object, Params]:
        def add(total: tuple[Scalar, Params], part: object) -> tuple[tuple[Scalar, Params], object]:
            (value, aux), gradient = jax.value_and_grad(pair, has_aux=True)(params, part)
            return jax.tree.map(jnp.add, total, (value, gradient)), aux

        kind, _ = jax.eval_shape(lambda: pair(params, jax.tree.map(lambda leaf: leaf[0], parts(batch))))
        start = (jnp.zeros((), kind.dtype), jax.tree.map(jnp.zeros_like, params))
        (value, gradient), aux = jax.lax.scan(add, start, parts(batch))
        return join(value, aux), gradient

    def backward(gradient: Params, seed: Scalar | tuple[Scalar, object]) -> tuple[Params, None]:
        size = seed[0] if isinstance(seed, tuple) else seed
        return jax.tree.map(lambda leaf: size.astype(leaf.dtype) * leaf, gradient), None

    whole.defvjp(forward, backward)
    return whole


def alignment_term(plus: LossFn, minus: LossFn) -> LossFn:
    """The loss coefficient * g+ . g-: an explicit term adds its descent to an update.

    Its gradient, coefficient * (H+ g- + H- g+), takes two Hessian-vector products, forward over reverse.

    Args:
        plus: L+, as `loss(params, batch)`.
        minus: L-.

    Returns:
        A loss of the batch (coefficient, plus batch, minus batch). It can be differentiated only once, backwards.
    """

    def value_and_gradient(params: Params, batch: tuple[Scalar, object, object]) -> tuple[Scalar, Params]:
        coefficient, plus_batch, minus_batch = batch
        g_minus = jax.grad(minus)(params, minus_batch)
        g_plus, plus_minus = jax.jvp(lambda at: jax.grad(plus)(at, plus_batch), (params,), (g_minus,))
        _, minus_plus = jax.jvp(lambda at: jax.grad(minus)(at, minus_batch), (params,), (g_plus,))
        product = jnp.asarray(optax.tree.vdot(g_plus, g_minus))
        size = jnp.asarray(coefficient)
        gradient = jax.tree.map(lambda a, b: size.astype(a.dtype) * (a + b), plus_minus, minus_plus)
        return size.astype(product.dtype) * product, gradient

    @jax.custom_vjp
    def term(params: Params, batch: tuple[Scalar, object, object]) -> Scalar:
        return value_and_gradient(params, batch)[0]

    def backward(gradient: Params, seed: Scalar) -> tuple[Params, None]:
        return jax.tree.map(lambda leaf: seed.astype(leaf.dtype) * leaf, gradient), None

    term.defvjp(value_and_gradient, backward)
    return term
