"""The state of everything that the experiment needs, with the remedy for each fault.

JAX and the packages behind it may be missing, which a check then says: they are imported where they are checked.
"""

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

from console.packages import INSTALL
from experiments import presets
from experiments.data import gsm8k

__all__ = ["Check", "State", "checks"]

State = Literal["good", "missing", "short", "optional"]
_PYTHON = (3, 11)
_JAX = (0, 10)
_REQUIRED = ("safetensors", "tokenizers", "gguf")
_OPTIONAL = {
    "openai": ("teacher", "the command `teacher`"),
    "datasets": ("hub", "--data hub"),
    "ray": ("ray", "run --ray"),
    "transformers": ("reference", "the tests marked `reference`"),
}
_ROOM = {
    "memory": "shard it over devices, or choose a smaller preset",
    "disk": "free some, or give --out on a larger disk",
}


class Check(NamedTuple):
    """The result of one check.

    Attributes:
        subject: The thing that was checked.
        value: Its version, path, size or error.
        remedy: The command to type or the thing to do; empty where the state is good.
        fault: The state where there is a remedy: missing, too little, or missing and optional.
    """

    subject: str
    value: str
    remedy: str = ""
    fault: State = "missing"

    @property
    def state(self) -> State:
        """Whether it is good; if not, the fault."""
        return self.fault if self.remedy else "good"


def checks(model: Path, data: Path) -> Iterator[Check]:
    """All checks, in the order in which the experiment needs their subjects.

    Args:
        model: The folder of the model.
        data: The folder of GSM8K.
    """
    remedy = "" if sys.version_info >= _PYTHON else "install Python 3.11 or newer"
    yield Check("Python", ".".join(map(str, sys.version_info[:3])), remedy)
    has_jax = find_spec("jax") is not None
    yield from _jax() if has_jax else [Check("JAX", "not installed", INSTALL.format(".[experiments]"))]
    for name in _REQUIRED:
        yield Check(name, _version(name), "" if find_spec(name) else INSTALL.format(".[experiments]"))
    for name, (extra, purpose) in _OPTIONAL.items():
        remedy = "" if find_spec(name) else f"for {purpose}: {INSTALL.format(f'.[{extra}]')}"
        yield Check(name, _version(name), remedy, "optional")
    if has_jax:
        yield _model(model)
        yield _data(data)
        yield from _presets()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _jax() -> Iterator[Check]:
    import jax  # noqa: PLC0415  # may be missing

    is_new = tuple(int(part) for part in jax.__version__.split(".")[:2]) >= _JAX
    yield Check("JAX", jax.__version__, "" if is_new else f"{INSTALL.format('.[experiments]')} --upgrade")
    try:
        devices = jax.devices()
    except RuntimeError as error:  # a plugin that finds no driver
        yield Check("devices", str(error).partition("\n")[0], "set JAX_PLATFORMS=cpu, or mend the driver")
        return
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    remedy = "for an NVIDIA accelerator: pip install 'jax[cuda13]'" if devices[0].platform == "cpu" else ""
    yield Check("devices", f"{len(devices)} x {kinds}", remedy, "optional")


def _model(folder: Path) -> Check:
    remedy = f"python -m experiments fetch smollm2 --out {folder}"
    if not folder.is_dir():
        return Check("model", f"no folder {folder}", remedy, "optional")
    from experiments.data import tokens  # noqa: PLC0415  # needs packages that may be missing
    from experiments.model import parameters, pretrained  # noqa: PLC0415  # likewise

    try:
        count = parameters.count(pretrained.load_architecture(folder))
        tokens.load(folder)
    except (OSError, ValueError) as error:
        return Check("model", str(error), f"remove it; {remedy}")
    return Check("model", f"{folder}: {count:,} parameters")


def _data(folder: Path) -> Check:
    remedy = f"python -m experiments fetch gsm8k --out {folder}; or --data generated"
    if not folder.is_dir():
        return Check("data", f"no folder {folder}", remedy, "optional")
    try:
        counts = [f"{sum(1 for _ in gsm8k.from_folder(folder, split)):,} {split}" for split in gsm8k.SPLITS]
    except (OSError, ValueError) as error:
        return Check("data", str(error), f"remove it; {remedy}")  # `fetch` leaves an existing folder as it is
    return Check("data", f"{folder}: {', '.join(counts)}")


def _presets() -> Iterator[Check]:
    from experiments.training import memory  # noqa: PLC0415  # needs JAX

    free = {"memory": _free_memory(), "disk": shutil.disk_usage(Path.cwd()).free}
    for name in presets.BY_NAME:
        needs = memory.requirements(name)._asdict()
        for kind, has in free.items():
            value = f"{memory.size(needs[kind])} of {'unknown' if has is None else memory.size(has)} free"
            yield Check(f"{name}: {kind}", value, _ROOM[kind] if has is not None and has < needs[kind] else "", "short")


def _free_memory() -> int | None:
    """Bytes of memory that are free without swapping; None where the system does not say, as outside Linux."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
