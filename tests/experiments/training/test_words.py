"""Words of steps in an arm: shares of the halves, brackets, scales and the measurements, against loops by hand."""

from fractions import Fraction
from math import lcm
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console import grammar
from experiments import arms
from experiments.arms import Hyperparams
from experiments.training import arm_update, batches, train_step
from experiments.training.batches import PairBatch
from numerics import updates
from numerics.epoch import Epoch
from tests.oracles import bag_of_words
from tests.oracles.bag_of_words import sides_of, vector
from tests.support.rounding import assert_equal_to_round_off

ETA = 0.05
RULE = Hyperparams(b1=0.8, b2=0.9, eps=1e-2, eps_root=1e-4, weight_decay=0.3, momentum=0.7, max_norm=0.2)
SEVERAL = bag_of_words.pairs(12)
# Weights in float64, so that a number of shares times a weight is not rounded to float32.
HALVES = PairBatch(*(half._replace(weights=half.weights.astype(np.float64)) for half in bag_of_words.halves(12)))
PARAMS = bag_of_words.params()
START = vector(PARAMS)
OBJECTIVE = arm_update.likelihood(bag_of_words.loss)


def share(side, place, count):
    """The loss of the share of a letter: over the tokens of the whole half, times the number of shares."""
    texts = [pair.preferred if side == "+" else pair.dispreferred for pair in SEVERAL]
    own = texts[place * len(texts) // count : (place + 1) * len(texts) // count]
    half = batches.pair_batch(own, own, "sum", (8, 4)).preferred
    weight = np.float32(1 / sum(len(text.completion) for text in texts))
    half = half._replace(weights=np.full(len(own), count * np.float64(weight)))
    sign = 1 if side == "+" else -1
    tree: Any = bag_of_words.sides(HALVES)[2]
    return jax.jit(jax.value_and_grad(lambda at: sign * bag_of_words.loss(tree(at), half)[0]))


def stepped(text, halves=HALVES, *, is_as_written=True, eta=ETA) -> tuple[Any, Any]:
    arm = arms.parse(text)
    state = train_step.initial_state(arm, RULE, PARAMS, None)
    after, info = train_step.make_step(arm, RULE, eta, OBJECTIVE)(state, PARAMS, halves, is_as_written)
    return vector(after.params) - START, info


def descent(word, rate):
    """Gradient descent by hand: the displacement, and the value and gradient of every letter as it was read."""
    parsed = grammar.parse(word)
    counts = {side: sum(step.name == side for step in parsed.steps) for side in "+-"}
    seen = dict.fromkeys("+-", 0)
    theta, readings = START, {"+": [], "-": []}
    for group in parsed.updates:
        total = np.zeros_like(theta)
        for step in group:
            value, gradient = share(step.name, seen[step.name], counts[step.name])(theta)
            seen[step.name] += 1
            readings[step.name].append((float(value), np.asarray(gradient)))
            total += float(step.scale) * np.asarray(gradient) / len(group)
        theta = theta - ETA * rate * total
    return theta - START, readings


@pytest.mark.parametrize(
    ("word", "rate"),
    [("+-+-", "1/4"), ("(+-)(-+)", "eta/2"), ("++-", "1/3"), ("+(+-)-", "0.4"), ("+:1,-:0.5", "eta/sqrt2"),
     ("(+:2,-:1/2)-:3", "eta"), ("-", "eta"), ("(++-)", "eta")],
)  # fmt: skip
def test_a_word_is_a_loop_by_hand_with_its_measurements(word, rate):
    factor = {"1/4": 0.25, "eta/2": 0.5, "1/3": 1 / 3, "0.4": 0.4, "eta/sqrt2": 0.5**0.5, "eta": 1.0}[rate]
    displacement, readings = descent(word, factor)
    got, info = stepped(f"{word}:rate={rate},optimizer=sgd")
    assert_equal_to_round_off(got, displacement, scale=np.abs(START).max())
    means = {}
    for side, info_of_side in zip("+-", info[:2], strict=True):
        if not readings[side]:
            assert info_of_side is None
            continue
        values, gradients = zip(*readings[side], strict=True)
        means[side] = np.mean(gradients, axis=0)
        assert_equal_to_round_off(info_of_side.loss, np.mean(values))
        assert_equal_to_round_off(info_of_side.norm, np.linalg.norm(means[side]), operations=100)
        assert_equal_to_round_off(info_of_side.squares.sum(), means[side] @ means[side], operations=100)
        assert info_of_side.log_probs.shape == (12,)
    if len(means) == 2:
        scale = np.linalg.norm(means["+"]) * np.linalg.norm(means["-"])
        assert_equal_to_round_off(info.alignment.product, means["+"] @ means["-"], scale=scale, operations=100)
    else:
        assert info.alignment is None


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("word", ["(+-+-)", "(++--)", "(+-+-+-)"])
def test_everything_at_once_is_the_accumulated_update(word, optimizer):
    """Whatever the lengths of the texts: the mean over the shares of a half is the half's own loss."""
    together, whole = stepped(f"accumulated:optimizer={optimizer}")
    split, parts = stepped(f"{word}:optimizer={optimizer}")
    assert_equal_to_round_off(split, together, scale=np.abs(START).max())
    for one, other in zip(sides_of(parts), sides_of(whole), strict=True):
        for a, b in zip(one, other, strict=True):
            assert_equal_to_round_off(a, b, operations=1000)
    assert_equal_to_round_off(parts.alignment, whole.alignment, operations=1000)


def test_log_probabilities_are_those_of_the_texts_in_their_order():
    tree: Any = bag_of_words.sides(HALVES)[2]
    for word in ("(++-)", "(+-+-)"):  # with shares of unequal and of equal size
        _, info = stepped(f"{word}:optimizer=sgd")
        for side, half in zip(sides_of(info), HALVES, strict=True):
            assert_equal_to_round_off(side.log_probs, bag_of_words.log_probs(tree(START), half))


def test_a_random_start_exchanges_the_sides_of_a_word():
    word, rate = "+(+-)-:2", "rate=1/4,optimizer=sgd"
    exchanged, _ = stepped(f"{word}:start=random,{rate}", is_as_written=False)
    assert_equal_to_round_off(exchanged, stepped(f"-(-+)+:2:{rate}")[0], scale=np.abs(START).max())
    as_written, _ = stepped(f"{word}:start=random,{rate}", is_as_written=True)
    assert_equal_to_round_off(as_written, stepped(f"{word}:{rate}")[0], scale=np.abs(START).max())
    assert np.abs(as_written - exchanged).max() > 1e-5


def test_each_letter_is_clipped_before_they_are_averaged():
    def clipped(gradient):
        return gradient * min(1.0, RULE.max_norm / np.linalg.norm(gradient))

    gradients = [np.asarray(share(side, 0, count)(START)[1]) for side, count in (("+", 2), ("-", 1))]
    gradients.append(np.asarray(share("+", 1, 2)(START)[1]))
    assert min(map(np.linalg.norm, gradients)) > RULE.max_norm
    got, _ = stepped("(+-+):optimizer=sgd,clipping=step")
    assert_equal_to_round_off(got, -ETA * sum(map(clipped, gradients)) / 3, scale=np.abs(START).max())


def test_decay_per_update_is_that_of_one_step_at_eta():
    """Where all gradients are zero only decay is left, in whatever steps it comes."""
    nothing = PairBatch(*(half._replace(weights=0 * half.weights) for half in HALVES))
    for word in ("+-+-:rate=1/3", "(+-)(+-)", "+:1,-:0.5:rate=eta/sqrt2"):
        got, _ = stepped(f"{word}{',' if 'rate' in word else ':'}decay=update", nothing, eta=1e-4)
        # Steps compound: what is left is of second order in eta.
        assert_equal_to_round_off(got, -1e-4 * 0.3 * START, scale=np.abs(START).max() * (1e-4 * 0.3) ** 2 * 2**53)


_STEPS = st.builds(
    grammar.Step, st.sampled_from("+-k"), st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(3), Fraction(2, 3)])
)
_WORDS = st.lists(st.lists(_STEPS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4).map(
    lambda groups: grammar.Word(tuple(groups))
)


@settings(max_examples=200)
@given(_WORDS.filter(lambda word: any(step.name != "k" for step in word.steps)))
def test_every_word_of_an_arm_is_read_back(word):
    arm = arms.parse(f"{word}:rate=1/3,optimizer=sgd")
    assert grammar.parse(arm.word) == word
    assert arm.num_steps == len(word.updates)
    assert arms.parse(f"{arm.word}:rate=1/3,optimizer=sgd") == arm
    assert sum(arm.counts.values()) == len(word.steps)
    schedule = arm_update.schedule_of(arm, is_as_written=True)
    assert schedule.sizes == word.sizes
    assert schedule.scales.tolist() == [float(step.scale) for step in word.steps]
    letters = lcm(*(arm.counts[side] for side in arm.sides))
    assert letters <= 12**2
    assert set(schedule.losses[[step.name == "+" for step in word.steps]]) == (
        set(arm_update.numbers_of(arm, "+")) if "+" in arm.sides else set()
    )


@pytest.mark.parametrize("text", ["+-+-", "(+-)(+-)", "+:2,-:1/2"])
def test_a_word_is_the_epoch_that_the_numerics_step(text):
    """The very map of the numerics, called beside the stepper with the arm's own parts."""
    arm = arms.parse(f"{text}:rate=1/3")
    epoch = Epoch(
        arm_update.losses_of(arm, ETA, OBJECTIVE, HALVES, PARAMS),
        arm_update.schedule_of(arm, is_as_written=True),
        arm_update.optimizer(arm, RULE),
        PARAMS,
    )
    alone = updates.sequential(epoch, step_size=ETA / 3, reduction="mean")
    assert_equal_to_round_off(stepped(f"{text}:rate=1/3")[0], vector(alone.displacement), scale=np.abs(START).max())


def test_the_third_loss_is_stepped_on_all_texts_and_stays_out_of_the_measurements():
    """Half the squared distance from the start stands for the divergence: its gradient is the distance."""

    def third(params, batch):
        start, halves = batch
        assert halves.preferred.lengths.shape == (12,)
        return 0.5 * sum(jnp.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (params, start)), strict=True))

    arm = arms.parse("+k:1/2-k:rate=1/2,optimizer=sgd")
    state = train_step.initial_state(arm, RULE, PARAMS, None)
    objective = arm_update.likelihood(bag_of_words.loss, third)
    after, info = train_step.make_step(arm, RULE, ETA, objective)(state, PARAMS, HALVES, True)
    assert info.alignment is not None
    plus = np.asarray(share("+", 0, 1)(START)[1])
    at = START - ETA / 2 * plus
    at = at - ETA / 4 * (at - START)
    minus = np.asarray(share("-", 0, 1)(at)[1])
    at = at - ETA / 2 * minus
    at = at - ETA / 2 * (at - START)
    assert_equal_to_round_off(vector(after.params), at, scale=np.abs(START).max())
    assert_equal_to_round_off(info.alignment.product, plus @ minus, scale=plus @ plus, operations=100)
    assert_equal_to_round_off(sides_of(info)[0].norm, np.linalg.norm(plus), operations=100)
    with pytest.raises(ValueError, match="must have no letter k where there is no third loss"):
        train_step.make_step(arm, RULE, ETA, OBJECTIVE)(state, PARAMS, HALVES, True)
