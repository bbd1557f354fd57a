r"""Answers read back from every form in which they are written, and Wilson's interval from its definition."""

import os
import random
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import answers, gsm8k, reasoning

F = Fraction

CASES = [
    # Hashes come first, the first of them that a number follows on its line.
    ("She has 3 left.\n#### 72", 72, "hashes"),
    ("####72", 72, "hashes"),
    ("#### $1,234.50", F("1234.5"), "hashes"),
    ("#### -7", -7, "hashes"),
    ("#### −7", -7, "hashes"),
    ("#### -$7", -7, "hashes"),
    ("#### 72 clips, 2 of them red", 72, "hashes"),
    ("#### none\n5 or 6\n#### 72\n#### 73", 72, "hashes"),
    ("#### 5\n\\boxed{6} 7", 5, "hashes"),
    ("\\boxed{6} 7 #### 5", 5, "hashes"),
    ("###### 5", 5, "hashes"),
    ("#### \\frac{1}{2}", F(1, 2), "hashes"),
    ("#### 1/0\n#### 4", 4, "hashes"),
    ("####", None, "none"),
    ("4\n####\n5", 5, "last-number"),
    ("#### 5.00", 5, "hashes"),
    ("#### 5.", 5, "hashes"),
    ("#### .5", F(1, 2), "hashes"),
    # Digits grouped in another way than thousands are no number there, nor are parts of them; what else is said counts.
    ("#### 1,2", None, "none"),
    ("#### 1,2\n#### 3", 3, "hashes"),
    ("It is 5.\n#### 1,2", 5, "last-number"),
    ("\\boxed{6}\n#### 12,3456", 6, "boxed"),
    ("#### 1234,567 or 8", 8, "hashes"),
    ("#### $1,2", None, "none"),
    ("#### 1.5,2", None, "none"),
    ("#### 1,234.50, 6", F("1234.5"), "hashes"),
    ("#### 1,234,567.", 1234567, "hashes"),
    ("#### 3/1,000", F(3, 1000), "hashes"),
    ("####\n1,2", 2, "last-number"),
    # Then the first box with a number in it, and the last number in it.
    (r"So \boxed{42}, not 43.", 42, "boxed"),
    (r"\boxed {42} 43", 42, "boxed"),
    (r"\boxed{}, \boxed{x}, \boxed{42} and \boxed{43}", 42, "boxed"),
    (r"\boxed{\text{the {3} of {4}} = {42}} 5", 42, "boxed"),
    (r"\boxed{\frac{3}{4}} 5", F(3, 4), "boxed"),
    (r"\boxed{-\dfrac{ 3 }{ 4 }} 5", F(-3, 4), "boxed"),
    (r"\boxed{\tfrac{-3}{4}} 5", F(-3, 4), "boxed"),
    (r"\boxed{\boxed{\frac{1}{8}}} 5", F(1, 8), "boxed"),
    (r"\boxed{\frac{1}{0}} 5", 5, "last-number"),
    (r"\boxed{\$1{,}234} 5", 1234, "boxed"),
    (r"\boxed{1\,234\,567} 5", 1234567, "boxed"),
    (r"\boxed{42 \text{ apples}} 5", 42, "boxed"),
    (r"\boxed{42 never closed, 43", 43, "boxed"),
    (r"\boxed{x = 7}", 7, "boxed"),
    # Then the last number.
    ("The answer is 5.", 5, "last-number"),
    ("The answer is $5.50.", F(11, 2), "last-number"),
    ("The answer is 1,234,567.", 1234567, "last-number"),
    ("There are 3, 4, 5.", 5, "last-number"),
    ("It is -5.", -5, "last-number"),
    ("It is −5°.", -5, "last-number"),
    ("8-5", 5, "last-number"),
    ("(8)-5", 5, "last-number"),
    ("x-5", 5, "last-number"),
    ("8 - 5 = 3", 3, "last-number"),
    ("8-5=-3", -3, "last-number"),
    ("50%", 50, "last-number"),
    ("a half: 1/2", F(1, 2), "last-number"),
    ("1,000/2,000", F(1, 2), "last-number"),
    (r"The answer is $\frac{1}{2}$.", F(1, 2), "last-number"),
    ("7, then 1/0", 7, "last-number"),
    ("1/0", None, "none"),
    ("<<48/2=24>>24", 24, "last-number"),
    ("12,3456", 3456, "last-number"),
    ("0,5", 5, "last-number"),  # a comma groups thousands and nothing else
    ("no number", None, "none"),
    ("", None, "none"),
    # Digits of other scripts are no digits here, and take nothing from the ASCII ones beside them.
    ("٣", None, "none"),
    ("5 and ٣", 5, "last-number"),
    ("５", None, "none"),
    ("x²", None, "none"),
    # What the model makes up after its answer is not its answer.
    ("It is 5.\nQuestion: Tom has 7 dogs.", 5, "last-number"),
    ("It is 5.\n\n  Question: 7\n#### 8", 5, "last-number"),
    ("It is 5.\n**Question 2:** 7", 5, "last-number"),
    ("It is 5.\n### Question 2: 7\n#### 8", 5, "last-number"),
    ("It is 5.\nQuestion:\n7", 5, "last-number"),
    ("Question: 7", None, "none"),
    ("The Question: 7", 7, "last-number"),
    ("Questions: 7", 7, "last-number"),
    ("Question everything, and more: 7", 7, "last-number"),
    # Longer than anything that is an answer, and than what Python reads.
    ("5 and " + "9" * 5000, 5, "last-number"),
    ("5 and 1/" + "9" * 5000, 5, "last-number"),
    ("5 and ." + "9" * 5000, 5, "last-number"),
]


@pytest.mark.parametrize(("text", "value", "rule"), CASES, ids=[repr(text)[:40] for text, _, _ in CASES])
def test_answers_as_a_person_reads_them(text, value, rule):
    assert answers.extract(text) == answers.Answer(None if value is None else F(value), rule)


# What small models write, each decided by the rules of docs/final-answers.md before it was read.
OUTPUTS = [
    # Every one of them was read as another number once.
    ("#### Step 1: add 48 and 24\n#### 72", 72, "hashes"),
    ("#### 48 + 24 = 72", 72, "hashes"),
    ("#### <<48+24=72>>72", 72, "hashes"),
    ("<think>5 - 1 = 4\n#### 4\nNo.</think>5 - 2 = 3\n#### 3", 3, "hashes"),
    ("The area is 72 m^2.", 72, "last-number"),
    (r"\boxed{72\text{ cm}^2}", 72, "boxed"),
    (r"\boxed{2\frac{1}{2}}", F(5, 2), "boxed"),
    (r"\boxed{\frac12}", F(1, 2), "boxed"),
    (r"#### 10,\!000", 10000, "hashes"),
    (r"#### 12\;000", 12000, "hashes"),
    ("#### 12 000", 12000, "hashes"),
    ("#### 12\u2009000", 12000, "hashes"),
    ("#### 12\u00a0000", 12000, "hashes"),
    ("#### 12\u202f000", 12000, "hashes"),
    ("#### –7", -7, "hashes"),
    ("#### - 7", -7, "hashes"),
    ("#### 1.2 million", 1200000, "hashes"),
    ("The answer is 72.\n\nProblem 2:\nTom has 7 dogs.", 72, "last-number"),
    ("The answer is 72.\nQ: Tom has 7 dogs. How many legs?\nA: 28", 72, "last-number"),
    ("The answer is 72.\nUser: and with 5?", 72, "last-number"),
    ("The answer is 72.\n\n### Instruction:\nSolve 3 + 4.", 72, "last-number"),
    ("Question: Tom has 7 dogs. How many legs?\nThey have 7 * 4 = 28 legs.\n#### 28", 28, "hashes"),
    ("**Question:** Tom has 7 dogs. How many legs?\n\n**Answer:** 28", 28, "last-number"),
    # Units.
    ("#### 72 clips", 72, "hashes"),
    ("#### 72cm", 72, "hashes"),
    ("#### 72 cm^2", 72, "hashes"),
    ("#### 72 cm²", 72, "hashes"),
    ("#### 72 square feet", 72, "hashes"),
    ("The tank holds 72 cm^{3}.", 72, "last-number"),
    (r"The area is $72\,\text{m}^2$.", 72, "last-number"),
    (r"= 72 \text{ m}^{2}", 72, "last-number"),
    (r"\boxed{72\,\mathrm{km}}", 72, "boxed"),
    (r"\boxed{72 \text{ clips in 2 months}}", 72, "boxed"),
    (r"\boxed{\text{72 clips}}", 72, "boxed"),
    ("It covers 72 m2", 72, "last-number"),
    ("It covers 72 ft2.", 72, "last-number"),
    ("She drives at 72 km/h.", 72, "last-number"),
    ("It is 72°.", 72, "last-number"),
    (r"It is $72^\circ$.", 72, "last-number"),
    ("#### 72-year-old", 72, "hashes"),
    ("He leaves on the 21st.", 21, "last-number"),
    # Currencies.
    ("#### $72", 72, "hashes"),
    ("#### $ 72", 72, "hashes"),
    (r"#### \$72.50", F("72.5"), "hashes"),
    ("#### €72", 72, "hashes"),
    ("#### 72€", 72, "hashes"),
    ("#### -€72", -72, "hashes"),
    ("#### $-72", -72, "hashes"),
    (r"\boxed{-\$72}", -72, "boxed"),
    ("She pays Rs.72", 72, "last-number"),
    ("She pays USD 72.00 in all.", 72, "last-number"),
    ("#### $1.5M", 1500000, "hashes"),
    ("#### $5k", 5000, "hashes"),
    ("#### a 5k run", 5, "hashes"),
    ("She earns $3 thousand.", 3000, "last-number"),
    ("That is 2 hundred.", 200, "last-number"),
    (r"\boxed{1.2\text{ million}}", 1200000, "boxed"),
    ("#### $72/hour", 72, "hashes"),
    # Percentages.
    ("#### 72%", 72, "hashes"),
    (r"\boxed{72\%}", 72, "boxed"),
    ("That is 12.5 percent.", F(25, 2), "last-number"),
    # Markdown, headings and lists.
    ("#### **72**", 72, "hashes"),
    ("**#### 72**", 72, "hashes"),
    ("#### *72 clips*", 72, "hashes"),
    ("#### `72`", 72, "hashes"),
    ("The answer is **72**.", 72, "last-number"),
    ("The answer is __72__!", 72, "last-number"),
    ("| total | 72 |", 72, "last-number"),
    ("### Final Answer: **72**", 72, "last-number"),
    ("#### Final answer: 72", 72, "hashes"),
    ("#### The answer is: $72.", 72, "hashes"),
    ("#### The final answer to problem A is 72", 72, "hashes"),
    ("#### If she answers all 5 questions\n48 + 24 = 72", 72, "last-number"),
    ("#### Step 1: the answer is 5\n#### 72", 72, "hashes"),
    ("#### An answer is worth 5 points\n#### 72", 72, "hashes"),
    ("#### Answer\n72", 72, "last-number"),
    ("#### 1. Find April\nShe sold 48.\n#### 2. Find May\n48 / 2 = 24\n#### 72", 72, "hashes"),
    ("#### Step 1: 48 / 2 = 24\n#### Step 2: 48 + 24 = 72", 72, "hashes"),
    ("#### Find the clips of 2 months\n48 + 24 = 72", 72, "last-number"),
    ("#### Janet sold 72 clips.", 72, "hashes"),
    ("#### April: 48\n#### May: 24\n#### Total: 72", 72, "hashes"),
    ("1. April: 48\n2. May: 24\n3. The total is 72", 72, "last-number"),
    ("She sold 72.\n\nStep 3:", 72, "last-number"),
    ("She sold 72.\n2. ", 2, "last-number"),  # nothing stands behind it: it may be a number
    ("#### 72\n\nI hope that these 2 steps help!", 72, "hashes"),
    # LaTeX.
    (r"#### $72$", 72, "hashes"),
    (r"#### \(72\)", 72, "hashes"),
    (r"#### \boxed{72}", 72, "hashes"),
    (r"\[ 48 + 24 = 72 \]", 72, "last-number"),
    (r"$$\boxed{x = 72}$$", 72, "boxed"),
    (r"\fbox{72} of 80", 72, "boxed"),
    (r"\boxed{7{,}200}", 7200, "boxed"),
    (r"\boxed{\mathbf{72}}", 72, "boxed"),
    (r"#### 48 \times 2 = 96", 96, "hashes"),
    # Fractions and mixed numbers.
    ("#### 3/4", F(3, 4), "hashes"),
    ("#### 2 1/2", F(5, 2), "hashes"),
    ("It takes 2 1/2 hours.", F(5, 2), "last-number"),
    ("It takes 2 and 1/2 hours.", F(5, 2), "last-number"),
    ("It takes 2 and a half hours.", F(5, 2), "last-number"),
    ("It takes 2½ hours.", F(5, 2), "last-number"),
    ("It takes ½ hour.", F(1, 2), "last-number"),
    ("-2 1/2", F(-5, 2), "last-number"),
    (r"$-2\frac{1}{2}$", F(-5, 2), "last-number"),
    (r"\boxed{\dfrac{5}{2}}", F(5, 2), "boxed"),
    (r"\boxed{\frac{1}2}", F(1, 2), "boxed"),
    (r"\boxed{3 \frac{3}{4}}", F(15, 4), "boxed"),
    ("2 5/2", F(5, 2), "last-number"),
    # Ratios and times.
    ("The ratio is 3:2.", None, "none"),
    ("Of 10 the ratio is 3:2.", 10, "last-number"),
    ("He comes at 5:00 pm.", 5, "last-number"),
    ("He comes at 10:00.", 10, "last-number"),
    ("It takes 15 minutes, until 5:15 pm.", 15, "last-number"),
    ("#### 5:00 PM", 5, "hashes"),
    ("Day 3:70-21-15=34 crickets", 34, "last-number"),
    ("Week 3:210 pages", 210, "last-number"),
    # Thousands.
    ("#### 1'234", 1234, "hashes"),
    ("#### 1.234.567", 1234567, "hashes"),
    ("#### 1 234 567.5", F("1234567.5"), "hashes"),
    ("#### 10, 000", 10000, "hashes"),
    (r"\boxed{10\ 000}", 10000, "boxed"),
    ("In 2024 100 people came.", 100, "last-number"),
    ("12 3456", 3456, "last-number"),
    # Negative numbers.
    ("#### −7", -7, "hashes"),
    ("#### -7.5", F(-15, 2), "hashes"),
    ("The change is –7 degrees.", -7, "last-number"),
    ("5 - 12 = - 7", -7, "last-number"),
    (r"\boxed{-7}", -7, "boxed"),
    ("48 -24", 24, "last-number"),
    ("pages 5–7", 7, "last-number"),
    ("- 7 apples", 7, "last-number"),  # an item of a list
    # Equations.
    ("#### 72 = 48 + 24", 72, "hashes"),
    ("#### x = 72", 72, "hashes"),
    ("#### Total = $72", 72, "hashes"),
    ("#### 48 clips + 24 clips = 72 clips", 72, "hashes"),
    ("#### 72 (48 + 24)", 72, "hashes"),
    ("#### 48/2 = 24, 48 + 24 = 72", 72, "hashes"),
    ("She has 72.\n#### 48 + 24", 72, "last-number"),
    ("#### 72 clips - 48 of them in April", 72, "hashes"),
    ("#### (48 + 24) / 2 = 36", 36, "hashes"),
    ("#### 17 / 3 ≈ 5.67", F("5.67"), "hashes"),
    ("48+24 = <<48+24=72>>", 72, "last-number"),
    # Powers.
    ("It is 1.2 × 10^6.", 1200000, "last-number"),
    (r"$3 \times 10^{-2}$", F(3, 100), "last-number"),
    ("So 5 of them, and 2^3", 5, "last-number"),
    # Reasoning.
    ("the sum is 5\n</think>\n\n#### 3", 3, "hashes"),
    ("<think>The sum is 5", None, "none"),
    ("#### 3\n<think>5?</think>", 3, "hashes"),
    ("<|channel|>analysis<|message|>5?<|end|><|start|>assistant<|channel|>final<|message|>#### 3", 3, "hashes"),
    ("<|channel|>analysis<|message|>5?", None, "none"),
    ("[THINK]5?[/THINK]3", 3, "last-number"),
    # Run-ons and restated questions.
    ("#### 72\n\nQuestion: Tom has 7 dogs.\n#### 28", 72, "hashes"),
    ("It is 72.\n\n**Problem 2**\nTom has 7 dogs.", 72, "last-number"),
    ("It is 72.\n### Problem 2\nTom has 7 dogs.", 72, "last-number"),
    ("It is 72.\nNew question: Tom has 7 dogs.", 72, "last-number"),
    ("It is 72.\nHuman: 5?", 72, "last-number"),
    ("It is 72.<|im_end|>\n<|im_start|>user\n5?", 72, "last-number"),
    ("It is 72.</s> 5", 72, "last-number"),
    ("It is 72. [INST] 5", 72, "last-number"),
    ("It is 72.\nExample 2: 5", 72, "last-number"),
    ("Q: Tom has 7 dogs. How many legs?\nA: 28\nQ: And 9 cats?\nA: 36", 28, "last-number"),
    ("### Problem 1\nTom has 7 dogs. How many legs?\n### Solution\n7 * 4 = 28\n### Problem 2\n9", 28, "last-number"),
    ("Problem: Tom has 7 dogs.\nQuestion: How many legs?\nSolution: 28", 28, "last-number"),
    ("Question: Tom has 7 dogs. Answer: 28", 28, "last-number"),
    ("The problem: 48 and half of it.\nThat is 72.", 72, "last-number"),
    ("Problem solved: 72", 72, "last-number"),
    ("Users: 72", 72, "last-number"),
]


@pytest.mark.parametrize(("text", "value", "rule"), OUTPUTS, ids=[repr(text)[:40] for text, _, _ in OUTPUTS])
def test_outputs_of_small_models(text, value, rule):
    assert answers.extract(text) == answers.Answer(None if value is None else F(value), rule)


PAGE = Path(__file__).parents[3] / "docs" / "final-answers.md"


def examples():
    """The examples of the page: a text, and what it says is read."""
    rows = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "|---" not in line
    ]
    for row in rows:
        # An escaped bar parts no cells.
        *_, cell, _ = re.split(r"(?<!\\)\|", row)
        for text, value in re.findall(r"`([^`]+)` is (nothing|-?[0-9]+(?:/[0-9]+)?)", cell):
            yield text.replace(r"\|", "|").replace("⏎", "\n"), value


def test_every_row_of_the_page_has_its_reason_and_its_examples():
    tables = re.findall(
        r"^\| rule \| why \| examples \|\n\|---\|---\|---\|\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE
    )
    rows = [re.split(r"(?<!\\)\|", row)[1:-1] for table in tables for row in table.splitlines()]
    assert len(rows) > 20
    for rule, why, cell in rows:
        assert rule.strip()
        assert why.strip()
        assert re.fullmatch(r"(`[^`]+` is (nothing|-?[0-9]+(/[0-9]+)?)(; )?)+", cell.strip()), cell


@pytest.mark.parametrize(("text", "value"), list(examples()), ids=lambda part: repr(part)[:40])
def test_the_examples_of_the_page_are_read_as_it_says(text, value):
    assert answers.extract(text).value == (None if value == "nothing" else F(value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no tags: 3", "no tags: 3"),
        ("<think>4</think>3", "3"),
        ("<THINK>4</Think>3", "3"),
        ("1<think>4</think>3<thinking>5</thinking>7", "137"),
        ("4</think>3", "3"),
        ("4</think>5</think>3", "3"),
        ("<think>4<think>5</think>3", "3"),
        ("3<think>4", "3"),
        ("<think>4", ""),
        ("<|channel|>analysis<|message|>4<|end|><|start|>assistant<|channel|>final<|message|>3", "3"),
        ("<|channel|>commentary to=x<|message|>4", ""),
    ],
)
def test_reasoning_is_no_part_of_what_is_said(text, said):
    assert reasoning.without(text) == said


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("5.00", 5), (" 5\n", 5), ("$1,234", 1234), ("-3", -3), ("−3", -3), ("1/2", F(1, 2)), (".5", F(1, 2)),
        ("-$0.25", F(-1, 4)), ("007", 7), ("0", 0), ("-0", 0), ("3/1,000", F(3, 1000)),
        ("", None), ("-", None), ("$", None), (".", None), ("5.", None), ("1/0", None), ("1/", None), ("/2", None),
        ("1,23", None), ("1,2345", None), ("1234,567", None), ("5 6", None), ("5%", None), ("five", None), ("٣", None),
        ("1e5", None), ("nan", None), ("inf", None), ("0x1", None), ("1_000", None), ("9" * 101, None), ("--1", None),
        ("9" * 100, 10**100 - 1),
    ],
)  # fmt: skip
def test_numbers(text, value):
    assert answers.number(text) == (None if value is None else F(value))


# ------------------------------------------------------------------------------------ any rational, in any of the forms

rationals = st.fractions(min_value=-(10**12), max_value=10**12, max_denominator=10**6)
hundredths = st.integers(-(10**14), 10**14).map(lambda cents: F(cents, 100))
wholes = st.integers(-(10**30), 10**30).map(F)


def signed(value, magnitude, minus="-", unit=""):
    return f"{minus * (value < 0)}{unit}{magnitude}"


def plain(value):
    size = abs(value)
    return signed(value, f"{size.numerator}/{size.denominator}" if size.denominator > 1 else size.numerator)


NUMBERS = {
    "fraction": lambda value: f"{value.numerator}/{value.denominator}",
    "shortest": plain,
    "grouped": lambda value: signed(value, f"{abs(value.numerator):,}/{value.denominator:,}"),
    "unicode minus": lambda value: plain(value).replace("-", "−"),
    "unreduced": lambda value: f"{6 * value.numerator}/{6 * value.denominator}",
    "LaTeX": lambda value: signed(value, rf"\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"),
    "LaTeX, minus inside": lambda value: rf"\dfrac{{ {value.numerator} }}{{ {value.denominator} }}",
}
DECIMALS = {
    "decimal": lambda value: f"{Decimal(value.numerator) / Decimal(value.denominator):.2f}",
    "dollars": lambda value: signed(value, f"{Decimal(abs(value.numerator)) / value.denominator:,.2f}", unit="$"),
    "long": lambda value: signed(value, f"{Decimal(abs(value.numerator)) / value.denominator:.7f}", minus="−"),
}
TEXTS = {
    "hashes": ["{}", "#### {}", "####{}", "1 + 2 = 3\n#### {}\n", "\\boxed{{5}}\n#### {} dollars\n7"],
    "boxed": [
        "\\boxed{{{}}}",
        "is $\\boxed{{ {} }}$, 3",
        "\\boxed{{\\text{{about {{2}}}} = {} }}",
        "\\boxed{{}} \\boxed{{{}}}",
    ],
    "last-number": [
        "The answer is {}.",
        "3 * 4 gives {}!",
        "{}",
        "so it is **{}**",
        "= {}\nQuestion: What is 7?\n#### 7",
    ],
}


def check(value, written):
    if "frac" not in written:
        assert answers.number(written) == value
    for rule, texts in TEXTS.items():
        for text in texts[rule == "hashes" :]:
            found = answers.extract(text.format(written))
            assert (found.value, found.rule) == (value, rule), text.format(written)


@given(rationals, st.sampled_from(sorted(NUMBERS)))
def test_any_rational_is_read_back_exactly(value, form):
    check(value, NUMBERS[form](value))


@given(hundredths, st.sampled_from(sorted(DECIMALS)))
def test_any_amount_of_cents_is_read_back_exactly(value, form):
    check(value, DECIMALS[form](value))


@given(wholes)
def test_any_whole_number_is_read_back_exactly(value):
    for written in (str(value), f"{value.numerator:,}", f"{value.numerator}.000"):
        check(value, written)


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_difference_is_no_negative_number(left, right):
    assert answers.extract(f"{left}-{right}").value == right
    assert answers.extract(f"{left}−{right}").value == right


@given(st.text())
def test_nothing_is_read_where_there_are_no_ascii_digits(text):
    """Fractions that are one character are spelled with them."""
    assert answers.extract(re.sub("[0-9¼-¾⅐-⅞]", "", text)) == answers.Answer(None, "none")


# ---------------------------------------------------------------------------------------------------------------- noise

SPLINTERS = [
    "####", "#", "\\boxed{", "{", "}", "\\frac{", "\\frac", "}{", "$", "-", "−", "/", "/0", ",", ".", "%", " ", "\n",
    "\r", "1", "23", "000", ",000", "0.5", "1/0", "1,234", "9" * 99, "9" * 101, "9" * 4400,
    "Question:", "\nQuestion 3:", "**", "\nQ: ", "Answer:", "<think>", "</think>", "<|channel|>", "<|im_end|>", " and ",
    "10^", "^2", " m2", "½", " million", "\\text{", "Step 3:", ":00", " = ", " + ",
    "\u00a0000", "\\;000", "1. ", "–", "€",
    "٣", "५", "²", "½", "\x00", "\u2028", "\ud800", "The answer is 5.", "<<1+1=2>>", "\\boxed{\\frac{1}{2}}", "(", ")",
]  # fmt: skip


def noise(chance):
    kind = chance.randrange(8)
    if kind == 0:
        return "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randrange(24)))
    if kind == 1:
        return "".join(chr(chance.randrange(0x80)) for _ in range(chance.randrange(60)))
    return "".join(chance.choices(SPLINTERS, k=chance.randrange(1, 9)))


def test_a_hundred_thousand_strings_of_noise():
    chance = random.Random(20)
    rules = set()
    for _ in range(100_000):
        text = noise(chance)
        found = answers.extract(text)
        assert (found.value is None) == (found.rule == "none")
        assert found.rule != "hashes" or "####" in text
        assert found.rule != "boxed" or "\\boxed" in text
        rules.add(found.rule)
    assert rules == {"hashes", "boxed", "last-number", "none"}


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        " ",
        "\\boxed{",
        "\\boxed{x}",
        "\\frac{",
        "{",
        "####",
        "#",
        "9",
        "Question",
        "**",
        "\\frac{1}{",
        ",000",
        "1,000",
        "000,000,",
        "1,000,0000",
        "1{,}000",
        "/1,000",
        "1,2",
        "1.",
        "1:",
        "1 000",
        "1’000",
        "½",
        "1^",
        "10^",
        "1 1/2 ",
        "a2",
        "$1",
        "= - ",
        "<<1=",
        "1.\n",
        "1. a\n",
        "Step 1 ",
        "<think>",
        "</think>",
        "<|channel|>",
        "<|a|>",
        "Q:\n",
        "\nProblem 2\n",
        "\\text{",
        "#### a 1\n",
        "#### 1 + ",
    ],
    ids=repr,
)
def test_a_model_that_repeats_itself_costs_no_time(text):
    """A square or a cube of the length would take minutes here."""
    answers.extract(text * (60_000 // len(text)))
    answers.extract("\\frac{" + text * (60_000 // len(text)))
    answers.extract("#### " + text * (60_000 // len(text)))
    answers.number("1" + text * (60_000 // len(text)))


# ----------------------------------------------------------------------------------------------------- the real answers


def gold_problems():
    """The problems, each with its answer as Python reads the last word of its solution: every one is a whole number."""
    for split in gsm8k.SPLITS:
        for problem in gsm8k.from_folder(Path(os.environ["GSM8K_DATA"]), split):
            yield problem, F(int(problem.solution.split()[-1].replace(",", "")))


needs_data = pytest.mark.skipif(
    "GSM8K_DATA" not in os.environ, reason="GSM8K_DATA names no folder with train.jsonl and test.jsonl"
)


@needs_data
def test_all_gold_answers_of_gsm8k_are_read_back():
    count = 0
    for problem, truth in gold_problems():
        assert answers.extract(problem.solution) == answers.Answer(truth, "hashes")
        assert answers.number(problem.gold) == truth
        assert answers.extract(f"The answer is {problem.gold}.") == answers.Answer(truth, "last-number")
        count += 1
    assert count == 8792


def with_headings(solution):
    """The lines of a solution as headings of steps, but for the last."""
    *lines, last = solution.splitlines()
    return "\n".join([*(f"#### Step {number}: {line}" for number, line in enumerate(lines, start=1)), last])


DRESSED = {
    "restated": lambda one, other: f"Question: {one.question}\nAnswer: {one.solution}",
    "restated, in bold": lambda one, other: f"**Problem:**\n{one.question}\n\n**Solution:**\n{one.solution}",
    "run-on": lambda one, other: f"It is {one.gold}.\n\nQ: {other.question}\nA: {other.solution}",
    "run-on, numbered": lambda one, other: f"It is {one.gold}.\n### Problem 2\n{other.question}\n{other.solution}",
    "restated and run-on": lambda one, other: (
        f"Question: {one.question}\nAnswer: {one.solution}\n\nQuestion: {other.question}\nAnswer: {other.solution}"
    ),
    "reasoning": lambda one, other: f"<think>{other.solution}</think>{one.solution}",
    "headings": lambda one, other: with_headings(one.solution),
    "box": lambda one, other: one.solution.rpartition("\n")[0] + "\n" + rf"\boxed{{{one.gold}\text{{ cm}}^2}}",
}


@needs_data
@pytest.mark.parametrize("form", DRESSED)
def test_gold_answers_as_models_dress_them(form):
    problems = list(gold_problems())[::10]
    for (one, truth), (other, _) in zip(problems, [*problems[1:], problems[0]], strict=True):
        assert answers.extract(DRESSED[form](one, other)).value == truth
