"""The loop of one run: a batch, the arm's update, a line, and at times a checkpoint.

To be read from top to bottom. The update is that of `train_step`, which is the numerics'; the batches are the source's.
What is decided here is when to measure, what to write, and when to end.
"""

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from console.progress import waiting
from experiments import files, records
from experiments.arms import Arm, Hyperparams
from experiments.config import Config
from experiments.data.tokens import Batch
from experiments.model import sharding
from experiments.model.loading import Show
from experiments.records import CHECKPOINTS, RECORDS, Ending, UpdateRow
from experiments.training import arm_update, batches, checkpoint, probe, train_step
from experiments.training.arm_update import Objective
from experiments.training.batches import PairBatch
from experiments.training.task import Task
from experiments.training.train_step import State, StepInfo
from numerics.types import Params

__all__ = ["Outcome", "run", "tidy"]

_BATCHES_FOR_FROZEN = 4  # updates' worth of gradients that the frozen second moment is the mean of


class Outcome(NamedTuple):
    """The end of a run, and whether the user, or the system, asked for the end, even if the run had come to its own."""

    ending: Ending
    is_stop_wanted: bool


def run(config: Config, task: Task, folder: Path, *, header: Mapping[str, object], show: Show) -> Outcome:
    """Makes the updates of a configuration, from its newest whole checkpoint or from the start.

    Args:
        config: The configuration.
        task: What is stepped and measured.
        folder: The folder of the run, locked by the caller. It gets `records.jsonl` and `checkpoints/`.
        header: The facts about this start that are recorded: versions, device, commit.
        show: The display of progress.

    Raises:
        OSError: If something cannot be written, such as on a full disk. The lines and checkpoints before stay whole.
        ValueError: If the folder holds a run of other parameters or data.
        checkpoint.DamagedError: If no checkpoint is whole.
    """
    is_writer = jax.process_index() == 0
    with waiting(f"{config.arm.name}: the start"):
        state, rows, notes = _restored(config, task, folder) or (_start(config, task), [], [])
    step = _step(config.arm, config.rule, config.learning_rate, task.objective, task.mesh, task.products)
    # The newest checkpoint that is whole, once it is known that none that is damaged comes before it.
    newest = rows[-1].update if rows and not notes else None
    num_kept = max(config.keep, 2)
    with ExitStack() as stack:
        file = stack.enter_context((folder / RECORDS).open("a", encoding="utf-8")) if is_writer else None
        is_asked_to_stop = stack.enter_context(_signals())
        advance = stack.enter_context(show(config.arm.name, config.num_updates, "updates"))
        for note in notes:
            print(note, file=sys.stderr)
        if newest is not None:  # a killed process may have left one half removed
            _prune(folder, config, rows, num_kept, newest)

        def write(record: records.Header | UpdateRow | Ending) -> None:
            if file is not None:
                files.append(file, records.to_json(record))

        def save(row: UpdateRow) -> None:
            nonlocal newest
            if file is not None:
                os.fsync(file.fileno())  # a checkpoint without its line would be of no use
            about = {"fingerprint": task.fingerprint, "arm": config.arm.name}
            if newest is not None:  # before, so that the disk holds no more than are kept
                _prune(folder, config, rows, num_kept - 1, newest)
            checkpoint.save(folder / CHECKPOINTS, row.update, state, about)
            newest = row.update

        def end(reason: Literal["finished", "not-finite", "stopped"], update: int, message: str) -> Outcome:
            ending = Ending(reason=reason, update=update, message=message)
            write(ending)
            if reason != "stopped":
                if file is not None:
                    os.fsync(file.fileno())  # a run whose end is lost needs its checkpoints
                _prune(folder, config, rows, _num_kept_at_the_end(config, ending), newest)
            return Outcome(ending, is_asked_to_stop())

        write(records.Header.model_validate({**header, **task.facts, "fingerprint": task.fingerprint}))
        if not rows:
            advance(0, "the probe before the first update: compiling")
            start = {"optimizer_steps": 0, "examples": 0, "tokens": 0, "learning_rate_sum": 0.0, "distance": 0.0}
            readings = task.measure(0, state.params, None)
            row = UpdateRow.model_validate({"update": 0, **start, **readings, "seconds": 0.0, "memory": _memory()})
            rows.append(row)
            write(row)
        # The start is the model itself. It is saved where nothing else will tell how a run came to its end.
        is_saved = newest is not None or bool(notes)
        advance(rows[-1].update, "the first update: compiling")
        for update in range(rows[-1].update, config.num_updates):
            started = time.perf_counter()
            batch = task.source(update, state.params)
            is_as_written = batches.coin(config.seed, update)
            moved, info = step(state, task.params, sharding.place(batch, task.mesh), is_as_written)
            info = jax.tree.map(sharding.on_host, info)
            is_finite = bool(info.is_finite)
            if is_finite:
                state = moved
            del moved
            seconds = time.perf_counter() - started
            readings = task.measure(update + 1, state.params, rows[0], is_finite=is_finite)
            is_collapsed = readings.pop("is_collapsed") or rows[-1].is_collapsed or not is_finite
            row = UpdateRow.model_validate(
                {
                    "update": update + 1,
                    **_totals(config, rows[-1], batch),
                    "first": arm_update.first_of(config.arm, is_as_written),
                    **train_step.quantities(info, batch, task.groups),
                    **readings,
                    "is_collapsed": is_collapsed,
                    "seconds": seconds,
                    "memory": _memory(),
                }
            )
            write(row)
            if not is_finite:
                if not is_saved:
                    save(rows[-1])
                return end(
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
                return end("stopped", update + 1, f"stopped after update {update + 1}, which is saved")
        return end("finished", config.num_updates, f"{config.num_updates} updates made")


@cache  # the seeds of an arm share what is compiled
def _step(
    arm: Arm,
    rule: Hyperparams,
    learning_rate: float,
    objective: Objective,
    mesh: Mesh | None,
    products: Callable[[Params, Params], jax.Array],
) -> Callable[..., tuple[State, StepInfo]]:
    return train_step.make_step(arm, rule, learning_rate, objective, mesh, products)


# Checkpoints that stay ------------------------------------------------------------------------------------------------


def tidy(folder: Path, config: Config, ending: Ending) -> None:
    """Removes what a run that has ended does not keep: checkpoints, and the half-done work of a killed process.

    The caller holds the lock of the folder.

    Raises:
        OSError: If something cannot be read or removed.
        ValueError: If the records cannot be read.
    """
    rows = [record for record in records.read(folder / RECORDS) if isinstance(record, UpdateRow)]
    _prune(folder, config, rows, _num_kept_at_the_end(config, ending), None)


def _num_kept_at_the_end(config: Config, ending: Ending) -> int:
    # The place before a value that is not finite is one to look at, and is named by the run's last line.
    return max(config.keep, 1) if ending.reason == "not-finite" else config.keep


def _prune(folder: Path, config: Config, rows: Sequence[UpdateRow], num_newest: int, newest: int | None) -> None:
    """Keeps that many of the newest checkpoints, and the best one where the configuration keeps several."""
    place = folder / CHECKPOINTS
    if not num_newest:
        if jax.process_index() == 0 and place.is_dir():
            shutil.rmtree(place)
        return
    best = None
    if config.keep > 1:
        saved = set(checkpoint.numbers(place))
        best = max((row for row in rows if row.update in saved), key=probe.score, default=None)
    checkpoint.prune(place, keep=num_newest, best=None if best is None else best.update, newest=newest)


# Start and resumption -------------------------------------------------------------------------------------------------


def _start(config: Config, task: Task) -> State:
    second = None
    if config.arm.needs_second_moment:
        halves = [task.source(update, task.params) for update in range(_BATCHES_FOR_FROZEN)]
        on_devices = [sharding.place(batch, task.mesh) for batch in halves]
        second = train_step.second_moment(task.objective, task.params, on_devices)
    return train_step.initial_state(config.arm, config.rule, task.params, second, config.learning_rate)


def _restored(config: Config, task: Task, folder: Path) -> tuple[State, list[UpdateRow], list[str]] | None:
    """The newest whole checkpoint, the lines up to it, and notes for the user; None where there is none yet."""
    place = folder / CHECKPOINTS
    numbers = checkpoint.numbers(place)
    _barrier("checkpoints are counted")  # before the first process can write one
    if not numbers:
        if jax.process_index() == 0:
            (folder / RECORDS).unlink(missing_ok=True)  # killed before the first checkpoint: nothing is lost
        return None
    like = train_step.state_like(config.arm, config.rule, task.params, config.learning_rate)
    loaded = checkpoint.newest(place, like)
    if loaded is None:
        return None
    if loaded.about.get("fingerprint") != task.fingerprint:
        raise ValueError(
            f"{folder} must be continued with the model and the data that it was begun with; these parameters or texts "
            "are others."
        )
    _barrier("lines are cut")
    rows = records.cut(folder / RECORDS, loaded.number) if jax.process_index() == 0 else []
    _barrier("lines were cut")
    if jax.process_index():
        rows = [record for record in records.read(folder / RECORDS) if isinstance(record, UpdateRow)]
    notes = [f"{message} The one before it is used." for message in loaded.damaged]
    return loaded.tree, rows, notes


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


# Parts of a line ------------------------------------------------------------------------------------------------------


def _totals(config: Config, before: UpdateRow, batch: PairBatch) -> dict[str, object]:
    arm = config.arm
    sides = [half for side, half in zip("+-", batch, strict=True) if side in arm.sides]
    num_tokens = sum(int(np.sum(half.lengths)) for half in sides if isinstance(half, Batch))
    return {
        "optimizer_steps": before.optimizer_steps + arm.num_steps,
        "learning_rate_sum": before.learning_rate_sum + arm.length * config.learning_rate,
        "examples": before.examples + sum(len(jax.tree.leaves(half)[0]) for half in sides),
        "tokens": (before.tokens or 0) + num_tokens,
    }


def _memory() -> int:
    """Bytes at the peak so far."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kibibytes


def _line(row: UpdateRow) -> str:
    """The live line: losses, log-probabilities of both sides per token, alignment."""
    words = ("-" if value is None else f"{value:.3g}" for value in (records.value(row, name) for name in records.LIVE))
    return "L+ {} L- {} | log p {} {} | g+.g- {}".format(*words)
