"""Frames: drifts relative to accumulated and pair-accumulated updates, and modified losses relative to the flow."""

from fractions import Fraction
from functools import cache

from derivation import beyond, beyond_second_order, post
from derivation.averages import (
    MEANS,
    ORDERED,
    PLAIN,
    interleaved,
    over_permutations,
    over_reversal,
    over_start,
    split_into_sides,
)
from derivation.claim import Claim, claim
from derivation.claims import FOUR_TIMES, ONE_STEP, THRICE, TWICE
from derivation.claims.permutations import (
    MINUS_FIRST,
    coin_per_epoch_mean,
    correction,
    fixed_start_mean,
    pair_accumulated,
    pair_accumulated_mean,
)
from derivation.frames import modified_field
from derivation.procedures import equality, gradient_field
from derivation.series import Schedule, Series, compose, universal
from derivation.symbols import B, element, n
from derivation.trees import Label, tree

__all__: list[str] = []

# The modified field of an epoch is -eta grad(L + eta L_1 + ...): its second-order part over -B^2 is grad L_1.


@cache
def _full_gradient() -> Series:
    """The first-order displacement of an epoch: - eps times the sum of all gradients, over pairs."""
    return Series((tree(Label(side, 1)), element(-n)) for side in MINUS_FIRST)


def _first_correction(second_order: Series) -> Series:
    """Grad L_1 from the second-order part of a displacement, by backward error analysis."""
    return modified_field(_full_gradient() + second_order, MEANS, 2).of_order(2).scaled(element(-1 / B**2))


@claim("modified-loss-accumulated")
def modified_loss_accumulated() -> Claim:
    """The modified loss of one accumulated step."""
    return Claim(
        finding="L + (η/4) |∇L|², without any average.",
        printed=None,
        precise=(
            equality(
                r"\nabla\tilde{\mathcal{L}}_1",
                lambda: _first_correction(Series()),
                beyond.modified_accumulated(),
                reading="one step of size η on the mean loss; the modified loss is L + ηL₁ + O(η²)",
            ),
        ),
        assumptions=(THRICE,),
        method="backward error analysis; every B, no average needed",
        argument=(
            r"The flow of $-\nabla\mathcal{\bar L}$ for time $\eta$ moves by $-\eta\bar g + \tfrac{\eta^2}{2}\bar"
            r" H\bar g + O(\eta^3)$, the step by $-\eta\bar g$ alone. The field whose flow is the step is therefore"
            r" $-\bar g - \tfrac{\eta}{2}\bar H\bar g = -\nabla(\bar{\mathcal{L}} +"
            r" \tfrac{\eta}{4}\|\nabla\bar{\mathcal{L}}\|^2)$ (Barrett & Dherin 2021).",
        ),
    )


@claim("modified-loss-pair-accumulated")
def modified_loss_pair_accumulated() -> Claim:
    """The modified loss of one accumulated step per pair."""
    return Claim(
        finding="Own norms over 8B, and E[g⁺·g⁻] over 4B: accumulating penalises alignment.",
        printed=None,
        precise=(
            equality(
                r"\nabla\tilde{\mathcal{L}}_1",
                lambda: _first_correction(pair_accumulated_mean()),
                beyond.modified_pair_accumulated(),
                reading="n steps of size 2ε on the pair means, mean over their order",
            ),
        ),
        assumptions=(
            THRICE,
            ONE_STEP,
            "uniform order of the pairs, or any distribution over orders that equals its reversal",
        ),
        method="every n; backward error analysis of the mean displacement",
        argument=(
            r"The mean displacement at second order is $(2\varepsilon)^2\tfrac12[n^2\bar H\bar g - \sum_k H_{M_k}"
            r" g_{M_k}]$; the flow takes the first part away. What is left is the gradient of"
            r" $\tfrac{\eta}{2B}\mathbb{E}\|\nabla\mathcal{M}_k\|^2$, and $4\|\nabla\mathcal{M}_k\|^2 = \|g^+_k\|^2 +"
            r" \|g^-_k\|^2 + 2\,g^+_k\cdot g^-_k$: accumulating puts the cross term there.",
        ),
    )


@claim("modified-loss-sequential")
def modified_loss_sequential() -> Claim:
    """The modified loss of sequential updates has no cross term."""

    def every_word() -> Series:
        """In sums over the steps of one word: the mean of a word and its reversal, less the flow of the same length."""
        first = Series({tree(Label("L", 1)): Fraction(-1)})
        return modified_field(first + over_reversal(correction()), ORDERED, 2).of_order(2)

    return Claim(
        finding="Own norms over 8B and nothing else; with a fixed start there is in general no modified loss.",
        printed=None,
        precise=(
            equality(
                r"\left[\tilde f\right]_{\varepsilon^2}",
                every_word,
                beyond.modified_sequential_by_steps(),
                reading="every word of any length, mean over a distribution that equals its reversal",
            ),
            equality(
                r"\nabla\tilde{\mathcal{L}}_1",
                lambda: _first_correction(coin_per_epoch_mean()),
                beyond.modified_sequential(),
                reading="interleaved pairs with a random start, B losses",
            ),
            gradient_field(
                r"\tilde f \ \text{of interleaved pairs with a fixed start is a gradient}",
                lambda: modified_field(_full_gradient() + fixed_start_mean(), MEANS, 2).of_order(2),
                MEANS,
                expected="refuted",
                reading="with L⁻ always first there is no modified loss for all losses, even on average (there is one"
                " where the bracket has a potential, as for L⁻ = −L⁺)",
            ),
        ),
        assumptions=(THRICE, "one constant step size; a distribution over orders that equals its own reversal"),
        method="every word and every B; backward error analysis of the mean displacement",
        argument=(
            r"By reversal-mean the mean of C is $\tfrac12[(\sum H)(\sum g) - \sum_b H_b g_b]$. The flow for the same"
            r" total time has $\tfrac12(\sum H)(\sum g)$. What is left is $-\tfrac12\varepsilon^2\sum_b H_b g_b ="
            r" -\tfrac{\varepsilon^2}{4}\nabla\sum_b\|g_b\|^2$: each loss's own gradient norm and no inner product.",
            r"The sequential modified loss is $\bar{\mathcal{L}} +"
            r" \tfrac{\eta}{4B}\,\mathrm{mean}_b\|\nabla\mathcal{L}_b\|^2$. Sequential updates do not put a reward for"
            r" alignment into the loss; accumulating puts a penalty there.",
        ),
    )


@claim("pair-frame-drift")
def pair_frame_drift() -> Claim:
    """The drift relative to one accumulated step per pair."""
    return Claim(
        finding="The post's term is the whole drift in this frame, for every order of the pairs.",
        printed=None,
        precise=(
            equality(
                r"C - C_{\text{pair-accumulated}}",
                lambda: interleaved(correction(), MINUS_FIRST) - pair_accumulated(),
                beyond.pair_drift(),
                reading="L⁻ first, every order of the pairs",
            ),
            equality(
                r"\tfrac12\left(C_{-+} + C_{+-}\right) - C_{\text{pair-accumulated}}",
                lambda: over_start(correction(), MINUS_FIRST) - pair_accumulated(),
                beyond.pair_drift_random_start(),
                reading="random start, every order of the pairs; times ε² = η²/B² this is (η²/(4B)) ∇E[g⁺·g⁻]",
            ),
        ),
        assumptions=(TWICE, ONE_STEP),
        method="every n and every order of the pairs: sums over ordered pairs, no average over orders",
        argument=(
            r"Between different pairs both maps have the same products: $(H^-_k + H^+_k)(g^-_j + g^+_j)$ for $j < k$."
            r" Inside a pair the accumulated step has none and the sequential ones have $H^+_k g^-_k$.",
            r"So in this frame the drift is exactly the term of the post, for every order of the pairs, without the"
            r" large first term that the accumulated frame puts in front of it.",
        ),
    )


@claim("accumulated-frame-drift")
def accumulated_frame_drift() -> Claim:
    """The symmetrised drift relative to one accumulated step."""
    return Claim(
        finding="All pairs of losses are rewarded alike, not only preferred with dispreferred.",
        printed=None,
        precise=(
            equality(
                r"\tfrac12\left(C_w + C_{\mathrm{rev}(w)}\right)",
                lambda: over_reversal(correction()),
                beyond.symmetric_part_as_gradient(),
                reading="every word; times ε² = η²/B² this is (η²/(2B²)) ∇ of the sum of g_b·g_b'",
            ),
        ),
        assumptions=(TWICE, "a distribution over orders that equals its own reversal, one step size"),
        method="every word of any length",
        argument=(
            r"$\tfrac12[(\sum H)(\sum g) - \sum_b H_b g_b] = \tfrac12\sum_{b\ne b'} H_b g_{b'} ="
            r" \tfrac12\nabla\sum_{b<b'} g_b\cdot g_{b'}$. In this frame all pairs of losses are rewarded alike:"
            r" preferred with preferred as much as preferred with dispreferred.",
        ),
    )


@claim("boxed-cancelled")
def boxed_cancelled() -> Claim:
    """The boxed term is cancelled by a part of eq. (1)'s second term."""
    return Claim(
        finding="A part of eq. (1)'s second term is the boxed term with the other sign.",
        printed=None,
        precise=(
            equality(
                r"-\tfrac{1}{2B}\nabla\mathbb{E}_k\left\|\nabla\mathcal{M}_k - \nabla\bar{\mathcal{L}}\right\|^2",
                lambda: post.eq_1_second().series(),
                beyond.second_term_split(),
                reading="the last term here is minus the boxed term",
            ),
            equality(
                r"\text{(1) with the boxed term}",
                lambda: post.eq_1(post.boxed()).series(),
                beyond.reshuffled(),
                reading="the sum: no inner product of g+ and g- of one pair is left",
            ),
        ),
        assumptions=(TWICE,),
        method="every B; expansion of a square",
        argument=(
            r"$\mathbb{E}\|\nabla\mathcal{M}_k - \nabla\bar{\mathcal{L}}\|^2 = \mathbb{E}\|\nabla\mathcal{M}_k\|^2 -"
            r" \|\nabla\bar{\mathcal{L}}\|^2$ and $\|\nabla\mathcal{M}_k\|^2$ holds $\tfrac12 g^+_k\cdot g^-_k$. With"
            r" the factor $-\tfrac{1}{2B}$ that is $-\tfrac{1}{4B}\nabla\mathbb{E}[g^-_k\cdot g^+_k]$, the boxed term"
            r" with the other sign.",
            r"So the boxed term cannot be read off eq. (1) as 'what interleaving adds'. What it is the drift of, is"
            r" the pair-accumulated frame (pair-frame-drift).",
        ),
    )


@claim("third-order-modified-field")
def third_order_modified_field() -> Claim:
    """The modified field to third order, and why it has no potential."""

    def descent(order: int) -> Series:
        return modified_field(compose(Schedule.parse("a"), order), PLAIN, order)

    def reshuffled_field() -> Series:
        return modified_field(over_permutations(universal(3), B), MEANS, 3)

    return Claim(
        finding="Even plain gradient descent has no modified loss to third order.",
        printed=None,
        precise=(
            equality(
                r"\tilde f",
                lambda: descent(3),
                beyond.modified_field_of_descent(),
                reading="one step of gradient descent on one loss",
            ),
            gradient_field(
                r"\left[\tilde f\right]_{\varepsilon^2} \ \text{is a gradient}", lambda: descent(3).of_order(2), PLAIN
            ),
            gradient_field(
                r"\left[\tilde f\right]_{\varepsilon^3} \ \text{is a gradient}",
                lambda: descent(3).of_order(3),
                PLAIN,
                expected="refuted",
                reading="no modified loss exists to third order, even for plain gradient descent on one loss",
            ),
            equality(
                r"\left[\tilde f\right]_{\varepsilon^3}",
                lambda: reshuffled_field().of_order(3),
                beyond_second_order.modified_field_of_reshuffling(),
                reading="mean displacement of random reshuffling of B losses",
            ),
            gradient_field(
                r"\left[\tilde f\right]_{\varepsilon^3} \ \text{of random reshuffling is a gradient}",
                lambda: split_into_sides(reshuffled_field().of_order(3), MINUS_FIRST),
                MEANS,
                expected="refuted",
            ),
        ),
        assumptions=(FOUR_TIMES,),
        method="backward error analysis; potentials decided tree by tree, failure by witness",
        argument=(
            r"The flow of a field f for unit time is $f + \tfrac12 Df\,f + \tfrac16(D^2f[f,f] + Df\,Df\,f) + \ldots$;"
            r" solving order by order for the field whose flow is the step $-\varepsilon g$ gives $-\varepsilon g -"
            r" \tfrac{\varepsilon^2}{2}Hg - \varepsilon^3(\tfrac13 HHg + \tfrac1{12}T[g,g])$ (Hairer, Lubich & Wanner,"
            r" ch. IX).",
            r"The only scalar of this order is $g\cdot Hg$, whose gradient is $2HHg + T[g,g]$: the two coefficients"
            r" would have to stand as 2 to 1, and stand as 4 to 1. The rest has the Jacobian $[T[g], H]$ up to a"
            r" factor, which is not symmetric. In one dimension and for quadratics it is, and hides this.",
        ),
    )
