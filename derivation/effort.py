"""How much work an expansion is, counted before it begins.

The number of trees grows by a factor of three to twenty with every order, so one order more can be the difference
between a second and a year. Trees can be counted without making one: a multiset of trees is an Euler transform, and
the trees of a displacement follow the word. Nothing of the mathematics of an update is known here.
"""

from collections.abc import Hashable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

__all__ = ["LIMIT", "Effort", "by_order", "displacement_trees", "rooted_trees"]

LIMIT = 100_000_000
"""Vertices that are handled without being asked twice: minutes, and a few gigabytes."""


class Effort(NamedTuple):
    """The work of one order of an expansion.

    Attributes:
        num_trees: Trees with as many vertices in the result, at most.
        num_vertices: Vertices of all trees handled on the way, as a measure of time: about a million a second.
    """

    num_trees: int
    num_vertices: int


class _Multisets:
    """The number of multisets of trees by their vertices in all, as the trees become known by theirs.

    With s(d) trees of d vertices, c(n) is the sum of d s(d) over the divisors d of n, and n times the number of
    multisets of n vertices is the sum of c(j) times the number of multisets of n - j.
    """

    def __init__(self) -> None:
        self.numbers = [1]  # the empty one
        self._divisor_sums = [0]
        self._trees = [0]

    def add(self, num_trees: int) -> None:
        """Adds the trees of the next number of vertices."""
        n = len(self.numbers)
        self._trees.append(num_trees)
        self._divisor_sums.append(sum(d * self._trees[d] for d in range(1, n + 1) if n % d == 0))
        self.numbers.append(sum(self._divisor_sums[j] * self.numbers[n - j] for j in range(1, n + 1)) // n)


def rooted_trees(num_losses: int) -> Iterator[int]:
    """The number of rooted trees with 1, 2, 3, ... vertices, each of which is one of so many losses."""
    forests = _Multisets()
    while True:
        num_trees = num_losses * forests.numbers[-1]
        yield num_trees
        forests.add(num_trees)


def displacement_trees(word: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """The trees of a displacement with 1, 2, 3, ... vertices.

    The trees after a step are those before it, and its loss on every multiset of those before it. For two steps on one
    loss the later one makes all that the earlier one made.

    Yields:
        The number of different trees, and the number that all steps make.
    """
    before = [_Multisets() for _ in word]  # of the trees before each step
    last = {loss: step for step, loss in enumerate(word)}
    while True:
        counts = [forests.numbers[-1] for forests in before]
        yield sum(counts[step] for step in last.values()), sum(counts)
        newest: dict[Hashable, int] = {}
        so_far = 0
        for loss, forests, num_trees in zip(word, before, counts, strict=True):
            forests.add(so_far)
            so_far += num_trees - newest.get(loss, 0)
            newest[loss] = num_trees


def by_order(word: Sequence[Hashable], frame: str) -> Iterator[Effort]:
    """The work of each order, from the first on; an expansion to an order takes that of all orders up to it.

    Args:
        word: The losses in the order in which they are stepped.
        frame: What the displacement is compared with, as the command names it, or "modified-field".
    """
    num_losses = len(set(word))
    takes_all = frame in ("gradient-flow", "modified-field")
    every: list[int] = []  # rooted trees by their vertices, from 1
    of_losses, of_word = rooted_trees(num_losses), displacement_trees(word)
    for order in count(1):
        num_trees, num_made = next(of_word)
        num_handled = num_made + num_trees * len(word)  # every step adds its own to all that there are
        if frame == "pair-accumulated":
            num_handled *= 2
        if takes_all:
            num_trees = next(of_losses)
            every.append(num_trees)
            # A product hangs every tree of one series at every vertex of every tree of the other.
            num_handled += sum(every[size - 1] * size * every[order - size - 1] * size for size in range(1, order))
        if frame == "modified-field":
            # The Jacobian opens every vertex, and a witness sets the derivatives to zero one by one.
            num_handled += order * num_trees * (1 + num_losses * (order + 1) * (order + 4) // 2)
        yield Effort(num_trees, order * num_handled)
