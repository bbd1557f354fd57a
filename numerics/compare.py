"""`python -m numerics.compare`: predicted against measured drift on a problem, an optimizer and a schedule."""

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

from console import grammar
from console.cluster import NO_CLUSTER, Cluster, require
from console.command import CallError, FailureError, call, command, option, option_group, run
from console.output import write
from console.progress import restored_cursor, waiting
from console.values import number, one_of, output_path, whole
from console.words import must_be_one_of
from numerics import imported
from numerics.catalogue import FIXED, FRAMES, NAMED_OPTIMIZERS, PROBLEMS, RANDOM, SCHEDULES, Frame

__all__ = ["Options", "compare", "main"]

PLOT_SUFFIXES = (".pdf", ".png", ".svg")


def _lines(entries: Mapping[str, str] | Mapping[Frame, str]) -> str:
    return "\n".join(f"  {name:<23}{meaning}" for name, meaning in entries.items())


_EPILOG = f"""\
The drift is the displacement of sequential updates minus that of the frame:
{_lines(FRAMES)}
The flow is for gradient descent only.
The remainder after the prediction through order p must shrink like step^(p+1).

problems:
{_lines(PROBLEMS)}

optimizers:
{_lines({name: entry.meaning for name, entry in NAMED_OPTIMIZERS.items()})}
{_lines({"package.module.name": "any Optax rule by its import path (docs/rules.md)"})}

schedules over n pairs of losses (-1 +1), ... (-n +n):
{_lines(FIXED)}
{_lines({"a word": "-++-, or with brackets and scales: (-+)(-+:1/2)"})}
and, as exact means over all their words (up to about half a million):
{_lines({name: entry.meaning for name, entry in RANDOM.items()})}

examples:
  python -m numerics.compare --problem mlp --optimizer adamw --plot drift.pdf
  python -m numerics.compare --schedule shuffled-pairs --frame pair-accumulated
  python -m numerics.compare --optimizer adam:b2=0.99,eps_root=1e-4
  python -m numerics.compare --optimizer optax.lamb:weight_decay=0.01
  python -m numerics.compare --optimizer adamw --schedule "(-+)(-+)"
  python -m numerics.compare --sweep --problem quadratic
  python -m numerics.compare --sweep --ray               # on all CPUs

exit status: 0, 1 where an order is missed, 2 for a call without an answer.
"""


def _optimizer(value: str) -> str:
    if imported.is_path(value):
        try:
            return str(imported.parse(value))
        except ValueError as error:
            raise ValueError(str(error).removeprefix("optimizer ")) from None
    name = value.partition(":")[0]  # the options are read later, by `optimizers`
    if name not in NAMED_OPTIMIZERS:
        raise ValueError(f"{must_be_one_of(NAMED_OPTIMIZERS, name)} Or an import path, such as optax.lion.")
    return value


def _schedule(value: str) -> str:
    if value in SCHEDULES:
        return value
    if not value or not set(value) <= set("-+, ():./0123456789"):
        raise ValueError(f"{must_be_one_of(SCHEDULES, value)} Or a word of - and +.")
    try:
        grammar.parse(value)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("schedule ")) from None
    return value


def _scales(value: str) -> tuple[float, ...]:
    return tuple(number()(part) for part in value.split(","))


def _plot_path(value: str) -> Path:
    path = output_path(value)
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise ValueError(f"must end in {', '.join(PLOT_SUFFIXES)}; got {value}.")
    return path


@option_group
@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command."""

    problem: Annotated[str | None, option("below (default: mlp)", "NAME", one_of(PROBLEMS))] = None
    opposite: Annotated[bool, option("L- is the negative of the function that L+ is, on other data")] = False
    optimizer: Annotated[
        str | None,
        option(
            "below (default: sgd); options as in Optax: momentum, b1, b2, eps, eps_root, ...",
            "NAME[:OPTION=X,...]",
            _optimizer,
        ),
    ] = None
    schedule: Annotated[str | None, option("below (default: minus-first)", "NAME|WORD", _schedule)] = None
    scales: Annotated[
        tuple[float, ...] | None, option("a size for each step of the schedule (default: 1)", "X,X,...", _scales)
    ] = None
    pairs: Annotated[int, option("pairs of losses", "N", whole(1))] = 2
    frame: Annotated[Frame, option(metavar="NAME")] = "accumulated"
    order: Annotated[Literal[1, 2, 3], option("the order of the prediction in the table:", "P")] = 2
    dtype: Annotated[Literal["float64", "float32"], option(metavar="NAME")] = "float64"
    seed: Annotated[int, option("of the random problem", "K", whole(0))] = 0
    largest_step: Annotated[
        float | None, option("the largest step size (default: from the prediction)", "X", number())
    ] = None
    halvings: Annotated[
        int, option("how often it is halved; no order is fitted to fewer than 5", "K", whole(5, 60))
    ] = 10
    sweep: Annotated[bool, option("every problem x optimizer x schedule that is not given")] = False
    json: Annotated[Path | None, option("write everything as JSON; - for standard output", "PATH", output_path)] = None
    plot: Annotated[Path | None, option("write a figure: .pdf, .png or .svg", "PATH", _plot_path)] = None


@command("python -m numerics.compare", _EPILOG)
def compare(options: Options = Options(), cluster: Cluster = NO_CLUSTER) -> int:  # frozen
    """Predicted against measured drift of real updates."""
    if cluster.ray:
        if not options.sweep:
            raise CallError("--ray must go with --sweep; a single comparison is one process.")
        require(cluster)
    if options.sweep and options.plot:
        raise CallError("--plot must go with a single comparison; a sweep has hundreds.")
    if options.sweep and options.scales:
        raise CallError("--scales must go with a single comparison; the schedules of a sweep differ in length.")
    if options.plot and options.json and options.plot.resolve() == options.json.resolve():
        raise CallError(f"--plot and --json must name two files; got {options.plot} for both.")
    with waiting("loading JAX"):
        import jax  # noqa: PLC0415

        from numerics import cases  # noqa: PLC0415

        if options.plot:
            import_module("matplotlib")  # a missing package is missed now, not after the work

    cases.configure(options.dtype)
    is_quiet = options.json is not None and str(options.json) == "-"
    try:
        if options.sweep:
            results, num_missed = cases.sweep(options, is_quiet, cluster)
        else:
            results, num_missed = cases.single(options, is_quiet)
    except (ValueError, TypeError, FloatingPointError) as error:
        raise CallError(str(error)) from None
    except ChildProcessError as error:
        raise FailureError(str(error)) from None
    if options.json:
        settings = {key: getattr(options, key) for key in ("pairs", "opposite", "frame", "dtype", "seed", "scales")}
        content = {**settings, "jax": jax.__version__, "results": results}
        write(options.json, json.dumps(content, indent=2, allow_nan=False) + "\n")
        if not is_quiet:
            print(f"wrote {options.json}")
    return 1 if num_missed else 0


def _stop(signal_number: int, frame: object) -> None:
    """Ends at once: an exception may be raised where nobody can catch it, in a callback of the compiler's."""
    restored_cursor()
    print("Interrupted.", file=sys.stderr)
    sys.stderr.flush()
    os._exit(130)


main = partial(call, compare, extra="numerics")

if __name__ == "__main__":
    signal.signal(signal.SIGINT, _stop)
    sys.exit(run(main))
