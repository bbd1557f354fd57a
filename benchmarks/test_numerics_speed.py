"""What the predicted mean drift costs beside the epoch of real steps that it predicts; memory, and growth with size.

    python -m pytest benchmarks/test_numerics_speed.py

Times are compared inside one run only: what is compared runs in turn, round by round, and a ratio is the median over
the rounds, so that a busy machine slows down both. Nothing is asserted of a time; a table at the end of the run says
which limits were met. The figure goes to out/benchmarks/numerics_cost.svg.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from console.figures import render
from numerics import (
    averages,
    comparison,
    drift,
    losses,
    optimizers,
    problems,
    random_schedules,
    schedules,
    updates,
)
from numerics.catalogue import PROBLEMS
from numerics.epoch import Epoch
from numerics.problems import Problem
from numerics.random_schedules import RandomSchedule
from numerics.types import Order, Params

MAX_RATIO = 5.0  # predictions in units of the epoch that they predict
MAX_COMPILE = 10.0  # seconds, for the first comparison of a problem
MAX_HELP = 1.0  # seconds, for `--help`

FIGURE = Path(__file__).parents[1] / "out" / "benchmarks" / "numerics_cost.svg"
Dtype = Literal["float32", "float64"]

ORDER = RandomSchedule("joint", "random")
WIDTHS = (64, 256, 256, 64)  # 98,880 parameters
STEP_SIZE = 1e-3  # steps cost the same whatever their size, as long as nothing overflows


# The table at the end -------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """Median times over sizes."""

    axis: str
    name: str
    sizes: list[int]
    seconds: list[float]


@dataclass
class Summary:
    """What the tests found, by section, printed after everything else."""

    sections: dict[str, list[str]] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)

    def add(self, section: str, heading: str, *lines: str) -> None:
        self.sections.setdefault(section, [heading]).extend(lines)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_sep("=", "numerics: cost and limits", fullwidth=80)
        for section, lines in self.sections.items():
            terminalreporter.write_line(f"\n{section}", bold=True)
            for line in lines:
                terminalreporter.write_line(f"  {line}")


@pytest.fixture(scope="module")
def summary(request: pytest.FixtureRequest) -> Iterator[Summary]:
    results = Summary()
    request.config.pluginmanager.register(results, "numerics-speed-summary")
    yield results
    if results.curves:
        FIGURE.parent.mkdir(parents=True, exist_ok=True)
        FIGURE.write_bytes(render(drawn(results.curves), FIGURE.suffix))
        results.sections["cost against size"].append(f"figure: {'/'.join(FIGURE.parts[-3:])}")


@pytest.fixture(autouse=True, scope="module")
def float64() -> Iterator[None]:
    before = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]  # options are made at run time
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def verdict(value: float, limit: float) -> str:
    return "met" if value <= limit else "MISSED"


# Time -----------------------------------------------------------------------------------------------------------------


def seconds(function: Callable[[], object]) -> float:
    start = perf_counter()
    jax.block_until_ready(function())
    return perf_counter() - start


def in_turn(benchmark, functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The times of every function, one of each per round; what `benchmark` shows is the time of the last."""
    for function in functions.values():
        seconds(function)  # compiles
    times: dict[str, list[float]] = {name: [] for name in functions}
    *others, last = functions

    def before() -> None:
        for name in others:
            times[name].append(seconds(functions[name]))

    benchmark.pedantic(lambda: times[last].append(seconds(functions[last])), setup=before, rounds=rounds, iterations=1)
    benchmark.extra_info.update({name: median(values) for name, values in times.items()})
    return times


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    return median(a / b for a, b in zip(over, under, strict=True))


def perceptron(
    num_pairs: int, widths: tuple[int, ...], *, dtype: Dtype = "float64", num_examples: int = problems.NUM_EXAMPLES
) -> Problem:
    """The perceptron of `problems`, with batches of any size."""
    base = problems.make("mlp", num_pairs, seed=0, dtype=dtype, widths=widths)
    if num_examples == problems.NUM_EXAMPLES:
        return base
    random = np.random.default_rng(0)

    def stack() -> tuple[jax.Array, ...]:
        shapes = ((num_pairs, num_examples, width) for width in (widths[0], widths[-1]))
        return tuple(jnp.asarray(random.normal(size=shape), dtype) for shape in shapes)

    function = base.losses.functions[0]
    return Problem(base.params, losses.pairs(function, stack(), function, stack()))


def num_params(params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def predicted(problem: Problem) -> Params:
    return averages.closed_form(problem.losses, ORDER, problem.params, frame="accumulated")[1]


def stepped(problem: Problem) -> Params:
    schedule = schedules.interleaved(problem.losses.num_pairs, first="-")
    rule = optimizers.gradient_descent()
    return updates.sequential(Epoch(problem.losses, schedule, rule, problem.params), step_size=STEP_SIZE).displacement


# 1. Against the epoch that is predicted -------------------------------------------------------------------------------


@pytest.mark.benchmark(group="prediction of an epoch", disable_gc=True)
@pytest.mark.parametrize(("num_pairs", "num_examples"), [(256, problems.NUM_EXAMPLES), (64, 64)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prediction_against_epoch(benchmark, summary, dtype, num_pairs, num_examples):
    problem = perceptron(num_pairs, WIDTHS, dtype=dtype, num_examples=num_examples)
    functions = {
        "epoch": partial(stepped, problem),
        "terms": lambda: averages.terms(problem.losses, problem.params),
        "closed form": partial(predicted, problem),
    }
    times = in_turn(benchmark, functions, rounds=7)
    count = num_params(problem.params)
    for name in ("closed form", "terms"):
        result = ratio(times[name], times["epoch"])
        benchmark.extra_info[f"{name} / epoch"] = result
        summary.add(
            f"predicted mean drift against the epoch, {count:,} parameters",
            f"{'dtype':<8}{'pairs':>5}{'examples':>10}  {'epoch':>9}  {'prediction':<12}"
            f"{'time':>9}{'ratio':>6}{'limit':>6}",
            f"{dtype:<8}{num_pairs:>5}{num_examples:>10}  {1e3 * median(times['epoch']):>6.0f} ms  {name:<12}"
            f"{1e3 * median(times[name]):>6.0f} ms{result:>6.2f}{MAX_RATIO:>6.0f}  {verdict(result, MAX_RATIO)}",
        )


# 2. Memory ------------------------------------------------------------------------------------------------------------

NUM_PAIRS = (16, 64, 256)


def compiled_sizes(function: Callable[[Problem], object], num_pairs: int) -> tuple[int, int]:
    """Bytes beyond arguments and results, and bytes of the arguments."""
    problem = perceptron(num_pairs, WIDTHS, dtype="float32")
    analysis = jax.jit(function).lower(problem).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes, analysis.argument_size_in_bytes


@pytest.mark.benchmark(group="compilation for 16, 64 and 256 pairs, 98,880 parameters")
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("closed form", predicted),
        ("terms", lambda problem: averages.terms(problem.losses, problem.params)),
        ("epoch of steps", stepped),
    ],
    ids=["closed form", "terms", "epoch of steps"],
)
def test_memory(benchmark, summary, name, function):
    result = benchmark.pedantic(lambda: [compiled_sizes(function, n) for n in NUM_PAIRS], rounds=1, iterations=1)
    temporary, arguments = zip(*result, strict=True)
    benchmark.extra_info.update(num_pairs=NUM_PAIRS, temporary_bytes=temporary, argument_bytes=arguments)
    growth = (temporary[-1] - temporary[0]) / (arguments[-1] - arguments[0])
    section = "memory in MB, float32: temporary, of the compiled program | params and data"
    summary.add(
        section,
        f"{'n':<16}{''.join(f'{n:>14}' for n in NUM_PAIRS)}   per byte of data",
        f"{name:<16}"
        + "".join(f"{t / 1e6:>7.3f} |{a / 1e6:>5.2f}" for t, a in result)
        + f"{growth:>9.4f}  {'constant' if growth < 0.01 else 'GROWS'}",
    )


# 3. Against what one would write instead ------------------------------------------------------------------------------


@jax.jit
def dense(problem: Problem) -> Params:
    """sum over b of H_b (G - g_b) / 2, G the sum of all g_b, with every Hessian as a matrix."""
    flat, unflatten = ravel_pytree(problem.params)

    def value(at: jax.Array, number: jax.Array) -> jax.Array:
        return problem.losses.value(unflatten(at), number)

    numbers = jnp.arange(problem.losses.num_losses)
    gradients = jax.lax.map(lambda number: jax.grad(value)(flat, number), numbers)
    total = gradients.sum(axis=0)

    def add(correction: jax.Array, member: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        number, gradient = member
        return correction + jax.hessian(value)(flat, number) @ (total - gradient) / 2, None

    correction, _ = jax.lax.scan(add, jnp.zeros_like(flat), (numbers, gradients))
    return unflatten(correction)


@jax.jit
def enumerated(problem: Problem) -> Params:
    """The mean over all words of what `drift` says of each."""

    def of_word(schedule: schedules.Schedule) -> Params:
        return drift.closed_form(problem.losses, schedule, problem.params, frame="accumulated", order=2)[1]

    return averages.exact_mean(of_word, ORDER, problem.losses.num_pairs)


def assert_equal_to_round_off(first: Params, second: Params) -> None:
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * float(jnp.abs(b).max()))


INSTEAD = "against dense Hessians, and against enumeration of all words (float64)"
INSTEAD_HEADING = (
    f"{'instead':<16}{'parameters':>11}{'pairs':>7}{'words':>7}{'closed form':>15}{'instead':>12}{'ratio':>9}"
)


def compared(benchmark, summary, problem, name, function, rounds) -> None:
    assert_equal_to_round_off(predicted(problem), function(problem))
    times = in_turn(
        benchmark, {"instead": partial(function, problem), "closed form": partial(predicted, problem)}, rounds
    )
    result = ratio(times["instead"], times["closed form"])
    benchmark.extra_info["instead / closed form"] = result
    n = problem.losses.num_pairs
    words = random_schedules.num_words(ORDER, n) if name == "enumeration" else ""
    summary.add(
        INSTEAD,
        INSTEAD_HEADING,
        f"{name:<16}{num_params(problem.params):>11,}{n:>7}{words:>7}{1e3 * median(times['closed form']):>12.2f} ms"
        f"{1e3 * median(times['instead']):>9.2f} ms{result:>9.1f}",
    )


@pytest.mark.benchmark(group="closed form, where dense Hessians can be had", disable_gc=True)
@pytest.mark.parametrize("widths", [(8, 16, 16, 4), (8, 40, 40, 4)], ids=["about 500", "about 2,000 parameters"])
def test_dense_hessian(benchmark, summary, widths):
    compared(benchmark, summary, perceptron(4, widths), "dense Hessians", dense, rounds=3)


@pytest.mark.benchmark(group="closed form, where words can be enumerated", disable_gc=True)
@pytest.mark.parametrize("num_pairs", [2, 3, 4, 5])
def test_enumeration(benchmark, summary, num_pairs):
    compared(benchmark, summary, perceptron(num_pairs, (8, 40, 40, 4)), "enumeration", enumerated, rounds=7)


# 4. Growth ------------------------------------------------------------------------------------------------------------

COUNTS = (8, 32, 128, 512)
SMALL = (16, 64, 64, 16)


def against_pairs() -> dict[str, dict[int, Callable[[], object]]]:
    perceptrons = {n: perceptron(n, SMALL) for n in COUNTS}
    return {
        "mean drift": {n: partial(predicted, problem) for n, problem in perceptrons.items()},
        "epoch of steps": {n: partial(stepped, problem) for n, problem in perceptrons.items()},
    }


def against_steps() -> dict[str, dict[int, Callable[[], object]]]:
    """The same 16 losses over and over, so that nothing but the word grows."""
    small = perceptron(8, SMALL)
    words = {2 * k: schedules.steps(np.resize(np.arange(16), 2 * k)) for k in COUNTS}

    def one_word(order: Order, schedule: schedules.Schedule) -> Params:
        return drift.closed_form(small.losses, schedule, small.params, frame="accumulated", order=order)[-1]

    return {
        f"drift of a word, order {order}": {m: partial(one_word, order, word) for m, word in words.items()}
        for order in (2, 3)
    }


def against_params() -> dict[str, dict[int, Callable[[], object]]]:
    perceptrons = [perceptron(16, (8, width, width, 8)) for width in (24, 92, 166, 308, 540)]
    return {
        "mean drift": {num_params(problem.params): partial(predicted, problem) for problem in perceptrons},
        "epoch of steps": {num_params(problem.params): partial(stepped, problem) for problem in perceptrons},
    }


def exponent(sizes: Sequence[int], times: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


@pytest.mark.benchmark(group="every size of a row of the figure once", disable_gc=True)
@pytest.mark.parametrize(
    ("axis", "make"),
    [("pairs n", against_pairs), ("steps m", against_steps), ("parameters", against_params)],
    ids=["pairs", "steps", "parameters"],
)
def test_cost_against_size(benchmark, summary, axis, make):
    cases = {(name, size): function for name, row in make().items() for size, function in row.items()}
    for function in cases.values():
        seconds(function)
    times: dict[tuple[str, int], list[float]] = {case: [] for case in cases}

    def one_round() -> None:
        for case, function in cases.items():
            times[case].append(seconds(function))

    benchmark.pedantic(one_round, rounds=5, iterations=1)
    for name in dict.fromkeys(name for name, _ in cases):
        sizes = [size for row, size in cases if row == name]
        medians = [median(times[name, size]) for size in sizes]
        upper = len(sizes) // 2
        overall, late = exponent(sizes, medians), exponent(sizes[upper:], medians[upper:])
        summary.curves.append(Curve(axis, name, sizes, medians))
        benchmark.extra_info[name] = {"sizes": sizes, "seconds": medians, "exponent": overall, "upper half": late}
        summary.add(
            "cost against size",
            f"{'exponent of time in (linear: 1)':<32}{'sizes':>15}{'time in ms':>12}{'all':>6}{'upper half':>11}",
            f"{f'{axis}: {name}':<32}{f'{sizes[0]:,}..{sizes[-1]:,}':>15}"
            f"{f'{1e3 * medians[0]:.1f}..{1e3 * medians[-1]:.0f}':>12}{overall:>6.2f}{late:>11.2f}",
        )


def drawn(curves: Sequence[Curve]) -> Figure:
    """Time over size, one panel for each kind of size; dotted lines are proportional to the size."""
    axes_names = list(dict.fromkeys(curve.axis for curve in curves))
    figure = Figure(figsize=(3.2 * len(axes_names), 3.8), layout="constrained")
    panels = figure.subplots(1, len(axes_names), sharey=True, squeeze=False)[0]
    # Okabe and Ito's palette; markers differ too.
    styles = dict(
        zip(
            dict.fromkeys(curve.name for curve in curves),
            (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D")),
            strict=False,
        )
    )
    labelled = {}
    for axes, axis in zip(panels, axes_names, strict=True):
        for curve in (curve for curve in curves if curve.axis == axis):
            color, marker = styles[curve.name]
            sizes, milliseconds = np.array(curve.sizes), 1e3 * np.array(curve.seconds)
            (labelled[curve.name],) = axes.loglog(sizes, milliseconds, color=color, marker=marker, markersize=4)
            (labelled["proportional to size"],) = axes.loglog(
                sizes, milliseconds[-1] * sizes / sizes[-1], ":", color="0.5", linewidth=1, zorder=0
            )
        axes.set_xlabel(axis)
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("time [ms]")
    figure.legend(
        list(labelled.values()), list(labelled), loc="outside lower center", ncols=3, fontsize="small", frameon=False
    )
    figure.suptitle("Cost on perceptrons, float64: time over size", fontsize="medium")
    return figure


# 5. Waiting -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled_as_by_the_command() -> Iterator[None]:
    """As `python -m numerics.compare` sets it."""
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.mark.benchmark(group="first comparison, 2 pairs: compiles everything")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.usefixtures("compiled_as_by_the_command")
def test_first_comparison(benchmark, summary, problem, optimizer):
    case = problems.make(problem, 2, seed=0)
    schedule = schedules.interleaved(2, first="-")
    rule = optimizers.parse(optimizer)
    start, start_cpu = perf_counter(), process_time()
    benchmark.pedantic(
        lambda: comparison.compare(Epoch(case.losses, schedule, rule, case.params), frame="accumulated"),
        rounds=1,
        iterations=1,
    )
    wall, cpu = perf_counter() - start, process_time() - start_cpu
    benchmark.extra_info["cpu"] = cpu
    summary.add(
        "first comparison, 2 pairs, nothing compiled",
        f"{'problem':<22}{'optimizer':<12}{'CPU':>8}{'time':>8}{'limit':>8}",
        f"{problem:<22}{optimizer:<12}{cpu:>6.1f} s{wall:>6.1f} s{MAX_COMPILE:>6.0f} s  {verdict(wall, MAX_COMPILE)}",
    )


@pytest.mark.benchmark(group="python -m numerics.compare, whole process")
def test_help(benchmark, summary):
    times = []

    def answered() -> None:
        start = perf_counter()
        command = [sys.executable, "-m", "numerics.compare", "--help"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
        times.append(perf_counter() - start)

    benchmark.pedantic(answered, rounds=5, iterations=1)
    result = median(times)
    summary.add(
        "python -m numerics.compare --help, whole process",
        f"{'':<34}{'time':>8}{'limit':>8}",
        f"{'--help':<34}{result:>6.2f} s{MAX_HELP:>6.0f} s  {verdict(result, MAX_HELP)}",
    )
