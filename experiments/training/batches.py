"""Where batches come from: pairs of solutions, and which of them make up an update. Knows no rule and no step.

The loop asks a `Source` for the two halves of an update and gives it the parameters as they are. Fixed pairs, as here,
need none; on-policy groups would sample from them, put the rollouts with positive advantage into the one half and those
with negative advantage into the other, and the advantages into the weights.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from experiments.data import data_sources, tokens
from experiments.data.gsm8k import Problem, Split
from experiments.data.tokens import Batch, Encoded, TextCodec
from experiments.model import objectives
from experiments.model.llama import Params
from experiments.model.objectives import Reduction
from experiments.pairs import check, corruption

__all__ = ["Halves", "PairTexts", "Source", "coin", "encoded", "fixed_pairs", "halves", "made", "shape_of"]


class PairTexts(NamedTuple):
    """A preferred and a dispreferred solution of one problem, as ids."""

    id: str
    plus: Encoded
    minus: Encoded


class Halves(NamedTuple):
    """What one update is made of: L+ descends the one half and ascends the other; weights lie in the batches."""

    plus: Batch
    minus: Batch


class Source(Protocol):
    """Where updates get their halves."""

    def __call__(self, update: int, params: Params) -> Halves:
        """The halves of an update, counted from 0; the same whenever it is asked again with these parameters."""
        ...


def made(
    data: str,
    split: Split,
    *,
    seed: int,
    num_problems: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[corruption.Corruption]:
    """Checked pairs of the first problems of a split, in their order.

    Args:
        data: As in `data_sources.problems`.
        split: Train or test.
        seed: Of the errors; and of problems that are generated.
        num_problems: How many problems; all if 0.
        report: Called with the problems done, and all.
    """
    problems: list[Problem] = list(
        islice(data_sources.problems(data, split, limit=num_problems or None, seed=seed), None)
    )
    for place, problem in enumerate(problems, start=1):
        pair = corruption.corrupt(problem, seed=seed)
        if isinstance(pair, corruption.Corruption) and not check.findings(pair.record()):
            yield pair
        report(place, len(problems))


def encoded(
    pairs: Iterator[corruption.Corruption], codec: TextCodec, *, is_chat: bool, max_tokens: int, most: int | None = None
) -> tuple[list[PairTexts], Counter[str]]:
    """Pairs as ids, and how many were left out for what reason.

    Args:
        pairs: The pairs.
        codec: The model's tokenizer.
        is_chat: Whether to use the chat template; else "Question: ... Answer:".
        max_tokens: The most that prompt and completion may have together.
        most: Stop when there are as many as this.
    """
    kept: list[PairTexts] = []
    left_out: Counter[str] = Counter()
    for pair in pairs:
        question = pair.question if is_chat else f"Question: {pair.question}\nAnswer:"
        plus, minus = (
            codec.encoded(question, text if is_chat else f" {text}", is_chat=is_chat)
            for text in (pair.preferred, pair.dispreferred)
        )
        if max(len(text.prompt) + len(text.completion) for text in (plus, minus)) > max_tokens:
            left_out["too long"] += 1
            continue
        kept.append(PairTexts(pair.id, plus, minus))
        if len(kept) == most:
            break
    return kept, left_out


def halves(
    plus: Sequence[Encoded], minus: Sequence[Encoded], reduction: Reduction, shape: tuple[int, int] | None = None
) -> Halves:
    """Two halves whose weights make each loss an average of its kind.

    Raises:
        ValueError: If a half is empty, or a text does not fit the shape.
    """
    lengths = [[len(text.completion) for text in half] for half in (plus, minus)]
    both = sum(map(sum, lengths))
    made_halves = (
        tokens.batch(half, objectives.weights(own, reduction, num_tokens_of_both=both), shape=shape)
        for half, own in zip((plus, minus), lengths, strict=True)
    )
    return Halves(*made_halves)


def shape_of(pairs: Sequence[PairTexts], multiple: int = 32) -> tuple[int, int]:
    """The widths (t, c) of rows and completions that hold all of these, so that one program is compiled for a run."""
    texts = [text for pair in pairs for text in (pair.plus, pair.minus)]
    longest = max(len(text.prompt) + len(text.completion) for text in texts)
    completion = max(len(text.completion) for text in texts)
    return -(-longest // multiple) * multiple, -(-completion // multiple) * multiple


def fixed_pairs(
    pairs: Sequence[PairTexts], num_pairs: int, *, seed: int, reduction: Reduction, is_same_problems: bool = True
) -> Source:
    """Halves drawn from fixed pairs, epoch after epoch, each in an order of its own that (seed, epoch) decides.

    Args:
        pairs: All of them.
        num_pairs: In one half.
        seed: Of the order.
        reduction: What each half's loss is an average over.
        is_same_problems: Whether both halves hold the same problems; else the dispreferred ones have an order of
            their own.

    Raises:
        ValueError: If there are fewer pairs than a half takes.
    """
    if len(pairs) < num_pairs:
        raise ValueError(
            f"there must be at least the {num_pairs} pairs of one update; got {len(pairs)}. Take more problems or "
            "fewer pairs, or allow longer texts (max_tokens)."
        )
    shape = shape_of(pairs)

    def order(epoch: int, side: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch, side]).permutation(len(pairs))

    def drawn(update: int, side: int) -> list[PairTexts]:
        places = range(update * num_pairs, (update + 1) * num_pairs)
        orders = {epoch: order(epoch, side) for epoch in {place // len(pairs) for place in places}}
        return [pairs[orders[place // len(pairs)][place % len(pairs)]] for place in places]

    def source(update: int, params: Params) -> Halves:
        del params  # these pairs are what they are
        plus = drawn(update, 0)
        minus = plus if is_same_problems else drawn(update, 1)
        return halves([pair.plus for pair in plus], [pair.minus for pair in minus], reduction, shape)

    return source


def coin(seed: int, update: int) -> bool:
    """Whether this update begins with the preferred half where the start is random; the same in all arms of a seed."""
    return bool(np.random.default_rng([seed, update, 2]).integers(2))
