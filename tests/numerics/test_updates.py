"""Real updates against loops that do nothing clever, and against exact rational descent."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numerics import losses, optimizers, problems, schedules, updates
from numerics.epoch import Epoch
from numerics.types import Reduction
from tests.support.rounding import assert_equal_to_round_off, flat

N = 2
ADAMW = optax.adamw(1.0, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.1)
CHAIN = optax.chain(optax.clip_by_global_norm(0.5), optax.trace(0.7), optax.scale(-1.0))


def loss_by_hand(made, number):
    """The loss with this number, found without the code under test."""
    side, k = divmod(number, made.losses.counts[0])
    batch = jax.tree.map(lambda leaf: leaf[k], made.losses.batches[side])
    return lambda params: made.losses.functions[side](params, batch)


def trained(made, numbers, rule, step_size, scales=None, group=1, state=None):
    """A plain training loop, with parameters that really move, at the rate that the step asks for."""
    params, state = made.params, rule.init(made.params) if state is None else state
    scales = np.ones(len(numbers)) if scales is None else scales
    for first in range(0, len(numbers), group):
        gradient = jax.tree.map(jnp.zeros_like, params)
        for number, scale in zip(numbers[first : first + group], scales[first : first + group], strict=True):
            weight = 1.0 if group == 1 else scale
            one = jax.grad(loss_by_hand(made, number))(params)
            gradient = jax.tree.map(lambda total, g, w=weight: total + w * g, gradient, one)
        update, state = rule.update(gradient, state, params)
        rate = step_size * (scales[first] if group == 1 else 1.0)
        params = jax.tree.map(lambda p, u, r=rate: p + r * u, params, update)
    return params, state


@pytest.mark.parametrize("problem", ["polynomial", "mlp"])
@pytest.mark.parametrize("rule", [optimizers.gradient_descent(), ADAMW, CHAIN], ids=["sgd", "adamw", "clipped trace"])
def test_sequential_updates_are_a_training_loop(problem, rule):
    made = problems.make(problem, N, seed=1)
    schedule = schedules.with_scales(schedules.interleaved(N, first="+"), [0.5, 1.0, 2.0, 1.0])
    update = updates.sequential(Epoch(made.losses, schedule, rule, made.params), step_size=0.01)
    params, state = trained(made, [2, 0, 3, 1], rule, 0.01, scales=[0.5, 1.0, 2.0, 1.0])
    expected = jax.tree.map(jnp.subtract, params, made.params)
    assert_equal_to_round_off(update.displacement, expected, scale=1.0)
    assert_equal_to_round_off(update.state, state, scale=np.abs(flat(state)).max(initial=0.0))


@pytest.mark.parametrize("rule", [optimizers.gradient_descent(), ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize(("per", "group"), [("schedule", 4), ("pair", 2)])
def test_accumulated_updates_read_gradients_at_one_place(rule, per, group):
    made = problems.make("mlp", N, seed=2)
    schedule = schedules.interleaved(N, first="-")
    update = updates.accumulated(
        Epoch(made.losses, schedule, rule, made.params), step_size=0.01, per=per, reduction="sum"
    )
    params, _ = trained(made, [0, 2, 1, 3], rule, 0.01, group=group)
    assert_equal_to_round_off(update.displacement, jax.tree.map(jnp.subtract, params, made.params), scale=1.0)
    mean = updates.accumulated(
        Epoch(made.losses, schedule, rule, made.params), step_size=0.01, per=per, reduction="mean"
    )
    if rule is optimizers.gradient_descent() and per == "schedule":
        assert_equal_to_round_off(mean.displacement, jax.tree.map(lambda d: d / 4, update.displacement))
    assert flat(mean.displacement).any()


def test_accumulated_weights_are_the_scales():
    made = problems.make("quadratic", N, seed=3)
    schedule = schedules.with_scales(schedules.blocks(N, first="-"), [1.0, 2.0, 3.0, 0.5])
    rule = optimizers.gradient_descent()
    update = updates.accumulated(
        Epoch(made.losses, schedule, rule, made.params), step_size=0.1, per="schedule", reduction="sum"
    )
    gradients = [jax.grad(loss_by_hand(made, b))(made.params)["x"] for b in range(4)]
    expected = -0.1 * sum(s * g for s, g in zip([1.0, 2.0, 3.0, 0.5], gradients, strict=True))
    assert_equal_to_round_off(update.displacement, {"x": expected})


@pytest.mark.parametrize("rule", [optimizers.gradient_descent(), ADAMW, CHAIN], ids=["sgd", "adamw", "clipped trace"])
def test_a_word_with_brackets_is_its_updates_one_after_the_other(rule):
    made = problems.make("mlp", N, seed=3)
    word = schedules.word("-(+-:3)(+)", made.losses.names, made.losses.counts)
    assert word.sizes == (1, 2, 1)
    reductions: tuple[tuple[Reduction, float], ...] = (("sum", 1.0), ("mean", 0.5))
    for reduction, weight in reductions:
        update = updates.sequential(Epoch(made.losses, word, rule, made.params), step_size=0.01, reduction=reduction)
        # The rule sees gradients with weights of mean one, and makes a step of their mean scale, 2.
        params, state = trained(made, [0], rule, 0.01)
        params, state = trained(
            made._replace(params=params), [2, 1], rule, 0.02, [weight / 2, 3 * weight / 2], 2, state
        )
        params, state = trained(made._replace(params=params), [3], rule, 0.01, state=state)
        assert_equal_to_round_off(update.displacement, jax.tree.map(jnp.subtract, params, made.params), scale=1.0)
        assert_equal_to_round_off(update.state, state, scale=np.abs(flat(state)).max(initial=0.0))
        assert update.info.values.shape == (4,)
        assert update.info.update_norms.shape == (3,)


def test_a_function_of_the_rate_is_asked_at_the_rate_of_each_update():
    """The clip stands behind the rate, so that no other rate moves the parameters alike."""

    def rule(rate):
        return optax.chain(optax.sgd(rate, momentum=0.7), optax.clip(0.01))

    made = problems.make("mlp", N, seed=3)
    word = schedules.word("-:2(+-:3)+:1/2", made.losses.names, made.losses.counts)
    update = updates.sequential(Epoch(made.losses, word, rule, made.params), step_size=0.01)
    params, state, norms = made.params, rule(0.0).init(made.params), []
    # The rule sees gradients with weights of mean one, at the mean scale.
    for scale, group in ((2.0, {0: 1.0}), (2.0, {2: 0.5, 1: 1.5}), (0.5, {3: 1.0})):
        total = jax.tree.map(jnp.zeros_like, params)
        for number, weight in group.items():
            gradient = jax.grad(loss_by_hand(made, number))(params)
            total = jax.tree.map(lambda sum_, g, w=weight: sum_ + w * g, total, gradient)
        by, state = rule(0.01 * scale).update(total, state, params)
        params = optax.apply_updates(params, by)
        norms.append(optax.tree.norm(by))
    assert_equal_to_round_off(update.displacement, jax.tree.map(jnp.subtract, params, made.params), scale=1.0)
    assert_equal_to_round_off(update.info.update_norms, np.array(norms))


@pytest.mark.parametrize("every", [1, 2, 3, 6])
def test_every_k_steps_are_those_of_a_peer(every):
    """Optax's own accumulation averages over micro-batches and steps once a group; it adds up in float32."""
    made = problems.make("polynomial", 3, seed=6)
    schedule = schedules.interleaved(3, first="+")
    update = updates.accumulated(
        Epoch(made.losses, schedule, ADAMW, made.params), step_size=0.01, per=every, reduction="mean"
    )
    peer = optax.MultiSteps(optax.chain(ADAMW, optax.scale(0.01)), every)
    params, state = made.params, peer.init(made.params)
    for number in schedule.losses.tolist():
        by, state = peer.update(jax.grad(loss_by_hand(made, number))(params), state, params)
        params = optax.apply_updates(params, by)
    displacement = jax.tree.map(jnp.subtract, params, made.params)
    assert_equal_to_round_off(update.displacement, displacement, operations=10, dtype=np.float32)


def test_two_halves_make_a_whole():
    """The state carries everything that the next update needs."""
    made = problems.make("mlp", N, seed=4)
    whole = schedules.interleaved(N, first="-")
    halves = [schedules.Schedule(whole.losses[i : i + 2], whole.scales[i : i + 2]) for i in (0, 2)]
    first = updates.sequential(Epoch(made.losses, halves[0], ADAMW, made.params), step_size=0.01)
    between = updates.displaced(made.params, first.displacement)
    second = updates.sequential(Epoch(made.losses, halves[1], ADAMW, between, first.state), step_size=0.01)
    both = jax.tree.map(jnp.add, first.displacement, second.displacement)
    update = updates.sequential(Epoch(made.losses, whole, ADAMW, made.params), step_size=0.01)
    assert_equal_to_round_off(both, update.displacement, scale=1.0)


def test_info_is_what_was_read():
    made = problems.make("softmax", 1, seed=5)
    schedule = schedules.with_scales(schedules.interleaved(1, first="-"), [1.0, 3.0])
    rule = optimizers.gradient_descent()
    update = updates.sequential(Epoch(made.losses, schedule, rule, made.params), step_size=0.3)
    minus, plus = (loss_by_hand(made, b) for b in (0, 1))
    after = jax.tree.map(lambda p, g: p - 0.3 * g, made.params, jax.grad(minus)(made.params))
    values = [minus(made.params), plus(after)]
    norms = [optax.tree.norm(jax.grad(minus)(made.params)), optax.tree.norm(jax.grad(plus)(after))]
    assert_equal_to_round_off(update.info.values, values)
    assert_equal_to_round_off(update.info.gradient_norms, norms)
    assert_equal_to_round_off(update.info.update_norms, 0.3 * np.array(norms) * [1, 3])


def test_updates_can_be_vectorised_over_schedules_and_step_sizes():
    made = problems.make("logistic", 3, seed=6)
    rule = optimizers.gradient_descent()
    words = np.array([[0, 3, 1, 4, 2, 5], [3, 0, 5, 2, 4, 1]], np.int32)
    sizes = np.array([0.1, 0.2])

    def run(word, size):
        schedule = schedules.Schedule(word, jnp.ones(6))
        return updates.sequential(Epoch(made.losses, schedule, rule, made.params), step_size=size).displacement

    together = jax.jit(jax.vmap(run))(words, sizes)
    for i in range(2):
        alone = updates.sequential(Epoch(made.losses, schedules.steps(words[i]), rule, made.params), step_size=sizes[i])
        assert_equal_to_round_off(jax.tree.map(lambda leaf, i=i: leaf[i], together), alone.displacement)


def equations(jaxpr):
    """The number of equations of a program, with those of its loops."""
    inner = [p for e in jaxpr.eqns for p in jax.tree.leaves(list(e.params.values())) if hasattr(p, "eqns")]
    inner += [p.jaxpr for e in jaxpr.eqns for p in jax.tree.leaves(list(e.params.values())) if hasattr(p, "jaxpr")]
    return len(jaxpr.eqns) + sum(map(equations, inner))


@pytest.mark.parametrize("is_opposite", [False, True])
def test_the_program_does_not_grow_with_the_number_of_pairs(is_opposite):
    def program(num_pairs):
        made = problems.make("mlp", num_pairs, seed=0, is_opposite=is_opposite)
        schedule = schedules.interleaved(num_pairs, first="-")

        def run(params):
            return updates.sequential(
                Epoch(made.losses, schedule, optimizers.gradient_descent(), params), step_size=0.1
            )

        return equations(jax.make_jaxpr(run)(made.params).jaxpr)

    assert program(4) == program(512)


def test_losses_of_different_kinds():
    """Two functions on data of two shapes and one without data: chosen by kind, numbered one after the other."""
    features = jnp.arange(6.0).reshape(3, 2)

    def linear(params, row):
        return params["x"] @ row

    def cubic(params, factor):
        return factor * jnp.sum(params["x"] ** 3)

    def bare(params, batch):
        assert batch is None
        return jnp.sum(params["x"] ** 2)

    mixed = losses.Losses((linear, cubic, bare), (features, jnp.array([2.0, 5.0]), None), ("row", "cube", "bare"))
    params = {"x": jnp.array([1.0, -2.0])}
    x = np.array([1.0, -2.0])
    expected = [*np.asarray(features), 6 * x**2, 15 * x**2, 2 * x]
    assert mixed.counts == (3, 2, 1)
    for number, gradient in enumerate(expected):
        assert_equal_to_round_off(mixed.gradient(params, jnp.asarray(number)), {"x": gradient})
    schedule = schedules.word("row,cube,row,bare,row,cube,bare,row", mixed.names, mixed.counts)
    assert schedule.losses.tolist() == [0, 3, 1, 5, 2, 4, 5, 0]


def test_a_negated_loss_is_the_negative_and_back():
    made = problems.make("logistic", 2, seed=0, is_opposite=True)
    minus, plus = made.losses.functions
    assert losses.negated(minus) is plus
    first = jax.tree.map(lambda leaf: leaf[0], made.losses.batches[0])
    assert made.losses.value(made.params, jnp.asarray(0)) == -plus(made.params, first)


@given(st.integers(1, 6), st.sampled_from("-+"), st.randoms(use_true_random=False))
def test_every_schedule_of_pairs_uses_each_loss_once(num_pairs, first, random):
    order = random.sample(range(num_pairs), num_pairs)
    other = random.sample(range(num_pairs), num_pairs)
    for schedule in (
        schedules.interleaved(num_pairs, first=first),
        schedules.interleaved(num_pairs, first=first, order=order),
        schedules.interleaved(num_pairs, first=first, order=order, other_order=other),
        schedules.blocks(num_pairs, first=first),
        schedules.reverse(schedules.blocks(num_pairs, first=first)),
    ):
        assert sorted(schedule.losses.tolist()) == list(range(2 * num_pairs))
    assert (schedules.interleaved(num_pairs, first=first, order=order).losses[0] < num_pairs) == (first == "-")
    joint = schedules.interleaved(num_pairs, first=first, order=order).losses.reshape(-1, 2)
    assert {abs(a - b) for a, b in joint.tolist()} == {num_pairs}
    both = schedules.palindrome(schedules.interleaved(num_pairs, first=first, order=order)).losses
    assert (both == both[::-1]).all()


def test_brackets_are_reversed_with_their_steps():
    word = schedules.word("-(+-:3)", ("-", "+"), (2, 2))
    backwards = schedules.reverse(word)
    assert (backwards.losses.tolist(), backwards.scales.tolist(), backwards.sizes) == ([1, 2, 0], [3, 1, 1], (2, 1))
    both = schedules.palindrome(word)
    assert (both.losses.tolist(), both.scales.tolist()) == ([0, 2, 1, 1, 2, 0], [1, 1, 3, 3, 1, 1])
    assert both.sizes == (1, 2, 2, 1)
    one = schedules.grouped(word, 3)
    assert (one.losses.tolist(), one.scales.tolist(), one.sizes) == ([0, 2, 1], [1, 1, 3], (3,))


def test_the_step_may_be_zero_and_the_rule_is_not_asked_twice():
    """A step size of zero moves nothing; the state moves on all the same, as a real optimizer's would."""
    made = problems.make("mlp", N, seed=0)
    update = updates.sequential(
        Epoch(made.losses, schedules.interleaved(N, first="-"), ADAMW, made.params), step_size=0.0
    )
    assert not flat(update.displacement).any()
    counts = [leaf for leaf in jax.tree.leaves(update.state) if jnp.issubdtype(leaf.dtype, jnp.integer)]
    assert [int(count) for count in counts] == [2 * N]


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.01, 100.0))
def test_scaling_every_loss_is_scaling_the_step(seed, factor):
    """For gradient descent: losses times c at step_size / c move alike."""
    made = problems.make("polynomial", N, seed=seed)
    schedule = schedules.interleaved(N, first="-")
    rule = optimizers.gradient_descent()
    scaled = losses.pairs(
        problems.polynomial_loss,
        factor * made.losses.batches[0],
        problems.polynomial_loss,
        factor * made.losses.batches[1],
    )
    once = updates.sequential(Epoch(made.losses, schedule, rule, made.params), step_size=0.01)
    other = updates.sequential(Epoch(scaled, schedule, rule, made.params), step_size=0.01 / factor)
    assert_equal_to_round_off(other.displacement, once.displacement, scale=1.0)


# What losses tell, what is observed, and what is done to each gradient ----------------------------------------------


def cubes(params, batch):
    """A loss that is no quadratic, with the batch and two numbers of the place told beside it."""
    value = batch["c"] * jnp.sum(params["x"] ** 3) + params["x"] @ batch["a"]
    return value, {"batch": batch["c"], "at": params["x"]}


def told_pairs(is_one_function):
    """Pairs with aux whose L- is negated, of one function or of two that are chosen by `lax.switch`."""
    rng = np.random.default_rng(0)
    sides = [{"c": jnp.asarray(rng.normal(size=N)), "a": jnp.asarray(rng.normal(size=(N, 2)))} for _ in "-+"]

    def quartics(params, batch):
        return batch["c"] * jnp.sum(params["x"] ** 4), {"batch": batch["c"], "at": params["x"]}

    minus = losses.negated(cubes if is_one_function else quartics)
    made = losses.pairs(minus, sides[0], cubes, sides[1], has_aux=True)
    x = np.array([0.7, -1.1])

    def gradient(number, at):
        side, k = divmod(number, N)
        c, a = np.asarray(sides[side]["c"])[k], np.asarray(sides[side]["a"])[k]
        if side == 1 or is_one_function:
            return (-1) ** (side == 0) * (3 * c * at**2 + a)
        return -4 * c * at**3

    return made, {"x": jnp.asarray(x)}, gradient, [float(sides[b // N]["c"][b % N]) for b in range(2 * N)]


@pytest.mark.parametrize("is_one_function", [True, False], ids=["one function", "two"])
def test_what_losses_tell_arrives_step_by_step_and_without_their_sign(is_one_function):
    made, params, gradient, constants = told_pairs(is_one_function)
    word = [1, 3, 0, 2]
    at, places = np.asarray(params["x"]), []
    for number in word:
        places.append(at)
        at = at - 0.05 * gradient(number, at)
    rule = optimizers.gradient_descent()
    update = updates.sequential(Epoch(made, schedules.steps(word), rule, params), step_size=0.05)
    assert update.info.aux["batch"].tolist() == [constants[number] for number in word]
    assert_equal_to_round_off(update.info.aux["at"], np.stack(places))
    assert_equal_to_round_off(update.displacement, {"x": at - np.asarray(params["x"])}, scale=1.0)
    together = updates.accumulated(
        Epoch(made, schedules.steps(word), rule, params), step_size=0.05, per="pair", reduction="sum"
    )
    assert together.info.aux["batch"].tolist() == [constants[number] for number in word]
    assert (together.info.aux["at"][0] == together.info.aux["at"][1]).all()
    assert (together.info.aux["at"][1] != together.info.aux["at"][2]).all()


def test_losses_that_tell_nothing_have_no_aux_and_wrong_ones_are_refused():
    made = problems.make("quadratic", N, seed=0)
    rule = optimizers.gradient_descent()
    word = schedules.interleaved(N, first="-")
    info = updates.sequential(Epoch(made.losses, word, rule, made.params), step_size=0.1).info
    assert info.aux is None
    assert info.stats is None
    silent = losses.Losses(made.losses.functions, made.losses.batches, made.losses.names, has_aux=True)
    with pytest.raises(TypeError, match="must return a pair, as has_aux says"):
        updates.sequential(Epoch(silent, word, rule, made.params), step_size=0.1)


def inner_product(gradient, before):
    return optax.tree.vdot(gradient, before)


@pytest.mark.parametrize("per", ["step", "pair", "schedule"])
def test_observed_products_add_up_to_those_of_all_pairs_of_steps(per):
    made, params, gradient, _ = told_pairs(is_one_function=True)
    word, step = [0, 2, 1, 3], 0.05
    rule = optimizers.gradient_descent()
    size = {"step": 1, "pair": 2, "schedule": 4}[per]
    at, read = np.asarray(params["x"]), []
    for first in range(0, 4, size):
        group = [gradient(number, at) for number in word[first : first + size]]
        read += group
        at = at - step * sum(group)
    expected = sum(read[i] @ read[j] for j in range(4) for i in range(j))

    def run(**more):
        if per == "step":
            return updates.sequential(Epoch(made, schedules.steps(word), rule, params), step_size=step, **more)
        return updates.accumulated(
            Epoch(made, schedules.steps(word), rule, params), step_size=step, per=per, reduction="sum", **more
        )

    seen, plain = run(gradient_stats=inner_product), run()
    assert seen.info.stats.shape == (4,)
    assert seen.info.stats[0] == 0
    assert_equal_to_round_off(seen.info.stats[1], read[0] @ read[1], scale=sum(g @ g for g in read))
    assert_equal_to_round_off(seen.info.stats.sum(), expected, scale=sum(g @ g for g in read))
    # Looking changes nothing, to the last bit.
    for one, other in zip(jax.tree.leaves(seen._replace(info=seen.info._replace(stats=None))),
                          jax.tree.leaves(plain), strict=True):  # fmt: skip
        assert (np.asarray(one) == np.asarray(other)).all()


def clipped(gradient):
    """To a norm of one, written out."""
    size = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(size, 1.0), gradient)


def test_each_gradient_is_clipped_before_they_are_added_up():
    made, params, gradient, _ = told_pairs(is_one_function=True)
    word, start = [0, 2, 1, 3], np.asarray(params["x"])
    read = [gradient(number, start) for number in word]
    assert min(map(np.linalg.norm, read)) < 1 < max(map(np.linalg.norm, read))  # some are clipped and some not
    by_hand = -0.1 * sum(g / max(1.0, np.linalg.norm(g)) for g in read)
    rule = optimizers.gradient_descent()
    epoch = Epoch(made, schedules.steps(word), rule, params)
    options = {"transform_gradient": clipped, "gradient_stats": inner_product}
    made_of = updates.accumulated(epoch, step_size=0.1, per="schedule", reduction="sum", **options)
    assert_equal_to_round_off(made_of.displacement, {"x": by_hand})
    # What is observed is the gradient as it was read.
    assert_equal_to_round_off(made_of.info.stats[1], read[0] @ read[1], scale=sum(g @ g for g in read))
    at = start
    for number in word:
        g = gradient(number, at)
        at = at - 0.1 * g / max(1.0, np.linalg.norm(g))
    one_by_one = updates.sequential(
        Epoch(made, schedules.steps(word), rule, params), step_size=0.1, transform_gradient=clipped
    )
    assert_equal_to_round_off(one_by_one.displacement, {"x": at - start}, scale=1.0)
