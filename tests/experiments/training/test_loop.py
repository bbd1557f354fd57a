"""The loop of a run: what it writes, how it ends, and that nothing that interrupts it changes a bit of the outcome."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments import arms, files, records
from experiments.training import batches, checkpoint, language_task, loop
from experiments.training.probe import Probe
from tests.support import runs
from tests.support.runs import NUM_PAIRS, NUM_UPDATES, arrays, configuration, quiet, rows

ROOT = Path(__file__).parents[3]
FUNCTIONS = language_task._functions


@cache
def functions():
    """What these tests change beside the arm does not change what is compiled, which is all that takes time."""
    return FUNCTIONS(configuration(), runs.ARCHITECTURE, None)


@pytest.fixture(autouse=True, scope="module")
def _one_program_for_each_arm():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_task, "_functions", lambda *_: functions())
        yield


FINISHED = records.Ending(reason="finished")


@pytest.fixture(scope="module")
def run_inputs():
    return runs.run_inputs()


def fixed(run_inputs, config):
    return batches.epoch_batches(run_inputs.pairs, config.num_pairs, seed=config.seed, reduction=config.arm.reduction)


def run(folder, run_inputs, source=None, arm="sequential-random-start", settings=None, **more):
    folder.mkdir(exist_ok=True)
    config = configuration(arm, **(settings or {}), **more)
    task = language_task.of(config, run_inputs, source)
    return loop.run(config, task, folder, header={"commit": None}, show=quiet)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_inputs):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder, run_inputs, keep=100).ending.reason == "finished"
    return folder


def same(folder, whole):
    """Whether two runs came to the same, bit for bit."""
    assert rows(folder) == rows(whole)
    return arrays(folder) == arrays(whole)


def finished(folder, run_inputs, whole):
    """Whether a run that is resumed comes to the same."""
    ending = run(folder, run_inputs).ending
    assert (ending.reason, ending.update) == ("finished", NUM_UPDATES)
    assert runs.end(folder)["reason"] == "finished"
    return same(folder, whole)


def numbers(folder):
    return checkpoint.numbers(folder / records.CHECKPOINTS)


# What is written ------------------------------------------------------------------------------------------------------


def test_what_a_run_leaves(whole):
    assert {path.name for path in whole.iterdir()} == {records.RECORDS, records.CHECKPOINTS}
    made = runs.read(whole)
    assert [record["kind"] for record in made] == ["header", *["update"] * (NUM_UPDATES + 1), "end"]
    read_from_updates = {
        *(name for name in records.quantities() if name.startswith(("loss", "log_prob", "ratio", "norm"))),
        *("first", "alignment", "cosine", "gradient_norms", "update_norm"),
    }
    for row in made[1:-1]:
        expected = {name for name in records.quantities() if "." not in name} - (
            read_from_updates if row["update"] == 0 else set()
        )
        assert set(row) - {"kind"} == expected
    assert made[-1] == {"kind": "end", "reason": "finished", "update": 6, "message": "6 updates made"}


class Recording:
    """A source that keeps its batches."""

    def __init__(self, source):
        self.source, self.batches = source, []

    def __call__(self, update, params):
        halves = self.source(update, params)
        self.batches.append(halves)
        return halves


def made_of(arm, run_inputs, folder):
    config = configuration(arm)
    source = Recording(fixed(run_inputs, config))
    assert run(folder, run_inputs, source, arm=arm).ending.reason == "finished"
    return [json.loads(row) for row in rows(folder)], source.batches


def compared(names, run_inputs, folder):
    made = {arm: made_of(arm, run_inputs, folder / arm) for arm in names}
    reference, halves = made["accumulated"]
    lengths = [[len(side.lengths) for side in both] for both in halves]
    assert lengths == [[NUM_PAIRS, NUM_PAIRS]] * NUM_UPDATES
    for name, (own, own_halves) in made.items():
        arm = arms.BY_NAME[name]
        assert own[0] == reference[0]
        assert all(
            np.array_equal(a, b) for a, b in zip(jax.tree.leaves(own_halves), jax.tree.leaves(halves), strict=True)
        )
        sides = 1 if name == "preferred-only" else 2
        num_tokens = [sum(int(np.sum(side.lengths)) for side in both[:sides]) for both in halves]
        steps = {"eta": 1, "eta/2": 0.5, "eta/sqrt2": math.sqrt(0.5), "sqrt-rule": math.sqrt(0.5)}[arm.rate]
        steps *= 2 if name.startswith("sequential") else 1
        for update, row in enumerate(own):
            assert row["update"] == update
            assert row["optimizer_steps"] == update * (2 if name.startswith("sequential") else 1)
            assert row["examples"] == update * sides * NUM_PAIRS
            assert row["tokens"] == sum(num_tokens[:update])
            assert row["learning_rate_sum"] == pytest.approx(update * steps * 3e-3, rel=1e-12)
        # At the first update the gradient that is read first is read at the start; an accumulated arm reads both there.
        is_accumulated = arm.is_accumulated
        equal = [
            key
            for sign, side in (("+", "plus"), ("-", "minus"))
            if is_accumulated or own[1]["first"] == sign
            for key in (f"loss_{side}", f"log_prob_{side}", f"log_prob_{side}_per_token")
            if name != "preferred-only" or side == "plus"
        ]
        assert equal
        for key in equal:
            # Other programs may add in another order: a dozen roundings of numbers of the size of the sum.
            assert own[1][key] == pytest.approx(reference[1][key], rel=12 * 2**-23)
        if not is_accumulated:
            other = "loss_minus" if own[1]["first"] == "+" else "loss_plus"
            assert own[1][other] != pytest.approx(reference[1][other], rel=1e-5)
        if arm.start != "random":
            assert {row["first"] for row in own[1:]} == {arm.word.strip("()")[0]}
        else:
            assert [row["first"] for row in own[1:]] == ["+-"[not batches.coin(0, n)] for n in range(NUM_UPDATES)]
            assert len({row["first"] for row in own[1:]}) == 2


def test_arms_differ_in_nothing_but_the_update(run_inputs, tmp_path):
    compared(["accumulated", "sequential-minus-first", "sequential-random-start"], run_inputs, tmp_path)


@pytest.mark.slow
def test_all_arms_differ_in_nothing_but_the_update(run_inputs, tmp_path):
    compared(list(arms.BY_NAME), run_inputs, tmp_path)


# Stopped, and resumed -------------------------------------------------------------------------------------------------


class Signalling:
    """A source that sends its own process signals as the halves of one update are drawn."""

    def __init__(self, source, update, signals):
        self.source, self.update, self.signals = source, update, signals

    def __call__(self, update, params):
        if update == self.update:
            for number in self.signals:
                signal.raise_signal(number)
        return self.source(update, params)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("update", [0, 3])
def test_a_signal_saves_and_leaves(number, update, run_inputs, whole, tmp_path, capfd):
    source = Signalling(fixed(run_inputs, configuration()), update, [number])
    ending, is_stop_wanted = run(tmp_path / "run", run_inputs, source, checkpoint_every=100)
    assert (ending.reason, ending.update, is_stop_wanted) == ("stopped", update + 1, True)
    assert runs.end(tmp_path / "run")["reason"] == "stopped"
    assert numbers(tmp_path / "run") == [update + 1]
    assert "once more ends at once" in capfd.readouterr().err
    assert finished(tmp_path / "run", run_inputs, whole)


def test_a_signal_during_the_last_update_is_told(run_inputs, whole, tmp_path):
    source = Signalling(fixed(run_inputs, configuration()), NUM_UPDATES - 1, [signal.SIGINT])
    ending, is_stop_wanted = run(tmp_path / "run", run_inputs, source)
    assert (ending.reason, is_stop_wanted) == ("finished", True)
    assert same(tmp_path / "run", whole)


def test_a_second_interrupt_ends_at_once(run_inputs, whole, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    for update in (0, 3):
        folder = tmp_path / str(update)
        source = Signalling(fixed(run_inputs, configuration()), update, [signal.SIGTERM, signal.SIGINT])
        with pytest.raises(KeyboardInterrupt):
            run(folder, run_inputs, source)
        assert signal.getsignal(signal.SIGINT) is before
        assert len(rows(folder)) == update + 1
        assert finished(folder, run_inputs, whole)


@pytest.mark.slow
def test_a_measured_second_moment_comes_back(run_inputs, tmp_path):
    arm = "sequential:optimizer=frozen-adamw"
    assert run(tmp_path / "whole", run_inputs, arm=arm).ending.reason == "finished"
    source = Signalling(fixed(run_inputs, configuration(arm)), NUM_UPDATES - 2, [signal.SIGINT])
    assert run(tmp_path / "run", run_inputs, source, arm=arm).ending.reason == "stopped"
    assert run(tmp_path / "run", run_inputs, arm=arm).ending.reason == "finished"
    assert same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("other", [{"seed": 1}, {"data_seed": 1}])
def test_another_model_or_other_data_are_refused(other, run_inputs, tmp_path):
    source = Signalling(fixed(run_inputs, configuration()), 1, [signal.SIGINT])
    run(tmp_path / "run", run_inputs, source)
    before = (tmp_path / "run" / records.RECORDS).read_bytes()
    with pytest.raises(ValueError, match="must be continued with the model and the data that it was begun with"):
        run(tmp_path / "run", runs.run_inputs(**other))
    assert (tmp_path / "run" / records.RECORDS).read_bytes() == before


# Values that are not finite, and collapse -----------------------------------------------------------------------------


class Weighing:
    """A source that gives the preferred half of one update another weight."""

    def __init__(self, source, update, weight):
        self.source, self.update, self.weight = source, update, weight

    def __call__(self, update, params):
        halves = self.source(update, params)
        if update != self.update:
            return halves
        weights = np.full_like(np.asarray(halves.preferred.weights), self.weight)
        return halves._replace(preferred=halves.preferred._replace(weights=weights))


# 1e22: the loss and its gradient are finite, their square is not, and AdamW's step would be zero ever after.
@pytest.mark.parametrize("weight", [math.inf, math.nan, 1e22])
@pytest.mark.parametrize("every", [1, 4])
def test_a_value_that_is_not_finite(weight, every, run_inputs, whole, tmp_path):
    folder = tmp_path / "run"
    source = Weighing(fixed(run_inputs, configuration()), 3, weight)
    ending = run(folder, run_inputs, source, checkpoint_every=every).ending
    assert (ending.reason, ending.update) == ("not-finite", 3)
    assert "update 4 is not finite" in ending.message
    assert "checkpoint 3" in ending.message
    made = runs.read(folder)
    assert made[-1] == {"kind": "end", "reason": "not-finite", "update": 3, "message": ending.message}
    assert (made[-2]["update"], made[-2]["is_collapsed"], made[-2]["probe"]) == (4, True, None)
    assert any(not math.isfinite(made[-2][key]) for key in ("loss_plus", "norm_plus", "alignment", "update_norm"))
    text = (folder / records.RECORDS).read_text()
    assert "NaN" in text or "Infinity" in text
    assert rows(folder)[:4] == rows(whole)[:4]
    assert numbers(folder)[0] == 3
    assert arrays(folder, 3) == arrays(whole, 3)
    kept = load_file(folder / records.CHECKPOINTS / "00000003" / "arrays.safetensors")
    assert all(np.isfinite(leaf).all() for leaf in kept.values())


def test_collapse_begins_at_the_first_reading_that_low_and_stays(run_inputs, tmp_path, monkeypatch):
    readings = iter([-2.0, -2.5, -3.0, -3.0 - 2**-40, -2.0, -1.0, -9.0])

    def probed(self, params):
        return records.Probe(log_prob_plus_per_token=next(readings))

    monkeypatch.setattr(Probe, "_log_probs", probed)
    run(tmp_path / "run", run_inputs)
    made = [json.loads(row)["is_collapsed"] for row in rows(tmp_path / "run")]
    assert made == [False, False, False, True, True, True, True]


def test_collapse_counts_where_the_probe_is_read(run_inputs, tmp_path, monkeypatch):
    readings = iter([-2.0, -2.0, math.nan, -2.0])

    def probed(self, params):
        return records.Probe(log_prob_plus_per_token=next(readings))

    monkeypatch.setattr(Probe, "_log_probs", probed)
    run(tmp_path / "run", run_inputs, settings={"measures.probe_every": 2})
    made = [json.loads(row) for row in rows(tmp_path / "run")]
    assert [row["probe"] is not None for row in made] == [True, False, True, False, True, False, True]
    assert [row["is_collapsed"] for row in made] == [False] * 4 + [True] * 3


# Checkpoints: which are kept, and damage ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("readings", "every", "left"),
    [
        ([-9.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0], 1, [6, 5, 4, 1]),
        ([-1.0, -9.0, -2.0, -3.0, -4.0, -5.0, -6.0], 1, [6, 5, 4, 2]),  # the start is the model itself
        ([-9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0], 1, [6, 5, 4]),
        # The best line has no checkpoint; the best of those that have is kept.
        ([-2.0, -1.0, -3.0, -4.0, -5.0, -6.0, -7.0], 2, [6, 4, 2]),
    ],
)
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_the_newest_and_the_best_are_kept(readings, every, left, is_interrupted, run_inputs, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    current, interrupts = [0], [3] if is_interrupted else []

    def probed(self, params):
        return records.Probe(log_prob_plus_per_token=readings[current[0]])

    class Counting:
        def __call__(self, update, params):
            current[0] = update + 1
            if update in interrupts:
                interrupts.remove(update)
                signal.raise_signal(signal.SIGINT)
            return fixed(run_inputs, configuration())(update, params)

    monkeypatch.setattr(Probe, "_log_probs", probed)
    ending = run(folder, run_inputs, Counting(), checkpoint_every=every, keep=3).ending
    if is_interrupted:
        assert ending.reason == "stopped"
        ending = run(folder, run_inputs, Counting(), checkpoint_every=every, keep=3).ending
    assert ending.reason == "finished"
    assert numbers(folder) == left


@pytest.mark.parametrize(("keep", "left"), [(0, []), (1, [6]), (2, [6, 5])])
def test_the_disk_holds_no_more_than_is_kept(keep, left, run_inputs, whole, tmp_path, monkeypatch):
    """While a run is made two at most, the one that is written among them; at its end what it is to keep."""
    there, save = [], checkpoint.save

    def counted(folder, number, *arguments):
        there.append(len({*checkpoint.numbers(folder), number}))
        return save(folder, number, *arguments)

    monkeypatch.setattr(checkpoint, "save", counted)
    folder = tmp_path / "run"
    assert run(folder, run_inputs, keep=keep).ending.reason == "finished"
    assert len(there) == NUM_UPDATES - (keep == 0)
    assert max(there) <= 2 + (keep > 1)  # and the best
    assert numbers(folder)[:keep] == left
    assert len(numbers(folder)) <= keep + (keep > 1)
    assert rows(folder) == rows(whole)


def test_what_a_kill_left_of_a_finished_run_is_taken_away(run_inputs, tmp_path):
    folder = tmp_path / "run"
    run(folder, run_inputs, keep=100)
    loop.tidy(folder, configuration(keep=2), FINISHED)
    assert len(numbers(folder)) <= 3
    shutil.copytree(folder / records.CHECKPOINTS / "00000006", folder / records.CHECKPOINTS / ".00000003.part")
    loop.tidy(folder, configuration(keep=1), FINISHED)
    assert [path.name for path in (folder / records.CHECKPOINTS).iterdir()] == ["00000006"]
    loop.tidy(folder, configuration(keep=0), FINISHED)
    assert not (folder / records.CHECKPOINTS).exists()


def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(run_inputs, whole, tmp_path, monkeypatch):
    """The run is resumed from 2, and fails as it saves 3: 2 must still be there, whatever 4 is."""
    folder = tmp_path / "run"
    stopped(folder, run_inputs, 4, keep=3)
    damage(folder, 4)
    damage(folder, 3)
    left, save = [1], checkpoint.save

    def failing(*arguments):
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        left.pop()
        return save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", failing)
        with pytest.raises(OSError, match="No space left"):
            run(folder, run_inputs)
    assert numbers(folder) == [3]  # saved anew; 4 was damaged
    assert finished(folder, run_inputs, whole)


def stopped(folder, run_inputs, update=3, **more):
    """A run with that many updates."""
    source = Signalling(fixed(run_inputs, configuration()), update - 1, [signal.SIGINT])
    assert run(folder, run_inputs, source, **more).ending.reason == "stopped"
    return folder


def test_lines_behind_the_checkpoint_are_cut(run_inputs, whole, tmp_path):
    """A kill after a line and before its checkpoint, and one within a line."""
    folder = stopped(tmp_path / "run", run_inputs)
    path = folder / records.RECORDS
    lines = (whole / records.RECORDS).read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5]) + lines[5].replace('"update": 4', '"update": 4, "foreign": 1') + lines[6][:50])
    assert finished(folder, run_inputs, whole)
    assert "foreign" not in path.read_text()
    assert path.read_text().endswith("}\n")


def damage(folder, number):
    path = folder / records.CHECKPOINTS / f"{number:08}" / "arrays.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_kill_as_the_last_checkpoint_is_pruned(run_inputs, whole, tmp_path):
    """Nothing is left to be saved after it, and what was half removed goes all the same."""
    folder = tmp_path / "run"
    run(folder, run_inputs)
    path = folder / records.RECORDS
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    left = {entry.name for entry in (folder / records.CHECKPOINTS).iterdir()}
    shutil.copytree(folder / records.CHECKPOINTS / "00000006", folder / records.CHECKPOINTS / ".00000003.part")
    assert finished(folder, run_inputs, whole)
    assert {entry.name for entry in (folder / records.CHECKPOINTS).iterdir()} == left


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(run_inputs, whole, tmp_path, capfd):
    folder = stopped(tmp_path / "run", run_inputs)
    damage(folder, 3)
    assert finished(folder, run_inputs, whole)
    said = capfd.readouterr().err
    assert f"{folder / records.CHECKPOINTS / '00000003'} is damaged: arrays.safetensors has another SHA-256" in said
    assert "The one before it is used." in said


def test_without_a_whole_checkpoint_nothing_is_touched(run_inputs, tmp_path):
    folder = stopped(tmp_path / "run", run_inputs)
    before = (folder / records.RECORDS).read_bytes()
    for number in numbers(folder):
        damage(folder, number)
    with pytest.raises(checkpoint.DamagedError, match=r"all are damaged.*00000003.*00000002"):
        run(folder, run_inputs)
    assert (folder / records.RECORDS).read_bytes() == before


def test_checkpoints_without_their_lines_are_refused(run_inputs, tmp_path):
    folder = stopped(tmp_path / "run", run_inputs)
    path = folder / records.RECORDS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    with pytest.raises(ValueError, match=r"records.jsonl must have a line for update 3, where the checkpoint is"):
        run(folder, run_inputs)
    path.unlink()
    with pytest.raises(ValueError, match=r"records.jsonl must exist"):
        run(folder, run_inputs)
    path.write_bytes(b"".join(lines[:2]) + b"{broken}\n" + b"".join(lines[2:]))
    with pytest.raises(ValueError, match=r"records.jsonl, line 3: "):
        run(folder, run_inputs)


def test_without_a_checkpoint_a_run_begins_anew(run_inputs, whole, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / records.RECORDS).write_text('{"kind": "header"}\n{"kind": "upd')
    assert finished(folder, run_inputs, whole)


# The disk is full -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [1, 9, 17, 24, 30])
def test_a_full_disk_while_saving(place, run_inputs, whole, tmp_path, monkeypatch):
    left, fsync = place, os.fsync

    def full(handle):
        nonlocal left
        left -= 1
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "run", run_inputs)
    for number in numbers(tmp_path / "run"):
        assert arrays(tmp_path / "run", number) == arrays(whole, number)
    assert finished(tmp_path / "run", run_inputs, whole)


@pytest.mark.parametrize("line", [1, 2, 4])
def test_a_full_disk_while_a_line_is_written(line, run_inputs, whole, tmp_path, monkeypatch):
    left, append = line, files.append

    def full(file, record):
        nonlocal left
        left -= 1
        if left <= 0:
            file.write(json.dumps(record)[:20])
            file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")
        append(file, record)

    with monkeypatch.context() as patch:
        patch.setattr(files, "append", full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path / "run", run_inputs)
    assert finished(tmp_path / "run", run_inputs, whole)


# Kills ----------------------------------------------------------------------------------------------------------------


def killed(folder, num_kills, seed):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "runs.py"), str(folder), str(num_kills), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = [json.loads(line) for line in done.stdout.splitlines()]
    counts = Counter(record["how"] for record in made)
    assert sum(counts.values()) - counts["done"] >= num_kills
    for record in made:
        if record["how"] == "done":
            assert same(Path(record["folder"]), folder / "whole")
    return made


def test_kills(tmp_path):
    killed(tmp_path, 6, seed=0)


@pytest.mark.slow
def test_a_hundred_kills(tmp_path):
    made = killed(tmp_path, 100, seed=1)
    print(Counter(record["how"] for record in made))
    saving, behind = (sum(record.get(key, False) for record in made) for key in ("while saving", "behind"))
    print(f"{saving} while a checkpoint was written or removed, {behind} between a line and its checkpoint")
    assert min(saving, behind) >= 5  # or the kills missed what they are for
