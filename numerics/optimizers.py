"""Optimizers by name, at learning rate 1: the step size multiplies their updates.

Optax does the work. Here are the builders of the names of `numerics.catalogue`, and Adam with its preconditioner
frozen, which separates normalisation from everything else.
"""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from numerics import catalogue, checks
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import Params

__all__ = ["BY_NAME", "Stages", "build", "frozen_adamw", "gradient_descent", "parse", "second_moment", "stages"]

Stages: TypeAlias = dict[str, optax.GradientTransformation]
"""A rule that is built up cause by cause, from gradient descent to the rule itself: the stages of `attribution.gap`."""


@cache
def gradient_descent() -> optax.GradientTransformation:
    """theta - step_size * gradient: always the same object."""
    return optax.sgd(1.0)


def _behind_clip(max_norm: float | None, *parts: optax.GradientTransformation) -> optax.GradientTransformation:
    clip = () if max_norm is None else (optax.clip_by_global_norm(max_norm),)
    rule, *others = *clip, *parts
    return optax.chain(rule, *others) if others else rule


def _adamw_stages(
    *,
    b1: float,
    b2: float,
    eps: float,
    eps_root: float,
    weight_decay: float | None = None,
    max_norm: float | None = None,
) -> Stages:
    stages: Stages = {}
    if max_norm is not None:
        stages["clipping"] = _behind_clip(max_norm, gradient_descent())
    stages["memory"] = _behind_clip(max_norm, optax.ema(b1, debias=True), optax.scale(-1.0))
    stages["normalisation"] = _behind_clip(max_norm, optax.adam(1.0, b1=b1, b2=b2, eps=eps, eps_root=eps_root))
    if weight_decay is not None:
        rule = optax.adamw(1.0, b1=b1, b2=b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay)
        stages["weight decay"] = _behind_clip(max_norm, rule)
    return stages


@checks.arguments
def second_moment(losses: Losses, schedule: Schedule, params: Params) -> Params:
    """The mean over the steps of the squared gradient, coordinate by coordinate: one preconditioner from both sides.

    The scales and the brackets of the schedule do not enter.
    """

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
    """AdamW whose second moment v never changes: every schedule divides by the same square root.

    A difference that is left between sequential and accumulated updates is not normalisation. v has the structure of
    the parameters; it comes from `second_moment`, or from an Adam state, whose `nu` must be divided by 1 - b2^count:
    here nothing corrects it for its start at zero. The first moment is corrected as in Adam.
    """

    def divided(updates: optax.Updates) -> optax.Updates:
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v + eps_root) + eps), updates, second_moment)

    return optax.chain(
        optax.ema(b1, debias=True),
        optax.stateless(lambda updates, params: divided(updates)),
        optax.add_decayed_weights(weight_decay),
        optax.scale(-1.0),
    )


def _frozen_stages(second_moment: Params, b1: float, eps: float, eps_root: float, weight_decay: float) -> Stages:
    numbers = {"b1": b1, "eps": eps, "eps_root": eps_root}
    return {
        "memory": optax.chain(optax.ema(b1, debias=True), optax.scale(-1.0)),
        "normalisation": frozen_adamw(second_moment, **numbers),
        "weight decay": frozen_adamw(second_moment, **numbers, weight_decay=weight_decay),
    }


BY_NAME: Mapping[str, Callable[..., Stages]] = MappingProxyType(
    {
        "sgd": dict,
        "heavy-ball": lambda momentum: {"memory": optax.sgd(1.0, momentum=momentum)},
        "nesterov": lambda momentum: {"memory": optax.sgd(1.0, momentum=momentum, nesterov=True)},
        "adam": _adamw_stages,
        "adamw": _adamw_stages,
        "clipped-sgd": lambda max_norm: {"clipping": _behind_clip(max_norm, gradient_descent())},
        "clipped-adamw": _adamw_stages,
        "frozen-adamw": _frozen_stages,
    }
)
"""From the options of an optimizer (`catalogue.OPTIMIZERS`) to its stages beyond gradient descent; the last is it."""


def _stages(name: str, options: Mapping[str, float], second_moment: Params | None) -> Stages:
    numbers: dict[str, object] = dict(catalogue.all_options(name, options))
    if catalogue.OPTIMIZERS[name].needs_second_moment:
        if second_moment is None:
            raise ValueError(f"{name} must be given a second moment; got none.")
        numbers["second_moment"] = second_moment
    return {"learning rate": gradient_descent(), **BY_NAME[name](**numbers)}


@checks.arguments
def build(
    name: str, options: Mapping[str, float] = MappingProxyType({}), second_moment: Params | None = None
) -> optax.GradientTransformation:
    """An optimizer of the catalogue.

    Options that are left out have the defaults of the catalogue. Only frozen-adamw has a `second_moment`.

    Raises:
        ValueError: If there is no such optimizer or option, or an option is not a number in its range.
    """
    *_, rule = _stages(name, options, second_moment).values()
    return rule


@checks.arguments
def stages(
    name: str, options: Mapping[str, float] = MappingProxyType({}), second_moment: Params | None = None
) -> Stages:
    """An optimizer built up cause by cause, for `attribution.gap`; arguments and errors as for `build`.

    A weight decay of 0 is no stage.
    """
    stages = _stages(name, options, second_moment)
    if options.get("weight_decay") == 0:
        del stages["weight decay"]
    return stages


@checks.arguments
@cache
def parse(text: str) -> optax.GradientTransformation:
    """An optimizer from `name` or `name:option=number,...`, such as "adam:eps=1e-3,b2=0.99"; one object per text.

    Raises:
        ValueError: If there is no such optimizer or option, or a value is not a number in its range.
    """
    return build(*catalogue.parse_optimizer(text))
