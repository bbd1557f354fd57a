"""Arms against loops by hand: what each makes of the same halves, with plain numpy and an AdamW written out."""

from dataclasses import replace
from functools import cache
from math import sqrt

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import arms
from experiments.arms import Arm, Hyperparams
from experiments.training import arm_update, train_step
from experiments.training.batches import PairBatch
from numerics import optimizers, updates
from numerics.epoch import Epoch
from numerics.rules import at_rate
from tests.oracles import bag_of_words
from tests.oracles.bag_of_words import vector
from tests.support.rounding import assert_equal_to_round_off

ETA = 0.05
# Far from every default, and with an epsilon that counts.
RULE = Hyperparams(b1=0.8, b2=0.9, eps=1e-2, eps_root=1e-4, weight_decay=0.3, momentum=0.7, max_norm=0.5)
HALVES = bag_of_words.halves()
PARAMS = bag_of_words.params()
OBJECTIVE = arm_update.likelihood(bag_of_words.loss)
PLUS, MINUS, TREE = bag_of_words.sides(HALVES)
G_PLUS, G_MINUS = jax.jit(jax.grad(PLUS)), jax.jit(jax.grad(MINUS))
START = vector(PARAMS)


@cache
def compiled(arm, rule, is_as_written):
    """One compiled update, whatever eta and the halves are."""

    @jax.jit
    def one(params, state, halves, eta, second):
        losses = arm_update.losses_of(arm, eta, OBJECTIVE, halves, PARAMS)
        schedule = arm_update.schedule_of(arm, is_as_written)
        epoch = Epoch(losses, schedule, arm_update.optimizer(arm, rule, second), params, state)
        return arm_update.update(arm, rule, eta, epoch)

    return one


def stepped(arm, rule=RULE, *, eta=ETA, halves=HALVES, num_updates=1, is_as_written=True, second=None):
    """Parameters after real updates, as a vector, minus those of the start."""
    params, state = PARAMS, at_rate(arm_update.optimizer(arm, rule, second), 1.0).init(PARAMS)
    for _ in range(num_updates):
        made = compiled(arm, rule, is_as_written)(params, state, halves, eta, second)
        params, state = updates.displaced(params, made.displacement), made.state
    return vector(params) - START


class AdamW:
    """Loshchilov & Hutter 2019, algorithm 2, as it is printed."""

    def __init__(self, b1, b2, eps, eps_root, decay):
        self.b1, self.b2, self.eps, self.eps_root, self.decay = b1, b2, eps, eps_root, decay
        self.t, self.m, self.v = 0, 0.0, 0.0

    def __call__(self, theta, gradient, rate):
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * gradient
        self.v = self.b2 * self.v + (1 - self.b2) * gradient**2
        m, v = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return theta - rate * (m / (np.sqrt(v + self.eps_root) + self.eps) + self.decay * theta)


class Descent:
    def __call__(self, theta, gradient, rate):
        return theta - rate * gradient


class HeavyBall:
    velocity = 0.0

    def __call__(self, theta, gradient, rate):
        self.velocity = 0.7 * self.velocity + gradient
        return theta - rate * self.velocity


def both(theta):
    return (np.asarray(G_PLUS(theta)) + np.asarray(G_MINUS(theta))) / 2


def by_hand(rule, rate, sides, num_updates=1):
    """Sides one after the other, each at the given rate: gradients are read where the step before has led."""
    theta = START
    for _ in range(num_updates):
        for side in sides:
            theta = rule(theta, np.asarray(side(theta)), rate)
    return theta - START


def adamw():
    return AdamW(0.8, 0.9, 1e-2, 1e-4, 0.3)


CASES = [
    ("accumulated:optimizer=sgd", Descent, ETA, [both]),
    ("sequential:optimizer=sgd", Descent, ETA / sqrt(2), [G_PLUS, G_MINUS]),
    ("sequential-matched:optimizer=sgd", Descent, ETA / 2, [G_PLUS, G_MINUS]),
    ("sequential-full-rate:optimizer=sgd", Descent, ETA, [G_PLUS, G_MINUS]),
    ("sequential-minus-first:optimizer=sgd", Descent, ETA / sqrt(2), [G_MINUS, G_PLUS]),
    ("preferred-only:optimizer=sgd", Descent, ETA, [G_PLUS]),
    ("accumulated:optimizer=heavy-ball", HeavyBall, ETA, [both]),
    ("sequential:optimizer=heavy-ball", HeavyBall, ETA / sqrt(2), [G_PLUS, G_MINUS]),
    ("accumulated", adamw, ETA, [both]),
    ("sequential", adamw, ETA / sqrt(2), [G_PLUS, G_MINUS]),
    # Malladi et al. for half the batch: 1 - b1 and 1 - b2 halved, epsilon times sqrt(2).
    ("sequential-sqrt-rule", lambda: AdamW(0.9, 0.95, sqrt(2) * 1e-2, 1e-4, 0.3), ETA / sqrt(2), [G_PLUS, G_MINUS]),
    ("preferred-only", adamw, ETA, [G_PLUS]),
    # As much decay per update as the accumulated arm has: 0.3 in one step of eta.
    ("sequential:decay=update", lambda: AdamW(0.8, 0.9, 1e-2, 1e-4, 0.3 / sqrt(2)), ETA / sqrt(2), [G_PLUS, G_MINUS]),
]


@pytest.mark.parametrize(("text", "rule", "rate", "sides"), CASES, ids=[case[0] for case in CASES])
def test_two_updates_of_an_arm_are_a_loop_by_hand(text, rule, rate, sides):
    got = stepped(arms.parse(text), num_updates=2)
    assert_equal_to_round_off(got, by_hand(rule(), rate, sides, num_updates=2), scale=np.abs(START).max())
    assert np.abs(got).max() > 1e-3


@pytest.mark.parametrize(
    ("text", "own"),
    [("accumulated:optimizer=optax.sgd", "accumulated:optimizer=sgd"),
     ("sequential:optimizer=optax.sgd:momentum=0.7", "sequential:optimizer=heavy-ball"),
     ("+-:optimizer=optax.adamw:b1=0.8;b2=0.9;eps=0.01;eps_root=0.0001;weight_decay=0.3", "+-")],
)  # fmt: skip
def test_an_import_path_is_the_rule_of_the_same_numbers(text, own):
    arm, like = arms.parse(text), PARAMS
    step = train_step.make_step(arm, RULE, ETA, OBJECTIVE)
    after, _ = step(train_step.initial_state(arm, RULE, like, None, ETA), like, HALVES, True)
    assert_equal_to_round_off(vector(after.params) - START, stepped(arms.parse(own)), scale=np.abs(START).max())


def test_a_function_of_the_rate_is_stepped_at_the_rate_of_the_arm():
    """Fromage by hand: the rate is in a square root too. Its arrays are the matrices of each layer."""
    arm = arms.parse("preferred-only:optimizer=optax.fromage,rate=1/2")
    step = train_step.make_step(arm, RULE, ETA, OBJECTIVE)
    after, _ = step(train_step.initial_state(arm, RULE, PARAMS, None, ETA), PARAMS, HALVES, True)
    gradient = TREE(np.asarray(G_PLUS(START)))

    def fromage(theta, g):
        theta, g = np.asarray(theta), np.asarray(g)
        step = ETA / 2 * g * max(np.linalg.norm(theta), 1e-6) / max(np.linalg.norm(g), 1e-6)
        return (theta - step) / np.sqrt(1 + (ETA / 2) ** 2)

    for name in ("embedding", "norm"):
        assert_equal_to_round_off(after.params[name], fromage(PARAMS[name], gradient[name]), operations=100)
    for layer in range(bag_of_words.NUM_LAYERS):
        expected = fromage(PARAMS["layers"]["w"][layer], gradient["layers"]["w"][layer])
        assert_equal_to_round_off(after.params["layers"]["w"][layer], expected, operations=100)


def test_the_coin_decides_where_the_start_is_random():
    arm = arms.parse("sequential-random-start:optimizer=sgd,rate=eta/2")
    for is_as_written, sides in ((True, [G_PLUS, G_MINUS]), (False, [G_MINUS, G_PLUS])):
        got = stepped(arm, is_as_written=is_as_written)
        assert_equal_to_round_off(got, by_hand(Descent(), ETA / 2, sides), scale=np.abs(START).max())


def clip(gradient, most=0.5):
    return gradient * min(1.0, most / np.linalg.norm(gradient))


@pytest.mark.parametrize("clipping", ["update", "step"])
def test_clipping_is_of_the_mean_or_of_its_parts(clipping):
    plus, minus = np.asarray(G_PLUS(START)), np.asarray(G_MINUS(START))
    # Both clips must bite, or the test is of nothing.
    assert min(map(np.linalg.norm, (plus / 2, minus / 2))) > 0.1
    most = 0.1
    expected = {
        "update": clip((plus + minus) / 2, most),
        "step": (clip(plus, most) + clip(minus, most)) / 2,
    }[clipping]
    got = stepped(arms.parse(f"accumulated:optimizer=sgd,clipping={clipping}"), replace(RULE, max_norm=most))
    assert_equal_to_round_off(got, -ETA * expected, scale=np.abs(START).max())
    one_by_one = stepped(
        arms.parse(f"sequential-full-rate:optimizer=sgd,clipping={clipping}"), replace(RULE, max_norm=most)
    )
    middle = START - ETA * clip(plus, most)
    end = middle - ETA * clip(np.asarray(G_MINUS(middle)), most)
    assert_equal_to_round_off(one_by_one, end - START, scale=np.abs(START).max())


def test_clipping_comes_before_the_rule():
    """Adam's update of a clipped gradient; clipping what Adam makes of it would be something else."""
    most = 0.1
    assert np.linalg.norm(both(START)) > most
    got = stepped(arms.parse("accumulated:clipping=update"), replace(RULE, max_norm=most))
    expected = by_hand(adamw(), ETA, [lambda theta: clip(both(theta), most)])
    assert_equal_to_round_off(got, expected, scale=np.abs(START).max())


# Weight decay ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "num_steps", "total"),
    [
        ("accumulated", 1, 1.0),
        ("sequential", 2, sqrt(2)),
        ("sequential-full-rate", 2, 2.0),
        ("accumulated:decay=update", 1, 1.0),
        ("sequential:decay=update", 2, 1.0),
        ("sequential-full-rate:decay=update", 2, 1.0),
        ("sequential:decay=update,optimizer=frozen-adamw", 2, 1.0),
    ],
)
def test_decay_per_update(text, num_steps, total):
    """Where all gradients are zero only decay is left: 0.3 eta of the parameters per update, or more at each step."""
    nothing = PairBatch(*(half._replace(weights=0 * half.weights) for half in HALVES))
    second = jax.tree.map(np.ones_like, PARAMS) if "frozen" in text else None
    got = stepped(arms.parse(text), halves=nothing, second=second)
    shrunk = (1 - ETA * 0.3 * total / num_steps) ** num_steps
    assert_equal_to_round_off(got, (shrunk - 1) * START, scale=np.abs(START).max())


# The explicit term ----------------------------------------------------------------------------------------------------


def alignment_gradient(theta):
    """grad(g+ . g-) by reverse mode over the inner product itself."""
    return np.asarray(jax.jit(jax.grad(lambda at: jax.grad(PLUS)(at) @ jax.grad(MINUS)(at)))(theta))


@pytest.mark.parametrize("strength", [1.0, 2.0, -2.0])
def test_the_explicit_term_adds_its_gradient(strength):
    plain = stepped(arms.parse("accumulated:optimizer=sgd"))
    more = stepped(arms.parse(f"accumulated-plus-term:optimizer=sgd,term={strength}"))
    expected = strength * ETA**2 / 8 * alignment_gradient(START)
    assert_equal_to_round_off(more - plain, expected, scale=np.abs(START).max())
    assert np.abs(expected).max() > 1e-6


def test_the_term_is_the_drift_that_a_random_start_gives():
    """Mean over both starts of sequential at eta/2, minus accumulated with the term: third order in eta."""
    rates = [0.1 / 2**k for k in range(6)]
    with_term, random = (
        arms.parse(f"{name}:optimizer=sgd,{more}")
        for name, more in (("accumulated-plus-term", "term=1"), ("sequential-random-start", "rate=eta/2"))
    )
    left = []
    for eta in rates:
        starts = [stepped(random, eta=eta, is_as_written=first) for first in (True, False)]
        left.append(np.linalg.norm(sum(starts) / 2 - stepped(with_term, eta=eta)))
    slopes = -np.diff(np.log2(left))
    assert abs(slopes[-3:].mean() - 3) < 0.1
    # And with the other sign it would be of second order.
    opposite = arms.parse("accumulated-minus-term:optimizer=sgd,term=-1")
    wrong = []
    for eta in rates[-2:]:
        starts = [stepped(random, eta=eta, is_as_written=first) for first in (True, False)]
        wrong.append(np.linalg.norm(sum(starts) / 2 - stepped(opposite, eta=eta)))
    assert abs(np.log2(wrong[0] / wrong[1]) - 2) < 0.1


def test_named_term_arms_are_those_of_the_post_s_rate():
    """At eta/sqrt(2) the drift is (eta/sqrt(2))^2/2 grad(g+.g-) = eta^2/4, twice the unit of `term`."""
    assert arms.BY_NAME["accumulated-plus-term"].term == 2
    assert arms.BY_NAME["accumulated-minus-term"].term == -2


# Adam with its second moment frozen -----------------------------------------------------------------------------------


def test_one_frozen_preconditioner_leaves_no_first_order_gap():
    second = train_step.second_moment(OBJECTIVE, PARAMS, [HALVES, bag_of_words.halves(seed=1)])
    squares = [np.asarray(jax.grad(side)(START)) ** 2
               for seed in (0, 1) for side in bag_of_words.sides(bag_of_words.halves(seed=seed))[:2]]  # fmt: skip
    assert_equal_to_round_off(vector(second), sum(squares) / 4)

    rule = replace(RULE, b1=0.0)

    def frozen(text):
        arm = arms.parse(text)
        optimizer = arm_update.optimizer(arm, rule, second)
        several = arm_update.losses_of(arm, ETA, OBJECTIVE, HALVES, PARAMS)
        schedule = arm_update.schedule_of(arm, is_as_written=True)
        epoch = Epoch(several, schedule, optimizer, PARAMS, at_rate(optimizer, 1.0).init(PARAMS))
        unit = updates.unit_displacement(epoch, 0.0, grouping="step", reduction="mean")
        return vector(unit.displacement) * arm.step

    together = frozen("accumulated:optimizer=frozen-adamw")
    divided = both(START) / (np.sqrt(sum(squares) / 4 + 1e-4) + 1e-2)
    assert_equal_to_round_off(together, -(divided + 0.3 * START))
    assert_equal_to_round_off(frozen("sequential-matched:optimizer=frozen-adamw"), together)
    # Adam itself normalises each half alone: its gap is of first order.
    assert np.abs(frozen("sequential-matched") - frozen("accumulated")).max() > 0.1 * np.abs(together).max()


def test_frozen_adamw_must_be_given_its_second_moment():
    with pytest.raises(ValueError, match="must be given a second moment"):
        arm_update.optimizer(arms.parse("accumulated:optimizer=frozen-adamw"), RULE)


# Names and numbers ----------------------------------------------------------------------------------------------------


def test_the_square_root_rule_is_malladi_et_al_s_for_half_the_batch():
    """With kappa = 1/2: rate sqrt(kappa), b = 1 - kappa (1 - b), epsilon / sqrt(kappa)."""
    arm = arms.BY_NAME["sequential-sqrt-rule"]
    own = arms.scaled_hyperparams(arm, Hyperparams())
    assert arm.step == pytest.approx(0.7071067811865476)
    assert (own.b1, own.b2) == pytest.approx((0.95, 0.9995))
    assert own.eps == pytest.approx(1.4142135623730951e-8)
    assert replace(own, b1=0.9, b2=0.999, eps=1e-8) == Hyperparams()
    for other in set(arms.BY_NAME) - {"sequential-sqrt-rule"}:
        assert arms.scaled_hyperparams(arms.BY_NAME[other], RULE) == RULE


def test_gradient_descent_is_the_object_of_the_numerics():
    for name in arms.BY_NAME:
        arm = arms.parse(f"{name}:optimizer=sgd")
        assert arm_update.optimizer(arm, RULE) is optimizers.gradient_descent()


@pytest.mark.parametrize("name", arms.BY_NAME)
def test_every_named_arm_is_what_parsing_gives(name):
    assert arms.parse(name) is not None
    assert arms.parse(name) == arms.BY_NAME[name]
    assert arms.BY_NAME[name].name == name


def test_two_changed_arms_never_share_a_name():
    texts = ["sequential", "sequential:rate=eta", "sequential:rate=eta/2", "sequential:rate=eta,optimizer=sgd",
             "sequential:start=random", "-+:rate=eta/sqrt2", "+-", "(+-)", "+-:1/2", "+-:1,rate=1/2",
             "accumulated:term=0.5", "accumulated:term=-0.5"]  # fmt: skip
    assert len({arms.parse(text).name for text in texts}) == len(texts)
    assert all("/" not in arms.parse(text).name for text in texts)  # it is a folder's
    assert arms.parse("sequential:rate=eta/sqrt2").name == "sequential"  # nothing is changed


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["start", "optimizer", "clipping", "decay", "reduction"]), st.integers(0, 9)))
def test_arms_with_equal_names_are_equal(chosen):
    words = {
        "start": ("word", "random"), "optimizer": ("sgd", "heavy-ball", "adamw", "frozen-adamw"),
        "clipping": ("none", "update", "step"), "decay": ("step", "update"),
        "reduction": ("token-union", "token-half", "sequence", "sum"),
    }  # fmt: skip
    items = [f"{key}={words[key][place % len(words[key])]}" for key, place in chosen.items()]
    one, other = (arms.parse("sequential:" + ",".join(order)) for order in (sorted(items), sorted(items)[::-1]))
    assert replace(one, name="x") == replace(other, name="x")
    given_of = dict(item.split("=") for item in items)
    assert all(getattr(one, key) == value for key, value in given_of.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acumulated", "Did you mean accumulated?"),
        ("sequentail-matched", "Did you mean sequential-matched?"),
        ("", "arm must be one of accumulated"),
        ("sequential:optimiser=sgd", "Did you mean optimizer?"),
        ("sequential:name=x", "by keys among start"),
        ("sequential:rate", "arm.rate must be a positive number or fraction"),
        ("sequential:rate=eta/0", "such as 0.4, 1/3, eta/2 or eta/sqrt2, or sqrt-rule; got 'eta/0'"),
        ("sequential:rate=-1", "arm.rate must be a positive number"),
        ("sequential:first=-", "Its steps are its word: +-, -+, (+-)."),
        ("sequential:sgd", "got 'sgd'"),
        ("+-:optimizer=optax.lion:b1=0.9,b2=0.99", "Semicolons stand between the options of an optimizer."),
        ("+-:optimizer=optax.lion,rate=sqrt-rule", "arm.rate must not be sqrt-rule and arm.decay must be step"),
        ("+-:optimizer=optax.lion,decay=update", "arm.decay must be step for an optimizer by its import path"),
        ("+x", "arm.word must have the letters + (descent on the preferred solutions)"),
        ("k", "arm.word must step a half, + or -; got 'k'"),
        ("(+-", "arm.word must have brackets in pairs"),
        ("+-:1/0", "arm.word must have positive scales behind colons"),
        ("++-:start=random", "arm.start must be word unless the word has as many + as -"),
        ("+-+-:term=1", "arm.term must be 0 unless the update is accumulated from both sides"),
        ("sequential:optimizer=adamx", "Did you mean adam?"),
        ("sequential:rate=eta,rate=eta", "by each key once; got 'rate' twice"),
        ("accumulated:term=much", "arm.term must be a number; got 'much'"),
        ("accumulated:term=nan", "arm.term must be finite"),
        ("accumulated:term=inf", "arm.term must be finite"),
        ("sequential:term=1", "arm.term must be 0 unless the update is accumulated from both sides"),
        ("preferred-only:term=1", "arm.term must be 0 unless"),
    ],
)
def test_arms_that_are_none_are_refused_by_name(text, message):
    with pytest.raises(ValueError, match=r".") as refused:
        arms.parse(text)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"b1": 1.0}, ValueError, "rule.b1 must be less than 1; got 1.0"),
        ({"b2": -0.1}, ValueError, "rule.b2"),
        ({"momentum": 2.0}, ValueError, "rule.momentum"),
        ({"eps": -1e-9}, ValueError, "rule.eps must be at least 0"),
        ({"weight_decay": float("nan")}, ValueError, "rule.weight_decay must be finite"),
        ({"max_norm": 0.0}, ValueError, "rule.max_norm must be positive"),
        ({"b1": "0.9"}, ValueError, "rule.b1 must be a number; got '0.9'"),
        ({"b1": True}, ValueError, "rule.b1 must be a number; got 'True'"),
    ],
)
def test_rules_that_are_none_are_refused(changed, error, message):
    with pytest.raises(error) as refused:
        Hyperparams(**changed)
    assert message in str(refused.value)


def test_an_arm_s_name_can_be_a_folder():
    with pytest.raises(ValueError, match="must be of letters, digits"):
        Arm("a/b", "accumulated")
    with pytest.raises(ValueError, match="must be of letters, digits"):
        Arm("", "accumulated")
