"""Losses with small whole-number derivatives on which a false formula fails, and the two values there.

A witness is found by trying small integers and then shrunk: every derivative that can be zero while the formula still
fails is set to zero, so that a reader can redo the arithmetic by hand. The point is always the origin: a loss is given
by its derivatives there, which is all that an elementary differential sees.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations_with_replacement, product
from math import factorial
from random import Random

from sympy.polys.fields import FracElement

from derivation.averages import PLAIN, Indexing, at
from derivation.series import Series
from derivation.trees import Label, Tree, labels, num_vertices

__all__ = ["Losses", "Witness", "evaluated", "format_loss", "format_losses", "format_value", "of_difference", "search"]

Derivatives = dict[tuple[int, ...], int]
"""Partial derivatives at the origin: the number of differentiations in each coordinate -> value."""

Losses = dict[Label, Derivatives]

Vector = tuple[Fraction, ...]

_Differential = tuple[int, ...]


@dataclass(frozen=True)
class Witness:
    """A point where a formula fails.

    Attributes:
        setting: What is chosen: the losses, the number of pairs, the point.
        left: The true value, as exact rationals.
        right: The value that the formula gives there.
    """

    setting: str
    left: str
    right: str


def evaluated(series: Series, losses: Losses, dimension: int, *, is_scalar: bool = False) -> Vector:
    """The value of a PLAIN series at the origin.

    Args:
        series: Coefficients are `Fraction`; the labels are keys of `losses`. Rooted trees, or free trees.
        losses: Derivatives of every loss at the origin.
        dimension: The number of coordinates.
        is_scalar: Whether the trees are free: the root has no slot left, and the value is one number.
    """
    # The derivatives of losses are whole numbers, and so is every differential; only coefficients are fractions.
    total = [Fraction(0)] * (1 if is_scalar else dimension)
    known: dict[Tree, _Differential | None] = {}
    for t, coefficient in series.items():
        value = _contracted(t, losses, dimension, known) if is_scalar else _differential(t, losses, dimension, known)
        for i, component in enumerate(value or ()):
            if component:
                total[i] += coefficient * component  # type: ignore[operator]
    return tuple(total)


def _contracted(
    t: Tree, losses: Losses, dimension: int, known: dict[Tree, _Differential | None]
) -> _Differential | None:
    children = _plugged(t, losses, dimension, known)
    return None if children is None else (_filled(losses[t.loss], (), children, dimension),)


def _differential(
    t: Tree, losses: Losses, dimension: int, known: dict[Tree, _Differential | None]
) -> _Differential | None:
    """The vector of a tree; None where it is zero, as most are once the losses are simple."""
    if t not in known:
        children = _plugged(t, losses, dimension, known)
        value = (
            () if children is None else [_filled(losses[t.loss], (i,), children, dimension) for i in range(dimension)]
        )
        known[t] = tuple(value) if any(value) else None
    return known[t]


def _plugged(
    t: Tree, losses: Losses, dimension: int, known: dict[Tree, _Differential | None]
) -> list[_Differential] | None:
    """The vectors of the children; None where one is zero, and what it is plugged into with it."""
    children = []
    for child in t.children:
        value = _differential(child, losses, dimension, known)
        if value is None:
            return None
        children.append(value)
    return children


def _filled(
    derivatives: Derivatives, open_slots: tuple[int, ...], children: list[_Differential], dimension: int
) -> int:
    """The derivative of a loss with the children plugged in and unit vectors in the slots that stay open."""
    total = 0
    for slots in product(range(dimension), repeat=len(children)):
        derivative = derivatives.get(_counts((*open_slots, *slots), dimension), 0)
        if derivative:
            factor = derivative
            for slot, child in zip(slots, children, strict=True):
                factor *= child[slot]
            total += factor
    return total


@cache
def _counts(slots: tuple[int, ...], dimension: int) -> tuple[int, ...]:
    return tuple(slots.count(i) for i in range(dimension))


def search(
    names: Iterable[Label], degree: int, fails: Callable[[Losses, int], bool], dimensions: Iterable[int] = (1, 2)
) -> tuple[Losses, int] | None:
    """The simplest losses found on which something fails, and their dimension; None if the tries run out.

    Args:
        names: The losses to choose.
        degree: The highest derivative that is looked at.
        fails: Whether the losses are a witness.
        dimensions: The dimensions to try, in order.
    """
    chosen = sorted(names)
    for dimension in dimensions:
        orders = [
            _counts(slots, dimension)
            for d in range(1, degree + 1)
            for slots in combinations_with_replacement(range(dimension), d)
        ]
        random = Random(0)  # one fixed sequence: a witness must not change from run to run
        for _ in range(24):
            losses = {name: {order: random.randint(-2, 2) for order in orders} for name in chosen}
            if fails(losses, dimension):
                return _shrunk(losses, dimension, fails), dimension
    return None


def _shrunk(losses: Losses, dimension: int, fails: Callable[[Losses, int], bool]) -> Losses:
    """The losses with every derivative zero, else one, that can be so while the failure stays."""
    # The highest derivatives first: a witness of low degree is easier to read.
    places = sorted(((name, order) for name in losses for order in losses[name]), key=lambda at: (at[0], -sum(at[1])))
    for name, order in places:
        for simpler in (0, 1):
            if losses[name][order] == simpler:
                break
            trial = losses | {name: losses[name] | {order: simpler}}
            if fails(trial, dimension):
                losses = trial
                break
    return losses


def of_difference(
    true_at: Callable[[int], Series],
    difference: Series,
    indexing: Indexing,
    *,
    is_scalar: bool = False,
    pairs: Iterable[int] = (1, 2, 3, 4),
) -> Witness | None:
    """A witness that a formula differs from the truth.

    Args:
        true_at: The truth written out for a number of pairs; one truth is compared with many formulas.
        difference: The truth less the formula.
        indexing: What the bound indices of both mean.
        is_scalar: Whether the trees are free.
        pairs: The numbers of pairs that are tried.

    Returns:
        Losses, n and both values; None where none is found, which proves nothing.
    """
    depends_on_n = indexing is not PLAIN or any(
        isinstance(c, FracElement) and c.as_expr().free_symbols for c in difference.values()
    )
    for num_pairs in pairs if depends_on_n else (1,):
        try:
            gap = at(difference, indexing, num_pairs)
        except ZeroDivisionError:
            continue
        if not gap:
            continue
        names = {label for t in gap for label in labels(t)}
        hit = search(
            names,
            max(num_vertices(t) for t in gap),
            lambda losses, dimension, d=gap: any(evaluated(d, losses, dimension, is_scalar=is_scalar)),
        )
        if hit is not None:
            losses, dimension = hit
            # A loss that only the truth names is zero; a tree that names it has the value 0.
            everything = true_at(num_pairs)
            true = Series((t, c) for t, c in everything.items() if set(labels(t)) <= names)
            value = evaluated(true, losses, dimension, is_scalar=is_scalar)
            off = evaluated(gap, losses, dimension, is_scalar=is_scalar)
            other = tuple(a - b for a, b in zip(value, off, strict=True))
            setting = format_losses(
                losses, dimension, num_pairs if depends_on_n else None, leaves_out=len(true) < len(everything)
            )
            return Witness(setting, format_value(value), format_value(other))
    return None


def format_value(value: Vector) -> str:
    """A value as a person writes it."""
    return str(value[0]) if len(value) == 1 else f"({', '.join(map(str, value))})"


def format_loss(derivatives: Mapping[tuple[int, ...], int]) -> str:
    """A loss as a polynomial in x, or in x and y."""
    terms = []
    for order in sorted(derivatives, key=lambda o: (sum(o), [-i for i in o])):
        number = Fraction(derivatives[order])
        for count in order:
            number /= factorial(count)
        if number:
            powers = "".join(
                f"{name}{_POWERS.get(count, f'^{count}')}" for name, count in zip("xy", order, strict=False) if count
            )
            above = "" if abs(number.numerator) == 1 else str(abs(number.numerator))
            below = "" if number.denominator == 1 else f"/{number.denominator}"
            terms.append(("−" if number < 0 else "+", above + powers + below))
    if not terms:
        return "0"
    first = terms[0][0].replace("+", "") + terms[0][1]
    return " ".join([first, *(f"{sign} {term}" for sign, term in terms[1:])])


_POWERS = {1: "", 2: "²", 3: "³"}
_SIDES = {"+": "⁺", "-": "⁻", "L": ""}
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _name(label: Label) -> str:
    """A loss as it is called in a witness: L⁺₁, L₂, or L[kl] for a name of the user's."""
    index = str(label.member).translate(_LOWERED) if label.member else ""
    return f"L{_SIDES[label.name]}{index}" if label.name in _SIDES else f"L[{label}]"


def format_losses(losses: Losses, dimension: int, num_pairs: int | None, *, leaves_out: bool = False) -> str:
    """The setting of a witness in one line."""
    parts = [f"{_name(name)} = {format_loss(derivatives)}" for name, derivatives in losses.items()]
    if leaves_out:
        parts.append("other losses 0")
    point = "x = 0" if dimension == 1 else "(x, y) = (0, 0)"
    return ", ".join(([f"n = {num_pairs}"] if num_pairs else []) + parts + [f"at {point}"])
