"""`python -m experiments teacher`: right solutions to the problems of a data set, asked of a teacher and checked."""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from console.command import Parser, output_path, write
from console.values import number, one_of, output_folder, whole

if TYPE_CHECKING:
    from experiments.data.gsm8k import Problem
    from experiments.teacher.answer_store import Cache
    from experiments.teacher.asking import Attempt, Outcome, Settings

__all__ = ["main"]

SPLITS = ("train", "test")  # named here so that --help is answered without the rest; a test compares
_MOST_LISTED = 20

_EPILOG = """\
A problem is asked until the answer ends on a line `#### N` and N is the gold
answer: first at temperature 0, then with other seeds at a higher one. Written:
  OUT/train.jsonl      the solved problems, to be read back with --data OUT
  OUT/unsolved.jsonl   the others, and what was wrong with each answer
Every answer, right or wrong, is in the cache before it is used. An interrupted
or a killed run, run again, pays again for what was in flight and nothing else.
What finds an answer there is the same request to the same address. Nothing
promises that the endpoint would answer it in the same words again.

Reasoning (<think>, the channel analysis, a field of its own) is kept in the
cache; it is neither checked nor written to OUT. It counts as part of an answer
for --max-tokens. Where an endpoint refuses a parameter, the run ends and says
which of --rename and --omit goes on. cache_prompt (false) is sent beside them
where it is accepted: with it, and with --concurrency 1, llama.cpp's server
answers the same request alike.

The key is read from the environment variable OPENAI_API_KEY; a local endpoint
needs none. There is no table of prices: give them, or get tokens only.

examples:
  python -m experiments teacher --data gsm8k --limit 100 --out taught
  python -m experiments teacher --data generated --limit 20 --out taught \\
      --base-url http://127.0.0.1:8080/v1 --model local
  python -m experiments teacher --data gsm8k --limit 100 --out taught \\
      --model gpt-5 --rename max_tokens=max_completion_tokens \\
      --omit temperature --max-tokens 4096

exit status: 0, 1 where a problem got no answer at all or none was solved, 2 for
a call that cannot be carried out, 130 where it is interrupted.
"""


def _cache_file(value: str) -> Path:
    if value == "-":
        raise argparse.ArgumentTypeError("must name a file, which is read and appended to; got -.")
    return output_path(value)


def _renaming(value: str) -> tuple[str, str]:
    name, equals, other = value.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=OTHER, as max_tokens=max_completion_tokens; got {value[:60]}.")
    return name, other


def _parser() -> Parser:
    parser = Parser("python -m experiments teacher", "Right solutions, asked of a teacher and checked.", _EPILOG)
    add = parser.add_argument
    add("--data", required=True, metavar="PATH", help="a folder with train.jsonl, or generated, or hub")
    add("--split", type=one_of(SPLITS), default="train", metavar="NAME", help="train or test (default: train)")
    add("--limit", type=whole(1), metavar="N", help="only the first N problems")
    add("--skip-broken", action="store_true", help="pass over lines of the data that are no problem")
    add("--out", type=output_folder, required=True, metavar="DIR", help="the folder to write to; made if need be")
    add("--model", default="gpt-4o", metavar="NAME", help="default: gpt-4o")
    add("--base-url", metavar="URL", help="of an OpenAI-compatible API (default: OpenAI's own)")
    add("--concurrency", type=whole(1), default=8, metavar="N", help="requests in flight (default: 8)")
    add("--attempts", type=whole(1), default=3, metavar="N", help="answers asked for per problem (default: 3)")
    add("--max-tokens", type=whole(1), default=512, metavar="N", help="of an answer, with its reasoning (default: 512)")
    add(
        "--rename",
        type=_renaming,
        action="append",
        default=[],
        metavar="NAME=OTHER",
        help="send temperature, seed or max_tokens by another name; may be repeated",
    )
    add(
        "--omit",
        action="append",
        default=[],
        metavar="NAME",
        help="do not send temperature, seed, max_tokens or cache_prompt; may be repeated",
    )
    add("--timeout", type=number(), default=60.0, metavar="S", help="seconds for a whole answer (default: 60)")
    add(
        "--max-wait",
        type=number(),
        default=60.0,
        metavar="S",
        help="seconds that a request may wait between its tries, the server's Retry-After among them (default: 60)",
    )
    add("--retries", type=whole(0), default=5, metavar="N", help="tries of a request after the first (default: 5)")
    add("--cache", type=_cache_file, metavar="PATH", help="default: OUT/teacher-answer_store.jsonl")
    add(
        "--seed",
        type=whole(0),
        default=0,
        metavar="K",
        help="sent with the request; of generated problems (default: 0)",
    )
    add("--price-in", type=number(is_zero_allowed=True), metavar="X", help="price of a million prompt tokens")
    add("--price-out", type=number(is_zero_allowed=True), metavar="X", help="price of a million completion tokens")
    return parser


# What is shown --------------------------------------------------------------------------------------------------------


def _cost(attempts: Sequence["Attempt"], prices: tuple[float, float] | None) -> str:
    if prices is None:
        return "price not given"
    millionths = sum(
        (attempt.reply.prompt_tokens or 0) * prices[0] + (attempt.reply.completion_tokens or 0) * prices[1]
        for attempt in attempts
    )
    is_partial = any(_is_uncounted(attempt) for attempt in attempts)
    return f"{'> ' * is_partial}{millionths / 1e6:.4f}"


def _is_uncounted(attempt: "Attempt") -> bool:
    return attempt.reply.prompt_tokens is None or attempt.reply.completion_tokens is None


def _rows(outcomes: Sequence["Outcome"], prices: tuple[float, float] | None) -> Iterator[tuple[str, ...]]:
    """Name, this run, from the cache, both."""
    from experiments.teacher.asking import VERDICTS

    everything = [attempt for outcome in outcomes for attempt in outcome.attempts]
    parts = ([a for a in everything if a.num_sent], [a for a in everything if not a.num_sent], everything)

    def row(name: str, value: Callable[[Sequence["Attempt"]], object]) -> tuple[str, ...]:
        return name, *(str(value(part)) for part in parts)

    num_sent = sum(outcome.num_sent for outcome in outcomes)
    num_first = len(parts[0]) + sum(outcome.num_unanswered > 0 for outcome in outcomes)
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


def _report(
    outcomes: Sequence["Outcome"], settings: "Settings", prices: tuple[float, float] | None, seconds: float
) -> None:
    from rich.table import Table

    from console.terminal import Terminal

    terminal = Terminal(highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("", "this run", "from cache", "both"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in _rows(outcomes, prices):
        table.add_row(*row)
    terminal.print(f"{settings.model} at {settings.endpoint}\n")
    terminal.width = max(terminal.width, 80)  # a number that is cut short is another number
    terminal.print(table)
    solved = [outcome for outcome in outcomes if outcome.solution is not None]
    failed = [outcome for outcome in outcomes if outcome.failure is not None]
    unsolved = [outcome for outcome in outcomes if outcome.solution is None and outcome.failure is None]
    terminal.print(
        f"\n{len(outcomes)} problems in {seconds:.1f} s: {len(solved)} solved, {len(unsolved)} never solved, "
        f"{len(failed)} given up"
    )
    for name, listed in (("never solved", unsolved), ("given up", failed)):
        if listed:
            more = f" and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
            terminal.print(f"{name}: {', '.join(o.problem.id for o in listed[:_MOST_LISTED])}{more}")
    long = [attempt.reply for outcome in outcomes for attempt in outcome.attempts if attempt.reply.ending == "limit"]
    if long:
        num_spent = sum(reply.is_spent for reply in long)
        terminal.print(
            f"too long for --max-tokens {settings.max_tokens} or the model: {len(long)} answers, {num_spent} of them\n"
            "before they began, as reasoning counts. A higher limit asks every problem anew."
        )
    if failed and not any(outcome.is_final for outcome in failed):
        terminal.print(f"the last that was given up: {failed[-1].failure}")


# The command ----------------------------------------------------------------------------------------------------------


def _lines(records: Iterable[dict[str, object]]) -> str:
    return "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)


def _solved_record(outcome: "Outcome") -> dict[str, object]:
    last = outcome.attempts[-1]
    return {
        "id": outcome.problem.id,  # a reader of the file numbers its lines anew
        "question": outcome.problem.question,
        "answer": outcome.solution,
        "teacher": last.reply.model,
        "attempt": last.number,
    }


def _unsolved_record(outcome: "Outcome") -> dict[str, object]:
    return {
        "id": outcome.problem.id,
        "question": outcome.problem.question,
        "gold": outcome.problem.gold,
        "verdicts": [attempt.verdict for attempt in outcome.attempts],
        "given_up": outcome.failure,
    }


def _asked(
    problems: Sequence["Problem"], settings: "Settings", store: "Cache", api_key: str | None
) -> tuple[list["Outcome"], str | None]:
    """The outcomes in the order of the problems, and why there are not more of them."""
    from console.progress import progress
    from experiments.teacher import asking

    outcomes: list[Outcome] = []
    num_solved = 0
    failure = None
    with progress("asking", len(problems), "problems") as advance:

        def on_outcome(outcome: "Outcome") -> None:
            nonlocal num_solved
            outcomes.append(outcome)
            num_solved += outcome.solution is not None
            advance(len(outcomes), f"{num_solved} solved")

        try:
            asyncio.run(asking.solve(problems, settings, store, on_outcome=on_outcome, api_key=api_key))
        except (asking.TeacherError, ModuleNotFoundError) as error:  # `openai` may not be installed
            failure = str(error)
    place = {problem.id: i for i, problem in enumerate(problems)}
    return sorted(outcomes, key=lambda outcome: place[outcome.problem.id]), failure


def _api_key(parser: Parser) -> str | None:
    api_key = os.environ.get("OPENAI_API_KEY", "").strip() or None
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        # Sent as it is, it would come back in the message of the HTTP library. It is not shown here either.
        parser.error("OPENAI_API_KEY must be one word of ASCII characters; it holds others.")
    return api_key


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 where problems are left without an answer, 2 for a bad call."""
    parser = _parser()
    options = parser.parse(arguments)
    if options.base_url is not None and not options.base_url.strip():
        parser.error("--base-url must be an address; got nothing.")
    prices = None if options.price_in is None else (options.price_in, options.price_out)
    if (options.price_in is None) != (options.price_out is None):
        parser.error("--price-in and --price-out must be given together; an answer costs both.")
    out: Path = options.out
    if out.resolve() == Path(options.data).resolve():
        parser.error(
            f"--out must be another folder than --data; got {out} for both, and its train.jsonl would be lost."
        )
    solved_path, unsolved_path = out / "train.jsonl", out / "unsolved.jsonl"
    cache_path: Path = options.cache or out / "teacher-answer_store.jsonl"
    if cache_path.resolve() in (solved_path.resolve(), unsolved_path.resolve(), Path(options.data).resolve()):
        parser.error(f"--cache must be a file of its own; got {cache_path}.")
    api_key = _api_key(parser)

    from experiments.data import data_sources
    from experiments.teacher import answer_store, asking

    names = ("model", "concurrency", "attempts", "max_tokens", "timeout", "max_wait", "retries", "seed")
    skipped: list[str] | None = [] if options.skip_broken else None
    started = time.monotonic()
    with ExitStack() as stack:
        try:
            settings = asking.Settings(
                **{name: getattr(options, name) for name in names},
                base_url=options.base_url or asking.OPENAI_URL,
                rename=tuple(options.rename),
                omit=tuple(options.omit),
            )
            problems = list(
                data_sources.problems(
                    options.data, options.split, limit=options.limit, seed=options.seed, skipped=skipped
                )
            )
            if not problems:
                raise ValueError(f"--data must hold a problem; {options.data} has none in its {options.split} split.")
            out.mkdir(parents=True, exist_ok=True)
            store = stack.enter_context(answer_store.opened(cache_path))
        except (ValueError, OSError, answer_store.CacheInUseError, ModuleNotFoundError) as error:
            parser.error(str(error))
        if store.num_bytes_cut:
            print(
                f"{cache_path}: a torn last line of {store.num_bytes_cut} bytes, left by a killed run, is cut off.",
                file=sys.stderr,
            )
        outcomes, failure = _asked(problems, settings, store, api_key)
    for message in skipped or ():
        print(f"skipped: {message}", file=sys.stderr)
    solved = [outcome for outcome in outcomes if outcome.solution is not None]
    _report(outcomes, settings, prices, time.monotonic() - started)
    if failure is not None:
        print(
            f"{failure}\nStopped after {len(outcomes)} of {len(problems)} problems; nothing is written. What was "
            f"answered is in {cache_path}: run again to go on.",
            file=sys.stderr,
        )
        return 1
    write(solved_path, _lines(_solved_record(outcome) for outcome in solved))
    write(unsolved_path, _lines(_unsolved_record(outcome) for outcome in outcomes if outcome.solution is None))
    print(f"wrote {solved_path} and {unsolved_path}")
    return 1 if not solved or any(outcome.failure is not None for outcome in outcomes) else 0
