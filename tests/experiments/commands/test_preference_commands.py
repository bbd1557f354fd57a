"""Preference data in the commands: a file for the probe, broken rows, scores of both sides, a twin of such a run."""

import json
import re

import pytest

import experiments.__main__ as dispatcher
from console.progress import progress
from experiments import comparison, config, files
from experiments.model import random_model
from experiments.training import inputs
from tests.support import runs

COLUMNS = ("--columns", "chosen=good,rejected=bad")


def called(capfd, *arguments) -> tuple[int | str | None, str, str]:
    """The command within this process: its status, and both of its streams."""
    capfd.readouterr()
    try:
        status = dispatcher.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    return status, *capfd.readouterr()


def row(number, bad=2):
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"What is {number} + 1?"}]
    sides = {"good": number + 1, "bad": number + bad}
    return {side: [*asked, {"role": "assistant", "content": str(answer)}] for side, answer in sides.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model; a file of 24 rows with a broken line; and a held-out file, which has five of its rows."""
    folder = tmp_path_factory.mktemp("preferences")
    random_model.write(folder / "model")
    lines = [json.dumps(row(number)) for number in range(20)] + ["{oops"] + [json.dumps(row(n, 1)) for n in range(3)]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    files.write_lines(folder / "test.jsonl", map(row, [*range(20, 30), *range(15, 20)]))
    return folder


@pytest.fixture(scope="module")
def made(folder):
    """A run of one update on these files."""
    out = folder / "runs"
    call = ("run", "--preset", "tiny", "--arm", "sequential:optimizer=sgd", "--set", "num_pairs=2", "--updates", "1",
            "--set", "measures.probe_pairs=2", "--set", "measures.alignment_every=0", "--out", out,
            "--pairs", folder / "train.jsonl", "--held-out", folder / "test.jsonl", *COLUMNS,
            "--skip-broken")  # fmt: skip
    assert dispatcher.main(list(map(str, call))) == 0
    return next(out.glob("*/seed-0"))


LEFT_OUT = {"also in the held-out file": 5, "equal answers": 3, "broken: is no JSON": 1}


def test_a_run_names_both_files_and_counts_what_it_left_out(folder, made):
    content = files.read_object(made / "config.json")
    expected = {"data": folder / "train.jsonl", "held_out_file": folder / "test.jsonl"}
    assert {key: content[key] for key in expected} == {key: str(path) for key, path in expected.items()}
    assert (content["held_out"], content["skip_broken"]) == (0.0, True)
    header, *_ = runs.read(made)
    assert (header["num_pairs_in_all"], header["left_out"]) == (15, LEFT_OUT)


def test_the_hash_of_the_inputs_knows_the_rows_of_both_files(folder, made):
    content = config.from_json(files.read_object(made / "config.json"))
    (header, *_) = runs.read(made)
    for name in ("train", "test"):
        path = folder / f"{name}.jsonl"
        before = path.read_text()
        try:
            path.write_text(before.replace("What is 14", "How much is 14").replace("What is 20", "How much is 20"))
            assert inputs.load(content, progress).fingerprint != header["fingerprint"]
        finally:
            path.write_text(before)
    assert inputs.load(content, progress).fingerprint == header["fingerprint"]


def test_a_twin_of_the_run_has_its_batch_and_names_a_file_that_is_gone(folder, made, capfd):
    for name in ("train", "test"):
        path = folder / f"{name}.jsonl"
        path.rename(folder / "elsewhere")
        try:
            status, out, err = called(capfd, "twin", made)
        finally:
            (folder / "elsewhere").rename(path)
        assert (status, out) == (2, "")
        assert f"the pairs of a run must be a file that can be read; got no readable file {path}. Put it back" in err
    setup = comparison.load_setup(
        config.from_json(files.read_object(made / "config.json")), made, "sgd", None, None, "eta/2", "+-", progress
    )
    assert setup.update == 1
    for text in map(random_model.codec().text, setup.batch.preferred.tokens.tolist()):
        number = int(re.findall(r"What is (\d+) \+ 1\?", text)[0])
        assert number < 15  # the others are held out
        assert text.rstrip("\0").endswith(str(number + 1))


def test_a_twin_is_refused_where_the_data_have_changed(folder, made, capfd):
    path = folder / "train.jsonl"
    before = path.read_text()
    try:
        path.write_text(before.replace("What is 14", "How much is 14"))
        status, _, err = called(capfd, "twin", made)
    finally:
        path.write_text(before)
    assert status == 2
    assert "must be compared with the model and the data that it was made with; these parameters or texts are" in err


@pytest.mark.slow
def test_a_twin_of_the_run_is_made(made, capfd):
    assert called(capfd, "twin", made, "--no-alignment", "--halvings", "5")[0] == 0
    assert (made / "twin-sgd.json").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (COLUMNS, "train.jsonl, line 21: is no JSON: Expecting property name enclosed in double quotes"),
        (
            (*COLUMNS, "--held-out", "no.jsonl"),
            "--held-out must be a file that can be read; got no readable file no",
        ),
        ((*COLUMNS, "--held-out", "test.txt"), "--held-out must be a file .jsonl or .parquet, or hub:NAME"),
        ((*COLUMNS, "--held-out", "train"), "--held-out must be another file than --pairs"),
        ((*COLUMNS, "--held-out", "test", "--set", "held_out=0.2"), "must not be given together"),
        ((*COLUMNS, "--skip-broken", "--held-out", "test", "--set", "measures.probe_pairs=40"), "--held-out FILE"),
        (("--columns", "chosen=goods"), "train.jsonl; got goods. It has good, bad. Did you mean good?"),
    ],
)
def test_calls_that_cannot_be_carried_out(folder, tmp_path, capfd, more, message):
    files_of = {name: folder / f"{name}.jsonl" for name in ("train", "test")}
    call = ("run", "--preset", "tiny", "--pairs", files_of["train"], "--out", tmp_path / "out")
    status, _, err = called(capfd, *call, *(files_of.get(word, word) for word in more))
    assert (status, message in err) == (2, True), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [("--held-out", "test.jsonl"), ("--skip-broken",), COLUMNS])
@pytest.mark.parametrize("command", ["run", "score"])
def test_options_of_a_preference_file_need_one(folder, capfd, command, option):
    call = ("--preset", "tiny") if command == "run" else ("--model", folder / "model", "--in", folder / "train.jsonl")
    if (command, option[0]) != ("score", "--held-out"):
        status, _, err = called(capfd, command, *call, "--out", folder / "no", *option)
        assert (status, f"{option[0]} must go with --pairs" in err) == (2, True), err


def test_scores_of_both_sides_are_those_of_their_texts(folder, tmp_path, capfd):
    """The same texts as prompts and completions, written by hand, have the same scores."""
    pairs = tmp_path / "pairs.jsonl"
    sides = [("2 + 3?", "5"), ("2 + 3?", "6, or so"), ("2 + 4?", "6"), ("2 + 4?", "5")]
    texts = [{"prompt": prompt, "completion": answer} for prompt, answer in sides]
    rows = [{"id": f"p{n}", "question": sides[n][0], "preferred": sides[n][1], "dispreferred": sides[n + 1][1]}
            for n in (0, 2)]  # fmt: skip
    files.write_lines(pairs, [*rows, {**rows[0], "dispreferred": "5"}])
    files.write_lines(tmp_path / "texts.jsonl", texts)
    for chat in ((), ("--no-chat",)):
        outs = [tmp_path / f"{name}{len(chat)}" for name in ("pairs", "texts")]
        for name, out in zip((("--pairs", pairs), ("--in", tmp_path / "texts.jsonl")), outs, strict=True):
            status, said, err = called(capfd, "score", "--model", folder / "model", *name, "--out", out, *chat)
            assert status == 0, err
            if name[0] == "--pairs":
                assert "2 pairs; 1 left out: 1 equal answers" in err
                assert said.startswith("wrote 4 scores")
                assert "nats per token preferred, -" in said
        ours, theirs = ([json.loads(line) for line in out.read_text().splitlines()] for out in outs)
        labels = [(line.pop("id"), line.pop("side")) for line in ours]
        assert labels == [(f"p{n}", side) for n in (0, 2) for side in ("preferred", "dispreferred")]
        assert [line["num_tokens"] for line in ours] == [line["num_tokens"] for line in theirs]
        assert [line["log_prob"] for line in ours] == pytest.approx([line["log_prob"] for line in theirs], rel=1e-5)
        # What an interrupted run wrote is kept, if it is of the same side of the same pair.
        lines = outs[0].read_text().splitlines(keepends=True)
        outs[0].write_text("".join(lines[:3]))
        call = ("score", "--model", folder / "model", "--pairs", pairs, "--out", outs[0], *chat, "--resume")
        assert called(capfd, *call)[1].startswith("wrote 1 scores")
        assert outs[0].read_text().splitlines(keepends=True)[:3] == lines[:3]
        outs[0].write_text(lines[0].replace('"preferred"', '"dispreferred"'))
        assert "it is not the score of this completion" in called(capfd, *call)[2]


def test_one_source_of_scores_is_asked_for(folder, tmp_path, capfd):
    call = ("score", "--model", folder / "model", "--out", tmp_path / "out")
    both = ("--in", folder / "test.jsonl", "--pairs", folder / "test.jsonl")
    for more in ((), both):
        status, _, err = called(capfd, *call, *more)
        assert (status, "either --in or --pairs must be given" in err) == (2, True)
    status, _, err = called(capfd, *call[:3], "--out", folder / "test.jsonl", *both[2:])
    assert (status, "--out must be another file than --pairs" in err) == (2, True)
