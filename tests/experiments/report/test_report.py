"""The report on run folders whose numbers are known: what it draws, writes, says, and refuses."""

import csv
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from console.figures import render
from experiments import comparison_records, records
from experiments.commands import report
from experiments.report import caveats, curves, page, plots, run_folders, summary

ROOT = Path(__file__).parents[3]
ARM = {"name": "accumulated", "update": "accumulated", "first": "+", "rate": "eta", "optimizer": "sgd"}
SEQUENTIAL = {**ARM, "name": "sequential", "update": "sequential", "rate": "eta/sqrt2"}
CONFIG = {"preset": "smoke", "model": "m", "data": "d", "num_updates": 4, "num_pairs": 2, "learning_rate": 0.1}
HEADER = {
    "kind": "header", "versions": {"jax": "1.2.3"}, "device": "cpu", "commit": "abc", "started": "2026-01-02T03:04:05",
    "num_parameters": 1_000_000,
}  # fmt: skip
BAD = (math.nan, math.inf, -math.inf)


def update(
    number: int,
    alignment: float = -1.0,
    probe: float | None = -1.5,
    accuracy: tuple[float, ...] | None = (1, 10, 0.02, 0.4),
    *,
    per_update: int = 1,
    **more: object,
):
    """A row; the row of update 0 has a probe and nothing of a batch."""
    row = {
        "kind": "update",
        "update": number,
        "probe": None
        if probe is None
        else {"log_prob_plus_per_token": probe, "log_prob_minus_per_token": probe - 0.25},
        "probe_alignment": None if probe is None else {"product": 2 * alignment, "cosine": -0.5},
        "accuracy": None if accuracy is None else dict(zip(("right", "total", "low", "high"), accuracy, strict=True)),
    }
    if number:
        row |= {
            "optimizer_steps": per_update * number, "learning_rate_sum": 0.1 * number, "examples": 4 * number,
            "tokens": 40 * number, "first": "+", "loss_plus": 1.25, "loss_minus": -1.5, "alignment": alignment,
            "cosine": -0.75, "gradient_norms": {"plus": {"head": 3.0}, "minus": {"head": 4.0}}, "seconds": 0.5,
            "probe_seconds": 2.0, "memory": 2**30, "distance": 0.01, "is_collapsed": False,
        }  # fmt: skip
    return row | more


def write_run(folder, rows, *, seed=0, arm=ARM, end: str | None = "finished", tail="", header=HEADER, **config):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "seed": seed, "arm": arm, **config}))
    lines = [header, *rows]
    if end:
        lines.append({"kind": "end", "reason": end, "update": rows[-1]["update"] if rows else 0, "message": ""})
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines if line) + tail)
    return folder


def read(folder):
    found, _, notes = run_folders.find([folder])
    return [run_folders.read(name, place, notes) for name, place in found], notes


def arms_of(folder):
    return run_folders.group(read(folder)[0])


def refusal(*arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        report.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def ids(arms):
    return {limit.id for limit in caveats.limits(arms)}


# Curves and bands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD)
def test_a_curve_ends_before_the_first_value_that_is_not_finite(tmp_path, bad):
    # The values after the bad one are finite again: they must not come back.
    write_run(tmp_path / "a", [update(0), update(1, -1.0), update(2, -2.0), update(3, bad), update(4, -4.0)])
    (run,), _ = read(tmp_path)
    made = curves.curve(run, "product", "examples")
    assert (made.x, made.y, made.is_cut) == ((4, 8), (-1.0, -2.0), True)
    assert not curves.curve(run, "loss_plus", "examples").is_cut


def test_what_was_not_measured_is_passed_over_and_does_not_end_a_curve(tmp_path):
    write_run(tmp_path / "a", [update(0, probe=-1.0), update(1, probe=None), update(2, probe=-3.0)])
    (run,), _ = read(tmp_path)
    made = curves.curve(run, summary.PREFERRED, "optimizer_steps")
    assert (made.updates, made.x, made.y, made.is_cut) == ((0, 2), (0, 2), (-1.0, -3.0), False)


def test_a_run_that_ended_without_a_finite_value_marks_its_finite_curves_too(tmp_path):
    write_run(tmp_path / "a", [update(0, probe=-1.0), update(1, math.nan, probe=None)], end="not-finite")
    (run,), _ = read(tmp_path)
    made = curves.curve(run, summary.PREFERRED, "examples")
    assert (made.y, made.is_cut) == ((-1.0,), True)


def test_the_band_is_least_mean_and_greatest_over_the_seeds(tmp_path):
    values = [[-1.0, -4.0], [-2.0, -8.0], [-6.0, -3.0]]
    for seed, (a, b) in enumerate(values):
        write_run(tmp_path / f"s{seed}", [update(1, a), update(2, b)], seed=seed)
    (arm,) = arms_of(tmp_path)
    made = curves.band([curves.curve(run, "product", "examples") for run in arm.runs])
    assert made == curves.Band((1, 2), (4, 8), (-3.0, -5.0), (-6.0, -8.0), (-1.0, -3.0))


def test_a_mean_ends_with_the_first_of_its_seeds(tmp_path):
    write_run(tmp_path / "a", [update(1, -1.0), update(2, -1.0), update(3, -1.0)])
    write_run(tmp_path / "b", [update(1, -3.0), update(2, math.nan), update(3, -3.0)], seed=1)
    (arm,) = arms_of(tmp_path)
    assert curves.band([curves.curve(run, "product", "examples") for run in arm.runs]).mean == (-2.0,)


def test_figures_have_the_band_the_curves_and_the_cross(tmp_path):
    write_run(tmp_path / "a", [update(1, -1.0), update(2, -2.0), update(3, -3.0)])
    write_run(tmp_path / "b", [update(1, -3.0), update(2, -5.0), update(3, math.nan)], seed=1)
    figure = plots.draw(records.PANELS[0], arms_of(tmp_path), "examples")
    assert figure is not None
    (axes,) = figure.axes
    (filled,) = axes.collections
    bounds = filled.get_datalim(axes.transData)
    np.testing.assert_array_equal([bounds.y0, bounds.y1, bounds.x0, bounds.x1], [-5.0, -1.0, 4, 8])
    lines = {(line.get_marker(), *np.ravel(line.get_xydata()).tolist()) for line in axes.lines}
    assert ("x", 8.0, -5.0) in lines  # the last finite value, and no other cross
    assert sum(marker == "x" for marker, *_ in lines) == 1
    assert ("o", 4.0, -2.0, 8.0, -3.5) in lines  # the mean
    assert ("None", 4.0, -1.0, 8.0, -2.0, 12.0, -3.0) in lines  # the seed that went on


def test_a_single_seed_has_no_band_and_a_curve_without_finite_values_is_marked_at_the_foot(tmp_path):
    write_run(tmp_path / "a", [update(1, math.nan)], end="not-finite")
    figure = plots.draw(records.PANELS[0], arms_of(tmp_path), "examples")
    assert figure is not None
    (axes,) = figure.axes
    assert not axes.collections
    assert [np.asarray(line.get_xydata()).tolist() for line in axes.lines if line.get_marker() == "x"] == [[[4.0, 0.0]]]


def test_ten_arms_look_different(tmp_path):
    looks = [plots.style(place) for place in range(10)]
    assert len(set(looks)) == 10
    assert len({plots.style(place).marker for place in range(10)}) == 10
    for place in range(10):
        name = f"sequential-number-{place}-eta/sqrt2"
        write_run(tmp_path / str(place), [update(1), update(2)], arm={**SEQUENTIAL, "name": name})
    figure = plots.draw(records.PANELS[0], arms_of(tmp_path), "examples")
    assert figure is not None
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width  # nothing of it is cut off
    labels = figure.axes[0].get_tightbbox()
    assert labels is not None
    assert box.y1 <= labels.y0 + 1  # and it lies below them


# Reading --------------------------------------------------------------------------------------------------------------


def test_runs_are_found_at_any_depth_once_and_grouped_by_all_but_the_seed(tmp_path):
    write_run(tmp_path / "x" / "y" / "one", [update(1)], seed=1)
    write_run(tmp_path / "two", [update(1)], seed=0)
    write_run(tmp_path / "fast", [update(1)], learning_rate=0.5)
    found, _, _ = run_folders.find([tmp_path, tmp_path / "two"])
    assert sorted(name for name, _ in found) == ["fast", "two", "x/y/one"]
    arms = arms_of(tmp_path)
    assert [(arm.label, [run.seed for run in arm.runs]) for arm in arms] == [
        ("accumulated (learning_rate=0.1)", [0, 1]),
        ("accumulated (learning_rate=0.5)", [0]),
    ]


def test_runs_of_one_name_in_two_folders_keep_apart(tmp_path):
    for parent in ("a", "b"):
        write_run(tmp_path / parent / "run", [update(1)], seed=len(parent))
    found, _, _ = run_folders.find([tmp_path / "a", tmp_path / "b"])
    assert [name for name, _ in found] == ["a/run", "b/run"]


@pytest.mark.parametrize("tail", ['{"kind": "update", "upd', '{"kind": "update", "update": 9, "examples": 1}'])
def test_a_torn_last_line_is_left_out_and_said(tmp_path, tail):
    write_run(tmp_path / "a", [update(1), update(2)], end=None, tail=tail)
    (run,), notes = read(tmp_path)
    assert run.last_update == 2
    assert run.state == "unfinished"
    assert notes == ["a/records.jsonl, line 4: the last line is torn, and left out."]


def test_a_run_that_was_resumed_has_its_last_end(tmp_path):
    stop = {"kind": "end", "reason": "stopped", "update": 1, "message": ""}
    write_run(tmp_path / "a", [update(1), stop, HEADER, update(2)], end="finished")
    write_run(tmp_path / "b", [update(1), stop, HEADER, update(2)], end=None, seed=1)
    runs, _ = read(tmp_path)
    assert [(run.state, len(run.headers), run.last_update) for run in runs] == [
        ("finished", 2, 2),
        ("unfinished", 2, 2),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting property name"),
        ("[1]", "must be a JSON object; got list"),
        ('{"kind": "row"}', "`kind` must be header, update or end; got 'row'"),
        ('{"kind": "update", "update": 1.5}', "`update` must be a whole number; got '1.5'"),
        ('{"kind": "update", "update": 1}', "`update` must rise; got 1 after 1"),
        ('{"kind": "update", "update": 3, "examples": "many"}', "`examples` must be a whole number; got 'many'"),
        (f'{{"kind": "update", "update": 3, "tokens": {10**400}}}', "`tokens` must be less than 9.22337e+18"),
        ('{"kind": "update", "update": 3, "examples": 1}', "`optimizer_steps` must be a number; got nothing"),
    ],
)  # fmt: skip
def test_a_broken_line_is_refused_with_its_file_and_number(tmp_path, capsys, line, message):
    folder = write_run(tmp_path / "a", [update(1)], end=None, tail=line + "\n" + json.dumps(update(5)) + "\n")
    said = refusal(tmp_path, capsys=capsys)
    assert f"{folder / 'records.jsonl'}, line 3: " in said
    assert message in said
    assert not (tmp_path / "report").exists()


def test_what_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "must be or hold a folder with config.json and records.jsonl" in refusal(tmp_path / "empty", capsys=capsys)
    folder = write_run(tmp_path / "a", [], end=None, header=None)
    assert "records.jsonl must hold an update; got none" in refusal(folder, capsys=capsys)
    folder = write_run(tmp_path / "b", [update(1)])
    assert "--out must not be a run folder" in refusal(folder, "--out", folder, capsys=capsys)
    (folder / "config.json").write_text("{")
    assert f"{folder / 'config.json'} must hold JSON" in refusal(folder, capsys=capsys)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "seed": "one", "arm": ARM}))
    assert "`seed` must be a whole number; got 'one'" in refusal(folder, capsys=capsys)


@pytest.fixture
def _one_panel(monkeypatch):
    """Where figures are not what is tested: drawing them all takes seconds."""
    monkeypatch.setattr(records, "PANELS", records.PANELS[:1])
    monkeypatch.setattr(records, "AXES", {"examples": records.AXES["examples"]})
    monkeypatch.setattr(page, "render", lambda figure, suffix: b"<svg></svg>")


# The whole report -----------------------------------------------------------------------------------------------------

RATES = [0.4, 0.2, 0.1, 0.05]
AFTER = [name for name in comparison_records.AlignmentColumns.model_fields if name != "start"]
TWIN = {
    "kind": "twin", "optimizer": "sgd", "model": "m", "update": 0, "rate": "eta/2", "schedule": "+-",
    "learning_rates": RATES,
    **{name: [rate**2 for rate in RATES] for name in comparison_records.COLUMNS},
    "remainder_second": [0.5 * rate**3 for rate in RATES], "round_off": [1e-12] * 4,
    "fits": {"first": {"order": 1.987, "theory": 2, "verdict": "met", "reason": ""},
             "second": {"order": None, "theory": 3, "verdict": "not resolved", "reason": ""}},
    "alignment": {"start": -1.0, **{name: [-1.0 - rate for rate in RATES] for name in AFTER}},
}  # fmt: skip
ATTRIBUTION = {
    "kind": "attribution", "optimizer": "adamw", "update": 3, "learning_rate": 0.1, "rate": "eta/2", "total": 2.0,
    "rows": [{"cause": "normalisation", "norm": 1.5, "share": 1.25}, {"cause": "bracket", "norm": 0.5, "share": -0.25}],
}  # fmt: skip
THIRD = 1 / 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report of two arms, one of which breaks down in one of its seeds."""
    folder = tmp_path_factory.mktemp("report") / "runs"
    rows = [update(0, probe=-1.0), update(1, THIRD), update(2, 1e-17), update(4, 0.1 + 0.2, probe=-0.875)]
    write_run(folder / "acc-0", rows)
    broken = [update(0, probe=-1.0), update(1, -2.0), update(2, math.nan, probe=-7.0, is_collapsed=True)]
    write_run(folder / "acc-1", broken, seed=1, end="not-finite")
    write_run(
        folder / "seq <0>", [update(0, probe=-1.0), update(1, per_update=2), update(4, probe=-0.75)], arm=SEQUENTIAL
    )
    (folder / "twin-sgd.json").write_text(json.dumps(TWIN))
    (folder / "deep").mkdir()
    (folder / "deep" / "attribution-adamw.json").write_text(json.dumps(ATTRIBUTION))
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "report", str(folder)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"COLUMNS": "80", "PATH": "", "HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_terminal_has_the_table_in_80_columns_and_the_page(made):
    folder, said = made
    lines = said.splitlines()
    assert lines[-1] == f"wrote {folder / 'report' / 'index.html'}"
    assert max(map(len, lines[:-1])) <= 80
    (sequential,) = (line.split() for line in lines if line.startswith("sequential"))
    assert sequential == ["sequential", "1", "4", "finished", "+0.25", "+0.25", "−2"]
    assert re.search(r"^accumulated +2 +2-4 1 finished, 1 +−2.94", said, re.MULTILINE)
    assert re.search(r"^ +not finite, 1 .*\n +collapsed *$", said, re.MULTILINE)


class Page(HTMLParser):
    VOID = ("meta", "br", "hr", "img", "link")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags, self.targets = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open += [tag] * (tag not in self.VOID)
        for name, held in attrs:
            self.ids += [held] * (name == "id")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.targets.append(held)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(made):
    text = (made[0] / "report" / "index.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "img", "iframe", "object"}.intersection(page.tags)
    assert page.targets
    for target in [*page.targets, *re.findall(r"url\(([^)]*)\)", text)]:
        assert target.startswith("#")
        assert target[1:] in page.ids
    assert "http" not in text
    assert "@import" not in text
    assert page.tags.count("svg") == 7 * 4 + 2  # four axes; all panels but the one without bias, which was not recorded
    assert "prefers-color-scheme" not in text
    assert "seq &lt;0&gt;" in text
    assert "<0>" not in text
    assert "built-in" not in text  # a method that a template took for a value


def test_the_page_says_what_the_records_say(made):
    text = (made[0] / "report" / "index.html").read_text(encoding="utf-8")
    assert "sequential +0.25" in text
    assert (
        "The criterion of collapse was met by accumulated (1 of 2 seeds, first at update 2); not by sequential." in text
    )
    assert "Ended by values that are not finite: acc-1 (update 2)." in text
    assert "slope 1.99 (theory 2)" in text
    assert "slope not resolved (theory 3)" in text
    assert "attribution-adamw: adamw, after update 3, learning rate 0.1, rate eta/2" in text
    assert "−0.250" in text
    assert "jax 1.2.3" in text


def test_every_figure_is_a_file_of_both_kinds(made):
    figures = made[0] / "report" / "figures"
    names = {path.stem for path in figures.iterdir()}
    assert {"product-batch-examples", "accuracy-learning-rates", "twin-sgd-gap", "twin-sgd-alignment"} <= names
    for name in names:
        png = (figures / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG")
        assert len(png) > 5000
        assert "<text" in (figures / f"{name}.svg").read_text(encoding="utf-8")


def test_the_same_figure_is_the_same_file(made):
    arms = run_folders.group(read(made[0])[0])
    figures = [plots.draw(records.PANELS[0], arms, "examples") for _ in range(2)]
    one, other = (render(figure, ".svg") for figure in figures if figure)
    assert one == other
    assert one == (made[0] / "report" / "figures" / "product-batch-examples.svg").read_bytes()


def test_every_measured_heading_of_records_csv_is_explained_on_the_page(made):
    page = (made[0] / "report" / "index.html").read_text(encoding="utf-8")
    with (made[0] / "report" / "records.csv").open(newline="") as file:
        headings = next(csv.reader(file))
    assert {"probe.log_prob_plus_per_token", "alignment", "tokens"} <= set(headings)
    for heading in headings:
        if heading not in ("run", "arm", "seed") and not heading.startswith("gradient_norms."):
            assert f"<td><code>{heading}</code></td>" in page


def test_every_quantity_has_a_meaning_and_counts_alone_have_no_unit():
    table = records.quantities()
    assert all(held.meaning for held in table.values())
    units = {table[name].unit for name in ("alignment", "probe_alignment.product")}
    assert units == {"nats^2"}  # of a product of two gradients
    assert (table["seconds"].unit, table["memory"].unit, table["accuracy.total"].unit) == ("seconds", "bytes", "")


def test_a_readers_own_fonts_do_not_change_a_figure():
    twin = comparison_records.Twin.model_validate(TWIN)
    with matplotlib.rc_context({"font.family": ["serif"], "font.sans-serif": ["DejaVu Serif"]}):
        own = render(plots.twin_gap(twin), ".svg")
    assert own == render(plots.twin_gap(twin), ".svg")
    assert b"DejaVu Sans" in own


def test_records_csv_has_every_number_to_the_digit(made):
    with (made[0] / "report" / "records.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    written = [
        (name, json.loads(line))
        for name in ("acc-0", "acc-1", "seq <0>")
        for line in (made[0] / name / "records.jsonl").read_text().splitlines()
    ]
    updates = [(name, record) for name, record in written if record["kind"] == "update"]
    assert [(row["run"], row["update"]) for row in rows] == [(name, str(record["update"])) for name, record in updates]
    for row, (_, record) in zip(rows, updates, strict=True):
        for name, held in run_folders.flat(record):
            if name != "kind" and held is not None:
                assert row[name] == (held if isinstance(held, str) else json.dumps(held))
    assert {row["alignment"] for row in rows} >= {"0.3333333333333333", "1e-17", "0.30000000000000004", "NaN", ""}


def test_summary_csv_is_over_the_seeds(made):
    with (made[0] / "report" / "summary.csv").open(newline="") as file:
        accumulated, sequential = csv.DictReader(file)
    assert (accumulated["seeds"], accumulated["updates_least"], accumulated["updates_most"]) == ("2", "2", "4")
    assert accumulated["first_collapse"] == "2"
    changes = [float(accumulated[f"preferred_change_{of}"]) for of in ("mean", "min", "max")]
    assert changes == [(0.125 - 6.0) / 2, -6.0, 0.125]
    assert accumulated["product_batch_end_mean"] == "NaN"
    assert sequential["product_batch_end_mean"] == "-1.0"


def test_what_was_measured_once_has_no_change(tmp_path):
    write_run(tmp_path / "a", [update(0, probe=-1.0), update(1, probe=None), update(2, probe=None)])
    (row,) = csv.DictReader(page.csv_text(summary.summary(arms_of(tmp_path))).splitlines())
    assert (row["preferred_start_mean"], row["preferred_end_mean"]) == ("-1.0", "-1.0")
    assert [row[f"preferred_change_{of}"] for of in ("mean", "min", "max")] == [""] * 3
    assert row["product_batch_change_mean"] == "0.0"  # measured twice, alike


def test_starts_are_those_of_all_runs_where_each_started_once(tmp_path):
    later = {**HEADER, "started": "2026-01-03T00:00:00"}
    write_run(tmp_path / "once" / "a", [update(1)])
    write_run(tmp_path / "once" / "b", [update(1)], seed=1, header=later)
    write_run(tmp_path / "again" / "a", [update(1), later, update(2)])
    write_run(tmp_path / "again" / "b", [update(1)], seed=1, header={**HEADER, "started": "2026-01-02T23:00:00"})
    of_all = ("cpu", "abc", "1,000,000", "jax 1.2.3", "2026-01-02T03:04:05 to 2026-01-03T00:00:00")
    assert page._headers(read(tmp_path / "once")[0]) == [("all 2", *of_all)]
    assert page._headers(read(tmp_path / "again")[0]) == [("a (started 2 times), b", *of_all)]
    write_run(tmp_path / "other" / "a", [update(1), later, update(2)])
    write_run(tmp_path / "other" / "b", [update(1)], seed=1, header={**HEADER, "device": "gpu"})
    rows = [("a (started 2 times)", "cpu"), ("b", "gpu")]
    assert [row[:2] for row in page._headers(read(tmp_path / "other")[0])] == rows
    write_run(tmp_path / "other" / "c", [update(1)], seed=2, header={**HEADER, "device": "gpu"})
    assert [row[:2] for row in page._headers(read(tmp_path / "other")[0])] == [rows[0], ("b, c", "gpu")]


def test_pairs_are_those_of_the_last_start_and_said_once_for_all_that_share_them(tmp_path):
    def header(num_pairs, **left_out):
        return {**HEADER, "num_pairs_in_all": num_pairs, "left_out": left_out}

    cut = header(1000, short=1, long=2000, equal=30)
    write_run(tmp_path / "a", [header(5), update(1), cut, update(2)])
    write_run(tmp_path / "b", [update(1)], seed=1, header=cut)
    said = (1000, "2,000 long, 30 equal, 1 short")
    assert page._pairs(read(tmp_path)[0]) == [("all 2", *said)]
    write_run(tmp_path / "c", [update(1)], seed=2, header=header(7))
    write_run(tmp_path / "d", [update(1)], seed=3)  # of before pairs were counted
    write_run(tmp_path / "e", [update(1)], seed=4, header=None)
    assert page._pairs(read(tmp_path)[0]) == [("a, b", *said), ("c", 7, "nothing")]
    assert page._pairs(read(tmp_path)[0][:2] + read(tmp_path / "e")[0]) == [("a, b", *said)]
    assert page._pairs(read(tmp_path / "c")[0]) == [("c", 7, "nothing")]


def reported(folder, capsys, **files):
    """The page, and what a terminal shows, of one run beside which such files lie."""
    write_run(folder / "run", [update(0), update(1)])
    for name, content in files.items():
        (folder / f"{name.replace('_', '-')}.json").write_bytes(content)
    assert report.main([str(folder)]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("drawing: ")
    assert said.err.count("\n") == 1
    return (folder / "report" / "index.html").read_text(encoding="utf-8"), said.out


def figures(folder):
    return {path.stem for path in (folder / "report" / "figures").iterdir()}


@pytest.mark.usefixtures("_one_panel")
def test_a_twin_without_alignment_has_its_other_figure(tmp_path, capsys):
    without = {**TWIN, "alignment": None}
    page, _ = reported(tmp_path, capsys, twin_sgd=json.dumps(without).encode(), twin_adamw=json.dumps(TWIN).encode())
    assert figures(tmp_path) == {"product-batch-examples", "twin-sgd-gap", "twin-adamw-gap", "twin-adamw-alignment"}
    assert "twin-sgd: sgd" in page
    assert "left out" not in page


@pytest.mark.usefixtures("_one_panel")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file must hold JSON"),
        (b"\xff\xfe{", "the file must hold JSON"),
        (b"[]", "the file must hold a JSON object; got list."),
        (b'{"kind": "attribution"}', "`kind` must be twin; got &#39;attribution&#39;."),
        (json.dumps({**TWIN, "gap": [1.0]}).encode(), "`gap` must be 4 numbers, one for each learning rate."),
        (json.dumps({**TWIN, "gap": [10**400] * 4}).encode(), "`gap.0` must be a number"),
        (json.dumps({**TWIN, "learning_rates": [math.inf] * 4}).encode(), "`learning_rates.0` must be finite"),
        (json.dumps({**TWIN, "fits": {"first": {}}}).encode(), "`fits` must have `second`."),
        (json.dumps({**TWIN, "alignment": {}}).encode(), "`alignment.start` must be there; got nothing."),
    ],
)
def test_a_file_that_cannot_be_read_costs_its_own_figures(content, reason, tmp_path, capsys):
    page, said = reported(tmp_path / "runs", capsys, twin_bad=content, twin_sgd=json.dumps(TWIN).encode())
    assert figures(tmp_path / "runs") == {"product-batch-examples", "twin-sgd-gap", "twin-sgd-alignment"}
    assert f"runs/twin-bad.json is left out: {reason}" in page
    assert "runs/twin-bad.json is left out: " in said
    assert str(tmp_path) not in page


@pytest.mark.usefixtures("_one_panel")
def test_an_attribution_says_what_it_holds(tmp_path, capsys):
    older = {key: ATTRIBUTION[key] for key in ("kind", "rows", "total")}
    broken = {**ATTRIBUTION, "total": None}
    page, _ = reported(
        tmp_path, capsys, attribution_a=json.dumps(older).encode(), attribution_b=json.dumps(broken).encode()
    )
    assert "<h3>attribution-a: </h3>" in page
    assert "attribution-b.json is left out: `total` must be a number; got &#39;None&#39;." in page
    assert page.count("<td>normalisation</td>") == 1


@pytest.mark.usefixtures("_one_panel")
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", "{", "older/config.json must hold JSON"),
        ("config.json", json.dumps({**CONFIG, "arm": ARM}), "older/config.json: `seed` must be there"),
        ("records.jsonl", "{}\n", "older/records.jsonl, line 1: `kind` must be header, update or end; got None."),
        ("records.jsonl", '{"kind": "header"}\n', "older/records.jsonl must hold an update; got none."),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_left_out(name, content, reason, tmp_path, capsys):
    write_run(tmp_path / "runs" / "older", [update(0), update(1)], seed=1)
    (tmp_path / "runs" / "older" / name).write_text(content)
    page, said = reported(tmp_path / "runs", capsys)
    assert f"The run older is left out: {reason}" in page
    assert f"The run older is left out: {reason}" in said
    assert str(tmp_path) not in page
    with (tmp_path / "runs" / "report" / "summary.csv").open(newline="") as file:
        assert [row["seeds"] for row in csv.DictReader(file)] == ["1"]


def paths_within(record, before=()):
    """Where in a record there is a value: keys, and the first places of lists."""
    items = record.items() if isinstance(record, dict) else enumerate(record[:2]) if isinstance(record, list) else ()
    for key, held in items:
        yield (*before, key)
        yield from paths_within(held, (*before, key))


def with_value(record, path, held):
    """The record with another value there; without the key where the value is Ellipsis."""
    made = json.loads(json.dumps(record))
    node = made
    for key in path[:-1]:
        node = node[key]
    if held is Ellipsis:
        del node[path[-1]]
    else:
        node[path[-1]] = held
    return made


OTHERS = (..., None, "text", [], [1], {}, {"a": 1}, True, -1, 0, 1.5, 10**400, math.nan, math.inf, -math.inf)


@pytest.mark.slow
@pytest.mark.usefixtures("_one_panel")
def test_no_value_in_one_file_breaks_the_report(tmp_path, capsys):
    """Every value of every kind of record, replaced by a third of the others, beside a run that is as it should be."""
    write_run(tmp_path / "runs" / "good", [update(0), update(1)])
    folder = write_run(tmp_path / "runs" / "bad", [update(0), update(1)])
    whole = {
        "config.json": [{**CONFIG, "seed": 1, "arm": ARM}],
        "records.jsonl": [HEADER, update(0), update(1), {"kind": "end", "reason": "finished", "update": 1}],
        "twin-sgd.json": [TWIN],
        "attribution-adamw.json": [ATTRIBUTION],
    }
    num_tried = num_places = 0
    for name, held in whole.items():
        for other, lines in whole.items():
            (folder / other).write_text("".join(json.dumps(line) + "\n" for line in lines))
        for place, record in enumerate(held):
            for path in paths_within(record):
                num_places += 1
                for value in OTHERS[num_places % 3 :: 3]:
                    changed = [*held[:place], with_value(record, path, value), *held[place + 1 :]]
                    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in changed))
                    assert report.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0, (path, value)
                    num_tried += 1
        capsys.readouterr()
    assert num_tried > 500


@pytest.mark.usefixtures("_one_panel")
def test_other_files_in_the_folder_stay_and_a_run_folder_gets_its_report_beside_it(tmp_path):
    folder = write_run(tmp_path / "run", [update(1)])
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "notes.txt").write_text("mine")
    assert report.main([str(folder)]) == 0
    assert (tmp_path / "report" / "index.html").is_file()
    assert (tmp_path / "report" / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "records.jsonl"]


def test_it_loads_neither_jax_nor_the_numerics(made, tmp_path):
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('jax', 'numerics', 'optax', 'scipy', 'derivation')))\n"
        "from experiments.commands import report\nfrom experiments import records\n"
        "records.PANELS = records.PANELS[:1]\n"
        f"assert report.main([{str(made[0] / 'acc-0')!r}, '--out', {str(tmp_path / 'out')!r}]) == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


# What it does not show ------------------------------------------------------------------------------------------------


def test_every_limit_depends_on_the_data(tmp_path):
    def given(name, *runs):
        for place, more in enumerate(runs):
            rows = more.pop("rows", [update(0), update(1)])
            write_run(tmp_path / name / str(place), rows, **more)
        return ids(arms_of(tmp_path / name))

    adamw = {**ARM, "optimizer": "adamw"}
    matched = {**SEQUENTIAL, "name": "matched", "rate": "eta/2"}
    random = {**matched, "name": "random", "first": "random"}
    large = {**HEADER, "num_parameters": 8_030_000_000}
    apart = [update(0), update(1, accuracy=(9, 10, 0.6, 0.98))]
    poor = [update(0, probe=None, accuracy=None), update(1, probe=None, accuracy=None)]

    one = given("one", {})
    assert {"one-seed", "updates", "no-adamw", "no-sequential", "model-size", "batch-bias"} <= one
    assert not {"range", "adamw", "no-first-order-match", "accuracy", "no-accuracy", "second-gradient", "mixed"} & one
    assert "one-seed" in given("twice", {}, {})
    two = given("two", {}, {"seed": 1}, {"arm": SEQUENTIAL}, {"arm": SEQUENTIAL, "seed": 1})
    assert {"range", "no-first-order-match", "fixed-start", "accuracy", "second-gradient"} <= two
    assert not {"one-seed", "no-sequential", "no-accumulated", "unfinished"} & two
    # A match under another optimizer is none.
    foreign = {**matched, "optimizer": "adamw"}
    assert "no-first-order-match" in given("foreign", {}, {"arm": SEQUENTIAL}, {"arm": foreign})
    full = given("full", {}, {"arm": SEQUENTIAL, "rows": apart}, {"arm": random, "header": large})
    assert not {"no-first-order-match", "fixed-start"} & full
    assert "accuracy" in full  # of accumulated and random, not of all
    assert "accuracy" not in given("apart", {}, {"arm": SEQUENTIAL, "rows": apart})
    assert "model-size" not in given("large", {"header": large})
    for billions, is_small in ((3, True), (5, False)):  # less than half of the post's 8
        sized = given(f"{billions} billion", {"header": {**HEADER, "num_parameters": billions * 10**9}})
        assert ("model-size" in sized) == is_small
    only = given("only", {"arm": adamw})
    assert {"adamw", "only-adamw"} <= only
    # Adam divides by the same root.
    adam = given("adam", {"arm": {**ARM, "optimizer": "adam"}}, {"arm": {**adamw, "name": "other"}})
    assert {"adamw", "only-adamw"} <= adam
    assert "no-adamw" not in adam
    assert "no-adamw" not in only
    mixture = given("mixture", {"arm": adamw}, {"preset": "other"})
    assert {"adamw", "mixed"} <= mixture
    assert "only-adamw" not in mixture
    assert {"no-probe", "no-accuracy"} <= given("poor", {"rows": poor})
    assert "no-probe" not in one
    assert {"unfinished", "generated"} <= given("rest", {"end": None, "data": "generated"})
    assert "no-accumulated" in given("alone", {"arm": matched})


@pytest.mark.usefixtures("_one_panel")
def test_mixed_presets_are_allowed_and_said(tmp_path, capsys):
    write_run(tmp_path / "a", [update(1)])
    write_run(tmp_path / "b", [update(1)], preset="large")
    assert report.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "Runs of different presets are mixed: large, smoke." in capsys.readouterr().out
    assert "presets are mixed" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("_one_panel")
def test_runs_that_were_asked_for_and_have_not_ended_are_named(tmp_path, capsys):
    top = tmp_path / "top"
    write_run(top / "a" / "seed-0", [update(0), update(1)])
    write_run(top / "a" / "seed-1", [update(0), update(1), update(2)], end=None, seed=1)
    write_run(top / "a" / "seed-2", [update(0), update(1)], end="stopped", seed=2)
    write_run(top / "a" / "seed-3", [update(1, math.nan)], end="not-finite", seed=3)
    (top / "a" / "seed-4").mkdir()
    (top / "a" / "seed-4" / "config.json").write_text("{}")
    write_run(top / "a" / "seed-5", [update(0)], tail="no line\n", seed=5)
    (top / "runs.json").write_text(json.dumps({f"a/seed-{seed}": {} for seed in range(7)}))
    assert report.main([str(top)]) == 0
    said = (
        "top: 5 of 7 runs are missing: a/seed-1 (not ended, after update 2), a/seed-2 (stopped, after update 1), "
        "a/seed-4 (no update yet), a/seed-5 (cannot be read), a/seed-6 (never began)."
    )
    assert said in capsys.readouterr().out
    assert said in (top / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("_one_panel")
def test_where_every_run_of_the_list_has_ended_nothing_is_said(tmp_path, capsys):
    write_run(tmp_path / "a", [update(0), update(1)])
    (tmp_path / "runs.json").write_text('{"a": {}}')
    assert report.main([str(tmp_path)]) == 0
    assert "missing" not in capsys.readouterr().out
    (tmp_path / "runs.json").write_text("[]")
    assert report.main([str(tmp_path)]) == 0
    assert f"{tmp_path.name}/runs.json is left out: " in capsys.readouterr().out


def test_a_list_of_which_nothing_has_begun_is_named_in_the_refusal(tmp_path, capsys):
    (tmp_path / "runs.json").write_text('{"a/seed-0": {}, "b/seed-0": {}}')
    said = refusal(tmp_path, capsys=capsys)
    assert "2 of 2 runs are missing: a/seed-0 (never began), b/seed-0 (never began)." in said


# TensorBoard ----------------------------------------------------------------------------------------------------------


def test_without_tensorboardx_the_remedy_is_named_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    write_run(tmp_path / "a", [update(1)])
    said = refusal(tmp_path, "--tensorboard", tmp_path / "events", capsys=capsys)
    assert "python -m pip install 'tensorboardX>=2.6'" in said
    assert not (tmp_path / "report").exists()


class _Writer:
    """What tensorboardX's writer is asked to do."""

    def __init__(self, logdir):
        self.folder = Path(logdir)
        self.folder.mkdir(parents=True)
        self.lines = []

    def add_scalar(self, *arguments, walltime):
        self.lines.append((*arguments, walltime))

    def close(self):
        (self.folder / "events.out.tfevents.1").write_text(json.dumps(self.lines))


@pytest.mark.usefixtures("_one_panel")
def test_event_files_have_the_numbers_by_update(tmp_path, capsys, monkeypatch):
    module = type(sys)("tensorboardX")
    module.SummaryWriter = _Writer  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    write_run(tmp_path / "runs" / "a", [update(0, probe=-1.0), update(1, -3.5), update(2, math.nan)])
    events = tmp_path / "events"
    arguments = [str(tmp_path / "runs"), "--tensorboard", str(events)]
    assert report.main(arguments) == 0
    (path,) = (events / "a").iterdir()
    rows = json.loads(path.read_text())
    scalars = {(tag, step): held for tag, held, step, _ in rows}
    assert scalars["probe/log_prob_plus_per_token", 0] == -1.0
    assert scalars["alignment", 1] == -3.5
    assert math.isnan(scalars["alignment", 2])
    assert scalars["gradient_norms/plus/head", 1] == 3.0
    clocks = {step: clock for _, _, step, clock in rows}
    assert (clocks[1] - clocks[0], clocks[2] - clocks[1]) == (2.5, 2.5)  # the seconds of the update and of its probe
    capsys.readouterr()
    assert "without event files of a" in refusal(*arguments, capsys=capsys)
