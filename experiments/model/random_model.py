"""A random model of two layers with a tokenizer of single bytes, in a folder like that of any other model."""

import json
from pathlib import Path

import jax
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from experiments.data.tokens import TextCodec
from experiments.model import parameters, pretrained
from experiments.model.transformer import Architecture

__all__ = ["ARCHITECTURE", "codec", "write"]

_END, _TURN_END, _PAD = "<|endoftext|>", "<|im_end|>", "<|pad|>"
_SPECIALS = (_END, "<|im_start|>", _TURN_END, _PAD)
_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_STOPS = (_SPECIALS.index(_END), _SPECIALS.index(_TURN_END))

ARCHITECTURE = Architecture(
    vocabulary=256 + len(_SPECIALS),
    width=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    mlp_width=128,
    norm_epsilon=1e-5,
    rope_theta=10_000.0,
    rope_scaling=None,
    is_tied=True,
    context=2048,  # bytes: the longest problems with their solutions have about 1,500
)


def _tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: place for place, token in enumerate([*_SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(ids, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _SPECIALS])
    return tokenizer


def codec() -> TextCodec:
    """The tokenizer, as `tokens.load` reads it from the folder."""
    return TextCodec(_tokenizer(), _TEMPLATE, {"eos_token": _END, "pad_token": _PAD}, _STOPS)


def write(folder: Path, *, seed: int = 0, architecture: Architecture = ARCHITECTURE) -> None:
    """Writes the model and its tokenizer; another architecture must have the tokenizer's vocabulary at least."""
    pretrained.save(parameters.init(architecture, jax.random.key(seed)), architecture, folder)
    _tokenizer().save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": _END,
        "pad_token": _PAD,
        "chat_template": _TEMPLATE,
    }
    stops = {"eos_token_id": _STOPS, "pad_token_id": _SPECIALS.index(_PAD)}
    for name, content in (("tokenizer_config.json", config), ("generation_config.json", stops)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
