"""`python -m experiments resume`: resumes runs that were stopped or killed, and starts those that never began."""

import sys
from pathlib import Path
from typing import Annotated

from console.cluster import NO_CLUSTER, Cluster
from console.command import call_errors, command, option
from console.values import input_folder
from experiments import config, files, grid
from experiments.commands.run import ALONE, Processes, execute
from experiments.records import CHECKPOINTS, CONFIG, LIST, RECORDS

__all__ = ["resume"]

_EPILOG = """\
Every run below DIR that has no last line is resumed from its newest whole
checkpoint; lines behind it are cut, and made again the same. A run that
DIR/runs.json lists and that never began is started, and said. Model and data
must be those that the run was begun with.

example:
  python -m experiments resume runs/smollm2

exit status: as of `run`.
"""


@command("resume", _EPILOG)
def resume(
    *folders: Annotated[Path, option("a run's folder, or one above", parse=input_folder, name="DIR", is_required=True)],
    cluster: Cluster = NO_CLUSTER,
    processes: Processes = ALONE,
) -> int:
    """Resumes runs, and starts those that never began."""
    runs: dict[Path, config.Config] = {}

    def add(folder: Path, content: object, path: Path) -> None:
        try:
            runs[folder] = config.from_json(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    with call_errors(ValueError):
        for folder in folders:
            begun, lists = (
                sorted(path for path in folder.rglob(name) if CHECKPOINTS not in path.parts) for name in (CONFIG, LIST)
            )
            if not begun and not lists:
                raise ValueError(f"{folder} must hold a run: a folder with {CONFIG} and {RECORDS}.")
            for path in begun:
                add(path.parent, files.read_object(path), path)
            for path in lists:
                for name, content in grid.read_list(path.parent).items():
                    place = path.parent / name
                    if not (place / CONFIG).exists():
                        add(place, content, path)
                        print(f"{place}: never began, and is started", file=sys.stderr)
    status = execute(runs, processes, cluster=cluster)
    for folder in folders:
        if not (folder / CONFIG).exists() and not any(folder.rglob(LIST)):
            print(
                f"{folder} has no {LIST}: a run that never began is not known here. The same `run` command again "
                "starts it.",
                file=sys.stderr,
            )
    return status
