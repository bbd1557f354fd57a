"""Preference data in every layout: what is read, what is left out and why, and what is refused."""

import json
import random
import re
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from experiments.data import parquet_files
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


SKIPPING = {
    "{": "is no JSON",
    "[1]": "must be a JSON object",
    '{"prompt": "Q", "chosen": "42"}': "must have a value of rejected",
    '{"prompt": "Q", "chosen": null, "rejected": "41"}': "must have a value of chosen",
    '{"prompt": "Q", "chosen": ["42"], "rejected": "41"}': "a message must be an object with role and content",
    '{"prompt": "Q", "chosen": [{"from": "gpt", "value": "42"}], "rejected": "41"}': "a message must be an object with "
    "role and content",
    r'{"prompt": "Q", "chosen": "\ud800", "rejected": "41"}': "a text must be without lone surrogates",
}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_broken_lines_are_counted_by_reason_wherever_they_stand(tmp_path, place):
    rows = [GOOD_ROW, GOOD_ROW]
    source = written(tmp_path, *rows[:place], *SKIPPING, *rows[place:])
    counts = Counter(f"broken: {reason}" for reason in SKIPPING.values())
    if not place:  # no row has said yet which columns there are
        counts.subtract(["broken: must have a value of rejected"])
        counts.update(["broken: must have the columns of a layout"])
    pairs, left_out = read(source, skip_broken=True)
    assert [pair.preferred.text for pair in pairs] == ["42", "42"]
    assert Counter(left_out) == counts
    # Bytes that are no UTF-8 have one reason, whatever their place in the line.
    with Path(source).open("ab") as file:
        file.writelines([b'{"prompt": "\xff"}\n', b'{"prompt": "Q\xff"}\n'])
    assert max(read(source, skip_broken=True)[1].values()) == 2
    with pytest.raises(BrokenLineError, match=rf"line {place + 1}: .*\. Skip such rows with --skip-broken\."):
        read(source)


@pytest.mark.parametrize("content", ["", "\n\n", "{\n"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    path = tmp_path / "data.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"data\.jsonl must have a row that can be read; it has none"):
        read(str(path), skip_broken=True)


def test_a_list_over_many_lines_is_refused_with_its_conversion(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([GOOD_ROW], indent=1))
    with pytest.raises(ValueError, match=r"one JSON object a line; .* jq -c '\.\[\]' data\.json > data\.jsonl"):
        read(str(path))


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


@pytest.mark.parametrize(
    ("names", "own", "message"),
    [
        ("prompt choosen rejected", "", "Map them with --columns chosen=choosen."),
        ("prompt choosen rejectd", "", "Map them with --columns chosen=choosen,rejected=rejectd."),
        ("chosen_response rejected_response", "", "--columns chosen=chosen_response,rejected=rejected_response."),
        ("prompt completion good", "", "Map them with --columns, such as chosen=NAME,rejected=NAME."),
        ("prompt chosen rejected", "chosen=choosen", "got choosen. It has prompt, chosen, rejected. Did you mean chos"),
        # Without the refusal the prompt would be the beginning that the two answers share.
        ("instruction chosen rejected", "prompt=instrction", "got instrction. It has instruction, chosen, rejected."),
    ],
)
def test_unknown_columns_are_refused_with_the_nearest_ones(tmp_path, names, own, message):
    source = written(tmp_path, dict.fromkeys(names.split(), "a b"))
    with pytest.raises(ValueError, match=r"must (have the|name) columns") as error:
        read(source, own_columns=columns(own))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def parquet_file(tmp_path, **held):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.table(held), path, row_group_size=1)
    return str(path)


def test_parquet_texts_of_every_encoding_and_several_row_groups_are_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    texts = pyarrow.array(["42", "7"])
    expected = [answers("Q"), answers("Q", "7", identifier="2")]
    for kind in (pyarrow.string(), pyarrow.large_string(), pyarrow.string_view()):
        source = parquet_file(tmp_path, prompt=["Q"] * 2, chosen=texts.cast(kind), rejected=["41"] * 2)
        assert read(source) == (expected, {})
    source = parquet_file(tmp_path, prompt=["Q"] * 2, chosen=texts.dictionary_encode(), rejected=["41"] * 2)
    assert read(source) == (expected, {})


def test_parquet_columns_that_no_layout_names_are_not_read(tmp_path, monkeypatch):
    held = {"id": ["a"], "question": ["Q"], "preferred": ["42"], "dispreferred": ["41"], "embedding": [[0.5]]}
    asked = []
    rows = parquet_files.rows
    monkeypatch.setattr(parquet_files, "rows", lambda path, names: asked.append(names) or rows(path, names))
    assert read(parquet_file(tmp_path, **held)) == ([answers("Q", identifier="a")], {})
    assert asked == [["question", "preferred", "dispreferred", "id"]]


def test_a_row_group_is_not_read_whole(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [random.Random(number).randbytes(1000).hex() for number in range(10_000)]  # nothing repeats in them
    path = tmp_path / "data.parquet"
    columns = {"prompt": texts, "chosen": texts[::-1], "rejected": texts}
    parquet.write_table(pyarrow.table(columns), path, row_group_size=10_000, compression="none")
    before = pyarrow.total_allocated_bytes()
    held = [pyarrow.total_allocated_bytes() for _ in preferences(str(path), left_out=Counter())]
    assert len(held) == 10_000
    # Pages, dictionaries and a buffer of each column are 17 MB of the 60; read whole it would be 68.
    assert 0 < max(held) - before < path.stat().st_size / 2


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([1], "column chosen: must hold texts or lists of messages; it holds int64"),
        ([b"42"], "column chosen: must hold texts or lists of messages; it holds binary"),
        ([None], "column chosen: must hold texts or lists of messages; it holds null"),
        ([GOOD], "column chosen: must hold texts or lists of messages; it holds struct<"),
        ([[1]], "row 1: a message must be an object with role and content; got int"),
        ([[{**GOOD, "content": None}]], "row 1: a message must have a text as content"),
        ([[None, GOOD]], "row 1: a message must be an object with role and content; got NoneType"),
        (["42", None], "row 2: must have a value of chosen; got null"),
    ],
)
def test_parquet_columns_of_other_types_are_refused_by_name(tmp_path, chosen, message):
    source = parquet_file(tmp_path, prompt=["Q"] * len(chosen), chosen=chosen, rejected=["41"] * len(chosen))
    with pytest.raises(ValueError, match=re.escape(f"data.parquet, {message}")):
        read(source)


def test_a_parquet_file_that_is_damaged_or_ambiguous_is_refused_by_name(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ["prompt", "chosen", "rejected", "chosen"]
    path = tmp_path / "data.parquet"
    parquet.write_table(pyarrow.Table.from_arrays([pyarrow.array(["Q"])] * 4, names=names), path)
    with pytest.raises(ValueError, match=r"data\.parquet must have one column of each name; it has several chosen"):
        read(str(path))
    table = pyarrow.table({name: [f"{name} {n * n}" for n in range(20_000)] for name in names})
    parquet.write_table(table, path)
    content = bytearray(path.read_bytes())
    content[20_000:20_400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.parquet must be a Parquet file that can be read"):
        read(str(path))


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
