"""What a user sees for input that cannot be answered: one process without the tests' own type checks runs them all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PREAMBLE = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np, optax
from numerics import (alignment, attribution, averages, comparison, convergence, drift, losses, optimizers, problems,
                      random_schedules, schedules, updates)
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule

from experiments.model import objectives

SGD = optimizers.gradient_descent()
MADE = problems.make("quadratic", 2, seed=0)
WORD = schedules.interleaved(2, first="-")
EPOCH = Epoch(MADE.losses, WORD, SGD, MADE.params)
X = {"x": jnp.ones(2)}

def one(loss, params=X, word=(0,)):
    several = losses.Losses((loss,), (None,), ("a",))
    return updates.sequential(Epoch(several, schedules.steps(word), SGD, params), step_size=0.1)

def square(params, batch):
    return jnp.sum(params["x"] ** 2)

def summed(params, batch):
    return jnp.sum(params["x"]) * jnp.sum(batch["a"])

def stack(**leaves):
    losses.check(losses.Losses((summed,), (leaves,), ("a",)), X)

def step(word):
    return updates.sequential(Epoch(MADE.losses, word, SGD, MADE.params), step_size=0.1)

def at(frame="accumulated", rule=SGD, word=WORD, order=2):
    return drift.taylor(Epoch(MADE.losses, word, rule, MADE.params), frame=frame, order=order)

def rule(rule):
    return Epoch(MADE.losses, WORD, rule, MADE.params)

@jax.custom_vjp
def opaque(x):  # its backward pass calls out of JAX
    return jnp.sum(x**2)

def called(x):
    return jax.pure_callback(lambda x: np.asarray(2 * x), jax.ShapeDtypeStruct(x.shape, x.dtype), x)

opaque.defvjp(lambda x: (jnp.sum(x**2), x), lambda x, g: (g * called(x),))

def second(loss, state=None, of=drift.closed_form):
    one = losses.Losses((loss,), (None,), ("a",))
    return of(one, schedules.steps([0, 0]), X, frame="start", order=2)

def singular(power):  # the derivatives of |x - 1|^power at 1
    return losses.of_params([lambda p: jnp.sum(jnp.abs(p["x"] - 1) ** power), lambda p: jnp.sum(p["x"])])

def narrow(params, batch):
    return jnp.sum(params["x"].astype(jnp.float32) ** 2)

def wide(params, batch):
    return jnp.sum(params["x"] ** 2)

def both(loss, other):
    return losses.check(losses.Losses((loss, other), (None, None), ("a", "b")), X)

def normalised(rule):
    zero = losses.of_params([lambda p: 0.0 * jnp.sum(p["x"]), lambda p: jnp.sum(p["x"] ** 2)])
    return drift.taylor(Epoch(zero, schedules.steps([0, 1]), rule, X), frame="start", order=2)

def with_unused(rule):  # a gradient that is exactly zero beside others, as that of an unused embedding row is
    both = losses.of_params([lambda p: jnp.sum(p["x"][:1] ** 2), lambda p: jnp.sum(p["x"][:1] ** 4)])
    return drift.taylor(Epoch(both, schedules.steps([0, 1]), rule, X), frame="start", order=2)
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
    "losses.of_params([]) and losses.check(losses.of_params([]), X)": "functions must be at least one",
    # schedules
    "step(schedules.steps([]))": "must hold at least one step",
    "step(schedules.steps([0, 7]))": "must name losses 0 ... 3; got 0 ... 7",
    "step(schedules.steps([-1, 0]))": "must name losses",
    "step(schedules.Schedule(np.array([0, 1]), np.array([1.0])))": "one loss and one scale per step",
    "step(schedules.Schedule(np.array([0, 1]), np.array([1.0, -1.0])))": "descend its negative",
    "step(schedules.Schedule(np.array([0, 1]), np.array([1.0, np.nan])))": "positive and finite",
    "schedules.with_scales(WORD, [1.0, 2.0])": "one per step",
    "schedules.word('-x', ('-', '+'), (1, 1))": 'got "x"',
    "schedules.word('', ('-', '+'), (1, 1))": "at least one step",
    "schedules.word('-', ('-', '+'), (1,))": "counts must be as many as names; got 1 for 2",
    "schedules.word('-', ('-',), (1, 2))": "counts must be as many as names; got 2 for 1",
    "schedules.grouped(WORD, 3)": "num_steps must divide the 4 steps of schedule; got 3",
    "schedules.grouped(WORD, 0)": "num_steps must be at least 1; got 0",
    "updates.accumulated(EPOCH, step_size=0.1, per=3, reduction='sum')":
        "per must divide the 4 steps of schedule; got 3",
    "schedules.interleaved(3, first='-', order=[0, 1, 1])": "must be a permutation",
    "schedules.interleaved(0, first='-')": "num_pairs must be at least 1",
    "schedules.blocks(2, first='0')": 'first must be "-" or "+"',
    # frames and orders
    "at(frame='acumulated')": "frame must be one of start, accumulated",
    "at(order=4)": "order must be 1, 2 or 3",
    "at(frame='pair-accumulated', word=schedules.steps([0, 2, 1]))": "must have an even number of steps",
    "at(frame='gradient-flow', rule=optax.adam(1.0))": "another rule follows another flow",
    "RandomSchedule('joint')": "start must be given unless all losses are shuffled",
    "RandomSchedule('all', '-')": "start must be given unless all losses are shuffled",
    "RandomSchedule('some', '-')": "pairs must be",
    "RandomSchedule('joint', 'coin')": "start must be",
    "random_schedules.enumerate(RandomSchedule('all'), 6)": "use `averages.sample_mean`",
    "averages.closed_form(MADE.losses, RandomSchedule('fixed', '-'), MADE.params, frame='start')": "permuted",
    "averages.sample_mean(lambda s: s.scales, RandomSchedule('all'), 2, jax.random.key(0), num_samples=1)": "least 2",
    # what cannot be computed
    "one(lambda p, b: jnp.sum(jnp.log(p['x'] - 1)))": None,  # inf: an update map computes what it is told
    "drift.closed_form(losses.of_params([lambda p: jnp.sum(jnp.sqrt(p['x'] - 1))]), schedules.steps([0, 0]), X,"
    " frame='start', order=2)": "FloatingPointError: derivatives must be finite",
    "with_unused(optax.adam(1.0))": "The gradient of loss 0 ('a') is exactly zero in a coordinate, where a root has no"
    " derivative: give Adam eps_root of at least 2.3e-308",
    "with_unused(optax.adam(1.0, eps_root=1e-8))": None,
    "normalised(optax.chain(optax.normalize_by_update_norm(), optax.scale(-1.0)))":
        "is exactly zero in a coordinate, where a root has no derivative: give the rule an epsilon",
    "drift.closed_form(singular(0.5), schedules.steps([1, 0]), X, frame='start', order=2)":
        "The gradient of loss 0 ('a') is not finite at the start",
    "drift.taylor(Epoch(singular(1.5), schedules.steps([1, 0]), optax.adam(1.0), X), frame='start', order=2)":
        "A second derivative of loss 0 ('a') is not finite at the start",
    "drift.closed_form(losses.of_params([lambda p: jnp.sum(jnp.log(p['x'] - 1))]), schedules.steps([0, 0]), X,"
    " frame='start', order=2)": "The value of loss 0 ('a') is not finite at the start",
    "second(lambda p, b: opaque(p['x']))": "TypeError: losses must have the derivatives that are asked for",
    "second(lambda p, b: opaque(p['x'])) ": "A jax.custom_vjp must be made of operations that can be differentiated",
    "one(lambda p, b: jax.lax.while_loop(lambda x: x < 9, lambda x: 2 * x, p['x'][0]))": "Reverse-mode",
    "both(narrow, wide)": "losses must return one dtype; got float32 of 'a' and float64 of 'b'",
    "one(lambda params: params)": "losses.of_params",
    "one(lambda p, b: p['y'])": "loss 'a' must be computable, by JAX, from params and its batches; got KeyError",
    # rules
    "rule(optax.polyak_sgd())": "scale_by_polyak (polyak_sgd), which needs the value of the loss as well",
    "rule(optax.lbfgs())": "(lbfgs), which needs the value of the loss, the gradient a second time, the loss itself",
    "rule(optax.contrib.sophia(1.0))": "(sophia), which needs the loss itself, for its Hessian",
    "rule(optax.contrib.reduce_on_plateau())": "reduce_on_plateau, which needs the value of the loss",
    "rule(optax.contrib.momo())": "momo, which needs the value of the loss",
    "rule(optax.chain(optax.adam(1.0), optax.contrib.reduce_on_plateau()))": "reduce_on_plateau, which needs",
    "rule(optax.lookahead(optax.sgd(1.0), 2, 0.5))": "lookahead, which needs two sets of parameters",
    "rule(optax.scale_by_schedule(1.0))": "scale_by_schedule, which fails on them: TypeError: 'float' object is not",
    "rule(optax.apply_every(1.0))": "must keep the structure, shapes and dtypes of its state",
    "rule(optax.adam(1.0).init)": "rule must be a rule, or a function of the rate that returns one; got one that",
    # what was converted once
    "updates.accumulated(EPOCH, step_size=0.1, per='schedule', reduction='SUM')":
        'reduction must be "sum" or "mean"; got \'SUM\'',
    "updates.accumulated(EPOCH, step_size=0.1, per='schedule', reduction=None)":
        'reduction must be "sum" or "mean"; got None',
    "updates.accumulated(EPOCH, step_size=0.1, per='pairs', reduction='sum')":
        'per must be "schedule" or "pair", or a whole number; got \'pairs\'',
    "schedules.steps([0.7, 1.2])": "losses must be whole numbers",
    "updates.sequential(EPOCH, step_size=float('nan'))": "step_size must be finite",
    "Epoch(MADE.losses, WORD, SGD, {'x': jnp.full(6, jnp.nan)})":
        "params['x'] must be finite",
    "losses.of_params([lambda p: 1.0, lambda p: 2.0], names=('kl', 'kl'))": "names must be different",
    "schedules.word('kl,kl', ('kl', 'kl'), (1, 1))": "names must be different",
    "MADE.losses.gradient(MADE.params, 4)": "index must be one of 0 ... 3; got 4",
    "problems.make('quadratic', 2, seed=None)": "seed must be a whole number",
    "problems.make('quadratic', 2, seed=0, widths=(2, 3))": "sizes must be widths, and for mlp alone",
    "optimizers.parse('adam:b2=1.5')": "adam:b2 must be below 1; got 1.5",
    # problems and optimizers
    "problems.make('quadratics', 2, seed=0)": "problem must be one of quadratic",
    "problems.make('quadratic', 0, seed=0)": "num_pairs must be at least 1",
    "problems.make('quadratic', 2, seed=0, dtype='float16')": 'dtype must be "float32" or "float64"',
    "optimizers.parse('adm')": "optimizer must be one of sgd",
    "optimizers.parse('adam:beta=1')": "adam must be given options among b1, b2, eps, eps_root, each once; got 'beta'",
    "optimizers.parse('adam:eps_root=-1')": "must be finite and not negative",
    "losses.pairs(summed, {'a': [1.0, 2.0]}, summed, {'a': [1.0, 2.0]}) and losses.check(losses.pairs(summed,"
    " {'a': [1.0, 2.0]}, summed, {'a': [1.0, 2.0]}), X)": "along the first axis of every leaf",
    "one(lambda p, b: 3.0)": None,
    "comparison.compare(EPOCH, frame='start', coefficients=(MADE.params, MADE.params))":
        "three trees",
    "comparison.compare(EPOCH, frame='start', coefficients=(X, X, {}))":
        "coefficients[2] must hold at least one array",
    "comparison.compare(EPOCH, frame='start', coefficients=(X, X, X))":
        "coefficients[0]['x'] must have the shape of that of params; got (2,) for (6,)",
    "optimizers.parse('adam:b1=x')": "adam:b1 must be a number; got 'x'",
    "optimizers.parse('sgd:momentum=0.9')": "sgd must be given options among (none), each once",
    # comparisons
    "updates.sequential(Epoch(MADE.losses, RandomSchedule('all'), SGD, MADE.params), step_size=0.1)":
        "schedule must be a schedules.Schedule for this",
    "Epoch(losses.of_params([lambda p: jnp.sum(p['x'])]), RandomSchedule('all'), SGD, X)": "losses must be pairs",
    "comparison.compare(EPOCH, frame='start', largest_step=-1.0)": "must be positive",
    "comparison.compare(EPOCH, frame='start', num_halvings=0)": "at least 1",
    "convergence.fit(np.array([1.0, 2.0]), np.ones(2), np.ones(2), np.ones(2), theory=2)":
        "must be positive and descend",
    "attribution.gap(MADE.losses, WORD, {}, MADE.params, step_size=0.1, rate=1.0, reduction='sum', num_warm_up=0)":
        "at least one rule",
    "attribution.gap(MADE.losses, WORD, {'a': SGD}, MADE.params, step_size=0.1, rate=1.0, reduction='sum',"
    " num_warm_up=-1)": "must not be negative",
    "alignment.change(EPOCH, step_size=0.1, grouping='step', quantity='pairs')": "quantity must be",
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


WITHOUT_FLOAT64 = """
import jax, jax.numpy as jnp, numpy as np, optax
from numerics import drift, losses, optimizers, schedules, updates
from numerics.epoch import Epoch

def told(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def loss(params, batch):
    return jnp.sum(params["x"] * (1.0 if batch is None else batch))

def one(params, batch=None):
    several = losses.Losses((loss,), (batch,), ("a",))
    epoch = Epoch(several, schedules.steps([0]), optimizers.gradient_descent(), params)
    return updates.sequential(epoch, step_size=0.1)

def zero(eps_root):
    several = losses.of_params([lambda p: jnp.sum(p["x"][:1] ** 2), lambda p: jnp.sum(p["x"][:1] ** 4)])
    rule = optax.adam(1.0, eps_root=eps_root)
    return drift.taylor(Epoch(several, schedules.steps([0, 1]), rule, {"x": jnp.ones(2)}), frame="start", order=2)

print(told(lambda: one({"x": np.ones(2)})))
print(told(lambda: one({"x": np.ones(2, np.float32)}, np.ones((1, 2)))))
print(told(lambda: one({"x": np.ones(2, np.float32)}, np.ones((1, 2), np.float32))))
print(told(lambda: zero(1.1e-38)))
print(told(lambda: zero(1.2e-38)))
"""


def test_what_float32_cannot_hold():
    """float64 is not cast in silence; and of eps_root the least that is not taken for zero is named, and is enough."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FLOAT64], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    params, batch, right, below, least = done.stdout.splitlines()
    assert params.startswith("TypeError: params['x'] must be of 32 bits unless float64 is on; got float64")
    assert batch.startswith("TypeError: the batches of loss 'a' must be of 32 bits unless float64 is on; got float64")
    assert right == "None"
    assert "eps_root of at least 1.2e-38" in below
    assert least == "None"
