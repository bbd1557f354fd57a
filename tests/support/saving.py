"""Run by tests in processes of their own: saving under kills, on eight devices, and by two processes."""

import errno
import json
import os
import random
import shutil
import signal
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.model import parameters, pretrained, tensor_files
from experiments.training import checkpoint
from tests.support.kills import Killer, in_a_child
from tests.support.tiny_models import SMALLEST


def tree(value):
    """Large enough for kills to fall into the writing."""
    return {"big": np.full(100_000, value, np.float32), "count": np.int64(value)}


def killed_at_random(folder, num_kills):
    """Kills as many writers; prints for each the last save that it had announced."""
    moments = random.Random(0)
    for trial in range(num_kills):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            for value in range(1, 10**6):
                # Every number twice: so half of the saves replace one.
                checkpoint.save(folder / str(trial), value // 2, tree(value), {"value": value})
                os.write(writer, f"{value}\n".encode())
                checkpoint.prune(folder / str(trial), keep=2, best=None)
        os.close(writer)
        with os.fdopen(reader) as file:
            said = file.readline()  # from here on, not while the library starts
            time.sleep(moments.uniform(0, 0.08))
            os.kill(child, signal.SIGKILL)
            said += file.read()
        os.waitpid(child, 0)
        print(json.dumps({"folder": str(folder / str(trial)), "announced": int(said.split()[-1])}), flush=True)


def killed_at_every_step(folder):
    """Replaces checkpoint 2 and prunes checkpoint 1, killed before the first step, before the second, and so on."""

    def first():
        for number in (1, 2):
            checkpoint.save(folder / "first", number, tree(number), {"value": number})

    assert in_a_child(first) == 0
    for step in range(1, 1000):
        mine = folder / str(step)
        shutil.copytree(folder / "first", mine)

        def work(mine=mine, step=step):
            jax.process_count()  # JAX opens files as it starts
            sys.addaudithook(Killer(step))
            checkpoint.save(mine, 2, tree(3), {"value": 3})
            (mine / "said").touch()
            checkpoint.prune(mine, keep=1, best=None)

        status = in_a_child(work)
        print(json.dumps({"folder": str(mine), "announced": 3 if (mine / "said").exists() else 2}), flush=True)
        if status == 0:
            return
        assert status == -signal.SIGKILL


def model_killed_at_every_step(folder):
    """Replaces model 1 by model 2, in every pair of layouts, killed before the first step, the second, and so on."""

    def save(path, value, file_bytes):
        tensor_files._FILE_BYTES = file_bytes
        architecture = replace(SMALLEST, is_tied=False, rope_theta=100.0 * value)
        leaves = jax.tree.map(lambda leaf: np.full(leaf.shape, value, leaf.dtype), parameters.shapes(architecture))
        pretrained.save(leaves, architecture, path)

    one, few, many = 10**9, 1500, 1000
    for name, before, after in (("11", one, one), ("1n", one, many), ("n1", few, one), ("nm", few, many)):
        first = folder / f"first-{name}"
        assert in_a_child(lambda first=first, size=before: save(first, 1, size)) == 0
        for step in range(1, 1000):
            mine = folder / name / str(step)
            shutil.copytree(first, mine)

            def work(mine=mine, step=step, size=after):
                os.fsync = lambda _: None  # a kill loses nothing that the system has
                sys.addaudithook(Killer(step))
                save(mine, 2, size)

            status = in_a_child(work)
            print(json.dumps({"folder": str(mine)}), flush=True)
            if status == 0:
                break
            assert status == -signal.SIGKILL


def on_devices(folder):
    """Saves and loads a tree that is split over eight devices."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    leaves = {f"w{n}": np.random.default_rng(n).normal(size=(512, 512)).astype(np.float32) for n in range(8)}
    places = {name: NamedSharding(mesh, PartitionSpec("a", "b" if n % 2 else None)) for n, name in enumerate(leaves)}
    placed = jax.device_put(leaves, places)
    placed["copied"] = jax.device_put(np.arange(6, dtype=np.int32), NamedSharding(mesh, PartitionSpec()))
    placed["count"] = jnp.asarray(7)
    jax.block_until_ready(placed)
    tracemalloc.start()
    path = checkpoint.save(folder, 1, placed, {})
    left, peak = tracemalloc.get_traced_memory()
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), placed)
    for again, _ in (checkpoint.load(path, placed), checkpoint.load(path, like)):
        for name, leaf in placed.items():
            assert np.array_equal(np.asarray(again[name]), np.asarray(leaf)), name
            assert again[name].sharding == leaf.sharding, name
    again, _ = checkpoint.load(path, placed)
    jax.jit(lambda tree: tree["w0"] * tree["count"])(again)  # the counter is bound to no device
    print(json.dumps({"leaf": leaves["w0"].nbytes, "peak": peak, "left": left}))


def in_processes(port, index, folder):
    """Saves, together with another process, a tree that is split over both; then once more while the disk is full."""
    jax.distributed.initialize(coordinator_address=f"127.0.0.1:{port}", num_processes=2, process_id=index)
    assert jax.process_count() == 2
    mesh = Mesh(np.array(jax.devices()), ("all",))
    values = {"split": np.arange(64, dtype=np.float32).reshape(16, 4), "copied": np.arange(3), "mine": np.ones(2)}

    def put(name, spec):
        return jax.make_array_from_callback(
            values[name].shape, NamedSharding(mesh, spec), lambda place: values[name][place]
        )

    made = {"split": put("split", PartitionSpec("all")), "copied": put("copied", PartitionSpec())}
    assert not made["split"].is_fully_addressable
    # Only this one's first numbers are to be saved, though every process has some.
    made["mine"] = values["mine"] + index
    made["local"] = jnp.asarray(values["mine"]) + index
    path = checkpoint.save(folder, 1, made, {"by": index})
    assert (path / "manifest.sha256").exists()

    fsync = os.fsync
    if index == 0:

        def full(handle):
            raise OSError(errno.ENOSPC, "No space left on device")

        os.fsync = full
    try:
        checkpoint.save(folder, 2, made, {})
    except OSError as error:
        print(json.dumps({"refused": str(error)}))
    os.fsync = fsync

    checkpoint.save(folder, 3, made, {"by": index})
    found = checkpoint.newest(folder, made)
    assert found is not None
    assert found.number == 3
    assert found.tree["split"].sharding == made["split"].sharding
    for ours, theirs in zip(found.tree["split"].addressable_shards, made["split"].addressable_shards, strict=True):
        assert np.array_equal(np.asarray(ours.data), np.asarray(theirs.data))
    try:
        checkpoint.newest(folder / str(index) if index else folder, made)
    except ValueError as error:
        print(json.dumps({"different": str(error)}))
    checkpoint.prune(folder, keep=1, best=1)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    what, *arguments = sys.argv[1:]
    if what == "random":
        killed_at_random(Path(arguments[0]), int(arguments[1]))
    elif what == "every":
        killed_at_every_step(Path(arguments[0]))
    elif what == "model":
        model_killed_at_every_step(Path(arguments[0]))
    elif what == "devices":
        on_devices(Path(arguments[0]))
    else:
        in_processes(int(arguments[0]), int(arguments[1]), Path(arguments[2]))
