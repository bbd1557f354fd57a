"""`python -m experiments score`: the log-probability of every completion of a file."""

import json
from math import isfinite
from pathlib import Path
from typing import Annotated

from console.command import CallError, call_errors, command, option
from console.progress import progress, waiting
from console.values import input_file, input_folder, output_path, whole
from experiments import files
from experiments.config import Dtype

__all__ = ["score"]

_EPILOG = """\
IN has one JSON object a line, with the texts `prompt` and `completion`. OUT
gets one line for each, in the same order: `log_prob` (the sum over the
completion's tokens, in nats), `num_tokens`, `log_prob_per_token`; and its `id`
where it has one. With the chat template the prompt is the user's turn, and the
text is that of the conversation as the template renders it; all before the
answer is the prompt, and the token that ends the answer is a token of the
completion. A template with which there is no such boundary is refused. Without
it (--no-chat) the completion continues the prompt, tokenised apart, and nothing
is added but what the tokenizer puts in front of every text.

Lines are written as they are done. Where a run is interrupted, --resume goes on
behind the last whole line.

example:
  python -m experiments score --model models/smollm2 --in in.jsonl --out out

exit status: 0, 2 for a call that cannot be carried out, 130 where it is
interrupted.
"""
_RELATIVE, _ABSOLUTE = 1e-3, 1e-2  # of a log-probability that another batch or device computes


@command("score", _EPILOG)
def score(
    *,
    model: Annotated[Path, option("as Hugging Face lays it out; see fetch", "DIR", input_folder)],
    source: Annotated[Path, option("JSONL with prompt and completion", "FILE", input_file, name="--in")],
    out: Annotated[Path, option("JSONL to write", "FILE", output_path)],
    no_chat: Annotated[bool, option("without the chat template")] = False,
    batch: Annotated[int, option("completions at once", "N", whole(1, 4096))] = 8,
    dtype: Annotated[Dtype, option(metavar="NAME")] = "float32",
    resume: Annotated[bool, option("go on behind the last whole line of OUT")] = False,
) -> int:
    """Log-probabilities of completions under a model."""
    if str(out) == "-":
        raise CallError("--out must name a file, which is written line by line; got -.")
    if out.exists() and out.samefile(source):
        raise CallError(f"--out must be another file than --in; got {out} for both.")
    if out.exists() and out.stat().st_size and not resume:
        raise CallError(f"--out must not exist yet, or be continued with --resume; got {out}.")

    with waiting("loading JAX"):
        from experiments.data import tokens
        from experiments.model import loading, pretrained, scoring

    with call_errors(ValueError):
        codec = tokens.load(model)
        if codec.template is None and not no_chat:
            raise CallError(f"{model} has no chat template: use --no-chat.")
        context = pretrained.load_architecture(model).context
        requests = scoring.read(source, codec, is_chat=not no_chat, context=context)
        earlier = scoring.read_log_probs(out, requests) if resume else []
        params, architecture = loading.policy(model)
        if earlier:
            # The last line is scored again: another model, type or template would give another number.
            with waiting("scoring the last line once more"):
                last = [requests[len(earlier) - 1].text]
                (_, (again,)), *_ = scoring.scores(params, architecture, last, num_rows=1, compute_dtype=dtype)
            if abs(again.log_prob - earlier[-1]) > _RELATIVE * abs(again.log_prob) + _ABSOLUTE:
                raise ValueError(
                    f"{out}, line {len(earlier)}: was made with another model, --dtype or template; it has log_prob "
                    f"{earlier[-1]:.4f}, and here it is {again.log_prob:.4f}."
                )
    rest = requests[len(earlier) :]
    total_log_prob, total_tokens = 0.0, 0
    with files.opened_to_append(out) as file, progress("scoring", len(requests), "completions") as advance:
        texts = [request.text for request in rest]
        blocks = scoring.scores(params, architecture, texts, num_rows=batch, compute_dtype=dtype)
        for end, scores in blocks:
            for place, result in enumerate(scores, start=end - len(scores)):
                if not isfinite(result.log_prob):
                    raise CallError(
                        f"the model must give finite log-probabilities; completion {len(earlier) + place + 1} has "
                        f"{result.log_prob}. Weights that are not finite, or too large for --dtype, do this."
                    )
                files.append(file, scoring.record(rest[place], result))
                total_log_prob, total_tokens = total_log_prob + result.log_prob, total_tokens + result.num_tokens
            advance(len(earlier) + end)
    summary = f", {total_log_prob / total_tokens:.4f} nats per token" if total_tokens else ""
    print(f"wrote {len(rest)} scores to {json.dumps(str(out))}{summary}")
    return 0
