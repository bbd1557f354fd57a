"""The README's example prints what the README says that it prints."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_example_on_a_loss_of_ones_own():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- example: tests run it -->\n```python\n(.*?)```", text, re.DOTALL)
    promised = re.search(r"which prints `(.*?)`", text)
    assert code is not None
    assert promised is not None
    done = subprocess.run([sys.executable, "-c", code[1]], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == promised[1]
