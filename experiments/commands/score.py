"""`python -m experiments score`: the log-probability of every completion of a file."""

import json
import sys
from collections import Counter, defaultdict
from math import isfinite
from pathlib import Path
from typing import Annotated

from console.command import CallError, call_errors, command, option
from console.progress import progress, waiting
from console.values import input_file, input_folder, output_path, whole
from experiments import files
from experiments.config import Dtype
from experiments.data import preferences

__all__ = ["score"]

_EPILOG = """\
IN has one JSON object a line, with the texts `prompt` and `completion`. OUT
gets one line for each, in the same order: `log_prob` (the sum over the
completion's tokens, in nats), `num_tokens`, `log_prob_per_token`; and its `id`
where it has one. --pairs reads preference data in the layouts of `run --pairs`
instead; OUT then gets two lines for each pair, with its `id` and its `side`,
preferred and dispreferred. With the chat template the prompt is the user's turn, and the
text is that of the conversation as the template renders it; all before the
answer is the prompt, and the token that ends the answer is a token of the
completion. A template with which there is no such boundary is refused. Without
it (--no-chat) the completion continues the prompt, tokenised apart, and nothing
is added but what the tokenizer puts in front of every text.

Lines are written as they are done. Where a run is interrupted, --resume goes on
behind the last whole line.

examples:
  python -m experiments score --model models/smollm2 --in in.jsonl --out out
  python -m experiments score --model models/smollm2 --pairs pairs.parquet
    --columns chosen=good,rejected=bad --out out

exit status: 0, 2 for a call that cannot be carried out, 130 where it is
interrupted.
"""
_RELATIVE, _ABSOLUTE = 1e-3, 1e-2  # of a log-probability that another batch or device computes


@command("score", _EPILOG)
def score(
    *,
    model: Annotated[Path, option("as Hugging Face lays it out; see fetch", "DIR", input_folder)],
    source: Annotated[Path | None, option("JSONL with prompt and completion", "FILE", input_file, name="--in")] = None,
    pairs: Annotated[
        str | None, option("preference data in place of --in: a file .jsonl or .parquet, or hub:NAME", "FILE")
    ] = None,
    columns: Annotated[
        str | None, option("the names of the columns of --pairs, where they are not the usual ones", "chosen=NAME,...")
    ] = None,
    skip_broken: Annotated[bool, option("leave out broken rows of --pairs, counted by reason")] = False,
    out: Annotated[Path, option("JSONL to write", "FILE", output_path)],
    no_chat: Annotated[bool, option("without the chat template")] = False,
    batch: Annotated[int, option("completions at once", "N", whole(1, 4096))] = 8,
    dtype: Annotated[Dtype, option(metavar="NAME")] = "float32",
    resume: Annotated[bool, option("go on behind the last whole line of OUT")] = False,
) -> int:
    """Log-probabilities of completions under a model."""
    if str(out) == "-":
        raise CallError("--out must name a file, which is written line by line; got -.")
    if (source is None) == (pairs is None):
        raise CallError("either --in or --pairs must be given, and not both.")
    if pairs is None and (columns is not None or skip_broken):
        raise CallError(f"{'--skip-broken' if columns is None else '--columns'} must go with --pairs.")
    with call_errors(ValueError):
        own_columns = preferences.columns(columns or "")
        if pairs is not None:
            preferences.require_source("--pairs", pairs)
    name, path = ("--pairs", Path(str(pairs))) if source is None else ("--in", source)
    if out.exists() and path.exists() and out.samefile(path):
        raise CallError(f"--out must be another file than {name}; got {out} for both.")
    if out.exists() and out.stat().st_size and not resume:
        raise CallError(f"--out must not exist yet, or be continued with --resume; got {out}.")

    with waiting("loading JAX"):
        from experiments.data import tokens
        from experiments.model import loading, pretrained, scoring
        from experiments.training import batches

    left_out: Counter[str] = Counter()
    with call_errors(ValueError, ModuleNotFoundError):
        codec = tokens.load(model)
        if codec.template is None and not no_chat:
            raise CallError(f"{model} has no chat template: use --no-chat.")
        context = pretrained.load_architecture(model).context
        if pairs is None:
            requests = scoring.read(path, codec, is_chat=not no_chat, context=context)
        else:
            with waiting("tokenising"):
                encoded = batches.encode_pairs(
                    preferences.preferences(pairs, own_columns=own_columns, left_out=left_out, skip_broken=skip_broken),
                    codec,
                    source=pairs,
                    is_chat=not no_chat,
                    max_tokens=context,
                    left_out=left_out,
                    skip_broken=skip_broken,
                )
            labels = [scoring.Label(id_, side) for id_ in encoded.ids for side in ("preferred", "dispreferred")]
            requests = scoring.Requests(labels, encoded.texts)
        earlier = scoring.read_log_probs(out, requests) if resume else []
        params, architecture = loading.policy(model)
        if earlier:
            # The last line is scored again: another model, type or template would give another number.
            with waiting("scoring the last line once more"):
                last = [requests.texts[len(earlier) - 1]]
                (_, (again,)), *_ = scoring.scores(params, architecture, last, num_rows=1, compute_dtype=dtype)
            if abs(again.log_prob - earlier[-1]) > _RELATIVE * abs(again.log_prob) + _ABSOLUTE:
                raise ValueError(
                    f"{out}, line {len(earlier)}: was made with another model, --dtype or template; it has log_prob "
                    f"{earlier[-1]:.4f}, and here it is {again.log_prob:.4f}."
                )
    num_texts = len(requests.texts)
    if left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
        print(f"{num_texts // 2:,} pairs; {left_out.total():,} left out: {reasons}", file=sys.stderr)
    log_probs: dict[str | None, float] = defaultdict(float)  # by side
    num_tokens: dict[str | None, int] = defaultdict(int)
    with files.opened_to_append(out) as file, progress("scoring", num_texts, "completions") as advance:
        blocks = scoring.scores(
            params, architecture, requests.texts, num_rows=batch, start=len(earlier), compute_dtype=dtype
        )
        for end, scores in blocks:
            for place, result in enumerate(scores, start=end - len(scores)):
                if not isfinite(result.log_prob):
                    raise CallError(
                        f"the model must give finite log-probabilities; completion {place + 1} has {result.log_prob}. "
                        "Weights that are not finite, or too large for --dtype, do this."
                    )
                label = requests.labels[place]
                files.append(file, scoring.record(label, result))
                log_probs[label.side] += result.log_prob
                num_tokens[label.side] += result.num_tokens
            advance(end)
    means = [
        f", {log_probs[side] / count:.4f} nats per token{'' if side is None else f' {side}'}"
        for side, count in num_tokens.items()
    ]
    print(f"wrote {num_texts - len(earlier)} scores to {json.dumps(str(out))}{''.join(means)}")
    return 0
