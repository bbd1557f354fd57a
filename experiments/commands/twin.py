"""`python -m experiments twin`: one accumulated and one sequential update of a real model, predicted and measured."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from console.command import Parser, write
from console.values import input_folder, number, one_of, whole
from experiments import arms, config, files
from experiments.records import CONFIG
from numerics import catalogue

if TYPE_CHECKING:
    from console.terminal import Terminal
    from experiments.comparison import UpdateComparison

__all__ = ["main"]

# A twin needs an optimizer that is built by its name alone, and a rate of the first order.
OPTIMIZERS = tuple(name for name in arms.OPTIMIZERS if name in catalogue.NAMED_OPTIMIZERS)
RATES = tuple(name for name in arms.RATES if name != "sqrt-rule")

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
    if not (folder / CONFIG).is_file():
        parser.error(f"{folder} must be a run's folder, with {CONFIG} and checkpoints/.")

    from console.progress import progress, waiting
    from console.terminal import Terminal

    with waiting("loading JAX"):
        from experiments import comparison
        from experiments.training import distributed

    distributed.join(None, None, None)
    terminal = Terminal(highlight=False, markup=False)
    try:
        run_config = config.from_json(files.read_object(folder / CONFIG))
        name = options.optimizer or run_config.arm.optimizer
        if name not in OPTIMIZERS:
            raise ValueError(f"--optimizer must be given for a run of {name}: one of {', '.join(OPTIMIZERS)}.")
        out: Path = options.out or folder / f"twin-{name}.json"
        setup = comparison.load_setup(
            run_config, folder, name, options.update, options.pairs, options.rate, options.first, progress
        )

        def keep(twin: "UpdateComparison") -> None:
            write(out, json.dumps(twin.record(), indent=1) + "\n")

        def report(twin: "UpdateComparison") -> None:
            _report(terminal, twin)
            keep(twin)

        twin = comparison.compare(
            setup,
            largest=options.largest,
            num_halvings=options.halvings,
            has_alignment=not options.no_alignment,
            show=progress,
            on_gap=report,
        )
        keep(twin)
        print(f"wrote {out}")
        if options.attribution:
            with waiting("the gap by its causes"):
                causes, attribution = comparison.attribute(setup, options.attribution)
            terminal.print(f"the gap at eta {options.attribution:g} by its causes: norm, share of the gap")
            for row in causes:
                terminal.print(f"  {row.cause:<16} {row.norm:10.3e} {row.share:8.1%}")
            path = out.with_name(f"attribution-{name}.json")
            write(path, json.dumps(attribution, indent=1) + "\n")
            print(f"wrote {path}")
    except (OSError, ValueError, TypeError, FloatingPointError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 1 if any(fit.is_refuted for fit in twin.fits) else 0


def _report(terminal: "Terminal", twin: "UpdateComparison") -> None:
    from rich.table import Table

    record = twin.record()
    terminal.print(
        f"{record['model']} after {record['update']} updates, {record['optimizer']}: sequential {record['schedule']} "
        f"at {record['rate']} minus accumulated; norms"
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    columns = {
        "eta": "learning_rates",
        "gap": "gap",
        "first": "first",
        "second": "second",
        "rest after 1": "remainder_first",
        "after 2": "remainder_second",
        "cosine": "cosine",
    }
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in zip(*(twin.columns[key] for key in columns.values()), strict=True):
        table.add_row(*(f"{value:.2e}" for value in row[:-1]), f"{row[-1]:.4f}")
    terminal.print(table)
    for order, fit in enumerate(twin.fits, start=1):
        exponent = "-" if fit.order is None else f"{fit.order:.3f}"
        reason = f" ({fit.reason})" if fit.reason else ""
        terminal.print(f"rest after order {order}: eta^{exponent}, theory {fit.theory}: {fit.verdict}{reason}")
