"""The quantities behind words: what a question gives, and what units, shares and factors imply without a digit.

This belongs to the auditor's own reading of a solution. It must not know the solutions, nor what was altered in one.
"""

import re
from collections.abc import Iterable
from fractions import Fraction

from tests.oracles.auditor import equations

__all__ = ["ARTICLES", "CONVERSIONS", "FACTORS", "LABELS", "ONES", "given", "implied"]


def _table(text: str) -> dict[str, tuple[int, ...]]:
    """Words and what they stand for, from lines `word word: number number`."""
    rows = (line.partition(":") for line in text.strip().splitlines())
    return {word: tuple(map(int, numbers.split())) for words, _, numbers in rows for word in words.split()}


_ORDERS = {"hundred": 100, "thousand": 1000, "million": 10**6}
# What a word says about a factor or a divisor.
FACTORS = _table("""
    twice double doubles doubled doubling half halves: 2
    triple triples tripled thrice third thirds: 3
    quadruple quadruples quadrupled quarter quarters fourth fourths: 4
    fifth fifths: 5
    dozen dozens: 12
""")
# Constants that a word brings along without a digit.
_CONSTANTS = _table("""
    hour hours hourly minute minutes second seconds: 60 3600 30
    day days daily: 24 7 30 31 365
    week weeks weekly weekday weekdays weekend weekends: 7 4 52 5 2
    month months monthly: 12 30 31 4 28
    year years yearly annual annually: 12 52 365 4
    foot feet inch inches yard yards: 12 3 36
    pound pounds ounce ounces cup cups: 16 8 2
    gallon gallons quart quarts pint pints: 4 128 16 8 2
    cent cents dollar dollars percent percentage: 100
    quarter quarters: 25 4
    dime dimes decade decades: 10
    nickel nickels: 5
    meter meters kilometer kilometers gram grams kilogram kg km: 100 1000
    average both couple pair pairs twins other each: 2
    square rectangle rectangular perimeter: 4 2
    triangle triangular: 3 2 180
    score scores: 20
""")
# How many of the first unit make one of the second.
CONVERSIONS = {
    ("second", "minute"): 60, ("minute", "hour"): 60, ("hour", "day"): 24, ("day", "week"): 7, ("month", "year"): 12,
    ("inch", "feet"): 12, ("inch", "foot"): 12, ("feet", "yard"): 3, ("cent", "dollar"): 100, ("ounce", "pound"): 16,
    ("gram", "kilogram"): 1000, ("meter", "kilometer"): 1000, ("quart", "gallon"): 4, ("year", "decade"): 10,
}  # fmt: skip
# Words before a number that make it a name rather than a measure.
LABELS = ("step", "day", "week", "month", "year", "grade", "level", "chapter", "part", "no", "number", "room", "#")


def implied(words: Iterable[str]) -> set[Fraction]:
    """The constants that words such as "hour" or "dozen" bring along without a digit."""
    return {Fraction(number) for word in words for number in _CONSTANTS.get(word.lower(), ())}


# Words that say 1, and those that may.
ONES = ("one", "once", "single", "another")
ARTICLES = ("a", "an")


def given(question: str, ones: Iterable[str]) -> set[Fraction]:
    """Every number that a question gives: in digits, in words (`ones` say 1), as a share, or by a unit."""
    tokens = [token for token in equations.tokens(question) if token.kind != "space"]
    values: set[Fraction] = set()
    for before, token, after in zip([*tokens[:1], *tokens], tokens, [*tokens[1:], *tokens[-1:]], strict=False):
        word = token.text.lower()
        if token.value == 1 and after.text == "/":
            continue  # 1/2 gives a half, and no 1
        if token.value is not None:
            values |= {token.value, token.value / 100} if token.kind == "number" else {token.value}
        elif token.kind == "ordinal":
            values.add(Fraction(re.sub(r"\D", "", word)))
        elif word in ones:
            values.add(Fraction(1))
        elif word in _ORDERS:
            values |= {Fraction(_ORDERS[word]), _ORDERS[word] * (before.value or Fraction(1))}
        for factor in FACTORS.get(word, ()):
            values |= {Fraction(factor), Fraction(1, factor)}
    for left, middle, right in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if middle.text == "/" and left.value is not None and right.value:
            values.add(left.value / right.value)
    return values
