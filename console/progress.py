"""How far a command has come: a live line on a terminal, elsewhere a line now and then; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from threading import Event, Lock, Thread

__all__ = ["progress", "restored_cursor", "waiting"]

_SECONDS_BEFORE_FIRST_LINE = 2.0
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_LOOKS = 0.25


@contextmanager
def progress(what: str, total: int, unit: str, *, is_silent_if_quick: bool = False) -> Iterator[Callable[..., None]]:
    """Shows progress on standard error; yields `advance(done, note="")`, to be called with how many are done in all.

    Off a terminal a line comes with `advance` at most every ten seconds, and at the end; in between one comes by
    itself, after the first two seconds and then every ten, with the time: also while a single piece of the work lasts.

    Args:
        what: The work, as in "scoring".
        total: How many there are.
        unit: Of what, in the plural.
        is_silent_if_quick: Whether a work of less than two seconds says nothing off a terminal.
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
    lines = _Lines(lambda done, aside: f"{what}: {done:,} of {total:,} {unit}{aside}")
    with (
        Progress(*columns, console=Terminal(stderr=True), transient=True, disable=not is_terminal) as bar,
        nullcontext() if is_terminal else lines.by_themselves(),
    ):
        # Numbers, two times and four gaps; the text is cut to the rest, or rich would cut the numbers as well.
        room = bar.console.width - len(f"{total}/{total}") - 2 * len("0:00:00") - 4
        task = bar.add_task(_cut(what, room), total=total)

        def advance(done: int, note: str = "") -> None:
            bar.update(task, completed=done, description=_cut(note or what, room))
            if not is_terminal:
                lines.advance(done, note, is_last=done == total, is_silent=is_silent_if_quick)

        yield advance


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows on standard error that a piece of work lasts in which nothing can be counted, and for how long.

    Args:
        what: The work, as in "loading".
    """
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415

    if not sys.stderr.isatty():
        with _Lines(lambda _, aside: f"{what}{aside}").by_themselves():
            yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
        bar.add_task(what, total=None)
        yield


def restored_cursor() -> None:
    """Erases the live line and shows the cursor again, for a command that ends without leaving its contexts."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[2K\x1b[?25h")
        sys.stderr.flush()


class _Lines:
    """The lines off a terminal: asked for by the work, or by themselves where it keeps silent."""

    def __init__(self, text: Callable[[int, str], str]) -> None:
        self._text = text
        self._start = self._last = time.monotonic()
        self._done, self._note = 0, ""
        self._is_begun = False
        self._lock = Lock()

    def advance(self, done: int, note: str, *, is_last: bool, is_silent: bool) -> None:
        """Takes down how far the work is, and says so where it is time."""
        with self._lock:
            self._done, self._note = done, note
            now = time.monotonic()
            is_quick = is_silent and now - self._start < _SECONDS_BEFORE_FIRST_LINE
            if now - self._last > _SECONDS_BETWEEN_LINES or (is_last and not is_quick):
                self._say(now, f", {note}" if note else "")

    def _say(self, now: float, aside: str) -> None:
        self._last, self._is_begun = now, True
        print(self._text(self._done, aside), file=sys.stderr, flush=True)

    @contextmanager
    def by_themselves(self) -> Iterator[None]:
        """Lines of their own from a thread, which runs while the work computes or waits."""
        ended = Event()

        def look() -> None:
            while not ended.wait(_SECONDS_BETWEEN_LOOKS):
                with self._lock:
                    now = time.monotonic()
                    pause = _SECONDS_BETWEEN_LINES if self._is_begun else _SECONDS_BEFORE_FIRST_LINE
                    if now - self._last > pause:
                        with suppress(OSError, ValueError):  # standard error is gone: the work need not know
                            self._say(now, f"{f', {self._note}' if self._note else ''}, {now - self._start:.0f} s")

        thread = Thread(target=look, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
