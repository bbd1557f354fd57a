"""Each room imports with the other rooms, and what only they need, blocked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "console": ["derivation", "numerics", "experiments", "sympy", "jax", "numpy"],
    "derivation": ["numerics", "experiments", "jax", "optax", "numpy", "torch", "matplotlib"],
    "numerics": ["derivation", "experiments", "sympy", "torch"],
    "experiments": ["derivation", "sympy"],
}


def modules(room):
    for path in sorted((ROOT / room).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("room", ["console", "derivation", "numerics"])
def test_room_runs_with_the_others_blocked(room):
    code = (
        "import importlib, sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name.split('.')[0] in {FORBIDDEN[room]!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        f"for name in {list(modules(room))!r}:\n"
        "    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_no_import_crosses_between_rooms(room):
    for path in sorted((ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                assert name.split(".")[0] not in FORBIDDEN[room], f"{path.name} imports {name}"
