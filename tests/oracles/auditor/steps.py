"""The steps of a solution and its lines: which equations may be counted as steps, and which lines are alike.

How many steps a solution has is a matter of taste where it holds equations without annotations. This module says which
counts are admissible; it must not know which step was altered, nor how.
"""

from collections.abc import Iterable, Sequence

from tests.oracles.auditor import equations
from tests.oracles.auditor.equations import Equation, Token

__all__ = ["admits", "by_line", "is_alike", "open_places", "readings"]

# Counts of steps ------------------------------------------------------------------------------------------------------


def readings(found: Sequence[Equation]) -> list[list[Equation]]:
    """The steps in every reading of "plain arithmetic", the narrowest first.

    Whether an equation with units, with percents or a false one is plain arithmetic is a matter of taste: each choice
    is accepted, the same throughout a text.
    """
    annotated = {e.line for e in found if e.is_annotated}
    return [
        [
            e
            for e in found
            if e.is_annotated
            or (
                e.line not in annotated
                and (with_units or not e.has_units)
                and (with_percents or not e.has_percent)
                and (with_false or e.is_exact)
            )
        ]
        for with_false in (False, True)
        for with_percents in (True, False)
        for with_units in (True, False)
    ]


def open_places(tokens: Sequence[Token], found: Sequence[Equation]) -> list[int]:
    """Every equals sign of plain text: what stands there may be counted as a step, or may not."""
    places: list[int] = []
    is_annotation = False
    for place, token in enumerate(tokens):
        is_annotation = token.kind == "open" or (is_annotation and token.kind != "close")
        behind = next((t.kind for t in tokens[place + 1 :] if t.kind not in ("space", "currency")), "")
        if equations.is_equals(token) and not is_annotation and behind != "open":
            places.append(place)
    return places


def admits(tokens: Sequence[Token], found: Sequence[Equation], e: Equation, step: int, num_steps: int) -> bool:
    """Whether an equation can be step `step` of `num_steps`: annotations count, plain equations may count."""
    ahead = [other.is_annotated and other.result < e.result for other in found]
    behind = [other.is_annotated and other.result > e.result for other in found]
    places = open_places(tokens, found)
    most_ahead = sum(ahead) + sum(place < e.first for place in places)
    most_behind = sum(behind) + sum(place > e.result for place in places)
    return sum(ahead) <= step - 1 <= most_ahead and sum(behind) <= num_steps - step <= most_behind


# Lines ----------------------------------------------------------------------------------------------------------------


def _mask(token: Token) -> str:
    return f"<{token.kind}>" if token.kind in ("number", "cardinal", "op") else token.text


# Words are for small numbers: "three slices" may become "27 slices", but not "4 slices".
_LARGEST_WORD = 12


def is_alike(mine: Sequence[Token], theirs: Sequence[Token]) -> bool:
    """Whether two lines are alike but for numbers and operators."""

    def agree(token: Token, other: Token) -> bool:
        is_too_large = other.value is not None and not (other.value <= _LARGEST_WORD and other.value.denominator == 1)
        return _mask(token) == _mask(other) or (token.kind == "cardinal" and other.kind == "number" and is_too_large)

    return len(mine) == len(theirs) and all(map(agree, mine, theirs))


def by_line(tokens: Iterable[Token]) -> dict[int, list[Token]]:
    """The tokens of each line, without the end of the line."""
    lines: dict[int, list[Token]] = {}
    for token in tokens:
        if token.kind != "newline":
            lines.setdefault(token.line, []).append(token)
    return lines
