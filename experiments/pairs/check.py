"""A check of pairs before they are used: is the wrong solution wrong in one step, and nowhere else?

The two texts are laid beside each other, token by token. Five facts must then hold.

- The texts are equal outside the numbers and the operator of the altered step.
- Every equation that is true in the right text is true in the wrong one, but for a slipped result.
- Every other number that changed is the new value of a step, and none is still the old value of one.
- The operands of the altered step come from the question or from the text before it.
- The last line follows from the steps.

It shares nothing but arithmetic with the modules that make pairs, so that its agreement with them means something.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import repeat, zip_longest
from typing import Literal, NamedTuple, get_args

from experiments.pairs import equations
from experiments.pairs.arithmetic import implied
from experiments.pairs.equations import Equation, Token, number

__all__ = ["KINDS", "Finding", "FindingId", "Kind", "findings"]

Kind = Literal["result-slip", "wrong-operator", "wrong-operand", "swapped-quantity", "dropped-step"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FindingId = Literal[
    "record",  # a key is missing, of the wrong type, or of no known kind
    "last-line",  # a solution does not end in `#### N` with the answer of the record
    "same-answer",  # the wrong answer is the right one
    "words",  # something besides numbers and the operator of the altered step differs
    "altered-step",  # no step went from the old value to the new one in the way of its kind
    "arithmetic",  # an equation is false that was true, or changed although it was false
    "new-number",  # a number became one that is no new value of a step; an operand comes from nowhere
    "left-over-value",  # a number is still the old value of a changed step
    "number-format",  # a changed number is written in another way than it was, or is no whole number any more
    "final-answer",  # the answer is not the value of the step that gives it
]


@dataclass(frozen=True)
class Finding:
    """A fault of a pair.

    Attributes:
        id: Its kind, from a closed list.
        sentence: The line (from 1) and the values.
    """

    id: FindingId
    sentence: str


def findings(record: Mapping[str, object]) -> list[Finding]:
    """The faults of a pair, each once; none where it is sound.

    Args:
        record: `id, question, preferred, dispreferred, gold, wrong, kind, step, num_steps, old, new`; text, except the
            whole numbers `step` (from 1) and `num_steps`. A step is an annotation or an equation in plain text.

    Returns:
        The faults. After a broken record, or texts that cannot be laid beside each other, nothing else is checked.
    """
    faults = list(_record_faults(record))
    if not faults:
        faults += _Check(_Pair(**{key: record[key] for key in _Pair._fields})).faults()  # type: ignore[arg-type]
    return list(dict.fromkeys(faults))


class _Pair(NamedTuple):
    id: str
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


def _record_faults(record: Mapping[str, object]) -> Iterator[Finding]:
    for key, kind in _Pair.__annotations__.items():
        value = record.get(key)
        if type(value) is not kind or value == "":
            rule = "a whole number" if kind is int else "a text"
            yield Finding("record", f"{key} must be {rule}; got {value!r:.60}.")
        elif key in ("gold", "wrong", "old", "new") and number(str(value)) is None:
            yield Finding("record", f"{key} must be a number; got {value!r:.60}.")
    step, num_steps = record.get("step"), record.get("num_steps")
    if isinstance(step, int) and isinstance(num_steps, int) and not 1 <= step <= num_steps:
        yield Finding("record", f"step must lie in 1 ... num_steps; got {step} of {num_steps}.")
    if record.get("kind") not in KINDS:
        yield Finding("record", f"kind must be one of {', '.join(KINDS)}; got {record.get('kind')!r:.60}.")


_Both = tuple[Token, Token]  # a token of the right text, and the one in its place in the wrong text


def _is_alike(right: Token, wrong: Token, is_operator_free: bool) -> bool:
    if right.value is not None or wrong.value is not None:
        return right.value is not None and wrong.value is not None
    is_free = is_operator_free and right.kind == wrong.kind == "operator"
    return right.text == wrong.text or is_free


class _Check:
    """One pair while it is checked: both texts token by token, and the equations of the right one."""

    def __init__(self, pair: _Pair) -> None:
        self.pair = pair
        self.rights, self.wrongs = ([equations.tokens(line) for line in text.split("\n")] for text in pair[2:4])
        self.equations = [e for row, line in enumerate(self.rights) for e in equations.found(row, line)]
        self.old, self.new = number(pair.old), number(pair.new)
        self.gold, self.wrong = number(pair.gold), number(pair.dispreferred.rpartition("#### ")[2])
        self.numerals = equations.numerals(pair.question)
        self.rows: list[list[_Both]] = []
        # The value that an equation had and the one that it has, where it changed.
        self.changes: list[tuple[Equation, Fraction, Fraction]] = []

    def faults(self) -> Iterator[Finding]:
        pair = self.pair
        for text, answer in ((pair.preferred, pair.gold), (pair.dispreferred, pair.wrong)):
            line = text.rpartition("\n")[2]
            value = number(line.removeprefix("#### "))
            if not line.startswith("#### ") or value is None or value != number(answer):
                yield Finding("last-line", f"the last line must be '#### {answer}'; got {line!r:.60}.")
        if self.gold in (self.wrong, number(pair.wrong)):
            yield Finding("same-answer", f"wrong is {pair.wrong}, which is the right answer {pair.gold}.")
        steps = [e for e in self.equations if e.value == self.old and self._may_be_step(e)]
        is_dropped = pair.kind == "dropped-step"
        rows = (e.row for e in steps if is_dropped and self._is_only_step(e) and self._unlike(e.row) is None)
        self.dropped = next(rows, None)
        unlike = self._unlike(self.dropped)
        if unlike is not None:
            yield Finding("words", f"line {unlike + 1} differs in more than numbers and the operator of the step.")
            return
        wrongs = list(self.wrongs)
        if self.dropped is not None:
            wrongs.insert(self.dropped, self.rights[self.dropped])
        self.rows = [list(zip(*lines, strict=True)) for lines in zip(self.rights, wrongs, strict=True)]
        altered = [e for e in steps if (e.row == self.dropped if is_dropped else self._is_altered(e))]
        if not altered:
            yield Finding("altered-step", f"no step went from {pair.old} to {pair.new} by a {pair.kind}.")
            return
        self.step = altered[0]
        self.operands = self._operands_became([self.step])
        self.writings = [] if is_dropped else [e for e in self.equations if self._says_step(e)]
        for e in self.equations:
            new = self.new if e.row == self.dropped and e.value == self.old else self._new_value(e)
            if e.value is not None and new is not None and e.value != new:
                self.changes.append((e, e.value, new))
        yield from self._step_faults()
        yield from self._equation_faults()
        yield from self._number_faults()
        yield from self._answer_faults()

    # Laying the texts beside each other -------------------------------------------------------------------------------

    def _unlike(self, dropped: int | None) -> int | None:
        """The first line, from 0, where the texts differ in more than they may."""
        rights = [line for row, line in enumerate(self.rights) if row != dropped]
        is_free = self.pair.kind == "wrong-operator"
        for row, (right, wrong) in enumerate(zip(rights, self.wrongs, strict=False)):
            if len(right) != len(wrong) or not all(map(_is_alike, right, wrong, repeat(is_free))):
                return row
        return None if len(rights) == len(self.wrongs) else min(len(rights), len(self.wrongs))

    def _both(self, e: Equation, places: Sequence[int]) -> list[_Both]:
        return [self.rows[e.row][i] for i in places]

    def _new_value(self, e: Equation) -> Fraction | None:
        return None if e.result is None else self.rows[e.row][e.result][1].value

    # The altered step -------------------------------------------------------------------------------------------------

    def _may_be_step(self, e: Equation) -> bool:
        """Whether the number of the step agrees: annotations count as steps, visible equations may count."""
        place = (e.row, e.left)
        annotated = [(o.row, o.left) for o in self.equations if o.is_annotation]
        ahead, behind = sum(other < place for other in annotated), sum(other > place for other in annotated)
        # A visible equation that ends behind an annotation is the annotation's.
        ends = [self.rights[o.row][(o.result or 2) - 2 : o.result] for o in self.equations if not o.is_annotation]
        num_alone = sum(all(token.text != ">>" for token in end) for end in ends)
        step, num_steps = self.pair.step, self.pair.num_steps
        return ahead < step and behind <= num_steps - step and num_steps <= len(annotated) + num_alone

    def _is_only_step(self, e: Equation) -> bool:
        return sum(o.is_annotation for o in self.equations if o.row == e.row) <= 1

    def _is_altered(self, e: Equation) -> bool:
        """Whether an equation went from the old value to the new one in the way of the record's kind."""
        left, kind = self._both(e, e.left), self.pair.kind
        is_operator = any(a.meaning != b.meaning for a, b in left if a.kind == "operator")
        is_operand = any(a.value != b.value for a, b in left)
        return (
            self._new_value(e) == self.new
            and is_operator == (kind == "wrong-operator")
            and is_operand == (kind in ("wrong-operand", "swapped-quantity"))
            and self._holds(e) == (kind != "result-slip")
        )

    def _holds(self, e: Equation) -> bool:
        left, right = (equations.evaluated([b for _, b in self._both(e, side)]) for side in (e.left, e.right))
        return left is not None and right is not None and left == right * (e.ratio or 1)

    def _says_step(self, e: Equation) -> bool:
        """Whether an equation is the altered step: its annotation, or the same arithmetic or result in plain text."""
        step = self.step
        numbers = [sorted(a.value for a, _ in self._both(o, o.left) if a.value is not None) for o in (e, step)]
        # Between the result in an annotation and the one behind it stand >> and $.
        is_near = abs((e.result or 0) - (step.result or 0)) <= len(">>$")
        return e.row == step.row and e.value == self.old and (is_near or numbers[0] == numbers[1])

    def _step_faults(self) -> Iterator[Finding]:
        """Operands from nowhere; a stand-in that is no number of the dropped step."""
        pair, step = self.pair, self.step
        line = self.rights[step.row]
        if self.dropped is not None:
            if self.new not in {token.value for token in line}:
                yield Finding("new-number", f"line {step.row + 1}: {pair.new} is no number of the dropped step.")
            return
        before = [*self.rights[: step.row], line[: step.left[0]]]
        known = {
            token.value
            for row in before
            for token, behind in zip_longest(row, row[1:])
            if token.value is not None and not (token.value == 1 and behind and behind.text == "/")
        }
        known |= self.numerals | implied(pair.question)
        known |= {value / 100 for value in known}
        may_change = pair.kind in ("wrong-operand", "swapped-quantity")
        for e in self.writings:
            for a, b in self._both(e, e.left):
                if a.value != b.value and not (may_change and b.value in known):
                    yield Finding("new-number", f"line {e.row + 1}: the operand {a.text} became {b.text}.")

    # Equations --------------------------------------------------------------------------------------------------------

    def _equation_faults(self) -> Iterator[Finding]:
        """Equations that are false; results and arithmetic in plain text that are not those of the annotation."""
        for e in self.equations:
            both = self._both(e, (*e.left, *e.right))
            said = f"line {e.row + 1}: {''.join(b.text for _, b in both)}"
            is_slip = self.pair.kind == "result-slip" and e in self.writings
            if e.ratio is None and any(a.text != b.text for a, b in both):
                yield Finding("arithmetic", f"{said} changed, and was false before.")
            elif e.ratio is not None and not self._holds(e) and not is_slip:
                yield Finding("arithmetic", f"{said} is false.")
            if e.is_annotation:
                old, new = e.value, self._new_value(e)
                for a, b in self._behind(e):
                    if old and new and a.value is not None and b.value != new * a.value / old:
                        yield Finding("arithmetic", f"{said}, but behind it stands {b.text}.")
                said_now = {tuple(b.meaning for _, b in self._both(e, copy)) for copy in self._copies(e)}
                if len(said_now) > 1:
                    yield Finding("arithmetic", f"{said}, but the line says it twice, and not the same.")

    def _behind(self, e: Equation) -> list[_Both]:
        """The number behind an annotation."""
        after = [both for both in self.rows[e.row][e.right[-1] + 2 : e.right[-1] + 4] if both[0].text != "$"]
        return after[:1] if after and after[0][0].kind == "number" else []

    def _copies(self, e: Equation) -> list[list[int]]:
        """The places of the arithmetic of an annotation, and of the same arithmetic elsewhere on its line."""
        line = self.rights[e.row]
        places = [i for i, token in enumerate(line) if token.kind in ("number", "operator")]
        own = [i for i in places if i in e.left]
        parts = [places[k : k + len(own)] for k in range(len(places) - len(own) + 1) if len(own) >= len("1+1")]
        return [own, *(part for part in parts if [line[i].meaning for i in part] == [line[i].meaning for i in own])]

    # Numbers ----------------------------------------------------------------------------------------------------------

    def _number_faults(self) -> Iterator[Finding]:
        """Numbers beside the equations that changed to no new value of a step, or are still an old value of one."""
        operands = {(e.row, i) for e in self.equations for i in e.left}
        # Judged as equations: results, the altered step, the number behind an annotation, the middle of 5*6*7=30*7=210.
        judged = {(e.row, i) for e in self.equations if e.ratio is not None for i in e.right}
        judged |= {(e.row, e.right[-1] + gap) for e in self.equations if e.is_annotation for gap in (2, 3)}
        step = {(e.row, i) for e in self.writings for places in (e.left, *self._copies(e)) for i in places}
        judged |= step | {(e.row, i) for e in self.equations if self._continues(e) for i in e.left}
        for row, line in enumerate(self.rows[:-1]):
            for i, (a, b) in enumerate(line):
                if a.kind == "operator" and a.meaning != b.meaning and (row, i) not in step:
                    yield Finding("words", f"line {row + 1}: {a.text} became {b.text} outside the altered step.")
                if a.value is None or b.value is None or row == self.dropped:
                    continue
                said = f"line {row + 1}: {a.text} became {b.text}"
                if a.text != b.text and self._is_written_otherwise(a, b, row):
                    yield Finding("number-format", f"{said}.")
                if (row, i) in judged:
                    continue
                is_operand = (row, i) in operands or self._has_operator_beside(row, i)
                if a.value == b.value:
                    if self._is_left_over(row, i, is_operand):
                        yield Finding("left-over-value", f"line {row + 1} still says {a.text}.")
                    continue
                is_factor = (row, i) not in operands and any(equations.is_unknown(t) for t, _ in line[i + 1 : i + 2])
                became = self._became(a.value, row, is_operand) | self._step_became(a.value, row)
                if is_factor or b.value not in became:
                    yield Finding("new-number", f"{said}.")

    def _continues(self, e: Equation) -> bool:
        """Whether a visible equation begins behind the equals sign of another one."""
        ahead = [a.kind for a, _ in self.rows[e.row][: e.left[0]] if a.kind != "space" and a.text != "$"]
        return not e.is_annotation and ahead[-1:] == ["equals"]

    def _has_operator_beside(self, row: int, i: int) -> bool:
        line = [token for token in self.rights[row] if token.kind != "space" and token.text != "$"]
        place = next(k for k, token in enumerate(line) if token is self.rights[row][i])
        beside = line[max(0, place - 1) : place + 2]
        return any(token.kind == "operator" for token in beside) or any(map(equations.is_unknown, beside[-1:]))

    def _became(self, value: Fraction, row: int, is_operand: bool) -> set[Fraction]:
        """The new values of a number. An operand, or a number of the question, comes from a line up to its own."""
        return {
            new * ratio
            for e, old, new in self.changes
            for ratio in equations.RATIOS
            if old * ratio == value and (e.row <= row or not (is_operand or value in self.numerals))
        }

    def _operands_became(self, es: Iterable[Equation]) -> dict[Fraction | None, set[Fraction | None]]:
        """The values in the places of each operand of some equations."""
        became: dict[Fraction | None, set[Fraction | None]] = {}
        for a, b in (both for e in es for both in self._both(e, e.left)):
            became.setdefault(a.value, set()).add(b.value)
        return became

    def _step_became(self, value: Fraction, row: int) -> set[Fraction | None]:
        """The values in the places of an operand of the altered step, where the step stands on a line."""
        return self.operands.get(value, set()) if row == self.step.row else set()

    def _is_left_over(self, row: int, i: int, is_operand: bool) -> bool:
        """Whether a number that stays can only be the old value of a step, or of an operand of the altered step."""
        line = self.rights[row]
        value = line[i].value
        operands = self._operands_became(e for e in self.equations if e.row == row)
        if not is_operand and value != 1 and value not in operands.get(value, {value}):
            step = self.operands if row == self.step.row else {}
            return value not in self.numerals or (value in step and value not in set().union(*step.values()))
        sources = [e for e, old, _ in self.changes if old == value and e.row <= row]
        if not sources or value in self.numerals or (value == 1 and not is_operand):
            return False
        text = "".join(token.text for token in (line if is_operand else line[i + 1 : i + 3]))
        if value in implied(text + self.pair.question * is_operand):
            return False
        changed = [e for e, _, _ in self.changes]
        is_kept = any(
            e.value == value and e.row <= row and e not in changed and (e.row, e.result) != (row, i)
            for e in self.equations
        )
        first = min(e.row for e in sources)
        is_older = any(token.value == value for other in self.rights[:first] for token in other)
        return not is_kept and not is_older

    def _is_written_otherwise(self, a: Token, b: Token, row: int) -> bool:
        """Whether a number is written in a way that shows which text is the wrong one."""
        if a.value is None or b.value is None:
            return False
        decimals = [len(token.text.partition(".")[2]) for token in (a, b)]
        is_operand = b.value in self._step_became(a.value, row)
        return (
            a.value == b.value
            or b.value <= 0
            or decimals[1] > max(decimals[0], len("00"))
            or (b.kind == "cardinal" != a.kind)
            or (a.value >= 1000 <= b.value and ("," in a.text) != ("," in b.text))
            or (a.value.denominator == 1 != b.value.denominator and not is_operand)
        )

    def _answer_faults(self) -> Iterator[Finding]:
        if self.gold is None or self.wrong is None:
            return
        sources = [e for e in self.equations if e.value == self.gold]
        became = {new for e, _, new in self.changes if e in sources[-1:]} or ({self.gold} if sources else set())
        if self.wrong not in (became or self._became(self.gold, len(self.rows), is_operand=False)):
            yield Finding("final-answer", f"the last line says {self.wrong}; the steps do not give it.")
