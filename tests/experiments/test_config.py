"""Configurations: there and back through JSON, and nothing that is wrong gets as far as loading a model."""

import json
from copy import deepcopy
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import arms, config, presets
from experiments.commands import run, twin
from experiments.config import MeshShape
from experiments.model import pretrained, published
from experiments.training import inputs


@pytest.mark.parametrize("name", presets.BY_NAME)
@pytest.mark.parametrize("text", ["accumulated", "sequential-sqrt-rule:clipping=step", "accumulated-plus-term:term=-1"])
def test_there_and_back_through_json(name, text):
    made = presets.config(name, arms.parse(text))
    assert config.from_json(json.loads(json.dumps(config.to_json(made)))) == made
    assert made.arm == arms.parse(text)
    assert made.preset == name


def leaves(node, path=()):
    """The paths of all values."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


PLAIN = json.loads(json.dumps(config.to_json(presets.config("tiny"))))
PATHS = list(leaves(PLAIN))


def changed(path, edit):
    """A copy in which `edit` has been done to the object that holds the leaf."""
    copy = deepcopy(PLAIN)
    node = copy
    for key in path[:-1]:
        node = node[key]
    edit(node, path[-1])
    return copy


# Configurations that are stored without them were written before there were preference data, and mean as much.
LATER = [("held_out",), ("held_out_file",), ("columns",), ("skip_broken",)]


def refused(given_json):
    with pytest.raises((TypeError, ValueError)) as found:
        config.from_json(given_json)
    return str(found.value)


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_no_leaf_may_be_of_another_type_or_name(path):
    def at(edit):
        return refused(changed(path, edit))

    value = PLAIN
    for key in path:
        value = value[key]
    others = [None, [1], {"a": 1}]
    others += [3, 2.5, True] if isinstance(value, str) else ["3"]
    others += [] if isinstance(value, bool | str) else [True]
    others += [1, 0.5] if isinstance(value, bool) else []
    others += [2.5] if isinstance(value, int) else []
    others += [float("nan"), float("inf")] if isinstance(value, float) else []
    for other in others:
        assert path[-1] in at(lambda node, key, other=other: node.__setitem__(key, other))
    # Under a name that is nearly right, which the message knows; and missing.
    message = at(lambda node, key: node.__setitem__(f"{key}x", node.pop(key)))
    assert f"Did you mean {path[-1]}?" in message
    if path not in LATER:
        assert f"must have the key '{path[-1]}'" in at(lambda node, key: node.pop(key))


@given(st.sampled_from(PATHS), st.text(max_size=12))
def test_no_other_key_is_taken(path, key):
    node = PLAIN
    for part in path[:-1]:
        node = node[part]
    if key not in node:
        message = refused(changed(path, lambda node, _: node.__setitem__(key, 1)))
        assert "must have keys among" in message
        assert repr(key) in message


@pytest.mark.parametrize("whole", [None, [], "tiny", 3])
def test_what_is_no_object_is_refused(whole):
    assert "config must be an object" in refused(whole)
    assert "measures must be an object" in refused({**PLAIN, "measures": whole})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "config.learning_rate must be positive"),
        ({"learning_rate": -1.0}, "config.learning_rate must be positive"),
        ({"num_pairs": 0}, "config.num_pairs must be at least 1; got 0"),
        ({"num_parts": 3}, "config.num_parts must divide num_pairs; got 3 for 4 pairs"),
        ({"max_tokens": 1}, "config.max_tokens must be at least 2"),
        ({"keep": -1}, "config.keep must be at least 0; got -1"),
        ({"seed": -1}, "config.seed must be at least 0"),
        ({"model": ""}, "config.model and config.data must not be empty"),
        ({"pairing": "some"}, "config.pairing must be one of same, independent; got 'some'. Did you mean same?"),
        ({"compute_dtype": "bfloat"}, "Did you mean bfloat16?"),
        ({"remat": "everthing"}, "Did you mean everything?"),
        ({"mesh.fsdp": 0}, "mesh.fsdp must be at least 1; got 0"),
        ({"mesh.fsdp": 3}, "mesh.data x mesh.fsdp must divide the pairs of a letter's part; got 3 for 4"),
        ({"mesh.fsdp": None}, "mesh.fsdp must be a whole number; got 'None'"),
        ({"measures.probe_pairs": 3}, "measures.probe_pairs must be even"),
        ({"measures.probe_every": -1}, "measures.probe_every must be at least 0"),
        ({"measures.collapse_nats": 0.0}, "measures.collapse_nats must be positive"),
        ({"rule.b2": 1.0}, "rule.b2 must be less than 1; got 1.0"),
        # Names
        ({"num_pair": 4}, "Did you mean num_pairs?"),
        ({"rule.b3": 0.9}, "Did you mean rule.b2?"),
        ({"b2": 0.9}, "settings must have keys among"),
        ({"rule": 3}, "settings must have keys among"),
        ({"measure.probe_pairs": 4}, "Did you mean measures.probe_pairs?"),
        ({"rule.b2.x": 4}, "settings must have keys among"),
        # Texts, as a command line has them
        ({"num_pairs": "four"}, "num_pairs must be a whole number; got 'four'"),
        ({"num_pairs": "2.5"}, "num_pairs must be a whole number"),
        ({"learning_rate": "fast"}, "learning_rate must be a number; got 'fast'"),
        ({"learning_rate": "nan"}, "config.learning_rate must be finite"),
        ({"is_chat": "yes"}, "is_chat must be true or false; got 'yes'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises((TypeError, ValueError)) as found:
        config.with_settings(presets.config("tiny"), settings)
    assert message in str(found.value)


def test_settings_read_texts_as_what_the_fields_are():
    made = config.with_settings(
        presets.config("tiny"),
        {"num_pairs": "8", "learning_rate": "1e-4", "is_chat": "false", "rule.b2": "0.95", "mesh.fsdp": "2",
         "data": "12", "measures.probe_every": 3},
    )  # fmt: skip
    base = presets.config("tiny")
    assert made == replace(
        base, num_pairs=8, learning_rate=1e-4, is_chat=False, data="12", rule=replace(base.rule, b2=0.95),
        mesh=MeshShape(fsdp=2), measures=replace(base.measures, probe_every=3),
    )  # fmt: skip
    # A fraction may follow a whole number: what counts is the field and not what was there.
    whole = config.with_settings(base, {"rule.weight_decay": 0})
    assert config.with_settings(whole, {"rule.weight_decay": "0.5"}).rule.weight_decay == 0.5
    assert config.with_settings(base, {}) == base


def test_the_rate_of_a_preset_is_the_optimizer_s():
    for name in presets.BY_NAME:
        for optimizer in ("sgd", "heavy-ball", "adamw", "frozen-adamw"):
            made = presets.config(name, arms.parse(f"sequential:optimizer={optimizer}"))
            assert made.learning_rate == presets.BY_NAME[name].rates[optimizer]
    other = arms.parse("sequential:optimizer=nesterov")
    with pytest.raises(ValueError, match="learning_rate must be given for nesterov: the preset smollm2"):
        presets.config("smollm2", other)
    assert presets.config("smollm2", other, {"learning_rate": 0.5}).learning_rate == 0.5
    with pytest.raises(ValueError, match="preset must be one of tiny"):
        presets.config("tniy")


def test_names_in_the_help_are_those_of_the_modules():
    assert tuple(presets.BY_NAME) == tuple(published.ARCHITECTURES)
    assert set(run._DEFAULT_ARMS) <= set(arms.BY_NAME)
    known = {field.name: field.type for field in fields(arms.Arm) if field.name not in ("name", "word")}
    said = run._EPILOG.split()
    assert set(arms.BY_NAME) <= set(said)
    assert all(any(word.strip(".,:;()") == key for word in said) for key in known)
    # A twin needs an optimizer that has no state of its own making.
    assert set(twin.OPTIMIZERS) == set(arms.OPTIMIZERS) - {"frozen-adamw"}


# As commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "tny"], "Did you mean tiny?"),
        (["--preset", "tiny", "--arm", "sequental"], "Did you mean sequential?"),
        (["--preset", "tiny", "--arm", "sequential", "--arm", "sequential"], "arms must differ"),
        (["--preset", "tiny", "--set", "num_pair=3"], "Did you mean num_pairs?"),
        (["--preset", "tiny", "--set", "num_pairs"], "--set must be KEY=VALUE; got num_pairs"),
        (["--preset", "tiny", "--set", "seed=3"], "seed must be given by --seeds"),
        (["--preset", "tiny", "--set", "arm.rate=eta"], "arm.rate must be given by --arm NAME:key=value"),
        (["--preset", "tiny", "--seeds", "0,x"], "--seeds"),
        (["--preset", "tiny", "--rate", "-1"], "--rate"),
        (["--preset", "tiny", "--config", "{file}"], "rule.b2 must be a number; got '[1]'"),
    ],
)
def test_a_wrong_call_loads_nothing(arguments, message, tmp_path, capfd, monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("something was loaded")

    monkeypatch.setattr(inputs, "load", loaded)
    monkeypatch.setattr(pretrained, "load", loaded)
    file = tmp_path / "settings.json"
    file.write_text('{"num_pairs": 2, "rule": {"b2": [1]}}')
    with pytest.raises(SystemExit) as stop:
        run.main([*(part.format(file=file) for part in arguments), "--out", str(tmp_path / "runs")])
    assert stop.value.code == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "runs").exists()
