"""The cause of a result that is not finite, read from the losses and the rule at the start."""

from math import ceil, floor, log10

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from numerics import checks
from numerics.losses import Losses
from numerics.rules import Rule, at_rate
from numerics.types import Params

__all__ = ["require_finite"]


def require_finite(
    result: object,
    losses: Losses,
    params: Params,
    rule: Rule | None = None,
    *,
    has_steps: bool = False,
    remedy: str = "",
) -> None:
    """Refuses a result that is not finite, with the cause; inside a transformation there is nothing to look at yet.

    Args:
        result: A tree.
        losses: The losses.
        params: The start.
        rule: The rule; None stands for gradient descent.
        has_steps: Whether there were steps, which may have been too large.
        remedy: A last sentence, of a cause that the losses and the rule do not show.

    Raises:
        FloatingPointError: If a leaf holds NaN or infinity.
    """
    if (place := checks.not_finite(result)) is not None:
        what = "displacements and derivatives" if has_steps else "derivatives"
        cause = _cause(losses, params, rule, has_steps=has_steps)
        raise FloatingPointError(
            f"{what} must be finite; got NaN or infinity in {place or 'the value'}. {cause} {remedy}".rstrip()
        )


def _cause(losses: Losses, params: Params, rule: Rule | None, *, has_steps: bool) -> str:
    """Why a derivative is not finite, as far as the start shows it."""
    leaves = jax.tree.leaves((losses, params))
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return "Check the losses at the start."
    names = [name for name, count in zip(losses.names, losses.counts, strict=True) for _ in range(count)]
    values, are_finite, have_zeros, are_smooth = map(np.asarray, _at_start(losses, params))
    for what, is_fine in (
        ("The value", np.isfinite(values)),
        ("The gradient", are_finite),
        ("A second derivative", are_smooth),
    ):
        if not is_fine.all():
            number = int(np.argmin(is_fine))
            return (
                f"{what} of loss {number} ({names[number]!r}) is not finite at the start, as at the root or the "
                "logarithm of zero: begin elsewhere, or mend the loss."
            )
    smaller = " Or take smaller steps." if has_steps else ""
    if rule is None or not have_zeros.any():
        of_rule = "" if rule is None else " or of the rule"
        return f"Two derivatives of the losses are finite at the start; a higher one{of_rule} is not.{smaller}"
    state = jax.eval_shape(lambda: at_rate(rule, 1.0).init(params))
    fields = {str(getattr(key, "name", "")) for path, _ in jax.tree.leaves_with_path(state) for key in path}
    number = int(np.argmax(have_zeros))
    at_zero = (
        f"The gradient of loss {number} ({names[number]!r}) is exactly zero in a coordinate, where a root has no "
        "derivative"
    )
    if {"mu", "nu"} <= fields:
        least = _rounded_up(float(jnp.finfo(jnp.result_type(*jax.tree.leaves(params))).tiny))
        return (
            f"{at_zero}: give Adam eps_root of at least {least}, the least positive number that the processor does not "
            f"take for zero.{smaller}"
        )
    return f"{at_zero}: give the rule an epsilon under its root or its norm, or take one that has none.{smaller}"


@jax.jit
def _at_start(losses: Losses, params: Params) -> tuple[Array, ...]:
    """Of every loss: its value, whether its gradient is finite, whether it has zeros, whether H g is finite."""

    def at(number: Array) -> tuple[Array, ...]:
        gradient, product = jax.jvp(
            lambda here: losses.gradient(here, number), (params,), (losses.gradient(params, number),)
        )
        leaves, others = jax.tree.leaves(gradient), jax.tree.leaves(product)
        return (
            losses.value(params, number),
            jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])),
            jnp.any(jnp.stack([(leaf == 0).any() for leaf in leaves])),
            jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in others])),
        )

    return jax.lax.map(at, jnp.arange(losses.num_losses))


def _rounded_up(value: float) -> str:
    """A positive number with two digits, not below it."""
    exponent = floor(log10(value))
    return f"{ceil(value / 10.0**exponent * 10) / 10:.1f}e{exponent}"
