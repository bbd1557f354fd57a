"""Third-order means in closed form, for every number of pairs.  We know of none in print."""

from functools import cache

from derivation import beyond_second_order
from derivation.averages import (
    interleaved,
    interleaved_with_coins,
    over_independent_permutations,
    over_permutations,
    over_start,
    split_into_sides,
)
from derivation.claim import Claim, claim
from derivation.claims import FOUR_TIMES, ONE_STEP
from derivation.claims.permutations import MINUS_FIRST, PLUS_FIRST
from derivation.procedures import equality
from derivation.series import Series, universal
from derivation.symbols import B, element, n

__all__: list[str] = []

_THIRD = r"\mathbb{E}\left[\theta_B - \theta\right]_{\varepsilon^3}"
_METHOD = "every n: r distinct members stand in each of their r! orders equally often; Moebius inversion on partitions"


@cache
def _third() -> Series:
    return universal(3).of_order(3)


@cache
def _fixed(period: tuple[str, str]) -> Series:
    return over_permutations(interleaved(_third(), period))


@cache
def _random_start() -> Series:
    return over_permutations(over_start(_third(), MINUS_FIRST))


def _reshuffled() -> Series:
    return split_into_sides(over_permutations(_third(), 2 * n), MINUS_FIRST)


@claim("third-order-reshuffling")
def third_order_reshuffling() -> Claim:
    """The mean third-order displacement of random reshuffling."""
    return Claim(
        finding="Nine terms, for every B.",
        printed=None,
        precise=(
            equality(
                _THIRD,
                lambda: over_permutations(_third(), B),
                beyond_second_order.third_order_reshuffling(),
                reading="B losses in uniformly random order; E_k is the mean over all B losses",
            ),
        ),
        assumptions=(FOUR_TIMES, "uniform order of the B losses, one step size"),
        method=_METHOD,
        argument=(
            r"A chain $H_i H_j g_k$ of three different losses stands in order with probability $\tfrac16$; a fork"
            r" $\tfrac12 T_i[g_j, g_k]$ with $j\ne k$ has its root last with probability $\tfrac13$, and with $j = k$"
            r" with probability $\tfrac12$.",
            r"Sums over different losses are turned into means over independent draws by inclusion and exclusion:"
            r" $\sum_{i\ne j\ne k} = B^3\,\mathbb{E}_{ijk} - B^2(\ldots) + 2B\,\mathbb{E}_k$. The leading terms are"
            r" those of the flow.",
        ),
    )


@claim("third-order-interleaving")
def third_order_interleaving() -> Claim:
    """The mean third-order displacement of interleaved pairs."""
    return Claim(
        finding="Fifteen terms with a random start, ten more with a fixed one, for every n.",
        printed=None,
        precise=(
            equality(
                _THIRD,
                _random_start,
                beyond_second_order.third_order_random_start(),
                reading="joint permutations of n pairs, random start; M and D are half sum and half difference of a"
                " pair",
                is_mutated=False,
            ),
            equality(
                _THIRD,
                lambda: over_permutations(interleaved_with_coins(_third(), MINUS_FIRST)),
                beyond_second_order.third_order_random_start(),
                reading="one coin per pair: the same to third order (they part at the fourth)",
                is_mutated=False,
            ),
            equality(
                _THIRD,
                lambda: _fixed(MINUS_FIRST),
                beyond_second_order.third_order_fixed_start(),
                reading="joint permutations, L⁻ first",
            ),
            equality(
                r"\tfrac12\left(\mathbb{E}_{-+} - \mathbb{E}_{+-}\right)",
                lambda: (_fixed(MINUS_FIRST) - _fixed(PLUS_FIRST)).scaled(element(1) / 2),
                beyond_second_order.third_order_start_bias(),
                reading="the part that changes sign with the start: odd in D",
                is_mutated=False,
            ),
        ),
        assumptions=(FOUR_TIMES, "uniform joint permutation of the pairs, one step size"),
        method=_METHOD,
        argument=(
            r"Three vertices name at most three steps, and these lie in at most three pairs. Which vertices share a"
            r" pair and in which order the pairs stand are enumerated once, for all n; the mean over permutations"
            r" weighs each order of r pairs with $1/r!$.",
            r"Written in $\mathcal{M}_k$ and $\mathcal{D}_k$, exchanging + and - changes the sign of $\mathcal{D}$"
            r" only: the random start keeps what is even in $\mathcal{D}$, and a fixed start adds what is odd.",
        ),
    )


@claim("third-order-independent")
def third_order_independent() -> Claim:
    """The mean third-order displacement when each side is permuted on its own."""

    def started(period: tuple[str, str]) -> Series:
        return over_independent_permutations(interleaved(_third(), period), period)

    def both_starts() -> Series:
        return (started(MINUS_FIRST) + started(PLUS_FIRST)).scaled(element(1) / 2)

    return Claim(
        finding="Nineteen terms for each side, for every n.",
        printed=None,
        precise=(
            equality(
                _THIRD,
                both_starts,
                beyond_second_order.third_order_independent(),
                reading="the sums run over both sides s, and t is the other side; random start",
            ),
            equality(
                _THIRD,
                both_starts,
                beyond_second_order.third_order_random_start(),
                expected="refuted",
                reading="that independent and joint permutations agree at third order, as they do at second",
            ),
        ),
        assumptions=(
            FOUR_TIMES,
            ONE_STEP,
            "uniform permutations of the two sides, independent of each other and of the start",
        ),
        method="every n: q positions in order can be chosen in binomial(n, q) ways; each side's members are"
        " exchangeable",
        argument=(
            r"At q given positions each side puts any r distinct members of its own with the same probability"
            r" $1/(n)_r$, and the two sides are independent. So no term knows which preferred loss was paired with"
            r" which dispreferred one: only means over one side at a time occur. The falling factorials"
            r" cancel, and what is left is polynomial in n.",
            r"At second order, with a random start, joint and independent permutations have the same mean (eq-1). Here"
            r" they part: the joint mean holds products inside one pair.",
        ),
    )


@claim("third-order-difference")
def third_order_difference() -> Claim:
    """Interleaving and reshuffling part at third order."""
    return Claim(
        finding="They differ by a term of size n²ε³, for two pairs or more.",
        printed=None,
        precise=(
            equality(
                r"\mathbb{E}_{\text{reshuffling}} - \mathbb{E}_{\text{interleaving}}",
                lambda: _reshuffled() - _random_start(),
                beyond_second_order.third_order_difference(),
                reading="third-order displacement; interleaving with a random start",
            ),
            equality(
                r"\mathbb{E}_{\text{reshuffling}}",
                _reshuffled,
                beyond_second_order.third_order_random_start(),
                expected="refuted",
                reading="that the two agree at third order",
            ),
        ),
        assumptions=(
            FOUR_TIMES,
            ONE_STEP,
            "uniform joint permutation of the pairs and an independent fair coin; uniform order of all losses",
        ),
        method=_METHOD,
        argument=(
            r"Both distributions equal their own reversal and have the same letters, which fixes the mean at second"
            r" order (reversal-mean). At third order three positions have six orders, and reversal ties them only in"
            r" twos.",
            r"The leading terms $n^3$ are those of the flow and cancel; the difference is of size $n^2\varepsilon^3$,"
            r" not $n\varepsilon^3$: at a fixed step size it grows with the epoch.",
        ),
    )
