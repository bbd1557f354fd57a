"""`python -m experiments doctor`: the state of everything that the experiment needs, with the remedy for each fault."""

from pathlib import Path
from typing import Annotated

from console.command import command, option
from console.values import input_folder
from experiments.commands.fetch import FOLDERS

__all__ = ["doctor"]

_EPILOG = """\
A preset's memory is what `run --preset NAME --dry-run` reckons, over all its
devices; its disk is that of the model's folder and of the checkpoints that one
run holds while it is made.

exit status: 0 where the preset `tiny` can run, 1 where it cannot.
"""
_COLOURS = {"good": "green", "missing": "bold red", "short": "bold yellow", "optional": "yellow"}


@command("doctor", _EPILOG)
def doctor(
    *,
    model: Annotated[Path, option(metavar="DIR", parse=input_folder)] = FOLDERS["smollm2"],
    data: Annotated[Path, option(metavar="DIR", parse=input_folder)] = FOLDERS["gsm8k"],
) -> int:
    """The state of the installation; returns the exit status: 0 where the smallest preset can run, else 1."""
    from rich.text import Text

    from console.terminal import Terminal
    from experiments.training import environment

    terminal = Terminal(soft_wrap=True)  # long lines are not broken, so that a remedy can be copied
    is_able = True
    for check in environment.checks(model, data):
        state = Text(f"{check.state:<9}", _COLOURS[check.state])
        terminal.print(Text(f"{check.subject:<18} ").append_text(state).append(f" {check.value}"))
        if check.remedy:
            terminal.print(f"{'':<18} -> {check.remedy}")
        is_required = ":" not in check.subject or check.subject.startswith("tiny:")
        is_able &= not (is_required and check.state in ("missing", "short"))
    return 0 if is_able else 1
