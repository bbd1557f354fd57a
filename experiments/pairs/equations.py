"""The equations of a solution, as the check of pairs reads them: tokens of a line, exact arithmetic, two equal sides.

This module must not know how wrong solutions are made. With the modules that make them it shares `arithmetic` alone.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import NamedTuple

from experiments.pairs import arithmetic
from experiments.pairs.arithmetic import CARDINALS, TO_NINE

__all__ = ["RATIOS", "Equation", "Token", "evaluated", "found", "is_unknown", "number", "numerals", "tokens"]

# Tokens ---------------------------------------------------------------------------------------------------------------

_SPOKEN = {"plus": "+", "minus": "-", "times": "*", "divided by": "/", "multiplied by": "*"}
_OPERATORS = {**_SPOKEN, "x": "*", "×": "*", "∗": "*", "÷": "/", "–": "-", "—": "-", "−": "-"}
_TENS = [word for word, value in CARDINALS.items() if value >= 20]
_AHEAD = r"(?=[^\S\n]*(?:[-$(][^\S\n]*)*\.?\d)"  # an operator stands before a number: miles/hour is no division
_TOKEN = re.compile(
    rf"""(?P<label>(?<!>)\d+(?:st|nd|rd|th)\b|\b[^\W\d_xX]\d+\b)
    |(?P<number>\d+[ ]\d+/\d+(?![\d/])|(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
    |(?P<cardinal>(?<![\w-])(?:(?:{"|".join(_TENS)})[- ](?:{"|".join(TO_NINE)})|{"|".join(CARDINALS)})\b)
    |(?P<operator>[+*×÷∗]
        |(?:(?<=[\d)%\s])x|(?<=[\w)%\s>])/|[-–—−]|{"|".join(map(re.escape, _SPOKEN))}){_AHEAD})
    |(?P<equals>=|\bequals?\b)|(?P<mark><<|>>)|(?P<word>[^\W\d_]+)|(?P<other>\S)|(?P<space>\s+)""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(r"([-−]?)\$?((?:\d{1,3}(?:,\d{3})+|\d*)(?:\.\d+)?)(?: (\d+))?(?:/(0*[1-9]\d*))?", re.ASCII)
_MOST_CHARACTERS = 100  # Python refuses to read a number of thousands of digits


class Token(NamedTuple):
    """A piece of a line.

    Attributes:
        kind: number, cardinal (a number in a word), label (4th, B2), operator, equals, mark, word, other or space.
        text: As it is written.
        value: The number that it is; None for anything else.
        is_hidden: Whether it stands inside an annotation.
    """

    kind: str
    text: str
    value: Fraction | None
    is_hidden: bool

    @property
    def meaning(self) -> Fraction | str:
        """The number; else the text, of an operator as one of + - * /."""
        return _OPERATORS.get(self.text.lower(), self.text) if self.value is None else self.value


def number(text: str) -> Fraction | None:
    """The number that a text is: $1,234.50, -3, .5, 1/2 or 1 1/2; None if it is none."""
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= _MOST_CHARACTERS else None
    if match is None or not match[2]:
        return None
    whole, bottom = Fraction(match[2].replace(",", "")), int(match[4] or 1)
    size = whole + Fraction(int(match[3]), bottom) if match[3] else whole / bottom
    return -size if match[1] else size


def tokens(line: str) -> list[Token]:
    """The pieces of a line, in order; none of it is left out."""
    row: list[Token] = []
    is_hidden = False
    for match in _TOKEN.finditer(line):
        kind, text = match.lastgroup or "", match.group()
        is_hidden = text == "<<" if kind == "mark" else is_hidden
        value = number(text) if kind == "number" else None
        if kind == "cardinal":
            value = Fraction(sum(CARDINALS[word] for word in re.split("[- ]", text.lower())))
        row.append(Token(kind, text, value, is_hidden))
    return row


def is_unknown(token: Token) -> bool:
    """Whether a token is an unknown of algebra."""
    return token.kind == "word" and token.text in "xyz"


_ONE = re.compile(r"\b(one|once|single|another)\b|(?<![\d.])1(?!\.?\d|/| \d+/)", re.IGNORECASE)


def numerals(question: str) -> set[Fraction]:
    """The numbers of a question, in digits, in words and as shares. Of 1/2 it is the half, and not the 1."""
    row = tokens(question)
    values = {token.value for token in row if token.value is not None and token.value != 1}
    values |= {Fraction(re.sub(r"\D", "", token.text)) for token in row if token.kind == "label"}  # the 4th of July
    values |= {value / 100 for value in values}
    for top, bar, bottom in zip(row, row[1:], row[2:], strict=False):
        if bar.text == "/" and top.value is not None and bottom.value:
            values.add(top.value / bottom.value)
    return values | ({Fraction(1)} if _ONE.search(question) else set())


# Arithmetic -----------------------------------------------------------------------------------------------------------

_UNKNOWN = Fraction(999_983)  # a large prime: sums of multiples that are equal for it are equal for every number


def evaluated(side: Sequence[Token]) -> Fraction | None:
    """The value of arithmetic, without the words and signs between its numbers; None if it has none.

    A bracket or an unknown behind a number multiplies it: 2(3+4), 5x.
    """
    symbols: list[str] = []
    values: list[Fraction] = []
    before = ""
    for token in side:
        is_behind = bool(symbols) and symbols[-1] not in "(+-*/"
        if token.kind == "number" and token.value is not None:
            symbols += ["*"] * (symbols[-1:] == [")"]) + ["#"]
            values.append(token.value)
        elif is_unknown(token) and before != "word":
            symbols += ["*"] * is_behind + ["#"]
            values.append(_UNKNOWN)
        elif token.kind == "operator":
            symbols.append(str(token.meaning))
        elif token.text in ("(", ")"):
            symbols += ["*"] * (is_behind and token.text == "(") + [token.text]
        elif token.text == "%" and symbols[-1:] == ["#"]:
            symbols.append("%")
        before = before if token.kind == "space" else token.kind
    return arithmetic.evaluate(symbols, values)


# Equations ------------------------------------------------------------------------------------------------------------


class Equation(NamedTuple):
    """An equation: an annotation `<<left=right>>`, or the two sides of an equals sign as a reader sees them.

    Attributes:
        row: The line, from 0.
        left: The places of its left side among the tokens of the line.
        right: The places of its right side; of a visible one without words.
        result: The place of the only number of the right side; None where an operator stands beside it.
        value: That number.
        ratio: The left value over the right one, 1 but for a share that is also a percentage; None where it is false.
        is_annotation: Whether it stands between << and >>.
    """

    row: int
    left: tuple[int, ...]
    right: tuple[int, ...]
    result: int | None
    value: Fraction | None
    ratio: Fraction | None
    is_annotation: bool


_IN_ARITHMETIC = "$€£()%/-.'’"  # and in units, such as sq.ft.
RATIOS = (Fraction(1), Fraction(100), Fraction(1, 100))
"""The ratios of two numbers that say the same where one of them may be a percentage."""


def found(row: int, line: Sequence[Token]) -> Iterator[Equation]:
    """The equations of a line: every annotation, and every visible equation that is true."""
    for start, token in enumerate(line):
        stop = next((i for i in range(start, len(line)) if line[i].text == ">>"), 0) if token.text == "<<" else 0
        if signs := [i for i in range(start, stop) if line[i].kind == "equals"]:
            left, right = tuple(range(start + 1, signs[-1])), tuple(range(signs[-1] + 1, stop))
            a, b = (evaluated([line[i] for i in side]) for side in (left, right))
            ratio = Fraction(1) if a is not None and a == b else None
            yield Equation(row, left, right, *_result(line, right), ratio, is_annotation=True)
    seen = [i for i, token in enumerate(line) if not token.is_hidden and token.kind not in ("mark", "space")]
    signs = [place for place, i in enumerate(seen) if line[i].kind == "equals"]
    for before, sign, after in zip([-1, *signs], signs, [*signs[1:], len(seen)], strict=False):
        if equation := _visible(row, line, seen[before + 1 : sign], seen[sign + 1 : after]):
            yield equation


def _visible(row: int, line: Sequence[Token], ahead: list[int], behind: list[int]) -> Equation | None:
    """The equation of one equals sign, as long as it may be; None where nothing ahead equals anything behind.

    Args:
        row: The line.
        line: Its tokens.
        ahead: The places from the sign before this one, or from the start of the line.
        behind: The places up to the next sign.
    """

    def with_value(sides: Iterable[list[int]]) -> list[tuple[list[int], Fraction]]:
        return [(side, value) for side in sides if (value := evaluated([line[i] for i in side])) is not None]

    marks = [k for k, i in enumerate(ahead) if line[i].kind == "other" and line[i].text not in _IN_ARITHMETIC]
    ahead = ahead[marks[-1] + 1 if marks else 0 :]
    is_piece = [token.kind == "number" or is_unknown(token) for token in line]
    lefts = with_value(ahead[k:] for k, i in enumerate(ahead) if is_piece[i] or line[i].text in "(-+")
    rights = with_value(behind[: k + 1] for k, i in enumerate(behind) if is_piece[i] or line[i].text in ")%")[::-1]
    for ratio, (left, a), (right, b) in product(RATIOS, lefts, rights):
        if a == b * ratio and (ratio == 1 or any(line[i].text == "%" for i in (*left, *right))):
            places = (i for i in right if is_piece[i] or line[i].kind == "operator" or line[i].text in "()%")
            return Equation(row, tuple(left), tuple(places), *_result(line, right), ratio, is_annotation=False)
    return None


def _result(line: Sequence[Token], side: Iterable[int]) -> tuple[int | None, Fraction | None]:
    places = [i for i in side if line[i].kind in ("number", "operator")]
    is_one = len(places) == 1 and line[places[0]].kind == "number"
    return (places[0], line[places[0]].value) if is_one else (None, None)
