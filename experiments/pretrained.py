"""Folders as Hugging Face lays them out, read into a policy's parameters and written back.

The configuration is read in both of its layouts (`rope_theta` beside `rope_scaling`, and `rope_parameters`). What is
not understood is refused by name: a model that is almost the right one gives almost the right numbers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from math import inf, prod
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Sharding
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from experiments import jsonl, policy
from experiments.policy import Architecture, Params, RopeScaling

__all__ = ["architecture", "load", "load_architecture", "save", "tensor_name"]

_DTYPES = ("BF16", "F16", "F32", "F64")
_FILE_BYTES = 5 * 10**9  # as large as the hub advises a file to be


class _Tensor(NamedTuple):
    name: str
    is_transposed: bool  # the published matrices are (out, in)


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


def _rope(config: Mapping[str, object]) -> tuple[float, RopeScaling | None]:
    nested = config.get("rope_parameters") or {}
    scaling = nested or config.get("rope_scaling") or {}
    if not isinstance(nested, Mapping) or not isinstance(scaling, Mapping):
        raise ValueError("rope_parameters and rope_scaling must be objects")
    theta = _number(nested if "rope_theta" in nested else config, "rope_theta", 10_000.0)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise ValueError(f"rope_type must be default or llama3; got {kind!r}, whose rotations are not known here")
    return theta, RopeScaling(
        factor=_number(scaling, "factor"),
        low_frequency_factor=_number(scaling, "low_freq_factor"),
        high_frequency_factor=_number(scaling, "high_freq_factor"),
        original_context=int(_number(scaling, "original_max_position_embeddings")),
    )


def _number(config: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < inf:
        raise ValueError(f"{key} must be a positive number; got {value!r}")
    return float(value)


def _count(config: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = _number(config, key, None if default is None else float(default))
    if value != int(value):
        raise ValueError(f"{key} must be a whole number; got {value}")
    return int(value)


def architecture(config: Mapping[str, object]) -> Architecture:
    """The model that a config.json describes.

    Raises:
        ValueError: If it is not of the Llama family as computed here; the message names the key.
    """
    required = {
        "model_type": ("llama",),
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "pretraining_tp": (1,),
        "partial_rotary_factor": (1,),
    }
    for key, known in required.items():
        if key in config and config[key] not in known:
            raise ValueError(f"{key} must be {known[0]!r}; got {config[key]!r}")
    if "model_type" not in config:
        raise ValueError("model_type must be given, and be 'llama'")
    if config.get("quantization_config"):
        raise ValueError("quantization_config must be absent: quantised weights have no gradients")
    theta, scaling = _rope(config)
    width, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    kv_heads = _count(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise ValueError(f"num_key_value_heads must divide num_attention_heads; got {kv_heads} and {heads}")
    head_dim = _count(config, "head_dim", max(width // heads, 1))
    if head_dim % 2:
        raise ValueError(f"head_dim must be even, for rotations are of pairs; got {head_dim}")
    is_tied = config.get("tie_word_embeddings", False)
    if not isinstance(is_tied, bool):
        raise ValueError(f"tie_word_embeddings must be true or false; got {is_tied!r}")
    return Architecture(
        vocabulary=_count(config, "vocab_size"),
        width=width,
        num_layers=_count(config, "num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=_count(config, "intermediate_size"),
        norm_epsilon=_number(config, "rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        is_tied=is_tied,
        context=_count(config, "max_position_embeddings", 2048),
    )


def _config(a: Architecture) -> dict[str, object]:
    """In the older layout, which every version of transformers reads."""
    scaling = a.rope_scaling and {
        "rope_type": "llama3",
        "factor": a.rope_scaling.factor,
        "low_freq_factor": a.rope_scaling.low_frequency_factor,
        "high_freq_factor": a.rope_scaling.high_frequency_factor,
        "original_max_position_embeddings": a.rope_scaling.original_context,
    }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": a.vocabulary,
        "hidden_size": a.width,
        "num_hidden_layers": a.num_layers,
        "num_attention_heads": a.num_heads,
        "num_key_value_heads": a.num_kv_heads,
        "head_dim": a.head_dim,
        "intermediate_size": a.mlp_width,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "rms_norm_eps": a.norm_epsilon,
        "rope_theta": a.rope_theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": a.is_tied,
        "max_position_embeddings": a.context,
    }


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} must exist: a model is a folder with config.json and safetensors files.")
    return jsonl.read_object(path)


def load_architecture(folder: Path) -> Architecture:
    """The model that a folder holds, from its config.json alone.

    Raises:
        FileNotFoundError: If there is no config.json.
        ValueError: If the model is not of the family; the message names the file and the key.
    """
    path = folder / "config.json"
    try:
        return architecture(_read_json(path))
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removesuffix('.')}.") from None


def _files(folder: Path) -> dict[str, Path]:
    """The file of every tensor."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        placed = _read_json(index).get("weight_map")
        if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
            raise ValueError(f"{index}: weight_map must give the file of every tensor.")
        files = {folder / name for name in placed.values()}
        if missing := sorted(path.name for path in files if not path.is_file()):
            raise FileNotFoundError(f"{folder} must hold the files that {index.name} names; missing: {missing}.")
    else:
        placed, files = None, {folder / "model.safetensors"}
        if not (folder / "model.safetensors").is_file():
            raise FileNotFoundError(f"{folder} must hold model.safetensors, or model.safetensors.index.json and files.")
    found: dict[str, Path] = {}
    for path in sorted(files):
        with _opened(path) as file:
            found |= dict.fromkeys(file.keys(), path)
    if placed is not None and (absent := sorted(placed.keys() - found.keys())):
        raise ValueError(f"{index}: names tensors that no file holds: {_few(absent)}.")
    return found


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="np")
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file: {error}.") from None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _expected(a: Architecture) -> dict[str, tuple[int, ...]]:
    """The published name and shape of every tensor."""
    sizes = policy.shapes(a)
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
    files = _files(folder)
    if a.num_layers > len(files):  # before a name is made for each
        raise ValueError(f"{folder}: config.json gives {a.num_layers} layers; there are {len(files)} tensors.")
    expected = _expected(a)
    # Old checkpoints hold the frequencies of the rotations as well; they follow from the configuration.
    extra = sorted(name for name in files.keys() - expected.keys() if not name.endswith("rotary_emb.inv_freq"))
    if missing := sorted(expected.keys() - files.keys()):
        raise ValueError(f"{folder}: tensors are missing: {_few(missing)}.")
    if extra:
        tied = " The head is tied to the embedding here." if "lm_head.weight" in extra and a.is_tied else ""
        raise ValueError(f"{folder}: tensors must belong to the model of config.json; too many: {_few(extra)}.{tied}")

    with ExitStack() as stack:
        opened = {path: stack.enter_context(_opened(path)) for path in sorted(set(files.values()))}
        slices = {name: opened[files[name]].get_slice(name) for name in expected}
        wrong = [
            f"{name} is {tuple(slices[name].get_shape())}, not {shape}"
            for name, shape in expected.items()
            if tuple(slices[name].get_shape()) != shape
        ]
        if wrong:
            raise ValueError(f"{folder}: tensors must have the shapes that config.json gives: {_few(wrong)}.")
        if odd := [name for name in expected if slices[name].get_dtype() not in _DTYPES]:
            kinds = sorted({slices[name].get_dtype() for name in odd})
            raise ValueError(f"{folder}: tensors must be {', '.join(_DTYPES)}; got {', '.join(kinds)}: {_few(odd)}.")
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


def _from_shapes(a: Architecture, make: Callable[[str, tuple[int, ...]], jax.Array]) -> Params:
    sizes = policy.shapes(a)
    made: Params = {
        "embedding": make("embedding", sizes["embedding"]),
        "layers": {name: make(name, shape) for name, shape in sizes["layers"].items()},
        "norm": make("norm", sizes["norm"]),
    }
    return {**made, "head": make("head", sizes["head"])} if "head" in sizes else made


def save(params: Params, architecture: Architecture, folder: Path) -> None:
    """A folder that `load` and `transformers` read, in the type of the parameters.

    Args:
        params: The parameters.
        architecture: Their model.
        folder: Made where it does not exist. Tokenizer files are not part of the model and are not written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_config(architecture), indent=2) + "\n", encoding="utf-8")
    parts: list[dict[str, np.ndarray]] = [{}]
    num_bytes = 0

    def add(name: str, value: np.ndarray, is_transposed: bool) -> None:
        nonlocal num_bytes
        value = np.ascontiguousarray(value.T if is_transposed else value)
        if parts[-1] and sum(part.nbytes for part in parts[-1].values()) + value.nbytes > _FILE_BYTES:
            parts.append({})
        parts[-1][name] = value
        num_bytes += value.nbytes

    for name, leaf in params.items():
        if isinstance(leaf, dict):
            for inner, stacked in leaf.items():
                for layer in range(architecture.num_layers):
                    add(tensor_name(inner, layer), np.asarray(stacked[layer]), _LAYER[inner].is_transposed)
        else:
            add(tensor_name(name), np.asarray(leaf), _OUTER[name].is_transposed)
    if len(parts) == 1:
        _save(parts[0], folder / "model.safetensors")
        return
    placed: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05}-of-{len(parts):05}.safetensors"
        _save(part, folder / file)
        placed |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": num_bytes}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _save(tensors: dict[str, np.ndarray], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(path.with_name("config.json").stat().st_mode)  # the library's files are for their owner alone
