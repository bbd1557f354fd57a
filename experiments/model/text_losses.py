"""Losses of the texts of one half, as functions of their log-probabilities: the built-in ones, and one's own.

An arm descends the loss of side "+" on its preferred texts and that of side "-" on its dispreferred ones. A function of
one's own has the signature of `TextLoss`; `docs/objectives.md` is the contract.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from console import imports
from numerics.types import Scalar

__all__ = ["BY_NAME", "TextLoss", "Texts", "build", "log_likelihood", "npo", "tapered"]

NPO_BETA = 0.1  # Zhang et al. 2024, section 4: 0.1 in all of their experiments


class Texts(NamedTuple):
    """The completions of one half, or of a share of it.

    Attributes:
        log_probs: The log-probability of every token of the completions, in nats; 0 in the padding.
        start_log_probs: The same at the start of the run, a constant.
        lengths: The lengths of the completions in tokens.
        weights: The factors of the texts in the average that the reduction of the arm names. With token-half the sum of
            weights times lengths is 1, with sequence too.
    """

    log_probs: Float[Array, "b c"]
    start_log_probs: Float[Array, "b c"]
    lengths: Int[Array, " b"]
    weights: Float[Array, " b"]


TextLoss: TypeAlias = Callable[[Texts, Literal["+", "-"]], Scalar]
"""A loss that is descended, a sum over texts: of preferred ones for "+", of dispreferred ones for "-"."""


def _log_ratios(texts: Texts) -> Float[Array, " b"]:
    """log p(text) - log p(text) at the start."""
    return jnp.sum(texts.log_probs - texts.start_log_probs, axis=1)


def log_likelihood(texts: Texts, side: Literal["+", "-"]) -> Scalar:
    """Descent on the negative log-likelihood of preferred texts, ascent on that of dispreferred ones: the post's."""
    value = jnp.sum(texts.weights * jnp.sum(texts.log_probs, axis=1))
    return -value if side == "+" else value


def tapered(texts: Texts, side: Literal["+", "-"]) -> Scalar:
    """The log-likelihood, whose ascent on a dispreferred text fades with its ratio to the start.

    The gradient of a dispreferred text has the factor min(ratio, 1), ratio = p(text) / p(text) at the start. So the
    loss of it is the ratio below 1, and 1 + log ratio above.

    Source: Le Roux et al. 2025 (2503.14286), the ratio of negatives truncated to [0, 1].
    """
    if side == "+":
        return log_likelihood(texts, side)
    ratios = _log_ratios(texts)
    return jnp.sum(texts.weights * jnp.where(ratios < 0, jnp.exp(jnp.minimum(ratios, 0)), 1 + ratios))


def npo(texts: Texts, side: Literal["+", "-"]) -> Scalar:
    """The log-likelihood of preferred texts; of dispreferred ones the bounded 2/beta log(1 + ratio^beta), beta = 0.1.

    At the start its gradient is that of the log-likelihood.

    Source: Zhang et al. 2024 (2404.05868), eq. 3.
    """
    if side == "+":
        return log_likelihood(texts, side)
    return jnp.sum(texts.weights * 2 / NPO_BETA * jax.nn.softplus(NPO_BETA * _log_ratios(texts)))


BY_NAME: Mapping[str, TextLoss] = MappingProxyType({"log-likelihood": log_likelihood, "tapered": tapered, "npo": npo})
"""The built-in losses, by the names of `arms.OBJECTIVES`."""


def build(name: str) -> TextLoss:
    """A loss by its name, or by the import path of a function of one's own.

    Raises:
        ValueError: If there is no such function, it takes no texts and side, or it returns no scalar.
    """
    if name in BY_NAME:
        return BY_NAME[name]
    path = imports.dotted(name)
    if path is None:
        raise ValueError(
            f"objective must be a name or an import path, such as mypackage.losses:mine; got {name[:60]!r}."
        )
    function = cast("TextLoss", imports.function_of("objective", path))
    shape = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    rows = jax.ShapeDtypeStruct((2,), jnp.float32)
    texts = Texts(shape, shape, jax.ShapeDtypeStruct((2,), jnp.int32), rows)  # pyright: ignore[reportArgumentType]  # shapes
    sides: tuple[Literal["+", "-"], ...] = ("+", "-")
    for side in sides:
        try:
            value = jax.eval_shape(_of_side(function, side), texts)
        except Exception as error:  # whatever it raises
            first = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"{name} must take texts and a side, + or -, and return a scalar; got {type(error).__name__}: {first}"
            ) from error
        if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"{name} must return a real scalar; got {value} for side {side}.")
        try:
            jax.eval_shape(jax.grad(_of_log_probs(function, side)), texts.log_probs, texts)
        except Exception as error:  # of an operation without a derivative
            raise ValueError(f"{name} must have a derivative in JAX; got none for side {side}.") from error
    return function


def _of_side(function: TextLoss, side: Literal["+", "-"]) -> Callable[[Texts], Scalar]:
    return lambda texts: function(texts, side)


def _of_log_probs(function: TextLoss, side: Literal["+", "-"]) -> Callable[[Array, Texts], Scalar]:
    return lambda log_probs, texts: function(texts._replace(log_probs=log_probs), side)
