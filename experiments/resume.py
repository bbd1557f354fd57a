"""`python -m experiments resume`: goes on with runs that were stopped or killed."""

from collections.abc import Sequence
from pathlib import Path

from console.command import Parser
from console.values import input_folder
from experiments import run

__all__ = ["main"]

_EPILOG = """\
Every run below DIR that has no last line is gone on with from its newest whole
checkpoint; lines behind it are cut, and made again the same. Model and data
must be those that the run was begun with.

example:
  python -m experiments resume runs/smollm2

exit status: as of `run`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = Parser("python -m experiments resume", "Goes on with runs that were stopped or killed.", _EPILOG)
    parser.add_argument("folders", nargs="+", type=input_folder, metavar="DIR", help="a run's folder, or one above")
    run.add_processes(parser)
    options = parser.parse(arguments)

    from experiments import config, jsonl  # noqa: PLC0415

    found: dict[Path, config.Config] = {}
    for folder in options.folders:
        paths = sorted(path for path in folder.rglob("config.json") if "checkpoints" not in path.parts)
        if not paths:
            parser.error(f"{folder} must hold a run: a folder with config.json and records.jsonl.")
        for path in paths:
            try:
                content = jsonl.read_object(path)
            except (OSError, ValueError) as error:  # which name the file
                parser.error(str(error))
            try:
                found[path.parent] = config.from_json(content)
            except (TypeError, ValueError) as error:
                parser.error(f"{path}: {error}")
    return run.carried_out(parser, found, options)
