"""The experiment from Python: losses of one's own against loops by hand, and the same records as the command's."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import experiments.__main__ as dispatcher
from experiments import LanguageModel, OwnLosses, library, run, write_report
from tests.support.rounding import assert_equal_to_round_off

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 24, 3)), RNG.normal(size=(2, 24))
ETA = 0.05


def squares(params, examples):
    """Half the mean square of the residuals of a linear model."""
    features, targets = examples
    return 0.5 * jnp.mean((features @ params["w"][0] + params["b"] - targets) ** 2)


START = {"w": [jnp.asarray([0.1, -0.2, 0.3])], "b": jnp.asarray(0.5)}
LINEAR = OwnLosses(squares, START, (X[0], Y[0]), (X[1], Y[1]), name="linear")
CALL = {"learning_rate": ETA, "num_updates": 3, "num_pairs": 8, "settings": {"keep": 1}}


def gradient(theta, x, y):
    design = np.column_stack([np.ones(len(x)), x])
    return design.T @ (design @ theta - y) / len(x)


def by_hand(orders, word, rate):
    """Gradient descent on a linear model, in numpy: b and w, after each of the updates."""
    theta, rows = np.array([0.5, 0.1, -0.2, 0.3]), []
    for order in orders:
        shares = {"+": iter(np.split(order, word.count("+"))), "-": iter(np.split(order, word.count("-")))}
        for letter in word:
            which, side = next(shares[letter]), "+-".index(letter)
            step = gradient(theta, X[side][which], Y[side][which])
            theta = theta - ETA * rate * (step if letter == "+" else -step)
        rows.append(theta)
    return rows


def orders(seed, total=24, count=8):
    """The order of an epoch, as the documentation has it: the permutation of (seed, epoch, side)."""
    return np.split(np.random.default_rng([seed, 0, 0]).permutation(total), total // count)


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    out = tmp_path_factory.mktemp("linear") / "runs"
    return out, run(LINEAR, out=out, arms=["+-+-:rate=1/4,optimizer=sgd", "(+-)"], seeds=[0, 1], **CALL)


def test_a_linear_model_is_a_loop_by_hand(linear):
    _, (first, second, *_) = linear
    for made, seed in ((first, 0), (second, 1)):
        rows = by_hand(orders(seed), "+-+-", 0.25)
        start = np.array([0.5, 0.1, -0.2, 0.3])
        distances = [np.linalg.norm(theta - start) for theta in rows]
        assert_equal_to_round_off(made.values("distance"), [0.0, *distances], operations=1000)
        assert [row.optimizer_steps for row in made.updates] == [0, 4, 8, 12]
        assert [row.examples for row in made.updates] == [0, 16, 32, 48]
    # At the first update both gradients of the first share are read at the start.
    whole = orders(0)[0]
    plus = gradient(np.array([0.5, 0.1, -0.2, 0.3]), X[0][whole], Y[0][whole])
    _, (*_, accumulated, _) = linear
    norms: Any = accumulated.updates[1].gradient_norms
    norms = norms["plus"]
    assert_equal_to_round_off([norms["b"], norms["w.0"]], [abs(plus[0]), np.linalg.norm(plus[1:])], operations=100)
    assert accumulated.updates[1].log_prob_plus is None


def test_runs_from_python_are_those_of_a_command(linear, capfd):
    out, runs = linear
    assert [made.name for made in runs] == [
        f"{arm}/seed-{seed}" for arm in ("+-+-,rate=1-4,optimizer=sgd", "(+-)") for seed in (0, 1)
    ]
    content = json.loads((out / runs[0].name / "config.json").read_text())
    assert (content["preset"], content["model"], content["arm"]["word"]) == ("python", "linear", "+-+-")
    assert set(json.loads((out / "runs.json").read_text())) == {made.name for made in runs}
    page = write_report(out, out=out.parent / "report")
    assert "linear" in page.read_text()
    with pytest.raises(ValueError, match="out must not be a run folder"):
        write_report(out, out=out / runs[0].name)
    for command in (["resume", str(out / runs[0].name)], ["twin", str(out / runs[0].name)]):
        (out / runs[0].name / "records.jsonl").rename(out / "aside")
        with pytest.raises(SystemExit):
            dispatcher.main(command)
        (out / "aside").rename(out / runs[0].name / "records.jsonl")
        assert "linear must be run by the call from Python that made it" in capfd.readouterr().err


def test_the_same_call_passes_over_what_has_ended_and_resumes_what_has_not(linear, tmp_path):
    out, runs = linear
    lines = []
    again = run(LINEAR, out=out, arms=["(+-)"], seeds=[0, 1], **CALL, say=lines.append)
    assert all(line.endswith("3 updates made (nothing to do)") for line in lines)
    assert [made.updates for made in again] == [made.updates for made in runs[2:]]

    # A run whose last line is lost, and goes on from its checkpoint.
    stopped = run(LINEAR, out=tmp_path, arms=["(+-)"], seeds=[0], **{**CALL, "settings": {"checkpoint_every": 1}})
    lines_of = tmp_path / "(+-)" / "seed-0" / "records.jsonl"
    cut = lambda: "".join(line for line in lines_of.read_text().splitlines(keepends=True) if '"end"' not in line)  # noqa: E731
    lines_of.write_text(cut())
    resumed = run(LINEAR, out=tmp_path, arms=["(+-)"], seeds=[0], **{**CALL, "settings": {"checkpoint_every": 1}})
    assert resumed[0].end is not None
    assert resumed[0].values("distance") == stopped[0].values("distance") == runs[2].values("distance")
    other = LINEAR._replace(preferred=(X[0] + 1, Y[0]))
    lines_of.write_text(cut())
    with pytest.raises(ValueError, match="must be continued with the model and the data"):
        run(other, out=tmp_path, arms=["(+-)"], seeds=[0], **{**CALL, "settings": {"checkpoint_every": 1}})


def test_other_losses_are_another_run(linear):
    """By their programs: a function that computes the same is the same."""
    out, _ = linear

    def same(params, examples):
        features, targets = examples
        return 0.5 * jnp.mean((features @ params["w"][0] + params["b"] - targets) ** 2)

    def other(params, examples):
        return 2 * squares(params, examples)

    run(LINEAR._replace(loss=same), out=out, arms=["(+-)"], seeds=[0], **CALL)
    for changed in ({"loss": other}, {"preferred": (2 * X[0], Y[0])}):
        with pytest.raises(ValueError, match="holds a run of other losses, parameters or examples"):
            run(LINEAR._replace(**changed), out=out, arms=["(+-)"], seeds=[0], **CALL)


def test_numbers_of_numpy_are_numbers(linear):
    out, runs = linear
    call = {**CALL, "learning_rate": np.float64(ETA), "num_pairs": np.int64(8), "num_updates": jnp.asarray(3)}
    again = run(LINEAR, out=out, arms=["(+-)"], seeds=np.arange(2), **call)
    assert [made.updates for made in again] == [made.updates for made in runs[2:]]


def test_other_losses_and_held_out_examples(tmp_path):
    def absolute(params, examples):
        features, targets = examples
        return jnp.mean(jnp.abs(features @ params["w"][0] + params["b"] - targets))

    def stay(params, start):
        return 0.5 * sum((a - b) ** 2 for a, b in ((params["b"], start["b"]),))

    own = LINEAR._replace(dispreferred_loss=absolute, third=stay, held_out=((X[0][:4], Y[0][:4]), (X[1], Y[1])))
    (made,) = run(own, out=tmp_path, arms=["+-k"], learning_rate=ETA, num_updates=1, num_pairs=4,
                  settings={"measures.alignment_every": 1})  # fmt: skip
    start = made.updates[0]
    assert start.probe is not None
    assert start.probe_alignment is not None
    theta = np.array([0.5, 0.1, -0.2, 0.3])
    residual = X[1] @ theta[1:] + theta[0] - Y[1]
    first = X[0][:4] @ theta[1:] + theta[0] - Y[0][:4]
    assert_equal_to_round_off([start.probe.loss_plus, start.probe.loss_minus],
                              [0.5 * np.mean(first**2), np.mean(np.abs(residual))], operations=100)  # fmt: skip
    signs = np.sign(residual) / len(residual)
    slope = np.array([signs.sum(), *(X[1].T @ signs)])
    product = gradient(theta, X[0][:4], Y[0][:4]) @ slope
    assert_equal_to_round_off(start.probe_alignment.product, product, scale=1.0, operations=100)
    assert made.updates[1].optimizer_steps == 3


@pytest.mark.parametrize(
    ("changed", "call", "message"),
    [
        ({}, {"learning_rate": None}, "learning_rate must be given for losses of one's own"),
        ({}, {"num_pairs": 25}, "num_pairs must be at most the 24 examples of a half; got 25"),
        ({}, {"arms": ["+-+-"], "num_pairs": 3}, "config.num_pairs must be a multiple of 2"),
        ({}, {"arms": ["+-", "+-"]}, "arms must differ"),
        ({}, {"arms": ["+-k"]}, "must have no letter k where there is no third loss"),
        ({}, {"arms": ["+-:objective=npo"]}, "arm.objective must be log-likelihood for losses of one's own"),
        ({}, {"settings": {"num_parts": 2}}, "num_parts and mesh must be 1"),
        ({}, {"settings": {"num_updates": 2}}, "settings must not name num_updates, which is given apart"),
        ({}, {"arms": "(+-)"}, "arms and seeds must be lists"),
        ({}, {"seeds": 3}, "arms and seeds must be lists"),
        ({}, {"learning_rate": "0.1"}, "learning_rate must be a number; got the text '0.1'"),
        ({}, {"arms": ["(+-):reduction=sum"]}, "arm.reduction must not be given for losses of one's own"),
        ({"params": {}}, {}, "params must hold an array; got none"),
        ({"held_out": X}, {}, "held_out must be a pair"),
        ({"preferred": np.array(["a", "b"])}, {}, "preferred must be arrays of numbers"),
        ({"dispreferred": (X[1][:9], Y[1][:9])}, {}, "dispreferred must hold as many examples as preferred"),
        ({"preferred": (X[0], Y[0][:3])}, {}, "preferred must be arrays with the examples along their first axis"),
    ],
)
def test_what_does_not_fit_is_refused(changed, call, message, tmp_path):
    with pytest.raises(ValueError, match=r".") as refused:
        run(LINEAR._replace(**changed), out=tmp_path / "runs", **{"arms": ["(+-)"], **CALL, **call})
    assert message in str(refused.value)
    assert not (tmp_path / "runs" / "(+-)").exists()


def test_the_language_model_is_that_of_the_command(tmp_path):
    settings = {"num_problems": 16, "measures.accuracy_every": 0, "measures.probe_every": 0, "keep": 0}
    (made,) = run(LanguageModel("tiny", settings=settings), out=tmp_path / "python", arms=["(+-)"], num_updates=1)
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    call = ["run", "--preset", "tiny", "--arm", "(+-)", "--updates", "1", "--out", str(tmp_path / "command"), *words]
    assert dispatcher.main(call) == 0
    one, other = (tmp_path / place / "(+-)" / "seed-0" for place in ("python", "command"))
    assert (one / "config.json").read_bytes() == (other / "config.json").read_bytes()
    rows = [
        [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()] for folder in (one, other)
    ]
    timings = {"seconds", "probe_seconds", "memory"}
    for a, b in zip(*rows, strict=True):
        if a["kind"] == "update":
            assert {k: v for k, v in a.items() if k not in timings} == {k: v for k, v in b.items() if k not in timings}
    assert made.last_update == 1


def test_the_names_are_loaded_when_they_are_asked_for():
    code = "import sys, experiments; assert 'jax' not in sys.modules; experiments.run; assert 'jax' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    with pytest.raises(ImportError):
        from experiments import no_such_thing  # noqa: F401, PLC0415  # pyright: ignore[reportAttributeAccessIssue]
    assert library.run is run


def test_the_page_of_the_documentation_runs(tmp_path):
    """Both examples, as they are printed."""
    first, second = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    for code in (first, second):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/classifier/report/index.html").is_file()
    assert len(list((tmp_path / "runs").glob("*/*/seed-*/records.jsonl"))) == 8
