"""`python -m experiments evaluate`: how many problems a model solves, decoding greedily."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from console.command import Parser, output_path
from console.progress import progress, waiting
from console.values import input_folder, one_of, whole
from experiments import files
from experiments.data import data_sources, gsm8k

__all__ = ["main"]

_DTYPES = "float32 or bfloat16 (default: float32)"

_EPILOG = """\
Every answer is the most likely token after token, until a stop token or the
limit. Its final answer is the first `#### N`; else the last number in the first
\\boxed{}; else the last number, even of an answer that the limit cut off;
compared with the gold answer as exact fractions. Reasoning between tags does
not count, nor does a new problem behind the answer: docs/final-answers.md has
every rule. Beside it stands what lm-eval would count, by strict-match and by
flexible-extract. FILE gets one line for every problem: id, question, gold,
text, answer, rule, is_right, num_tokens, is_ended, lm_eval_strict,
lm_eval_flexible, and the settings.

Lines are written as they are done. Where a run is interrupted, --resume goes on
behind the last whole line.

examples:
  python -m experiments evaluate --model models/smollm2 --data data/gsm8k
  python -m experiments evaluate --model models/tiny --data generated --limit 8

exit status: 0, 2 for a call that cannot be carried out, 130 where it is
interrupted.
"""


def _parser() -> Parser:
    parser = Parser("python -m experiments evaluate", "How many problems a model solves.", _EPILOG)
    add = parser.add_argument
    add("--model", type=input_folder, required=True, metavar="DIR", help="as Hugging Face lays it out; see fetch")
    add("--data", required=True, metavar="PATH", help="a folder with test.jsonl, or generated, or hub")
    add("--split", type=one_of(gsm8k.SPLITS), default="test", metavar="NAME", help="train or test (default: test)")
    add("--limit", type=whole(1), metavar="N", help="only the first N problems")
    add("--skip-broken", action="store_true", help="pass over lines of the data that are no problem")
    add("--seed", type=whole(0), default=0, metavar="K", help="of generated problems (default: 0)")
    add("--out", type=output_path, metavar="FILE", help="JSONL to write, one line for every problem")
    add("--no-chat", action="store_true", help='ask with "Question: ... Answer:" and no chat template')
    add("--batch", type=whole(1, 4096), default=16, metavar="N", help="problems at once (default: 16)")
    add("--max-tokens", type=whole(1), default=256, metavar="N", help="of an answer (default: 256)")
    add("--dtype", type=one_of(("float32", "bfloat16")), default="float32", metavar="NAME", help=_DTYPES)
    add("--resume", action="store_true", help="go on behind the last whole line of FILE")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 for a bad call."""
    parser = _parser()
    options = parser.parse(arguments)
    out: Path | None = options.out
    if options.resume and out is None:
        parser.error("--resume must come with --out, the file to go on with.")
    if out is not None and str(out) == "-":
        parser.error("--out must name a file, which is written line by line; got -.")
    if out is not None and out.exists() and out.stat().st_size and not options.resume:
        parser.error(f"--out must not exist yet, or be continued with --resume; got {out}.")

    if out is not None and out.exists() and out.resolve().parent == Path(options.data).resolve():
        parser.error(f"--out must not be a file of the data; got {out}.")

    with waiting("loading JAX"):
        from rich.table import Table

        from console.terminal import Terminal
        from experiments.data import tokens
        from experiments.model import generation, loading

    skipped: list[str] | None = [] if options.skip_broken else None
    settings: dict[str, object] = {
        "model": options.model.resolve().name,
        "is_chat": not options.no_chat,
        "max_tokens": options.max_tokens,
        "dtype": options.dtype,
    }
    try:
        problems = list(
            data_sources.problems(options.data, options.split, limit=options.limit, seed=options.seed, skipped=skipped)
        )
        if not problems:
            raise ValueError(f"--data must hold a problem; {options.data} has none in its {options.split} split")
        codec = tokens.load(options.model)
        if codec.template is None and not options.no_chat:
            raise ValueError(f"{options.model} has no chat template: use --no-chat")
        samples = generation.read(out, problems, settings) if out is not None and options.resume else []
        params, architecture = loading.policy(options.model)
        blocks = generation.samples(
            params,
            architecture,
            codec,
            problems[len(samples) :],
            is_chat=not options.no_chat,
            num_rows=min(options.batch, len(problems)),
            max_new_tokens=options.max_tokens,
            compute_dtype=options.dtype,
        )
        with (
            nullcontext() if out is None else files.opened_to_append(out) as file,
            progress("solving", len(problems), "problems") as advance,
        ):
            for block in blocks:
                for sample in block:
                    if file is not None:
                        files.append(file, generation.record(problems[len(samples)], sample, settings))
                    samples.append(sample)
                advance(len(samples), f"{sum(sample.is_right for sample in samples)} right")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))
    for message in skipped or ():
        print(f"skipped: {message}")

    summary = generation.summary(problems, samples)
    low, high = summary.interval
    terminal = Terminal(highlight=False, markup=False)
    terminal.print(
        f"{summary.num_right} of {len(samples)} right: {summary.num_right / len(samples):.2%}, "
        f"95 % Wilson interval {low:.2%} to {high:.2%}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("answer read by")
    for heading in ("problems", "right"):
        table.add_column(heading, justify="right")
    for rule, counts in summary.by_rule.items():
        table.add_row(rule, *map(str, counts))
    terminal.print(table)
    terminal.print(
        f"lm-eval would count {summary.num_strict} by strict-match, {summary.num_flexible} by flexible-extract"
    )
    terminal.print(f"{summary.num_cut} cut off by the limit; median length {summary.median_length} tokens")
    if out is not None:
        print(f"wrote {json.dumps(str(out))}")
    return 0
