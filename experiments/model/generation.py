"""Answers of a model to problems, decoded greedily and compared with the gold answers; their records and a summary."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np
from scipy.stats import binomtest

from experiments import files
from experiments.data import answers, harness
from experiments.data.answers import AnswerRule
from experiments.data.gsm8k import Problem
from experiments.data.tokens import TextCodec
from experiments.model import decoding, sharding
from experiments.model.transformer import Architecture, Params

__all__ = ["Sample", "Summary", "read", "record", "samples", "summary", "wilson_interval"]

_MULTIPLE = 32  # prompts of all batches have the same width, a multiple of this: the loop is compiled once


class Sample(NamedTuple):
    """One answer of the model.

    Attributes:
        text: The generated text, without special tokens.
        answer: The final answer in it, exactly; None where there is none.
        rule: The rule that the final answer was read by.
        is_right: Whether it is the gold answer.
        num_tokens: The length of the text.
        is_ended: Whether a stop token ended the text, rather than the limit.
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
    """The model's answers, a batch of `num_rows` problems at a time, in order.

    The prompt is the question in the chat template with `is_chat`, else "Question: ... Answer:".

    Raises:
        ValueError: If a question does not fit the model's context, or the model has no stop token.
    """
    if not codec.stop_tokens:
        raise ValueError("the model must have a stop token; its folder names none (eos_token_id in config.json)")
    prompts = [
        codec.prompt(problem.question if is_chat else f"Question: {problem.question}\nAnswer:", is_chat=is_chat)
        for problem in problems
    ]
    longest = max(map(len, prompts), default=1)
    if longest + max_new_tokens > architecture.context:
        raise ValueError(
            f"a question and its answer must fit the model's context of {architecture.context} tokens; got a question "
            f"of {longest} and --max-tokens {max_new_tokens}"
        )
    width = -(-longest // _MULTIPLE) * _MULTIPLE
    for start in range(0, len(problems), num_rows):
        block = problems[start : start + num_rows]
        rows = prompts[start : start + num_rows]
        rows += rows[:1] * (num_rows - len(rows))  # a last batch that is not full repeats its first prompt
        padded = np.zeros((num_rows, width), np.int32)
        for row, prompt in zip(padded, rows, strict=True):
            row[: len(prompt)] = prompt
        decoded = decoding.greedy(
            params,
            architecture,
            padded,
            np.array([len(prompt) for prompt in rows], np.int32),
            stop_tokens=codec.stop_tokens,
            max_new_tokens=max_new_tokens,
            compute_dtype=compute_dtype,
        )
        columns = (sharding.on_host(column) for column in decoded)
        yield [
            _sample(problem, codec.text(ids[:length].tolist()), int(length), bool(is_ended))
            for problem, ids, length, is_ended in zip(block, *columns, strict=False)
        ]


def _sample(problem: Problem, text: str, num_tokens: int, is_ended: bool) -> Sample:
    answer = answers.extract(text)
    is_right = answer.value is not None and answer.value == answers.number(problem.gold)
    return Sample(text, answer.value, answer.rule, is_right, num_tokens, is_ended)


def record(problem: Problem, sample: Sample, settings: Mapping[str, object]) -> dict[str, object]:
    """The line of a file of answers: the problem, the sample, the verdicts of lm-eval, and the settings."""
    match = harness.match(sample.text, problem.gold)
    return {
        "id": problem.id,
        "question": problem.question,
        "gold": problem.gold,
        **sample._asdict(),
        "answer": None if sample.answer is None else str(sample.answer),
        "lm_eval_strict": match.strict,
        "lm_eval_flexible": match.flexible,
        **settings,
    }


def read(path: Path, problems: Sequence[Problem], settings: Mapping[str, object]) -> list[Sample]:
    """The samples in the file of an interrupted run; its lines have the order of the problems, and these settings.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line has another problem or other settings; the message names it.
    """

    def sample(record: dict[str, object], line: int) -> Sample:
        if line > len(problems):
            raise ValueError(f"there are {len(problems)} problems to solve")
        if (record.get("id"), record.get("question")) != (problems[line - 1].id, problems[line - 1].question):
            raise ValueError("it has another question (another --data or --seed?)")
        for key, value in settings.items():
            if record.get(key) != value:
                raise ValueError(f"it was made with {key} {record.get(key)}, not {value}")
        match record:
            case {
                "text": str(text),
                "answer": str() | None as answer,
                "rule": rule,
                "is_right": bool(is_right),
                "num_tokens": int(num_tokens),
                "is_ended": bool(is_ended),
            } if rule in get_args(AnswerRule):
                with suppress(ValueError, ZeroDivisionError):
                    value = None if answer is None else Fraction(answer)
                    return Sample(text, value, cast(AnswerRule, rule), is_right, num_tokens, is_ended)
        raise ValueError("it is not an answer")

    return files.resumed_lines(path, sample)


class Summary(NamedTuple):
    """Counts over the answers to problems.

    Attributes:
        num_right: The right answers.
        interval: The 95 % Wilson interval of their share.
        by_rule: Answers and right answers of each rule by which the final answer was read.
        num_strict: The right answers by the strict match of lm-eval.
        num_flexible: The right answers by its flexible extract.
        num_cut: The answers that the limit ended.
        median_length: The median of their tokens; of an even number of answers the larger middle one.
    """

    num_right: int
    interval: tuple[float, float]
    by_rule: dict[AnswerRule, tuple[int, int]]
    num_strict: int
    num_flexible: int
    num_cut: int
    median_length: int


def wilson_interval(num_right: int, num_problems: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share."""
    low, high = binomtest(num_right, num_problems).proportion_ci(method="wilson")
    return float(low), float(high)


def summary(problems: Sequence[Problem], solved: Sequence[Sample]) -> Summary:
    """The summary of the answers to at least one problem."""
    num_right = sum(sample.is_right for sample in solved)
    answered = Counter(sample.rule for sample in solved)
    right = Counter(sample.rule for sample in solved if sample.is_right)
    matches = [harness.match(sample.text, problem.gold) for problem, sample in zip(problems, solved, strict=True)]
    return Summary(
        num_right=num_right,
        interval=wilson_interval(num_right, len(solved)),
        by_rule={rule: (answered[rule], right[rule]) for rule in get_args(AnswerRule)},
        num_strict=sum(match.strict for match in matches),
        num_flexible=sum(match.flexible for match in matches),
        num_cut=sum(not sample.is_ended for sample in solved),
        median_length=sorted(sample.num_tokens for sample in solved)[len(solved) // 2],
    )
