"""The config.json of a Llama, Qwen2 or Qwen3 model: read into an architecture, and written from one.

The reader knows both layouts (`rope_theta` beside `rope_scaling`, and `rope_parameters`) and three kinds of keys: keys
of the architecture, keys that do not change the outputs of the model, and keys that must have the value for which
`transformer` computes the model. All other keys are refused by name: an almost right model gives almost right numbers.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import astuple
from sys import float_info
from typing import NamedTuple

from experiments.model.tensor_files import few
from experiments.model.transformer import Architecture, RopeScaling

__all__ = ["architecture", "config"]

_UNDERSTOOD = frozenset({
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings", "rope_theta",
    "rope_scaling", "rope_parameters",
})  # fmt: skip

_FIXED: Mapping[str, tuple[object, ...]] = {
    "hidden_act": ("silu", "swish"),
    "attention_dropout": (0, None),
    "is_causal": (True,),
    **dict.fromkeys(("auto_map", "quantization_config", "pruned_heads", "per_layer_config", "no_rope_layers"),
                    (None, {}, [])),
    **dict.fromkeys(("mlp_bias", "is_encoder_decoder", "add_cross_attention", "rope_interleaved", "use_mrope"),
                    (False, None)),
    **dict.fromkeys(("cross_attention_hidden_size", "attention_chunk_size", "attention_multiplier",
                     "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"), (None,)),
    **dict.fromkeys(("partial_rotary_factor", "embedding_multiplier", "residual_multiplier", "logits_scaling",
                     "logit_scale"), (1, None)),
}  # fmt: skip
"""Keys that must be absent or have one of these values, for which `transformer` computes the model. Many are keys of
other families, with the values that change nothing."""

_NO_BIAS = {"attention_bias": (False, None)}
_NO_NORM = dict.fromkeys(("use_qk_norm", "qk_norm"), (False, None))
_NO_WINDOW = {"use_sliding_window": (False, None), "sliding_window": (None,)}
_WINDOW = frozenset({"use_sliding_window", "sliding_window", "max_window_layers", "layer_types"})


class _Family(NamedTuple):
    """A family of models.

    Attributes:
        model_class: The name of its language model in transformers.
        fixed: Further keys as in `_FIXED`.
        written: Keys that say in a file which parts the family does not have.
        has_qkv_bias: As in `Architecture`.
        has_qk_norm: As in `Architecture`.
        understood: Further keys of the architecture.
        required: Keys that must be there: their defaults in transformers follow from no other key.
    """

    model_class: str
    fixed: Mapping[str, tuple[object, ...]]
    written: Mapping[str, object]
    has_qkv_bias: bool = False
    has_qk_norm: bool = False
    understood: frozenset[str] = frozenset()
    required: tuple[str, ...] = ()


_FAMILIES: Mapping[str, _Family] = {
    "llama": _Family(
        "LlamaForCausalLM",
        fixed=_NO_BIAS | _NO_NORM | _NO_WINDOW,
        written={"attention_bias": False, "mlp_bias": False},
    ),
    "qwen2": _Family(
        "Qwen2ForCausalLM",
        fixed={"attention_bias": (None,)} | _NO_NORM,  # its biases have no key
        written={"use_sliding_window": False},
        has_qkv_bias=True,
        understood=_WINDOW,
        required=("max_position_embeddings", "num_key_value_heads"),
    ),
    "qwen3": _Family(
        "Qwen3ForCausalLM",
        fixed=_NO_BIAS | dict.fromkeys(_NO_NORM, (True, None)),
        written={"attention_bias": False, "use_sliding_window": False},
        has_qk_norm=True,
        understood=_WINDOW,
        required=("head_dim", "max_position_embeddings", "num_key_value_heads"),
    ),
}
"""By `model_type`."""

_REASONS = {
    "auto_map": "The folder's own code is not run here",
    "quantization_config": "Quantised weights have no gradients",
    "attention_dropout": "Training here drops nothing",
}

_HARMLESS = frozenset({
    # Names, versions and marks of the writer of the folder.
    "_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "transformers.js_config",
    "is_llama_config", "unsloth_version", "unsloth_fixed", "tokenizer_class", "prefix",
    # The storage of the weights, and the ways in which other libraries compute the same model.
    "dtype", "torch_dtype", "use_bfloat16", "torchscript", "tf_legacy_loss", "pretraining_tp",
    "chunk_size_feed_forward", "gradient_checkpointing", "attn_implementation", "_attn_implementation",
    "_attn_implementation_autoset", "_attn_implementation_internal", "experts_implementation",
    "_experts_implementation", "_flash_attn_2_enabled",
    # The start of training, and an older name of the context.
    "initializer_range", "max_sequence_length",
    # Tokens: the tokenizer's files and the sampler read them.
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "decoder_start_token_id",
    # The outputs of a call.
    "use_cache", "cache_implementation", "return_dict", "use_return_dict", "output_attentions",
    "output_hidden_states", "output_scores", "return_dict_in_generate", "tie_last_hidden_states",
    # Heads for other tasks: the folder of a language model holds none.
    "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params", "is_decoder",
    "tie_encoder_decoder",
    # Sampling.
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty",
    "temperature", "top_k", "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty",
    "encoder_repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size",
    "bad_words_ids", "num_return_sequences", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
})  # fmt: skip
"""Keys that do not change the outputs of a language model, with any value."""

_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")  # of a RopeScaling
_ROPE_FIXED = {"partial_rotary_factor": 1, "attention_factor": 1}


def architecture(config: Mapping[str, object]) -> Architecture:
    """The architecture in a config.json.

    Raises:
        ValueError: If the model is not of a family that `transformer` computes, or a key is not known; the message
            names the key.
    """
    kind = config.get("model_type")
    family = _FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise ValueError(f"model_type must be one of {', '.join(_FAMILIES)}; got {kind!r}. No other family is known")
    fixed = {"architectures": ([family.model_class], None, []), **_FIXED, **family.fixed}
    for key, known in fixed.items():
        if key in config and config[key] not in known:
            rule = "absent" if known[0] is None else repr(known[0])
            reason = f". {_REASONS[key]}" if key in _REASONS else ""
            raise ValueError(f"{key} must be {rule}; got {reprlib.repr(config[key])}{reason}")
    if unknown := sorted(config.keys() - {"model_type"} - _UNDERSTOOD - family.understood - fixed.keys() - _HARMLESS):
        raise ValueError(
            f"every key must be known here; got {few([f'{key}={reprlib.repr(config[key])}' for key in unknown])}. "
            "Remove from config.json those that change nothing in what the model computes"
        )
    if missing := [key for key in family.required if config.get(key) is None]:
        raise ValueError(f"{', '.join(missing)} must be given where model_type is {kind}; got none")
    theta, scaling = _rope(config)
    width, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    kv_heads = _count(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise ValueError(f"num_key_value_heads must divide num_attention_heads; got {kv_heads} and {heads}")
    if config.get("head_dim") is None and width % heads:
        raise ValueError(f"num_attention_heads must divide hidden_size, or head_dim be given; got {heads} and {width}")
    head_dim = _count(config, "head_dim", width // heads)
    if head_dim % 2:
        raise ValueError(f"head_dim must be even, for rotations are of pairs; got {head_dim}")
    is_tied = config.get("tie_word_embeddings", False)
    if not isinstance(is_tied, bool):
        raise ValueError(f"tie_word_embeddings must be true or false; got {is_tied!r}")
    num_layers, context = _count(config, "num_hidden_layers"), _count(config, "max_position_embeddings", 2048)
    if family.understood >= _WINDOW:
        _check_window(config, num_layers, context)
    return Architecture(
        vocabulary=_count(config, "vocab_size"),
        width=width,
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=_count(config, "intermediate_size"),
        norm_epsilon=_number(config, "rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        is_tied=is_tied,
        context=context,
        has_qkv_bias=family.has_qkv_bias,
        has_qk_norm=family.has_qk_norm,
    )


def _check_window(config: Mapping[str, object], num_layers: int, context: int) -> None:
    """Refuses a window of attention in which a token does not see the whole context."""
    if (types := config.get("layer_types")) not in (None, ["full_attention"] * num_layers):
        raise ValueError(
            f"layer_types must be full_attention for each of the {num_layers} layers; got {reprlib.repr(types)}"
        )
    is_used, window, first = (config.get(key) for key in ("use_sliding_window", "sliding_window", "max_window_layers"))
    if is_used not in (False, None, True):
        raise ValueError(f"use_sliding_window must be true or false; got {is_used!r}")
    is_wide = window is None or (isinstance(window, int) and window >= context)
    if is_used and not is_wide and not (isinstance(first, int) and first >= num_layers):
        raise ValueError(
            f"use_sliding_window must be false; got a window of {window!r} places from layer {first!r} on, of "
            f"{num_layers} layers. Every token sees its whole context of {context} here"
        )


def _rope(config: Mapping[str, object]) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotations; a file with both layouts must have the same in both."""
    outer = config.get("rope_theta")
    readings = {}
    for key in ("rope_scaling", "rope_parameters"):
        values = config.get(key)
        if values is not None and not isinstance(values, Mapping):
            raise ValueError(
                f"{key} must be an object; got {values!r}. rope_scaling and rope_parameters must be objects"
            )
        if values:
            inner = values.get("rope_theta")
            readings[key] = _rotations(key, {**values, "rope_theta": outer if inner is None else inner})
            if outer is not None and inner is not None and outer != inner:
                raise ValueError(
                    f"rope_theta must be the same in config.json and in its {key}; got {outer!r} and {inner!r}. "
                    "Readers differ in which one they take"
                )
    if not readings:
        return _number(config, "rope_theta", 10_000.0), None
    if len(set(readings.values())) > 1:
        raise ValueError(
            "rope_scaling and rope_parameters must say the same; got "
            f"{reprlib.repr(config['rope_scaling'])} and {reprlib.repr(config['rope_parameters'])}"
        )
    return next(iter(readings.values()))


def _rotations(where: str, values: Mapping[str, object]) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotations in one object; null stands for an absent value."""
    entries = {key: value for key, value in values.items() if value is not None}
    theta = _number(entries, "rope_theta", 10_000.0)
    entries.pop("rope_theta", None)
    for key, value in entries.items():
        if isinstance(value, Mapping):
            raise ValueError(f"{where} must hold for every layer; got an object for {key}. Rotations are the same here")
    kinds = [entries.pop(key) for key in ("rope_type", "type") if key in entries]
    if len(kinds) > 1 and kinds[0] != kinds[1]:
        raise ValueError(f"rope_type and type must be the same in {where}; got {kinds[0]!r} and {kinds[1]!r}")
    kind = kinds[0] if kinds else "default"
    if kind not in ("default", "llama3"):
        raise ValueError(f"rope_type must be default or llama3; got {kind!r}, whose rotations are not known here")
    for key, known in _ROPE_FIXED.items():
        if entries.pop(key, known) != known:
            raise ValueError(f"{key} must be {known} in {where}; got {values[key]!r}")
    if unknown := sorted(entries.keys() - (_LLAMA3 if kind == "llama3" else ())):
        rule = f"absent where rope_type is {kind}" if kinds else "beside a rope_type"
        raise ValueError(f"{', '.join(unknown)} must be {rule}; got {reprlib.repr(dict(values))} for {where}")
    if kind == "default":
        return theta, None
    factor, low, high = (_number(entries, key) for key in _LLAMA3[:3])
    if low >= high:
        raise ValueError(f"high_freq_factor must be more than low_freq_factor; got {high} and {low}")
    return theta, RopeScaling(factor, low, high, _count(entries, _LLAMA3[3]))


def _number(config: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= float_info.max:
        raise ValueError(f"{key} must be a positive number; got {value!r}")
    return float(value)


def _count(config: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = _number(config, key, None if default is None else float(default))
    if value != int(value):
        raise ValueError(f"{key} must be a whole number; got {value}")
    return int(value)


def config(architecture: Architecture) -> dict[str, object]:
    """The content of config.json in the older layout: all versions of transformers read it.

    Raises:
        ValueError: If no family has the parts of the architecture.
    """
    a = architecture
    by_parts = {(family.has_qkv_bias, family.has_qk_norm): kind for kind, family in _FAMILIES.items()}
    kind = by_parts.get((a.has_qkv_bias, a.has_qk_norm))
    if kind is None:
        raise ValueError("has_qkv_bias and has_qk_norm must not both be true; got both, which no family has.")
    family = _FAMILIES[kind]
    scaling = a.rope_scaling and {"rope_type": "llama3", **dict(zip(_LLAMA3, astuple(a.rope_scaling), strict=True))}
    return {
        "architectures": [family.model_class],
        "model_type": kind,
        "vocab_size": a.vocabulary,
        "hidden_size": a.width,
        "num_hidden_layers": a.num_layers,
        "num_attention_heads": a.num_heads,
        "num_key_value_heads": a.num_kv_heads,
        "head_dim": a.head_dim,
        "intermediate_size": a.mlp_width,
        "hidden_act": "silu",
        **family.written,
        "rms_norm_eps": a.norm_epsilon,
        "rope_theta": a.rope_theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": a.is_tied,
        "max_position_embeddings": a.context,
    }
