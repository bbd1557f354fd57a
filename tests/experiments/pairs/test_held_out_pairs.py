"""The splits of preference data: a share of one file, or two files, of which the held-out one keeps its rows."""

import json
from collections import Counter

import pytest

from experiments.data.chat import messages_of
from experiments.data.preferences import Answer
from experiments.pairs.pair_source import PairSource, count, pairs


def row(number, bad="41"):
    return {"prompt": f"Q{number}", "chosen": "42", "rejected": bad}


def written(path, rows):
    path.write_text("".join(json.dumps(held) + "\n" for held in rows))
    return str(path)


def split(source, name, **options):
    left_out = Counter()
    found = pairs(source, name, seed=0, left_out=left_out, **options)
    texts = ["\n".join(message.content for message in messages_of(pair.preferred.prompt)) for pair in found]
    return texts, dict(left_out)


def test_a_share_and_its_rest_are_the_file(tmp_path):
    source = PairSource(written(tmp_path / "all.jsonl", map(row, range(50))), held_out=0.3)
    (train, _), (test, _) = split(source, "train"), split(source, "test")
    assert sorted(train + test) == sorted(f"Q{number}" for number in range(50))
    assert 5 <= len(test) <= 25
    assert split(source, "train", limit=3)[0] == train[:3]
    assert count(source, "train") == count(source, "test") == 50


def test_rows_of_the_held_out_file_are_left_out_of_the_other(tmp_path):
    """Rows are the same by their prompt and both answers, not by their place, layout or blanks."""
    first = written(tmp_path / "train.jsonl", [*map(row, range(8)), row(2, "40"), {**row(3), "rejected": " 41\n"}])
    messages = [
        {"chosen": [{"role": "user", "content": f"Q{number}"}, {"role": "assistant", "content": "42"}],
         "rejected": [{"role": "user", "content": f"Q{number}"}, {"role": "assistant", "content": "41"}]}
        for number in (3, 2, 9)
    ]  # fmt: skip
    source = PairSource(first, held_out_file=written(tmp_path / "test.jsonl", messages))
    assert split(source, "train") == ([f"Q{n}" for n in (0, 1, 4, 5, 6, 7, 2)], {"also in the held-out file": 3})
    assert split(source, "test")[0] == ["Q3", "Q2", "Q9"]
    assert split(source, "train", limit=2)[0] == ["Q0", "Q1"]
    assert (count(source, "train"), count(source, "test")) == (10, 3)


def test_a_prompt_is_not_confused_with_its_answer(tmp_path):
    """Texts are told apart by where they end: "Q4" and "2" are not "Q" and "42"."""
    rows = [dict(zip(("prompt", "chosen", "rejected"), texts.split(), strict=True)) for texts in ("Q4 2 1", "Q 4 21")]
    first = written(tmp_path / "train.jsonl", rows)
    second = written(tmp_path / "test.jsonl", [{"prompt": "Q", "chosen": "42", "rejected": "1"}])
    assert split(PairSource(first, held_out_file=second), "train") == (["Q4", "Q"], {})


def test_columns_and_broken_rows_are_those_of_both_files(tmp_path):
    rows = [{"question": "Q", "good": "42", "bad": "41"}, {"question": "Q"}]
    files = [written(tmp_path / f"{name}.jsonl", rows[: 1 + name]) for name in (0, 1)]
    columns = "prompt=question,chosen=good,rejected=bad"
    source = PairSource(files[0], columns=columns, held_out_file=files[1])
    for name in ("train", "test"):
        with pytest.raises(ValueError, match=r"1\.jsonl, line 2: must have a value of good and bad"):
            split(source, name)
    skipping = source._replace(skip_broken=True)
    assert split(skipping, "train") == ([], {"also in the held-out file": 1})
    left_out = Counter()
    (pair,) = pairs(skipping, "test", seed=0, left_out=left_out)
    assert (pair.preferred, left_out) == (Answer("Q", "42"), {"broken: must have a value of good and bad": 1})
