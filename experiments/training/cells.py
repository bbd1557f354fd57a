"""The cells of a grid on a cluster: each run is made by a process of its own, and followed by what it records.

The folder of the runs lies on a path that all machines see. A cell whose process dies is begun again elsewhere, and
goes on from its newest whole checkpoint, as every run does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.table import Table

from console import cluster as clusters
from console.cluster import Cluster
from console.progress import live
from console.terminal import table
from experiments import config, grid, records
from experiments.config import Config
from experiments.grid import Standing
from experiments.training import distributed, run_set

__all__ = ["make", "run_all"]


def run_all(
    runs: Mapping[Path, Config], *, out: Path | None, cluster: Cluster, report: Callable[[str, bool], None]
) -> list[Exception]:
    """Makes runs as cells of a cluster. A cell that fails leaves the others at work.

    Args:
        runs: Configurations by the folders of their runs.
        out: The folder that all runs lie in, whose list is to name them; None for a list that stays as it is.
        cluster: The options of the cluster.
        report: A function of a line about each run, and whether anything was done in it.

    Returns:
        The errors of cells, as in `run_set.run_all`, or of the cluster.

    Raises:
        KeyboardInterrupt: If the user asked for the end; cells at work have saved what they had.
        ValueError: If there is no such cluster, or a cell needs more than this machine has.
    """
    contents = {folder: config.to_json(wanted) for folder, wanted in runs.items()}
    calls = {folder: (folder, contents, out) for folder in runs}
    meshes = [wanted.mesh for wanted in runs.values()]
    num_devices = max(mesh.data * mesh.fsdp * mesh.tensor for mesh in meshes)
    errors: list[Exception] = []
    with live("runs", sum(wanted.num_updates for wanted in runs.values()), "updates") as show:

        def look() -> None:
            show(*_state(runs))

        name = f"{make.__module__}:{make.__name__}"
        for folder, result in clusters.results(name, calls, cluster, num_gpus=num_devices, look=look):
            if isinstance(result, Exception):
                errors.append(result)
                report(str(result) if str(folder) in str(result) else f"{folder}: {result}", False)
            elif isinstance(result, list):
                for line, is_new in result:
                    report(line, is_new)
    return errors


def make(folder: Path, contents: Mapping[Path, dict[str, object]], out: Path | None) -> list[tuple[str, bool]]:
    """Makes one run of a grid, in a process of the cluster; returns the lines about it.

    Args:
        folder: Its folder.
        contents: The configurations of all runs of the grid.
        out: As in `run_all`.

    Raises:
        BusyError: If another process is at work in the folder.
        RunError: If something cannot be written.
        ValueError: If the folder holds something else, or model or data cannot be used.
    """
    distributed.join(None, None, None)
    runs = {place: config.from_json(content) for place, content in contents.items()}
    lines: list[tuple[str, bool]] = []

    def report(line: str, is_new: bool) -> None:
        lines.append((line, is_new))

    run_set.run_all({folder: runs[folder]}, out=out, show=_silence, report=report, listed=runs)
    return lines


@contextmanager
def _silence(what: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
    yield lambda done, note="": None


def _state(runs: Mapping[Path, Config]) -> tuple[Table, int, str]:
    """All cells as a table, the updates made in all, and a note: cells at work above those that have ended or wait."""
    standings = {folder: Standing(None, None) for folder in runs}
    for folder in runs:
        with suppress(OSError, ValueError):  # it is being cut, or is none of ours: its own process says so
            standings[folder] = grid.standing(folder)
    is_at_work = {folder: one.row is not None and not one.has_ended for folder, one in standings.items()}
    content = table("arm", "seed", "update", numbers=[*records.LIVE.values()])
    for folder in sorted(runs, key=lambda folder: not is_at_work[folder]):
        wanted, row = runs[folder], standings[folder].row
        values = [None if row is None else records.value(row, name) for name in records.LIVE]
        made = "-" if row is None else f"{row.update} of {wanted.num_updates}"
        style = "" if is_at_work[folder] else "dim"
        numbers = ["-" if value is None else f"{value:.3g}" for value in values]
        content.add_row(wanted.arm.name, str(wanted.seed), made, *numbers, style=style)
    num_ended = sum(one.has_ended for one in standings.values())
    content.caption, content.caption_justify = f"{num_ended} of {len(runs)} runs have ended", "left"
    num_updates = sum(one.row.update for one in standings.values() if one.row is not None)
    return content, num_updates, str(content.caption)
