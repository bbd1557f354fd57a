"""The grid of a folder: the runs that were asked for there, as `runs.json` lists them, and how far each has come.

A cell of the grid is one run, an arm with a seed. Cells are computed by one command, or by many at the same time: each
adds its runs to the list under a lock. Nothing here needs JAX.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from experiments import files, records
from experiments.records import CONFIG, LIST, RECORDS, Ending, UpdateRow

__all__ = ["Standing", "add_to_list", "missing", "read_list", "standing"]


class Standing(NamedTuple):
    """How far a cell has come.

    Attributes:
        row: The line of its last update; None before the first.
        ending: Its last line; None before the end.
    """

    row: UpdateRow | None
    ending: Ending | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do: all updates were made, or a value was not finite."""
        return self.ending is not None and self.ending.reason != "stopped"


def read_list(folder: Path) -> dict[str, object]:
    """The configurations that the list of a folder holds, by the runs' folders below it; none without a list.

    Raises:
        OSError: If the list cannot be read.
        ValueError: If it holds something else.
    """
    path = folder / LIST
    return files.read_object(path) if path.is_file() else {}


def add_to_list(folder: Path, runs: Mapping[Path, Mapping[str, object]]) -> None:
    """Adds runs to the list of a folder, or writes it; commands that do so at the same time wait for one another.

    Args:
        folder: The folder, which must exist.
        runs: Configurations, as `config.to_json` writes them, by the folders of their runs, below it.

    Raises:
        OSError: If the list cannot be read or written.
        ValueError: If it holds something else.
    """
    names = {run.relative_to(folder).as_posix(): dict(content) for run, content in runs.items()}
    with files.exclusive(folder, "is being listed", is_patient=True):
        listed = read_list(folder)
        if listed != (extended := {**listed, **names}):
            files.write_object(folder / LIST, extended)


def standing(folder: Path) -> Standing:
    """How far the run in a folder has come. Only the last lines are read, so that it may be asked again and again.

    Raises:
        OSError: If its records cannot be read.
        ValueError: If a line is no record.
    """
    path = folder / RECORDS
    lines = records.last(path) if path.is_file() else []
    row = next((line for line in reversed(lines) if isinstance(line, UpdateRow)), None)
    return Standing(row, lines[-1] if lines and isinstance(lines[-1], Ending) else None)


def missing(folder: Path) -> list[str]:
    """The runs of a folder's list that have not ended, each with how far it has come.

    Raises:
        OSError: If the list cannot be read.
        ValueError: If it holds something else.
    """
    words = {name: _shortfall(folder / name) for name in read_list(folder)}
    return [f"{name} ({shortfall})" for name, shortfall in words.items() if shortfall]


def _shortfall(folder: Path) -> str:
    """What a run lacks, in words; empty where it has ended."""
    try:
        one = standing(folder)
    except (OSError, ValueError):
        return "cannot be read"
    if one.row is None:
        return "no update yet" if (folder / CONFIG).is_file() else "never began"
    if one.has_ended:
        return ""
    return f"{'not ended' if one.ending is None else 'stopped'}, after update {one.row.update}"
