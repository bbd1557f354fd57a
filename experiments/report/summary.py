"""What the runs came to, by arm: numbers for the tables, and the paragraph that opens the page.

Every sentence is made of what was measured; none says why.
"""

from collections import Counter
from collections.abc import Sequence
from math import isfinite
from statistics import median
from typing import Literal, NamedTuple

from experiments.records import COLUMNS, to_json
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
    "over_seeds",
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
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


# By run ---------------------------------------------------------------------------------------------------------------


class Ends(NamedTuple):
    """The first and the last measurement of a quantity; `num` is how many there are."""

    start: float
    end: float
    num: int

    @property
    def change(self) -> float | None:
        """From the first to the last, where there are two. Infinity less infinity is NaN: not finite either way."""
        return None if self.num == 1 else self.end - self.start


def ends(run: Run, name: str) -> Ends | None:
    """The first and the last measurement of a run, finite or not; None where there is none."""
    values = run.values(name)
    return Ends(values[0], values[-1], len(values)) if values else None


def over_seeds(arm: Arm, name: str, part: Literal["start", "end", "change"]) -> Spread | None:
    """The first measurement of a quantity, the last, or the change, over the seeds that have it."""
    measured = [each for run in arm.runs if (each := ends(run, name)) is not None]
    values = [amount for each in measured if (amount := getattr(each, part)) is not None]
    return spread(values) if values else None


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
    """One row per run and update: every quantity that any row has, as it was written."""
    rows = [(run, dict(flat(to_json(row)))) for run in runs for row in run.updates]
    names = tuple(dict.fromkeys(name for _, row in rows for name in row if name != "kind"))
    return Table(
        ("run", "arm", "seed", *names),
        [(run.name, run.config.arm.name, run.seed, *(_cell(row.get(name)) for name in names)) for run, row in rows],
    )


def _cell(held: object) -> Cell:
    return held if held is None or isinstance(held, (str, int, float)) else str(held)


def summary(arms: Sequence[Arm]) -> Table:
    """One row per arm: how it ended, and for each quantity of `COLUMNS` start, end and change over seeds."""
    parts: tuple[Literal["start", "end", "change"], ...] = ("start", "end", "change")
    columns = ["arm", "seeds", "updates_least", "updates_most", "updates_planned", "state", "first_collapse"]
    columns += [f"{name}_{part}_{of}" for name in COLUMNS for part in parts for of in ("mean", "min", "max")]
    rows: list[tuple[Cell, ...]] = []
    for arm in arms:
        reached = [run.last_update for run in arm.runs]
        collapses = [run.collapsed_at for run in arm.runs if run.collapsed_at is not None]
        spreads = [over_seeds(arm, name, part) or (None, None, None) for name in COLUMNS.values() for part in parts]
        planned = arm.runs[0].config.num_updates
        rows.append(
            (
                *(arm.label, len(arm.runs), min(reached), max(reached), planned, state(arm)),
                min(collapses, default=None),
                *(cell for cells in spreads for cell in cells),
            )
        )
    return Table(tuple(columns), rows)


def gradient_norms(arms: Sequence[Arm]) -> Table:
    """Norms of g⁺ and g⁻ on the batch by layer group, at the first and the last update: means over seeds."""
    rows: list[tuple[Cell, ...]] = []
    for arm in arms:
        all_norms = [row.gradient_norms or {} for run in arm.runs for row in run.updates]
        for group in dict.fromkeys(
            group for norms in all_norms for side in ("plus", "minus") for group in norms.get(side, ())
        ):
            cells: list[Cell] = []
            for side in ("plus", "minus"):
                for part in ("start", "end"):
                    norm = over_seeds(arm, f"gradient_norms.{side}.{group}", part)
                    cells.append(None if norm is None else norm.mean)
            rows.append((arm.label, group, *cells))
    return Table(("arm", "group", "plus_start", "plus_end", "minus_start", "minus_end"), rows)


def costs(arms: Sequence[Arm]) -> Table:
    """Seconds and memory: medians, for the first update compiles as well; probes apart."""
    columns = (
        *("arm", "seconds_per_update", "slowest_update", "seconds_per_probe", "seconds_of_updates"),
        *("seconds_of_probes", "tokens_per_second", "memory_gib"),
    )
    rows: list[tuple[Cell, ...]] = []
    for arm in arms:
        seconds, probes, memory = (
            [amount for run in arm.runs for amount in run.values(name)]
            for name in ("seconds", "probe_seconds", "memory")
        )
        probes = [amount for amount in probes if amount > 0]  # 0 where there was no probe at this update
        tokens = [measured.end for run in arm.runs if (measured := ends(run, "tokens")) is not None]
        rows.append(
            (
                arm.label,
                median(seconds) if seconds else None,
                max(seconds, default=None),
                median(probes) if probes else None,
                sum(seconds) if seconds else None,
                sum(probes) if probes else None,
                sum(tokens) / sum(seconds) if tokens and sum(seconds) > 0 else None,
                max(memory) / 2**30 if memory else None,
            )
        )
    return Table(columns, rows)


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
    changes = [(arm, change) for arm in arms if (change := over_seeds(arm, PREFERRED, "change")) is not None]
    if changes:
        parts = [f"{arm.label} {_change_text(arm, change)}" for arm, change in changes]
        sentences.append(
            "From the first probe to the last, the log-probability of the preferred completions per token changed, as "
            f"the mean over seeds, by: {'; '.join(parts)} nats."
        )
    collapsed = []
    for arm in arms:
        updates_of_collapse = [run.collapsed_at for run in arm.runs if run.collapsed_at is not None]
        if updates_of_collapse:
            share = "" if len(arm.runs) == 1 else f"{len(updates_of_collapse)} of {len(arm.runs)} seeds, "
            collapsed.append(f"{arm.label} ({share}first at update {min(updates_of_collapse)})")
    rest = [arm.label for arm in arms if all(run.collapsed_at is None for run in arm.runs)]
    if collapsed:
        others = f"; not by {listed(rest)}" if rest else ""
        sentences.append(f"The criterion of collapse was met by {listed(collapsed)}{others}.")
    else:
        sentences.append("No run met the criterion of collapse.")
    if broken := [run for run in runs if run.state == "not-finite"]:
        named = [f"{run.name} (update {run.last_update})" for run in broken]
        sentences.append(f"Ended by values that are not finite: {listed(named)}.")
    for where, name in PRODUCTS.items():
        products = [(arm, over_seeds(arm, name, "start"), over_seeds(arm, name, "end")) for arm in arms]
        parts = [
            f"{arm.label} from {number(a.mean, '.3g')} to {number(b.mean, '.3g')}" for arm, a, b in products if a and b
        ]
        if parts:
            sentences.append(f"The inner product g⁺·g⁻ on the {where} went: {'; '.join(parts)}.")
            break  # the probe is at the same data for all arms; the batch is for want of it
    return sentences


def _change_text(arm: Arm, change: Spread) -> str:
    if not isfinite(change.mean):
        last = [measured.end for run in arm.runs if (measured := ends(run, PREFERRED))]
        return f"to no finite value ({sum(not isfinite(amount) for amount in last)} of {_plural(len(last), 'seed')})"
    if change.low == change.high:
        return signed(change.mean)
    return f"{signed(change.mean)} ({signed(change.low)} to {signed(change.high)})"
