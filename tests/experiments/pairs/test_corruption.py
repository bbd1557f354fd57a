"""Wrong solutions: errors carried along a known graph, the traps of real solutions one by one, and GSM8K itself.

Arithmetic is checked by a second method: Python's own parser and exact fractions.
"""

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from experiments.data import gsm8k
from experiments.pairs import arithmetic, solutions
from experiments.pairs.corruption import KINDS, REASONS, Corruption, Refusal, corrupt

ANNOTATION = re.compile(r"<<([^=]*)=([^>]*)>>([0-9,.]*[0-9])")
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+")


def problem(question, solution):
    return gsm8k.Problem("train-1", question, solution, gsm8k.final_answer(solution))


def wrongs(question, solution, seeds=30, **options):
    found = [corrupt(problem(question, solution), seed=seed, **options) for seed in range(seeds)]
    return [pair for pair in found if isinstance(pair, Corruption)]


def reason(question, solution, **options):
    (only,) = {corrupt(problem(question, solution), seed=seed, **options) for seed in range(10)}
    assert isinstance(only, Refusal)
    return only.reason


def exactly(text):
    """The value of arithmetic, by Python's parser: every literal becomes a fraction before anything is computed."""

    def value(node):
        match node:
            case ast.BinOp(left, ast.Add(), right):
                return value(left) + value(right)
            case ast.BinOp(left, ast.Sub(), right):
                return value(left) - value(right)
            case ast.BinOp(left, ast.Mult(), right):
                return value(left) * value(right)
            case ast.BinOp(left, ast.Div(), right):
                return value(left) / value(right)
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand)
            case ast.UnaryOp(ast.UAdd(), operand):
                return value(operand)
            case ast.Constant():
                return Fraction(ast.get_source_segment(text, node) or "")
        raise AssertionError(f"no arithmetic: {text}")

    return value(ast.parse(text, mode="eval").body)


def annotations(text):
    return ANNOTATION.findall(text)


def number(text):
    return Fraction(text.replace(",", ""))


# --- a problem whose graph is known


@st.composite
def known_problems(draw):
    """A problem and, for every step, the operator, what its first number is (a step, or a number), and its second."""
    length = draw(st.integers(2, 5))
    fresh = draw(st.lists(st.integers(6, 97), min_size=length + 1, max_size=length + 1, unique=True))
    steps, values = [], []
    for place in range(length):
        # Each step uses the one before: what nothing uses cannot move the answer.
        left = ("step", place - 1) if place else ("number", fresh[-1])
        sign = draw(st.sampled_from("+-*"))
        first = values[place - 1] if place else fresh[-1]
        values.append(exactly(f"{first}{sign}{fresh[place]}"))
        steps.append((sign, left, fresh[place]))
    assume(min(values) > 1)
    assume(len({*values, *fresh}) == len(values) + len(fresh))
    spelled = {"+": draw(st.sampled_from([" + ", "+"])), "-": draw(st.sampled_from([" - ", "–"])), "*": " x "}
    lines = []
    for (sign, _, second), first, value in zip(steps, [fresh[-1], *values], values, strict=False):
        lines.append(f"There are {first}{spelled[sign]}{second} = <<{first}{sign}{second}={value}>>{value} of them.")
    question = f"There are {', '.join(map(str, fresh))} things. How many are there in all?"
    return problem(question, "\n".join([*lines, f"#### {values[-1]}"])), steps


@given(known_problems(), st.integers(0, 2**32), st.sampled_from(KINDS))
@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_one_error_carried_along_the_graph(case, seed, kind):
    right, steps = case
    pair = corrupt(right, seed=seed, kinds=[kind])
    if isinstance(pair, Refusal):
        assert pair.reason in REASONS
        return
    assert (pair.id, pair.question, pair.preferred, pair.gold) == (
        right.id,
        right.question,
        right.solution,
        right.gold,
    )
    assert (pair.kind, pair.num_steps) == (kind, len(steps))
    assert 1 <= pair.step < len(steps)
    altered = pair.step - 1
    before, after = annotations(pair.preferred), annotations(pair.dispreferred)
    assert number(before[altered][1]) == Fraction(pair.old) != Fraction(pair.new)
    if kind == "dropped-step":
        assert pair.dispreferred.count("\n") == pair.preferred.count("\n") - 1
        after.insert(altered, ("", pair.new, pair.new))
    else:
        assert after[altered][1] == pair.new
    _has_the_error(kind, before[altered][0], *after[altered][:2])
    # All else follows from the graph that the text was made from.
    values = [Fraction(value) for _, value, _ in before]
    values[altered] = Fraction(pair.new)
    for place in range(altered + 1, len(steps)):
        sign, (_, source), second = steps[place]
        values[place] = exactly(f"{values[source]}{sign}{second}")
        assert after[place][0] == f"{values[source]}{sign}{second}"
    assert [number(value) for _, value, _ in after] == values
    assert [number(printed) for _, _, printed in after] == values
    assert Fraction(pair.wrong) == values[-1] != Fraction(pair.gold)
    assert pair.dispreferred.endswith(f"\n#### {pair.wrong}")
    for line in pair.dispreferred.splitlines()[:-1]:  # the text says what the annotation says
        seen = line.partition("There are ")[2].partition(" = ")[0]
        assert seen.replace(" ", "").replace("x", "*").replace("–", "-") == annotations(line)[0][0]
    assert all(value > 0 and value.denominator == 1 for value in values)


def _has_the_error(kind, old_formula, formula, value):
    old_numbers, numbers = NUMBER.findall(old_formula), NUMBER.findall(formula)
    old_signs, signs = NUMBER.sub("", old_formula), NUMBER.sub("", formula)
    num_changed = sum(a != b for a, b in zip(old_numbers, numbers, strict=False))
    match kind:
        case "result-slip":
            assert formula == old_formula
            assert exactly(formula) != number(value)
        case "wrong-operator":
            assert numbers == old_numbers
            assert sum(a != b for a, b in zip(old_signs, signs, strict=True)) == 1
        case "wrong-operand":
            assert signs == old_signs
            assert num_changed == 1
        case "swapped-quantity":
            assert signs == old_signs
            assert num_changed == 2
            assert Counter(numbers) == Counter(old_numbers)
        case "dropped-step":
            assert number(value) in {number(old) for old in old_numbers}
    if kind not in ("result-slip", "dropped-step"):
        assert exactly(formula) == number(value)


TWO_STEPS = (
    "A shelf holds 14 books and 9 boxes. Each thing weighs 3 kg. How heavy is all of it?",
    "There are 14 + 9 = <<14+9=23>>23 things.\nThey weigh 23 * 3 = <<23*3=69>>69 kg.\n#### 69",
)


@given(st.integers(0, 2**64))
def test_the_same_seed_makes_the_same_pair(seed):
    assert corrupt(problem(*TWO_STEPS), seed=seed) == corrupt(problem(*TWO_STEPS), seed=seed)


def test_seeds_and_ids_make_different_pairs():
    right = problem(*TWO_STEPS)
    assert len({corrupt(right, seed=seed) for seed in range(20)}) > 5
    texts = {str(corrupt(replace(right, id=f"train-{k}"), seed=0)).partition("question")[2] for k in range(20)}
    assert len(texts) > 5


def test_the_same_pair_in_another_process():
    """Texts are hashed otherwise in every process."""
    program = (
        "from experiments.data import gsm8k\nfrom experiments.pairs import corruption\n"
        f"right = gsm8k.Problem('train-1', {TWO_STEPS[0]!r}, {TWO_STEPS[1]!r}, '69')\n"
        "print([corruption.corrupt(right, seed=seed) for seed in range(20)])"
    )
    here = str([corrupt(problem(*TWO_STEPS), seed=seed) for seed in range(20)])
    for hashing in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here


def test_a_record_is_text_and_two_counts():
    record = wrongs(*TWO_STEPS)[0].record()
    keys = "id question preferred dispreferred gold wrong kind step num_steps old new"
    assert list(record) == keys.split()
    assert {key for key, value in record.items() if not isinstance(value, str)} == {"step", "num_steps"}


def test_every_kind_is_met():
    question = (
        "Ann has 4 bags of 30 nuts and 7 nuts. She eats 12 nuts. Each of 5 friends has as many. How many are there?"
    )
    solution = (
        "Ann had 4 * 30 + 7 = <<4*30+7=127>>127 nuts at the beginning of that day.\n"
        "Then there were 127 - 12 = <<127-12=115>>115 nuts.\n"
        "Her friends have 115 * 5 = <<115*5=575>>575 nuts all together at that time.\n"
        "In all there are 575 + 115 = <<575+115=690>>690 nuts.\n#### 690"
    )
    for kind in KINDS:
        assert {pair.kind for pair in wrongs(question, solution, kinds=[kind])} == {kind}
    assert {pair.kind for pair in wrongs(question, solution)} == set(KINDS)
    swapped = wrongs(question, solution, kinds=["swapped-quantity"])
    assert {pair.dispreferred.partition(" nuts")[0] for pair in swapped} == {
        "Ann had 4 * 7 + 30 = <<4*7+30=58>>58",
        "Ann had 7 * 30 + 4 = <<7*30+4=214>>214",
    }


@pytest.mark.parametrize("kinds", [[], ["slip"], ["result-slip", "off-by-one"]])
def test_unknown_kinds_are_refused(kinds):
    with pytest.raises(ValueError, match="kinds must be some of result-slip"):
        corrupt(problem(*TWO_STEPS), seed=0, kinds=kinds)


# --- refusals


def test_reasons():
    assert reason("How many are 9 things?", "There are nine.\n#### 9") == "no-steps"
    one = ("A box holds 14 pens and 9 pencils. How many things?", "It holds 14+9=<<14+9=23>>23 things.\n#### 23")
    assert reason(*one) == "one-step"
    assert {pair.step for pair in wrongs(*one, last_step=True)} == {1}
    assert reason(TWO_STEPS[0], TWO_STEPS[1].replace("#### 69", "#### 70")) == "answer-not-a-step"
    unread = TWO_STEPS[1].replace("<<14+9=23>>", "<<14^9=23>>")
    assert reason(TWO_STEPS[0], unread) == "unread-annotation"


def test_the_last_step_is_spared_unless_it_is_asked_for():
    assert {pair.step for pair in wrongs(*TWO_STEPS)} == {1}
    assert {pair.step for pair in wrongs(*TWO_STEPS, last_step=True)} == {1, 2}


# --- the traps of real solutions


def test_a_result_restated_before_the_arithmetic_changes_too():
    question = "Phil has a pizza of 14 slices and one of 8. They eat 5 slices. How many are left?"
    solution = (
        "There are 22 slices because 14 plus 8 equals <<14+8=22>>22.\n"
        "There are 17 left because 22 minus 5 equals <<22-5=17>>17.\n#### 17"
    )
    pairs = wrongs(question, solution)
    assert {pair.kind for pair in pairs} >= {"result-slip", "wrong-operator"}
    for pair in pairs:
        assert pair.dispreferred.startswith(f"There are {pair.new} slices because 14 ") or pair.kind == "wrong-operand"
        assert not re.search(r"\b(22|17)\b", pair.dispreferred)
        if pair.kind == "wrong-operator":
            assert "14 minus 8 equals <<14-8=6>>6." in pair.dispreferred or "14 times 8" in pair.dispreferred


def test_a_value_that_is_also_in_the_question_is_not_guessed():
    """After the first step 20 may be the nuts or the squirrels; after the second nothing is in doubt."""
    question = "There are 20 squirrels and 40 nuts. Half are eaten; each squirrel finds 3 more and 20 are left over."
    doubtful = (
        "So 40 / 2 = <<40/2=20>>20 are left.\n"
        "They find 20 * 3 = <<20*3=60>>60 nuts.\n"
        "Now there are 60 + 20 = <<60+20=80>>80 nuts.\n"
        "Twice as many are 80 * 2 = <<80*2=160>>160.\n#### 160"
    )
    pairs = wrongs(question, doubtful)
    assert {pair.step for pair in pairs} == {2, 3}
    for pair in pairs:
        assert pair.dispreferred.startswith("So 40 / 2 = <<40/2=20>>20 are left.\n")
    two = "So 40 / 2 = <<40/2=20>>20 are left.\nThey have 20 + 20 = <<20+20=40>>40.\n#### 40"
    assert reason(question, two, kinds=["result-slip"]) == "ambiguous-number"


def test_a_number_in_a_sentence_is_not_guessed_either():
    """The 24 given to Ann stays, or is what is left: the sentence does not tell."""
    question = "Of 48 balls Eve gives 24 to Ann; the rest fill boxes of 8, which cost $7 each. How much is it?"
    solution = (
        "She gives 24 to Ann and has 48 / 2 = <<48/2=24>>24 left.\nThey fill 24 / 8 = <<24/8=3>>3 boxes.\n"
        "These cost 3 * 7 = <<3*7=21>>21.\n#### 21"
    )
    assert {pair.step for pair in wrongs(question, solution)} == {2}
    assert {pair.step for pair in wrongs(question.replace("24", "some"), solution)} >= {1, 2}


def test_a_question_number_is_left_where_it_is_one():
    question = "A crew of 35 men digs 20 m a day for 4 days. Then 35 more metres are dug. How long is the ditch?"
    solution = "They dig 20 * 4 = <<20*4=80>>80 m.\nWith 35 more it is 80 + 35 = <<80+35=115>>115 m.\n#### 115"
    for pair in wrongs(question, solution, kinds=["result-slip"]):
        assert (
            f"With 35 more it is {pair.new} + 35 = <<{pair.new}+35={pair.wrong}>>{pair.wrong} m." in pair.dispreferred
        )


def test_two_equal_steps_stand_for_one_number_each():
    question = "Six rows of 7 red tulips, and 50 roses of which 8 are picked. How many flowers?"
    solution = (
        "There are 6 * 7 = <<6*7=42>>42 tulips.\nThere are 50 - 8 = <<50-8=42>>42 roses.\n"
        "In all there are 42 + 42 = <<42+42=84>>84 flowers.\n#### 84"
    )
    pairs = wrongs(question, solution, kinds=["result-slip"])
    assert {pair.step for pair in pairs} == {1, 2}
    for pair in pairs:
        sides = (pair.new, "42") if pair.step == 1 else ("42", pair.new)
        assert f"{sides[0]} + {sides[1]} = <<{sides[0]}+{sides[1]}=" in pair.dispreferred
        assert Fraction(pair.wrong) == 42 + Fraction(pair.new)


def test_a_step_that_nothing_uses_is_not_altered():
    question = "A hen lays 6 eggs, a duck 8 and a goose 9. Each egg of the goose weighs 13. How heavy are those?"
    solution = (
        "Hen and duck lay 6 + 8 = <<6+8=14>>14 eggs.\nThe goose lays 9 * 3 = <<9*3=27>>27 eggs.\n"
        "They weigh 27 * 13 = <<27*13=351>>351.\n#### 351"
    )
    assert {pair.step for pair in wrongs(question, solution)} == {2}
    assert reason(question, "A hen and a duck lay 6 + 8 = <<6+8=14>>14.\nIt is 9*13=<<9*13=117>>117.\n#### 117") == (
        "answer-unmoved"
    )


def test_percents_follow_their_step():
    """40 % of the class are boys, so that 60 (a step) becomes 60 % in the text and .6 in the arithmetic."""
    question = "Of 150 pupils 40% are boys. How many are girls?"
    solution = (
        "Girls are 100 - 40 = <<100-40=60>>60 percent.\n"
        "So 60% of the pupils, 150 x .6 = <<150*.6=90>>90, are girls.\n#### 90"
    )
    pairs = wrongs(question, solution, kinds=["result-slip"])
    assert pairs
    for pair in pairs:
        share = f"{float(pair.new) / 100:g}".removeprefix("0")
        assert f"So {pair.new}% of the pupils, 150 x {share} = <<150*{share}={pair.wrong}>>" in pair.dispreferred
        assert Fraction(pair.new) <= 100


def test_no_share_is_more_than_all():
    question = "Of 200 pupils 5% are ill. How many are not?"
    solution = "So 100 - 5 = <<100-5=95>>95% are well.\nThese are 200 * 95 / 100 = <<200*95/100=190>>190.\n#### 190"
    pairs = wrongs(question, solution, 60)
    assert pairs
    assert all(float(pair.new) <= 100 for pair in pairs)


def test_percents_of_the_question_stay():
    question = "Of 30 boats fish eat 20%, and 2 sink. How many are left?"
    solution = (
        "Fish eat 30 boats * 20% = <<30*20*.01=6>>6 boats.\nThat leaves 30 - 6 - 2 = <<30-6-2=22>>22 boats.\n#### 22"
    )
    pairs = wrongs(question, solution)
    assert pairs
    for pair in pairs:
        assert pair.kind in ("result-slip", "dropped-step")
        assert pair.kind != "result-slip" or "30 boats * 20% = <<30*20*.01=" in pair.dispreferred


def test_a_fraction_is_no_division():
    """Nobody takes 2/3 for 2*3, nor 20/100 for 100/20."""
    question = "Of 90 eggs 2/3 are brown, and 20% of those are sold. How many are sold?"
    solution = (
        "There are 2/3 * 90 = <<2/3*90=60>>60 brown eggs.\nOf those 20/100 * 60 = <<20/100*60=12>>12 are sold.\n"
        "It leaves 60 - 12 = <<60-12=48>>48.\n#### 48"
    )
    for pair in wrongs(question, solution, 60):
        assert re.search("2/3.*2/3", pair.dispreferred) or (pair.kind, pair.step) == ("dropped-step", 1)
        assert "20/100" in pair.dispreferred or (pair.kind, pair.step) == ("dropped-step", 2)


def test_a_result_in_other_units_is_refused():
    """A kilogram is 1000 g by a step in the head: it would have to change, and nothing tells to what."""
    question = "Each of 4 dogs eats 250 grams a day. How many grams do they eat in 14 days?"
    first, last = (
        "They eat 4 x 250 = <<4*250=1000>>1000 grams.\n",
        "It is 14 * 1000 = <<14*1000=14000>>14000.\n#### 14000",
    )
    assert wrongs(question, first + last, kinds=["result-slip"])
    assert (
        reason(question, f"{first}That is a kilogram, or 1 kg.\n{last}", kinds=["result-slip"]) == "unexplained-number"
    )
    assert reason(question, f"{first}With 3 more, 1003.\n{last}", kinds=["result-slip"]) == "unexplained-number"
    behind = first.replace("1000 grams", "1000 grams or 1 kg")
    assert reason(question, behind + last, kinds=["result-slip"]) == "unexplained-number"
    assert wrongs(question, f"That is 1 kg.\n{first}{last}", kinds=["result-slip"])


def test_number_words_change_in_kind():
    question = "Of 15 girls some leave; 7 stay. Each of those who leave takes 5 balls. How many balls are taken?"
    solution = (
        "So 15 - 7 = <<15-7=8>>8 girls leave.\nEight girls, or those eight, take 8 * 5 = <<8*5=40>>40 balls.\n#### 40"
    )
    words = {str(value): word for word, value in arithmetic.CARDINALS.items()}
    pairs = wrongs(question, solution, kinds=["result-slip", "wrong-operator"])
    assert {pair.new for pair in pairs} >= {"7", "9", "22"}
    for pair in pairs:
        word = words.get(pair.new, pair.new)
        assert f"{word.capitalize()} girls, or those {word}, take {pair.new} * 5" in pair.dispreferred


def test_no_half_people():
    """Of the results near 56 only multiples of 4 leave whole people."""
    question = "A camp has 51 boys and 5 girls in groups of 4. Each group has 3 tents. How many tents are there?"
    solution = (
        "There are 51 + 5 = <<51+5=56>>56 children.\nThey are 56 / 4 = <<56/4=14>>14 groups.\n"
        "They need 14 * 3 = <<14*3=42>>42 tents.\n#### 42"
    )
    pairs = wrongs(question, solution, 60)
    assert {pair.step for pair in pairs} == {1, 2}
    for pair in pairs:
        assert all(number(value).denominator == 1 for _, value, _ in annotations(pair.dispreferred))
        assert pair.step == 2 or Fraction(pair.new) % 4 == 0


def test_no_endless_decimals():
    question = "A ribbon of 7.5 m and one of 4.5 m are cut in 8 parts. How long is a part?"
    solution = "They have 7.5 + 4.5 = <<7.5+4.5=12.0>>12.0 m.\nA part has 12.0 / 8 = <<12.0/8=1.5>>1.5 m.\n#### 1.5"
    pairs = wrongs(question, solution)
    assert pairs
    for pair in pairs:
        decimals = [text.partition(".")[2] for text in NUMBER.findall(pair.dispreferred)]
        assert max(map(len, decimals)) <= 2


def test_steps_without_annotation():
    question = "One student saw 12 squirrels, another a third more. A third one saw twice that. How many did he see?"
    solution = (
        "The second saw 12/3 = 4 more squirrels.\nThe second saw 12+4 = <<12+4=16>>16 squirrels.\n"
        "The third saw 2(16) = 32 squirrels.\n#### 32"
    )
    pairs = wrongs(question, solution)
    assert {pair.num_steps for pair in pairs} == {3}
    assert {pair.step for pair in pairs} == {1, 2}
    for pair in pairs:
        value = annotations(pair.dispreferred)[0][1] if annotations(pair.dispreferred) else pair.new
        assert f"2({value}) = {pair.wrong} squirrels." in pair.dispreferred
        assert Fraction(pair.wrong) == 2 * number(value)


def test_an_annotation_without_arithmetic_follows_its_text():
    question = "Of 1100 tickets 78 are red and 40 blue, and 5 of the rest are lost. How many are left?"
    solution = (
        "There are 1100 - 78 = <<1100-78=1022>>1022 others.\nOf these 1022 - 40 = <<982=982>>982 are not blue.\n"
        "So 982 - 5 = <<982-5=977>>977 are left.\n#### 977"
    )
    kinds = ("result-slip", "wrong-operator", "wrong-operand", "swapped-quantity")
    for kind in kinds[:3]:
        assert {pair.step for pair in wrongs(question, solution, kinds=[kind])} == {1}
    for pair in wrongs(question, solution, kinds=kinds):
        rest = int(pair.new) - 40
        assert f"{pair.new} - 40 = <<{rest}={rest}>>{rest} are not blue." in pair.dispreferred


def test_an_equation_in_between_must_hold():
    """Were 13 + 10 altered, 14 + 9 would have to be as well, and nothing says how."""
    first, last = "There are 13 + 10 = <<13+10=23>>23 things.\n", "They weigh 23 * 3 = <<23*3=69>>69 kg.\n#### 69"
    question = "There are 10 and 13 things. Each weighs 3 kg. How heavy is all?"
    assert wrongs(question, first + last, kinds=["wrong-operator"])
    both = first.replace("are 13", "are 14 + 9 = 13")
    assert reason(question, both + last, kinds=["wrong-operator"]) == "broken-equation"
    for pair in wrongs(question, both + last, kinds=["result-slip"]):
        assert f"14 + 9 = 13 + 10 = <<13+10={pair.new}>>" in pair.dispreferred


def test_a_formula_that_is_not_in_the_text_keeps_its_form():
    """Half of 48 is not 48 * 2."""
    question = "Of 48 balls half are red; 7 of these are lost. How many are left?"
    solution = "Half of 48 is <<48/2=24>>24.\nSo 24 - 7 = <<24-7=17>>17 are left.\n#### 17"
    assert {pair.kind for pair in wrongs(question, solution)} == {"result-slip"}
    assert reason(question, solution, kinds=["wrong-operator"]) == "no-such-error"


def test_a_line_with_two_steps_is_not_dropped():
    question = "A bowl has 349 nuts. Ann takes 108 and Bob 153. Half of what is left and 17 nuts are how many?"
    solution = "349 - 108 = 241 and 241 - 153 = 88\nSo 88 / 2 = 44 and 44 + 17 = 61\n#### 61"
    assert {pair.step for pair in wrongs(question, solution)} == {1, 2, 3}
    assert reason(question, solution, kinds=["dropped-step"]) == "no-such-error"


def test_what_follows_because_is_why_the_number_before_is_restated():
    question = "Of 8 pears 3 are eaten; the others cost 5 or 7 cents each. How much do they cost?"
    solution = "There are 5 pears because 8 - 3 = <<8-3=5>>5\nThey cost 5 * 5 = <<5*5=25>>25\n#### 25"
    assert not wrongs(question, solution)  # either 5 may be the pears
    other = solution.replace("5 * 5 = <<5*5=25>>25\n#### 25", "5 * 7 = <<5*7=35>>35\n#### 35")
    pairs = wrongs(question, other, kinds=["result-slip"])
    assert pairs
    for pair in pairs:
        assert pair.dispreferred.startswith(
            f"There are {pair.new} pears because 8 - 3 = <<8-3={pair.new}>>{pair.new}\n"
        )
    assert not wrongs(question, other.replace("because", "or"), kinds=["result-slip"])


def test_units_are_no_divisions():
    question = "A hose gives 60 liters an hour, another one 20. They run for 7 hours. How many liters is that?"
    solution = (
        "They give 60 liters/hour + 20 liters/hour = <<60+20=80>>80 liters/hour.\n"
        "In 7 hours they give 7 hours * 80 liters/hour = <<7*80=560>>560 liters.\n#### 560"
    )
    (text,) = {pair.dispreferred.partition(" = ")[0] for pair in wrongs(question, solution, kinds=["wrong-operator"])}
    assert text == "They give 60 liters/hour - 20 liters/hour"


def test_a_sign_in_front_of_a_formula():
    first = "In all + 14 + 9 = <<+14+9=23>>23 things.\n"
    pairs = wrongs(TWO_STEPS[0], first + TWO_STEPS[1].partition("\n")[2], kinds=["result-slip"])
    assert pairs
    for pair in pairs:
        assert pair.dispreferred.startswith(f"In all + 14 + 9 = <<+14+9={pair.new}>>{pair.new} things.\n")


def test_a_number_that_opens_a_line_is_a_number():
    question = "A hen lays 7 eggs a week for 12 weeks. How many boxes of 6 are that?"
    solution = "It lays 7 * 12 = <<7*12=84>>84 eggs\n84 eggs fill 84 / 6 = <<84/6=14>>14 boxes\n#### 14"
    pairs = wrongs(question, solution)
    assert pairs
    assert not any(re.search(r"\b84\b", pair.dispreferred) for pair in pairs)


def test_a_label_is_no_number():
    question = "Tim reads 9 pages, and later on 14 more than that, and then as many again. How many in all?"
    solution = (
        "On the 23rd he reads 9 + 14 = <<9+14=23>>23 pages.\nDay 23: in all 23 + 23 = <<23+23=46>>46 pages.\n#### 46"
    )
    pairs = wrongs(question, solution, kinds=["result-slip"])
    assert pairs
    for pair in pairs:
        assert pair.dispreferred.startswith("On the 23rd he reads 9 + 14 =")
        assert f"\nDay 23: in all {pair.new} + {pair.new} = <<" in pair.dispreferred


def test_no_result_is_twenty_times_too_small():
    question = "A hall has 40 rows of 50 seats, and 3000 more seats upstairs. How many seats are there?"
    solution = "Below are 40 * 50 = <<40*50=2000>>2000.\nIn all 2000 + 3000 = <<2000+3000=5000>>5000.\n#### 5000"
    assert reason(question, solution, kinds=["wrong-operator"]) == "implausible-number"
    near = solution.replace("50 = <<40*50=2000>>2000", "4 = <<40*4=160>>160").replace(
        "2000 + 3000 = <<2000+", "160 + 3000 = <<160+"
    )
    near = near.replace("5000", "3160")
    assert {pair.new for pair in wrongs(question, near, kinds=["wrong-operator"])} == {"44", "10"}


def test_numbers_are_written_as_before():
    question = "A car costs $12,500 and a van $8,750. The rent is $1.25 a mile for 4 miles. How much is all of it?"
    solution = (
        "Car and van cost 12,500 + 8,750 = $<<12500+8750=21250>>21,250.\n"
        "The rent is 1.25 * 4 = $<<1.25*4=5.00>>5.00.\n"
        "In all it is 21,250 + 5.00 = $<<21250+5.00=21255.00>>21,255.00.\n#### 21255"
    )
    pairs = wrongs(question, solution, 60, kinds=["result-slip", "wrong-operator"])
    assert {pair.step for pair in pairs} == {1, 2}
    for pair in pairs:
        assert not any("," in value for _, value, _ in annotations(pair.dispreferred))
        both, rent, total = (printed for _, _, printed in annotations(pair.dispreferred))
        assert both == f"{int(number(both)):,}"
        assert rent == f"{int(number(rent))}.00"
        assert total == f"{int(number(total)):,}.00"
        assert pair.dispreferred.endswith(f"\n#### {int(number(total))}")


def test_thousands_are_separated_where_the_solution_does_so():
    question = "A sum of 5,000 grows by 7,500. Of it 11,600 is spent, and 98 are found. How much is there?"
    solution = (
        "It grows to 5,000 + 7,500 = <<5000+7500=12500>>12,500.\n"
        "It shrinks to 12,500 - 11,600 = <<12500-11600=900>>900.\nAt last 900 + 98 = <<900+98=998>>998.\n#### 998"
    )
    pairs = [pair for pair in wrongs(question, solution, 60) if int(pair.wrong) >= 1000 and pair.kind == "result-slip"]
    assert {pair.step for pair in pairs} == {1, 2}
    for pair in pairs:
        assert f"={pair.wrong}>>{int(pair.wrong):,}.\n#### {pair.wrong}" in pair.dispreferred
    plain = [pair.dispreferred for pair in wrongs(question, solution.replace(",", ""), 60)]
    assert plain
    assert not any("," in text for text in plain)


def test_slips_of_small_numbers_are_small():
    pairs = wrongs(
        "A boy has 4 apples and 3 pears. He eats 13 nuts for each. How many?",
        "He has 4 + 3 = <<4+3=7>>7.\nSo 7 * 13 = <<7*13=91>>91.\n#### 91",
        kinds=["result-slip"],
    )
    assert {pair.new for pair in pairs} == {"6", "8"}
    pairs = wrongs(
        "A boy has 5 apples and eats 3. He has 13 nuts for each. How many?",
        "He has 5 - 3 = <<5-3=2>>2.\nSo 2 * 13 = <<2*13=26>>26.\n#### 26",
        kinds=["result-slip"],
    )
    assert {pair.new for pair in pairs} <= {"1", "3"}
    assert pairs


# --- originals that contradict themselves

MARKET = (
    "Ola buys rope for $4, glue for $9 and nails for $2. She pays with a $20 note and shares the change with 4 more."
)
COSTS, SHARES = "The things cost 4 + 9 + 2 = $<<4+9+2=15>>15.\n", "\nEach of the 5 gets 5 / 5 = $<<5/5=1>>1.\n#### 1"
BOUGHT = "Pia has 3 boxes of 40 pins and 6 loose pins. She sells each of them for 2 cents. How much does she get?"
SELLS = "\nShe gets 126 * 2 = <<126*2=252>>252 cents.\n#### 252"


@pytest.mark.parametrize(
    ("question", "first", "line", "rest"),
    [
        # A number that is broken in two, as it stands in the test set of GSM8K.
        (MARKET, COSTS, "She gets back $20 - 1$5 = $<<20-15=5>>5.", SHARES),
        (MARKET, COSTS, "She gets back $20 - 1 5 = $<<20-15=5>>5.", SHARES),
        (BOUGHT, "They hold 40*3 = <<40*3=120>>120 pins.\n", "In all 12,0 + 6 = <<120+6=126>>126.", SELLS),
        (BOUGHT, "They hold 40*3 = <<40*3=120>>120 pins.\n", "In all 1, 200 / 10 + 6 = <<120+6=126>>126.", SELLS),
        # Other numbers, another operator, another order than in the annotation.
        (BOUGHT, "They hold 40*3 = <<40*3=120>>120 pins.\n", "In all there are 12+6 = <<120+6=126>>126.", SELLS),
        (BOUGHT, "They hold 40*3 = <<40*3=120>>120 pins.\n", "In all there are 120-6 = <<120+6=126>>126.", SELLS),
        (BOUGHT, "They hold 40*3 = <<40*3=120>>120 pins.\n", "In all there are 6-120 = <<120+6=126>>126.", SELLS),
        (BOUGHT, "They hold 40*3 = <<40*3=120>>120 pins.\n", "In all there are 120+6 = <<63*2=126>>126.", SELLS),
        (BOUGHT, "They hold 40*3 = <<40*3=120>>120 pins.\n", "So 120+5 = 126, or <<120+6=126>>126.", SELLS),
        # A plain equation that is false beside the step.
        (BOUGHT, "They hold 40*3 = <<40*3=120>>120 pins.\n", "As 120*2 = 250, it is 120+6 = <<120+6=126>>126.", SELLS),
    ],
)  # fmt: skip
def test_a_step_that_is_written_otherwise_than_it_is_annotated_is_left_out(question, first, line, rest):
    right = problem(question, first + line + rest)
    assert solutions.read(right).inconsistent == {1}
    for seed in range(40):
        pair = corrupt(right, seed=seed, last_step=True)
        # Nothing of the line moves: neither its own error nor one that is carried through it.
        assert isinstance(pair, Refusal) or (pair.step == 3 and line in pair.dispreferred)
    assert not wrongs(question, first + line + rest)


@pytest.mark.parametrize(
    "line",
    [
        "In all there are 120+6 = <<120+6=126>>126.",
        "In all there are 6+120 = <<120+6=126>>126.",
        "In all there are 120 pins + 6 pins = <<120+6=126>>126.",
        "In all there are $120 + $6 = $<<120+6=126>>126.",
        "With the loose ones there are <<120+6=126>>126.",
        "In all there are (40*3)+6 = 120+6 = <<40*3+6=126>>126.",
        "In all there are 105% * 120 = <<105*.01*120=126>>126.",
        "In all there are 1.05 * 120 = <<105*.01*120=126>>126.",
        "With six and the 120 there are 120 pins/box + 6 = <<120+6=126>>126.",
        "Three times 42 is 3 x 42 = <<42*3=126>>126.",
        "As 2x + 10 = 130 has the solution 60, it is 120+6 = <<120+6=126>>126.",
        "A fourth of 504 is .25 * 504 = <<1/4*504=126>>126.",
        "So x - 6 = 120, and x = <<120+6=126>>126.",
    ],
)
def test_what_is_written_in_another_form_is_consistent(line):
    right = problem(BOUGHT, f"They hold 40*3 = <<40*3=120>>120 pins.\n{line}{SELLS}")
    assert solutions.read(right).inconsistent == set()


def test_the_reason_says_that_the_original_contradicts_itself():
    text = f"They hold 40*3 = <<40*3=120>>120 pins.\nIn all there are 120-6 = <<120+6=126>>126.{SELLS}"
    assert reason(BOUGHT, text, kinds=["result-slip"]) == "inconsistent-original"


def test_an_inconsistent_line_that_nothing_moves_does_no_harm():
    """The first line stays as it is, in both texts."""
    text = f"They hold 4*3 = <<40*3=120>>120 pins.\nIn all there are 120+6 = <<120+6=126>>126.{SELLS}"
    pairs = wrongs(BOUGHT, text)
    assert {pair.step for pair in pairs} == {2}
    for pair in pairs:
        assert pair.dispreferred.startswith("They hold 4*3 = <<40*3=120>>120 pins.\n")


# --- GSM8K

DATA = os.environ.get("GSM8K_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="GSM8K_DATA names no folder")


def _sound(pair):
    """What holds for every pair, whatever its graph."""
    assert Fraction(pair.wrong) != Fraction(pair.gold)
    assert pair.dispreferred.rpartition("#### ")[2].replace(",", "") == pair.wrong
    assert 1 <= pair.step < pair.num_steps
    allowed = max(len(pair.preferred) / 4, 20)
    assert abs(len(pair.dispreferred) - len(pair.preferred)) <= allowed
    before, after = annotations(pair.preferred), annotations(pair.dispreferred)
    dropped = pair.kind == "dropped-step"
    assert pair.preferred.count("\n") - pair.dispreferred.count("\n") == dropped
    assert len(before) - len(after) in ({0, 1} if dropped else {0})
    inexact = [number(value) for formula, value, _ in after if exactly(formula) != number(value)]
    was_inexact = [number(value) for formula, value, _ in before if exactly(formula) != number(value)]
    assert [value for value in inexact if value not in was_inexact] in (
        [[], [Fraction(pair.new)]] if pair.kind == "result-slip" else [[]]
    )
    assert all(number(value) == number(printed) for _, value, printed in after)


def _covered(every):
    assert DATA
    problems = list(gsm8k.from_folder(Path(DATA), "train"))[::every]
    pairs = [pair for right in problems if isinstance(pair := corrupt(right, seed=0), Corruption)]
    for pair in pairs:
        _sound(pair)
    return len(pairs) / len(problems)


@needs_data
def test_the_broken_number_of_gsm8k_is_left_out():
    """The test set's problem 273 says `$20 - 1$5 = $<<20-15=5>>5`."""
    assert DATA
    right = list(gsm8k.from_folder(Path(DATA), "test"))[272]
    assert "$20 - 1$5 = $<<20-15=5>>5" in right.solution
    assert solutions.read(right).inconsistent == {1}
    assert all(isinstance(corrupt(right, seed=seed, last_step=True), Refusal) for seed in range(20))


@needs_data
def test_gsm8k_in_part():
    assert _covered(every=40) > 0.8


@needs_data
@pytest.mark.slow
def test_gsm8k():
    assert _covered(every=1) >= 0.85
