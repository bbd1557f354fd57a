"""`python -m experiments report`: figures, tables and one page from what runs left on disk.

It reads files only: no model, no numerics. What is concluded is computed from the records, or not said.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from console.command import Parser
from console.values import input_folder, output_folder

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable

    from experiments.limits import Limit
    from experiments.run_folders import Arm, Run
    from experiments.summary import Table

__all__ = ["assembled", "csv_text", "main"]

_EPILOG = """\
A run folder holds config.json and records.jsonl. Runs that differ in their seed
alone are one arm. Read as well, wherever they lie in a RUN: twin-*.json, the
two updates compared at one point, and attribution-*.json, their gap by cause.

Written, and overwritten; other files are left alone:
  DIR/index.html       one page: no script, no network, no other file
  DIR/figures/         each figure as SVG and PNG
  DIR/records.csv      one row per run and update, digits as recorded
  DIR/summary.csv      one row per arm
  DIR/*.csv            gradient norms, costs, attributions
A curve ends, with a cross, at its last finite value. A torn last line of a file
is left out, and said. So is a run or a file that cannot be read: it costs its
own figures and not the report.

examples:
  python -m experiments report runs
  python -m experiments report runs/accumulated runs/sequential --out compared
  python -m experiments report runs --tensorboard events

exit status: 0, 2 for a call that cannot be carried out or where no run can be
read, 130 where it is interrupted.
"""


def _parser() -> Parser:
    parser = Parser("python -m experiments report", "Figures, tables and one page from runs.", _EPILOG)
    add = parser.add_argument
    add("runs", nargs="+", type=input_folder, metavar="RUN", help="a run folder, or one that holds some at any depth")
    add(
        "--out",
        type=output_folder,
        metavar="DIR",
        help="to write to, made if need be; no run folder (default: RUN/report; beside RUN if that is a run folder)",
    )
    add("--tensorboard", type=output_folder, metavar="DIR", help="event files of the runs as well, for TensorBoard")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 for a bad call."""
    parser = _parser()
    options = parser.parse(arguments)

    from console.command import write  # noqa: PLC0415
    from console.progress import progress  # noqa: PLC0415
    from console.terminal import Terminal  # noqa: PLC0415
    from experiments import event_files, run_folders  # noqa: PLC0415

    first: Path = options.runs[0]
    beside = first.resolve().parent if run_folders.is_run_folder(first) else first
    out: Path = options.out or beside / "report"
    try:
        if run_folders.is_run_folder(out):
            raise ValueError(f"--out must not be a run folder; got {out}. Its files are the run's own")
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out must be a folder; got the file {out}")
        found, others, notes = run_folders.find(options.runs)
        runs = run_folders.read_all(found, notes)
        twins, attributions = run_folders.extras(others, notes)
        if options.tensorboard is not None:
            event_files.require(options.tensorboard, runs)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))
    arms = run_folders.arms(runs)
    presets = sorted({str(run.config["preset"]) for run in runs})
    if len(presets) > 1:
        notes.append(f"Runs of different presets are mixed: {', '.join(presets)}.")

    # Only now: they load matplotlib and jinja2.
    with progress("drawing", num_figures(twins), "figures") as advance:
        files = assembled(arms, twins, attributions, notes, advance)
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
    if options.tensorboard is not None:
        for run in runs:
            event_files.write(options.tensorboard, run)
    terminal = Terminal(highlight=False, markup=False)
    terminal.width = max(terminal.width, 80)  # a number that is cut short, or left out, is another number
    terminal.print(_terminal_table(arms), soft_wrap=True)
    for note in notes:
        terminal.print(note, soft_wrap=True)
    if options.tensorboard is not None:
        terminal.print(f"wrote the event files of {len(runs)} runs to {options.tensorboard}", soft_wrap=True)
    terminal.print(f"\nwrote {out / 'index.html'}", soft_wrap=True)
    return 0


def _terminal_table(arms: Sequence["Arm"]) -> "TerminalTable":
    from rich.table import Table as TerminalTable  # noqa: PLC0415

    from experiments import summary  # noqa: PLC0415

    table = TerminalTable(
        box=None,
        pad_edge=False,
        header_style="bold",
        padding=(0, 1, 0, 0),
        caption="Δ: change of the probe's log-probability per token (nats), start to end.\n"
        "g⁺·g⁻: at the end; of the probe where there is one.",
        caption_justify="left",
    )
    table.add_column("arm", overflow="fold", min_width=22)
    for heading in ("seeds", "updates"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("end", max_width=16)
    for heading, width in (("Δ pref.", len("+0.0123")), ("Δ disp.", len("+0.0123")), ("g⁺·g⁻", len("−1.23e+04"))):
        table.add_column(heading, justify="right", min_width=width, no_wrap=True)  # a number cut short is another one
    for arm in arms:
        cells = [
            summary.signed(made.mean if (made := summary.change(arm, field)) else None)
            for field in (summary.PREFERRED, summary.DISPREFERRED)
        ]
        table.add_row(
            arm.label,
            str(len(arm.runs)),
            _span(arm),
            summary.state(arm),
            *cells,
            summary.number(_last_product(arm), ".3g"),
        )
    return table


def _span(arm: "Arm") -> str:
    """The updates that its runs made."""
    made = sorted({run.last_update for run in arm.runs})
    return str(made[0]) if len(made) == 1 else f"{made[0]}-{made[-1]}"


def _last_product(arm: "Arm") -> float | None:
    """g⁺·g⁻ at the end, on the probe; on the batch where there was no probe."""
    from experiments import summary  # noqa: PLC0415

    made = [end for field in summary.PRODUCTS.values() if (end := summary.end(arm, field)) is not None]
    return made[0].mean if made else None


# Files ----------------------------------------------------------------------------------------------------------------


def csv_text(table: "Table") -> str:
    """A table as CSV, every number with the digits that JSON gives it; NaN and Infinity as JSON has them in Python."""
    from json import dumps  # noqa: PLC0415

    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow(["" if cell is None else cell if isinstance(cell, str) else dumps(cell) for cell in row])
    return file.getvalue()


def num_figures(twins: Mapping[str, object]) -> int:
    """How many figures there are at most."""
    from experiments import curves, panels  # noqa: PLC0415

    return len(panels.PANELS) * len(curves.AXES) + 2 * len(twins)


class _Shown(NamedTuple):
    """A figure on the page."""

    name: str
    title: str
    svg: str


class _Drawing:
    """Figures as files, and as parts of the page."""

    def __init__(self, advance: "Advance") -> None:
        self.files: dict[str, bytes] = {}
        self._advance = advance
        self._num_done = 0

    def add(self, name: str, title: str, figure: "Figure | None") -> list[_Shown]:
        """Keeps a figure; returns what the page shows of it, nothing where there is no figure."""
        from experiments import panels  # noqa: PLC0415

        self._num_done += 1
        shown = []
        if figure is not None:
            svg = panels.rendered(figure, ".svg")
            self.files[f"figures/{name}.svg"] = svg
            self.files[f"figures/{name}.png"] = panels.rendered(figure, ".png")
            shown.append(_Shown(name, title, panels.inline(svg, name, title)))
        self._advance(self._num_done)
        return shown


def assembled(
    arms: Sequence["Arm"],
    twins: Mapping[str, dict[str, object]],
    attributions: Mapping[str, dict[str, object]],
    notes: Sequence[str],
    advance: "Advance" = lambda _: None,
) -> dict[str, str | bytes]:
    """All files of the report, by their names in its folder.

    Args:
        arms: What is reported.
        twins: Two updates compared at one point, by name.
        attributions: Gaps between two updates by cause, by name.
        notes: What the reader must know about the reading of the records.
        advance: Is told how many figures are done.
    """
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415

    from experiments import curves, limits, panels, run_folders, summary  # noqa: PLC0415

    runs = [run for arm in arms for run in arm.runs]
    drawing = _Drawing(advance)
    sections = {}
    for axis, (_, axis_name) in curves.AXES.items():
        sections[axis] = (
            axis_name,
            [
                shown
                for panel in panels.PANELS
                for shown in drawing.add(
                    f"{panel.name}-{axis}", f"{panel.title}, {axis_name}", panels.drawn(panel, arms, axis)
                )
            ],
        )
    twin_sections = [
        (
            name,
            _heading(twin),
            [
                *drawing.add(f"{name}-gap", "the gap between the two updates", panels.twin_gap(twin)),
                *drawing.add(f"{name}-alignment", "g⁺·g⁻ after the update", panels.twin_alignment(twin)),
            ],
            _twin_table(twin),
        )
        for name, twin in twins.items()
    ]
    tables = {
        "records": summary.records(runs, lambda row: dict(run_folders.flat(row))),
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
    found_limits: Sequence[Limit] = limits.limits(arms)
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
        limits=found_limits,
        num_runs=len(runs),
    )
    return {"index.html": page, **{f"{name}.csv": csv_text(table) for name, table in tables.items()}, **drawing.files}


# Parts of the page ----------------------------------------------------------------------------------------------------


def _summary_row(arm: "Arm") -> tuple[str, ...]:
    from experiments import summary  # noqa: PLC0415

    def went(field: str, form: str = ".4g", scale: float = 1.0) -> str:
        start, end, change = (of(arm, field) for of in (summary.start, summary.end, summary.change))
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
        _span(arm),
        summary.state(arm),
        went(summary.PREFERRED),
        went(summary.DISPREFERRED),
        probe,
        batch,
        accuracy,
    )


def _heading(record: Mapping[str, object]) -> str:
    """Where a twin or an attribution was read; without what the file does not say."""
    said = (
        ("", "optimizer"),
        ("model ", "model"),
        ("after update ", "update"),
        ("learning rate ", "learning_rate"),
        ("rate ", "rate"),
        ("order ", "schedule"),
    )
    return ", ".join(f"{word}{record[key]}" for word, key in said if record.get(key) not in (None, ""))


def _twin_table(twin: Mapping[str, object]) -> "Table":
    from experiments.run_folders import TWIN_LISTS  # noqa: PLC0415
    from experiments.summary import Table  # noqa: PLC0415

    lists = [held for name in ("learning_rates", *TWIN_LISTS) if isinstance(held := twin[name], list)]
    return Table(("learning rate", *(name.replace("_", " ") for name in TWIN_LISTS)), list(zip(*lists, strict=True)))


def _attribution_table(attributions: Mapping[str, dict[str, object]]) -> "Table":
    from experiments.summary import Table  # noqa: PLC0415

    rows = []
    for name, record in attributions.items():
        held = record["rows"]
        assert isinstance(held, list)
        rows += [(name, str(row["cause"]), row["norm"], row["share"]) for row in held]
    return Table(("attribution", "cause", "norm", "share"), rows)


def _norms(table: "Table") -> dict[str, list[tuple[object, ...]]]:
    made: dict[str, list[tuple[object, ...]]] = {}
    for arm, *row in table.rows:
        made.setdefault(str(arm), []).append(tuple(row))
    return made


class _Cell(NamedTuple):
    """Of a configuration."""

    text: str
    is_unusual: bool


class _Differing(NamedTuple):
    """What differs between runs: keys, and per run the values."""

    keys: list[str]
    rows: list[tuple[str, list[_Cell]]]


def _configs(runs: Sequence["Run"]) -> tuple[list[tuple[str, str]], _Differing]:
    """Configurations: what is common to all runs once; what differs run by run, marked where it is not the usual."""
    from experiments.run_folders import flat  # noqa: PLC0415

    flats = [{name: _text(held) for name, held in flat(run.config)} for run in runs]
    keys = list(dict.fromkeys(name for config in flats for name in config))
    differing = [key for key in keys if len({config.get(key) for config in flats}) > 1]
    usual = {key: Counter(config.get(key) for config in flats).most_common(1)[0][0] for key in differing}
    rows = [
        (run.name, [_Cell(config.get(key, "none"), config.get(key) != usual[key]) for key in differing])
        for run, config in zip(runs, flats, strict=True)
    ]
    return [(key, flats[0][key]) for key in keys if key not in differing], _Differing(differing, rows)


def _text(held: object) -> str:
    from json import dumps  # noqa: PLC0415

    return held if isinstance(held, str) else dumps(held)


def _headers(runs: Sequence["Run"]) -> list[tuple[str, str, str, str, str, str]]:
    """Device, commit, parameters and versions, once for all runs that share them."""
    shared: dict[tuple[str, str, str, str], dict[str, list[str]]] = {}
    for run in runs:
        for header in run.headers:
            versions = header.get("versions")
            named = _joined(versions.items()) if isinstance(versions, dict) else "-"
            size = header.get("num_parameters")
            key = (
                str(header.get("device") or "-"),
                str(header.get("commit") or "-"),
                f"{size:,}" if isinstance(size, int) else "-",
                named,
            )
            shared.setdefault(key, {}).setdefault(run.name, []).append(str(header.get("started") or "-"))
    made = []
    for key, starts in shared.items():
        names = [name if len(times) == 1 else f"{name} (started {len(times)} times)" for name, times in starts.items()]
        times = sorted(time for held in starts.values() for time in held)
        span = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
        who = f"all {len(runs)}" if len(starts) == len(runs) > 1 and len(shared) == 1 else ""
        is_resumed = any(len(held) > 1 for held in starts.values())
        made.append((who if who and not is_resumed else ", ".join(names), *key, span))
    return made


def _joined(items: Iterable[tuple[object, object]]) -> str:
    return ", ".join(f"{name} {number}" for name, number in items)


if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    Advance = Callable[[int], None]
