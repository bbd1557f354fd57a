"""The Interpretation of the post: what the drift rewards, in which frame, for which mean."""

from fractions import Fraction

from derivation import beyond, post
from derivation.averages import MEANS, ORDERED, PLAIN, Indexing, at, over_permutations, over_reversal, over_start
from derivation.claim import Claim, claim
from derivation.claims import ONE_STEP, THRICE
from derivation.claims.permutations import (
    MINUS_FIRST,
    coin_per_epoch_mean,
    correction,
    pair_accumulated,
)
from derivation.formula import gradient, inner, mean
from derivation.frames import gradient as gradient_series
from derivation.frames import joined
from derivation.procedures import equality, never_negative
from derivation.series import Schedule, Series, compose
from derivation.symbols import B, element
from derivation.trees import Label

__all__: list[str] = []

_RATE = (
    r"\lim_{\eta\to0} \tfrac{1}{\eta^2}\,"
    r"\mathbb{E}\left[\varphi(\theta_{\text{seq}}) - \varphi(\theta_{\text{frame}})\right]"
)


@claim("entanglement")
def entanglement() -> Claim:
    """Two inner products that are each other's negatives when L+ = -L-."""

    def functionals(series: Series) -> Series:
        """L-(theta, y) = -L+(theta, y) for every y."""
        return series.substituted(lambda label: {Label("+", label.member): -1 if label.name == "-" else 1})

    def same_pair(series: Series) -> Series:
        """L-_k = -L+_k: the two losses of a pair, each on its own data, are opposite."""
        return series.substituted(lambda label: {Label("+", 1): -1} if label.name == "-" else {label: 1})

    rewarded = beyond.rewarded()
    return Claim(
        finding="True when L⁺ = −L⁻ as functionals of the answer; not for L⁺_k = −L⁻_k.",
        printed=equality(
            r"\nabla\mathcal{L}^+(y^+)\cdot\nabla\mathcal{L}^-(y^-)",
            lambda: functionals(rewarded.series()),
            beyond.penalised(),
            reading="L⁺ = −L⁻ as functionals of (θ, y)",
        ),
        precise=(
            equality(
                r"\nabla\mathcal{L}^+(y^+)\cdot\nabla\mathcal{L}^-(y^-)",
                lambda: functionals(rewarded.series()),
                beyond.penalised(),
                reading="L⁺ = −L⁻ as functionals of (θ, y); y⁺ and y⁻ different",
            ),
            equality(
                r"\nabla\mathcal{L}^+_k\cdot\nabla\mathcal{L}^-_k",
                lambda: same_pair(rewarded.series()),
                beyond.penalised(),
                expected="refuted",
                reading="read as L⁺_k = −L⁻_k it fails: that is minus a squared norm, and y⁻ has gone",
            ),
        ),
        assumptions=("losses differentiable", "L⁺ = −L⁻ as functionals: the same function of every answer"),
        method="linearity in the loss",
        argument=(
            r"With $\mathcal{L}^-(\theta, y) = -\mathcal{L}^+(\theta, y)$ for every y the two inner products differ by"
            r" a sign, and rewarding one penalises the other.",
            r"It is a statement about two different answers $y^+ \ne y^-$. If instead the two losses of one *pair*"
            r" were opposite, $\mathcal{L}^+_k = -\mathcal{L}^-_k$, the inner product would be $-\|g^+_k\|^2$ and say"
            r" nothing about entanglement.",
        ),
        post_line=post.PRINTED["entanglement"],
    )


def _pair_frame_drift() -> Series:
    """Sequential with a random start less pair-accumulated, second order, over B^2, mean over pair orders."""
    drift = over_start(correction(), MINUS_FIRST) - pair_accumulated()
    return over_permutations(drift).scaled(element(1 / B**2))


def _rate(potential: Series, drift: Series, indexing: Indexing = MEANS) -> Series:
    return joined(gradient_series(potential, indexing), drift, indexing)


@claim("bias-sign")
def bias_sign() -> Claim:
    """Whether sequential updates raise the alignment of the two gradients."""
    aligned = post.alignment().series
    of_means = inner(gradient(mean(post.minus(-1, MEANS))), gradient(mean(post.plus(-1, MEANS)))).series
    one_pair = inner(gradient(post.minus()), gradient(post.plus())).series
    first_of_two = inner(gradient(post.minus(1)), gradient(post.plus(1))).series

    def one_pair_drift() -> Series:
        """Two sequential steps of size eta/2 in random order less one accumulated step, second order, over eta^2."""
        both = compose(Schedule.parse("-+"), 2) + compose(Schedule.parse("+-"), 2)
        return both.of_order(2).scaled(Fraction(1, 2)).scaled(Fraction(1, 4))

    def fixed_start() -> Series:
        return _rate(one_pair, compose(Schedule.parse("-+"), 2).of_order(2), PLAIN)

    return Claim(
        finding="For one pair and a random start, yes. For more pairs only the mean over pairs, relative to one"
        " accumulated step per pair; not a single pair, not the mean gradients, not with a fixed start, not in the"
        " other frame.",
        printed=never_negative(
            r"\nabla\mathbb{E}_k[g^-_k\cdot g^+_k]\cdot\text{drift}",
            lambda: _rate(aligned, coin_per_epoch_mean()).scaled(element(1 / B**2)),
            MEANS,
            reading="the post's own comparison: one accumulated update against its B sequential steps, random start;"
            " all drifts in units of η²",
        ),
        precise=(
            equality(
                _RATE,
                lambda: _rate(aligned, _pair_frame_drift()),
                beyond.rate_of_alignment(),
                reading="φ = E_k[g⁻_k·g⁺_k], pair-accumulated frame, random start: never negative",
            ),
            equality(
                r"\nabla\Phi\cdot\tfrac12\left(C_w + C_{\mathrm{rev}(w)}\right)",
                lambda: _rate(beyond.all_alignments().series, over_reversal(correction()), ORDERED),
                beyond.rate_of_all_alignments(),
                reading="Φ = sum over b < b' of g_b·g_b', accumulated frame, symmetrised: never negative",
            ),
            never_negative(
                r"\nabla\left(g^-_1\cdot g^+_1\right)\cdot\text{drift}",
                lambda: _rate(first_of_two, at(_pair_frame_drift(), MEANS, 2), PLAIN),
                PLAIN,
                reading="a single pair of two, n = 2: pair-accumulated frame, random start",
            ),
            never_negative(
                r"\nabla\left(\bar g^-\cdot\bar g^+\right)\cdot\text{drift}",
                lambda: _rate(of_means, _pair_frame_drift()),
                MEANS,
                reading="the inner product of the mean gradients, n = 2: pair-accumulated frame, random start",
            ),
            equality(
                _RATE,
                lambda: _rate(one_pair, one_pair_drift()),
                beyond.rate_of_one_pair(),
                reading="one pair, B = 2, where the two frames are one; random start: never negative",
            ),
            never_negative(
                r"\nabla\left(g^-\cdot g^+\right)\cdot H^+ g^-",
                fixed_start,
                PLAIN,
                reading="a fixed start, one pair",
            ),
        ),
        assumptions=(
            THRICE,
            ONE_STEP,
            "the change at order η²; the first-order change is common to both maps and cancels",
        ),
        method="every n: the rate is a positive multiple of a squared norm; failures by witness",
        argument=(
            r"Both maps end within $O(\eta)$ of $\theta$, so $\varphi(\theta_{\text{seq}}) -"
            r" \varphi(\theta_{\text{frame}}) = \nabla\varphi(\theta)\cdot\text{drift} + O(\eta^3)$.",
            r"In the pair-accumulated frame with a random start the drift is $\tfrac{\eta^2}{4B}\nabla\varphi$ for"
            r" $\varphi = \mathbb{E}_k[g^-_k\cdot g^+_k]$ (pair-frame-drift), so the rate is"
            r" $\tfrac{\eta^2}{4B}\|\nabla\varphi\|^2 \ge 0$: here the post is right.",
            r"In the accumulated frame the symmetrised drift is $\tfrac{\varepsilon^2}{2}\nabla\Phi$ with $\Phi ="
            r" \sum_{b<b'} g_b\cdot g_{b'}$, and it is $\Phi$ that rises. Only for one pair, B = 2, is that $g^+\cdot"
            r" g^-$; then the frames are one, and the post is right again. Its experiment takes one pair of steps per"
            r" update, with a fixed start.",
            r"For one pair among several, for the product of the mean gradients, for a fixed start, or for more than"
            r" one pair in the accumulated frame the rate is an inner product of two different vectors, and the"
            r" witnesses make it negative.",
        ),
        post_line=post.PRINTED["bias-sign"],
    )
