"""Exact arithmetic and the numbers behind words: all that the makers of wrong solutions and the check of pairs share.

Python's grammar reads the arithmetic. How numbers and operators are found in a text, and where a number comes from, is
not decided here: the makers and the check do so each in its own way, so that their agreement means something.
"""

import ast
import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import count

__all__ = ["CARDINALS", "TO_NINE", "evaluate", "implied"]

TO_NINE: tuple[str, ...] = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
CARDINALS: dict[str, int] = dict(zip((*TO_NINE, *_TEENS, *_TENS), (*range(2, 20), *range(20, 100, 10)), strict=True))
"""Numbers that stand as one word. "One" is left out: it is a pronoun more often than a number."""

# Numbers that words bring along without a digit.
_IMPLIED = {
    r"half|halv|twice|doubl|couple|both|pair|twin|second": (2,),
    r"third|thrice|tripl|three": (3,),
    r"quarter|fourth|quadrupl": (4, 25),
    r"fifth": (5,),
    r"sixth": (6,),
    r"eighth": (8,),
    r"tenth": (10,),
    r"dozen": (12,),
    r"hundred|percent|%|cent|\bmeter|metre": (100,),
    r"thousand|kilo|\bkg|\bkm|gram|liter|\bton": (1000,),
    r"\bday|week|daily": (7, 5, 24, 30),
    r"month|year|annual": (12, 4, 30, 52, 365),
    r"hour|minute|second|[ap]\.?m\b": (60, 24, 12),
    r"foot|feet|inch": (12,),
    r"yard": (3,),
    r"pound|ounce": (16,),
    r"gallon|quart|pint": (4, 2, 8, 16),
    r"nickel": (5,),
    r"dime": (10,),
    r"square|rectang": (4, 2),
    r"triang": (3, 2),
    r"leg|wheel|tire": (4, 2),
}


def implied(text: str) -> frozenset[Fraction]:
    """The numbers that a text's words imply: 2 by "twice", 12 by "dozen", 60 by "hour"."""
    rows = (values for words, values in _IMPLIED.items() if re.search(words, text, re.IGNORECASE))
    return frozenset(Fraction(value) for values in rows for value in values)


_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def evaluate(symbols: Sequence[str], values: Sequence[Fraction]) -> Fraction | None:
    """The exact value of arithmetic; None where the symbols are none, or divide by zero.

    Args:
        symbols: "#" for each number, the four operators, parentheses, and "%" behind a percentage.
        values: The numbers, in order.
    """

    def value(node: ast.expr | None) -> Fraction:
        match node:
            case ast.Constant(value=int(place)):
                return values[place]
            case ast.Attribute(value=inner):
                return value(inner) / 100
            case ast.UnaryOp(op=sign, operand=inner):
                return -value(inner) if isinstance(sign, ast.USub) else value(inner)
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATIONS:
                return _OPERATIONS[type(sign)](value(left), value(right))
        raise ArithmeticError

    try:
        return value(_parsed(" ".join(symbols)))
    except (ArithmeticError, RecursionError):  # a division by zero is an ArithmeticError; a sum may have 1,000 terms
        return None


@cache
def _parsed(source: str) -> ast.expr | None:
    """The tree of arithmetic, in which a number is its place among the numbers, and a percentage has an attribute."""
    places = count()
    numbered = re.sub("#", lambda _: str(next(places)), source).replace("%", ".percent")
    try:
        return ast.parse(numbered, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):  # thousands of signs overflow Python's parser
        return None
