"""The gradient flow of the losses of a schedule, and its expansion: the frame of modified losses.

The flow follows  d phi/dt = -sum_b scale_b grad L_b(phi)  for the time epsilon: that is the flow of the mean loss for
the total time of the steps. Diffrax integrates it, by the method of Dormand and Prince of order 8 with steps of its own
choice.
"""

import diffrax
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from numerics import checks
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import Params, Scalar
from numerics.updates import displaced

__all__ = ["REMEDY", "coefficients", "error", "total_gradient", "unit_displacement"]

# The error of one step of the integrator relative to the displacement, in units of the machine epsilon. Below some ten
# of them its own rounding would be taken for an error.
TOLERANCE = 64.0
COARSER = 64.0  # times as much: the difference of the two shows the error
MAX_STEPS = 4096  # as Diffrax has it: enough for a time of some 10,000 / |H|

REMEDY = (
    "The flow of the gradient-flow frame can also run off to infinity, or need more than "
    f"{MAX_STEPS:,} steps of its integrator: take smaller steps."
)
"""The last sentence of a refusal, where a result of a flow is not finite."""


@checks.arguments
def total_gradient(losses: Losses, schedule: Schedule, params: Params) -> Params:
    """sum_b scale_b grad L_b at `params`: a sum over steps."""

    def add(total: Params, step: tuple[Array, Array]) -> tuple[Params, None]:
        number, scale = step
        return displaced(total, losses.gradient(params, number), scale), None

    zero = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, zero, (jnp.asarray(schedule.losses), jnp.asarray(schedule.scales)))[0]


@checks.arguments
def unit_displacement(
    losses: Losses, schedule: Schedule, params: Params, time: Scalar | float, *, tolerance: Scalar | float = TOLERANCE
) -> Params:
    """The displacement of the flow after this time, divided by it.

    Divided, it is of order one for every time, and carried as it is no digit of a small displacement is lost. To be
    transformed, forwards only. NaN where the integrator gives up: the flow runs off to infinity, or the time is very
    long beside 1/|H|. `tolerance` is the error of one step of the integrator relative to the displacement (root mean
    square over the parameters), in units of the machine epsilon.
    """

    def field(_: object, reached: Params, args: None) -> Params:
        here = displaced(params, reached, time)
        return jax.tree.map(jnp.negative, total_gradient(losses, schedule, here))

    zero = jax.tree.map(jnp.zeros_like, params)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    start = field(jnp.zeros((), dtype), zero, None)
    size = jax.lax.stop_gradient(optax.tree.norm(start)) / sum(leaf.size for leaf in jax.tree.leaves(params)) ** 0.5
    relative = tolerance * float(jnp.finfo(dtype).eps)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Dopri8(),
        t0=0.0,
        t1=1.0,
        dt0=1.0,  # one step, where the time is short
        y0=zero,
        stepsize_controller=diffrax.PIDController(rtol=relative, atol=relative * jnp.where(size > 0, size, 1)),
        adjoint=diffrax.ForwardMode(),
        max_steps=MAX_STEPS,
        throw=False,
    )
    is_done = solution.result == diffrax.RESULTS.successful
    return jax.tree.map(lambda leaf: jnp.where(is_done, leaf[0], jnp.nan), solution.ys)


@checks.arguments
@jax.jit
def error(losses: Losses, schedule: Schedule, params: Params, time: Scalar | float) -> Scalar:
    """The norm of the error of `unit_displacement`, estimated.

    The difference from a run with a coarser tolerance; zero where both are one step. It does not see features that are
    narrower than a step of the integrator.
    """

    def moved(tolerance: Scalar) -> Params:
        return unit_displacement(losses, schedule, params, time, tolerance=tolerance)

    # One after the other: the integrator is compiled once, and that is where the time goes.
    dtype = jnp.result_type(*jax.tree.leaves(params))
    both = jax.lax.map(moved, jnp.asarray([TOLERANCE, COARSER * TOLERANCE], dtype))
    return jnp.asarray(optax.tree.norm(jax.tree.map(lambda leaf: leaf[0] - leaf[1], both)))


@checks.arguments
@jax.jit
def coefficients(losses: Losses, schedule: Schedule, params: Params) -> tuple[Params, Params, Params]:
    """The displacement of the flow in powers 1, 2, 3 of the time: -G, H G / 2, -(H H G + T[G, G]) / 6.

    G, H and T are the first three derivatives of sum_b scale_b L_b at `params`.
    """

    def gradient(at: Params) -> Params:
        return total_gradient(losses, schedule, at)

    def along(direction: Params, at: Params) -> Params:
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
