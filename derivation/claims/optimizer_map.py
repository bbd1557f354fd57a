"""Any update rule: its displacement as a function of one scalar, and the second-order coefficient as a derivative."""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple, cast

from sympy import (
    Basic,
    Expr,
    Function,
    Integer,
    Max,
    Min,
    Rational,
    diff,
    symbols,
)

from derivation.claim import Claim, claim
from derivation.procedures import expressions

__all__: list[str] = []

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
