"""One update both ways, accumulated and sequential: the gap in powers of the learning rate, predicted and measured.

The prediction is `numerics.updates.unit_displacement`, frozen and differentiated in the step; the measurement is the
same map at a real step. Displacements are carried in units of the step, float32, and never come from subtracting two
sets of parameters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from experiments import arms
from experiments.arms import Arm, Hyperparams
from experiments.config import Config
from experiments.model import sharding
from experiments.model.llama import Params
from experiments.records import CHECKPOINTS
from experiments.training import arm_update, checkpoint, inputs, train_step
from experiments.training.batches import PairBatch
from experiments.training.inputs import Show
from numerics import attribution, catalogue, convergence, optimizers, updates
from numerics.convergence import Fit
from numerics.epoch import Epoch
from numerics.losses import require_finite
from numerics.schedules import Schedule
from numerics.types import LossFn, Scalar

__all__ = ["Cause", "Setup", "UpdateComparison", "attribute", "compare", "load_setup"]

_NUM_BELOW = 3  # steps far below the smallest, whose remainder is all round-off


class Setup(NamedTuple):
    """One place, one batch, and the two arms to be set side by side there.

    Attributes:
        params: The parameters of the checkpoint.
        state: The optimizer's state there.
        batch: The batch: that of the run's next update.
        loss: The negative log-likelihood, with log-probabilities as aux.
        hyperparams: The numbers of the optimizer.
        accumulated: The one arm.
        sequential: The other.
        model: Its name.
        update: Updates made before.
    """

    params: Params
    state: optax.OptState
    batch: PairBatch
    loss: LossFn
    hyperparams: Hyperparams
    accumulated: Arm
    sequential: Arm
    model: str
    update: int


@dataclass(frozen=True)
class UpdateComparison:
    """Norms of the gap and of its parts over learning rates; Euclidean, over all parameters.

    Attributes:
        setup: What was compared.
        columns: By name, one number per learning rate, as in the record.
        fits: The order of what is left after first and after second order.
        alignment: g+ . g- at the start, and after either update measured and predicted; None where left out.
    """

    setup: Setup
    columns: Mapping[str, list[float]]
    fits: tuple[Fit, Fit]
    alignment: Mapping[str, object] | None

    def record(self) -> dict[str, object]:
        """As JSON."""
        return {
            "kind": "twin",
            "optimizer": self.setup.sequential.optimizer,
            "model": self.setup.model,
            "update": self.setup.update,
            "num_pairs": len(self.setup.batch.preferred.lengths),
            "rate": self.setup.sequential.rate,
            "schedule": "+-" if self.setup.sequential.first == "+" else "-+",
            **self.columns,
            "fits": {
                name: {"order": fit.order, "theory": fit.theory, "verdict": fit.verdict, "reason": fit.reason}
                for name, fit in zip(("first", "second"), self.fits, strict=True)
            },
            "alignment": self.alignment,
        }


def load_setup(
    config: Config,
    folder: Path,
    optimizer: str,
    update: int | None,
    num_pairs: int | None,
    rate: arms.Rate,
    first: str,
    show: Show,
) -> Setup:
    """Loads a checkpoint of a run and the batch of its next update.

    Args:
        config: The run's.
        folder: The run's.
        optimizer: The rule of both arms; from its first state where it is not the run's.
        update: The checkpoint after this many updates; the newest whole one if None. 0 is the start of the run, which
            needs no checkpoint.
        num_pairs: In a half; the run's unless run_inputs.
        rate: Of the sequential arm.
        first: The half that it begins with.
        show: How progress is shown.

    Raises:
        OSError: If something cannot be read.
        ValueError: If there is no such checkpoint, or it is damaged.
    """
    place = folder / CHECKPOINTS
    there = checkpoint.numbers(place)
    if not there and update is None:
        raise ValueError(
            f"{place} must hold a checkpoint; a finished run keeps `keep` of them, here {config.keep}. Give --update 0 "
            "for its start."
        )
    if update is not None and update not in (0, *there):
        known = ", ".join(map(str, sorted({0, *there})))
        raise ValueError(f"--update must be one of {known}; got {update}.")
    config = replace(config, num_pairs=num_pairs or config.num_pairs, num_parts=1)
    run_inputs = inputs.load(config, show)
    # Only shapes and places count here: the second moment has those of the parameters.
    second = run_inputs.params if config.arm.needs_second_moment else None
    like = train_step.initial_state(config.arm, config.rule, run_inputs.params, second)
    if update is None:
        found = checkpoint.newest(place, like)
        assert found is not None  # there are some
        number, state = found.number, found.tree
    elif update in there:
        number, (state, _) = update, checkpoint.load(place / f"{update:08}", like)
    else:
        number, state = 0, like
    # Clipping has a kink, and what it does is first order: it is left out of both arms.
    plain = replace(config.arm, optimizer=optimizer, clipping="none", term=0.0, sides="both", update="accumulated",
                    rate="eta")  # fmt: skip
    accumulated = replace(plain, name="accumulated")
    sequential = replace(plain, name="sequential", update="sequential", rate=rate, first=first)
    rule_state = state.rule
    if optimizer != config.arm.optimizer or config.arm.clipping == "update":
        rule_state = train_step.initial_state(accumulated, config.rule, state.params, None).rule
    source = inputs.batch_source(config, run_inputs)
    return Setup(
        params=state.params,
        state=rule_state,
        batch=sharding.place(source(number, state.params), run_inputs.mesh),
        loss=inputs.loss_of(config, run_inputs.architecture, run_inputs.mesh),
        hyperparams=config.rule,
        accumulated=accumulated,
        sequential=sequential,
        model=Path(config.model).name,
        update=number,
    )


class _Maps:
    """The two maps in units of their step, compiled once."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        numbers = arm_update.schedule_of(setup.sequential, is_plus_first=True).losses
        self._forwards, self._backwards = np.asarray(numbers), np.asarray(numbers)[::-1]

    def _unit(
        self, arm: Arm, params: Params, state: optax.OptState, batch: PairBatch, numbers: Array, read: Scalar
    ) -> Params:
        epoch = Epoch(
            arm_update.losses_of(arm, 0.0, self._setup.loss, batch),
            Schedule(numbers, np.ones(numbers.shape)),
            arm_update.optimizer(arm, self._setup.hyperparams),
            params,
            state,
        )
        grouping = "step" if arm.update == "sequential" else "schedule"
        return updates.unit_displacement(epoch, read, grouping=grouping, reduction="sum").displacement

    @cached_property
    def _sequential(self) -> Callable[..., Params]:
        return jax.jit(partial(self._unit, self._setup.sequential))

    @cached_property
    def _derivative(self) -> Callable[..., Params]:
        def at_zero(params: Params, state: optax.OptState, batch: PairBatch, numbers: Array) -> Params:
            zero = jnp.zeros((), jnp.float32)
            unit = partial(self._unit, self._setup.sequential, params, state, batch, numbers)
            return jax.jvp(unit, (zero,), (jnp.ones_like(zero),))[1]

        return jax.jit(at_zero)

    def sequential(self, read: float) -> Params:
        """D(read), the sequential displacement in units of its own step."""
        setup = self._setup
        return self._sequential(setup.params, setup.state, setup.batch, self._forwards, jnp.float32(read))

    def derivative(self, *, is_mirrored: bool) -> Params:
        """D'(0), of the schedule or of its reversal, both from the same state."""
        setup = self._setup
        word = self._backwards if is_mirrored else self._forwards
        return self._derivative(setup.params, setup.state, setup.batch, word)

    def accumulated(self) -> Params:
        """The accumulated displacement in units of eta; it reads nothing but the start."""
        setup = self._setup
        unit = jax.jit(partial(self._unit, setup.accumulated))
        return unit(setup.params, setup.state, setup.batch, self._forwards, jnp.float32(0))


@jax.jit
def _norm(tree: Params) -> Scalar:
    return optax.tree.norm(tree)


@jax.jit
def _combined(trees: tuple[Params, ...], factors: tuple[Scalar, ...]) -> Params:
    return jax.tree.map(lambda *leaves: sum(f * leaf for f, leaf in zip(factors, leaves, strict=True)), *trees)


class _Readings(NamedTuple):
    gap: Scalar
    remainder_first: Scalar
    remainder_second: Scalar
    cosine: Scalar


@jax.jit
def _read(real: Params, frozen: Params, slope: Params, accumulated: Params, step: Scalar, rate: Scalar) -> _Readings:
    """Norms in units of eta: `step` is the sequential step eps = rate * eta."""
    beyond = jax.tree.map(jnp.subtract, real, frozen)
    rest = jax.tree.map(lambda a, b: a - step * b, beyond, slope)
    return _Readings(
        gap=optax.tree.norm(jax.tree.map(lambda s, a: rate * s - a, real, accumulated)),
        remainder_first=rate * optax.tree.norm(beyond),
        remainder_second=rate * optax.tree.norm(rest),
        cosine=jnp.asarray(optax.tree.vdot(beyond, slope)) / (optax.tree.norm(beyond) * optax.tree.norm(slope)),
    )


def compare(
    setup: Setup,
    *,
    largest: float | None,
    num_halvings: int,
    has_alignment: bool,
    show: Show,
    on_gap: Callable[[UpdateComparison], None] = lambda _: None,
) -> UpdateComparison:
    """Both updates over a range of learning rates.

    Args:
        setup: What is compared.
        largest: The largest learning rate; where the second order is twice the first, unless run_inputs.
        num_halvings: Of it.
        has_alignment: Whether g+ . g- is read after the updates.
        show: How progress is shown.
        on_gap: Is given what is there before g+ . g- is read, the longer part of the work.

    Raises:
        FloatingPointError: If a derivative or a displacement is not finite.
    """
    rate = setup.sequential.step
    maps = _Maps(setup)
    total = 4 + num_halvings + 1 + _NUM_BELOW
    with show("updates both ways", total, "readings") as advance:
        frozen, accumulated = maps.sequential(0.0), maps.accumulated()
        advance(2)
        slope, mirrored = maps.derivative(is_mirrored=False), maps.derivative(is_mirrored=True)
        require_finite((frozen, accumulated, slope, mirrored), updates.NOT_FINITE)
        advance(4)
        parts = {
            "gradient_part": float(_norm(_combined((slope, mirrored), (0.5, 0.5)))),
            "bracket": float(_norm(_combined((slope, mirrored), (0.5, -0.5)))),
        }
        del mirrored
        size = float(_norm(slope))
        first = float(_norm(_combined((frozen, accumulated), (rate, -1.0))))
        if largest is None:
            if not size > 0:
                raise FloatingPointError("the second order must not vanish: give --largest.")
            largest = 2 * float(_norm(frozen)) / (rate * size)
        rates = [largest / 2**k for k in range(num_halvings + 1)]
        below = [rates[-1] / 2 ** (k + 4) for k in range(_NUM_BELOW)]
        found = []
        for place, eta in enumerate([*rates, *below], start=1):
            real = maps.sequential(rate * eta)
            require_finite(real, updates.NOT_FINITE)
            found.append(_read(real, frozen, slope, accumulated, jnp.float32(rate * eta), jnp.float32(rate)))
            del real
            advance(4 + place)
    # Far below the range what is left is round-off, the same in units of the step at every step.
    noise = max(float(reading.remainder_second) for reading in found[len(rates) :])
    eta = np.array(rates)
    readings = {
        name: np.array([float(getattr(reading, name)) for reading in found[: len(rates)]]) for name in _Readings._fields
    }
    second = eta**2 * rate**2 * size
    columns = {
        "learning_rates": eta,
        "gap": eta * readings["gap"],
        "first": eta * first,
        "second": second,
        "gradient_part": eta**2 * rate**2 * parts["gradient_part"],
        "bracket": eta**2 * rate**2 * parts["bracket"],
        "remainder_first": eta * readings["remainder_first"],
        "remainder_second": eta * readings["remainder_second"],
        "cosine": readings["cosine"],
        "round_off": eta * noise,
    }
    fits = (
        convergence.fit(
            eta, columns["remainder_first"], columns["round_off"], eta * rate * float(_norm(frozen)), theory=2
        ),
        convergence.fit(eta, columns["remainder_second"], columns["round_off"], second, theory=3),
    )
    twin = UpdateComparison(setup, {name: values.tolist() for name, values in columns.items()}, fits, None)
    on_gap(twin)
    if not has_alignment:
        return twin
    return replace(twin, alignment=_alignments(setup, frozen, slope, accumulated, rates, maps, show))


def _alignments(
    setup: Setup,
    frozen: Params,
    slope: Params,
    accumulated: Params,
    rates: list[float],
    maps: _Maps,
    show: Show,
) -> dict[str, object]:
    """g+ . g- of the batch at the start and after either update; predicted to second order in the learning rate.

    The prediction for a displacement eta d1 + eta^2 d2 is  eta grad a . d1 + eta^2 (grad a . d2 + a''[d1, d1] / 2).
    """
    rate = setup.sequential.step

    def product(params: Params, batch: PairBatch) -> Scalar:
        both = arm_update.losses_of(setup.sequential, 0.0, setup.loss, batch)
        minus, plus = (both.gradient(params, jnp.asarray(side)) for side in (arm_update.MINUS, arm_update.PLUS))
        return jnp.asarray(optax.tree.vdot(minus, plus))

    @jax.jit
    def value(params: Params, displacement: Params, size: Scalar, batch: PairBatch) -> Scalar:
        return product(updates.displaced(params, displacement, size), batch)

    zero, one = jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32)

    def slope_at(params: Params, direction: Params, batch: PairBatch, t: Scalar) -> Scalar:
        """The derivative of the alignment along a direction, at a place on it."""
        return jax.jvp(lambda s: product(updates.displaced(params, direction, s), batch), (t,), (one,))[1]

    @jax.jit
    def first_slope(params: Params, direction: Params, batch: PairBatch) -> Scalar:
        return slope_at(params, direction, batch, zero)

    @jax.jit
    def slopes(params: Params, direction: Params, batch: PairBatch) -> tuple[Scalar, Scalar]:
        """The first derivative and half the second."""
        first, second = jax.jvp(lambda t: slope_at(params, direction, batch, t), (zero,), (one,))
        return first, second / 2

    with show("alignment after", 3 + 2 * len(rates), "readings") as advance:
        # Along unit directions: a displacement per unit of the step may be very long, or very short.
        ways = {"accumulated": accumulated, "sequential": _combined((frozen,), (rate,))}
        lengths = {name: float(_norm(way)) for name, way in ways.items()}
        units = {name: _combined((way,), (1 / lengths[name],)) for name, way in ways.items()}
        coefficients: dict[str, tuple[float, float]] = {}
        for place, (name, unit) in enumerate(units.items(), start=1):
            first, second = slopes(setup.params, unit, setup.batch)
            coefficients[name] = float(first) * lengths[name], float(second) * lengths[name] ** 2
            advance(place)
        size = float(_norm(slope))
        if size > 0:
            along_slope = first_slope(setup.params, _combined((slope,), (1 / size,)), setup.batch)
            first, second = coefficients["sequential"]
            coefficients["sequential"] = first, second + rate**2 * size * float(along_slope)
        start = float(value(setup.params, accumulated, jnp.float32(0), setup.batch))
        found: dict[str, list[float]] = {"accumulated": [], "sequential": []}
        for place, eta in enumerate(rates):
            found["accumulated"].append(float(value(setup.params, accumulated, jnp.float32(eta), setup.batch)))
            real = maps.sequential(rate * eta)
            found["sequential"].append(float(value(setup.params, real, jnp.float32(rate * eta), setup.batch)))
            advance(3 + 2 * place + 2)
    predicted = {
        f"predicted_{name}": [start + eta * first + eta**2 * second for eta in rates]
        for name, (first, second) in coefficients.items()
    }
    return {"start": start, **found, **predicted}


class Cause(NamedTuple):
    """One cause of the gap: the norm of its part, and its share of the whole."""

    cause: str
    norm: float
    share: float


def attribute(setup: Setup, learning_rate: float, *, num_warm_up: int = 10) -> tuple[list[Cause], dict[str, object]]:
    """The gap at one learning rate by its causes, with both arms warmed up by frozen gradients at this place.

    Args:
        setup: What is compared.
        learning_rate: eta.
        num_warm_up: Updates that each arm makes before, with the gradients of this place and batch.

    Returns:
        For every cause the norm of its part, and its share, the projection on the gap over the gap's squared norm
        (shares add up to 1); and all of it as JSON.
    """
    name, own = setup.sequential.optimizer, setup.hyperparams
    stages = optimizers.stages(name, {key: getattr(own, key) for key in catalogue.OPTIMIZERS[name].options})
    both = arm_update.losses_of(setup.sequential, 0.0, setup.loss, setup.batch)
    found = attribution.gap(
        both,
        arm_update.schedule_of(setup.sequential, is_plus_first=True),
        stages,
        setup.params,
        step_size=learning_rate,
        rate=setup.sequential.step,
        reduction="mean",
        num_warm_up=num_warm_up,
    )
    total = float(_norm(found.total))
    parts = {
        **found.first_order,
        "gradient part": found.gradient_part,
        "bracket": found.bracket,
        "remainder": found.remainder,
    }
    rows = [
        Cause(cause, float(_norm(part)), float(jnp.asarray(optax.tree.vdot(part, found.total))) / total**2)
        for cause, part in parts.items()
    ]
    return rows, {
        "kind": "attribution",
        "optimizer": setup.sequential.optimizer,
        "model": setup.model,
        "update": setup.update,
        "learning_rate": learning_rate,
        "rate": setup.sequential.rate,
        "num_warm_up": num_warm_up,
        "rows": [row._asdict() for row in rows],
        "total": total,
    }
