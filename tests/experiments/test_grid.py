"""The grid of a folder: its list, written by many at the same time, and how far its runs have come."""

import json
import threading
import time

import pytest

from experiments import arms, config, files, grid, presets, records


def run_of(name):
    return config.to_json(presets.config("tiny", arms.parse(name)))


def test_calls_that_list_their_runs_at_the_same_time_lose_none(tmp_path, monkeypatch):
    """Each reads, waits, and writes: without the lock, which counts between threads too, all read before one writes."""
    read = files.read_object

    def slow(path):
        content = read(path)
        time.sleep(0.1)
        return content

    def add(seed):
        start.wait()
        grid.add_to_list(tmp_path, {tmp_path / "sequential" / f"seed-{seed}": run_of("sequential")})

    monkeypatch.setattr(files, "read_object", slow)
    files.write_object(tmp_path / records.LIST, {"of/old": {}})
    start = threading.Barrier(4)
    calls = [threading.Thread(target=add, args=(seed,)) for seed in range(4)]
    for call in calls:
        call.start()
    for call in calls:
        call.join(30)
    names = {f"sequential/seed-{seed}" for seed in range(4)}
    listed = grid.read_list(tmp_path)
    assert listed.keys() == {"of/old", *names}
    assert all(listed[name] == run_of("sequential") for name in names)


def test_a_list_that_has_the_runs_is_not_written_again(tmp_path):
    runs = {tmp_path / "a": run_of("sequential"), tmp_path / "b": run_of("accumulated")}
    grid.add_to_list(tmp_path, runs)
    before = (tmp_path / records.LIST).stat()
    grid.add_to_list(tmp_path, {tmp_path / "b": run_of("accumulated")})
    assert (tmp_path / records.LIST).stat().st_ino == before.st_ino
    grid.add_to_list(tmp_path, {tmp_path / "b": run_of("preferred-only")})
    assert list(grid.read_list(tmp_path)) == ["a", "b"]
    assert grid.read_list(tmp_path)["b"] == run_of("preferred-only")


def test_a_waiting_lock_is_taken_when_it_is_free(tmp_path):
    taken = threading.Event()

    def hold():
        with files.exclusive(tmp_path, "is held"):
            taken.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    with pytest.raises(files.BusyError), files.exclusive(tmp_path, "is held"):
        pass
    with files.exclusive(tmp_path, "is held", is_patient=True):
        thread.join(5)
        assert not thread.is_alive()


def row(update, **more):
    return {"kind": "update", "update": update, "optimizer_steps": 1, "learning_rate_sum": 1.0, "examples": 1, **more}


def write(folder, *lines, tail=""):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / records.RECORDS).write_text(text + tail, encoding="utf-8")


@pytest.mark.parametrize("num_updates", [1, 500])
def test_the_end_of_long_records_is_that_of_short_ones(tmp_path, num_updates):
    """Five hundred lines are many times what is read; the reader of all lines is the truth."""
    lines = [{"kind": "header", "device": "x" * 200}, *(row(n, device="y" * (n % 600)) for n in range(num_updates))]
    for more, tail in (([], ""), ([], '{"kind": "upd'), ([{"kind": "end", "reason": "stopped", "update": 1}], "")):
        write(tmp_path, *lines, *more, tail=tail)
        read = records.read(tmp_path / records.RECORDS)
        last = records.last(tmp_path / records.RECORDS)
        assert last == read[-len(last) :]
        assert len(last) > (len(read) if num_updates == 1 else 10) - 1
        one = grid.standing(tmp_path)
        assert one.row is not None
        assert one.row.update == num_updates - 1
        assert (one.ending is not None, one.has_ended) == (bool(more), False)


def test_how_far_a_run_has_come(tmp_path):
    assert grid.standing(tmp_path / "nowhere") == (None, None)
    write(tmp_path, tail='{"kind": "hea')
    assert grid.standing(tmp_path) == (None, None)
    for reason, has_ended in (("finished", True), ("not-finite", True), ("stopped", False)):
        write(tmp_path, row(0), row(1), {"kind": "end", "reason": reason, "update": 1})
        assert grid.standing(tmp_path).has_ended is has_ended
    write(tmp_path, row(0), row(1), {"kind": "end", "reason": "stopped", "update": 1}, {"kind": "header"}, row(2))
    one = grid.standing(tmp_path)
    assert one.row is not None
    assert (one.row.update, one.ending) == (2, None)
