"""The epoch: a pytree, checked where it is built and nowhere else."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import numerics.losses
from numerics import comparison, drift, optimizers, problems, schedules, updates
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule
from tests.support.rounding import assert_equal_to_round_off

WORD = schedules.interleaved(2, first="-")
MADE = problems.make("softmax", 2, seed=3)
ADAM = optax.adam(1.0, eps_root=1e-2)
EPOCH = Epoch(MADE.losses, WORD, ADAM, MADE.params)


def test_an_epoch_is_a_tree_whose_rule_is_static():
    leaves, structure = jax.tree.flatten(EPOCH)
    assert len(leaves) == len(jax.tree.leaves((MADE.losses, WORD, MADE.params)))
    again = jax.tree.unflatten(structure, leaves)
    assert again.rule is EPOCH.rule
    assert again.word.losses is WORD.losses
    assert structure == jax.tree.structure(replace(EPOCH, params=jax.tree.map(jnp.zeros_like, MADE.params)))
    assert structure != jax.tree.structure(replace(EPOCH, rule=optax.adam(1.0, eps_root=1e-3)))


def test_an_epoch_may_be_an_argument_of_a_compiled_function():
    inside = jax.jit(lambda epoch: updates.sequential(epoch, step_size=0.1))(EPOCH)
    assert_equal_to_round_off(inside.displacement, updates.sequential(EPOCH, step_size=0.1).displacement)


def test_its_state_is_that_of_the_rule_s_init_unless_given():
    state = ADAM.init(MADE.params)
    first, same = (updates.sequential(replace(EPOCH, state=s), step_size=0.1) for s in (None, state))
    assert_equal_to_round_off(first.displacement, same.displacement)
    later = updates.sequential(replace(EPOCH, state=first.state), step_size=0.1)
    assert np.abs(later.displacement["bias"] - first.displacement["bias"]).max() > 1e-3


def test_its_parts_are_checked_once(monkeypatch):
    checked = []
    monkeypatch.setattr(numerics.losses, "_check_at", lambda losses, params: checked.append(losses))
    epoch = replace(EPOCH)
    assert len(checked) == 1
    drift.measured(epoch, step_size=0.1, frame="accumulated")
    assert len(checked) == 1


def test_a_random_schedule_is_for_comparisons_alone():
    sgd = optimizers.gradient_descent()
    epoch = Epoch(MADE.losses, RandomSchedule("joint", "-"), sgd, MADE.params)
    assert jax.tree.structure(epoch) != jax.tree.structure(replace(epoch, schedule=RandomSchedule("joint", "+")))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(comparison.predicted(epoch, frame="accumulated")))
    for call in (
        lambda: updates.sequential(epoch, step_size=0.1),
        lambda: updates.accumulated(epoch, step_size=0.1, per="pair", reduction="sum"),
        lambda: drift.taylor(epoch, frame="accumulated", order=2),
        lambda: drift.measured(epoch, step_size=0.1, frame="start"),
    ):
        with pytest.raises(TypeError, match=r"schedule must be a schedules.Schedule for this; got RandomSchedule"):
            call()


def test_a_rule_that_changes_between_two_calls_is_compiled_anew():
    scale = {"value": -1.0}
    rule = optax.stateless(lambda gradients, _: jax.tree.map(lambda g: scale["value"] * g, gradients))
    epoch = Epoch(MADE.losses, schedules.steps([0]), rule, MADE.params)
    before = updates.sequential(epoch, step_size=0.1).displacement
    scale["value"] = -3.0
    after = updates.sequential(epoch, step_size=0.1).displacement
    assert_equal_to_round_off(after, jax.tree.map(lambda leaf: 3 * leaf, before))
