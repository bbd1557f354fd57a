"""Folders read and written: refusals by name, tensors over several files. By the hundred: test_model_folders.py."""

import json
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments.model import model_config, pretrained, tensor_files, transformer
from experiments.model.transformer import RopeScaling
from tests.support import model_folders
from tests.support.tiny_models import BY_FAMILY, EVERYTHING, random_params

TINY = Path(__file__).parents[2] / "data" / "tiny-llama-3.1"

QWEN2, _ = model_folders.PUBLISHED["qwen2.5-7b"]
QWEN3, _ = model_folders.PUBLISHED["qwen3-0.6b"]
SMOLLM2, _ = model_folders.PUBLISHED["smollm2-135m-instruct"]
LLAMA32, _ = model_folders.PUBLISHED["llama-3.2-1b-instruct"]
LLAMA3 = LLAMA32["rope_scaling"]


def test_the_oldest_name_of_the_rope_type():
    older = {("type" if key == "rope_type" else key): value for key, value in LLAMA3.items()}
    assert model_config.architecture({**LLAMA32, "rope_scaling": older}).rope_scaling == RopeScaling(
        32.0, 1.0, 4.0, 8192
    )


def test_a_base_of_null_is_as_good_as_absent():
    config = LLAMA32 | {"rope_theta": None, "rope_scaling": None, "rope_parameters": LLAMA3 | {"rope_theta": 5e5}}
    assert model_config.architecture(config) == model_config.architecture(LLAMA32)
    config = LLAMA32 | {"rope_scaling": LLAMA3 | {"rope_theta": None}}
    assert model_config.architecture(config) == model_config.architecture(LLAMA32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen3_moe"}, "model_type must be one of llama, qwen2, qwen3; got 'qwen3_moe'"),
        ({"model_type": None}, "model_type must be one of llama, qwen2, qwen3; got None"),
        ({"model_type": ["llama"]}, "model_type must be one of llama, qwen2, qwen3"),
        ({"model_type": "qwen2"}, "architectures must be ..Qwen2ForCausalLM..; got ..LlamaForCausalLM.."),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu'"),
        ({"attention_bias": True}, "attention_bias must be False"),
        ({"mlp_bias": True}, "mlp_bias must be False"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type must be default or llama3; got 'linear'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "got 'yarn'"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "got 'longrope'"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "low_freq_factor must be a positive number; got None",
        ),
        ({"rope_scaling": 7}, "must be objects"),
        ({"rope_theta": -1.0}, "rope_theta must be a positive number"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps must be a positive number; got 'small'"),
        ({"rope_theta": float("inf")}, "rope_theta must be a positive number; got inf"),
        ({"hidden_size": 2.5}, "hidden_size must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a positive number"),
        ({"num_key_value_heads": 5}, "must divide num_attention_heads"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false"),
        ({"quantization_config": {"bits": 4}}, "quantization_config must be absent"),
        ({"rope_scaling": {"factor": 2.0}}, "factor must be beside a rope_type"),
        (
            {"rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_type"}},
            "factor, .* must be beside a rope_type",
        ),
        ({"rope_scaling": LLAMA3 | {"rope_type": "default"}}, "factor, .* must be absent where rope_type is default"),
        ({"rope_scaling": LLAMA3 | {"type": "linear"}}, "rope_type and type must be the same in rope_scaling"),
        ({"rope_scaling": LLAMA3 | {"beta_fast": 32.0}}, "beta_fast must be absent where rope_type is llama3"),
        ({"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 64.5}}, "must be a whole number; got 64.5"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "high_freq_factor must be more than low_freq_factor"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "got an object for full_attention"),
        ({"rope_parameters": {"rope_theta": 5e5}}, "rope_theta must be the same .* got 100000 and 500000.0"),
        (
            {"rope_scaling": LLAMA3, "rope_parameters": {"rope_theta": 100000}},
            "rope_scaling and rope_parameters must say the same",
        ),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor must be 1",
        ),
        ({"logits_scaling": 8.0}, "logits_scaling must be 1; got 8.0"),
        ({"residual_multiplier": 0.22}, "residual_multiplier must be 1; got 0.22"),
        ({"use_qk_norm": True}, "use_qk_norm must be False; got True"),
        ({"sliding_window": 4096}, "sliding_window must be absent; got 4096"),
        ({"rope_interleaved": True}, "rope_interleaved must be False; got True"),
        ({"attention_dropout": 0.1}, "attention_dropout must be 0; got 0.1. Training here drops nothing"),
        ({"is_causal": False}, "is_causal must be True; got False"),
        ({"architectures": ["LlamaModel"]}, "architectures must be ..LlamaForCausalLM..; got ..LlamaModel.."),
        ({"auto_map": {"AutoModelForCausalLM": "mine.Mine"}}, "auto_map must be absent; .* own code is not run here"),
        ({"per_layer_config": {"0": {"num_attention_heads": 3}}}, "per_layer_config must be absent"),
        (
            {"rope_ratio": 2, "alibi": None},
            "every key must be known here; got alibi=None, rope_ratio=2. Remove from config.json those",
        ),
        ({"num_attention_heads": 15}, "num_attention_heads must divide hidden_size, .* got 15 and 576"),
        ({"vocab_size": 10**400}, "vocab_size must be a positive number"),
    ],
)
def test_what_is_not_the_family_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message.replace("'", ".")):
        model_config.architecture(SMOLLM2 | change)


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (QWEN2, {"attention_bias": False}, "attention_bias must be absent; got False"),
        (QWEN2, {"use_qk_norm": True}, "use_qk_norm must be False; got True"),
        (QWEN2, {"num_key_value_heads": None}, "num_key_value_heads must be given where model_type is qwen2; got none"),
        (QWEN2, {"max_position_embeddings": None}, "max_position_embeddings must be given where model_type is qwen2"),
        (QWEN2, {"use_mrope": True}, "use_mrope must be False; got True"),
        (
            QWEN2,
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
            "rope_type must be default or llama3; got 'yarn'",
        ),
        (QWEN2, {"dual_chunk_attention_config": {"chunk_size": 262144}}, "dual_chunk_attention_config="),
        (QWEN2, {"num_local_experts": 4}, "every key must be known here; got num_local_experts=4"),
        (QWEN3, {"head_dim": None}, "head_dim must be given where model_type is qwen3; got none"),
        (QWEN3, {"attention_bias": True}, "attention_bias must be False; got True"),
        (QWEN3, {"use_qk_norm": False}, "use_qk_norm must be True; got False"),
        (QWEN3, {"layer_types": ["full_attention"]}, "layer_types must be full_attention for each of the 28 layers"),
        (QWEN3, {"layer_types": ["sliding_attention"] * 28}, "layer_types must be full_attention for each of the 28"),
        (QWEN3, {"use_sliding_window": "no"}, "use_sliding_window must be true or false; got 'no'"),
        (
            QWEN3,
            {"use_sliding_window": True, "sliding_window": 40959, "max_window_layers": 27},
            "use_sliding_window must be false; got a window of 40959 places from layer 27 on, of 28 layers",
        ),
        (
            QWEN3,
            {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": None},
            "use_sliding_window must be false; got a window of 4096 places from layer None on",
        ),
    ],
)
def test_other_kinds_of_qwen_are_refused_by_name(config, change, message):
    with pytest.raises(ValueError, match=message):
        model_config.architecture(config | change)


@pytest.mark.parametrize(
    "change",
    [
        {"sliding_window": 40960, "max_window_layers": 0},
        {"sliding_window": 4096, "max_window_layers": 28},
        {"sliding_window": None, "max_window_layers": 0},
    ],
)
def test_a_window_that_no_token_notices_is_passed_over(change):
    config = QWEN3 | {"use_sliding_window": True} | change
    assert model_config.architecture(config) == model_config.architecture(QWEN3)


def test_the_parts_of_two_families_have_no_file():
    with pytest.raises(ValueError, match="has_qkv_bias and has_qk_norm must not both be true"):
        model_config.config(EVERYTHING)


@pytest.mark.parametrize("architecture", BY_FAMILY.values(), ids=BY_FAMILY)
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("file_bytes", [10**9, 3000])
def test_saved_and_loaded_again(architecture, dtype, file_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_files, "_FILE_BYTES", file_bytes)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), random_params(architecture, np.float32))
    pretrained.save(params, architecture, tmp_path / "made")
    seen = []
    again, read = pretrained.load(tmp_path / "made", dtype=dtype, report=lambda done, total: seen.append((done, total)))
    assert read == architecture
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), again, params)
    assert (len(list((tmp_path / "made").glob("*.safetensors"))) > 1) == (file_bytes < 10**9)
    assert seen[-1][0] == seen[-1][1] == sum(leaf.nbytes for leaf in jax.tree.leaves(params))


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(TINY, tmp_path / "model")
    return tmp_path / "model"


def altered(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "missing: model.layers.1.mlp.up_proj.weight"),
        (lambda t: t.update({"model.layers.2.mlp.up_proj.weight": np.ones(3)}), "too many: model.layers.2"),
        (lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.ones(3)}), "too many: .*q_proj.bias"),
        (
            lambda t: t.update({"model.norm.weight": np.ones(31, np.float32)}),
            r"model.norm.weight is \(31,\), not \(32,\)",
        ),
    ],
)
def test_wrong_tensors_are_named(folder, change, message):
    altered(folder, change)
    with pytest.raises(ValueError, match=message):
        pretrained.load(folder)


def test_whole_numbers_are_no_weights(folder):
    altered(folder, lambda t: t.update({"model.norm.weight": np.ones(32, np.int8)}))
    with pytest.raises(ValueError, match=r"must be BF16, F16, F32, F64; got I8: model.norm.weight"):
        pretrained.load(folder)


def test_more_layers_than_tensors_are_refused_at_once(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**9}))
    with pytest.raises(ValueError, match=r"config\.json gives 1000000000 layers; there are 21 tensors"):
        pretrained.load(folder)


def test_a_tied_model_has_no_head_of_its_own(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(ValueError, match=r"lm_head.weight must equal model.embed_tokens.weight"):
        pretrained.load(folder)


def test_frequencies_of_old_checkpoints_are_passed_over(folder):
    altered(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}))
    pretrained.load(folder)


def sharded(folder, places):
    """Makes the folder's file a shard, and an index of this map."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda f: (f / "config.json").unlink(), FileNotFoundError, "config.json must exist"),
        (lambda f: (f / "config.json").write_text("{"), ValueError, "must hold JSON"),
        (lambda f: (f / "config.json").write_text("[]"), ValueError, "must hold a JSON object"),
        (lambda f: (f / "model.safetensors").unlink(), FileNotFoundError, "must hold model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 100), ValueError, "must be a whole safetensors file"),
        (
            lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
            ValueError,
            "must be a whole safetensors file",
        ),
        (
            lambda f: sharded(f, {"model.norm.weight": "gone.safetensors"}),
            FileNotFoundError,
            "missing: .*gone.safetensors",
        ),
        (
            lambda f: sharded(f, {"a": "model-00001-of-00001.safetensors"}),
            ValueError,
            "no file holds: a",
        ),
        (
            lambda f: sharded(f, {"model.norm.weight": "model-00001-of-00001.safetensors"}),
            ValueError,
            "weight_map must name every tensor of the files; it lacks lm_head.weight",
        ),
        (
            lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}'),
            ValueError,
            "no file holds: a",
        ),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), ValueError, "weight_map must give"),
    ],
)
def test_broken_folders_are_named(folder, damage, error, message):
    damage(folder)
    with pytest.raises(error, match=message):
        pretrained.load(folder)


@pytest.mark.reference
@pytest.mark.parametrize("architecture", BY_FAMILY.values(), ids=BY_FAMILY)
def test_transformers_loads_what_was_saved(architecture, tmp_path):
    """With zero difference: tensor by tensor, and then to round-off in the logits."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    params = random_params(architecture, np.float32)
    pretrained.save(params, architecture, tmp_path)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = {name: leaf.detach().numpy() for name, leaf in model.named_parameters()}
    model.save_pretrained(tmp_path / "theirs")
    ours = load_file(tmp_path / "model.safetensors")
    back = load_file(tmp_path / "theirs" / "model.safetensors")
    assert ours.keys() >= theirs.keys()
    for name, leaf in back.items():
        np.testing.assert_array_equal(leaf, ours[name])
    ids = np.random.default_rng(0).integers(0, architecture.vocabulary, (2, 40))
    with torch.no_grad():
        expected = model(torch.tensor(ids)).logits.numpy()
    got = transformer.logits(params, transformer.hidden(params, architecture, ids))
    assert np.abs(np.asarray(got) - expected).max() < 2e-5 * np.abs(expected).max()
