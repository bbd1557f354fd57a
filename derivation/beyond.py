"""The formulas that the post does not have.  No reasoning lives here; `claims` derives the left-hand sides.

Notation as in `post`; M_k = (L-_k + L+_k)/2 and D_k = (L+_k - L-_k)/2, a bar is the mean over all pairs.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from sympy import Expr

from derivation.averages import MEANS, ORDERED, PLAIN, at
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
from derivation.post import ASCENDING, TOGETHER, alignment, four_way, mean_loss, minus, overall_mean, pair_mean, plus
from derivation.series import Schedule, compose
from derivation.symbols import B, m, n

__all__ = [
    "bracket",
    "commutator",
    "correction_by_brackets",
    "order_three",
    "palindrome",
    "symmetric_part",
    "symmetric_part_as_gradient",
]

HALF = Fraction(1, 2)
QUARTER = Fraction(1, 4)
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


def warm_up_plus_first() -> Formula:
    """The warm-up with L+ first."""
    whole = mean_loss()
    return Formula(
        (term(m**2 / 2 - m, hessian(whole, gradient(whole))), term(m / 2, hessian(minus(), gradient(plus()))))
    )


def warm_up_odd() -> Formula:
    """The correction of m = 2n + 1 alternating steps, L- first and last."""
    whole = mean_loss()
    return Formula(
        (
            term(2 * n * (n - 1), hessian(whole, gradient(whole))),
            term(n, hessian(plus(), gradient(minus()))),
            term(2 * n, hessian(minus(), gradient(whole))),
        )
    )


def one_pair() -> Formula:
    """The correction of L- then L+."""
    return Formula((term(1, hessian(plus(), gradient(minus()))),))


def one_pair_plus_first() -> Formula:
    """The correction of L+ then L-."""
    return Formula((term(1, hessian(minus(), gradient(plus()))),))


def one_pair_split() -> Formula:
    """The correction of L- then L+ as a gradient and a bracket."""
    return Formula(
        (
            term(HALF, gradient(inner(gradient(minus()), gradient(plus())))),
            term(HALF, _bracket(plus(), minus())),
        )
    )


def gradient_norm_penalty() -> Formula:
    """The correction of two steps on L+ and -L+."""
    return Formula((term(-HALF, gradient(squared_norm(gradient(plus())))),))


def four_way_plus_first() -> Formula:
    """The correction of the order L+_1 L-_1 L+_2 L-_2 ..., split by side."""
    before, up_to = (ASCENDING,), (ASCENDING, TOGETHER)
    return Formula(
        (
            term(1, sum_over(hessian(minus(-1), gradient(minus(-2))), before, "j<k")),
            term(1, sum_over(hessian(minus(-1), gradient(plus(-2))), up_to, r"j\le k")),
            term(1, sum_over(hessian(plus(-1), gradient(minus(-2))), before, "j<k")),
            term(1, sum_over(hessian(plus(-1), gradient(plus(-2))), before, "j<k")),
        )
    )


def four_way_of_two_pairs() -> Formula:
    """The post's four sums written out for two pairs."""
    four = four_way()
    return Formula((term(1, Expression(at(four.series(), ORDERED, 2), four.latex, PLAIN)),))


def _covariance(of_hessian: Callable[..., Expression], of_gradient: Callable[..., Expression]) -> Expression:
    """Cov_k(H, g) = E_k[H_k g_k] - E[H] E[g]."""
    joint = mean(hessian(of_hessian(-1, MEANS), gradient(of_gradient(-1, MEANS))))
    apart = hessian(mean(of_hessian(-1, MEANS)), gradient(mean(of_gradient(-1, MEANS))))
    names = [of_hessian().latex.replace(r"\mathcal{L}", ""), of_gradient().latex.replace(r"\mathcal{L}", "")]
    return combination(
        (1, joint), (-1, apart), shown=rf"\operatorname{{Cov}}_{{k}}\!\left(H{names[0]}_k, g{names[1]}_k\right)"
    )


def joint_minus_independent() -> Formula:
    """Mean correction of joint minus that of independent permutations, L- first."""
    return Formula((term(n / 2, _covariance(plus, minus)), term(-n / 2, _covariance(minus, plus))))


def first_term_of_opposites() -> Formula:
    """The first term of eq. (1) where L-_k = -L+_k and all pairs are alike: a formula whose value is zero."""
    whole = combination((HALF, gradient(plus())), (-HALF, gradient(plus())), shown=r"\nabla\bar{\mathcal{L}}")
    return Formula((term((B - 2) / (4 * B), gradient(squared_norm(whole))),))


def opposite_pairs() -> Formula:
    """The mean correction over B^2 where L-_k = -L+_k."""
    norm = mean(squared_norm(gradient(plus(-1, MEANS))))
    return Formula((term(-1 / (4 * B), gradient(norm)),))


def both_orders() -> Formula:
    """The correction of a word plus that of its reversal."""
    everything, same = _products()
    return Formula((term(1, everything), term(-1, same)))


def _drawn() -> tuple[Expression, Expression]:
    """Mean Hessian on mean gradient, and mean of the products, over the losses that are drawn."""
    member = loss("L", -1, indexing=MEANS)
    whole = mean(member)
    return hessian(whole, gradient(whole)), mean(hessian(member, gradient(member)))


def independent_draws() -> Formula:
    """The mean correction of m draws with replacement."""
    return Formula((term(m * (m - 1) / 2, _drawn()[0]),))


def reshuffled_by_losses() -> Formula:
    """The mean correction of m losses in random order, over single losses."""
    apart, together = _drawn()
    return Formula((term(m**2 / 2, apart), term(-m / 2, together)))


def mean_of_two_with_common_step() -> Formula:
    """The mean correction of ab and ba at the common step size 3/2."""
    a, b = loss("a"), loss("b")
    both = combination((1, a), (1, b))
    same = combination((1, hessian(a, gradient(a))), (1, hessian(b, gradient(b))))
    return Formula((term(Fraction(9, 8), hessian(both, gradient(both))), term(-Fraction(9, 8), same)))


def mean_of_two_norms() -> Expression:
    """E_k[|g+_k|^2 + |g-_k|^2]."""
    return mean(
        combination((1, squared_norm(gradient(plus(-1, MEANS)))), (1, squared_norm(gradient(minus(-1, MEANS)))))
    )


def reshuffled() -> Formula:
    """The mean correction over B^2 of random reshuffling, over pairs."""
    return Formula(
        (
            term(QUARTER, gradient(squared_norm(gradient(overall_mean())))),
            term(-1 / (8 * B), gradient(mean_of_two_norms())),
        )
    )


def modified_accumulated() -> Formula:
    """Grad L_1 of the accumulated update."""
    return Formula((term(QUARTER, gradient(squared_norm(gradient(overall_mean())))),))


def modified_pair_accumulated() -> Formula:
    """Grad L_1 of the pair-accumulated update."""
    return Formula(
        (
            term(1 / (8 * B), gradient(mean_of_two_norms())),
            term(1 / (4 * B), gradient(alignment())),
        )
    )


def modified_sequential() -> Formula:
    """Grad L_1 of sequential updates under a reversal-invariant distribution, over pairs."""
    return Formula((term(1 / (8 * B), gradient(mean_of_two_norms())),))


def modified_sequential_by_steps() -> Formula:
    """The second-order part of the same field in sums over steps."""
    norms = _summed(squared_norm(gradient(_any(-1))))
    return Formula((term(-QUARTER, gradient(norms)),))


def pair_drift() -> Formula:
    """The correction relative to the pair-accumulated frame, L- first."""
    return Formula((term(1, _summed(hessian(plus(-1), gradient(minus(-1))))),))


def pair_drift_random_start() -> Formula:
    """The same with a random start."""
    return Formula((term(HALF, gradient(_summed(inner(gradient(minus(-1)), gradient(plus(-1)))))),))


def second_term_split() -> Formula:
    """The second term of eq. (1), written out."""
    return Formula(
        (
            term(1 / (2 * B), gradient(squared_norm(gradient(overall_mean())))),
            term(-1 / (8 * B), gradient(mean_of_two_norms())),
            term(-1 / (4 * B), gradient(alignment())),
        )
    )


def modified_field_of_descent() -> Formula:
    """The modified field of one step of gradient descent, for unit time."""
    a = loss("a")
    g = gradient(a)
    return Formula(
        (
            term(-1, g),
            term(-HALF, hessian(a, g)),
            term(-Fraction(1, 3), hessian(a, hessian(a, g))),
            term(-Fraction(1, 12), third(a, g, g)),
        ),
        shows_step=True,
    )


def _member() -> tuple[Expression, Expression, Expression, Expression]:
    """A drawn loss and its gradient, the mean loss and its gradient."""
    member = loss("L", -1, indexing=MEANS)
    whole = combination((1, mean(member)), shown=r"\bar{\mathcal{L}}")
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
    apart = combination((-HALF, minus(-1, MEANS)), (HALF, plus(-1, MEANS)), shown=r"\mathcal{D}_{k}")
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


def _answer(name: str, index: int) -> Expression:
    """A loss on the preferred (1) or the dispreferred (2) answer."""
    answer = loss(name, index)
    return replace(answer, latex=rf"\mathcal{{L}}^{{{name}}}(y^{{{'+' if index == 1 else '-'}}})")


def rewarded() -> Formula:
    """Grad L+(y+) . grad L-(y-)."""
    return Formula((term(1, inner(gradient(_answer("+", 1)), gradient(_answer("-", 2)))),))


def penalised() -> Formula:
    """- grad L+(y+) . grad L+(y-)."""
    return Formula((term(-1, inner(gradient(_answer("+", 1)), gradient(_answer("+", 2)))),))


def rate_of_alignment() -> Formula:
    """The change of E_k[g-_k . g+_k] relative to the pair-accumulated update, over eta^2, random start."""
    return Formula((term(1 / (4 * B), squared_norm(gradient(alignment()))),))


def all_alignments() -> Expression:
    """The sum over b < b' of g_b . g_b'."""
    return sum_over(inner(gradient(_any(-1)), gradient(_any(-2))), (ASCENDING,), "j<k")


def rate_of_all_alignments() -> Formula:
    """The change of that sum relative to the accumulated update, over eps^2, symmetrised."""
    return Formula((term(HALF, squared_norm(gradient(all_alignments()))),))


def two_steps(factor: Fraction) -> Formula:
    """The second-order term of two optimizer steps with a random start, over eta^2."""
    return Formula((term(factor, gradient(inner(gradient(plus()), gradient(minus())))),))


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


class _Side(NamedTuple):
    """A loss of one side with its gradient, and the mean of the side with its gradient."""

    member: Expression
    g: Expression
    whole: Expression
    bar: Expression


def _side(name: str) -> _Side:
    member = loss(name, -1, indexing=MEANS)
    whole = combination((1, mean(member)), shown=rf"\bar{{\mathcal{{L}}}}^{{{name}}}")
    return _Side(member, gradient(member), whole, gradient(whole))


def _over_sides(build: Callable[[_Side, _Side], Expression]) -> Expression:
    """The sum over which side is s, the other being t."""
    both = (build(_side("+"), _side("-")), build(_side("-"), _side("+")))
    return combination((1, both[0]), (1, both[1]), shown=rf"\sum_{{s}} {build(_side('s'), _side('t')).latex}")


def displacement(word: str, order: int) -> Formula:
    """The part of one order of the displacement of a word of single letters."""
    series = compose(Schedule.parse(word), order).of_order(order)
    shown = rf"\left[\theta_{{{word}}}-\theta\right]_{{\varepsilon^{{{order}}}}}"
    return Formula((term(1, Expression(series, shown, PLAIN)),))


def rate_of_one_pair() -> Formula:
    """The change of g- . g+ under two steps of size eta/2 in random order against one accumulated step, over eta^2."""
    return Formula((term(Fraction(1, 8), squared_norm(gradient(inner(gradient(minus()), gradient(plus()))))),))
