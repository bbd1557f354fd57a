"""What a user sees for input that cannot be answered: one process without the tests' own type checks runs them all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PREAMBLE = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np, optax
from numerics import (alignment, attribution, averages, comparison, drift, losses, optimizers, order, problems,
                      schedules, updates)

from experiments import objectives

SGD = optimizers.gradient_descent()
MADE = problems.make("quadratic", 2, seed=0)
WORD = schedules.interleaved(2, first="-")
X = {"x": jnp.ones(2)}

def one(loss, params=X, word=(0,)):
    several = losses.Losses((loss,), (None,), ("a",))
    return updates.sequential(several, schedules.steps(word), SGD, params, step_size=0.1)

def square(params, batch):
    return jnp.sum(params["x"] ** 2)

def summed(params, batch):
    return jnp.sum(params["x"]) * jnp.sum(batch["a"])

def stack(**leaves):
    losses.check(losses.Losses((summed,), (leaves,), ("a",)), X)

def step(word):
    return updates.sequential(MADE.losses, word, SGD, MADE.params, step_size=0.1)

def at(frame="accumulated", rule=SGD, word=WORD, order=2):
    return drift.taylor(MADE.losses, word, rule, MADE.params, frame=frame, order=order)

def with_unused(rule):  # a gradient that is exactly zero beside others, as that of an unused embedding row is
    both = losses.of_params([lambda p: jnp.sum(p["x"][:1] ** 2), lambda p: jnp.sum(p["x"][:1] ** 4)])
    return drift.taylor(both, schedules.steps([0, 1]), rule, X, frame="start", order=2)
"""

CASES = {
    # losses
    "one(lambda p, b: p['x'])": "TypeError: loss 'a' must return a real scalar",
    "one(lambda p, b: (jnp.sum(p['x']), 1.0))": "TypeError: loss 'a' must return a real scalar",
    "one(lambda p, b: jnp.sum(jnp.ones(2, int)))": "TypeError: loss 'a' must return a real scalar",
    "one(lambda p, b: jnp.sum(p['x']).astype(jnp.float16))": "TypeError: loss 'a' must return float32 or float64",
    "one(square, {'x': jnp.ones(2, jnp.float16)})": "TypeError: params['x'] must be a float32 or float64 array",
    "one(square, {'x': jnp.ones(2, jnp.bfloat16)})": "keep float32 masters",
    "one(square, {'x': jnp.ones(2, int)})": "got int64",
    "one(square, {'x': 1.0})": "got float",
    "one(square, {})": "ValueError: params must hold at least one array",
    "stack(a=jnp.ones((3, 1)), b=jnp.ones((2, 1)))": "along the first axis of every leaf",
    "stack(a=jnp.ones((0, 1)))": "must hold at least one batch",
    "losses.check(losses.Losses((square,), (), ()), X)": "one stack and one name per function",
    "losses.pairs(summed, {'a': jnp.ones((2, 1))}, summed, {'a': jnp.ones((3, 1))})": "must be pairs",
    "losses.of_params([]) and losses.check(losses.of_params([]), X)": "losses must be at least one",
    # schedules
    "step(schedules.steps([]))": "must hold at least one step",
    "step(schedules.steps([0, 7]))": "must name losses 0 ... 3; got 0 ... 7",
    "step(schedules.steps([-1, 0]))": "must name losses",
    "step(schedules.Schedule(np.array([0, 1]), np.array([1.0])))": "one loss and one scale per step",
    "step(schedules.Schedule(np.array([0, 1]), np.array([1.0, -1.0])))": "descend its negative",
    "step(schedules.Schedule(np.array([0, 1]), np.array([1.0, np.nan])))": "positive and finite",
    "schedules.with_scales(WORD, [1.0, 2.0])": "one per step",
    "schedules.word('-x', '-+', (1, 1))": 'got "x"',
    "schedules.word('', '-+', (1, 1))": "at least one step",
    "schedules.interleaved(3, first='-', order=[0, 1, 1])": "must be a permutation",
    "schedules.interleaved(0, first='-')": "num_pairs must be at least 1",
    "schedules.blocks(2, first='0')": 'first must be "-" or "+"',
    # frames and orders
    "at(frame='acumulated')": "frame must be one of start, accumulated",
    "at(order=4)": "order must be 1, 2 or 3",
    "at(frame='pair-accumulated', word=schedules.steps([0, 2, 1]))": "must have an even number of steps",
    "at(frame='gradient-flow', rule=optax.adam(1.0))": "another rule follows another flow",
    "averages.RandomOrder('joint')": "start must be given unless all losses are shuffled",
    "averages.RandomOrder('all', '-')": "start must be given unless all losses are shuffled",
    "averages.RandomOrder('some', '-')": "pairs must be",
    "averages.RandomOrder('joint', 'coin')": "start must be",
    "averages.words(averages.RandomOrder('all'), 6)": "use `sampled`",
    "averages.closed_form(MADE.losses, averages.RandomOrder('fixed', '-'), MADE.params, frame='start')": "permuted",
    "averages.sampled(lambda s: s.scales, averages.RandomOrder('all'), 2, jax.random.key(0), num_samples=1)": "least 2",
    # what cannot be computed
    "one(lambda p, b: jnp.sum(jnp.log(p['x'] - 1)))": None,  # inf: an update map computes what it is told
    "drift.closed_form(losses.of_params([lambda p: jnp.sum(jnp.sqrt(p['x'] - 1))]), schedules.steps([0, 0]), X,"
    " frame='start', order=2)": "FloatingPointError: derivatives must be finite",
    "with_unused(optax.adam(1.0))": "eps_root > 0",
    "with_unused(optax.adam(1.0, eps_root=1e-8))": None,
    # problems and optimizers
    "problems.make('quadratics', 2, seed=0)": "problem must be one of quadratic",
    "problems.make('quadratic', 0, seed=0)": "num_pairs must be at least 1",
    "problems.make('quadratic', 2, seed=0, dtype='float16')": "dtype must be float32 or float64",
    "optimizers.parse('adm')": "optimizer must be one of sgd",
    "optimizers.parse('adam:beta=1')": "adam must be given options among b1, b2, eps, eps_root, each once; got 'beta'",
    "optimizers.parse('adam:eps_root=-1')": "must be finite and not negative",
    "losses.pairs(summed, {'a': [1.0, 2.0]}, summed, {'a': [1.0, 2.0]}) and losses.check(losses.pairs(summed,"
    " {'a': [1.0, 2.0]}, summed, {'a': [1.0, 2.0]}), X)": "along the first axis of every leaf",
    "one(lambda p, b: 3.0)": None,
    "comparison.compare(MADE.losses, WORD, SGD, MADE.params, frame='start', coefficients=(X, X, {}))": "three trees",
    "optimizers.parse('adam:b1=x')": "adam:b1 must be a number; got 'x'",
    "optimizers.parse('sgd:momentum=0.9')": "sgd must be given options among (none), each once",
    # comparisons
    "comparison.compare(MADE.losses, WORD, SGD, MADE.params, frame='start', largest_step=-1.0)": "must be positive",
    "comparison.compare(MADE.losses, WORD, SGD, MADE.params, frame='start', num_halvings=0)": "at least 1",
    "order.fit(np.array([1.0, 2.0]), np.ones(2), np.ones(2), np.ones(2), theory=2)": "must be positive and descend",
    "attribution.gap(MADE.losses, WORD, {}, MADE.params, step_size=0.1, rate=1.0, reduction='sum', num_warm_up=0)":
        "at least one rule",
    "attribution.gap(MADE.losses, WORD, {'a': SGD}, MADE.params, step_size=0.1, rate=1.0, reduction='sum',"
    " num_warm_up=-1)": "must not be negative",
    "alignment.change(MADE.losses, WORD, SGD, MADE.params, step_size=0.1, grouping='step', quantity='pairs')":
        "quantity must be",
    # the language model
    "objectives.weights([1], 'mean', num_tokens_of_both=2)": "must be one of token-union, token-half, sequence, sum",
}  # fmt: skip


@pytest.fixture(scope="module")
def messages():
    code = PREAMBLE + (
        f"found = {{}}\nfor case in {list(CASES)!r}:\n"
        "    try:\n"
        "        eval(case)\n"
        "        found[case] = None\n"
        "    except Exception as error:\n"
        "        found[case] = f'{type(error).__name__}: {error}'\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES)
def test_message(messages, case):
    expected, found = CASES[case], messages[case]
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert expected in found
        assert found.split(":")[0] in ("ValueError", "TypeError", "FloatingPointError")
