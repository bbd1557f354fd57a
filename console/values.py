"""What the values of options may be; each is refused with the rule that it breaks."""

import os
from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path

from console.words import must_be_one_of

__all__ = ["RuleError", "input_file", "input_folder", "number", "one_of", "output_folder", "output_path", "whole"]


class RuleError(ValueError):
    """A text that breaks the rule of a value."""


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Whole numbers of at least `least`, and at most `most` where it is given."""

    def parse(value: str) -> int:
        # Python refuses to read numbers of thousands of digits, and no count has sixteen.
        is_count = value.isascii() and value.isdecimal() and len(value) < 16
        if not is_count or int(value) < least or (most is not None and int(value) > most):
            upper = "" if most is None else f" and at most {most}"
            raise RuleError(f"must be a whole number of at least {least}{upper}; got {value[:60]}.")
        return int(value)

    return parse


def number(*, is_zero_allowed: bool = False) -> Callable[[str], float]:
    """Finite positive numbers, zero among them if allowed."""

    def parse(value: str) -> float:
        try:
            made = float(value)
        except ValueError:
            made = -1.0
        if not isfinite(made) or made < 0 or (made == 0 and not is_zero_allowed):
            rule = "a number of at least 0" if is_zero_allowed else "a positive number"
            raise RuleError(f"must be {rule}; got {value[:60]}.")
        return made

    return parse


def one_of(known: Iterable[str]) -> Callable[[str], str]:
    """One of these words."""
    known = tuple(known)

    def parse(value: str) -> str:
        if value not in known:
            raise RuleError(must_be_one_of(known, value))
        return value

    return parse


def input_folder(value: str) -> Path:
    """A folder that is there."""
    path = Path(value)
    if not value or not path.is_dir():
        what = "the file" if path.is_file() else "no folder" if value else "nothing"
        raise RuleError(f"must be a folder that exists; got {what} {value}".rstrip() + ".")
    return path


def input_file(value: str) -> Path:
    """A file that can be read."""
    path = Path(value)
    if not value or not path.exists() or path.is_dir() or not os.access(path, os.R_OK):
        what = "the folder" if value and path.is_dir() else "no readable file" if value else "nothing"
        raise RuleError(f"must be a file that can be read; got {what} {value}".rstrip() + ".")
    return path


def output_folder(value: str) -> Path:
    """A folder that can be written to, or made with all folders above it."""
    path = Path(value)
    if value and path.is_dir():
        if not os.access(path, os.W_OK | os.X_OK):
            raise RuleError(f"must be a folder that can be written to; got {value}.")
        return path
    if path.exists() and value:
        raise RuleError(f"must be a folder; got the file {value}.")
    if not value or value == "-":
        raise RuleError(f"must name a folder; got {value or 'nothing'}.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise RuleError(f"must be a folder that can be made; got {value}: {above} cannot hold it.")
    return path


def output_path(value: str) -> Path:
    """A path that a result is to be written to, checked now rather than after the work; `-` is standard output.

    Raises:
        RuleError: If the folder does not exist, cannot be written to, or the path is a folder.
    """
    path = Path(value)
    if value == "-":
        return path
    try:
        if not value:
            raise RuleError("must name a file; got nothing.")
        if path.is_dir():
            raise RuleError(f"must be a file; got the folder {value}.")
        target = path.resolve()
        if not target.parent.is_dir():
            raise RuleError(f"must lie in a folder that exists; got {value}. Create {target.parent.name} first.")
        is_writable = os.access(target, os.W_OK) if target.exists() else os.access(target.parent, os.W_OK)
        if not is_writable or (target.is_file() and not os.access(target.parent, os.W_OK)):
            raise RuleError(f"must be writable; got {value}.")
    except (OSError, RuntimeError) as error:  # a name that is too long, a link that leads to itself
        raise RuleError(f"must be a path that can be written to; got {value[:60]}: {error}") from None
    return path
