"""Folders of models by the hundred: loaded right, or refused by name; and replaced so that a kill is never silent."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import gguf
import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments.model import gguf_files, model_config, parameters, pretrained, tensor_files
from experiments.model.transformer import RopeScaling
from tests.experiments.training.test_checkpoint import records, script
from tests.support import model_folders
from tests.support.tiny_models import SMALL, all_logits, published_tensors


def outcome(folder, path):
    """Parameters and architecture as they are right for the folder; None where it is refused by name, as it must be."""
    if folder.faults:
        with pytest.raises((ValueError, FileNotFoundError)) as refusal:
            pretrained.load(path)
        assert any(fault in str(refusal.value) for fault in folder.faults), f"{folder.faults} not in: {refusal.value}"
        return None
    params, architecture = pretrained.load(path)
    assert architecture.rope_theta == folder.theta
    factor, low, high, context = (folder.scaling or dict.fromkeys("flhc", 0)).values()
    scaling = RopeScaling(float(factor), float(low), float(high), int(context))
    assert architecture.rope_scaling == (scaling if folder.scaling else None)
    got = published_tensors(params)
    assert got.keys() == folder.tensors.keys()
    for name, value in folder.tensors.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    return params, architecture


def test_sixty_random_folders(tmp_path):
    loaded = 0
    for seed in range(60):
        folder = model_folders.draw(seed)
        folder.write(tmp_path / str(seed))
        loaded += outcome(folder, tmp_path / str(seed)) is not None
    assert 20 <= loaded <= 50  # both kinds were met


@pytest.mark.parametrize("name", model_folders.PUBLISHED)
def test_published_models_and_as_transformers_5_saves_them(name):
    config, size = model_folders.PUBLISHED[name]
    architecture = model_config.architecture(config)
    assert parameters.count(architecture) == size
    assert model_config.architecture(model_folders.saved_by_transformers_5(config)) == architecture
    assert model_config.architecture(model_config.config(architecture)) == architecture


@pytest.mark.reference
def test_three_hundred_random_folders_against_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    ids = np.random.default_rng(0).integers(0, 40, (2, 48))
    loaded, worst = 0, 0.0
    for seed in range(300):
        folder = model_folders.draw(seed)
        path = tmp_path / str(seed)
        folder.write(path)
        read = outcome(folder, path)
        if read is None:
            continue
        if not folder.is_clear:  # transformers takes a tensor that two files hold from the last one
            folder.files, folder.index = {"model.safetensors": folder.tensors}, None
            shutil.rmtree(path)
            folder.write(path)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        assert not info["missing_keys"], seed
        with torch.no_grad():
            expected = model(torch.tensor(ids)).logits.numpy()
        got = np.asarray(all_logits(*read, ids, compute_dtype=np.float64))
        error = np.abs(got - expected).max() / np.abs(expected).max()
        worst = max(worst, error)
        assert error < 2e-5, (seed, folder.config)
        loaded += 1
    print(f"{loaded} of 300 loaded, largest relative difference of a logit {worst:.1e}")
    assert loaded > 130


@pytest.mark.reference
@pytest.mark.parametrize("name", model_folders.PUBLISHED)
def test_transformers_5_saves_a_published_config_so(name, tmp_path):
    transformers = pytest.importorskip("transformers", minversion="5")
    config, _ = model_folders.PUBLISHED[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    transformers.AutoConfig.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text())
    expected = model_folders.saved_by_transformers_5(config)
    assert again | {"transformers_version": ""} == expected | {"transformers_version": ""}


@pytest.fixture
def sharded(tmp_path, monkeypatch):
    """A folder of several files, its parameters, and its index."""
    monkeypatch.setattr(tensor_files, "_FILE_BYTES", 3000)
    params = parameters.init(SMALL, jax.random.key(1))
    pretrained.save(params, SMALL, tmp_path / "model")
    monkeypatch.undo()
    return tmp_path / "model", params


def is_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_the_last_save_is_loaded_whatever_the_folder_held(sharded, monkeypatch):
    folder, _ = sharded
    for seed, file_bytes in ((2, 10**9), (3, 3000), (4, 6000), (5, 10**9)):
        monkeypatch.setattr(tensor_files, "_FILE_BYTES", file_bytes)
        params = parameters.init(SMALL, jax.random.key(seed))
        pretrained.save(params, SMALL, folder)
        assert is_equal(pretrained.load(folder)[0], params)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_a_save_that_fails_leaves_the_old_model(sharded, monkeypatch):
    folder, params = sharded
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    written = []

    def full_at_the_third(tensors, path, **options):
        written.append(path)
        if len(written) == 3:
            raise OSError("disk full")
        save_file(tensors, path, **options)

    monkeypatch.setattr(tensor_files, "_FILE_BYTES", 3000)
    monkeypatch.setattr(tensor_files, "save_file", full_at_the_third)
    with pytest.raises(OSError, match="disk full"):
        pretrained.save(parameters.init(SMALL, jax.random.key(2)), replace(SMALL, rope_theta=7.0), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert is_equal(pretrained.load(folder)[0], params)


def test_a_kill_at_any_step_leaves_the_old_model_the_new_one_or_none(tmp_path):
    """Whatever the two layouts are; the models differ in a key of config.json too, and never mix."""
    outcomes = {}
    for record in records(script("model", tmp_path)):
        path = Path(record["folder"])
        if not (path / "config.json").exists():
            with pytest.raises(FileNotFoundError, match=r"config\.json must exist"):
                pretrained.load(path)
            outcome = "none"
        else:
            params, architecture = pretrained.load(path)
            value = float(params["norm"][0])
            assert all(bool((leaf == value).all()) for leaf in jax.tree.leaves(params)), path
            assert architecture.rope_theta == 100 * value
            outcome = {1.0: "old", 2.0: "new"}[value]
        outcomes.setdefault(path.parent.name, []).append(outcome)
    assert len(outcomes) == 4
    for states in outcomes.values():
        assert [state for n, state in enumerate(states) if n == 0 or state != states[n - 1]] == ["old", "none", "new"]


def test_a_folder_of_two_models_is_refused(sharded):
    folder, _ = sharded
    save_file({"model.norm.weight": np.ones(12, np.float32)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors or model\.safetensors\.index\.json, not both"):
        pretrained.load(folder)


def test_an_adapter_is_refused(sharded):
    folder, _ = sharded
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must hold no adapter_config\.json"):
        pretrained.load(folder)


def test_an_index_without_any_of_its_files_is_passed_over(sharded, tmp_path):
    """As transformers 5.24.0 leaves a folder that held shards and was then saved into one file."""
    folder, _ = sharded
    params = parameters.init(SMALL, jax.random.key(2))
    pretrained.save(params, SMALL, tmp_path / "single")
    for path in folder.glob("model-*"):
        path.unlink()
    shutil.copy(tmp_path / "single" / "model.safetensors", folder)
    assert is_equal(pretrained.load(folder)[0], params)


def test_an_index_may_name_one_file(tmp_path):
    params = parameters.init(SMALL, jax.random.key(1))
    pretrained.save(params, SMALL, tmp_path)
    places = dict.fromkeys(load_file(tmp_path / "model.safetensors"), "model.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert is_equal(pretrained.load(tmp_path)[0], params)


def test_the_index_decides_between_two_files(sharded):
    folder, params = sharded
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    for name in ("model.embed_tokens.weight", "model.norm.weight"):
        right = index["weight_map"][name]
        for other in {files[0], files[-1]} - {right}:
            altered(folder / other, {name: load_file(folder / right)[name] + 1})
    assert is_equal(pretrained.load(folder)[0], params)


def altered(path, tensors):
    save_file(load_file(path) | tensors, path)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_redundant_head_must_equal_the_embedding(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_ROWS", 5)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), parameters.init(SMALL, jax.random.key(1)))
    pretrained.save(params, SMALL, tmp_path)
    path = tmp_path / "model.safetensors"
    head = load_file(path)["model.embed_tokens.weight"].astype(np.float32)
    altered(path, {"lm_head.weight": head})
    again, architecture = pretrained.load(tmp_path, dtype=dtype)
    assert is_equal(again, params)
    assert architecture.is_tied
    head[-1, -1] = np.nextafter(head[-1, -1], 1)
    altered(path, {"lm_head.weight": head})
    with pytest.raises(ValueError, match=r"lm_head\.weight must equal model\.embed_tokens\.weight, .* Set it to false"):
        pretrained.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    np.testing.assert_array_equal(published_tensors(pretrained.load(tmp_path)[0])["lm_head.weight"], head)


def test_a_head_that_is_missing_names_the_remedy(tmp_path):
    pretrained.save(parameters.init(SMALL, jax.random.key(1)), SMALL, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(ValueError, match=r"missing: lm_head\.weight\. .* tie_word_embeddings must be true"):
        pretrained.load(tmp_path)


def written_gguf(path, *, keys=(), tensors=()):
    """A tiny file with the keys of SmolLM2's, and others; returns the tensors under their published names."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(12)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(8)
    writer.add_rope_dimension_count(4)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*"abcdefg", "ab"])
    writer.add_token_types([3, 3, 3, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{{ messages }}")
    for key, value in keys:
        writer.add_float32(key, value)
    shapes = {
        "token_embd": ("model.embed_tokens", (8, 16)),
        "output_norm": ("model.norm", (16,)),
        "blk.0.attn_norm": ("model.layers.0.input_layernorm", (16,)),
        "blk.0.attn_q": ("model.layers.0.self_attn.q_proj", (16, 16)),
        "blk.0.attn_k": ("model.layers.0.self_attn.k_proj", (8, 16)),
        "blk.0.attn_v": ("model.layers.0.self_attn.v_proj", (8, 16)),
        "blk.0.attn_output": ("model.layers.0.self_attn.o_proj", (16, 16)),
        "blk.0.ffn_norm": ("model.layers.0.post_attention_layernorm", (16,)),
        "blk.0.ffn_gate": ("model.layers.0.mlp.gate_proj", (12, 16)),
        "blk.0.ffn_up": ("model.layers.0.mlp.up_proj", (12, 16)),
        "blk.0.ffn_down": ("model.layers.0.mlp.down_proj", (16, 12)),
    }
    expected = {}
    for name, (published, shape) in shapes.items():
        value = rng.normal(size=shape).astype(np.float32)
        expected[f"{published}.weight"] = value
        if name.endswith(("attn_q", "attn_k")):  # rows of a head, 0 1 2 3, are written 0 2 1 3
            value = value.reshape(-1, 4, 16)[:, [0, 2, 1, 3]].reshape(shape)
        writer.add_tensor(f"{name}.weight", value)
    for name, shape in tensors:
        value = rng.normal(size=shape).astype(np.float32)
        expected["lm_head.weight"] = value
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("extra", [[], [("output.weight", (8, 16))]], ids=["tied", "untied"])
def test_a_converted_file_takes_the_place_of_shards(extra, sharded, tmp_path):
    folder, _ = sharded
    expected = written_gguf(tmp_path / "a.gguf", tensors=extra)
    gguf_files.folder_from_gguf(tmp_path / "a.gguf", folder)
    params, architecture = pretrained.load(folder)
    got = published_tensors(params)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
    assert (architecture.rope_theta, architecture.norm_epsilon, architecture.is_tied) == (1e5, 1e-5, not extra)


def test_a_gguf_file_of_another_family_is_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "qwen3")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"general.architecture must be llama; got 'qwen3'. Other files"):
        gguf_files.folder_from_gguf(tmp_path / "a.gguf", tmp_path)


@pytest.mark.parametrize(
    ("keys", "extra", "message"),
    [
        ([("llama.rope.scaling.factor", 8.0)], [], "llama.rope.scaling.factor must be absent; got 8.0"),
        ([("llama.expert_count", 4.0)], [], "llama.expert_count must be absent"),
        ([], [("rope_freqs.weight", (2,))], "got rope_freqs.weight"),
        ([], [("blk.0.attn_q.bias", (16,))], "got blk.0.attn_q.bias"),
        ([], [("blk.0.attn_q_norm.weight", (4,))], "got blk.0.attn_q_norm.weight"),
    ],
)
def test_a_file_that_says_more_than_is_converted_is_refused(keys, extra, message, sharded, tmp_path):
    folder, params = sharded
    written_gguf(tmp_path / "a.gguf", keys=keys, tensors=extra)
    with pytest.raises(ValueError, match=message):
        gguf_files.folder_from_gguf(tmp_path / "a.gguf", folder)
    assert is_equal(pretrained.load(folder)[0], params)
