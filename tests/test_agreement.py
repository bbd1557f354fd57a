"""Where `derivation` meets `numerics`: every coefficient that is proved, against the one that is computed.

`derivation` gives exact coefficients of trees; `numerics` gives vectors. The bridge is an evaluator of its own: a tree
is a gradient differentiated once per child, so nested forward derivatives of `jax.grad` of the loss that its root
names make the vector it stands for. What is shared is the loss function and its batch, and nothing that steps or adds
up.

Every claim of the catalogue is here but `grpo-gradient`, `grpo-advantage` and `grpo-split`: `numerics` has no sampling
and no clipped objective. Left out of the others: what is no number at one n and one start (the remainder bound of
`m-step`, the domination and the limits of `large-b`, the limits of `adamw-noise`), the noise and the weight decay of
`lr-match`, `tree-rule` above third order, the sum over all pairs of losses in `bias-sign`, and what a claim refutes
(the post as printed, a potential that does not exist). One coin per epoch and one per pair have the same mean up to
third order, so that nothing here could tell the two apart.
"""

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from functools import cache, partial
from itertools import permutations, product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sympy import Rational, Symbol, diff, lambdify, sqrt, symbols

from console import grammar
from derivation import beyond, beyond_second_order, frames, post
from derivation.averages import (
    MEANS,
    ORDERED,
    PLAIN,
    Indexing,
    at,
    interleaved,
    interleaved_with_coins,
    over_independent_permutations,
    over_permutations,
    over_start,
    split_into_sides,
)
from derivation.claims import heavy_ball, learning_rates, optimizer_map
from derivation.claims import permutations as pairs
from derivation.formula import Formula, gradient, inner, mean
from derivation.series import Schedule, Series, compose, universal
from derivation.symbols import B, element, n
from derivation.trees import Label, Tree, tree
from experiments import arms
from experiments.training import arm_update
from experiments.training.batches import PairBatch
from numerics import (
    alignment,
    averages,
    drift,
    fields,
    losses,
    optimizers,
    problems,
    random_schedules,
    schedules,
    updates,
)
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule
from numerics.types import Batch, Frame, LossFn, Params
from tests.support.rounding import assert_equal_to_round_off, flat

SIDES = ("-", "+")


# The evaluator --------------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="loss")
def _differential(loss: LossFn, params: Params, batch: Batch, directions: tuple[Params, ...]) -> Params:
    """The gradient, differentiated once in every direction: g, H u, T[u, v], ..."""
    if not directions:
        return jax.grad(loss)(params, batch)
    first, *others = directions
    return jax.jvp(lambda x: _differential(loss, x, batch, tuple(others)), (params,), (first,))[1]


@partial(jax.jit, static_argnames="loss")
def _contraction(loss: LossFn, params: Params, batch: Batch, directions: tuple[Params, ...]) -> jax.Array:
    """The loss, differentiated once in every direction: what a free tree stands for."""
    first, *others = directions
    return jnp.asarray(optax.tree.vdot(_differential(loss, params, batch, tuple(others)), first))


class Evaluator:
    """Trees as vectors, at one start.

    Args:
        params: The start.
        named: The function and the batch of every loss.
        slot: The vector that an open slot stands for.
    """

    def __init__(self, params: Params, named: Mapping[Label, tuple[LossFn, Batch]], slot: Params | None = None) -> None:
        self.params, self.named = params, named
        self.known: dict[Tree, Params] = {} if slot is None else {tree(frames.SLOT): slot}

    def vector(self, t: Tree) -> Params:
        if t not in self.known:
            loss, batch = self.named[t.loss]
            self.known[t] = _differential(loss, self.params, batch, tuple(map(self.vector, t.children)))
        return self.known[t]

    def scalar(self, t: Tree) -> jax.Array:
        loss, batch = self.named[t.loss]
        return _contraction(loss, self.params, batch, tuple(map(self.vector, t.children)))


def assert_agree(found: object, parts: Iterable[Series], values: Callable[[Tree], object]) -> None:
    """The computed value is the sum of the series, up to round-off in their terms.

    Args:
        found: What `numerics` computed.
        parts: Series with rational coefficients. A difference of two displacements is two parts: where their terms
            cancel, the round-off of both stays.
        values: The value of a tree.
    """
    terms = [float(c) * flat(values(t)) for series in parts for t, c in series.items()]  # type: ignore[arg-type]
    _assert_sum(found, terms)


def _assert_sum(found: object, terms: list[np.ndarray]) -> None:
    """Equality up to round-off: a multiple of machine epsilon times the sum of the sizes of all terms."""
    scale = sum(float(np.max(np.abs(term))) for term in terms)
    value = flat(found)
    assert_equal_to_round_off(value, sum(terms, np.zeros_like(value)), scale=scale)


class Setting(NamedTuple):
    """A problem of `numerics` and the evaluator of the trees over its losses, ("-", 1) ... ("+", n)."""

    params: Params
    losses: losses.Losses
    trees: Evaluator

    def vector(self, found: Params, *parts: Series) -> None:
        """Asserts that a vector is the value of PLAIN series of rooted trees."""
        assert_agree(found, parts, self.trees.vector)

    def scalar(self, found: jax.Array, series: Series) -> None:
        """The same for a number and free trees."""
        assert_agree(found, [series], self.trees.scalar)

    def orders(self, found: tuple[Params, ...], *parts: Series) -> None:
        """The same for the coefficients c_1, c_2, ... of a displacement or a drift."""
        for order, coefficient in enumerate(found, start=1):
            self.vector(coefficient, *(series.of_order(order) for series in parts))

    @property
    def num_pairs(self) -> int:
        return self.losses.num_pairs


def setting(params: Params, pairs: losses.Losses) -> Setting:
    """Labels for the losses of a problem.

    A function that `losses.negated` made is called as it is, so that the sign is in the value that JAX differentiates.
    """
    named = {
        Label(side, k + 1): (function, jax.tree.map(lambda leaf, k=k: leaf[k], stack))
        for side, function, stack in zip(SIDES, pairs.functions, pairs.batches, strict=True)
        for k in range(pairs.num_pairs)
    }
    return Setting(params, pairs, Evaluator(params, named))


@cache
def drawn(name: str, num_pairs: int, *, is_opposite: bool = False) -> Setting:
    """A random problem. Its losses differ from pair to pair, and have third derivatives."""
    made = problems.make(name, num_pairs, seed=num_pairs, is_opposite=is_opposite)
    return setting(made.params, made.losses)


@cache
def of_letters() -> Setting:
    """Three losses, called -, + and k."""
    made = problems.make("polynomial", 3, seed=5)
    function, stack = made.losses.functions[1], made.losses.batches[1]
    one_each = [jax.tree.map(lambda leaf, k=k: leaf[k : k + 1], stack) for k in range(3)]
    named = {
        Label(name): (function, jax.tree.map(lambda leaf: leaf[0], batch))
        for name, batch in zip("-+k", one_each, strict=True)
    }
    own = losses.Losses((function,) * 3, tuple(one_each), tuple("-+k"))
    return Setting(made.params, own, Evaluator(made.params, named))


def label(text: str) -> Label:
    """ "-2" is the second loss of side "-"."""
    return Label(text[0], int(text[1:]))


def word(text: str, step_sizes: str = "", sizes: tuple[int, ...] = ()) -> Schedule:
    """ "-1 +1 -2 +2" """
    return Schedule(tuple(map(label, text.split())), tuple(map(Fraction, step_sizes.split())), sizes)


def numbers(schedule: Schedule, num_pairs: int) -> schedules.Schedule:
    """The same steps for `numerics`: loss k is L-_k, loss n + k is L+_k, counted from 0."""
    steps = [SIDES.index(step.name) * num_pairs + step.member - 1 for step in schedule.losses]
    return schedules.with_scales(schedules.steps(steps), [float(size) for size in schedule.step_sizes])


def _in_float64(schedule: schedules.Schedule) -> schedules.Schedule:
    """The same schedule: with scales of one dtype, words of one length share what is compiled."""
    return schedule._replace(scales=np.asarray(schedule.scales, np.float64))


def named(series: Series, letters: Iterable[str]) -> Series:
    """The labels ("L", 1), ("L", 2), ... replaced by the letters of a word."""
    chosen = [label(letter) for letter in letters]
    return series.relabelled(lambda old: chosen[old.member - 1] if old.name == "L" else old)


def without_index(series: Series, index: int = 1) -> Series:
    """The losses "-" and "+" without an index read as those of one pair."""
    return series.relabelled(lambda old: Label(old.name, old.member or index))


def fixed(formula: Formula | Series, num_pairs: int, indexing: Indexing = MEANS, factor: int | Fraction = 1) -> Series:
    """A formula written out for one n, times a factor."""
    series = formula.series() if isinstance(formula, Formula) else formula
    return at(series, indexing, num_pairs).scaled(Fraction(factor))


# Words ----------------------------------------------------------------------------------------------------------------

# The schedule as `numerics` makes it, and the word as a person would write it down.
WORDS: dict[str, tuple[Callable[[], schedules.Schedule], Schedule]] = {
    "interleaved, L- first": (lambda: schedules.interleaved(3, first="-"), word("-1 +1 -2 +2 -3 +3")),
    "interleaved, L+ first": (lambda: schedules.interleaved(3, first="+"), word("+1 -1 +2 -2 +3 -3")),
    "pairs permuted": (lambda: schedules.interleaved(3, first="-", order=[2, 0, 1]), word("-3 +3 -1 +1 -2 +2")),
    "sides permuted": (
        lambda: schedules.interleaved(3, first="+", order=[1, 2, 0], other_order=[0, 2, 1]),
        word("+1 -2 +3 -3 +2 -1"),
    ),
    "blocks": (lambda: schedules.blocks(3, first="+"), word("+1 +2 +3 -1 -2 -3")),
    "reversed": (lambda: schedules.reverse(schedules.interleaved(3, first="-")), word("+3 -3 +2 -2 +1 -1")),
    "palindrome": (lambda: schedules.palindrome(schedules.steps([0, 4, 2])), word("-1 +2 -3 -3 +2 -1")),
    "in letters": (lambda: schedules.word("--++-+", SIDES, (3, 3)), word("-1 -2 +1 +2 -3 +3")),
    "repeated letters": (lambda: schedules.steps([0, 0, 3, 0, 3, 3]), word("-1 -1 +1 -1 +1 +1")),
    "one letter": (lambda: schedules.steps([5] * 6), word("+3 +3 +3 +3 +3 +3")),
    "step sizes": (
        lambda: schedules.with_scales(schedules.interleaved(3, first="-"), [0.5, 2.0, 1.0, 0.25, 3.0, 0.75]),
        word("-1 +1 -2 +2 -3 +3", "1/2 2 1 1/4 3 3/4"),
    ),
    "brackets": (
        lambda: schedules.word("(-+:3)(-:1/2+)-:2+", SIDES, (3, 3)),
        word("-1 +1 -2 +2 -3 +3", "1 3 1/2 1 2 1", (2, 2, 1, 1)),
    ),
    "groups of three": (
        lambda: schedules.grouped(schedules.interleaved(3, first="-"), 3),
        word("-1 +1 -2 +2 -3 +3", sizes=(3, 3)),
    ),
}


def _of_frame(schedule: Schedule, frame: Frame) -> Series:
    """The displacement of what a word is compared with, to third order."""
    match frame:
        case "start":
            return Series()
        case "accumulated":
            return frames.accumulated(schedule, 3)
        case "pair-accumulated":
            return frames.accumulated(schedule, 3, group=2)
        case "gradient-flow":
            return frames.flow(compose(schedule, 1), PLAIN, 3)


# Everything is compiled anew for another frame and another problem. The accumulated frame has no second and no third
# order of its own, so that there the second problem meets the bare word.
@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("polynomial", "start"),
        ("softmax", "accumulated"),
        ("polynomial", "pair-accumulated"),
        ("polynomial", "gradient-flow"),
    ],
)
def test_drift_of_words(name: str, frame: Frame) -> None:
    case = drawn(name, 3)
    descent = optimizers.gradient_descent()
    for make, schedule in WORDS.values():
        parts = compose(schedule, 3), -_of_frame(schedule, frame)
        steps = _in_float64(make())
        case.orders(drift.closed_form(case.losses, steps, case.params, frame=frame, order=3), *parts)
        case.orders(drift.taylor(Epoch(case.losses, steps, descent, case.params), frame=frame, order=3), *parts)


_SCALES = st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(3), Fraction(2, 3)])
_UPDATES = st.lists(st.builds(grammar.Step, st.sampled_from("-+k"), _SCALES), min_size=1, max_size=4).map(tuple)


@given(st.lists(_UPDATES, min_size=1, max_size=4).filter(lambda word: sum(map(len, word)) <= 4))
@settings(max_examples=200)
def test_one_text_means_one_update_to_both(updates_of_word: list[tuple[grammar.Step, ...]]) -> None:
    """Every word of up to four letters in any brackets: the coefficients of its expansion, from its text alone."""
    text = str(grammar.Word(tuple(updates_of_word)))
    case = of_letters()
    steps = schedules.word(text, case.losses.names, case.losses.counts)
    found = drift.closed_form(case.losses, steps, case.params, frame="start", order=3)
    case.orders(found, compose(Schedule.parse(text), 3))


def test_averages_within_brackets_are_shares_of_the_steps() -> None:
    case = of_letters()
    steps = schedules.word("(-+:3k)-:2(+k)", case.losses.names, case.losses.counts)
    shares = Schedule.parse("(-:1/3,+:1,k:1/3),-:2,(+:1/2,k:1/2)")
    once = frames.accumulated(Schedule.parse("-:1/6,+:1/2,k:1/6,-:1/3,+:1/6,k:1/6"), 3)
    found = drift.closed_form(case.losses, steps, case.params, frame="accumulated", order=3, reduction="mean")
    case.orders(found, compose(shares, 3), -once)


# Two players: x steps in the first coordinate of a polynomial, y in the other two of another.
PLAYERS = {"a": np.array([True, False, False]), "b": np.array([False, True, True])}


class Players(Evaluator):
    """Trees over fields that are no gradients: a tree is a field differentiated once per child, and masked by hand."""

    def vector(self, t: Tree) -> Params:
        if t not in self.known:
            loss, batch = self.named[t.loss]
            plain = _differential(loss, self.params, batch, tuple(map(self.vector, t.children)))
            self.known[t] = jax.tree.map(lambda leaf: PLAYERS[t.loss.name] * leaf, plain)
        return self.known[t]


def test_players_of_a_game() -> None:
    text = "a:2,b,(a,b:1/2)"
    case = of_letters()
    function, stacks = case.losses.functions[0], case.losses.batches[:2]
    game = losses.Losses(tuple(fields.masked(function, {"x": own}) for own in PLAYERS.values()), stacks, ("a", "b"))
    trees = Players(
        case.params,
        {
            Label(name): (function, jax.tree.map(lambda leaf: leaf[0], stack))
            for name, stack in zip("ab", stacks, strict=True)
        },
    )
    schedule = Schedule.parse(text)
    steps = schedules.word(text, game.names, game.counts)
    found = drift.closed_form(game, steps, case.params, frame="start", order=3)
    for order, coefficient in enumerate(found, start=1):
        assert_agree(coefficient, [compose(schedule, 3).of_order(order)], trees.vector)


@cache
def of_an_arm() -> tuple[Setting, arm_update.Objective, PairBatch]:
    """The same three losses as those of an arm: every example of a half is the same one, so that all shares are too."""
    case = of_letters()
    (function, *_), (minus, plus, third) = case.losses.functions, case.losses.batches

    def of_half(params: Params, half: Batch) -> tuple[jax.Array, tuple]:
        return jnp.mean(jax.vmap(lambda one: function(params, one))(half)), ()

    def of_both(params: Params, batch: tuple) -> jax.Array:
        return function(params, jax.tree.map(lambda leaf: leaf[0], third))

    halves = [
        jax.tree.map(lambda leaf: jnp.repeat(leaf, 12, axis=0), stack) for stack in (plus, minus)
    ]  # 1 ... 4 shares
    return case, arm_update.Objective(of_half, of_half, of_both), PairBatch(*halves)


@given(st.lists(_UPDATES, min_size=1, max_size=4).filter(lambda word: 1 <= sum(map(len, word)) <= 4))
@settings(max_examples=200)
def test_a_run_is_the_expansion_of_its_word(updates_of_word: list[tuple[grammar.Step, ...]]) -> None:
    """Real updates of an arm minus the expansion of its word through third order: of fourth order.

    The word that is expanded has the average of a bracket in its scales.
    """
    word = grammar.Word(tuple(updates_of_word))
    assume(any(step.name != "k" for step in word.steps))
    case, objective, halves = of_an_arm()
    averaged = grammar.Word(
        tuple(tuple(step._replace(scale=step.scale / len(group)) for step in group) for group in word.updates)
    )
    expansion = compose(Schedule.parse(str(averaged)), 3)
    coefficients = [
        sum(float(Rational(c)) * flat(case.trees.vector(t)) for t, c in expansion.of_order(order).items())
        for order in (1, 2, 3)
    ]
    arm = arms.parse(f"{word}:optimizer=sgd,rate=1/2")
    epoch = Epoch(
        arm_update.losses_of(arm, 0.0, objective, halves, case.params),
        arm_update.schedule_of(arm, is_as_written=True),
        optimizers.gradient_descent(),
        case.params,
    )
    left = []
    for eta in (2.0**-7, 2.0**-8):
        displacement = flat(arm_update.update(arm, arms.Hyperparams(), eta, epoch).displacement)
        rate = eta / 2  # of the arm
        left.append(np.linalg.norm(displacement - sum(rate**k * c for k, c in enumerate(coefficients, start=1))))
    if len(word.updates) == 1:  # gradients that are all read at the start have no further orders
        assert max(left) < 1e-15 * 2**10
    else:
        assert left[1] > 1e-14
        assert abs(np.log2(left[0] / left[1]) - 4) < 0.25


@cache
def correction_of(schedule: Schedule, *, name: str = "polynomial", num_pairs: int = 3) -> Params:
    """c_2 by `numerics`; words of one length share what is compiled."""
    case = drawn(name, num_pairs)
    steps = numbers(schedule, num_pairs)
    return drift.closed_form(case.losses, steps, case.params, frame="start", order=3)[1]


ANY_WORD = "-2 +1 +1 -3 -2 +3"


@pytest.mark.parametrize(
    ("order", "formula"),
    [
        pytest.param(2, post.m_step, id="m-step"),
        pytest.param(2, beyond.correction_by_brackets, id="order-brackets"),
        pytest.param(3, beyond.order_three, id="order-three"),
        pytest.param(1, lambda: universal(3), id="tree-rule, order 1"),
        pytest.param(2, lambda: universal(3), id="tree-rule, order 2"),
        pytest.param(3, lambda: universal(3), id="tree-rule, order 3"),
    ],
)
def test_sums_over_the_steps_of_any_word(order: int, formula: Callable[[], Formula | Series]) -> None:
    case = drawn("polynomial", 3)
    found = drift.closed_form(case.losses, numbers(word(ANY_WORD), 3), case.params, frame="start", order=3)
    series = named(fixed(formula(), 6, ORDERED), ANY_WORD.split())
    case.vector(found[order - 1], series.of_order(order))


@pytest.mark.parametrize(
    "formula",
    [
        pytest.param(lambda: beyond.both_orders().series().scaled(Fraction(1, 2)), id="reversal-mean"),
        pytest.param(beyond.symmetric_part, id="order-brackets"),
        pytest.param(beyond.symmetric_part_as_gradient, id="accumulated-frame-drift"),
        pytest.param(
            lambda: beyond.modified_sequential_by_steps().series() + _flow_by_steps(), id="modified-loss-sequential"
        ),
    ],
)
def test_mean_of_a_word_and_its_reversal(formula: Callable[[], Formula | Series]) -> None:
    forwards = word(ANY_WORD)
    found = _mean(correction_of(forwards), correction_of(forwards.reversed()))
    drawn("polynomial", 3).vector(found, named(fixed(formula(), 6, ORDERED), ANY_WORD.split()))


def _flow_by_steps() -> Series:
    """The second order of the flow of the sum of the losses of a word."""
    field = Series({tree(Label("L", 1)): element(-1)})
    return frames.flow(field, ORDERED, 2).of_order(2)


def _mean(*values: Params) -> Params:
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *values)


def test_palindrome() -> None:
    half = "-2 +1 -3"
    found = correction_of(word("-2 +1 -3 -3 +1 -2"))
    drawn("polynomial", 3).vector(found, named(fixed(beyond.palindrome(), 3, ORDERED), half.split()))
    # abba and baab: one correction
    series = without_index(beyond.displacement("abba", 2).series().relabelled(_as_sides))
    drawn("polynomial", 2).vector(correction_of(word("+1 -1 -1 +1"), num_pairs=2), fixed(series, 2, PLAIN))


def _as_sides(old: Label) -> Label:
    return {"a": Label("-"), "b": Label("+")}.get(old.name, old)


def test_draws_with_replacement() -> None:
    """Four draws from two losses, every word equally likely."""
    words = [word(" ".join(letters)) for letters in product(("-1", "-2"), repeat=4)]
    found = _mean(*(correction_of(each, num_pairs=2) for each in words))
    drawn("polynomial", 2).vector(found, named(fixed(beyond.independent_draws(), 2), ("-1", "-2")))


@pytest.mark.parametrize(
    ("letters", "formula", "num_pairs"),
    [
        pytest.param("-1 +1 -1 +1 -1 +1", lambda: post.warm_up(post.mean_loss()), 3, id="warm-up"),
        pytest.param("+1 -1 +1 -1 +1 -1", beyond.warm_up_plus_first, 3, id="warm-up, L+ first"),
        pytest.param("-1 +1 -1 +1 -1", beyond.warm_up_odd, 2, id="warm-up, odd"),
        pytest.param(
            "-1 +1 -1 +1 -1 +1",
            lambda: post.warm_up_epoch(post.mean_loss()).series().scaled(element(B**2)),
            3,
            id="warm-up-epoch",
        ),
        pytest.param("-1 +1", beyond.one_pair, 1, id="fixed-start"),
        pytest.param("-1 +1", beyond.one_pair_split, 1, id="fixed-start, split"),
        pytest.param("+1 -1", beyond.one_pair_plus_first, 1, id="fixed-start, L+ first"),
    ],
)
def test_without_noise(letters: str, formula: Callable[[], Formula | Series], num_pairs: int) -> None:
    series = without_index(fixed(formula(), num_pairs, PLAIN))
    drawn("polynomial", 3).vector(correction_of(word(letters)), series)


@pytest.mark.parametrize(
    ("letters", "formula"),
    [
        pytest.param("-1 +1 -2 +2 -3 +3", post.four_way, id="L- first"),
        pytest.param("+1 -1 +2 -2 +3 -3", beyond.four_way_plus_first, id="L+ first"),
    ],
)
def test_four_way(letters: str, formula: Callable[[], Formula]) -> None:
    drawn("polynomial", 3).vector(correction_of(word(letters)), fixed(formula(), 3, ORDERED))


def test_two_step() -> None:
    case = drawn("polynomial", 3)
    schedule = word("+2 -3")
    found = drift.closed_form(case.losses, numbers(schedule, 3), case.params, frame="start", order=3)
    case.orders(found[:2], named(fixed(post.two_step(), 3, PLAIN), ("+2", "-3")))


@pytest.mark.parametrize(
    ("size", "factor"),
    [(0.5, Fraction(1, 8)), (2**-0.5, Fraction(1, 4)), (1.0, Fraction(1, 2))],
    ids=["first-order match", "as in the post", "summed"],
)
def test_two_optimizer_steps(size: float, factor: Fraction) -> None:
    case = drawn("polynomial", 3)
    words = [schedules.with_scales(schedules.steps(order), [size, size]) for order in ([0, 3], [3, 0])]
    found = [drift.closed_form(case.losses, w, case.params, frame="start", order=3)[1] for w in words]
    case.vector(_mean(*found), without_index(fixed(beyond.two_steps(factor), 3, PLAIN)))


def test_pair_frame_drift() -> None:
    """For every order of the pairs; only the words of `numerics` know the order."""
    case = drawn("polynomial", 3)

    def found(first: str, order: list[int]) -> Params:
        steps = _in_float64(schedules.interleaved(3, first=first, order=order))  # type: ignore[arg-type]
        return drift.closed_form(case.losses, steps, case.params, frame="pair-accumulated", order=3)[1]

    for order in ([0, 1, 2], [2, 0, 1]):
        case.vector(found("-", order), fixed(beyond.pair_drift(), 3, ORDERED))
        both = _mean(found("-", order), found("+", order))
        case.vector(both, fixed(beyond.pair_drift_random_start(), 3, ORDERED))
        # The same as the post's term, which is over B^2.
        case.vector(both, fixed(post.boxed(), 3, factor=6**2))


# Means over random orders ---------------------------------------------------------------------------------------------


@cache
def _independent(order: int, start: str) -> Series:
    """Each side permuted by itself."""
    whole = universal(order).of_order(order)
    match start:
        case "random-per-pair":
            return over_independent_permutations(interleaved_with_coins(whole, ("-", "+")), ("-", "+"))
        case "random":
            return (_independent(order, "-") + _independent(order, "+")).scaled(Fraction(1, 2))
        case _:
            period = ("-", "+") if start == "-" else ("+", "-")
            return over_independent_permutations(interleaved(whole, period), period)


@cache
def _joint(order: int, start: str) -> Series:
    """Pairs permuted with both their losses."""
    whole = universal(order).of_order(order)
    match start:
        case "random-per-pair":
            return over_permutations(interleaved_with_coins(whole, SIDES))
        case "random":
            return over_permutations(over_start(whole, SIDES))
        case _:
            return over_permutations(interleaved(whole, ("-", "+") if start == "-" else ("+", "-")))


@cache
def _reshuffled(order: int) -> Series:
    return split_into_sides(over_permutations(universal(order).of_order(order), 2 * n), ("-", "+"))


def _over_orders(order: RandomSchedule, power: int) -> Series:
    """The mean displacement of one power of the step size, as means over pairs."""
    match order.pairs:
        case "joint":
            return _joint(power, str(order.start))
        case "independent":
            return _independent(power, str(order.start))
        case _:
            return _reshuffled(power)


def _frame_over_orders(order: RandomSchedule, frame: Frame, num_pairs: int) -> Series:
    """The second order of the frame itself, written out for one n."""
    match frame, order.pairs:
        case "gradient-flow", _:
            field = Series((tree(Label(side, 1)), element(-n)) for side in SIDES)
            return fixed(frames.flow(field, MEANS, 2).of_order(2), num_pairs)
        case "pair-accumulated", "joint":
            return fixed(pairs.pair_accumulated_mean(), num_pairs)
        case "pair-accumulated", "independent":
            return fixed(over_independent_permutations(pairs.pair_accumulated(), ("-", "+")), num_pairs)
        case "pair-accumulated", _:  # pairs are whatever comes to stand together
            letters = [Label(side, k + 1) for side in SIDES for k in range(num_pairs)]
            each = [frames.accumulated(Schedule(w), 2, group=2).of_order(2) for w in permutations(letters)]
            return sum(each, Series()).scaled(Fraction(1, len(each)))
        case _:
            return Series()


JOINT, JOINT_PLUS = RandomSchedule("joint", "-"), RandomSchedule("joint", "+")
JOINT_RANDOM, JOINT_COINS = RandomSchedule("joint", "random"), RandomSchedule("joint", "random-per-pair")
JOINTS = (JOINT, JOINT_PLUS, JOINT_RANDOM, JOINT_COINS)
INDEPENDENT, INDEPENDENT_RANDOM = RandomSchedule("independent", "-"), RandomSchedule("independent", "random")
RESHUFFLING = RandomSchedule("all")
SMALL = (*JOINTS, INDEPENDENT, RandomSchedule("independent", "+"), INDEPENDENT_RANDOM, RESHUFFLING)


def _name(value: object) -> str | None:
    return f"{value.pairs}, start {value.start}" if isinstance(value, RandomSchedule) else None


# Weights are computed from the order, the frame and n, and every choice is compiled by itself: each value that a weight
# can take is met once, but not every combination.
SECOND_ORDER: list[tuple[str, int, RandomSchedule, Frame]] = [
    *(("softmax", 3, order, "accumulated") for order in (*JOINTS, INDEPENDENT, INDEPENDENT_RANDOM, RESHUFFLING)),
    *(("softmax", num_pairs, INDEPENDENT, "accumulated") for num_pairs in (1, 2)),
    *(("softmax", 2, order, "pair-accumulated") for order in (JOINT, INDEPENDENT, RESHUFFLING)),
    ("polynomial", 3, INDEPENDENT, "pair-accumulated"),
    ("polynomial", 3, JOINT_RANDOM, "gradient-flow"),
    ("polynomial", 3, JOINT, "start"),
]


@pytest.mark.parametrize(("name", "num_pairs", "order", "frame"), SECOND_ORDER, ids=_name)
def test_second_order_means(name: str, num_pairs: int, order: RandomSchedule, frame: Frame) -> None:
    case = drawn(name, num_pairs)
    first, second = averages.closed_form(case.losses, order, case.params, frame=frame)
    case.vector(second, fixed(_over_orders(order, 2), num_pairs), -_frame_over_orders(order, frame, num_pairs))
    case.vector(first, fixed(_over_orders(order, 1), num_pairs) if frame == "start" else Series())


@pytest.mark.parametrize("num_pairs", [1, 2, 3])
def test_terms_of_eq_1(num_pairs: int) -> None:
    case = drawn("polynomial", num_pairs)
    square = (2 * num_pairs) ** 2  # the post's terms are over B^2
    found = averages.terms(case.losses, case.params)
    terms = [Formula((term,)) for term in post.eq_1().terms]
    # What scatters around a mean is a difference: for one pair nothing is left of it but the round-off of both.
    whole = fixed(Formula(beyond.second_term_split().terms[:1]), num_pairs, factor=square)
    for value, formula in zip((*found,), (*terms, post.boxed()), strict=True):
        case.vector(value, fixed(formula, num_pairs, factor=square), whole, -whole)
    case.vector(found.of_spread, fixed(beyond.second_term_split(), num_pairs, factor=square), whole, -whole)

    def total(*values: Params) -> Params:
        return jax.tree.map(lambda *leaves: sum(leaves), *values)

    fixed_start = total(found.of_mean, found.of_spread, found.fixed_start)
    case.vector(fixed_start, fixed(pairs.fixed_start_mean(), num_pairs))
    random_start = total(found.of_mean, found.of_spread, found.boxed)
    for series in (pairs.coin_per_epoch_mean(), pairs.coin_per_pair_mean(), pairs.reshuffling_mean()):
        case.vector(random_start, fixed(series, num_pairs))
    case.vector(random_start, fixed(beyond.reshuffled(), num_pairs, factor=square))


def test_joint_and_independent_permutations() -> None:
    """The difference of the two means, which is a covariance over pairs."""
    case = drawn("softmax", 3)
    joint, independent = (
        averages.closed_form(case.losses, order, case.params, frame="accumulated")[1] for order in (JOINT, INDEPENDENT)
    )
    difference = jax.tree.map(jnp.subtract, joint, independent)
    case.vector(difference, fixed(beyond.joint_minus_independent(), 3), *_round_off_of(JOINT, 2, 3))


def _round_off_of(order: RandomSchedule, power: int, num_pairs: int) -> tuple[Series, Series]:
    """Nothing, but for the round-off of a mean: what is left of two of them after a subtraction."""
    whole = fixed(_over_orders(order, power), num_pairs)
    return whole, -whole


@jax.jit
def _over_words(params: Params, pairs: losses.Losses, words: averages.Words) -> tuple[Params, ...]:
    descent = optimizers.gradient_descent()
    state = descent.init(params)
    return averages.mean_over(  # type: ignore[return-value]
        lambda schedule: drift.taylor_coefficients(Epoch(pairs, schedule, descent, params, state), "start", 3), words
    )


@cache
def enumerated(order: RandomSchedule, num_pairs: int) -> tuple[Params, ...]:
    """The mean coefficients of the displacement over every word."""
    case = drawn("polynomial", num_pairs)
    return _over_words(case.params, case.losses, random_schedules.chunks(order, num_pairs))


# A different number of words is compiled anew: three pairs for the orders that third-order formulas are about.
@pytest.mark.parametrize(
    ("num_pairs", "order"),
    [
        *((num_pairs, order) for num_pairs in (1, 2) for order in SMALL),
        *((3, order) for order in (JOINT, JOINT_PLUS, JOINT_RANDOM, INDEPENDENT_RANDOM, RESHUFFLING)),
    ],
    ids=_name,
)
def test_means_over_every_word(num_pairs: int, order: RandomSchedule) -> None:
    case = drawn("polynomial", num_pairs)
    for power, found in enumerate(enumerated(order, num_pairs), start=1):
        case.vector(found, fixed(_over_orders(order, power), num_pairs))


def _in_sides(formula: Formula) -> Series:
    return split_into_sides(formula.series(), ("-", "+"))


THIRD_ORDER: dict[RandomSchedule, Callable[[], Formula | Series]] = {
    JOINT_RANDOM: beyond_second_order.third_order_random_start,
    JOINT_COINS: beyond_second_order.third_order_random_start,
    JOINT: beyond_second_order.third_order_fixed_start,
    INDEPENDENT_RANDOM: beyond_second_order.third_order_independent,
    RESHUFFLING: lambda: _in_sides(beyond_second_order.third_order_reshuffling()),
}


@pytest.mark.parametrize(
    ("num_pairs", "order"),
    [(num_pairs, order) for num_pairs in (1, 2, 3) for order in THIRD_ORDER if num_pairs < 3 or order != JOINT_COINS],
    ids=_name,
)
def test_third_order_formulas(num_pairs: int, order: RandomSchedule) -> None:
    drawn("polynomial", num_pairs).vector(enumerated(order, num_pairs)[2], fixed(THIRD_ORDER[order](), num_pairs))


@pytest.mark.parametrize("num_pairs", [2, 3])
def test_differences_of_third_order_means(num_pairs: int) -> None:
    case = drawn("polynomial", num_pairs)

    def difference(first: RandomSchedule, second: RandomSchedule) -> Params:
        return jax.tree.map(jnp.subtract, enumerated(first, num_pairs)[2], enumerated(second, num_pairs)[2])

    between = difference(RESHUFFLING, JOINT_RANDOM)
    series = fixed(beyond_second_order.third_order_difference(), num_pairs)
    case.vector(between, series, *_round_off_of(RESHUFFLING, 3, num_pairs))
    starts = difference(JOINT, JOINT_PLUS)
    series = fixed(beyond_second_order.third_order_start_bias(), num_pairs, factor=2)
    case.vector(starts, series, *_round_off_of(JOINT, 3, num_pairs))


# Opposite losses ------------------------------------------------------------------------------------------------------


@cache
def _opposite_pairs(num_pairs: int) -> Setting:
    """L-_k = -L+_k, on the same data."""
    made = problems.make("polynomial", num_pairs, seed=num_pairs)
    function, stack = made.losses.functions[1], made.losses.batches[1]
    return setting(made.params, losses.pairs(losses.negated(function), stack, function, stack))


def test_opposite_losses() -> None:
    case = _opposite_pairs(2)
    for schedule in (word("-1 +1"), word("+1 -1")):
        found = drift.closed_form(case.losses, numbers(schedule, 2), case.params, frame="start", order=2)
        case.vector(found[1], without_index(fixed(beyond.gradient_norm_penalty(), 1, PLAIN)))
    # Over pairs: what is left of eq. (1) where its first two terms vanish, over B^2.
    second = averages.closed_form(case.losses, JOINT_RANDOM, case.params, frame="accumulated")[1]
    case.vector(second, fixed(beyond.opposite_pairs(), 2, factor=4**2))


def test_entanglement() -> None:
    """L- = -L+ as functionals: g+(y+) . g-(y-) is minus the product of two gradients of L+, on two answers."""
    case = drawn("softmax", 2, is_opposite=True)
    _, found = alignment.measured(case.losses, case.params)
    function = case.losses.functions[1]
    for k in (1, 2):
        minus, plus = (case.trees.named[Label(side, k)][1] for side in SIDES)
        answers = {Label("+", 1): (function, plus), Label("+", 2): (function, minus)}
        trees = Evaluator(case.params, answers)
        assert_agree(found.product[k - 1], [fixed(beyond.penalised(), 2, PLAIN)], trees.scalar)
        case.scalar(found.product[k - 1], without_index(fixed(inner_of_pair(), 2, PLAIN), k))


def inner_of_pair() -> Series:
    return inner(gradient(post.minus()), gradient(post.plus())).series


# Modified losses and fields -------------------------------------------------------------------------------------------


def _gradient_of(scalar: Series, case: Setting) -> Params:
    """The gradient of a modified loss by `jax.grad`; the loss is evaluated as a function of the parameters."""

    def value(params: Params) -> jax.Array:
        trees = Evaluator(params, case.trees.named)
        return jnp.stack([float(c) * trees.scalar(t) for t, c in scalar.items()]).sum()  # type: ignore[arg-type]

    return jax.grad(value)(case.params)


@pytest.mark.parametrize("kind", ["accumulated", "pair-accumulated", "sequential"])
def test_modified_losses(kind: str) -> None:
    """Relative to the flow the second order is -B^2 grad L_1, where L + eta L_1 is the modified loss."""
    case = drawn("softmax", 2)
    order = JOINT_RANDOM
    formula = {
        "accumulated": beyond.modified_accumulated,
        "pair-accumulated": beyond.modified_pair_accumulated,
        "sequential": beyond.modified_sequential,
    }[kind]()
    to_flow = averages.closed_form(case.losses, order, case.params, frame="gradient-flow")[1]
    # Two drifts of one update differ by what lies between their frames.
    found = (
        to_flow
        if kind == "sequential"
        else jax.tree.map(
            jnp.subtract,
            to_flow,
            averages.closed_form(case.losses, order, case.params, frame=kind)[1],  # type: ignore[arg-type]
        )
    )
    # The field, and its potential: the modified loss as a function, differentiated by JAX.
    field = fixed(formula, 2, factor=-(4**2))
    case.vector(found, field)
    modified = frames.potential(formula.series(), MEANS)
    assert modified is not None
    case.vector(_gradient_of(fixed(modified, 2, factor=-(4**2)), case), field)


@pytest.mark.parametrize("num_pairs", [1, 2])
def test_modified_field_of_reshuffling(num_pairs: int) -> None:
    """The flow of the field is the mean displacement."""
    lower = frames.modified_field(over_permutations(universal(2), B), MEANS, 2)
    whole = lower + beyond_second_order.modified_field_of_reshuffling().series()
    series = fixed(split_into_sides(frames.flow(whole, MEANS, 3), SIDES), num_pairs)
    drawn("polynomial", num_pairs).orders(enumerated(RESHUFFLING, num_pairs), series)


def test_modified_field_of_descent() -> None:
    """The flow of the field is one step, which is linear in its size."""
    case = drawn("polynomial", 3)
    field = beyond.modified_field_of_descent().series().relabelled(lambda _: Label("+", 2))
    found = drift.closed_form(case.losses, numbers(word("+2"), 3), case.params, frame="start", order=3)
    case.orders(found, fixed(frames.flow(field, PLAIN, 3), 3, PLAIN))


# Alignment ------------------------------------------------------------------------------------------------------------


def test_split_into_gradient_and_bracket() -> None:
    case = drawn("polynomial", 2)
    found = alignment.split(case.losses, case.params)
    for value, term in zip(found, beyond.one_pair_split().terms, strict=True):
        each = [without_index(fixed(Formula((term,)), 2, PLAIN), k) for k in (1, 2)]
        case.vector(value, sum(each, Series()).scaled(Fraction(1, 2)))


def test_curl_of_the_bracket() -> None:
    """DX - DX^T for X = H+ g- - H- g+, column by column, is twice the commutator of the Hessians."""
    case = drawn("polynomial", 1)

    def bracket(x: jax.Array) -> jax.Array:
        return 2 * alignment.split(case.losses, {"x": x}).bracket["x"]  # type: ignore[call-overload, index]

    start = case.params["x"]  # type: ignore[call-overload, index]
    jacobian = jax.jit(jax.jacfwd(bracket))(start)
    letters = ("+1", "-1")
    derived = frames.antisymmetric_jacobian(named(beyond.bracket().series(), letters), PLAIN)
    for series in (derived, named(beyond.commutator().series(), letters)):
        for i, axis in enumerate(np.eye(len(start))):
            trees = Evaluator(case.params, case.trees.named, slot={"x": jnp.asarray(axis)})
            assert_agree((jacobian - jacobian.T)[:, i], [fixed(series, 1, PLAIN)], trees.vector)


def _quantity(name: str) -> Series:
    """The alignment as a scalar over pairs."""
    if name == "pair-mean":
        return post.alignment().series
    return inner(gradient(mean(post.minus(-1, MEANS))), gradient(mean(post.plus(-1, MEANS)))).series


@pytest.mark.parametrize("quantity", ["pair-mean", "mean-gradients"])
def test_change_of_alignment(quantity: alignment.Quantity) -> None:
    """The parts of the second order of every alignment, and the rate that `bias-sign` is about."""
    case = drawn("softmax", 2)
    scalar = _quantity(quantity)
    slope = fixed(frames.gradient(scalar, MEANS), 2)

    def change(schedule: Schedule, grouping: updates.Grouping) -> alignment.Change:
        return alignment.change(
            Epoch(case.losses, numbers(schedule, 2), optimizers.gradient_descent(), case.params),
            step_size=0.0,
            grouping=grouping,
            quantity=quantity,
        )

    words = [word("-1 +1 -2 +2"), word("+1 -1 +2 -2")]
    groupings: tuple[tuple[updates.Grouping, int], ...] = (("step", 1), ("pair", 2))
    for grouping, size in groupings if quantity == "pair-mean" else groupings[:1]:
        for schedule in words:
            found = change(schedule, grouping)
            forwards, backwards = (frames.accumulated(w, 2, group=size) for w in (schedule, schedule.reversed()))
            first = forwards.of_order(1)
            case.scalar(found.first, frames.joined(slope, first, PLAIN))
            bent = frames.joined(frames.derivative(slope, first, PLAIN), first, PLAIN)
            case.scalar(found.of_first_order, bent.scaled(Fraction(1, 2)))
            for value, half in (
                (found.of_gradient_part, forwards + backwards),
                (found.of_bracket, forwards - backwards),
            ):
                case.scalar(value, frames.joined(slope, half.of_order(2), PLAIN).scaled(Fraction(1, 2)))

    if quantity == "pair-mean":
        # Random start against one accumulated step per pair, in units of the squared learning rate eta = B eps.
        sequential = _mean(*(change(schedule, "step").second for schedule in words))
        rate = sequential - change(words[0], "pair").second
        case.scalar(rate, fixed(beyond.rate_of_alignment(), 2, factor=4**2))


# Other optimizers -----------------------------------------------------------------------------------------------------

MOMENTUM = Fraction(3, 4)


def _at_momentum(coefficient: Any) -> Fraction:
    expression = coefficient.as_expr() if hasattr(coefficient, "as_expr") else coefficient
    return Fraction(str(expression.subs(Symbol("beta"), Rational(str(MOMENTUM)))))


@pytest.mark.parametrize("letters", ["-1 +1 -2 +2", "+1 -1 -1 +1"], ids=["four losses", "palindrome"])
def test_heavy_ball(letters: str) -> None:
    case = drawn("polynomial", 2)
    schedule = word(letters)
    ball = _ball()
    found = drift.taylor(Epoch(case.losses, numbers(schedule, 2), ball, case.params), frame="start", order=3)
    composed = heavy_ball._heavy_ball(schedule.losses, 3)
    case.orders(found, Series((t, _at_momentum(c)) for t, c in composed.items()))

    # The closed weights: [m-j+1] of g_j and [m-i+1][i-j] of H_i g_j.
    def bracketed(count: int) -> Fraction:
        return _at_momentum(heavy_ball._geometric(Rational(count), Symbol("beta")))

    m = len(schedule.losses)
    steps = list(enumerate(schedule.losses, start=1))
    case.vector(found[0], Series((tree(loss), -bracketed(m - j + 1)) for j, loss in steps))
    second = Series(
        (tree(last, tree(first)), bracketed(m - i + 1) * bracketed(i - j))
        for i, last in steps
        for j, first in steps
        if j < i
    )
    case.vector(found[1], second)


@cache
def _ball() -> optax.GradientTransformation:
    return optax.sgd(1.0, momentum=float(MOMENTUM))


class _Memory(NamedTuple):
    """All gradients and all parameters read so far; zero where a step has not come yet."""

    num_steps: jax.Array
    seen: jax.Array
    reads: jax.Array


def _remembering() -> optax.GradientTransformation:
    """The rule of `optimizer_map._polynomial` in one coordinate, as Optax would write it."""

    def init(params: Any) -> _Memory:
        nothing = jnp.zeros(3, params["x"].dtype)
        return _Memory(jnp.zeros((), jnp.int32), nothing, nothing)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        seen = state.seen.at[state.num_steps].set(updates["x"])
        reads = state.reads.at[state.num_steps].set(params["x"])
        b = (state.num_steps + 1).astype(seen.dtype)
        place = jnp.arange(3, dtype=seen.dtype)
        weighted = jnp.sum((place + b) * seen) + jnp.sum((b + place + b) * reads)
        return {"x": weighted + seen[0] * params["x"]}, _Memory(state.num_steps + 1, seen, reads)

    return optax.GradientTransformation(init, update)


def _cubic(params: Params, batch: Batch) -> jax.Array:
    return (params["x"] + batch) ** 3 / 3  # type: ignore[call-overload, index, operator]


def test_optimizer_map() -> None:
    """A rule with a memory of gradients and of parameters: c_1 = D(0), c_2 = D'(0), c_3 = D''(0)/2."""
    optimizer = optimizer_map._polynomial(3, 1)
    (theta,) = optimizer_map._start(optimizer)
    s = symbols("s", real=True)
    (displacement,) = optimizer_map._displacement(optimizer, s)
    start = Rational(1, 2)

    def value(expression: Any) -> float:
        return float(expression.subs(s, 0).subs(theta, start))

    family = losses.Losses((_cubic,), (jnp.array([1.0, 2.0, 3.0]),), ("L",))
    params = {"x": jnp.asarray(float(start))}
    found = drift.taylor(Epoch(family, schedules.steps([0, 1, 2]), _remembering(), params), frame="start", order=3)
    values = [float(coefficient["x"]) for coefficient in found]  # type: ignore[call-overload, index]
    # All numbers are positive, so that no digit cancels.
    slopes = [displacement, diff(displacement, s), diff(displacement, s, 2) / 2]
    for number, slope in zip(values, slopes, strict=True):
        assert_equal_to_round_off(number, value(slope))
    proved = [optimizer_map._frozen(optimizer)[0], optimizer_map._second_order(optimizer)[0]]
    for number, formula in zip(values[:2], proved, strict=True):
        assert_equal_to_round_off(number, value(formula))


# Constant gradients a (preferred) and b (dispreferred), one pair of numbers per coordinate: alike, one of them zero,
# opposite signs, nearly cancelling.
PREFERRED = np.array([1.0, 2.0, 3.0, -1.0, 1.0])
DISPREFERRED = np.array([1.0, 0.0, -1.0, -2.0, -0.75])
RATE = 0.5


def _linear(params: Params, batch: Batch) -> jax.Array:
    return jnp.vdot(batch, params["x"])  # type: ignore[call-overload, index, arg-type]


def _constant(preferred: np.ndarray, dispreferred: np.ndarray) -> tuple[Params, losses.Losses]:
    """Losses with constant gradients, one row per pair."""
    start = {"x": jnp.zeros(preferred.shape[-1])}
    return start, losses.pairs(_linear, jnp.asarray(dispreferred), _linear, jnp.asarray(preferred))


def _in_steady_state(
    params: Params,
    family: losses.Losses,
    steps: schedules.Schedule,
    rule: optax.GradientTransformation,
    epochs: int,
    size: float,
) -> np.ndarray:
    """The displacement of one more run through the steps after many."""
    many = schedules.steps(np.tile(np.asarray(steps.losses), epochs))
    state = updates.sequential(Epoch(family, many, rule, params), step_size=size).state
    return flat(updates.sequential(Epoch(family, steps, rule, params, state), step_size=size).displacement)


@pytest.mark.parametrize(("b1", "b2"), [(0.5, 0.75), (0.0, 0.875)])
def test_steady_state_of_adamw(b1: float, b2: float) -> None:
    """The two-periodic moments, at a finite beta_2."""
    params, family = _constant(PREFERRED[None], DISPREFERRED[None])
    rule = optax.adamw(1.0, b1=b1, b2=b2, eps=0.0, weight_decay=0.0)
    steps = schedules.interleaved(1, first="+")
    found = _in_steady_state(params, family, steps, rule, 300, RATE / 2**0.5)  # 0.875^600 is below 1e-34
    a, b = learning_rates._A, learning_rates._B
    m_a, m_b, v_a, v_b = learning_rates._steady_alternation(a**2, b**2)
    per_pair = [m_a / sqrt(v_a), m_b / sqrt(v_b)]
    moments = lambdify((a, b, learning_rates._BETA_1, learning_rates._BETA_2), per_pair, "numpy")
    first, second = -RATE / 2**0.5 * np.array(moments(PREFERRED, DISPREFERRED, b1, b2))
    assert_equal_to_round_off(found, first + second, scale=np.abs([first, second]).max())


def _arms() -> tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """The proved displacement per pair of both arms, as functions of a, b and the standard deviation s."""
    letters = (learning_rates._A, learning_rates._B, learning_rates._S)
    sequential, accumulated = (
        lambdify(letters, arm.subs(learning_rates._ETA, RATE), "numpy") for arm in learning_rates._with_noise()
    )
    return sequential, accumulated


def test_adamw_alternation_and_noise() -> None:
    """As beta_2 -> 1 the gap to the proved displacement halves with 1 - beta_2.

    The noise takes the values s and -s on either side, all four combinations in turn: the moments that the claim is
    about, without a random number. The first half of the coordinates has none.
    """
    a, b = np.tile(PREFERRED, 2), np.tile(DISPREFERRED, 2)
    s = np.repeat([0.0, 1.5], len(PREFERRED))
    signs = np.array(list(product((1.0, -1.0), repeat=2)))
    params, family = _constant(a + signs[:, :1] * s, b + signs[:, 1:] * s)
    steps = schedules.interleaved(4, first="+")
    half_sum = (a + b + signs.sum(axis=1, keepdims=True) * s) / 2
    sequential, accumulated = _arms()
    arms = (
        (params, family, schedules.interleaved(4, first="+"), RATE / 2**0.5, sequential),
        (*_constant(half_sum, half_sum), schedules.steps([0, 1, 2, 3]), RATE, accumulated),
    )
    for start, pairs_of_losses, steps, size, proved in arms:
        expected = proved(a, b, s)
        gaps = []
        for power in (6, 7):
            rule = optax.adamw(1.0, b1=0.5, b2=1 - 2.0**-power, eps=0.0, weight_decay=0.0)
            # (1 - 2^-power)^(30 * 2^power) is e^-30
            found = _in_steady_state(start, pairs_of_losses, steps, rule, 30 * 2**power // len(steps.losses), size)
            gaps.append(np.abs(found / 4 - expected))
        # Where a gradient never changes Adam divides it by its own size at every beta_2: there is no gap.
        has_gap = gaps[0] > 1e-9  # between round-off and a gap of the size of 2^-6
        slopes = np.log2(gaps[0][has_gap] / gaps[1][has_gap])
        assert slopes.size
        np.testing.assert_allclose(slopes, 1.0, atol=0.1)


def test_learning_rates_that_match() -> None:
    """Gradient descent at eta/2 moves as far as one step on the mean of both halves, at eta/sqrt(2) sqrt(2) times."""
    params, family = _constant(PREFERRED[None], DISPREFERRED[None])
    steps = schedules.interleaved(1, first="+")
    descent = optimizers.gradient_descent()
    mean_step = updates.accumulated(
        Epoch(family, steps, descent, params), step_size=RATE, per="schedule", reduction="mean"
    ).displacement
    for factor in (Rational(1, 2), 1 / sqrt(2)):
        ratio, _ = learning_rates._first_order_rates(factor * learning_rates._ETA)
        found = updates.sequential(Epoch(family, steps, descent, params), step_size=RATE * float(factor)).displacement
        assert_equal_to_round_off(found, float(ratio) * flat(mean_step))


# Ratio and log-likelihood ---------------------------------------------------------------------------------------------


def test_ratio_curvature() -> None:
    """Up on a preferred token after down on a dispreferred one: what exp(l - l_old) adds to the correction."""

    def preferred(params: Any) -> jax.Array:
        x, y = params
        return x + 2 * y + x * y

    def dispreferred(params: Any) -> jax.Array:
        x, y = params
        return 3 * x + y

    def ratio(log_prob: Callable[[Any], jax.Array]) -> Callable[[Params], jax.Array]:
        return lambda params: jnp.exp(log_prob(params) - log_prob((0.0, 0.0)))

    start = (jnp.zeros(()), jnp.zeros(()))

    def correction(good: Callable[[Any], jax.Array], bad: Callable[[Any], jax.Array]) -> np.ndarray:
        family = losses.of_params([bad, lambda params: -good(params)], SIDES)
        return flat(drift.closed_form(family, schedules.steps([0, 1]), start, frame="start", order=2)[1])

    added = correction(ratio(preferred), ratio(dispreferred)) - correction(preferred, dispreferred)
    # -grad l+ (grad l+ . grad l-) at the origin, as `ratio-curvature` proves it for these two
    assert_equal_to_round_off(added, [-5.0, -10.0])
