"""Wrong solutions made from right ones: one error in one step, carried through every later step to a wrong answer.

All else of the solution stays as it is, so that nothing but the error distinguishes the two. A solution that cannot be
altered without a contradiction is refused, with a reason. The check of pairs shares nothing with this code but
arithmetic.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from itertools import combinations
from typing import Literal, NamedTuple, get_args

from experiments.data import gsm8k
from experiments.pairs import arithmetic, solutions
from experiments.pairs.solutions import QUESTION, Formula, Mention, Number, Origin, Solution, Step

__all__ = ["KINDS", "REASONS", "Corruption", "Kind", "Reason", "Refusal", "corrupt"]

Kind = Literal["result-slip", "wrong-operator", "wrong-operand", "swapped-quantity", "dropped-step"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The errors.

A result slip is right arithmetic with a wrong result. A wrong operator, or a wrong operand, which is another number of
the problem, is a wrong formula with the result that it has. A swapped quantity is two numbers of one formula that have
changed places. A dropped step is missing, and one of its own numbers is used where its result belongs.
"""

Reason = Literal[
    "no-steps",
    "one-step",
    "unread-annotation",
    "answer-not-a-step",
    "no-such-error",
    "answer-unmoved",
    "ambiguous-number",
    "unexplained-number",
    "implausible-number",
    "inconsistent-original",
    "broken-equation",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""The reasons of refusals. Where errors failed for different reasons it is the commonest, and the first of equals."""


@dataclass(frozen=True)
class Corruption:
    """A right and a wrong solution of one problem.

    Attributes:
        id: The problem's.
        question: The problem's.
        preferred: The right solution.
        dispreferred: The wrong solution; its last line is `#### wrong`.
        gold: The right answer.
        wrong: The wrong answer, without thousands separators.
        kind: The error.
        step: The altered step, from 1.
        num_steps: How many steps the right solution has.
        old: The value of the altered step.
        new: The value that takes its place; of a dropped step, the number that is used instead.
    """

    id: str
    question: str
    preferred: str
    dispreferred: str
    gold: str
    wrong: str
    kind: Kind
    step: int
    num_steps: int
    old: str
    new: str

    def record(self) -> dict[str, str | int]:
        """The attributes as one JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Refusal:
    """A problem without a wrong solution, and the reason."""

    id: str
    reason: Reason


class _Error(NamedTuple):
    """An error in one step: its new value, and the changes in its formulas."""

    value: Fraction
    operands: Mapping[int, Fraction] = {}
    operator: tuple[int, str] | None = None


class _RefusedError(Exception):
    """The reason why an error cannot be carried to the answer."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def corrupt(
    problem: gsm8k.Problem, *, seed: int, kinds: Sequence[Kind] = KINDS, last_step: bool = False
) -> Corruption | Refusal:
    """A wrong solution made from the right one, the same for the same problem, seed and options.

    Kinds are tried in random order, each at all steps in random order, until one can be carried to the answer.

    Args:
        problem: The problem.
        seed: Chooses the error, together with the problem's id.
        kinds: The errors to choose from.
        last_step: Whether the last step may be altered as well: then nothing is carried but the answer.

    Raises:
        ValueError: If `kinds` is empty or names a kind that there is not.
    """
    if not kinds or set(kinds) - set(KINDS):
        raise ValueError(f"kinds must be some of {', '.join(KINDS)}; got {', '.join(kinds) or 'none'}.")
    solution = solutions.read(problem)
    last = solution.answer_step
    if not solution.steps:
        return Refusal(problem.id, "no-steps")
    if len(solution.steps) == 1 and not last_step:
        return Refusal(problem.id, "one-step")
    if not solution.is_readable:
        return Refusal(problem.id, "unread-annotation")
    if last is None:
        return Refusal(problem.id, "answer-not-a-step")
    # The problem's id is hashed because Python's own hash of a text differs from run to run.
    chance = random.Random(blake2b(f"{seed}:{problem.id}".encode(), digest_size=8).digest())
    reasons: Counter[Reason] = Counter()
    for kind in chance.sample(list(kinds), len(kinds)):
        places = range(last + last_step)
        for place in chance.sample(places, len(places)):
            for error in _errors(solution, place, kind, chance):
                try:
                    text, wrong = _propagate(problem, solution, place, kind, error)
                except _RefusedError as refused:
                    reasons[refused.reason] += 1
                    continue
                return Corruption(
                    id=problem.id,
                    question=problem.question,
                    preferred=problem.solution,
                    dispreferred=text,
                    gold=problem.gold,
                    wrong=wrong,
                    kind=kind,
                    step=place + 1,
                    num_steps=len(solution.steps),
                    old=_decimal(solution.steps[place].value),
                    new=_decimal(error.value),
                )
    return Refusal(problem.id, max(REASONS, key=lambda reason: reasons[reason]) if reasons else "no-such-error")


def _errors(solution: Solution, place: int, kind: Kind, chance: random.Random) -> Iterator[_Error]:
    """The errors of one kind at one step, the likelier first."""
    step = solution.steps[place]
    if not step.is_exact or len(step.results) > 1 + step.is_annotated or step.line in solution.inconsistent:
        return
    if kind == "result-slip":
        groups = _slips(step)
    elif step.is_written_out:  # else the text would not say what the annotation says
        groups = _ERRORS_OF_FORMULA[kind](solution, place)
    else:
        return
    for group in groups:
        yield from chance.sample(group, len(group))


def _wrong_operators(solution: Solution, place: int) -> Iterator[list[_Error]]:
    """Each operator replaced by one that is taken for it, and then by one that is less likely to be."""
    step = solution.steps[place]
    formula = step.formulas[0]
    places = [i for i, symbol in enumerate(formula.symbols) if symbol in "+-*/"]
    if any(start == end for written in step.formulas for start, end in written.operators):
        return
    for instead in ({"+": "-", "-": "+", "*": "+/", "/": "*"}, {"+": "*", "/": "-"}):
        errors: list[_Error] = []
        for number, i in enumerate(places):
            if i in formula.fraction_bars or not i or formula.symbols[i - 1] == "(":
                continue
            for other in instead.get(formula.symbols[i], ""):
                value = arithmetic.evaluate((*formula.symbols[:i], other, *formula.symbols[i + 1 :]), formula.values)
                errors += [_Error(value, operator=(number, other))] if value is not None else []
        yield errors


def _wrong_operands(solution: Solution, place: int) -> Iterator[list[_Error]]:
    """Each number that is not part of a fraction replaced by another one of the question or of an earlier step."""
    step = solution.steps[place]
    formula = step.formulas[0]
    stated = _numbers_beside(solution, step)
    pool = sorted(solution.numerals.union(other.value for other in solution.steps[:place]).difference(formula.values))
    changes = [
        {i: other}
        for i, value in enumerate(formula.values)
        for other in pool
        if step.origins[i]
        and i not in formula.fractions
        and value not in stated  # "12 mph faster is 60+18" says at once what is wrong
        and value <= _MOST_TIMES_AN_OPERAND * other <= _MOST_TIMES_AN_OPERAND**2 * value
    ]
    yield _with_operands(formula, changes)


def _numbers_beside(solution: Solution, step: Step) -> frozenset[Fraction]:
    """The numbers on a step's line outside its arithmetic, in digits or implied by words."""
    own = {number.start for formula in step.formulas for number in formula.numbers}
    said = {
        mention.number.value
        for mention in solution.mentions
        if mention.line == step.line and mention.number.start not in own
    }
    return solutions.implied(solution.text[slice(*solution.lines[step.line])]) | said


def _swaps(solution: Solution, place: int) -> Iterator[list[_Error]]:
    """Each two numbers that are not part of a fraction in each other's place."""
    formula = solution.steps[place].formulas[0]
    free = [(i, value) for i, value in enumerate(formula.values) if i not in formula.fractions]
    yield _with_operands(formula, [{i: b, j: a} for (i, a), (j, b) in combinations(free, 2) if a != b])


def _with_operands(formula: Formula, changes: Iterable[Mapping[int, Fraction]]) -> list[_Error]:
    errors: list[_Error] = []
    for change in changes:
        value = arithmetic.evaluate(formula.symbols, [change.get(i, old) for i, old in enumerate(formula.values)])
        errors += [_Error(value, change)] if value is not None else []
    return errors


def _stand_ins(solution: Solution, place: int) -> Iterator[list[_Error]]:
    """The numbers of a step that may be used where its result belongs: earlier results, else the question's."""
    step = solution.steps[place]
    formula = step.formulas[0]
    if sum(other.line == step.line for other in solution.steps) == 1:
        free = [i for i in range(len(formula.values)) if i not in formula.fractions]
        results = [i for i in free if any(origin.step != QUESTION for origin in step.origins[i])]
        numbers = results or [i for i in free if formula.values[i] in solution.numerals]
        yield [_Error(formula.values[i]) for i in numbers]


_ERRORS_OF_FORMULA: Mapping[Kind, Callable[[Solution, int], Iterator[list[_Error]]]] = {
    "wrong-operator": _wrong_operators,
    "wrong-operand": _wrong_operands,
    "swapped-quantity": _swaps,
    "dropped-step": _stand_ins,
}


def _slips(step: Step) -> Iterator[list[_Error]]:
    """Wrong results that a person might arrive at, in groups, the likelier first."""
    written = step.results[-1].text.replace(",", "")
    digits = written.partition(".")[2].rstrip("0")
    place = Fraction(1, 10 ** len(digits))
    whole = step.value / place
    text = str(whole)
    if whole.denominator != 1 or whole < 1:
        return
    near = {whole + size * sign for size in (1, 10, 100) if whole > 2 * size for sign in (1, -1)}
    near |= {
        Fraction(text[:i] + text[i + 1] + text[i] + text[i + 2 :]) for i in range(len(text) - 1) if text[i + 1] > "0"
    }
    if "*" in step.formulas[0].symbols:  # a neighbour in the times table
        near |= {whole + n.value / place * s for n in step.formulas[0].numbers for s in (1, -1) if n.value < step.value}
    misread = range(len(text)) if len(text) > 1 else ()
    far = {Fraction(text[:i] + d + text[i + 1 :]) for i in misread for d in "123456789"}
    far |= {whole + n for n in range(-12, 13) if abs(n) <= max(whole / 2, 1)}
    moved = {whole * 10, whole / 10}
    done = {whole}
    for group in (near, far, moved):
        yield [_Error(value * place) for value in sorted(group - done) if value > 0 and value.denominator == 1]
        done |= group


def _propagate(problem: gsm8k.Problem, solution: Solution, place: int, kind: Kind, error: _Error) -> tuple[str, str]:
    """The wrong solution and its answer.

    Raises:
        _RefusedError: If it would contradict itself, give the right answer, or hold a number that nobody would write.
    """
    steps = solution.steps
    step, last = steps[place], solution.answer_step
    if error.value == step.value:
        raise _RefusedError("answer-unmoved")
    _require_plausible(step, error.value)
    new = [other.value for other in steps]
    new[place] = error.value
    for later in range(place + 1, len(steps)):
        new[later] = _value_after(steps[later], new)
    assert last is not None
    if new[last] == steps[last].value:
        raise _RefusedError("answer-unmoved")
    start, end = solution.lines[step.line] if kind == "dropped-step" else (0, -1)
    edits = [(start, end + 1, "")]
    for mention in solution.mentions:
        number = mention.number
        if start <= number.start < end:
            continue
        value = _new_value(number, mention.origins, new)
        if value == number.value:
            _require_explained(solution, mention, new)
        elif mention.line in solution.inconsistent:
            raise _RefusedError("inconsistent-original")
        else:
            edits.append(_edit(solution, number, value))
    for formula in step.formulas:
        edits += [_edit(solution, formula.numbers[i], value) for i, value in error.operands.items()]
        if error.operator is not None:
            i, symbol = error.operator
            is_annotation = formula is step.formulas[0] and step.is_annotated
            written = symbol if is_annotation else _operator_like(solution, formula.operators[i], symbol)
            edits.append((*formula.operators[i], written))
    edits.append(_edit(solution, solution.answer, new[last]))
    text = _apply(solution.text, edits)
    _require_consistent(problem, solution, text, place, kind, new)
    return text, gsm8k.final_answer(text)


def _new_value(number: Number, origins: Iterable[Origin], new: Sequence[Fraction]) -> Fraction:
    """The value of a number after steps have new values; its own where it comes out of nowhere."""
    options = {number.value if origin.step == QUESTION else new[origin.step] * origin.scale for origin in origins}
    if len(options) > 1:
        raise _RefusedError("ambiguous-number")
    return options.pop() if options else number.value


def _value_after(step: Step, new: Sequence[Fraction]) -> Fraction:
    """The value of a later step."""
    numbers = zip(step.formulas[0].numbers, step.origins, strict=True)
    values = [_new_value(number, origins, new) for number, origins in numbers]
    if values == step.formulas[0].values:
        return step.value
    value = arithmetic.evaluate(step.formulas[0].symbols, values)
    if value is None or not step.is_exact:
        raise _RefusedError("implausible-number")
    if value != step.value:
        _require_plausible(step, value)
    return value


_MOST_TIMES_AN_OPERAND = 10  # 2 years are not taken for 400 books
_MOST_TIMES = 20  # a result that is twenty times too large is seen at a glance


def _require_plausible(step: Step, value: Fraction) -> None:
    old = step.value
    if (
        min(old, value) <= 0
        or not old <= _MOST_TIMES * value <= _MOST_TIMES**2 * old
        or (old.denominator == 1 and value.denominator != 1)  # no half people
        or (old < 1) != (value < 1)  # nor shares above one
    ):
        raise _RefusedError("implausible-number")


def _require_explained(solution: Solution, mention: Mention, new: Sequence[Fraction]) -> None:
    """Refuses an error where a changed result may have gone into a number that stays.

    A number worked out in the head would have to change as well, and the text does not say how.
    """
    value = mention.number.value
    num_before = sum(step.results[-1].start < mention.number.start for step in solution.steps)
    before, behind = solution.steps[:num_before], solution.steps[num_before:]
    old = [step.value for step, value in zip(before, new, strict=False) if step.value != value]
    if not mention.origins and value not in solution.question_values:
        known = {step.value for step in before} | solution.known | _CONSTANTS
        if any(value in (a * b, a + b, abs(a - b)) or value * b == a for a in old for b in known):
            raise _RefusedError("unexplained-number")
    is_last = all(step.line != mention.line for step in behind)
    if mention.origins and is_last and any(a == value * b for a in old for b in _PER_UNIT):
        raise _RefusedError("unexplained-number")  # "1000 grams are 1 kilogram"


_PER_UNIT = frozenset(Fraction(value) for value in (7, 12, 16, 24, 60, 100, 1000))
_CONSTANTS = frozenset(Fraction(value) for value in (3, 4, 5, 7, 10, 12, 24, 30, 52, 60, 100, 365, 1000))


def _edit(solution: Solution, number: Number, value: Fraction) -> tuple[int, int, str]:
    return number.start, number.end, _in_style(solution, number, value)


def _in_style(solution: Solution, number: Number, value: Fraction) -> str:
    """A value written as another number is at its place: words, decimals, thousands separators."""
    if number.text[0].isalpha():
        word = next((word for word, known in arithmetic.CARDINALS.items() if known == value), _decimal(value))
        return word.capitalize() if number.text[0].isupper() else word
    before, after = solution.text[: number.start], solution.text[number.end : number.end + 8]
    if value > 100 >= number.value and (after[:1] == "%" or after == " percent"):
        raise _RefusedError("implausible-number")
    is_annotation = before.rfind("<<") > before.rfind(">>")
    is_money = re.search(r"\$(<<[^<>]*>>)?$", before) is not None
    if (value == 1) != (number.value == 1) and not is_annotation and not is_money and re.match(r"\s*[^\W\dxX_]", after):
        raise _RefusedError("implausible-number")  # "1 hours"
    decimals = number.text.partition(".")[2]
    is_padded = decimals.endswith("0") or (len(decimals) == len("00") and is_money)
    text = _decimal(value)
    whole, _, new_decimals = text.partition(".")
    if len(new_decimals) > max(len("00"), len(decimals)) or Fraction(text) != value:
        raise _RefusedError("implausible-number")
    if is_padded:
        new_decimals = new_decimals.ljust(len(decimals), "0")
    may_have = number.value < 1000 and number != solution.answer and not is_annotation
    if "," in number.text or (may_have and solution.has_separators):
        whole = f"{int(whole):,}"
    elif number.text.startswith("."):
        whole = whole.removeprefix("0")
    return f"{whole}.{new_decimals}" if new_decimals else whole


def _decimal(value: Fraction) -> str:
    """A value in as many decimals as it has; cut off where they do not end."""
    return f"{(Decimal(value.numerator) / value.denominator).normalize():f}"


def _operator_like(solution: Solution, place: tuple[int, int], symbol: str) -> str:
    """An operator as the solution writes it: in words where the old one, at the place, is a word."""
    if len(solution.text[slice(*place)]) > 1:
        return {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[symbol]
    if symbol == "*":
        return next((sign for sign in ("x", "×") if f" {sign} " in solution.text), "*")
    return symbol


def _apply(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    parts, done = [], 0
    for start, end, new in sorted(edits):
        parts += [text[done:start], new]
        done = end
    return "".join(parts) + text[done:]


def _require_consistent(
    problem: gsm8k.Problem, solution: Solution, text: str, place: int, kind: Kind, new: Sequence[Fraction]
) -> None:
    """Refuses a wrong solution that, read again, has other steps than intended, or a further false equation."""
    if abs(len(text) - len(solution.text)) > max(len(solution.text) / 4, 20):
        raise _RefusedError("implausible-number")
    again = solutions.read(replace(problem, solution=text, gold=gsm8k.final_answer(text)))
    step = solution.steps[place]
    gone = {
        "result-slip": [number.start for number in step.results],
        "dropped-step": range(*solution.lines[step.line]),
    }.get(kind, ())
    num_kept = sum(right.start not in gone for _, right in solution.relations)
    expected = [(new[i], step.is_exact) for i, step in enumerate(solution.steps)]
    if kind == "result-slip" and step.is_annotated:
        expected[place] = (new[place], False)
    elif kind in ("result-slip", "dropped-step"):  # in plain text an equation that does not hold is no step
        del expected[place]
    steps = [(step.value, step.is_exact) for step in again.steps]
    if len(again.relations) < num_kept or steps != expected:
        raise _RefusedError("broken-equation")
