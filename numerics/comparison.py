"""Predicted against measured drift over a range of step sizes: the remainder, its order, and whether theory is met."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from numerics import averages, drift, optimizers, order, schedules, smoothness, updates
from numerics.averages import RandomOrder
from numerics.losses import Losses, require_finite
from numerics.order import Fit
from numerics.schedules import Schedule
from numerics.types import Frame, Params, Scalar

__all__ = ["Comparison", "compare", "predicted"]

NUM_HALVINGS = 10
# The largest step, as a share of that at which one order of the expansion is as large as the next.
SHARE = 0.1
NUM_JITTERS = 8


@dataclass(frozen=True)
class Comparison:
    """Norms over step sizes; the Euclidean norm over all parameters.

    Attributes:
        frame: What the drift is relative to.
        step_sizes: Descending.
        measured: |drift| of real updates.
        predicted: |prediction| through order 1, 2, 3: one row each.
        remainders: |measured - predicted|, one row for each.
        round_off: What round-off alone may make of a drift, an estimate from one-ulp changes of the start.
        fits: The observed order of each remainder; in theory 2, 3 and 4.
        kink: An interval of step sizes in which the update map is not smooth, or None. Then no order is fitted.
    """

    frame: Frame
    step_sizes: Float[np.ndarray, " k"]
    measured: Float[np.ndarray, " k"]
    predicted: Float[np.ndarray, "3 k"]
    remainders: Float[np.ndarray, "3 k"]
    round_off: Float[np.ndarray, " k"]
    fits: tuple[Fit, ...]
    kink: tuple[float, float] | None

    @property
    def is_resolved(self) -> tuple[bool, ...]:
        """At which step sizes round-off is below one per cent of the measured drift."""
        return tuple((self.round_off < 0.01 * self.measured).tolist())


def predicted(
    losses: Losses,
    schedule: Schedule | RandomOrder,
    optimizer: optax.GradientTransformation,
    params: Params,
    state: optax.OptState | None = None,
    *,
    frame: Frame,
) -> tuple[Params, Params, Params]:
    """The coefficients c_1, c_2, c_3 of the drift, or of its mean over a random order.

    For gradient descent by closed forms, of the mean in O(n) to second order; else, and at third order of a mean, by
    forward derivatives and enumeration.
    """
    state = optimizer.init(params) if state is None else state
    is_descent = optimizer is optimizers.gradient_descent()
    if isinstance(schedule, Schedule):
        if is_descent:
            found = drift.closed_form(losses, schedule, params, frame=frame, order=3)
        else:
            found = drift.taylor(losses, schedule, optimizer, params, state, frame=frame, order=3)
    else:
        found = _mean_coefficients(losses, schedule, optimizer, params, state, frame)
        if is_descent and schedule.pairs != "fixed":
            found = (*averages.closed_form(losses, schedule, params, frame=frame), found[2])
        require_finite(found, drift.NOT_FINITE)
    first, second, third = found
    return first, second, third


@partial(jax.jit, static_argnames=("random_order", "optimizer", "frame"))
def _mean_coefficients(
    losses: Losses,
    random_order: RandomOrder,
    optimizer: optax.GradientTransformation,
    params: Params,
    state: optax.OptState,
    frame: Frame,
) -> tuple[Params, ...]:
    def coefficients(schedule: Schedule) -> tuple[Params, ...]:
        return drift.taylor_coefficients(losses, schedule, optimizer, params, state, frame, order=3)

    return averages.enumerated(coefficients, random_order, losses.num_pairs)


@partial(jax.jit, static_argnames=("random_order", "optimizer", "frame"))
def _norms(
    losses: Losses,
    schedule: Schedule | None,
    random_order: RandomOrder | None,
    optimizer: optax.GradientTransformation,
    params: Params,
    state: optax.OptState,
    coefficients: tuple[Params, ...],
    step_sizes: Float[Array, " k"],
    frame: Frame,
) -> tuple[Float[Array, " k"], Float[Array, "k 3"], Float[Array, "k 3"]]:
    """The norms of the measured and predicted drifts and of the remainders."""

    def one(size: Scalar) -> tuple[Array, Array, Array]:
        def of(word: Schedule) -> Params:
            return drift.unit_drift(losses, word, optimizer, params, state, size, frame)

        unit = averages.enumerated(of, random_order, losses.num_pairs) if random_order is not None else of(schedule)
        # In units of the step size: nothing underflows, and the relative error is the same.
        predictions = [
            jax.tree.map(lambda leaf: leaf / size, drift.evaluated(coefficients[:k], size))
            for k in range(1, len(coefficients) + 1)
        ]
        remainders = [optax.tree.norm(jax.tree.map(jnp.subtract, unit, p)) for p in predictions]
        return (
            size * optax.tree.norm(unit),
            size * jnp.stack([optax.tree.norm(p) for p in predictions]),
            size * jnp.stack(remainders),
        )

    return jax.lax.map(one, step_sizes)


@partial(jax.jit, static_argnames=("optimizer",))
def _round_off(
    losses: Losses,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    params: Params,
    state: optax.OptState,
) -> tuple[Scalar, Scalar]:
    """The norm of D(0), and how far moving the start by one unit in the last place moves it.

    A read at start + displacement is rounded to such a unit, and so is every operation inside the loss: what they do to
    an update is what moving the start does.
    """

    def frozen(start: Params) -> updates.Update:
        return updates.unit_displacement(
            losses, schedule, optimizer, start, state, 0.0, grouping="step", reduction="sum"
        )

    def moved(key: Array) -> Scalar:
        keys = jax.tree.unflatten(structure, list(jax.random.split(key, structure.num_leaves)))
        start = jax.tree.map(
            lambda leaf, k: leaf * (1 + jnp.finfo(leaf.dtype).eps * jax.random.rademacher(k, leaf.shape, leaf.dtype)),
            params,
            keys,
        )
        return optax.tree.norm(jax.tree.map(jnp.subtract, frozen(start).displacement, here.displacement))

    structure = jax.tree.structure(params)
    here = frozen(params)
    distances = jax.lax.map(moved, jax.random.split(jax.random.key(0), NUM_JITTERS))
    eps = jnp.finfo(distances.dtype).eps
    return optax.tree.norm(here.displacement), jnp.max(distances) + eps * jnp.sum(here.info.update_norms)


def _largest_step(first: float, coefficients: tuple[Params, Params, Params]) -> float:
    """A tenth of the step size at which an order of the expansion is as large as the next."""
    second, third = (float(optax.tree.norm(c)) for c in coefficients[1:])
    bounds = [1.0]
    for smaller, larger, power in ((second, first, 1.0), (third, second, 1.0), (third, first, 0.5)):
        if smaller > 0 and larger > 0:
            bounds.append((larger / smaller) ** power)
    return SHARE * min(bounds)


def compare(
    losses: Losses,
    schedule: Schedule | RandomOrder,
    optimizer: optax.GradientTransformation,
    params: Params,
    state: optax.OptState | None = None,
    *,
    frame: Frame,
    coefficients: tuple[Params, Params, Params] | None = None,
    largest_step: float | None = None,
    num_halvings: int = NUM_HALVINGS,
) -> Comparison:
    """Sets a prediction against real updates over halved step sizes and fits the order of what is left.

    Args:
        losses: The losses.
        schedule: The steps, or a random order whose exact mean is compared.
        optimizer: The rule, at learning rate 1.
        params: The start.
        state: The state of the rule; `optimizer.init(params)` unless given.
        frame: What the displacement is compared with.
        coefficients: The prediction; that of `predicted` unless given.
        largest_step: The largest step size; a tenth of that at which the expansion stops to converge unless given.
        num_halvings: How often it is halved.

    Raises:
        TypeError: If a loss is not a real scalar, or a parameter is not float32 or float64.
        ValueError: If the schedule does not fit the losses or the frame, or the largest step is not positive.
        FloatingPointError: If a derivative is NaN or infinite at the start.
    """
    is_word = isinstance(schedule, Schedule)
    first_word = schedule if is_word else schedules.steps(averages.first_word(schedule, losses.num_pairs))
    updates.check(losses, first_word, params)
    drift.check_frame(frame, first_word, optimizer)
    if num_halvings < 1:
        raise ValueError(f"num_halvings must be at least 1; got {num_halvings}.")
    state = optimizer.init(params) if state is None else state
    if coefficients is None:
        coefficients = predicted(losses, schedule, optimizer, params, state, frame=frame)
    first, noise = map(float, _round_off(losses, first_word, optimizer, params, state))
    largest = _largest_step(first, coefficients) if largest_step is None else largest_step
    if not 0 < largest < float("inf"):
        raise ValueError(f"largest_step must be positive and finite; got {largest}.")
    step_sizes = largest * 0.5 ** np.arange(num_halvings + 1)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    measured, predictions, remainders = (
        np.asarray(array, np.float64)
        for array in _norms(
            losses,
            schedule if is_word else None,
            None if is_word else schedule,
            optimizer,
            params,
            state,
            coefficients,
            jnp.asarray(step_sizes, dtype),
            frame,
        )
    )
    round_off = step_sizes * noise
    kink = smoothness.kink(losses, first_word, optimizer, params, state, step_sizes, frame=frame)
    fits = tuple(
        order.fit(step_sizes, remainders[:, k], round_off, measured, theory=k + 2) for k in range(len(coefficients))
    )
    return Comparison(frame, step_sizes, measured, predictions.T, remainders.T, round_off, fits, kink)
