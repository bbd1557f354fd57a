"""Gradient descent on polynomial losses in exact rationals: a second engine, which composes real maps and no trees.

The package `derivation` expands an update over trees and never sees a loss. Here the losses are polynomials, a step
subtracts their gradient at the place that was really reached, and an expansion in the step size eps is what is left of
a number when it is carried as a power series in eps. Both engines make statements about the same coefficients, so the
tests can set one against the other. This module must not know `derivation`, nor SymPy: the standard library only.

One ring serves all: sparse polynomials over the rationals. A loss is a polynomial in the coordinates, a place on a path
is a vector of polynomials in eps, or in eps and the time t. Series are cut off by the power of eps, which is always the
first variable. Nothing is rounded anywhere.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction
from functools import cache

__all__ = [
    "Field",
    "Losses",
    "Polynomial",
    "Tree",
    "Vector",
    "composed",
    "constant",
    "contraction",
    "differential",
    "differential_at",
    "displacement",
    "flow",
    "gradient",
    "partial",
    "plugged",
    "plus",
    "times",
]

Polynomial = dict[tuple[int, ...], Fraction]
"""Exponents, one per variable -> coefficient. No coefficient is zero, so equal polynomials are equal dictionaries."""

Vector = tuple[Fraction, ...]
"""One number per coordinate."""

Field = tuple[Polynomial, ...]
"""A polynomial in the coordinates for every coordinate: a vector field, or a vector if all are constants."""

Losses = Mapping[Hashable, Polynomial]
"""Name -> loss, a polynomial in the coordinates."""

Tree = tuple[Hashable, tuple["Tree", ...]]
"""An elementary differential: the name of a loss, and what is plugged into its derivatives."""


def constant(value: Fraction, num_variables: int) -> Polynomial:
    """The polynomial that is a number."""
    return {(0,) * num_variables: value} if value else {}


def plus(*terms: Polynomial) -> Polynomial:
    """The sum of polynomials."""
    total: Polynomial = {}
    for term in terms:
        for exponents, coefficient in term.items():
            total[exponents] = total.get(exponents, Fraction(0)) + coefficient
    return {exponents: coefficient for exponents, coefficient in total.items() if coefficient}


def times(p: Polynomial, q: Polynomial, order: int | None = None) -> Polynomial:
    """The product of two polynomials in the same variables, without powers above `order` of the first variable."""
    product: Polynomial = {}
    for a, x in p.items():
        for b, y in q.items():
            if order is None or a[0] + b[0] <= order:
                exponents = tuple(map(int.__add__, a, b))
                product[exponents] = product.get(exponents, Fraction(0)) + x * y
    return {exponents: coefficient for exponents, coefficient in product.items() if coefficient}


def partial(p: Polynomial, i: int) -> Polynomial:
    """The derivative by the i-th variable, counted from 0."""
    return {(*e[:i], e[i] - 1, *e[i + 1 :]): c * e[i] for e, c in p.items() if e[i]}


def gradient(p: Polynomial, dimension: int) -> Field:
    """All first derivatives."""
    return tuple(partial(p, i) for i in range(dimension))


def composed(p: Polynomial, values: Sequence[Polynomial], num_variables: int, order: int | None = None) -> Polynomial:
    """The polynomial p(values), one value per variable of p, each a polynomial in `num_variables` variables.

    Args:
        p: The outer polynomial.
        values: What is put in.
        num_variables: The number of variables of the values; no value need show it, for it may be zero.
        order: The highest power of the values' first variable that is kept; all by default.
    """
    one = constant(Fraction(1), num_variables)
    powers = [[one] for _ in values]
    terms = []
    for exponents, coefficient in p.items():
        term = {(0,) * num_variables: coefficient}
        for known, value, exponent in zip(powers, values, exponents, strict=True):
            while len(known) <= exponent:
                known.append(times(known[-1], value, order))
            term = times(term, known[exponent], order) if exponent else term
        terms.append(term)
    return plus(*terms)


def displacement(
    losses: Losses,
    word: Sequence[Hashable],
    step_sizes: Sequence[Fraction],
    start: Vector,
    order: int,
    *,
    momentum: Fraction = Fraction(0),
) -> list[Vector]:
    """The displacement theta_m - theta of the steps of a word, by walking it.

    Step b is  v <- momentum v + grad L_b(theta),  theta <- theta - step_sizes[b] eps v,  from v = 0: gradient descent,
    or with a momentum the heavy ball.

    Args:
        losses: Polynomials in `len(start)` coordinates.
        word: The name of the loss of each step.
        step_sizes: The size of each step in units of eps.
        start: The place theta.
        order: The highest power of eps kept, at least 1.
        momentum: The factor of the velocity.

    Returns:
        The coefficient vectors of eps^1, ..., eps^order, exact; the step sizes are inside.

    Raises:
        ValueError: If `order` is smaller than 1 or there is not one step size per step.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1; got {order}.")
    if len(step_sizes) != len(word):
        raise ValueError(f"step_sizes must hold one size per step; got {len(step_sizes)} for {len(word)} steps.")
    position = [constant(x, 1) for x in start]
    velocity: list[Polynomial] = [{} for _ in start]
    for name, step_size in zip(word, step_sizes, strict=True):
        slopes = [composed(part, position, 1, order - 1) for part in gradient(losses[name], len(start))]
        velocity = [plus(times({(0,): momentum}, v), slope) for v, slope in zip(velocity, slopes, strict=True)]
        position = [plus(x, times({(1,): -step_size}, v)) for x, v in zip(position, velocity, strict=True)]
    return [tuple(x.get((power,), Fraction(0)) for x in position) for power in range(1, order + 1)]


def flow(fields: Sequence[Field], start: Vector, order: int) -> list[Vector]:
    """The displacement after unit time along  d theta/dt = eps X_1(theta) + eps^2 X_2(theta) + ...,  exactly.

    Picard iteration: put the path into the field and integrate. Every round makes one more power of eps right, because
    the field starts with eps. One field X_1 alone is its flow for the time eps.

    Args:
        fields: X_1, X_2, ...
        start: The place theta.
        order: The highest power of eps kept, at least 1.

    Returns:
        The coefficient vectors of eps^1, ..., eps^order.
    """
    path = [constant(x, 2) for x in start]  # polynomials in eps and t
    for _ in range(order):
        speeds = [
            plus(
                *(
                    times({(power, 0): Fraction(1)}, composed(field[i], path, 2, order - power))
                    for power, field in enumerate(fields[:order], start=1)
                )
            )
            for i in range(len(start))
        ]
        path = [
            plus(constant(x, 2), {(e, t + 1): c / (t + 1) for (e, t), c in speed.items()})
            for x, speed in zip(start, speeds, strict=True)
        ]
    return [
        tuple(sum((c for (e, _), c in x.items() if e == k), Fraction(0)) for x in path) for k in range(1, order + 1)
    ]


def plugged(p: Polynomial, branches: Sequence[Field]) -> Polynomial:
    """The k-th derivative of p, and of p alone, applied to k vectors: a multilinear form in the branches."""
    if not branches:
        return p
    first, *rest = branches
    return plus(*(times(part, plugged(partial(p, i), rest)) for i, part in enumerate(first) if part))


def differential(t: Tree, losses: Losses, dimension: int) -> Field:
    """The vector field  D^k grad L_root [F(child_1), ..., F(child_k)]  in all coordinates."""
    branches = [differential(child, losses, dimension) for child in t[1]]
    return tuple(plugged(part, branches) for part in gradient(losses[t[0]], dimension))


def contraction(t: Tree, losses: Losses, dimension: int) -> Polynomial:
    """The scalar  D^k L_root [F(child_1), ..., F(child_k)],  in all coordinates: the root has no slot left."""
    return plugged(losses[t[0]], [differential(child, losses, dimension) for child in t[1]])


def differential_at(losses: Losses, start: Vector) -> Callable[[Tree], Vector]:
    """The same at one place, where it is much cheaper: a function that remembers what it has computed.

    The branches are constant vectors, so k derivatives of the loss are taken one after the other.
    """

    @cache
    def value(t: Tree) -> Vector:
        scalar = losses[t[0]]
        for child in t[1]:
            scalar = plugged(scalar, [tuple(constant(x, len(start)) for x in value(child))])
        place = [constant(x, 0) for x in start]
        return tuple(composed(part, place, 0).get((), Fraction(0)) for part in gradient(scalar, len(start)))

    return value
