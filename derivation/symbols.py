"""The symbols that several modules share, with their assumptions and the glyph that the post uses for them."""

from fractions import Fraction

from sympy import QQ, Expr, Symbol
from sympy.polys.fields import FracElement, field

__all__ = ["B", "element", "m", "n", "value_at"]

n = Symbol("n", integer=True, positive=True)
"""The number of pairs (L-_k, L+_k)."""

B = Symbol("B", integer=True, positive=True)
"""The number of losses, and of steps, in one epoch: B = 2n. The post's B."""

m = Symbol("m", integer=True, nonnegative=True)
"""The number of steps of a word. The post's m."""

_FIELD, _ = field([n], QQ)
# Averages over n pairs have coefficients that are rational functions of n. A field of SymPy decides equality exactly
# and fast; expressions would need `simplify`, which may stall.


def element(expression: Expr | Fraction | int) -> FracElement:
    """A rational function of n as an element of the field in which averages are computed.

    One epoch of n pairs takes m = B = 2n steps, so m and B stand for 2n.

    Raises:
        ValueError: If the expression holds another symbol or is not rational.
    """
    if isinstance(expression, (int, Fraction)):
        return _FIELD(QQ(expression.numerator, expression.denominator))
    return _FIELD.from_expr(expression.subs({B: 2 * n, m: 2 * n}))


def value_at(coefficient: FracElement, num_pairs: int) -> Fraction:
    """A coefficient at a given number of pairs.

    Raises:
        ZeroDivisionError: If the coefficient has a pole there.
    """
    above, below = (
        sum(Fraction(int(c.numerator), int(c.denominator)) * num_pairs**power for (power,), c in polynomial.terms())
        for polynomial in (coefficient.numer, coefficient.denom)
    )
    return Fraction(above) / below
