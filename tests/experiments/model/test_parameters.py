"""The table of the parameters: counts of published models, and rows that fit their arrays."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from experiments.model import parameters, random_model, sharding
from experiments.model.parameters import TABLE
from experiments.model.published import ARCHITECTURES


def test_counts_are_those_of_the_model_cards():
    assert parameters.count(ARCHITECTURES["smollm2"]) == 134_515_008
    assert parameters.count(ARCHITECTURES["llama3-8b"]) == 8_030_261_248


EVERYTHING = replace(random_model.ARCHITECTURE, is_tied=False, has_qkv_bias=True, has_qk_norm=True)
"""More than a family has."""


@pytest.mark.parametrize("architecture", [random_model.ARCHITECTURE, EVERYTHING])
def test_random_parameters_have_the_shapes_and_the_start_of_the_family(architecture):
    params = parameters.init(architecture, jax.random.key(3))
    assert ("head" in params) == (not architecture.is_tied)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), parameters.shapes(architecture)
    )
    assert parameters.count(architecture) == sum(leaf.size for leaf in jax.tree.leaves(params))
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        if "norm" in name or "bias" in name:
            assert bool((leaf == ("norm" in name)).all())
        else:
            assert float(jnp.std(leaf)) == pytest.approx(0.02, rel=0.1)


def test_rows_fit_their_arrays():
    paths = jax.tree.leaves_with_path(parameters.shapes(EVERYTHING))
    ranks = {path[-1].key: leaf.ndim for path, leaf in paths}
    assert ranks.keys() == TABLE.keys()
    for name, row in TABLE.items():
        assert len(row.partition) <= ranks[name], name
        axes = jax.tree.leaves(tuple(row.partition))
        assert set(axes) <= set(sharding.AXES), name
        assert row.is_stacked == ("{}" in row.gguf) == (row.published.startswith("model.layers.")), name
        assert not row.is_stacked or not row.partition or row.partition[0] is None, name  # layers are never split
        assert row.is_transposed == (name != "embedding" and ranks[name] - row.is_stacked == 2), name
    assert len({row.published for row in TABLE.values()}) == len({row.gguf for row in TABLE.values()}) == len(TABLE)
