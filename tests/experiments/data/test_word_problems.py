"""Laws of the word problems, read from their text with an evaluator of its own."""

import ast
import operator
import random
import re
from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import gsm8k, word_problems
from experiments.pairs import check, corruption

ANNOTATION = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
# What a solution may use without a digit in the question: the words for it that the question must hold then.
SPOKEN = {
    2: r"\b(half|twice|by the same road)\b",
    3: r"\bthird\b",
    4: r"\bquarter\b",
    5: r"\bfifth\b",
    100: r"\d%",
}
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def evaluated(expression):
    """Python's grammar over exact fractions."""

    def visit(node):
        if isinstance(node, ast.BinOp):
            return OPERATIONS[type(node.op)](visit(node.left), visit(node.right))
        assert isinstance(node, ast.Constant)
        return Fraction(expression[node.col_offset : node.end_col_offset])  # as written: 0.1 is a tenth

    return visit(ast.parse(expression, mode="eval").body)


def steps(problem):
    return [(expression, Fraction(value)) for expression, value in ANNOTATION.findall(problem.solution)]


@pytest.fixture(scope="module")
def problems():
    return list(word_problems.generate(20_000, seed=3))


@pytest.fixture(scope="module")
def some(problems):
    """Enough for the laws that take long to check: 2,000 of all, and 300 of each number of steps."""
    each = [
        problem
        for num in range(1, 9)
        for problem in word_problems.generate(300, seed=num, split="test", min_steps=num, max_steps=num)
    ]
    return problems[:2000] + each


def test_every_annotation_is_right(some):
    for problem in some:
        for expression, value in steps(problem):
            assert evaluated(expression) == value, problem


def test_every_line_shows_what_its_annotation_says(some):
    for problem in some:
        *lines, last = problem.solution.split("\n")
        assert last == f"#### {problem.gold}"
        for line in lines:
            (annotation,) = ANNOTATION.finditer(line)
            expression, value = annotation.groups()
            assert line[annotation.end() :].startswith(value)
            shown = line[: annotation.start()].removesuffix("$").removesuffix(" = ")
            # The arithmetic before the annotation, without dollar signs, blanks and the sign x.
            assert re.sub(r"[$ ]", "", shown).replace("x", "*").endswith(expression), line


def test_dollars_come_from_dollars(some):
    """The unit of each line: what is multiplied and divided has as many dollar signs as the result."""
    for problem in some:
        for line in problem.solution.split("\n")[:-1]:
            assert not re.search(r"\$(?![\d<])", line), line
            shown = re.search(r"((?:\$?[\d.]+ ?[-+*x/] ?)+\$?[\d.]+) = (\$?)<<", line)
            assert shown is not None, line
            for term in re.split(r"[-+]", shown[1]):
                first, *factors = re.findall(r"[*x/]|\$?[\d.]+", "*" + term.replace(" ", ""))[1:]
                power = first.startswith("$")
                for sign, factor in zip(factors[::2], factors[1::2], strict=True):
                    power += (1 if sign in "*x" else -1) * factor.startswith("$")
                assert power == len(shown[2]), line


def test_the_final_answer_is_the_last_value(problems):
    for problem in problems:
        assert problem.gold == ANNOTATION.findall(problem.solution)[-1][1]
        assert problem.gold == gsm8k.final_answer(problem.solution)


def test_values_are_positive_of_plausible_size_and_whole_unless_money(some):
    for problem in some:
        for line in problem.solution.split("\n")[:-1]:
            ((_, value),) = ANNOTATION.findall(line)
            assert 0 < Fraction(value) <= 40_000, problem
            if "." in value:
                assert "$<<" in line
                assert re.fullmatch(r"\d+\.\d\d", value)
            elif "$<<" not in line:
                assert int(value) >= 2  # every noun is plural


def test_the_numbers_of_steps_are_all_there_and_equally_often(problems):
    counts = Counter(len(steps(problem)) for problem in problems)
    assert sorted(counts) == list(range(1, 9))
    # Binomial: 2,500 +- 47; five standard deviations.
    assert all(abs(count - 2500) < 235 for count in counts.values()), counts


@pytest.mark.parametrize("num_steps", range(1, 9))
def test_the_number_of_steps_can_be_chosen(num_steps):
    for problem in word_problems.generate(100, seed=0, min_steps=num_steps, max_steps=num_steps):
        assert len(steps(problem)) == num_steps


def test_every_number_comes_from_the_question_or_an_earlier_step(some):
    for problem in some:
        known = {Fraction(number) for number in NUMBER.findall(problem.question)}
        known |= {Fraction(value) for value, words in SPOKEN.items() if re.search(words, problem.question)}
        for expression, value in steps(problem):
            for number in NUMBER.findall(expression):
                assert Fraction(number) in known, (number, problem)
            known.add(value)


def test_every_step_but_the_last_is_used_by_a_later_one(some):
    for problem in some:
        found = steps(problem)
        for place, (_, value) in enumerate(found[:-1]):
            later = {Fraction(number) for expression, _ in found[place + 1 :] for number in NUMBER.findall(expression)}
            assert value in later, problem


def test_questions_are_clean_text(problems):
    for problem in problems:
        assert re.fullmatch(r"[A-Z0-9][A-Za-z0-9 ,.$%'-]+\?", problem.question), problem.question
        assert "  " not in problem.question
        assert not re.search(r"\b(an (?!hour)[^aeiou]|a [aeiou]|1 [a-z]+s\b)", problem.question), problem.question
        assert "@" not in problem.solution
        for sentence in re.split(r"(?<=[.?]) ", problem.question):
            assert re.match(r"[A-Z0-9]", sentence), sentence


def test_questions_are_distinct(problems):
    assert len({problem.question for problem in problems}) == len(problems)


def test_ids_are_distinct_and_name_the_split(problems):
    assert [problem.id for problem in problems[:2]] == ["train-1", "train-2"]
    assert len({problem.id for problem in problems}) == len(problems)


def test_no_question_is_in_both_splits_whatever_the_seeds_and_steps(problems):
    train = {problem.question for problem in problems}
    train |= {problem.question for problem in word_problems.generate(5000, seed=4, max_steps=2)}
    test = [
        word_problems.generate(5000, seed=seed, split="test", max_steps=most) for seed, most in [(3, 8), (4, 2), (9, 1)]
    ]
    assert train.isdisjoint(problem.question for part in test for problem in part)


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [(1, 8), (1, 1)])
def test_three_hundred_thousand_questions_are_distinct(num_steps):
    low, high = num_steps
    found = {hash(one.question) for one in word_problems.generate(300_000, seed=0, min_steps=low, max_steps=high)}
    assert len(found) == 300_000


def test_keys_of_the_two_splits_are_a_permutation():
    """Small enough to see whole: every key once, under any salt."""
    for num_bits in (2, 3, 9, 12):
        for salt in (0, 1, 2**64 - 1):
            assert sorted(word_problems._mixed(k, salt, num_bits) for k in range(2**num_bits)) == list(
                range(2**num_bits)
            )


@given(st.integers(0, 2**64 - 1), st.sampled_from(gsm8k.SPLITS), st.integers(0, 40), st.integers(0, 40))
def test_the_first_problems_do_not_depend_on_how_many_there_are(seed, split, few, more):
    first = list(word_problems.generate(few, seed=seed, split=split))
    assert len(first) == few
    assert first == list(islice(word_problems.generate(few + more, seed=seed, split=split), few))


def test_the_global_generator_is_neither_read_nor_moved():
    random.seed(1)
    state = random.getstate()
    first = list(word_problems.generate(50, seed=0))
    assert random.getstate() == state
    random.seed(2)
    assert first == list(word_problems.generate(50, seed=0))


def test_another_seed_gives_other_problems():
    first, second = ([one.question for one in word_problems.generate(1000, seed=seed)] for seed in (0, 1))
    assert len(set(first) & set(second)) < 10
    names = {name for name, *_ in word_problems._table()[0]}
    same = [next(word for word in re.findall(r"\w+", q) if word in names) for q in first]
    others = [next(word for word in re.findall(r"\w+", q) if word in names) for q in second]
    # One in 160 by chance: the order of the keys is another one too.
    assert sum(a == b for a, b in zip(same, others, strict=True)) < 25


def test_the_last_problem_can_be_told():
    """The far end of the keys."""
    last = word_problems.MOST_PROBLEMS - 1
    for split in gsm8k.SPLITS:
        for num_steps in range(1, 9):
            assert word_problems._problem(last, 0, split, num_steps, num_steps).gold


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": -1}, "`count` must lie in 0 ... 1048576; got -1"),
        ({"count": word_problems.MOST_PROBLEMS + 1}, "`count` must lie"),
        ({"seed": -1}, "`seed` must lie"),
        ({"split": "dev"}, "`split` must be one of train, test; got 'dev'"),
        ({"min_steps": 0}, "`min_steps` and `max_steps` must"),
        ({"max_steps": 9}, "got 1 and 9"),
        ({"min_steps": 5, "max_steps": 4}, "got 5 and 4"),
    ],
)
def test_what_cannot_be_generated_is_refused_at_once(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        word_problems.generate(**{"count": 1, "seed": 0, **options})


@pytest.mark.parametrize("kind", corruption.KINDS)
def test_every_kind_of_error_can_be_made(some, kind):
    assert any(isinstance(corruption.corrupt(one, seed=0, kinds=[kind]), corruption.Corruption) for one in some[:500])


def test_most_problems_of_several_steps_become_sound_pairs():
    problems = list(word_problems.generate(300, seed=5, min_steps=2))
    made = [corruption.corrupt(problem, seed=0) for problem in problems]
    pairs = [pair for pair in made if isinstance(pair, corruption.Corruption)]
    assert len(pairs) > 0.95 * len(problems)
    assert not [pair for pair in pairs if check.findings(pair.record())]


def test_every_event_of_the_table_happens(problems):
    """Each theme in turn, until every sentence of the table was said."""
    said = " ".join(one.question for one in problems)
    events = [event for theme in word_problems._table()[1] for events in theme.stages.values() for event in events]
    assert len(events) > 60
    for event in events:
        for sentence in event.say:
            fixed = [re.escape(part) for part in re.split(r"\{[^}]*\}", sentence)]
            assert re.search("[^?]{1,25}".join(fixed), said), sentence
