"""lm-eval's two readings of a solution, as its task gsm8k (version 3.0) publishes them, good and bad."""

import os
from pathlib import Path

import pytest

from experiments.data import gsm8k, harness

# Each by hand from the task's file: strict-match takes the first "#### (-?[0-9.,]+)", flexible-extract the last of
# "(-?[$0-9.,]{2,})|(-?[0-9]+)"; commas, dollar signs and a final point are left out before texts are compared.
READINGS = [
    ("She has 72.\n#### 72", "72", True, True),
    ("#### 72.", "72", True, True),
    ("#### 1,234", "1234", True, True),
    ("#### -7", "-7", True, True),
    ("#### 72\n#### 73", "72", True, False),
    ("#### 71\n#### 72", "72", False, True),
    ("#### 72 clips in 2 months", "72", True, False),
    ("#### 72 clips in two months", "72", True, True),
    ("#### $72", "72", False, True),
    ("####72", "72", False, True),
    ("The answer is 72.", "72", False, True),
    ("The answer is $72.", "72", False, True),
    ("The answer is 72!", "72", False, True),
    ("The answer is 72.00.", "72", False, False),  # texts are compared, not numbers
    ("#### 72.0", "72", False, False),
    ("Of the 5. And so on...", "5", False, False),  # "..." is a run of points
    ("48 + 24 = 72, as said,", "72", False, True),
    ("#### 48 + 24 = 72", "72", False, True),
    ("#### Step 1: 48\n#### 72", "72", True, True),
    ("72 cm^2", "72", False, False),
    ("no number", "5", False, False),
    ("", "5", False, False),
    ("#### 72\n\nQuestion: Tom has 7 dogs.\n#### 28", "72", True, True),
    ("Question: Tom has 7 dogs.\n#### 28", "28", False, False),  # it ends at every "Question:"
    ("It is 72</s> 5", "72", False, True),
    ("It is 72<|im_end|> 5", "72", False, True),
    ("It is 72\nProblem 2: 5", "72", False, False),
    ("<think>#### 4</think>\n#### 3", "3", False, True),
]


@pytest.mark.parametrize(("text", "gold", "strict", "flexible"), READINGS, ids=[repr(row[0])[:40] for row in READINGS])
def test_readings_as_published(text, gold, strict, flexible):
    assert harness.match(text, gold) == harness.Match(strict, flexible)


@pytest.mark.skipif("GSM8K_DATA" not in os.environ, reason="GSM8K_DATA names no folder with train.jsonl and test.jsonl")
def test_gold_solutions():
    """As measured with lm-eval 0.4.13: none is misread; without the last line flexible-extract reads 1,248 of 1,319."""
    problems = list(gsm8k.from_folder(Path(os.environ["GSM8K_DATA"]), "test"))
    assert all(harness.match(problem.solution, problem.gold) == (True, True) for problem in problems)
    bodies = [harness.match(problem.solution.rpartition("\n")[0], problem.gold) for problem in problems]
    assert sum(match.flexible for match in bodies) == 1248
    assert not any(match.strict for match in bodies)
