"""JSON files, of one object or of one a line: read with a name or number in every complaint, continued at their end."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TypeVar

__all__ = ["BrokenLineError", "append", "num_whole_lines", "read_object", "records"]


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
    path: Path, convert: Callable[[dict[str, object], int], _T], skipped: list[str] | None = None
) -> Iterator[_T]:
    """What is made of the objects of a file, one at a time; empty lines are passed over.

    Args:
        path: The file.
        convert: Makes something of an object and the number of its line, from 1; a ValueError says what is wrong.
        skipped: Where given, a broken line is described there and passed over.

    Raises:
        OSError: If the file cannot be read.
        BrokenLineError: At a line that is no JSON object, or that cannot be converted, unless `skipped` is given.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8-sig"))  # some editors put a mark in front of the first line
                if not isinstance(record, dict):
                    raise ValueError(f"must be a JSON object; got {type(record).__name__}")
                made = convert(record, number)
            except (ValueError, RecursionError) as error:  # bad JSON and bad UTF-8 are ValueErrors
                what = "is nested too deeply" if isinstance(error, RecursionError) else str(error).removesuffix(".")
                message = f"{path}, line {number}: {what}."
                if skipped is None:
                    raise BrokenLineError(message) from None
                skipped.append(message)
                continue
            yield made


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
