"""Folders read and written: configurations in both layouts, refusals by name, tensors over several files."""

import json
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_policy import SMALL, STRETCHED, random_params

from experiments import policy, pretrained, weights
from experiments.policy import RopeScaling

TINY = Path(__file__).parent / "data" / "tiny-llama-3.1"

# As published, without what does not concern the model: values from the models' config.json files.
OLD_LAYOUT = {
    "llama-3-8b": (
        {"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336, "hidden_act": "silu",
         "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "rope_scaling": None, "tie_word_embeddings": False,
         "max_position_embeddings": 8192, "attention_bias": False, "pretraining_tp": 1},
        8_030_261_248,
    ),
    "llama-3.2-1b": (
        {"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 16,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192,
         "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": True,
         "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                          "original_max_position_embeddings": 8192, "rope_type": "llama3"},
         "max_position_embeddings": 131072, "attention_bias": False, "mlp_bias": False},
        1_235_814_400,
    ),
    "tinyllama-1.1b": (
        {"model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 22,
         "num_attention_heads": 32, "num_key_value_heads": 4, "intermediate_size": 5632, "hidden_act": "silu",
         "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "tie_word_embeddings": False, "max_position_embeddings": 2048},
        1_100_048_384,
    ),
    "smollm2-135m": (
        {"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30,
         "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "hidden_act": "silu",
         "rms_norm_eps": 1e-05, "rope_theta": 100000, "rope_interleaved": False, "tie_word_embeddings": True,
         "max_position_embeddings": 8192},
        134_515_008,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD_LAYOUT)
def test_published_sizes(name):
    config, size = OLD_LAYOUT[name]
    assert policy.num_parameters(pretrained.architecture(config)) == size


@pytest.mark.parametrize("name", OLD_LAYOUT)
def test_both_layouts_say_the_same(name):
    config, _ = OLD_LAYOUT[name]
    rope = {"rope_theta": config["rope_theta"], "rope_type": "default"} | (config.get("rope_scaling") or {})
    new = {key: value for key, value in config.items() if key not in ("rope_theta", "rope_scaling")}
    assert pretrained.architecture({**new, "rope_parameters": rope}) == pretrained.architecture(config)


def test_the_oldest_name_of_the_rope_type():
    config, _ = OLD_LAYOUT["llama-3.2-1b"]
    older = {("type" if key == "rope_type" else key): value for key, value in config["rope_scaling"].items()}
    assert pretrained.architecture({**config, "rope_scaling": older}).rope_scaling == RopeScaling(32.0, 1.0, 4.0, 8192)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen2"}, "model_type must be 'llama'; got 'qwen2'"),
        ({"model_type": None}, "model_type must be 'llama'; got None"),
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
    ],
)
def test_what_is_not_the_family_is_refused_by_name(change, message):
    config, _ = OLD_LAYOUT["smollm2-135m"]
    with pytest.raises(ValueError, match=message.replace("'", ".")):
        pretrained.architecture(config | change)


@pytest.mark.parametrize("architecture", [SMALL, STRETCHED], ids=["tied", "untied, stretched"])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("file_bytes", [10**9, 3000])
def test_saved_and_loaded_again(architecture, dtype, file_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_FILE_BYTES", file_bytes)
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
    with pytest.raises(ValueError, match=r"too many: lm_head.weight. The head is tied"):
        pretrained.load(folder)


def test_frequencies_of_old_checkpoints_are_passed_over(folder):
    altered(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}))
    pretrained.load(folder)


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
            lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}'),
            FileNotFoundError,
            "missing: .*gone.safetensors",
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
@pytest.mark.parametrize("architecture", [SMALL, STRETCHED], ids=["tied", "untied, stretched"])
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
    got = policy.logits(params, policy.hidden(params, architecture, ids))
    assert np.abs(np.asarray(got) - expected).max() < 2e-5 * np.abs(expected).max()
