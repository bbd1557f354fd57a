"""Sums over the steps of a word, and their means over random orders, in closed form for every number of pairs.

Three ways to read an index that is bound (positive) in a tree, each with its own product:

* `ORDERED`: the index i is the i-th of the positions that the tree names, and the tree stands for the sum of F over
  all choices of positions in that order. A product of two such sums splits by how their positions interleave and
  coincide (a quasi-shuffle).
* `MEANS`: the tree stands for the mean of F over all choices of members, one independent and uniform draw per index.
  A product of two means draws its indices anew.
* `PLAIN`: no bound index; the labels are the losses themselves.

`series.universal` gives the sequential update as ORDERED sums over steps. From there: `interleaved` reads the steps as
pairs, `over_permutations` and its neighbours take the mean over random orders, `without_noise` makes all pairs
equal, `at` writes everything out for one n. Each of these holds for every n, by the argument in its docstring;
`enumerated` is the brute force that they are tested against.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, permutations, product
from math import factorial
from typing import cast

from sympy import Expr, ff
from sympy.polys.fields import FracElement
from sympy.utilities.iterables import multiset_partitions

from derivation.series import Coefficient, Schedule, Series, compose
from derivation.symbols import element, n, value_at
from derivation.trees import Label, Tree, labels, relabel

__all__ = [
    "MEANS",
    "ORDERED",
    "PLAIN",
    "Indexing",
    "at",
    "enumerated",
    "interleaved",
    "interleaved_with_coins",
    "mirrored",
    "over_independent_permutations",
    "over_permutations",
    "over_reversal",
    "over_start",
    "reversed_order",
    "split_into_sides",
    "with_replacement",
    "without_noise",
]

Pairing = Callable[[Tree, Tree], Iterable[tuple[Tree, Tree]]]


@dataclass(frozen=True)
class Indexing:
    """What a bound index means.

    Attributes:
        name: What it is called.
        aligned: The pairs of trees, with indices of one common meaning, whose sum is the product of two trees.
        canonical: The representative among trees that mean the same.
    """

    name: str
    aligned: Pairing
    canonical: Callable[[Tree], Tree]


def _indices(t: Tree) -> list[int]:
    """The bound indices of a tree, ascending."""
    return sorted({label.member for label in labels(t) if label.member > 0})


def _reindexed(t: Tree, new: dict[int, int]) -> Tree:
    return relabel(t, lambda label: Label(label.name, new.get(label.member, label.member)))


def _same(t: Tree) -> Tree:
    return t


def _drawn_anew(t: Tree, u: Tree) -> Iterator[tuple[Tree, Tree]]:
    shift = max(_indices(t), default=0)
    yield t, _reindexed(u, {i: i + shift for i in _indices(u)})


def _smallest_naming(t: Tree) -> Tree:
    used = _indices(t)
    return min(
        (_reindexed(t, dict(zip(used, order, strict=True))) for order in permutations(range(1, len(used) + 1))),
    )


def _quasi_shuffled(t: Tree, u: Tree) -> Iterator[tuple[Tree, Tree]]:
    first, second = _indices(t), _indices(u)
    for chosen, other in _merged(len(first), len(second)):
        yield (
            _reindexed(t, dict(zip(first, chosen, strict=True))),
            _reindexed(u, dict(zip(second, other, strict=True))),
        )


def _merged(num_first: int, num_second: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All ways in which two ascending sequences of positions interleave and coincide."""
    for num_positions in range(max(num_first, num_second), num_first + num_second + 1):
        positions = range(1, num_positions + 1)
        for chosen in combinations(positions, num_first):
            for other in combinations(positions, num_second):
                if len({*chosen, *other}) == num_positions:
                    yield chosen, other


PLAIN = Indexing("plain", lambda t, u: [(t, u)], _same)
ORDERED = Indexing("ordered positions", _quasi_shuffled, _same)
MEANS = Indexing("means", _drawn_anew, _smallest_naming)


def interleaved(series: Series, period: Sequence[str]) -> Series:
    """Sums over the steps of the periodic word (period repeated n times) as sums over ordered repetitions.

    Steps b_1 < ... < b_r of a periodic word fall into repetitions k_1 <= ... <= k_r, and steps of one repetition stand
    in the order of the period. So each repetition takes a run of one or more consecutive steps and gives them an
    increasing choice of its letters; summing over all such runs and choices is summing over all steps.

    Args:
        series: ORDERED sums over steps, labels ("L", i).
        period: The names of the losses of one repetition in the order in which they are stepped.

    Returns:
        ORDERED sums over repetitions, labels (name, k).
    """
    return Series(
        (relabel(t, naming.__getitem__), c)
        for t, c in series.items()
        for naming, _ in _runs(_indices(t), lambda length: [(choice, 1) for choice in combinations(period, length)])
    )


def interleaved_with_coins(series: Series, sides: tuple[str, str]) -> Series:
    """Interleaved pairs whose inner order is decided by a fair coin per pair: the mean over all coins."""
    half = Fraction(1, 2)

    def choices(length: int) -> list[tuple[tuple[str, ...], Fraction | int]]:
        if length == 1:
            return [((side,), 1) for side in sides]
        return [(sides, half), (sides[::-1], half)] if length == 2 else []

    return Series(
        (relabel(t, naming.__getitem__), c * weight)
        for t, c in series.items()
        for naming, weight in _runs(_indices(t), choices)
    )


def _runs(
    steps: list[int], choices: Callable[[int], Iterable[tuple[tuple[str, ...], Fraction | int]]], repetition: int = 1
) -> Iterator[tuple[dict[Label, Label], Fraction | int]]:
    """All ways to cut the steps into runs and to name each run's letters, with the product of the choices' weights."""
    if not steps:
        yield {}, 1
        return
    for length in range(1, len(steps) + 1):
        for names, weight in choices(length):
            named = {Label("L", b): Label(name, repetition) for b, name in zip(steps[:length], names, strict=True)}
            for rest, other in _runs(steps[length:], choices, repetition + 1):
                yield named | rest, weight * other


def over_start(series: Series, sides: tuple[str, str]) -> Series:
    """Interleaved pairs with one fair coin per epoch for which side comes first: the mean over the two schedules."""
    return (interleaved(series, sides) + interleaved(series, sides[::-1])).scaled(Fraction(1, 2))


def over_reversal(series: Series) -> Series:
    """The mean of ORDERED sums over a word and its reversal, which holds for every word."""
    return (series + reversed_order(series)).scaled(Fraction(1, 2))


def reversed_order(series: Series) -> Series:
    """ORDERED sums with the positions counted from the other end: the reversed word's sums."""
    return Series(
        (_reindexed(t, dict(zip(_indices(t), reversed(_indices(t)), strict=True))), c) for t, c in series.items()
    )


def without_noise(series: Series) -> Series:
    """ORDERED sums over n repetitions that are all equal, as a PLAIN series with coefficients in n.

    There are binomial(n, r) choices of r ordered repetitions, and F no longer depends on the choice.
    """
    terms: list[tuple[Tree, Coefficient]] = []
    for t, c in series.items():
        r = len(_indices(t))
        terms.append((_reindexed(t, dict.fromkeys(_indices(t), 0)), _exact(c) * element(ff(n, r) / factorial(r))))
    return Series(terms)


def _exact(coefficient: Coefficient) -> FracElement:
    """The coefficient in the field of rational functions of n."""
    if isinstance(coefficient, FracElement):
        return coefficient
    assert isinstance(coefficient, Fraction)
    return element(coefficient)


def _distinct_draws(t: Tree, indices: list[int], size: Expr) -> Iterator[tuple[Tree, Coefficient]]:
    """The sum of F over pairwise distinct members as means over independent draws.

    Moebius inversion on the lattice of set partitions: the sum over distinct (k_1, ..., k_r) is the sum over all
    partitions of product over blocks of (-1)^(|block|-1) (|block|-1)!  times the sum in which a block shares one
    member, and that last sum is size^(number of blocks) times a mean.
    """
    for partition in cast("Iterator[list[list[int]]]", multiset_partitions(indices)):
        weight = 1
        new: dict[int, int] = {}
        for block in partition:
            weight *= (-1) ** (len(block) - 1) * factorial(len(block) - 1)
            new |= dict.fromkeys(block, block[0])
        yield _reindexed(t, new), element(weight * size ** len(partition))


def over_permutations(series: Series, size: Expr = n) -> Series:
    """The mean of ORDERED sums over all permutations of the members, for every number of members.

    A uniform permutation puts r distinct members into each of their r! orders equally often, however many others
    there are; so the mean of a sum over ordered positions is 1/r! times the sum over distinct members.

    Args:
        series: ORDERED sums whose index is the position of a member: of a pair, permuted with all its losses, or of
            a single loss (random reshuffling).
        size: The number of members.

    Returns:
        MEANS over members, coefficients polynomial in `size`.
    """
    terms: list[tuple[Tree, Coefficient]] = []
    for t, c in series.items():
        indices = _indices(t)
        for u, weight in _distinct_draws(t, indices, size):
            terms.append((MEANS.canonical(u), _exact(c) * weight / factorial(len(indices))))
    return Series(terms)


def over_independent_permutations(series: Series, sides: tuple[str, str]) -> Series:
    """The mean of ORDERED sums over pairs when each side is permuted on its own.

    Of n positions, q can be chosen in order in binomial(n, q) ways. At r given positions a uniform permutation puts
    each r-tuple of distinct members with probability 1/(n)_r, the falling factorial, and the two permutations are
    independent.

    Returns:
        MEANS over members; a member of one side and a member of the other never share an index. Coefficients are
        rational in n, and valid for every n at which they have no pole: where a falling factorial that cancelled
        would vanish, the sum over distinct members that it divides is empty.
    """
    terms: list[tuple[Tree, Coefficient]] = []
    for t, c in series.items():
        # Indices of the second side move out of the way of the first's: they are drawn independently.
        num_positions = len(_indices(t))
        shifted = relabel(
            t, lambda label, q=num_positions: Label(label.name, label.member + (q if label.name == sides[1] else 0))
        )
        first = [i for i in _indices(shifted) if i <= num_positions]
        second = [i for i in _indices(shifted) if i > num_positions]
        choices = ff(n, num_positions) / factorial(num_positions)
        probability = element(choices / (ff(n, len(first)) * ff(n, len(second))))
        for u, weight in _distinct_draws(shifted, first, n):
            for v, other in _distinct_draws(u, second, n):
                terms.append((MEANS.canonical(v), _exact(c) * probability * weight * other))
    return Series(terms)


def split_into_sides(series: Series, sides: tuple[str, str]) -> Series:
    """MEANS over all 2n losses as MEANS over pairs: a uniform loss is a uniform pair and a fair coin for the side."""
    terms: list[tuple[Tree, Coefficient]] = []
    for t, c in series.items():
        indices = _indices(t)
        for choice in product(sides, repeat=len(indices)):
            side = dict(zip(indices, choice, strict=True))
            u = relabel(t, lambda label, side=side: Label(side[label.member], label.member))
            terms.append((MEANS.canonical(u), _exact(c) / 2 ** len(indices)))
    return Series(terms)


def with_replacement(series: Series, size: Expr) -> Series:
    """The mean of ORDERED sums over `size` steps whose losses are drawn independently, each step anew.

    There are binomial(size, r) choices of r ordered positions, and each position has a draw of its own.

    Returns:
        MEANS over the losses that are drawn from.
    """
    terms: list[tuple[Tree, Coefficient]] = []
    for t, c in series.items():
        r = len(_indices(t))
        terms.append((MEANS.canonical(t), _exact(c) * element(ff(size, r) / factorial(r))))
    return Series(terms)


def mirrored(series: Series) -> Series:
    """The sums of the palindrome w rev(w) as ORDERED sums over the positions of w, for every length of w.

    The steps b_1 < ... < b_r of the palindrome split into those of its first half, where positions of w ascend, and
    those of its second half, where they descend; the positions of the two parts may interleave and coincide in every
    way.
    """
    terms: list[tuple[Tree, Coefficient]] = []
    for t, c in series.items():
        steps = _indices(t)
        for cut in range(len(steps) + 1):
            for ascending, descending in _merged(len(steps[:cut]), len(steps[cut:])):
                new = dict(zip(steps, (*ascending, *reversed(descending)), strict=True))
                terms.append((_reindexed(t, new), c))
    return Series(terms)


def at(series: Series, indexing: Indexing, num_pairs: int) -> Series:
    """Everything written out for one n: a PLAIN series over the losses ("+", 1), ("-", 1), ("+", 2), ...

    Args:
        series: ORDERED, MEANS or PLAIN, coefficients rational in n.
        indexing: Which of the three.
        num_pairs: The n.

    Raises:
        ValueError: If `num_pairs` is no whole number of at least 1.
        ZeroDivisionError: If a coefficient has a pole at that n. What the pole multiplies is a sum over distinct
            members of which there are too few: an empty sum, written as trees that are not zero one by one. So the
            closed form is 0/0 there; `enumerated` has the true mean.
    """
    terms: list[tuple[Tree, Coefficient]] = []
    for t, c in series.items():
        indices = _indices(t)
        value = value_at(_exact(c), num_pairs)
        if indexing is PLAIN:
            members: Iterable[tuple[int, ...]] = [tuple(indices)]
        elif indexing is ORDERED:
            members = combinations(range(1, num_pairs + 1), len(indices))
        else:
            members = product(range(1, num_pairs + 1), repeat=len(indices))
            value /= num_pairs ** len(indices)
        terms.extend((_reindexed(t, dict(zip(indices, choice, strict=True))), value) for choice in members)
    return Series(terms)


def enumerated(words: Iterable[Sequence[Label]], order: int) -> Series:
    """The mean displacement over words that are listed one by one: the brute force.

    Args:
        words: Equally likely words.
        order: The highest power of the step size.

    Raises:
        ValueError: If there is no word.
    """
    total, count = Series(), 0
    for word in words:
        total = total + compose(Schedule(tuple(word)), order)
        count += 1
    if not count:
        raise ValueError("words must hold at least one word; got none.")
    return total.scaled(Fraction(1, count))
