"""An independent reading of pairs of a right and a wrong solution: is the wrong one wrong in one step and nowhere else?

A pair is sound if one step was altered as the record says, everything that depends on the step followed, and nothing
else moved. This is decided from the two texts alone, token beside token. It must not know how wrong solutions are made:
it shares no code with the modules that make them, nor with the check that the runs use, so that their agreement means
something.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from tests.oracles.auditor import equations, quantities, steps, unknowns
from tests.oracles.auditor.equations import Equation, Token

__all__ = ["KINDS", "Finding", "FindingId", "Kind", "findings", "notes"]

Kind = Literal["result-slip", "wrong-operator", "wrong-operand", "swapped-quantity", "dropped-step"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_OPERAND_KINDS = ("wrong-operand", "swapped-quantity")

FindingId = Literal[
    "record",  # a key is missing, of the wrong type, or of no known kind
    "last-line",  # a solution does not end in `#### N`, or its field says another number
    "same-answer",  # the wrong answer is the right one
    "line-count",  # lines were added or lost
    "length",  # the wrong text is much longer or shorter
    "words",  # something besides numbers and operators differs
    "operator",  # an operator differs where none may, or does not where one must
    "number-format",  # thousands separated differently, or an unchanged number rewritten
    "step-count",  # num_steps is not the number of steps
    "altered-step",  # the named step is not altered, or not in the way of its kind
    "step-value",  # old or new is not the value of the named step
    "slip",  # a slipped result that is right
    "arithmetic",  # an equation that is false and was not
    "propagation",  # an operand is not the new value of the step it came from
    "unrelated-change",  # a number changed that depends on nothing changed
    "new-number",  # a number from nowhere
    "stand-in",  # what replaces a dropped step is none of its quantities
    "visible-arithmetic",  # the arithmetic before an annotation is another one
    "visible-result",  # the number behind an annotation is another one
    "left-over-value",  # the text still says an old value
    "number-word",  # a word still says an old value
    "unit-restatement",  # the same quantity in two units no longer agrees
    "final-answer",  # the answer is not the value of the step that gave it
    "sign",  # a value became zero or negative
    "decimals",  # more than two decimals where the original has no more than that
    "fraction",  # a whole number became a fraction
    "inconsistent-original",  # something changed on a line whose equation the right text itself contradicts
    "original-arithmetic",  # a note: the original itself is inexact here
]


@dataclass(frozen=True)
class Finding:
    """Something wrong with a pair.

    Attributes:
        id: What is wrong, from a closed list.
        sentence: The line (from 1) and the values.
    """

    id: FindingId
    sentence: str


def findings(record: Mapping[str, object]) -> list[Finding]:
    """Everything wrong with a pair; empty where it is sound.

    Args:
        record: `id, question, preferred, dispreferred, gold, wrong, kind, step, num_steps, old, new`; text except the
            whole numbers `step` (from 1) and `num_steps`. A step is an annotation `<<expr=value>>`; equations of
            plain arithmetic may be counted as steps or may not.

    Returns:
        What was found, each once. After a broken record, or texts that cannot be laid beside each other, the
        remaining checks are not made.
    """
    found = list(dict.fromkeys(_record_findings(record)))
    if not found:
        audit = _Audit(_Pair(**{key: record[key] for key in _Pair._fields}))  # type: ignore[arg-type]
        found = list(dict.fromkeys(audit.findings()))
    return found


def notes(record: Mapping[str, object]) -> list[Finding]:
    """What is odd in the right solution itself and no fault of the pair: false equations of the data set."""
    if any(_record_findings(record)):
        return []
    tokens = equations.tokens(str(record["preferred"]))
    return [
        Finding(
            "original-arithmetic", f"line {e.line}: {equations.written(tokens, e.first, e.result + 1)} is not exact."
        )
        for e in equations.found(tokens)
        if not e.is_exact and (e.is_annotated or not e.has_units)
    ]


# The record -----------------------------------------------------------------------------------------------------------


class _Pair(NamedTuple):
    question: str
    preferred: str
    dispreferred: str
    gold: str
    wrong: str
    kind: str
    step: int
    num_steps: int
    old: str
    new: str


def _record_findings(record: Mapping[str, object]) -> Iterator[Finding]:
    for key in ("id", *_Pair._fields):
        value, kind = record.get(key), int if key in ("step", "num_steps") else str
        if type(value) is not kind or value == "":
            said = f"{key} must be {'a whole number' if kind is int else 'a text'}; got {value!r:.60}."
            yield Finding("record", said)
        elif key in ("gold", "wrong", "old", "new") and _number(str(value)) is None:
            yield Finding("record", f"{key} must be a number; got {value!r:.60}.")
    step, num_steps = record.get("step"), record.get("num_steps")
    if isinstance(step, int) and isinstance(num_steps, int) and not 1 <= step <= num_steps:
        yield Finding("record", f"step must lie in 1 ... num_steps; got {step} of {num_steps}.")
    if record.get("kind") not in KINDS:
        yield Finding("record", f"kind must be one of {', '.join(KINDS)}; got {record.get('kind')!r:.60}.")


# The two texts beside each other --------------------------------------------------------------------------------------


_LAST_LINE = re.compile(r"#### (.+)")
# What an answer and the fields of a record may be: $1,234.50, -3, .5 or 1/2.
_NUMBER = re.compile(r"([-−]?)\$?(\d{1,3}(?:,\d{3})+|\d*)(\.\d+)?(?:/(0*[1-9]\d*))?", re.ASCII)
_MOST_CHARACTERS = 100  # Python refuses to read a number of thousands of digits


def _number(text: str) -> Fraction | None:
    """The number that a whole text is, exactly; None if it is none."""
    match = _NUMBER.fullmatch(text.strip()) if len(text) <= _MOST_CHARACTERS else None
    if match is None or not (match[2] or match[3]):
        return None
    size = Fraction(f"{match[2].replace(',', '') or 0}{match[3] or ''}") / int(match[4] or 1)
    return -size if match[1] else size


def _stated(text: str) -> str | None:
    """The number N of the last line `#### N`."""
    match = _LAST_LINE.fullmatch(text.rpartition("\n")[2])
    return match.group(1) if match and _number(match.group(1)) is not None else None


def _has_decimals(value: Fraction, most: int) -> bool:
    return bool((value * 10**most).denominator - 1)


class _Audit:
    """One pair while it is read: the tokens of the right text, and beside each the token of the wrong one."""

    def __init__(self, pair: _Pair) -> None:
        self.pair = pair
        self.is_dropped = pair.kind == "dropped-step"
        self.old = equations.tokens(pair.preferred)
        self.lines = steps.by_line(self.old)
        self.equations = equations.found(self.old)
        self.theirs = steps.by_line(equations.tokens(pair.dispreferred))
        self.named = self._named()
        self.given = quantities.given(pair.question, (*quantities.ONES, *quantities.ARTICLES))
        self.words = re.findall(r"[a-z]+", pair.question.lower()) + ["percent"] * ("%" in pair.question)
        self.new: list[Token | None] = []
        # What an equation's value was and what it became, for those whose value changed.
        self.changed: list[tuple[Equation, Fraction, Fraction]] = []

    def findings(self) -> Iterator[Finding]:
        pair = self.pair
        whole = list(self._texts())
        yield from whole
        if self.named is None:
            num_steps = sum(e.is_annotated for e in self.equations)
            yield Finding("step-count", f"no step is {pair.step} of {pair.num_steps}; {num_steps} are annotated.")
            return
        aligned = list(self._alignment(self.named))
        yield from aligned
        is_readable = _stated(self.pair.preferred) is not None is not _stated(self.pair.dispreferred)
        if not is_readable or any(finding.id in ("words", "line-count") for finding in (*whole, *aligned)):
            return
        yield from self._named_step(self.named)
        self._operands = {i for e in self.equations for i in self._numbers(e.first, e.stop)}
        self._results = {i for e in self.equations for i in (e.result, e.visible) if i is not None}
        self._paired: set[int] = set()
        self._restated = {
            i
            for small, large, ratio in self._unit_pairs()
            for i in {small, large} - self._operands - self._results
            if self._is_changed(i) and self._value(small) == (self._value(large) or 0) * ratio
        }
        for equation in self.equations:
            if self.new[equation.result] is None:
                if equation == self.named:
                    self._record_change(equation, _number(self.pair.new))
                continue
            yield from self._equation(equation)
            self._record_change(equation, self._value(equation.result))
        for equation in self.equations:
            if self.new[equation.result] is not None:
                yield from self._visible(equation)
        yield from self._identities()
        yield from self._restated_results()
        yield from self._repeated_arithmetic()
        yield from self._unknowns()
        yield from self._mentions()
        yield from self._restated_units()
        yield from self._answer()
        yield from self._format()
        yield from self._originals()

    # The step ---------------------------------------------------------------------------------------------------------

    def _named(self) -> Equation | None:
        """The step that the record means, None if its count is none of the text's.

        Which plain equations count as steps is open. So the step is the first whose own arithmetic changed from the
        old value to the new one, where its number can be `step`; only where no count agrees is the number left out of
        account. Where nothing changed so, the number alone says which step was meant: the checks then find its fault.
        """
        pair = self.pair
        counted = [read for read in steps.readings(self.equations) if len(read) == pair.num_steps]
        numbered = [read[pair.step - 1] for read in counted]
        admitted = [e for e in self.equations if steps.admits(self.old, self.equations, e, pair.step, pair.num_steps)]
        places = steps.open_places(self.old, self.equations)
        old = _number(pair.old)
        ranked = [e for e in (*numbered, *admitted) if self.old[e.result].value == old]
        altered = [e for e in ranked if self._is_altered(e)]
        singled_out = [e for e in self.equations if self.old[e.result].value == old and self._is_altered(e)]
        if not altered and len(singled_out) == 1 and places:
            altered = singled_out
        return next(iter((*altered, *ranked, *numbered, *admitted)), None)

    def _is_altered(self, e: Equation) -> bool:
        """Whether an equation went from the record's old value to its new one by itself, in the way of its kind."""
        old = self.lines[e.line]
        if self.is_dropped:
            following = [self.lines.get(e.line + 1, []), self.theirs.get(e.line, [])]
            return steps.is_alike(*following)
        new = self.theirs.get(e.line, [])
        if not steps.is_alike(old, new):
            return False
        start = next(i for i, token in enumerate(self.old) if token.line == e.line and token.kind != "newline")
        beside = [(self.old[i], new[i - start]) for i in range(e.first, e.result + 1)]
        arithmetic = beside[: e.stop - e.first]
        is_operator = any(a != b for a, b in arithmetic if a.kind == "op")
        is_operand = any(a.value != b.value for a, b in arithmetic)
        return (
            beside[-1][1].value == _number(self.pair.new)
            and is_operator == (self.pair.kind == "wrong-operator")
            and is_operand == (self.pair.kind in _OPERAND_KINDS)
        )

    # Whole texts ------------------------------------------------------------------------------------------------------

    def _texts(self) -> Iterator[Finding]:
        pair = self.pair
        for field, name in (("preferred", "gold"), ("dispreferred", "wrong")):
            stated, said = _stated(getattr(pair, field)), getattr(pair, name)
            if stated is None:
                yield Finding("last-line", f"the last line of {field} is not '#### N' with a number N.")
            elif _number(stated) != _number(said):
                yield Finding("last-line", f"the last line of {field} says {stated}; {name} says {said}.")
        if _number(pair.gold) in (_number(pair.wrong), _number(_stated(pair.dispreferred) or "")):
            yield Finding("same-answer", f"wrong is {pair.wrong}, which is the right answer {pair.gold}.")
        before, after = pair.preferred.count("\n") + 1, pair.dispreferred.count("\n") + 1
        if after != before - self.is_dropped:
            yield Finding("line-count", f"{before} lines became {after}.")
        length = len(pair.preferred)
        if self.is_dropped and self.named:
            length -= len(pair.preferred.split("\n")[self.named.line - 1]) + 1
        if abs(len(pair.dispreferred) - length) > max(20, length / 4):
            yield Finding("length", f"{length} characters became {len(pair.dispreferred)}.")

    def _alignment(self, named: Equation) -> Iterator[Finding]:
        """Lays the wrong text beside the right one, and names the lines where that fails."""
        self.new = [None] * len(self.old)
        place = 0
        for line in range(1, self.old[-1].line + 1):
            mine = self.lines.get(line, [])
            if self.is_dropped and line == named.line:
                place += len(mine) + 1
                if sum(e.line == line for e in self.equations if e.is_annotated or not named.is_annotated) > 1:
                    yield Finding("altered-step", f"line {line} holds more steps than the dropped one.")
                continue
            other = self.theirs.get(line - (self.is_dropped and line > named.line), [])
            if not steps.is_alike(mine, other):
                mine_text, other_text = ("".join(token.text for token in part) for part in (mine, other))
                yield Finding("words", f"line {line} reads {mine_text!r:.80} and became {other_text!r:.80}.")
            else:
                self.new[place : place + len(mine)] = [token._replace(line=line) for token in other]
            place += len(mine) + 1

    def _format(self) -> Iterator[Finding]:
        """What may not become of a number, wherever it stands."""
        # An operand may be taken for any quantity; what comes of it must still be whole where it was.
        altered = self._altered_numbers()
        most = max([2, *(len(t.text.partition(".")[2]) for t in self.old if t.kind == "number")])
        for i in self._numbers(0, len(self.old)):
            old, new = self.old[i], self.new[i]
            if new is None or new.text == old.text or old.value is None or new.value is None:
                continue
            said = f"line {old.line}: {old.text} became {new.text}"
            if new.value == old.value:
                yield Finding("number-format", f"{said}: the same number, written differently.")
            if new.value <= 0 < old.value:
                yield Finding("sign", f"{said}.")
            if len(new.text.partition(".")[2]) > most or (_has_decimals(new.value, most) and "." in new.text):
                yield Finding("decimals", f"{said}; the right solution has at most {most} decimals.")
            is_operand = self.named is not None and old.line == self.named.line and (old.text, new.text) in altered
            if old.value.denominator == 1 != new.value.denominator and not is_operand:
                yield Finding("fraction", f"{said}, which is no whole number.")
            if old.kind == "number" and old.value >= 1000 <= new.value and ("," in old.text) != ("," in new.text):
                yield Finding("number-format", f"{said}: thousands are written differently.")

    def _operation(self, i: int) -> tuple[str, str, Fraction | None]:
        """The operator that stood and the one that stands in a place, and the number that it works with."""
        new = self.new[i] or self.old[i]
        return self.old[i].text, new.text, next((t.value for t in self.old[i + 1 :] if t.value is not None), None)

    def _altered_numbers(self) -> set[tuple[str, str]]:
        """What stood and what stands in the arithmetic of the altered step, where a number differs."""
        span = range(self.named.first, self.named.stop) if self.named else range(0)
        pairs = ((self.old[i], self.new[i]) for i in span if self.old[i].kind == "number")
        return {(old.text, new.text) for old, new in pairs if new is not None and new.text != old.text}

    # Numbers ----------------------------------------------------------------------------------------------------------

    def _numbers(self, start: int, stop: int) -> list[int]:
        return [i for i in range(start, stop) if self.old[i].value is not None]

    def _value(self, i: int) -> Fraction | None:
        token = self.new[i]
        return None if token is None else token.value

    def _written(self, i: int) -> str:
        """What stands in the place of a number now."""
        return equations.written(self.new, i, i + 1)

    def _is_changed(self, i: int) -> bool:
        return self.new[i] is not None and self._value(i) != self.old[i].value

    def _record_change(self, equation: Equation, new: Fraction | None) -> None:
        old = self.old[equation.result].value
        if old is not None and new is not None and old != new:
            self.changed.append((equation, old, new))

    def _became(self, value: Fraction | None) -> set[Fraction]:
        """What a value became where an equation had it; a percentage and the share that it is count as one."""
        if value is None:
            return set()
        exact = {new for _, old, new in self.changed if old == value}
        exact |= {new for i in self._restated if self.old[i].value == value and (new := self._value(i)) is not None}
        shares = {
            new * scale for scale in (Fraction(100), Fraction(1, 100)) for _, old, new in self.changed
            if old * scale == value
        }  # fmt: skip
        return exact | shares

    def _must_follow(self, i: int) -> bool:
        """Whether a number can only have come from an equation whose value changed."""
        value, line = self.old[i].value, self.old[i].line
        sources = [e for e, old, _ in self.changed if old == value and (e.result < i or e.line == line)]
        if not sources or value in self.given or self._is_label(i):
            return False
        first = min(e.line for e in sources)
        is_changed = {e.result for e, _, _ in self.changed}
        others = (e for e in self.equations if self.old[e.result].value == value and e.result not in is_changed)
        if any(e.result < i or (e.line == line and e.result != i) for e in others):
            return False
        # Without a digit a unit gives an operand its value, or a number that stands right before the unit.
        words = [token.text for token in self.old if token.kind == "word" and token.line == line] + self.words
        if value in quantities.implied(words if i in self._operands else [self._word_behind(i)]):
            return False
        return not any(
            self.old[j].value == value and self.old[j].line < first and j not in self._results
            for j in self._numbers(0, i)
        )

    def _is_label(self, i: int) -> bool:
        """Whether a number counts or names rather than measures: "Day 2", "2.", "D3", "100%"."""
        token = self.old[i]
        before = [t.text.lower() for t in self.old[max(0, i - 3) : i] if t.kind != "space" and t.line == token.line]
        after = self.old[i + 1].text if i + 1 < len(self.old) else ""
        starts_line = not before or self.old[i - 1].kind == "newline"
        return (
            bool(before and before[-1] in quantities.LABELS)
            or (starts_line and after in (".", ")", ":"))
            or (token.value == 100 and after == "%")
            or (i > 0 and self.old[i - 1].kind == "word")
        )

    # Equations --------------------------------------------------------------------------------------------------------

    def _named_step(self, named: Equation) -> Iterator[Finding]:
        """Whether the named step was altered as its kind says, and from and to the values of the record."""
        pair, old = self.pair, self.old[named.result]
        where = f"line {named.line}, step {pair.step}"
        if old.value != _number(pair.old):
            yield Finding("step-value", f"{where} is {old.text}; old says {pair.old}.")
        if _number(pair.old) == _number(pair.new):
            yield Finding("step-value", f"{where}: new is {pair.new}, which is old.")
        numbers = self._numbers(named.first, named.stop)
        if self.is_dropped:
            known = (
                {self.old[i].value for i in self._numbers(0, named.stop)} | self.given | quantities.implied(self.words)
            )
            if _number(pair.new) not in known:
                yield Finding("stand-in", f"{where}: {pair.new} is none of the quantities known there.")
            return
        if self._value(named.result) != _number(pair.new):
            yield Finding("step-value", f"{where} became {self._written(named.result)}; new says {pair.new}.")
        is_operator = any(
            self.old[i] != self.new[i] for i in range(named.first, named.stop) if self.old[i].kind == "op"
        )
        operands = [i for i in numbers if self._is_changed(i)]
        if is_operator != (pair.kind == "wrong-operator"):
            yield Finding(
                "operator", f"{where}: the operators {'changed' if is_operator else 'are the same'}: {pair.kind}."
            )
        if bool(operands) != (pair.kind in _OPERAND_KINDS):
            yield Finding(
                "altered-step", f"{where}: the operands {'changed' if operands else 'are the same'}: {pair.kind}."
            )
        known = quantities.given(self.pair.question, quantities.ONES) | quantities.implied(self.words)
        known |= {self.old[i].value for i in self._numbers(0, named.first) if not self._is_numerator(i)}
        known |= {self.old[i].value for i in numbers}
        known |= {value / 100 for value in known if value is not None}
        for i in operands:
            if self._value(i) not in known:
                yield Finding("new-number", f"{where}: the operand {self._written(i)} comes from nowhere.")

    def _is_numerator(self, i: int) -> bool:
        """Whether a number is the 1 of 1/2, which nothing is counted by."""
        return self.old[i].value == 1 and i + 2 < len(self.old) and self.old[i + 1].text == "/"

    def _equation(self, e: Equation) -> Iterator[Finding]:
        """Whether an equation holds, and whether its operands are what they came from."""
        new: Sequence[Token] = [token or self.old[i] for i, token in enumerate(self.new)]
        text = f"line {e.line}: {equations.written(new, e.first, e.result + 1)}"
        left, right = equations.evaluated(new, e.first, e.stop), new[e.result].value
        holds = left is not None and right is not None and equations.agree(left, right, e.has_percent)
        is_same = new[e.first : e.result + 1] == self.old[e.first : e.result + 1]
        if e == self.named and self.pair.kind == "result-slip":
            if holds:
                yield Finding("slip", f"{text} is right; the result was to slip.")
        elif self._restates_named(e):
            if self.named and right != self._value(self.named.result):
                yield Finding("arithmetic", f"{text} is not what the altered step says.")
            return
        elif not holds and (e.is_exact or not (is_same or right in self._became(self.old[e.result].value))):
            yield Finding("arithmetic", f"{text} is false.")
        elif not e.is_exact and is_same and self._is_left_over(e.result):
            yield Finding("left-over-value", f"{text} still says {self.old[e.result].text}.")
        if e == self.named:
            return
        if any(self.old[i] != new[i] for i in range(e.first, e.stop) if self.old[i].kind == "op"):
            yield Finding("operator", f"{text}: the operator changed in a step that was not altered.")
        numbers = self._numbers(e.first, e.stop)
        if len(numbers) == 1 and e.chain:  # <<21=21>>: the arithmetic stands in front of it, and is compared with it
            return
        follows = not e.is_annotated and self._goes_on(e.first)
        for i in numbers:
            yield from self._operand(i, self._became(self.old[i].value), follows)
        yield from self._factors(e, numbers)

    def _restates_named(self, e: Equation) -> bool:
        """Whether an equation says in plain text what the altered step beside it says: `2 * 3 = 6 = <<2*3=6>>6`."""
        named = self.named
        is_beside = named is not None and e != named and not self.is_dropped and e.line == named.line
        is_beside = is_beside and not e.is_annotated
        return is_beside and named is not None and self.old[e.result].value == self.old[named.result].value

    def _operand(self, i: int, became: set[Fraction], follows: bool) -> Iterator[Finding]:
        old, new = self.old[i], self._value(i)
        said = f"line {old.line}: the operand {old.text} became {self._written(i)}"
        if not self._is_changed(i):
            if self._must_follow(i):
                values = ", ".join(map(str, became))
                yield Finding("propagation", f"line {old.line}: the operand {old.text} must have become {values}.")
        elif new not in became and not follows:
            yield Finding("propagation" if became else "unrelated-change", f"{said}.")

    def _goes_on(self, first: int) -> bool:
        """Whether arithmetic follows arithmetic, `5 * 6 * 7 = 30 * 7 = 210`: then its numbers are of its own making."""
        before = [token for token in self.old[max(0, first - 3) : first] if token.kind not in ("space", "currency")]
        return bool(before) and before[-1].text == "="

    def _factors(self, e: Equation, numbers: Sequence[int]) -> Iterator[Finding]:
        """Words such as "twice" or "three" on the line that still say what an operand was."""
        kept = {self._value(i) for i in numbers}
        words = [(i, t) for i, t in enumerate(self.old) if t.line == e.line and t.kind == "word"]
        for i in numbers:
            old = self.old[i]
            neighbours = {t.text for t in self.old[max(0, i - 2) : i + 3] if t.kind == "op"}
            if not self._is_changed(i) or old.value in kept or old.value is None or not neighbours & {"*", "/"}:
                continue
            for place, word in words:
                factors = () if self._is_ordinal(place) else quantities.FACTORS.get(word.text.lower(), ())
                if old.value in factors or any(old.value * factor == 1 for factor in factors):
                    new = self._written(i)
                    yield Finding("number-word", f"line {e.line} says {word.text}; the operand became {new}.")

    def _is_ordinal(self, i: int) -> bool:
        """Whether a word is "the third" rather than "one third" or "two-thirds"."""
        if self.old[i].text.lower() not in ("third", "fourth", "fifth"):
            return False
        before = [token for token in self.old[max(0, i - 2) : i] if token.kind != "space"]
        return not before or not (before[-1].text.lower() in ("-", "a", "one") or before[-1].kind == "cardinal")

    def _originals(self) -> Iterator[Finding]:
        """Whether a change had to be carried through an equation that contradicts itself in the right text."""
        for e in self.equations:
            start = next(i for i, token in enumerate(self.old) if token.line == e.line and token.kind != "newline")
            stop = start + len(self.lines[e.line])
            if self.new[start:stop] != self.old[start:stop] and self._contradicts(e, start):
                text = equations.written(self.old, start, e.result + 1)
                yield Finding("inconsistent-original", f"line {e.line} changed, whose {text} was not right before.")

    def _contradicts(self, e: Equation, start: int) -> bool:
        """Whether an equation of the right text, on a line from `start` on, is not what is written beside it."""
        old = self.old
        if not e.is_annotated:
            return not (e.is_exact or e.has_units or self._is_part(start, e.first))
        result, operands = old[e.result].value, self._numbers(e.first, e.stop)
        if e.visible is not None and result is not None:
            seen = old[e.visible].value
            if seen is not None and not equations.agree(result, seen, has_percent=True):
                return True
        if not any(token.kind == "op" for token in old[e.first : e.stop]) or result is None:
            return False
        ahead = range(start, e.first - 1)
        if e.chain is not None:
            value = None if self._is_part(start, e.chain[0]) else equations.evaluated(old, *e.chain)
            has_percent = any(token.text == "%" for token in old[slice(*e.chain)])
            if value is not None and not equations.agree(value, result, has_percent):
                return True
        elif not any(old[i].kind == "op" for i in ahead):
            return False  # "half of 18 is <<18/2=9>>9" may be said in any way
        words = [old[i].text.lower() for i in range(start, start + len(self.lines[e.line])) if old[i].kind == "word"]
        said = {value for i in ahead if (value := old[i].value) is not None} | quantities.implied(words) | {Fraction(1)}
        said |= {Fraction(factor) for word in words for factor in quantities.FACTORS.get(word, ())}
        said |= {quotient for i in ahead if (quotient := self._quotient(i)) is not None}
        said |= {value * scale for value in said for scale in (Fraction(100), Fraction(1, 100), Fraction(-1))}
        in_quotients = {j for i in operands if self._quotient(i) in said for j in (i, i + 2)}
        return any(old[i].value not in said and i not in in_quotients for i in operands)

    def _is_part(self, start: int, first: int) -> bool:
        """Whether arithmetic stands behind an operator, a number or an unknown: 1/2 (68) + 10, -15 + 20, 2x+10."""
        before = [token for token in self.old[start:first] if token.kind not in ("space", "currency")][-1:]
        is_part = any(token.value is not None or token.kind == "op" or token.text in "-(" for token in before)
        return is_part or (first > start and self.old[first - 1].kind == "word")

    def _quotient(self, i: int) -> Fraction | None:
        """The value of a number and the one behind it with nothing but a bar between them."""
        three = self.old[i : i + 3]
        if len(three) < 3 or three[1].text != "/" or three[0].value is None or not three[2].value:
            return None
        return three[0].value / three[2].value

    # Visible text -----------------------------------------------------------------------------------------------------

    def _visible(self, e: Equation) -> Iterator[Finding]:
        """Whether the text around an annotation says what the annotation says."""
        if e.visible is not None:
            old, new = self.old[e.result].value, self._value(e.result)
            seen, now_seen = self.old[e.visible].value, self._value(e.visible)
            if old is None or new is None or seen is None or now_seen is None:
                return
            is_scaled = old and seen in (old, 100 * old, old / 100)
            if now_seen != (new * seen / old if is_scaled else seen if new == old else now_seen):
                value, behind = (self._written(i) for i in (e.result, e.visible))
                yield Finding(
                    "visible-result", f"line {e.line}: the annotation says {value}; behind it stands {behind}."
                )
        if e.chain is None:
            return
        new_tokens: Sequence[Token] = [token or self.old[i] for i, token in enumerate(self.new)]
        shown = equations.written(new_tokens, *e.chain), equations.written(new_tokens, e.first, e.stop)
        said = f"line {e.line}: {shown[0]} stands before an annotation that says {shown[1]}."
        before, after = (
            [equations.evaluated(t, *span) for span in (e.chain, (e.first, e.stop))] for t in (self.old, new_tokens)
        )
        agrees = before[0] is not None and before[0] == before[1]
        ops, new_ops = (
            [[t.text for t in side[slice(*span)] if t.kind == "op"] for span in (e.chain, (e.first, e.stop))]
            for side in (self.old, new_tokens)
        )
        if (agrees and after[0] != after[1]) or (ops[0] == ops[1] and new_ops[0] != new_ops[1]):
            yield Finding("visible-arithmetic", said)
        operands = self._numbers(e.first, e.stop)
        if not ops[1] and len(operands) == 1 and agrees:  # <<21=21>>: the operands stand before it
            self._paired.update(self._numbers(*e.chain))
            if e != self.named:
                for i in self._numbers(*e.chain):
                    yield from self._operand(i, self._became(self.old[i].value), follows=self._goes_on(e.chain[0]))
            return
        for i in self._numbers(*e.chain):
            pairs = [
                (j, scale)
                for scale in (Fraction(1), Fraction(1, 100))
                for j in operands
                if self.old[j].value == (self.old[i].value or 0) * scale
            ]
            if pairs:
                self._paired.add(i)
                value = self._value(i)
                if value is None or all(self._value(j) != value * scale for j, scale in pairs):
                    yield Finding("visible-arithmetic", said)
            elif agrees and self._is_changed(i):
                self._paired.add(i)  # arithmetic done on the way, judged as a whole
        for j in operands:
            matches = [i for i in self._numbers(*e.chain) if self.old[i].value == self.old[j].value]
            if matches and all(self._value(i) != self._value(j) for i in matches):
                yield Finding("visible-arithmetic", said)

    def _identities(self) -> Iterator[Finding]:
        """Whether arithmetic that is said to be other arithmetic still is: `5 * 6 * 7 = 30 * 7`."""
        new: Sequence[Token] = [token or self.old[i] for i, token in enumerate(self.new)]
        for left, right in equations.identities(self.old):
            values = (equations.evaluated(new, *span[:2]) for span in (left, right))
            if self.new[right.first] is not None and len(set(values)) > 1:
                said = equations.written(new, left.first, right.stop)
                yield Finding("arithmetic", f"line {self.old[left.first].line}: {said} is false.")

    def _unknowns(self) -> Iterator[Finding]:
        """Whether lines that gave an unknown the same number still do: 1100 = x+2x+8x and 1100 = 11x."""
        before = unknowns.solutions(self.old)
        after = unknowns.solutions([token or self.old[i] for i, token in enumerate(self.new)])
        for line, following in pairwise(before):
            # From the altered step on the unknown is another number.
            is_altered = self.named is not None and line <= self.named.line <= following
            if not is_altered and before[line] == before[following] and after.get(line) != after.get(following):
                yield Finding("arithmetic", f"lines {line} and {following} no longer give the unknown the same number.")

    def _mentions(self) -> Iterator[Finding]:
        """Whether every other number of the text followed what it restates, and nothing else moved."""
        last = self.old[-1].line
        named = self.named if self.pair.kind in _OPERAND_KINDS else None
        altered: dict[Fraction | None, set[Fraction | None]] = {}
        kept: set[Fraction | None] = set()
        for i in self._numbers(named.first, named.stop) if named else ():
            kept.add(self._value(i))
            if self._is_changed(i):
                altered.setdefault(self.old[i].value, set()).add(self._value(i))
        for i in self._numbers(0, len(self.old)):
            token = self.old[i]
            if token.line == last or self.new[i] is None or i in self._operands | self._results | self._paired:
                continue
            if i in self._restated:
                continue
            on_line = altered.get(token.value, set()) if named and token.line == named.line else set()
            if self._is_changed(i):
                became = self._became(token.value)
                if token.value in self.given and not self._comes_from_before(i):
                    became = set()
                if self._value(i) not in became | on_line:
                    said = f"line {token.line}: {token.text} became {self._written(i)}"
                    yield Finding("new-number" if became | on_line else "unrelated-change", f"{said}.")
            elif (
                (on_line and token.value not in kept and not self._counts_persons(i))
                or self._is_left_over(i)
                or self._restates_operand(i)
            ):
                id_ = "number-word" if token.kind == "cardinal" else "left-over-value"
                yield Finding(id_, f"line {token.line} still says {token.text}.")
        if named:
            yield from self._factors(named, self._numbers(named.first, named.stop))
        judged = {i for e in self.equations for i in range(e.first, e.stop)}
        span = range(self.named.first, self.named.stop) if self.named else range(0)
        altered_ops = {self._operation(i) for i in span if self.old[i].kind == "op" and self.old[i] != self.new[i]}
        for i, token in enumerate(self.old):
            new = self.new[i]
            if token.kind != "op" or new is None or new.text == token.text or i in judged:
                continue
            if not (self.named and token.line == self.named.line and self._operation(i) in altered_ops):
                yield Finding(
                    "operator", f"line {token.line}: {token.text} became {new.text} in text that was not to change."
                )

    def _comes_from_before(self, i: int) -> bool:
        """Whether a value that changed stood in an equation up to the line of a number."""
        value, line = self.old[i].value, self.old[i].line
        scales = (Fraction(1), Fraction(100), Fraction(1, 100))
        lines = [e.line for e, old, _ in self.changed if any(old * scale == value for scale in scales)]
        return min(lines, default=line) <= line

    def _restates_operand(self, i: int) -> bool:
        """Whether a number says what an operand was behind it on its line: "35 pupils got 60, so they got 60 * 35"."""
        if self.old[i].value == 1 or self.old[i].value in self.given or self._is_label(i):
            return False
        behind = [e for e in self.equations if e.line == self.old[i].line and e.first > i]
        operands = [j for e in behind for j in self._numbers(e.first, e.stop) if self.old[j].value == self.old[i].value]
        return bool(operands) and all(map(self._is_changed, operands))

    def _restated_results(self) -> Iterator[Finding]:
        """Whether a result in front of its reason is the result: "4 are left because 9 - 5 = <<9-5=4>>4"."""
        for e, old, new in self.changed:
            start = next(i for i, token in enumerate(self.old) if token.line == e.line)
            because = [i for i in range(start, e.first) if self.old[i].text.lower() == "because"]
            said = [i for i in self._numbers(start, because[-1]) if self.old[i].value == old] if because else []
            if said and self.new[start] is not None and all(self._value(i) != new for i in said):
                yield Finding("left-over-value", f"line {e.line} says {self._written(said[0])} because of {new}.")

    def _repeated_arithmetic(self) -> Iterator[Finding]:
        """Whether arithmetic that stands on a line twice still does: "X = 11 - 6, X = <<11-6=5>>5"."""
        for e in self.equations:
            if self.new[e.result] is None:
                continue
            start = next(i for i, token in enumerate(self.old) if token.line == e.line and token.kind != "newline")
            line = [i for i in range(start, e.first) if self.old[i].kind in ("number", "op")]
            arithmetic = [i for i in range(e.first, e.stop) if self.old[i].kind in ("number", "op")]
            size = len(arithmetic)
            if size < 3:
                continue
            for place in range(len(line) - size + 1):
                part = line[place : place + size]
                if self._says(part, self.old) == self._says(arithmetic, self.old) and (
                    self._says(part, self.new) != self._says(arithmetic, self.new)
                ):
                    shown = (equations.written(self.new, i[0], i[-1] + 1) for i in (part, arithmetic))
                    yield Finding("visible-arithmetic", f"line {e.line}: {' and '.join(shown)} were the same.")

    def _says(self, places: Iterable[int], tokens: Sequence[Token | None]) -> list[Fraction | str | None]:
        said = (tokens[i] for i in places)
        return [t and (t.text if t.value is None else t.value) for t in said]

    def _is_left_over(self, i: int) -> bool:
        if not self._must_follow(i):
            return False
        if self.old[i].value != 1:
            return True
        # "1" stands in every "per 1 hour": it is a left-over only beside the unit of the value that changed.
        units = {self._unit(e.visible or e.result) for e, old, _ in self.changed if old == 1}
        return self._unit(i) in units - {""}

    def _counts_persons(self, i: int) -> bool:
        """Whether a word is one of "the two of them"."""
        return self.old[i].kind == "cardinal" and self._unit(i) in ("of", "together")

    def _word_behind(self, i: int) -> str:
        after = [t for t in self.old[i + 1 : i + 3] if t.kind not in ("space", "other")]
        return after[0].text.lower() if after and after[0].kind == "word" else ""

    def _unit(self, i: int) -> str:
        """The word behind a number, without the plural's s."""
        return self._word_behind(i).removesuffix("s")

    def _unit_pairs(self) -> Iterator[tuple[int, int, int]]:
        """Two numbers beside each other that are one quantity in two units, the smaller unit first, and the ratio."""
        numbers = [i for i in self._numbers(0, len(self.old)) if self.new[i] is not None]
        for i, j in pairwise(numbers):
            units = self._unit(i), self._unit(j)
            if self.old[i].line != self.old[j].line or "" in units:
                continue
            small, large = (i, j) if units in quantities.CONVERSIONS else (j, i)
            ratio = quantities.CONVERSIONS.get(units) or quantities.CONVERSIONS.get((units[1], units[0]))
            if ratio and self.old[small].value == (self.old[large].value or 0) * ratio:
                yield small, large, ratio

    def _restated_units(self) -> Iterator[Finding]:
        """Whether "120 minutes, or 2 hours" still is one quantity."""
        for small, large, ratio in self._unit_pairs():
            line = self.old[small].line
            mentions = {small, large} - self._operands - self._results - self._paired
            is_kept = any(not self._is_changed(i) and self.old[i].value not in self.given for i in mentions)
            if not is_kept or self._value(small) == (self._value(large) or 0) * ratio:
                continue
            if not any(self._converts(e, small, large) for e in self.equations if e.line == line):
                shown = [f"{self._written(i)} {self._word_behind(i)}" for i in (small, large)]
                yield Finding("unit-restatement", f"line {line}: {shown[0]} is not {shown[1]}.")

    def _converts(self, e: Equation, i: int, j: int) -> bool:
        """Whether an equation makes one of two numbers from the other: then it is judged as an equation."""
        values = {self.old[k].value for k in self._numbers(e.first, e.stop)}
        result = self.old[e.result].value
        return any(self.old[k].value == result and self.old[m].value in values for k, m in ((i, j), (j, i)))

    def _answer(self) -> Iterator[Finding]:
        """Whether the answer is what became of the value that gave it."""
        gold, wrong = (_number(_stated(text) or "") for text in (self.pair.preferred, self.pair.dispreferred))
        if gold is None or wrong is None or gold == wrong:
            return
        sources = [e for e in self.equations if self.old[e.result].value == gold]
        if sources:
            became = next((new for e, _, new in self.changed if e == sources[-1]), gold)
            if became != wrong:
                yield Finding("final-answer", f"line {sources[-1].line} gives {became}; the last line says {wrong}.")
            return
        if wrong not in self._became(gold):
            yield Finding("final-answer", f"the right answer {gold} is no step's value; the wrong one is {wrong}.")
