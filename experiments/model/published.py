"""Architectures of the presets' models, for a machine that has not fetched the models."""

from collections.abc import Mapping
from types import MappingProxyType

from experiments.model import random_model
from experiments.model.transformer import Architecture

__all__ = ["ARCHITECTURES"]

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({
    "tiny": random_model.ARCHITECTURE,
    "smollm2": Architecture(
        vocabulary=49152, width=576, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64, mlp_width=1536,
        norm_epsilon=1e-5, rope_theta=1e5, rope_scaling=None, is_tied=True, context=8192,
    ),
    "llama3-8b": Architecture(
        vocabulary=128256, width=4096, num_layers=32, num_heads=32, num_kv_heads=8, head_dim=128, mlp_width=14336,
        norm_epsilon=1e-5, rope_theta=5e5, rope_scaling=None, is_tied=False, context=8192,
    ),
})  # fmt: skip
"""By preset; the values are those of the published config.json files."""
