"""`python -m experiments score`: the log-probability of every completion of a file."""

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from console.command import Parser, output_path
from console.values import input_file, input_folder, one_of, whole

if TYPE_CHECKING:
    from experiments.data.tokens import Encoded, TextCodec

__all__ = ["main"]

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
_DTYPES = "float32 or bfloat16 (default: float32)"


def _texts(path: Path, codec: "TextCodec", is_chat: bool, context: int) -> list[tuple[object, "Encoded"]]:
    from experiments import jsonl

    def text(record: dict[str, object], _: int) -> "tuple[object, Encoded]":
        prompt, completion = record.get("prompt"), record.get("completion")
        if not isinstance(prompt, str) or not isinstance(completion, str):
            raise ValueError(
                f"must have the texts prompt and completion; got the keys {', '.join(record)[:120] or 'none'}"
            )
        json.dumps(record, ensure_ascii=False).encode()  # lone surrogates, which no file can hold
        made = codec.encoded(prompt, completion, is_chat=is_chat)
        if (length := len(made.prompt) + len(made.completion)) > context:
            raise ValueError(f"must fit the model's context of {context} tokens; got {length}")
        return record.get("id"), made

    return list(jsonl.records(path, text))


def _score_of(record: dict[str, object], texts: "Sequence[tuple[object, Encoded]]", line: int) -> float:
    """The log-probability on a line of an earlier run, if it is that of this text."""
    if line > len(texts):
        raise ValueError(f"there are {len(texts)} completions to score")
    name, text = texts[line - 1]
    log_prob = record.get("log_prob")
    if (
        not isinstance(log_prob, float)
        or not isfinite(log_prob)
        or record.get("num_tokens") != len(text.completion)
        or record.get("id") != name
    ):
        raise ValueError("it is not the score of this completion")
    return log_prob


def _parser() -> Parser:
    parser = Parser("python -m experiments score", "Log-probabilities of completions under a model.", _EPILOG)
    add = parser.add_argument
    add("--model", type=input_folder, required=True, metavar="DIR", help="as Hugging Face lays it out; see fetch")
    add("--in", dest="input", type=input_file, required=True, metavar="FILE", help="JSONL with prompt and completion")
    add("--out", type=output_path, required=True, metavar="FILE", help="JSONL to write")
    add("--no-chat", action="store_true", help="without the chat template")
    add("--batch", type=whole(1, 4096), default=8, metavar="N", help="completions at once (default: 8)")
    add("--dtype", type=one_of(("float32", "bfloat16")), default="float32", metavar="NAME", help=_DTYPES)
    add("--resume", action="store_true", help="go on behind the last whole line of OUT")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 for a bad call."""
    parser = _parser()
    options = parser.parse(arguments)
    out: Path = options.out
    if str(out) == "-":
        parser.error("--out must name a file, which is written line by line; got -.")
    if out.exists() and out.samefile(options.input):
        parser.error(f"--out must be another file than --in; got {out} for both.")
    if out.exists() and out.stat().st_size and not options.resume:
        parser.error(f"--out must not exist yet, or be continued with --resume; got {out}.")

    from console.progress import progress, waiting

    with waiting("loading JAX"):
        from experiments import jsonl
        from experiments.data import tokens
        from experiments.model import loading, pretrained, scoring

    try:
        codec = tokens.load(options.model)
        if codec.template is None and not options.no_chat:
            parser.error(f"{options.model} has no chat template: use --no-chat.")
        context = pretrained.load_architecture(options.model).context
        texts = _texts(options.input, codec, not options.no_chat, context)
        earlier = jsonl.continued(out, lambda record, line: _score_of(record, texts, line)) if options.resume else []
        num_done = len(earlier)
        params, architecture = loading.policy(options.model)
        if earlier:
            # The last of them once more: another model, type or template would give another number.
            with waiting("scoring the last line once more"):
                (_, (again,)), *_ = scoring.scores(
                    params, architecture, [texts[num_done - 1][1]], num_rows=1, compute_dtype=options.dtype
                )
            if abs(again.log_prob - earlier[-1]) > 1e-3 * abs(again.log_prob) + 1e-2:
                raise ValueError(
                    f"{out}, line {num_done}: was made with another model, --dtype or template; it has log_prob "
                    f"{earlier[-1]:.4f}, and here it is {again.log_prob:.4f}."
                )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    total_log_prob, total_tokens = 0.0, 0
    with jsonl.appending(out) as file, progress("scoring", len(texts), "completions") as advance:
        rest = [text for _, text in texts[num_done:]]
        for done, found in scoring.scores(
            params, architecture, rest, num_rows=options.batch, compute_dtype=options.dtype
        ):
            first = num_done + done - len(found)
            for place, ((name, _), score) in enumerate(zip(texts[first : first + len(found)], found, strict=True)):
                if not isfinite(score.log_prob):
                    parser.error(
                        f"the model must give finite log-probabilities; completion {first + place + 1} has "
                        f"{score.log_prob}. Weights that are not finite, or too large for --dtype, do this."
                    )
                record = {"id": name} if name is not None else {}
                jsonl.append(file, record | score._asdict() | {"log_prob_per_token": score.log_prob / score.num_tokens})
                total_log_prob, total_tokens = total_log_prob + score.log_prob, total_tokens + score.num_tokens
            advance(num_done + done)
    summary = f", {total_log_prob / total_tokens:.4f} nats per token" if total_tokens else ""
    print(f"wrote {len(texts) - num_done} scores to {json.dumps(str(out))}{summary}")
    return 0
