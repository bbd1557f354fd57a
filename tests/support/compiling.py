"""Cheap compilation for tests: a simple generator of code, and a folder of programs that all processes share.

The workers, the processes that tests start, and the next run find there what was compiled before. An entry that was cut
off, since its writer was killed, or that another version wrote, costs a warning, and its program is compiled again.
"""

import hashlib
import math
import os
import platform
from pathlib import Path

import jaxlib.version

__all__ = ["CACHE", "environment", "flags", "make_room", "num_memory_maps"]

CACHE = Path(__file__).parents[2] / ".jax_cache"
MOST_BYTES = 500_000_000
"""Ten times the entries of one run. Programs that changed leave entries that nothing reads again."""

# By version of jaxlib, for XLA ends a process that gives it a flag it does not know. Without the emitters of fused
# loops compiling takes a third of the time. The tests' loops are too small to be fast, and their programs to be split.
_FLAGS = {"0.10.2": ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")}


def environment() -> dict[str, str]:
    """The settings of JAX and Python for this process, before it imports JAX, and for its children."""
    before = filter(None, os.environ.get("PYTHONWARNINGS", "").split(","))
    cut_off = (f"ignore:Error {act} persistent compilation cache entry" for act in ("reading", "writing"))
    return {
        # The losses of the tests are so small that compiling is all that takes time.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(CACHE / _machine()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",  # however small: most programs are one operation
        "PYTHONWARNINGS": ",".join(dict.fromkeys([*before, *cut_off])),
        "XLA_FLAGS": flags(*_FLAGS.get(jaxlib.version.__version__, ())),
    }


def flags(*more: str) -> str:
    """The flags of XLA in the environment, and more of them; a flag's last value counts."""
    present = os.environ.get("XLA_FLAGS", "").split()
    return " ".join([*present, *(flag for flag in more if flag not in present)])


def make_room(folder: Path = CACHE, most_bytes: int = MOST_BYTES) -> None:
    """Removes all entries where they are too many. A process that is about to read one compiles its program."""
    entries = [path for path in folder.glob("*/*") if path.is_file()]
    if sum(path.stat().st_size for path in entries) > most_bytes:
        for path in entries:
            path.unlink(missing_ok=True)


def num_memory_maps() -> float:
    """The memory maps of this process; infinitely many where the system does not list them."""
    path = Path("/proc/self/maps")
    return path.read_bytes().count(b"\n") if path.exists() else math.inf


def _machine() -> str:
    """A name for the processor: programs hold its instructions, and a checkout may move to another one."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    named = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return hashlib.sha256("\n".join([platform.platform(), *sorted(set(named))]).encode()).hexdigest()[:16]
