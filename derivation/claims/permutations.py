"""The centre of the post: interleaved pairs with minibatch noise, averaged over random orders."""

from functools import cache
from itertools import product

from sympy import Expr, Integer, Symbol, limit, oo

from derivation import beyond, post
from derivation.averages import (
    MEANS,
    PLAIN,
    at,
    interleaved,
    interleaved_with_coins,
    over_independent_permutations,
    over_permutations,
    over_start,
    split_into_sides,
)
from derivation.claim import Claim, Statement, Verdict, claim
from derivation.claims import ONE_STEP, TWICE
from derivation.procedures import equality, expressions, gradient_field
from derivation.series import Schedule, Series, compose, universal
from derivation.symbols import B, element, n
from derivation.trees import Label
from derivation.witness import Witness, evaluated, format_losses

__all__: list[str] = []

MINUS_FIRST = ("-", "+")
PLUS_FIRST = ("+", "-")
_PER_EPOCH = element(1 / B**2)
EXPECTATION = r"\tfrac{1}{B^2}\,\mathbb{E}\left[C\right]"


@cache
def correction() -> Series:
    """The correction of every word: the second-order part of the displacement."""
    return universal(2).of_order(2)


@cache
def fixed_start_mean() -> Series:
    """The mean over joint permutations of pairs, L- first."""
    return over_permutations(interleaved(correction(), MINUS_FIRST))


@cache
def coin_per_epoch_mean() -> Series:
    """The mean over joint permutations and one fair coin for which side starts."""
    return over_permutations(over_start(correction(), MINUS_FIRST))


@cache
def coin_per_pair_mean() -> Series:
    """The mean over joint permutations and one fair coin for every pair."""
    return over_permutations(interleaved_with_coins(correction(), MINUS_FIRST))


@cache
def reshuffling_mean() -> Series:
    """The mean over all orders of all B losses."""
    return split_into_sides(over_permutations(correction(), 2 * n), MINUS_FIRST)


def per_epoch(series: Series) -> Series:
    return series.scaled(_PER_EPOCH)


@claim("four-way")
def four_way() -> Claim:
    """The split of the double sum by side."""
    counted_from_one = Schedule((Label("-"), Label("+", 1), Label("-", 1), Label("+", 2)))
    return Claim(
        finding="True for the order L⁻_1 L⁺_1 L⁻_2 L⁺_2 ...; the sentence in front of it describes another order, or"
        " other pairs.",
        printed=equality(
            "C",
            lambda: interleaved(correction(), PLUS_FIRST),
            post.four_way(),
            expected="refuted",
            reading="with the sentence 'at step 2k we sample from L⁺_k, at step 2k+1 from L⁻_k', steps counted from 0:"
            " L⁺_k comes before L⁻_k",
        ),
        precise=(
            equality(
                "C",
                lambda: interleaved(correction(), MINUS_FIRST),
                post.four_way(),
                reading="for the order L⁻_1 L⁺_1 L⁻_2 L⁺_2 ...; n = B/2 pairs",
            ),
            equality(
                "C",
                lambda: interleaved(correction(), PLUS_FIRST),
                beyond.four_way_plus_first(),
                reading="for the order of the sentence, steps counted from 0",
            ),
            equality(
                "C",
                lambda: compose(counted_from_one, 2).of_order(2),
                beyond.four_way_of_two_pairs(),
                expected="refuted",
                reading="steps counted from 1, B = 4: the sentence's steps are L⁻_0, L⁺_1, L⁻_1, L⁺_2, other pairs;"
                " the witness calls L⁻_0 by the free name L⁻",
            ),
        ),
        assumptions=(TWICE, ONE_STEP),
        method="every n: sums over ordered repetitions",
        argument=(
            r"A step is (pair, side), and steps are ordered by pair first. So $b_1 > b_2$ means $k_1 > k_2$ with any"
            r" sides, or $k_1 = k_2$ with the second side at $b_1$ and the first at $b_2$. With $\mathcal{L}^-$ first"
            r" only the sum of $H^+_{k_1} g^-_{k_2}$ includes $k_2 = k_1$: the four sums as printed.",
            r"The sentence in front of them describes another order. Counted from 0, step 2k is $\mathcal{L}^+_k$ and"
            r" comes before $\mathcal{L}^-_k$: then it is the sum of $H^-_{k_1} g^+_{k_2}$ that runs to $k_1$.",
            r"Counted from 1 the word is $\mathcal{L}^-_0 \mathcal{L}^+_1 \mathcal{L}^-_1 \mathcal{L}^+_2 \ldots$,"
            r" whose first letter the printed sums do not even name. Renaming $\mathcal{L}^-_{k-1}$ to"
            r" $\mathcal{L}^-_k$ makes them true again, but of other pairs, $(\mathcal{L}^-_{k-1}, \mathcal{L}^+_k)$.",
        ),
        post_line=post.PRINTED["four-way"],
    )


@claim("eq-1")
def eq_1() -> Claim:
    """The mean over permutations of pairs."""
    return Claim(
        finding="The left side lacks 1/B², L_i must be the pair mean, and the pairs must be permuted jointly.",
        printed=equality(
            r"\mathbb{E}\left[C\right]",
            fixed_start_mean,
            post.eq_1(),
            expected="refuted",
            reading="as printed, without 1/B² on the left",
        ),
        precise=(
            equality(
                EXPECTATION,
                lambda: per_epoch(fixed_start_mean()),
                post.eq_1(),
                reading="L_i is the pair mean M_k, pairs permuted jointly, L⁻ first",
                slips={"pair mean read as a single loss": post.eq_1_single_losses()},
            ),
            equality(
                EXPECTATION,
                lambda: per_epoch(fixed_start_mean()),
                post.eq_1_single_losses(),
                expected="refuted",
                reading="with L_i read as a single loss it fails",
            ),
            equality(
                r"\mathbb{E}_{\text{joint}}\left[C\right] - \mathbb{E}_{\text{independent}}\left[C\right]",
                lambda: (
                    fixed_start_mean()
                    - over_independent_permutations(interleaved(correction(), MINUS_FIRST), MINUS_FIRST)
                ),
                beyond.joint_minus_independent(),
                reading="with each side permuted on its own, L⁻ first; zero for n = 1",
            ),
            equality(
                EXPECTATION,
                lambda: per_epoch(
                    over_independent_permutations(interleaved(correction(), MINUS_FIRST), MINUS_FIRST)
                    + over_independent_permutations(interleaved(correction(), PLUS_FIRST), PLUS_FIRST)
                ).scaled(element(1) / 2),
                post.eq_1(post.boxed()),
                reading="independent permutations and a random start: no difference is left",
            ),
        ),
        assumptions=(
            TWICE,
            ONE_STEP,
            "uniform permutation of the pairs, or of each side where it says so",
            "m = B = 2n",
        ),
        method="every n: a uniform permutation puts r distinct pairs into each of their r! orders equally often",
        argument=(
            r"From the four-way split, a term with two different pairs occurs in each order with probability"
            r" $\tfrac12$, whatever n: it contributes $\tfrac12 \sum_{j\ne k}$. A term inside a pair does not depend"
            r" on the permutation: $\sum_k H^+_k g^-_k$.",
            r"So $\mathbb{E}[C] = \tfrac12[ 4 n^2 \nabla^2\bar{\mathcal{L}}\nabla\bar{\mathcal{L}} - 4 n\,"
            r" \mathbb{E}_k \nabla^2\mathcal{M}_k \nabla\mathcal{M}_k ] + n\, \mathbb{E}_k[H^+_k g^-_k]$. Divide by"
            r" $B^2 = 4n^2$ and complete the square around the mean: eq. (1), with $1/B^2$ on its left and the *pair"
            r" mean* in its middle term.",
            r"If the two sides are permuted independently, a dispreferred loss stands before a preferred one with"
            r" probability $\tfrac{n+1}{2n}$ for *all* pairs of indices. What was special about equal indices, the"
            r" covariance of $H^+_k$ and $g^-_k$, is lost.",
        ),
        post_line=post.PRINTED["eq-1"],
    )


@claim("boxed")
def boxed() -> Claim:
    """The last term under a random start."""
    first_two = post.eq_1_first_two()
    return Claim(
        finding="True: with a fair coin for the start, one per epoch or one per pair.",
        printed=equality(
            EXPECTATION + r" - \text{(first two terms of (1))}",
            lambda: per_epoch(coin_per_epoch_mean()) - first_two.series(),
            post.boxed(),
            reading="fair coin for the start, one per epoch; (1) made precise",
        ),
        precise=(
            equality(
                EXPECTATION,
                lambda: per_epoch(coin_per_epoch_mean()),
                post.eq_1(post.boxed()),
                reading="one fair coin per epoch",
            ),
            equality(
                EXPECTATION,
                lambda: per_epoch(coin_per_pair_mean()),
                post.eq_1(post.boxed()),
                reading="one fair coin per pair",
            ),
            gradient_field(r"\mathbb{E}[C] \ \text{is a gradient}", coin_per_epoch_mean, MEANS, reading="random start"),
            gradient_field(
                r"\mathbb{E}[C] \ \text{is a gradient}", fixed_start_mean, MEANS, expected="refuted", reading="L⁻ first"
            ),
        ),
        assumptions=(
            TWICE,
            ONE_STEP,
            "uniform joint permutation of the pairs",
            "a fair coin, independent of the permutation",
        ),
        method="every n; relabelling + and -",
        argument=(
            r"Exchanging + and - leaves $\mathcal{M}_k$ and with it the first two terms of eq. (1) as they are, and"
            r" turns $\mathbb{E}_k[H^+_k g^-_k]$ into $\mathbb{E}_k[H^-_k g^+_k]$. The mean of the two is $\tfrac12"
            r" \nabla \mathbb{E}_k[g^-_k \cdot g^+_k]$.",
            r"At second order only the order inside one pair matters, so one coin per epoch and one coin per pair have"
            r" the same mean.",
        ),
        post_line=post.PRINTED["boxed"],
    )


@claim("large-b")
def large_b() -> Claim:
    """When the first term dominates."""

    def opposite(series: Series) -> Series:
        return series.substituted(lambda label: {Label("+", label.member): -1 if label.name == "-" else 1})

    def alike(series: Series) -> Series:
        return series.relabelled(lambda label: Label(label.name))

    def first_term_at_opposites() -> Verdict:
        num_pairs = 16
        total = at(alike(opposite(per_epoch(coin_per_epoch_mean()))), PLAIN, num_pairs)
        first = at(beyond.first_term_of_opposites().series(), PLAIN, num_pairs)
        losses = {Label("+"): {(1,): 1, (2,): 1}}
        value, rest = evaluated(first, losses, 1)[0], evaluated(total - first, losses, 1)[0]
        if abs(value) >= abs(rest):
            return Verdict("undecided", reason="it dominates at the point tried")
        setting = f"B = {2 * num_pairs}, {format_losses(losses, 1, None)}"
        return Verdict("refuted", Witness(setting, f"first term {value}, the others {rest}", "the first larger"))

    def spread_over_first() -> Expr:
        """Second term over first where L+_k = (1 + s c) q and L-_k = (1 + t c) q, s and t = 1, -1 equally often, c = B.

        Every gradient is a multiple of q', every term a multiple of the gradient of |q'|^2.
        """
        c = Symbol("c")
        signs = list(product((1, -1), repeat=2))
        pair_means = [1 + c * (s + t) / 2 for s, t in signs]
        spread = sum(((value - 1) ** 2 for value in pair_means), Integer(0)) / len(signs)
        first, second, _ = (part.coefficient for part in post.eq_1().terms)
        return (second * spread / first).subs(c, B)

    def boxed_over_first() -> Expr:
        return post.boxed().terms[0].coefficient / post.eq_1().terms[0].coefficient

    def asymmetric_over_first() -> Expr:
        return post.eq_1().terms[2].coefficient / post.eq_1().terms[0].coefficient

    return Claim(
        finding="In the accumulated frame, where the gradients in the other terms are at most a fixed multiple of that"
        " in the first; else it can fail: where L⁻_k = −L⁺_k the first two terms vanish at every B.",
        printed=Statement(
            r"\|\text{first term}\| \ge \|\text{the others}\| \ \text{for large}\ B",
            first_term_at_opposites,
            expected="refuted",
            reading="L⁻_k = −L⁺_k, all pairs alike, random start; the same at every B",
        ),
        precise=(
            expressions(
                r"\frac{\text{boxed}}{\text{first}}",
                boxed_over_first,
                1 / (B - 2),
                points=({B: 8}, {B: 32}),
                reading="ratio of the coefficients in the accumulated frame, as proved in eq-1 and boxed",
            ),
            expressions(
                r"\frac{\text{asymmetric}}{\text{first}}",
                asymmetric_over_first,
                2 / (B - 2),
                points=({B: 8}, {B: 32}),
                reading="the same for the fixed start: twice that",
            ),
            expressions(
                r"\frac{\text{first}}{\text{boxed}} \ \text{at}\ B = 2, 8, 32;"
                r"\ \lim_{B\to\infty}\frac{\text{boxed}}{\text{first}}",
                lambda: (
                    *((1 / boxed_over_first()).subs(B, size) for size in (2, 8, 32)),
                    limit(boxed_over_first(), B, oo),
                ),
                (Integer(0), Integer(6), Integer(30), Integer(0)),
                reading="at B = 2 the first term is absent",
                slips={"the sequence one step on": (Integer(2), Integer(6), Integer(30), Integer(0))},
            ),
            expressions(
                r"\frac{\text{second}}{\text{first}}",
                spread_over_first,
                -(B**2) / (B - 2),
                points=({B: 8}, {B: 32}),
                reading="bounding the boxed gradient is not enough: L⁺_k = (1 ± B)q, L⁻_k = (1 ± B)q, the four choices"
                " of signs equally often (B a multiple of 8), so that E[g⁻·g⁺] = ‖∇L̄‖²; any loss q",
            ),
            equality(
                EXPECTATION,
                lambda: opposite(per_epoch(coin_per_epoch_mean())),
                beyond.opposite_pairs(),
                reading="where L⁻_k = −L⁺_k the first two terms vanish at every B",
            ),
            equality(
                r"\tfrac{1}{B^2}\left(\mathbb{E}[C] - \mathbb{E}[C_{\text{pair-accumulated}}]\right)",
                lambda: per_epoch(coin_per_epoch_mean() - pair_accumulated_mean()),
                post.boxed(),
                reading="in the pair-accumulated frame the first two terms cancel at every B",
            ),
        ),
        assumptions=(
            TWICE,
            ONE_STEP,
            r"for domination: the accumulated frame, and $\|\nabla\mathbb{E}[g^-\cdot g^+]\|$,"
            r" $\|\nabla\mathbb{E}\|\nabla\mathcal{M}_k - \nabla\bar{\mathcal{L}}\|^2\|$ and, with a fixed start,"
            r" $\|\mathbb{E}[H^+ g^-]\|$ at most $K\,\|\nabla\|\nabla\bar{\mathcal{L}}\|^2\|$ with K independent of B",
        ),
        method="ratio of proved coefficients, symbolic B; failure by witness",
        argument=(
            r"The coefficients of the first, boxed and asymmetric term are $\tfrac{B-2}{4B}$, $\tfrac{1}{4B}$ and"
            r" $\tfrac{1}{2B}$, that of the second is $-\tfrac{1}{2B}$. If the gradients in the others are at most K"
            r" times that in the first, uniformly in B, their ratios to it are at most $\tfrac{K}{B-2}$ and"
            r" $\tfrac{2K}{B-2}$, and the first term dominates.",
            r"They need not be. Where $\mathcal{L}^-_k = -\mathcal{L}^+_k$ every pair mean is zero and with it the"
            r" first two terms, at every B; all that is left is $-\tfrac{1}{4B}\nabla\mathbb{E}\|g^+_k\|^2$. And where"
            r" the pair means scatter as widely as B, the second term outgrows the first although the boxed one does"
            r" not.",
            r"And it is a statement about one frame. Compared with one accumulated step per pair the first two terms"
            r" are in both maps and cancel: the boxed term is the whole difference.",
        ),
        post_line=post.PRINTED["large-b"],
    )


@cache
def pair_accumulated_mean() -> Series:
    """The second-order part of n steps of size 2 eps on the pair means, averaged over their order.

    Step 2 eps on M_k = (L-_k + L+_k)/2 is step eps on L-_k + L+_k.
    """
    return over_permutations(pair_accumulated())


@cache
def pair_accumulated() -> Series:
    """The same for a fixed order of the pairs, as sums over ordered pairs."""
    return correction().substituted(lambda label: {Label("-", label.member): 1, Label("+", label.member): 1})
