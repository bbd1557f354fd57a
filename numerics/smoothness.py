"""Whether an update map is smooth over the steps that are compared: where it is not, it has no Taylor expansion.

A clip that switches on between two step sizes, or an Adam whose eps is small beside a gradient coordinate that changes
sign, puts a kink into the map. Nothing about the rule is known here; the map betrays itself. Over an interval of step
sizes the increment of a smooth map is the integral of its derivative, and Simpson's rule gets it to the fifth power of
the length; a kink inside leaves an error of the size of the jump. The first interval reaches to negative steps, so that
a kink at the start itself is seen.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from numerics.drift import unit_drift
from numerics.losses import Losses
from numerics.schedules import Schedule
from numerics.types import Frame, Params, Scalar

__all__ = ["kink"]

# Simpson's error over an interval in which the derivative changes smoothly is a small part of that change; where the
# derivative jumps, it is between none and a third of the jump times the length.
THRESHOLD = 0.02


@partial(jax.jit, static_argnames=("optimizer", "frame"))
def _defects(
    losses: Losses,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    params: Params,
    state: optax.OptState,
    lower: Float[Array, " k"],
    upper: Float[Array, " k"],
    frame: Frame,
) -> tuple[Float[Array, " k"], Float[Array, " k"], Float[Array, " k"]]:
    def at(read: Scalar) -> tuple[Params, Params]:
        return jax.jvp(
            lambda s: unit_drift(losses, schedule, optimizer, params, state, s, frame), (read,), (jnp.ones_like(read),)
        )

    def one(bounds: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
        a, b = bounds
        (from_a, slope_a), (_, slope), (to_b, slope_b) = at(a), at((a + b) / 2), at(b)
        h = b - a
        defect = jax.tree.map(
            lambda y, x, da, dm, db: y - x - h * (da + 4 * dm + db) / 6, to_b, from_a, slope_a, slope, slope_b
        )
        change = optax.tree.norm(jax.tree.map(jnp.subtract, slope_b, slope_a))
        change = jnp.maximum(change, optax.tree.norm(jax.tree.map(jnp.subtract, slope, slope_a)))
        return optax.tree.norm(defect), change * h, optax.tree.norm(from_a)

    return jax.lax.map(one, (lower, upper))


def kink(
    losses: Losses,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    params: Params,
    state: optax.OptState,
    step_sizes: Float[np.ndarray, " k"],
    *,
    frame: Frame,
) -> tuple[float, float] | None:
    """The first interval of step sizes in which the update map is seen not to be smooth, or None.

    What is tested is the change of slope between the ends and the middle of every interval between successive step
    sizes, and of the one from minus to plus the smallest. A kink whose jump is below a per cent of the change of slope
    nearby is not seen; a curvature so strong that the interval does not resolve it is taken for one.

    Args:
        losses: The losses.
        schedule: The steps.
        optimizer: The rule, at learning rate 1.
        params: The start.
        state: The state of the rule.
        step_sizes: Descending.
        frame: What the displacement is compared with; a kink of the frame's map counts.
    """
    sizes = np.asarray(step_sizes)[::-1]
    dtype = jnp.result_type(*jax.tree.leaves(params))
    lower = np.concatenate([[-sizes[0]], sizes[:-1]])
    defects, changes, values = (
        np.asarray(array)
        for array in _defects(
            losses, schedule, optimizer, params, state, jnp.asarray(lower, dtype), jnp.asarray(sizes, dtype), frame
        )
    )
    round_off = 64 * float(jnp.finfo(dtype).eps) * (values + 1e-300)
    is_kink = ~np.isfinite(defects) | (defects > THRESHOLD * changes + round_off)
    if not is_kink.any():
        return None
    first = int(np.argmax(is_kink))
    return max(float(lower[first]), 0.0), float(sizes[first])
