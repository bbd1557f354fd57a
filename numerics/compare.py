"""`python -m numerics.compare`: predicted against measured drift on a problem, an optimizer and a schedule."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from console.command import Parser, nearest, output_path, run, write
from console.progress import progress, restored_cursor, waiting
from console.values import number, whole

if TYPE_CHECKING:
    from rich.console import RenderableType

    from numerics.averages import RandomOrder
    from numerics.comparison import Comparison
    from numerics.losses import Losses
    from numerics.order import Fit
    from numerics.schedules import Schedule

__all__ = ["FRAMES", "OPTIMIZERS", "PROBLEMS", "RANDOM", "SCHEDULES", "main", "schedule_named"]

# Named here so that --help and a typo are answered without JAX; a test compares them with the modules that know.
PROBLEMS = (
    *("quadratic", "commuting-quadratic", "polynomial", "logistic", "softmax", "bandit", "ratio-bandit"),
    *("mlp", "transformer"),
)
OPTIMIZERS = ("sgd", "heavy-ball", "nesterov", "adam", "adamw", "clipped-sgd", "clipped-adamw")
FRAMES = ("accumulated", "pair-accumulated", "gradient-flow", "start")
FIXED = ("minus-first", "plus-first", "blocks", "reversed", "palindrome")
RANDOM = {
    "random-start": ("fixed", "random"),
    "shuffled-pairs": ("joint", "-"),
    "shuffled-random-start": ("joint", "random"),
    "independent-sides": ("independent", "-"),
    "reshuffling": ("all", None),
}
SCHEDULES = (*FIXED, *RANDOM)
PLOT_SUFFIXES = (".pdf", ".png", ".svg")

_SAYS = {
    "accumulated": "one update on everything",
    "pair-accumulated": "one update for every two steps",
    "gradient-flow": "the gradient flow of the same losses for the same time",
    "start": "nothing",
}
_EPILOG = """\
The drift is the displacement of sequential updates minus that of the frame:
  accumulated        one update on everything, all gradients read at the start
  pair-accumulated   one accumulated update for every two steps
  gradient-flow      the flow of the same losses; for gradient descent only
  start              nothing: the displacement itself
The remainder after the prediction through order p must shrink like step^(p+1).

schedules over n pairs of losses (-1 +1), ... (-n +n):
  minus-first        -1 +1 -2 +2 ...           plus-first   +1 -1 +2 -2 ...
  blocks             -1 -2 ... +1 +2 ...       reversed     ... +2 -2 +1 -1
  palindrome         minus-first, and back     a word       --schedule=-++-
and, as exact means over all their words (up to about half a million):
  random-start            minus-first or plus-first, by one coin
  shuffled-pairs          pairs in random order, - first (the post's eq. 1)
  shuffled-random-start   the same, and a coin (the post's boxed term)
  independent-sides       each side in a random order of its own, - first
  reshuffling             all losses in random order

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


def _one_of(known: Sequence[str], also: str = "") -> Callable[[str], str]:
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
    add("--problem", type=_one_of(PROBLEMS), metavar="NAME", help=f"{', '.join(PROBLEMS)} (default: mlp)")
    add("--opposite", action="store_true", help="L- is the negative of the function that L+ is, on other data")
    add(
        "--optimizer",
        type=_one_of(OPTIMIZERS, "options"),
        metavar="NAME[:OPTION=X,...]",
        help=f"{', '.join(OPTIMIZERS)} (default: sgd); options as in Optax: momentum, b1, b2, eps, eps_root, ...",
    )
    add("--schedule", type=_one_of(SCHEDULES, "word"), metavar="NAME|WORD", help="below (default: minus-first)")
    add("--scales", type=_scales, metavar="X,X,...", help="a size for each step of the schedule (default: 1)")
    add("--pairs", type=whole(1), default=2, metavar="N", help="pairs of losses (default: 2)")
    add("--frame", type=_one_of(FRAMES), default="accumulated", metavar="NAME", help="default: accumulated")
    add("--order", type=int, choices=(1, 2, 3), default=2, help="the order of the prediction shown (default: 2)")
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


def schedule_named(name: str, losses: "Losses") -> "Schedule | RandomOrder":
    """The schedule, or the random order, that a name or a word of the command line means.

    Raises:
        ValueError: If it is neither.
    """
    from numerics import schedules  # noqa: PLC0415
    from numerics.averages import RandomOrder  # noqa: PLC0415
    from numerics.losses import Losses  # noqa: PLC0415

    if not isinstance(name, str):
        raise TypeError(f"name must be that of a schedule, or a word; got {name!r}.")
    if not isinstance(losses, Losses):
        raise TypeError(f"losses must be a losses.Losses; got {type(losses).__name__}.")
    num_pairs = losses.num_pairs
    interleaved = schedules.interleaved(num_pairs, first="-")
    match name:
        case "minus-first":
            return interleaved
        case "plus-first":
            return schedules.interleaved(num_pairs, first="+")
        case "blocks":
            return schedules.blocks(num_pairs, first="-")
        case "reversed":
            return schedules.reverse(interleaved)
        case "palindrome":
            return schedules.palindrome(interleaved)
        case _ if name in RANDOM:
            return RandomOrder(*RANDOM[name])  # type: ignore[arg-type]
        case _:
            return schedules.word(name, losses.names, losses.counts)


def _compared(options: argparse.Namespace, problem: str, optimizer: str, schedule: str) -> "Comparison":
    from numerics import comparison, optimizers, problems, schedules  # noqa: PLC0415

    made = problems.make(problem, options.pairs, seed=options.seed, is_opposite=options.opposite, dtype=options.dtype)
    order = schedule_named(schedule, made.losses)
    if options.scales is not None:
        if not isinstance(order, schedules.Schedule):
            raise ValueError(f"--scales must go with a single word; got {schedule}, which is a mean over many.")
        order = schedules.with_scales(order, options.scales)
    return comparison.compare(
        made.losses,
        order,
        optimizers.parse(optimizer),
        made.params,
        frame=options.frame,
        largest_step=options.largest_step,
        num_halvings=options.halvings,
    )


# What is shown --------------------------------------------------------------------------------------------------------


def _outcome(fit: "Fit") -> str:
    match fit.verdict:
        case "met":
            return "pass"
        case "exact":
            return "pass: exact to round-off"
        case "missed":
            return "FAIL: the order is missed"
        case _:
            return f"not resolved: {fit.reason}"


def _order_text(fit: "Fit") -> str:
    return "" if fit.order is None else f"{fit.order:.4f} +- {fit.half_width:.4f}"


def _table(comparison: "Comparison", order: int) -> "RenderableType":
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("step size", "|measured|", f"|predicted|, order {order}", "|remainder|", "slope"):
        table.add_column(heading, justify="right")
    fit = comparison.fits[order - 1]
    for i, size in enumerate(comparison.step_sizes):
        drowned = comparison.remainders[order - 1, i] <= comparison.round_off[i]
        slope = "round-off" if drowned else "" if fit.local[i] != fit.local[i] else f"{fit.local[i]:.3f}"
        table.add_row(
            f"{size:.3e}",
            f"{comparison.measured[i]:.4e}",
            f"{comparison.predicted[order - 1, i]:.4e}",
            f"{comparison.remainders[order - 1, i]:.4e}",
            slope,
            style="" if fit.used[i] else "dim",
        )
    return table


def _verdicts(comparison: "Comparison") -> Iterable[str]:
    for order, fit in enumerate(comparison.fits, start=1):
        found = f"step^{_order_text(fit)}, " if fit.order is not None else ""
        yield f"remainder after order {order}: {found}theory {fit.theory}: {_outcome(fit)}"
    if comparison.kink is not None:
        low, high = comparison.kink
        yield (
            f"The update map is not smooth between step sizes {low:.3g} and {high:.3g}: a clip at its threshold, an "
            "Adam whose eps is small beside a gradient that changes sign, a loss with a kink, or an overflow. "
            "Orders are fitted below; there is no expansion beyond."
        )


def _described(options: argparse.Namespace, problem: str, optimizer: str, schedule: str) -> str:
    variant = ", opposite" if options.opposite else ""
    return (
        f"{problem}{variant}, {options.pairs} pair{'s' * (options.pairs > 1)}, {optimizer}, {schedule}, "
        f"{options.dtype}, seed {options.seed}"
    )


def _as_data(comparison: "Comparison") -> dict[str, object]:
    def finite(value: float | None) -> float | None:
        return value if value is not None and isfinite(value) else None

    def numbers(values: Iterable[float]) -> list[float | None]:
        return [finite(float(value)) for value in values]

    return {
        "frame": comparison.frame,
        "step_sizes": numbers(comparison.step_sizes),
        "measured": numbers(comparison.measured),
        "is_resolved": list(comparison.is_resolved),
        "round_off": numbers(comparison.round_off),
        "kink": comparison.kink,
        "orders": [
            {
                "order": order,
                "predicted": numbers(comparison.predicted[order - 1]),
                "remainders": numbers(comparison.remainders[order - 1]),
                "theory": fit.theory,
                "fitted": finite(fit.order),
                "half_width": finite(fit.half_width),
                "used": list(fit.used),
                "verdict": fit.verdict,
                "reason": fit.reason,
            }
            for order, fit in enumerate(comparison.fits, start=1)
        ],
    }


# The command ----------------------------------------------------------------------------------------------------------


def _sweep(options: argparse.Namespace, is_quiet: bool) -> tuple[list[dict[str, object]], int]:
    """Every combination of what is not given; the results as data, and how many orders were missed."""
    import jax  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415

    chosen = [
        [given] if given is not None else list(known)
        for given, known in (
            (options.problem, PROBLEMS),
            (options.optimizer, OPTIMIZERS if options.frame != "gradient-flow" else ("sgd",)),
            (options.schedule, SCHEDULES),
        )
    ]
    cases = [(p, o, s) for p in chosen[0] for o in chosen[1] for s in chosen[2]]
    results: list[dict[str, object]] = []
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("problem", "optimizer", "schedule", "1", "2", "3"):
        table.add_column(heading, no_wrap=True)
    num_missed = num_unresolved = 0
    with progress("comparing", len(cases), "comparisons") as advance:
        for previous, case in pairwise([("", "", ""), *cases]):
            if previous[:2] != case[:2]:
                # Compiled programs are memory maps, of which a process may have 65,530 (vm.max_map_count on Linux).
                jax.clear_caches()
            advance(len(results), " ".join(case))
            comparison = _compared(options, *case)
            num_missed += sum(fit.is_refuted for fit in comparison.fits)
            num_unresolved += sum(fit.verdict == "not resolved" for fit in comparison.fits)
            results.append(
                {**dict(zip(("problem", "optimizer", "schedule"), case, strict=True)), **_as_data(comparison)}
            )
            marks = {"met": "", "exact": "exact", "missed": "FAIL", "not resolved": "?"}
            cells = [marks[fit.verdict] or f"{fit.order:.2f}" for fit in comparison.fits]
            table.add_row(
                *case, *(f"{c} FAIL" if f.is_refuted else c for c, f in zip(cells, comparison.fits, strict=True))
            )
            advance(len(results))
    if not is_quiet:
        terminal = Terminal(soft_wrap=True, highlight=False)
        terminal.print(table)
        terminal.print(
            "Order of the remainder after predictions of order 1, 2, 3; theory 2, 3, 4.\n"
            f"Frame: {options.frame} ({_SAYS[options.frame]}).\n"
            f"{len(results)} comparisons, {num_missed} orders missed, {num_unresolved} not resolved (?)."
        )
    return results, num_missed


def _single(options: argparse.Namespace, is_quiet: bool) -> tuple[list[dict[str, object]], int]:
    from console.terminal import Terminal  # noqa: PLC0415

    case = options.problem or "mlp", options.optimizer or "sgd", options.schedule or "minus-first"
    with waiting(f"comparing {' '.join(case)}"):
        comparison = _compared(options, *case)
    if not is_quiet:
        terminal = Terminal(highlight=False)
        terminal.print(_described(options, *case), soft_wrap=True)
        terminal.print(f"drift relative to: {options.frame} ({_SAYS[options.frame]})\n", soft_wrap=True)
        terminal.width = max(terminal.width, 80)  # a number that is cut short is another number
        terminal.print(_table(comparison, options.order), soft_wrap=True)
        terminal.print()
        for line in _verdicts(comparison):
            terminal.print(line, soft_wrap=not terminal.is_terminal)
    if options.plot:
        from numerics import figures  # noqa: PLC0415

        with waiting("drawing"):
            figure = figures.drawn(comparison, _described(options, *case))
            content = figures.rendered(figure, options.plot.suffix)
        write(options.plot, content)
        if not is_quiet:
            print(f"wrote {options.plot}")
    names = dict(zip(("problem", "optimizer", "schedule"), case, strict=True))
    return [{**names, **_as_data(comparison)}], sum(fit.is_refuted for fit in comparison.fits)


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

        if options.plot:
            import_module("matplotlib")  # what is missing is missed now, not after the work

    jax.config.update("jax_enable_x64", options.dtype == "float64")
    # The problems here are so small that nearly all the time goes into compiling.
    jax.config.update("jax_disable_most_optimizations", True)
    is_quiet = options.json is not None and str(options.json) == "-"
    try:
        results, num_missed = (_sweep if options.sweep else _single)(options, is_quiet)
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
