"""The calls of the driver, the measurements of an update, and its values that are not finite."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import numerics.updates
from experiments import arms
from experiments.arms import Hyperparams
from experiments.model import objectives
from experiments.training import arm_update, batches, train_step
from experiments.training.batches import PairBatch
from numerics import optimizers
from tests.oracles import bag_of_words
from tests.oracles.bag_of_words import sides_of, vector
from tests.support.rounding import assert_equal_to_round_off
from tests.support.tiny_models import UNTIED, random_params, texts

ETA = 0.05
HALVES = bag_of_words.halves()
PLUS, MINUS, TREE = bag_of_words.sides(HALVES)
START = vector(bag_of_words.params())


def stepped(text, *, halves=HALVES, is_as_written=True, loss=bag_of_words.loss, start=None, rule=None):
    """One update by the stepper: the state before it, as it is afterwards; the next state; and the measurements."""
    arm = arms.parse(text)
    rule = rule or Hyperparams()
    params = start or bag_of_words.params()
    state = train_step.initial_state(arm, rule, params, None)
    step = train_step.make_step(arm, rule, ETA, arm_update.likelihood(loss))
    after, info = step(state, params, halves, is_as_written)
    return jax.tree.map(np.array, state), after, info


# The numerics' own objects --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sizes", "step_size"),
    [("accumulated", (2,), 1.0), ("sequential", (1, 1), 0.5**0.5), ("preferred-only", (1,), 1), ("-(+)", (1, 1), 1)],
)
def test_the_driver_calls_the_map_of_the_numerics(text, sizes, step_size, monkeypatch):
    """The functions that the toys are stepped with, with the very rule: object identity."""
    calls = []
    real = numerics.updates.sequential

    def spy(epoch, **more):
        calls.append((epoch.schedule.sizes, epoch.rule, more["step_size"]))
        return real(epoch, **more)

    monkeypatch.setattr(numerics.updates, "sequential", spy)
    stepped(f"{text}:optimizer=sgd")
    ((brackets, rule, size),) = calls
    assert brackets == sizes
    assert rule is optimizers.gradient_descent()
    assert size == pytest.approx(ETA * step_size)


def test_schedules_of_the_arms():
    named = {name: arm_update.schedule_of(arms.BY_NAME[name], is_as_written=False) for name in arms.BY_NAME}
    assert named["sequential"].losses.tolist() == [1, 0]
    assert named["sequential-minus-first"].losses.tolist() == [0, 1]
    assert named["sequential-random-start"].losses.tolist() == [0, 1]
    assert arm_update.schedule_of(arms.BY_NAME["sequential-random-start"], is_as_written=True).losses.tolist() == [1, 0]
    assert named["accumulated-plus-term"].losses.tolist() == [1, 0, 2]
    assert named["preferred-only"].losses.tolist() == [1]
    assert all((schedule.scales == 1).all() for schedule in named.values())


# Measurements ---------------------------------------------------------------------------------------------------------


def squares_by_group(gradient):
    """Embedding, four quarters of four layers, the norm, and no head."""
    tree = TREE(gradient)
    layers = [float(np.sum(np.square(tree["layers"]["w"][place]))) for place in range(4)]
    return [float(np.sum(np.square(tree["embedding"]))), *layers, float(np.sum(np.square(tree["norm"]))), 0.0]


@pytest.mark.parametrize(
    ("text", "is_as_written", "moved"),
    [
        ("accumulated", True, None),
        ("accumulated-plus-term", True, None),
        ("accumulated:clipping=step", True, None),
        ("sequential", True, "+"),
        ("sequential-minus-first", True, "-"),
        ("sequential-random-start", False, "-"),
    ],
)
def test_measurements_are_those_that_are_computed_directly(text, is_as_written, moved):
    """Each side where its gradient was read: of sequential updates the second after the first step."""
    separator = "," if ":" in text else ":"
    before, after, info = stepped(
        f"{text}{separator}optimizer=sgd", is_as_written=is_as_written, rule=Hyperparams(max_norm=0.3)
    )
    size = ETA * 0.5**0.5
    at_plus = START if moved != "-" else START - size * np.asarray(jax.grad(MINUS)(START))
    at_minus = START if moved != "+" else START - size * np.asarray(jax.grad(PLUS)(START))
    assert_equal_to_round_off([sides_of(info)[0].loss, sides_of(info)[1].loss], [PLUS(at_plus), MINUS(at_minus)])
    log_probs = [
        np.asarray(bag_of_words.log_probs(TREE(at), half)) for at, half in zip((at_plus, at_minus), HALVES, strict=True)
    ]
    assert_equal_to_round_off([sides_of(info)[0].log_probs, sides_of(info)[1].log_probs], log_probs)
    plus, minus = np.asarray(jax.grad(PLUS)(at_plus)), np.asarray(jax.grad(MINUS)(at_minus))
    lengths = np.linalg.norm(plus), np.linalg.norm(minus)
    assert_equal_to_round_off(
        info.alignment,
        [plus @ minus, plus @ minus / np.prod(lengths), lengths[1], lengths[0], plus @ minus / lengths[1] ** 2,
         plus @ minus / lengths[0] ** 2],
    )  # fmt: skip
    assert_equal_to_round_off(sides_of(info)[0].squares, squares_by_group(plus))
    assert_equal_to_round_off(sides_of(info)[1].squares, squares_by_group(minus))
    assert_equal_to_round_off(sides_of(info)[0].norm, lengths[0])
    moved_by = vector(after.params) - vector(before.params)
    assert_equal_to_round_off(info.update_norm, np.linalg.norm(moved_by), scale=np.abs(START).max())
    assert_equal_to_round_off(info.distance, np.linalg.norm(moved_by), scale=np.abs(START).max())
    assert bool(info.is_finite)


def test_the_preferred_half_alone_measures_nothing_of_the_other():
    _, after, info = stepped("preferred-only:optimizer=sgd")
    assert info.preferred is not None
    assert_equal_to_round_off(info.preferred.loss, PLUS(START))
    assert_equal_to_round_off(info.preferred.norm, np.linalg.norm(np.asarray(jax.grad(PLUS)(START))))
    assert info.dispreferred is None
    assert info.alignment is None
    row = train_step.quantities(info, HALVES, train_step.GROUPS)
    norms: Any = row["gradient_norms"]
    assert {key for key, value in row.items() if value is None} == {
        *("loss_minus", "log_prob_minus", "log_prob_minus_per_token", "norm_minus"),
        *("product", "cosine", "ratio_plus", "ratio_minus"),
    }
    assert list(norms) == ["plus"]
    assert np.isfinite(info.preferred.log_probs).all()
    assert bool(info.is_finite)
    assert_equal_to_round_off(vector(after.params), START - ETA * np.asarray(jax.grad(PLUS)(START)))


def test_the_distance_is_from_the_start_of_the_run():
    arm = arms.parse("accumulated:optimizer=sgd")
    step = train_step.make_step(arm, Hyperparams(), ETA, arm_update.likelihood(bag_of_words.loss))
    state = train_step.initial_state(arm, Hyperparams(), bag_of_words.params(), None)
    state, _ = step(state, bag_of_words.params(), HALVES, True)
    state, info = step(state, bag_of_words.params(), bag_of_words.halves(seed=1), True)
    assert_equal_to_round_off(
        info.distance, np.linalg.norm(vector(state.params) - START), scale=np.abs(START).max(), operations=1000
    )
    assert float(info.distance) != pytest.approx(float(info.update_norm), rel=1e-3)


def test_parts_of_the_language_model_measure_the_same():
    """Two micro-batches against the whole, on a model with a head of its own and quarters of three layers."""
    several = texts(UNTIED, 8)
    halves = batches.pair_batch(several[:4], several[4:], "sequence", (16, 8))
    loss = objectives.negative_log_likelihood(UNTIED, compute_dtype=jnp.float64, has_aux=True)
    whole, parts = (
        stepped(
            "sequential:optimizer=sgd",
            halves=halves,
            loss=objectives.in_parts(loss, number, has_aux=True),
            start=random_params(UNTIED),
        )
        for number in (1, 2)
    )
    for one, other in zip(parts[2], whole[2], strict=True):
        assert_equal_to_round_off(one, other, operations=1000)
    size = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(whole[0].params))
    assert_equal_to_round_off(parts[1].params, whole[1].params, scale=size)
    assert [side.log_probs.shape for side in sides_of(whole[2])] == [(4,), (4,)]
    by_hand = jax.jit(jax.grad(lambda params: loss(params, halves.preferred)[0]))(random_params(UNTIED))
    assert_equal_to_round_off(sides_of(whole[2])[0].squares.sum(), vector(by_hand) @ vector(by_hand))
    assert_equal_to_round_off(sides_of(whole[2])[0].squares[-1], np.sum(np.square(by_hand["head"])))
    names = dict(zip(train_step.GROUPS, np.sqrt(np.asarray(sides_of(whole[2])[0].squares)).tolist(), strict=True))
    assert list(names) == list(train_step.GROUPS)
    assert names["head"] == pytest.approx(float(np.linalg.norm(np.asarray(by_hand["head"]))))


# What is not finite ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["accumulated", "sequential", "sequential-minus-first", "accumulated:clipping=update"])
def test_what_is_not_finite_is_said_and_the_state_before_stays(text):
    weights = HALVES.preferred.weights.copy()
    weights[0] = np.inf
    broken = HALVES._replace(preferred=HALVES.preferred._replace(weights=weights))
    before, after, info = stepped(text, halves=broken)
    assert not bool(info.is_finite)
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(before))


def test_gradients_whose_squares_overflow_are_not_finite():
    """Adam's second moment would be infinite for good, its updates zero: finite, and of no use."""
    huge = PairBatch(*(half._replace(weights=np.float32(1e25) * half.weights) for half in HALVES))
    start = bag_of_words.params(dtype=np.float32)
    before, _, info = stepped("accumulated", halves=huge, start=start)
    assert all(np.isfinite(side.loss) for side in sides_of(info))
    assert not bool(info.is_finite)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(before))


# Estimates without bias -----------------------------------------------------------------------------------------------


NOWHERE: Any = {"a": np.zeros(2)}


def both_sides(rows: Any):
    """Half-batches that are the gradients of their texts."""
    return PairBatch(rows[:, 0], rows[:, 1])


def means(params, batch) -> Any:
    """The mean gradient of such a batch."""
    return {"a": params["a"] + batch[:, :2].mean(0), "b": batch[:, 2:].mean(0)}


def test_half_batches_of_every_draw_have_the_mean_of_the_population():
    """All 16 draws of four pairs from a population of two: the estimates' mean is exact, that of the whole is not."""
    rng = np.random.default_rng(0)
    population = rng.normal(size=(2, 2, 3))  # pair, side, coordinate
    found = []
    for draw in product(range(2), repeat=4):
        rows = population[list(draw)]
        found.append(train_step.half_batches(means, NOWHERE, both_sides(rows[:2]), both_sides(rows[2:])))
    plus, minus = population[:, 0].mean(0), -population[:, 1].mean(0)  # the loss of the other side is ascended
    scale = 10 * np.abs(population).max() ** 2
    mean_of = lambda read: np.mean([float(read(one)) for one in found])  # noqa: E731
    assert_equal_to_round_off(mean_of(lambda one: one.product), plus @ minus, scale=scale)
    assert_equal_to_round_off(mean_of(lambda one: one.norm_plus_squared), plus @ plus, scale=scale)
    assert_equal_to_round_off(mean_of(lambda one: one.norm_minus_squared), minus @ minus, scale=scale)
    noise = -((population[:, 0] - plus) * (population[:, 1] + minus)).sum(1).mean() / 4
    assert_equal_to_round_off(mean_of(lambda one: one.whole.product), plus @ minus + noise, scale=scale)
    assert abs(noise) > 1e-2


def test_half_batches_over_all_splits_leave_out_what_is_of_one_pair():
    """Mean over the splits of four pairs = sum over i != j of g+_i . g-_j, over 12."""
    rows = np.random.default_rng(1).normal(size=(4, 2, 3))
    splits = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    found = [
        train_step.half_batches(means, NOWHERE, *(both_sides(rows[list(half)]) for half in split)) for split in splits
    ]
    expected = sum(rows[i, 0] @ -rows[j, 1] for i in range(4) for j in range(4) if i != j) / 12
    assert_equal_to_round_off(np.mean([one.product for one in found]), expected, scale=10.0)


def test_the_frozen_second_moment_is_the_mean_square_of_all_halves():
    several = [bag_of_words.halves(seed=seed) for seed in range(3)]
    found = train_step.second_moment(arm_update.likelihood(bag_of_words.loss), bag_of_words.params(), several)
    squares = [np.square(np.asarray(jax.grad(side)(START)))
               for both in several for side in bag_of_words.sides(both)[:2]]  # fmt: skip
    assert_equal_to_round_off(vector(found), sum(squares) / 6)
    assert optax.tree.norm(found) > 0
