"""The formulas that the post does not have.  No reasoning lives here; `claims` derives the left-hand sides.

Notation as in `post`. Third-order means are in `beyond_second_order`.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

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
from derivation.frames import SLOT
from derivation.post import ASCENDING, TOGETHER, alignment, four_way, mean_loss, minus, overall_mean, plus
from derivation.series import Schedule, Series, compose
from derivation.symbols import B, m, n
from derivation.trees import tree

__all__ = [
    "all_alignments",
    "both_orders",
    "bracket",
    "commutator",
    "correction_by_brackets",
    "displacement",
    "first_term_of_opposites",
    "four_way_of_two_pairs",
    "four_way_plus_first",
    "gradient_norm_penalty",
    "independent_draws",
    "joint_minus_independent",
    "mean_of_two_norms",
    "mean_of_two_with_common_step",
    "modified_accumulated",
    "modified_field_of_descent",
    "modified_pair_accumulated",
    "modified_sequential",
    "modified_sequential_by_steps",
    "one_pair",
    "one_pair_plus_first",
    "one_pair_split",
    "opposite_pairs",
    "order_three",
    "pair_drift",
    "pair_drift_random_start",
    "palindrome",
    "penalised",
    "rate_of_alignment",
    "rate_of_all_alignments",
    "rate_of_one_pair",
    "reshuffled",
    "reshuffled_by_losses",
    "rewarded",
    "second_term_split",
    "symmetric_part",
    "symmetric_part_as_gradient",
    "two_steps",
    "warm_up_odd",
    "warm_up_plus_first",
]

HALF = Fraction(1, 2)
QUARTER = Fraction(1, 4)


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
    slot = Expression(Series({tree(SLOT): Fraction(1)}), r"\nabla \mathcal{L}^{□}", PLAIN)
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
        (1, joint), (-1, apart), latex=rf"\operatorname{{Cov}}_{{k}}\!\left(H{names[0]}_k, g{names[1]}_k\right)"
    )


def joint_minus_independent() -> Formula:
    """Mean correction of joint minus that of independent permutations, L- first."""
    return Formula((term(n / 2, _covariance(plus, minus)), term(-n / 2, _covariance(minus, plus))))


def first_term_of_opposites() -> Formula:
    """The first term of eq. (1) where L-_k = -L+_k and all pairs are alike: a formula whose value is zero."""
    whole = combination((HALF, gradient(plus())), (-HALF, gradient(plus())), latex=r"\nabla\bar{\mathcal{L}}")
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


def displacement(word: str, order: int) -> Formula:
    """The part of one order of the displacement of a word of single letters."""
    series = compose(Schedule.parse(word), order).of_order(order)
    latex = rf"\left[\theta_{{{word}}}-\theta\right]_{{\varepsilon^{{{order}}}}}"
    return Formula((term(1, Expression(series, latex, PLAIN)),))


def rate_of_one_pair() -> Formula:
    """The change of g- . g+ under two steps of size eta/2 in random order against one accumulated step, over eta^2."""
    return Formula((term(Fraction(1, 8), squared_norm(gradient(inner(gradient(minus()), gradient(plus()))))),))
