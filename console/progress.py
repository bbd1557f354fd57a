"""How far a command has come: a live line on a terminal, elsewhere a line now and then; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

__all__ = ["live", "progress", "restored_cursor", "waiting"]

_SECONDS_BEFORE_FIRST_LINE = 2.0
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_LOOKS = 0.25


@contextmanager
def progress(
    what: str, total: int | None, unit: str, *, is_silent_if_quick: bool = False
) -> Iterator[Callable[..., None]]:
    """Shows progress on standard error; yields `advance(done, note="")`, to be called with how many are done in all.

    Off a terminal a line comes with `advance` at most every ten seconds, and at the end; in between one comes by
    itself, after the first two seconds and then every ten, with the time: also while a single piece of the work lasts.

    Args:
        what: The work, as in "scoring".
        total: How many there are; None where nobody knows.
        unit: Of what, in the plural.
        is_silent_if_quick: Whether a work of less than two seconds says nothing off a terminal.
    """
    if not sys.stderr.isatty():
        of_all = "" if total is None else f" of {total:,}"
        with _lines(lambda done: f"{what}: {done:,}{of_all} {unit}", total, is_silent_if_quick) as advance:
            yield advance
        return
    from rich import progress as rich  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    whole = Column(no_wrap=True)  # where it is narrow the bar gives way, not the numbers
    numbers = [
        kind(table_column=whole) for kind in (rich.MofNCompleteColumn, rich.TimeElapsedColumn, rich.TimeRemainingColumn)
    ]
    with _live_line(rich.TextColumn("{task.description}"), rich.BarColumn(), *numbers) as bar:
        # Numbers, two times and four gaps; the text is cut to the rest, or rich would cut the numbers as well.
        room = bar.console.width - len(f"{total}/{total}") - 2 * len("0:00:00") - 4
        task = bar.add_task(_cut(what, room), total=total)
        yield lambda done, note="": bar.update(task, completed=done, description=_cut(note or what, room))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows on standard error that a piece of work lasts in which nothing can be counted, and for how long.

    Args:
        what: The work, as in "loading".
    """
    if not sys.stderr.isatty():
        with _lines(lambda _: what):
            yield
        return
    from rich import progress as rich  # noqa: PLC0415

    with _live_line(rich.SpinnerColumn(), rich.TextColumn("{task.description}"), rich.TimeElapsedColumn()) as bar:
        bar.add_task(what, total=None)
        yield


def _live_line(*columns: "ProgressColumn") -> "Progress":
    """A line on a terminal that is erased at the end."""
    from rich.progress import Progress  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415

    return Progress(*columns, console=Terminal(stderr=True), transient=True)


def restored_cursor() -> None:
    """Erases the live line and shows the cursor again, for a command that ends without leaving its contexts."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[2K\x1b[?25h")
        sys.stderr.flush()


@contextmanager
def _lines(
    text: Callable[[int], str], total: int | None = None, is_silent_if_quick: bool = False
) -> Iterator[Callable[..., None]]:
    """The lines off a terminal: with `advance`, or by themselves from a thread where the work keeps silent."""
    start = last = time.monotonic()
    done, note, is_begun = 0, "", False
    lock, is_ended = Lock(), Event()

    def say(now: float, aside: str = "") -> None:
        nonlocal last, is_begun
        last, is_begun = now, True
        print(f"{text(done)}{f', {note}' if note else ''}{aside}", file=sys.stderr, flush=True)

    def advance(count: int, remark: str = "") -> None:
        nonlocal done, note
        with lock:
            done, note, now = count, remark, time.monotonic()
            is_quick = is_silent_if_quick and now - start < _SECONDS_BEFORE_FIRST_LINE
            if now - last > _SECONDS_BETWEEN_LINES or (done == total and not is_quick):
                say(now)

    def look() -> None:
        while not is_ended.wait(_SECONDS_BETWEEN_LOOKS):
            with lock, suppress(OSError, ValueError):  # standard error is gone: the work need not know
                now = time.monotonic()
                if now - last > (_SECONDS_BETWEEN_LINES if is_begun else _SECONDS_BEFORE_FIRST_LINE):
                    say(now, f", {now - start:.0f} s")

    thread = Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        is_ended.set()
        thread.join()


@contextmanager
def live(what: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """Shows a table that changes on standard error; yields `show(table, done, note="")`.

    Off a terminal there is no table, but the lines of `progress`.

    Args:
        what: The work, as in "runs".
        total: How many there are.
        unit: Of what, in the plural.
    """
    if not sys.stderr.isatty():
        with progress(what, total, unit) as advance:
            yield lambda _, done, note="": advance(done, note)
        return
    from rich.live import Live  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415

    # What is printed meanwhile stands above the table, if it goes to a terminal too.
    is_shared = sys.stdout.isatty()
    with Live(console=Terminal(stderr=True), auto_refresh=False, transient=True, redirect_stdout=is_shared) as table:
        yield lambda content, done, note="": table.update(content, refresh=True)
