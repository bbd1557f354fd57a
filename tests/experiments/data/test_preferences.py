"""Preference data in every layout: what is read, what is left out and why, and what is refused."""

import json
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from experiments.data.chat import Message
from experiments.data.preferences import Answer, Preference, columns, count, is_held_out, is_source, preferences
from experiments.files import BrokenLineError

USER = {"role": "user", "content": "6 times 7?"}
SYSTEM = {"role": "system", "content": "Be brief."}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("42", "41"))


def written(tmp_path, *rows):
    path = tmp_path / "data.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def read(source, **options):
    left_out = Counter()
    return list(preferences(source, left_out=left_out, **options)), dict(left_out)


def answers(prompt, good="42", bad="41", identifier="1"):
    return Preference(identifier, Answer(prompt, good), Answer(prompt, bad))


MESSAGES = (Message("user", "6 times 7?"),)
BRIEF = Message("system", "Be brief.")
PARTS = [{"role": "user", "content": [{"type": "text", "text": "6 times 7?"}]}]
IMAGE = [{"role": "user", "content": [{"type": "image"}]}]
LAYOUTS = [
    ({"id": "a", "question": "Q", "preferred": "42", "dispreferred": "41", "gold": "42"}, answers("Q", identifier="a")),
    ({"prompt": "Q", "chosen": "42", "rejected": "41"}, answers("Q")),
    ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, answers(MESSAGES)),
    ({"prompt": "6 times 7?", "chosen": [GOOD], "rejected": [BAD]}, answers(MESSAGES)),
    ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, answers(MESSAGES)),
    ({"prompt": "6 times 7?", "chosen": [USER, GOOD], "rejected": [USER, BAD], "score": 1.5}, answers(MESSAGES)),
    ({"prompt": [SYSTEM, USER], "chosen": [GOOD], "rejected": [BAD]}, answers((BRIEF, *MESSAGES))),
    (
        {"chosen": [SYSTEM, USER, BAD, USER, GOOD], "rejected": [SYSTEM, USER, BAD, USER, BAD], "score_chosen": 9.5},
        answers((BRIEF, *MESSAGES, Message("assistant", "41"), *MESSAGES)),
    ),
    (
        {"prompt": PARTS, "chosen": [GOOD], "rejected": [BAD]},
        answers(MESSAGES),
    ),
]  # fmt: skip


def test_the_own_layout_alone_has_identifiers(tmp_path):
    """Other data repeat an `id`, as of a question with several answers: it would hold out all of them or none."""
    own = {"id": "a", "question": "Q", "preferred": "42", "dispreferred": "41"}
    without = {key: value for key, value in own.items() if key != "id"}
    assert read(written(tmp_path, own, without))[0] == [answers("Q", identifier=name) for name in ("a", "2")]
    for row in (
        {"prompt": "Q", "chosen": "42", "rejected": "41", "id": "a"},
        {"chosen": "Q 42", "rejected": "Q 41", "id": "a"},
    ):
        (first, second), _ = read(written(tmp_path, row, row))
        assert (first.id, second.id) == ("1", "2")
    rows = [{"prompt": "Q", "completion": "4", "label": label, "id": "a"} for label in (True, False)]
    assert [pair.id for pair in read(written(tmp_path, *rows))[0]] == ["2"]


@pytest.mark.parametrize(("row", "preference"), LAYOUTS)
def test_every_layout_is_read(tmp_path, row, preference):
    assert read(written(tmp_path, row)) == ([preference], {})


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "good", "bad"),
    [
        ("Q: 6*7? A: 42", "Q: 6*7? A: 41", "Q: 6*7? A:", " 42", " 41"),
        ("Q: 6*7? A: 42", "Q: 6*7? A:\n41", "Q: 6*7? A:", " 42", "\n41"),
        ("Q A: yes", "Q A: no", "Q A:", " yes", " no"),
        ("Q A: yes", "Q A: yes, but", "Q A:", " yes", " yes, but"),
        ("Q A: yes", "Q A: yes sir", "Q A: yes", "", " sir"),
        ("Q A:  yes", "Q A:  no", "Q A:", "  yes", "  no"),
        ("Q A: \n yes", "Q A: \n\nno", "Q A:", " \n yes", " \n\nno"),  # they part at a blank
    ],
)
def test_the_implicit_prompt_of_texts_ends_with_a_word(tmp_path, chosen, rejected, prompt, good, bad):
    read_back, left_out = read(written(tmp_path, {"chosen": chosen, "rejected": rejected}))
    expected = answers(prompt, good, bad)
    assert read_back == ([expected] if good else [])
    assert left_out == ({} if good else {"empty answer": 1})


def test_unpaired_rows_are_paired_in_their_order(tmp_path):
    rows = [{"prompt": f"Q{n}", "completion": f"{n}", "label": label} for n, label in enumerate([1, 1, 0, True, False])]
    pairs, left_out = read(written(tmp_path, *rows))
    assert pairs == [
        Preference("3", Answer("Q0", "0"), Answer("Q2", "2")),
        Preference("5", Answer("Q1", "1"), Answer("Q4", "4")),
    ]
    assert left_out == {"without an answer of the other label": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Q", "chosen": "4", "rejected": "4"}, "equal answers"),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD]}, "equal answers"),
        ({"chosen": [USER, GOOD], "rejected": [USER, {**GOOD, "rating": 1}]}, "equal answers"),
        ({"prompt": "Q", "chosen": " ", "rejected": "4"}, "empty answer"),
        ({"prompt": [USER], "chosen": [GOOD], "rejected": []}, "empty answer"),
        ({"chosen": [USER, GOOD], "rejected": [USER]}, "empty answer"),
        ({"prompt": "", "chosen": "5", "rejected": "4"}, "no prompt"),
        ({"prompt": [], "chosen": [GOOD], "rejected": [BAD]}, "no prompt"),
        ({"chosen": "5", "rejected": "4"}, "no prompt"),
        ({"chosen": [USER, GOOD, USER, GOOD], "rejected": [USER, BAD, USER, BAD]}, "an answer of several messages"),
        *(
            (
                {"prompt": [USER], "chosen": [{**GOOD, "role": role}], "rejected": [BAD]},
                "an answer that is not the assistant's",
            )
            for role in ("user", "system", "tool")
        ),
    ],
)
def test_what_is_left_out_is_counted_by_reason(tmp_path, row, reason):
    assert read(written(tmp_path, row, row)) == ([], {reason: 2})


def test_answers_that_differ_in_outer_blanks_alone_are_two_answers(tmp_path):
    rows = [
        {"prompt": "Q", "chosen": "42 ", "rejected": "42"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [{**GOOD, "content": " 42"}]},
    ]
    pairs = [read(written(tmp_path, row))[0] for row in rows]
    assert pairs == [[answers("Q", "42 ", "42")], [answers(MESSAGES, "42", " 42")]]


def test_blank_lines_are_neither_read_nor_counted(tmp_path):
    source = written(tmp_path, "", GOOD_ROW, "  ", GOOD_ROW, "")
    assert count(source) == 2
    assert [pair.id for pair in read(source)[0]] == ["2", "4"]  # the numbers of their lines


GOOD_ROW = {"prompt": "Q", "chosen": "42", "rejected": "41"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "is no JSON"),
        ({"prompt": "Q", "chosen": "42"}, "must have a value of rejected"),
        ({"prompt": "Q", "chosen": None, "rejected": "41"}, "must have a value of chosen"),
        ({"prompt": 1, "chosen": "42", "rejected": "41"}, "must be a text or messages; got int"),
        ({"prompt": ["Q"], "chosen": "42", "rejected": "41"}, "an object with role and content"),
        ({"prompt": [{"role": "user"}], "chosen": "42", "rejected": "41"}, "a text as content"),
        ({"prompt": IMAGE, "chosen": "4", "rejected": "1"}, "parts of text"),
    ],
)  # fmt: skip
def test_a_broken_row_in_the_middle_is_named(tmp_path, row, message):
    source = written(tmp_path, GOOD_ROW, row, GOOD_ROW)
    with pytest.raises(BrokenLineError, match=message) as error:
        read(source)
    assert source in str(error.value)
    assert " 2: " in str(error.value)


def test_a_label_is_true_or_false(tmp_path):
    with pytest.raises(BrokenLineError, match="label must be true or false; got 'good'"):
        read(written(tmp_path, {"prompt": "Q", "completion": "4", "label": "good"}))


def test_a_file_json_holds_lines_too(tmp_path):
    path = Path(written(tmp_path, GOOD_ROW)).rename(tmp_path / "data.json")
    assert is_source(str(path))
    assert (count(str(path)), read(str(path))) == (1, ([answers("Q")], {}))
    assert not is_source("data.txt")


def test_columns_are_mapped_or_named(tmp_path):
    source = written(tmp_path, {"instruction": "Q", "good": "42", "bad": "41"})
    own = columns("prompt=instruction, chosen=good,rejected=bad")
    assert read(source, own_columns=own) == ([answers("Q")], {})
    with pytest.raises(ValueError, match="It has instruction, good, bad") as error:
        read(source)
    assert "prompt, chosen, rejected" in str(error.value)
    for text, message in (
        ("chosn=good", "Did you mean chosen"),
        ("chosen=", "one column"),
        ("chosen=a,chosen=b", "one column"),
    ):
        with pytest.raises(ValueError, match=message):
            columns(text)


def test_parquet_is_read_as_lines_are(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}] * 3
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read(str(path)) == ([answers(MESSAGES, identifier=str(number)) for number in (1, 2, 3)], {})


def test_a_share_is_held_out_whatever_else_is_in_the_file():
    chosen = {number for number in range(10_000) if is_held_out(str(number), 0.1, seed=0)}
    assert abs(len(chosen) - 1000) < 4 * 30  # four standard deviations of a binomial count
    assert chosen != {number for number in range(10_000) if is_held_out(str(number), 0.1, seed=1)}
    assert not any(is_held_out(str(number), 0.0, seed=0) for number in range(1000))
    assert all(is_held_out(str(number), 1.0, seed=0) for number in range(1000))


def test_memory_does_not_grow_with_the_file(tmp_path):
    row = {
        "chosen": [USER, {**GOOD, "content": 200 * "right "}],
        "rejected": [USER, {**BAD, "content": 200 * "wrong "}],
    }

    source = written(tmp_path, *([row] * 10_000))
    tracemalloc.start()
    assert sum(1 for _ in preferences(source, left_out=Counter())) == 10_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < Path(source).stat().st_size / 50  # the buffer of the file has the most of it


def test_a_data_set_of_the_hub_is_streamed(monkeypatch):
    asked = []
    module = ModuleType("datasets")
    vars(module)["load_dataset"] = lambda name, **options: asked.append((name, options)) or iter([GOOD_ROW])
    monkeypatch.setitem(sys.modules, "datasets", module)
    assert is_source("hub:owner/name")
    assert count("hub:owner/name") is None
    assert read("hub:owner/name") == ([answers("Q")], {})
    assert asked == [("owner/name", {"split": "train", "streaming": True})]


def test_without_datasets_the_way_out_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="hub needs `datasets`, which is not installed"):
        read("hub:owner/name")


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "data.parquet"
    path.write_text("no")
    with pytest.raises(ValueError, match=r"data\.parquet must be a Parquet file"):
        read(str(path))
