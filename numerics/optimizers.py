"""Optimizers by name, at learning rate 1: the step size multiplies their updates.

Optax does the work. Here are only the names of the command line, the plain gradient descent that closed forms are
about, and Adam with its preconditioner frozen, which tells normalisation from everything else.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from math import inf
from types import MappingProxyType

import jax
import jax.numpy as jnp
import optax

from numerics import checks
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import Params

__all__ = ["BY_NAME", "frozen_adamw", "gradient_descent", "parse", "second_moment"]


@cache
def gradient_descent() -> optax.GradientTransformation:
    """theta - step_size * gradient: always the same object, for what is compiled is kept by object."""
    return optax.sgd(1.0)


def _heavy_ball(momentum: float = 0.9) -> optax.GradientTransformation:
    """Gradient descent with momentum: velocity = momentum * velocity + gradient."""
    return optax.sgd(1.0, momentum=momentum)


def _nesterov(momentum: float = 0.9) -> optax.GradientTransformation:
    """Gradient descent with Nesterov's momentum."""
    return optax.sgd(1.0, momentum=momentum, nesterov=True)


# Adam's square root has a kink where a gradient vanishes, of width eps. eps_root rounds it off: with the default, a
# gradient coordinate of 0.1 is half way between the linear and the sign regime, and the update map is smooth on the
# scale of the gradients, which the problems here keep at order one.
EPS_ROOT = 1e-2


def _adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = EPS_ROOT
) -> optax.GradientTransformation:
    """Adam; eps_root is added under the square root."""
    return optax.adam(1.0, b1=b1, b2=b2, eps=eps, eps_root=eps_root)


def _adamw(
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = EPS_ROOT,
    weight_decay: float = 1e-2,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay."""
    return optax.adamw(1.0, b1=b1, b2=b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)


def _clipped(max_norm: float = 0.5) -> optax.GradientTransformation:
    """Gradient descent whose gradient is clipped by its global norm at every update."""
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.sgd(1.0))


def _clipped_adamw(
    max_norm: float = 0.5,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = EPS_ROOT,
    weight_decay: float = 1e-2,
) -> optax.GradientTransformation:
    """AdamW behind clipping by the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(max_norm), _adamw(b1=b1, b2=b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)
    )


BY_NAME: Mapping[str, Callable[..., optax.GradientTransformation]] = MappingProxyType(
    {
        "sgd": gradient_descent,
        "heavy-ball": _heavy_ball,
        "nesterov": _nesterov,
        "adam": _adam,
        "adamw": _adamw,
        "clipped-sgd": _clipped,
        "clipped-adamw": _clipped_adamw,
    }
)


@checks.arguments
@cache
def parse(text: str) -> optax.GradientTransformation:
    """An optimizer from `name` or `name:option=number,...`, such as "adam:eps=1e-3,b2=0.99"; one object per text.

    Raises:
        ValueError: If there is no such optimizer or option, or a value is not a number.
    """
    name, _, given = text.partition(":")
    if name not in BY_NAME:
        raise ValueError(f"optimizer must be one of {', '.join(BY_NAME)}; got {name!r}.")
    make = BY_NAME[name]
    known = list(inspect.signature(make).parameters)
    options: dict[str, float] = {}
    for item in filter(None, given.split(",")):
        option, _, value = (part.strip() for part in item.partition("="))
        if option not in known or option in options:
            raise ValueError(
                f"{name} must be given options among {', '.join(known) or '(none)'}, each once; got {option!r}."
            )
        try:
            options[option] = float(value)
        except ValueError:
            raise ValueError(f"{name}:{option} must be a number; got {value!r}.") from None
        if not 0 <= options[option] < inf:
            raise ValueError(f"{name}:{option} must be finite and not negative; got {value}.")
        if option in ("b1", "b2") and not options[option] < 1:
            raise ValueError(f"{name}:{option} must be below 1; got {value}. Adam divides by 1 minus its powers.")
    return make(**options)


@checks.arguments
def second_moment(losses: Losses, schedule: Schedule, params: Params) -> Params:
    """The mean over the steps of the squared gradient, coordinate by coordinate: one preconditioner from both sides."""

    def add(total: Params, number: jax.Array) -> tuple[Params, None]:
        gradient = losses.gradient(params, number)
        return jax.tree.map(lambda v, g: v + g * g, total, gradient), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), jnp.asarray(schedule.losses))
    return jax.tree.map(lambda v: v / schedule.losses.shape[0], total)


@checks.arguments
def frozen_adamw(
    second_moment: Params,
    *,
    b1: float = 0.9,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """AdamW whose second moment is given and never changes: every schedule divides by the same square root.

    What then still differs between sequential and accumulated updates is not normalisation.

    Args:
        second_moment: v, of the structure of the parameters; from `second_moment`, or from an Adam state, whose `nu`
            must be divided by 1 - b2^count: here nothing corrects it for its start at zero.
        b1: The decay of the first moment, corrected for its start at zero as in Adam.
        eps: Added to the square root.
        eps_root: Added under it.
        weight_decay: Decoupled.
    """

    def divided(updates: optax.Updates) -> optax.Updates:
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v + eps_root) + eps), updates, second_moment)

    return optax.chain(
        optax.ema(b1, debias=True),
        optax.stateless(lambda updates, params: divided(updates)),
        optax.add_decayed_weights(weight_decay),
        optax.scale(-1.0),
    )
