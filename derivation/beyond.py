"""The formulas that the post does not have.  No reasoning lives here; `claims` derives the left-hand sides.

Notation as in `post`; M_k = (L-_k + L+_k)/2 and D_k = (L+_k - L-_k)/2, a bar is the mean over all pairs.
"""

from sympy import Rational

from derivation.averages import MEANS
from derivation.formula import (
    Expression,
    Formula,
    combination,
    gradient,
    hessian,
    inner,
    loss,
    mean,
    squared_norm,
    sum_over,
    term,
    third,
)
from derivation.post import ASCENDING, TOGETHER, minus, overall_mean, pair_mean, plus
from derivation.symbols import B, n

__all__ = [
    "bracket",
    "commutator",
    "correction_by_brackets",
    "order_three",
    "palindrome",
    "symmetric_part",
    "symmetric_part_as_gradient",
]

HALF = Rational(1, 2)
QUARTER = Rational(1, 4)
DESCENDING = {-1: 1, -2: 2}
ALL_ORDERS = (ASCENDING, DESCENDING, TOGETHER)


def _summed(part: Expression) -> Expression:
    return sum_over(part, ({-1: 1},), "k")


def _any(index: int) -> Expression:
    return loss("L", index)


def order_three() -> Formula:
    """The third-order term of m steps."""
    chain = hessian(_any(-1), hessian(_any(-2), gradient(_any(-3))))
    fork = third(_any(-1), gradient(_any(-2)), gradient(_any(-3)))
    before_both = ({-1: 3, -2: 2, -3: 1}, {-1: 3, -2: 1, -3: 2}, {-1: 2, -2: 1, -3: 1})
    return Formula(
        (
            term(-1, sum_over(chain, ({-1: 3, -2: 2, -3: 1},), "i<j<k")),
            term(-HALF, sum_over(fork, before_both, "i,j<k")),
        )
    )


def _products() -> tuple[Expression, Expression]:
    """(sum H)(sum g) and sum of H_b g_b."""
    whole = _summed(_any(-1))
    return hessian(whole, gradient(whole)), _summed(hessian(_any(-1), gradient(_any(-1))))


def symmetric_part() -> Formula:
    """The half of the correction that does not depend on the order."""
    everything, same = _products()
    return Formula((term(HALF, everything), term(-HALF, same)))


def symmetric_part_as_gradient() -> Formula:
    """The same as a gradient: half the gradient of the sum over pairs of steps of g_b . g_b'."""
    pairs = sum_over(inner(gradient(_any(-1)), gradient(_any(-2))), (ASCENDING,), "j<k")
    return Formula((term(HALF, gradient(pairs)),))


def _bracket(left: Expression, right: Expression) -> Expression:
    return combination((1, hessian(left, gradient(right))), (-1, hessian(right, gradient(left))))


def correction_by_brackets() -> Formula:
    """The correction as its symmetric part and the sum of brackets."""
    brackets = sum_over(_bracket(_any(-1), _any(-2)), (ASCENDING,), "j<k")
    return Formula((*symmetric_part().terms, term(HALF, brackets)))


def bracket() -> Formula:
    """X = H_a g_b - H_b g_a for the losses 1 and 2."""
    return Formula((term(1, _bracket(loss("L", 1), loss("L", 2))),))


def commutator() -> Formula:
    """2 (H_a H_b - H_b H_a) applied to a vector, the gradient of the loss that stands in the slot."""
    slot = gradient(loss("\N{WHITE SQUARE}"))
    a, b = loss("L", 1), loss("L", 2)
    return Formula((term(2, hessian(a, hessian(b, slot))), term(-2, hessian(b, hessian(a, slot)))))


def palindrome() -> Formula:
    """The correction of w rev(w) in sums over the positions of w."""
    everything, same = _products()
    return Formula((term(2, everything), term(-1, same)))


_ = (MEANS, minus, overall_mean, pair_mean, plus, B, n, QUARTER, mean, squared_norm)
