"""Calls of a function on a Ray cluster, each in a process of its own on some machine. Ray is an optional package.

A process that dies costs its call one try: the call is made again in another process. Whoever wants it to go on from
where it was keeps its state on a path that all machines see.
"""

import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, TypeVar

from console.command import option, option_group
from console.values import whole

__all__ = ["NO_CLUSTER", "Cluster", "require", "results"]

_Key = TypeVar("_Key", bound=Hashable)

# A machine that leaves takes a try from each of its calls; a call that kills its process, having no memory, must end.
_MAX_RETRIES = 5
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_ANSWER = 10.0  # of a machine in the same network
# Arguments and results are small. Ray's own default is a third of the memory; it refuses less than 75 MiB.
_OBJECT_STORE_BYTES = 100 * 2**20


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not (host and "/" not in host and port.isascii() and port.isdecimal()):
        raise ValueError(f"must be HOST:PORT; got {value[:60]}.")
    return value


@option_group
@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cluster that computes the cells of a grid, and the share of it that a cell takes."""

    ray: Annotated[bool, option("compute the cells at the same time, as tasks of Ray")] = False
    ray_address: Annotated[
        str | None,
        option("of a cluster that is there (default: one of this machine alone)", "HOST:PORT", _address),
    ] = None
    cell_cpus: Annotated[int | None, option("CPUs of a cell, and its threads (default: 1)", "N", whole(1))] = None
    cell_gpus: Annotated[
        int | None, option("GPUs of a cell (default: one a device of its mesh, if there are GPUs)", "N", whole(0))
    ] = None

    def __post_init__(self) -> None:
        for name in ("ray_address", "cell_cpus", "cell_gpus"):
            if getattr(self, name) is not None and not self.ray:
                raise ValueError(f"--{name.replace('_', '-')} must go with --ray.")


NO_CLUSTER = Cluster()


def require(cluster: Cluster) -> None:
    """Loads Ray, which reads the environment as it is loaded.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray would report its use
    if cluster.ray_address is None and "RAY_AUTH_MODE" not in os.environ:
        # A token of this cluster alone. Ray's own stays in the home, and changes how other clusters begin.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import_module("ray")


def results(
    function: str,
    calls: Mapping[_Key, tuple[object, ...]],
    cluster: Cluster,
    *,
    num_gpus: int = 0,
    look: Callable[[], None] = lambda: None,
) -> Iterator[tuple[_Key, object]]:
    """The results of calls as they come, with their keys.

    A call is made in the folder of this process, under the same path, and with its environment as far as JAX reads it.
    XLA then takes as many threads as the call has CPUs: sums of float32 depend on that number in their last bits.

    Args:
        function: Its module and its name, as in "math:sqrt". The module is imported where the call is made.
        calls: The arguments of each call.
        cluster: The options.
        num_gpus: GPUs of a call, where the cluster has any and the options do not say.
        look: A function that is called every second.

    Yields:
        The key of a call, and its result or its exception: the function's own, or a ChildProcessError where one process
        after another died with it.

    Raises:
        KeyboardInterrupt: Behind the last result, if the user asked for the end. Calls that had not begun are left
            out; one at work was interrupted, and gave its result nonetheless if it caught the signal.
        ValueError: If there is no such cluster, or this machine has not so many CPUs.
    """
    require(cluster)
    import ray  # noqa: PLC0415  # an optional package  # pyright: ignore[reportMissingImports]
    from ray import exceptions  # noqa: PLC0415  # likewise  # pyright: ignore[reportMissingImports]

    num_cpus = cluster.cell_cpus or 1
    kept = {name: value for name, value in os.environ.items() if name.startswith(("JAX_", "XLA_"))}
    environment = {**kept, "NPROC": str(num_cpus)}  # XLA's number of threads
    with _connection(cluster.ray_address), _interrupts() as is_stop_wanted:
        there = ray.cluster_resources()
        if cluster.ray_address is None and num_cpus > there.get("CPU", 0):
            raise ValueError(
                f"--cell-cpus must be at most {there.get('CPU', 0):g}, those of this machine; got {num_cpus}."
            )
        gpus = (num_gpus if there.get("GPU", 0) else 0) if cluster.cell_gpus is None else cluster.cell_gpus
        task = ray.remote(num_cpus=num_cpus, num_gpus=gpus, max_retries=_MAX_RETRIES)(_call)
        left = {task.remote(function, arguments, str(Path.cwd()), environment): key for key, arguments in calls.items()}
        is_stopping = False
        while left:
            look()
            if is_stop_wanted() and not is_stopping:
                is_stopping = True
                for reference in left:
                    ray.cancel(reference)  # as SIGINT to a process at work
            with redirect_stdout(sys.stderr):  # on which a thread of Ray's tells meanwhile of processes that died
                ready, _ = ray.wait([*left], num_returns=1, timeout=_SECONDS_BETWEEN_LOOKS)
            for reference in ready:
                key = left.pop(reference)
                try:
                    result = ray.get(reference)
                except exceptions.TaskCancelledError:
                    continue
                except exceptions.RayTaskError as error:
                    result = error.cause
                except exceptions.RayError as error:
                    result = ChildProcessError(str(error))
                yield key, result
        look()
        if is_stopping:
            raise KeyboardInterrupt


@contextmanager
def _connection(address: str | None) -> Iterator[None]:
    """The cluster at an address, or one of this machine alone, which ends with the context."""
    import ray  # noqa: PLC0415  # an optional package  # pyright: ignore[reportMissingImports]

    if address is not None:
        host, _, port = address.rpartition(":")
        try:  # where nobody answers Ray itself would try for minutes
            socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
        except (OSError, OverflowError) as error:
            raise ValueError(f"--ray-address must be that of a cluster; got {address}: {error}.") from None
    if address is None:
        ray.init(
            "local",
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            configure_logging=False,
        )
    else:
        try:
            ray.init(address, log_to_driver=False, configure_logging=False)
        except ConnectionError as error:
            raise ValueError(
                f"--ray-address must be that of a cluster; got {address}: {error}. One that has a "
                "token needs RAY_AUTH_MODE=token here."
            ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _call(function: str, arguments: tuple[object, ...], folder: str, environment: Mapping[str, str]) -> object:
    """One call, in a process of the cluster. JAX is imported by the function's module, if at all: after this."""
    try:
        os.chdir(folder)
    except OSError as error:
        raise ValueError(f"{folder} must be a folder that all machines see; got {error}.") from None
    os.environ.update(environment)
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)(*arguments)


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came; a second one interrupts at once."""
    caught: list[int] = []

    def note(number: int, _: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        with suppress(OSError):
            os.write(2, b"\nstopping the cells; once more ends at once\n")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
