"""Truncated series in the step size over coloured rooted trees, and gradient steps composed along a schedule.

A series stands for the vector  sum over trees of  coefficient(tree) * eps^(vertices) * F(tree);  the power of the
step size is not stored because the tree knows it.  Coefficients are exact: `fractions.Fraction` for a schedule that
is written out, elements of a SymPy field where the number of pairs or the momentum is a symbol.

`compose` is the definition of the update: sequential,  theta_b = theta_{b-1} - eps_b grad L_b(theta_{b-1}),  unless
the schedule says which gradients are read at one place. Everything that this package proves starts from it.
"""

from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from math import factorial
from typing import Protocol, Self, cast

from console import grammar
from console.grammar import Step, Word
from derivation.trees import Label, Tree, labels, num_vertices, relabel, tree

__all__ = ["Coefficient", "Schedule", "Series", "compose", "gradient_at", "step", "universal"]


class Coefficient(Protocol):
    """An element of a field that contains the rationals: `Fraction`, or an element of a SymPy fraction field."""

    def __add__(self, other: Self | Fraction | int, /) -> Self: ...
    def __sub__(self, other: Self | Fraction | int, /) -> Self: ...
    def __mul__(self, other: Self | Fraction | int, /) -> Self: ...
    def __truediv__(self, other: Self | Fraction | int, /) -> Self: ...
    def __neg__(self) -> Self: ...
    def __bool__(self) -> bool: ...


class Series(Mapping[Tree, Coefficient]):
    """A linear combination of trees; zero coefficients are dropped, so equality is equality of coefficients."""

    __slots__ = ("_terms",)

    def __init__(self, terms: Mapping[Tree, Coefficient] | Iterable[tuple[Tree, Coefficient]] = ()) -> None:
        pairs = terms.items() if isinstance(terms, Mapping) else terms
        collected: dict[Tree, Coefficient] = {}
        for t, coefficient in cast("Iterable[tuple[Tree, Coefficient]]", pairs):
            collected[t] = collected[t] + coefficient if t in collected else coefficient
        self._terms = {t: c for t, c in sorted(collected.items(), key=_graded) if c}

    def __getitem__(self, t: Tree) -> Coefficient:
        return self._terms[t]

    def __iter__(self) -> Iterator[Tree]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    def items(self) -> ItemsView[Tree, Coefficient]:
        """The trees with their coefficients; the inherited view would look up every tree again."""
        return self._terms.items()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Series) and self._terms == other._terms

    __hash__ = None  # type: ignore[assignment]  # a mapping with unhashable coefficients

    def __repr__(self) -> str:
        return f"Series({self._terms!r})"

    def __add__(self, other: "Series") -> "Series":
        return Series([*self.items(), *other.items()])

    def __neg__(self) -> "Series":
        return Series((t, -c) for t, c in self.items())

    def __sub__(self, other: "Series") -> "Series":
        return self + -other

    def scaled(self, factor: Coefficient | Fraction | int) -> "Series":
        """Every coefficient times `factor`."""
        return Series((t, c * factor) for t, c in self.items())

    def of_order(self, order: int) -> "Series":
        """The part with step^`order`."""
        return Series((t, c) for t, c in self.items() if num_vertices(t) == order)

    def up_to(self, order: int) -> "Series":
        """The part with step^1 to step^`order`."""
        return Series((t, c) for t, c in self.items() if num_vertices(t) <= order)

    def relabelled(self, rename: Callable[[Label], Label]) -> "Series":
        """Every loss renamed; trees that become equal are added."""
        return Series((relabel(t, rename), c) for t, c in self.items())

    def substituted(self, combination: Callable[[Label], Mapping[Label, Fraction | int]]) -> "Series":
        """Every loss replaced by a linear combination of losses: F is linear in the loss at each vertex.

        Args:
            combination: The losses that replace a given one, with their factors.
        """
        return Series((u, c * factor) for t, c in self.items() for u, factor in _expanded(t, combination))


def _graded(item: tuple[Tree, Coefficient]) -> tuple[int, Tree]:
    return num_vertices(item[0]), item[0]


def _expanded(
    t: Tree, combination: Callable[[Label], Mapping[Label, Fraction | int]]
) -> list[tuple[Tree, Fraction | int]]:
    partial: list[tuple[tuple[Tree, ...], Fraction | int]] = [((), 1)]
    for child in t.children:
        grown = _expanded(child, combination)
        partial = [((*done, u), f * g) for done, f in partial for u, g in grown]
    return [(tree(loss, *done), f * weight) for loss, weight in combination(t.loss).items() for done, f in partial]


@dataclass(frozen=True)
class Schedule:
    """A word of losses, one gradient step per letter, in the order in which they are stepped.

    Attributes:
        losses: The letters.
        step_sizes: The step size of each letter, in units of the step size that the series is expanded in.
        sizes: The number of letters of each update. All gradients of an update are read at one place, before the first
            of its steps. Empty: every letter is an update.
    """

    losses: tuple[Label, ...]
    step_sizes: tuple[Fraction, ...] = ()
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.losses:
            raise ValueError("schedule must hold at least one step; got none.")
        for number, (name, _) in enumerate(self.losses, start=1):
            grammar.require_name(name, number)
        if not self.step_sizes:
            object.__setattr__(self, "step_sizes", (Fraction(1),) * len(self.losses))
        if not self.sizes:
            object.__setattr__(self, "sizes", (1,) * len(self.losses))
        if len(self.step_sizes) != len(self.losses):
            raise ValueError(
                f"step_sizes must hold one size per step; got {len(self.step_sizes)} sizes for {len(self.losses)}"
                f" steps."
            )
        if min(self.sizes) < 1 or sum(self.sizes) != len(self.losses):
            raise ValueError(f"sizes must be positive and add up to {len(self.losses)} steps; got {self.sizes}.")

    @classmethod
    def parse(cls, word: str, step_sizes: str = "") -> "Schedule":
        """Reads a schedule as a person types it.

        Args:
            word: A word of `console.grammar`: "-+-+", "kl,reward,kl", "(-+)(-+)", "+:1,-:1/2".
            step_sizes: Empty, or one fraction per step between commas ("1,1/2,1") for a word without scales.

        Raises:
            ValueError: If the word or a step size cannot be read, or both hold scales.
        """
        parsed = grammar.parse(word)
        sizes = tuple(step.scale for step in parsed.steps)
        if step_sizes.strip():
            if set(sizes) != {1}:
                raise ValueError(f"step_sizes must be left out where the schedule has scales; got {step_sizes[:40]!r}.")
            sizes = tuple(_step_size(size, number) for number, size in enumerate(step_sizes.split(","), start=1))
        return cls(tuple(Label(step.name) for step in parsed.steps), sizes, parsed.sizes)

    def __str__(self) -> str:
        steps = iter(Step(str(loss)) for loss in self.losses)
        return str(Word(tuple(tuple(islice(steps, size)) for size in self.sizes)))

    def updates(self) -> Iterator[tuple[tuple[Label, Fraction], ...]]:
        """The losses and step sizes of each update."""
        steps = zip(self.losses, self.step_sizes, strict=True)
        for size in self.sizes:
            yield tuple(islice(steps, size))

    def reversed(self) -> "Schedule":
        """The same steps, each with its own size, last first."""
        return Schedule(self.losses[::-1], self.step_sizes[::-1], self.sizes[::-1])


_LONGEST_SIZE = 100
"""Characters of a step size: an exponent could ask for a number that fills the memory."""


def _step_size(text: str, number: int) -> Fraction:
    try:
        if "e" in text.lower() or len(text) > _LONGEST_SIZE:
            raise ValueError
        return Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"step_sizes must be fractions such as 1/2 or 0.5 between commas; got {text.strip()[:40]!r} at step"
            f" {number}."
        ) from None


def _forests(
    candidates: list[tuple[Tree, Coefficient]], budget: int
) -> Iterator[tuple[tuple[Tree, ...], list[Coefficient], int]]:
    """All multisets of trees with at most `budget` vertices.

    Args:
        candidates: The trees with their coefficients, sorted by the number of vertices.
        budget: The largest number of vertices in all.

    Yields:
        The trees, their coefficients, and the product of the factorials of their multiplicities.
    """
    yield (), [], 1
    for i, (t, coefficient) in enumerate(candidates):
        size = num_vertices(t)
        if size > budget:
            return
        for multiplicity in range(1, budget // size + 1):
            for others, coefficients, symmetry in _forests(candidates[i + 1 :], budget - multiplicity * size):
                yield (
                    (t,) * multiplicity + others,
                    [coefficient] * multiplicity + coefficients,
                    factorial(multiplicity) * symmetry,
                )


def gradient_at(loss: Label, displacement: Series, factor: Coefficient, order: int) -> Series:
    """`factor` times the gradient of one loss at theta + displacement, expanded at theta.

    Taylor's theorem with the multinomial theorem: the children of the root are a multiset of trees of the
    displacement, and a tree that is taken j times contributes its coefficient to the power j over j!.

    Args:
        loss: The loss whose gradient is read.
        displacement: Where it is read, relative to theta.
        factor: A common factor, which also fixes the field of the coefficients.
        order: The largest number of vertices kept.

    Returns:
        A series whose trees count one power of the step size more than the gradient has: the one that the step adds.
    """
    candidates = list(displacement.up_to(order - 1).items())
    terms = []
    for children, coefficients, symmetry in _forests(candidates, order - 1):
        product = factor
        for coefficient in coefficients:
            product = product * coefficient
        terms.append((tree(loss, *children), product / symmetry))
    return Series(terms)


def step(displacement: Series, loss: Label, step_size: Coefficient, order: int) -> Series:
    """The displacement after one more gradient-descent step on `loss`, to the given order."""
    return displacement - gradient_at(loss, displacement, step_size, order)


def compose(schedule: Schedule, order: int, on_step: Callable[[int], None] = lambda _: None) -> Series:
    """The displacement theta_m - theta of the updates of a schedule, to the given order in the step size.

    Args:
        schedule: The steps.
        order: The highest power of the step size kept, at least 1.
        on_step: Told the number of each step, from 1, before it is made.

    Returns:
        Displacement relative to the start point; sign, step sizes and symmetry are inside the coefficients.

    Raises:
        ValueError: If `order` is smaller than 1.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1; got {order}.")
    displacement, numbers = Series(), count(1)
    for update in schedule.updates():
        read_at = displacement
        for loss, step_size in update:
            on_step(next(numbers))
            displacement = displacement - gradient_at(loss, read_at, step_size, order)
    return displacement


def universal(order: int) -> Series:
    """The displacement of *every* word of *any* length, as sums over ordered positions.

    The label ("L", i) is the loss of the i-th position named by the tree, and a tree stands for the sum of F over all
    positions b_1 < b_2 < ... < b_r of the word:  L2[L1]  is  sum over b_1 < b_2 of  H_{b_2} g_{b_1}.

    Why a finite computation covers all m: in the displacement, set to zero every loss that a tree does not name. The
    tree's coefficient cannot change, and a step on a zero loss is the identity. So the coefficient of a tree that
    names the steps b_1 < ... < b_r is its coefficient in the r-letter word w_{b_1} ... w_{b_r}, whatever m is, and a
    tree of p vertices names at most p steps.

    Args:
        order: The highest power of the step size kept.
    """
    terms: list[tuple[Tree, Coefficient]] = []
    for length in range(1, order + 1):
        word = Schedule(tuple(Label("L", i) for i in range(1, length + 1)))
        for t, coefficient in compose(word, order).items():
            if len(set(labels(t))) == length:
                terms.append((t, coefficient))
    return Series(terms)
