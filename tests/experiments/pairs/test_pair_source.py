"""The pairs of a source, split by split, and how many of them are asked for."""

from collections import Counter

import pytest

from experiments import files
from experiments.pairs import pair_source
from experiments.pairs.pair_source import PairSource


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Forty rows under names of their own, every fourth with two equal answers."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"q": f"Is it {n}?", "good": "yes", "bad": "no" if n % 4 else "yes"} for n in range(40)]
    files.write_lines(path, rows)
    return PairSource(str(path), 0.2, "prompt=q,chosen=good,rejected=bad")


def read(source, split, **options):
    left_out, done = Counter(), []
    pairs = list(pair_source.pairs(source, split, seed=0, left_out=left_out, report=done.append, **options))
    return pairs, left_out, done


def test_every_row_with_two_answers_is_in_one_split(source):
    (train, left_out, done), (test, also_left_out, _) = (read(source, split) for split in ("train", "test"))
    names = [pair.id for pair in (*train, *test)]
    assert sorted(map(int, names)) == [n + 1 for n in range(40) if n % 4]
    assert 3 <= len(test) < 15  # of 30, one in five
    assert left_out == also_left_out == {"equal answers": 10}  # rows of both splits: one that is left out is in neither
    assert done == list(range(1, 31))
    assert pair_source.count(source, "train") == 40


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_is_a_number_of_pairs(source, split, limit):
    pairs, left_out, _ = read(source, split, limit=limit)
    assert pairs == read(source, split)[0][:limit]
    assert len(pairs) == limit
    assert left_out["equal answers"] < 10  # rows behind the last pair are not read


def test_a_limit_on_problems_counts_those_without_a_pair():
    source = PairSource("generated")
    for limit in (1, 12):
        pairs, left_out, done = read(source, "train", limit=limit)
        assert len(pairs) + left_out.total() == limit
        assert done == list(range(1, limit + 1))
