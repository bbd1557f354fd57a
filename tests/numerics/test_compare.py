"""The command: what it prints, writes, refuses and returns."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import jax
import pytest

import console.progress
from numerics import cases, catalogue, compare, drift, optimizers, problems, schedules, updates
from numerics.epoch import Epoch

ROOT = Path(__file__).parents[2]


def run(*arguments, environment=None):
    command = [sys.executable, "-m", "numerics.compare", *arguments]
    env = {**os.environ, **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=env)


def test_every_name_of_the_catalogue_can_be_built():
    assert set(catalogue.PROBLEMS) == set(problems.BY_NAME)
    assert set(catalogue.OPTIMIZERS) == set(optimizers.BY_NAME)
    assert set(catalogue.FRAMES) == set(get_args(catalogue.Frame))
    made = problems.make("quadratic", 2, seed=0)
    for name, entry in catalogue.OPTIMIZERS.items():
        second_moment = made.params if entry.needs_second_moment else None
        *_, last = optimizers.stages(name, second_moment=second_moment).values()
        rule = optimizers.build(name, second_moment=second_moment)
        assert jax.tree.structure(last.init(made.params)) == jax.tree.structure(rule.init(made.params))
    for name in catalogue.SCHEDULES:
        cases.schedule_named(name, made.losses)
    for name, expected in {
        "blocks": [0, 1, 2, 3],
        "reversed": [3, 1, 2, 0],
        "palindrome": [0, 2, 1, 3, 3, 1, 2, 0],
        "-++-": [0, 2, 3, 1],
    }.items():
        schedule = cases.schedule_named(name, made.losses)
        assert isinstance(schedule, schedules.Schedule)
        assert schedule.losses.tolist() == expected


def test_help_and_typos_do_not_wait_for_jax():
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['jax', 'numpy', 'optax', 'matplotlib']))\n"
        "from numerics.compare import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    sys.exit(stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert "palindrome" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for arguments, message in {
        ("--problem", "transfomer"): "Did you mean transformer?",
        ("--optimizer", "adm:eps=1"): "Did you mean adam?",
        ("--optimizer", "optax..lion"): "--optimizer must be an import path",
        ("--optimizer", "optax.lion:b1=0.9,b2"): "--optimizer must have options as NAME=VALUE",
        ("--schedule", "palindrom"): "Did you mean palindrome?",
        ("--frame", "acumulated"): "Did you mean accumulated?",
        ("--pair", "2"): "Did you mean --pairs?",
        ("--pairs", "0"): "at least 1",
        ("--pairs", "1.5"): "whole number",
        ("--seed", "-1"): "whole number",
        ("--dtype", "float16"): "must be one of float64, float32",
        ("--largest-step", "nan"): "positive number",
        ("--scales", "1,0"): "positive number",
        ("--plot", "drift.jpg"): "must end in .pdf, .png, .svg",
        ("--plot", "nowhere/drift.pdf"): "folder that exists",
        ("--json", "nowhere/drift.json"): "folder that exists",
        ("--plot", "-"): "must end in .pdf, .png, .svg",
        ("--plot", "drift.svg", "--json", "./drift.svg"): "must name two files",
        ("--halvings", "4"): "at least 5 and at most 60",
        ("--sweep", "--plot", "a.pdf"): "single comparison",
        ("--schedule",): "--schedule must have a value",
        ("--ray",): "--ray must go with --sweep",
        ("--sweep", "--cell-cpus", "2"): "--cell-cpus must go with --ray",
    }.items():
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 2, arguments
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_table_in_eighty_columns(capsys):
    assert compare.main(["--problem", "quadratic", "--order", "3"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "quadratic, 2 pairs, sgd, minus-first, float64, seed 0" in out
    assert "relative to: accumulated (one update on everything)" in out
    lines = [line for line in out.splitlines() if line.startswith("remainder after order")]
    assert [line.rsplit(": ", 1)[1] for line in lines] == ["pass"] * 3
    rows = [line.split() for line in out.splitlines() if line[:1].isdigit()]
    assert len(rows) == 11
    for size, measured, predicted, remainder, *_ in rows:
        assert abs(abs(float(measured) - float(predicted)) - float(remainder)) <= float(remainder) + 1e-4 * float(
            measured
        )
        assert 0 < float(size) < 1


def test_json_on_standard_output_is_all_there_is():
    done = run("--problem", "logistic", "--schedule", "reshuffling", "--json", "-", "--pairs", "1", "--opposite")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout, parse_constant=pytest.fail)
    (result,) = content["results"]
    assert (result["problem"], result["optimizer"], result["schedule"]) == ("logistic", "sgd", "reshuffling")
    assert content["opposite"] is True
    assert [entry["theory"] for entry in result["orders"]] == [2, 3, 4]
    for entry in result["orders"]:
        assert entry["verdict"] in ("met", "exact")
        assert len(entry["remainders"]) == len(result["step_sizes"]) == 11


def test_a_missed_order_is_exit_status_one(monkeypatch, capsys):
    right = drift.closed_form

    def off(*arguments, **options):
        first, second, third = right(*arguments, **options)
        return first, {"x": 1.01 * second["x"]}, third

    monkeypatch.setattr(drift, "closed_form", off)
    assert compare.main(["--problem", "quadratic"]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frame", "gradient-flow", "--optimizer", "adam"], "another rule follows another flow"),
        (["--frame", "pair-accumulated", "--schedule=-+-"], "even number of steps"),
        (["--scales", "1,2", "--schedule", "minus-first"], "one per step"),
        (["--scales", "1,2", "--schedule=-+:2"], "left out where the schedule has scales"),
        (["--schedule=(-+"], "--schedule must have brackets in pairs"),
        (["--schedule=-+k"], "Or a word of - and +"),
        (["--scales", "1,2", "--schedule", "reshuffling"], "single word"),
        (["--schedule", "reshuffling", "--pairs", "6"], "479,001,600"),
        (["--schedule", "reshuffling", "--pairs", "3000"], "very many"),
        (["--optimizer", "clipped-sgd:max_norm=-1"], "must be finite and not negative"),
        (["--optimizer", "adam:b1=0.9,b1=0.1"], "each once"),
        (["--optimizer", "adam:beta=1"], "adam must be given options among"),
        (["--optimizer", "optax.lyon"], "Did you mean lion?"),
        (
            ["--optimizer", "optax.contrib.schedule_free_sgd"],
            "can be measured, with `updates` and `drift.measured`, and",
        ),
    ],
)
def test_calls_without_an_answer(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        compare.main(["--problem", "quadratic", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_clip_at_its_threshold_is_named(capsys):
    """The norm of the second gradient is put on the threshold: at the start, and at a step within the range."""
    made = problems.make("logistic", 2, seed=0)
    word = schedules.interleaved(2, first="-")
    sgd = optimizers.gradient_descent()
    for size, message in ((0.0, "between step sizes 0 and"), (0.03, "between step sizes 0.025 and 0.05")):
        norms = updates.sequential(Epoch(made.losses, word, sgd, made.params), step_size=size).info.gradient_norms
        rule = f"clipped-sgd:max_norm={float(norms[1])!r}"
        arguments = ["--problem", "logistic", "--optimizer", rule, "--largest-step", "0.05"]
        assert compare.main(arguments) == 0
        out = capsys.readouterr().out.replace("\n", " ")
        assert message in out
        assert ("the update map has a kink" in out) == (size == 0.0)


def test_an_adam_whose_eps_vanishes_where_a_gradient_changes_sign(capsys):
    """A gradient coordinate that is tiny at the start: the square root has a kink there, on the scale of eps."""
    arguments = ["--problem", "polynomial", "--optimizer", "adam:eps_root=0", "--largest-step", "0.5"]
    statuses = [compare.main([*arguments, "--seed", str(seed)]) for seed in range(4)]
    assert statuses == [0] * 4
    assert "not smooth" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_a_figure(tmp_path, suffix, capsys):
    path = tmp_path / f"drift{suffix}"
    assert compare.main(["--problem", "quadratic", "--plot", str(path)]) == 0
    first = path.read_bytes()
    assert len(first) > 5000
    if suffix == ".svg":
        text = " ".join(ElementTree.fromstring(first).itertext())
        assert "step size" in text
        assert "slope 3.00 (theory 3)" in text
        assert compare.main(["--problem", "quadratic", "--plot", str(path)]) == 0
        assert path.read_bytes() == first
    assert f"wrote {path}" in capsys.readouterr().out.replace("\n", "")


def test_a_figure_without_anything_resolved_can_be_drawn(tmp_path, capsys):
    path = tmp_path / "drift.svg"
    arguments = ["--problem", "softmax", "--largest-step", "1e-8", "--plot", str(path)]
    assert compare.main(arguments) == 0
    assert "not resolved" in path.read_text()


@pytest.mark.parametrize("largest", ["1e300", "1e-320", "1e-250"])
def test_steps_at_the_ends_of_the_numbers(largest, tmp_path, capsys):
    path = tmp_path / "drift.png"
    arguments = ["--problem", "quadratic", "--largest-step", largest, "--plot", str(path)]
    assert compare.main(arguments) == 0
    assert "not resolved" in capsys.readouterr().out
    assert path.stat().st_size > 5000


def test_an_interrupted_sweep_ends_and_says_so():
    """Where the exception would be lost in a callback of the compiler's, or the interpreter would end badly."""
    for seconds in (2.0, 5.0):
        process = subprocess.Popen(
            [sys.executable, "-m", "numerics.compare", "--sweep", "--problem", "mlp"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        *progress, last = error.splitlines()
        assert (process.returncode, out, last) == (130, "", "Interrupted.")
        assert all(line.startswith(("loading JAX", "comparing")) for line in progress)


@pytest.mark.parametrize("package", ["jax", "optax", "matplotlib"])
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(package, tmp_path):
    code = (
        f"import runpy, sys\nsys.modules[{package!r}] = None\n"
        "runpy.run_module('numerics.compare', run_name='__main__', alter_sys=True)"
    )
    plot = tmp_path / "drift.svg"
    call = [sys.executable, "-c", code, "--problem", "quadratic", "--plot", str(plot)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=False)
    install = "python -m pip install --constraint constraints.txt --editable '.[numerics]'"
    assert done.returncode == 2
    line = f"{package} must be installed. In the project's folder: {install}"
    assert done.stderr.splitlines()[-1] == f"python -m numerics.compare: {line}"
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_long_comparison_says_that_it_lasts_and_not_in_the_json(monkeypatch, capsys):
    monkeypatch.setattr(console.progress, "_SECONDS_BEFORE_FIRST_LINE", 0.0)
    monkeypatch.setattr(console.progress, "_SECONDS_BETWEEN_LOOKS", 0.01)
    assert compare.main(["--problem", "quadratic", "--seed", "9", "--json", "-"]) == 0
    shown = capsys.readouterr()
    json.loads(shown.out, parse_constant=pytest.fail)
    assert re.search(r"^comparing quadratic sgd minus-first, \d+ s$", shown.err, re.MULTILINE)


def test_a_sweep_says_how_far_it_is(capsys):
    arguments = ["--sweep", "--problem", "quadratic", "--optimizer", "sgd", "--schedule", "blocks", "--json", "-"]
    assert compare.main(arguments) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "comparing: 1 of 1 comparisons"


def test_a_narrow_terminal_cuts_no_number():
    done = run("--problem", "quadratic", environment={"COLUMNS": "40"})
    assert "\u2026" not in done.stdout
    assert len([line for line in done.stdout.splitlines() if line[:1].isdigit()]) == 11


def test_a_word_with_brackets_and_scales_has_the_order_of_theory():
    done = run("--problem", "polynomial", "--schedule=(-+)-+:1/2", "--json", "-")
    (result,) = json.loads(done.stdout)["results"]
    assert [entry["verdict"] for entry in result["orders"]] == ["met"] * 3


def test_a_sweep_without_ray_names_its_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as stop:
        compare.main(["--sweep", "--ray"])
    said = capsys.readouterr()
    assert (stop.value.code, said.out) == (2, "")
    assert said.err.startswith("python -m numerics.compare: ray must be installed. ")
    assert "'.[ray]'" in said.err


@pytest.mark.ray
def test_a_sweep_on_a_cluster_says_and_writes_the_same(tmp_path):
    pytest.importorskip("ray")
    arguments = ("--sweep", "--problem", "quadratic", "--schedule", "blocks", "--pairs", "1", "--json")
    here, there = (run(*arguments, str(tmp_path / name), *more) for name, more in (("a", ()), ("b", ("--ray",))))
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert here.stdout == there.stdout.replace(str(tmp_path / "b"), str(tmp_path / "a"))
    assert len(json.loads((tmp_path / "a").read_bytes())["results"]) == len(catalogue.NAMED_OPTIMIZERS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_small_sweep(tmp_path, capsys):
    path = tmp_path / "sweep.json"
    arguments = ["--sweep", "--problem", "quadratic", "--optimizer", "sgd", "--pairs", "1", "--json", str(path)]
    assert compare.main(arguments) == 0
    out = capsys.readouterr().out
    assert f"{len(catalogue.SCHEDULES)} comparisons, 0 orders missed" in out
    assert max(map(len, out.replace(str(path), "").splitlines())) <= 80
    assert [r["schedule"] for r in json.loads(path.read_text())["results"]] == list(catalogue.SCHEDULES)


@pytest.mark.slow
def test_the_whole_sweep():
    """Hours of reading in twenty minutes: every problem, optimizer and schedule of the command."""
    done = run("--sweep", "--json", "-")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert len(results) == len(catalogue.PROBLEMS) * len(catalogue.NAMED_OPTIMIZERS) * len(catalogue.SCHEDULES)
