"""Words of steps: read back as they are printed, and refused in one line."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.grammar import Step, Word, parse

names = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="()[]:,"), min_size=1, max_size=5)
letters = names.map(lambda name: name[0])
names = names.filter(lambda name: len(name) == 1 or any(map(str.isalnum, name)))
scales = st.one_of(st.just(Fraction(1)), st.fractions(min_value=Fraction(1, 100), max_value=9, max_denominator=100))


def words(name):
    update = st.lists(st.builds(Step, name, scales), min_size=1, max_size=4).map(tuple)
    return st.builds(Word, st.lists(update, min_size=1, max_size=4).map(tuple))


@given(st.one_of(words(names), words(letters), words(st.sampled_from("12./+-"))))
def test_every_printed_word_reads_back(word):
    assert parse(str(word)) == word


@pytest.mark.parametrize("name", "1./")
def test_a_name_that_a_scale_could_hold_stands_behind_a_comma(name):
    """Behind "+:2" it would be more of the number."""
    word = Word(((Step("+", Fraction(2)),), (Step(name),)))
    assert str(word) == f"+:2,{name}"
    assert parse(str(word)) == word


@pytest.mark.parametrize(
    ("text", "sizes", "steps"),
    [
        ("-+-+", (1, 1, 1, 1), "- + - +"),
        (" - + ", (1, 1), "- +"),
        ("(+-)(+-)", (2, 2), "+ - + -"),
        ("(+-+-)", (4,), "+ - + -"),
        ("+(-k)", (1, 2), "+ - k"),
        ("kl,reward,kl", (1, 1, 1), "kl reward kl"),
        ("kl,", (1,), "kl"),
        ("(kl,reward),kl", (2, 1), "kl reward kl"),
        ("(kl,reward)kl,", (2, 1), "kl reward kl"),
        ("a,(b,c),(d,e)", (1, 2, 2), "a b c d e"),
        ("12,+", (1, 1), "12 +"),
    ],
)
def test_words_by_hand(text, sizes, steps):
    word = parse(text)
    assert word.sizes == sizes
    assert [step.name for step in word.steps] == steps.split()
    assert {step.scale for step in word.steps} == {1}


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        ("+:1,-:0.5", "1 1/2"),
        ("+:2-:1/3", "2 1/3"),
        ("(+:.25-)+", "1/4 1 1"),
        ("kl:1/2,+ : 3", "1/2 3"),
        ("+:2.-", "2 1"),
        ("+:1/03", "1/3"),
        (f"+:{'9' * 100}", "9" * 100),  # the longest
    ],
)
def test_scales_by_hand(text, scales):
    assert [step.scale for step in parse(text).steps] == [Fraction(scale) for scale in scales.split()]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "at least one step"),
        ("  ", "at least one step"),
        ("()", "a step within every pair of brackets"),
        ("a,(,)", "name a loss"),
        ("(", "brackets in pairs"),
        ("+)", "brackets in pairs"),
        ("((+))", "none within others"),
        ("a,,b", "name a loss"),
        (",a", "name a loss"),
        ("(a),,b", "name a loss"),
        ("a b,c", "name a loss without blanks"),
        ("[a]", "name a loss without blanks, colons, commas and brackets"),
        ("a\x00,", "name a loss"),
        ("(-+),-:1/2", "commas between all steps"),
        ("-+,", "commas between all steps"),
        ("+::", "positive scales"),
        ("+:", "positive scales"),
        ("+:0", "positive scales"),
        ("+:0.0", "positive scales"),
        ("+:-1", "positive scales"),
        ("+:1/0", "positive scales"),
        ("+:1/00", "positive scales"),
        ("+:0/1", "positive scales"),
        ("a:x,b", "positive scales"),
        ("a:1e9,b", "positive scales"),
        ("a:1:2,b", "positive scales"),
        ("+:\N{ARABIC-INDIC DIGIT THREE}", "positive scales"),
        (f"+:{'9' * 101}", "positive scales"),
    ],
)
def test_bad_words_are_refused_in_one_line(text, rule):
    with pytest.raises(ValueError, match="schedule must") as error:
        parse(text)
    assert rule in str(error.value)
    assert "\n" not in str(error.value)


@given(st.text(alphabet="+-k(),:12./ ", max_size=12))
def test_any_text_is_a_word_or_refused(text):
    try:
        word = parse(text)
    except ValueError as error:
        assert str(error).startswith("schedule must")  # noqa: PT017  # the other outcome is as good
    else:
        assert parse(str(word)) == word
        assert all(step.scale > 0 for step in word.steps)


def test_the_page_of_words_has_words():
    page = (Path(__file__).parents[2] / "docs" / "words.md").read_text(encoding="utf-8")
    words = [word for line in page.splitlines() if line.startswith("| `") for word in re.findall("`(.+?)`", line)]
    assert len(words) > 8
    for word in words:
        assert parse(word).steps
