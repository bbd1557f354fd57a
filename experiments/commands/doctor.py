"""`python -m experiments doctor`: the state of everything that the experiment needs, with the remedy for each fault.

JAX may be missing, which the command then says: modules that need JAX are imported behind that check.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from console.command import application, call, option
from console.packages import INSTALL
from console.values import input_folder
from experiments import presets
from experiments.commands.fetch import FOLDERS
from experiments.data import gsm8k

__all__ = ["Check", "app", "checks", "main"]

State = Literal["good", "missing", "short", "optional"]

_EPILOG = """\
A preset's memory is what `run --preset NAME --dry-run` reckons, over all its
devices; its disk is that of the model's folder and of the checkpoints that one
run holds while it is made.

exit status: 0 where the preset `tiny` can run, 1 where it cannot.
"""
_PYTHON = (3, 11)
_JAX = (0, 10)
_REQUIRED = ("safetensors", "tokenizers", "gguf")
_OPTIONAL = {
    "openai": ("teacher", "the command `teacher`"),
    "datasets": ("hub", "--data hub"),
    "transformers": ("reference", "the tests marked `reference`"),
}
_COLOURS = {"good": "green", "missing": "bold red", "short": "bold yellow", "optional": "yellow"}


class Check(NamedTuple):
    """The result of one check.

    Attributes:
        subject: The thing that was checked.
        state: Whether it is good, missing, too little, or missing and optional.
        value: Its version, path, size or error.
        remedy: The command to type or the thing to do; empty where the state is good.
    """

    subject: str
    state: State
    value: str
    remedy: str = ""


def checks(model: Path, data: Path) -> Iterator[Check]:
    """All checks, in the order in which the experiment needs their subjects.

    Args:
        model: The folder of the model.
        data: The folder of GSM8K.
    """
    is_new = sys.version_info >= _PYTHON
    running = ".".join(map(str, sys.version_info[:3]))
    yield Check("Python", "good" if is_new else "missing", running, "" if is_new else "install Python 3.11 or newer")
    yield from _jax()
    for name in _REQUIRED:
        remedy = "" if find_spec(name) else INSTALL.format(".[experiments]")
        yield Check(name, "missing" if remedy else "good", _version(name), remedy)
    for name, (extra, purpose) in _OPTIONAL.items():
        remedy = "" if find_spec(name) else f"for {purpose}: {INSTALL.format(f'.[{extra}]')}"
        yield Check(name, "optional" if remedy else "good", _version(name), remedy)
    if find_spec("jax"):
        yield from _model(model)
        yield from _data(data)
        yield from _presets()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _jax() -> Iterator[Check]:
    remedy = INSTALL.format(".[experiments]")
    if not find_spec("jax"):
        yield Check("JAX", "missing", "not installed", remedy)
        return
    import jax

    is_new = tuple(int(part) for part in jax.__version__.split(".")[:2]) >= _JAX
    yield Check("JAX", "good" if is_new else "missing", jax.__version__, "" if is_new else f"{remedy} --upgrade")
    try:
        devices = jax.devices()
    except RuntimeError as error:  # a plugin that finds no driver
        yield Check("devices", "missing", str(error).partition("\n")[0], "set JAX_PLATFORMS=cpu, or mend the driver")
        return
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    is_cpu = devices[0].platform == "cpu"
    remedy = "for an NVIDIA accelerator: pip install 'jax[cuda13]'" if is_cpu else ""
    yield Check("devices", "optional" if is_cpu else "good", f"{len(devices)} x {kinds}", remedy)


def _model(folder: Path) -> Iterator[Check]:
    remedy = f"python -m experiments fetch smollm2 --out {folder}"
    if not folder.is_dir():
        yield Check("model", "optional", f"no folder {folder}", remedy)
        return
    from experiments.data import tokens
    from experiments.model import parameters, pretrained

    try:
        count = parameters.count(pretrained.load_architecture(folder))
        tokens.load(folder)
    except (OSError, ValueError) as error:
        yield Check("model", "missing", str(error), f"remove it; {remedy}")
        return
    yield Check("model", "good", f"{folder}: {count:,} parameters")


def _data(folder: Path) -> Iterator[Check]:
    remedy = f"python -m experiments fetch gsm8k --out {folder}; or --data generated"
    if not folder.is_dir():
        yield Check("data", "optional", f"no folder {folder}", remedy)
        return
    try:
        counts = [f"{sum(1 for _ in gsm8k.from_folder(folder, split)):,} {split}" for split in gsm8k.SPLITS]
    except (OSError, ValueError) as error:
        # `fetch` leaves an existing folder as it is.
        yield Check("data", "missing", str(error), f"remove it; {remedy}")
        return
    yield Check("data", "good", f"{folder}: {', '.join(counts)}")


def _presets() -> Iterator[Check]:
    from experiments.training import memory

    free = {"memory": _free_memory(), "disk": shutil.disk_usage(Path.cwd()).free}
    remedies = {
        "memory": "shard it over devices, or choose a smaller preset",
        "disk": "free some, or give --out on a larger disk",
    }
    for name in presets.BY_NAME:
        needs = memory.requirements(name)
        for kind, need in (("memory", needs.memory), ("disk", needs.disk)):
            has = free[kind]
            value = f"{memory.size(need)} of {'unknown' if has is None else memory.size(has)} free"
            is_short = has is not None and has < need
            state = "short" if is_short else "good"
            yield Check(f"{name}: {kind}", state, value, remedies[kind] if is_short else "")


def _free_memory() -> int | None:
    """Bytes of memory that are free without swapping; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


app = application("doctor", _EPILOG)
main = partial(call, app)


@app.default
def doctor(
    *,
    model: Annotated[Path, option(metavar="DIR", parse=input_folder)] = FOLDERS["smollm2"],
    data: Annotated[Path, option(metavar="DIR", parse=input_folder)] = FOLDERS["gsm8k"],
) -> int:
    """The state of the installation; returns the exit status: 0 where the smallest preset can run, else 1."""
    from rich.text import Text

    from console.terminal import Terminal

    terminal = Terminal()
    is_able = True
    for check in checks(model, data):
        state = Text(f"{check.state:<9}", _COLOURS[check.state])
        # Long lines are not broken, so that a remedy can be copied.
        terminal.print(Text(f"{check.subject:<18} ").append_text(state).append(f" {check.value}"), soft_wrap=True)
        if check.remedy:
            terminal.print(f"{'':<18} -> {check.remedy}", soft_wrap=True)
        is_required = ":" not in check.subject or check.subject.startswith("tiny:")
        is_able &= not (is_required and check.state in ("missing", "short"))
    return 0 if is_able else 1
