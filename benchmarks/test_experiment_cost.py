"""What the measurements of a run cost beside the update alone: the same update, turn about; the ratio is printed.

With SMOLLM2 (a folder made by `fetch smollm2`) on that model, else on random parameters of 19 million.

    SMOLLM2=models/smollm2 python -m pytest benchmarks/test_experiment_cost.py
"""

import os
from pathlib import Path
from statistics import median
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import arms
from experiments.data import tokens
from experiments.model import objectives, parameters, pretrained
from experiments.model.transformer import Architecture
from experiments.training import arm_update, batches, train_step
from numerics import updates
from numerics.epoch import Epoch

LIMIT = 1.05
ROUNDS = 5
RANDOM = Architecture(
    vocabulary=8192, width=384, num_layers=8, num_heads=6, num_kv_heads=2, head_dim=64, mlp_width=1024,
    norm_epsilon=1e-5, rope_theta=1e4, rope_scaling=None, is_tied=True, context=512,
)  # fmt: skip


def model():
    if "SMOLLM2" in os.environ:
        return pretrained.load(Path(os.environ["SMOLLM2"]))
    return parameters.init(RANDOM, jax.random.key(0)), RANDOM


@pytest.mark.parametrize("name", ["accumulated", "sequential"])
def test_measurements(name, capsys):
    params, architecture = model()
    rng = np.random.default_rng(0)
    texts = [
        tokens.Encoded(*(rng.integers(0, architecture.vocabulary, size).tolist() for size in (110, 110)))
        for _ in range(8)
    ]
    halves = batches.pair_batch(texts[:4], texts[4:], "token-half", (256, 128))
    halves = jax.tree.map(jnp.asarray, halves)
    arm, rule, rate = arms.BY_NAME[name], arms.Hyperparams(), 1e-5
    loss = arm_update.likelihood(objectives.negative_log_likelihood(architecture, has_aux=True))
    schedule = arm_update.schedule_of(arm, is_as_written=True)

    def alone(state, halves):
        losses = arm_update.losses_of(arm, rate, loss, halves, params)
        epoch = Epoch(losses, schedule, arm_update.optimizer(arm, rule), state.params, state.rule)
        update = arm_update.update(arm, rule, rate, epoch)
        return train_step.State(updates.displaced(state.params, update.displacement), update.state, None)

    plain = jax.jit(alone)
    measured = train_step.make_step(arm, rule, rate, loss)
    states = {}
    for key in ("alone", "measured"):
        states[key] = train_step.initial_state(arm, rule, params, None)
    seconds = {"alone": [], "measured": []}
    for _ in range(ROUNDS + 1):
        started = perf_counter()
        states["alone"] = jax.block_until_ready(plain(states["alone"], halves))
        middle = perf_counter()
        states["measured"], _ = jax.block_until_ready(measured(states["measured"], params, halves, True))
        seconds["alone"].append(middle - started)
        seconds["measured"].append(perf_counter() - middle)
    # The first round compiles. A ratio is taken inside a round: a busy machine slows down both.
    ratio = median(b / a for a, b in list(zip(*seconds.values(), strict=True))[1:])
    with capsys.disabled():
        count = parameters.count(architecture)
        print(
            f"\n{name}, {count / 1e6:.0f} million parameters, 4 pairs: update {median(seconds['alone'][1:]):.2f} s, "
            f"with measurements {ratio:.3f} times that (limit {LIMIT})"
        )
