"""How far a command has come: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress"]

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """Shows progress on standard error; yields `advance(done, note="")`, to be called with how many are done in all.

    Args:
        what: The work, as in "scoring".
        total: How many there are.
        unit: Of what, in the plural.
    """
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415

    is_terminal = sys.stderr.isatty()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        # Where it is narrow the bar gives way, not the numbers.
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    last = time.monotonic()
    with Progress(*columns, console=Terminal(stderr=True), transient=True, disable=not is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def advance(done: int, note: str = "") -> None:
            nonlocal last
            bar.update(task, completed=done, description=note or what)
            now = time.monotonic()
            if not is_terminal and (now - last > _SECONDS_BETWEEN_LINES or done == total):
                last = now
                aside = f", {note}" if note else ""
                print(f"{what}: {done:,} of {total:,} {unit}{aside}", file=sys.stderr, flush=True)

        yield advance
