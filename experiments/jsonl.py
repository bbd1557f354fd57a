"""JSON files, of one object or of one a line: read with a name or number in every complaint, continued at their end."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

__all__ = ["BrokenLineError", "append", "appending", "continued", "read_object", "records"]


_T = TypeVar("_T")


class BrokenLineError(ValueError):
    """A line that is not what it should be; the message names the file, the number of the line and what is wrong."""


def read_object(path: Path) -> dict[str, object]:
    """The object that a file of JSON holds, over however many lines.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds something else; the message names the file.
    """
    try:
        made = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} must hold JSON: {error or 'it is nested too deeply'}.") from None
    if not isinstance(made, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(made).__name__}.")
    return made


def records(
    path: Path,
    convert: Callable[[dict[str, object], int], _T],
    skipped: list[str] | None = None,
    *,
    torn: list[str] | None = None,
) -> Iterator[_T]:
    """What is made of the objects of a file, one at a time; empty lines are passed over.

    Args:
        path: The file.
        convert: Makes something of an object and the number of its line, from 1; a ValueError says what is wrong.
        skipped: Where given, a broken line is described there and passed over.
        torn: Where given, a last line that does not end as lines do is described there and left out: its writer was
            killed, or is still writing.

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
                record = json.loads(line.decode("utf-8-sig"))  # some editors put a mark in front of the first line
                if not isinstance(record, dict):
                    raise ValueError(f"must be a JSON object; got {type(record).__name__}")
                made = convert(record, number)
            except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 are ValueErrors
                what = "is nested too deeply" if isinstance(error, RecursionError) else str(error).removesuffix(".")
                if isinstance(error, json.JSONDecodeError):  # it counts lines of its own, from 1
                    what = f"is no JSON: {error.msg} at character {error.pos + 1}"
                message = f"{path}, line {number}: {what}."
                if skipped is None:
                    raise BrokenLineError(message) from None
                skipped.append(message)
                continue
            yield made


def continued(path: Path, convert: Callable[[dict[str, object], int], _T]) -> list[_T]:
    """What an interrupted run left in its file; a last line that it did not finish is cut off.

    Args:
        path: The file; one that does not exist has nothing.
        convert: Makes something of a record and the number of its line; a ValueError says why it is none of this run's.

    Raises:
        OSError: If it cannot be read or cut.
        ValueError: If it is no plain file, or a line is not of this run; nothing of it is touched then.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise ValueError(f"{path} must be a file to be continued.")
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    made = []
    for number, line in enumerate(data[:end].splitlines(), start=1):
        try:
            record = json.loads(line.decode())
            if not isinstance(record, dict):
                raise ValueError("is no record")
            made.append(convert(record, number))
        except (ValueError, RecursionError) as error:
            what = str(error).removesuffix(".")
            raise ValueError(f"{path}, line {number}: is not of this run, and is left as it is: {what}.") from None
    if data[end:] and not data[end:].startswith(b"{"):
        raise ValueError(f"{path}, line {len(made) + 1}: is not of this run, and is left as it is.")
    if end < len(data):
        os.truncate(path, end)
    return made


@contextmanager
def appending(path: Path) -> Iterator[IO[str]]:
    """A file to append records to, by one process at a time.

    Raises:
        OSError: If it cannot be opened, or another process is writing to it.
    """
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{path} is being written by another run") from None
        yield file


def append(file: IO[str], record: Mapping[str, object]) -> None:
    """Writes one record as a line and hands it to the operating system: it outlives this process.

    NaN and infinity are written as such, as Python's json reads them.
    """
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    file.flush()
