"""`run` and `resume` end to end: folders, refusals, signals, several processes, and what a terminal shows."""

import codecs
import errno
import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import experiments.__main__ as dispatcher
from experiments import config, files, records
from experiments.model import parameters
from experiments.training import batches, checkpoint
from tests.support import compiling, runs

ROOT = Path(__file__).parents[3]
# Few and short texts, and no decoding: what is left is compiling.
SMALL = ("--preset", "tiny", "--updates", "4", "--set", "num_problems=16", "--set", "max_tokens=600",
         "--set", "num_pairs=2", "--set", "measures.probe_pairs=2", "--set", "measures.accuracy_every=0",
         "--set", "measures.alignment_every=0", "--set", "checkpoint_every=1", "--set", "keep=3")  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


ON_THE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def start(cache, *arguments, num_devices=1, before=(), **options):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "XLA_FLAGS": compiling.flags(f"--xla_force_host_platform_device_count={num_devices}"),
    }
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    command = [*before, sys.executable, "-m", "experiments", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environment, **streams)


def ended(process, timeout=300):
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


def called(capfd, *arguments):
    """The command within this process: its status, and both of its streams."""
    capfd.readouterr()
    try:
        status = dispatcher.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return status, out, err


def refused(capfd, *arguments):
    """The one line of a refusal."""
    status, out, err = called(capfd, *arguments)
    assert status == 2, err
    assert not out
    # The inputs are there, and counted, before some calls are seen to be wrong.
    lines = [line for line in err.splitlines() if not re.match(r"making pairs: |[\d,]+ pairs; ", line)]
    assert len(lines) == 1, err
    return lines[0]


def rows(folder):
    made = [record for record in runs.read(folder) if record["kind"] == "update"]
    return [{key: value for key, value in row.items() if key not in records.TIMINGS} for row in made]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The post's two arms."""
    out = tmp_path_factory.mktemp("runs") / "made" / "here"
    assert dispatcher.main(["run", *SMALL, "--out", str(out)]) == 0
    return out


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def preference_file(tmp_path_factory):
    """Forty conversations, every fifth with two equal answers."""
    path = tmp_path_factory.mktemp("data") / "preferences.jsonl"
    rows_of_file = []
    for n in range(40):
        asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"What is {n} + 1?"}]
        good, bad = ([{"role": "assistant", "content": str(n + by)}] for by in (1, 2 if n % 5 else 1))
        rows_of_file.append({"good": asked + good, "bad": asked + bad})
    files.write_lines(path, rows_of_file)
    return path


PREFERENCES = ("run", "--preset", "tiny", "--arm", "accumulated", "--set", "num_pairs=2", "--set", "held_out=0.4",
               "--set", "measures.probe_pairs=2", "--set", "measures.alignment_every=0")  # fmt: skip


def test_a_run_on_preference_data_is_made_resumed_and_reported(preference_file, tmp_path, capfd):
    call = (
        *PREFERENCES,
        "--pairs",
        preference_file,
        "--columns",
        "chosen=good,rejected=bad",
        "--out",
        tmp_path / "out",
    )
    status, _, err = called(capfd, *call, "--updates", "1")
    assert status == 0
    header, *_ = runs.read(tmp_path / "out" / "accumulated" / "seed-0")
    assert header["left_out"] == {"equal answers": 8}
    assert 15 <= header["num_pairs_in_all"] <= 25  # of 32, but for the share that is held out
    assert f"{header['num_pairs_in_all']} pairs; 8 left out: 8 equal answers" in err
    status, _, err = called(capfd, *call, "--updates", "1")
    assert status == 0
    assert "nothing to do" in err
    assert called(capfd, "report", tmp_path / "out")[0] == 0
    page = (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")
    assert "8 equal answers" in page


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--columns", "chosen=good"), "It has good, bad. Map them with --columns"),
        (("--columns", "chosn=good"), "Did you mean chosen?"),
        (("--data", "generated"), "--pairs and --data must not be given together"),
        (("--set", "measures.accuracy_every=1", "--columns", "chosen=good,rejected=bad"), "accuracy_every must be 0"),
        (("--set", "is_chat=false", "--columns", "chosen=good,rejected=bad"), "messages must be put into the chat"),
        (("--set", "held_out=0", "--columns", "chosen=good,rejected=bad"), "Hold out more, with --set held_out=SHARE"),
        (("--set", "held_out=1.5"), "held_out must be less than 1"),
    ],
)
def test_a_call_with_preference_data_that_cannot_be_carried_out(preference_file, tmp_path, capfd, more, message):
    assert message in refused(capfd, *PREFERENCES, "--pairs", preference_file, *more, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no.jsonl", "--pairs must be a file that can be read"),
        ("pairs.txt", "--pairs must be a file .jsonl or .parquet"),
    ],
)
def test_preference_data_that_are_not_there(tmp_path, capfd, source, message):
    assert message in refused(capfd, *PREFERENCES, "--pairs", source, "--out", tmp_path / "out")


def test_columns_without_a_file_are_refused(tmp_path, capfd):
    assert "--columns must go with --pairs" in refused(
        capfd, *PREFERENCES, "--columns", "chosen=good", "--out", tmp_path / "out"
    )


def test_a_configuration_of_before_preference_data_is_read(done):
    content = files.read_object(done / "accumulated" / "seed-0" / "config.json")
    old = {
        key: value
        for key, value in content.items()
        if key not in ("held_out", "held_out_file", "columns", "skip_broken")
    }
    assert config.from_json(old) == config.from_json(content)


def test_a_reader_that_leaves_during_the_memory_of_a_run_ends_it():
    call = f"{sys.executable} -m experiments run --preset tiny --dry-run"
    script = f"{call} | true; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_what_a_run_leaves(done):
    assert sorted(path.name for path in done.iterdir()) == ["accumulated", "runs.json", "sequential"]
    for arm in (done / "accumulated", done / "sequential"):
        (folder,) = arm.iterdir()
        assert folder.name == "seed-0"
        assert {path.name for path in folder.iterdir()} == {"config.json", records.RECORDS, records.CHECKPOINTS}
        given = config.from_json(files.read_object(folder / "config.json"))
        assert (given.arm.name, given.num_updates, given.num_problems) == (arm.name, 4, 16)
        made = runs.read(folder)
        assert [record["kind"] for record in made] == ["header", *["update"] * 5, "end"]
        for row in made[2:-1]:
            assert set(row) == {"kind", *(key for key in records.quantities() if "." not in key)}
        assert {path.name for path in (folder / records.CHECKPOINTS).iterdir()} >= {f"{n:08}" for n in (2, 3, 4)}
    first, second = (rows(done / arm / "seed-0") for arm in ("accumulated", "sequential"))
    assert first[0] == second[0]
    assert first[1]["loss_plus"] == pytest.approx(second[1]["loss_plus"], rel=1e-6)
    assert [row["tokens"] for row in first] == [row["tokens"] for row in second]


def test_what_is_finished_is_passed_over(done, capfd):
    before = contents(done)
    for call in (("run", *SMALL, "--out", done), ("resume", done)):
        status, out, err = called(capfd, *call)
        assert status == 0
        assert not out
        assert [line.rpartition("/")[2] for line in err.splitlines()] == ["seed-0: 4 updates made (nothing to do)"] * 2
    assert contents(done) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--updates", "5"), "num_updates was 4, not 5. Give another --out."),
        (("--rate", "0.5"), "learning_rate was 0.003, not 0.5."),
        (("--set", "rule.b2=0.5"), "rule.b2 was 0.999, not 0.5."),
    ],
)
def test_another_configuration_is_refused(changed, message, done, capfd):
    before = contents(done)
    assert message in refused(capfd, "run", *SMALL, *changed, "--out", done)
    assert contents(done) == before


def test_a_foreign_folder_is_refused(tmp_path, capfd):
    folder = tmp_path / "accumulated" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("ten years of work")
    said = refused(capfd, "run", *SMALL, "--out", tmp_path)
    assert "must be empty or a run; it holds thesis.tex." in said
    assert [path.name for path in tmp_path.rglob("*")] == ["accumulated", "seed-0", "thesis.tex"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--update", "4"], "no such option: --update. Did you mean --updates?"),
        (["--preset", "tinny"], "must be one of tiny, smollm2, llama3-8b; got tinny. Did you mean tiny?"),
        (["--updates", "0"], "at least 1; got 0"),
        (["--updates", "many"], "got many"),
        (["--seeds", "1,-1"], "got -1"),
        (["--rate", "-1"], "--rate must be a positive number; got -1."),
        (["--rate", "1e4"], "config.learning_rate must be less than 1000; got 10000.0."),
        (["--arm", "acumulated"], "Did you mean accumulated?"),
        (["--arm", "sequential:rate=eta/0"], "arm.rate must be a positive number or fraction"),
        (["--arm", "+-+-+-"], "config.num_pairs must be a multiple of 3, the letters of a half in +-+-+-"),
        (["--arm", "+-:optimizer=optax.lionn"], "got 'lionn'. Did you mean lion?"),
        (["--arm", "+-:objective=nowhere:loss"], "objective must be in a module that can be imported; got nowhere"),
        (["--arm", "sequential", "--arm", "sequential"], "arms must differ; one is given twice."),
        (["--set", "num_problem=16"], "num_problem"),
        (["--set", "measures.probe=3"], "measures.probe"),
        (["--set", "num_pairs"], "--set must be KEY=VALUE; got num_pairs."),
        (["--set", "num_pairs=two"], "num_pairs must be a whole number; got 'two'."),
        (["--set", "measures.probe_pairs=3"], "measures.probe_pairs must be even, to be halved; got 3."),
        (["--set", "seed=3"], "seed must be given by --seeds."),
        (["--set", "mesh.data=3"], "must divide the pairs of a letter's part"),
        (["--set", "mesh.data=2"], "data x fsdp x tensor must be the number of devices, 1; got 2 x 1 x 1."),
        (["--set", "max_tokens=100"], "that fit max_tokens; got 4."),
        (["--set", "max_tokens=100000"], "must be at most the model's context of 2048"),
        (["--set", "num_problems=2"], "there must be at least the 4 pairs of one update"),
        (["--config", "nowhere.json"], "must be a file that can be read; got no readable file nowhere.json."),
        (["--model", "nowhere"], "nowhere/config.json must exist: a model is a folder"),
        (["--data", "nowhere"], "nowhere/train.jsonl must exist: a folder of GSM8K"),
        (["--process", "0"], "--coordinator, --processes and --process must be given together"),
        (["--coordinator", "x:1", "--processes", "2", "--process", "2"], "--process must be less than --processes"),
        (["--coordinator", "here", "--processes", "2", "--process", "1"], "--coordinator must be HOST:PORT; got here."),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_and_leaves_nothing(arguments, message, tmp_path, capfd):
    said = refused(capfd, "run", *["--preset", "tiny"][: 2 * ("--preset" not in arguments)],
                   *["--set", "num_problems=16"], *arguments, "--out", tmp_path / "new" / "runs")  # fmt: skip
    assert message in said
    assert ".." not in said
    assert not list(tmp_path.iterdir())


def test_files_of_settings(tmp_path, capfd):
    path = tmp_path / "settings.json"
    out = tmp_path / "runs"
    for content, message in (
        ("{", "must hold JSON"),
        ("[]", "must hold a JSON object; got list."),
        ('{"rule": {"b3": 1}}', "rule.b3"),
        ('{"num_pairs": "2"}', "num_pairs"),
        ('{"arm": {"rate": "eta"}}', "arm.rate must be given by --arm NAME:key=value."),
    ):
        path.write_text(content)
        if content != '{"num_pairs": "2"}':  # a text is read as what the field is
            assert message in refused(capfd, "run", "--preset", "tiny", "--config", path, "--out", out)
    assert not out.exists()


def test_folders_that_cannot_be_gone_on_with(done, tmp_path, capfd):
    assert "must hold a run: a folder with config.json and records.jsonl." in refused(capfd, "resume", tmp_path)
    assert "must be a folder that exists" in refused(capfd, "resume", tmp_path / "nowhere")
    path = tmp_path / "config.json"
    content = (done / "accumulated" / "seed-0" / "config.json").read_text()
    for broken, message in (
        (content[:100], "must hold JSON"),
        (content.replace('"num_pairs"', '"num_pair"'), "num_pairs"),
        (content.replace('"num_pairs": 2', '"num_pairs": 0'), "num_pairs must be at least 1; got 0."),
        (content.replace('"num_pairs": 2', '"num_pairs": "2"'), "num_pairs"),
    ):
        path.write_text(broken)
        said = refused(capfd, "resume", tmp_path)
        assert str(path) in said
        assert message in said
        assert said.count(str(path)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


def copied(done, tmp_path, num_rows):
    """The run as it was after that many updates, had it been killed there."""
    source, folder = done / "accumulated" / "seed-0", tmp_path / "accumulated" / "seed-0"
    subprocess.run(["cp", "-r", str(done / "accumulated"), str(tmp_path)], check=True)
    lines = (source / records.RECORDS).read_text().splitlines(keepends=True)
    (folder / records.RECORDS).write_text("".join(lines[: num_rows + 2]))
    for number in checkpoint.numbers(folder / records.CHECKPOINTS):
        if number > num_rows:
            subprocess.run(["rm", "-r", str(folder / records.CHECKPOINTS / f"{number:08}")], check=True)
    return folder


def same(folder, done):
    other = done / "accumulated" / "seed-0"
    name = Path(records.CHECKPOINTS) / "00000004" / "arrays.safetensors"
    return rows(folder) == rows(other) and (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("command", ["run", "resume"])
def test_what_is_unfinished_is_gone_on_with(command, done, tmp_path, capfd):
    folder = copied(done, tmp_path, 2)
    call = ("run", *SMALL, "--arm", "accumulated", "--out", tmp_path) if command == "run" else ("resume", tmp_path)
    status, out, _ = called(capfd, *call)
    assert (status, out) == (0, f"{folder}: 4 updates made\n")
    assert same(folder, done)


def test_a_run_that_never_began_is_started_and_said(done, tmp_path, capfd):
    """The command was killed within its first arm: of the second there is no folder."""
    folder = copied(done, tmp_path, 2)
    shutil.copy(done / "runs.json", tmp_path)
    status, out, err = called(capfd, "resume", tmp_path)
    second = tmp_path / "sequential" / "seed-0"
    assert (status, out) == (0, f"{folder}: 4 updates made\n{second}: 4 updates made\n")
    assert err.splitlines()[0] == f"{second}: never began, and is started"
    assert same(folder, done)
    assert rows(second) == rows(done / "sequential" / "seed-0")
    status, out, err = called(capfd, "resume", tmp_path)
    assert (status, out) == (0, "")
    assert "never began" not in err


def test_without_a_list_it_is_said_that_nothing_is_known_of_others(done, tmp_path, capfd):
    folder = copied(done, tmp_path, 4)
    status, _, err = called(capfd, "resume", tmp_path)
    assert status == 0
    assert f"{tmp_path} has no runs.json: a run that never began is not known here." in err
    assert "runs.json" not in called(capfd, "resume", folder)[2]


def test_a_list_is_checked_and_extended(done, tmp_path, capfd):
    (tmp_path / "runs.json").write_text('{"a/seed-0": {"preset": "tiny"}}')
    said = refused(capfd, "resume", tmp_path)
    assert f"{tmp_path / 'runs.json'}: config must have the key 'model'." in said
    listed = files.read_object(done / "runs.json")
    assert list(listed) == ["accumulated/seed-0", "sequential/seed-0"]
    for name, content in listed.items():
        assert content == files.read_object(done / name / "config.json")


def printed_cells(capfd, *call):
    """The words of each line that --list prints, behind those that start the program."""
    status, out, err = called(capfd, *call, "--list")
    assert (status, err) == (0, "")
    program = [sys.executable, "-m", "experiments"]
    words = [shlex.split(line) for line in out.splitlines()]
    assert all(line[:3] == program for line in words)
    return [line[3:] for line in words]


def test_every_line_of_the_grid_is_its_one_cell(tmp_path, capfd):
    """Values of every type, from options, --set and a file; a folder with blanks and a quote; keys of an arm."""
    (tmp_path / "settings.json").write_text('{"rule": {"b2": 0.95}, "num_pairs": 2, "is_chat": true}')
    out = tmp_path / "it's here"
    arms_of_call = ("sequential:optimizer=sgd", "accumulated")
    call = ("run", "--preset", "tiny", "--config", tmp_path / "settings.json", "--set", "learning_rate=1e-05",
            "--updates", "4", "--set", "measures.accuracy_every=0", "--seeds", "7,1", "--out", out)  # fmt: skip
    for arm in arms_of_call:
        call += ("--arm", arm)
    cells = printed_cells(capfd, *call)
    whole = files.read_object(out / "runs.json")
    assert [path.name for path in out.iterdir()] == ["runs.json"]
    assert [(word[word.index("--arm") + 1], word[word.index("--seeds") + 1]) for word in cells] == [
        (arm, seed) for arm in arms_of_call for seed in ("7", "1")
    ]
    assert len(whole) == len(cells) == 4
    read_back = {}
    for cell in cells:
        (out / "runs.json").unlink()
        assert printed_cells(capfd, *cell) == [cell]  # narrowed once more it stays as it is
        read_back |= (one := files.read_object(out / "runs.json"))
        assert len(one) == 1
    assert read_back == whole
    one = config.from_json(whole["accumulated/seed-1"])
    assert (one.rule.b2, one.learning_rate, one.num_updates, one.is_chat, one.seed) == (0.95, 1e-5, 4, True, 1)


def test_preference_data_are_in_every_line_of_the_grid(preference_file, tmp_path, capfd):
    call = (*PREFERENCES, "--pairs", preference_file, "--columns", "chosen=good,rejected=bad", "--out", tmp_path)
    (cell,) = printed_cells(capfd, *call)
    (whole,) = files.read_object(tmp_path / "runs.json").values()
    (tmp_path / "runs.json").unlink()
    printed_cells(capfd, *cell)
    assert list(files.read_object(tmp_path / "runs.json").values()) == [whole]


def test_cells_leave_the_folders_of_the_whole_call(done, tmp_path, capfd):
    cells = printed_cells(capfd, "run", *SMALL, "--out", tmp_path)
    assert files.read_object(tmp_path / "runs.json") == files.read_object(done / "runs.json")
    for cell in reversed(cells):
        assert called(capfd, *cell)[0] == 0
    for arm in ("accumulated", "sequential"):
        assert rows(tmp_path / arm / "seed-0") == rows(done / arm / "seed-0")
        assert files.read_object(tmp_path / arm / "seed-0" / "config.json") == files.read_object(
            done / arm / "seed-0" / "config.json"
        )
    assert same(tmp_path / "accumulated" / "seed-0", done)
    assert files.read_object(tmp_path / "runs.json") == files.read_object(done / "runs.json")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--list", "--dry-run"), "--dry-run and --list must not be given together."),
        (("--list", "--ray"), "--list and --ray must not be given together."),
        (("--cell-cpus", "2"), "--cell-cpus must go with --ray."),
        (("--ray-address", "head:1"), "--ray-address must go with --ray."),
        (("--ray", "--coordinator", "auto"), "--ray must not be given with --coordinator"),
        (("--ray", "--ray-address", "ray://head:10001"), "--ray-address must be HOST:PORT; got ray://head"),
        (("--list", "--arm", "acumulated"), "Did you mean accumulated?"),
    ],
)
def test_options_of_cells_that_do_not_go_together(tmp_path, capfd, more, message):
    assert message in refused(capfd, "run", *SMALL, *more, "--out", tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_without_ray_its_extra_is_named(done, tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for call in (("run", *SMALL, "--out", tmp_path / "new"), ("resume", done)):
        said = refused(capfd, *call, "--ray")
        assert said.startswith(f"python -m experiments {call[0]}: ray must be installed. ")
        assert "'.[ray]'" in said
    assert not list(tmp_path.iterdir())


def test_the_room_of_checkpoints_is_said_where_it_is_much(done, tmp_path, capfd, monkeypatch):
    """SmolLM2 has 134,515,008 parameters; with two moments, of four bytes each, a checkpoint has 1.61 GB."""
    monkeypatch.chdir(tmp_path)  # without a model: nothing is loaded
    for arms, updates, said in (
        ((), 24, "4.84 GB of the disk while the runs are made, 3.23 GB when all have finished (--set keep=K)"),
        (
            ("--arm", "sequential", "--set", "checkpoint_every=24"),
            24,
            "1.61 GB of the disk while the runs are made, 1.61",
        ),
        (("--set", "keep=0", "--set", "checkpoint_every=24"), 24, ""),
        (("--arm", "sequential:optimizer=sgd"), 8, "538 MB of the disk while the runs are made, 538 MB when"),
    ):
        status, _, err = called(capfd, "run", "--preset", "smollm2", "--updates", updates, *arms)
        assert status == 2
        assert "models/smollm2/config.json must exist" in err
        assert f"checkpoints: {said}" in err if said else "checkpoints: " not in err
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**10, 0, 10**9))
    assert "; 1 GB are free and NOT ENOUGH" in called(capfd, "run", "--preset", "smollm2")[2]
    assert "checkpoints: " not in called(capfd, "resume", done)[2]


def test_what_is_kept_may_change(done, tmp_path, capfd):
    """Nothing that is computed depends on it: an unfinished run is gone on with, and keeps what the last call says."""
    folder = copied(done, tmp_path, 2)
    call = ("run", *SMALL, "--arm", "accumulated", "--set", "keep=1", "--set", "checkpoint_every=4", "--out", tmp_path)
    assert called(capfd, *call)[0] == 0
    assert checkpoint.numbers(folder / records.CHECKPOINTS) == [4]
    assert same(folder, done)
    assert files.read_object(folder / "config.json")["keep"] == 1
    assert called(capfd, *call, "--set", "keep=0")[0] == 0
    assert not (folder / records.CHECKPOINTS).exists()


def test_damage_is_told(done, tmp_path, capfd):
    folder = copied(done, tmp_path, 3)

    def damage(number):
        (folder / records.CHECKPOINTS / f"{number:08}" / "about.json").write_text("{}")

    damage(3)
    status, _, err = called(capfd, "resume", tmp_path)
    assert status == 0
    assert "00000003 is damaged: about.json has 2 bytes" in err
    assert same(folder, done)
    (tmp_path / "accumulated" / "other").mkdir()
    (folder / records.RECORDS).write_text(
        "".join((folder / records.RECORDS).read_text().splitlines(keepends=True)[:-1])
    )
    for number in checkpoint.numbers(folder / records.CHECKPOINTS):
        damage(number)
    assert "must hold a checkpoint that is whole; all are damaged." in refused(capfd, "resume", tmp_path)
    (folder / records.RECORDS).unlink()
    assert "all are damaged" in refused(capfd, "resume", tmp_path)


def test_checkpoints_without_lines(done, tmp_path, capfd):
    folder = copied(done, tmp_path, 3)
    (folder / records.RECORDS).unlink()
    assert f"{folder / records.RECORDS} must exist: " in refused(capfd, "resume", tmp_path)


def test_another_model_is_refused(done, tmp_path, capfd, monkeypatch):
    copied(done, tmp_path, 3)
    init = parameters.init
    monkeypatch.setattr(parameters, "init", lambda architecture, key: init(architecture, jax.random.key(9)))
    said = refused(capfd, "resume", tmp_path)
    assert "must be continued with the model and the data that it was begun with" in said


def test_a_full_disk(done, tmp_path, capfd, monkeypatch):
    folder = copied(done, tmp_path, 2)

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, out, err = called(capfd, "resume", tmp_path)
    assert (status, out) == (1, "")
    (line,) = [line for line in err.splitlines() if "No space" in line]
    assert line == (
        f"python -m experiments resume: {folder}: [Errno 28] No space left on device. What was saved before is whole."
    )
    assert checkpoint.numbers(folder / records.CHECKPOINTS)[0] == 2
    assert called(capfd, "resume", tmp_path)[0] == 0
    assert same(folder, done)


def test_a_value_that_is_not_finite(tmp_path, capfd, monkeypatch):
    epoch_batches = batches.epoch_batches

    def infinite(*arguments, **options):
        source = epoch_batches(*arguments, **options)

        def made(update, params):
            halves = source(update, params)
            if update != 2:
                return halves
            weights = halves.preferred.weights * np.float32(np.inf)
            return halves._replace(preferred=halves.preferred._replace(weights=weights))

        return made

    monkeypatch.setattr(batches, "epoch_batches", infinite)
    call = ("run", *SMALL, "--arm", "accumulated", "--arm", "sequential", "--out", tmp_path)
    status, out, _ = called(capfd, *call)
    assert status == 0
    folders = [tmp_path / arm / "seed-0" for arm in ("accumulated", "sequential")]
    message = "update 3 is not finite; parameters and moments before it are in checkpoint 2"
    assert out == "".join(f"{folder}: {message}\n" for folder in folders)
    before = contents(tmp_path)
    assert called(capfd, *call) == (0, "", "".join(f"{folder}: {message} (nothing to do)\n" for folder in folders))
    assert contents(tmp_path) == before


# On a terminal; two at once; Ctrl-C -----------------------------------------------------------------------------------


class Terminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, cache, *arguments):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = start(
            cache,
            *arguments,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            text=False,
            start_new_session=True,
            before=(sys.executable, "-c", ON_THE_TERMINAL),
        )
        os.close(theirs)
        self.shown, self.decoder = "", codecs.getincrementaldecoder("utf-8")(errors="replace")

    def until(self, pattern, seconds=200):
        """Reads until something is shown; all if it never is."""
        limit = time.monotonic() + seconds
        while not re.search(pattern, self.shown) and time.monotonic() < limit:
            if select.select([self.ours], [], [], 1.0)[0]:
                try:
                    data = os.read(self.ours, 65536)
                except OSError:  # the other end is closed
                    break
                if not data:
                    break
                self.shown += self.decoder.decode(data)  # a letter may come in two pieces
        return re.search(pattern, self.shown)

    def press(self, key):
        os.write(self.ours, key)

    def end(self):
        self.until("(?!)")
        status = self.process.wait(timeout=100)
        os.close(self.ours)
        return status


def lines_of(shown):
    """What is shown, by lines, without the sequences that move and colour."""
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", shown)]


def test_on_a_terminal_two_at_once_and_an_interrupt(tmp_path):
    cache = os.environ["JAX_COMPILATION_CACHE_DIR"]
    call = ("run", *SMALL, "--updates", "1000", "--set", "checkpoint_every=1000", "--out", tmp_path / "runs")
    terminal = Terminal(cache, *call)
    try:
        assert terminal.until("accumulated"), terminal.shown
        status, out, err = ended(start(cache, *call))
        assert (status, out) == (2, "")
        folder = tmp_path / "runs" / "accumulated" / "seed-0"
        said = [line for line in err.splitlines() if not line.startswith("loading JAX, ")]  # on a busy machine
        assert said == [f"python -m experiments run: {folder} is being written to by another run."]
        assert terminal.until(r"L\+ \d"), terminal.shown
        num_before = len(lines_of(terminal.shown))
        terminal.press(b"\x03")
        assert terminal.end() == 130
    finally:
        terminal.process.kill()
    # The echo of the key stands in the last of these lines; after them the notice may stand in the middle of one.
    live = [line.replace("^C", "") for line in lines_of(terminal.shown)[:num_before] if "/" in line]
    assert not [line for line in live if len(line) > 80]
    assert any(re.match(r"L\+ .* g\+\.g- .* [0-9]+/1000 ", line) for line in live)
    assert "ending after this update; once more ends at once" in terminal.shown
    folder = tmp_path / "runs" / "accumulated" / "seed-0"
    assert not (tmp_path / "runs" / "sequential").exists()
    end = runs.end(folder)
    assert end["reason"] == "stopped"
    assert checkpoint.numbers(folder / records.CHECKPOINTS)[0] == end["update"] == rows(folder)[-1]["update"]
    assert f"stopped after update {end['update']}, which is saved" in terminal.shown.replace("\r\n", "")


@pytest.mark.slow
def test_interrupts_before_the_first_update_leave_nothing_broken(cache, tmp_path):
    """While the texts are made nothing is there yet; while the first program is compiled a second one ends at once."""
    call = ("run", *SMALL, "--arm", "accumulated", "--out", tmp_path / "runs")
    folder = tmp_path / "runs" / "accumulated" / "seed-0"
    process = start(cache, *call)
    while not folder.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    assert (status, out, "Traceback" in err) == (130, "", False)
    assert not folder.exists()
    process = start(cache, *call)
    while not (folder / records.RECORDS).exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.3)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    status, out, err = ended(process)
    assert (status, out, "Traceback" in err) == (130, "", False)
    process = start(cache, *call)
    while not (folder / records.CHECKPOINTS / "00000001").exists() and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    status, out, err = ended(process)
    assert status == 130
    assert "which is saved" in out or "4 updates made" in out
    status, out, err = ended(start(cache, *call))
    assert status == 0, err
    assert re.search(r"^accumulated: 4 of 4 updates, L\+ ", err, re.MULTILINE) or "nothing to do" in err
    assert "\x1b" not in err
    assert [row["update"] for row in rows(folder)] == list(range(5))
    assert runs.end(folder)["reason"] == "finished"


# Several devices, several processes -----------------------------------------------------------------------------------

MESHED = (*SMALL, "--set", "num_pairs=4", "--set", "measures.probe_pairs=8", "--set", "measures.alignment_every=2",
          "--set", "num_problems=32", "--set", "max_tokens=700", "--arm", "sequential")  # fmt: skip
LOOSE = {
    # Differences of nearly equal numbers: the error is that of |g+| |g-|, which is larger than they are.
    "product_unbiased": 1e-3, "norm_plus_squared_unbiased": 1e-3, "norm_minus_squared_unbiased": 1e-3,
}  # fmt: skip


def close(found, expected, key=""):
    """Whether all numbers of two rows agree to round-off, float32."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            close(found[name], expected[name], name)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=LOOSE.get(key, 1e-4), abs=1e-6), key
    else:
        assert found == expected, key


@pytest.mark.slow
def test_devices_and_processes_find_the_same(cache, tmp_path):
    alone, eight, two = tmp_path / "alone", tmp_path / "eight", tmp_path / "two"
    status, _, err = ended(start(cache, "run", *MESHED, "--out", alone))
    assert status == 0, err
    mesh = [word for axis in ("data", "fsdp", "tensor") for word in ("--set", f"mesh.{axis}=2")]
    status, _, err = ended(start(cache, "run", *MESHED, *mesh, "--out", eight, num_devices=8))
    assert status == 0, err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        start(cache, "run", *MESHED, *mesh[2:], "--out", two, "--coordinator", f"127.0.0.1:{port}",
              "--processes", 2, "--process", index, num_devices=2)
        for index in (0, 1)
    ]  # fmt: skip
    try:
        (status, out, err), (other_status, other_out, other_err) = map(ended, processes)
    finally:
        for process in processes:
            process.kill()
    assert (status, other_status) == (0, 0), err + other_err
    assert out.endswith("4 updates made\n")
    # The library that connects the processes says so itself.
    assert all(line.startswith("[Gloo]") for line in other_out.splitlines())
    expected = rows(alone / "sequential" / "seed-0")
    for out in (eight, two):
        folder = out / "sequential" / "seed-0"
        assert {path.name for path in folder.iterdir()} == {"config.json", records.RECORDS, records.CHECKPOINTS}
        made = runs.read(folder)
        assert [record["kind"] for record in made] == ["header", *["update"] * 5, "end"]
        found = rows(folder)
        for row, own in zip(found, expected, strict=True):
            close(row, own)
    assert runs.read(two / "sequential" / "seed-0")[0]["num_processes"] == 2
    # What eight devices saved is gone on with by one.
    folder = eight / "sequential" / "seed-0"
    lines = (folder / records.RECORDS).read_text().splitlines(keepends=True)
    (folder / records.RECORDS).write_text("".join(lines[:5]))
    for number in (4,):
        subprocess.run(["rm", "-r", str(folder / records.CHECKPOINTS / f"{number:08}")], check=True)
    content = json.loads((folder / "config.json").read_text())
    content["mesh"] = {"data": 1, "fsdp": 1, "tensor": 1}
    (folder / "config.json").write_text(json.dumps(content))
    status, _, err = ended(start(cache, "resume", eight))
    assert status == 0, err
    for row, own in zip(rows(folder), expected, strict=True):
        close(row, own)
