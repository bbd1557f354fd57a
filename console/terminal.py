"""The terminal of the commands: rich's console, whose broken pipe is the caller's to handle."""

from typing import NoReturn

from rich.console import Console

__all__ = ["Terminal"]


class Terminal(Console):
    """A console that raises where the reader of a pipe has gone; rich would end the program with status 1."""

    def on_broken_pipe(self) -> NoReturn:
        """Raises what the operating system said.

        Raises:
            BrokenPipeError: Always.
        """
        raise BrokenPipeError
