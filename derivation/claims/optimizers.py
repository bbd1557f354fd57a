"""Optimizer steps instead of gradient steps: any update rule, the heavy ball, AdamW, and how learning rates match."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import NamedTuple, cast

from sympy import (
    Abs,
    Basic,
    Expr,
    Function,
    Integer,
    Max,
    Min,
    Rational,
    Symbol,
    cancel,
    diff,
    expand,
    limit,
    oo,
    powsimp,
    simplify,
    solve,
    sqrt,
    symbols,
)
from sympy.polys.domains import QQ
from sympy.polys.fields import field

from derivation import beyond, post
from derivation.claim import Claim, Statement, claim
from derivation.procedures import equality, expressions
from derivation.series import Coefficient, Schedule, Series, compose, gradient_at, universal
from derivation.symbols import B, element
from derivation.trees import Label, tree

__all__: list[str] = []

_ETA = Symbol("eta", positive=True)
_A, _B = symbols("a b", real=True)
_S = Symbol("s", nonnegative=True)
_BETA_1, _BETA_2 = symbols("beta_1 beta_2", positive=True)


# --- any update rule -----------------------------------------------------------------------------------------------


_THETA, _EPS, _SCALE = symbols("theta epsilon s", real=True)


class _Optimizer(NamedTuple):
    """Three steps: the gradients of their losses, and their rules of all gradients so far and the parameters."""

    gradients: tuple[Callable[..., Expr], ...]
    rules: tuple[Callable[..., Expr], ...]


_ANY = _Optimizer(
    tuple(Function(f"g_{b}") for b in (1, 2, 3)),
    tuple(Function(f"U_{b}") for b in (1, 2, 3)),
)


def _polynomial_rule(b: int) -> Callable[..., Expr]:
    return lambda *z: sum(((i + b) * y for i, y in enumerate(z)), Integer(0)) + z[0] * z[-1]


# Simple polynomials in place of arbitrary functions, so that two expressions can be told apart exactly.
_ONE = _Optimizer(
    tuple((lambda x, b=b: (x + b) ** 2) for b in (1, 2, 3)),
    tuple(_polynomial_rule(b) for b in (1, 2, 3)),
)


def _stepped(optimizer: _Optimizer) -> Expr:
    """theta_3 - theta: real steps of size epsilon."""
    params, seen = _THETA, []
    for gradient, rule in zip(*optimizer, strict=True):
        seen.append(gradient(params))
        params = params + _EPS * rule(*seen, params)
    return params - _THETA


def _displacement(optimizer: _Optimizer, scale: Expr) -> Expr:
    """D_w(scale): every read is at theta + scale * (displacement so far)."""
    so_far, seen = Integer(0), []
    for gradient, rule in zip(*optimizer, strict=True):
        read = _THETA + scale * so_far
        seen.append(gradient(read))
        so_far = so_far + rule(*seen, read)
    return so_far


def _frozen(optimizer: _Optimizer, num_steps: int = 3) -> Expr:
    """The displacement of the first steps with all gradients and parameters read at theta."""
    seen = [gradient(_THETA) for gradient in optimizer.gradients]
    return sum((rule(*seen[: b + 1], _THETA) for b, rule in enumerate(optimizer.rules[:num_steps])), Integer(0))


def _second_order(optimizer: _Optimizer, *, reads_params: bool = True, shift: int = 0) -> Expr:
    """The chain rule: every read moves by the frozen displacement before it."""
    seen = [gradient(_THETA) for gradient in optimizer.gradients]
    total: Expr = Integer(0)
    for b, rule in enumerate(optimizer.rules):
        places = symbols(f"z_1:{b + 3}", real=True)
        at_theta = dict(zip(places, [*seen[: b + 1], _THETA], strict=True))
        moves = [diff(seen[j], _THETA) * _frozen(optimizer, j + shift) for j in range(b + 1)]
        moves.append(_frozen(optimizer, b) if reads_params else Integer(0))
        for place, move in zip(places, moves, strict=True):
            total = total + cast("Expr", diff(rule(*places), place).subs(at_theta)) * move
    return total


@claim("optimizer-map")
def optimizer_map() -> Claim:
    """Any optimizer whose update is the learning rate times a function free of it."""

    def slope_at_zero(optimizer: _Optimizer) -> Basic:
        return diff(_displacement(optimizer, _SCALE), _SCALE).subs(_SCALE, 0).doit()

    point = ({_THETA: 1, _EPS: 1},)

    def clipped_slope(shift: Expr) -> Expr:
        """(D(s) - D(0))/s for two steps of clipped descent at x = 1 on the losses x and x^2/2, clip at 1.

        The map is piecewise linear in s, so that the quotient at +-1/2 is the one-sided derivative at 0.
        """

        def displacement(scale: Expr) -> Expr:
            first = -Max(-1, Min(1, Integer(1)))
            return first - Max(-1, Min(1, 1 + scale * first))

        return (displacement(shift) - displacement(Integer(0))) / shift

    return Claim(
        finding="The displacement is εD(ε); the second-order coefficient is one forward derivative.",
        printed=None,
        precise=(
            expressions(
                r"\theta_m - \theta",
                lambda: _stepped(_ANY),
                _EPS * _displacement(_ANY, _EPS),
                shown_right=r"\varepsilon\,D_w(\varepsilon)",
                reading="m = 3, arbitrary rules U_b of all gradients so far and the parameters, arbitrary gradients",
                is_mutated=False,
            ),
            expressions(
                r"\theta_m - \theta",
                lambda: _stepped(_ONE),
                _EPS * _displacement(_ONE, _EPS),
                points=point,
                shown_right=r"\varepsilon\,D_w(\varepsilon)",
                reading="the same with polynomials in place of arbitrary functions, on which slips can be refuted",
                is_mutated=False,
                slips={
                    "all reads at theta": _EPS * _frozen(_ONE),
                    "reads half way": _EPS * _displacement(_ONE, _EPS / 2),
                },
            ),
            expressions(
                r"D_w(0)",
                lambda: _displacement(_ANY, _SCALE).subs(_SCALE, 0),
                _frozen(_ANY),
                shown_right=r"\sum_b U_b(g_1(\theta), \ldots, g_b(\theta), \theta)",
                reading="the frozen-gradient displacement",
                is_mutated=False,
            ),
            expressions(
                r"D_w'(0)",
                lambda: slope_at_zero(_ANY),
                _second_order(_ANY),
                shown_right=r"\sum_b\sum_{j\le b} \partial_j U_b\left[H_j D_{j-1}(0)\right] + \sum_b \partial_\theta"
                r" U_b"
                r"\left[D_{b-1}(0)\right]",
                reading="the second-order coefficient, one derivative in the scalar s; arbitrary functions",
                is_mutated=False,
            ),
            expressions(
                r"D_w'(0)",
                lambda: slope_at_zero(_ONE),
                _second_order(_ONE),
                points=point,
                shown_right=r"\sum_b\sum_{j\le b} \partial_j U_b\left[H_j D_{j-1}(0)\right] + \sum_b \partial_\theta"
                r" U_b"
                r"\left[D_{b-1}(0)\right]",
                reading="the same for the polynomials",
                is_mutated=False,
                slips={
                    "weight decay read at theta": _second_order(_ONE, reads_params=False),
                    "displacement after the step instead of before it": _second_order(_ONE, shift=1),
                },
            ),
            equality(
                r"D_w(0) + s\,D_w'(0) \ \text{for gradient descent}",
                lambda: universal(2),
                post.m_step(),
                reading="D_w(0) is minus the sum of gradients, D_w'(0) the correction C_w; steps of any word",
            ),
            expressions(
                r"D_w'(0^+)",
                lambda: clipped_slope(Rational(1, 2)),
                clipped_slope(Rational(-1, 2)),
                expected="refuted",
                shown_right=r"D_w'(0^-)",
                reading="gradient clipped to [-1, 1], exactly at the threshold (losses x and x²/2 at x = 1): a kink",
            ),
        ),
        assumptions=(
            "update = learning rate times a function free of it, of state, gradient and parameters",
            "initial state fixed; D differentiable at 0 (no clip, sign or root exactly at its kink)",
        ),
        method="induction on the steps; the three-step case written out for arbitrary functions, one coordinate",
        argument=(
            r"Suppose $\theta_{b-1} = \theta + \varepsilon d$ where d is the displacement so far in units of the"
            r" step. Step b adds"
            r" $\varepsilon U_b$ with every read at $\theta + \varepsilon d$: so $\theta_b = \theta + \varepsilon(d +"
            r" U_b)$, and"
            r" d + $U_b$ is the recursion of $D_w(s)$ at $s = \varepsilon$. This is the induction; the formulas for"
            r" three"
            r" steps show it.",
            r"$D_w(s)$ depends on s only through the points at which it reads. The chain rule at s = 0 moves the j-th"
            r" gradient"
            r" by $H_j$ times the frozen displacement before step j, and a parameter that is read (weight decay, trust"
            r" ratio) by that displacement. In more dimensions the same holds with products of matrices.",
            r"A rule that does not scale with the learning rate is outside: then the displacement is not"
            r" $\varepsilon D(\varepsilon)$.",
        ),
    )


# --- heavy ball ----------------------------------------------------------------------------------------------------

_FIELD, _MOMENTUM = field("beta", QQ)


def _heavy_ball(word: tuple[Label, ...], order: int) -> Series:
    """The displacement of v <- beta v + g, theta <- theta - eps v, initial velocity 0; coefficients in beta."""
    displacement, velocity = Series(), Series()
    one: Coefficient = _FIELD(1)
    for loss in word:
        velocity = velocity.scaled(_MOMENTUM) + gradient_at(loss, displacement, one, order)
        displacement = displacement - velocity
    return displacement


def _geometric(count: Expr, momentum: Symbol) -> Expr:
    """1 + beta + ... + beta^(count - 1)."""
    return (1 - momentum**count) / (1 - momentum)


def _coefficients(series: Series, word: tuple[Label, ...]) -> tuple[Expr, ...]:
    """Coefficients of g_j, then of H_i g_j, in the order of the word, as polynomials in beta."""
    first = [tree(loss) for loss in word]
    second = [tree(i, tree(j)) for i in word for j in word]
    return tuple(series[t].as_expr() if t in series else Integer(0) for t in (*first, *second))  # type: ignore[attr-defined]


Weights = tuple[Callable[[Expr, Expr], Expr], Callable[[Expr, Expr, Expr], Expr]]


@claim("heavy-ball")
def heavy_ball() -> Claim:
    """Momentum with symbolic beta."""
    beta = Symbol("beta", positive=True)
    b, i, j = symbols("b i j", integer=True, positive=True)
    num = 4
    word = tuple(Label("L", k) for k in range(1, num + 1))

    def closed(late: int = 1, early: int = 0) -> Weights:
        """Weights of g_j and H_i g_j in the displacement after b steps."""
        return (
            lambda b, j: _geometric(b - j + late, beta),
            lambda b, i, j: _geometric(b - i + late, beta) * _geometric(i - j + early, beta),
        )

    def recursion(weights: Weights) -> tuple[Expr, ...]:
        """What the closed forms must satisfy: increments over one step, and values when the last loss has just come in.

        The velocity holds beta^(b-j) g_j and beta^(b-i) [i-j] H_i g_j; a displacement is the sum of velocities.
        """
        first, second = weights
        entries = (
            first(b + 1, j) - first(b, j),
            first(j, j),
            second(b + 1, i, j) - second(b, i, j),
            second(i, i, j) - first(i - 1, j),
        )
        return tuple(simplify(powsimp(expand(entry * (1 - beta) ** 2))) for entry in entries)

    def true_increments() -> tuple[Expr, ...]:
        first, _ = closed()
        entries = (beta ** (b + 1 - j), Integer(1), beta ** (b + 1 - i) * first(i - 1, j), Integer(0))
        return tuple(simplify(powsimp(expand(entry * (1 - beta) ** 2))) for entry in entries)

    def table(weights: Weights) -> tuple[Expr, ...]:
        first, second = weights
        steps = [Integer(k) for k in range(1, num + 1)]
        return tuple(cancel(-first(Integer(num), k)) for k in steps) + tuple(
            cancel(second(Integer(num), p, q)) if q < p else Integer(0) for p in steps for q in steps
        )

    def bracket_of_palindrome() -> Expr:
        a, c = Label("a"), Label("b")
        series = _heavy_ball((a, c, c, a), 2)
        return expand(series[tree(a, tree(c))].as_expr() - series[tree(c, tree(a))].as_expr())  # type: ignore[attr-defined]

    generator = Symbol("beta")

    def in_generator(values: tuple[Expr, ...]) -> tuple[Expr, ...]:
        return tuple(value.subs(beta, generator) for value in values)

    points = ({b: 5, i: 3, j: 1, beta: Rational(1, 2)},)
    numbers = ({generator: Rational(1, 2)},)
    return Claim(
        finding="Weights [m-i+1][i-j] with [k] = 1 + β + ... + β^(k-1); palindromes keep a bracket.",
        printed=None,
        precise=(
            expressions(
                r"\text{increments and first values of}\ [b-j+1]_\beta,\ [b-i+1]_\beta\,[i-j]_\beta",
                lambda: recursion(closed()),
                true_increments(),
                points=points,
                shown_right=r"\beta^{b+1-j},\ 1,\ \beta^{b+1-i}\,[i-j]_\beta,\ 0",
                reading="[k] = (1 - β^k)/(1 - β), all entries times (1 - β)²; symbolic b, i, j, β",
                is_mutated=False,
            ),
            expressions(
                r"\left(\theta_4-\theta\right):\ g_j,\ H_i g_j",
                lambda: _coefficients(_heavy_ball(word, 2), word),
                in_generator(table(closed())),
                points=numbers,
                shown_right=r"-[m-j+1]_\beta,\quad [m-i+1]_\beta\,[i-j]_\beta \ (j < i)",
                reading="m = 4 different losses, composed step by step, symbolic β",
                is_mutated=False,
                slips={
                    "velocity before the gradient": in_generator(table(closed(late=0))),
                    "one step of memory too many": in_generator(table(closed(early=1))),
                    "no momentum": in_generator(tuple(v.subs(beta, 0) for v in table(closed()))),
                },
            ),
            expressions(
                r"[m-i+1]_\beta\,[i-j]_\beta\big|_{\beta=0}",
                lambda: closed()[1](b, i, j).subs({b: 7, i: 5, j: 2}).subs(beta, 0),
                Integer(1),
                reading="β = 0 gives back the correction of gradient descent",
                slips={"two": Integer(2)},
            ),
            expressions(
                r"(H_a g_b) - (H_b g_a) \ \text{in}\ abba",
                bracket_of_palindrome,
                -2 * generator - 2 * generator**2,
                points=numbers,
                reading="under momentum a palindrome keeps a bracket",
            ),
        ),
        assumptions=("losses twice continuously differentiable", "initial velocity 0, constant step size"),
        method="induction on the steps: closed weights satisfy the recursion for symbolic b, i, j; m = 4 composed",
        argument=(
            r"With $v_b = \beta v_{b-1} + g_b(\theta_{b-1})$ and $\theta_b = \theta_{b-1} - \varepsilon v_b$ the"
            r" displacement before"
            r" step i is $-\varepsilon\sum_{j<i}[i-j]_\beta\, g_j$ at first order, so step i reads"
            r" $g_i - \varepsilon\sum_{j<i}[i-j]_\beta H_i g_j$.",
            r"What a step reads stays in the velocity with weight $\beta^{b-i}$, and adds up to $[m-i+1]_\beta$ in the"
            r" displacement. So $C^{\beta}_w = \sum_{j<i}[m-i+1]_\beta\,[i-j]_\beta\,H_i g_j$ (cf. Ghosh et al. 2023).",
            r"The weights depend on where in the word a pair stands, not only on its order: reversing a word no longer"
            r" exchanges $H_a g_b$ and $H_b g_a$, and a palindrome is not free of brackets.",
        ),
    )


# --- learning rates ------------------------------------------------------------------------------------------------


def _first_order_rates(rate: Expr) -> tuple[Expr, Expr]:
    """Displacement and noise of one descent and one ascent step, over those of one step on the mean of all samples.

    Both maps send (g+, g-) to a multiple of g+ + g-; noise enters through the same linear map.
    """
    sequential = compose(Schedule.parse("+-"), 1)
    weights = {-Rational(c) * rate for c in sequential.values()}  # type: ignore[arg-type]
    (weight,) = weights
    accumulated = _ETA / 2  # the mean over B/2 preferred and B/2 dispreferred samples is half the sum of the half means
    noise = sqrt(2 * (weight * _S) ** 2) / sqrt(2 * (accumulated * _S) ** 2)
    return weight / accumulated, noise.subs(_S, 1)


@claim("lr-match")
def lr_match() -> Claim:
    """Which learning rate makes the two runs comparable."""
    signal = {_B: _A, _S: 0}
    decay = Symbol("lambda", positive=True)
    positive = Symbol("a", positive=True)

    def adam_ratio() -> Expr:
        sequential, accumulated = _with_noise()
        return sequential / accumulated

    return Claim(
        finding="No: gradient descent matches at η/2, at η/√2 it moves √2 too far; for AdamW it depends on the"
        " coordinate.",
        printed=expressions(
            r"\frac{\text{sequential}}{\text{accumulated}}\ (\text{displacement, noise})",
            lambda: _first_order_rates(_ETA / sqrt(2)),
            (Integer(1), Integer(1)),
            expected="refuted",
            reading="gradient descent at η/√2 against a mean-accumulated step at η",
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
                reading="gradient descent at η/√2: both are √2 too large",
            ),
            expressions(
                r"\frac{\text{sequential}}{\text{accumulated}}",
                lambda: simplify(adam_ratio().subs(signal).subs(_A, positive)),
                sqrt(2),
                reading="AdamW at η/√2, a coordinate with a = b and no noise: √2 too large",
            ),
            expressions(
                r"\lim_{s\to\infty}\frac{\text{sequential}}{\text{accumulated}}",
                lambda: limit(cancel(adam_ratio() ** 2), _S, oo),
                Integer(1),
                reading="AdamW at η/√2, a coordinate drowned in noise (the ratio squared): matched",
            ),
            expressions(
                r"\frac{\text{decay per pair at}\ \eta/\sqrt2}{\text{decay per update at}\ \eta}",
                lambda: diff((1 - _ETA * decay / sqrt(2)) ** 2, decay).subs(decay, 0) / diff(1 - _ETA * decay, decay),
                sqrt(2),
                reading="decoupled weight decay at first order: √2 times as much per pair",
            ),
        ),
        assumptions=(
            "the accumulated update averages over all B samples; if it sums, gradient descent matches at η",
            "AdamW as in adamw-noise",
        ),
        method="first-order displacement of both maps; noise through the same linear map",
        argument=(
            r"One accumulated step on the mean of B/2 preferred and B/2 dispreferred samples moves by"
            r" $-\tfrac{\eta}{2}(\bar g^+ + \bar g^-)$, two sequential steps at $\eta'$ by $-\eta'(\bar g^+ + \bar"
            r" g^-)$. They match"
            r" at $\eta' = \eta/2$; noise goes through the same linear map and matches there too.",
            r"At $\eta/\sqrt2$ plain gradient descent moves $\sqrt2$ times as far: the runs differ at first order"
            r" before any"
            r" second-order effect. For AdamW the square root is right where noise dominates a coordinate and"
            r" $\sqrt2$ too"
            r" large where signal does, so no single rate matches.",
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
            r" however"
            r" large B is. The second-order term is $\tfrac12\eta'^2\nabla(\bar g^+\cdot\bar g^-)$ with a random"
            r" start.",
            r"With $\eta' = \eta/2$, $\eta/\sqrt2$, $\eta$ this is $\tfrac{\eta^2}{8}$, $\tfrac{\eta^2}{4}$,"
            r" $\tfrac{\eta^2}{2}$. The"
            r" $\tfrac{1}{4B}$ of the boxed term belongs to B steps of size $\eta/B$.",
        ),
    )


# --- AdamW ---------------------------------------------------------------------------------------------------------


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


def _with_noise() -> tuple[Expr, Expr]:
    return simplify(_sequential(_ETA / sqrt(2), _S**2)), _accumulated(_ETA, _S**2)


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
            r"In the steady state $m_a = \beta_1 m_b + (1-\beta_1)a$ and $m_b = \beta_1 m_a + (1-\beta_1)b$, so $m_a"
            r" + m_b = a + b$"
            r" for every $\beta_1$. Both second moments tend to $(a^2+b^2)/2$ as $\beta_2\to1$. Two steps at"
            r" $\eta/\sqrt2$ move"
            r" by $-\eta(a+b)/\sqrt{a^2+b^2}$.",
            r"The accumulated gradient $(a+b)/2$ is constant: Adam divides it by its own size and moves by"
            r" $-\eta\,\mathrm{sign}(a+b)$, however small a + b is. Where $b\approx-a$ the accumulated arm moves at"
            r" full speed on"
            r" what is left after cancellation, the sequential arm hardly at all. This is first order in $\eta$.",
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

    def ratio() -> Expr:
        sequential, accumulated = _with_noise()
        return sequential / accumulated

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
                lambda: limit(cancel(ratio() ** 2), _S, oo),
                Integer(1),
                reading="where noise dominates they agree",
            ),
            expressions(
                r"\lim_{\delta\to0} \left(\frac{\text{sequential}}{\text{accumulated}}\right)^{2}"
                r" \Big|_{b=-a+\delta,\ s=0}",
                lambda: limit(cancel((ratio() ** 2).subs({_S: 0, _B: small - _A}).subs(_A, size)), small, 0),
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
            "steady state, bias correction 1, β₂ → 1, no weight decay, epsilon negligible",
            "noise independent between steps and between the halves, with finite fourth moments",
        ),
        method="stationary means of the moments for symbolic β₁, β₂; limits",
        argument=(
            r"The mean of a squared gradient is $a^2 + s^2$ on preferred and $b^2 + s^2$ on dispreferred steps; the"
            r" mean over"
            r" both halves has mean $(a+b)/2$ and variance $s^2/2$. As $\beta_2\to1$ the second moment concentrates"
            r" on its"
            r" mean, and the expected update is the mean momentum over its root.",
            r"The ratio of the two is $\sqrt{((a+b)^2+2s^2)/(a^2+b^2+2s^2)}$: 1 where $s$ dominates, near 0 where the"
            r" halves cancel"
            r" and the signal exceeds the noise.",
            r"A run in which the accumulated arm collapses and the sequential one does not may therefore show Adam's"
            r" normalisation at first order; it must be told from the second-order term before either is believed.",
        ),
    )
