"""The grammar of words: which losses are stepped, in which order, how far, and which gradients are read at one place.

A word is a row of updates. An update is one step, or several within brackets: one accumulated update, whose gradients
are read at one place and added. A step is the name of a loss, and its scale behind a colon where that is not 1. A name
is one character ("-+-+"). Where a comma stands anywhere in the word, commas stand between all steps, and names may be
longer ("kl,reward,kl"); a longer name has a letter or a digit. `docs/words.md` has examples. Every command that takes a
word reads it here; the meaning of a name is the command's.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import NamedTuple

__all__ = ["Step", "Word", "parse", "require_name"]

_LONGEST_SCALE = 100  # characters: a longer number is a slip
# Without an exponent, which could ask for a number that fills the memory.
_SCALE = re.compile(r"\d+/0*[1-9]\d*|\d+(\.\d*)?|\.\d+", re.ASCII)
_LETTER = re.compile(r"(.)\s*(?::\s*([\d./]*))?\s*", re.ASCII | re.DOTALL)


class Step(NamedTuple):
    """One step of a word.

    Attributes:
        name: The name of a loss.
        scale: The size of the step in units of the step size; positive.
    """

    name: str
    scale: Fraction = Fraction(1)

    def __str__(self) -> str:
        return self.name if self.scale == 1 else f"{self.name}:{self.scale}"


@dataclass(frozen=True)
class Word:
    """A word of steps.

    Attributes:
        updates: The updates in their order, each of at least one step. The gradients of an update are read at one
            place.
    """

    updates: tuple[tuple[Step, ...], ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in their order."""
        return tuple(step for update in self.updates for step in update)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of steps of each update."""
        return tuple(map(len, self.updates))

    def __str__(self) -> str:
        """The word as `parse` reads it back, without commas where one character stands for every name."""
        has_scales = any(step.scale != 1 for step in self.steps)
        is_clear = all(len(step.name) == 1 and not (has_scales and step.name in "0123456789./") for step in self.steps)
        comma = "" if is_clear else ","
        updates = [comma.join(map(str, update)) for update in self.updates]
        text = comma.join(f"({part})" if size > 1 else part for part, size in zip(updates, self.sizes, strict=True))
        return text if comma in text else f"{text},"  # one step with a long name


def parse(text: str) -> Word:
    """A word out of its text.

    Raises:
        ValueError: If the word is empty; brackets are not in pairs, are empty or lie within others; a name is missing
            or holds a blank, a square bracket or what cannot be printed; a scale is not a positive number.
    """
    if not re.fullmatch(r"([^()]|\([^()]*\))*", text):
        raise ValueError(f"schedule must have brackets in pairs, none within others; got {text[:60]!r}.")
    split = _between_commas if "," in text else _letters
    updates: list[tuple[Step, ...]] = []
    numbers = count(1)
    for match in re.finditer(r"\(([^()]*)\)|([^()]+)", text):
        accumulated, outside = match.groups()
        if accumulated is None:
            # Beside brackets and behind the last step a comma may stand.
            start = 1 if match.start() and outside.lstrip().startswith(",") else 0
            updates += [(_step(*pair, next(numbers)),) for pair in split(outside.lstrip()[start:])]
        elif pairs := split(accumulated):
            updates.append(tuple(_step(*pair, next(numbers)) for pair in pairs))
        else:
            raise ValueError(f"schedule must have a step within every pair of brackets; got {text[:60]!r}.")
    if not updates:
        raise ValueError(f"schedule must hold at least one step; got {text[:60]!r}.")
    return Word(tuple(updates))


def require_name(name: str, number: int) -> None:
    """Refuses what cannot be the name of a loss; `number` is that of its step, from 1.

    Raises:
        ValueError: If it is empty, holds a blank, a colon, a comma or a bracket, or cannot be printed.
    """
    if not name or not name.isprintable() or any(letter.isspace() or letter in ":,[]()" for letter in name):
        raise ValueError(
            f"schedule must name a loss without blanks, colons, commas and brackets; got {name[:40]!r} at step "
            f"{number}. Write one character per step (-+-+) or names between commas (kl,reward,kl)."
        )


def _letters(part: str) -> list[tuple[str, str | None]]:
    return [(match[1], match[2]) for match in _LETTER.finditer(part.strip())]


def _between_commas(part: str) -> list[tuple[str, str | None]]:
    pieces = [piece.partition(":") for piece in part.rstrip().removesuffix(",").split(",")] if part.strip() else []
    return [(name.strip(), scale.strip() if colon else None) for name, colon, scale in pieces]


def _step(name: str, scale: str | None, number: int) -> Step:
    require_name(name, number)
    if len(name) > 1 and not any(map(str.isalnum, name)):
        # Behind a comma "-+" would be one loss of that name, which nobody means.
        raise ValueError(
            f"schedule must have commas between all steps where there is one; got {name[:40]!r} at step {number}."
        )
    if scale is None:
        return Step(name)
    is_number = len(scale) <= _LONGEST_SCALE and _SCALE.fullmatch(scale)
    if not is_number or Fraction(scale) <= 0:
        raise ValueError(
            f"schedule must have positive scales behind colons, such as 2, 0.5 or 1/3; got {scale[:40]!r} at step "
            f"{number}."
        )
    return Step(name, Fraction(scale))
