"""Files of JSON, of one object or of one object a line, and locks on files and folders. Errors name file and line.

One reader, one rule for a torn last line (one that does not end as lines do: its writer was killed, or still writes),
one lock, which ends with the process, however it ends.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from console.output import write

__all__ = [
    "BrokenLineError",
    "BusyError",
    "append",
    "exclusive",
    "opened_to_append",
    "read_lines",
    "read_object",
    "resumed_lines",
    "write_lines",
    "write_object",
]

_T = TypeVar("_T")


class BrokenLineError(ValueError):
    """A line that cannot be read; the message names the file, the number of the line and the fault."""


class BusyError(OSError):
    """Another process holds the lock."""


def read_object(path: Path) -> dict[str, object]:
    """The object that a file of JSON holds, over however many lines.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds something else; the message names the file.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must hold JSON: {error or 'it is nested too deeply'}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(content).__name__}.")
    return content


def write_object(path: Path, content: Mapping[str, object], indent: int = 2) -> None:
    """Writes an object, whole or not at all.

    Raises:
        OSError: If it cannot be written; the old file then stays.
    """
    write(path, json.dumps(content, indent=indent) + "\n")


# Lines ----------------------------------------------------------------------------------------------------------------


def write_lines(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Writes one object a line, the file whole or not at all; `-` is standard output.

    Raises:
        OSError: If it cannot be written; the old file then stays.
    """
    write(path, "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records))


def read_lines(
    path: Path,
    convert: Callable[[dict[str, object], int], _T],
    skipped: list[str] | None = None,
    *,
    torn: list[str] | None = None,
) -> Iterator[_T]:
    """The objects of a file, converted, one at a time. Empty lines are passed over.

    Args:
        path: The file.
        convert: A function of an object and the number of its line, from 1. Its ValueError says what is wrong.
        skipped: If given, a broken line is described there and passed over.
        torn: If given, a torn last line is described there and left out; else it is read like every line.

    Raises:
        OSError: If the file cannot be read.
        BrokenLineError: At a line that is no JSON object, or that cannot be converted, unless `skipped` is given.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if torn is not None and not line.endswith(b"\n"):
                torn.append(f"{path}, line {number}: the last line is torn, and left out.")
                return
            try:
                value = convert(_object(line), number)
            except (ValueError, RecursionError) as error:
                message = f"{path}, line {number}: {_fault(error)}."
                if skipped is None:
                    raise BrokenLineError(message) from None
                skipped.append(message)
                continue
            yield value


def resumed_lines(path: Path, convert: Callable[[dict[str, object], int], _T]) -> list[_T]:
    """The objects in the file of an interrupted command, converted. A torn last line is cut off.

    Args:
        path: The file; one that does not exist holds nothing.
        convert: As in `read_lines`; its ValueError says why a line is none of this command's.

    Raises:
        OSError: If the file cannot be read or cut.
        ValueError: If it is no plain file, or a line is not of this command; then nothing of it is touched.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise ValueError(f"{path} must be a file to be continued.")
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    values = []
    for number, line in enumerate(data[:end].splitlines(), start=1):
        try:
            values.append(convert(_object(line), number))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: is not of this run, and is left as it is: {_fault(error)}."
            ) from None
    if data[end:] and not data[end:].startswith(b"{"):
        raise ValueError(f"{path}, line {len(values) + 1}: is not of this run, and is left as it is.")
    if end < len(data):
        os.truncate(path, end)
    return values


def _object(line: bytes) -> dict[str, object]:
    content = json.loads(line.decode("utf-8-sig"))  # some editors put a mark in front of the first line
    if not isinstance(content, dict):
        raise ValueError(f"must be a JSON object; got {type(content).__name__}")
    return content


def _fault(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):  # its own text counts lines from 1 within the line
        return f"is no JSON: {error.msg} at character {error.pos + 1}"
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error).removesuffix(".")


def append(file: IO[str], content: Mapping[str, object]) -> None:
    """Writes one object as a line and hands it to the operating system: it outlives this process.

    NaN and infinity are written as such, as Python's json reads them.
    """
    file.write(json.dumps(content, ensure_ascii=False) + "\n")
    file.flush()


# Locks ----------------------------------------------------------------------------------------------------------------


@contextmanager
def opened_to_append(path: Path) -> Iterator[IO[str]]:
    """A file to append lines to, by one process at a time.

    Raises:
        OSError: If it cannot be opened.
        BusyError: If another process has it open.
    """
    with path.open("a", encoding="utf-8") as file:
        _lock(file.fileno(), f"{path} is being written by another run")
        yield file


@contextmanager
def exclusive(folder: Path, what: str, *, is_patient: bool = False) -> Iterator[None]:
    """An exclusive lock on a folder, which must exist.

    Args:
        folder: The folder.
        what: The work that is done in it, for the error of the other process: "is being fetched".
        is_patient: Whether to wait for another process, whose work is short.

    Raises:
        BusyError: If another process holds the lock, and this one does not wait.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        if is_patient:
            fcntl.flock(handle, fcntl.LOCK_EX)
        else:
            _lock(handle, f"{folder} {what} by another run.")
        yield
    finally:
        os.close(handle)


def _lock(handle: int, message: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError(message) from None
