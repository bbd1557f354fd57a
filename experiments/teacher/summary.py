"""The summary of a run for a terminal: requests, verdicts, tokens, costs, and the problems without a solution."""

from collections.abc import Callable, Iterator, Sequence
from typing import get_args

from rich.table import Table

from experiments.teacher.settings import Settings
from experiments.teacher.solutions import VERDICTS, Attempt, Outcome, Run, State

__all__ = ["Prices", "remarks", "table"]

Prices = tuple[float, float]
"""Of a million prompt tokens, and of a million completion tokens."""

_MOST_IDS = 20  # of problems in a remark: about four lines of a terminal


def table(run: Run, prices: Prices | None) -> Table:
    """The counts of a run; without prices its cost is left open."""
    counts = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("", "this run", "from cache", "both"):
        counts.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in _rows(run.outcomes, prices):
        counts.add_row(*row)
    return counts


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
    if errors and not any(error.ends == "run" for error in errors):
        yield f"the last that was given up: {errors[-1]}"


def _rows(outcomes: Sequence[Outcome], prices: Prices | None) -> Iterator[tuple[str, ...]]:
    """The name of a count, then the count in this run, from the cache, and in both."""
    attempts = [attempt for outcome in outcomes for attempt in outcome.attempts]
    parts = ([a for a in attempts if a.num_sent], [a for a in attempts if not a.num_sent], attempts)

    def row(name: str, value: Callable[[Sequence[Attempt]], object]) -> tuple[str, ...]:
        return name, *(str(value(part)) for part in parts)

    num_sent = sum(outcome.num_sent for outcome in outcomes)
    num_first = len(parts[0]) + sum(outcome.error is not None and outcome.error.num_sent > 0 for outcome in outcomes)
    yield "requests sent", str(num_sent), "", ""
    yield "  of these tried again", str(num_sent - num_first), "", ""
    yield row("answers", len)
    for verdict in VERDICTS:
        yield row(f"  {verdict}", lambda part, verdict=verdict: sum(a.verdict == verdict for a in part))
    yield row(
        "  right, without << >>",
        lambda part: sum(a.verdict == "right" and "<<" not in a.reply.answer for a in part),
    )
    yield row("prompt tokens", lambda part: sum(a.reply.prompt_tokens or 0 for a in part))
    yield row("completion tokens", lambda part: sum(a.reply.completion_tokens or 0 for a in part))
    yield row("answers without a token count", lambda part: sum(map(_is_uncounted, part)))
    yield row("cost", lambda part: _cost(part, prices))


def _is_uncounted(attempt: Attempt) -> bool:
    return attempt.reply.prompt_tokens is None or attempt.reply.completion_tokens is None


def _cost(attempts: Sequence[Attempt], prices: Prices | None) -> str:
    if prices is None:
        return "price not given"
    millionths = sum(
        (attempt.reply.prompt_tokens or 0) * prices[0] + (attempt.reply.completion_tokens or 0) * prices[1]
        for attempt in attempts
    )
    return f"{'> ' * any(map(_is_uncounted, attempts))}{millionths / 1e6:.4f}"
