"""`python -m experiments resume`: resumes runs that were stopped or killed, and starts those that never began."""

import sys
from collections.abc import Sequence
from pathlib import Path

from console.command import Parser
from console.values import input_folder
from experiments.commands import run

__all__ = ["main"]

_EPILOG = """\
Every run below DIR that has no last line is resumed from its newest whole
checkpoint; lines behind it are cut, and made again the same. A run that
DIR/runs.json lists and that never began is started, and said. Model and data
must be those that the run was begun with.

example:
  python -m experiments resume runs/smollm2

exit status: as of `run`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = Parser("python -m experiments resume", "Resumes runs, and starts those that never began.", _EPILOG)
    parser.add_argument("folders", nargs="+", type=input_folder, metavar="DIR", help="a run's folder, or one above")
    run.add_processes(parser)
    options = parser.parse(arguments)

    from experiments import config, jsonl  # noqa: PLC0415

    def read(path: Path) -> dict[str, object]:
        try:
            return jsonl.read_object(path)
        except (OSError, ValueError) as error:  # which name the file
            parser.error(str(error))

    def checked(content: object, path: Path) -> config.Config:
        try:
            return config.from_json(content)
        except (TypeError, ValueError) as error:
            parser.error(f"{path}: {error}")

    found: dict[Path, config.Config] = {}
    for folder in options.folders:
        begun, lists = (
            sorted(path for path in folder.rglob(name) if "checkpoints" not in path.parts)
            for name in ("config.json", run.LIST)
        )
        if not begun and not lists:
            parser.error(f"{folder} must hold a run: a folder with config.json and records.jsonl.")
        found |= {path.parent: checked(read(path), path) for path in begun}
        for path in lists:
            for name, content in read(path).items():
                place = path.parent / name
                if not (place / "config.json").exists():
                    found[place] = checked(content, path)
                    print(f"{place}: never began, and is started", file=sys.stderr)
    status = run.carried_out(parser, found, options)
    for folder in options.folders:
        if not (folder / "config.json").exists() and not any(folder.rglob(run.LIST)):
            print(
                f"{folder} has no {run.LIST}: a run that never began is not known here. The same `run` command again "
                "starts it.",
                file=sys.stderr,
            )
    return status
