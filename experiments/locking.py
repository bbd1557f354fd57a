"""One process at a time in a folder; the lock ends with the process, however it ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["BusyError", "alone"]


class BusyError(OSError):
    """Another process is at work in the folder."""


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Keeps every other process that asks out of a folder.

    Args:
        folder: It must exist.
        what: What is being done to it, for the complaint of the other: "is being fetched".

    Raises:
        BusyError: If another process is there already.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{folder} {what} by another run.") from None
        yield
    finally:
        os.close(handle)
