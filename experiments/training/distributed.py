"""One process or several: how they join, which of them writes, and the header of a start."""

import datetime
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments import files

__all__ = ["first_alone", "header", "is_first", "join"]

_PACKAGES = ("jax", "jaxlib", "optax", "numpy", "composite-updates")


def join(coordinator: str | None, num_processes: int | None, process: int | None) -> None:
    """Joins the other processes of a run, where there are any.

    Args:
        coordinator: HOST:PORT of the first; "auto" leaves all three to JAX, which knows Slurm, Open MPI and the like.
        num_processes: The number of processes.
        process: The number of this process.

    Raises:
        ValueError: If one of the three is missing.
        RuntimeError: If they do not find each other.
    """
    # Products of float32 in float32: the second order drowns in fewer digits. Without effect on a CPU.
    jax.config.update("jax_default_matmul_precision", "highest")
    if coordinator == "auto":
        jax.distributed.initialize()
        return
    if (coordinator, num_processes, process) == (None, None, None):
        return
    if coordinator is None or num_processes is None or process is None:
        raise ValueError("--coordinator, --processes and --process must be given together, or --coordinator auto.")
    if process >= num_processes:
        raise ValueError(f"--process must be less than --processes; got {process} of {num_processes}.")
    if ":" not in coordinator:
        raise ValueError(f"--coordinator must be HOST:PORT; got {coordinator}.")
    jax.distributed.initialize(coordinator, num_processes, process)


def is_first() -> bool:
    """Whether this process writes."""
    return jax.process_index() == 0


@contextmanager
def first_alone(folder: Path) -> Iterator[None]:
    """An exclusive lock on a folder, which the first process holds for all of this run.

    Raises:
        files.BusyError: In every process, if another run is there.
    """
    if jax.process_count() == 1:
        with files.exclusive(folder, "is being written to"):
            yield
        return
    error: OSError | None = None
    with ExitStack() as stack:
        if is_first():
            try:
                stack.enter_context(files.exclusive(folder, "is being written to"))
            except OSError as caught:
                error = caught
        is_free = bool(multihost_utils.broadcast_one_to_all(np.asarray(error is None)))
        if not is_free:
            raise error or files.BusyError(f"{folder} is being written to by another run.")
        yield


def header() -> dict[str, object]:
    """The header of a start: versions, devices, commit, settings."""
    devices = jax.devices()
    kinds = sorted({device.device_kind for device in devices})
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "device": f"{len(devices)} x {', '.join(kinds)}",
        "num_processes": jax.process_count(),
        "commit": _commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "matmul_precision": jax.config.values["jax_default_matmul_precision"] or "default",
        # Reductions on a GPU may differ from run to run unless this asks otherwise.
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        # Sums on a CPU depend on the number of threads in their last bits; NPROC sets it.
        "num_cpus": os.cpu_count(),
        "nproc": os.environ.get("NPROC", ""),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Of the project, where it runs from its repository; with a plus where files differ from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
