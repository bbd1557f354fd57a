"""Predicted against measured drift over a range of step sizes: the remainder, its order, and whether theory is met."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from numerics import averages, causes, checks, contents, convergence, drift, flow, random_schedules, rules, updates
from numerics.convergence import Fit
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule, Words
from numerics.rules import at_rate, is_function_of_rate
from numerics.schedules import Schedule
from numerics.types import Frame, Params, Reduction, Scalar

__all__ = ["Comparison", "compare", "predicted"]

NUM_HALVINGS = 10
# The largest step, as a share of that at which one order of the expansion is as large as the next. In float32 there is
# less room between there and round-off.
SHARE = {"float64": 0.1, "float32": 0.25}


@dataclass(frozen=True)
class Comparison:
    """Norms over step sizes; the Euclidean norm over all parameters.

    Attributes:
        frame: The reference of the drift.
        step_sizes: Descending.
        measured: |drift| of real updates.
        predicted: |prediction| through order 1, 2, 3: one row each.
        remainders: |measured - predicted|, one row for each.
        round_off: The round-off in a drift, estimated from the drift's own difference table; in the
            frame of the gradient flow at least the error of its integrator.
        fits: The observed order of each remainder; in theory 2, 3 and 4.
        kink: The smallest interval of step sizes in which the update map is seen not to be smooth, or None; orders are
            fitted below it. Of a random schedule only the word with the pairs as numbered is looked at.
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


@checks.arguments
def predicted(epoch: Epoch, *, frame: Frame, reduction: Reduction = "sum") -> tuple[Params, Params, Params]:
    """The coefficients c_1, c_2, c_3 of the drift, or of its mean over a random schedule.

    For gradient descent by closed forms, of the mean in O(n) to second order; else, and at third order of a mean, by
    forward derivatives and enumeration. `reduction` says whether the gradients of an update are added up or averaged,
    in the frame as well.
    """
    is_descent = rules.is_gradient_descent(epoch.rule, epoch.params)
    losses, schedule, params = epoch.losses, epoch.schedule, epoch.params
    if isinstance(schedule, Schedule):
        if is_descent:
            descent = drift.closed_form(losses, schedule, params, frame=frame, order=3, reduction=reduction)
            first, second, third = descent
        else:
            first, second, third = drift.taylor(epoch, frame=frame, order=3, reduction=reduction)
        return first, second, third
    updates.check_expansion(_first_word(epoch))
    words = random_schedules.chunks(schedule, losses.num_pairs)
    first, second, third = _mean_coefficients(epoch, words, frame, reduction)
    if is_descent and averages.has_closed_form(schedule):
        first, second = averages.closed_form(losses, schedule, params, frame=frame, reduction=reduction)
    causes.require_finite((first, second, third), losses, params, epoch.rule)
    return first, second, third


def _first_word(epoch: Epoch) -> Epoch:
    """The epoch itself, or that of one word of its random schedule."""
    if isinstance(epoch.schedule, Schedule):
        return epoch
    return replace(epoch, schedule=random_schedules.first_word(epoch.schedule, epoch.losses.num_pairs))


@contents.compiled(static=("frame", "reduction"))
def _mean_coefficients(epoch: Epoch, words: Words, frame: Frame, reduction: Reduction) -> tuple[Params, ...]:
    def coefficients(schedule: Schedule) -> tuple[Params, ...]:
        return drift.taylor_coefficients(replace(epoch, schedule=schedule), frame, order=3, reduction=reduction)

    return averages.mean_over(coefficients, words)


class _Readings(NamedTuple):
    """Norms at one step size, in units of the step size, so that nothing underflows.

    `length` is the sum of the norms of all updates on the way, which does not vanish where they cancel.
    """

    length: Scalar
    measured: Scalar
    predicted: Float[Array, " 3"]
    remainders: Float[Array, " 3"]


def _readings(length: Scalar, unit: Params, coefficients: tuple[Params, ...], size: Scalar) -> _Readings:
    predictions = [
        jax.tree.map(lambda leaf: leaf / size, drift.evaluate(coefficients[:k], size))
        for k in range(1, len(coefficients) + 1)
    ]
    remainders = [jax.tree.map(jnp.subtract, unit, prediction) for prediction in predictions]
    return _Readings(
        length,
        optax.tree.norm(unit),
        jnp.stack([optax.tree.norm(p) for p in predictions]),
        jnp.stack([optax.tree.norm(r) for r in remainders]),
    )


@contents.compiled(static=("frame", "reduction"))
def _read_word(
    epoch: Epoch, coefficients: tuple[Params, ...], points: Float[Array, "k 17"], frame: Frame, reduction: Reduction
) -> tuple[_Readings, Float[Array, "k 13"]]:
    """For every row of points the readings at its last, and the norms of its fourth differences."""

    def at(size: Scalar) -> tuple[Scalar, Params]:
        sequential, of_frame = drift.unit_parts(epoch, size, frame, reduction)
        unit = jax.tree.map(jnp.subtract, sequential.displacement, of_frame)
        return jnp.sum(sequential.info.update_norms), unit

    def row(sizes: Float[Array, " 17"]) -> tuple[_Readings, Float[Array, " 13"]]:
        values = jax.lax.map(at, sizes)
        length, unit = jax.tree.map(lambda leaf: leaf[-1], values)
        differences = [jnp.diff(leaf, n=4, axis=0) for leaf in jax.tree.leaves(values[1])]
        squares = sum(jnp.sum(leaf * leaf, axis=range(1, leaf.ndim)) for leaf in differences)
        return _readings(length, unit, coefficients, sizes[-1]), jnp.sqrt(jnp.asarray(squares))

    return jax.lax.map(row, points)


@contents.compiled(static=("frame", "reduction"))
def _read_mean(
    epoch: Epoch,
    words: Words,
    coefficients: tuple[Params, ...],
    step_sizes: Float[Array, " k"],
    frame: Frame,
    reduction: Reduction,
) -> _Readings:
    """The readings of the exact mean over the words of a random schedule."""

    def at(size: Scalar) -> _Readings:
        def of(word: Schedule) -> Params:
            return drift.unit_drift(replace(epoch, schedule=word), size, frame, reduction)

        unit = averages.mean_over(of, words)
        return _readings(jnp.zeros_like(size), unit, coefficients, size)

    return jax.lax.map(at, step_sizes)


def _norm(tree: Params) -> float:
    return float(np.linalg.norm([np.linalg.norm(leaf) for leaf in jax.tree.leaves(tree)]))


def _coarsest(params: Params, state: optax.OptState) -> float:
    """The machine epsilon of the parameters, or that of moments and sums which the rule keeps in fewer digits.

    Rounded so, an update is a staircase in the step size: flat where its difference table is looked at.
    """
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(params)}
    kept = [leaf for leaf in jax.tree.leaves(state) if np.shape(leaf) in shapes]
    dtypes = [leaf.dtype for leaf in (*jax.tree.leaves(params), *kept) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return max(float(jnp.finfo(dtype).eps) for dtype in dtypes)


def _convergent_step(first: float, second: float, third: float) -> float:
    """The step size at which one order of the expansion is as large as the next; 1 where there are no higher orders."""
    bounds = [1.0]
    negligible = 1e-12 * max(first, second, third)  # a coefficient that is zero but for rounding
    for smaller, larger, power in ((second, first, 1.0), (third, second, 1.0), (third, first, 0.5)):
        if smaller > negligible and larger > negligible:
            bounds.append((larger / smaller) ** power)
    return min(bounds)


def _last_term(
    coefficient: Params, power: int, step_sizes: Float[np.ndarray, " k"], length: float, limit: float
) -> Float[np.ndarray, " k"]:
    """The size of the last predicted term; where it is zero, that which it would have by the size of the others."""
    size = _norm(coefficient)
    if size > 0:
        return size * step_sizes**power
    return length * step_sizes * np.minimum(step_sizes / limit, 1.0) ** (power - 1)


@checks.arguments
def compare(
    epoch: Epoch,
    *,
    frame: Frame,
    reduction: Reduction = "sum",
    coefficients: tuple[Params, Params, Params] | None = None,
    largest_step: float | None = None,
    num_halvings: int = NUM_HALVINGS,
) -> Comparison:
    """A prediction beside real updates over halved step sizes, and the fitted order of the remainder.

    Args:
        epoch: The epoch; of a random schedule the exact mean is compared.
        frame: The reference of the displacement.
        reduction: Whether the gradients of an update are added up or averaged, in the frame as well.
        coefficients: The prediction; that of `predicted` unless given.
        largest_step: The largest step size; a share of that at which one order is as large as the next unless
            given.
        num_halvings: The number of times that it is halved.

    Raises:
        ValueError: If the frame does not fit the schedule or the rule.
        FloatingPointError: If a derivative is NaN or infinite at the start.
    """
    word, params = _first_word(epoch), epoch.params
    drift.check_frame(word, frame)
    if coefficients is None:
        coefficients = predicted(epoch, frame=frame, reduction=reduction)
    elif len(coefficients) != 3:
        raise ValueError(f"coefficients must be three trees; got {len(coefficients)}.")
    for power, coefficient in enumerate(coefficients):
        checks.alike(f"coefficients[{power}]", coefficient, "params", params)
    dtype = jnp.result_type(*jax.tree.leaves(params))

    def read(largest: float) -> tuple[_Readings, Float[np.ndarray, "rows 13"], Float[np.ndarray, " k"]]:
        step_sizes = largest * 0.5 ** np.arange(num_halvings + 1)
        points = convergence.points(step_sizes, is_one_sided=is_function_of_rate(epoch.rule))
        readings, differences = _read_word(word, coefficients, jnp.asarray(points, dtype), frame, reduction)
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), readings), np.asarray(differences), step_sizes

    second, third = map(_norm, coefficients[1:])
    share = SHARE[str(dtype)]
    readings, differences, step_sizes = read(largest_step or share * _convergent_step(0.0, second, third))
    # The length of the way itself, whose first order most frames take away, is known only now.
    length = float(readings.length[-1])
    limit = _convergent_step(length, second, third)
    if largest_step is None and share * limit < step_sizes[0]:
        readings, differences, step_sizes = read(share * limit)
    state = at_rate(epoch.rule, limit).init(params) if epoch.state is None else epoch.state
    noise = max(
        convergence.round_off(differences[-1]),
        _coarsest(params, state) * length,
        # Parameters are read to half a unit in the last place, and the Hessian is about |c_2| / |D|.
        float(jnp.finfo(dtype).eps) * _norm(params) * second / length if length > 0 else 0.0,
    )
    kink = convergence.first_kink(step_sizes, differences, noise)
    if isinstance(epoch.schedule, RandomSchedule):
        words = random_schedules.chunks(epoch.schedule, epoch.losses.num_pairs)
        means = _read_mean(epoch, words, coefficients, jnp.asarray(step_sizes, dtype), frame, reduction)
        readings = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), means)
    else:
        readings = jax.tree.map(lambda leaf: leaf[:-1], readings)
    frame_errors = np.zeros_like(step_sizes)
    if frame == "gradient-flow":  # the same for every word
        flow_of = updates.reduced(word.word, "step", reduction)
        frame_errors = np.array([flow.error(epoch.losses, flow_of, params, size) for size in step_sizes.astype(dtype)])
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the largest number there is no verdict
        measured = step_sizes * readings.measured
        remainders = step_sizes * readings.remainders.T
        round_off = step_sizes * np.maximum(noise, frame_errors)
        # Below the first kink the map is smooth from the start on, and there theory speaks, as far as it converges.
        is_usable, excluded = step_sizes <= limit, "the expansion does not converge: smaller steps are needed"
        if kink is not None and kink[0] < limit:
            is_usable, excluded = step_sizes <= kink[0], "the update map has a kink: there is no expansion beyond"
        fits = tuple(
            convergence.fit(
                step_sizes,
                row,
                round_off,
                _last_term(coefficients[theory - 2], theory - 1, step_sizes, length, limit),
                theory=theory,
                is_usable=is_usable,
                excluded=excluded,
            )
            for theory, row in enumerate(remainders, start=2)
        )
    return Comparison(frame, step_sizes, measured, step_sizes * readings.predicted.T, remainders, round_off, fits, kink)
