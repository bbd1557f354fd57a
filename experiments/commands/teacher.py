"""`python -m experiments teacher`: right solutions to the problems of a data set, from a teacher, and checked."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from console.command import Parser, output_path, write
from console.progress import progress
from console.values import number, one_of, output_folder, whole
from experiments.data import gsm8k

if TYPE_CHECKING:
    from experiments.teacher.solutions import Outcome

__all__ = ["main"]

_EPILOG = """\
A problem is asked until the answer ends on a line `#### N` and N is the gold
answer: first at temperature 0, then with other seeds at a higher one. Written:
  OUT/train.jsonl      the solved problems, to be read back with --data OUT
  OUT/unsolved.jsonl   the others, and what was wrong with each answer
  OUT/teacher-cache.sqlite3  every answer, right or wrong, before it is used
An interrupted or a killed run, run again, pays again for what was in flight and
nothing else. What finds an answer is the same request to the same address.
Nothing promises that the endpoint would answer it in the same words again.

--cache names another database; its name ends in .sqlite3, which is added where
it is missing, and replaces .jsonl. An earlier version kept the answers in lines
of JSON: where --cache names such a file, or OUT/teacher-cache.jsonl is one, its
answers are copied into the database, and the file stays as it is.

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


def _renaming(value: str) -> tuple[str, str]:
    name, equals, other = value.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=OTHER, as max_tokens=max_completion_tokens; got {value[:60]}.")
    return name, other


def _parser() -> Parser:
    parser = Parser("python -m experiments teacher", "Right solutions, asked of a teacher and checked.", _EPILOG)
    add = parser.add_argument
    add("--data", required=True, metavar="PATH", help="a folder with train.jsonl, or generated, or hub")
    add("--split", type=one_of(gsm8k.SPLITS), default="train", metavar="NAME", help="train or test (default: train)")
    add("--limit", type=whole(1), metavar="N", help="only the first N problems")
    add("--skip-broken", action="store_true", help="pass over lines of the data that are no problem")
    add("--out", type=output_folder, required=True, metavar="DIR", help="the folder to write to; made if need be")
    add("--model", metavar="NAME", help="default: gpt-4o")
    add("--base-url", metavar="URL", help="of an OpenAI-compatible API (default: OpenAI's own)")
    add("--concurrency", type=whole(1), metavar="N", help="requests in flight (default: 8)")
    add("--attempts", type=whole(1), metavar="N", help="answers asked for per problem (default: 3)")
    add("--max-tokens", type=whole(1), metavar="N", help="of an answer, with its reasoning (default: 512)")
    add(
        "--rename",
        type=_renaming,
        action="append",
        metavar="NAME=OTHER",
        help="send temperature, seed or max_tokens by another name; may be repeated",
    )
    add(
        "--omit",
        action="append",
        metavar="NAME",
        help="do not send temperature, seed, max_tokens or cache_prompt; may be repeated",
    )
    add("--timeout", type=number(), metavar="S", help="seconds for a whole answer (default: 60)")
    add(
        "--max-wait",
        type=number(),
        metavar="S",
        help="seconds that a request may wait between its tries, the server's Retry-After among them (default: 60)",
    )
    add("--retries", type=whole(0), metavar="N", help="tries of a request after the first (default: 5)")
    add("--cache", type=output_path, metavar="PATH", help="default: OUT/teacher-cache.sqlite3")
    add("--seed", type=whole(0), metavar="K", help="sent with the request; of generated problems (default: 0)")
    add("--price-in", type=number(is_zero_allowed=True), metavar="X", help="price of a million prompt tokens")
    add("--price-out", type=number(is_zero_allowed=True), metavar="X", help="price of a million completion tokens")
    return parser


def _check(parser: Parser, options: argparse.Namespace) -> None:
    """Refuses options that do not go together."""
    out, data = options.out.resolve(), Path(options.data).resolve()
    if options.base_url is not None and not options.base_url.strip():
        parser.error("--base-url must be an address; got nothing.")
    if (options.price_in is None) != (options.price_out is None):
        parser.error("--price-in and --price-out must be given together; an answer costs both.")
    if out == data:
        parser.error(
            f"--out must be another folder than --data; got {options.out} for both, and its train.jsonl would be lost."
        )
    cache = options.cache and options.cache.resolve()
    if str(options.cache) == "-" or cache in (out / "train.jsonl", out / "unsolved.jsonl", data):
        parser.error(f"--cache must name a file of its own; got {options.cache}.")


def _api_key(parser: Parser) -> str | None:
    api_key = os.environ.get("OPENAI_API_KEY", "").strip() or None
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        # Sent as it is, it would come back in the message of the HTTP library. It is not printed here either.
        parser.error("OPENAI_API_KEY must be one word of ASCII characters; it holds others.")
    return api_key


def _lines(outcomes: Iterable["Outcome"]) -> str:
    return "".join(f"{json.dumps(outcome.record, ensure_ascii=False)}\n" for outcome in outcomes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 where problems are left without an answer, 2 for a bad call."""
    parser = _parser()
    options = parser.parse(arguments)
    _check(parser, options)
    api_key = _api_key(parser)

    from console.terminal import Terminal
    from experiments.data import data_sources
    from experiments.teacher import solutions, summary
    from experiments.teacher.settings import Settings
    from experiments.teacher.store import Store, StoreInUseError

    out: Path = options.out
    skipped: list[str] | None = [] if options.skip_broken else None
    start = time.monotonic()
    try:
        chosen = {name: getattr(options, name) for name in Settings.model_fields}
        settings = Settings(**{name: value for name, value in chosen.items() if value is not None})
        problems = list(
            data_sources.problems(options.data, options.split, limit=options.limit, seed=settings.seed, skipped=skipped)
        )
        if not problems:
            raise ValueError(f"--data must hold a problem; {options.data} has none in its {options.split} split.")
        out.mkdir(parents=True, exist_ok=True)
        store = Store(options.cache or out / "teacher-cache.jsonl")
    except (ValueError, OSError, StoreInUseError, ModuleNotFoundError) as error:
        parser.error(str(error))
    with closing(store), progress("asking", len(problems), "problems") as advance:
        for message in store.notes:
            print(message, file=sys.stderr)
        states: list[str] = []

        def on_outcome(outcome: "Outcome") -> None:
            states.append(outcome.state)
            advance(len(states), f"{states.count('solved')} solved")

        run = solutions.solve(problems, settings, store, on_outcome=on_outcome, api_key=api_key)
    for message in skipped or ():
        print(f"skipped: {message}", file=sys.stderr)
    terminal = Terminal(highlight=False, markup=False, soft_wrap=True)
    terminal.print(f"{settings.model} at {settings.endpoint}\n")
    terminal.width = max(terminal.width, 80)  # a number that is cut short is another number
    terminal.print(summary.table(run, None if options.price_in is None else (options.price_in, options.price_out)))
    for line in summary.remarks(run, settings, time.monotonic() - start):
        terminal.print(line)
    if run.failure is not None:
        print(
            f"{run.failure}\nStopped after {len(run.outcomes)} of {len(problems)} problems; nothing is written. What "
            f"was answered is in {store.path}: run again to go on.",
            file=sys.stderr,
        )
        return 1
    write(out / "train.jsonl", _lines(outcome for outcome in run.outcomes if outcome.state == "solved"))
    write(out / "unsolved.jsonl", _lines(outcome for outcome in run.outcomes if outcome.state != "solved"))
    print(f"wrote {out / 'train.jsonl'} and {out / 'unsolved.jsonl'}")
    return 0 if "solved" in states and "given up" not in states else 1
