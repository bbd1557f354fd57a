"""The terminal of the commands: rich's console, whose broken pipe is the caller's to handle, and plain tables."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NoReturn

from rich.console import Console
from rich.table import Table

__all__ = ["Terminal", "plain_table", "table"]

plain_table = partial(Table, box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
"""A table of no columns yet and without lines, two blanks between its columns."""


def table(*labels: str, numbers: Sequence[str] = (), rows: Iterable[Sequence[str]] = (), gap: int = 2) -> Table:
    """A table without lines: labels stand left, and are broken where it is narrow; numbers stand right.

    Args:
        labels: The headings of the first columns.
        numbers: The headings of the others.
        rows: The cells of each row.
        gap: Blanks between two columns.
    """
    content = plain_table(padding=(0, gap, 0, 0))
    for heading in labels:
        content.add_column(heading)
    for heading in numbers:
        content.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        content.add_row(*row)
    return content


class Terminal(Console):
    """A console that prints texts as they are, and raises where the reader of a pipe has gone.

    Rich itself reads marks in texts, colours numbers, and would end the program with status 1.
    """

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False)

    def on_broken_pipe(self) -> NoReturn:
        """Raises what the operating system said.

        Raises:
            BrokenPipeError: Always.
        """
        raise BrokenPipeError
