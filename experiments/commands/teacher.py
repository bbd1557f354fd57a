"""`python -m experiments teacher`: right solutions to the problems of a data set, from a teacher, and checked."""

import asyncio
import os
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from console.command import CallError, FailureError, call, call_errors, command, option
from console.progress import progress
from console.values import number, output_folder, output_path, whole
from experiments import files
from experiments.data import gsm8k
from experiments.teacher.settings import Settings

if TYPE_CHECKING:
    from experiments.teacher.solutions import Outcome

__all__ = ["main", "teacher"]

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


_DEFAULTS = Settings()


@command("teacher", _EPILOG)
def teacher(
    *,
    data: Annotated[str, option("a folder with train.jsonl, or generated, or hub", "PATH")],
    split: Annotated[gsm8k.Split, option(metavar="NAME")] = "train",
    limit: Annotated[int | None, option("only the first N problems", "N", whole(1))] = None,
    skip_broken: Annotated[bool, option("pass over lines of the data that are no problem")] = False,
    out: Annotated[Path, option("the folder to write to; made if need be", "DIR", output_folder)],
    settings: Settings = _DEFAULTS,
    cache: Annotated[Path | None, option("default: OUT/teacher-cache.sqlite3", "PATH", output_path)] = None,
    price_in: Annotated[
        float | None, option("price of a million prompt tokens", "X", number(is_zero_allowed=True))
    ] = None,
    price_out: Annotated[
        float | None, option("price of a million completion tokens", "X", number(is_zero_allowed=True))
    ] = None,
) -> int:
    """Right solutions, asked of a teacher and checked; returns the exit status, 1 where none is solved."""
    if (price_in is None) != (price_out is None):
        raise CallError("--price-in and --price-out must be given together; an answer costs both.")
    if out.resolve() == Path(data).resolve():
        raise CallError(
            f"--out must be another folder than --data; got {out} for both, and its train.jsonl would be lost."
        )
    solved, unsolved = out / "train.jsonl", out / "unsolved.jsonl"
    if cache and (str(cache) == "-" or cache.resolve() in [p.resolve() for p in (solved, unsolved, Path(data))]):
        raise CallError(f"--cache must name a file of its own; got {cache}.")
    api_key = os.environ.get("OPENAI_API_KEY", "").strip() or None
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        # Sent as it is, it would come back in the message of the HTTP library. It is not printed here either.
        raise CallError("OPENAI_API_KEY must be one word of ASCII characters; it holds others.")

    from console.terminal import Terminal, table
    from experiments.data import data_sources
    from experiments.teacher import solutions, summary
    from experiments.teacher.store import Store

    skipped: list[str] | None = [] if skip_broken else None
    start = time.monotonic()
    with call_errors(ValueError, ModuleNotFoundError):
        problems = list(data_sources.problems(data, split, limit=limit, seed=settings.seed, skipped=skipped))
        if not problems:
            raise ValueError(f"--data must hold a problem; {data} has none in its {split} split.")
        out.mkdir(parents=True, exist_ok=True)
        store = Store(cache or out / "teacher-cache.jsonl")
    with closing(store), progress("asking", len(problems), "problems") as advance:
        for message in store.notes:
            print(message, file=sys.stderr)
        states: list[str] = []

        def on_outcome(outcome: "Outcome") -> None:
            states.append(outcome.state)
            advance(len(states), f"{states.count('solved')} solved")

        run = asyncio.run(solutions.solve(problems, settings, store, on_outcome=on_outcome, api_key=api_key))
    for message in skipped or ():
        print(f"skipped: {message}", file=sys.stderr)
    terminal = Terminal(soft_wrap=True)
    terminal.print(f"{settings.model} at {settings.endpoint}\n")
    terminal.width = max(terminal.width, 80)  # a number that is cut short is another number
    prices = None if price_in is None or price_out is None else (price_in, price_out)
    terminal.print(
        table("", numbers=("this run", "from cache", "both"), rows=summary.rows(run.outcomes, prices)),
        *summary.remarks(run, settings, time.monotonic() - start),
        sep="\n",
    )
    if run.failure is not None:
        raise FailureError(
            f"{run.failure}\nStopped after {len(run.outcomes)} of {len(problems)} problems; nothing is written. What "
            f"was answered is in {store.path}: run again to go on."
        )
    for path, is_solved in ((solved, True), (unsolved, False)):
        files.write_lines(path, [o.record for o in run.outcomes if (o.state == "solved") == is_solved])
    print(f"wrote {solved} and {unsolved}")
    return 0 if "solved" in states and "given up" not in states else 1


main = partial(call, teacher)
