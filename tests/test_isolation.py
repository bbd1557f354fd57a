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


# The stages of the data. A module imports from its own stage and from those before it.
STAGES = (
    "",
    "data",
    "pairs",
    "teacher",
    "model",
    "training",
    "comparison",
    "report",
    "library",
    "commands",
    "__main__",
)


def stage(module):
    """The stage of a module of the experiments; the modules of the room itself come first of all."""
    name = module.split(".")[1] if "." in module else ""
    return STAGES.index(name if name in STAGES else "")


def imports_of(path, room):
    """Every module of a room that a file of it imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == room)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == room:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                parts = inner.split(".")
                is_module = (ROOT.joinpath(*parts).with_suffix(".py")).is_file() or ROOT.joinpath(*parts).is_dir()
                yield inner if is_module else str(node.module)


def imports_within(room):
    """The imports of every module of a room from the room itself."""
    files = {module: ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in modules(room)}
    return {module: sorted(set(imports_of(path, room))) for module, path in files.items() if path.is_file()}


IMPORTS = imports_within("experiments")
COMMANDS = "experiments.commands."


def test_no_module_imports_from_a_later_stage():
    assert len(IMPORTS) > 40
    assert not [(module, name) for module, names in IMPORTS.items() for name in names if stage(name) > stage(module)]


def test_nothing_imports_from_the_commands_but_other_commands():
    importing = {module for module, names in IMPORTS.items() if any(name.startswith(COMMANDS) for name in names)}
    assert importing <= {module for module in IMPORTS if module.startswith(COMMANDS)}


# The command loads its cases late, for a fast --help; they import the type of its options for the type checker alone.
FOR_TYPES_ALONE = {"numerics.cases": {"numerics.compare"}}


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_no_modules_import_each_other_in_a_circle(room):
    imports = imports_within(room)
    assert len(imports) > 3
    left = {
        module: set(names) & imports.keys() - FOR_TYPES_ALONE.get(module, set()) for module, names in imports.items()
    }
    while free := [module for module, names in left.items() if not names]:
        for module in free:
            del left[module]
        for names in left.values():
            names.difference_update(free)
    assert not left


def test_the_page_of_the_architecture_names_every_room_and_stage():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = {
        line.split()[0].removesuffix("/").removesuffix(".py") for line in page.split("```")[1].splitlines() if line
    }
    there = {path.stem for path in (ROOT / "experiments").iterdir() if not path.name.startswith("_")}
    assert {*FORBIDDEN, *there} <= listed
    assert {*STAGES[1:-1]} <= listed
    assert not {
        name
        for name in listed
        if not any(
            (ROOT / place / name).exists() or (ROOT / place / f"{name}.py").exists() for place in (".", "experiments")
        )
    }
