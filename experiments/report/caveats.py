"""What a set of runs does not show, in sentences that depend on the data."""

from collections.abc import Sequence
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
    """The sentences that hold for these runs, in the order in which they are shown."""
    runs = [run for arm in arms for run in arm.runs]
    sentences: list[Limit | None] = [
        *_of_seeds(arms),
        _of_updates(runs),
        _of_ends(runs),
        _of_mixture(runs),
        _of_the_model(runs),
        _of_the_data(runs),
        *_of_the_optimizer(arms),
        *_of_the_arms(arms),
        _of_the_probe(runs),
        _of_accuracy(arms),
        _of_bias(runs),
        _of_places(arms),
    ]
    return [limit for limit in sentences if limit is not None]


def _of_seeds(arms: Sequence[Arm]) -> list[Limit | None]:
    single = [arm.label for arm in arms if len({run.seed for run in arm.runs}) == 1]
    several = sorted({len(arm.runs) for arm in arms if len(arm.runs) > 1})
    sentences: list[Limit | None] = []
    if single:
        sentences.append(
            Limit(
                "one-seed",
                f"One seed of {listed(single)}: nothing tells what the arm does from what the order of its data does.",
            )
        )
    if several:
        span = listed([str(count) for count in several])
        sentences.append(
            Limit(
                "range", f"A band is the range of {span} seeds, not a confidence interval; more seeds would widen it."
            )
        )
    return sentences


def _of_updates(runs: Sequence[Run]) -> Limit:
    most = max(runs, key=lambda run: run.last_update)
    examples = value(most.updates[-1], "examples") or 0
    return Limit(
        "updates",
        f"The longest run made {most.last_update} updates on {examples:,.0f} examples; what comes later is not shown.",
    )


def _of_ends(runs: Sequence[Run]) -> Limit | None:
    unfinished = [run.name for run in runs if run.state in ("unfinished", "stopped")]
    if not unfinished:
        return None
    return Limit(
        "unfinished", f"Not finished: {listed(unfinished)}. Ends of such runs are compared with ends of longer ones."
    )


def _of_mixture(runs: Sequence[Run]) -> Limit | None:
    names = {"preset": "presets", "model": "models", "data": "data", "learning_rate": "learning rates η"}
    mixed = [
        f"{plural} ({', '.join(sorted({str(getattr(run.config, key)) for run in runs}))})"
        for key, plural in names.items()
        if len({str(getattr(run.config, key)) for run in runs}) > 1
    ]
    if not mixed:
        return None
    return Limit("mixed", f"Runs of different {listed(mixed)} are mixed: arms differ in more than their updates.")


def _of_the_model(runs: Sequence[Run]) -> Limit | None:
    sizes = {
        size
        for run in runs
        for header in run.headers
        if (size := header.num_parameters) is not None and 0 < size < _POST_PARAMETERS / 2
    }
    if not sizes:
        return None
    text = listed([f"{size / 1e6:,.3g} million" for size in sorted(sizes)])
    return Limit(
        "model-size", f"A model of {text} parameters; the post's has 8 billion. Neither size stands for the other."
    )


def _of_the_data(runs: Sequence[Run]) -> Limit | None:
    if not any(run.config.data == "generated" for run in runs):
        return None
    return Limit("generated", "The problems are generated, not GSM8K's: their language is poorer than that of people.")


def _of_the_optimizer(arms: Sequence[Arm]) -> list[Limit | None]:
    used = sorted({str(arm.config.optimizer) for arm in arms})
    sentences: list[Limit | None] = []
    adaptive = [name for name in used if name in _ADAPTIVE]
    names = listed([_ADAPTIVE[name] for name in adaptive]) if adaptive else ""
    if adaptive:
        sentences.append(
            Limit(
                "adamw",
                f"Under {names} no rate makes sequential and accumulated updates agree at first order in every "
                "coordinate (claims lr-match and adamw-alternation): a difference between such arms need not be of "
                "second order.",
            )
        )
    else:
        sentences.append(
            Limit(
                "no-adamw",
                f"No arm uses AdamW, the post's optimizer; what its normalisation does is not in {listed(used)}.",
            )
        )
    if adaptive == used:
        sentences.append(
            Limit(
                "only-adamw",
                f"Every arm uses {names}: without sgd or frozen-adamw the normalisation is not told from order.",
            )
        )
    return sentences


def _of_the_arms(arms: Sequence[Arm]) -> list[Limit | None]:
    kinds = {str(arm.config.update) for arm in arms}
    sentences: list[Limit | None] = [
        Limit(f"no-{kind}", f"No {kind} arm: there is nothing to compare with.")
        for kind in ("accumulated", "sequential")
        if kind not in kinds
    ]
    sequential = [arm for arm in arms if str(arm.config.update) == "sequential"]
    for optimizer in sorted({str(arm.config.optimizer) for arm in sequential}):
        rates = {str(arm.config.rate) for arm in sequential if str(arm.config.optimizer) == optimizer}
        farther = sorted(rates.intersection(_FARTHER))
        if farther and "eta/2" not in rates:
            sentences.append(
                Limit(
                    "no-first-order-match",
                    f"Sequential {optimizer} is shown at {listed(farther)} and not at eta/2: the first-order match is "
                    "missing. At eta/sqrt2 sequential gradient descent moves √2 times as far as an accumulated step on "
                    "the mean (claim lr-match).",
                )
            )
    starts = sorted({str(arm.config.first) for arm in sequential})
    if sequential and "random" not in starts:
        sides = {"+": "the preferred", "-": "the dispreferred"}
        named = [sides.get(start, start) for start in starts]
        sentences.append(
            Limit(
                "fixed-start",
                f"Sequential arms start with {listed(named)} side, none at random: half of what order adds at second "
                "order is then a bracket, which the post's boxed term does not hold (claim fixed-start).",
            )
        )
    return sentences


def _of_the_probe(runs: Sequence[Run]) -> Limit | None:
    missing = [run.name for run in runs if ends(run, PREFERRED) is None or ends(run, PRODUCTS["probe"]) is None]
    if not missing:
        return None
    return Limit("no-probe", f"Without a probe of log-probabilities or of gradients: {listed(missing)}.")


def _of_accuracy(arms: Sequence[Arm]) -> Limit | None:
    last: dict[str, tuple[float, float]] = {}
    for arm in arms:
        intervals = [row for run in arm.runs if (row := _last_accuracy(run)) is not None]
        if intervals:
            last[arm.label] = min(low for low, _ in intervals), max(high for _, high in intervals)
    if not last:
        return Limit("no-accuracy", "Nothing was decoded: no accuracy is shown.")
    overlapping = [
        f"{one} and {other}" for (one, (a, b)), (other, (c, d)) in combinations(last.items(), 2) if a <= d and c <= b
    ]
    if not overlapping:
        return None
    num_all = len(last) * (len(last) - 1) // 2
    which = "of all arms" if len(overlapping) == num_all > 1 else f"of {'; '.join(overlapping)}"
    return Limit(
        "accuracy", f"The 95 % intervals of the accuracy at the end overlap: those {which}. It does not rank these."
    )


def _last_accuracy(run: Run) -> tuple[float, float] | None:
    for row in reversed(run.updates):
        low, high = value(row, "accuracy.low"), value(row, "accuracy.high")
        if low is not None and high is not None:
            return low, high
    return None


def _of_bias(runs: Sequence[Run]) -> Limit | None:
    counts = sorted({str(run.config.num_pairs) for run in runs if ends(run, PRODUCTS["batch"]) is not None})
    if not counts:
        return None
    unbiased = any(ends(run, "probe_alignment.product_unbiased") is not None for run in runs)
    remedy = " The panel without bias leaves it out." if unbiased else " No estimate without this bias was recorded."
    return Limit(
        "batch-bias",
        "Where both sides of a batch come from the same problems, its inner product is biased by the covariance within "
        f"a pair over n, the number of pairs (here {listed(counts)}).{remedy}",
    )


def _of_places(arms: Sequence[Arm]) -> Limit | None:
    sequential = [arm.label for arm in arms if str(arm.config.update) == "sequential"]
    if not sequential or all(ends(run, PRODUCTS["batch"]) is None for arm in arms for run in arm.runs):
        return None
    return Limit(
        "second-gradient",
        f"Inside an update of {listed(sequential)} the second gradient is read after the first step: the batch's "
        "numbers of different arms are not taken at the same parameters. Compare arms on the probe.",
    )
