"""`python -m experiments report`: figures, tables and one page from what runs left on disk.

It reads files only: no model, no numerics. What is concluded is computed from the records, or not said.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from console.command import call, call_errors, command, option
from console.output import write
from console.values import input_folder, output_folder

if TYPE_CHECKING:
    from rich.table import Table

    from experiments.report.run_folders import Arm

__all__ = ["main", "report"]

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
Runs that a runs.json lists and that never began, or have not ended, are named.
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


@command("report", _EPILOG)
def report(
    *folders: Annotated[
        Path,
        option("a run folder, or one that holds some at any depth", parse=input_folder, name="RUN", is_required=True),
    ],
    out: Annotated[
        Path | None,
        option(
            "to write to, made if need be; no run folder (default: RUN/report; beside RUN if that is a run folder)",
            "DIR",
            output_folder,
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, option("event files of the runs as well, for TensorBoard", "DIR", output_folder)
    ] = None,
) -> int:
    """Figures, tables and one page from runs."""
    from console.progress import progress
    from console.terminal import Terminal
    from experiments.report import run_folders
    from experiments.report import tensorboard as event_files

    first = folders[0]
    beside = first.resolve().parent if run_folders.is_run_folder(first) else first
    out = out or beside / "report"
    with call_errors(ValueError, ModuleNotFoundError):
        if run_folders.is_run_folder(out):
            raise ValueError(f"--out must not be a run folder; got {out}. Its files are the run's own")
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out must be a folder; got the file {out}")
        found, others, notes = run_folders.find(folders)
        runs = run_folders.read_all(found, notes)
        twins, attributions = run_folders.comparisons(others, notes)
        if tensorboard is not None:
            event_files.require(tensorboard, runs)
    arms = run_folders.group(runs)
    presets = sorted({run.config.preset for run in runs})
    if len(presets) > 1:
        notes.append(f"Runs of different presets are mixed: {', '.join(presets)}.")

    from experiments.report import page  # loads matplotlib and jinja2

    with progress("drawing", page.num_figures(twins), "figures") as advance:
        files = page.assemble(arms, twins, attributions, notes, advance)
    for name, content in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
    if tensorboard is not None:
        for run in runs:
            event_files.write(tensorboard, run)
    terminal = Terminal(soft_wrap=True)
    terminal.width = max(terminal.width, 80)  # a number that is cut short, or left out, is another number
    terminal.print(_terminal_table(arms))
    for note in notes:
        terminal.print(note)
    if tensorboard is not None:
        terminal.print(f"wrote the event files of {len(runs)} runs to {tensorboard}")
    terminal.print(f"\nwrote {out / 'index.html'}")
    return 0


def _terminal_table(arms: Sequence["Arm"]) -> "Table":
    from console.terminal import plain_table
    from experiments.report import page, summary

    table = plain_table(
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
        changes = (summary.over_seeds(arm, name, "change") for name in (summary.PREFERRED, summary.DISPREFERRED))
        cells = (summary.signed(change and change.mean) for change in changes)
        product = summary.number(_last_product(arm), ".3g")
        table.add_row(arm.label, str(len(arm.runs)), page.span(arm), summary.state(arm), *cells, product)
    return table


def _last_product(arm: "Arm") -> float | None:
    """g⁺·g⁻ at the end, on the probe; on the batch where there was no probe."""
    from experiments.report import summary

    products = (summary.over_seeds(arm, name, "end") for name in summary.PRODUCTS.values())
    return next((product.mean for product in products if product is not None), None)


main = partial(call, report)
