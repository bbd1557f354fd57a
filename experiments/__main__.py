"""`python -m experiments COMMAND`: each command has a module; none is imported before it is asked for."""

import sys
from collections.abc import Sequence

from console.command import application, call, run

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "run": "Runs of the experiment: arms times seeds.",
    "twin": "One update both ways, predicted and measured.",
    "resume": "Resumes runs, and starts those that never began.",
    "doctor": "What is here, what is missing, and the remedy.",
    "fetch": "Brings a model or the data into a folder.",
    "teacher": "Right solutions, asked of a teacher and checked.",
    "pairs": "Right and wrong solutions to the same problems.",
    "score": "Log-probabilities of completions under a model.",
    "evaluate": "How many problems a model solves.",
    "report": "Figures, tables and one page from runs.",
}
_EPILOG = """\
Every command has --help. Begin with:
  python -m experiments doctor
"""

app = application("python -m experiments", _EPILOG)
app.help = "The parts of the experiment, each usable alone."
for _place, (_name, _meaning) in enumerate(COMMANDS.items()):
    app.command(f"experiments.commands.{_name}:{_name}", name=_name, help=_meaning, sort_key=_place)


def main(arguments: Sequence[str]) -> int:
    """Runs the command that is named first; returns its exit status, 2 where none is named."""
    status = call(app, arguments or ["--help"], extra="experiments")
    return status if arguments else 2


if __name__ == "__main__":
    sys.exit(run(lambda: main(sys.argv[1:])))
