"""Several runs, one after another, each in its folder; they share the inputs that they can share."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments import config, files, grid, records
from experiments.config import Config
from experiments.files import BusyError
from experiments.model import parameters, text_losses
from experiments.model.loading import Show
from experiments.records import CONFIG, RECORDS
from experiments.training import arm_update, distributed, inputs, language_task, loop, memory
from experiments.training.inputs import RunInputs
from experiments.training.task import Task

__all__ = ["RunError", "check_arms", "disk_note", "run_all"]

_OF_THE_DISK = ("checkpoint_every", "keep")  # values that may change when a run is resumed: no result depends on them
_MUCH = 10**8  # bytes of checkpoints that are announced before they are written


class RunError(OSError):
    """A run could not be written; the message names its folder."""


def check_arms(configs: Iterable[Config]) -> None:
    """Refuses functions of one's own that are none, before anything is loaded.

    Raises:
        OSError: If the model's configuration cannot be read.
        ValueError: If an objective or an optimizer cannot be used.
    """
    for wanted in {one.arm: one for one in configs}.values():
        inputs.require_model(wanted)
        text_losses.build(wanted.arm.objective)
        if not wanted.arm.is_imported:
            continue
        shapes = parameters.shapes(memory.architecture_of(wanted)[0])
        try:
            arm_update.optimizer(wanted.arm, wanted.rule, like=shapes)
        except TypeError as error:
            raise ValueError(str(error)) from None


def run_all(
    runs: Mapping[Path, Config],
    *,
    out: Path | None,
    show: Show,
    report: Callable[[str, bool], None],
    listed: Mapping[Path, Config] | None = None,
    task_of: Callable[[Config], Task] | None = None,
) -> bool:
    """Makes runs one after another; those that have ended are passed over.

    Args:
        runs: Configurations by the folders of their runs.
        out: The folder that all runs lie in, whose list is to name them; None for a list that stays as it is.
        show: The display of progress.
        report: A function of a line about each run, and whether anything was done in it.
        listed: The runs that the list is to name, where others are made elsewhere; None for these.
        task_of: The task of a configuration; that of a language model if None.

    Returns:
        Whether the user, or the system, asked for the end.

    Raises:
        BusyError: If another process is at work in a folder.
        RunError: If something cannot be written.
        ValueError: If a folder holds something else, or model or data cannot be used.
    """
    is_own = task_of is not None
    task_of = task_of or _language_tasks(show, report)
    for folder, wanted in runs.items():
        try:
            with _new_folder(folder), distributed.first_alone(folder):
                ending = _checked_ending(folder, wanted)
                if ending is not None and is_own:  # nothing else compares the losses and the data of an ended run
                    _require_same(folder, task_of(wanted))
                if ending is not None and ending.reason != "stopped":
                    loop.tidy(folder, wanted, ending)
                    report(f"{folder}: {ending.message} (nothing to do)", False)
                    continue
                try:
                    task = task_of(wanted)
                except OSError as error:  # a fault of the call, which names the place
                    raise ValueError(str(error)) from None
                # Not before model and data are there and enough: a wrong value would have become that of the run.
                if distributed.is_first():
                    content = config.to_json(wanted)
                    if not (folder / CONFIG).is_file() or files.read_object(folder / CONFIG) != content:
                        files.write_object(folder / CONFIG, content)
                    if out is not None:
                        grid.add_to_list(out, {place: config.to_json(one) for place, one in (listed or runs).items()})
                out = None
                outcome = loop.run(wanted, task, folder, header=distributed.header(), show=show)
        except (BusyError, BrokenPipeError):  # the latter of a reader of the lines who has gone
            raise
        except OSError as error:
            raise RunError(f"{folder}: {error}. What was saved before is whole.") from error
        report(f"{folder}: {outcome.ending.message}", True)
        if outcome.is_stop_wanted:
            return True
    return False


def _require_same(folder: Path, task: Task) -> None:
    headers = [line for line in records.read(folder / RECORDS) if isinstance(line, records.Header)]
    if headers and headers[-1].fingerprint != task.fingerprint:
        raise ValueError(
            f"{folder} holds a run of other losses, parameters or examples. Give another folder, or the same ones."
        )


def _language_tasks(show: Show, report: Callable[[str, bool], None]) -> Callable[[Config], Task]:
    """Tasks of language models, which share the inputs that they can share with the one before."""
    shared: tuple[object, RunInputs] | None = None

    def task_of(wanted: Config) -> Task:
        nonlocal shared
        key = inputs.shared_key(wanted)
        if shared is None or shared[0] != key:
            shared = None  # before the next one is loaded
            shared = key, inputs.load(wanted, show)
            if distributed.is_first() and (left_out := shared[1].left_out):
                reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
                report(f"{len(shared[1].pairs):,} pairs; {left_out.total():,} left out: {reasons}", False)
        return language_task.of(wanted, shared[1])

    return task_of


def _checked_ending(folder: Path, wanted: Config) -> records.Ending | None:
    """The end of the run in a folder, if it has come to one; refuses a folder that is not of this run."""
    path, lines = folder / CONFIG, folder / RECORDS
    if path.is_file() and (
        difference := _difference(records.completed_config(files.read_object(path)), config.to_json(wanted))
    ):
        raise ValueError(f"{folder} must be a run of this configuration; {difference}. Give another --out.")
    if lines.is_file() and not path.is_file():
        raise ValueError(f"{folder} must have its {CONFIG}: records without it are of no known run.")
    if distributed.is_first() and not path.is_file():
        for unfinished in folder.glob(f".{path.name}.*"):  # of a start that was killed while it wrote it
            unfinished.unlink()
        if foreign := sorted(entry.name for entry in folder.iterdir()):
            raise ValueError(f"{folder} must be empty or a run; it holds {', '.join(foreign[:4])}.")
    return records.ending(lines) if lines.is_file() else None


@contextmanager
def _new_folder(folder: Path) -> Iterator[None]:
    """A folder with those above it; those that are new and still empty when something fails are removed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BusyError:
        raise  # an empty one is so for now: another run has just begun there
    except BaseException:
        for path in missing:
            with suppress(OSError):  # something is in it
                path.rmdir()
        raise


def _difference(before: Mapping[str, object], now: Mapping[str, object], where: str = "") -> str:
    """The first value in which two configurations differ and that results depend on, in words; empty if none."""
    for key in {**before, **now}:
        if not where and key in _OF_THE_DISK:
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if inner := _difference(old, new, f"{where}{key}."):
                return inner
        elif old != new:
            return f"{where}{key} was {old}, not {new}"
    return ""


def disk_note(runs: Mapping[Path, Config]) -> str | None:
    """The room that the checkpoints of runs take that have not ended, in words; None where it is little."""
    wanted = []
    for folder, config_of_run in runs.items():
        lines = folder / RECORDS
        try:
            ending = records.ending(lines) if lines.is_file() else None
            if ending is None or ending.reason == "stopped":
                wanted.append((config_of_run, memory.architecture_of(config_of_run)[0]))
        except (OSError, ValueError):
            continue  # its own start reports the error
    disk = memory.disk(wanted)
    if disk.most < _MUCH:
        return None
    parents = [path for path in next(iter(runs)).resolve().parents if path.is_dir()]
    free = shutil.disk_usage(parents[0]).free
    return (
        f"checkpoints: {memory.size(disk.most)} of the disk while the runs are made, {memory.size(disk.left)} when all "
        f"have finished (--set keep=K); {memory.size(free)} are free{' and NOT ENOUGH' if free < disk.most else ''}"
    )
