"""Step-by-step solutions taken apart: their steps, the numbers in their text, and the origin of every number.

A step is an annotation (`48/2 = <<48/2=24>>24`) or an equation in plain text (`48/2 = 24`) that holds exactly. Every
number in the text is traced to its possible origins: the steps, or the question. Where there are several all are kept,
and the caller decides whether the difference matters. Nothing here changes a solution.
"""

import operator
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import takewhile
from typing import NamedTuple

from experiments.data import gsm8k
from experiments.pairs import arithmetic
from experiments.pairs.arithmetic import CARDINALS, TO_NINE, implied

__all__ = ["QUESTION", "Formula", "Mention", "Number", "Origin", "Solution", "Step", "read"]

QUESTION = -1
"""The step of an origin that is no step: the question, or common knowledge such as the days of a week."""

_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"|(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)?)"
    r"|(?P<operator>[-+*/×÷–−])|(?P<relation>[=<>])|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<dollar>\$)|(?P<percent>%)"
    r"|(?P<other>\S)"
)
_ANNOTATION = re.compile(r"<<([^<>=\n]*)=([^<>=\n]*)>>")
_OPERATORS = {"×": "*", "x": "*", "X": "*", "÷": "/", "–": "-", "−": "-", "plus": "+", "minus": "-", "times": "*"}
_MOST_UNIT_WORDS = 8  # "12 square feet of glass for the first wall * 3"
_MOST_CHARACTERS = 40  # a number with more is noise, and Python refuses to read one of thousands

_NUMBER_WORD = re.compile(
    rf"\b({'|'.join(sorted(CARDINALS, key=len, reverse=True))})(?:[- ]({'|'.join(TO_NINE)}))?"
    r"(?:[- ](hundred|thousand|million|dozen))?\b",
    re.IGNORECASE,
)
_UNITS = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12}
_ALWAYS = frozenset({Fraction(1), Fraction(2)})


class Origin(NamedTuple):
    """A possible origin of a number: `scale` times the value of a step (counted from 0), or the QUESTION."""

    step: int
    scale: Fraction = Fraction(1)


@dataclass(frozen=True)
class Number:
    """A number where it stands in the text; `text[start:end]` is how it is written."""

    start: int
    end: int
    text: str
    value: Fraction


@dataclass(frozen=True)
class Formula:
    """Arithmetic where it stands in the text.

    Attributes:
        symbols: "#" for each number, the four operators, parentheses, and "%" after a percentage.
        numbers: The numbers, in order.
        operators: Where each operator stands, in order; an empty place for a product without a sign, as in 4(66).
        value: The exact value.
    """

    symbols: tuple[str, ...]
    numbers: tuple[Number, ...]
    operators: tuple[tuple[int, int], ...]
    value: Fraction

    @property
    def start(self) -> int:
        """Where the first number stands."""
        return self.numbers[0].start

    @cached_property
    def values(self) -> list[Fraction]:
        """The values of the numbers."""
        return [number.value for number in self.numbers]

    @cached_property
    def fraction_bars(self) -> frozenset[int]:
        """The symbols that are the bar of a fraction, as in 2/3 * 30, 20/100 * 30 or (4/3) * 30, and no division."""
        bars: set[int] = set()
        for place in range(1, len(self.symbols) - 1):
            if self.symbols[place - 1 : place + 2] == ("#", "/", "#") and len(self.numbers) > 2:
                below = self.symbols[:place].count("#")
                around = self.symbols[place - 2 : place - 1] + self.symbols[place + 2 : place + 3]
                if self.values[below - 1] < self.values[below] or around == ("(", ")"):
                    bars.add(place)
        return frozenset(bars)

    @cached_property
    def fractions(self) -> frozenset[int]:
        """The numbers above and below those bars."""
        below = [self.symbols[:place].count("#") for place in self.fraction_bars]
        return frozenset(below).union(place - 1 for place in below)

    def is_same(self, other: "Formula") -> bool:
        """Whether another formula has the same symbols and values."""
        return self.symbols == other.symbols and self.values == other.values


@dataclass(frozen=True)
class Step:
    """One step of a solution.

    Attributes:
        line: The line that it stands on, from 0.
        formulas: The same formula as often as it is written: in the annotation and, if it stands there, in the text.
        results: The value as often as it is written: in the annotation and behind it.
        is_annotated: Whether there is an annotation.
        origins: The possible origins of each number of the formula; none where it comes out of nowhere.
    """

    line: int
    formulas: tuple[Formula, ...]
    results: tuple[Number, ...]
    is_annotated: bool
    origins: tuple[frozenset[Origin], ...] = ()

    @property
    def value(self) -> Fraction:
        """The value as written."""
        return self.results[-1].value

    @property
    def is_exact(self) -> bool:
        """Whether the formula has the value that is written."""
        return self.formulas[0].value == self.value

    @property
    def is_written_out(self) -> bool:
        """Whether a reader who does not see annotations sees the formula."""
        return len(self.formulas) > self.is_annotated


@dataclass(frozen=True)
class Mention:
    """A number in the text, as digits or as a word.

    Attributes:
        number: The number.
        origins: The possible origins; none where the number comes out of nowhere.
        line: The line that it stands on, from 0.
    """

    number: Number
    origins: frozenset[Origin]
    line: int


@dataclass(frozen=True)
class Solution:
    """A solution taken apart.

    Attributes:
        text: The solution.
        lines: Where each line begins and ends.
        steps: In order.
        mentions: Every number outside the last line, in order.
        relations: The equations and comparisons in plain text that hold, as pairs of formulas.
        numerals: The numbers of the question.
        known: The same, and those that its words imply.
        is_readable: Whether every annotation is one of the steps.
        inconsistent: The lines that contradict themselves: an annotation with other arithmetic in front of it, or an
            equation in plain text that is false. No change can be carried through them.
        answer: The number on the last line.
        answer_step: The step that it is the value of; None where there is none.
    """

    text: str
    lines: tuple[tuple[int, int], ...]
    steps: tuple[Step, ...]
    mentions: tuple[Mention, ...]
    relations: tuple[tuple[Formula, Formula], ...]
    numerals: frozenset[Fraction]
    known: frozenset[Fraction]
    is_readable: bool
    inconsistent: frozenset[int]
    answer: Number
    answer_step: int | None

    @cached_property
    def question_values(self) -> frozenset[Fraction]:
        """The numbers that need no step: known ones, their reciprocals, and shares of the whole."""
        shares = {share for value in self.numerals for share in (value / 100, 1 - value / 100, 1 + value / 100)}
        return self.known | shares | {100 * share for share in shares} | {1 / value for value in self.known if value}

    @cached_property
    def has_separators(self) -> bool:
        """Whether there are results of a thousand and more, all written like 1,000."""
        large = [step.results[-1].text for step in self.steps if step.value >= 1000]
        return bool(large) and all("," in text for text in large)


# Text -----------------------------------------------------------------------------------------------------------------


class _Token(NamedTuple):
    kind: str
    start: int
    end: int
    text: str


def _tokens(text: str, start: int, end: int) -> list[_Token]:
    """The tokens of one line; `x` and words for operators are operators only between numbers."""
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(text, start, end):
        token = _Token(match.lastgroup or "", match.start(), match.end(), match.group())
        before = tokens[-1] if tokens else _Token("", start, start, "")
        ahead = text[token.end : end]
        if token.kind == "number" and len(token.text) > _MOST_CHARACTERS:
            token = token._replace(kind="other")
        elif token.text in _OPERATORS and token.kind == "word":
            if before.kind in ("number", "close", "percent", "word") and re.match(r"[ $([]*(\d|\.)", ahead):
                token = token._replace(kind="operator")
        elif token.text == "by" and before.text in ("divided", "multiplied"):
            tokens.pop()
            token = _Token("operator", before.start, token.end, "/" if before.text == "divided" else "*")
        elif token.text in ("equals", "equal"):
            token = token._replace(kind="relation")
        elif token.text == "/" and before.kind == "word" and ahead.lstrip()[:1].isalpha():
            token = token._replace(kind="word")  # miles/hour is a unit, no division
        tokens.append(token)
    return tokens


def _number(token: _Token) -> Number:
    return Number(token.start, token.end, token.text, Fraction(token.text.replace(",", "")))


def _digits(tokens: Sequence[_Token]) -> list[Number]:
    return [_number(token) for token in tokens if token.kind == "number"]


def _number_words(text: str, start: int, end: int) -> list[Number]:
    numbers: list[Number] = []
    for match in _NUMBER_WORD.finditer(text, start, end):
        head, tail, unit = (part.lower() if part else "" for part in match.groups())
        value = (CARDINALS[head] + CARDINALS.get(tail, 0)) * _UNITS.get(unit, 1)
        numbers.append(Number(match.start(), match.end(), match.group(), Fraction(value)))
    return numbers


def _numerals(text: str) -> frozenset[Fraction]:
    """The numbers of a text as digits and as words."""
    numbers = *_digits(_tokens(text, 0, len(text))), *_number_words(text, 0, len(text))
    return frozenset(number.value for number in numbers)


def _is_label(text: str, number: Number) -> bool:
    """Whether digits name something rather than count it: 2nd, A1, "Day 3:", "1. " at the start of a line."""
    before, after = text[max(0, number.start - 12) : number.start], text[number.end : number.end + 3]
    return bool(
        re.match(r"(st|nd|rd|th)\b", after)
        or re.search(r"([^\W\d_xX]|#|\b(Day|Step|Week|Year|Book|Round|Part|Side|Case|Option) )\Z", before)
        or (re.search(r"(\A|\n)\s*\Z", before) and re.match(r"[.)]\s", after))
    )


# Formulas -------------------------------------------------------------------------------------------------------------

_ARITHMETIC = ("number", "operator", "open", "close", "dollar", "percent")
_WITH_UNITS = (*_ARITHMETIC, "word")


def _formula(tokens: Sequence[_Token]) -> Formula | None:
    """The formula that the tokens are, with words behind a number taken for its unit; None if they are none."""
    symbols: list[str] = []
    numbers: list[Number] = []
    operators: list[tuple[int, int]] = []
    num_words = 0
    for token in tokens:
        is_behind = symbols[-1:] in (["#"], ["%"], [")"])
        if token.kind == "dollar":
            continue
        if token.kind == "word":
            num_words += 1
            if not is_behind or num_words > _MOST_UNIT_WORDS:
                return None
            continue
        if token.kind in ("number", "open"):
            if is_behind:
                if num_words or (token.kind == "number" and symbols[-1] != ")"):
                    return None
                symbols.append("*")
                operators.append((token.start, token.start))
            if token.kind == "number":
                numbers.append(_number(token))
            symbols.append("#" if token.kind == "number" else "(")
        elif token.kind == "operator":
            symbols.append(_OPERATORS.get(token.text, token.text))
            operators.append((token.start, token.end))
        elif token.kind in ("close", "percent"):
            symbols.append(")" if token.kind == "close" else "%")
        else:
            return None
        num_words = 0
    value = arithmetic.evaluate(symbols, [number.value for number in numbers])
    return None if value is None else Formula(tuple(symbols), tuple(numbers), tuple(operators), value)


def _last(tokens: Sequence[_Token], kinds: Sequence[str]) -> list[_Token]:
    """The last tokens, as long as they are of some kinds."""
    return list(takewhile(lambda token: token.kind in kinds, reversed(tokens)))[::-1]


def _formulas_at_end(tokens: Sequence[_Token]) -> Iterator[Formula]:
    """The formulas that the last tokens are, longest first."""
    inside = _last(tokens, _WITH_UNITS)
    for first, token in enumerate(inside):
        if token.kind in ("number", "open") and (formula := _formula(inside[first:])):
            yield formula


def _formula_at_start(tokens: Sequence[_Token]) -> Formula | None:
    """The longest formula that the first tokens are without words."""
    inside = list(takewhile(lambda token: token.kind in _ARITHMETIC, tokens))
    return next((formula for end in range(len(inside), 0, -1) if (formula := _formula(inside[:end]))), None)


_HOLDS = {"<": operator.lt, ">": operator.gt}


def _relations(tokens: Sequence[_Token]) -> Iterator[tuple[Formula, Formula]]:
    """The equations and comparisons on a line that hold, the left side as long as it may be."""
    for place, token in enumerate(tokens):
        if token.kind == "relation" and (right := _formula_at_start(tokens[place + 1 :])):
            holds = _HOLDS.get(token.text, operator.eq)
            for left in _formulas_at_end(tokens[:place]):
                if holds(left.value, right.value):
                    yield left, right
                    break


def _agree(left: Formula, right: Formula) -> bool:
    """Whether two formulas have one value, as a percentage or as the share that it is where there is a percent sign."""
    has_percent = "%" in (*left.symbols, *right.symbols)
    return left.value == right.value or (has_percent and right.value in (100 * left.value, left.value / 100))


def _has_false_equation(tokens: Sequence[_Token]) -> bool:
    """Whether two sides of a line that are arithmetic and nothing else, without a unit or an unknown, are unequal."""
    for place, token in enumerate(tokens):
        if token.kind == "relation" and token.text not in "<>":
            before = _last(tokens[:place], _ARITHMETIC)
            left, right = _formula(before), _formula_at_start(tokens[place + 1 :])
            is_whole = left and left.operators and before[0].kind != "operator"
            if is_whole and left and right and not _agree(left, right):
                return True
    return False


# Steps ----------------------------------------------------------------------------------------------------------------


def read(problem: gsm8k.Problem) -> Solution:
    """The solution of a problem, taken apart."""
    text = problem.solution
    lines = [match.span() for match in re.finditer("^.*$", text, re.MULTILINE)]
    # Annotations are blanked, so that the rest, which a reader sees, keeps its places.
    visible = _ANNOTATION.sub(lambda match: " " * len(match.group()), text)
    numerals = _numerals(problem.question)
    known = numerals | implied(problem.question) | _ALWAYS
    steps: list[Step] = []
    relations: list[tuple[Formula, Formula]] = []
    plain: list[tuple[int, Number, bool]] = []  # line, number, whether it is a label
    inconsistent: set[int] = set()
    for line, (start, end) in enumerate(lines[:-1]):
        tokens = _tokens(visible, start, end)
        annotations = list(_ANNOTATION.finditer(text, start, end))
        equations = list(_relations(tokens))
        relations += equations
        steps += _steps(line, tokens, annotations, equations)
        if _has_false_equation(tokens) or any(
            _contradicts_text(match, tokens, visible[start:end]) for match in annotations
        ):
            inconsistent.add(line)
        plain += [(line, number, _is_label(visible, number)) for number in _digits(tokens)]
        plain += [(line, word, False) for word in _number_words(visible, start, end)]
    steps = _with_origins(steps, known)
    answer = _digits(_tokens(text, text.index("####", lines[-1][0]) + len("####"), len(text)))[0]
    value = Fraction(problem.gold)
    last = max((place for place, step in enumerate(steps) if step.value == value), default=None)
    is_open = last != len(steps) - 1 and value in known
    return Solution(
        text=text,
        lines=tuple(lines),
        steps=tuple(steps),
        mentions=tuple(_mentions(text, steps, plain, known)),
        relations=tuple(relations),
        numerals=numerals,
        known=known,
        is_readable=text.count("<<") == sum(len(step.results) > 1 for step in steps),
        inconsistent=frozenset(inconsistent),
        answer=answer,
        answer_step=None if is_open else last,
    )


def _steps(
    line: int,
    tokens: Sequence[_Token],
    annotations: Sequence[re.Match[str]],
    equations: Sequence[tuple[Formula, Formula]],
) -> list[Step]:
    """The steps of a line: its annotations, and the equations beside them."""
    steps = [step for match in annotations if (step := _annotation_step(line, match, tokens))]
    taken = {number.start for step in steps for formula in step.formulas for number in formula.numbers}
    taken |= {number.start for step in steps for number in step.results}
    for left, right in equations:
        if left.operators and right.symbols == ("#",) and not {left.start, right.start} & taken:
            steps.append(Step(line, (left,), right.numbers, is_annotated=False))
            taken |= {number.start for number in (*left.numbers, *right.numbers)}
    return sorted(steps, key=lambda step: step.results[-1].start)


def _in_front(match: re.Match[str], tokens: Sequence[_Token]) -> list[_Token]:
    """The tokens in front of an annotation and of the equals sign before it."""
    before = [token for token in tokens if token.start < match.start()]
    while before and before[-1].kind in ("relation", "dollar"):
        before.pop()
    return before


def _annotation_step(line: int, match: re.Match[str], tokens: Sequence[_Token]) -> Step | None:
    """The step of an annotation; None where it is no arithmetic, or the result behind it is not its value."""
    formula = _formula(_tokens(match.string, *match.span(1)))
    values = _digits(_tokens(match.string, *match.span(2)))
    behind = next((token for token in tokens if token.start >= match.end() and token.kind != "dollar"), None)
    if formula is None or len(values) != 1 or behind is None or behind.kind != "number":
        return None
    results = (values[0], _number(behind))
    if results[0].value != results[1].value or results[0].start != match.start(2):
        return None
    for visible in _formulas_at_end(_in_front(match, tokens)):
        if not formula.operators and visible.operators and visible.value == results[0].value:
            # <<950=950>>: only the text says where it comes from.
            return Step(line, (visible,), (*formula.numbers, *results), is_annotated=False)
        if visible.is_same(formula):
            return Step(line, (formula, visible), results, is_annotated=True)
    return Step(line, (formula,), results, is_annotated=True)


def _contradicts_text(match: re.Match[str], tokens: Sequence[_Token], line: str) -> bool:
    """Whether the arithmetic in front of an annotation is not the annotation's.

    In `5*3 = <<6*3=18>>18` it has another value; in `20 - 1$5 = <<20-15=5>>5` it is none that can be read, and not all
    of the annotation's numbers are said. Words, as in "half of 18 is <<18/2=9>>9", may say it in any way.
    """
    formula = _formula(_tokens(match.string, *match.span(1)))
    if formula is None or len(formula.numbers) < 2:
        return False
    tokens = _in_front(match, tokens)
    ends = [place for place, token in enumerate(tokens) if token.kind == "relation"]
    links = [[other for other in _formulas_at_end(tokens[:end]) if other.operators] for end in (*ends, len(tokens))]
    if any(other.is_same(formula) for link in links for other in link):
        return False
    if links[-1] and not any(_agree(other, formula) for other in links[-1]):
        return True
    if not links[-1] and not any(token.kind == "operator" for token in tokens):
        return False
    said = {number.value for number in (*_digits(tokens), *_number_words(line, 0, len(line)))}
    said |= {q for link in links for other in link for q in _quotients(other) if q is not None}
    said |= implied(line) | {Fraction(1)}
    said |= {value * scale for value in said for scale in (Fraction(100), Fraction(1, 100))}
    parts = {place for place, quotient in enumerate(_quotients(formula)) if quotient in said}
    return any(value not in said and not {place, place - 1} & parts for place, value in enumerate(formula.values))


def _quotients(formula: Formula) -> list[Fraction | None]:
    """For each number of a formula the quotient of it and the next, None where they are not divided."""
    numbers = iter(zip(formula.values, [*formula.values[1:], Fraction(0)], strict=True))
    quotients: list[Fraction | None] = []
    for place, symbol in enumerate(formula.symbols):
        if symbol == "#":
            value, following = next(numbers)
            is_divided = formula.symbols[place : place + 3] == ("#", "/", "#")
            quotients.append(value / following if is_divided and following else None)
    return quotients


# Origins --------------------------------------------------------------------------------------------------------------


def _with_origins(steps: Sequence[Step], known: frozenset[Fraction]) -> list[Step]:
    """The steps, with the possible origins of each number of their formulas."""
    origins: list[list[frozenset[Origin]]] = []
    for place, step in enumerate(steps):
        row: list[frozenset[Origin]] = []
        for value in step.formulas[0].values:
            possible = {Origin(i) for i in range(place) if steps[i].value == value}
            if value in known:
                possible.add(Origin(QUESTION))
            if not possible:
                possible = {Origin(i, Fraction(1, 100)) for i in range(place) if steps[i].value == 100 * value}
            row.append(frozenset(possible))
        _assign_equal_steps(row)
        origins.append(row)
    _use_every_step(origins)
    return [replace(step, origins=tuple(row)) for step, row in zip(steps, origins, strict=True)]


def _assign_equal_steps(row: list[frozenset[Origin]]) -> None:
    """Gives equal numbers of one formula one step each, in order, where as many equal steps are possible."""
    for choice in {possible for possible in row if len(possible) > 1}:
        places = [place for place, possible in enumerate(row) if possible == choice]
        if len(places) == len(choice) and all(origin.step != QUESTION for origin in choice):
            for place, origin in zip(places, sorted(choice), strict=True):
                row[place] = frozenset({origin})


def _use_every_step(origins: list[list[frozenset[Origin]]]) -> None:
    """Makes a step the only origin of a number that is its only possible use: steps are assumed to be used."""
    changed = True
    while changed:
        changed = False
        for step in range(len(origins)):
            uses = [
                (row, place, [origin for origin in possible if origin.step == step])
                for row in origins
                for place, possible in enumerate(row)
                if any(origin.step == step for origin in possible)
            ]
            if len(uses) == 1 and len(uses[0][0][uses[0][1]]) > 1:
                row, place, only = uses[0]
                row[place] = frozenset(only)
                changed = True


def _mentions(
    text: str, steps: Sequence[Step], plain: Sequence[tuple[int, Number, bool]], known: frozenset[Fraction]
) -> list[Mention]:
    """Every number outside the last line, in order of its place."""
    mentions: dict[int, Mention] = {}
    for place, step in enumerate(steps):
        for formula in step.formulas:
            for number, origins in zip(formula.numbers, step.origins, strict=True):
                mentions[number.start] = Mention(number, origins, step.line)
        for number in step.results:
            mentions[number.start] = Mention(number, frozenset({Origin(place)}), step.line)
    for line, number, is_label in plain:
        if number.start not in mentions:
            origins = frozenset({Origin(QUESTION)}) if is_label else _prose_origins(text, steps, line, number, known)
            mentions[number.start] = Mention(number, origins, line)
    return [mentions[start] for start in sorted(mentions)]


def _prose_origins(
    text: str, steps: Sequence[Step], line: int, number: Number, known: frozenset[Fraction]
) -> frozenset[Origin]:
    """The possible origins of a number in a sentence.

    The numbers of the arithmetic on its line come first; then earlier steps and the question; then a later step,
    whose result some solutions announce.
    """
    here = [step for step in steps if step.line == line]
    equal = [(Origin(place), step) for place, step in enumerate(steps) if step.value == number.value]
    for origin, step in equal:
        if step.line == line and "because" in text[number.end : step.formulas[-1].start]:
            return frozenset({origin})  # "He has 5 left because 8 - 3 = 5"
    operands = [pair for step in here for pair in zip(step.formulas[0].values, step.origins, strict=True)]
    possible = {origin for value, origins in operands if value == number.value for origin in origins}
    possible = possible or {origin for origin, step in equal if step.line < line}
    if number.value in known:
        possible.add(Origin(QUESTION))
    possible |= {origin for origin, step in equal if step.line == line}
    return frozenset(possible or (origin for origin, _ in equal))
