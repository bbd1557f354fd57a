"""Random folders of tiny Llama and Qwen models, built from keys of real config.json files, each with its right content.

A folder is either right, and then its rotations and its tensors are known because it was built from them, or something
in it would change the model or leave open which model it is, and then a refusal has to name that thing.
"""

import json
import random
from dataclasses import dataclass, field

import numpy as np
from safetensors.numpy import save_file

# As published, complete: values from the models' config.json files.
PUBLISHED = {
    "llama-3-8b": (
        {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 4096,
         "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 8192,
         "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
         "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 500000.0,
         "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.40.0.dev0",
         "use_cache": True, "vocab_size": 128256},
        8_030_261_248,
    ),
    "llama-3.1-8b-instruct": (
        {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
         "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
         "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 32,
         "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
         "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 8192, "rope_type": "llama3"},
         "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
         "transformers_version": "4.42.3", "use_cache": True, "vocab_size": 128256},
        8_030_261_248,
    ),
    "llama-3.2-1b-instruct": (
        {"_name_or_path": "meta-llama/Llama-3.2-1B-Instruct", "architectures": ["LlamaForCausalLM"],
         "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
         "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
         "initializer_range": 0.02, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False,
         "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
         "pretraining_tp": 1, "rms_norm_eps": 1e-05,
         "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                          "original_max_position_embeddings": 8192, "rope_type": "llama3"},
         "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
         "transformers_version": "4.45.0.dev0", "use_cache": True, "vocab_size": 128256},
        1_235_814_400,
    ),
    "smollm2-135m-instruct": (
        {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1,
         "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
         "intermediate_size": 1536, "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False,
         "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
         "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False,
         "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
         "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
         "transformers_version": "4.42.3", "use_cache": True, "vocab_size": 49152},
        134_515_008,
    ),
    "tinyllama-1.1b-chat": (
        {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2,
         "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632,
         "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 22,
         "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
         "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
         "transformers_version": "4.35.0", "use_cache": True, "vocab_size": 32000},
        1_100_048_384,
    ),
    "llama-2-7b": (
        {"_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
         "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
         "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
         "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1,
         "rms_norm_eps": 1e-05, "rope_scaling": None, "tie_word_embeddings": False, "torch_dtype": "float16",
         "transformers_version": "4.31.0.dev0", "use_cache": True, "vocab_size": 32000},
        6_738_415_616,
    ),
    "qwen2.5-0.5b-instruct": (
        {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
         "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
         "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21, "model_type": "qwen2",
         "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
         "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
         "transformers_version": "4.43.1", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936},
        494_032_768,
    ),
    "qwen2.5-7b": (
        {"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
         "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 3584, "initializer_range": 0.02,
         "intermediate_size": 18944, "max_position_embeddings": 131072, "max_window_layers": 28,
         "model_type": "qwen2", "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
         "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": False,
         "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": True, "use_mrope": False,
         "use_sliding_window": False, "vocab_size": 152064},
        7_615_616_512,
    ),
    "qwen3-0.6b": (
        {"architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
         "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 40960,
         "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 16, "num_hidden_layers": 28,
         "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
         "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
         "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936},
        596_049_920,
    ),
    "qwen3-8b": (
        {"architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
         "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096,
         "initializer_range": 0.02, "intermediate_size": 12288, "max_position_embeddings": 40960,
         "max_window_layers": 36, "model_type": "qwen3", "num_attention_heads": 32, "num_hidden_layers": 36,
         "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000,
         "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
         "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936},
        8_190_735_360,
    ),
}  # fmt: skip


def saved_by_transformers_5(config):
    """What `save_pretrained` of transformers 5 makes of a published config.json."""
    made = {key: value for key, value in config.items() if key not in ("rope_scaling", "rope_theta", "_name_or_path")}
    made["dtype"] = made.pop("torch_dtype")
    rope = {"rope_theta": config.get("rope_theta", 10000.0), "rope_type": "default"}
    made["rope_parameters"] = rope | (config.get("rope_scaling") or {})
    defaults = {"attention_dropout": 0.0, "pad_token_id": None}
    if config["model_type"] == "llama":
        made["head_dim"] = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        defaults |= {"attention_bias": False, "mlp_bias": False}
    else:  # of a window that is not used
        made |= {"sliding_window": None, "layer_types": ["full_attention"] * config["num_hidden_layers"]}
    return defaults | made | {"transformers_version": "5.24.0"}


# Rotations whose wavelengths lie on both sides of the scaling's bounds at these sizes.
LLAMA3 = (
    {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    {"factor": 32, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64},
    {"factor": 2.5, "low_freq_factor": 0.5, "high_freq_factor": 2.0, "original_max_position_embeddings": 40},
)
THETAS = (10000, 10000.0, 500000.0, 100000, 1e6, 50)

# Written by transformers 4 and 5 or by tools beside them; none of them is read by the model.
HARMLESS = {
    "_name_or_path": ["meta-llama/Meta-Llama-3-8B", ""],
    "_attn_implementation_autoset": [True],
    "_commit_hash": [None, "4e20de362430cd3b72f300e6b0f18e50e7166e08"],
    "attn_implementation": ["eager"],
    "begin_suppress_tokens": [None],
    "chunk_size_feed_forward": [0],
    "do_sample": [True],
    "dtype": ["float32", "bfloat16"],
    "finetuning_task": [None],
    "gradient_checkpointing": [False],
    "id2label": [{"0": "LABEL_0", "1": "LABEL_1"}],
    "is_llama_config": [True],
    "label2id": [{"LABEL_0": 0, "LABEL_1": 1}],
    "max_length": [20, 4096],
    "max_sequence_length": [2048],
    "num_beams": [1],
    "output_attentions": [False],
    "output_hidden_states": [False],
    "pretraining_tp": [1, 2],
    "problem_type": [None],
    "return_dict": [True],
    "temperature": [0.6, 1.0],
    "tokenizer_class": [None],
    "top_p": [0.9],
    "torch_dtype": ["float16", "float32"],
    "torchscript": [False],
    "transformers.js_config": [{"dtype": "q4"}],
    "unsloth_fixed": [True],
    "unsloth_version": ["2025.3.19"],
    "use_cache": [True, False],
}
# Of other families, or of features that the published models do not use: the first value changes nothing.
SWITCHES = {
    "attention_chunk_size": [None, 8192],
    "attention_dropout": [0.0, 0.1],
    "attention_multiplier": [None, 0.015625],
    "auto_map": [{}, {"AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}],
    "embedding_multiplier": [1.0, 12.0],
    "final_logit_softcapping": [None, 30.0],
    "is_encoder_decoder": [False, True],
    "logits_scaling": [1.0, 8.0],
    "mlp_bias": [False, True],
    "no_rope_layers": [[], [1, 0]],
    "partial_rotary_factor": [1.0, 0.5],
    "quantization_config": [None, {"bits": 4, "quant_method": "gptq"}],
    "residual_multiplier": [1.0, 0.22],
    "rope_interleaved": [False, True],
    "use_mrope": [False, True],
}
LLAMA_SWITCHES = {
    "attention_bias": [False, True],
    "sliding_window": [None, 4096],
    "use_qk_norm": [False, True],
    "use_sliding_window": [False, True],
}
FOREIGN = {
    "architectures": ["LlamaForSequenceClassification"],
    "head_dim": 7,
    "hidden_act": "gelu",
    "is_causal": False,
    "layer_types": ["sliding_attention", "full_attention"],
    "model_type": "granite",
    "num_local_experts": 4,
    "original_max_position_embeddings": 32,
    "per_layer_config": {"0": {"num_attention_heads": 2}},
    "position_embedding_type": "alibi",
    "qkv_bias": True,
    "rope_ratio": 2.0,
    "rotary_pct": 0.25,
    "tie_word_embeddings": "yes",
    "use_parallel_residual": False,
}


@dataclass
class Folder:
    """A folder, and what is right for it.

    Attributes:
        config: The content of config.json.
        theta: The base of the rotations.
        scaling: The values of Llama 3's scaling, or None.
        tensors: The right tensors, by their published names.
        files: The tensors of every file.
        index: The content of the index, or None.
        faults: What is wrong: a refusal must name one of them. Where there is none, the folder has to load.
        is_clear: Whether every reader must come to the same tensors.
    """

    config: dict
    theta: float
    scaling: dict | None
    tensors: dict
    files: dict = field(default_factory=dict)
    index: dict | None = None
    faults: list = field(default_factory=list)
    is_clear: bool = True

    def write(self, folder):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(self.config))
        for name, tensors in self.files.items():
            save_file(tensors, folder / name, metadata={"format": "pt"})
        if self.index is not None:
            (folder / "model.safetensors.index.json").write_text(json.dumps(self.index))


def draw(seed):
    """The folder of a number."""
    rng = random.Random(seed)
    config, _ = PUBLISHED[rng.choice(sorted(PUBLISHED))]
    switches = SWITCHES | LLAMA_SWITCHES if config["model_type"] == "llama" else SWITCHES
    config = config | rng.choice([
        {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24},
        {"hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 3, "intermediate_size": 20},
        {"hidden_size": 12, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
         "head_dim": 16},
    ])  # fmt: skip
    if config["hidden_size"] != 12:
        config.pop("head_dim", None)
        config |= {"head_dim": 8} if config["model_type"] == "qwen3" else {}  # not the width over the heads, or so
    config |= {"vocab_size": 40, "num_hidden_layers": 2, "max_position_embeddings": rng.choice([64, 2048])}
    config |= {"bos_token_id": 1, "eos_token_id": rng.choice([2, [2, 3]]), "pad_token_id": None}
    config["rms_norm_eps"] = rng.choice([1e-5, 1e-6])
    config["tie_word_embeddings"] = rng.random() < 0.5
    theta, scaling = rng.choice(THETAS), rng.choice([None, *LLAMA3])
    config |= {"rope_theta": theta, "rope_scaling": scaling and scaling | {"rope_type": "llama3"}}
    if rng.random() < 0.5:
        config = saved_by_transformers_5(config)
    folder = Folder(config, float(theta), scaling, _tensors(config, seed))
    _vary_rope(folder, rng)
    for key in rng.sample(sorted(HARMLESS), rng.randint(0, 4)):
        config[key] = rng.choice(HARMLESS[key])
    for key in rng.sample(sorted(switches), rng.randint(0, 3)):
        config[key] = switches[key][0]
    if rng.random() < 0.12:
        key = rng.choice(sorted(switches))
        config[key] = switches[key][1]
        folder.faults.append(key)
    if config["model_type"] != "llama":
        _vary_window(folder, rng)
    if rng.random() < 0.1:
        key = rng.choice(sorted(FOREIGN))
        config[key] = FOREIGN[key]
        folder.faults.append(key)
    _lay_out(folder, rng)
    return folder


def _tensors(config, seed):
    """Far from the usual start, where attention is uniform and the norms are 1."""
    rng = np.random.default_rng(seed)
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or width // heads
    queries, keys, inner = heads * head_dim, config["num_key_value_heads"] * head_dim, config["intermediate_size"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    parts = {
        "llama": {},
        "qwen2": {"q_proj.bias": (queries,), "k_proj.bias": (keys,), "v_proj.bias": (keys,)},
        "qwen3": {"q_norm.weight": (head_dim,), "k_norm.weight": (head_dim,)},
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    for layer in range(config["num_hidden_layers"]):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "input_layernorm": (width,),
                "self_attn.q_proj": (queries, width),
                "self_attn.k_proj": (keys, width),
                "self_attn.v_proj": (keys, width),
                "self_attn.o_proj": (width, queries),
                "post_attention_layernorm": (width,),
                "mlp.gate_proj": (inner, width),
                "mlp.up_proj": (inner, width),
                "mlp.down_proj": (width, inner),
            }.items()
        }
        own = parts[config["model_type"]]
        shapes |= {f"model.layers.{layer}.self_attn.{name}": shape for name, shape in own.items()}
    return {
        name: (
            rng.normal(size=shape) * (0.3 if len(shape) > 1 else 0.1) + (len(shape) == 1 and not name.endswith("bias"))
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def _vary_window(folder, rng):
    """Qwen's window of attention, in a way that no token notices, or so that later tokens do."""
    config = folder.config
    window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
    right = [
        {},
        {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0},
        window | {"sliding_window": config["max_position_embeddings"]},
        window | {"max_window_layers": 2},
        window | {"sliding_window": None},
    ]
    wrong = [window, window | {"max_window_layers": 1}, window | {"layer_types": ["full_attention"] * 2}]
    config.pop("layer_types", None)  # a writer's, after the window of its model
    is_right = rng.random() < 0.9
    config |= rng.choice(right if is_right else wrong)
    folder.faults += [] if is_right else ["use_sliding_window"]


def _vary_rope(folder, rng):
    """Says the same in another of its ways, or something that no reader can be sure of."""
    config, theta, scaling = folder.config, folder.config.get("rope_theta"), folder.scaling
    is_new = "rope_parameters" in config
    place = "rope_parameters" if is_new else "rope_scaling"
    if is_new:
        theta = config["rope_parameters"]["rope_theta"]
    other = theta * 3
    flat = dict(config[place] or {})
    both = {"rope_theta": theta, "rope_scaling": flat, "rope_parameters": {"rope_theta": theta} | flat}
    right = ["as it is", "repeated theta", "null theta", "empty", "twice"]
    wrong = ["other theta", "other kind", "no kind", "nested", "no object", "two kinds", "more keys"]
    right += ["old name", "both names"] if scaling else ["no kind for default", "null kind"]
    wrong += ["missing key", "equal bounds", "default beside scaling", "text"] if scaling else ["scaling in one"]
    what = rng.choice(right if rng.random() < 0.85 else wrong)
    if what == "repeated theta":
        config["rope_theta"] = theta
        config[place] = {**flat, "rope_theta": theta} if flat else config[place]
    elif what == "null theta":
        config |= {"rope_theta": None} if is_new else {}
    elif what == "empty":
        config["rope_scaling" if is_new else "rope_parameters"] = rng.choice([None, {}])
    elif what == "twice":
        config |= both
    elif what == "old name":
        flat["type"] = flat.pop("rope_type")
        config[place] = flat
    elif what == "both names":
        config[place] = flat | {"type": "llama3"}
    elif what == "no kind for default":
        config[place] = {"rope_theta": theta}
        config |= {} if is_new else {"rope_theta": theta}
    elif what == "null kind" and not is_new:
        config[place] = {"type": "default", "factor": None}
    elif what == "other theta":
        config |= {"rope_theta": other, "rope_parameters": {"rope_theta": theta, "rope_type": "default"}}
        folder.faults += ["rope_theta", "rope_scaling"]
    elif what == "other kind":
        kind = rng.choice(["linear", "dynamic", "yarn", "longrope", "proportional", "mrope"])
        config[place] = {"rope_theta": theta, rng.choice(["rope_type", "type"]): kind, "factor": 2.0}
        folder.faults.append(kind)
    elif what == "no kind":
        config[place] = {"rope_theta": theta, **(scaling or {"factor": 2.0})}
        folder.faults.append("rope_type")
    elif what == "nested":
        config["rope_parameters"] = {"full_attention": {"rope_theta": theta, "rope_type": "default"}}
        folder.faults += ["full_attention", "rope_scaling"]
    elif what == "no object":
        config[place] = rng.choice(["llama3", 2.0, [1.0], True, False])
        folder.faults.append(place)
    elif what == "two kinds":
        config[place] = flat | {"rope_theta": theta, "rope_type": "default", "type": "linear"}
        folder.faults.append("type")
    elif what == "more keys":
        key = rng.choice(["beta_fast", "short_factor", "mrope_section", "alpha"])
        config[place] = {"rope_theta": theta, "rope_type": "default"} | flat | {key: 1}
        folder.faults.append(key)
    elif what == "missing key":
        key = rng.choice(sorted(scaling))
        config[place] = {name: value for name, value in flat.items() if name != key}
        folder.faults.append(key)
    elif what == "equal bounds":
        config[place] = flat | {"low_freq_factor": flat["high_freq_factor"]}
        folder.faults.append("low_freq_factor")
    elif what == "default beside scaling":
        config[place] = flat | {"rope_type": "default"}
        folder.faults.append("rope_type")
    elif what == "text":
        config[place] = flat | {"factor": "8"}
        folder.faults.append("factor")
    elif what == "scaling in one":
        config |= both | {"rope_scaling": LLAMA3[0] | {"rope_type": "llama3"}, "rope_parameters": {"rope_theta": theta}}
        folder.faults.append("rope_parameters")


def _lay_out(folder, rng):
    tensors, embedding = folder.tensors, "model.embed_tokens.weight"
    is_tied = folder.config["tie_word_embeddings"] is True
    stored = dict(tensors)
    if is_tied and rng.random() < 0.4:
        stored["lm_head.weight"] = tensors[embedding].copy()
        if rng.random() < 0.3:
            stored["lm_head.weight"][-1, -1] += 1e-6
            folder.faults.append("lm_head.weight")
    if rng.random() < 0.1:
        stored["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    names = list(stored)
    if rng.random() < 0.04:
        gone = rng.choice(names)
        if gone in tensors:
            del stored[gone]
            names.remove(gone)
            folder.faults.append(gone)
    count = rng.choice([1, 1, 2, 3, 4])
    if count == 1:
        folder.files = {"model.safetensors": stored}
        return
    rng.shuffle(names)
    shards = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    places = {name: shards[number % count] for number, name in enumerate(names)}
    folder.files = {shard: {name: stored[name] for name in names if places[name] == shard} for shard in shards}
    folder.index = {"metadata": {"total_size": sum(value.nbytes for value in stored.values())}, "weight_map": places}
    what = rng.choice([None] * 5 + ["dead index", "twice", "twice", "both", "moved", "unnamed", "missing"])
    name = rng.choice(sorted(tensors.keys() & stored.keys()))
    others = [shard for shard in shards if shard != places[name]]
    if what == "dead index":
        folder.files = {"model.safetensors": stored}
    elif what == "twice":
        folder.files[rng.choice(others)][name] = stored[name] + 1
        folder.is_clear = False
    elif what == "both":
        folder.files["model.safetensors"] = {key: value + 1 for key, value in stored.items()}
        folder.faults.append("not both")
    elif what == "moved":
        places[name] = rng.choice(others)
        folder.faults.append(name)
    elif what == "unnamed":
        del places[name]
        folder.faults.append(name)
    elif what == "missing":
        del folder.files[places[name]]
        folder.faults.append(places[name])
