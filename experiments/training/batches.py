"""Batches of an update: encoded pairs of solutions, and which of them make up an update. Knows no rule and no step.

The loop asks a `BatchSource` for the batch of an update and passes the parameters of that moment. Fixed pairs, as here,
do not need them. On-policy groups would sample with them, put the rollouts of positive advantage into the one side and
those of negative advantage into the other, and the advantages into the weights.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple, Protocol, overload

import numpy as np

from experiments.arms import Reduction
from experiments.data import preferences, tokens
from experiments.data.chat import Question
from experiments.data.preferences import Answer, Preference
from experiments.data.tokens import Batch, Encoded, EncodedTexts, TextCodec
from experiments.model import objectives
from experiments.model.transformer import Params

__all__ = [
    "BatchSource",
    "EncodedPair",
    "EncodedPairs",
    "PairBatch",
    "coin",
    "drawn",
    "encode_pairs",
    "epoch_batches",
    "padded_shape",
    "pair_batch",
]

_BLOCK = 128  # pairs that are tokenised at once: enough for many cores, and no more than some megabytes of tokens


class EncodedPair(NamedTuple):
    """A preferred and a dispreferred solution of one problem, as token ids."""

    id: str
    preferred: Encoded
    dispreferred: Encoded


class EncodedPairs(Sequence[EncodedPair]):
    """Encoded pairs, whose token ids lie in one flat array: a pair is made when it is asked for.

    Attributes:
        ids: The identifiers of the pairs.
        texts: The preferred and the dispreferred text of each pair, in turn.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.texts = EncodedTexts()

    def append(self, pair: EncodedPair) -> None:
        """Adds a pair."""
        self.ids.append(pair.id)
        self.texts.append(pair.preferred)
        self.texts.append(pair.dispreferred)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> EncodedPair: ...

    @overload
    def __getitem__(self, place: slice) -> list[EncodedPair]: ...

    def __getitem__(self, place: int | slice) -> EncodedPair | list[EncodedPair]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = range(len(self))[place]  # an IndexError behind the end
        return EncodedPair(self.ids[index], self.texts[2 * index], self.texts[2 * index + 1])


class PairBatch(NamedTuple):
    """The two halves of an update, with their weights.

    The update descends L+ on the preferred half and L- on the dispreferred half; L- is a negated loss.
    """

    preferred: Batch
    dispreferred: Batch


class BatchSource(Protocol):
    """The batches of updates."""

    def __call__(self, update: int, params: Params) -> PairBatch:
        """The batch of an update, counted from 0. The same arguments always give the same batch."""
        ...


def encode_pairs(
    pairs: Iterable[Preference],
    codec: TextCodec,
    *,
    source: str,
    is_chat: bool,
    max_tokens: int,
    left_out: Counter[str],
    most: int | None = None,
    skip_broken: bool = False,
) -> EncodedPairs:
    """Pairs as token ids.

    Args:
        pairs: The pairs.
        codec: The tokenizer of the model.
        source: The name of their source, for errors.
        is_chat: Whether the chat template is used; else a text is continued as it is, and the only message of a user
            is asked as "Question: ... Answer:".
        max_tokens: The most tokens of prompt and completion together.
        left_out: The number of pairs that are left out, by reason; it grows.
        most: The most pairs; all if None.
        skip_broken: Whether a pair that cannot be encoded is left out.

    Raises:
        ValueError: If a pair cannot be encoded, unless `skip_broken`; the message names it.
    """
    kept = EncodedPairs()
    pairs = iter(pairs)
    while block := list(islice(pairs, _BLOCK)):
        requests = [_request(answer, is_chat) for pair in block for answer in pair[1:]]
        texts = codec.encoded_all(requests, is_chat=is_chat)
        for pair, preferred, dispreferred in zip(block, texts[::2], texts[1::2], strict=True):
            if isinstance(preferred, ValueError) or isinstance(dispreferred, ValueError):
                error = preferred if isinstance(preferred, ValueError) else dispreferred
                if not skip_broken:
                    raise ValueError(f"{source}, pair {pair.id}: {error}")
                left_out[preferences.broken(str(error))] += 1
            elif max(preferred.num_tokens, dispreferred.num_tokens) > max_tokens:
                left_out["too long"] += 1
            else:
                kept.append(EncodedPair(pair.id, preferred, dispreferred))
            if len(kept) == most:
                return kept
    return kept


def _request(answer: Answer, is_chat: bool) -> tuple[Question, str]:
    prompt, text = answer
    if not is_chat and not isinstance(prompt, str) and [message.role for message in prompt] == ["user"]:
        return f"Question: {prompt[0].content}\nAnswer:", f" {text}"
    return prompt, text


def pair_batch(
    preferred: Sequence[Encoded],
    dispreferred: Sequence[Encoded],
    reduction: Reduction,
    shape: tuple[int, int] | None = None,
) -> PairBatch:
    """Two halves whose weights make each loss the average that the reduction names.

    Raises:
        ValueError: If a half is empty, or a text does not fit the shape.
    """
    lengths = [[len(text.completion) for text in half] for half in (preferred, dispreferred)]
    num_tokens = sum(map(sum, lengths))
    batches = (
        tokens.batch(half, objectives.weights(own, reduction, num_tokens_of_both=num_tokens), shape=shape)
        for half, own in zip((preferred, dispreferred), lengths, strict=True)
    )
    return PairBatch(*batches)


def padded_shape(pairs: Sequence[EncodedPair]) -> tuple[int, int]:
    """The widths (t, c) of rows and completions that hold all pairs, so that one program is compiled for a run."""
    return tokens.padded_shape(text for pair in pairs for text in (pair.preferred, pair.dispreferred))


def epoch_batches(
    pairs: Sequence[EncodedPair], num_pairs: int, *, seed: int, reduction: Reduction, is_same_problems: bool = True
) -> BatchSource:
    """Batches of fixed pairs, epoch after epoch, each in an order of its own that (seed, epoch) decides.

    Args:
        pairs: All pairs.
        num_pairs: The pairs of a batch.
        seed: The seed of the order.
        reduction: The average that the loss of each half is.
        is_same_problems: Whether both halves hold the same problems; else the dispreferred ones have an order of
            their own.

    Raises:
        ValueError: If there are fewer pairs than a batch takes.
    """
    if len(pairs) < num_pairs:
        raise ValueError(
            f"there must be at least the {num_pairs} pairs of one update; got {len(pairs)}. Take more problems or "
            "fewer pairs, or allow longer texts (max_tokens)."
        )
    shape = padded_shape(pairs)

    def source(update: int, params: Params) -> PairBatch:
        del params  # these pairs do not depend on them
        first, second = (
            [pairs[place] for place in drawn(len(pairs), num_pairs, seed=seed, update=update, side=side)]
            for side in (0, 0 if is_same_problems else 1)
        )
        return pair_batch([pair.preferred for pair in first], [pair.dispreferred for pair in second], reduction, shape)

    return source


def drawn(total: int, count: int, *, seed: int, update: int, side: int) -> list[int]:
    """The numbers of the examples of an update, epoch after epoch, each in an order of its own.

    Args:
        total: The number of all examples.
        count: The number of examples of an update.
        seed: The seed of the orders.
        update: The update, from 0.
        side: The number of the side whose order it is.
    """
    places = range(update * count, (update + 1) * count)
    epochs = sorted({place // total for place in places})
    orders = {epoch: np.random.default_rng([seed, epoch, side]).permutation(total) for epoch in epochs}
    return [int(orders[place // total][place % total]) for place in places]


def coin(seed: int, update: int) -> bool:
    """Whether the word of an update is stepped as it is written where the start is random; for all arms of a seed."""
    return bool(np.random.default_rng([seed, update, 2]).integers(2))
