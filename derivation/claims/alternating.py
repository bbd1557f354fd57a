"""The warm-up of the post: L- and L+ in turn, every pair the same."""

from derivation import beyond, post
from derivation.averages import interleaved, without_noise
from derivation.claim import Claim, claim
from derivation.claims import ONE_STEP, TWICE
from derivation.formula import combination
from derivation.procedures import equality
from derivation.series import Schedule, Series, compose, step, universal
from derivation.symbols import B, element
from derivation.trees import Label

__all__: list[str] = []

MINUS_FIRST = ("-", "+")


def _alternating(order: int) -> Series:
    """The displacement of (- +) repeated n times, coefficients in n."""
    return without_noise(interleaved(universal(order), MINUS_FIRST))


def _alternating_odd(order: int) -> Series:
    """One more step on L-: m = 2n + 1."""
    return step(_alternating(order), Label("-"), element(1), order)


@claim("warm-up")
def warm_up() -> Claim:
    """Alternating losses without noise."""
    as_sum = combination((1, post.plus()), (1, post.minus()))
    return Claim(
        finding="The first term is four times too large: L is the mean of the two losses, not their sum; m = 2 hides"
        " it. It is an identity, without remainder.",
        printed=equality(
            "C",
            lambda: _alternating(2).of_order(2),
            post.warm_up(as_sum),
            expected="refuted",
            reading="L = L⁺ + L⁻, as the post's underbrace says",
            pairs=(2, 3, 4),
        ),
        precise=(
            equality(
                "C",
                lambda: _alternating(2).of_order(2),
                post.warm_up(post.mean_loss()),
                reading="L = (L⁺ + L⁻)/2, m even; an exact identity, to which no remainder belongs",
                slips={"L+ first": beyond.warm_up_plus_first()},
            ),
            equality(
                "C",
                lambda: _alternating_odd(2).of_order(2),
                beyond.warm_up_odd(),
                reading="m = 2n + 1 odd, one more step on L⁻",
            ),
            equality(
                "C",
                lambda: compose(Schedule.parse("-+"), 2).of_order(2),
                beyond.one_pair(),
                reading="m = 2: the first coefficient vanishes, so that the factor of L cannot be seen",
            ),
        ),
        assumptions=(TWICE, ONE_STEP, "L⁻ is stepped first"),
        method="every m: sums over ordered repetitions; r of n repetitions can be chosen in binomial(n, r) ways",
        argument=(
            r"Write a step as (repetition, side). A pair $b_1 > b_2$ either lies in two repetitions, which can be"
            r" chosen in $\binom{n}{2}$ ways with any two sides, or in one, which can be chosen in n ways and must be"
            r" $\mathcal{L}^-$ before $\mathcal{L}^+$.",
            r"So $C = \binom{n}{2} (H^- + H^+)(g^- + g^+) + n H^+ g^-$. With $\mathcal{L}$ the *mean* of the two"
            r" losses the first part is $4\binom{n}{2} \nabla^2\mathcal{L}\nabla\mathcal{L} = (\tfrac{m^2}{2} - m)"
            r" \nabla^2\mathcal{L}\nabla\mathcal{L}$; with their sum, as printed, it is four times that.",
            r"At $m = 2$ both vanish: the slip cannot be seen in the smallest example. The correction is a double sum"
            r" that was rewritten; nothing was dropped, so no $O(m^3\varepsilon^3)$ belongs in the line.",
        ),
        post_line=post.PRINTED["warm-up"],
    )


@claim("warm-up-epoch")
def warm_up_epoch() -> Claim:
    """One epoch of the warm-up."""
    as_sum = combination((1, post.plus()), (1, post.minus()))

    def epoch() -> Series:
        return _alternating(2).of_order(2).scaled(element(1 / B**2))

    return Claim(
        finding="True once L is the mean of the two losses; false for the sum that the post names.",
        printed=equality(
            r"\tfrac{1}{B^2} C",
            epoch,
            post.warm_up_epoch(as_sum),
            expected="refuted",
            reading="L = L⁺ + L⁻, as the post defines it one line before",
            pairs=(2, 3, 4),
        ),
        precise=(
            equality(
                r"\tfrac{1}{B^2} C",
                epoch,
                post.warm_up_epoch(post.mean_loss()),
                reading="L = (L⁺ + L⁻)/2, B even, times the square of the learning rate",
            ),
        ),
        assumptions=(TWICE, ONE_STEP, "m = B even", "L⁻ is stepped first"),
        method="every B, as for the warm-up",
        argument=(
            r"$\varepsilon^2 C = \tfrac{\eta^2}{B^2} C$ with $m = B$, and $\nabla^2\mathcal{L}\nabla\mathcal{L} ="
            r" \tfrac12 \nabla\|\nabla\mathcal{L}\|^2$.",
            r"The line is true for the mean of the two losses, which is also the loss of the full batch per example."
            r" For the sum of the two, which the line before it names, it is false as soon as $B > 2$.",
        ),
        post_line=post.PRINTED["warm-up-epoch"],
    )


@claim("fixed-start")
def fixed_start() -> Claim:
    """One pair with a fixed start."""
    return Claim(
        finding="Half a gradient, half a bracket; the post's experiment starts with L⁺, its theory with L⁻.",
        printed=None,
        precise=(
            equality(r"C_{-+}", lambda: compose(Schedule.parse("-+"), 2).of_order(2), beyond.one_pair()),
            equality(
                r"C_{+-}",
                lambda: compose(Schedule.parse("+-"), 2).of_order(2),
                beyond.one_pair_plus_first(),
                reading="the post's experiment descends on preferred answers first",
            ),
            equality(
                r"\nabla^2\mathcal{L}^+ \nabla\mathcal{L}^-",
                lambda: beyond.one_pair().series(),
                beyond.one_pair_split(),
                reading="half the gradient of the inner product, half a bracket",
            ),
        ),
        assumptions=(TWICE,),
        method="composition of two steps",
        argument=(
            r"$\nabla(g^+ \cdot g^-) = H^+ g^- + H^- g^+$, so $H^+ g^- = \tfrac12\nabla(g^+\cdot g^-) + \tfrac12 X$"
            r" with the bracket $X = H^+ g^- - H^- g^+$.",
            r"The theory of the post starts with $\mathcal{L}^-$ and gets $H^+ g^-$. Its experiment takes the"
            r" preferred step first: for plain gradient steps its one-pair term is $H^- g^+$, and the bracket has the"
            r" other sign.",
        ),
    )


@claim("opposite-losses")
def opposite_losses() -> Claim:
    """L- = -L+ on the same data."""

    def opposite(word: str) -> Series:
        series = compose(Schedule.parse(word), 2).of_order(2)
        return series.substituted(lambda label: {Label("+"): -1 if label.name == "-" else 1})

    return Claim(
        finding="A gradient-norm penalty in either order, and no bracket.",
        printed=None,
        precise=(
            equality(r"C_{-+}", lambda: opposite("-+"), beyond.gradient_norm_penalty()),
            equality(
                r"C_{+-}", lambda: opposite("+-"), beyond.gradient_norm_penalty(), reading="the other order: the same"
            ),
        ),
        assumptions=(TWICE, "L⁻ = −L⁺ with the same data"),
        method="linearity of every tree in the loss at each vertex",
        argument=(
            r"With $\mathcal{L}^- = -\mathcal{L}^+$ the gradient and the Hessian change sign together: $H^+ g^- = -H^+"
            r" g^+ = -\tfrac12\nabla\|g^+\|^2$ and $H^- g^+$ is the same.",
            r"Going up and down on one loss is a gradient-norm penalty whatever comes first. There is no bracket, and"
            r" the first-order term is zero.",
        ),
    )
