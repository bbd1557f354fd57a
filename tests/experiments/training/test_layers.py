"""Rules that see every layer's matrix apart: the same as Optax on a tree that holds them apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from experiments import arms
from experiments.arms import Hyperparams
from experiments.model import sharding
from experiments.training import arm_update, checkpoint, layers, train_step
from numerics import imported, losses, schedules, updates
from numerics.epoch import Epoch
from numerics.rules import at_rate, is_function_of_rate
from tests.oracles import bag_of_words
from tests.support.rounding import assert_equal_to_round_off, flat

SHAPES = {
    "embedding": (7, 4),
    "layers": {"gate": (2, 4, 6), "norm": (2, 4), "query": (2, 4, 4)},
    "norm": (4,),
}
NUM_UPDATES = 2


def random_tree(seed):
    random = np.random.default_rng(seed)
    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(lambda shape: jnp.asarray(random.normal(size=shape)), SHAPES, is_leaf=is_shape)


PARAMS, GRADIENTS = random_tree(0), [random_tree(1 + k) for k in range(NUM_UPDATES)]
WORD = schedules.steps(range(NUM_UPDATES))


def by_hand(tree):
    """One array for each matrix, by names as trainers have them."""
    apart = {f"layers.{k}.{name}": leaf[k] for name, leaf in tree["layers"].items() for k in range(2)}
    return {"embedding": tree["embedding"], "norm": tree["norm"], **apart}


def linear(gradients):
    """Losses with these gradients, wherever they are read."""
    return losses.of_params([lambda params, g=g: jnp.asarray(optax.tree.vdot(params, g)) for g in gradients])


def moved(rule):
    return updates.sequential(Epoch(linear(GRADIENTS), WORD, rule, PARAMS), step_size=0.1).displacement


def moved_by_optax(optimizer, form=by_hand):
    """A training loop with Optax alone, on separate arrays unless a form says else."""

    @jax.jit
    def loop(start, gradients):
        params, state = start, optimizer.init(start)
        for gradient in gradients:
            update, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, update)
        return jax.tree.map(jnp.subtract, params, start)

    return loop(form(PARAMS), [form(gradient) for gradient in GRADIENTS])


RULES = {
    "muon": optax.contrib.muon,
    "lamb": optax.lamb,
    "adafactor": lambda rate: optax.adafactor(rate, min_dim_size_to_factor=2),
    "lion": optax.lion,
    "a norm of all": lambda rate: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate)),
}
ELEMENTWISE = ("lion", "a norm of all")


@pytest.mark.parametrize("name", RULES)
def test_a_rule_moves_stacked_layers_as_optax_moves_separate_ones(name):
    make = RULES[name]
    apart = moved(layers.per_matrix(make(1.0)))
    assert_equal_to_round_off(by_hand(apart), moved_by_optax(make(0.1)), scale=10.0)
    difference = np.abs(flat(apart) - flat(moved_by_optax(make(0.1), form=lambda tree: tree))).max()
    # Rules that look at whole arrays see others where the layers are stacked: the reason for all this.
    assert (difference < 1e-12) == (name in ELEMENTWISE)


def test_a_function_of_the_rate_stays_one():
    rule = layers.per_matrix(optax.fromage)
    assert is_function_of_rate(rule)
    assert_equal_to_round_off(by_hand(moved(rule)), moved_by_optax(optax.fromage(0.1)), scale=10.0)


def test_a_path_is_built_on_separate_matrices():
    for text, is_function in (("optax.contrib.muon", False), ("optax.fromage", True)):
        rule = layers.build(imported.parse(text), PARAMS)
        assert is_function_of_rate(rule) == is_function
        state = at_rate(rule, 0.1).init(PARAMS)
        shapes = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim]
        assert all(len(shape) < 3 for shape in shapes)


def test_the_expansion_in_the_step_is_that_of_separate_matrices():
    """Losses with curvature, so that every power has a part."""

    def wave(phase):
        def loss(params):
            leaves = jax.tree.leaves(params)
            return jnp.asarray(sum(jnp.sum(jnp.cos(leaf + phase)) / (1 + k) for k, leaf in enumerate(leaves)))

        return loss

    waves = [wave(0.0), wave(1.0)]
    apart = layers.separate(PARAMS)
    separate = losses.of_params(waves)
    together = losses.of_params([lambda params, f=f: f(layers.separate(params)) for f in waves])
    word = schedules.steps([0, 1])
    found, expected = (
        updates.series(Epoch(several, word, rule, params), grouping="step", reduction="sum", order=2)
        for several, rule, params in (
            (together, layers.per_matrix(optax.lamb(1.0)), PARAMS),
            (separate, optax.lamb(1.0), apart),
        )
    )
    assert_equal_to_round_off(found, [layers.stacked(tree) for tree in expected], scale=100.0)


# Runs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["muon", "adafactor", "noisy"])
def test_a_run_steps_saves_and_loads_it(name, tmp_path, monkeypatch):
    """The state of any rule, random keys among it, by the functions of the run; the next update is the same in bits."""
    make = {**RULES, "noisy": lambda rate: optax.noisy_sgd(rate, key=3)}[name]
    monkeypatch.setattr(arm_update, "optimizer", lambda *_, **__: layers.per_matrix(make(1.0)))
    arm, hyperparams, start = arms.BY_NAME["sequential"], Hyperparams(), bag_of_words.params()
    step = train_step.make_step(arm, hyperparams, 0.05, arm_update.likelihood(bag_of_words.loss))
    halves = bag_of_words.halves()
    state, _ = step(train_step.initial_state(arm, hyperparams, start, None), start, halves, True)
    checkpoint.save(tmp_path, 1, state, {})
    loaded, _ = checkpoint.load(tmp_path / "00000001", train_step.state_like(arm, hyperparams, start))
    assert [leaf.dtype for leaf in jax.tree.leaves(loaded)] == [leaf.dtype for leaf in jax.tree.leaves(state)]
    (expected, _), (got, _) = (step(one, start, halves, True) for one in (state, loaded))
    np.testing.assert_array_equal(flat(got.params), flat(expected.params))


def test_moments_of_a_layer_lie_as_the_layers_do():
    mesh = sharding.mesh(devices=jax.devices()[:1])
    spec = PartitionSpec(None, "fsdp", "tensor")
    where = {
        "embedding": PartitionSpec(("tensor", "fsdp")),
        "layers": {"gate": spec, "norm": PartitionSpec(), "query": spec},
        "norm": PartitionSpec(),
    }
    is_spec = lambda node: isinstance(node, PartitionSpec)  # noqa: E731
    params = jax.tree.map(
        lambda spec, leaf: jax.device_put(leaf, jax.sharding.NamedSharding(mesh, spec)), where, PARAMS, is_leaf=is_spec
    )
    for rule in (layers.per_matrix(optax.lion(1.0)), layers.per_matrix(RULES["muon"](1.0))):
        state = sharding.init(at_rate(rule, 1.0), params)
        specs = {jax.tree_util.keystr(path[-3:]): leaf.sharding.spec for path, leaf in jax.tree.leaves_with_path(state)}
        assert specs["['layers']['gate'][1]"] == PartitionSpec("fsdp", "tensor")
        assert specs["['layers']['norm'][0]"] == PartitionSpec()
        embedding = [leaf for key, leaf in specs.items() if "embedding" in key]
        assert embedding == [where["embedding"]] * len(embedding)
        assert embedding
    # The rows and columns of Adafactor have places of parameters, and other shapes.
    factored = sharding.init(at_rate(layers.per_matrix(RULES["adafactor"](1.0)), 1.0), params)
    assert {leaf.sharding.spec for leaf in jax.tree.leaves(factored) if leaf.ndim < 2} == {PartitionSpec()}
