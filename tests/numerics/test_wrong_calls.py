"""No wrong argument of the public numerics is accepted in silence, and none ends in a traceback from inside."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import wrong_calls

ROOT = Path(__file__).parents[2]

# What a message calls a parameter where it does not use its name.
CALLED = {
    "batches": ["stack"],
    "minus_batches": ["batches", "pairs"],
    "plus_batches": ["batches", "pairs"],
    "name": ["problem", "schedule", "optimizer"],
    "other_order": ["order"],
    "text": ["optimizer", "schedule", "sgd", "adam:"],
    "tree": ["a tree"],
    "functions": ["function"],
    "options": ["clipped-adamw:", "frozen-adamw:"],
}


@pytest.fixture(scope="module")
def answers():
    command = [sys.executable, "-m", "tests.support.wrong_calls"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_public_function_is_called_wrongly(answers):
    names = {f"{module}.{name}" for module, name, _ in wrong_calls.functions()}
    assert len(names) > 50
    assert names - {name for name, *_ in answers} == {"optimizers.gradient_descent"}  # takes nothing
    assert len(answers) > 2000


def test_no_wrong_call_is_accepted(answers):
    assert [(name, wrong) for name, wrong, answer in answers if answer is None] == []


def test_every_refusal_is_one_line_of_ours(answers):
    """Raised in this room, of a kind that the docstrings name, saying what must be and what is there instead."""
    for name, wrong, (kind, text, place) in answers:
        assert place == "ours", (name, wrong, kind, text)
        assert kind in ("TypeError", "ValueError", "FloatingPointError"), (name, wrong, kind, text)
        assert " must " in text, (name, wrong, text)
        assert "; " in text, (name, wrong, text)
        assert "\n" not in text, (name, wrong, text)


def test_a_refusal_is_of_the_argument_that_is_wrong(answers):
    for name, wrong, (_, text, _) in answers:
        words = [word for parameter in wrong for word in (parameter, *CALLED.get(parameter, []))]
        assert any(word in text for word in words) or "adam must" in text, (name, wrong, text)
