"""Event files of runs for TensorBoard, through the optional package tensorboardX."""

from collections.abc import Sequence
from datetime import datetime
from math import isfinite
from pathlib import Path

from experiments import records
from experiments.records import value
from experiments.report.run_folders import Run, flat

__all__ = ["require", "write"]

_PREFIX = "events.out.tfevents."  # of every event file's name


def require(folder: Path, runs: Sequence[Run]) -> None:
    """Makes sure that event files can be written, before the work begins.

    Raises:
        ModuleNotFoundError: If tensorboardX is not installed.
        ValueError: If a run has event files there: TensorBoard would draw both, one over the other.
    """
    try:
        import tensorboardX  # noqa: F401, PLC0415  # pyright: ignore[reportMissingImports, reportUnusedImport]
    except ModuleNotFoundError as error:
        if error.name != "tensorboardX":
            raise
        raise ModuleNotFoundError(
            "--tensorboard needs tensorboardX, which is not installed. Run: python -m pip install 'tensorboardX>=2.6'"
        ) from None
    for run in runs:
        if any((folder / run.name).glob(f"{_PREFIX}*")):
            raise ValueError(f"--tensorboard must name a folder without event files of {run.name}; got {folder}")


def write(folder: Path, run: Run) -> None:
    """One event file with every number of a run, by update; its clock is the seconds that the run took.

    What is not finite is written as such.
    """
    from tensorboardX import SummaryWriter  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    clock = _started(run)
    writer = SummaryWriter(logdir=str(folder / run.name))
    try:
        for row in run.updates:
            clock += sum(
                seconds
                for name in ("seconds", "probe_seconds")
                if (seconds := value(row, name)) is not None and isfinite(seconds)
            )
            for name, held in flat(records.to_json(row)):
                if name != "update" and isinstance(held, (int, float)):
                    writer.add_scalar(name.replace(".", "/"), float(held), row.update, walltime=clock)
    finally:
        writer.close()


def _started(run: Run) -> float:
    """When the run began, in seconds since 1970; 0 where it does not say."""
    try:
        return datetime.fromisoformat(str(run.headers[0].started)).timestamp()
    except (IndexError, ValueError):
        return 0.0
