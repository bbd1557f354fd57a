"""Log-probabilities of many completions under a model, a block at a time, and the files that hold them."""

import json
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments import files
from experiments.data import tokens
from experiments.data.tokens import Batch, Encoded, TextCodec
from experiments.model import objectives
from experiments.model.transformer import Architecture, Params

__all__ = ["Label", "Requests", "Score", "read", "read_log_probs", "record", "scores"]

_BATCHES_SORTED = 16  # rows are sorted by length within this many batches: less padding is computed


class Label(NamedTuple):
    """The name of a completion: the `id` of its line, and its side in a pair; None where it has none."""

    id: object
    side: str | None = None


class Requests(NamedTuple):
    """Completions to score, with their labels."""

    labels: Sequence[Label]
    texts: Sequence[Encoded]


class Score(NamedTuple):
    """The log-probability of a completion in nats, the sum over its tokens, and their number."""

    log_prob: float
    num_tokens: int


def read(path: Path, codec: TextCodec, *, is_chat: bool, context: int) -> Requests:
    """The completions of a JSONL file with the texts `prompt` and `completion`, of at most `context` tokens together.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line cannot be scored; the message names it.
    """

    def request(record: dict[str, object], _: int) -> tuple[Label, Encoded]:
        prompt, completion = record.get("prompt"), record.get("completion")
        if not isinstance(prompt, str) or not isinstance(completion, str):
            raise ValueError(
                f"must have the texts prompt and completion; got the keys {', '.join(record)[:120] or 'none'}"
            )
        json.dumps(record, ensure_ascii=False).encode()  # refuses lone surrogates, which no file can hold
        text = codec.encoded(prompt, completion, is_chat=is_chat)
        if text.num_tokens > context:
            raise ValueError(f"must fit the model's context of {context} tokens; got {text.num_tokens}")
        return Label(record.get("id")), text

    requests = list(files.read_lines(path, request))
    return Requests([label for label, _ in requests], [text for _, text in requests])


def record(label: Label, score: Score) -> dict[str, object]:
    """The line of a file of scores."""
    name: dict[str, object] = {key: value for key, value in label._asdict().items() if value is not None}
    return name | score._asdict() | {"log_prob_per_token": score.log_prob / score.num_tokens}


def read_log_probs(path: Path, requests: Requests) -> list[float]:
    """The log-probabilities in the file of an interrupted run.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line is not the score of the completion in the same place; the message names it.
    """

    def log_prob(record: dict[str, object], line: int) -> float:
        if line > len(requests.texts):
            raise ValueError(f"there are {len(requests.texts)} completions to score")
        label, text, value = requests.labels[line - 1], requests.texts[line - 1], record.get("log_prob")
        is_of_request = (*label, len(text.completion)) == tuple(map(record.get, ("id", "side", "num_tokens")))
        if not isinstance(value, float) or not isfinite(value) or not is_of_request:
            raise ValueError("it is not the score of this completion")
        return value

    return files.resumed_lines(path, log_prob)


def scores(
    params: Params,
    architecture: Architecture,
    texts: Sequence[Encoded],
    *,
    num_rows: int,
    start: int = 0,
    compute_dtype: str = "float32",
) -> Iterator[tuple[int, list[Score]]]:
    """Scores of texts from the place `start` on, a block at a time; `num_rows` are computed at once.

    Yields:
        The number of texts so far, and the scores of the block, in order.
    """

    @jax.jit
    def log_probs(params: Params, batch: Batch) -> jax.Array:
        return objectives.log_probs(params, architecture, batch, compute_dtype=compute_dtype)

    for begin in range(start, len(texts), num_rows * _BATCHES_SORTED):
        block = texts[begin : begin + num_rows * _BATCHES_SORTED]
        order = sorted(range(len(block)), key=lambda row: block[row].num_tokens)
        by_row: dict[int, Score] = {}
        for first in range(0, len(order), num_rows):
            rows = order[first : first + num_rows]
            # The last batch is filled up with its own rows: another number of rows would be compiled anew.
            batch = tokens.batch([block[row] for row in (rows * num_rows)[:num_rows]])
            for row, values in zip(rows, np.asarray(log_probs(params, batch), np.float64), strict=False):
                by_row[row] = Score(float(values.sum()), len(block[row].completion))
        yield begin + len(block), [by_row[row] for row in range(len(block))]
