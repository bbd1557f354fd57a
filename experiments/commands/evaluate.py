"""`python -m experiments evaluate`: how many problems a model solves, decoding greedily."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from console.command import Parser, output_path
from console.values import input_folder, one_of, whole

if TYPE_CHECKING:
    from experiments.data.gsm8k import Problem
    from experiments.model.generation import Sample

__all__ = ["RULES", "main"]

_DTYPES = "float32 or bfloat16 (default: float32)"
SPLITS = ("train", "test")  # named here so that --help is answered without the rest; tests compare
RULES = ("hashes", "boxed", "last-number", "none")

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


def _record(problem: "Problem", sample: "Sample") -> dict[str, object]:
    from experiments.data import harness  # noqa: PLC0415

    record: dict[str, object] = {"id": problem.id, "question": problem.question, "gold": problem.gold}
    record |= sample._asdict() | {"answer": None if sample.answer is None else str(sample.answer)}
    match = harness.match(sample.text, problem.gold)
    return record | {"lm_eval_strict": match.strict, "lm_eval_flexible": match.flexible}


def _report(records: Sequence[dict[str, object]]) -> None:
    from rich.table import Table  # noqa: PLC0415
    from scipy.stats import binomtest  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415
    from experiments.data import harness  # noqa: PLC0415

    num_right = sum(bool(record["is_right"]) for record in records)
    low, high = binomtest(num_right, len(records)).proportion_ci(method="wilson")
    terminal = Terminal(highlight=False, markup=False)
    terminal.print(
        f"{num_right} of {len(records)} right: {num_right / len(records):.2%}, "
        f"95 % Wilson interval {low:.2%} to {high:.2%}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("answer read by", "problems", "right"):
        table.add_column(heading, justify="left" if heading == "answer read by" else "right")
    every = Counter(str(record["rule"]) for record in records)
    right = Counter(str(record["rule"]) for record in records if record["is_right"])
    for rule in RULES:
        table.add_row(rule, str(every[rule]), str(right[rule]))
    terminal.print(table)
    # From the texts: lines of an older file that is gone on with do not have them.
    matches = [harness.match(str(record["text"]), str(record["gold"])) for record in records]
    terminal.print(
        f"lm-eval would count {sum(match.strict for match in matches)} by strict-match, "
        f"{sum(match.flexible for match in matches)} by flexible-extract"
    )
    num_cut = sum(not record["is_ended"] for record in records)
    lengths = sorted(int(str(record["num_tokens"])) for record in records)
    terminal.print(f"{num_cut} cut off by the limit; median length {lengths[len(lengths) // 2]} tokens")


def _parser() -> Parser:
    parser = Parser("python -m experiments evaluate", "How many problems a model solves.", _EPILOG)
    add = parser.add_argument
    add("--model", type=input_folder, required=True, metavar="DIR", help="as Hugging Face lays it out; see fetch")
    add("--data", required=True, metavar="PATH", help="a folder with test.jsonl, or generated, or hub")
    add("--split", type=one_of(SPLITS), default="test", metavar="NAME", help="train or test (default: test)")
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

    from contextlib import nullcontext  # noqa: PLC0415

    from console.progress import progress, waiting  # noqa: PLC0415

    with waiting("loading JAX"):
        from experiments import jsonl  # noqa: PLC0415
        from experiments.data import data_sources, tokens  # noqa: PLC0415
        from experiments.model import generation, loading  # noqa: PLC0415

    skipped: list[str] | None = [] if options.skip_broken else None
    settings: dict[str, object] = {
        "model": options.model.resolve().name,
        "is_chat": not options.no_chat,
        "max_tokens": options.max_tokens,
        "dtype": options.dtype,
    }
    if out is not None and out.exists() and out.resolve().parent == Path(options.data).resolve():
        parser.error(f"--out must not be a file of the data; got {out}.")
    try:
        problems = list(
            data_sources.problems(options.data, options.split, limit=options.limit, seed=options.seed, skipped=skipped)
        )
        if not problems:
            raise ValueError(f"--data must hold a problem; {options.data} has none in its {options.split} split")
        codec = tokens.load(options.model)
        if codec.template is None and not options.no_chat:
            raise ValueError(f"{options.model} has no chat template: use --no-chat")
        records = _done(out, problems, settings) if out is not None and options.resume else []
        params, architecture = loading.policy(options.model)
        made = generation.samples(
            params,
            architecture,
            codec,
            problems[len(records) :],
            is_chat=not options.no_chat,
            num_rows=min(options.batch, len(problems)),
            max_new_tokens=options.max_tokens,
            compute_dtype=options.dtype,
        )
        with (
            nullcontext() if out is None else jsonl.appending(out) as file,
            progress("solving", len(problems), "problems") as advance,
        ):
            for found in made:
                for sample in found:
                    records.append(_record(problems[len(records)], sample) | settings)
                    if file is not None:
                        jsonl.append(file, records[-1])
                advance(len(records), f"{sum(bool(record['is_right']) for record in records)} right")
    except (OSError, ValueError, ModuleNotFoundError) as error:
        parser.error(str(error))
    for message in skipped or ():
        print(f"skipped: {message}")
    _report(records)
    if out is not None:
        print(f"wrote {json.dumps(str(out))}")
    return 0


def _done(path: Path, problems: "Sequence[Problem]", settings: dict[str, object]) -> list[dict[str, object]]:
    """What an interrupted run left, as long as it asked the same model the same questions in the same way."""
    from experiments import jsonl  # noqa: PLC0415

    def checked(record: dict[str, object], line: int) -> dict[str, object]:
        if line > len(problems):
            raise ValueError(f"there are {len(problems)} problems to solve")
        if (record.get("id"), record.get("question")) != (problems[line - 1].id, problems[line - 1].question):
            raise ValueError("it has another question (another --data or --seed?)")
        for key, value in settings.items():
            if record.get(key) != value:
                raise ValueError(f"it was made with {key} {record.get(key)}, not {value}")
        if not {"text", "answer", "rule", "is_right", "num_tokens", "is_ended"} <= record.keys():
            raise ValueError("it is not an answer")
        return record

    return jsonl.continued(path, checked)
