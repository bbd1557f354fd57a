"""The report of runs: one page, its figures and its tables, as the contents of files.

It writes nothing. Every conclusion is computed from the records.
"""

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from itertools import groupby
from json import dumps
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from console.figures import render
from experiments import comparison_records, records
from experiments.comparison_records import Attribution, Twin
from experiments.report import caveats, plots, summary
from experiments.report.run_folders import Arm, Run
from experiments.report.summary import Cell, Table

__all__ = ["assemble", "csv_text", "num_figures", "span"]

Advance = Callable[[int], None]


# Files ----------------------------------------------------------------------------------------------------------------


def csv_text(table: Table) -> str:
    """A table as CSV, every number with the digits that JSON gives it; NaN and Infinity as JSON has them in Python."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow(["" if cell is None else cell if isinstance(cell, str) else dumps(cell) for cell in row])
    return file.getvalue()


def num_figures(twins: Mapping[str, object]) -> int:
    """How many figures there are at most."""
    return len(records.PANELS) * len(records.AXES) + 2 * len(twins)


class _PageFigure(NamedTuple):
    """A figure on the page."""

    name: str
    svg: str


class _Drawing:
    """Figures as files, and as parts of the page."""

    def __init__(self, advance: Advance) -> None:
        self.files: dict[str, bytes] = {}
        self._advance = advance
        self._num_done = 0

    def add(self, name: str, title: str, figure: Figure | None) -> list[_PageFigure]:
        """Keeps a figure as files, and returns it as a part of the page; nothing where there is no figure."""
        self._num_done += 1
        self._advance(self._num_done)
        if figure is None:
            return []
        svg = render(figure, ".svg")
        self.files |= {f"figures/{name}.svg": svg, f"figures/{name}.png": render(figure, ".png")}
        return [_PageFigure(name, plots.inline(svg, name, title))]


def assemble(
    arms: Sequence[Arm],
    twins: Mapping[str, Twin],
    attributions: Mapping[str, Attribution],
    notes: Sequence[str],
    advance: Advance = lambda _: None,
) -> dict[str, str | bytes]:
    """All files of the report, by their names in its folder.

    Args:
        arms: What is reported.
        twins: Two updates compared at one point, by name.
        attributions: Gaps between two updates by cause, by name.
        notes: What the reader must know about the reading of the records.
        advance: Is told how many figures are done.
    """
    runs = [run for arm in arms for run in arm.runs]
    drawing = _Drawing(advance)
    sections: dict[str, tuple[str, list[_PageFigure]]] = {}
    for axis, (_, axis_name) in records.AXES.items():
        sections[axis] = axis_name, []
        for panel in records.PANELS:
            figure = plots.draw(panel, arms, axis)
            sections[axis][1].extend(drawing.add(f"{panel.name}-{axis}", f"{panel.title}, {axis_name}", figure))
    twin_sections = [
        (
            name,
            _heading(twin),
            [
                *drawing.add(f"{name}-gap", "the gap between the two updates", plots.twin_gap(twin)),
                *drawing.add(f"{name}-alignment", "g⁺·g⁻ after the update", plots.twin_alignment(twin)),
            ],
            _twin_table(twin),
        )
        for name, twin in twins.items()
    ]
    tables = {
        "records": summary.records(runs),
        "summary": summary.summary(arms),
        "gradient-norms": summary.gradient_norms(arms),
        "costs": summary.costs(arms),
    }
    if attributions:
        tables["attribution"] = _attribution_table(attributions)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": summary.number}
    template = environment.from_string(Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8"))
    common, differing = _configs(runs)
    page = template.render(
        lead=summary.lead(arms),
        notes=notes,
        sections=sections,
        summary=[_summary_row(arm) for arm in arms],
        attributions={name: (_heading(record), record) for name, record in attributions.items()},
        twins=twin_sections,
        norms=_norms(tables["gradient-norms"]),
        costs=tables["costs"].rows,
        common=common,
        differing=differing,
        headers=_headers(runs),
        pairs=_pairs(runs),
        quantities=records.quantities(),
        limits=caveats.limits(arms),
        num_runs=len(runs),
    )
    return {"index.html": page, **{f"{name}.csv": csv_text(table) for name, table in tables.items()}, **drawing.files}


# Parts of the page ----------------------------------------------------------------------------------------------------


def _summary_row(arm: Arm) -> tuple[str, ...]:
    def went(name: str, form: str = ".4g", scale: float = 1.0) -> str:
        start, end, change = (summary.over_seeds(arm, name, part) for part in ("start", "end", "change"))
        if start is None or end is None:
            return "-"
        if change is None:
            return summary.number(scale * end.mean, form)
        words = f"{summary.number(scale * start.mean, form)} → {summary.number(scale * end.mean, form)}"
        if change.low < change.high:
            low, high = summary.signed(scale * change.low), summary.signed(scale * change.high)
            return f"{words} ({low} to {high})"
        return words

    probe, batch = (went(field, ".3g") for field in summary.PRODUCTS.values())
    accuracy = went("accuracy.share", ".1f", 100)
    return (
        arm.label,
        str(len(arm.runs)),
        span(arm),
        summary.state(arm),
        went(summary.PREFERRED),
        went(summary.DISPREFERRED),
        probe,
        batch,
        accuracy,
    )


def _heading(record: Twin | Attribution) -> str:
    """The place of a twin or an attribution; without values that the file does not have."""
    values = (
        ("", record.optimizer),
        ("model ", record.model),
        ("after update ", record.update),
        ("learning rate ", record.learning_rate if isinstance(record, Attribution) else None),
        ("rate ", record.rate),
        ("order ", record.schedule if isinstance(record, Twin) else None),
    )
    return ", ".join(f"{word}{value}" for word, value in values if value not in (None, ""))


def _twin_table(twin: Twin) -> Table:
    columns = [getattr(twin, name) for name in comparison_records.COLUMNS]
    headings = (name.replace("_", " ") for name in comparison_records.COLUMNS)
    return Table(("learning rate", *headings), list(zip(twin.learning_rates, *columns, strict=True)))


def _attribution_table(attributions: Mapping[str, Attribution]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, row.cause, row.norm, row.share) for name, record in attributions.items() for row in record.rows
    ]
    return Table(("attribution", "cause", "norm", "share"), rows)


def _norms(table: Table) -> dict[str, list[tuple[object, ...]]]:
    return {str(arm): [tuple(row[1:]) for row in rows] for arm, rows in groupby(table.rows, key=itemgetter(0))}


class _Cell(NamedTuple):
    """A value of a configuration; unusual where it is not the value of most runs."""

    text: str
    is_unusual: bool


class _Differing(NamedTuple):
    """The settings that differ between runs: their keys, and the values by run."""

    keys: list[str]
    rows: list[tuple[str, list[_Cell]]]


def _configs(runs: Sequence[Run]) -> tuple[list[tuple[str, str]], _Differing]:
    """The settings that all runs share, and those that differ."""
    flats = [{name: _text(held) for name, held in run.settings.items()} for run in runs]
    keys = list(dict.fromkeys(name for config in flats for name in config))
    differing = [key for key in keys if len({config.get(key) for config in flats}) > 1]
    usual = {key: Counter(config.get(key) for config in flats).most_common(1)[0][0] for key in differing}
    rows = [
        (run.name, [_Cell(config.get(key, "none"), config.get(key) != usual[key]) for key in differing])
        for run, config in zip(runs, flats, strict=True)
    ]
    return [(key, flats[0][key]) for key in keys if key not in differing], _Differing(differing, rows)


def _text(held: object) -> str:
    return held if isinstance(held, str) else dumps(held)


def _headers(runs: Sequence[Run]) -> list[tuple[str, str, str, str, str, str]]:
    """Runs, device, commit, parameters, versions and times of starts, once for all runs that share the four."""
    shared: dict[tuple[str, str, str, str], dict[str, list[str]]] = {}
    for run in runs:
        for header in run.headers:
            key = (
                header.device or "-",
                header.commit or "-",
                "-" if header.num_parameters is None else f"{header.num_parameters:,}",
                ", ".join(f"{name} {version}" for name, version in (header.versions or {}).items()) or "-",
            )
            shared.setdefault(key, {}).setdefault(run.name, []).append(header.started or "-")
    rows = []
    for key, starts in shared.items():
        names = [name if len(times) == 1 else f"{name} (started {len(times)} times)" for name, times in starts.items()]
        times = sorted(time for times in starts.values() for time in times)
        is_all = len(starts) == len(times) == len(runs) > 1
        period = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
        rows.append((f"all {len(runs)}" if is_all else ", ".join(names), *key, period))
    return rows


def _pairs(runs: Sequence[Run]) -> list[tuple[str, int, str]]:
    """Runs, their pairs, and what was left out by reason; once for all runs that share it."""
    shared: dict[tuple[int, str], list[str]] = {}
    for run in runs:
        header = run.headers[-1] if run.headers else None
        if header is not None and header.num_pairs_in_all is not None:
            counts = sorted((header.left_out or {}).items(), key=lambda item: -item[1])
            text = ", ".join(f"{count:,} {reason}" for reason, count in counts) or "nothing"
            shared.setdefault((header.num_pairs_in_all, text), []).append(run.name)
    num_runs = len(runs)
    return [
        (f"all {num_runs}" if len(names) == num_runs > 1 else ", ".join(names), *key) for key, names in shared.items()
    ]


def span(arm: Arm) -> str:
    """The updates that its runs counts."""
    counts = sorted({run.last_update for run in arm.runs})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
