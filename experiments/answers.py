"""The final answer in a solution, read as an exact fraction, and how often it is right. Knows no model, no data set."""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Literal

__all__ = ["Answer", "Rule", "extract", "number", "wilson_interval"]

Rule = Literal["hashes", "boxed", "last-number", "none"]
"""What an answer was found by: a line `#### N`, a LaTeX box, the last number of the text, or not at all."""

# ASCII digits only: float("٣") is 3 in Python, and no GSM8K answer is written so. A minus that follows a digit, a
# letter or a closing bracket is an operator.
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(rf"(?:(?<![0-9A-Za-z)\]])[-−])?\$?(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)(?:/{_DIGITS})?")
_MOST_CHARACTERS = 100  # a number with more is noise, and Python refuses to read one of thousands
# A model that has lost its way writes thousands of blanks or of opened boxes: each pattern takes linear time in them.
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_LATEX_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,!])(?=[0-9]{3})")
_BOX = re.compile(r"\\boxed\s*\{")
# Digits with what joins them: "1,2" on a line of hashes is no number, not the number 1.
_JOINED = re.compile(r"[0-9]+(?:[.,/][0-9]+)*")
_NEXT_QUESTION = re.compile(r"^[^\S\n]*(?:#+[^\S\n]*|\*\*)?Question\b[^:\n]{0,12}:", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """What was read.

    Attributes:
        value: The answer; None where there is no number.
        rule: What it was found by.
    """

    value: Fraction | None
    rule: Rule


def number(text: str) -> Fraction | None:
    """The number that a text is, exactly; None if it is none. "5.00", "$1,234", "-3", "1/2" and ".5" are numbers."""
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    return _value(match.group()) if match else None


def _value(text: str) -> Fraction | None:
    numerator, _, denominator = text.replace(",", "").replace("$", "").replace("−", "-").partition("/")
    if len(text) > _MOST_CHARACTERS or (denominator and not int(denominator)):
        return None
    return Fraction(numerator) / int(denominator or 1)


def _numbers(text: str) -> list[Fraction]:
    return [value for match in _NUMBER.finditer(text) if (value := _value(match.group())) is not None]


def extract(text: str) -> Answer:
    r"""The final answer of a generated solution.

    The first `####` that a number follows on its line; else the last number in the first `\boxed{}` that holds one;
    else the last number. `\frac{1}{2}` is 1/2, and `1{,}234` is 1234, in all of them. Digits that commas do not group
    by thousands, as in `#### 1,2`, are no number behind `####`, as they are none to `number`. Nothing is read from the
    line on which a new "Question:" begins, nor after it.

    Source:
        Cobbe et al. 2021 (arXiv 2110.14168) for the format; the order after it is this project's.
    """
    text = _plain(_NEXT_QUESTION.split(text, maxsplit=1)[0])
    before, *stated = text.split("####")
    stated = [_without_misgrouped(part) for part in stated]
    for part in stated:
        if found := _numbers(part.partition("\n")[0]):
            return Answer(found[0], "hashes")
    text = "####".join([before, *stated])
    after = 0
    while box := _BOX.search(text, after):
        inside = _braced(text[box.end() :])
        if found := _numbers(inside):
            return Answer(found[-1], "boxed")
        after = box.end() + len(inside)  # a box inside a box without a number holds none
    if found := _numbers(text):
        return Answer(found[-1], "last-number")
    return Answer(None, "none")


def _without_misgrouped(text: str) -> str:
    """The text, without the digits of its first line that commas do not group by thousands."""
    line, newline, rest = text.partition("\n")
    line = _JOINED.sub(lambda run: " " if "," in run.group() and number(run.group()) is None else run.group(), line)
    return line + newline + rest


def _braced(text: str) -> str:
    """The text up to the brace that closes one opened before it; all of it if none does."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if not depth:
            return text[:place]
    return text


def _plain(text: str) -> str:
    text = _LATEX_FRACTION.sub(lambda match: f"{match[1].strip()}/{match[2].strip()}", text)
    return _LATEX_THOUSANDS.sub("", text)


def wilson_interval(num_right: int, num_all: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """The Wilson score interval for a proportion; unlike the normal one it stays inside [0, 1] and is right near 0.

    Args:
        num_right: Successes.
        num_all: Trials.
        z: The standard normal quantile; by default for 95 %.

    Raises:
        ValueError: If there are no trials, or not 0 <= num_right <= num_all.

    Source:
        Wilson 1927, J. Am. Stat. Assoc. 22; Brown, Cai & DasGupta 2001, Statist. Sci. 16, eq. (4).
    """
    if num_all < 1 or not 0 <= num_right <= num_all:
        raise ValueError(f"num_right must lie in 0 ... num_all, and num_all be positive; got {num_right} of {num_all}.")
    share = num_right / num_all
    centre = share + z * z / (2 * num_all)
    half = z * sqrt(share * (1 - share) / num_all + (z / (2 * num_all)) ** 2)
    scale = 1 + z * z / num_all
    low, high = (centre - half) / scale, (centre + half) / scale
    # At 0 and at 1 the bounds are exact in the formula; rounding must not push them past.
    return (0.0 if num_right == 0 else low, 1.0 if num_right == num_all else high)
