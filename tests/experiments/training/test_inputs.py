"""The inputs of a run: which numbers of the configuration decide them, and what is counted on the way."""

from contextlib import contextmanager
from dataclasses import fields, replace

import pytest

from experiments import arms, files, presets
from experiments.config import Config, MeshShape
from experiments.model import random_model
from experiments.training import inputs
from tests.support.runs import quiet


def configuration(**settings):
    tiny = presets.config("tiny", arms.parse("accumulated"))
    measures = replace(tiny.measures, probe_pairs=2, accuracy_every=0)
    return replace(tiny, **{"num_pairs": 1, "num_problems": 4, "measures": measures, **settings})


class Recorded(Config):
    """A configuration that keeps the names of the fields that are read."""

    def __getattribute__(self, name):
        if name in {field.name for field in fields(Config)}:
            object.__getattribute__(self, "__dict__").setdefault("read", set()).add(name)
        return object.__getattribute__(self, name)


def recorded(config):
    copy = object.__new__(Recorded)
    vars(copy).update(vars(config))
    return copy


def another(name, value):
    """Another value of a field."""
    if name == "arm":
        return replace(value, reduction="sum")  # nothing else of an arm is asked for
    if name == "mesh":
        return MeshShape(tensor=2)
    if name == "measures":
        return replace(value, probe_pairs=4)
    return f"{value}x" if isinstance(value, str) else not value if isinstance(value, bool) else value / 2


def test_runs_share_inputs_where_every_value_that_is_read_is_the_same():
    config = recorded(configuration())
    inputs.load(config, quiet)
    names = vars(config)["read"] - {"preset"}  # which tells losses of one's own, and makes no input
    assert {"model", "data", "arm", "measures", "max_tokens"} <= names
    assert "learning_rate" not in names
    plain = configuration(seed=2)
    of_folder = replace(plain, model="models/smollm2")  # its parameters do not depend on the seed
    for one, own in ((plain, names), (of_folder, names - {"seed"})):
        for name in own:
            other = object.__new__(Config)  # unchecked: a mesh may not fit the pairs
            vars(other).update(vars(one) | {name: another(name, getattr(one, name))})
            assert inputs.shared_key(other) != inputs.shared_key(one), name
    assert inputs.shared_key(of_folder) == inputs.shared_key(replace(of_folder, seed=3))


def test_a_model_without_a_template_has_no_chat(monkeypatch):
    codec = replace(random_model.codec(), template=None)
    monkeypatch.setattr(random_model, "codec", lambda: codec)
    with pytest.raises(ValueError, match=r"config\.is_chat must be false for a .* chat template, tiny; got true"):
        inputs.load(configuration(), quiet)


def test_what_is_left_out_of_preference_data_is_counted_once(tmp_path):
    """Forty rows: every fourth with equal answers, every fifth of the others too long."""
    shown = []

    @contextmanager
    def show(what, total, unit):
        shown.append((what, total, unit))
        yield lambda done, note="": None

    good = ["yes " * (50 if n % 5 == 1 else 1) for n in range(40)]
    rows = [{"q": f"Is it {n}?", "good": good[n], "bad": "no" if n % 4 else good[n]} for n in range(40)]
    files.write_lines(tmp_path / "pairs.jsonl", rows)
    short, roomy = (
        inputs.load(
            configuration(
                data=str(tmp_path / "pairs.jsonl"),
                columns="prompt=q,chosen=good,rejected=bad",
                held_out=0.3,
                num_problems=0,
                max_tokens=most,
            ),
            show,
        )
        for most in (100, 1000)
    )
    assert roomy.left_out == {"equal answers": 10}  # the probe's split is read as well, and not counted again
    assert set(short.left_out) == {"equal answers", "too long"}
    kept = {pair.id for pair in short.pairs}
    long = {pair.id for pair in roomy.pairs} - kept
    assert long <= {str(n + 1) for n in range(40) if n % 5 == 1}
    assert short.left_out["too long"] == len(long) == len(roomy.pairs) - len(kept) > 0
    assert shown == [("making pairs", 40, "rows")] * 4
