"""Closed forms against words that are listed one by one, for sizes beyond the second engine's tests."""

from itertools import permutations, product

import pytest

from derivation.averages import (
    MEANS,
    ORDERED,
    PLAIN,
    at,
    enumerated,
    interleaved,
    interleaved_with_coins,
    over_independent_permutations,
    over_permutations,
    split_into_sides,
)
from derivation.series import Schedule, compose, universal
from derivation.symbols import n
from derivation.trees import Label

SIDES = ("-", "+")


def joint(num_pairs):
    return ([Label(s, k) for k in order for s in SIDES] for order in permutations(range(1, num_pairs + 1)))


def coins(num_pairs):
    return (
        [Label(s, k) for k, coin in zip(order, flips, strict=True) for s in (SIDES if coin else SIDES[::-1])]
        for order in permutations(range(1, num_pairs + 1))
        for flips in product((0, 1), repeat=num_pairs)
    )


def independent(num_pairs):
    orders = list(permutations(range(1, num_pairs + 1)))
    return (
        [Label(s, k) for pair in zip(minus, plus, strict=True) for s, k in zip(SIDES, pair, strict=True)]
        for minus, plus in product(orders, orders)
    )


def all_orders(num_pairs):
    return permutations([Label(s, k) for k in range(1, num_pairs + 1) for s in SIDES])


CLOSED = {
    joint: lambda sums: over_permutations(interleaved(sums, SIDES)),
    coins: lambda sums: over_permutations(interleaved_with_coins(sums, SIDES)),
    independent: lambda sums: over_independent_permutations(interleaved(sums, SIDES), SIDES),
    all_orders: lambda sums: split_into_sides(over_permutations(sums, 2 * n), SIDES),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "num_pairs", "order"),
    [
        (joint, 5, 3),
        (joint, 4, 4),
        (coins, 4, 3),
        (coins, 3, 4),
        (independent, 4, 3),
        (independent, 3, 4),
        (all_orders, 3, 4),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_closed_form_is_the_mean_over_all_words(words, num_pairs, order):
    assert at(CLOSED[words](universal(order)), MEANS, num_pairs) == enumerated(words(num_pairs), order)


def test_a_pole_is_named_with_what_to_do_instead():
    mean = over_independent_permutations(interleaved(universal(4), SIDES), SIDES)
    with pytest.raises(ZeroDivisionError, match=r"^num_pairs must be none at which .* pole; got 1, .*enumerated\)\.$"):
        at(mean, MEANS, 1)
    # One pair has one order: minus first. Its mean is the displacement of that word.
    word = [Label("-", 1), Label("+", 1)]
    assert enumerated([word], 4) == compose(Schedule(tuple(word)), 4)


@pytest.mark.parametrize("indexing", [PLAIN, ORDERED, MEANS], ids=lambda indexing: indexing.name)
@pytest.mark.parametrize("num_pairs", [0, -1, 1.5])
def test_a_number_of_pairs_is_whole_and_positive(indexing, num_pairs):
    with pytest.raises(ValueError, match=f"^num_pairs must be a whole number of at least 1; got {num_pairs}"):
        at(universal(2), indexing, num_pairs)


def test_a_mean_over_no_words_is_refused():
    with pytest.raises(ValueError, match=r"^words must hold at least one word; got none\.$"):
        enumerated([], 2)
