"""Problems from files and from the hub: what is read, and how a broken line is reported."""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import gsm8k

GOOD = {"question": "How many are 2 and 3?", "answer": "2+3 = <<2+3=5>>5\n#### 5"}
BROKEN = {
    "bad JSON": (b'{"question": "q", "answer"', "is no JSON: Expecting ':' delimiter at character 2"),
    "bad UTF-8": (b'{"question": "\xff", "answer": "#### 5"}', "can't decode byte 0xff"),
    "two records": (json.dumps(GOOD).encode() * 2, "Extra data"),
    "a list": (b'["question", "answer"]', "must be a JSON object; got list"),
    "nothing": (b"null", "must be a JSON object; got NoneType"),
    "no keys": (b"{}", "must have a text 'question'; got the keys none"),
    "no question": (b'{"answer": "#### 5", "id": 3}', "must have a text 'question'; got the keys answer, id"),
    "no answer": (b'{"question": "q"}', "must have a text 'answer'; got the keys question"),
    "empty question": (b'{"question": " \\n ", "answer": "#### 5"}', "must have a text 'question'"),
    "empty answer": (b'{"question": "q", "answer": ""}', "must have a text 'answer'"),
    "question of a wrong type": (b'{"question": 5, "answer": "#### 5"}', "must have a text 'question'"),
    "answer of a wrong type": (b'{"question": "q", "answer": ["#### 5"]}', "must have a text 'answer'"),
    "no final line": (b'{"question": "q", "answer": "It is 5."}', "the last line must be '#### N'"),
    "no number": (b'{"question": "q", "answer": "#### five"}', "got '#### five'"),
    "not a number": (b'{"question": "q", "answer": "#### 1,2"}', "got '#### 1,2'"),
    "division by zero": (b'{"question": "q", "answer": "#### 1/0"}', "got '#### 1/0'"),
    "text before the hashes": (b'{"question": "q", "answer": "so #### 5"}', "got 'so #### 5'"),
    "hashes not last": (b'{"question": "q", "answer": "#### 5\\nbye"}', "the last line must be"),
    "lone surrogate": (b'{"question": "\\ud800", "answer": "#### 5"}', "'question' without lone surrogates"),
    "deep nesting": (b"[" * 200_000, "is nested too deeply"),
    "a number with too many digits": (b'{"question": ' + b"9" * 5000 + b"}", "limit"),
}


def folder_with(path, *lines, split="train"):
    (path / f"{split}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return path


def encoded(record):
    return json.dumps(record).encode()


def test_problems_are_read_in_order(tmp_path):
    other = {"answer": "  So 1,000 + 234 = 1,234.\r\n#### 1,234 \n", "question": " Où? ", "more": None}
    folder_with(tmp_path, encoded(GOOD), b"", b"  ", json.dumps(other, ensure_ascii=False).encode())
    assert list(gsm8k.from_folder(tmp_path, "train")) == [
        gsm8k.Problem("train-1", GOOD["question"], GOOD["answer"], "5"),
        gsm8k.Problem("train-4", "Où?", "So 1,000 + 234 = 1,234.\r\n#### 1,234", "1234"),
    ]


def test_each_split_has_its_file(tmp_path):
    folder_with(tmp_path, encoded(GOOD))
    folder_with(tmp_path, encoded({**GOOD, "answer": "#### 6"}), split="test")
    assert [(one.id, one.gold) for split in gsm8k.SPLITS for one in gsm8k.from_folder(tmp_path, split)] == [
        ("train-1", "5"),
        ("test-1", "6"),
    ]


def test_an_empty_file_holds_no_problem(tmp_path):
    (tmp_path / "train.jsonl").touch()
    assert list(gsm8k.from_folder(tmp_path, "train")) == []


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_is_reported_with_its_place(tmp_path, kind):
    line, what = BROKEN[kind]
    problems = gsm8k.from_folder(folder_with(tmp_path, encoded(GOOD), b"", line, encoded(GOOD)), "train")
    assert next(problems).id == "train-1"
    with pytest.raises(gsm8k.BrokenLineError) as caught:
        next(problems)
    assert str(caught.value).startswith(f"{tmp_path / 'train.jsonl'}, line 3: ")
    assert what in str(caught.value)
    assert str(caught.value).endswith("Skip such lines with --skip-broken.")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_line_is_passed_over_where_that_is_asked(tmp_path, kind):
    line, what = BROKEN[kind]
    skipped = []
    problems = gsm8k.from_folder(folder_with(tmp_path, line, encoded(GOOD), line), "train", skipped)
    assert [problem.id for problem in problems] == ["train-2"]
    assert [message.partition(": ")[0] for message in skipped] == [
        f"{tmp_path / 'train.jsonl'}, line {number}" for number in (1, 3)
    ]
    assert all(what in message for message in skipped)


def test_nothing_is_noted_where_nothing_is_broken(tmp_path):
    skipped = []
    assert len(list(gsm8k.from_folder(folder_with(tmp_path, encoded(GOOD)), "train", skipped))) == 1
    assert skipped == []


def test_a_missing_file_is_named_with_what_lies_there(tmp_path):
    folder_with(tmp_path, encoded(GOOD), split="test")
    with pytest.raises(FileNotFoundError, match=r"train\.jsonl must exist.*There is: test\.jsonl\.$"):
        next(gsm8k.from_folder(tmp_path, "train"))
    with pytest.raises(FileNotFoundError, match="There is no such folder"):
        next(gsm8k.from_folder(tmp_path / "nowhere", "train"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(FileNotFoundError, match="There is: nothing"):
        next(gsm8k.from_folder(tmp_path / "bare", "train"))


def test_a_folder_in_the_place_of_the_file_is_no_file(tmp_path):
    (tmp_path / "train.jsonl").mkdir()
    with pytest.raises(FileNotFoundError, match="must exist"):
        next(gsm8k.from_folder(tmp_path, "train"))


@pytest.mark.parametrize(
    ("solution", "gold"),
    [
        ("#### 5", "5"),
        ("a\n####5\n\n", "5"),
        ("#### 1,234,567", "1234567"),
        ("#### -3", "-3"),
        ("#### 2.50", "2.50"),
        ("  #### 5", "5"),
    ],
)
def test_final_answers(solution, gold):
    assert gsm8k.final_answer(solution) == gold


# Line ends of other kinds than \n are text within a solution.
words = st.text(st.characters(codec="utf-8", exclude_characters="#\n")).map(str.strip).filter(bool)


@given(words, words, st.integers(-(10**30), 10**30))
def test_whatever_is_written_is_read_back(tmp_path_factory, question, line, gold):
    record = {"question": question, "answer": f"{line}\n#### {gold:,}"}
    folder = folder_with(tmp_path_factory.mktemp("data"), encoded(record))
    (problem,) = gsm8k.from_folder(folder, "train")
    assert problem == gsm8k.Problem("train-1", question, record["answer"], str(gold))


# -------------------------------------------------------------------------------------------------------------- the hub


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for `datasets`: what it is asked, and the rows that it gives."""
    rows, calls = [GOOD, {**GOOD, "answer": "#### 1,000"}], []

    def load_dataset(*args, **options):
        calls.append((args, options))
        return iter(rows)

    module = ModuleType("datasets")
    vars(module)["load_dataset"] = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return rows, calls


@pytest.mark.parametrize("split", gsm8k.SPLITS)
def test_the_hub_is_asked_for_the_split(hub, split):
    _, calls = hub
    problems = list(gsm8k.from_hub(split))
    assert calls == [(("openai/gsm8k", "main"), {"split": split})]
    assert [(problem.id, problem.gold) for problem in problems] == [(f"{split}-1", "5"), (f"{split}-2", "1000")]
    assert problems[0] == gsm8k.Problem(f"{split}-1", GOOD["question"], GOOD["answer"], "5")


def test_the_hub_and_a_folder_give_the_same(hub, tmp_path):
    rows, _ = hub
    folder_with(tmp_path, *map(encoded, rows))
    assert list(gsm8k.from_hub("train")) == list(gsm8k.from_folder(tmp_path, "train"))


def test_a_broken_row_of_the_hub_is_reported_with_its_place(hub):
    rows, _ = hub
    rows.insert(1, {"question": "q", "answer": "5"})
    problems = gsm8k.from_hub("test")
    next(problems)
    with pytest.raises(gsm8k.BrokenLineError, match="openai/gsm8k, test, row 2: the last line must be '#### N'"):
        next(problems)


def test_without_datasets_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"must be installed.*--data"):
        next(gsm8k.from_hub("train"))


@pytest.mark.network
@pytest.mark.parametrize(("split", "count"), [("train", 7473), ("test", 1319)])
def test_the_real_hub_is_read(split, count):
    pytest.importorskip("datasets")
    assert len(list(gsm8k.from_hub(split))) == count


@pytest.mark.skipif("GSM8K_DATA" not in os.environ, reason="GSM8K_DATA names no folder with train.jsonl and test.jsonl")
def test_all_of_gsm8k_is_read():
    skipped = []
    problems = [
        problem
        for split in gsm8k.SPLITS
        for problem in gsm8k.from_folder(Path(os.environ["GSM8K_DATA"]), split, skipped)
    ]
    assert skipped == []
    assert Counter(problem.id.partition("-")[0] for problem in problems) == {"train": 7473, "test": 1319}
    assert len({problem.id for problem in problems}) == len(problems)
