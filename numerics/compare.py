"""`python -m numerics.compare`: predicted against measured drift on a problem, an optimizer and a schedule."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from console.command import Parser, nearest, output_path, run, write
from console.progress import restored_cursor, waiting
from console.values import number, whole
from numerics.catalogue import FIXED, FRAMES, NAMED_OPTIMIZERS, PROBLEMS, RANDOM, SCHEDULES, Frame

__all__ = ["main"]

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

schedules over n pairs of losses (-1 +1), ... (-n +n):
{_lines(FIXED)}
{_lines({"a word": "--schedule=-++-"})}
and, as exact means over all their words (up to about half a million):
{_lines({name: entry.meaning for name, entry in RANDOM.items()})}

examples:
  python -m numerics.compare --problem mlp --optimizer adamw --plot drift.pdf
  python -m numerics.compare --schedule shuffled-pairs --frame pair-accumulated
  python -m numerics.compare --optimizer adam:b2=0.99,eps_root=1e-4
  python -m numerics.compare --sweep --problem quadratic

exit status: 0, 1 where an order is missed, 2 for a call without an answer.
"""


def _scales(value: str) -> list[float]:
    return [number()(part) for part in value.split(",")]


def _plot_path(value: str) -> Path:
    path = output_path(value)
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {', '.join(PLOT_SUFFIXES)}; got {value}.")
    return path


def _one_of(known: Collection[str], also: str = "") -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value in known or (also == "word" and value and set(value) <= set("-+, ")):
            return value
        if also == "options" and value.partition(":")[0] in known:
            return value
        hint = nearest(value.partition(":")[0], known)
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(known)}; got {value}.{hint}")

    return parse


def _parser() -> Parser:
    parser = Parser("python -m numerics.compare", "Predicted against measured drift of real updates.", _EPILOG)
    add = parser.add_argument
    add("--problem", type=_one_of(PROBLEMS), metavar="NAME", help="below (default: mlp)")
    add("--opposite", action="store_true", help="L- is the negative of the function that L+ is, on other data")
    add(
        "--optimizer",
        type=_one_of(NAMED_OPTIMIZERS, "options"),
        metavar="NAME[:OPTION=X,...]",
        help="below (default: sgd); options as in Optax: momentum, b1, b2, eps, eps_root, ...",
    )
    add("--schedule", type=_one_of(SCHEDULES, "word"), metavar="NAME|WORD", help="below (default: minus-first)")
    add("--scales", type=_scales, metavar="X,X,...", help="a size for each step of the schedule (default: 1)")
    add("--pairs", type=whole(1), default=2, metavar="N", help="pairs of losses (default: 2)")
    add("--frame", type=_one_of(FRAMES), default="accumulated", metavar="NAME", help="default: accumulated")
    add("--order", type=int, choices=(1, 2, 3), default=2, help="the order of the prediction in the table (default: 2)")
    add("--dtype", type=_one_of(("float64", "float32")), default="float64", metavar="NAME", help="default: float64")
    add("--seed", type=whole(0), default=0, metavar="K", help="of the random problem (default: 0)")
    add("--largest-step", type=number(), metavar="X", help="the largest step size (default: from the prediction)")
    add(
        "--halvings",
        type=whole(5, 60),
        default=10,
        metavar="K",
        help="how often it is halved; no order is fitted to fewer than 5 (default: 10)",
    )
    add("--sweep", action="store_true", help="every problem x optimizer x schedule that is not given")
    add("--json", type=output_path, metavar="PATH", help="write everything as JSON; - for standard output")
    add("--plot", type=_plot_path, metavar="PATH", help="write a figure: .pdf, .png or .svg")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 where an order is missed, 2 for a call without an answer."""
    parser = _parser()
    options = parser.parse(arguments)
    if options.sweep and options.plot:
        parser.error("--plot must go with a single comparison; a sweep has hundreds.")
    if options.sweep and options.scales:
        parser.error("--scales must go with a single comparison; the schedules of a sweep differ in length.")
    if options.plot and options.json and options.plot.resolve() == options.json.resolve():
        parser.error(f"--plot and --json must name two files; got {options.plot} for both.")
    with waiting("loading JAX"):
        import jax  # noqa: PLC0415

        from numerics import cases  # noqa: PLC0415

        if options.plot:
            import_module("matplotlib")  # a missing package is missed now, not after the work

    jax.config.update("jax_enable_x64", options.dtype == "float64")
    # The problems here are so small that nearly all the time goes into compiling.
    jax.config.update("jax_disable_most_optimizations", True)
    is_quiet = options.json is not None and str(options.json) == "-"
    try:
        results, num_missed = (cases.sweep if options.sweep else cases.single)(options, is_quiet)
    except (ValueError, TypeError, FloatingPointError) as error:
        parser.error(str(error))
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


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _stop)
    sys.exit(run(main, "numerics"))
