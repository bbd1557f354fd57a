"""Which pairs make up an update: laws of the order; and a source of another kind, which stepping must not notice."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import arms
from experiments.arms import Reduction
from experiments.data import tokens
from experiments.data.chat import Message
from experiments.data.preferences import Answer, Preference
from experiments.data.tokens import Encoded
from experiments.model import random_model
from experiments.training import arm_update, batches, train_step
from experiments.training.batches import EncodedPair, PairBatch
from tests.oracles import bag_of_words
from tests.oracles.bag_of_words import sides_of, vector
from tests.support.rounding import assert_equal_to_round_off

PARAMS = bag_of_words.params()


def labelled(count):
    """Pairs that can be info apart by their first token: 2k the preferred text of pair k, 2k + 1 the other."""
    return [
        EncodedPair(str(k), Encoded([2 * k], [1] * (1 + k % 3)), Encoded([2 * k + 1], [1, 1])) for k in range(count)
    ]


def drawn(source, update):
    """The numbers of the pairs in both halves."""
    both = source(update, PARAMS)
    return (both.preferred.tokens[:, 0] // 2).tolist(), (both.dispreferred.tokens[:, 0] // 2).tolist()


@settings(max_examples=30)
@given(count=st.integers(1, 9), data=st.data(), seed=st.integers(0, 5), is_same_problems=st.booleans())
def test_every_pair_comes_once_per_epoch(count, data, seed, is_same_problems):
    num_pairs = data.draw(st.integers(1, count))
    source = batches.epoch_batches(
        labelled(count), num_pairs, seed=seed, reduction="sequence", is_same_problems=is_same_problems
    )
    epochs = 3
    both = [drawn(source, update) for update in range(-(-epochs * count // num_pairs))]
    for side in (0, 1):
        order = [number for halves in both for number in halves[side]]
        for first in range(0, epochs * count, count):
            assert sorted(order[first : first + count]) == list(range(count))
    if is_same_problems:
        assert all(plus == minus for plus, minus in both)
    # The first is the preferred one, the second the dispreferred.
    halves = source(0, PARAMS)
    assert (halves.preferred.tokens[:, 0] % 2 == 0).all()
    assert (halves.dispreferred.tokens[:, 0] % 2 == 1).all()


def test_the_order_is_that_of_the_seed_alone():
    """Nothing of the arm is asked: the reduction changes weights, and never which pairs."""
    make = lambda seed, **more: batches.epoch_batches(  # noqa: E731
        labelled(11), 4, seed=seed, **{"reduction": "token-half", **more}
    )
    first = [drawn(make(3), update) for update in range(6)]
    assert [drawn(make(3, reduction="sum"), update) for update in range(6)] == first
    assert [drawn(make(4), update) for update in range(6)] != first
    # Asked again, backwards and out of turn: a run that is resumed gets the halves that it would have had.
    source = make(3)
    assert [drawn(source, update) for update in reversed(range(6))] == first[::-1]
    for one, other in zip(jax.tree.leaves(source(5, PARAMS)), jax.tree.leaves(make(3)(5, PARAMS)), strict=True):
        assert (one == other).all()
    whole = batches.epoch_batches(labelled(6), 6, seed=0, reduction="sum")  # an epoch per update
    assert len({tuple(drawn(whole, epoch)[0]) for epoch in range(4)}) > 1


def test_independent_halves_have_orders_of_their_own():
    source = batches.epoch_batches(labelled(12), 4, seed=0, reduction="sequence", is_same_problems=False)
    same = batches.epoch_batches(labelled(12), 4, seed=0, reduction="sequence")
    both = [drawn(source, update) for update in range(6)]
    assert all(plus != minus for plus, minus in both)
    assert [plus for plus, _ in both] == [drawn(same, update)[0] for update in range(6)]


def test_all_updates_have_one_shape_and_the_weights_of_their_reduction():
    """By hand: lengths of the preferred 1, 2, 3, of the dispreferred always 2."""
    kinds: dict[Reduction, Callable[[int, list[int], int], float]] = {
        "sum": lambda own, lengths, union: 1.0,
        "sequence": lambda own, lengths, union: 1 / (own * len(lengths)),
        "token-half": lambda own, lengths, union: 1 / sum(lengths),
        "token-union": lambda own, lengths, union: 2 / union,
    }
    for reduction, weigh in kinds.items():
        source = batches.epoch_batches(labelled(7), 3, seed=0, reduction=reduction)
        made = [source(update, PARAMS) for update in range(5)]
        assert {half.tokens.shape for both in made for half in both} == {(3, 32)}
        assert {half.targets.shape for both in made for half in both} == {(3, 32)}
        for both in made:
            plus = [1 + number % 3 for number in (both.preferred.tokens[:, 0] // 2).tolist()]
            for half, lengths in ((both.preferred, plus), (both.dispreferred, [2, 2, 2])):
                assert half.lengths.tolist() == lengths
                expected = [weigh(own, lengths, sum(plus) + 6) for own in lengths]
                assert half.weights == pytest.approx(expected, rel=1e-6)


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match=r"at least the 4 pairs of one update; got 3\. Take more problems"):
        batches.epoch_batches(labelled(3), 4, seed=0, reduction="sum")


def test_the_coin_is_shared_and_fair():
    tossed = [batches.coin(seed, update) for seed in range(4) for update in range(250)]
    assert tossed == [batches.coin(seed, update) for seed in range(4) for update in range(250)]
    heads = sum(tossed)
    assert abs(heads - 500) < 4 * np.sqrt(250)  # four standard deviations, at fixed seeds
    # Neither the same in all seeds nor in turn: one toss says nothing of the next.
    assert len({tuple(tossed[first : first + 250]) for first in range(0, 1000, 250)}) == 4
    follows = Counter(pairwise(tossed))
    assert all(abs(number - 250) < 4 * np.sqrt(1000 * 3 / 16) for number in follows.values())


# Pairs as tokens ------------------------------------------------------------------------------------------------------

CODEC = random_model.codec()  # a token a byte


def preference(name, good, bad="no", prompt="Is it?"):
    return Preference(name, Answer(prompt, good), Answer(prompt, bad))


def encoded(*preferences, **options):
    left_out = Counter()
    options = {"source": "made", "is_chat": False, "max_tokens": 99} | options
    pairs = batches.encode_pairs(preferences, CODEC, left_out=left_out, **options)
    return [pair.id for pair in pairs], dict(left_out), pairs


@pytest.mark.parametrize("is_chat", [False, True])
def test_a_pair_is_left_out_if_one_of_its_texts_is_longer_than_the_most(is_chat):
    around = len("<user\n>\n<assistant\n") + len(">") if is_chat else 0  # of the template; < and > are one token each
    most = around + len("Is it?") + 4
    answers = {"both": ("yes!", "nono"), "first": ("yes!!", "no"), "second": ("yes", "nonon"), "neither": ("y", "n")}
    pairs = [preference(name, *both) for name, both in answers.items()]
    names, left_out, _ = encoded(*pairs, is_chat=is_chat, max_tokens=most)
    assert (names, left_out) == (["both", "neither"], {"too long": 2})


def test_no_more_pairs_are_encoded_than_are_asked_for():
    pairs = [preference(str(n), "yes" if n % 2 else "y" * 200) for n in range(9)]
    names, left_out, _ = encoded(*pairs, most=2)
    assert (names, left_out) == (["1", "3"], {"too long": 2})
    assert encoded(*pairs, most=None)[0] == ["1", "3", "5", "7"]


def test_a_users_message_is_a_question_and_the_answer_begins_with_a_blank_where_there_is_no_template():
    def texts(prompt, is_chat):
        ((_, good, bad),) = encoded(preference("a", "yes", prompt=prompt), is_chat=is_chat)[2]
        return [CODEC.tokenizer.decode(list(ids), skip_special_tokens=False) for ids in (*good, *bad)]

    message = (Message("user", "Is it?"),)
    assert texts(message, False) == ["Question: Is it?\nAnswer:", " yes", "Question: Is it?\nAnswer:", " no"]
    assert texts("Is it?", False) == ["Is it?", "yes", "Is it?", "no"]  # a text is continued as it is
    asked = "<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n"
    assert texts(message, True) == [asked, "yes<|im_end|>", asked, "no<|im_end|>"]
    several = (Message("system", "Be brief."), *message)
    with pytest.raises(ValueError, match="pair a: messages must be put into the chat template"):
        texts(several, False)


# Another source -------------------------------------------------------------------------------------------------------


def rollouts(update):
    """Eight answers to four questions, and their advantages: of each group the mean is 0 and the variance 1."""
    rng = np.random.default_rng([7, update])
    questions = [bag_of_words.text(rng).prompt for _ in range(4)]
    texts = [Encoded(question, bag_of_words.text(rng).completion) for question in questions for _ in "ab"]
    rewards = rng.normal(size=8)
    return texts, (rewards - rewards.mean()) / rewards.std()


def groups(asked):
    """On-policy groups: as many rows in either half at every update, those of the other sign at weight 0."""

    def source(update, params):
        asked.append(params)
        texts, advantages = rollouts(update)
        return PairBatch(
            tokens.batch(texts, np.maximum(advantages, 0).tolist(), shape=(8, 4)),
            tokens.batch(texts, np.maximum(-advantages, 0).tolist(), shape=(8, 4)),
        )

    return source


def test_advantages_go_through_the_same_step():
    """A step on the mean of both halves is one ascent of sum_i A_i log p_i at half the rate; signs are the halves'."""
    asked = []
    source = groups(asked)
    arm = arms.parse("accumulated:optimizer=sgd")
    step = train_step.make_step(arm, arms.Hyperparams(), 0.2, arm_update.likelihood(bag_of_words.loss))
    state = train_step.initial_state(arm, arms.Hyperparams(), bag_of_words.params(), None)
    _, _, tree = bag_of_words.sides(bag_of_words.halves())
    theta = vector(PARAMS)
    for update in range(3):
        state, info = step(state, bag_of_words.params(), source(update, state.params), True)
        texts, advantages = rollouts(update)
        assert (advantages > 0).any()
        assert (advantages < 0).any()

        def objective(at, texts=texts, weights=advantages.astype(np.float32)):  # noqa: B008
            return bag_of_words.log_probs(tree(at), tokens.batch(texts, shape=(8, 4))) @ weights

        theta = theta + 0.1 * np.asarray(jax.grad(objective)(theta))
        assert_equal_to_round_off(vector(state.params), theta)
        assert [side.log_probs.shape for side in sides_of(info)] == [(8,), (8,)]
        assert bool(info.is_finite)
    assert len(asked) == 3
    assert not np.array_equal(vector(PARAMS), theta)
