"""A callable whose content has changed is computed anew: the slope of a linear loss is read off its displacement."""

import collections
import functools
import sys
import types
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from numerics import contents, drift, losses, optimizers, schedules, updates
from numerics.epoch import Epoch
from tests.support.rounding import assert_equal_to_round_off

SGD = optimizers.gradient_descent()
X = {"x": jnp.ones(2)}
FACTOR = 1.0


def slope(loss, rule=SGD, **more):
    """k of a loss k * sum(x): one step of size 1 takes k from every coordinate; predicted and done."""
    one = losses.Losses((loss,), (None,), ("a",))
    word = schedules.steps([0])
    done = updates.sequential(Epoch(one, word, rule, X), step_size=1.0, **more).displacement
    if rule is SGD and not more:
        assert_equal_to_round_off(drift.closed_form(one, word, X, frame="start", order=1)[0], done)
        assert_equal_to_round_off(drift.taylor(Epoch(one, word, rule, X), frame="start", order=1)[0], done)
    return -float(done["x"][0])


class Task:
    share = 1.0

    def __init__(self, factor):
        self.factors = [factor]
        self.options = types.SimpleNamespace(array=np.ones(2))

    def loss(self, params, batch):
        return self.scaled(params) * self.share

    def scaled(self, params):
        return self.factors[0] * jnp.sum(params["x"] * self.options.array)


def test_a_method_whose_object_has_changed():
    task = Task(2.0)
    assert slope(task.loss) == 2.0
    task.factors[0] = 3.0  # in a list
    assert slope(task.loss) == 3.0
    task.options.array[:] = 2.0  # in place, in an array of an object of the object
    assert slope(task.loss) == 6.0
    task.share = 0.5
    assert slope(task.loss) == 3.0
    Task.share, task = 0.25, Task(4.0)  # in the class
    assert slope(task.loss) == 1.0
    Task.share = 1.0
    assert slope(task.loss) == 4.0


def test_a_closure_whose_variable_has_changed():
    factor = 2.0

    def loss(params, batch):
        return inner(params)

    def inner(params):
        return factor * jnp.sum(params["x"])

    assert slope(loss) == 2.0
    factor = 5.0
    assert slope(loss) == 5.0
    assert slope(losses.negated(loss)) == -5.0
    factor = 7.0
    assert slope(losses.negated(loss)) == -7.0
    of_params = losses.of_params([inner])
    for factor in (1.0, 3.0):
        word = schedules.steps([0])
        assert updates.sequential(Epoch(of_params, word, SGD, X), step_size=1.0).displacement["x"][0] == -factor


def test_a_global_that_has_changed(monkeypatch):
    def loss(params, batch):
        return FACTOR * jnp.sum(params["x"])

    assert slope(loss) == 1.0
    monkeypatch.setitem(globals(), "FACTOR", 8.0)
    assert slope(loss) == 8.0


def test_a_module_within_a_package_that_has_changed(monkeypatch):
    package, inner = types.ModuleType("trial"), types.ModuleType("trial.settings")
    vars(inner)["factor"] = 2.0
    vars(package)["settings"] = inner
    package.__file__ = inner.__file__ = __file__
    monkeypatch.setitem(sys.modules, "trial", package)
    monkeypatch.setitem(sys.modules, "trial.settings", inner)

    def loss(params, batch):
        import trial.settings  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

        return trial.settings.factor * jnp.sum(params["x"])

    assert slope(loss) == 2.0
    vars(inner)["factor"] = 3.0
    assert slope(loss) == 3.0


class Slotted:
    __slots__ = ("__factor",)

    def __init__(self, factor):
        self.__factor = factor

    def set(self, factor):
        self.__factor = factor

    def __call__(self, params, batch):
        return self.__factor * jnp.sum(params["x"])


def test_containers_of_every_kind_that_have_changed():
    array, queue, data, view = np.array([2.0]), collections.deque([2.0]), bytearray([2]), {"k": 2.0}
    total = {
        "Partial": jax.tree_util.Partial(lambda k, params, batch: k[0] * jnp.sum(params["x"]), array),
        "deque": lambda params, batch: queue[0] * jnp.sum(params["x"]),
        "bytearray": lambda params, batch: data[0] * jnp.sum(params["x"]),
        "proxy": functools.partial(
            lambda proxy, params, batch: proxy["k"] * jnp.sum(params["x"]), types.MappingProxyType(view)
        ),
        "slot": Slotted(2.0),
    }
    assert [slope(loss) for loss in total.values()] == [2.0] * 5
    array[0], queue[0], data[0], view["k"] = 3.0, 3.0, 3, 3.0
    total["slot"].set(3.0)
    assert [slope(loss) for loss in total.values()] == [3.0] * 5


def test_partial_arguments_and_defaults_that_have_changed():
    weights = {"k": 2.0}
    loss = functools.partial(lambda weights, params, batch: weights["k"] * jnp.sum(params["x"]), weights)
    assert slope(loss) == 2.0
    weights["k"] = 3.0
    assert slope(loss) == 3.0

    factors = [4.0]

    def other(params, batch, factors=factors):
        return factors[0] * jnp.sum(params["x"])

    assert slope(other) == 4.0
    factors[0] = 5.0
    assert slope(other) == 5.0


@dataclass
class Weighted:
    weights: object

    def __call__(self, params, batch):
        return jnp.sum(params["x"] * jnp.asarray(self.weights))


@dataclass(frozen=True)
class Frozen:  # as the modules of Equinox are
    weights: object

    def __call__(self, params, batch):
        return jnp.sum(params["x"] * jnp.asarray(self.weights))


@pytest.mark.parametrize("kind", [Weighted, Frozen])
@pytest.mark.parametrize("make", [list, np.array, jnp.array])
def test_objects_that_cannot_be_hashed(kind, make):
    loss = kind(make([2.0, 2.0]))
    with pytest.raises(TypeError, match="unhashable"):
        hash(loss)
    assert slope(loss) == 2.0
    assert slope(kind(make([3.0, 3.0]))) == 3.0
    assert slope(losses.negated(loss)) == -2.0
    both = losses.pairs(losses.negated(loss), None, loss, None)
    update = updates.sequential(Epoch(both, schedules.steps([1, 1, 0]), SGD, X), step_size=1.0)
    assert update.displacement["x"].tolist() == [-2.0, -2.0]
    if kind is Weighted:
        loss.weights = make([5.0, 5.0])
        assert slope(loss) == 5.0


def test_a_rule_and_functions_of_the_gradient_that_have_changed():
    scale = types.SimpleNamespace(value=2.0)

    def loss(params, batch):
        return jnp.sum(params["x"])

    def scaled(gradient):
        return jax.tree.map(lambda leaf: scale.value * leaf, gradient)

    rule = optax.stateless(lambda updates, params: jax.tree.map(jnp.negative, scaled(updates)))
    chain = optax.chain(optax.identity(), rule)
    assert (slope(loss, rule), slope(loss, chain), slope(loss, transform_gradient=scaled)) == (2.0, 2.0, 2.0)
    scale.value = 3.0
    assert (slope(loss, rule), slope(loss, chain), slope(loss, transform_gradient=scaled)) == (3.0, 3.0, 3.0)


def test_a_loss_that_returns_something_else_by_now_is_refused():
    """The check of a loss is kept by its content too."""
    task = types.SimpleNamespace(reduce=jnp.sum)

    def loss(params, batch):
        return task.reduce(params["x"])

    assert slope(loss) == 1.0
    task.reduce = jnp.sqrt
    with pytest.raises(TypeError, match="must return a real scalar"):
        slope(loss)


def test_what_has_not_changed_is_not_traced_again():
    traced = []  # what a loss appends to is content too, so it is read through a C object that Python cannot see into
    task, count = Task(2.0), traced.append

    def loss(params, batch):
        count(None)
        return task.loss(params, batch)

    slope(loss)
    num_traces = len(traced)
    assert slope(loss) == 2.0
    assert len(traced) == num_traces
    task.factors[0] = 3.0
    assert slope(loss) == 3.0
    assert len(traced) > num_traces


def test_contents_that_are_equal_and_that_are_not():
    def same(one, other):
        return contents.Snapshot(one) == contents.Snapshot(other)

    task = Task(2.0)
    assert same(task.loss, task.loss)
    assert same(losses.negated(task.loss), losses.negated(task.loss))
    assert same(float("nan"), float("nan"))
    assert not same(0.0, -0.0)
    assert not same(1, True)
    assert not same(optax.adam(1.0), optax.adam(1.0, b1=0.5))
    assert not same(np.ones(2), np.ones(2, np.float32))
    assert not same(np.ones(2), np.ones((2, 1)))


def test_a_content_that_holds_itself():
    task = Task(1.0)
    kept: list[object] = [task]
    kept.append(kept)
    task.options.kept = kept
    before = contents.Snapshot(task.loss)
    assert before == contents.Snapshot(task.loss)
    kept.append(None)
    assert before != contents.Snapshot(task.loss)
