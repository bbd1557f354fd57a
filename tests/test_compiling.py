"""A damaged or foreign entry of the compiled programs fails no test, here and in processes that tests start."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.support import compiling

NAME = f"program_{os.getpid()}"
CODE = f"def {NAME}(x):\n    return 3 * x + 0.25\n"
CALL = f"import jax\n{CODE}print(jax.jit({NAME})(2.0))\n"


def printed():
    done = subprocess.run([sys.executable, "-c", CALL], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def here():
    """The program as a function that is compiled anew at every call."""
    names = {}
    exec(CODE, names)

    def call():
        jax.clear_caches()
        return float(jax.jit(names[NAME])(np.float64(2)))

    return call


@pytest.fixture(scope="module")
def entries(here):
    """The program's entries: this process and a started one differ in the width of numbers."""
    assert here() == float(printed()) == 6.25
    found = list(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).glob(f"jit_{NAME}-*-cache"))
    assert len(found) == 2
    yield {path: path.read_bytes() for path in found}
    for path in found:
        path.unlink()


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="cut off"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"an entry of another kind", id="foreign"),
    ],
)
def test_an_entry_that_is_damaged(damaged, entries, here):
    for path, content in entries.items():
        path.write_bytes(damaged(content))
    assert here() == float(printed()) == 6.25


def test_a_folder_that_cannot_be_written(entries, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file"))
    assert printed() == "6.25"


def test_room_is_made_where_there_are_too_many_entries(tmp_path):
    folder = tmp_path / "machine"
    folder.mkdir()
    for number in range(3):
        (folder / str(number)).write_bytes(bytes(10))
    compiling.make_room(tmp_path, most_bytes=30)
    assert len(list(folder.iterdir())) == 3
    compiling.make_room(tmp_path, most_bytes=29)
    assert not list(folder.iterdir())


def test_flags_of_the_environment_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--a=1 --b=2")
    assert compiling.flags("--b=2", "--a=3") == "--a=1 --b=2 --a=3"
