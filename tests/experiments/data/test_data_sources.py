"""Where problems come from: a folder, made up, or the hub, of which a stand-in is played here."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from experiments.data import data_sources, gsm8k, word_problems

RECORDS = [{"question": f"question {i}", "answer": f"It is {i}.\n#### {i}"} for i in range(1, 6)]


@pytest.fixture
def folder(tmp_path):
    """Five problems in the train split, two in the test split."""
    for split, records in {"train": RECORDS, "test": RECORDS[:2]}.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


@pytest.fixture
def hub(monkeypatch):
    """What `datasets` was asked for; the split has as many rows as there are records."""
    asked = []

    def load_dataset(*names, **options):
        asked.append((names, options))
        return iter(RECORDS)

    module = ModuleType("datasets")
    vars(module)["load_dataset"] = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


def ids_and_golds(problems):
    return [(problem.id, problem.gold) for problem in problems]


def test_a_folder_is_read_split_by_split(folder):
    assert ids_and_golds(data_sources.problems(str(folder), "train")) == [(f"train-{i}", str(i)) for i in range(1, 6)]
    assert ids_and_golds(data_sources.problems(str(folder), "test")) == [("test-1", "1"), ("test-2", "2")]


def test_the_seed_is_of_no_matter_to_what_is_read(folder, hub):
    for source in (str(folder), data_sources.HUB):
        assert list(data_sources.problems(source, "train", seed=1)) == list(data_sources.problems(source, "train"))


@pytest.mark.parametrize("source", ["folder", data_sources.HUB, data_sources.GENERATED])
@pytest.mark.parametrize("limit", [1, 3, 5])
def test_a_limit_keeps_the_first_ones(folder, hub, source, limit):
    name = str(folder) if source == "folder" else source
    assert list(data_sources.problems(name, "train", limit=limit)) == list(
        islice(data_sources.problems(name, "train"), limit)
    )
    assert len(list(data_sources.problems(name, "train", limit=limit))) == limit


def test_a_limit_beyond_the_end_keeps_all(folder, hub):
    for source in (str(folder), data_sources.HUB):
        assert len(list(data_sources.problems(source, "train", limit=9))) == 5


def test_problems_come_one_at_a_time(folder):
    """A broken line behind the limit is not read."""
    with (folder / "train.jsonl").open("a") as file:
        file.write("{\n")
    assert len(list(data_sources.problems(str(folder), "train", limit=5))) == 5
    with pytest.raises(gsm8k.BrokenLineError, match=r"train\.jsonl, line 6: .*--skip-broken"):
        list(data_sources.problems(str(folder), "train", limit=6))


def test_broken_lines_are_passed_over_and_told_where_that_is_asked(folder):
    lines = (folder / "train.jsonl").read_text().splitlines()
    (folder / "train.jsonl").write_text("\n".join([lines[0], "{", *lines[1:3], '{"question": "q"}', *lines[3:]]))
    skipped = []
    found = list(data_sources.problems(str(folder), "train", limit=4, skipped=skipped))
    assert [problem.id for problem in found] == [
        "train-1",
        "train-3",
        "train-4",
        "train-6",
    ]  # four are left of six lines
    assert [message.partition(": ")[0] for message in skipped] == [
        f"{folder / 'train.jsonl'}, line {number}" for number in (2, 5)
    ]


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.train\.jsonl must exist: .*There is no such folder"):
        next(data_sources.problems(str(tmp_path / "nowhere"), "train"))


def test_the_hub_is_asked_for_the_split(hub):
    assert ids_and_golds(data_sources.problems("hub", "test", limit=2)) == [("test-1", "1"), ("test-2", "2")]
    ((names, options),) = hub
    assert names == ("openai/gsm8k", "main")
    assert options == {"split": "test"}


def test_the_hub_needs_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="--data generated"):
        list(data_sources.problems("hub", "train"))


def test_a_folder_may_be_called_as_a_source_is_where_a_path_says_so(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    for name in ("hub", "generated"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(json.dumps(RECORDS[4]) + "\n")
        assert ids_and_golds(data_sources.problems(f"./{name}", "train")) == [("train-1", "5")]
        assert len(list(data_sources.problems(name, "train", limit=3))) == 3
    assert len(hub) == 1


def test_generated_problems_are_those_of_the_seed_and_the_split():
    for split in gsm8k.SPLITS:
        for seed in (0, 7):
            made = list(data_sources.problems("generated", split, limit=20, seed=seed))
            assert made == list(word_problems.generate(20, seed=seed, split=split))
    assert list(data_sources.problems("generated", "train", limit=5)) == list(word_problems.generate(5, seed=0))


@pytest.mark.parametrize(("split", "count"), [("train", 7473), ("test", 1319)])
def test_as_many_are_generated_as_gsm8k_has(monkeypatch, split, count):
    monkeypatch.setattr(word_problems, "generate", lambda count, **_: iter(range(count)))  # making them takes seconds
    assert len(list(data_sources.problems("generated", split))) == count


def test_more_than_can_be_generated_is_refused_at_once():
    with pytest.raises(ValueError, match="`count` must lie in"):
        data_sources.problems("generated", "train", limit=word_problems.MOST_PROBLEMS + 1)


def test_data_and_pairs_import_without_jax():
    modules = [f"experiments.data.{name}" for name in ("answers", "data_sources", "harness", "reasoning")]
    modules += [f"experiments.pairs.{name}" for name in ("check", "corruption")]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "assert not {'jax', 'numpy', 'scipy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_a_name_of_the_table_is_a_source(monkeypatch):
    class Empty:
        def problems(self, split, *, limit, seed, skipped):
            return iter([gsm8k.Problem(split, str(limit), str(seed), str(skipped))])

        def count(self, split):
            return len(split)

    monkeypatch.setitem(data_sources.SOURCES, "empty", Empty())
    assert list(data_sources.problems("empty", "test", limit=2, seed=3)) == [gsm8k.Problem("test", "2", "3", "None")]
    assert data_sources.count("empty", "train") == 5
