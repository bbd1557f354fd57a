"""Exact arithmetic and the words for numbers: all that the makers of wrong solutions and the check of pairs share.

Python's grammar reads the arithmetic. How numbers and operators are found in a text is not decided here: the makers and
the check read texts each in its own way, so that their agreement means something.
"""

import ast
import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import count

__all__ = ["CARDINALS", "TO_NINE", "evaluate"]

TO_NINE: tuple[str, ...] = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
CARDINALS: dict[str, int] = dict(zip((*TO_NINE, *_TEENS, *_TENS), (*range(2, 20), *range(20, 100, 10)), strict=True))
"""Numbers that stand as one word. "One" is left out: it is a pronoun more often than a number."""

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
