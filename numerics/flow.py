"""The gradient flow of the losses of a schedule, and its expansion: the frame of modified losses.

The flow follows  d phi/dt = -sum_b scale_b grad L_b(phi)  for the time epsilon: that is the flow of the mean loss for
the total time of the steps.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import Direction, Params, Scalar
from numerics.updates import displaced

__all__ = ["coefficients", "total_gradient", "unit_displacement"]

# The classical Runge-Kutta method errs by (h |H|)^5 in every one of its steps: with 16 of them by 1e-6 of the fifth
# power of the step size, which is below everything that is fitted here.
NUM_STAGES = 16


def total_gradient(losses: Losses, schedule: Schedule, params: Params) -> Params:
    """sum_b scale_b grad L_b at `params`: a sum over steps."""

    def add(total: Params, step: tuple[Array, Array]) -> tuple[Params, None]:
        number, scale = step
        return displaced(total, losses.gradient(params, number), scale), None

    zero = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, zero, (jnp.asarray(schedule.losses), jnp.asarray(schedule.scales)))[0]


def unit_displacement(losses: Losses, schedule: Schedule, params: Params, time: Scalar | float) -> Params:
    """The displacement of the flow after this time, divided by it, by the classical Runge-Kutta method.

    Divided, it is of order one for every time, and carried as it is no digit of a small displacement is lost.
    """

    def field(reached: Params) -> Params:
        here = displaced(params, reached, time)
        return jax.tree.map(jnp.negative, total_gradient(losses, schedule, here))

    def stage(reached: Params, _: None) -> tuple[Params, None]:
        h = 1 / NUM_STAGES
        k1 = field(reached)
        k2 = field(displaced(reached, k1, h / 2))
        k3 = field(displaced(reached, k2, h / 2))
        k4 = field(displaced(reached, k3, h))
        mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4)
        return displaced(reached, mean, h), None

    return jax.lax.scan(stage, jax.tree.map(jnp.zeros_like, params), None, length=NUM_STAGES)[0]


@jax.jit
def coefficients(losses: Losses, schedule: Schedule, params: Params) -> tuple[Params, Params, Params]:
    """The displacement of the flow in powers 1, 2, 3 of the time: -G, H G / 2, -(H H G + T[G, G]) / 6.

    G, H and T are the first three derivatives of sum_b scale_b L_b at `params`.
    """

    def gradient(at: Params) -> Params:
        return total_gradient(losses, schedule, at)

    def along(direction: Direction, at: Params) -> Params:
        return jax.jvp(gradient, (at,), (direction,))[1]

    total = gradient(params)
    once = along(total, params)
    twice = along(once, params)
    fork = jax.jvp(lambda at: along(total, at), (params,), (total,))[1]
    return (
        jax.tree.map(jnp.negative, total),
        jax.tree.map(lambda h: h / 2, once),
        jax.tree.map(lambda hh, t: -(hh + t) / 6, twice, fork),
    )
