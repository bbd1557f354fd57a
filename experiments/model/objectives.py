"""Log-probabilities of completions and losses of them, as `numerics.updates` takes them.

A loss is minus a weighted sum of the completions' log-probabilities. The weights are data of the batch, so that all
reductions are one function. The head is computed only where a token of a completion is predicted.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypedDict, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from experiments.arms import Reduction
from experiments.data.tokens import Batch
from experiments.model import sharding, transformer
from experiments.model.text_losses import TextLoss, Texts
from experiments.model.transformer import Architecture, Params, Remat
from numerics.types import LossFn, Scalar

__all__ = [
    "MAX_SCORES",
    "alignment_term",
    "divergence",
    "from_start",
    "in_parts",
    "log_probs",
    "negative_log_likelihood",
    "of_texts",
    "weights",
]

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
    params = _placed(params, architecture, mesh)
    states = _states(params, architecture, batch, compute_dtype=compute_dtype, remat=remat, mesh=mesh)

    def head(states: Float[Array, "n d"], targets: Int[Array, " n"]) -> Float[Array, " n"]:
        scores = transformer.logits(params, states)
        of_target = jnp.take_along_axis(scores, targets[:, None], axis=1)[:, 0]
        return of_target - jax.nn.logsumexp(scores, axis=-1)

    values = _by_block(head, architecture, states, jnp.asarray(batch.targets))
    return jnp.where(_is_completion(batch), values, 0)


def divergence(
    params: Params,
    architecture: Architecture,
    batch: tuple[Params, Batch],
    *,
    compute_dtype: DTypeLike = jnp.float32,
    remat: Remat = "products",
    mesh: Mesh | None = None,
) -> Float[Array, "b c"]:
    """KL(p || q) of the next token at every place of the completions, over the whole vocabulary; 0 in the padding.

    p is the distribution of the parameters, q that of others, the first entry of `batch`. In nats, float32 at least;
    at q = p its gradient is zero and its Hessian the Fisher information. Options are those of `log_probs`.
    """
    others, texts = batch
    options = _Options(compute_dtype=compute_dtype, remat=remat, mesh=mesh)
    params, others = (_placed(tree, architecture, mesh) for tree in (params, jax.lax.stop_gradient(others)))
    states = [_states(tree, architecture, texts, **options) for tree in (params, others)]

    def head(own: Float[Array, "n d"], other: Float[Array, "n d"]) -> Float[Array, " n"]:
        log_p = jax.nn.log_softmax(transformer.logits(params, own), axis=-1)
        log_q = jax.nn.log_softmax(transformer.logits(others, other), axis=-1)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)

    return jnp.where(_is_completion(texts), _by_block(head, architecture, *states), 0)


class _Options(TypedDict):
    compute_dtype: DTypeLike
    remat: Remat
    mesh: Mesh | None


def _placed(params: Params, architecture: Architecture, mesh: Mesh | None) -> Params:
    """The parameters, whose gradients have their sharding."""
    if mesh is None:
        return params
    return jax.lax.with_sharding_constraint(params, sharding.of_parameters(mesh, architecture))


def _is_completion(batch: Batch) -> Bool[Array, "b c"]:
    return jnp.arange(batch.targets.shape[1]) < batch.lengths[:, None]


def _states(
    params: Params,
    architecture: Architecture,
    batch: Batch,
    *,
    compute_dtype: DTypeLike,
    remat: Remat,
    mesh: Mesh | None,
) -> Float[Array, "b c d"]:
    """The states that predict the tokens of the completions."""
    states = transformer.hidden(
        params,
        architecture,
        batch.tokens,
        compute_dtype=compute_dtype,
        remat=remat,
        residual_sharding=None if mesh is None else sharding.residual(mesh),
    )
    places = jnp.arange(batch.targets.shape[1])
    # Padding is predicted from the last place; its values are set to 0.
    at = jnp.minimum(batch.first[:, None] + places, batch.tokens.shape[1] - 1)
    return jnp.take_along_axis(states, at[:, :, None], axis=1)


def _by_block(function: Callable[..., Array], architecture: Architecture, *leaves: Array) -> Float[Array, "b c"]:
    """A function of places, whose scores would be by far the largest array: a block of places at a time.

    They are computed again in the backward pass.
    """
    rows, num_places = leaves[0].shape[:2]
    wide = max(1, min(num_places, MAX_SCORES // (rows * architecture.vocabulary)))
    num_blocks = -(-num_places // wide)
    short = num_blocks * wide - num_places

    def blocks(leaf: Array) -> Array:
        leaf = jnp.pad(leaf, [(0, 0), (0, short)] + [(0, 0)] * (leaf.ndim - 2))
        return jnp.moveaxis(leaf.reshape(rows, num_blocks, wide, *leaf.shape[2:]), 1, 0)

    @jax.checkpoint
    def of_block(block: tuple[Array, ...]) -> Float[Array, "b w"]:
        return function(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in block)).reshape(rows, wide)

    values = jax.lax.map(of_block, tuple(map(blocks, leaves)))
    return jnp.moveaxis(values, 0, 1).reshape(rows, -1)[:, :num_places]


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


def of_texts(
    architecture: Architecture,
    loss: TextLoss,
    side: Literal["+", "-"],
    *,
    compute_dtype: DTypeLike = jnp.float32,
    remat: Remat = "products",
    mesh: Mesh | None = None,
) -> LossFn:
    """The loss of one half by a function of its texts, with log p of every completion [b] as aux.

    Its batches have `start_log_probs`. Options are those of `log_probs`.
    """

    def of_batch(params: Params, batch: Batch) -> tuple[Scalar, Float[Array, " b"]]:
        by_token = log_probs(params, architecture, batch, compute_dtype=compute_dtype, remat=remat, mesh=mesh)
        assert batch.start_log_probs is not None
        texts = Texts(by_token, *map(jnp.asarray, (batch.start_log_probs, batch.lengths, batch.weights)))
        return loss(texts, side), jax.lax.stop_gradient(jnp.sum(by_token, axis=1))

    return of_batch


def from_start(
    architecture: Architecture,
    *,
    num_parts: int = 1,
    compute_dtype: DTypeLike = jnp.float32,
    remat: Remat = "products",
    mesh: Mesh | None = None,
) -> LossFn:
    """The mean divergence KL(p || p at the start) over the tokens of the completions of both halves, in nats.

    Its batch is a pair: the parameters at the start, and the two halves, each read in `num_parts` parts.
    """
    options = _Options(compute_dtype=compute_dtype, remat=remat, mesh=mesh)

    def loss(params: Params, batch: tuple[Params, tuple[Batch, Batch]]) -> Scalar:
        start, halves = batch
        texts = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *halves)
        texts = texts._replace(weights=jnp.full(texts.lengths.shape, 1 / jnp.sum(texts.lengths)))

        def of_part(params: Params, part: Batch) -> Scalar:
            values = divergence(params, architecture, (start, part), **options)
            return jnp.sum(jnp.sum(values, axis=1) * part.weights)

        return in_parts(of_part, 2 * num_parts if num_parts > 1 else 1)(params, texts)

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
