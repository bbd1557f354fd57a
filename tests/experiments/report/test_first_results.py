"""Every number in the tables of docs/first-results.md, recomputed from the records beside it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "first-results.md").read_text(encoding="utf-8")
RUNS = {"adamw": "adamw/{}/seed-{}", "sgd": "sgd/{}+optimizer=sgd/seed-{}"}
UPDATES = (0, 20, 40, 60)


def table(name):
    block = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert block is not None
    _, _, *lines = block.group(1).strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def rows(group, arm, seed):
    path = DOCS / "first-results" / RUNS[group].format(arm, seed) / "records.jsonl"
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [record for record in records if record["kind"] == "update"]


def probe(row):
    return row["probe"]["log_prob_plus_per_token"]


def products(updates):
    found = [row["probe_alignment"]["product"] for row in updates if row["probe_alignment"]]
    return [f"{found[0]:.0f}", f"{found[-1]:.0f}"]


@pytest.mark.parametrize("line", table("adamw"), ids=lambda line: f"{line[0]}-{line[1]}")
def test_under_adamw(line):
    updates = rows("adamw", *line[:2])
    collapsed = [str(row["update"]) for row in updates if row["is_collapsed"]]
    accuracies = [row["accuracy"] for row in updates if row["accuracy"]]
    assert line[2:] == [
        *(f"{probe(updates[k]):.2f}" for k in (*UPDATES, 80)),
        collapsed[0] if collapsed else "-",
        *products(updates),
        *(f"{found['right']}/{found['total']}" for found in (accuracies[0], accuracies[-1])),
    ]
    assert updates[-1]["update"] == 80


@pytest.mark.parametrize("line", table("sgd"), ids=lambda line: line[0])
def test_under_gradient_descent(line):
    updates = rows("sgd", *line[:2])
    last = [row for row in updates if row["probe"]][-1]
    assert line[2:] == [
        *(f"{probe(updates[k]):.2f}" for k in UPDATES),
        f"{probe(last):.2f}",
        str(updates[-1]["update"]),
        *products(updates),
    ]


@pytest.mark.parametrize("line", table("distance"), ids=lambda line: line[0])
def test_at_the_same_distance(line):
    seeds = [other[1] for other in table("adamw") if other[0] == line[0]]
    runs = [rows("adamw", line[0], seed) for seed in seeds]
    assert line[1] == f"{np.mean([row['update_norm'] for run in runs for row in run[21:41]]):.4f}"
    for cell, distance in zip(line[2:], (0.5, 0.8, 1.2), strict=True):
        read = [[(row["distance"], probe(row)) for row in run if row["probe"]] for run in runs]
        if any(max(x for x, _ in points) < distance for points in read):
            assert cell == "-"
        else:
            at = [np.interp(distance, [x for x, _ in points], [y for _, y in points]) for points in read]
            assert cell == f"{np.mean(at):.2f}"


def alignments(group, arm, seed):
    return [row["probe_alignment"] for row in rows(group, arm, seed) if row["probe_alignment"]]


def test_what_is_said_of_the_gradients():
    every = [(group, *line[:2]) for group in RUNS for line in table(group)]
    assert max(found["cosine"] for run in every for found in alignments(*run)) < -0.9
    sequential, accumulated = (alignments("sgd", arm, 0) for arm in ("sequential-matched", "accumulated"))
    norms = (sequential[0], sequential[-1], accumulated[-1])
    assert [f"{found['norm_plus']:.1f}" for found in norms] == ["6.1", "2.4", "17.4"]


TWIN = json.loads((DOCS / "first-results" / "sgd" / "twin-sgd.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", table("twin"), ids=lambda line: line[0])
def test_twin(line):
    there = TWIN["alignment"]
    k = [f"{rate:.2e}" for rate in TWIN["learning_rates"]].index(line[0])
    assert line[1:] == [
        *(f"{TWIN[name][k]:.2e}" for name in ("gap", "second", "remainder_second")),
        f"{TWIN['cosine'][k]:.4f}",
        *(
            f"{there[name][k]:.2f}"
            for name in ("accumulated", "predicted_accumulated", "sequential", "predicted_sequential")
        ),
    ]


def test_what_is_said_of_the_twin():
    fits = TWIN["fits"]
    assert (f"{fits['first']['order']:.2f}", fits["first"]["verdict"]) == ("2.02", "met")
    assert (f"{fits['second']['order']:.2f}", fits["second"]["verdict"]) == ("2.87", "not resolved")
    rest = TWIN["remainder_second"]
    smallest = [f"{rate:.2e}" for rate in TWIN["learning_rates"]].index("3.62e-04")
    assert [f"{rest[k - 1] / rest[k]:.1f}" for k in (smallest - 1, smallest)] == ["7.9", "7.9"]
    assert f"{TWIN['gradient_part'][0] / TWIN['bracket'][0]:.1f}" == "2.4"
    assert f"{TWIN['alignment']['start']:.2f}" == "-24.37"
    assert max(TWIN["first"]) == 0
    causes = json.loads((DOCS / "first-results" / "sgd" / "attribution-sgd.json").read_text(encoding="utf-8"))["rows"]
    shares = {row["cause"]: f"{row['share']:.1%}".replace("%", " %") for row in causes}
    told = ("gradient part", "bracket", "remainder", "learning rate")
    assert [shares[cause] for cause in told] == ["83.9 %", "10.7 %", "5.4 %", "0.0 %"]
    assert "gradient part 83.9 %, the bracket 10.7 %, third and higher\norders 5.4 %, first order nothing" in PAGE


ADAMW_TWIN = json.loads((DOCS / "first-results" / "adamw" / "twin-adamw.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", table("twin-adamw"), ids=lambda line: line[0])
def test_twin_under_adamw(line):
    k = [f"{rate:.2e}" for rate in ADAMW_TWIN["learning_rates"]].index(line[0])
    columns = ("gap", "first", "second", "remainder_second")
    assert line[1:] == [*(f"{ADAMW_TWIN[name][k]:.2e}" for name in columns), f"{ADAMW_TWIN['cosine'][k]:.4f}"]


def test_what_is_said_of_the_twin_under_adamw():
    k = [f"{rate:.2e}" for rate in ADAMW_TWIN["learning_rates"]].index("2.23e-05")
    assert f"{ADAMW_TWIN['second'][k] / ADAMW_TWIN['gap'][k]:.1%}" == "3.7%"
    fits = ADAMW_TWIN["fits"]
    assert (f"{fits['first']['order']:.2f}", fits["first"]["verdict"]) == ("2.00", "met")
    assert (f"{fits['second']['order']:.2f}", fits["second"]["verdict"]) == ("2.73", "missed")


def test_all_runs_are_in_a_table():
    there = {path.parent.relative_to(DOCS / "first-results").as_posix() for path in DOCS.rglob("records.jsonl")}
    told = {RUNS[group].format(*line[:2]) for group in RUNS for line in table(group)}
    assert there == told
