"""`python -m experiments twin`: one accumulated and one sequential update of a real model, predicted and measured."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from console.command import Parser, write
from console.values import input_folder, number, one_of, whole

if TYPE_CHECKING:
    from experiments.comparison import Twin

__all__ = ["main"]

OPTIMIZERS = ("sgd", "heavy-ball", "adamw")  # named here so that --help is answered without the rest; tests compare
RATES = ("eta", "eta/sqrt2", "eta/2")

_EPILOG = """\
At a checkpoint of RUN, from the same parameters and the same state of the
optimizer, one update is made both ways over a range of learning rates eta:
accumulated on the mean of both halves, step eta; sequential, step --rate. The
gap between the two displacements is predicted in powers of eta,
  first order   both with gradients frozen at the start
  second order  a forward derivative in the step, split by reversing the order:
                gradient part (alignment and norms) and bracket
and the remainders' orders are fitted: after first order 2, after second 3.
g+.g- of the same texts after either update is predicted to second order too.

The state of `adamw` is the checkpoint's, where the run is of adamw; a rule that
is not the run's starts from its first state, in which Adam is a sign: take a
run of adamw for it.

FILE is twin-OPTIMIZER.json in RUN's folder unless given; `report` draws it.

examples:
  python -m experiments twin runs/smollm2/sequential/seed-0
  python -m experiments twin runs/tiny/accumulated/seed-0 --optimizer sgd

exit status: 0, 1 where an order is missed, 2 for a call without an answer.
"""


def _parser() -> Parser:
    parser = Parser("python -m experiments twin", "One update both ways, predicted and measured.", _EPILOG)
    add = parser.add_argument
    add("run", type=input_folder, metavar="RUN", help="a run's folder")
    add("--update", type=whole(0), metavar="K", help="the checkpoint after K updates; 0: the start, which needs "
        "none (default: the newest)")  # fmt: skip
    add("--optimizer", type=one_of(OPTIMIZERS), metavar="NAME", help="default: the run's own")
    add("--rate", type=one_of(RATES), default="eta/2", metavar="RATE", help="of the sequential update: eta, eta/sqrt2, "
        "eta/2 (default)")  # fmt: skip
    add("--first", type=one_of(("+", "-")), default="+", metavar="SIDE", help="that the sequential update begins with")
    add("--pairs", type=whole(1), metavar="N", help="solutions in a half (default: the run's)")
    add("--largest", type=number(), metavar="ETA", help="the largest learning rate (default: where the second order "
        "is twice the first)")  # fmt: skip
    add("--halvings", type=whole(5, 40), default=12, metavar="K", help="of the learning rate (default: 12)")
    add("--no-alignment", action="store_true", help="leave out g+.g- after the updates, the greater part of the work")
    add("--attribution", type=number(), metavar="ETA", help="also take the gap at this rate apart by its causes")
    add("--out", type=Path, metavar="FILE", help="JSON to write")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = _parser()
    options = parser.parse(arguments)
    folder: Path = options.run
    if not (folder / "config.json").is_file():
        parser.error(f"{folder} must be a run's folder, with config.json and checkpoints/.")

    from console.progress import progress, waiting  # noqa: PLC0415
    from console.terminal import Terminal  # noqa: PLC0415

    with waiting("loading JAX"):
        from experiments import comparison, config, jsonl  # noqa: PLC0415
        from experiments.training import distributed  # noqa: PLC0415

    distributed.join(None, None, None)
    try:
        given = config.from_json(jsonl.read_object(folder / "config.json"))
        name = options.optimizer or given.arm.optimizer
        if name not in OPTIMIZERS:
            raise ValueError(f"--optimizer must be given for a run of {name}: one of {', '.join(OPTIMIZERS)}.")
        out: Path = options.out or folder / f"twin-{name}.json"
        bench = comparison.prepared(
            given, folder, name, options.update, options.pairs, options.rate, options.first, progress
        )
        terminal = Terminal(highlight=False, markup=False)

        def kept(twin: "Twin") -> None:
            write(out, json.dumps(twin.record(), indent=1) + "\n")

        def reported(twin: "Twin") -> None:
            _report(terminal, twin)
            kept(twin)

        twin = comparison.measured(
            bench,
            largest=options.largest,
            num_halvings=options.halvings,
            has_alignment=not options.no_alignment,
            show=progress,
            on_gap=reported,
        )
        kept(twin)
        print(f"wrote {out}")
        if options.attribution:
            with waiting("the gap by its causes"):
                causes, apart = comparison.attributed(bench, options.attribution)
            terminal.print(f"the gap at eta {options.attribution:g} by its causes: norm, share of the gap")
            for row in causes:
                terminal.print(f"  {row.cause:<16} {row.norm:10.3e} {row.share:8.1%}")
            path = out.with_name(f"attribution-{name}.json")
            write(path, json.dumps(apart, indent=1) + "\n")
            print(f"wrote {path}")
    except (OSError, ValueError, TypeError, FloatingPointError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 1 if any(fit.is_refuted for fit in twin.fits) else 0


def _report(terminal: object, twin: "Twin") -> None:
    from rich.table import Table  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415

    assert isinstance(terminal, Terminal)
    record = twin.record()
    terminal.print(
        f"{record['model']} after {record['update']} updates, {record['optimizer']}: sequential {record['schedule']} "
        f"at {record['rate']} minus accumulated; norms"
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("eta", "gap", "first", "second", "rest after 1", "after 2", "cosine"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in zip(*(twin.columns[key] for key in ("learning_rates", "gap", "first", "second", "remainder_first",
                                                    "remainder_second", "cosine")), strict=True):  # fmt: skip
        table.add_row(*(f"{value:.2e}" for value in row[:-1]), f"{row[-1]:.4f}")
    terminal.print(table)
    for order, fit in enumerate(twin.fits, start=1):
        found = "-" if fit.order is None else f"{fit.order:.3f}"
        reason = f" ({fit.reason})" if fit.reason else ""
        terminal.print(f"rest after order {order}: eta^{found}, theory {fit.theory}: {fit.verdict}{reason}")
