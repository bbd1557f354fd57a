"""Log-probabilities of many completions under a model, a block at a time."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from experiments.data import tokens
from experiments.data.tokens import Batch, Encoded
from experiments.model import objectives
from experiments.model.llama import Architecture, Params

__all__ = ["Score", "scores"]

_BATCHES_SORTED = 16  # rows of like length are put together within this many batches: padding is wasted work


class Score(NamedTuple):
    """Of one completion, in nats; the sum over its tokens."""

    log_prob: float
    num_tokens: int


def scores(
    params: Params,
    architecture: Architecture,
    texts: Sequence[Encoded],
    *,
    num_rows: int,
    compute_dtype: str = "float32",
) -> Iterator[tuple[int, list[Score]]]:
    """Scores of texts, a block at a time.

    Args:
        params: The parameters.
        architecture: Their model.
        texts: Prompts and completions.
        num_rows: How many are computed at once.
        compute_dtype: Of the model.

    Yields:
        The number of texts done so far, and the scores of those that are new, in order.
    """

    @jax.jit
    def log_probs(params: Params, batch: Batch) -> jax.Array:
        return objectives.log_probs(params, architecture, batch, compute_dtype=compute_dtype)

    for start in range(0, len(texts), num_rows * _BATCHES_SORTED):
        block = texts[start : start + num_rows * _BATCHES_SORTED]
        order = sorted(range(len(block)), key=lambda row: len(block[row].prompt) + len(block[row].completion))
        made: dict[int, Score] = {}
        for first in range(0, len(order), num_rows):
            rows = order[first : first + num_rows]
            # A last batch that is not full is filled up with its own rows: fewer rows would be compiled anew.
            filled = (rows * num_rows)[:num_rows]
            found = np.asarray(log_probs(params, tokens.batch([block[row] for row in filled])), np.float64)
            made |= {
                row: Score(float(values.sum()), len(block[row].completion))
                for row, values in zip(rows, found, strict=False)
            }
        yield start + len(block), [made[row] for row in range(len(block))]
