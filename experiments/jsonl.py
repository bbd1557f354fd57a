"""Files of one JSON object a line: read with the line's number in every complaint, and continued where they end."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

__all__ = ["BrokenLineError", "append", "num_whole_lines", "records", "sync"]


class BrokenLineError(ValueError):
    """A line that is not what it should be; the message names the file, the number of the line and what is wrong."""


def records(path: Path, skipped: list[str] | None = None) -> Iterator[tuple[int, dict[str, object]]]:
    """The objects of a file with the numbers of their lines, from 1, one at a time; empty lines are passed over.

    Args:
        path: The file.
        skipped: Where given, a broken line is described there and passed over.

    Raises:
        OSError: If the file cannot be read.
        BrokenLineError: At a line that is no JSON object, unless `skipped` is given.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                made = json.loads(line.decode())
                if not isinstance(made, dict):
                    raise ValueError(f"must be a JSON object; got {type(made).__name__}")
            except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 are ValueErrors
                message = f"{path}, line {number}: {error or 'is nested too deeply'}."
                if skipped is None:
                    raise BrokenLineError(message) from None
                skipped.append(message)
                continue
            yield number, made


def num_whole_lines(path: Path) -> int:
    """How many lines a file has that end as lines do; what a killed writer left after the last of them is cut off.

    Raises:
        OSError: If it cannot be read or cut; a file that does not exist has none.
    """
    if not path.exists():
        return 0
    count = end = place = 0
    with path.open("r+b") as file:
        for line in file:
            place += len(line)
            if line.endswith(b"\n"):
                count, end = count + 1, place
        if place > end:
            file.truncate(end)
    return count


def append(file: IO[str], record: Mapping[str, object]) -> None:
    """Writes one record as a line and hands it to the operating system: it outlives this process.

    NaN and infinity are written as such, as Python's json reads them.
    """
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    file.flush()


def sync(file: IO[str]) -> None:
    """Puts what was appended onto the disk: it outlives this machine's power."""
    os.fsync(file.fileno())
