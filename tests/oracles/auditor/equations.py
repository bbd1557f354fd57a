"""What is said in a solution: its words and numbers, its arithmetic, and its equations with their place in the text.

This is the auditor's own reading. It must not be shared with the modules that read solutions to make wrong ones,
`solutions` and `corruption`: two readings that are one would make the same mistake and agree.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Equation", "Token", "agree", "evaluated", "found", "identities", "is_equals", "tokens", "written"]

# Tokens ---------------------------------------------------------------------------------------------------------------

_VULGAR = {"½": Fraction(1, 2), "¼": Fraction(1, 4), "¾": Fraction(3, 4), "⅓": Fraction(1, 3), "⅔": Fraction(2, 3)}
_CARDINALS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70,
    "eighty": 80, "ninety": 90,
}  # fmt: skip
_TENS_WORD = "|".join(word for word, value in _CARDINALS.items() if value >= 20)
# "one" is a pronoun more often than a number. The longer words first: "sixteen" begins with "six".
_CARDINAL = rf"(?:{_TENS_WORD})[- ](?:one|two|three|four|five|six|seven|eight|nine)\b|" + "|".join(
    sorted((word for word in _CARDINALS if word != "one"), key=len, reverse=True)
)
# On the same line: an x at the end of one is an unknown.
_NUMBER_AHEAD = r"[^\S\n]*(?:[$(][^\S\n]*)*\.?\d"

_TOKEN = re.compile(
    rf"""(?P<space>[^\S\n]+)|(?P<open><<)|(?P<close>>>)|(?P<newline>\n)
    |(?P<ordinal>\d[\d,]*(?:st|nd|rd|th)\b)
    |(?P<number>(?:(?:(?<=[=(>$<+*/])|(?<=[=\#]\ ))[-−])?
        (?:\d+\ \d+/\d+(?![\d/])|(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+|[½¼¾⅓⅔]))
    |(?P<op>[+*×÷∗]|(?<=[\d)%\s])[xX](?={_NUMBER_AHEAD})|(?<=[\w)%\s])//?(?={_NUMBER_AHEAD})
        |(?<=[\w)%\s>])[-–—−](?={_NUMBER_AHEAD})
        |(?<=[\w)%]\s)(?:times|plus|minus|(?:divided|multiplied)\ by)(?=\ (?:[$(]*\.?\d|(?:{_CARDINAL})\b)))
    |(?P<cardinal>(?=[tfsen])(?<![\w-])(?:{_CARDINAL})(?![\w]))
    |(?P<currency>[$€£¢])
    |(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*)
    |(?P<other>.)""",
    re.VERBOSE | re.IGNORECASE,
)
_OPERATORS = {
    **dict.fromkeys(("x", "×", "∗", "times", "multiplied by"), "*"),
    **dict.fromkeys(("÷", "//", "divided by"), "/"),
    **dict.fromkeys(("–", "—", "−", "minus"), "-"),
    "plus": "+",
}


class Token(NamedTuple):
    """A piece of a text.

    Attributes:
        kind: What it is: a number, a cardinal (a number in a word), an op, a word, a space, ...
        text: As it is written; an operator as one of + - * /.
        line: Where it stands, from 1.
        value: The number that it is, exactly; None for anything else.
    """

    kind: str
    text: str
    line: int
    value: Fraction | None


@lru_cache(maxsize=4096)
def _read(kind: str, text: str) -> Fraction | None:
    if kind == "cardinal":
        return Fraction(sum(_CARDINALS[part] for part in re.split("[- ]", text.lower())))
    if kind != "number" or len(text) > 100:  # Python refuses to read a number of thousands of digits
        return None
    sign, text = -1 if text[0] in "-−" else 1, text.lstrip("-−").replace(",", "")
    if text in _VULGAR:
        return sign * _VULGAR[text]
    whole, _, part = text.rpartition(" ")
    _, slash, denominator = part.partition("/")
    if slash and not int(denominator):
        return None
    return sign * (Fraction(whole or 0) + Fraction(part))


def tokens(text: str) -> list[Token]:
    """The pieces of a text, in order; none of it is left out."""
    made: list[Token] = []
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        piece = match.group()
        if kind == "op":
            made.append(Token(kind, _OPERATORS.get(piece.lower(), piece), line, None))
        elif kind == "ordinal" and made and made[-1].kind == "close":  # <<7+14=21>>21st
            made.append(Token("number", piece, line, _read("number", piece[:-2])))
        else:
            made.append(Token(kind, piece, line, _read(kind, piece)))
            line += kind == "newline"
    return made


def written(tokens: Sequence[Token | None], start: int, stop: int) -> str:
    """What a range of tokens reads, without the blanks around it."""
    return "".join(token.text for token in tokens[start:stop] if token).strip()


# Arithmetic -----------------------------------------------------------------------------------------------------------

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2}


def evaluated(tokens: Sequence[Token], start: int, stop: int) -> Fraction | None:
    """The value of the arithmetic in a range of tokens, units left out; None if it has none.

    Numbers and brackets without an operator between them are multiplied: `2(3+4)`, `(1/2) 18`. A number in a word
    behind another number belongs to its unit: `37 kg in the first four months`.
    """
    pieces: list[Fraction | str] = []
    for token in tokens[start:stop]:
        before = pieces[-1] if pieces else None
        if token.value is not None:
            if token.kind == "cardinal" and isinstance(before, Fraction):
                continue
            pieces += ["*", token.value] if before == ")" else [token.value]
        elif token.text == "(":
            pieces += ["*", "("] if before == ")" or isinstance(before, Fraction) else ["("]
        elif token.kind == "op" or token.text == ")":
            pieces.append(token.text)
        elif token.text == "%" and pieces and isinstance(pieces[-1], Fraction):
            pieces[-1] /= 100
        elif token.kind == "number":
            return None
    place = 0

    def operand() -> Fraction | None:
        nonlocal place
        if place == len(pieces):
            return None
        piece = pieces[place]
        place += 1
        if isinstance(piece, Fraction):
            return piece
        if piece in ("-", "+"):
            value = operand()
            return value if value is None or piece == "+" else -value
        if piece != "(":
            return None
        value = expression(1)
        if place == len(pieces) or pieces[place] != ")":
            return None
        place += 1
        return value

    def expression(least: int) -> Fraction | None:
        nonlocal place
        left = operand()
        while left is not None and place < len(pieces):
            operator = pieces[place]
            if not isinstance(operator, str) or _PRECEDENCE.get(operator, 0) < least:
                break
            place += 1
            right = expression(_PRECEDENCE[operator] + 1)
            if right is None or (operator == "/" and not right):
                return None
            left = {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[operator](right)
        return left

    value = expression(1)
    return value if place == len(pieces) else None


# Equations ------------------------------------------------------------------------------------------------------------


class Equation(NamedTuple):
    """Where an equation lies among the tokens; ends are exclusive.

    Attributes:
        line: From 1.
        first: Of its left side.
        stop: Of its left side.
        result: The number on its right side.
        visible: The number behind an annotation.
        chain: The arithmetic in front of an annotation.
        is_annotated: Whether it stands between << and >>.
        has_units: Whether words stand in its arithmetic.
        has_percent: Whether a percent sign does.
        is_exact: Whether it is true.
    """

    line: int
    first: int
    stop: int
    result: int
    visible: int | None
    chain: tuple[int, int] | None
    is_annotated: bool
    has_units: bool
    has_percent: bool
    is_exact: bool


_MOST_UNIT_WORDS = 10  # "3 crates of the large red apples * 8"


class _Chain(NamedTuple):
    """A range of arithmetic, and whether units stand in it."""

    first: int
    stop: int
    has_units: bool


def _chains(tokens: Sequence[Token], end: int) -> list[_Chain]:
    """Every arithmetic with an operator that ends before `end`, the longest first."""
    first, depth, num_ops, num_words, has_units = end, 0, 0, 0, False
    wants_number = True
    place = end - 1
    chains: list[_Chain] = []
    while place >= 0:
        token = tokens[place]
        if token.kind in ("space", "currency"):
            place -= 1
            continue
        if token.kind in ("number", "cardinal") and (wants_number or tokens[place + 1].text == "("):
            num_ops += not wants_number  # 86(2): a product
            wants_number, num_words, first = False, 0, place
        elif token.kind == "op" and not wants_number:
            wants_number, num_ops = True, num_ops + 1
        elif token.text == ")" and (wants_number or tokens[first].text == "(" or tokens[first].kind == "number"):
            num_ops += not wants_number  # (1/2) 18: a product
            wants_number, depth = True, depth + 1
        elif token.text == "(" and not wants_number and depth:
            depth, first = depth - 1, place
        elif token.text == "%" and wants_number:
            pass
        elif (token.kind == "word" or token.text in "/-'’.") and num_words < _MOST_UNIT_WORDS:
            if not wants_number:
                if tokens[first].kind != "cardinal":
                    break
                wants_number = True  # "pounds in the first four months": the four belongs to the unit
            num_words += token.kind == "word"
            has_units = True
        else:
            break
        if not wants_number and not depth and num_ops:
            chains.insert(0, _Chain(first, end, has_units))
        place -= 1
    return chains


def _gives(tokens: Sequence[Token], chain: _Chain, result: Fraction | None, has_percent: bool) -> bool:
    value = evaluated(tokens, chain.first, chain.stop)
    return value is not None and result is not None and agree(value, result, has_percent)


def _chain(tokens: Sequence[Token], end: int, result: Fraction | None, has_percent: bool = False) -> _Chain | None:
    """The longest arithmetic before `end` that gives the result, or the longest of all; None without an operator."""
    chains = _chains(tokens, end)
    exact = (
        chain
        for chain in chains
        if _gives(tokens, chain, result, has_percent or _has_percent(tokens, chain.first, chain.stop))
    )
    return next(exact, chains[0] if chains else None)


def _has_percent(tokens: Sequence[Token], start: int, stop: int) -> bool:
    return any(token.text == "%" for token in tokens[start:stop])


def is_equals(token: Token) -> bool:
    """Whether a token is an equals sign, or says it in a word."""
    return token.text == "=" or (token.kind == "word" and token.text.lower() in ("equals", "equal"))


def _plain_result(tokens: Sequence[Token], equals: int) -> tuple[int, bool] | None:
    """The number that an equals sign leads to, and whether arithmetic goes on behind it."""
    place = equals + 1
    while place < len(tokens) and tokens[place].kind in ("space", "currency"):
        place += 1
    if place == len(tokens) or tokens[place].kind != "number":
        return None
    result = place
    place += 1
    while place < len(tokens) and (tokens[place].kind in ("space", "word") or tokens[place].text == "%"):
        place += 1
    return result, place < len(tokens) and (tokens[place].kind == "op" or tokens[result + 1].text == "(")


def found(tokens: Sequence[Token]) -> list[Equation]:
    """Every annotation and every equation of plain arithmetic, in the order of their results."""
    equations: list[Equation] = []
    open_place: int | None = None
    for place, token in enumerate(tokens):
        if token.kind == "open":
            open_place = place
        elif token.kind == "close" and open_place is not None:
            if (equation := _annotation(tokens, open_place, place)) is not None:
                equations.append(equation)
            open_place = None
        elif is_equals(token) and open_place is None and (equation := _plain(tokens, place)) is not None:
            equations.append(equation)
    return equations


def _plain(tokens: Sequence[Token], equals: int) -> Equation | None:
    stated = _plain_result(tokens, equals)
    if stated is None:
        return None
    result, goes_on = stated
    right = tokens[result].value
    chain = _chain(tokens, equals, right, _has_percent(tokens, result, result + 3))
    if chain is None:
        return None
    has_percent = _has_percent(tokens, chain.first, result + 3)
    is_exact = _gives(tokens, chain, right, has_percent)
    if goes_on and not is_exact:  # 5 * 6 * 7 = 30 * 7
        return None
    return Equation(
        line=tokens[equals].line,
        first=chain.first,
        stop=chain.stop,
        result=result,
        visible=None,
        chain=None,
        is_annotated=False,
        has_units=chain.has_units,
        has_percent=has_percent,
        is_exact=is_exact,
    )


def _annotation(tokens: Sequence[Token], start: int, stop: int) -> Equation | None:
    equals = max((i for i in range(start, stop) if tokens[i].text == "="), default=None)
    if equals is None or equals + 2 != stop or tokens[equals + 1].kind != "number":
        return None
    value = evaluated(tokens, start + 1, equals)
    visible = stop + 1
    while visible < len(tokens) and tokens[visible].kind == "currency":
        visible += 1
    has_visible = visible < len(tokens) and tokens[visible].kind == "number"
    before = start
    while before and (tokens[before - 1].kind in ("space", "currency") or is_equals(tokens[before - 1])):
        before -= 1
    chain = _chain(tokens, before, value)
    return Equation(
        line=tokens[start].line,
        first=start + 1,
        stop=equals,
        result=equals + 1,
        visible=visible if has_visible else None,
        chain=chain[:2] if chain else None,
        is_annotated=True,
        has_units=False,
        has_percent=False,
        is_exact=value is not None and value == tokens[equals + 1].value,
    )


def identities(tokens: Sequence[Token]) -> list[tuple[_Chain, _Chain]]:
    """Arithmetic that is said to be other arithmetic, and is: the two sides of `5 * 6 * 7 = 30 * 7`."""
    signs = [place for place, token in enumerate(tokens) if is_equals(token)]
    found: list[tuple[_Chain, _Chain]] = []
    for equals, following in pairwise(signs):
        for right in _chains(tokens, following):
            if right.first > equals and all(t.kind in ("space", "currency") for t in tokens[equals + 1 : right.first]):
                value = evaluated(tokens, right.first, right.stop)
                left = _chain(tokens, equals, value)
                if left and value is not None and evaluated(tokens, left.first, left.stop) == value:
                    found.append((left, right))
    return found


def agree(left: Fraction, right: Fraction, has_percent: bool) -> bool:
    """Whether two sides are equal, where there is a percent sign also as a percentage and the share that it is."""
    return left == right or (has_percent and right in (100 * left, left / 100))
