"""Models of a few hundred parameters in several shapes, with random parameters and texts."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import tokens
from experiments.model import parameters, transformer
from experiments.model.transformer import Architecture, RopeScaling

SMALL = Architecture(
    vocabulary=24,
    width=12,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=4,
    mlp_width=10,
    norm_epsilon=1e-5,
    rope_theta=100.0,
    rope_scaling=None,
    is_tied=True,
    context=64,
)
UNTIED = replace(SMALL, is_tied=False)
STRETCHED = replace(UNTIED, num_kv_heads=3, head_dim=8, rope_theta=1000.0, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 32))
QWEN2 = replace(SMALL, has_qkv_bias=True)
QWEN3 = replace(UNTIED, num_kv_heads=3, head_dim=8, has_qk_norm=True)
SMALLEST = replace(SMALL, vocabulary=16, width=8, num_layers=1, num_heads=2, num_kv_heads=1, mlp_width=8)
EVERYTHING = replace(STRETCHED, has_qkv_bias=True, has_qk_norm=True)
"""The parts of all families together; no folder has them."""
DIVISIBLE = replace(UNTIED, width=16, num_layers=2, num_heads=4, mlp_width=12, has_qkv_bias=True, has_qk_norm=True)
"""By eight devices in any mesh."""
BY_FAMILY = {"tied": SMALL, "untied, stretched": STRETCHED, "qwen2": QWEN2, "qwen3": QWEN3}


@cache
def random_params(architecture, dtype: type = np.float64, seed=0, scale=8.0):
    """Far from the usual start, where attention is uniform, biases are 0 and every error of order is small."""
    params = parameters.init(architecture, jax.random.key(seed), dtype)
    rng = np.random.default_rng(seed)

    def parameter(leaf):
        is_constant = bool((leaf == leaf.ravel()[0]).all())  # a norm or a bias
        return leaf + rng.normal(size=leaf.shape, scale=0.3).astype(dtype) if is_constant else leaf * scale

    return jax.tree.map(parameter, params)


def texts(architecture, count=5, seed=0, longest=14):
    rng = np.random.default_rng(seed)
    draw = lambda least, most: rng.integers(0, architecture.vocabulary, rng.integers(least, most)).tolist()  # noqa: E731
    return [tokens.Encoded(draw(1, longest - 5), draw(1, 6)) for _ in range(count)]


@partial(jax.jit, static_argnames=("architecture", "compute_dtype"))
def all_logits(params, architecture, ids, compute_dtype=jnp.float32):
    return transformer.logits(params, transformer.hidden(params, architecture, ids, compute_dtype=compute_dtype))


_TRANSPOSED = ("proj.weight", "lm_head.weight")


def published_tensors(params):
    """The parameters under their published names, as they are published."""
    by_name = {}
    for name, leaf in params.items():
        several = leaf.items() if isinstance(leaf, dict) else [(name, [leaf])]
        for inner, values in several:
            for layer, value in enumerate(values):
                published = parameters.tensor_name(inner, layer if isinstance(leaf, dict) else None)
                by_name[published] = np.asarray(value).T if published.endswith(_TRANSPOSED) else np.asarray(value)
    return by_name
