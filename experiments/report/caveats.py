"""Sentences about the limits of a set of runs; the data decide which of them hold."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from experiments.records import value
from experiments.report.run_folders import Arm, Run
from experiments.report.summary import PREFERRED, PRODUCTS, ends, listed

__all__ = ["Limit", "limits"]

_POST_PARAMETERS = 8_000_000_000  # Llama3-8B-Instruct
# Rates at which sequential gradient descent moves farther than an accumulated step on the mean.
_FARTHER = ("eta/sqrt2", "sqrt-rule")

_ADAPTIVE = {"adam": "Adam", "adamw": "AdamW"}  # divide by the root of a moment that the updates change


class Limit(NamedTuple):
    """One sentence; `id` names its rule."""

    id: str
    text: str


def limits(arms: Sequence[Arm]) -> list[Limit]:
    """The sentences that hold for these runs, in the order of the page."""
    runs = [run for arm in arms for run in arm.runs]
    return [
        *_of_seeds(arms),
        *_of_updates(runs),
        *_of_mixture(runs),
        *_of_model_and_data(runs),
        *_of_optimizers(arms),
        *_of_arms(arms),
        *_of_probe(runs),
        *_of_accuracy(arms),
        *_of_batch(arms),
    ]


def _of_seeds(arms: Sequence[Arm]) -> Iterator[Limit]:
    if single := [arm.label for arm in arms if len({run.seed for run in arm.runs}) == 1]:
        yield Limit(
            "one-seed",
            f"One seed of {listed(single)}: nothing tells what the arm does from what the order of its data does.",
        )
    if several := sorted({len(arm.runs) for arm in arms if len(arm.runs) > 1}):
        counts = listed([str(count) for count in several])
        yield Limit(
            "range", f"A band is the range of {counts} seeds, not a confidence interval; more seeds would widen it."
        )


def _of_updates(runs: Sequence[Run]) -> Iterator[Limit]:
    longest = max(runs, key=lambda run: run.last_update)
    examples = value(longest.updates[-1], "examples") or 0
    yield Limit(
        "updates",
        f"The longest run made {longest.last_update} updates on {examples:,.0f} examples; what comes later is not "
        "shown.",
    )
    if unfinished := [run.name for run in runs if run.state in ("unfinished", "stopped")]:
        yield Limit(
            "unfinished",
            f"Not finished: {listed(unfinished)}. Ends of such runs are compared with ends of longer ones.",
        )


def _of_mixture(runs: Sequence[Run]) -> Iterator[Limit]:
    plurals = {"preset": "presets", "model": "models", "data": "data", "learning_rate": "learning rates η"}
    values = {key: sorted({str(getattr(run.config, key)) for run in runs}) for key in plurals}
    if mixed := [f"{plurals[key]} ({', '.join(held)})" for key, held in values.items() if len(held) > 1]:
        yield Limit("mixed", f"Runs of different {listed(mixed)} are mixed: arms differ in more than their updates.")


def _of_model_and_data(runs: Sequence[Run]) -> Iterator[Limit]:
    sizes = {header.num_parameters or 0 for run in runs for header in run.headers}
    if small := sorted(size for size in sizes if 0 < size < _POST_PARAMETERS / 2):
        text = listed([f"{size / 1e6:,.3g} million" for size in small])
        yield Limit(
            "model-size", f"A model of {text} parameters; the post's has 8 billion. Neither size stands for the other."
        )
    if any(run.config.data == "generated" for run in runs):
        yield Limit(
            "generated", "The problems are generated, not GSM8K's: their language is poorer than that of people."
        )


def _of_optimizers(arms: Sequence[Arm]) -> Iterator[Limit]:
    optimizers = sorted({str(arm.config.optimizer) for arm in arms})
    adaptive = listed([_ADAPTIVE[name] for name in optimizers if name in _ADAPTIVE])
    if adaptive:
        yield Limit(
            "adamw",
            f"Under {adaptive} no rate makes sequential and accumulated updates agree at first order in every "
            "coordinate (claims lr-match and adamw-alternation): a difference between such arms need not be of "
            "second order.",
        )
    else:
        yield Limit(
            "no-adamw",
            f"No arm uses AdamW, the post's optimizer; what its normalisation does is not in {listed(optimizers)}.",
        )
    if all(name in _ADAPTIVE for name in optimizers):
        yield Limit(
            "only-adamw",
            f"Every arm uses {adaptive}: without sgd or frozen-adamw the normalisation is not told from order.",
        )


def _of_arms(arms: Sequence[Arm]) -> Iterator[Limit]:
    for kind in ("accumulated", "sequential"):
        if not any(getattr(arm.config, f"is_{kind}") for arm in arms):
            yield Limit(f"no-{kind}", f"No {kind} arm: there is nothing to compare with.")
    sequential = [arm.config for arm in arms if arm.config.is_sequential]
    for optimizer in sorted({str(config.optimizer) for config in sequential}):
        own = [config for config in sequential if str(config.optimizer) == optimizer]
        farther = sorted({str(config.rate) for config in own}.intersection(_FARTHER))
        if farther and not any(config.is_matched for config in own):
            yield Limit(
                "no-first-order-match",
                f"Sequential {optimizer} is shown at {listed(farther)} and not at eta/2: the first-order match is "
                "missing. At eta/sqrt2 sequential gradient descent moves √2 times as far as an accumulated step on "
                "the mean (claim lr-match).",
            )
    starts = sorted({"random" if config.start == "random" else config.word.lstrip("(")[0] for config in sequential})
    if starts and "random" not in starts:
        sides = listed([{"+": "the preferred", "-": "the dispreferred"}.get(start, start) for start in starts])
        yield Limit(
            "fixed-start",
            f"Sequential arms start with {sides} side, none at random: half of what order adds at second "
            "order is then a bracket, which the post's boxed term does not hold (claim fixed-start).",
        )


def _of_probe(runs: Sequence[Run]) -> Iterator[Limit]:
    needed = (PREFERRED, PRODUCTS["probe"])
    if missing := [run.name for run in runs if any(ends(run, name) is None for name in needed)]:
        yield Limit("no-probe", f"Without a probe of log-probabilities or of gradients: {listed(missing)}.")


def _of_accuracy(arms: Sequence[Arm]) -> Iterator[Limit]:
    last: dict[str, tuple[float, float]] = {}
    for arm in arms:
        if intervals := [interval for run in arm.runs if (interval := _last_interval(run)) is not None]:
            last[arm.label] = min(low for low, _ in intervals), max(high for _, high in intervals)
    pairs = list(combinations(last.items(), 2))
    overlapping = [f"{one} and {other}" for (one, (a, b)), (other, (c, d)) in pairs if a <= d and c <= b]
    if not last:
        yield Limit("no-accuracy", "Nothing was decoded: no accuracy is shown.")
    elif overlapping:
        which = "of all arms" if len(overlapping) == len(pairs) > 1 else f"of {'; '.join(overlapping)}"
        yield Limit(
            "accuracy", f"The 95 % intervals of the accuracy at the end overlap: those {which}. It does not rank these."
        )


def _last_interval(run: Run) -> tuple[float, float] | None:
    for row in reversed(run.updates):
        low, high = value(row, "accuracy.low"), value(row, "accuracy.high")
        if low is not None and high is not None:
            return low, high
    return None


def _of_batch(arms: Sequence[Arm]) -> Iterator[Limit]:
    runs = [run for arm in arms for run in arm.runs]
    measured = [run for run in runs if ends(run, PRODUCTS["batch"]) is not None]
    if not measured:
        return
    counts = listed(sorted({str(run.config.num_pairs) for run in measured}))
    is_estimated = any(ends(run, "probe_alignment.product_unbiased") is not None for run in runs)
    remedy = "The panel without bias leaves it out." if is_estimated else "No estimate without this bias was recorded."
    yield Limit(
        "batch-bias",
        "Where both sides of a batch come from the same problems, its inner product is biased by the covariance within "
        f"a pair over n, the number of pairs (here {counts}). {remedy}",
    )
    if sequential := [arm.label for arm in arms if arm.config.is_sequential]:
        yield Limit(
            "second-gradient",
            f"Inside an update of {listed(sequential)} the second gradient is read after the first step: the batch's "
            "numbers of different arms are not taken at the same parameters. Compare arms on the probe.",
        )
