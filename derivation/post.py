"""The formulas of the post: as printed, and as they become when they are made precise.  No reasoning lives here.

Each function returns a `Formula` that is typeset and proved from one object; `claims` derives the left-hand sides.
`PRINTED` holds the post's own LaTeX for the eye. Notation: `C` is the correction, the sum over b_1 > b_2 of
H_{b_1} g_{b_2}; M_k = (L-_k + L+_k)/2 is the mean of pair k, and a bar is the mean over all pairs.
"""

from fractions import Fraction

from derivation.averages import MEANS, PLAIN, Indexing
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
)
from derivation.symbols import B, m

__all__ = [
    "ASCENDING",
    "CORRECTION",
    "PRINTED",
    "alignment",
    "boxed",
    "eq_1",
    "eq_1_first_two",
    "eq_1_second",
    "eq_1_single_losses",
    "four_way",
    "m_step",
    "mean_loss",
    "minus",
    "pair_mean",
    "plus",
    "two_step",
    "warm_up",
    "warm_up_epoch",
]

HALF = Fraction(1, 2)
CORRECTION = r"\sum_{b_1=1}^{m} \nabla^{2}\mathcal{L}_{b_1} \sum_{b_2=1}^{b_1-1} \nabla\mathcal{L}_{b_2}"
ASCENDING = {-1: 2, -2: 1}
"""j before k: the index k (-1) has rank 2, j (-2) rank 1."""
TOGETHER = {-1: 1, -2: 1}

PRINTED = {
    "grpo-gradient": r"\nabla_{\theta} J_{\mathrm{GRPO}}(\theta) = \mathbb{E}\left[ \frac{1}{G} \sum_{i=1}^G"
    r" \frac{1}{|o_i|} \sum_{t=1}^{|o_i|} \hat A_{i} \nabla_{\theta} \log \pi_\theta(o_{i,t}\mid q, o_{i,< t}) \right]",
    "grpo-advantage": r"\hat A_{i} := \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r)}",
    "two-step": r"\theta_2 = \theta - \frac{\eta}{B} \left( \nabla \mathcal{L}_1 + \nabla \mathcal{L}_2 \right)"
    r" + \frac{\eta^2}{B^2} \nabla^2 \mathcal{L}_2 \mathcal{L}_1 + O((\eta / B)^3)",
    "m-step": r"\theta_m = \theta - \frac{\eta}{B} \sum_{b=1}^m \nabla \mathcal{L}_b + \frac{\eta^2}{B^2}"
    r" \sum_{b_1=1}^m \sum_{b_2=1}^{b_1-1} \nabla^2 \mathcal{L}_{b_1} \nabla \mathcal{L}_{b_2} + O\left(m^3"
    r" \left(\frac{\eta}{B}\right)^3\right)",
    "warm-up": CORRECTION + r" = \left( \frac{m^2}{2} - m \right) \nabla^2 \mathcal{L} \nabla \mathcal{L}"
    r" + \frac{m}{2} \nabla^2 \mathcal{L}^+ \nabla \mathcal{L}^- + O(m^3 (\eta / B)^3), \quad \mathcal{L} ="
    r" \mathcal{L}^+ + \mathcal{L}^-",
    "warm-up-epoch": r"\eta^2 \left[ \frac{B-2}{4B} \nabla \|\nabla \mathcal{L}\|^2"
    r" + \frac{1}{2B} \nabla^2 \mathcal{L}^+ \nabla \mathcal{L}^- \right]",
    "four-way": CORRECTION
    + r" = \sum_{k_1=1}^{B/2} \nabla^2 \mathcal{L}^-_{k_1} \sum_{k_2=1}^{k_1-1} \nabla \mathcal{L}^-_{k_2}"
    r" + \sum_{k_1=1}^{B/2} \nabla^2 \mathcal{L}^-_{k_1} \sum_{k_2=1}^{k_1-1} \nabla \mathcal{L}^+_{k_2} +"
    r" \sum_{k_1=1}^{B/2} \nabla^2 \mathcal{L}^+_{k_1} \sum_{k_2=1}^{k_1} \nabla \mathcal{L}^-_{k_2} +"
    r" \sum_{k_1=1}^{B/2} \nabla^2 \mathcal{L}^+_{k_1} \sum_{k_2=1}^{k_1-1} \nabla \mathcal{L}^+_{k_2}",
    "eq-1": r"\mathbb{E}\left[" + CORRECTION + r"\right] = \frac{B-2}{4B} \nabla \|\nabla (\mathbb{E} \mathcal{L}_i^-"
    r" + \mathbb{E} \mathcal{L}_i^+)/2\|^2 - \frac{1}{2B} \nabla \mathbb{E} \| \nabla \mathcal{L}_i - \nabla"
    r" (\mathbb{E} \mathcal{L}_i^- + \mathbb{E} \mathcal{L}_i^+)/2\|^2 + \frac{1}{2B} \mathbb{E} \left[ \nabla^2"
    r" \mathcal{L}_i^+ \nabla \mathcal{L}_i^- \right]",
    "boxed": r"\frac{1}{4B} \nabla \mathbb{E} \left[ \nabla \mathcal{L}_i^- \cdot \nabla \mathcal{L}_i^+ \right]",
    "grpo-split": r"\text{gradient descent on good trajectories, gradient ascent on bad ones}",
    "large-b": r"\text{for large}\ B\ \text{the correction terms in (1) are dominated by the first term}",
    "bias-sign": r"\text{our implicit bias term rewards}\ \nabla \mathcal{L}^+(y^+) \cdot \nabla \mathcal{L}^-(y^-)",
    "entanglement": r"\nabla \mathcal{L}^+(y^+) \cdot \nabla \mathcal{L}^-(y^-) \text{ rewarded} \iff"
    r" \nabla \mathcal{L}^+(y^+) \cdot \nabla \mathcal{L}^+(y^-) \text{ penalised}, \quad \text{when } \mathcal{L}^+ ="
    r" -\mathcal{L}^-",
    "lr-match": r"\eta' = \frac{1}{\sqrt{2}} \, \eta",
}


def plus(index: int = 0, indexing: Indexing = PLAIN) -> Expression:
    """L+, the loss on preferred answers."""
    return loss("+", index, indexing=indexing)


def minus(index: int = 0, indexing: Indexing = PLAIN) -> Expression:
    """L-, the loss on dispreferred answers."""
    return loss("-", index, indexing=indexing)


def mean_loss() -> Expression:
    """L = (L+ + L-)/2, without noise."""
    return combination((HALF, plus()), (HALF, minus()), latex=r"\mathcal{L}")


def pair_mean() -> Expression:
    """M_k = (L-_k + L+_k)/2."""
    return combination((HALF, minus(-1, MEANS)), (HALF, plus(-1, MEANS)), latex=r"\mathcal{M}_{k}")


def overall_mean() -> Expression:
    """The mean of all losses, (E L- + E L+)/2."""
    whole = mean(pair_mean())
    return combination((1, whole), latex=r"\bar{\mathcal{L}}")


def alignment() -> Expression:
    """E_k[g-_k . g+_k]."""
    return mean(inner(gradient(minus(-1, MEANS)), gradient(plus(-1, MEANS))))


def two_step() -> Formula:
    """theta_2 - theta, in powers of eps."""
    first, second = loss("L", 1), loss("L", 2)
    return Formula(
        (
            term(-1, combination((1, gradient(first)), (1, gradient(second)))),
            term(1, hessian(second, gradient(first))),
        ),
        shows_step=True,
    )


def m_step() -> Formula:
    """theta_m - theta, in powers of eps."""
    return Formula(
        (
            term(-1, sum_over(gradient(loss("L", -1)), ({-1: 1},), "k")),
            term(1, sum_over(hessian(loss("L", -1), gradient(loss("L", -2))), (ASCENDING,), "j<k")),
        ),
        shows_step=True,
    )


def warm_up(whole: Expression) -> Formula:
    """The correction of m alternating steps, L- first, m even."""
    return Formula(
        (
            term(m**2 / 2 - m, hessian(whole, gradient(whole))),
            term(m / 2, hessian(plus(), gradient(minus()))),
        )
    )


def warm_up_epoch(whole: Expression) -> Formula:
    """The correction of one epoch, over B^2."""
    return Formula(
        (
            term((B - 2) / (4 * B), gradient(squared_norm(gradient(whole)))),
            term(1 / (2 * B), hessian(plus(), gradient(minus()))),
        )
    )


def four_way() -> Formula:
    """The correction of the order L-_1 L+_1 L-_2 L+_2 ..., split by side."""
    before, up_to = (ASCENDING,), (ASCENDING, TOGETHER)
    return Formula(
        (
            term(1, sum_over(hessian(minus(-1), gradient(minus(-2))), before, "j<k")),
            term(1, sum_over(hessian(minus(-1), gradient(plus(-2))), before, "j<k")),
            term(1, sum_over(hessian(plus(-1), gradient(minus(-2))), up_to, r"j\le k")),
            term(1, sum_over(hessian(plus(-1), gradient(plus(-2))), before, "j<k")),
        )
    )


def eq_1(last: Formula | None = None) -> Formula:
    """Eq. (1) with L_i read as the pair mean M_k.

    Args:
        last: What stands in place of the last term.
    """
    centre = gradient(overall_mean())
    deviation = combination((1, gradient(pair_mean())), (-1, centre))
    asymmetric = term(1 / (2 * B), mean(hessian(plus(-1, MEANS), gradient(minus(-1, MEANS)))))
    return Formula(
        (
            term((B - 2) / (4 * B), gradient(squared_norm(centre))),
            term(-1 / (2 * B), gradient(mean(squared_norm(deviation)))),
            *(last.terms if last else (asymmetric,)),
        )
    )


def eq_1_first_two() -> Formula:
    """The two terms of eq. (1) that do not depend on the start."""
    return Formula(eq_1().terms[:2])


def eq_1_second() -> Formula:
    """The second term of eq. (1)."""
    return Formula(eq_1().terms[1:2])


def eq_1_single_losses() -> Formula:
    """Eq. (1) with L_i read as a single loss: the middle term averages over all B losses."""
    centre = gradient(overall_mean())
    of_minus = mean(squared_norm(combination((1, gradient(minus(-1, MEANS))), (-1, centre))))
    of_plus = mean(squared_norm(combination((1, gradient(plus(-1, MEANS))), (-1, centre))))
    first, _, last = eq_1().terms
    spread = combination(
        (HALF, of_minus),
        (HALF, of_plus),
        latex=r"\mathbb{E}_{b}\!\left\|\nabla\mathcal{L}_b-\nabla\bar{\mathcal{L}}\right\|^{2}",
    )
    return Formula((first, term(-1 / (2 * B), gradient(spread)), last))


def boxed() -> Formula:
    """The last term of eq. (1) under a random start."""
    return Formula((term(1 / (4 * B), gradient(alignment())),))
