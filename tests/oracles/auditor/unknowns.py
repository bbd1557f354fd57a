"""What a solution says of an unknown: its linear equations, line by line, and the number that solves each.

Beside the equations of plain arithmetic this is the other half of the auditor's reading of algebra. It must not know
what the numbers mean or which of them changed: it says only which number a line gives to its unknown.
"""

from collections.abc import Sequence
from fractions import Fraction

from tests.oracles.auditor import equations
from tests.oracles.auditor.equations import Token

__all__ = ["solutions"]

_NO_UNKNOWNS = ("a", "i")  # words of one letter


def _is_unknown(token: Token) -> bool:
    return token.kind == "word" and len(token.text) == 1 and token.text.lower() not in _NO_UNKNOWNS


def _is_algebra(token: Token) -> bool:
    is_arithmetic = token.kind in ("number", "op", "space") or token.text in ("(", ")", "-")
    return is_arithmetic or _is_unknown(token)


def _side(tokens: Sequence[Token], start: int, step: int) -> list[Token]:
    """The algebra next to an equals sign, on its left (step -1) or its right (step 1)."""
    place = start + step
    while 0 <= place < len(tokens) and _is_algebra(tokens[place]):
        place += step
    return list(tokens[start + 1 : place] if step > 0 else tokens[place + 1 : start])


def _value(side: Sequence[Token], unknown: Fraction) -> Fraction | None:
    """What a side is where the unknown is a given number."""
    filled: list[Token] = []
    for token in side:
        if _is_unknown(token):
            if filled and (filled[-1].kind == "number" or filled[-1].text == ")"):
                filled.append(token._replace(kind="op", text="*"))  # 2x
            filled.append(token._replace(kind="number", value=unknown))
        elif token.kind != "space":
            filled.append(token._replace(kind="op") if token.text == "-" else token)
    return equations.evaluated(filled, 0, len(filled))


def _solution(left: Sequence[Token], right: Sequence[Token]) -> Fraction | None:
    """The number that makes two sides equal, where they are linear in one unknown."""
    if len({token.text for token in (*left, *right) if _is_unknown(token)}) != 1:
        return None
    gaps: list[Fraction] = []
    for unknown in map(Fraction, (0, 1, 2)):
        sides = _value(left, unknown), _value(right, unknown)
        if sides[0] is None or sides[1] is None:
            return None
        gaps.append(sides[0] - sides[1])
    slope = gaps[1] - gaps[0]
    return -gaps[0] / slope if slope and gaps[2] - gaps[1] == slope else None


def solutions(tokens: Sequence[Token]) -> dict[int, Fraction]:
    """The number that each line gives to its unknown, by line, where the line is one linear equation in it."""
    solved: dict[int, Fraction] = {}
    for place, token in enumerate(tokens):
        if token.text == "=":
            solution = _solution(_side(tokens, place, -1), _side(tokens, place, 1))
            if solution is not None:
                solved[token.line] = solution
    return solved
