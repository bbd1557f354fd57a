"""Step-by-step solutions taken apart: their steps, the numbers in their text, and the origin of every number.

A step is an annotation (`48/2 = <<48/2=24>>24`) or an equation in plain text (`48/2 = 24`) that holds exactly. Every
number in the text is traced to its possible origins: the steps, or the question. Where there are several all are kept,
and the caller decides whether the difference matters. Nothing here changes a solution.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from experiments.data import gsm8k

__all__ = [
    "CARDINALS",
    "QUESTION",
    "Formula",
    "Mention",
    "Number",
    "Origin",
    "Solution",
    "Step",
    "evaluate",
    "implied",
    "read",
]

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

_TO_NINE = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
CARDINALS: dict[str, int] = {
    **{word: value for value, word in enumerate((*_TO_NINE, *_TEENS), start=2)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
}
"""Numbers that stand as one word. "One" is left out: it is a pronoun more often than a number."""

_NUMBER_WORD = re.compile(
    rf"\b({'|'.join(sorted(CARDINALS, key=len, reverse=True))})(?:[- ]({'|'.join(_TO_NINE)}))?"
    r"(?:[- ](hundred|thousand|million|dozen))?\b",
    re.IGNORECASE,
)
_UNITS = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "dozen": 12}
# What a word lets a solution use as a number without saying so.
_IMPLIED = {
    r"half|halv|twice|doubl|couple|both|pair|twin|second": (2,),
    r"third|thrice|tripl|three": (3,),
    r"quarter|fourth|quadrupl": (4, 25),
    r"fifth": (5,),
    r"sixth": (6,),
    r"eighth": (8,),
    r"tenth": (10,),
    r"dozen": (12,),
    r"hundred|percent|%|cent|\bmeter|metre": (100,),
    r"thousand|kilo|\bkg|\bkm|gram|liter|\bton": (1000,),
    r"\bday|week|daily": (7, 5, 24, 30),
    r"month|year|annual": (12, 4, 30, 52, 365),
    r"hour|minute|second|[ap]\.?m\b": (60, 24, 12),
    r"foot|feet|inch": (12,),
    r"yard": (3,),
    r"pound|ounce": (16,),
    r"gallon|quart|pint": (4, 2, 8, 16),
    r"nickel": (5,),
    r"dime": (10,),
    r"square|rectang": (4, 2),
    r"triang": (3, 2),
    r"leg|wheel|tire": (4, 2),
}
_ALWAYS = (1, 2)


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
    """

    symbols: tuple[str, ...]
    numbers: tuple[Number, ...]
    operators: tuple[tuple[int, int], ...]

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
                first = self.symbols[:place].count("#") - 1
                around = self.symbols[place - 2 : place - 1] + self.symbols[place + 2 : place + 3]
                if self.numbers[first].value < self.numbers[first + 1].value or around == ("(", ")"):
                    bars.add(place)
        return frozenset(bars)

    @cached_property
    def fractions(self) -> frozenset[int]:
        """The numbers above and below those bars."""
        tops = {self.symbols[:place].count("#") - 1 for place in self.fraction_bars}
        return frozenset(tops | {top + 1 for top in tops})

    @cached_property
    def value(self) -> Fraction | None:
        """The exact value; None where the symbols are no arithmetic or divide by zero."""
        return evaluate(self.symbols, self.values)


@dataclass(frozen=True)
class Step:
    """One step of a solution.

    Attributes:
        line: The line that it stands on, from 0.
        formulas: The same formula as often as it is written: in the annotation and, if it stands there, in the text.
        results: The value as often as it is written: in the annotation and behind it.
        value: The value as written.
        is_annotated: Whether there is an annotation.
        origins: The possible origins of each number of the formula; none where it comes out of nowhere.
    """

    line: int
    formulas: tuple[Formula, ...]
    results: tuple[Number, ...]
    value: Fraction
    is_annotated: bool
    origins: tuple[frozenset[Origin], ...] = ()

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


def evaluate(symbols: Sequence[str], values: Sequence[Fraction]) -> Fraction | None:
    """The exact value of a formula with these numbers; None where it is no arithmetic or divides by zero."""
    place, used = 0, 0

    def peek() -> str:
        return symbols[place] if place < len(symbols) else ""

    def total() -> Fraction:
        nonlocal place
        value = product()
        while peek() in ("+", "-"):
            place += 1
            value = value + product() if symbols[place - 1] == "+" else value - product()
        return value

    def product() -> Fraction:
        nonlocal place
        value = factor()
        while peek() in ("*", "/"):
            place += 1
            value = value * factor() if symbols[place - 1] == "*" else value / factor()
        return value

    def factor() -> Fraction:
        nonlocal place, used
        symbol = peek()
        place += 1
        if symbol in ("+", "-"):
            return factor() if symbol == "+" else -factor()
        if symbol == "(":
            value = total()
            if peek() != ")":
                raise _NoFormulaError
            place += 1
        elif symbol == "#":
            value = values[used]
            used += 1
        else:
            raise _NoFormulaError
        while peek() == "%":
            place += 1
            value /= 100
        return value

    try:
        value = total()
    except (_NoFormulaError, ZeroDivisionError):
        return None
    return value if place == len(symbols) else None


class _NoFormulaError(Exception):
    pass


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
        if token.kind == "number" and len(token.text) > _MOST_CHARACTERS:
            token = token._replace(kind="other")
        elif token.kind == "word":
            behind = bool(tokens) and tokens[-1].kind in ("number", "close", "percent", "word")
            ahead = text[token.end : end].lstrip(" $([")[:1]
            if token.text in _OPERATORS and behind and (ahead.isdigit() or ahead == "."):
                token = token._replace(kind="operator")
            elif token.text == "by" and behind and tokens[-1].text in ("divided", "multiplied"):
                sign = tokens.pop()
                token = _Token("operator", sign.start, token.end, "/" if sign.text == "divided" else "*")
            elif token.text in ("equals", "equal"):
                token = token._replace(kind="relation")
        elif (
            token.text == "/" and tokens and tokens[-1].kind == "word" and text[token.end : end].lstrip()[:1].isalpha()
        ):
            token = token._replace(kind="word")  # miles/hour is a unit, no division
        tokens.append(token)
    return tokens


def _number(token: _Token) -> Number:
    digits = token.text.replace(",", "")
    return Number(token.start, token.end, token.text, Fraction(digits))


def _formula(tokens: Sequence[_Token]) -> Formula | None:
    """The formula that the tokens are, with words behind a number taken for its unit; None if they are none."""
    symbols: list[str] = []
    numbers: list[Number] = []
    operators: list[tuple[int, int]] = []
    num_words = 0
    for token in tokens:
        if token.kind == "dollar":
            continue
        if token.kind == "word":
            num_words += 1
            if not symbols or symbols[-1] not in ("#", "%", ")") or num_words > _MOST_UNIT_WORDS:
                return None
            continue
        if token.kind in ("number", "open"):
            if symbols and symbols[-1] in ("#", ")", "%"):
                if num_words or (token.kind == "number" and symbols[-1] != ")"):
                    return None
                symbols.append("*")
                operators.append((token.start, token.start))
            if token.kind == "number":
                numbers.append(_number(token))
            symbols.append("#" if token.kind == "number" else "(")
        elif token.kind == "operator":
            symbols.append(_OPERATORS.get(token.text, token.text[:1]))
            operators.append((token.start, token.end))
        elif token.kind in ("close", "percent"):
            symbols.append(")" if token.kind == "close" else "%")
        else:
            return None
        num_words = 0
    formula = Formula(tuple(symbols), tuple(numbers), tuple(operators))
    return formula if numbers and formula.value is not None else None


_INSIDE = ("number", "operator", "open", "close", "dollar", "percent", "word")


def _formulas_before(tokens: Sequence[_Token], place: int) -> Iterator[Formula]:
    """The formulas that end at a place, longest first."""
    first = place
    while first and tokens[first - 1].kind in _INSIDE:
        first -= 1
    for start in range(first, place):
        if tokens[start].kind in ("number", "open") and (formula := _formula(tokens[start:place])):
            yield formula


def _formula_behind(tokens: Sequence[_Token], place: int) -> Formula | None:
    """The longest formula that begins at a place and holds no words."""
    last = place
    while last < len(tokens) and tokens[last].kind in _INSIDE and tokens[last].kind != "word":
        last += 1
    for end in range(last, place, -1):
        if formula := _formula(tokens[place:end]):
            return formula
    return None


def _relations(tokens: Sequence[_Token]) -> Iterator[tuple[Formula, Formula]]:
    """The equations and comparisons on a line that hold, the left side as long as it may be."""
    for place, token in enumerate(tokens):
        if token.kind != "relation" or (right := _formula_behind(tokens, place + 1)) is None:
            continue
        for left in _formulas_before(tokens, place):
            a, b = left.value, right.value
            if (
                a is not None
                and b is not None
                and (a < b if token.text == "<" else a > b if token.text == ">" else a == b)
            ):
                yield left, right
                break


def _is_label(text: str, token: _Token) -> bool:
    """Whether digits name something rather than count it: 2nd, A1, "Day 3:", "1. " at the start of a line."""
    before, after = text[max(0, token.start - 12) : token.start], text[token.end : token.end + 3]
    return bool(
        re.match(r"(st|nd|rd|th)\b", after)
        or re.search(r"([^\W\d_xX]|#|\b(Day|Step|Week|Year|Book|Round|Part|Side|Case|Option) )\Z", before)
        or (re.search(r"(\A|\n)\s*\Z", before) and re.match(r"[.)]\s", after))
    )


def read(problem: gsm8k.Problem) -> Solution:
    """The solution of a problem, taken apart."""
    text = problem.solution
    bounds = [(match.start(), match.end()) for match in re.finditer(r"[^\n]*(?:\n|$)", text) if match.group()]
    bounds = [(start, end - text[start:end].endswith("\n")) for start, end in bounds]
    # Annotations are blanked, so that the rest, which a reader sees, keeps its places.
    visible = _ANNOTATION.sub(lambda match: " " * len(match.group()), text)
    steps: list[Step] = []
    relations: list[tuple[Formula, Formula]] = []
    plain: list[tuple[int, Number, bool]] = []  # line, number, whether it is a label
    inconsistent: set[int] = set()
    for line, (start, end) in enumerate(bounds[:-1]):
        tokens = _tokens(visible, start, end)
        equations = list(_relations(tokens))
        relations += equations
        here = [
            step for match in _ANNOTATION.finditer(text, start, end) if (step := _annotation_step(line, match, tokens))
        ]
        taken = {number.start for step in here for part in step.formulas for number in part.numbers}
        taken |= {number.start for step in here for number in step.results}
        for left, right in equations:
            if left.operators and right.symbols == ("#",) and not {left.start, right.start} & taken:
                here.append(Step(line, (left,), right.numbers, right.numbers[0].value, is_annotated=False))
                taken |= {number.start for number in (*left.numbers, *right.numbers)}
        here.sort(key=lambda step: step.results[-1].start)
        matches = _ANNOTATION.finditer(text, start, end)
        if _has_false_equation(tokens) or any(
            _contradicts_text(match, tokens, visible[start:end]) for match in matches
        ):
            inconsistent.add(line)
        steps += here
        plain += [(line, _number(t), _is_label(visible, t)) for t in tokens if t.kind == "number"]
        plain += [(line, word, False) for word in _number_words(visible, start, end)]
    known = _known(problem.question)
    steps = _with_origins(steps, known)
    answer_start = text.index("####", bounds[-1][0]) + 4
    (answer,) = [_number(t) for t in _tokens(text, answer_start, len(text)) if t.kind == "number"][:1]
    value = Fraction(problem.gold)
    same = [place for place, step in enumerate(steps) if step.value == value]
    is_open = bool(same) and same[-1] != len(steps) - 1 and value in known
    mentions = _mentions(text, steps, plain, known)
    return Solution(
        text=text,
        lines=tuple(bounds),
        steps=tuple(steps),
        mentions=tuple(mentions),
        relations=tuple(relations),
        numerals=_numerals(problem.question),
        known=known,
        is_readable=text.count("<<") == sum(len(step.results) > 1 for step in steps),
        inconsistent=frozenset(inconsistent),
        answer=answer,
        answer_step=same[-1] if same and not is_open else None,
    )


def _number_words(text: str, start: int, end: int) -> Iterator[Number]:
    for match in _NUMBER_WORD.finditer(text, start, end):
        head, tail, unit = (part.lower() if part else "" for part in match.groups())
        value = CARDINALS[head] + CARDINALS.get(tail, 0)
        yield Number(match.start(), match.end(), match.group(), Fraction(value * _UNITS.get(unit, 1)))


def _numerals(question: str) -> frozenset[Fraction]:
    """The numbers of a question as digits and as words."""
    digits = (_number(token).value for token in _tokens(question, 0, len(question)) if token.kind == "number")
    return frozenset(digits) | {number.value for number in _number_words(question, 0, len(question))}


def _known(question: str) -> frozenset[Fraction]:
    """The numbers of a question, and those that its words imply."""
    return _numerals(question) | implied(question) | {Fraction(value) for value in _ALWAYS}


def implied(text: str) -> frozenset[Fraction]:
    """The numbers that a text's words imply: 2 by "twice", 12 by "dozen", 60 by "hour"."""
    values_of_words = {
        Fraction(value)
        for words, values in _IMPLIED.items()
        if re.search(words, text, re.IGNORECASE)
        for value in values
    }
    return frozenset(values_of_words)


def _annotation_step(line: int, match: re.Match[str], tokens: Sequence[_Token]) -> Step | None:
    """The step of an annotation; None where it is no arithmetic, or the result behind it is not its value."""
    text = match.string
    formula = _formula(_tokens(text, match.start(1), match.end(1)))
    value = [t for t in _tokens(text, match.start(2), match.end(2)) if t.kind == "number"]
    behind = [place for place, token in enumerate(tokens) if token.start >= match.end() and token.kind != "dollar"][:1]
    if formula is None or len(value) != 1 or not behind or tokens[behind[0]].kind != "number":
        return None
    results = (_number(value[0]), _number(tokens[behind[0]]))
    if results[0].value != results[1].value or value[0].start != match.start(2):
        return None
    before = sum(token.start < match.start() for token in tokens)
    while before and tokens[before - 1].kind in ("relation", "dollar"):
        before -= 1
    for visible in _formulas_before(tokens, before):
        if not formula.operators and visible.operators and visible.value == results[0].value:
            # <<950=950>>: only the text says where it comes from.
            return Step(line, (visible,), (*formula.numbers, *results), results[0].value, is_annotated=False)
        if visible.symbols == formula.symbols and visible.values == formula.values:
            return Step(line, (formula, visible), results, results[0].value, is_annotated=True)
    return Step(line, (formula,), results, results[0].value, is_annotated=True)


def _contradicts_text(match: re.Match[str], tokens: Sequence[_Token], line: str) -> bool:
    """Whether the arithmetic in front of an annotation is not the annotation's.

    In `5*3 = <<6*3=18>>18` it has another value; in `20 - 1$5 = <<20-15=5>>5` it is none that can be read, and not all
    of the annotation's numbers are said. Words, as in "half of 18 is <<18/2=9>>9", may say it in any way.
    """
    formula = _formula(_tokens(match.string, match.start(1), match.end(1)))
    tokens = [token for token in tokens if token.start < match.start()]
    while tokens and tokens[-1].kind in ("relation", "dollar"):
        tokens.pop()
    if formula is None or len(formula.numbers) < 2:
        return False
    ends = [place for place, token in enumerate(tokens) if token.kind == "relation"]
    links = [[other for other in _formulas_before(tokens, end) if other.operators] for end in (*ends, len(tokens))]
    if any(other.symbols == formula.symbols and other.values == formula.values for link in links for other in link):
        return False
    if links[-1] and not any(_agree(other, formula) for other in links[-1]):
        return True
    if not links[-1] and not any(token.kind == "operator" for token in tokens):
        return False
    said = {_number(token).value for token in tokens if token.kind == "number"} | implied(line)
    said |= {word.value for word in _number_words(line, 0, len(line))} | {Fraction(1)}
    said |= {q for link in links for other in link for q in _quotients(other) if q is not None}
    said |= {value * scale for value in said for scale in (Fraction(100), Fraction(1, 100))}
    parts = {place for place, quotient in enumerate(_quotients(formula)) if quotient in said}
    return any(value not in said and not {place, place - 1} & parts for place, value in enumerate(formula.values))


def _quotients(formula: Formula) -> Iterator[Fraction | None]:
    """For each number of a formula the quotient of it and the next, None where they are not divided."""
    numbers = iter(zip(formula.values, [*formula.values[1:], Fraction(0)], strict=True))
    for place, symbol in enumerate(formula.symbols):
        if symbol == "#":
            value, following = next(numbers)
            is_divided = formula.symbols[place : place + 3] == ("#", "/", "#")
            yield value / following if is_divided and following else None


def _agree(left: Formula, right: Formula) -> bool:
    """Whether two formulas have one value, as a percentage or as the share that it is where there is a percent sign."""
    a, b = left.value, right.value
    has_percent = "%" in (*left.symbols, *right.symbols)
    return a is not None and b is not None and (a == b or (has_percent and b in (100 * a, a / 100)))


def _has_false_equation(tokens: Sequence[_Token]) -> bool:
    """Whether two sides of a line that are arithmetic and nothing else, without a unit or an unknown, are unequal."""
    for place, token in enumerate(tokens):
        first = place
        while first and tokens[first - 1].kind in _INSIDE and tokens[first - 1].kind != "word":
            first -= 1
        left, right = _formula(tokens[first:place]), _formula_behind(tokens, place + 1)
        is_equation = token.kind == "relation" and token.text not in "<>" and first < place
        is_whole = is_equation and tokens[first].kind != "operator"
        if is_whole and left and right and left.operators and not _agree(left, right):
            return True
    return False


def _with_origins(steps: Sequence[Step], known: frozenset[Fraction]) -> list[Step]:
    """The steps, with the possible origins of each number of their formulas."""
    origins: list[list[frozenset[Origin]]] = []
    for place, step in enumerate(steps):
        row: list[frozenset[Origin]] = []
        for number in step.formulas[0].numbers:
            possible = {Origin(i) for i in range(place) if steps[i].value == number.value}
            if number.value in known:
                possible.add(Origin(QUESTION))
            if not possible:
                possible = {Origin(i, Fraction(1, 100)) for i in range(place) if steps[i].value == 100 * number.value}
            row.append(frozenset(possible))
        _assign_equal_steps(row)
        origins.append(row)
    _use_every_step(origins)
    return [
        Step(s.line, s.formulas, s.results, s.value, s.is_annotated, tuple(row))
        for s, row in zip(steps, origins, strict=True)
    ]


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
                (row, place)
                for row in origins
                for place, possible in enumerate(row)
                if any(s.step == step for s in possible)
            ]
            if len(uses) == 1 and len(uses[0][0][uses[0][1]]) > 1:
                row, place = uses[0]
                row[place] = frozenset(origin for origin in row[place] if origin.step == step)
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
    value = number.value
    here = [(place, step) for place, step in enumerate(steps) if step.line == line]
    for place, step in here:
        if step.value == value and "because" in text[number.end : step.formulas[-1].start]:
            return frozenset({Origin(place)})  # "He has 5 left because 8 - 3 = 5"
    possible = {
        origin
        for _, step in here
        for operand, origins in zip(step.formulas[0].numbers, step.origins, strict=True)
        if operand.value == value
        for origin in origins
    }
    is_result = {Origin(place) for place, step in here if step.value == value}
    if not possible:
        possible = {Origin(place) for place, step in enumerate(steps) if step.line < line and step.value == value}
    if value in known:
        possible.add(Origin(QUESTION))
    possible |= is_result
    if not possible:
        possible = {Origin(place) for place, step in enumerate(steps) if step.line > line and step.value == value}
    return frozenset(possible)
