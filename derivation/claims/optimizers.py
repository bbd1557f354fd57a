"""Optimizer steps instead of gradient steps: any update rule, the heavy ball, AdamW, and how learning rates match."""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import chain
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
from derivation.series import Coefficient, Schedule, Series, compose, gradient_at
from derivation.symbols import B, element
from derivation.trees import Label, tree

__all__: list[str] = []

_ETA = Symbol("eta", positive=True)
_A, _B = symbols("a b", real=True)
_S = Symbol("s", nonnegative=True)
_BETA_1, _BETA_2 = symbols("beta_1 beta_2", positive=True)


# --- any update rule -----------------------------------------------------------------------------------------------


_EPS, _SCALE = symbols("epsilon s", real=True)


Vector = tuple[Expr, ...]


class _Optimizer(NamedTuple):
    """Steps on losses by rules.

    Attributes:
        dimension: The number of coordinates.
        gradients: The gradient of each step's loss, of the parameters.
        rules: The update of each step over the learning rate, of all gradients and all parameters read so far: a rule
            whose state remembers them is such a function, with the state eliminated.
    """

    dimension: int
    gradients: tuple[Callable[[Vector], Vector], ...]
    rules: tuple[Callable[[tuple[Vector, ...], tuple[Vector, ...]], Vector], ...]


def _arbitrary(num_steps: int, dimension: int) -> _Optimizer:
    """Undefined functions throughout."""

    def gradient(b: int) -> Callable[[Vector], Vector]:
        return lambda params: tuple(Function(f"g_{b}_{i}")(*params) for i in range(dimension))

    def rule(b: int) -> Callable[[tuple[Vector, ...], tuple[Vector, ...]], Vector]:
        return lambda seen, reads: tuple(
            Function(f"U_{b}_{i}")(*chain(*seen), *chain(*reads)) for i in range(dimension)
        )

    steps = range(1, num_steps + 1)
    return _Optimizer(dimension, tuple(map(gradient, steps)), tuple(map(rule, steps)))


def _polynomial(num_steps: int, dimension: int) -> _Optimizer:
    """Polynomials in place of undefined functions, so that two expressions can be told apart exactly."""

    def gradient(b: int) -> Callable[[Vector], Vector]:
        return lambda params: tuple((params[i] + b) ** 2 + i * params[0] * params[-1] for i in range(dimension))

    def rule(b: int) -> Callable[[tuple[Vector, ...], tuple[Vector, ...]], Vector]:
        def update(seen: tuple[Vector, ...], reads: tuple[Vector, ...]) -> Vector:
            numbers = [*chain(*seen), *chain(*reads)]
            weighted = sum(((k + b) * number for k, number in enumerate(numbers)), Integer(0))
            return tuple(weighted + (i + 1) * numbers[i] * numbers[-1] for i in range(dimension))

        return update

    steps = range(1, num_steps + 1)
    return _Optimizer(dimension, tuple(map(gradient, steps)), tuple(map(rule, steps)))


def _descent(num_steps: int, dimension: int) -> _Optimizer:
    """Gradient descent on arbitrary losses."""
    rules = tuple((lambda seen, _: tuple(-number for number in seen[-1])) for _ in range(num_steps))
    return _arbitrary(num_steps, dimension)._replace(rules=rules)


def _start(optimizer: _Optimizer) -> Vector:
    return symbols(f"theta_1:{optimizer.dimension + 1}", real=True)


def _stepped(optimizer: _Optimizer) -> Vector:
    """theta_m - theta: real steps of size epsilon."""
    start = params = _start(optimizer)
    seen: list[Vector] = []
    reads: list[Vector] = []
    for gradient, rule in zip(optimizer.gradients, optimizer.rules, strict=True):
        seen.append(gradient(params))
        reads.append(params)
        update = rule(tuple(seen), tuple(reads))
        params = tuple(x + _EPS * u for x, u in zip(params, update, strict=True))
    return tuple(x - x_0 for x, x_0 in zip(params, start, strict=True))


def _displacement(optimizer: _Optimizer, scale: Expr, num_steps: int | None = None) -> Vector:
    """D_w(scale) of the first steps: every read is at theta + scale * (displacement so far)."""
    start = _start(optimizer)
    so_far: Vector = (Integer(0),) * optimizer.dimension
    seen: list[Vector] = []
    reads: list[Vector] = []
    for gradient, rule in list(zip(optimizer.gradients, optimizer.rules, strict=True))[:num_steps]:
        reads.append(tuple(x + scale * d for x, d in zip(start, so_far, strict=True)))
        seen.append(gradient(reads[-1]))
        so_far = tuple(d + u for d, u in zip(so_far, rule(tuple(seen), tuple(reads)), strict=True))
    return so_far


def _frozen(optimizer: _Optimizer, num_steps: int | None = None) -> Vector:
    """The displacement of the first steps with all gradients and parameters read at theta."""
    start = _start(optimizer)
    seen = tuple(gradient(start) for gradient in optimizer.gradients)
    total: Vector = (Integer(0),) * optimizer.dimension
    for b, rule in list(enumerate(optimizer.rules, start=1))[:num_steps]:
        total = tuple(d + u for d, u in zip(total, rule(seen[:b], (start,) * b), strict=True))
    return total


def _second_order(optimizer: _Optimizer, *, reads_params: bool = True, shift: int = 0) -> Vector:
    """The chain rule: every read moves by the frozen displacement before it."""
    start = _start(optimizer)
    seen = tuple(gradient(start) for gradient in optimizer.gradients)
    total: list[Expr] = [Integer(0)] * optimizer.dimension
    for b, rule in enumerate(optimizer.rules, start=1):
        before = [_frozen(optimizer, j + shift) for j in range(b)]
        gradient_moves = [
            sum((diff(component, x) * d for x, d in zip(start, before[j], strict=True)), Integer(0))
            for j in range(b)
            for component in seen[j]
        ]
        read_moves = [d if reads_params else Integer(0) for j in range(b) for d in before[j]]
        places = symbols(f"z_1:{len(gradient_moves) + len(read_moves) + 1}", real=True)
        at_theta = dict(zip(places, [*chain(*seen[:b]), *start * b], strict=True))
        split = [places[k : k + optimizer.dimension] for k in range(0, len(places), optimizer.dimension)]
        for i, component in enumerate(rule(tuple(split[:b]), tuple(split[b:]))):
            for place, move in zip(places, [*gradient_moves, *read_moves], strict=True):
                total[i] = total[i] + cast("Expr", diff(component, place).subs(at_theta)) * move
    return tuple(total)


@claim("optimizer-map")
def optimizer_map() -> Claim:
    """Any optimizer whose update is the learning rate times a function free of it."""
    three, planar = _arbitrary(3, 1), _arbitrary(2, 2)
    numbers, planar_numbers = _polynomial(3, 1), _polynomial(2, 2)
    point = {_EPS: Integer(1), **dict.fromkeys(_start(planar), Integer(1))}
    chain_rule = (
        r"\sum_b\sum_{j\le b} \left(\partial_{g_j} U_b\left[H_j D_{j-1}(0)\right] + \partial_{\theta_j}"
        r" U_b\left[D_{j-1}(0)\right]\right)"
    )

    def slope_at_zero(optimizer: _Optimizer) -> tuple[Basic, ...]:
        return tuple(diff(d, _SCALE).subs(_SCALE, 0).doit() for d in _displacement(optimizer, _SCALE))

    def stepped_by_map(optimizer: _Optimizer, scale: Expr = _EPS) -> Vector:
        return tuple(_EPS * d for d in _displacement(optimizer, scale))

    def of_descent() -> tuple[Basic, ...]:
        descent = _descent(3, 1)
        return (_displacement(descent, Integer(0))[0], *slope_at_zero(descent))

    (x,) = _start(three)
    g = [gradient((x,))[0] for gradient in three.gradients]
    correction = diff(g[1], x) * g[0] + diff(g[2], x) * (g[0] + g[1])

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
                lambda: _stepped(three),
                stepped_by_map(three),
                shown_right=r"\varepsilon\,D_w(\varepsilon)",
                reading="three steps, one coordinate; arbitrary gradients, arbitrary rules U_b of all gradients and"
                " all parameters read so far",
                is_mutated=False,
            ),
            expressions(
                r"\theta_m - \theta",
                lambda: _stepped(planar),
                stepped_by_map(planar),
                shown_right=r"\varepsilon\,D_w(\varepsilon)",
                reading="two steps, two coordinates",
                is_mutated=False,
            ),
            expressions(
                r"\theta_m - \theta",
                lambda: _stepped(numbers),
                stepped_by_map(numbers),
                points=(point,),
                shown_right=r"\varepsilon\,D_w(\varepsilon)",
                reading="three steps with polynomials for the functions, on which slips can be refuted",
                is_mutated=False,
                slips={
                    "all reads at θ": tuple(_EPS * d for d in _frozen(numbers)),
                    "reads half way": stepped_by_map(numbers, _EPS / 2),
                },
            ),
            expressions(
                r"D_w(0)",
                lambda: _displacement(three, _SCALE)[0].subs(_SCALE, 0),
                _frozen(three),
                shown_right=r"\sum_b U_b(g_1(\theta), \ldots, g_b(\theta), \theta, \ldots, \theta)",
                reading="the frozen-gradient displacement; three steps, one coordinate",
                is_mutated=False,
            ),
            expressions(
                r"D_w'(0)",
                lambda: slope_at_zero(three),
                _second_order(three),
                shown_right=chain_rule,
                reading="the second-order coefficient, one derivative in the scalar s; three steps, one coordinate",
                is_mutated=False,
            ),
            expressions(
                r"D_w'(0)",
                lambda: slope_at_zero(planar),
                _second_order(planar),
                shown_right=chain_rule,
                reading="the same for two steps in two coordinates",
                is_mutated=False,
            ),
            expressions(
                r"D_w'(0)",
                lambda: slope_at_zero(planar_numbers),
                _second_order(planar_numbers),
                points=(point,),
                shown_right=chain_rule,
                reading="two steps, two coordinates, polynomials",
                is_mutated=False,
                slips={
                    "parameters read at θ": _second_order(planar_numbers, reads_params=False),
                    "displacement after the step instead of before it": _second_order(planar_numbers, shift=1),
                },
            ),
            expressions(
                r"D_w(0),\ D_w'(0) \ \text{of gradient descent}",
                of_descent,
                (-g[0] - g[1] - g[2], correction),
                shown_right=r"-\sum_b g_b,\ \sum_{j<b} H_b\,g_j",
                reading="three steps, one coordinate: the correction C_w of the post",
                is_mutated=False,
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
            "update = learning rate times a function, free of it, of all gradients and parameters read so far",
            "initial state fixed; D differentiable at 0 (no clip, sign or root exactly at its kink)",
        ),
        method="induction on the steps, for every m and dimension; three steps in one coordinate and two in two"
        " written out for arbitrary functions",
        argument=(
            r"Suppose $\theta_{b-1} = \theta + \varepsilon d$ where d is the displacement so far in units of the step."
            r" Step b adds $\varepsilon U_b$ with every read at $\theta + \varepsilon d$: so $\theta_b = \theta +"
            r" \varepsilon(d + U_b)$, and d + $U_b$ is the recursion of $D_w(s)$ at $s = \varepsilon$. This is the"
            r" induction; the formulas for three steps show it.",
            r"$D_w(s)$ depends on s only through the points at which it reads. The chain rule at s = 0 moves the j-th"
            r" gradient by $H_j$ times the frozen displacement before step j, and a parameter that is read (weight"
            r" decay, trust ratio) by the displacement before the step in which it was read. In more dimensions the"
            r" factors are matrices.",
            r"A rule that does not scale with the learning rate is outside: then the displacement is not $\varepsilon"
            r" D(\varepsilon)$.",
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
    late, early = symbols("p q", integer=True, positive=True)  # m - i + 1 and i - j
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
                lambda: (_geometric(late, beta) * _geometric(early, beta)).subs(beta, 0),
                Integer(1),
                reading="for all m ≥ i > j: β = 0 gives back the correction of gradient descent",
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
            r" displacement before step i is $-\varepsilon\sum_{j<i}[i-j]_\beta\, g_j$ at first order, so step i reads"
            r" $g_i - \varepsilon\sum_{j<i}[i-j]_\beta H_i g_j$.",
            r"What a step reads stays in the velocity with weight $\beta^{b-i}$, and adds up to $[m-i+1]_\beta$ in the"
            r" displacement. So $C^{\beta}_w = \sum_{j<i}[m-i+1]_\beta\,[i-j]_\beta\,H_i g_j$ (cf. Ghosh et al. 2023).",
            r"The weights depend on where in the word a pair stands, not only on its order: reversing a word no longer"
            r" exchanges $H_a g_b$ and $H_b g_a$, and a palindrome is not free of brackets.",
        ),
    )


# --- learning rates ------------------------------------------------------------------------------------------------


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

    def adam_ratio() -> Expr:
        sequential, accumulated = _with_noise()
        return sequential / accumulated

    return Claim(
        finding="No: for AdamW the match depends on the coordinate, from 0 to √2 times the accumulated step; gradient"
        " descent matches at η/2, at η/√2 it moves √2 too far.",
        printed=expressions(
            r"\left(\frac{\text{sequential}}{\text{accumulated}}\right)^{2}",
            lambda: cancel(adam_ratio() ** 2),
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
                reading="gradient descent at η/√2: both are √2 too large",
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
                lambda: cancel((adam_ratio() ** 2).subs(_S, 0)),
                (_A + _B) ** 2 / (_A**2 + _B**2),
                points=({_A: 1, _B: 0},),
                reading="AdamW at η/√2, a coordinate without noise: √2 where a = b, 1 where one of them is 0, near 0"
                " where they cancel",
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
                r"\lim_{\delta\to0} \left(\frac{\text{sequential}}{\text{accumulated}}\right)^{2} \Big|_{b=-a+\delta,"
                r"\ s=0}",
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
