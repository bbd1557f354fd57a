"""What the runs came to, by arm: numbers for the tables, and the paragraph that opens the page.

Every sentence is made of what was measured; none says why.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import isfinite
from statistics import median
from typing import NamedTuple

from experiments.records import COLUMNS, UpdateRow, to_json, value
from experiments.report.curves import Spread, spread
from experiments.report.run_folders import Arm, Run, flat

__all__ = [
    "Table",
    "costs",
    "ends",
    "gradient_norms",
    "lead",
    "listed",
    "number",
    "records",
    "signed",
    "state",
    "summary",
]

Cell = str | int | float | bool | None
PREFERRED, DISPREFERRED = COLUMNS["preferred"], COLUMNS["dispreferred"]
PRODUCTS = {"probe": COLUMNS["product_probe"], "batch": COLUMNS["product_batch"]}


class Table(NamedTuple):
    """Columns and rows, for a file or a page."""

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


# Numbers in words -----------------------------------------------------------------------------------------------------


def number(amount: float | None, form: str = ".4g") -> str:
    """A number to read; `-` where there is none, and `not finite` where it is not."""
    if amount is None:
        return "-"
    return format(amount, form).replace("-", "−") if isfinite(amount) else "not finite"


def signed(amount: float | None) -> str:
    """A change to read, with its sign."""
    return number(amount, "+.3g")


def listed(words: Sequence[str]) -> str:
    """Words in a row: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# By run ---------------------------------------------------------------------------------------------------------------


class Ends(NamedTuple):
    """The first and the last measurement of a field; `num` is how many there are."""

    start: float
    end: float
    num: int


def ends(run: Run, field: str) -> Ends | None:
    """The first and the last measurement of a run, finite or not; None where there is none."""
    found = [held for row in run.updates if (held := value(row, field)) is not None]
    return Ends(found[0], found[-1], len(found)) if found else None


def _spread(arm: Arm, field: str, of: Callable[[Ends], float], least: int = 1) -> Spread | None:
    """Over the seeds that measured the field at least so many times."""
    found = [made for run in arm.runs if (made := ends(run, field)) is not None and made.num >= least]
    return spread([of(made) for made in found]) if found else None


def start(arm: Arm, field: str) -> Spread | None:
    """Of the first measurement, over seeds."""
    return _spread(arm, field, lambda made: made.start)


def end(arm: Arm, field: str) -> Spread | None:
    """Of the last measurement, over seeds."""
    return _spread(arm, field, lambda made: made.end)


def change(arm: Arm, field: str) -> Spread | None:
    """From the first measurement to the last, over the seeds that have two."""
    # Infinity less infinity is NaN: not finite either way.
    return _spread(arm, field, lambda made: made.end - made.start, least=2)


def state(arm: Arm) -> str:
    """How the runs of an arm ended, and how many of them collapsed."""
    names = {"finished": "finished", "not-finite": "not finite", "stopped": "stopped", "unfinished": "unfinished"}
    counts = Counter(names.get(run.state, run.state) for run in arm.runs)
    parts = [name if count == len(arm.runs) else f"{count} {name}" for name, count in counts.most_common()]
    if num_collapsed := sum(run.collapsed_at is not None for run in arm.runs):
        parts.append("collapsed" if num_collapsed == len(arm.runs) else f"{num_collapsed} collapsed")
    return ", ".join(parts)


# Tables ---------------------------------------------------------------------------------------------------------------


def records(runs: Sequence[Run]) -> Table:
    """One row per run and update, every field that any row has, as it was written."""
    rows = [(run, dict(flat(to_json(row)))) for run in runs for row in run.updates]
    names = tuple(dict.fromkeys(name for _, row in rows for name in row if name != "kind"))
    made: list[tuple[Cell, ...]] = []
    for run, row in rows:
        cells = [row.get(name) for name in names]
        made.append(
            (
                run.name,
                run.config.arm.name,
                run.seed,
                *(cell if cell is None or isinstance(cell, (str, int, float)) else str(cell) for cell in cells),
            )
        )
    return Table(("run", "arm", "seed", *names), made)


def summary(arms: Sequence[Arm]) -> Table:
    """One row per arm: how it ended, and for each field of `COLUMNS` start, end and change over seeds."""
    columns = ["arm", "seeds", "updates_least", "updates_most", "updates_planned", "state", "first_collapse"]
    for name in COLUMNS:
        for part in ("start", "end", "change"):
            columns += [f"{name}_{part}_{of}" for of in ("mean", "min", "max")]
    rows: list[tuple[Cell, ...]] = []
    for arm in arms:
        made = [run.last_update for run in arm.runs]
        planned = arm.runs[0].config.num_updates
        collapses = [run.collapsed_at for run in arm.runs if run.collapsed_at is not None]
        cells: list[Cell] = [
            arm.label,
            len(arm.runs),
            min(made),
            max(made),
            planned,
        ]
        cells += [state(arm), min(collapses) if collapses else None]
        for field in COLUMNS.values():
            for of in (start, end, change):
                cells += list(of(arm, field) or (None, None, None))
        rows.append(tuple(cells))
    return Table(tuple(columns), rows)


def gradient_norms(arms: Sequence[Arm]) -> Table:
    """Norms of g⁺ and g⁻ on the batch by layer group, at the first and the last update: means over seeds."""
    rows: list[tuple[Cell, ...]] = []
    for arm in arms:
        groups = dict.fromkeys(
            str(name)
            for run in arm.runs
            for row in run.updates
            for side in (_groups(row, "plus"), _groups(row, "minus"))
            for name in side
        )
        for group in groups:
            cells: list[Cell] = []
            for side in ("plus", "minus"):
                found = [
                    norms
                    for run in arm.runs
                    if (norms := [float(held[group]) for row in run.updates if group in (held := _groups(row, side))])
                ]
                for place in (0, -1):
                    cells.append(spread([norms[place] for norms in found]).mean if found else None)
            rows.append((arm.label, group, *cells))
    return Table(("arm", "group", "plus_start", "plus_end", "minus_start", "minus_end"), rows)


def _groups(row: UpdateRow, side: str) -> dict[str, float]:
    return (row.gradient_norms or {}).get(side, {})


def costs(arms: Sequence[Arm]) -> Table:
    """Seconds and memory: medians, for the first update compiles as well; probes apart."""
    rows: list[tuple[Cell, ...]] = []
    for arm in arms:
        all_rows = [row for run in arm.runs for row in run.updates]
        seconds, probes, memory = (
            [held for row in all_rows if (held := value(row, name)) is not None]
            for name in ("seconds", "probe_seconds", "memory")
        )
        probes = [held for held in probes if held > 0]  # 0 where there was no probe at this update
        tokens = [made.end for run in arm.runs if (made := ends(run, "tokens")) is not None]
        rows.append(
            (
                arm.label,
                median(seconds) if seconds else None,
                max(seconds) if seconds else None,
                median(probes) if probes else None,
                sum(seconds) if seconds else None,
                sum(probes) if probes else None,
                sum(tokens) / sum(seconds) if tokens and sum(seconds) > 0 else None,
                max(memory) / 2**30 if memory else None,
            )
        )
    return Table(
        (
            "arm",
            "seconds_per_update",
            "slowest_update",
            "seconds_per_probe",
            "seconds_of_updates",
            "seconds_of_probes",
            "tokens_per_second",
            "memory_gib",
        ),
        rows,
    )


# The paragraph --------------------------------------------------------------------------------------------------------


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _values(runs: Sequence[Run], key: str) -> list[str]:
    return sorted({str(getattr(run.config, key)) for run in runs})


def lead(arms: Sequence[Arm]) -> list[str]:
    """The opening sentences: what ran, what became of the preferred completions, who collapsed, where g⁺·g⁻ ended."""
    runs = [run for arm in arms for run in arm.runs]
    seeds = {run.seed for run in runs}
    reached = sorted({run.last_update for run in runs})
    span = str(reached[0]) if len(reached) == 1 else f"{reached[0]} to {reached[-1]}"
    sentences = [
        f"{_plural(len(runs), 'run')} of {_plural(len(arms), 'arm')} with {_plural(len(seeds), 'seed')}, "
        f"{span} updates each: preset {listed(_values(runs, 'preset'))}, model {listed(_values(runs, 'model'))}, "
        f"data {listed(_values(runs, 'data'))}."
    ]
    changes = [(arm, change(arm, PREFERRED)) for arm in arms]
    if any(made for _, made in changes):
        parts = [f"{arm.label} {_change_text(arm, made)}" for arm, made in changes if made]
        sentences.append(
            "From the first probe to the last, the log-probability of the preferred completions per token changed, as "
            f"the mean over seeds, by: {'; '.join(parts)} nats."
        )
    collapsed = []
    for arm in arms:
        found = [run.collapsed_at for run in arm.runs if run.collapsed_at is not None]
        if found:
            share = "" if len(arm.runs) == 1 else f"{len(found)} of {len(arm.runs)} seeds, "
            collapsed.append(f"{arm.label} ({share}first at update {min(found)})")
    rest = [arm.label for arm in arms if all(run.collapsed_at is None for run in arm.runs)]
    if collapsed:
        others = f"; not by {listed(rest)}" if rest else ""
        sentences.append(f"The criterion of collapse was met by {listed(collapsed)}{others}.")
    else:
        sentences.append("No run met the criterion of collapse.")
    if broken := [run for run in runs if run.state == "not-finite"]:
        named = [f"{run.name} (update {run.last_update})" for run in broken]
        sentences.append(f"Ended by values that are not finite: {listed(named)}.")
    for where, field in PRODUCTS.items():
        products = [(arm, start(arm, field), end(arm, field)) for arm in arms]
        parts = [
            f"{arm.label} from {number(a.mean, '.3g')} to {number(b.mean, '.3g')}" for arm, a, b in products if a and b
        ]
        if parts:
            sentences.append(f"The inner product g⁺·g⁻ on the {where} went: {'; '.join(parts)}.")
            break  # the probe is at the same data for all arms; the batch is for want of it
    return sentences


def _change_text(arm: Arm, made: Spread) -> str:
    if not isfinite(made.mean):
        last = [measured.end for run in arm.runs if (measured := ends(run, PREFERRED))]
        return f"to what is not finite ({sum(not isfinite(held) for held in last)} of {_plural(len(last), 'seed')})"
    if made.low == made.high:
        return signed(made.mean)
    return f"{signed(made.mean)} ({signed(made.low)} to {signed(made.high)})"
