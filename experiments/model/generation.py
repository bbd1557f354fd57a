"""Answers of a model to problems, decoded greedily and compared with the gold answers."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from experiments.data import answers
from experiments.data.answers import AnswerRule
from experiments.data.gsm8k import Problem
from experiments.data.tokens import TextCodec
from experiments.model import decoding, sharding
from experiments.model.llama import Architecture, Params

__all__ = ["Sample", "samples"]


class Sample(NamedTuple):
    """One answer of the model.

    Attributes:
        text: As generated, without special tokens.
        answer: What was read as the final answer, exactly; None where nothing was.
        rule: What it was read by.
        is_right: Whether it is the gold answer.
        num_tokens: Of the text.
        is_ended: Whether a stop token ended it, rather than the limit.
    """

    text: str
    answer: Fraction | None
    rule: AnswerRule
    is_right: bool
    num_tokens: int
    is_ended: bool


def samples(
    params: Params,
    architecture: Architecture,
    codec: TextCodec,
    problems: Sequence[Problem],
    *,
    is_chat: bool,
    num_rows: int,
    max_new_tokens: int,
    compute_dtype: str = "float32",
) -> Iterator[list[Sample]]:
    """The model's answers, a batch of problems at a time, in order.

    Args:
        params: The parameters.
        architecture: Their model.
        codec: The model's tokenizer.
        problems: What to solve.
        is_chat: Whether to put the question into the chat template; else it is "Question: ... Answer:".
        num_rows: Problems at once.
        max_new_tokens: The most tokens of an answer.
        compute_dtype: Of the model.

    Raises:
        ValueError: If a question does not fit the model's context, or the model has no stop token.
    """
    if not codec.stop_tokens:
        raise ValueError("the model must have a stop token; its folder names none (eos_token_id in config.json)")
    prompts = [codec.prompt(problem.question if is_chat else _plain(problem), is_chat=is_chat) for problem in problems]
    longest = max(map(len, prompts), default=1)
    if longest + max_new_tokens > architecture.context:
        raise ValueError(
            f"a question and its answer must fit the model's context of {architecture.context} tokens; got a question "
            f"of {longest} and --max-tokens {max_new_tokens}"
        )
    width = -(-longest // 32) * 32  # one shape for all: the loop is compiled once
    for start in range(0, len(problems), num_rows):
        several = range(start, min(start + num_rows, len(problems)))
        filled = [*several, *[start] * (num_rows - len(several))]
        tokens = np.zeros((num_rows, width), np.int32)
        for row, place in enumerate(filled):
            tokens[row, : len(prompts[place])] = prompts[place]
        made = decoding.greedy(
            params,
            architecture,
            tokens,
            np.array([len(prompts[place]) for place in filled], np.int32),
            stop_tokens=codec.stop_tokens,
            max_new_tokens=max_new_tokens,
            compute_dtype=compute_dtype,
        )
        ids, lengths, is_ended = (sharding.on_host(part) for part in made)
        found = []
        for row, place in enumerate(several):
            text = codec.text(ids[row, : lengths[row]].tolist())
            answer = answers.extract(text)
            is_right = answer.value is not None and answer.value == answers.number(problems[place].gold)
            found.append(Sample(text, answer.value, answer.rule, is_right, int(lengths[row]), bool(is_ended[row])))
        yield found


def _plain(problem: Problem) -> str:
    return f"Question: {problem.question}\nAnswer:"
