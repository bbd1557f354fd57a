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
        ValueError: If `num_pairs` is no whole number of at least 1.
        ZeroDivisionError: If the coefficient has a pole there.
    """
    if not isinstance(num_pairs, int) or num_pairs < 1:
        raise ValueError(f"num_pairs must be a whole number of at least 1; got {num_pairs!r}.")
    above, below = (
        sum(Fraction(int(c.numerator), int(c.denominator)) * num_pairs**power for (power,), c in polynomial.terms())
        for polynomial in (coefficient.numer, coefficient.denom)
    )
    if not below:
        raise ZeroDivisionError(
            f"num_pairs must be none at which a coefficient has a pole; got {num_pairs}, a pole of"
            f" {coefficient.as_expr()}. The closed form has no value there: list the words and take their mean"
            " (averages.enumerated)."
        )
    return Fraction(above) / below
