"""Eight virtual devices: everything computed there equals what one device computes; the process is its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from experiments.model import parameters, pretrained, random_model, sharding
from tests.support import compiling
from tests.support.sharded import MESHES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "sharded.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={
            **os.environ,
            "XLA_FLAGS": compiling.flags("--xla_force_host_platform_device_count=8"),
            "PYTHONPATH": str(ROOT),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {tuple(record["mesh"]): record for record in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("mesh", MESHES)
def test_equal_to_one_device(found, mesh):
    record = found[mesh]
    for what in ("gradient", "hvp", "step"):
        assert record[what] < 1e-11, what
    # AdamW divides by square roots of squares: twice the relative error, and of the smallest numbers.
    assert record["state"] < 1e-10
    assert record["decoding"] == 0
    assert record["moments lie like their parameters"]
    assert record["is loaded in place"]


@pytest.mark.parametrize("mesh", MESHES)
def test_matrices_are_split_over_fsdp_and_tensor(found, mesh):
    assert found[mesh]["a device holds"] == 1 / (mesh[1] * mesh[2])


def test_a_folder_is_loaded_in_place(tmp_path):
    random_model.write(tmp_path)
    mesh = sharding.mesh(devices=jax.devices()[:1])
    placed, architecture = pretrained.load(tmp_path, sharding=sharding.of_parameter(mesh))
    plain, _ = pretrained.load(tmp_path)
    where = sharding.of_parameters(mesh, architecture)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), placed, plain)
    jax.tree.map(lambda leaf, place: pytest.fail("elsewhere") if leaf.sharding != place else None, placed, where)
    assert jax.tree.structure(parameters.shapes(architecture)) == jax.tree.structure(placed)


@pytest.mark.parametrize(
    ("sizes", "message"), [((1, 1, 2), "must be the number of devices"), ((0, 1, 1), "must be the number of devices")]
)
def test_meshes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        sharding.mesh(*sizes, devices=jax.devices()[:1])


@pytest.mark.parametrize(
    ("sizes", "rows", "message"),
    [
        ((1, 1, 3), 8, "tensor must divide the key-value heads; got 3 for 2"),
        ((1, 3, 1), 9, "tensor x fsdp must divide the vocabulary; got 3 for 260"),
        ((1, 20, 1), 20, "fsdp must divide the width; got 20 for 64"),
        ((4, 2, 1), 12, "data x fsdp must divide the rows of a batch; got 8 for 12"),
    ],
)
def test_what_does_not_divide_is_refused(sizes, rows, message):
    with pytest.raises(ValueError, match=message):
        sharding.check(AbstractMesh(sizes, sharding.AXES), random_model.ARCHITECTURE, rows)
