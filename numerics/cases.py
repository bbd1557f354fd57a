"""Cases of the command: a problem, an optimizer and a schedule by name, compared, printed and written."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from math import isfinite
from operator import itemgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jax
from rich.table import Table

from console import cluster as clusters
from console.cluster import NO_CLUSTER, Cluster
from console.output import write
from console.progress import progress, waiting
from console.terminal import Terminal, plain_table, table
from numerics import checks, imported, optimizers, problems, schedules
from numerics.catalogue import FRAMES, NAMED_OPTIMIZERS, PROBLEMS, RANDOM, SCHEDULES
from numerics.comparison import Comparison, compare
from numerics.epoch import Epoch
from numerics.losses import Losses
from numerics.random_schedules import RandomSchedule
from numerics.schedules import Schedule

if TYPE_CHECKING:
    from numerics.compare import Options

__all__ = ["comparisons", "configure", "schedule_named", "single", "sweep"]


def configure(dtype: str) -> None:
    """Sets JAX as the comparisons want it, in the process that makes them."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    # The problems here are so small that nearly all the time goes into compiling.
    jax.config.update("jax_disable_most_optimizations", True)


def schedule_named(name: str, losses: Losses) -> Schedule | RandomSchedule:
    """The schedule, or the random schedule, of a name or a word of the command line.

    Raises:
        ValueError: If it is neither.
    """
    checks.require(isinstance(name, str), "name", "be that of a schedule, or a word", name)
    checks.instance("losses", losses, Losses)
    if name in RANDOM:
        return RandomSchedule(RANDOM[name].pairs, RANDOM[name].start)  # type: ignore[arg-type]
    minus_first = schedules.interleaved(losses.num_pairs, first="-")
    fixed = {
        "minus-first": minus_first,
        "plus-first": schedules.interleaved(losses.num_pairs, first="+"),
        "blocks": schedules.blocks(losses.num_pairs, first="-"),
        "reversed": schedules.reverse(minus_first),
        "palindrome": schedules.palindrome(minus_first),
    }
    return fixed[name] if name in fixed else schedules.word(name, losses.names, losses.counts)


def _comparison(options: "Options", problem: str, optimizer: str, schedule: str) -> Comparison:
    params, losses = problems.make(
        problem, options.pairs, seed=options.seed, is_opposite=options.opposite, dtype=options.dtype
    )
    steps = schedule_named(schedule, losses)
    if options.scales is not None:
        if not isinstance(steps, schedules.Schedule):
            raise ValueError(f"--scales must go with a single word; got {schedule}, which is a mean over many.")
        if any(scale != 1 for scale in steps.scales):
            raise ValueError(f"--scales must be left out where the schedule has scales; got {schedule}.")
        steps = schedules.with_scales(steps, options.scales)
    is_path = imported.is_path(optimizer)
    rule = imported.build(imported.parse(optimizer), params) if is_path else optimizers.parse(optimizer)
    return compare(
        Epoch(losses, steps, rule, params),
        frame=options.frame,
        largest_step=options.largest_step,
        num_halvings=options.halvings,
    )


# Output ---------------------------------------------------------------------------------------------------------------


_OUTCOMES = {"met": "pass", "exact": "pass: exact to round-off", "missed": "FAIL: the order is missed"}


def _table(comparison: Comparison, order: int) -> Table:
    content = plain_table()
    for heading in ("step size", "|measured|", f"|predicted|, order {order}", "|remainder|", "slope"):
        content.add_column(heading, justify="right")
    fit = comparison.fits[order - 1]
    for i, size in enumerate(comparison.step_sizes):
        drowned = comparison.remainders[order - 1, i] <= comparison.round_off[i]
        slope = "round-off" if drowned else "" if fit.local[i] != fit.local[i] else f"{fit.local[i]:.3f}"
        content.add_row(
            f"{size:.3e}",
            f"{comparison.measured[i]:.4e}",
            f"{comparison.predicted[order - 1, i]:.4e}",
            f"{comparison.remainders[order - 1, i]:.4e}",
            slope,
            style="" if fit.used[i] else "dim",
        )
    return content


def _verdicts(comparison: Comparison) -> Iterable[str]:
    for order, fit in enumerate(comparison.fits, start=1):
        slope = "" if fit.order is None else f"step^{fit.order:.4f} +- {fit.half_width:.4f}, "
        outcome = _OUTCOMES.get(fit.verdict, f"not resolved: {fit.reason}")
        yield f"remainder after order {order}: {slope}theory {fit.theory}: {outcome}"
    if comparison.kink is not None:
        low, high = comparison.kink
        yield (
            f"The update map is not smooth between step sizes {low:.3g} and {high:.3g}: a clip at its threshold, an "
            "Adam whose eps is small beside a gradient that changes sign, a loss with a kink, or an overflow. "
            "Orders are fitted below; there is no expansion beyond."
        )


def _title(options: "Options", problem: str, optimizer: str, schedule: str) -> str:
    variant = ", opposite" if options.opposite else ""
    return (
        f"{problem}{variant}, {options.pairs} pair{'s' * (options.pairs > 1)}, {optimizer}, {schedule}, "
        f"{options.dtype}, seed {options.seed}"
    )


def _as_data(comparison: Comparison) -> dict[str, object]:
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


_Case = tuple[str, str, str]


def _in_turn(options: "Options", cases: Sequence[_Case], advance: Callable[..., None]) -> Iterator[Comparison]:
    for number, (previous, case) in enumerate(pairwise([("", "", ""), *cases])):
        if previous[:2] != case[:2]:
            # Compiled programs are memory maps, of which a process may have 65,530 (vm.max_map_count on Linux).
            jax.clear_caches()
        advance(number, " ".join(case))
        yield _comparison(options, *case)


def _from_cluster(
    options: "Options", cases: Sequence[_Case], cluster: Cluster, advance: Callable[..., None]
) -> list[Comparison]:
    """The comparisons in the order of their cases; those of one problem and one optimizer are one cell."""
    plain = SimpleNamespace(**vars(options))  # the class may be that of a program, which no other process can import
    cells = {cell: (plain, list(group)) for cell, group in groupby(cases, itemgetter(0, 1))}
    made: dict[object, list[Comparison]] = {}
    for cell, result in clusters.results(f"{__name__}:{comparisons.__name__}", cells, cluster):
        if isinstance(result, Exception):
            raise result
        assert isinstance(result, list)
        made[cell] = result
        advance(sum(map(len, made.values())), " ".join(cell))
    return [comparison for cell in cells for comparison in made[cell]]


def comparisons(options: Any, cases: Sequence[_Case]) -> list[Comparison]:  # noqa: ANN401  # the options, however they came
    """The comparisons of some cases, in a process of a cluster."""
    configure(options.dtype)
    return list(_in_turn(options, cases, lambda *_: None))


# Commands -------------------------------------------------------------------------------------------------------------


def sweep(options: "Options", is_quiet: bool, cluster: Cluster = NO_CLUSTER) -> tuple[list[dict[str, object]], int]:
    """Every combination of the options that are left out: the results as data, and the number of missed orders.

    Args:
        options: The options of the command.
        is_quiet: Whether nothing is printed.
        cluster: The cluster, if they are to be computed on one.

    Raises:
        ChildProcessError: If a process of the cluster was lost again and again.
        KeyboardInterrupt: If the user ends the work of the cluster.
        ValueError: If a case cannot be compared.
    """
    chosen = [
        [choice] if choice is not None else list(known)
        for choice, known in (
            (options.problem, PROBLEMS),
            (options.optimizer, NAMED_OPTIMIZERS if options.frame != "gradient-flow" else ("sgd",)),
            (options.schedule, SCHEDULES),
        )
    ]
    cases = [(p, o, s) for p in chosen[0] for o in chosen[1] for s in chosen[2]]
    results: list[dict[str, object]] = []
    content = table("problem", "optimizer", "schedule", "1", "2", "3")
    num_missed = num_unresolved = 0
    with progress("comparing", len(cases), "comparisons") as advance:
        made = _from_cluster(options, cases, cluster, advance) if cluster.ray else _in_turn(options, cases, advance)
        for case, comparison in zip(cases, made, strict=True):
            num_missed += sum(fit.is_refuted for fit in comparison.fits)
            num_unresolved += sum(fit.verdict == "not resolved" for fit in comparison.fits)
            results.append(
                {**dict(zip(("problem", "optimizer", "schedule"), case, strict=True)), **_as_data(comparison)}
            )
            marks = {"met": "", "exact": "exact", "missed": "FAIL", "not resolved": "?"}
            cells = [marks[fit.verdict] or f"{fit.order:.2f}" for fit in comparison.fits]
            content.add_row(
                *case, *(f"{c} FAIL" if f.is_refuted else c for c, f in zip(cells, comparison.fits, strict=True))
            )
            if not cluster.ray:
                advance(len(results))
    if not is_quiet:
        terminal = Terminal(soft_wrap=True)
        terminal.print(content)
        terminal.print(
            "Order of the remainder after predictions of order 1, 2, 3; theory 2, 3, 4.\n"
            f"Frame: {options.frame} ({FRAMES[options.frame]}).\n"
            f"{len(results)} comparisons, {num_missed} orders missed, {num_unresolved} not resolved (?)."
        )
    return results, num_missed


def single(options: "Options", is_quiet: bool) -> tuple[list[dict[str, object]], int]:
    """One comparison, printed and drawn: the results as data, and the number of missed orders."""
    case = options.problem or "mlp", options.optimizer or "sgd", options.schedule or "minus-first"
    with waiting(f"comparing {' '.join(case)}"):
        comparison = _comparison(options, *case)
    if not is_quiet:
        terminal = Terminal()
        terminal.print(_title(options, *case), soft_wrap=True)
        terminal.print(f"drift relative to: {options.frame} ({FRAMES[options.frame]})\n", soft_wrap=True)
        terminal.width = max(terminal.width, 80)  # a number that is cut short is another number
        terminal.print(_table(comparison, options.order), soft_wrap=True)
        terminal.print()
        for line in _verdicts(comparison):
            terminal.print(line, soft_wrap=not terminal.is_terminal)
    if options.plot:
        from console.figures import render  # noqa: PLC0415  # Matplotlib is slow to load
        from numerics import figures  # noqa: PLC0415

        with waiting("drawing"):
            figure = figures.draw(comparison, _title(options, *case))
            content = render(figure, options.plot.suffix)
        write(options.plot, content)
        if not is_quiet:
            print(f"wrote {options.plot}")
    names = dict(zip(("problem", "optimizer", "schedule"), case, strict=True))
    return [{**names, **_as_data(comparison)}], sum(fit.is_refuted for fit in comparison.fits)
