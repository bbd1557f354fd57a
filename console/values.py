"""What the values of options may be; each is refused with the rule that it breaks."""

import argparse
import os
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path

from console.command import nearest

__all__ = ["input_file", "input_folder", "number", "one_of", "output_folder", "whole"]


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Whole numbers of at least `least`, and at most `most` where it is given."""

    def parse(value: str) -> int:
        # Python refuses to read numbers of thousands of digits, and no count has sixteen.
        is_count = value.isascii() and value.isdecimal() and len(value) < 16
        if not is_count or int(value) < least or (most is not None and int(value) > most):
            upper = "" if most is None else f" and at most {most}"
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}{upper}; got {value[:60]}.")
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
            raise argparse.ArgumentTypeError(f"must be {rule}; got {value[:60]}.")
        return made

    return parse


def one_of(known: Sequence[str]) -> Callable[[str], str]:
    """One of these words."""

    def parse(value: str) -> str:
        if value not in known:
            raise argparse.ArgumentTypeError(
                f"must be one of {', '.join(known)}; got {value[:60]}.{nearest(value, known)}"
            )
        return value

    return parse


def input_folder(value: str) -> Path:
    """A folder that is there."""
    path = Path(value)
    if not value or not path.is_dir():
        what = "the file" if path.is_file() else "no folder" if value else "nothing"
        raise argparse.ArgumentTypeError(f"must be a folder that exists; got {what} {value}".rstrip() + ".")
    return path


def input_file(value: str) -> Path:
    """A file that can be read."""
    path = Path(value)
    if not value or not path.exists() or path.is_dir() or not os.access(path, os.R_OK):
        what = "the folder" if value and path.is_dir() else "no readable file" if value else "nothing"
        raise argparse.ArgumentTypeError(f"must be a file that can be read; got {what} {value}".rstrip() + ".")
    return path


def output_folder(value: str) -> Path:
    """A folder that can be written to, or made with all folders above it."""
    path = Path(value)
    if value and path.is_dir():
        if not os.access(path, os.W_OK | os.X_OK):
            raise argparse.ArgumentTypeError(f"must be a folder that can be written to; got {value}.")
        return path
    if path.exists() and value:
        raise argparse.ArgumentTypeError(f"must be a folder; got the file {value}.")
    if not value or value == "-":
        raise argparse.ArgumentTypeError(f"must name a folder; got {value or 'nothing'}.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"must be a folder that can be made; got {value}: {above} cannot hold it.")
    return path
