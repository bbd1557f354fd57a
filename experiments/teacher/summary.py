"""The summary of a run for a terminal: requests, verdicts, tokens, costs, and the problems without a solution."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

from experiments.teacher.settings import Settings
from experiments.teacher.solutions import Attempt, Outcome, Run, State, Verdict

__all__ = ["Prices", "remarks", "rows"]

Prices = tuple[float, float]
"""Of a million prompt tokens, and of a million completion tokens."""

_MOST_IDS = 20  # of problems in a remark: about four lines of a terminal
_UNCOUNTED = "answers without a token count"
_COUNTS = (
    "answers",
    *(f"  {verdict}" for verdict in get_args(Verdict)),
    "  right, without << >>",
    "prompt tokens",
    "completion tokens",
    _UNCOUNTED,
)


def rows(outcomes: Sequence[Outcome], prices: Prices | None) -> Iterator[tuple[str, ...]]:
    """The name of a count, then the count in this run, from the cache, and in both; no cost without prices."""
    attempts = [attempt for outcome in outcomes for attempt in outcome.attempts]
    sent = [attempt for attempt in attempts if attempt.num_sent]
    num_sent = sum(outcome.num_sent for outcome in outcomes)
    num_first = len(sent) + sum(outcome.error is not None and outcome.error.num_sent > 0 for outcome in outcomes)
    yield "requests sent", str(num_sent), "", ""
    yield "  of these tried again", str(num_sent - num_first), "", ""
    parts = [_total(sent), _total([attempt for attempt in attempts if not attempt.num_sent]), _total(attempts)]
    for name in _COUNTS:
        yield name, *(str(part[name]) for part in parts)
    yield "cost", *(_cost(part, prices) for part in parts)


def _total(attempts: Sequence[Attempt]) -> Counter[str]:
    total: Counter[str] = Counter()
    for reply, verdict, _ in attempts:
        total.update(["answers", f"  {verdict}"])
        total["  right, without << >>"] += verdict == "right" and "<<" not in reply.answer
        total["prompt tokens"] += reply.prompt_tokens or 0
        total["completion tokens"] += reply.completion_tokens or 0
        total[_UNCOUNTED] += None in (reply.prompt_tokens, reply.completion_tokens)
    return total


def _cost(total: Counter[str], prices: Prices | None) -> str:
    if prices is None:
        return "price not given"
    millionths = total["prompt tokens"] * prices[0] + total["completion tokens"] * prices[1]
    return f"{'> ' if total[_UNCOUNTED] else ''}{millionths / 1e6:.4f}"


def remarks(run: Run, settings: Settings, seconds: float) -> Iterator[str]:
    """The lines below the table: how many problems are solved, the others by their ids, answers that were too long."""
    ids = {name: [outcome.problem.id for outcome in run.outcomes if outcome.state == name] for name in get_args(State)}
    counts = ", ".join(f"{len(listed)} {name}" for name, listed in ids.items())
    yield f"\n{len(run.outcomes)} problems in {seconds:.1f} s: {counts}"
    for name, listed in ids.items():
        if listed and name != "solved":
            more = f" and {len(listed) - _MOST_IDS} more" if len(listed) > _MOST_IDS else ""
            yield f"{name}: {', '.join(listed[:_MOST_IDS])}{more}"
    replies = [attempt.reply for outcome in run.outcomes for attempt in outcome.attempts]
    long = [reply.is_spent for reply in replies if reply.ending == "limit"]
    if long:
        yield (
            f"too long for --max-tokens {settings.max_tokens} or the model: {len(long)} answers, {sum(long)} of them\n"
            "before they began, as reasoning counts. A higher limit asks every problem anew."
        )
    errors = [outcome.error for outcome in run.outcomes if outcome.error]
    if errors and run.failure is None:
        yield f"the last that was given up: {errors[-1]}"
