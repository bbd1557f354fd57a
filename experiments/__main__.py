"""`python -m experiments COMMAND`: each command is a module with a `main`; none is imported before it is asked for."""

import sys
from collections.abc import Sequence
from importlib import import_module

from console.command import nearest, run
from console.packages import missing

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "run": ("experiments.commands.run", "the experiment: arms times seeds, each into its folder"),
    "twin": ("experiments.commands.twin", "one update both ways, predicted and measured"),
    "resume": ("experiments.commands.resume", "resumes runs, and starts those that never began"),
    "doctor": ("experiments.commands.doctor", "what is here, what is missing, and the remedy"),
    "fetch": ("experiments.commands.fetch", "brings a model or the data into a folder"),
    "teacher": ("experiments.commands.teacher", "right solutions, asked of a teacher and checked"),
    "pairs": ("experiments.commands.pairs", "right and wrong solutions to the same problems"),
    "score": ("experiments.commands.score", "log-probabilities of completions under a model"),
    "evaluate": ("experiments.commands.evaluate", "how many problems a model solves"),
    "report": ("experiments.commands.report", "figures, tables and one page from the records of runs"),
}

_EXTRAS = {"openai": "teacher", "datasets": "hub", "tensorboardX": "tensorboard"}  # of all else: experiments


def _usage() -> str:
    lines = [f"  {name:<10}{says}" for name, (_, says) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m experiments COMMAND [OPTIONS]",
            "",
            "The parts of the experiment, each usable alone.",
            "",
            *lines,
            "",
            "Every command has --help. Begin with:",
            "  python -m experiments doctor",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Runs the command that is named first; returns its exit status, 2 where there is no such command."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        print(
            f"python -m experiments: no such command: {name}.{nearest(name, COMMANDS)} "
            f"There are: {', '.join(COMMANDS)}.",
            file=sys.stderr,
        )
        return 2
    try:
        return import_module(COMMANDS[name][0]).main(rest)
    except ModuleNotFoundError as error:
        message = missing(error, _EXTRAS.get((error.name or "").partition(".")[0], "experiments"))
        if message is None:
            raise
        print(f"python -m experiments {name}: {message}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
