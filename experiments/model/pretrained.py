"""Model folders in the layout of Hugging Face, read into parameters and written from them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import jax
import numpy as np
from jax.sharding import Sharding

from experiments import files
from experiments.model import model_config, parameters, tensor_files
from experiments.model.parameters import TABLE, tensor_name
from experiments.model.tensor_files import few
from experiments.model.transformer import Architecture, Params

__all__ = ["load", "load_architecture", "save"]

_DTYPES = ("BF16", "F16", "F32", "F64")
_FREQUENCIES = "rotary_emb.inv_freq"  # in old checkpoints; the values follow from the configuration
_ROWS = 4096  # rows of two tensors that are compared at a time


@runtime_checkable
class _Slice(Protocol):
    """A tensor in a file, read in parts."""

    def __getitem__(self, place: slice) -> np.ndarray: ...


def load_architecture(folder: Path) -> Architecture:
    """The architecture of the model in a folder, from its config.json alone.

    Raises:
        FileNotFoundError: If there is no config.json.
        ValueError: If the model is not of the family; the message names the file and the key.
    """
    path = folder / tensor_files.CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} must exist: a model is a folder with config.json and safetensors files.")
    try:
        return model_config.architecture(files.read_object(path))
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removesuffix('.')}.") from None


def _published_shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    """The published name and shape of every tensor."""
    by_name = {}
    for name, row in TABLE.items():
        if (shape := row.shape(a)) is not None:
            for layer in row.layers(a):
                by_name[tensor_name(name, layer)] = shape[::-1] if row.is_transposed else shape
    return by_name


def load(
    folder: Path,
    *,
    dtype: type = np.float32,
    sharding: Callable[[str], Sharding] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> tuple[Params, Architecture]:
    """The parameters of a folder and their architecture.

    Tensors are read one after another: the host never holds more than one parameter.

    Args:
        folder: The folder, with config.json and safetensors files.
        dtype: The type of the parameters.
        sharding: The sharding of the parameter of a name; every device reads its own part. Without it all parameters
            lie on the first device.
        report: A function of the bytes on devices so far and of all bytes.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the model is not of the family, or a tensor is missing, too many, or of another shape; the
            message names all of them.
    """
    a = load_architecture(folder)
    files = tensor_files.files(folder, optional=[_FREQUENCIES])
    if a.num_layers > len(files):  # checked before there is a name for every tensor of every layer
        raise ValueError(f"{folder}: config.json gives {a.num_layers} layers; there are {len(files)} tensors.")
    expected = _published_shapes(a)
    head, embedding = tensor_name("head"), tensor_name("embedding")
    is_redundant = a.is_tied and head in files
    read = expected | ({head: expected[embedding]} if is_redundant else {})
    if missing := sorted(expected.keys() - files.keys()):
        untied = " Where the head is the embedding, tie_word_embeddings must be true." if head in missing else ""
        raise ValueError(f"{folder}: tensors are missing: {few(missing)}.{untied}")
    if extra := sorted(name for name in files.keys() - read.keys() if not name.endswith(_FREQUENCIES)):
        raise ValueError(f"{folder}: tensors must belong to the model of config.json; too many: {few(extra)}.")

    with ExitStack() as stack:
        handles = {path: stack.enter_context(tensor_files.open_file(path)) for path in sorted(set(files.values()))}
        slices = {name: handles[files[name]].get_slice(name) for name in read}
        wrong = [
            f"{name} is {tuple(slices[name].get_shape())}, not {shape}"
            for name, shape in read.items()
            if tuple(slices[name].get_shape()) != shape
        ]
        if wrong:
            raise ValueError(f"{folder}: tensors must have the shapes that config.json gives: {few(wrong)}.")
        if odd := [name for name in read if slices[name].get_dtype() not in _DTYPES]:
            kinds = sorted({slices[name].get_dtype() for name in odd})
            raise ValueError(f"{folder}: tensors must be {', '.join(_DTYPES)}; got {', '.join(kinds)}: {few(odd)}.")
        if is_redundant and not _are_equal(slices[head], slices[embedding], a.vocabulary):
            raise ValueError(
                f"{folder}: {head} must equal {embedding}, for tie_word_embeddings is true; they differ. Set it to "
                f"false in config.json if the model has a head of its own, or remove {head} if it is a left-over."
            )
        size = np.dtype(dtype).itemsize
        num_read, num_bytes = 0, size * sum(map(prod, expected.values()))

        def parameter(name: str, shape: tuple[int, ...]) -> jax.Array:
            nonlocal num_read
            row = TABLE[name]

            def tensor(layer: int | None, place: tuple[slice, ...]) -> np.ndarray:
                part = slices[tensor_name(name, layer)][place[::-1] if row.is_transposed else place]
                return np.asarray(part.T if row.is_transposed else part, dtype)

            def read(place: tuple[slice, ...] | None) -> np.ndarray:
                place = (slice(None),) * len(shape) if place is None else place
                if not row.is_stacked:
                    return np.ascontiguousarray(tensor(None, place))
                sizes = [len(range(size)[part]) for size, part in zip(shape, place, strict=True)]
                stacked = np.empty(sizes, dtype)
                for position, layer in enumerate(range(shape[0])[place[0]]):
                    stacked[position] = tensor(layer, place[1:])
                return stacked

            where = jax.sharding.SingleDeviceSharding(jax.devices()[0]) if sharding is None else sharding(name)
            array = jax.make_array_from_callback(shape, where, read)
            num_read += prod(shape) * size
            if report is not None:
                report(num_read, num_bytes)
            return array

        return cast(Params, parameters.build(a, parameter)), a


def _are_equal(first: _Slice, second: _Slice, num_rows: int) -> bool:
    """Whether two matrices hold the same numbers in any types; the matrices are read a part at a time."""
    for start in range(0, num_rows, _ROWS):
        end = min(start + _ROWS, num_rows)  # past the end the library raises
        parts = (np.asarray(matrix[start:end], np.float64) for matrix in (first, second))
        if not np.array_equal(*parts, equal_nan=True):
            return False
    return True


def save(params: Params, architecture: Architecture, folder: Path) -> None:
    """Writes a folder that `load` and `transformers` read, in place of the model that the folder holds.

    The parameters keep their type. Tokenizer files are no part of the model.
    """

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        leaves = {**params["layers"], **params}
        for name, row in TABLE.items():
            if name in leaves:
                for layer in row.layers(architecture):
                    value = np.asarray(leaves[name] if layer is None else leaves[name][layer])
                    yield tensor_name(name, layer), value.T if row.is_transposed else value

    tensor_files.replace(folder, model_config.config(architecture), tensors())
