"""One update both ways, accumulated and sequential: the gap in powers of the learning rate, predicted and measured.

The prediction is `numerics.updates.unit_displacement`, frozen and differentiated in the step; the measurement is the
same map at a real step. Displacements are carried in units of the step, float32, and never come from subtracting two
sets of parameters.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import arms, rates, records
from experiments.arms import Arm, Hyperparams
from experiments.comparison_records import AlignmentColumns, Attribution, Cause, Twin
from experiments.config import Config
from experiments.model import sharding
from experiments.model.loading import Show
from experiments.model.transformer import Params
from experiments.records import CHECKPOINTS, RECORDS
from experiments.training import arm_update, checkpoint, inputs, run_set, train_step
from experiments.training.arm_update import Objective
from experiments.training.batches import PairBatch
from numerics import attribution, catalogue, convergence, optimizers, schedules, updates
from numerics.epoch import Epoch
from numerics.losses import Losses, require_finite
from numerics.rules import at_rate, is_function_of_rate
from numerics.types import Scalar

__all__ = ["Setup", "attribute", "compare", "load_setup"]

_NUM_BELOW = 3  # steps far below the smallest, whose remainder is all round-off


class Setup(NamedTuple):
    """One place, one batch, and the two arms to be set side by side there.

    Attributes:
        params: The parameters of the checkpoint.
        state: The optimizer's state there.
        batch: The batch of the run's next update.
        start: The parameters at the start of the run.
        objective: The losses of the halves.
        hyperparams: The numbers of the optimizer.
        sequential: The arm of the sequential update.
        model: The name of the model.
        update: Updates made before.
    """

    params: Params
    state: optax.OptState
    batch: PairBatch
    start: Params
    objective: Objective
    hyperparams: Hyperparams
    sequential: Arm
    model: str
    update: int

    def epoch(self) -> Epoch:
        """The steps of the sequential arm; the accumulated update reads the gradients of all of them at the start."""
        return Epoch(
            arm_update.losses_of(self.sequential, 0.0, self.objective, self.batch, self.start),
            arm_update.schedule_of(self.sequential, is_as_written=True),
            at_rate(arm_update.optimizer(self.sequential, self.hyperparams, like=self.params), 1.0),
            self.params,
            self.state,
        )

    def halves(self) -> Losses:
        """L- and L+ of the whole halves, numbered 0 and 1."""
        return arm_update.losses_of(replace(self.sequential, word="+-"), 0.0, self.objective, self.batch, self.start)


def load_setup(
    config: Config,
    folder: Path,
    optimizer: str,
    update: int | None,
    num_pairs: int | None,
    rate: str | None,
    word: str | None,
    show: Show,
) -> Setup:
    """Loads a checkpoint of a run and the batch of its next update.

    Args:
        config: The configuration of the run.
        folder: The folder of the run.
        optimizer: The rule of both arms; from its first state where it is not the run's.
        update: The checkpoint after this many updates; the newest whole one if None. 0 is the start of the run, which
            needs no checkpoint.
        num_pairs: The pairs in a half; those of the run if None.
        rate: The rate of the sequential arm; 1/m for m steps of the rule if None, the match at first order.
        word: The word of the sequential arm; that of the run, without brackets around all of it, if None.
        show: The display of progress.

    Raises:
        OSError: If something cannot be read.
        ValueError: If there is no such checkpoint, or it is damaged; if the word, the rate or the optimizer cannot be
            compared; or if the model or the data have changed since the run.
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
    # Clipping has a kink, and what it does is first order: it is left out.
    own = config.arm.word if not config.arm.is_accumulated else config.arm.word.strip("()")
    arm = arms.of_word(word or (own if len(own) > 1 else "+-"))
    if arm.is_accumulated:
        raise ValueError(f"--word must have several steps of the rule, to be compared with one; got {arm.word}.")
    if rate == rates.SQUARE_ROOT_RULE:
        raise ValueError(f"--rate must be a number or a fraction, for one rule on both sides; got {rate}.")
    sequential = replace(
        config.arm,
        name="sequential",
        word=arm.word,
        start="word",
        rate=rate or f"1/{arm.num_steps}",
        optimizer=optimizer,
        clipping="none",
        term=0.0,
    )
    run_set.check_arms([replace(config, arm=sequential)])  # its word may not fit the pairs
    run_inputs = inputs.load(config, show)
    _require_same_inputs(folder, run_inputs.fingerprint)
    like = train_step.state_like(config.arm, config.rule, run_inputs.params, config.learning_rate)
    if update is None:
        newest = checkpoint.newest(place, like)
        assert newest is not None  # there are some
        number, state = newest.number, newest.tree
    elif update in there:
        number, (state, _) = update, checkpoint.load(place / f"{update:08}", like)
    else:
        number, state = 0, like
    if is_function_of_rate(arm_update.optimizer(sequential, config.rule, like=run_inputs.params)):
        raise ValueError(
            f"--optimizer must have updates that are proportional to the learning rate, for a prediction at rate zero; "
            f"{optimizer} has not. Its runs can be measured."
        )
    rule_state = state.rule
    if optimizer != config.arm.optimizer or config.arm.clipping == "update":
        rule_state = train_step.initial_state(sequential, config.rule, state.params, None).rule
    source = inputs.batch_source(config, run_inputs)
    return Setup(
        params=state.params,
        state=rule_state,
        batch=sharding.place(inputs.prepared(config, run_inputs)(source(number, state.params)), run_inputs.mesh),
        start=run_inputs.params,
        objective=inputs.objective_of(config, run_inputs.architecture, run_inputs.mesh),
        hyperparams=config.rule,
        sequential=sequential,
        model=Path(config.model).name,
        update=number,
    )


def _require_same_inputs(folder: Path, fingerprint: str) -> None:
    """Refuses texts or parameters at the start that are not those of the run: its batches would be others."""
    path = folder / RECORDS
    headers = [line for line in records.read(path) if isinstance(line, records.Header)] if path.is_file() else []
    if headers and headers[-1].fingerprint not in (None, fingerprint):
        raise ValueError(
            f"{folder} must be compared with the model and the data that it was made with; these parameters or texts "
            "are others."
        )


@jax.jit
def _sequential(epoch: Epoch, size: Scalar) -> Params:
    """D(size): the sequential displacement in units of its own step; D(0) has frozen gradients."""
    return updates.unit_displacement(epoch, size, grouping="step", reduction="mean").displacement


@jax.jit
def _accumulated(epoch: Epoch) -> Params:
    """The accumulated displacement in units of eta; its gradients are all read at the start."""
    return updates.unit_displacement(epoch, 0.0, grouping="schedule", reduction="mean").displacement


@jax.jit
def _derivative(epoch: Epoch) -> Params:
    """D'(0)."""
    return updates.series(epoch, grouping="step", reduction="mean", order=2)[1]


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
    on_gap: Callable[[Twin], None] = lambda _: None,
) -> Twin:
    """Both updates over a range of learning rates.

    Args:
        setup: The place, the batch and the arms.
        largest: The largest learning rate; that at which the second order is twice the first if None.
        num_halvings: The halvings of the learning rate.
        has_alignment: Whether g+ . g- is read after the updates.
        show: The display of progress.
        on_gap: A function of the comparison without g+ . g-, before the latter, the longer part of the work, is read.

    Raises:
        FloatingPointError: If a derivative or a displacement is not finite.
    """
    rate = setup.sequential.step
    epoch = setup.epoch()
    total = 4 + num_halvings + 1 + _NUM_BELOW
    with show("updates both ways", total, "readings") as advance:
        frozen, accumulated = _sequential(epoch, jnp.float32(0)), _accumulated(epoch)
        advance(2)
        slope, mirrored = _derivative(epoch), _derivative(replace(epoch, schedule=schedules.reverse(epoch.word)))
        require_finite((frozen, accumulated, slope, mirrored), updates.NOT_FINITE)
        advance(4)
        gradient_part, bracket = (
            float(_norm(_combined((slope, mirrored), factors))) for factors in ((0.5, 0.5), (0.5, -0.5))
        )
        del mirrored
        size = float(_norm(slope))
        first = float(_norm(_combined((frozen, accumulated), (rate, -1.0))))
        if largest is None:
            if not size > 0:
                raise FloatingPointError(f"the second order must be positive; got {size:g}. Give --largest.")
            largest = 2 * float(_norm(frozen)) / (rate * size)
        rates = [largest / 2**k for k in range(num_halvings + 1)]
        below = [rates[-1] / 2 ** (k + 4) for k in range(_NUM_BELOW)]
        readings = []
        for place, eta in enumerate([*rates, *below], start=1):
            real = _sequential(epoch, jnp.float32(rate * eta))
            require_finite(real, updates.NOT_FINITE)
            readings.append(_read(real, frozen, slope, accumulated, jnp.float32(rate * eta), jnp.float32(rate)))
            del real
            advance(4 + place)
    # Far below the range what is left is round-off, the same in units of the step at every step.
    noise = max(float(reading.remainder_second) for reading in readings[len(rates) :])
    eta = np.array(rates)
    gap, remainder_first, remainder_second, cosine = np.array([[*map(float, row)] for row in readings[: len(rates)]]).T
    second = eta**2 * rate**2 * size
    columns = {
        "learning_rates": eta,
        "gap": eta * gap,
        "first": eta * first,
        "second": second,
        "gradient_part": eta**2 * rate**2 * gradient_part,
        "bracket": eta**2 * rate**2 * bracket,
        "remainder_first": eta * remainder_first,
        "remainder_second": eta * remainder_second,
        "cosine": cosine,
        "round_off": eta * noise,
    }
    terms = {"first": eta * rate * float(_norm(frozen)), "second": second}
    fits = {
        name: convergence.fit(eta, columns[f"remainder_{name}"], columns["round_off"], term, theory=theory)
        for theory, (name, term) in enumerate(terms.items(), start=2)
    }
    twin = Twin.model_validate(
        {
            "kind": "twin",
            "optimizer": setup.sequential.optimizer,
            "model": setup.model,
            "update": setup.update,
            "num_pairs": len(setup.batch.preferred.lengths),
            "rate": setup.sequential.rate,
            "schedule": setup.sequential.word,
            **{name: column.tolist() for name, column in columns.items()},
            "fits": {
                name: {"order": fit.order, "theory": fit.theory, "verdict": fit.verdict, "reason": fit.reason}
                for name, fit in fits.items()
            },
            "alignment": None,
        }
    )
    on_gap(twin)
    if not has_alignment:
        return twin
    alignment = _alignments(epoch, setup.halves(), frozen, slope, accumulated, rate, rates, show)
    return twin.model_copy(update={"alignment": alignment})


def _along(losses: Losses, params: Params, direction: Params, size: Scalar) -> Scalar:
    """g+ . g- at a place along a direction."""
    there = updates.displaced(params, direction, size)
    minus, plus = (losses.gradient(there, jnp.asarray(side)) for side in (0, 1))
    return jnp.asarray(optax.tree.vdot(minus, plus))


_value = jax.jit(_along)


@jax.jit
def _slope(losses: Losses, params: Params, direction: Params, size: Scalar) -> Scalar:
    """The derivative of g+ . g- along a direction."""
    return jax.jvp(lambda at: _along(losses, params, direction, at), (size,), (jnp.ones_like(size),))[1]


@jax.jit
def _derivatives(losses: Losses, params: Params, direction: Params) -> tuple[Scalar, Scalar]:
    """The first derivative of g+ . g- along a direction, and half the second."""
    zero = jnp.zeros((), jnp.float32)
    first, second = jax.jvp(lambda at: _slope(losses, params, direction, at), (zero,), (jnp.ones_like(zero),))
    return first, second / 2


def _alignments(
    epoch: Epoch,
    losses: Losses,
    frozen: Params,
    slope: Params,
    accumulated: Params,
    rate: float,
    rates: list[float],
    show: Show,
) -> AlignmentColumns:
    """g+ . g- of the batch at the start and after either update; predicted to second order in the learning rate.

    The prediction for a displacement eta d1 + eta^2 d2 is  eta grad a . d1 + eta^2 (grad a . d2 + a''[d1, d1] / 2).
    """
    params = epoch.params

    def unit(way: Params) -> tuple[float, Params]:
        # A displacement per unit of the step may be very long, or very short; one of length zero has no direction.
        length = float(_norm(way))
        return length, _combined((way,), (1 / length if length > 0 else 0.0,))

    with show("alignment after", 3 + 2 * len(rates), "readings") as advance:
        coefficients = {}
        ways = {"accumulated": accumulated, "sequential": _combined((frozen,), (rate,))}
        for place, (name, way) in enumerate(ways.items(), start=1):
            length, direction = unit(way)
            first, second = _derivatives(losses, params, direction)
            coefficients[name] = float(first) * length, float(second) * length**2
            advance(place)
        length, direction = unit(slope)
        of_second_order = float(_slope(losses, params, direction, jnp.float32(0))) * length
        first, second = coefficients["sequential"]
        coefficients["sequential"] = first, second + rate**2 * of_second_order
        start = float(_value(losses, params, accumulated, jnp.float32(0)))
        values: dict[str, list[float]] = {"accumulated": [], "sequential": []}
        for place, eta in enumerate(rates):
            values["accumulated"].append(float(_value(losses, params, accumulated, jnp.float32(eta))))
            step = jnp.float32(rate * eta)
            values["sequential"].append(float(_value(losses, params, _sequential(epoch, step), step)))
            advance(3 + 2 * place + 2)
    predicted = {
        f"predicted_{name}": [start + eta * first + eta**2 * second for eta in rates]
        for name, (first, second) in coefficients.items()
    }
    return AlignmentColumns(start=start, **values, **predicted)


def attribute(setup: Setup, learning_rate: float, *, num_warm_up: int = 10) -> Attribution:
    """The gap at one learning rate by its causes, with both arms warmed up by frozen gradients at this place.

    The share of a cause is the projection of its part on the gap, over the gap's squared norm; shares add up to 1.

    Args:
        setup: The two arms and their place.
        learning_rate: eta.
        num_warm_up: Updates that each arm makes before, with the gradients of this place and batch.
    """
    name, own = setup.sequential.optimizer, setup.hyperparams
    epoch = setup.epoch()
    if setup.sequential.is_imported:  # nothing is known of what it is made of
        stages = {"learning rate": optimizers.gradient_descent(), name: at_rate(epoch.rule, 1.0)}
    else:
        options = {key: getattr(own, key) for key in catalogue.OPTIMIZERS[name].options}
        stages = optimizers.stages(name, options)
    gap = attribution.gap(
        epoch.losses,
        epoch.word,
        stages,
        setup.params,
        step_size=learning_rate,
        rate=setup.sequential.step,
        reduction="mean",
        num_warm_up=num_warm_up,
    )
    total = float(_norm(gap.total))
    parts = {
        **gap.first_order,
        "gradient part": gap.gradient_part,
        "bracket": gap.bracket,
        "remainder": gap.remainder,
    }
    rows = [
        Cause(
            cause=cause,
            norm=float(_norm(part)),
            share=float(jnp.asarray(optax.tree.vdot(part, gap.total))) / total**2,
        )
        for cause, part in parts.items()
    ]
    return Attribution(
        kind="attribution",
        optimizer=name,
        model=setup.model,
        update=setup.update,
        learning_rate=learning_rate,
        rate=setup.sequential.rate,
        num_warm_up=num_warm_up,
        rows=rows,
        total=total,
    )
