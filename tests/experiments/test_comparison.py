"""Twins of a small model in double precision against dense derivatives; and the command on a run of two updates."""

import json
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

import experiments.__main__ as dispatcher
from experiments import arms, comparison, config, presets, rates
from experiments.arms import Hyperparams
from experiments.model import parameters, random_model
from experiments.training import arm_update
from numerics import schedules
from numerics.rules import at_rate
from tests.oracles import bag_of_words
from tests.oracles.bag_of_words import vector
from tests.support.rounding import assert_equal_to_round_off

PARAMS, HALVES = bag_of_words.params(), bag_of_words.halves()
PLUS, MINUS, TREE = bag_of_words.sides(HALVES)
START = vector(PARAMS)
LARGEST, HALVINGS = 2.0**-5, 7


@contextmanager
def silent(what, total, unit):
    yield lambda done, note="": None


def bench(optimizer="sgd", first="+", rate="eta/2"):
    sequential = arms.parse(f"{'+-' if first == '+' else '-+'}:optimizer={optimizer},rate={rate}")
    rule = Hyperparams(b1=0.8, b2=0.9, eps=1e-2, eps_root=1e-2, weight_decay=0.1)
    state = at_rate(arm_update.optimizer(sequential, rule), 1.0).init(PARAMS)
    objective = arm_update.likelihood(bag_of_words.loss)
    return comparison.Setup(PARAMS, state, HALVES, PARAMS, objective, rule, sequential, "bag", 0)


def update(optimizer="sgd", first="+"):
    """The sequential update, as the numerics have it."""
    return bench(optimizer, first).epoch()


def reverse(epoch):
    return replace(epoch, schedule=schedules.reverse(epoch.schedule))


@cache
def twin(*arguments):
    return comparison.compare(
        bench(*arguments), largest=LARGEST, num_halvings=HALVINGS, has_alignment=arguments[0] == "sgd", show=silent
    )


@cache
def dense():
    """Gradients and Hessians of L+ and L-, as arrays."""
    return [np.asarray(jax.jit(make(side))(START)) for make in (jax.grad, jax.hessian) for side in (PLUS, MINUS)]


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", "eta/2"), ("adamw", "eta/sqrt2")])
def test_remainders_have_the_orders_of_theory(optimizer, rate):
    found = twin(optimizer, "+", rate)
    assert {name: fit.verdict for name, fit in found.fits.items()} == {"first": "met", "second": "met"}
    assert found.fits["first"].order == pytest.approx(2, abs=0.1)
    assert found.fits["second"].order == pytest.approx(3, abs=0.1)
    # The accumulated arm is matched at first order by gradient descent at eta/2, and Adam's is not.
    first = np.array(found.first) / np.array(found.gap)
    assert (first < 1e-6).all() if optimizer == "sgd" else (first[-1:] > 0.9).all()


@pytest.mark.parametrize("first", "+-")
def test_the_second_order_is_that_of_dense_derivatives(first):
    """Of + and then -: (eta/2)^2 H- g+, half of it in the gradient of g+ . g- and half of it the bracket."""
    g_plus, g_minus, h_plus, h_minus = dense()
    eta = np.array(twin("sgd", first, "eta/2").learning_rates)
    assert_equal_to_round_off(eta, LARGEST / 2 ** np.arange(HALVINGS + 1))
    own, other = (h_minus @ g_plus, h_plus @ g_minus)[:: 1 if first == "+" else -1]
    columns = dict(twin("sgd", first, "eta/2").columns())
    for name, expected in {
        "second": own,
        "gradient_part": (own + other) / 2,
        "bracket": (own - other) / 2,
    }.items():
        assert_equal_to_round_off(columns[name], eta**2 / 4 * np.linalg.norm(expected), operations=1000)
    assert abs(np.linalg.norm(h_minus @ g_plus) / np.linalg.norm(h_plus @ g_minus) - 1) > 0.01


@pytest.mark.parametrize("rate", ["eta/2", "eta/sqrt2"])
def test_the_largest_rate_unless_given_has_twice_the_first_order_at_second_order(rate, monkeypatch):
    """The first order is the length of the sequential update with frozen gradients, and not the gap's, which is 0."""
    terms = {}
    fit = comparison.convergence.fit

    def recorded(*arguments, theory):
        terms[theory] = arguments[3]
        return fit(*arguments, theory=theory)

    monkeypatch.setattr(comparison.convergence, "fit", recorded)
    g_plus, g_minus, _, h_minus = dense()
    found = comparison.compare(bench("sgd", "+", rate), largest=None, num_halvings=1, has_alignment=False, show=silent)
    largest, half = found.learning_rates
    size, frozen = rates.step_of(rate), np.linalg.norm(g_plus + g_minus)
    assert found.second[0] == pytest.approx(2 * size * largest * frozen)
    assert largest == pytest.approx(2 * frozen / (size * np.linalg.norm(h_minus @ g_plus)))
    assert half == largest / 2
    # The sizes beside which a remainder is exact or not resolved.
    assert terms[2] == pytest.approx(size * np.array([largest, half]) * frozen)
    assert terms[3].tolist() == found.second


def test_losses_without_curvature_have_nothing_beyond_first_order():
    """Their remainder is zero, which is no failure to resolve it; and no largest rate follows from them."""

    def linear(at, batch):
        each = batch.targets.sum(axis=1) * at["norm"][0] + batch.lengths * at["norm"][1]
        return -(each * batch.weights).sum(), jax.lax.stop_gradient(each)

    flat = bench()._replace(objective=arm_update.likelihood(linear))
    found = comparison.compare(flat, largest=LARGEST, num_halvings=1, has_alignment=False, show=silent)
    assert np.array(found.first) == pytest.approx(0, abs=1e-12)
    assert found.second == [0, 0]
    assert found.fits["first"].verdict == "exact"
    with pytest.raises(FloatingPointError, match=r"second order must be positive; got 0\. Give --largest"):
        comparison.compare(flat, largest=None, num_halvings=1, has_alignment=False, show=silent)


def test_the_gap_is_that_of_real_updates():
    """Measured by a loop by hand, whose parameters really move."""
    g_plus, g_minus, *_ = dense()
    columns = dict(twin("sgd", "+", "eta/2").columns())
    for place in (0, HALVINGS):
        eta = LARGEST / 2**place
        middle = START - eta / 2 * g_plus
        end = middle - eta / 2 * np.asarray(jax.grad(MINUS)(middle))
        gap = np.linalg.norm(end - (START - eta / 2 * (g_plus + g_minus)))
        assert columns["gap"][place] == pytest.approx(gap, abs=1e-14)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_derivative_is_that_of_differences(optimizer):
    """Central differences of the map in its read, extrapolated; and the mirrored one is that of the other order."""
    epoch = update(optimizer)
    at = lambda size: vector(comparison._sequential(epoch, np.float32(size)))  # noqa: E731
    coarse, fine = ((at(h) - at(-h)) / (2 * h) for h in (2.0**-8, 2.0**-9))
    expected = (4 * fine - coarse) / 3
    derivative = vector(comparison._derivative(epoch))
    assert np.abs(derivative - expected).max() < 1e-6 * np.abs(expected).max()
    turned = comparison._derivative(update(optimizer, "-"))
    assert_equal_to_round_off(comparison._derivative(reverse(epoch)), turned)


def test_reversal_turns_the_bracket_and_keeps_the_rest():
    parts = []
    for epoch in (update(), update(first="-")):
        forwards, backwards = (vector(comparison._derivative(one)) for one in (epoch, reverse(epoch)))
        parts.append(((forwards + backwards) / 2, (forwards - backwards) / 2))
    assert_equal_to_round_off(parts[1][0], parts[0][0])
    assert_equal_to_round_off(parts[1][1], -parts[0][1], scale=np.abs(parts[0][0]).max())
    # The part that stays is half the gradient of g+ . g-, by reverse mode over the product.
    gradient = jax.jit(jax.grad(lambda theta: jax.grad(PLUS)(theta) @ jax.grad(MINUS)(theta)))(START)
    assert_equal_to_round_off(parts[0][0], gradient / 2)


@pytest.mark.parametrize("first", "+-")
def test_alignment_after_either_update_is_predicted_to_second_order(first):
    found: Any = twin("sgd", first, "eta/2").model_dump()["alignment"]
    g_plus, g_minus, *_ = dense()
    assert found["start"] == pytest.approx(g_plus @ g_minus, rel=1e-12)
    for name in ("accumulated", "sequential"):
        left = np.abs(np.array(found[name]) - np.array(found[f"predicted_{name}"]))
        slopes = -np.diff(np.log2(left))
        assert abs(slopes[-4:].mean() - 3) < 0.1, (name, slopes)
    # What is measured, by hand at the largest rate.
    end = START - LARGEST / 2 * (g_plus + g_minus)
    product = np.asarray(jax.grad(PLUS)(end)) @ np.asarray(jax.grad(MINUS)(end))
    assert found["accumulated"][0] == pytest.approx(product, rel=1e-12)


def test_shares_of_the_causes_add_up():
    rows = comparison.attribute(bench(), 2.0**-5, num_warm_up=2).rows
    assert sum(row.share for row in rows) == pytest.approx(1, abs=1e-9)
    by_cause = {row.cause: row.norm for row in rows}
    assert by_cause["learning rate"] < 1e-9 * by_cause["gradient part"]  # eta/2 is matched
    found = twin("sgd", "+", "eta/2")
    second = {"gradient part": found.gradient_part[0], "bracket": found.bracket[0]}
    assert {name: by_cause[name] for name in second} == pytest.approx(second)


# The command ----------------------------------------------------------------------------------------------------------

SMALL = ("keep=2", "num_problems=12", "num_pairs=1", "max_tokens=384", "checkpoint_every=1", "measures.probe_pairs=2",
         "measures.accuracy_every=0", "measures.alignment_every=0")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of two updates."""
    out = tmp_path_factory.mktemp("runs")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    arguments = ["run", "--preset", "tiny", "--arm", "sequential:optimizer=sgd", "--updates", "2", "--out", str(out)]
    assert dispatcher.main([*arguments, *settings]) == 0
    return out / "sequential+optimizer=sgd" / "seed-0"


@pytest.mark.slow
def test_the_command_on_a_run(made, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status = dispatcher.main(["twin", str(made), "--halvings", "6", "--update", "1"])
    said = capfd.readouterr().out
    assert status == 0
    assert said.count(": met") == 2
    assert max(map(len, said.splitlines()[:-1])) <= 80
    record = json.loads((made / "twin-sgd.json").read_text())
    assert (record["kind"], record["optimizer"], record["update"], record["schedule"]) == ("twin", "sgd", 1, "+-")
    assert len(record["learning_rates"]) == 7
    assert record["fits"]["second"]["order"] == pytest.approx(3, abs=0.1)
    assert set(record["alignment"]) == {"start", "accumulated", "sequential", "predicted_accumulated",
                                        "predicted_sequential"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--update", "7"], "--update must be one of 0, 1, 2; got 7"),
        (["--optimizer", "adaw"], "Did you mean adamw?"),
        (["--rate", "eta/0"], "arm.rate must be a positive number or fraction, such as 0.4, 1/3"),
        (["--rate", "sqrt-rule"], "--rate must be a number or a fraction, for one rule on both sides"),
        (["--word", "(+-)"], "--word must have several steps of the rule, to be compared with one; got (+-)."),
        (["--word", "+-:optimizer=sgd"], "arm.word must have"),
    ],
)
def test_wrong_calls_say_what_there_is(made, arguments, message, capfd):
    with pytest.raises(SystemExit) as stop:
        dispatcher.main(["twin", str(made), *arguments])
    assert stop.value.code == 2
    assert message in capfd.readouterr().err


def test_a_run_whose_rule_has_no_twin_is_told_which_have(tmp_path, capfd):
    content = presets.config("tiny", arms.parse("accumulated:optimizer=frozen-adamw"))
    (tmp_path / "config.json").write_text(json.dumps(config.to_json(content)))
    with pytest.raises(SystemExit) as stop:
        dispatcher.main(["twin", str(tmp_path)])
    assert stop.value.code == 2
    assert "--optimizer must be given for a run of frozen-adamw" in capfd.readouterr().err


def test_a_run_without_checkpoints_is_compared_at_its_start(tmp_path, capfd):
    """Which is the model itself, with the optimizer's first state; anywhere else it needs a checkpoint."""
    content = config.with_settings(presets.config("tiny"), {"num_problems": 16, "num_pairs": 1, "keep": 0})
    (tmp_path / "config.json").write_text(json.dumps(config.to_json(content)))
    for arguments, message in (
        ((), "must hold a checkpoint; a finished run keeps `keep` of them, here 0. Give --update 0 for its start."),
        (("--update", "3"), "--update must be one of 0; got 3."),
    ):
        with pytest.raises(SystemExit) as stop:
            dispatcher.main(["twin", str(tmp_path), *arguments])
        assert stop.value.code == 2
        assert message in capfd.readouterr().err
    start = comparison.load_setup(content, tmp_path, "adamw", 0, None, "eta/2", "+-", silent)
    params = parameters.init(random_model.ARCHITECTURE, jax.random.key(content.seed))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), start.params, params))
    assert not any(leaf.any() for leaf in jax.tree.leaves(start.state))
    assert start.update == 0


def test_a_folder_that_is_no_run_is_refused(tmp_path, capfd):
    with pytest.raises(SystemExit):
        dispatcher.main(["twin", str(tmp_path)])
    assert "must be a run's folder, with config.json and checkpoints/" in capfd.readouterr().err
