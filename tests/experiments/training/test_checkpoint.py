"""Checkpoints: bit for bit, every damage found, whole after every kill, over devices and processes."""

import errno
import hashlib
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from experiments.training import checkpoint
from experiments.training.checkpoint import DamagedError
from tests.support import compiling

ROOT = Path(__file__).parents[3]
DTYPES = [
    *(np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)),
    *map(np.dtype, (np.float16, np.float32, np.float64, np.bool_, ml_dtypes.bfloat16)),
]
SHAPES = [(), (1,), (5,), (0,), (0, 3), (2, 0, 3), (2, 3), (3, 1, 2)]
TREE = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -0.0], ml_dtypes.bfloat16),
    "count": np.int32(7),
}
ABOUT = {"step": 7, "loss": 0.1, "arm": "α", "nested": {"list": [1, None, True]}}


def raw(tree):
    """Types, shapes and bits of all leaves."""
    return [(str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def contents(folder):
    """Names and bytes of everything below a folder."""
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def values(tree):
    return {int(value) for leaf in jax.tree.leaves(tree) for value in np.unique(np.asarray(leaf))}


@st.composite
def arrays(draw):
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
    num_bytes = int(np.prod(shape, dtype=int)) * dtype.itemsize
    data = bytearray(draw(st.binary(min_size=num_bytes, max_size=num_bytes)))
    made = np.frombuffer(data, np.uint8) % 2 if dtype == np.bool_ else np.frombuffer(data, np.uint8)
    return made.view(dtype).reshape(shape)


@settings(max_examples=60)
@given(leaves=st.dictionaries(st.text(max_size=6), arrays(), max_size=5), is_numpy=st.booleans())
def test_bit_for_bit(leaves, is_numpy):
    tree = {"leaves": leaves, "list": list(leaves.values())}
    if not is_numpy:
        tree = jax.tree.map(jnp.asarray, tree)
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint.save(Path(folder), 3, tree, ABOUT)
        again, about = checkpoint.load(path, tree)
        assert raw(again) == raw(tree)
        assert jax.tree.structure(again) == jax.tree.structure(tree)
        assert about == ABOUT
        # The library, which shares no code with this writer, finds the same.
        theirs = load_file(path / "arrays.safetensors")
        assert len(theirs) == len(jax.tree.leaves(tree))
        for place, leaf in jax.tree.leaves_with_path(tree):
            found = theirs[jax.tree_util.keystr(place)]
            assert (found.dtype, found.shape, found.tobytes()) == (leaf.dtype, leaf.shape, np.asarray(leaf).tobytes())


def test_bits_that_arithmetic_would_lose(tmp_path):
    """Signalling NaNs and payloads, both zeros, denormals: in 16 bits simply every number that there is."""
    every = np.arange(2**16, dtype=np.uint16)
    fractions = np.arange(2**16, dtype=np.uint64) * 127 + 1
    tree = {"half": every.view(np.float16), "brain": every.view(ml_dtypes.bfloat16)}
    for name, dtype, num_fraction_bits in (("single", np.float32, 23), ("double", np.float64, 52)):
        bits = {np.float32: np.uint32, np.float64: np.uint64}[dtype]
        exponents = np.array([0, 1, (1 << (bits().itemsize * 8 - 1 - num_fraction_bits)) - 1], np.uint64)
        numbers = exponents[:, None] << np.uint64(num_fraction_bits) | fractions % np.uint64(1 << num_fraction_bits)
        sign = np.uint64(1) << np.uint64(bits().itemsize * 8 - 1)
        tree[name] = np.stack([numbers, numbers | sign]).astype(bits).view(dtype)
        tree[f"{name} zeros"] = np.array([0, sign], np.uint64).astype(bits).view(dtype)
    assert np.isnan(tree["single"][0, 2]).sum() > 2**16 - 3
    path = checkpoint.save(tmp_path, 1, jax.tree.map(jnp.asarray, tree), {})
    is_same = raw(checkpoint.load(path, tree)[0]) == raw(tree)
    assert is_same  # a difference of megabytes is not to be explained


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_training_state(dtype, tmp_path):
    params = {"w": jnp.linspace(-1, 1, 6, dtype=dtype).reshape(2, 3), "b": jnp.zeros(3, dtype)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.linear_schedule(jnp.float32(1), 0.0, 9)))
    _, state = optimizer.update(params, optimizer.init(params), params)
    tree = (params, state, None)
    path = checkpoint.save(tmp_path / "new" / "deep", 0, tree, {})
    like = jax.eval_shape(lambda: tree)
    for again, _ in (checkpoint.load(path, tree), checkpoint.load(path, like)):
        assert jax.tree.structure(again) == jax.tree.structure(tree)
        assert raw(again) == raw(tree)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(again))


def test_placed_as_asked(tmp_path):
    device = jax.devices()[0]
    tree = {"bound": jax.device_put(jnp.ones(3), device), "free": jnp.ones(3), "numpy": np.ones(3)}
    again, _ = checkpoint.load(checkpoint.save(tmp_path, 1, tree, {}), tree)
    assert {name: leaf.committed for name, leaf in again.items()} == {"bound": True, "free": False, "numpy": False}


def test_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_FILE_BYTES", 100)
    tree = {f"w{n}": np.full(n, n, np.float32) for n in (1, 30, 4, 20, 10)}
    written, write = [], checkpoint._written

    def noted(path, pieces):
        written.append(path.name)
        return write(path, pieces)

    monkeypatch.setattr(checkpoint, "_written", noted)
    path = checkpoint.save(tmp_path, 1, tree, {})
    files = sorted(path.glob("*.safetensors"))
    assert [file.name for file in files] == [f"arrays-{n:05}-of-00004.safetensors" for n in (1, 2, 3, 4)]
    assert written == [*(file.name for file in files), "about.json", "manifest.json", "manifest.sha256"]
    assert all(len(part) == 1 or sum(a.nbytes for a in part.values()) <= 100 for part in map(load_file, files))
    assert raw(checkpoint.load(path, tree)[0]) == raw(tree)


def test_other_programs_can_check_it(tmp_path):
    path = checkpoint.save(tmp_path, 12, TREE, ABOUT)
    assert path == tmp_path / "00000012"

    def sha256(name):
        return hashlib.sha256((path / name).read_bytes()).hexdigest()

    assert (path / "manifest.sha256").read_text() == f"{sha256('manifest.json')}  manifest.json\n"
    files = json.loads((path / "manifest.json").read_text())["files"]
    assert files == {
        name: {"bytes": (path / name).stat().st_size, "sha256": sha256(name)}
        for name in ("arrays.safetensors", "about.json")
    }


# Damage.


def test_flipped_bits_and_truncations(tmp_path):
    path = checkpoint.save(tmp_path, 5, TREE, ABOUT)
    before = {file: file.read_bytes() for file in sorted(path.iterdir())}
    assert len(before) == 4
    chance = random.Random(0)
    for trial in range(1000):
        file = chance.choice(list(before))
        data = bytearray(before[file])
        place = chance.randrange(len(data))
        if trial % 4:
            data[place] ^= 1 << chance.randrange(8)
        else:
            del data[place:]
        file.write_bytes(data)
        with pytest.raises(DamagedError) as caught:
            checkpoint.load(path, TREE)
        assert str(caught.value).startswith(f"{path} is damaged: ")
        assert file.name in str(caught.value)
        file.write_bytes(before[file])
    assert raw(checkpoint.load(path, TREE)[0]) == raw(TREE)


@pytest.mark.parametrize("name", ["arrays.safetensors", "about.json", "manifest.json", "manifest.sha256"])
def test_files_deleted_copied_renamed_grown(name, tmp_path):
    def found(damage, *messages):
        path = checkpoint.save(tmp_path, 5, TREE, ABOUT)
        damage(path / name)
        with pytest.raises(DamagedError) as caught:
            checkpoint.load(path, TREE)
        for message in (str(path), *messages):
            assert message in str(caught.value)

    found(lambda file: file.unlink(), f"{name} is missing")
    found(lambda file: file.rename(file.with_name("other")), f"{name} is missing")
    found(lambda file: shutil.copy(file, file.with_name("other")), "other does not belong to it")
    found(lambda file: file.write_bytes(file.read_bytes() + b"\0"), name)
    found(lambda file: file.write_bytes(b""), name)
    found(lambda file: (file.unlink(), file.mkdir()), name)


def test_a_whole_manifest_of_something_else(tmp_path):
    path = checkpoint.save(tmp_path, 5, TREE, ABOUT)
    for content in (b"", b"[]", b'{"number": 5}', b'{"number": 5, "files": {"about.json": 3}}', b"[" * 10**5):
        (path / "manifest.json").write_bytes(content)
        (path / "manifest.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")
        with pytest.raises(DamagedError, match=r"manifest.json is not a whole manifest"):
            checkpoint.load(path, TREE)


@pytest.mark.parametrize("name", ["00000006", ".00000006.old", "best", ".00000005.part"])
def test_a_renamed_folder(name, tmp_path):
    path = checkpoint.save(tmp_path, 5, TREE, ABOUT).rename(tmp_path / name)
    with pytest.raises(DamagedError, match="that of checkpoint 5, so the folder was renamed"):
        checkpoint.load(path, TREE)


def test_two_checkpoints_of_one_run_mixed(tmp_path):
    first, second = (checkpoint.save(tmp_path, number, {"w": np.full(3, number)}, {}) for number in (1, 2))
    shutil.copy(first / "arrays.safetensors", second / "arrays.safetensors")
    with pytest.raises(DamagedError, match=r"arrays.safetensors has another SHA-256"):
        checkpoint.load(second, {"w": np.zeros(3, int)})


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="must exist"):
        checkpoint.load(tmp_path / "00000001", TREE)


# The newest one.


def test_the_one_before_a_damaged_one(tmp_path):
    assert checkpoint.newest(tmp_path / "none", TREE) is None
    assert checkpoint.newest(tmp_path, TREE) is None
    for number in (3, 10, 20):
        checkpoint.save(tmp_path, number, TREE | {"count": np.int32(number)}, {"number": number})
    for foreign in ("notes", "123", "000000050", ".00000040.part", "٠٠٠٠٠٠٦٠"):
        (tmp_path / foreign).mkdir()
    (tmp_path / "00000070").touch()
    assert checkpoint.numbers(tmp_path) == [20, 10, 3]
    for number in (20, 10, 3):
        found = checkpoint.newest(tmp_path, TREE)
        assert found is not None
        assert (found.number, found.about, int(found.tree["count"])) == (number, {"number": number}, number)
        assert [message.split()[0] for message in found.damaged] == [
            str(tmp_path / f"{damaged:08}") for damaged in (20, 10) if damaged > number
        ]
        file = tmp_path / f"{number:08}" / "about.json"
        file.write_bytes(file.read_bytes().replace(b"n", b"m"))
    with pytest.raises(DamagedError, match=r"all are damaged.*00000020.*00000010.*00000003"):
        checkpoint.newest(tmp_path, TREE)


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (TREE | {"w": np.zeros((3, 2), np.float32)}, r"\['w'\] is F32 \(2, 3\), not F32 \(3, 2\)"),
        (TREE | {"w": np.zeros((2, 3), np.float64)}, r"\['w'\] is F32 \(2, 3\), not F64 \(2, 3\)"),
        (TREE | {"count": np.uint32(7)}, r"\['count'\] is I32 \(\), not U32 \(\)"),
        (TREE | {"more": np.zeros(1)}, r"\['more'\] is missing"),
        ({"w": TREE["w"], "half": TREE["half"]}, r"\['count'\] is too many"),
        (TREE["w"], "too many.*is missing|is missing.*too many"),
    ],
)
def test_what_does_not_fit_is_named_and_not_called_damaged(like, message, tmp_path):
    checkpoint.save(tmp_path, 5, TREE, ABOUT)
    with pytest.raises(ValueError, match=message) as caught:
        checkpoint.newest(tmp_path, like)
    assert not isinstance(caught.value, DamagedError)


def test_what_would_be_rounded_is_refused(tmp_path):
    tree = {"w": np.ones(3, np.float64)}
    path = checkpoint.save(tmp_path, 5, tree, {})
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"\['w'\] must be of a type that JAX keeps"):
        checkpoint.load(path, tree)


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (1.5, r"\['x'\]\[0\] must be an array; got float"),
        (np.ones(2, complex), r"\['x'\]\[0\] must be of a type .*; got complex128"),
        (np.ones(2, ">f4"), r"; got >f4"),
        (jax.ShapeDtypeStruct((2,), np.float32), "must hold arrays"),
    ],
)
def test_leaves_that_no_file_holds_are_named(leaf, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path, 1, {"x": [leaf]}, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoint.save(tmp_path, 1, {}, {"x": {1, 2}})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [-1, 10**8])
def test_numbers_out_of_range(number, tmp_path):
    with pytest.raises(ValueError, match="number must be from 0 to 99999999"):
        checkpoint.save(tmp_path, number, {}, {})


# Replaced, failed, killed.


def test_one_that_was_about_to_be_replaced(tmp_path):
    """Every state that a kill can leave: nothing in its place, something in its place, or something damaged."""
    checkpoint.save(tmp_path, 4, {"w": np.array(1)}, {})
    path = checkpoint.save(tmp_path, 5, {"w": np.array(2)}, {})
    aside = tmp_path / ".00000005.old"
    path.rename(aside)

    def newest():
        found = checkpoint.newest(tmp_path, {"w": np.array(0)})
        assert found is not None
        return found.number, int(found.tree["w"]), len(found.damaged)

    assert checkpoint.numbers(tmp_path) == [5, 4]
    assert newest() == (5, 2, 0)
    shutil.copytree(aside, tmp_path / "kept")
    checkpoint.save(tmp_path, 5, {"w": np.array(3)}, {})
    assert newest() == (5, 3, 0)
    assert not aside.exists()
    (tmp_path / "kept").rename(aside)
    assert checkpoint.numbers(tmp_path) == [5, 4]
    assert newest() == (5, 3, 0)
    (path / "about.json").unlink()
    assert newest() == (5, 2, 1)
    checkpoint.save(tmp_path, 5, {"w": np.array(6)}, {})
    assert newest() == (5, 6, 0)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["00000004", "00000005"]


@pytest.mark.parametrize("number", [1, 2])
def test_every_failure_of_the_disk_to_take_it(number, tmp_path, monkeypatch):
    """The n-th thing that must reach the disk does not, for every n: a new number, and one that is replaced."""
    checkpoint.save(tmp_path, 1, TREE, ABOUT)
    before, fsync = contents(tmp_path), os.fsync
    left = 0

    def full(handle):
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    # Four files, their folder, and its folder; what comes after that is only the removal of the replaced one.
    for place in range(1, 7):
        left = place
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(tmp_path, number, {"w": np.ones(3)}, {})
        assert contents(tmp_path) == before
    left = 7
    checkpoint.save(tmp_path, number, {"w": np.ones(3)}, {})
    monkeypatch.undo()
    checkpoint.load(tmp_path / f"{number:08}", {"w": np.ones(3)})


def test_a_file_that_cannot_grow(tmp_path):
    """The operating system itself refuses to write on."""
    checkpoint.save(tmp_path, 1, TREE, ABOUT)
    before = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.save(tmp_path, 2, {"w": np.ones(100_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == before


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    write = checkpoint._written

    def interrupt(path, pieces):
        write(path, pieces)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_written", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 2, TREE, {})
    assert not list(tmp_path.iterdir())


def script(*arguments, num_devices=1, **options):
    environment = {
        **os.environ,
        "XLA_FLAGS": compiling.flags(f"--xla_force_host_platform_device_count={num_devices}"),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "support" / "saving.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        **options,
    )


def records(process):
    with process:
        try:
            output, errors = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, errors[-3000:]
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


@pytest.mark.parametrize(("how", "at_least"), [(("random", 25), 25), (("every",), 20)], ids=["random", "every step"])
def test_kills(how, at_least, tmp_path):
    """What was announced is there, whole, and nothing that can be seen is damaged."""
    what, *arguments = how
    found = records(script(what, tmp_path, *arguments))
    assert len(found) >= at_least
    left_something = 0
    for record in found:
        folder = Path(record["folder"])
        like = {"big": jax.ShapeDtypeStruct((100_000,), np.float32), "count": np.int64(0)}
        newest = checkpoint.newest(folder, like)
        assert newest is not None
        assert not newest.damaged
        value = newest.about["value"]
        assert value >= record["announced"]
        assert values(newest.tree) == {value}
        for number in checkpoint.numbers(folder):
            if (folder / f"{number:08}").exists():
                checkpoint.load(folder / f"{number:08}", like)
        left_something += any(path.name.startswith(".") for path in folder.iterdir())
        checkpoint.prune(folder, keep=10, best=None)
        assert not any(path.name.endswith(".part") for path in folder.iterdir())
        again = checkpoint.newest(folder, like)
        assert again is not None
        assert again.about == newest.about
    assert left_something >= 3  # or the kills missed what they are for


@pytest.mark.parametrize(
    ("keep", "best", "left"),
    [(1, None, [9]), (2, None, [9, 7]), (2, 3, [9, 7, 3]), (1, 9, [9]), (9, 1, [9, 7, 5, 3, 1]), (1, 4, [9])],
)
def test_pruned(keep, best, left, tmp_path):
    for number in (1, 3, 5, 7, 9):
        checkpoint.save(tmp_path, number, {"w": np.array(number)}, {})
    for unfinished in (".00000008.part", ".00000009.old.part"):
        shutil.copytree(tmp_path / "00000005", tmp_path / unfinished)
    # One that was superseded, and one whose successor never came.
    shutil.copytree(tmp_path / "00000005", tmp_path / ".00000005.old")
    (tmp_path / "00000007").rename(tmp_path / ".00000007.old")
    (tmp_path / "notes").mkdir()
    (tmp_path / ".part").touch()
    checkpoint.prune(tmp_path, keep=keep, best=best)
    assert checkpoint.numbers(tmp_path) == left
    expected = {".00000007.old" if number == 7 else f"{number:08}" for number in left} | {"notes", ".part"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    found = checkpoint.newest(tmp_path, {"w": np.array(0)})
    assert found is not None
    assert (found.number, int(found.tree["w"])) == (9, 9)


def test_what_is_newer_than_the_newest_whole_one_is_removed(tmp_path):
    """Or a damaged one would be kept in place of those that are whole."""
    for number in (1, 3, 5, 7):
        checkpoint.save(tmp_path, number, {"w": np.array(number)}, {})
    (tmp_path / "00000007" / "about.json").write_text("{}")
    checkpoint.prune(tmp_path, keep=1, best=None, newest=5)
    assert checkpoint.numbers(tmp_path) == [5]


def test_pruning_everything_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1; got 0"):
        checkpoint.prune(tmp_path, keep=0, best=None)
    checkpoint.prune(tmp_path / "none", keep=1, best=None)


# Over devices and processes.


def test_eight_devices(tmp_path):
    (record,) = records(script("devices", tmp_path, num_devices=8))
    # The host holds one leaf of eight, and forgets it.
    assert record["peak"] < 1.5 * record["leaf"]
    assert record["left"] < 0.5 * record["leaf"]
    tree = {f"w{n}": np.random.default_rng(n).normal(size=(512, 512)).astype(np.float32) for n in range(8)}
    tree |= {"copied": np.arange(6, dtype=np.int32), "count": np.int64(7)}
    again, _ = checkpoint.load(tmp_path / "00000001", tree)
    assert raw(again) == raw(tree)


def test_two_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [script("processes", port, index, tmp_path, num_devices=2) for index in (0, 1)]
    try:
        first, second = map(records, started)
    finally:
        for process in started:
            process.kill()
    assert "No space left" in first[0]["refused"]
    assert "must be written by the first process" in second[0]["refused"]
    assert all("found [3, -1]" in record[1]["different"] for record in (first, second))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00000001", "00000003"]
    tree = {"split": np.arange(64, dtype=np.float32).reshape(16, 4), "copied": np.arange(3)}
    tree |= {"mine": np.ones(2), "local": np.ones(2)}
    found = checkpoint.newest(tmp_path, tree)
    assert found is not None
    assert raw(found.tree) == raw(tree)
    assert found.about == {"by": 0}
