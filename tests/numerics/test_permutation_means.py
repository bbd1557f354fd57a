"""Means over random orders by three routes, and which random orders agree with which."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numerics import averages, comparison, drift, optimizers, problems, random_schedules
from numerics.catalogue import FRAMES
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule
from numerics.types import Frame
from tests.support.rounding import assert_equal_to_round_off, flat, norm

SGD = optimizers.gradient_descent()
ORDERS = {
    "joint -": RandomSchedule("joint", "-"),
    "joint +": RandomSchedule("joint", "+"),
    "joint coin": RandomSchedule("joint", "random"),
    "joint coins": RandomSchedule("joint", "random-per-pair"),
    "independent -": RandomSchedule("independent", "-"),
    "independent coin": RandomSchedule("independent", "random"),
    "independent coins": RandomSchedule("independent", "random-per-pair"),
    "reshuffling": RandomSchedule("all"),
}


mean_of_taylor = jax.jit(
    lambda losses, words, params, state, frame, order: averages.mean_over(
        lambda word: drift.taylor_coefficients(Epoch(losses, word, SGD, params, state), frame, order), words
    ),
    static_argnums=(4, 5),
)


def by_enumeration(made, name, frame, order=2):
    words = random_schedules.chunks(ORDERS[name], made.losses.num_pairs)
    return mean_of_taylor(made.losses, words, made.params, SGD.init(made.params), frame, order)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("num_pairs", [1, 2, 3])
def test_the_closed_form_is_the_enumerated_mean(num_pairs, frame):
    made = problems.make("quadratic", num_pairs, seed=num_pairs, is_opposite=True)
    for name, order in ORDERS.items():
        if num_pairs == 3 and name == "independent coins":
            continue  # 288 words, as many as random starts add: nothing new
        closed = averages.closed_form(made.losses, order, made.params, frame=frame)
        assert_equal_to_round_off(closed, by_enumeration(made, name, frame), scale=10.0)


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_samples_agree_within_their_error(name):
    made = problems.make("logistic", 5, seed=1)
    closed = flat(averages.closed_form(made.losses, ORDERS[name], made.params, frame="accumulated")[1])

    @jax.jit
    def sampled(losses, key):
        def second(word):
            return drift.taylor_coefficients(
                Epoch(losses, word, SGD, made.params, SGD.init(made.params)), "accumulated", 2
            )[1]

        return averages.sample_mean(second, ORDERS[name], 5, key, num_samples=1000)

    estimate = sampled(made.losses, jax.random.key(2))
    mean, error = flat(estimate.mean), flat(estimate.standard_error)
    assert (error > 0).all()
    # Five correlated coordinates with a fixed key: none beyond four standard errors, and the errors are not inflated.
    assert (np.abs(mean - closed) < 4 * error).all()
    assert (error < 0.05 * np.linalg.norm(closed) + 0.05).all()


def test_the_standard_error_is_the_usual_one():
    order = RandomSchedule("all")
    keys = jax.random.split(jax.random.key(3), 50)
    values = np.array([random_schedules.sample(order, 2, key).losses[0] for key in keys], float)
    estimate = averages.sample_mean(
        lambda word: word.losses[0].astype(float), order, 2, jax.random.key(3), num_samples=50
    )
    assert float(estimate.mean) == pytest.approx(values.mean())
    assert float(estimate.standard_error) == pytest.approx(values.std(ddof=1) / np.sqrt(50))


@pytest.mark.parametrize("name", sorted(ORDERS))
@pytest.mark.parametrize("num_pairs", [1, 2])
def test_every_word_is_drawn_as_often_as_it_is_listed(name, num_pairs):
    order = ORDERS[name]
    listed = Counter(map(tuple, random_schedules.enumerate(order, num_pairs).tolist()))
    assert listed.total() == random_schedules.num_words(order, num_pairs)
    draws = jax.vmap(lambda key: random_schedules.sample(order, num_pairs, key).losses)(
        jax.random.split(jax.random.key(4), 4000)
    )
    drawn = Counter(map(tuple, np.asarray(draws).tolist()))
    assert set(drawn) == set(listed)
    for word, times in listed.items():
        share = times / listed.total()
        assert abs(drawn[word] - 4000 * share) <= 5 * np.sqrt(4000 * share * (1 - share))


def test_the_number_of_words():
    assert [random_schedules.num_words(order, 3) for order in ORDERS.values()] == [6, 6, 12, 48, 36, 72, 288, 720]
    assert len(random_schedules.enumerate(RandomSchedule("joint", "random"), 6)) == 1440
    assert random_schedules.num_words(RandomSchedule("independent", "-"), 6) <= random_schedules.MAX_WORDS


def test_a_mean_over_thousands_of_words_keeps_the_digits_of_float32():
    """Against the same mean in float64; a plain float32 sum over the chunks is wrong by ninety units."""
    words = random_schedules.chunks(RandomSchedule("joint", "random-per-pair"), 6)

    def mean(dtype):
        return float(averages.mean_over(lambda word: 1 / (3 + word.losses[:3].astype(dtype)), words)[0])

    assert abs(mean(np.float32) - mean(np.float64)) < 2 * np.finfo(np.float32).eps * mean(np.float64)


# The post's terms -----------------------------------------------------------------------------------------------------


def mean_gradient_norms(made, params):
    """The functions whose gradients eq. (1) speaks of, from the losses alone."""
    n = made.losses.num_pairs
    gradients = [flat_jnp(made.losses.gradient(params, jnp.asarray(b))) for b in range(2 * n)]
    pair_means = [(gradients[k] + gradients[n + k]) / 2 for k in range(n)]
    whole = sum(pair_means) / n
    return (
        whole @ whole,
        sum((m - whole) @ (m - whole) for m in pair_means) / n,
        sum(gradients[k] @ gradients[n + k] for k in range(n)) / n,
    )


def flat_jnp(tree):
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def test_the_terms_of_eq_1_are_gradients_of_what_they_name():
    n, num_steps = 3, 6
    made = problems.make("mlp", n, seed=6, is_opposite=True)
    found = averages.terms(made.losses, made.params)
    of_mean, of_spread, of_product = jax.jit(jax.jacobian(lambda params: mean_gradient_norms(made, params)))(
        made.params
    )
    times = lambda factor, tree: jax.tree.map(lambda leaf: factor * num_steps**2 * leaf, tree)  # noqa: E731
    assert_equal_to_round_off(found.of_mean, times((num_steps - 2) / (4 * num_steps), of_mean), scale=10.0)
    assert_equal_to_round_off(found.of_spread, times(-1 / (2 * num_steps), of_spread), scale=10.0)
    assert_equal_to_round_off(found.boxed, times(1 / (4 * num_steps), of_product), scale=10.0)
    minus_first = by_enumeration(made, "joint -", "accumulated")[1]
    coin = by_enumeration(made, "joint coin", "accumulated")[1]
    added = lambda *trees: jax.tree.map(lambda *leaves: sum(leaves), *trees)  # noqa: E731
    assert_equal_to_round_off(added(*found[:3]), minus_first, scale=10.0)
    assert_equal_to_round_off(added(found.of_mean, found.of_spread, found.boxed), coin, scale=10.0)


def test_a_random_start_is_reshuffling_at_second_order_and_not_at_third():
    for num_pairs in (2, 3):
        made = problems.make("polynomial", num_pairs, seed=8)
        coin = by_enumeration(made, "joint coin", "accumulated", order=3)
        every = by_enumeration(made, "reshuffling", "accumulated", order=3)
        assert_equal_to_round_off(coin[1], every[1], scale=100.0)
        assert norm(jax.tree.map(jnp.subtract, coin[2], every[2])) > 1e-3 * norm(every[2])


def test_in_the_pair_frame_the_coin_leaves_the_boxed_term():
    made = problems.make("mlp", 3, seed=9)
    _, second = averages.closed_form(
        made.losses, RandomSchedule("joint", "random"), made.params, frame="pair-accumulated"
    )
    assert_equal_to_round_off(second, averages.terms(made.losses, made.params).boxed, scale=10.0)


def test_measured_means_have_the_order_of_theory():
    """Real updates over all words, not only their expansions; one fixed start, one coin, all losses shuffled."""
    cases: list[tuple[str, Frame]] = [("sgd", "accumulated"), ("adamw", "pair-accumulated")]
    for rule, frame in cases:
        made = problems.make("logistic", 2, seed=10)
        for order in (RandomSchedule("joint", "-"), RandomSchedule("fixed", "random"), RandomSchedule("all")):
            found = comparison.compare(Epoch(made.losses, order, optimizers.parse(rule), made.params), frame=frame)
            for fit in found.fits:
                assert fit.verdict in ("met", "exact"), fit
