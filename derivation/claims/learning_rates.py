"""The first order of the experiment: which learning rates match, and what AdamW does to alternating gradients."""

from fractions import Fraction
from functools import cache

from sympy import (
    Abs,
    Expr,
    Integer,
    Rational,
    Symbol,
    cancel,
    diff,
    limit,
    oo,
    simplify,
    solve,
    sqrt,
    symbols,
)

from derivation import beyond, post
from derivation.claim import Claim, Statement, claim
from derivation.procedures import equality, expressions
from derivation.series import Schedule, Series, compose
from derivation.symbols import B, element
from derivation.trees import tree

__all__: list[str] = []

_ETA = Symbol("eta", positive=True)
_A, _B = symbols("a b", real=True)
_S = Symbol("s", nonnegative=True)
_BETA_1, _BETA_2 = symbols("beta_1 beta_2", positive=True)


@cache
def _steady_alternation(square_a: Expr, square_b: Expr) -> tuple[Expr, Expr, Expr, Expr]:
    """Momenta after a and after b, and second moments, of gradients a, b, a, b, ... once they repeat themselves.

    Args:
        square_a: The mean of the squared gradient on the steps with mean a.
        square_b: The same on the steps with mean b.
    """
    m_a, m_b, v_a, v_b = symbols("m_a m_b v_a v_b")
    solution = solve(
        (
            m_a - _BETA_1 * m_b - (1 - _BETA_1) * _A,
            m_b - _BETA_1 * m_a - (1 - _BETA_1) * _B,
            v_a - _BETA_2 * v_b - (1 - _BETA_2) * square_a,
            v_b - _BETA_2 * v_a - (1 - _BETA_2) * square_b,
        ),
        (m_a, m_b, v_a, v_b),
        dict=True,
    )[0]
    return tuple(cancel(solution[unknown]) for unknown in (m_a, m_b, v_a, v_b))  # type: ignore[return-value]


def _sequential(rate: Expr, variance: Expr) -> Expr:
    """Displacement of one pair of AdamW steps in the steady state, beta_2 -> 1, no decay, epsilon 0."""
    m_a, m_b, v_a, v_b = _steady_alternation(_A**2 + variance, _B**2 + variance)
    late = [limit(v, _BETA_2, 1) for v in (v_a, v_b)]
    return -rate * (m_a / sqrt(late[0]) + m_b / sqrt(late[1]))


def _accumulated(rate: Expr, variance: Expr) -> Expr:
    """Displacement of one AdamW step on the mean of the halves, whose noise is independent."""
    average = (_A + _B) / 2
    return -rate * average / sqrt(average**2 + variance / 2)


@cache
def _with_noise() -> tuple[Expr, Expr]:
    """Displacement per pair of the post's two arms: sequential at eta/sqrt(2), accumulated at eta, variance s^2."""
    return simplify(_sequential(_ETA / sqrt(2), _S**2)), _accumulated(_ETA, _S**2)


def _ratio() -> Expr:
    """Sequential over accumulated displacement."""
    sequential, accumulated = _with_noise()
    return sequential / accumulated


@claim("adamw-alternation")
def adamw_alternation() -> Claim:
    """AdamW on alternating constant gradients."""
    total = _A + _B
    point = {_A: 3, _B: 4, _ETA: 1}
    return Claim(
        finding="−η(a+b)/√(a²+b²) against −η sign(a+b): the runs differ at first order.",
        printed=None,
        precise=(
            expressions(
                r"\Delta_{\text{sequential}}",
                lambda: simplify(_sequential(_ETA / sqrt(2), Integer(0))),
                -_ETA * total / sqrt(_A**2 + _B**2),
                points=(point,),
                reading="per pair and coordinate, each step at η/√2, any β₁",
                slips={
                    "signs of a and b exchanged in the root": -_ETA * total / sqrt((_A + _B) ** 2),
                    "rate eta instead of eta/sqrt(2)": -_ETA * total / sqrt((_A**2 + _B**2) / 2),
                },
            ),
            expressions(
                r"\Delta_{\text{accumulated}}",
                lambda: _accumulated(_ETA, Integer(0)),
                -_ETA * total / Abs(total),
                points=(point,),
                shown_right=r"-\eta\,\operatorname{sign}(a+b)",
                reading="per update and coordinate, rate η",
            ),
            expressions(
                r"\Delta_{\text{sequential}}",
                lambda: simplify(_sequential(_ETA / sqrt(2), Integer(0))),
                -_ETA * total / Abs(total),
                points=(point,),
                expected="refuted",
                shown_right=r"\Delta_{\text{accumulated}}",
                reading="they differ at first order in η",
            ),
        ),
        assumptions=("steady state, bias correction 1", "β₂ → 1, no weight decay, epsilon much smaller than |a+b|"),
        method="the two-periodic steady state of the moments solved for symbolic β₁, β₂; limit",
        argument=(
            r"In the steady state $m_a = \beta_1 m_b + (1-\beta_1)a$ and $m_b = \beta_1 m_a + (1-\beta_1)b$, so $m_a +"
            r" m_b = a + b$ for every $\beta_1$. Both second moments tend to $(a^2+b^2)/2$ as $\beta_2\to1$. Two steps"
            r" at $\eta/\sqrt2$ move by $-\eta(a+b)/\sqrt{a^2+b^2}$.",
            r"The accumulated gradient $(a+b)/2$ is constant: Adam divides it by its own size and moves by"
            r" $-\eta\,\mathrm{sign}(a+b)$, however small a + b is. Where $b\approx-a$ the accumulated arm moves at"
            r" full speed on what is left after cancellation, the sequential arm hardly at all. This is first order in"
            r" $\eta$.",
        ),
    )


@claim("adamw-noise")
def adamw_noise() -> Claim:
    """The same with minibatch noise."""
    total = _A + _B
    point = {_A: 3, _B: 4, _ETA: 1, _S: 1}
    small = Symbol("delta", positive=True)
    size = Symbol("a", positive=True)
    rate, variance, stationary = symbols("beta sigma V", positive=True)

    def average_variance() -> Expr:
        """The variance of an exponential average of independent terms: V = beta^2 V + (1 - beta)^2 sigma^2."""
        (solution,) = solve(stationary - rate**2 * stationary - (1 - rate) ** 2 * variance**2, stationary)
        return simplify(solution)

    return Claim(
        finding="Noise brings them together; where the halves nearly cancel and signal exceeds noise, sequential is"
        " strongly damped.",
        printed=None,
        precise=(
            expressions(
                r"\mathbb{E}\,\Delta_{\text{sequential}}",
                lambda: _with_noise()[0],
                -_ETA * total / sqrt(_A**2 + _B**2 + 2 * _S**2),
                points=(point,),
                reading="minibatch variance s² of each half, each step at η/√2",
                slips={"noise counted once": -_ETA * total / sqrt(_A**2 + _B**2 + _S**2)},
            ),
            expressions(
                r"\mathbb{E}\,\Delta_{\text{accumulated}}",
                lambda: _with_noise()[1],
                -_ETA * total / sqrt(total**2 + 2 * _S**2),
                points=(point,),
                reading="the noise of the halves is independent",
                slips={"noise of one half": -_ETA * total / sqrt(total**2 + _S**2)},
            ),
            expressions(
                r"\lim_{s\to\infty} \left(\frac{\text{sequential}}{\text{accumulated}}\right)^{2}",
                lambda: limit(cancel(_ratio() ** 2), _S, oo),
                Integer(1),
                reading="where noise dominates they agree",
            ),
            expressions(
                r"\lim_{\delta\to0} \left(\frac{\text{sequential}}{\text{accumulated}}\right)^{2} \Big|_{b=-a+\delta,"
                r"\ s=0}",
                lambda: limit(cancel((_ratio() ** 2).subs({_S: 0, _B: small - _A}).subs(_A, size)), small, 0),
                Integer(0),
                reading="where the gradients nearly cancel and there is no noise, sequential is damped without bound",
                slips={"agreement": Integer(1)},
            ),
            expressions(
                r"\operatorname{Var}\ \text{of an exponential average},\ \lim_{\beta\to1}",
                lambda: (average_variance(), limit(average_variance(), rate, 1)),
                ((1 - rate) / (1 + rate) * variance**2, Integer(0)),
                points=({rate: Rational(1, 2), variance: 1},),
                reading="why the second moment may be replaced by its mean: its fluctuation vanishes as β₂ → 1",
            ),
        ),
        assumptions=(
            "steady state, bias correction 1, β₂ → 1, β₁² < β₂, no weight decay, epsilon negligible",
            "noise independent between steps and between the halves, with finite fourth moments",
        ),
        method="stationary means of the moments for symbolic β₁, β₂; limits",
        argument=(
            r"The mean of a squared gradient is $a^2 + s^2$ on preferred and $b^2 + s^2$ on dispreferred steps; the"
            r" mean over both halves has mean $(a+b)/2$ and variance $s^2/2$. As $\beta_2\to1$ the second moment"
            r" concentrates on its mean, and the expected update is the mean momentum over its root.",
            r"The ratio of the two is $\sqrt{((a+b)^2+2s^2)/(a^2+b^2+2s^2)}$: 1 where $s$ dominates, near 0 where the"
            r" halves cancel and the signal exceeds the noise.",
            r"A run in which the accumulated arm collapses and the sequential one does not may therefore show Adam's"
            r" normalisation at first order; it must be told from the second-order term before either is believed.",
        ),
    )


def _first_order_rates(rate: Expr) -> tuple[Expr, Expr]:
    """Displacement and standard deviation of two descent steps, over those of one step on the mean of all samples.

    Gradients of the two halves are g + noise with independent noise of variances u and v; the displacements are read
    off the composed steps and the accumulated step, and a variance is the sum of squared weights times variances.
    """
    g_plus, g_minus = symbols("g_+ g_-", real=True)
    u, v = symbols("u v", positive=True)
    composed = compose(Schedule.parse("+-"), 1)
    weights = [Rational(str(composed[tree(name)])) * rate for name in ("+", "-")]
    halves = [-_ETA / 2, -_ETA / 2]  # the mean over B/2 and B/2 samples is half the sum of the half means
    means = [w[0] * g_plus + w[1] * g_minus for w in (weights, halves)]
    deviations = [sqrt(w[0] ** 2 * u + w[1] ** 2 * v) for w in (weights, halves)]
    return cancel(means[0] / means[1]), simplify(deviations[0] / deviations[1])


@claim("lr-match")
def lr_match() -> Claim:
    """Which learning rate makes the two runs comparable."""
    decay = Symbol("lambda", positive=True)

    return Claim(
        finding="No: for AdamW the match depends on the coordinate, from 0 to √2 times the accumulated step; gradient"
        " descent matches at η/2, at η/√2 it moves √2 times as far.",
        printed=expressions(
            r"\left(\frac{\text{sequential}}{\text{accumulated}}\right)^{2}",
            lambda: cancel(_ratio() ** 2),
            Integer(1),
            points=({_A: 1, _B: 1, _S: 0},),
            expected="refuted",
            reading="AdamW with the sequential steps at η/√2: displacement of a coordinate per pair",
        ),
        precise=(
            expressions(
                r"\frac{\text{sequential}}{\text{accumulated}}\ (\text{displacement, noise})",
                lambda: _first_order_rates(_ETA / 2),
                (Integer(1), Integer(1)),
                reading="gradient descent at η/2: both match",
            ),
            expressions(
                r"\frac{\text{sequential}}{\text{accumulated}}\ (\text{displacement, noise})",
                lambda: _first_order_rates(_ETA / sqrt(2)),
                (sqrt(2), sqrt(2)),
                reading="gradient descent at η/√2: both are √2 times as large",
            ),
            expressions(
                r"\frac{\text{sequential}}{\text{accumulated}}\ (\text{displacement, noise})",
                lambda: _first_order_rates(_ETA / sqrt(2)),
                (Integer(1), Integer(1)),
                expected="refuted",
                reading="gradient descent at η/√2: that they match",
            ),
            expressions(
                r"\left(\frac{\text{sequential}}{\text{accumulated}}\right)^{2}\Big|_{s=0}",
                lambda: cancel((_ratio() ** 2).subs(_S, 0)),
                (_A + _B) ** 2 / (_A**2 + _B**2),
                points=({_A: 1, _B: 0},),
                reading="AdamW at η/√2, a coordinate without noise: √2 where a = b, 1 where one of them is 0, near 0"
                " where they cancel",
            ),
            expressions(
                r"\lim_{s\to\infty}\left(\frac{\text{sequential}}{\text{accumulated}}\right)^{2}",
                lambda: limit(cancel(_ratio() ** 2), _S, oo),
                Integer(1),
                reading="AdamW at η/√2, a coordinate drowned in noise: matched",
            ),
            expressions(
                r"\frac{\text{decay per pair at}\ \eta/\sqrt2}{\text{decay per update at}\ \eta}",
                lambda: diff((1 - _ETA * decay / sqrt(2)) ** 2, decay).subs(decay, 0) / diff(1 - _ETA * decay, decay),
                sqrt(2),
                reading="decoupled weight decay at first order: √2 times as much per pair",
            ),
        ),
        assumptions=(
            "the accumulated update averages over all B samples; if it adds the two half means, gradient descent"
            " matches at η",
            "AdamW as in adamw-noise",
        ),
        method="first-order displacement of both maps; noise through the same linear map",
        argument=(
            r"One accumulated step on the mean of B/2 preferred and B/2 dispreferred samples moves by"
            r" $-\tfrac{\eta}{2}(\bar g^+ + \bar g^-)$, two sequential steps at $\eta'$ by $-\eta'(\bar g^+ + \bar"
            r" g^-)$. They match at $\eta' = \eta/2$; noise goes through the same linear map and matches there too.",
            r"At $\eta/\sqrt2$ plain gradient descent moves $\sqrt2$ times as far: the runs differ at first order"
            r" before any second-order effect. For AdamW the ratio per coordinate is"
            r" $\sqrt{((a+b)^2+2s^2)/(a^2+b^2+2s^2)}$ (adamw-noise): 1 where noise dominates, and"
            r" $|a+b|/\sqrt{a^2+b^2}$ without noise, which runs from 0 to $\sqrt2$. No single rate matches.",
        ),
        post_line=post.PRINTED["lr-match"],
    )


@claim("two-optimizer-steps")
def two_optimizer_steps() -> Claim:
    """The experiment takes two optimizer steps per update."""

    def mean_of_starts(square_of_rate: Fraction) -> Series:
        both = compose(Schedule.parse("-+"), 2) + compose(Schedule.parse("+-"), 2)
        return both.of_order(2).scaled(element(square_of_rate / 2))

    def statement(rate: str, square: Fraction, factor: Fraction) -> Statement:
        return equality(
            r"\left[\theta_2-\theta\right]_{\eta^2}",
            lambda: mean_of_starts(square),
            beyond.two_steps(factor),
            reading=rate,
        )

    return Claim(
        finding="η²/8, η²/4 or η²/2 according to the rate, whatever the number of samples.",
        printed=None,
        precise=(
            statement("each step at η/2, the first-order match", Fraction(1, 4), Fraction(1, 8)),
            statement("each step at η/√2, as in the post", Fraction(1, 2), Fraction(1, 4)),
            statement("each step at η, where the accumulated arm sums", Fraction(1), Fraction(1, 2)),
            expressions(
                r"\frac{1}{4B}\Big|_{B=32}",
                lambda: post.boxed().terms[0].coefficient.subs(B, 32),
                Rational(1, 128),
                reading="what the boxed term would give for 32 samples: the number of samples is not the number of"
                " steps",
            ),
        ),
        assumptions=("gradient descent; losses are the means over each half of the batch", "random start"),
        method="composition of two steps in both orders",
        argument=(
            r"The experiment makes one optimizer step on B/2 preferred and one on B/2 dispreferred samples: m = 2"
            r" however large B is. The second-order term is $\tfrac12\eta'^2\nabla(\bar g^+\cdot\bar g^-)$ with a"
            r" random start.",
            r"With $\eta' = \eta/2$, $\eta/\sqrt2$, $\eta$ this is $\tfrac{\eta^2}{8}$, $\tfrac{\eta^2}{4}$,"
            r" $\tfrac{\eta^2}{2}$. The $\tfrac{1}{4B}$ of the boxed term belongs to B steps of size $\eta/B$.",
        ),
    )
