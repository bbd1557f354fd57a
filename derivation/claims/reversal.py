"""Orders that equal their own reversal: one second-order mean for all of them, shuffling included."""

from derivation import beyond, post
from derivation.averages import (
    reversed_order,
    with_replacement,
)
from derivation.claim import Claim, claim
from derivation.claims import ONE_STEP, TWICE
from derivation.claims.permutations import (
    EXPECTATION,
    coin_per_epoch_mean,
    correction,
    per_epoch,
    reshuffling_mean,
)
from derivation.procedures import equality
from derivation.series import Schedule, compose
from derivation.symbols import element, m

__all__: list[str] = []


@claim("reversal-mean")
def reversal_mean() -> Claim:
    """Every distribution over words that equals its own reversal has one mean."""
    common = Schedule.parse("ab", "1,2"), Schedule.parse("ba", "1,2")
    return Claim(
        finding="Half of [(ΣH)(Σg) − ΣH_b g_b]; not with replacement, not with step sizes that vary by position.",
        printed=None,
        precise=(
            equality(
                r"C_w + C_{\mathrm{rev}(w)}",
                lambda: correction() + reversed_order(correction()),
                beyond.both_orders(),
                reading="for every word; half of it is the mean over any distribution with that multiset of letters"
                " that equals its own reversal",
            ),
            equality(
                r"\mathbb{E}\left[C\right]",
                lambda: with_replacement(correction(), m),
                beyond.independent_draws(),
                reading="m steps drawn with replacement: the multiset is not fixed, and the mean is another",
            ),
            equality(
                r"\mathbb{E}\left[C\right]",
                lambda: with_replacement(correction(), m),
                beyond.reshuffled_by_losses(),
                expected="refuted",
                reading="the formula of one fixed multiset fails for draws with replacement (witness: m = 2n draws"
                " from n losses)",
            ),
            equality(
                r"\tfrac12\left(C_{ab} + C_{ba}\right)",
                lambda: (compose(common[0], 2) + compose(common[1], 2)).of_order(2).scaled(element(1) / 2),
                beyond.mean_of_two_with_common_step(),
                expected="refuted",
                reading="step sizes 1 and 2 by position: the common step size 3/2, which has the same first order, has"
                " another mean",
            ),
        ),
        assumptions=(TWICE, "one fixed multiset of letters, one constant step size"),
        method="every word: a pair of positions is in order in exactly one of the word and its reversal; both sides"
        " are polynomials in m, so that even m decide",
        argument=(
            r"In $C_w + C_{\mathrm{rev}(w)}$ each pair of different positions occurs in both orders once: $(\sum"
            r" H)(\sum g) - \sum_b H_b g_b$. This depends on the multiset of letters only.",
            r"If a distribution over words equals its own reversal, its mean of C equals its mean of"
            r" $C_{\mathrm{rev}}$, and both equal half the sum: no further randomness is needed. Random reshuffling,"
            r" interleaving shuffled pairs with a random start, and a single palindrome are examples.",
        ),
    )


@claim("interleaving-is-reshuffling")
def interleaving_is_reshuffling() -> Claim:
    """Interleaving with a random start against random reshuffling."""
    return Claim(
        finding="Interleaving with a random start has the same mean second-order correction as shuffling all losses.",
        printed=None,
        precise=(
            equality(
                EXPECTATION,
                lambda: per_epoch(coin_per_epoch_mean()),
                beyond.reshuffled(),
                reading="interleaving, joint permutations of pairs, random start",
            ),
            equality(
                EXPECTATION,
                lambda: per_epoch(reshuffling_mean()),
                beyond.reshuffled(),
                reading="random reshuffling of all B losses (Smith et al. 2021)",
            ),
            equality(
                EXPECTATION,
                lambda: post.eq_1(post.boxed()).series(),
                beyond.reshuffled(),
                reading="eq. (1) with the boxed term is the same formula",
            ),
        ),
        assumptions=(
            TWICE,
            ONE_STEP,
            "uniform joint permutation of the pairs and an independent fair coin; uniform order of all losses",
        ),
        method="every n, by two independent averages",
        argument=(
            r"Both distributions have the same letters and equal their own reversal, so by reversal-mean they have the"
            r" same mean: $\tfrac14\nabla\|\nabla\bar{\mathcal{L}}\|^2 -"
            r" \tfrac{1}{4B}\nabla\,\mathrm{mean}_b\|g_b\|^2$.",
            r"So at second order, on average and in the accumulated frame, interleaving preferred and dispreferred"
            r" steps does nothing that shuffling all of them would not do. At third order they part"
            r" (third-order-difference).",
        ),
    )
