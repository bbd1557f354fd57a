"""Run by test_sharding.py in a process of its own with eight virtual devices: prints the largest relative errors."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data import tokens
from experiments.model import decoding, objectives, pretrained, sharding
from numerics import losses, schedules, updates
from numerics.epoch import Epoch
from tests.support.tiny_models import DIVISIBLE as A
from tests.support.tiny_models import random_params, texts

MESHES = [(8, 1, 1), (1, 4, 2), (2, 2, 2)]


def error(got, expected):
    """The largest difference of a leaf, relative to its largest number."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    arrays = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return max(float(np.abs(a - b).max() / (np.abs(b).max() + 1e-30)) for a, b in arrays)


def results(params, batch, mesh, optimizer):
    loss = objectives.negative_log_likelihood(A, compute_dtype=jnp.float64, mesh=mesh)
    stack = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], batch)
    pairs = losses.pairs(losses.negated(loss), stack, loss, stack)
    word = schedules.interleaved(1, first="+")

    @jax.jit
    def all_of(params, batch, state, direction):
        gradient = jax.grad(loss)(params, batch)
        hvp = jax.jvp(lambda p: jax.grad(loss)(p, batch), (params,), (direction,))[1]
        made = updates.sequential(Epoch(pairs, word, optimizer, params, state), step_size=0.01)
        return gradient, hvp, made.displacement, made.state

    direction = jax.tree.map(jnp.sin, params)
    state = sharding.init(optimizer, params)
    made = all_of(params, batch, state, direction)
    prompts, lengths = np.asarray(batch.tokens)[:, :4], np.full(8, 4)
    decoded = decoding.greedy(
        params,
        A,
        jnp.asarray(prompts),
        jnp.asarray(lengths),
        stop_tokens=(3,),
        max_new_tokens=6,
        compute_dtype=jnp.float64,
    )
    return made, decoded, state


def is_loaded_in_place(params, mesh, folder):
    """Whether a folder's parameters come as they are, each in its place; of the two families in A, Qwen2's."""
    qwen2 = replace(A, has_qk_norm=False)
    layers = {name: leaf for name, leaf in params["layers"].items() if name not in ("query_norm", "key_norm")}
    narrow = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params | {"layers": layers})
    if not any(folder.iterdir()):
        pretrained.save(narrow, qwen2, folder)
    loaded, _ = pretrained.load(folder, sharding=sharding.of_parameter(mesh))
    where = sharding.of_parameters(mesh, qwen2)
    same = jax.tree.map(
        lambda got, leaf, place: got.sharding == place and np.array_equal(got, leaf), loaded, narrow, where
    )
    return all(jax.tree.leaves(same))


def main():
    jax.config.update("jax_enable_x64", True)
    assert jax.device_count() == 8
    params = random_params(A)
    batch = tokens.batch(texts(A, 8), [0.1 * i + 0.1 for i in range(8)], shape=(16, 8))
    optimizer = optax.adamw(1.0)
    expected, decoded, _ = results(params, batch, None, optimizer)
    folder = tempfile.TemporaryDirectory()
    for sizes in MESHES:
        mesh = sharding.mesh(*sizes)
        sharding.check(mesh, A, 8)
        placed = jax.device_put(params, sharding.of_parameters(mesh, A))
        rows = jax.device_put(batch, sharding.batch(mesh))
        found, tokens_found, state = results(placed, rows, mesh, optimizer)
        where = jax.tree.map(lambda leaf: leaf.sharding, placed)
        moments = [
            jax.tree.map(lambda leaf: leaf.sharding, tree)
            for tree in (optax.tree.get(state, "mu"), optax.tree.get(state, "nu"), found[0])
        ]
        print(
            json.dumps(
                {
                    "mesh": sizes,
                    "gradient": error(found[0], expected[0]),
                    "hvp": error(found[1], expected[1]),
                    "step": error(found[2], expected[2]),
                    "state": error(found[3], expected[3]),
                    "decoding": error(tokens_found, decoded),
                    "moments lie like their parameters": all(
                        a.is_equivalent_to(b, leaf.ndim)
                        for tree in moments
                        for a, b, leaf in zip(
                            jax.tree.leaves(tree), jax.tree.leaves(where), jax.tree.leaves(placed), strict=True
                        )
                    ),
                    "is loaded in place": is_loaded_in_place(params, mesh, Path(folder.name)),
                    "a device holds": max(
                        leaf.addressable_shards[0].data.size / leaf.size
                        for leaf in jax.tree.leaves(placed)
                        if leaf.size > A.num_layers * A.width  # norms and biases are small
                    ),
                }
            )
        )


if __name__ == "__main__":
    main()
