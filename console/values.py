"""What the values of options may be; each is refused, as a ValueError, with the rule that it breaks."""

import os
from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path

from console.words import must_be_one_of

__all__ = ["input_file", "input_folder", "number", "one_of", "output_folder", "output_path", "whole"]


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Whole numbers of at least `least`, and at most `most` where it is given."""
    rule = f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")

    def parse(value: str) -> int:
        # Python refuses to read numbers of thousands of digits, and no count has sixteen.
        is_count = value.isascii() and value.isdecimal() and len(value) < 16
        if not is_count or int(value) < least or (most is not None and int(value) > most):
            raise ValueError(f"must be {rule}; got {value[:60]}.")
        return int(value)

    return parse


def number(*, is_zero_allowed: bool = False) -> Callable[[str], float]:
    """Finite positive numbers, zero among them if allowed."""
    rule = "a number of at least 0" if is_zero_allowed else "a positive number"

    def parse(value: str) -> float:
        try:
            amount = float(value)
        except ValueError:
            amount = -1.0
        if not isfinite(amount) or amount < 0 or (amount == 0 and not is_zero_allowed):
            raise ValueError(f"must be {rule}; got {value[:60]}.")
        return amount

    return parse


def one_of(known: Iterable[str]) -> Callable[[str], str]:
    """One of these words."""
    words = tuple(known)

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(must_be_one_of(words, value))
        return value

    return parse


def input_folder(value: str) -> Path:
    """A folder that is there."""
    path = Path(value)
    if not value or not path.is_dir():
        kind = "the file" if path.is_file() else "no folder"
        raise ValueError(f"must be a folder that exists; got {f'{kind} {value}' if value else 'nothing'}.")
    return path


def input_file(value: str) -> Path:
    """A file that can be read."""
    path = Path(value)
    if not value or path.is_dir() or not os.access(path, os.R_OK):
        kind = "the folder" if path.is_dir() else "no readable file"
        raise ValueError(f"must be a file that can be read; got {f'{kind} {value}' if value else 'nothing'}.")
    return path


def output_folder(value: str) -> Path:
    """A folder that can be written to, or made with all folders above it."""
    path = Path(value)
    if value in ("", "-"):
        raise ValueError(f"must name a folder; got {value or 'nothing'}.")
    if path.is_dir():
        if not os.access(path, os.W_OK | os.X_OK):
            raise ValueError(f"must be a folder that can be written to; got {value}.")
    elif path.exists():
        raise ValueError(f"must be a folder; got the file {value}.")
    else:
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise ValueError(f"must be a folder that can be made; got {value}: {above} cannot hold it.")
    return path


def output_path(value: str) -> Path:
    """A path that a result is to be written to, checked now rather than after the work; `-` is standard output."""
    path = Path(value)
    if value == "-":
        return path
    if not value:
        raise ValueError("must name a file; got nothing.")
    try:
        if path.is_dir():
            raise ValueError(f"must be a file; got the folder {value}.")
        target = path.resolve()
        if not target.parent.is_dir():
            raise ValueError(f"must lie in a folder that exists; got {value}. Create {target.parent.name} first.")
        is_writable = os.access(target if target.exists() else target.parent, os.W_OK)
        if not is_writable or (target.is_file() and not os.access(target.parent, os.W_OK)):
            raise ValueError(f"must be writable; got {value}.")
    except (OSError, RuntimeError) as error:  # a name that is too long, a link that leads to itself
        raise ValueError(f"must be a path that can be written to; got {value[:60]}: {error}") from None
    return path
