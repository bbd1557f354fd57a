"""The engine of trees against the engine that walks: exact equality on polynomial losses, and the rules by counting.

`exact_descent` computes every truth in this file: it takes real gradient steps in exact rationals, solves the
differential equation of a flow and differentiates polynomials; it expands nothing over trees and shares no code with
`derivation`. A random order is the list of all its words. Every tolerance is zero.
"""

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import permutations, product
from math import comb, factorial, prod
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer

from derivation import averages, frames, witness
from derivation.averages import MEANS, ORDERED, PLAIN
from derivation.series import Schedule, Series, compose, gradient_at, universal
from derivation.symbols import n
from derivation.trees import Label, Tree, automorphisms, relabel, tree
from tests.oracles import exact_descent
from tests.oracles.exact_descent import Field, Losses, Polynomial, Vector

SIDES = ("-", "+")
LETTERS = tuple(map(Label, "abcd"))
SIZES = tuple(map(Fraction, ("1", "1/2", "2/3", "-1", "2", "0")))

# dimension, degree, number of losses, order: every value of each occurs; together they stay below a second.
SHAPES = (
    *((1, 5, 4, 5), (2, 5, 2, 5), (3, 4, 2, 5), (1, 1, 2, 4), (2, 4, 4, 4), (3, 5, 2, 4), (2, 2, 3, 4)),
    *((3, 3, 4, 3), (2, 4, 3, 3), (1, 3, 1, 5), (3, 2, 3, 2), (2, 3, 4, 1)),
)


# Random material -----------------------------------------------------------------------------------------------------


def exponents_of(dimension: int, degree: int) -> list[tuple[int, ...]]:
    """All monomials without the constant, which no gradient sees."""
    return [e for e in product(range(degree + 1), repeat=dimension) if 0 < sum(e) <= degree]


@st.composite
def some_losses(draw: Any, names: Sequence[Label], dimension: int, degree: int) -> Losses:
    monomials = exponents_of(dimension, degree)
    coefficients = st.lists(st.integers(-2, 2), min_size=len(monomials), max_size=len(monomials))
    return {name: {e: Fraction(c) for e, c in zip(monomials, draw(coefficients), strict=True) if c} for name in names}


def generic_losses(names: Sequence[Label], dimension: int, degree: int, seed: int) -> Losses:
    """Losses without structure even where Hypothesis has shrunk everything: for the averages, which need many."""
    random = Random(seed)
    return {
        name: {e: Fraction(random.choice((-3, -2, -1, 1, 2, 3))) for e in exponents_of(dimension, degree)}
        for name in names
    }


def places(dimension: int) -> st.SearchStrategy[Vector]:
    return st.tuples(*(st.sampled_from(tuple(map(Fraction, ("0", "1", "-1", "1/2", "2")))) for _ in range(dimension)))


def built(parents: Sequence[int], names: Sequence[Label], vertex: int = 0) -> Tree:
    """The tree whose vertex v > 0 hangs at parents[v - 1] < v."""
    children = [v for v in range(1, len(names)) if parents[v - 1] == vertex]
    return tree(names[vertex], *(built(parents, names, v) for v in children))


@st.composite
def some_trees(draw: Any, names: Sequence[Label], max_vertices: int) -> Tree:
    size = draw(st.integers(1, max_vertices))
    parents = [draw(st.integers(0, v - 1)) for v in range(1, size)]
    return built(parents, [draw(st.sampled_from(names)) for _ in range(size)])


@st.composite
def some_series(draw: Any, names: Sequence[Label], max_vertices: int, max_terms: int = 3) -> Series:
    terms = st.lists(st.tuples(some_trees(names, max_vertices), st.sampled_from(SIZES)), min_size=1, max_size=max_terms)
    return Series(draw(terms))


# Both engines on the same question ------------------------------------------------------------------------------------


def size_of(t: Tree) -> int:
    return 1 + sum(map(size_of, t.children))


def summed(vectors: Iterable[Vector], dimension: int) -> Vector:
    return tuple(sum(x, Fraction(0)) for x in zip((Fraction(0),) * dimension, *vectors, strict=True))


def expanded(series: Mapping[Tree, Any], losses: Losses, start: Vector, order: int) -> list[Vector]:
    """The value of a PLAIN series, power by power of the step size, by the second engine's differentials."""
    value = exact_descent.differential_at(losses, start)
    return [
        summed(
            (tuple(c * x for x in value(t)) for t, c in series.items() if size_of(t) == power),
            len(start),
        )
        for power in range(1, order + 1)
    ]


def walked(word: Sequence[Label], losses: Losses, start: Vector, order: int) -> list[Vector]:
    return exact_descent.displacement(losses, word, (Fraction(1),) * len(word), start, order)


def mean_walked(words: Iterable[Sequence[Label]], losses: Losses, start: Vector, order: int) -> list[Vector]:
    walks = [walked(word, losses, start, order) for word in words]
    return [
        tuple(sum(x, Fraction(0)) / len(walks) for x in zip(*vectors, strict=True))
        for vectors in zip(*walks, strict=True)
    ]


def field_of(series: Series, losses: Losses, dimension: int) -> Field:
    """A PLAIN series as a vector field in all coordinates."""
    total: list[Polynomial] = [{} for _ in range(dimension)]
    for t, c in series.items():
        for i, part in enumerate(exact_descent.differential(t, losses, dimension)):
            total[i] = exact_descent.plus(total[i], {e: x * c for e, x in part.items()})  # type: ignore[operator]
    return tuple(total)


def scalar_of(series: Series, losses: Losses, dimension: int) -> Polynomial:
    """A PLAIN series of free trees as a scalar in all coordinates."""
    return exact_descent.plus(
        *(
            {e: x * c for e, x in exact_descent.contraction(t, losses, dimension).items()}  # type: ignore[operator]
            for t, c in series.items()
        )
    )


def curl_of(field: Field) -> list[list[Polynomial]]:
    """J - J^T by formal differentiation."""
    jacobian = [exact_descent.gradient(part, len(field)) for part in field]
    minus_one = exact_descent.constant(Fraction(-1), len(field))
    return [
        [exact_descent.plus(jacobian[i][j], exact_descent.times(minus_one, jacobian[j][i])) for j in range(len(field))]
        for i in range(len(field))
    ]


def members(num: int, names: Sequence[str] = SIDES) -> list[Label]:
    return [Label(name, k) for k in range(1, num + 1) for name in names]


# The second engine on its own -----------------------------------------------------------------------------------------


def test_second_engine_imports_the_standard_library_only():
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(Path(exact_descent.__file__).read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or "."] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
    }
    assert imported <= sys.stdlib_module_names


def test_second_engine_on_closed_forms():
    half_square, cube, line = {(2,): Fraction(1, 2)}, {(3,): Fraction(1, 3)}, {(1,): Fraction(1)}
    losses: Losses = {"q": half_square, "l": line}
    one, ones = (Fraction(1),), (Fraction(1),) * 5
    # Five steps on x^2/2 multiply x by (1 - eps)^5.
    walk = exact_descent.displacement(losses, "qqqqq", ones, one, 5)
    assert walk == [(Fraction((-1) ** k * comb(5, k)),) for k in range(1, 6)]
    # The flow of x^2/2 multiplies x by exp(-eps); that of x^3/3 takes 1 to 1/(1 + eps).
    assert exact_descent.flow([({(1,): Fraction(-1)},)], one, 5) == [
        (Fraction((-1) ** k, factorial(k)),) for k in range(1, 6)
    ]
    downhill = tuple({e: -c for e, c in part.items()} for part in exact_descent.gradient(cube, 1))
    assert exact_descent.flow([downhill], one, 5) == [(Fraction((-1) ** k),) for k in range(1, 6)]
    # On the line x the velocities of the heavy ball are 1, 1 + 1/2, 1 + 1/2 + 1/4.
    ball = exact_descent.displacement(losses, "lll", ones[:3], one, 2, momentum=Fraction(1, 2))
    assert ball == [(Fraction(-17, 4),), (Fraction(0),)]
    with pytest.raises(ValueError, match="order must be at least 1; got 0"):
        exact_descent.displacement(losses, "q", ones[:1], one, 0)
    with pytest.raises(ValueError, match="step_sizes must hold one size per step; got 2 for 1 steps"):
        exact_descent.displacement(losses, "q", ones[:2], one, 1)


# The composition of steps ---------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(deadline=None, max_examples=80)
def test_composition_is_the_walk(data):
    dimension, degree, num_losses, order = data.draw(st.sampled_from(SHAPES))
    names = LETTERS[:num_losses]
    losses = data.draw(some_losses(names, dimension, degree))
    word = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=6))
    sizes = data.draw(st.lists(st.sampled_from(SIZES), min_size=len(word), max_size=len(word)))
    start = data.draw(places(dimension))
    schedule = Schedule(tuple(word), tuple(sizes))
    truth = exact_descent.displacement(losses, word, sizes, start, order)
    assert expanded(compose(schedule, order), losses, start, order) == truth
    backwards = exact_descent.displacement(losses, word[::-1], sizes[::-1], start, order)
    assert expanded(compose(schedule.reversed(), order), losses, start, order) == backwards


@given(data=st.data(), momentum=st.sampled_from(SIZES))
@settings(deadline=None, max_examples=25)
def test_heavy_ball_from_gradients_along_the_path(data, momentum):
    order = 4
    losses = data.draw(some_losses(LETTERS[:2], 2, 4))
    word = data.draw(st.lists(st.sampled_from(LETTERS[:2]), min_size=1, max_size=4))
    start = data.draw(places(2))
    velocity, displacement = Series(), Series()
    for name in word:
        velocity = velocity.scaled(momentum) + gradient_at(name, displacement, Fraction(1), order)
        displacement = displacement - velocity
    sizes = (Fraction(1),) * len(word)
    truth = exact_descent.displacement(losses, word, sizes, start, order, momentum=momentum)
    assert expanded(displacement, losses, start, order) == truth


@given(data=st.data())
@settings(deadline=None, max_examples=15)
def test_substituted_losses_are_steps_on_mixtures(data):
    losses = data.draw(some_losses(LETTERS[:3], 2, 4))
    start = data.draw(places(2))
    mixtures = {name: {a: data.draw(st.sampled_from(SIZES)) for a in LETTERS[:3]} for name in LETTERS[:2]}
    mixed: Losses = {
        name: exact_descent.plus(*({e: c * x for e, x in losses[a].items() if c} for a, c in mixture.items()))
        for name, mixture in mixtures.items()
    }
    word = data.draw(st.lists(st.sampled_from(LETTERS[:2]), min_size=1, max_size=4))
    series = compose(Schedule(tuple(word)), 4).substituted(mixtures.__getitem__)
    assert expanded(series, losses, start, 4) == walked(word, mixed, start, 4)


@given(data=st.data(), group=st.integers(1, 3), num_groups=st.integers(1, 3))
@settings(deadline=None, max_examples=15)
def test_accumulated_steps_are_steps_on_sums_of_losses(data, group, num_groups):
    losses = data.draw(some_losses(LETTERS[:3], 2, 4))
    start = data.draw(places(2))
    size = group * num_groups
    word = data.draw(st.lists(st.sampled_from(LETTERS[:3]), min_size=size, max_size=size))
    sizes = data.draw(st.lists(st.sampled_from(SIZES), min_size=size, max_size=size))
    sums: Losses = {
        first: exact_descent.plus(
            *({e: c * sizes[b] for e, c in losses[word[b]].items() if sizes[b]} for b in range(first, first + group))
        )
        for first in range(0, size, group)
    }
    truth = exact_descent.displacement(sums, list(sums), (Fraction(1),) * num_groups, start, 4)
    schedule = Schedule(tuple(word), tuple(sizes))
    whole = None if num_groups == 1 else group
    assert expanded(frames.accumulated(schedule, 4, group=whole), losses, start, 4) == truth


# The rule of counting -------------------------------------------------------------------------------------------------


@cache
def coloured_trees(num: int, names: tuple[Label, ...]) -> dict[Tree, tuple[tuple[int, ...], tuple[Label, ...]]]:
    """Every coloured rooted tree with this number of vertices, with parents and names of its vertices numbered."""
    return {
        built(parents, colours): (parents, colours)
        for parents in product(*(range(v) for v in range(1, num)))
        for colours in product(names, repeat=num)
    }


@given(data=st.data(), order=st.integers(1, 5))
@settings(deadline=None, max_examples=25)
def test_coefficients_count_the_steps_that_vertices_can_stand_at(data, order):
    # Every assignment of steps to vertices is listed: at the highest order only for short words.
    word = data.draw(st.lists(st.sampled_from(LETTERS[:2]), min_size=1, max_size=6 if order < 5 else 4))
    sizes = data.draw(st.lists(st.sampled_from(SIZES), min_size=len(word), max_size=len(word)))
    series = compose(Schedule(tuple(word), tuple(sizes)), order)
    expected = {}
    for num in range(1, order + 1):
        for t, (parents, colours) in coloured_trees(num, LETTERS[:2]).items():
            total = Fraction(0)
            for steps in product(*([b for b, a in enumerate(word) if a == colour] for colour in colours)):
                if all(steps[v] < steps[parents[v - 1]] for v in range(1, num)):
                    total += prod((sizes[b] for b in steps), start=Fraction(1))
            if total:
                expected[t] = (-1) ** num * total / automorphisms(t)
    assert dict(series) == expected


@pytest.mark.parametrize("num", range(1, 6))
def test_renamed_trees_are_the_trees_built_from_the_new_names(num):
    swapped = {LETTERS[0]: LETTERS[1], LETTERS[1]: LETTERS[0]}
    for t, (parents, colours) in coloured_trees(num, LETTERS[:2]).items():
        assert relabel(t, swapped.__getitem__) == built(parents, [swapped[colour] for colour in colours])


def num_symmetries(parents: Sequence[int], colours: Sequence[Label]) -> int:
    vertices = range(len(colours))
    edges = {(v, parents[v - 1]) for v in vertices[1:]}
    return sum(
        moved[0] == 0
        and all(colours[moved[v]] == colours[v] for v in vertices)
        and {(moved[v], moved[u]) for v, u in edges} == edges
        for moved in permutations(vertices)
    )


@pytest.mark.parametrize("num", range(1, 6))
def test_automorphisms_are_the_permutations_that_keep_everything(num):
    for t, (parents, colours) in coloured_trees(num, LETTERS[:2]).items():
        assert automorphisms(t) == num_symmetries(parents, colours)


@pytest.mark.parametrize("leaves", ["aaaa", "aabb", "abab", "aaab"])
def test_automorphisms_of_twin_branches_that_have_their_own(leaves):
    # Seven vertices: the smallest tree with two equal branches that are symmetric themselves.
    parents, colours = (0, 0, 1, 1, 2, 2), [Label(a) for a in "aaa" + leaves]
    assert automorphisms(built(parents, colours)) == num_symmetries(parents, colours)


# Sums over positions --------------------------------------------------------------------------------------------------


def runs_of(period: Sequence[str], repetitions: Iterable[int]) -> list[Label]:
    return [Label(name, k) for k in repetitions for name in period]


_ORDERED: dict[str, tuple[Callable[[Series], Series], Callable[[int], list[Label]], Sequence[str]]] = {
    "any word": (lambda u: u, lambda m: runs_of("L", range(1, m + 1)), "L"),
    "reversed": (averages.reversed_order, lambda m: runs_of("L", range(m, 0, -1)), "L"),
    "mirrored": (averages.mirrored, lambda m: runs_of("L", [*range(1, m + 1), *range(m, 0, -1)]), "L"),
    "pairs": (lambda u: averages.interleaved(u, SIDES), lambda m: runs_of(SIDES, range(1, m + 1)), SIDES),
    "triples": (lambda u: averages.interleaved(u, "cab"), lambda m: runs_of("cab", range(1, m + 1)), "abc"),
    "triples with one loss twice": (
        lambda u: averages.interleaved(u, "aba"),
        lambda m: runs_of("aba", range(1, m + 1)),
        "ab",
    ),
    "pairs, last pair first": (
        lambda u: averages.reversed_order(averages.interleaved(u, SIDES)),
        lambda m: runs_of(SIDES, range(m, 0, -1)),
        SIDES,
    ),
    "pairs, all steps reversed": (
        lambda u: averages.interleaved(averages.reversed_order(u), SIDES),
        lambda m: runs_of(SIDES, range(1, m + 1))[::-1],
        SIDES,
    ),
    "pairs and back, pair by pair": (
        lambda u: averages.mirrored(averages.interleaved(u, SIDES)),
        lambda m: runs_of(SIDES, [*range(1, m + 1), *range(m, 0, -1)]),
        SIDES,
    ),
    "pairs and back, step by step": (
        lambda u: averages.interleaved(averages.mirrored(u), SIDES),
        lambda m: runs_of(SIDES, range(1, m + 1)) + runs_of(SIDES, range(1, m + 1))[::-1],
        SIDES,
    ),
}


@cache
def ordered(name: str, order: int) -> Series:
    return _ORDERED[name][0](universal(order))


@pytest.mark.parametrize("name", _ORDERED)
@given(data=st.data(), num=st.integers(1, 4))
@settings(deadline=None, max_examples=8)
def test_sums_over_positions_are_the_walk(name, data, num):
    order = 4 if num < 3 else 3
    _, word, names = _ORDERED[name]
    losses = data.draw(some_losses(members(num, names), 2, 3))
    start = data.draw(places(2))
    series = averages.at(ordered(name, order), ORDERED, num)
    assert expanded(series, losses, start, order) == walked(word(num), losses, start, order)


@given(data=st.data(), num=st.integers(1, 4))
@settings(deadline=None, max_examples=10)
def test_pairs_without_noise_are_a_power_of_one_pair(data, num):
    losses = data.draw(some_losses([Label("-"), Label("+")], 2, 4))
    start = data.draw(places(2))
    series = averages.at(averages.without_noise(ordered("pairs", 4)), PLAIN, num)
    assert expanded(series, losses, start, 4) == walked([Label("-"), Label("+")] * num, losses, start, 4)


@given(data=st.data(), num=st.integers(1, 3))
@settings(deadline=None, max_examples=10)
def test_tossed_pairs_without_noise_are_the_mean_over_coins(data, num):
    losses = data.draw(some_losses([Label("-"), Label("+")], 2, 3))
    start = data.draw(places(2))
    words = ([Label(side) for pair in heads for side in pair] for heads in coins(num))
    series = averages.at(averages.without_noise(tossed(universal(3))), PLAIN, num)
    assert expanded(series, losses, start, 3) == mean_walked(words, losses, start, 3)


# Means over random orders ---------------------------------------------------------------------------------------------

Words = Callable[[int], Iterable[Sequence[Label]]]


def orders(num: int) -> Iterator[tuple[int, ...]]:
    return permutations(range(1, num + 1))


def coins(num: int) -> Iterator[tuple[tuple[str, ...], ...]]:
    return product((SIDES, SIDES[::-1]), repeat=num)


def independent(num: int, heads: Sequence[tuple[str, ...]]) -> Iterator[list[Label]]:
    """The words in which every side has an order of its own; heads: the order of the sides within each pair."""
    for minus in orders(num):
        for plus in orders(num):
            member = {"-": minus, "+": plus}
            yield [Label(side, member[side][p]) for p in range(num) for side in heads[p]]


def paired(series: Series) -> Series:
    return averages.interleaved(series, SIDES)


def tossed(series: Series) -> Series:
    return averages.interleaved_with_coins(series, SIDES)


_MEANS: dict[str, tuple[Callable[[Series], Series], Words, Sequence[str]]] = {
    "pairs permuted": (
        lambda u: averages.over_permutations(paired(u)),
        lambda num: (runs_of(SIDES, order) for order in orders(num)),
        SIDES,
    ),
    "pairs permuted, a coin per pair": (
        lambda u: averages.over_permutations(tossed(u)),
        lambda num: (
            [Label(side, k) for k, pair in zip(order, heads, strict=True) for side in pair]
            for order in orders(num)
            for heads in coins(num)
        ),
        SIDES,
    ),
    "pairs permuted, there and back": (
        lambda u: averages.over_permutations(averages.mirrored(paired(u))),
        lambda num: (runs_of(SIDES, [*order, *order[::-1]]) for order in orders(num)),
        SIDES,
    ),
    "sides permuted independently": (
        lambda u: averages.over_independent_permutations(paired(u), SIDES),
        lambda num: independent(num, (SIDES,) * num),
        SIDES,
    ),
    "sides permuted independently, a coin per pair": (
        lambda u: averages.over_independent_permutations(tossed(u), ("+", "-")),
        lambda num: (word for heads in coins(num) for word in independent(num, heads)),
        SIDES,
    ),
    "everything permuted": (
        lambda u: averages.split_into_sides(averages.over_permutations(u, 2 * n), SIDES),
        lambda num: permutations(members(num)),
        SIDES,
    ),
    "single losses permuted": (
        averages.over_permutations,
        lambda num: (runs_of("L", order) for order in orders(num)),
        "L",
    ),
    "single losses permuted, last first": (
        lambda u: averages.over_permutations(averages.reversed_order(u)),
        lambda num: (runs_of("L", order) for order in orders(num)),
        "L",
    ),
    "drawn with replacement, one step more than losses": (
        lambda u: averages.with_replacement(u, n + 1),
        lambda num: product(members(num, "L"), repeat=num + 1),
        "L",
    ),
    "four steps with replacement": (
        lambda u: averages.with_replacement(u, Integer(4)),
        lambda num: product(members(num, "L"), repeat=4),
        "L",
    ),
    "pairs drawn with replacement": (
        lambda u: averages.with_replacement(paired(u), n),
        lambda num: (runs_of(SIDES, draws) for draws in product(range(1, num + 1), repeat=num)),
        SIDES,
    ),
}


@cache
def mean(name: str, order: int) -> Series:
    return _MEANS[name][0](universal(order))


@pytest.mark.parametrize("name", _MEANS)
@given(num=st.integers(1, 2), dimension=st.integers(1, 2), seed=st.integers(0, 10**6), data=st.data())
@settings(deadline=None, max_examples=6)
def test_means_are_the_mean_of_all_walks(name, num, dimension, seed, data):
    _, words, names = _MEANS[name]
    losses = generic_losses(members(num, names), dimension, 4, seed)
    start = data.draw(places(dimension))
    assert expanded(averages.at(mean(name, 3), MEANS, num), losses, start, 3) == mean_walked(
        words(num), losses, start, 3
    )


@pytest.mark.parametrize("name", _MEANS)
def test_means_are_the_mean_of_all_walks_of_three(name):
    _, words, names = _MEANS[name]
    losses, start = generic_losses(members(3, names), 2, 3, seed=1), (Fraction(0), Fraction(1))
    assert expanded(averages.at(mean(name, 3), MEANS, 3), losses, start, 3) == mean_walked(words(3), losses, start, 3)


@pytest.mark.parametrize("name", ["pairs permuted", "sides permuted independently", "everything permuted"])
def test_means_are_the_mean_of_all_walks_at_fourth_order(name):
    _, words, names = _MEANS[name]
    losses, start = generic_losses(members(2, names), 2, 4, seed=2), (Fraction(1), Fraction(0))
    assert expanded(averages.at(mean(name, 4), MEANS, 2), losses, start, 4) == mean_walked(words(2), losses, start, 4)


@given(t=some_trees([*members(3, "L"), Label("c")], 4), order=st.permutations((1, 2, 3)))
@settings(deadline=None, max_examples=50)
def test_the_names_of_independent_draws_do_not_matter(t, order):
    renamed = relabel(t, lambda label: Label(label.name, order[label.member - 1] if label.member else 0))
    assert MEANS.canonical(t) == MEANS.canonical(renamed)


@pytest.mark.parametrize("name", _MEANS)
def test_means_come_in_canonical_names(name):
    # Equality of series is a proof only if trees that mean the same are the same.
    assert all(MEANS.canonical(t) == t for t in mean(name, 3))


def test_a_side_of_one_member_has_no_fourth_order_in_closed_form():
    # The closed form divides by n (n - 1) there. It must say so rather than give a value.
    with pytest.raises(ZeroDivisionError):
        averages.at(mean("sides permuted independently", 4), MEANS, 1)


def test_listed_words_are_the_mean_of_all_walks():
    words = [word for word in permutations(members(2)) if word[0].name == "-"]
    losses, start = generic_losses(members(2), 2, 4, seed=3), (Fraction(1), Fraction(-1))
    assert expanded(averages.enumerated(words, 4), losses, start, 4) == mean_walked(words, losses, start, 4)


# Calculus of fields ---------------------------------------------------------------------------------------------------

# Two members that are bound, and one loss without an index: together they meet every case of an index that is renamed.
_NAMES = (Label("L", 1), Label("L", 2), Label("c"))
_INDEXINGS = (PLAIN, ORDERED, MEANS)


def losses_for(num: int, seed: int, degree: int = 3) -> Losses:
    return generic_losses([*members(max(num, 2), "L"), Label("c")], 2, degree, seed)


@pytest.mark.parametrize("indexing", _INDEXINGS, ids=lambda indexing: indexing.name)
@given(field=some_series(_NAMES, 3), direction=some_series(_NAMES, 2), num=st.integers(1, 3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_derivative_along_a_field(indexing, field, direction, num, seed):
    losses = losses_for(num, seed)
    along = field_of(averages.at(direction, indexing, num), losses, 2)
    moved = tuple(
        exact_descent.plugged(part, [along]) for part in field_of(averages.at(field, indexing, num), losses, 2)
    )
    derived = frames.derivative(field, direction, indexing)
    assert field_of(averages.at(derived, indexing, num), losses, 2) == moved
    assert all(indexing.canonical(t) == t for t in derived)


@pytest.mark.parametrize("indexing", _INDEXINGS, ids=lambda indexing: indexing.name)
@given(left=some_series(_NAMES, 3), right=some_series(_NAMES, 2), num=st.integers(1, 3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_inner_product_of_fields(indexing, left, right, num, seed):
    losses = losses_for(num, seed)
    sides = (field_of(averages.at(side, indexing, num), losses, 2) for side in (left, right))
    product_of_sides = exact_descent.plus(*map(exact_descent.times, *sides))
    joined = frames.joined(left, right, indexing)
    assert scalar_of(averages.at(joined, indexing, num), losses, 2) == product_of_sides
    assert all(frames.scalar_tree(t, indexing) == t for t in joined)


@pytest.mark.parametrize("indexing", _INDEXINGS, ids=lambda indexing: indexing.name)
@given(trees_of=some_series(_NAMES, 4), num=st.integers(1, 3), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_gradient_of_a_scalar_and_back(indexing, trees_of, num, seed):
    losses = losses_for(num, seed)
    scalar = Series((frames.scalar_tree(t, indexing), c) for t, c in trees_of.items())
    field = frames.gradient(scalar, indexing)
    truth = exact_descent.gradient(scalar_of(averages.at(scalar, indexing, num), losses, 2), 2)
    assert field_of(averages.at(field, indexing, num), losses, 2) == truth
    potential = frames.potential(field, indexing)
    assert potential is not None
    assert exact_descent.gradient(scalar_of(averages.at(potential, indexing, num), losses, 2), 2) == truth
    assert not frames.antisymmetric_jacobian(field, indexing)


def matrix_of(opened: Series, losses: Losses, dimension: int) -> list[list[Polynomial]]:
    """A PLAIN series with open slots as a matrix: the gradient of the loss x_j in the slot gives the j-th column."""
    columns = []
    for j in range(dimension):
        axis = {tuple(int(i == j) for i in range(dimension)): Fraction(1)}
        columns.append(field_of(opened, {**losses, frames.SLOT: axis}, dimension))
    return [[column[i] for column in columns] for i in range(dimension)]


@pytest.mark.parametrize("indexing", _INDEXINGS, ids=lambda indexing: indexing.name)
@given(field=some_series(_NAMES, 3), dimension=st.integers(1, 3), num=st.integers(1, 2), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_antisymmetric_jacobian_of_any_field(indexing, field, dimension, num, seed):
    losses = generic_losses(_NAMES, dimension, 4 if dimension < 3 else 3, seed)
    jacobian = frames.antisymmetric_jacobian(field, indexing)
    assert all(indexing.canonical(t) == t for t in jacobian)
    opened = averages.at(jacobian, indexing, num)
    truth = curl_of(field_of(averages.at(field, indexing, num), losses, dimension))
    assert matrix_of(opened, losses, dimension) == truth


@given(word=st.lists(st.sampled_from(LETTERS[:3]), min_size=1, max_size=5), power=st.integers(1, 3))
@settings(deadline=None, max_examples=30)
def test_a_term_of_a_displacement_is_a_gradient_where_its_jacobian_is_symmetric(word, power):
    field = compose(Schedule(tuple(word)), power).of_order(power)
    losses = generic_losses(LETTERS[:3], 2, 4, seed=4)
    is_symmetric = not any(entry for row in curl_of(field_of(field, losses, 2)) for entry in row)
    assert is_symmetric == (not frames.antisymmetric_jacobian(field, PLAIN))
    assert is_symmetric == (frames.potential(field, PLAIN) is not None)


# Flows ----------------------------------------------------------------------------------------------------------------


def graded(field: Series, losses: Losses, dimension: int, order: int) -> list[Field]:
    """The fields that come with the step size to the powers 1 to `order`."""
    parts = [Series({t: c for t, c in field.items() if size_of(t) == power}) for power in range(1, order + 1)]
    return [field_of(part, losses, dimension) for part in parts]


@given(data=st.data(), dimension=st.integers(1, 3))
@settings(deadline=None, max_examples=15)
def test_flow_of_a_sum_of_losses(data, dimension):
    names = LETTERS[:3]
    weights = data.draw(st.tuples(*(st.sampled_from(SIZES) for _ in names)))
    losses = data.draw(some_losses(names, dimension, 4 if dimension < 3 else 3))
    start = data.draw(places(dimension))
    downhill = exact_descent.plus(
        *({e: -w * c for e, c in losses[a].items() if w} for a, w in zip(names, weights, strict=True))
    )
    truth = exact_descent.flow([exact_descent.gradient(downhill, dimension)], start, 4)
    field = Series((tree(a), -w) for a, w in zip(names, weights, strict=True))
    assert expanded(frames.flow(field, PLAIN, 4), losses, start, 4) == truth


@pytest.mark.parametrize("indexing", _INDEXINGS, ids=lambda indexing: indexing.name)
@given(field=some_series(_NAMES, 2), num=st.integers(1, 2), seed=st.integers(0, 99), start=places(2))
@settings(deadline=None, max_examples=10)
def test_flow_of_a_field_with_higher_terms(indexing, field, num, seed, start):
    losses = losses_for(num, seed)
    truth = exact_descent.flow(graded(averages.at(field, indexing, num), losses, 2, 3), start, 3)
    assert expanded(averages.at(frames.flow(field, indexing, 3), indexing, num), losses, start, 3) == truth


@given(data=st.data(), dimension=st.integers(1, 2))
@settings(deadline=None, max_examples=15)
def test_modified_field_flows_to_the_displacement(data, dimension):
    order = 4 if dimension == 1 else 3
    losses = data.draw(some_losses(LETTERS[:3], dimension, 4))
    word = data.draw(st.lists(st.sampled_from(LETTERS[:3]), min_size=1, max_size=5))
    sizes = data.draw(st.lists(st.sampled_from(SIZES), min_size=len(word), max_size=len(word)))
    start = data.draw(places(dimension))
    field = frames.modified_field(compose(Schedule(tuple(word), tuple(sizes)), order), PLAIN, order)
    truth = exact_descent.displacement(losses, word, sizes, start, order)
    assert exact_descent.flow(graded(field, losses, dimension, order), start, order) == truth


@pytest.mark.parametrize("num", [1, 2, 3])
def test_modified_field_of_every_word(num):
    losses, start = generic_losses(members(num, "L"), 2, 3, seed=5), (Fraction(1), Fraction(0))
    field = averages.at(frames.modified_field(universal(3), ORDERED, 3), ORDERED, num)
    truth = walked(members(num, "L"), losses, start, 3)
    assert exact_descent.flow(graded(field, losses, 2, 3), start, 3) == truth


@pytest.mark.parametrize("name", ["pairs permuted", "sides permuted independently", "everything permuted"])
def test_modified_field_of_a_mean(name):
    losses, start = generic_losses(members(2), 2, 3, seed=6), (Fraction(1), Fraction(0))
    field = averages.at(frames.modified_field(mean(name, 3), MEANS, 3), MEANS, 2)
    truth = mean_walked(_MEANS[name][1](2), losses, start, 3)
    assert exact_descent.flow(graded(field, losses, 2, 3), start, 3) == truth


# The values that witnesses print --------------------------------------------------------------------------------------


@given(series=some_series(LETTERS[:2], 4), dimension=st.integers(1, 2), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_witnesses_evaluate_as_the_second_engine_does(series, dimension, seed):
    losses = generic_losses(LETTERS[:2], dimension, 4, seed)
    derivatives = {name: {e: int(c * prod(map(factorial, e))) for e, c in losses[name].items()} for name in LETTERS[:2]}
    origin = (Fraction(0),) * dimension
    assert witness.evaluated(series, derivatives, dimension) == summed(expanded(series, losses, origin, 4), dimension)
    scalar = scalar_of(series, losses, dimension).get((0,) * dimension, Fraction(0))
    assert witness.evaluated(series, derivatives, dimension, is_scalar=True) == (scalar,)
