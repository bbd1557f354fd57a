"""`python -m experiments evaluate`: how many problems a model solves, decoding greedily."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from console.command import CallError, call_errors, command, option
from console.progress import progress, waiting
from console.values import input_folder, output_path, whole
from experiments import files
from experiments.config import Dtype
from experiments.data import data_sources, gsm8k

__all__ = ["evaluate"]

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


@command("evaluate", _EPILOG)
def evaluate(
    *,
    model: Annotated[Path, option("as Hugging Face lays it out; see fetch", "DIR", input_folder)],
    data: Annotated[str, option("a folder with test.jsonl, or generated, or hub", "PATH")],
    split: Annotated[gsm8k.Split, option(metavar="NAME")] = "test",
    limit: Annotated[int | None, option("only the first N problems", "N", whole(1))] = None,
    skip_broken: Annotated[bool, option("pass over lines of the data that are no problem")] = False,
    seed: Annotated[int, option("of generated problems", "K", whole(0))] = 0,
    out: Annotated[Path | None, option("JSONL to write, one line for every problem", "FILE", output_path)] = None,
    no_chat: Annotated[bool, option('ask with "Question: ... Answer:" and no chat template')] = False,
    batch: Annotated[int, option("problems at once", "N", whole(1, 4096))] = 16,
    max_tokens: Annotated[int, option("of an answer", "N", whole(1))] = 256,
    dtype: Annotated[Dtype, option(metavar="NAME")] = "float32",
    resume: Annotated[bool, option("go on behind the last whole line of FILE")] = False,
) -> int:
    """How many problems a model solves."""
    if resume and out is None:
        raise CallError("--resume must come with --out, the file to go on with.")
    if out is not None and str(out) == "-":
        raise CallError("--out must name a file, which is written line by line; got -.")
    if out is not None and out.exists() and out.stat().st_size and not resume:
        raise CallError(f"--out must not exist yet, or be continued with --resume; got {out}.")
    if out is not None and out.exists() and out.resolve().parent == Path(data).resolve():
        raise CallError(f"--out must not be a file of the data; got {out}.")

    with waiting("loading JAX"):
        from console.terminal import Terminal, table
        from experiments.data import tokens
        from experiments.model import generation, loading

    skipped: list[str] | None = [] if skip_broken else None
    settings: dict[str, object] = {
        "model": model.resolve().name,
        "is_chat": not no_chat,
        "max_tokens": max_tokens,
        "dtype": dtype,
    }
    with call_errors(ValueError, ModuleNotFoundError):
        problems = list(data_sources.problems(data, split, limit=limit, seed=seed, skipped=skipped))
        if not problems:
            raise ValueError(f"--data must hold a problem; {data} has none in its {split} split")
        codec = tokens.load(model)
        if codec.template is None and not no_chat:
            raise ValueError(f"{model} has no chat template: use --no-chat")
        samples = generation.read(out, problems, settings) if out is not None and resume else []
        params, architecture = loading.policy(model)
        blocks = generation.samples(
            params,
            architecture,
            codec,
            problems[len(samples) :],
            is_chat=not no_chat,
            num_rows=min(batch, len(problems)),
            max_new_tokens=max_tokens,
            compute_dtype=dtype,
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
    for message in skipped or ():
        print(f"skipped: {message}")

    summary = generation.summary(problems, samples)
    low, high = summary.interval
    terminal = Terminal()
    terminal.print(
        f"{summary.num_right} of {len(samples)} right: {summary.num_right / len(samples):.2%}, "
        f"95 % Wilson interval {low:.2%} to {high:.2%}"
    )
    rows = [(rule, *map(str, counts)) for rule, counts in summary.by_rule.items()]
    terminal.print(table("answer read by", numbers=("problems", "right"), rows=rows))
    terminal.print(
        f"lm-eval would count {summary.num_strict} by strict-match, {summary.num_flexible} by flexible-extract"
    )
    terminal.print(f"{summary.num_cut} cut off by the limit; median length {summary.median_length} tokens")
    if out is not None:
        print(f"wrote {json.dumps(str(out))}")
    return 0
