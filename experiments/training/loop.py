"""The loop of one run: halves from a source, the arm's update, a line, now and then a checkpoint.

To be read from top to bottom. The update is `train_step.stepper`'s, which is the numerics'; where halves come from is
the source's business. What is computed here is when to measure, what to write, and when to end.
"""

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from scipy.stats import binomtest

from console.progress import waiting
from experiments import jsonl
from experiments.config import Config
from experiments.data.tokens import Batch
from experiments.model import generation, sharding
from experiments.model.llama import Architecture, Params
from experiments.training import batches, checkpoint, inputs, records, train_step
from experiments.training.batches import Halves, Source
from experiments.training.inputs import Materials, Show
from experiments.training.train_step import State

__all__ = ["CHECKPOINTS", "RECORDS", "Ending", "run", "source_of", "tidy"]

CHECKPOINTS, RECORDS = "checkpoints", "records.jsonl"
_BATCHES_FOR_FROZEN = 4  # updates' worth of gradients that the frozen second moment is the mean of


class Ending(NamedTuple):
    """How a run ended.

    Attributes:
        reason: All updates made; a value was not finite; or the user, or the system, asked for the end.
        update: Updates made.
        message: What to tell.
        is_stop_wanted: Whether the user, or the system, asked for the end, be it that the run had come to its own.
    """

    reason: Literal["finished", "not-finite", "stopped"]
    update: int
    message: str
    is_stop_wanted: bool


def run(
    config: Config,
    given: Materials,
    folder: Path,
    *,
    header: Mapping[str, object],
    show: Show,
    source: Source | None = None,
) -> Ending:
    """Makes the updates of a configuration, from its newest whole checkpoint or from the start.

    Args:
        config: The configuration.
        given: What is there before the first update; the parameters are left as they are.
        folder: The run's, locked by the caller. Gets `records.jsonl` and `checkpoints/`.
        header: What to write down of this start: versions, device, commit.
        show: How progress is shown.
        source: Where halves come from; fixed pairs unless given.

    Raises:
        OSError: If something cannot be written, such as on a full disk; what was written before stays whole.
        ValueError: If the folder holds a run of other parameters or data.
        checkpoint.DamagedError: If no checkpoint is whole.
    """
    source = source or source_of(config, given)
    is_writer = jax.process_index() == 0
    with waiting(f"{config.arm.name}: the start"):
        state, rows, notes = _restored(config, given, folder) or (_start(config, given, source), [], [])
    step, probe = _programs(replace(config, seed=0), given.architecture, given.mesh)
    measure = _Probe(config, given, probe)
    # The newest checkpoint that is whole, once it is known that none that is damaged comes before it.
    newest = int(str(rows[-1]["update"])) if rows and not notes else None
    num_kept = max(config.keep, 2)
    with ExitStack() as stack:
        file = stack.enter_context((folder / RECORDS).open("a", encoding="utf-8")) if is_writer else None
        is_asked_to_stop = stack.enter_context(_signals())
        advance = stack.enter_context(show(config.arm.name, config.num_updates, "updates"))
        for note in notes:
            print(note, file=sys.stderr)
        if newest is not None:  # what a kill left half removed
            _prune(folder, config, rows, num_kept, newest)

        def write(record: Mapping[str, object]) -> None:
            if file is not None:
                jsonl.append(file, record)

        def save(row: Mapping[str, object]) -> None:
            nonlocal newest
            number = int(str(row["update"]))
            if file is not None:
                os.fsync(file.fileno())  # a checkpoint without its line would be of no use
            about = {"fingerprint": given.fingerprint, "arm": config.arm.name}
            if newest is not None:  # before, so that the disk holds no more than are kept
                _prune(folder, config, rows, num_kept - 1, newest)
            checkpoint.save(folder / CHECKPOINTS, number, state, about)
            newest = number

        def ended(reason: Literal["finished", "not-finite", "stopped"], update: int, message: str) -> Ending:
            write({"kind": "end", "reason": reason, "update": update, "message": message})
            if reason != "stopped":
                if file is not None:
                    os.fsync(file.fileno())  # a run whose end is lost needs its checkpoints
                _prune(folder, config, rows, _num_kept_at_the_end(config, reason), newest)
            return Ending(reason, update, message, is_asked_to_stop())

        write({"kind": "header", **header, "fingerprint": given.fingerprint})
        if not rows:
            advance(0, "the probe before the first update: compiling")
            row = {"kind": "update", "update": 0, **_nothing_yet(), **measure(0, state.params, None)}
            rows.append(row)
            write(row)
        # The start is the model itself. It is saved where nothing else will tell how a run came to its end.
        is_saved = newest is not None or bool(notes)
        advance(int(str(rows[-1]["update"])), "the first update: compiling")
        for update in range(int(str(rows[-1]["update"])), config.num_updates):
            started = time.perf_counter()
            halves = source(update, state.params)
            is_plus_first = batches.coin(config.seed, update)
            moved, told = step(state, given.params, sharding.placed(halves, given.mesh), is_plus_first)
            told = jax.tree.map(sharding.on_host, told)
            if told.is_finite:
                state = moved
            del moved
            seconds = time.perf_counter() - started
            row = {
                "kind": "update",
                "update": update + 1,
                **_totals(config, rows[-1], halves),
                **_told(config, given, told, halves, is_plus_first),
                **measure(update + 1, state.params, rows[0], is_finite=bool(told.is_finite)),
                "seconds": seconds,
                "memory": _memory(),
            }
            row["is_collapsed"] = bool(row["is_collapsed"] or rows[-1]["is_collapsed"] or not told.is_finite)
            write(row)
            if not told.is_finite:
                if not is_saved:
                    save(rows[-1])
                return ended(
                    "not-finite",
                    update,
                    f"update {update + 1} is not finite; parameters and moments before it are in checkpoint {update}",
                )
            rows.append(row)
            advance(update + 1, _line(row))
            is_last = update + 1 == config.num_updates
            is_stopping = _on_all(is_asked_to_stop())
            is_due = (update + 1) % config.checkpoint_every == 0 or is_stopping
            is_saved = config.keep > 0 if is_last else is_due
            if is_saved:
                save(row)
            if is_stopping and not is_last:
                return ended("stopped", update + 1, f"stopped after update {update + 1}, which is saved")
        return ended("finished", config.num_updates, f"{config.num_updates} updates made")


def tidy(folder: Path, config: Config) -> None:
    """Removes what a run that has ended does not keep: checkpoints, and what a killed process left half done.

    Args:
        folder: The run's, locked by the caller.
        config: The run's.

    Raises:
        OSError: If something cannot be read or removed.
        ValueError: If the records cannot be read.
    """
    made = records.read(folder / RECORDS)
    rows = [row for row in made if row["kind"] == "update"]
    _prune(folder, config, rows, _num_kept_at_the_end(config, str(made[-1].get("reason"))), None)


def _num_kept_at_the_end(config: Config, reason: str) -> int:
    # The place before a value that is not finite is one to look at, and is named by the run's last line.
    return max(config.keep, 1) if reason == "not-finite" else config.keep


def _prune(
    folder: Path, config: Config, rows: Sequence[Mapping[str, object]], num_newest: int, newest: int | None
) -> None:
    """Keeps that many of the newest checkpoints, and the best one where the configuration keeps several."""
    place = folder / CHECKPOINTS
    if not num_newest:
        if jax.process_index() == 0 and place.is_dir():
            shutil.rmtree(place)
        return
    best = None
    if config.keep > 1:
        saved = set(checkpoint.numbers(place))
        best = max((row for row in rows if row["update"] in saved), key=_score, default=None)
    number = None if best is None else int(str(best["update"]))
    checkpoint.prune(place, keep=num_newest, best=number, newest=newest)


def source_of(config: Config, given: Materials) -> Source:
    """Fixed pairs, as a configuration has them.

    Raises:
        ValueError: If there are too few.
    """
    return batches.fixed_pairs(
        given.pairs,
        config.num_pairs,
        seed=config.seed,
        reduction=config.arm.reduction,
        is_same_problems=config.pairing == "same",
    )


class _ProbePrograms(NamedTuple):
    log_probs: Callable[[Params, Batch], jax.Array]
    gradient: Callable[[Params, Batch], Params]


@cache  # the seeds of an arm share what is compiled
def _programs(
    config: Config, architecture: Architecture, mesh: Mesh | None
) -> tuple[Callable[..., tuple[State, train_step.Told]], _ProbePrograms]:
    loss = inputs.loss_of(config, architecture, mesh)
    whole = inputs.loss_of(config, architecture, mesh, num_parts=1)
    return train_step.stepper(config.arm, config.rule, config.learning_rate, loss, mesh), _ProbePrograms(
        jax.jit(lambda params, batch: whole(params, batch)[1]),
        jax.jit(jax.grad(lambda params, batch: whole(params, batch)[0])),
    )


# Starting, and going on -----------------------------------------------------------------------------------------------


def _start(config: Config, given: Materials, source: Source) -> State:
    second = None
    if config.arm.optimizer == "frozen-adamw":
        several = [source(update, given.params) for update in range(_BATCHES_FOR_FROZEN)]
        loss = inputs.loss_of(config, given.architecture, given.mesh)
        placed = [sharding.placed(halves, given.mesh) for halves in several]
        second = train_step.second_moment(loss, given.params, placed)
    return train_step.initial(config.arm, config.rule, given.params, second)


def _restored(
    config: Config, given: Materials, folder: Path
) -> tuple[State, list[dict[str, object]], list[str]] | None:
    """The newest whole checkpoint with the lines up to it, and what is to be told; None where there is none yet."""
    place = folder / CHECKPOINTS
    numbers = checkpoint.numbers(place)
    _barrier("checkpoints are counted")  # before the first process can write one
    if not numbers:
        if jax.process_index() == 0:
            (folder / RECORDS).unlink(missing_ok=True)  # killed before the first checkpoint: nothing is lost
        return None
    second = given.params if config.arm.optimizer == "frozen-adamw" else None
    # Only shapes and places count here: the second moment has those of the parameters.
    like = train_step.initial(config.arm, config.rule, given.params, second)
    found = checkpoint.newest(place, like)
    if found is None:
        return None
    if found.about.get("fingerprint") != given.fingerprint:
        raise ValueError(
            f"{folder} must be continued with the model and the data that it was begun with; these parameters or texts "
            "are others."
        )
    _barrier("lines are cut")
    rows = records.cut(folder / RECORDS, found.number) if jax.process_index() == 0 else []
    _barrier("lines were cut")
    if jax.process_index():
        rows = [row for row in records.read(folder / RECORDS) if row["kind"] == "update"]
    notes = [f"{message} The one before it is used." for message in found.damaged]
    return found.tree, rows, notes


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _on_all(wish: bool) -> bool:
    """Whether any process wants it: all must stop behind the same update."""
    if jax.process_count() == 1:
        return wish
    return bool(multihost_utils.process_allgather(np.asarray(wish)).any())


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came; a second SIGINT interrupts at once."""
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)
        with suppress(OSError):  # by the system: a print might have been interrupted, and refuses a second one
            os.write(2, b"\nending after this update; once more ends at once\n")

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: nobody signals it
        before = {}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# What a line tells ----------------------------------------------------------------------------------------------------


def _nothing_yet() -> dict[str, object]:
    counted = dict.fromkeys(("optimizer_steps", "examples", "tokens"), 0)
    return {**counted, "learning_rate_sum": 0.0, "distance": 0.0, "is_collapsed": False, "seconds": 0.0,
            "memory": _memory()}  # fmt: skip


def _totals(config: Config, before: Mapping[str, object], halves: Halves) -> dict[str, object]:
    arm = config.arm
    sides = halves if arm.sides == "both" else halves[:1]
    return {
        "optimizer_steps": int(str(before["optimizer_steps"])) + arm.num_steps,
        "learning_rate_sum": float(str(before["learning_rate_sum"])) + arm.num_steps * arm.step * config.learning_rate,
        "examples": int(str(before["examples"])) + sum(len(side.lengths) for side in sides),
        "tokens": int(str(before["tokens"])) + sum(int(np.sum(side.lengths)) for side in sides),
    }


def _told(
    config: Config, given: Materials, told: train_step.Told, halves: Halves, is_plus_first: bool
) -> dict[str, object]:
    arm = config.arm
    is_plus = is_plus_first if arm.first == "random" else arm.first == "+" or arm.sides == "preferred"
    return records.update_row(
        told,
        lengths=(np.asarray(halves.plus.lengths).tolist(), np.asarray(halves.minus.lengths).tolist()),
        first="+" if is_plus else "-",
        has_minus=arm.sides == "both",
        groups=[name for name in train_step.GROUPS if name != "head" or not given.architecture.is_tied],
    )


def _memory() -> int:
    """Bytes at the peak so far."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kibibytes


def _score(row: Mapping[str, object]) -> float:
    """The score that the best checkpoint maximises: the probe's preferred log-probability per token."""
    probe = row.get("probe")
    return float(probe["log_prob_plus_per_token"]) if isinstance(probe, Mapping) else -np.inf


def _line(row: Mapping[str, object]) -> str:
    """What is shown while a run goes on: losses, log-probabilities of both sides per token, alignment."""

    def number(name: str, digits: int = 3) -> str:
        value = row.get(name)
        return "-" if value is None else f"{float(str(value)):.{digits}g}"

    return (
        f"L+ {number('loss_plus')} L- {number('loss_minus')} | log p {number('log_prob_plus_per_token')} "
        f"{number('log_prob_minus_per_token')} | g+.g- {number('alignment')}"
    )


class _Probe:
    """What is read beside the updates: the probe's log-probabilities and gradients, and the accuracy."""

    def __init__(self, config: Config, given: Materials, programs: _ProbePrograms) -> None:
        self._measures, self._given, self._config, self._programs = config.measures, given, config, programs
        self._halves = [sharding.placed(half, given.mesh) for half in given.probe]

    def __call__(
        self, update: int, params: Params, first: Mapping[str, object] | None, *, is_finite: bool = True
    ) -> dict[str, object]:
        """The part of a line that is read here, and whether the criterion of collapse is met."""
        started = time.perf_counter()
        m = self._measures

        def is_due(every: int) -> bool:
            return is_finite and every > 0 and (update % every == 0 or update == self._config.num_updates)

        row: dict[str, object] = {"probe": None, "probe_alignment": None, "accuracy": None, "is_collapsed": False}
        if is_due(m.probe_every):
            row["probe"] = self._probed(params)
        if is_due(m.alignment_every):
            first_half, second_half = self._halves
            row["probe_alignment"] = records.alignment_row(
                train_step.half_batches(self._programs.gradient, params, first_half, second_half)
            )
        if is_due(m.accuracy_every):
            row["accuracy"] = self._accuracy(params)
        if first is not None and row["probe"] is not None:
            # Not (x >= y): a value that is no number counts as collapsed.
            row["is_collapsed"] = not _score(row) >= _score(first) - m.collapse_nats
        return row | {"probe_seconds": time.perf_counter() - started}

    def _probed(self, params: Params) -> dict[str, float]:
        values, lengths = [], []
        for side in ("plus", "minus"):
            batches = [getattr(half, side) for half in self._halves]
            values.append(
                np.concatenate([sharding.on_host(self._programs.log_probs(params, batch)) for batch in batches])
            )
            lengths.append(np.concatenate([np.asarray(getattr(half, side).lengths) for half in self._given.probe]))
        return records.probe_row(values[0].tolist(), values[1].tolist(), (lengths[0].tolist(), lengths[1].tolist()))

    def _accuracy(self, params: Params) -> dict[str, object]:
        problems, given = self._given.problems, self._given
        made = generation.samples(
            params,
            given.architecture,
            given.codec,
            problems,
            is_chat=self._config.is_chat,
            num_rows=min(64, len(problems)),
            max_new_tokens=self._measures.max_new_tokens,
            compute_dtype=self._config.compute_dtype,
        )
        right = sum(sample.is_right for several in made for sample in several)
        low, high = binomtest(right, len(problems)).proportion_ci(method="wilson")
        return {"right": right, "total": len(problems), "low": float(low), "high": float(high)}
