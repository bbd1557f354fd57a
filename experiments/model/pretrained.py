"""Folders as Hugging Face lays them out, read into a policy's parameters and written back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Sharding

from experiments import jsonl
from experiments.model import llama, llama_config, tensor_files
from experiments.model.llama import Architecture, Params
from experiments.model.llama_config import architecture

__all__ = ["architecture", "load", "load_architecture", "save", "tensor_name"]

_DTYPES = ("BF16", "F16", "F32", "F64")
_FREQUENCIES = "rotary_emb.inv_freq"  # old checkpoints hold them as well; they follow from the configuration
_ROWS = 4096  # of two tensors, compared at a time


class _Tensor(NamedTuple):
    name: str
    is_transposed: bool  # the published matrices are (out, in)


@runtime_checkable
class _Slice(Protocol):
    """A tensor in a file, read in parts."""

    def __getitem__(self, place: slice) -> np.ndarray: ...


_OUTER = {
    "embedding": _Tensor("model.embed_tokens.weight", False),
    "norm": _Tensor("model.norm.weight", False),
    "head": _Tensor("lm_head.weight", True),
}
_LAYER = {
    "attention_norm": _Tensor("input_layernorm.weight", False),
    "query": _Tensor("self_attn.q_proj.weight", True),
    "key": _Tensor("self_attn.k_proj.weight", True),
    "value": _Tensor("self_attn.v_proj.weight", True),
    "output": _Tensor("self_attn.o_proj.weight", True),
    "mlp_norm": _Tensor("post_attention_layernorm.weight", False),
    "gate": _Tensor("mlp.gate_proj.weight", True),
    "up": _Tensor("mlp.up_proj.weight", True),
    "down": _Tensor("mlp.down_proj.weight", True),
}


def tensor_name(parameter: str, layer: int | None = None) -> str:
    """The published name of a parameter, or of one layer of it."""
    return _OUTER[parameter].name if layer is None else f"model.layers.{layer}.{_LAYER[parameter].name}"


def load_architecture(folder: Path) -> Architecture:
    """The model that a folder holds, from its config.json alone.

    Raises:
        FileNotFoundError: If there is no config.json.
        ValueError: If the model is not of the family; the message names the file and the key.
    """
    path = folder / tensor_files.CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} must exist: a model is a folder with config.json and safetensors files.")
    try:
        return architecture(jsonl.read_object(path))
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removesuffix('.')}.") from None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _expected(a: Architecture) -> dict[str, tuple[int, ...]]:
    """The published name and shape of every tensor."""
    sizes = llama.shapes(a)
    layers = sizes["layers"]
    made = {
        tensor.name: shape[::-1] if tensor.is_transposed else shape
        for name, tensor in _OUTER.items()
        if isinstance(shape := sizes.get(name), tuple)
    }
    for name, tensor in _LAYER.items():
        shape = layers[name][1:]
        for layer in range(a.num_layers):
            made[tensor_name(name, layer)] = shape[::-1] if tensor.is_transposed else shape
    return made


def load(
    folder: Path,
    *,
    dtype: type = np.float32,
    sharding: Callable[[str], Sharding] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> tuple[Params, Architecture]:
    """Parameters and model of a folder, tensor by tensor: the host never holds more than one parameter.

    Args:
        folder: With config.json and safetensors files.
        dtype: Of the parameters.
        sharding: Where the parameter of this name goes; every device reads its own part. By default the first device.
        report: Called with the bytes placed so far and in all.

    Returns:
        The parameters and their architecture.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the model is not of the family, or a tensor is missing, too many, or of another shape; all are
            named.
    """
    a = load_architecture(folder)
    files = tensor_files.files(folder, optional=[_FREQUENCIES])
    if a.num_layers > len(files):  # before a name is made for each
        raise ValueError(f"{folder}: config.json gives {a.num_layers} layers; there are {len(files)} tensors.")
    expected = _expected(a)
    head, embedding = _OUTER["head"].name, _OUTER["embedding"].name
    is_redundant = a.is_tied and head in files
    read = expected | ({head: expected[embedding]} if is_redundant else {})
    if missing := sorted(expected.keys() - files.keys()):
        untied = " Where the head is the embedding, tie_word_embeddings must be true." if head in missing else ""
        raise ValueError(f"{folder}: tensors are missing: {_few(missing)}.{untied}")
    if extra := sorted(name for name in files.keys() - read.keys() if not name.endswith(_FREQUENCIES)):
        raise ValueError(f"{folder}: tensors must belong to the model of config.json; too many: {_few(extra)}.")

    with ExitStack() as stack:
        opened = {path: stack.enter_context(tensor_files.opened(path)) for path in sorted(set(files.values()))}
        slices = {name: opened[files[name]].get_slice(name) for name in read}
        wrong = [
            f"{name} is {tuple(slices[name].get_shape())}, not {shape}"
            for name, shape in read.items()
            if tuple(slices[name].get_shape()) != shape
        ]
        if wrong:
            raise ValueError(f"{folder}: tensors must have the shapes that config.json gives: {_few(wrong)}.")
        if odd := [name for name in read if slices[name].get_dtype() not in _DTYPES]:
            kinds = sorted({slices[name].get_dtype() for name in odd})
            raise ValueError(f"{folder}: tensors must be {', '.join(_DTYPES)}; got {', '.join(kinds)}: {_few(odd)}.")
        if is_redundant and not _are_equal(slices[head], slices[embedding], a.vocabulary):
            raise ValueError(
                f"{folder}: {head} must equal {embedding}, for tie_word_embeddings is true; they differ. Set it to "
                f"false in config.json if the model has a head of its own, or remove {head} if it is a left-over."
            )
        placed, total = 0, np.dtype(dtype).itemsize * sum(map(prod, expected.values()))

        def tensor(name: str, place: tuple[slice, ...], is_transposed: bool) -> np.ndarray:
            part = slices[name][place[::-1] if is_transposed else place]
            return np.asarray(part.T if is_transposed else part, dtype)

        def parameter(path: str, shape: tuple[int, ...]) -> jax.Array:
            nonlocal placed

            def read(place: tuple[slice, ...] | None) -> np.ndarray:
                place = (slice(None),) * len(shape) if place is None else place
                if path in _OUTER:
                    return np.ascontiguousarray(tensor(_OUTER[path].name, place, _OUTER[path].is_transposed))
                layers = range(shape[0])[place[0]]
                sizes = [len(range(size)[part]) for size, part in zip(shape[1:], place[1:], strict=True)]
                made = np.empty((len(layers), *sizes), dtype)
                for row, layer in enumerate(layers):
                    made[row] = tensor(tensor_name(path, layer), place[1:], _LAYER[path].is_transposed)
                return made

            where = jax.sharding.SingleDeviceSharding(jax.devices()[0]) if sharding is None else sharding(path)
            made = jax.make_array_from_callback(shape, where, read)
            placed += prod(shape) * np.dtype(dtype).itemsize
            if report is not None:
                report(placed, total)
            return made

        return _from_shapes(a, parameter), a


def _are_equal(first: _Slice, second: _Slice, num_rows: int) -> bool:
    """Whether two matrices hold the same numbers, whatever their types; read a part at a time."""
    for start in range(0, num_rows, _ROWS):
        end = min(start + _ROWS, num_rows)  # past the end the library raises
        parts = (np.asarray(matrix[start:end], np.float64) for matrix in (first, second))
        if not np.array_equal(*parts, equal_nan=True):
            return False
    return True


def _from_shapes(a: Architecture, make: Callable[[str, tuple[int, ...]], jax.Array]) -> Params:
    sizes = llama.shapes(a)
    made: Params = {
        "embedding": make("embedding", sizes["embedding"]),
        "layers": {name: make(name, shape) for name, shape in sizes["layers"].items()},
        "norm": make("norm", sizes["norm"]),
    }
    return {**made, "head": make("head", sizes["head"])} if "head" in sizes else made


def save(params: Params, architecture: Architecture, folder: Path) -> None:
    """A folder that `load` and `transformers` read, in the type of the parameters, in place of the model that it holds.

    Args:
        params: The parameters.
        architecture: Their model.
        folder: Made where it does not exist. Tokenizer files are not part of the model and are not written.
    """

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for name, leaf in params.items():
            if isinstance(leaf, dict):
                for inner, stacked in leaf.items():
                    for layer in range(architecture.num_layers):
                        value = np.asarray(stacked[layer])
                        yield tensor_name(inner, layer), value.T if _LAYER[inner].is_transposed else value
            else:
                value = np.asarray(leaf)
                yield tensor_name(name), value.T if _OUTER[name].is_transposed else value

    tensor_files.replace(folder, llama_config.config(architecture), tensors())
