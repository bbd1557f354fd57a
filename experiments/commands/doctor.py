"""`python -m experiments doctor`: what is here, what is missing, and the exact remedy."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from console.command import Parser
from console.packages import INSTALL
from console.values import input_folder

__all__ = ["Finding", "Need", "findings", "main", "needs"]

State = Literal["good", "missing", "short", "optional"]

_EPILOG = """\
A preset's memory is what `run --preset NAME --dry-run` reckons, over all its
devices; its disk is that of the model's folder and of the checkpoints that one
run holds while it is made.

exit status: 0 where the preset `tiny` can run, 1 where it cannot.
"""
_PYTHON = (3, 11)
_JAX = (0, 10)
_OPTIONAL = {
    "openai": ("teacher", "the command `teacher`"),
    "datasets": ("hub", "--data hub"),
    "transformers": ("reference", "the tests marked `reference`"),
}


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: The thing.
        state: Whether it is good, missing, too little, or missing and optional.
        says: What was found.
        remedy: What to type, or to do; empty where it is good.
    """

    what: str
    state: State
    says: str
    remedy: str = ""


class Need(NamedTuple):
    """What a preset takes, in bytes."""

    parameters: int
    memory: int
    disk: int


def needs() -> dict[str, Need]:
    """What each preset takes, over all its devices."""
    from experiments import presets
    from experiments.model import llama
    from experiments.training import memory

    found = {}
    for name in presets.BY_NAME:
        preset, architecture = presets.config(name), memory.PUBLISHED[name]
        count, shape = llama.num_parameters(architecture), preset.mesh
        devices = shape.data * shape.fsdp * shape.tensor
        on_each = sum(need.num_bytes for need in memory.of_run(preset, architecture))
        disk = 4 * count + memory.disk([(preset, architecture)]).most
        found[name] = Need(count, on_each * devices, disk)
    return found


def _memory() -> int | None:
    """Bytes of memory that can be had without swapping; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def findings(model: Path, data: Path) -> Iterator[Finding]:
    """Everything that the experiment needs, in the order in which it is needed.

    Args:
        model: The folder of the model to look for.
        data: The folder of GSM8K to look for.
    """
    running = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= _PYTHON
    yield Finding("Python", "good" if good else "missing", running, "" if good else "install Python 3.11 or newer")
    yield from _jax()
    for name in ("safetensors", "tokenizers", "gguf"):
        remedy = "" if find_spec(name) else INSTALL.format(".[experiments]")
        yield Finding(name, "missing" if remedy else "good", _version(name), remedy)
    for name, (extra, purpose) in _OPTIONAL.items():
        remedy = "" if find_spec(name) else f"for {purpose}: {INSTALL.format(f'.[{extra}]')}"
        yield Finding(name, "optional" if remedy else "good", _version(name), remedy)
    if not find_spec("jax"):
        return  # what follows is known once it is there
    yield from _model(model)
    yield from _data(data)
    from experiments.training.memory import size

    memory, disk = _memory(), shutil.disk_usage(Path.cwd()).free
    for name, need in needs().items():
        for what, has, wanted in (("memory", memory, need.memory), ("disk", disk, need.disk)):
            says = f"{size(wanted)} of {'unknown' if has is None else size(has)} free"
            short = has is not None and has < wanted
            remedy = {
                "memory": "shard it over devices, or choose a smaller preset",
                "disk": "free some, or give --out on a larger disk",
            }[what]
            yield Finding(f"{name}: {what}", "short" if short else "good", says, remedy if short else "")


def _jax() -> Iterator[Finding]:
    remedy = INSTALL.format(".[experiments]")
    if not find_spec("jax"):
        yield Finding("JAX", "missing", "not installed", remedy)
        return
    import jax

    parts = tuple(int(part) for part in jax.__version__.split(".")[:2])
    good = parts >= _JAX
    yield Finding("JAX", "good" if good else "missing", jax.__version__, "" if good else f"{remedy} --upgrade")
    try:
        devices = jax.devices()
    except RuntimeError as error:  # a plugin that finds no driver
        yield Finding("devices", "missing", str(error).partition("\n")[0], "set JAX_PLATFORMS=cpu, or mend the driver")
        return
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    is_cpu = devices[0].platform == "cpu"
    remedy = "for an NVIDIA accelerator: pip install 'jax[cuda13]'" if is_cpu else ""
    yield Finding("devices", "optional" if is_cpu else "good", f"{len(devices)} x {kinds}", remedy)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _model(folder: Path) -> Iterator[Finding]:
    remedy = f"python -m experiments fetch smollm2 --out {folder}"
    if not folder.is_dir():
        yield Finding("model", "optional", f"no folder {folder}", remedy)
        return
    from experiments.data import tokens
    from experiments.model import llama, pretrained

    try:
        count = llama.num_parameters(pretrained.load_architecture(folder))
        tokens.load(folder)
    except (OSError, ValueError) as error:
        yield Finding("model", "missing", str(error), f"remove it; {remedy}")
        return
    yield Finding("model", "good", f"{folder}: {count:,} parameters")


def _data(folder: Path) -> Iterator[Finding]:
    remedy = f"python -m experiments fetch gsm8k --out {folder}; or --data generated"
    if not folder.is_dir():
        yield Finding("data", "optional", f"no folder {folder}", remedy)
        return
    from experiments.data import gsm8k

    try:
        counts = [f"{sum(1 for _ in gsm8k.from_folder(folder, split)):,} {split}" for split in gsm8k.SPLITS]
    except (OSError, ValueError) as error:
        # `fetch` leaves a folder that is there as it is.
        yield Finding("data", "missing", str(error), f"remove it; {remedy}")
        return
    yield Finding("data", "good", f"{folder}: {', '.join(counts)}")


def _parser() -> Parser:
    parser = Parser("python -m experiments doctor", "What is here, what is missing, and the remedy.", _EPILOG)
    add = parser.add_argument
    add("--model", type=input_folder, metavar="DIR", help="default: models/smollm2")
    add("--data", type=input_folder, metavar="DIR", help="default: data/gsm8k")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 where the smallest preset can run, else 1."""
    options = _parser().parse(arguments)

    from rich.text import Text

    from console.terminal import Terminal
    from experiments.commands.fetch import FOLDERS

    terminal = Terminal(highlight=False, markup=False)
    is_able = True
    colours = {"good": "green", "missing": "bold red", "short": "bold yellow", "optional": "yellow"}
    for finding in findings(options.model or FOLDERS["smollm2"], options.data or FOLDERS["gsm8k"]):
        state = Text(f"{finding.state:<9}", colours[finding.state])
        # Lines are not broken: a remedy is there to be copied.
        terminal.print(Text(f"{finding.what:<18} ").append_text(state).append(f" {finding.says}"), soft_wrap=True)
        if finding.remedy:
            terminal.print(f"{'':<18} -> {finding.remedy}", soft_wrap=True)
        is_required = ":" not in finding.what or finding.what.startswith("tiny:")
        is_able &= not (is_required and finding.state in ("missing", "short"))
    return 0 if is_able else 1
