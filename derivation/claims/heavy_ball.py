"""Momentum with symbolic beta: the second-order weights of every word, and why palindromes no longer help."""

from collections.abc import Callable

from sympy import (
    Expr,
    Integer,
    Rational,
    Symbol,
    cancel,
    expand,
    powsimp,
    simplify,
    symbols,
)
from sympy.polys.domains import QQ
from sympy.polys.fields import field

from derivation.claim import Claim, claim
from derivation.procedures import expressions
from derivation.series import Coefficient, Series, gradient_at
from derivation.trees import Label, tree

__all__: list[str] = []

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
            second(i, i, j),
        )
        return tuple(simplify(powsimp(expand(entry * (1 - beta) ** 2))) for entry in entries)

    def true_increments() -> tuple[Expr, ...]:
        read = (1 - beta ** (i - j)) / (1 - beta)  # of g_j in the displacement before step i
        entries = (beta ** (b + 1 - j), Integer(1), beta ** (b + 1 - i) * read, read)
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
                shown_right=r"\beta^{b+1-j},\ 1,\ \beta^{b+1-i}\,[i-j]_\beta,\ [i-j]_\beta",
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
