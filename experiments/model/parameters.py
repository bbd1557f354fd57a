"""The parameters of the model in one table, which initialisation, files, sharding and the conversion of GGUF read.

A new family of models needs rows here, their use in `transformer`, and its keys of config.json in `model_config`. The
table knows no file and no device.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.nn import initializers
from jax.nn.initializers import Initializer
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import PRNGKeyArray

from experiments.model.transformer import Architecture, Params

__all__ = ["TABLE", "Parameter", "build", "count", "init", "shapes", "tensor_name"]

_Leaf = TypeVar("_Leaf")


class Parameter(NamedTuple):
    """A row of the table: one tensor of the model, or one tensor of every layer.

    Attributes:
        shape: The shape of one tensor; None where the architecture has no such parameter.
        initializer: The distribution at the start.
        partition: The axes of the mesh of devices that split the array.
        published: The name in files of Hugging Face; `{}` is the number of the layer.
        gguf: The name in files of llama.cpp; `{}` is the number of the layer.
        is_transposed: Whether the published matrix is (out, in); here every matrix is (in, out).
        is_permuted: Whether llama.cpp stores the two rotated coordinates of a pair in neighbouring rows.
    """

    shape: Callable[[Architecture], tuple[int, ...] | None]
    initializer: Initializer
    partition: PartitionSpec
    published: str
    gguf: str
    is_transposed: bool = False
    is_permuted: bool = False

    @property
    def is_stacked(self) -> bool:
        """Whether every layer has the tensor; the layers are then the first axis of the array."""
        return "{}" in self.published

    def layers(self, architecture: Architecture) -> Sequence[int | None]:
        """The numbers of the layers that have the tensor; only None for a tensor outside of the layers."""
        return range(architecture.num_layers) if self.is_stacked else (None,)


_ONES = initializers.ones
_ZEROS = initializers.zeros
_NORMAL = initializers.normal(0.02)  # the standard deviation with which the families are published
_WHOLE = PartitionSpec()
_COLUMNS = PartitionSpec(None, "fsdp", "tensor")
_ROWS = PartitionSpec(None, "tensor", "fsdp")
_OF_COLUMNS = PartitionSpec(None, "tensor")  # a number for each column

TABLE: Mapping[str, Parameter] = MappingProxyType({
    # Split by rows alone: the look-up of a row then needs no exchange of columns.
    "embedding": Parameter(lambda a: (a.vocabulary, a.width), _NORMAL, PartitionSpec(("tensor", "fsdp")),
                           "model.embed_tokens.weight", "token_embd.weight"),
    "attention_norm": Parameter(lambda a: (a.width,), _ONES, _WHOLE,
                                "model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    "query": Parameter(lambda a: (a.width, a.num_heads * a.head_dim), _NORMAL, _COLUMNS,
                       "model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight",
                       is_transposed=True, is_permuted=True),
    "key": Parameter(lambda a: (a.width, a.num_kv_heads * a.head_dim), _NORMAL, _COLUMNS,
                     "model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight",
                     is_transposed=True, is_permuted=True),
    "value": Parameter(lambda a: (a.width, a.num_kv_heads * a.head_dim), _NORMAL, _COLUMNS,
                       "model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight", is_transposed=True),
    "query_bias": Parameter(lambda a: (a.num_heads * a.head_dim,) if a.has_qkv_bias else None, _ZEROS, _OF_COLUMNS,
                            "model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"),
    "key_bias": Parameter(lambda a: (a.num_kv_heads * a.head_dim,) if a.has_qkv_bias else None, _ZEROS, _OF_COLUMNS,
                          "model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"),
    "value_bias": Parameter(lambda a: (a.num_kv_heads * a.head_dim,) if a.has_qkv_bias else None, _ZEROS, _OF_COLUMNS,
                            "model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"),
    "query_norm": Parameter(lambda a: (a.head_dim,) if a.has_qk_norm else None, _ONES, _WHOLE,
                            "model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"),
    "key_norm": Parameter(lambda a: (a.head_dim,) if a.has_qk_norm else None, _ONES, _WHOLE,
                          "model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"),
    "output": Parameter(lambda a: (a.num_heads * a.head_dim, a.width), _NORMAL, _ROWS,
                        "model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight", is_transposed=True),
    "mlp_norm": Parameter(lambda a: (a.width,), _ONES, _WHOLE,
                          "model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"),
    "gate": Parameter(lambda a: (a.width, a.mlp_width), _NORMAL, _COLUMNS,
                      "model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", is_transposed=True),
    "up": Parameter(lambda a: (a.width, a.mlp_width), _NORMAL, _COLUMNS,
                    "model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", is_transposed=True),
    "down": Parameter(lambda a: (a.mlp_width, a.width), _NORMAL, _ROWS,
                      "model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", is_transposed=True),
    "norm": Parameter(lambda a: (a.width,), _ONES, _WHOLE, "model.norm.weight", "output_norm.weight"),
    "head": Parameter(lambda a: None if a.is_tied else (a.width, a.vocabulary), _NORMAL,
                      PartitionSpec("fsdp", "tensor"), "lm_head.weight", "output.weight", is_transposed=True),
})  # fmt: skip
"""The parameters by name. In the tree of parameters, those of every layer lie under `layers`."""


def tensor_name(name: str, layer: int | None = None) -> str:
    """The published name of a parameter; of a parameter of every layer, the name in one layer."""
    return TABLE[name].published.format(layer)


def build(architecture: Architecture, make: Callable[[str, tuple[int, ...]], _Leaf]) -> dict[str, object]:
    """A tree with the structure of the parameters, in the order of the table: a leaf from its name and shape."""
    tree: dict[str, object] = {}
    layers: dict[str, _Leaf] = {}
    for name, row in TABLE.items():
        shape = row.shape(architecture)
        if shape is None:
            continue
        if row.is_stacked:
            tree["layers"] = layers
            layers[name] = make(name, (architecture.num_layers, *shape))
        else:
            tree[name] = make(name, shape)
    return tree


def shapes(architecture: Architecture, dtype: DTypeLike = jnp.float32) -> Params:
    """The parameters as `jax.ShapeDtypeStruct`, for `jax.eval_shape`: no memory is allocated."""
    return cast(Params, build(architecture, lambda _, shape: jax.ShapeDtypeStruct(shape, dtype)))


def count(architecture: Architecture) -> int:
    """The number of parameters; a tied head is the embedding and is counted once."""
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(architecture)))


def init(architecture: Architecture, key: PRNGKeyArray, dtype: DTypeLike = jnp.float32) -> Params:
    """Random parameters, each from the initializer of its row."""
    leaves, structure = jax.tree.flatten_with_path(shapes(architecture, dtype))
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        TABLE[path[-1].key].initializer(key, leaf.shape, dtype) for (path, leaf), key in zip(leaves, keys, strict=True)
    )
