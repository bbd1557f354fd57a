"""What lies beside the rooms in a checkout changes no check: not what commands wrote, nor what users put into it."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("benchmarks", "console", "derivation", "experiments", "numerics", "tests")
# What the README's commands leave, an environment of any name, results beside those of the documentation.
FOLDERS = ("runs", "out", "models", "data", ".venv-newest", "env", "build", "docs/first-results/adamw/report")
CODE = "import os, sys\ny = undefined( 1)\n"
NOTEBOOK = {
    "cells": [{"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": [CODE]}],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The project as an archive gives it, without a repository that names what is ignored; and such folders in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for name in FOLDERS:
        (folder / name / "tests").mkdir(parents=True)
        (folder / name / "__init__.py").touch()  # a package, if anything were to look for one
        for place in (folder / name, folder / name / "tests"):
            (place / "test_mine.py").write_text(CODE)
            (place / "mine.ipynb").write_text(json.dumps(NOTEBOOK))
    return folder


def checked(checkout, *command):
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=checkout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("command", [("check",), ("format", "--check")])
def test_ruff_reads_the_rooms_alone(command, checkout):
    checked(checkout, "ruff", *command, "--no-cache", ".")


def test_ruff_reads_every_file_of_the_rooms(checkout):
    """A list of what is read must not leave out what there is."""
    said = checked(checkout, "ruff", "check", "--show-files")
    files = {Path(line).relative_to(checkout) for line in said.splitlines()}
    there = {path.relative_to(checkout) for room in ROOMS for path in (checkout / room).rglob("*.py")}
    assert files == there | {Path("pyproject.toml")}


def test_pytest_collects_the_tests_alone(checkout):
    """And the tests' module `runs` is found before the folder of runs."""
    for path in (checkout / "tests").rglob("*.py"):
        if path.name.startswith(("test_", "conftest")):
            path.unlink()
    (checkout / "tests" / "test_one.py").write_text(
        "from tests.support import runs\n\n\ndef test_one():\n    assert runs.NUM_UPDATES\n"
    )
    said = checked(checkout, "pytest", "-p", "no:cacheprovider", "-q")
    assert said.splitlines()[-1].startswith("1 passed")


@pytest.mark.slow
def test_types_are_those_of_the_rooms(checkout):
    path = checkout / "tests" / "test_two.py"
    path.write_text("from tests.support import runs\n\nNUMBER: int = runs.NUM_UPDATES\n")
    types = ("basedpyright", "--level", "error", "--pythonpath", sys.executable)
    checked(checkout, *types)
    path.write_text("from tests.support import runs\n\nWORD: str = runs.NUM_UPDATES\n")  # or nothing is read at all
    with pytest.raises(AssertionError, match="1 error"):
        checked(checkout, *types)
    path.unlink()


def test_a_distribution_takes_its_folders_from_the_root():
    """`tests` alone would be every folder of that name, such as those of an environment's packages."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {f"/{room}" for room in ROOMS} < set(patterns)
    assert all(pattern.startswith("/") for pattern in patterns)
