"""The README's examples print what the README says that they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import tiny

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mark", ["example: tests run it", "example of the language model: tests run it"])
def test_an_example_prints_what_it_promises(mark, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(rf"<!-- {mark} -->\n```python\n(.*?)```(.*)", text, re.DOTALL)
    assert code is not None
    promised = re.search(r"which prints `(.*?)`", code[2])
    assert promised is not None
    tiny.write(tmp_path / "models" / "tiny")
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
