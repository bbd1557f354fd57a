"""The cells of a grid on a real cluster of two workers: one is killed, all are interrupted, one cannot be made."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from experiments import files, records
from experiments.training import checkpoint
from tests.support import compiling, runs

pytestmark = pytest.mark.ray
pytest.importorskip("ray")

ROOT = Path(__file__).parents[3]
ARMS = ("accumulated", "sequential")
NUM_UPDATES = 12
CALL = ("run", "--preset", "tiny", "--set", "num_problems=16", "--set", "max_tokens=600", "--set", "num_pairs=2",
        "--set", "measures.probe_pairs=2", "--set", "measures.accuracy_every=0",
        "--set", "measures.alignment_every=3", "--set", "checkpoint_every=3")  # fmt: skip
TWELVE = ("--updates", str(NUM_UPDATES))


def start(*arguments, **environment):
    command = [sys.executable, "-m", "experiments", *map(str, arguments)]
    variables = {**os.environ, **compiling.environment(), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process, timeout=300):
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs without a cluster, with as many threads as a cell has."""
    out = tmp_path_factory.mktemp("alone")
    status, _, err = ended(start(*CALL, *TWELVE, "--out", out, NPROC="1"))
    assert status == 0, err
    return out


def same(out, alone):
    for arm in ARMS:
        mine, other = (folder / arm / "seed-0" for folder in (out, alone))
        assert runs.rows(mine) == runs.rows(other)
        assert runs.arrays(mine, NUM_UPDATES) == runs.arrays(other, NUM_UPDATES)
        assert files.read_object(mine / "config.json") == files.read_object(other / "config.json")
    assert files.read_object(out / "runs.json") == files.read_object(alone / "runs.json")
    return True


def until(condition, process, seconds=200):
    limit = time.monotonic() + seconds
    while not (value := condition()) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)
    assert value, ended(process)[2]
    return value


def writer_of(path):
    """The process that has a file open."""
    for place in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if place.resolve() == path.resolve():
                return int(place.parts[2])
        except OSError:  # it has closed the file, or has gone
            continue
    return None


def num_updates(folder):
    path = folder / records.RECORDS
    return path.read_bytes().count(b'"kind": "update"') if path.exists() else 0


def test_a_cell_whose_worker_is_killed_goes_on_and_leaves_the_same(alone, tmp_path):
    folder = tmp_path / "sequential" / "seed-0"
    process = start(*CALL, *TWELVE, "--out", tmp_path, "--ray")
    try:
        until(lambda: num_updates(folder) > 5, process)
        worker = writer_of(folder / records.RECORDS)
        assert worker not in (None, process.pid)
        os.kill(worker, signal.SIGKILL)
        status, out, err = ended(process)
    finally:
        process.kill()
    assert status == 0, err
    assert sorted(out.splitlines()) == [f"{tmp_path / arm / 'seed-0'}: 12 updates made" for arm in ARMS]
    assert [record["kind"] for record in runs.read(folder)].count("header") == 2
    assert same(tmp_path, alone)
    # The whole grid once more: there is nothing to do.
    before = (folder / records.RECORDS).stat().st_mtime_ns
    status, out, err = ended(start("resume", tmp_path, "--ray"))
    assert (status, out, err.count("(nothing to do)")) == (0, "", 2), err
    assert (folder / records.RECORDS).stat().st_mtime_ns == before


def test_an_interrupt_saves_every_cell(tmp_path):
    process = start(*CALL, "--updates", "100000", "--set", "checkpoint_every=100000", "--out", tmp_path, "--ray")
    try:
        until(lambda: all(num_updates(tmp_path / arm / "seed-0") > 2 for arm in ARMS), process)
        process.send_signal(signal.SIGINT)
        status, out, err = ended(process)
    finally:
        process.kill()
    assert status == 130, err
    assert "stopping the cells; once more ends at once" in err
    assert "Traceback" not in err
    assert "\x1b" not in err
    for arm in ARMS:
        folder = tmp_path / arm / "seed-0"
        end = runs.end(folder)
        assert end["reason"] == "stopped"
        assert checkpoint.numbers(folder / records.CHECKPOINTS)[0] == end["update"]
        assert f"{folder}: stopped after update {end['update']}, which is saved" in out
        assert writer_of(folder / records.RECORDS) is None


def test_cells_that_cannot_be_made_are_named_and_the_others_made(tmp_path):
    """The folder of the first arm is not a run's; of the second there is nothing to object to."""
    (tmp_path / "accumulated" / "seed-0").mkdir(parents=True)
    (tmp_path / "accumulated" / "seed-0" / "thesis.tex").touch()
    status, out, err = ended(start(*CALL, "--updates", "1", "--out", tmp_path, "--ray"))
    assert status == 2
    assert out == f"{tmp_path / 'sequential' / 'seed-0'}: 1 updates made\n"
    message = f"{tmp_path / 'accumulated' / 'seed-0'} must be empty or a run; it holds thesis.tex."
    assert message in err.splitlines()
    assert err.splitlines()[-1] == f"python -m experiments run: 1 of 2 runs failed; the first: {message}"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--cell-cpus", "100000"), r"--cell-cpus must be at most \d+, those of this machine; got 100000\."),
        (("--ray-address", "127.0.0.1:1"), "--ray-address must be that of a cluster; got 127.0.0.1:1: "),
    ],
)
def test_a_cluster_that_is_not_there(tmp_path, more, message):
    status, out, err = ended(start(*CALL, "--out", tmp_path / "new", "--ray", *more))
    assert (status, out) == (2, "")
    assert re.search(rf"^python -m experiments run: {message}", err, re.MULTILINE), err
    assert "Traceback" not in err
    assert len(err.splitlines()[-1]) < 300
    assert not (tmp_path / "new").exists()


TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture
def two_machines():
    """The address of a cluster of two nodes with one CPU each, and the process of the second node."""
    program = Path(sys.executable).with_name("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    common = [program, "start", "--block", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    nodes = []

    def begin(*options):
        variables = {**os.environ, **compiling.environment(), "PYTHONPATH": str(ROOT)}
        nodes.append(
            subprocess.Popen([*common, *options], env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

    try:
        begin("--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false")
        until(lambda: is_open(address), nodes[0])
        begin(f"--address={address}")
        yield address, nodes[1]
    finally:
        for node in reversed(nodes):
            node.terminate()  # and with it what it has started
            node.wait(60)


def family(process):
    """A process, and all that it and its children have started."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has gone
            parents[int(place.parts[2])] = int(place.read_text().rpartition(")")[2].split()[1])
    members = [process]
    for member in members:
        members += [child for child, parent in parents.items() if parent == member]
    return members


def is_open(address):
    host, port = address.split(":")
    with suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


def test_a_cell_whose_machine_dies_goes_on_on_another_one(alone, two_machines, tmp_path):
    address, second = two_machines
    process = start(*CALL, *TWELVE, "--out", tmp_path, "--ray", "--ray-address", address, **TOKEN)
    folders = [tmp_path / arm / "seed-0" for arm in ARMS]

    def is_second_at_work():
        begun = [folder for folder in folders if num_updates(folder) > 5]  # it has a checkpoint
        return any(writer_of(folder / records.RECORDS) in family(second.pid) for folder in begun)

    try:
        until(is_second_at_work, process)
        for member in family(second.pid):
            os.kill(member, signal.SIGKILL)
        status, out, err = ended(process)
    finally:
        process.kill()
    assert status == 0, err
    assert len(out.splitlines()) == 2
    assert sum([record["kind"] for record in runs.read(folder)].count("header") for folder in folders) == 3
    assert same(tmp_path, alone)
