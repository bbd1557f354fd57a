r"""The two readings of lm-evaluation-harness, for figures beside this project's: published figures are read so.

This module must not know the project's own reading, and repeats the harness with its faults.

Source:
    EleutherAI/lm-evaluation-harness, task gsm8k, version 3.0 (lm-eval 0.4.13): its stop texts, its two filters, and
    the metric exact_match with what it ignores.
"""

import re
from typing import NamedTuple

__all__ = ["Match", "match"]

_ENDS = re.compile(r"Question:|</s>|<\|im_end\|>")
_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")
_IGNORED = re.compile(r"[,$]")


class Match(NamedTuple):
    """Whether a text counts as right.

    Attributes:
        strict: By strict-match: the first `#### N`.
        flexible: By flexible-extract: the last run of digits, points, commas and dollar signs.
    """

    strict: bool
    flexible: bool


def match(text: str, gold: str) -> Match:
    """Whether lm-eval counts a text as right, whose gold answer is the text behind `####`."""
    text = _ENDS.split(text, maxsplit=1)[0]
    right = _compared(gold)
    readings = _STRICT.findall(text)[:1], _FLEXIBLE.findall(text)[-1:]
    return Match(*(bool(answers) and _compared(answers[0]) == right for answers in readings))


def _compared(answer: str) -> str:
    return _IGNORED.sub("", answer).removesuffix(".")
