"""`python -m experiments twin`: one accumulated and one sequential update of a real model, predicted and measured."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from console.command import CallError, call_errors, command, option
from console.values import input_folder, number, whole
from console.words import must_be_one_of
from experiments import arms, config, files
from experiments.records import CONFIG
from numerics import catalogue, imported

if TYPE_CHECKING:
    from console.terminal import Terminal
    from experiments.comparison_records import Twin

__all__ = ["twin"]

# A twin needs an optimizer that is built by its name alone.
OPTIMIZERS = tuple(name for name in arms.OPTIMIZERS if name in catalogue.NAMED_OPTIMIZERS)

_EPILOG = """\
At a checkpoint of RUN, from the same parameters and the same state of the
optimizer, one update is made both ways over a range of learning rates eta:
accumulated on the mean of all gradients of --word, step eta; sequential, its
steps one after another, each --rate. The
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
  python -m experiments twin runs/tiny/accumulated/seed-0 --word "(+-)(-+)"

exit status: 0, 1 where an order is missed, 2 for a call without an answer.
"""


@command("twin", _EPILOG)
def twin(
    folder: Annotated[Path, option("a run's folder", parse=input_folder, name="RUN")],
    /,
    *,
    update: Annotated[
        int | None,
        option("the checkpoint after K updates; 0: the start, which needs none (default: the newest)", "K", whole(0)),
    ] = None,
    optimizer: Annotated[
        str | None, option(f"{', '.join(OPTIMIZERS)}, or an import path (default: the run's own)", "NAME")
    ] = None,
    word: Annotated[
        str | None, option("of the sequential update (default: the run's, without brackets around it)", "WORD")
    ] = None,
    rate: Annotated[
        str | None,
        option("of its steps: 1/3, 0.4, eta/sqrt2 (default: 1/m for m steps, as far as the accumulated one)", "RATE"),
    ] = None,
    pairs: Annotated[int | None, option("solutions in a half (default: the run's)", "N", whole(1))] = None,
    largest: Annotated[
        float | None,
        option("the largest learning rate (default: where the second order is twice the first)", "ETA", number()),
    ] = None,
    halvings: Annotated[int, option("of the learning rate", "K", whole(5, 40))] = 12,
    no_alignment: Annotated[bool, option("leave out g+.g- after the updates, the greater part of the work")] = False,
    attribution: Annotated[
        float | None, option("also take the gap at this rate apart by its causes", "ETA", number())
    ] = None,
    out: Annotated[Path | None, option("JSON to write", "FILE")] = None,
) -> int:
    """One update both ways, predicted and measured."""
    if not (folder / CONFIG).is_file():
        raise CallError(f"{folder} must be a run's folder, with {CONFIG} and checkpoints/.")

    from console.progress import progress, waiting
    from console.terminal import Terminal

    with waiting("loading JAX"):
        from experiments import comparison
        from experiments.training import distributed

    distributed.join(None, None, None)
    terminal = Terminal()
    with call_errors(ValueError, TypeError, FloatingPointError):
        run_config = config.from_json(files.read_object(folder / CONFIG))
        name = optimizer or run_config.arm.optimizer
        if imported.is_path(name):
            name = str(imported.parse(name))
        elif name not in OPTIMIZERS and optimizer is None:
            raise ValueError(f"--optimizer must be given for a run of {name}: one of {', '.join(OPTIMIZERS)}.")
        elif name not in OPTIMIZERS:
            raise ValueError(f"--optimizer {must_be_one_of(OPTIMIZERS, name)}")
        file_name = name.translate(arms.FOLDER)
        path = out or folder / f"twin-{file_name}.json"
        setup = comparison.load_setup(run_config, folder, name, update, pairs, rate, word, progress)

        def report(result: "Twin") -> None:
            _report(terminal, result)
            files.write_object(path, result.model_dump(), indent=1)

        result = comparison.compare(
            setup,
            largest=largest,
            num_halvings=halvings,
            has_alignment=not no_alignment,
            show=progress,
            on_gap=report,
        )
        files.write_object(path, result.model_dump(), indent=1)
        print(f"wrote {path}")
        if attribution:
            with waiting("the gap by its causes"):
                causes = comparison.attribute(setup, attribution)
            terminal.print(f"the gap at eta {attribution:g} by its causes: norm, share of the gap")
            for row in causes.rows:
                terminal.print(f"  {row.cause:<16} {row.norm:10.3e} {row.share:8.1%}")
            path = path.with_name(f"attribution-{file_name}.json")
            files.write_object(path, causes.model_dump(), indent=1)
            print(f"wrote {path}")
    return 1 if any(fit.is_refuted for fit in result.fits.values()) else 0


def _report(terminal: "Terminal", twin: "Twin") -> None:
    from console.terminal import table

    terminal.print(
        f"{twin.model} after {twin.update} updates, {twin.optimizer}: sequential {twin.schedule} at {twin.rate} minus "
        "accumulated; norms"
    )
    columns = {
        "eta": "learning_rates",
        "gap": "gap",
        "first": "first",
        "second": "second",
        "rest after 1": "remainder_first",
        "after 2": "remainder_second",
        "cosine": "cosine",
    }
    numbers = zip(*(getattr(twin, key) for key in columns.values()), strict=True)
    rows = [(*(f"{value:.2e}" for value in row[:-1]), f"{row[-1]:.4f}") for row in numbers]
    terminal.print(table(numbers=list(columns), rows=rows, gap=1))
    for order, fit in enumerate(twin.fits.values(), start=1):
        exponent = "-" if fit.order is None else f"{fit.order:.3f}"
        reason = f" ({fit.reason})" if fit.reason else ""
        terminal.print(f"rest after order {order}: eta^{exponent}, theory {fit.theory}: {fit.verdict}{reason}")
