"""Means at third order, and the modified field to third order, in closed form.  No reasoning lives here.

Notation as in `post`; M_k = (L-_k + L+_k)/2 and D_k = (L+_k - L-_k)/2, a bar is the mean over all pairs.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from sympy import Expr

from derivation.averages import MEANS
from derivation.formula import (
    Expression,
    Formula,
    combination,
    gradient,
    hessian,
    loss,
    mean,
    term,
    third,
)
from derivation.post import minus, overall_mean, pair_mean, plus
from derivation.symbols import B, n

__all__ = [
    "modified_field_of_reshuffling",
    "third_order_difference",
    "third_order_fixed_start",
    "third_order_independent",
    "third_order_random_start",
    "third_order_reshuffling",
    "third_order_start_bias",
]

HALF = Fraction(1, 2)


def _member() -> tuple[Expression, Expression, Expression, Expression]:
    """A drawn loss and its gradient, the mean loss and its gradient."""
    member = loss("L", -1, indexing=MEANS)
    whole = combination((1, mean(member)), latex=r"\bar{\mathcal{L}}")
    return member, gradient(member), whole, gradient(whole)


def modified_field_of_reshuffling() -> Formula:
    """The third-order part of the modified field of the mean of random reshuffling, over single losses."""
    member, g, whole, bar = _member()
    return Formula(
        (
            term(B**2 / 12, mean(third(member, g, bar))),
            term(-(B**2) / 12, mean(third(whole, g, g))),
            term(B**2 / 6, mean(hessian(member, hessian(whole, g)))),
            term(-(B**2) / 12, mean(hessian(member, hessian(member, bar)))),
            term(-(B**2) / 12, mean(hessian(whole, hessian(member, g)))),
            term(-B / 12, mean(third(member, g, g))),
            term(-B / 3, mean(hessian(member, hessian(member, g)))),
        )
    )


def third_order_reshuffling() -> Formula:
    """The mean third-order displacement of random reshuffling of B losses, over single losses."""
    member, g, whole, bar = _member()
    return Formula(
        (
            term(-(B**3) / 6, third(whole, bar, bar)),
            term(-(B**3) / 6, hessian(whole, hessian(whole, bar))),
            term(B**2 / 3, mean(third(member, g, bar))),
            term(-(B**2) / 12, mean(third(whole, g, g))),
            term(B**2 / 6, mean(hessian(member, hessian(member, bar)))),
            term(B**2 / 6, mean(hessian(member, hessian(whole, g)))),
            term(B**2 / 6, mean(hessian(whole, hessian(member, g)))),
            term(-B / 12, mean(third(member, g, g))),
            term(-B / 3, mean(hessian(member, hessian(member, g)))),
        )
    )


class _Pair(NamedTuple):
    """M_k and D_k with their gradients, and the mean of the first with its gradient."""

    m: Expression
    d: Expression
    gm: Expression
    gd: Expression
    whole: Expression
    bar: Expression


def _pair() -> _Pair:
    together = pair_mean()
    apart = combination((-HALF, minus(-1, MEANS)), (HALF, plus(-1, MEANS)), latex=r"\mathcal{D}_{k}")
    whole = overall_mean()
    return _Pair(together, apart, gradient(together), gradient(apart), whole, gradient(whole))


def third_order_random_start() -> Formula:
    """The mean third-order displacement of interleaved pairs with a random start."""
    p = _pair()
    return Formula(
        (
            term(-4 * n**3 / 3, third(p.whole, p.bar, p.bar)),
            term(-4 * n**3 / 3, hessian(p.whole, hessian(p.whole, p.bar))),
            term(5 * n**2 / 3, mean(third(p.m, p.gm, p.bar))),
            term(-2 * n**2 / 3, mean(third(p.whole, p.gm, p.gm))),
            term(n**2 / 3, mean(hessian(p.m, hessian(p.m, p.bar)))),
            term(4 * n**2 / 3, mean(hessian(p.m, hessian(p.whole, p.gm)))),
            term(n**2 / 3, mean(hessian(p.whole, hessian(p.m, p.gm)))),
            term(n**2, mean(third(p.d, p.gd, p.bar))),
            term(n**2, mean(hessian(p.d, hessian(p.d, p.bar)))),
            term(n**2, mean(hessian(p.whole, hessian(p.d, p.gd)))),
            term(-n / 6, mean(third(p.m, p.gm, p.gm))),
            term(-2 * n / 3, mean(hessian(p.m, hessian(p.m, p.gm)))),
            term(-n / 2, mean(third(p.m, p.gd, p.gd))),
            term(-n, mean(hessian(p.d, hessian(p.d, p.gm)))),
            term(-n, mean(hessian(p.m, hessian(p.d, p.gd)))),
        )
    )


def third_order_start_bias() -> Formula:
    """What is added when L- always starts: the part that changes sign with the start."""
    p = _pair()
    return Formula(
        (
            term(n**2, mean(third(p.m, p.gd, p.bar))),
            term(-(n**2), mean(third(p.d, p.gm, p.bar))),
            term(-(n**2), mean(hessian(p.d, hessian(p.m, p.bar)))),
            term(n**2, mean(hessian(p.m, hessian(p.d, p.bar)))),
            term(-(n**2), mean(hessian(p.whole, hessian(p.d, p.gm)))),
            term(n**2, mean(hessian(p.whole, hessian(p.m, p.gd)))),
            term(-n / 2, mean(third(p.d, p.gd, p.gd))),
            term(n / 2, mean(third(p.d, p.gm, p.gm))),
            term(n, mean(hessian(p.d, hessian(p.m, p.gm)))),
            term(-n, mean(hessian(p.m, hessian(p.m, p.gd)))),
        )
    )


def third_order_fixed_start() -> Formula:
    """The mean third-order displacement of interleaved pairs, L- first."""
    return Formula((*third_order_random_start().terms, *third_order_start_bias().terms))


def third_order_difference() -> Formula:
    """Random reshuffling minus interleaving with a random start, at third order."""
    p = _pair()
    return Formula(
        (
            term(-(n**2) / 3, mean(third(p.m, p.gm, p.bar))),
            term(n**2 / 3, mean(third(p.whole, p.gm, p.gm))),
            term(-(n**2) / 3, mean(third(p.whole, p.gd, p.gd))),
            term(n**2 / 3, mean(third(p.d, p.gd, p.bar))),
            term(n**2 / 3, mean(hessian(p.m, hessian(p.m, p.bar)))),
            term(-2 * n**2 / 3, mean(hessian(p.m, hessian(p.whole, p.gm)))),
            term(n**2 / 3, mean(hessian(p.whole, hessian(p.m, p.gm)))),
            term(-(n**2) / 3, mean(hessian(p.d, hessian(p.d, p.bar)))),
            term(2 * n**2 / 3, mean(hessian(p.d, hessian(p.whole, p.gd)))),
            term(-(n**2) / 3, mean(hessian(p.whole, hessian(p.d, p.gd)))),
            term(n / 3, mean(third(p.m, p.gd, p.gd))),
            term(-n / 3, mean(third(p.d, p.gd, p.gm))),
            term(n / 3, mean(hessian(p.d, hessian(p.d, p.gm)))),
            term(-2 * n / 3, mean(hessian(p.d, hessian(p.m, p.gd)))),
            term(n / 3, mean(hessian(p.m, hessian(p.d, p.gd)))),
        )
    )


class _Side(NamedTuple):
    """A loss of one side with its gradient, and the mean of the side with its gradient."""

    member: Expression
    g: Expression
    whole: Expression
    bar: Expression


def _side(name: str) -> _Side:
    member = loss(name, -1, indexing=MEANS)
    whole = combination((1, mean(member)), latex=rf"\bar{{\mathcal{{L}}}}^{{{name}}}")
    return _Side(member, gradient(member), whole, gradient(whole))


def _over_sides(build: Callable[[_Side, _Side], Expression]) -> Expression:
    """The sum over which side is s, the other being t."""
    both = (build(_side("+"), _side("-")), build(_side("-"), _side("+")))
    return combination((1, both[0]), (1, both[1]), latex=rf"\sum_{{s}} {build(_side('s'), _side('t')).latex}")


def third_order_independent() -> Formula:
    """The mean third-order displacement when each side is permuted on its own, random start."""
    terms: list[tuple[Expr, Callable[[_Side, _Side], Expression]]] = [
        (-(n**3) / 6, lambda s, _: third(s.whole, s.bar, s.bar)),
        (-(4 * n**3 + n**2) / 12, lambda s, t: third(s.whole, s.bar, t.bar)),
        (-(2 * n**3 - n**2) / 12, lambda s, t: third(s.whole, t.bar, t.bar)),
        (-(n**3) / 6, lambda s, _: hessian(s.whole, hessian(s.whole, s.bar))),
        (-(2 * n**3 - n**2) / 12, lambda s, t: hessian(s.whole, hessian(s.whole, t.bar))),
        (-(n**3 + n**2) / 6, lambda s, t: hessian(s.whole, hessian(t.whole, s.bar))),
        (-(2 * n**3 - n**2) / 12, lambda s, t: hessian(s.whole, hessian(t.whole, t.bar))),
        (n**2 / 3, lambda s, _: mean(third(s.member, s.g, s.bar))),
        ((4 * n**2 + n) / 12, lambda s, t: mean(third(s.member, s.g, t.bar))),
        (-(n**2) / 12, lambda s, _: mean(third(s.whole, s.g, s.g))),
        (-(n**2 + n) / 12, lambda s, t: mean(third(s.whole, t.g, t.g))),
        (n**2 / 6, lambda s, _: mean(hessian(s.member, hessian(s.member, s.bar)))),
        ((2 * n**2 - n) / 12, lambda s, t: mean(hessian(s.member, hessian(s.member, t.bar)))),
        (n**2 / 6, lambda s, _: mean(hessian(s.member, hessian(s.whole, s.g)))),
        ((n**2 + n) / 6, lambda s, t: mean(hessian(s.member, hessian(t.whole, s.g)))),
        (n**2 / 6, lambda s, _: mean(hessian(s.whole, hessian(s.member, s.g)))),
        ((2 * n**2 - n) / 12, lambda s, t: mean(hessian(s.whole, hessian(t.member, t.g)))),
        (-n / 12, lambda s, _: mean(third(s.member, s.g, s.g))),
        (-n / 3, lambda s, _: mean(hessian(s.member, hessian(s.member, s.g)))),
    ]
    return Formula(tuple(term(coefficient, _over_sides(build)) for coefficient, build in terms))
