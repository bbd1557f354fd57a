"""Claims, verdicts, and the registry that joins an entry of the catalogue to its proof.  No mathematics.

A claim holds statements. Each statement is one formula, typeset, together with the procedure that decides it; the
same procedure decides its mutants. `examine` runs them all and compares each status with the one that the claim
expects: a claim is in order when what it says is proved is proved, what it says fails is refuted with a witness, and
every mutant is refuted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from time import perf_counter
from typing import Literal

from derivation.catalogue import CATALOGUE, Entry
from derivation.witness import Witness

__all__ = ["Claim", "Mutant", "Report", "Statement", "StatementReport", "Status", "Verdict", "claim", "examine", "load"]

Status = Literal["proved", "refuted", "undecided", "error"]


@dataclass(frozen=True)
class Verdict:
    """What a procedure found.

    Attributes:
        status: `proved`: identically true, every symbol free. `refuted`: false at a witness. `undecided`: neither was
            reached. `error`: the procedure raised.
        witness: The point of failure with both values, for `refuted`.
        reason: Why it is undecided or what was raised.
    """

    status: Status
    witness: Witness | None = None
    reason: str = ""


@dataclass(frozen=True)
class Mutant:
    """A statement with a slip in it, and the procedure of the original applied to it."""

    description: str
    decide: Callable[[], Verdict]


def _no_mutants() -> Iterable[Mutant]:
    return ()


@dataclass(frozen=True)
class Statement:
    """One formula and the procedure that decides it.

    Attributes:
        latex: The formula, typeset.
        decide: Derives the truth from definitions and compares.
        expected: `proved`, or `refuted` where the claim says that this fails.
        reading: The words that fix what the formula is about: frame, schedule, condition.
        mutants: Nearby false formulas under the same procedure.
    """

    latex: str
    decide: Callable[[], Verdict]
    expected: Status = "proved"
    reading: str = ""
    mutants: Callable[[], Iterable[Mutant]] = _no_mutants


@dataclass(frozen=True)
class Claim:
    """What is claimed, and how it is decided.

    Attributes:
        finding: What is true, in a sentence.
        printed: The post's formula as it stands, None where the post has none.
        precise: The formulas that are true, and beside them those whose failure the claim asserts.
        assumptions: What the proof uses.
        method: The kind of argument, in a phrase: how it reaches every n, m or B.
        argument: The proof in words, one paragraph each, formulas between dollar signs.
        post_line: The post's own LaTeX, for the eye.
    """

    finding: str
    printed: Statement | None
    precise: tuple[Statement, ...]
    assumptions: tuple[str, ...]
    method: str
    argument: tuple[str, ...]
    post_line: str = ""


@dataclass(frozen=True)
class StatementReport:
    """A statement with its verdict."""

    statement: Statement
    verdict: Verdict

    @property
    def is_as_expected(self) -> bool:
        """Whether the verdict is the one that the claim asserts."""
        return self.verdict.status == self.statement.expected


@dataclass(frozen=True)
class Report:
    """A claim examined."""

    entry: Entry
    claim: Claim | None
    printed: StatementReport | None
    precise: tuple[StatementReport, ...]
    mutants: tuple[tuple[str, Verdict], ...]
    seconds: float
    failure: str = ""

    @property
    def printed_status(self) -> Status | None:
        """The status of the post's formula as printed; None where the post has none."""
        return self.printed.verdict.status if self.printed else None

    @property
    def precise_status(self) -> Status:
        """`proved` where every precise statement came out as the claim asserts; else the first other outcome."""
        if self.failure:
            return "error"
        for part in self.precise:
            if not part.is_as_expected:
                return part.verdict.status if part.verdict.status != "proved" else "refuted"
        return "proved"

    @property
    def num_mutants_refuted(self) -> int:
        """How many mutants the procedure refuted."""
        return sum(verdict.status == "refuted" for _, verdict in self.mutants)

    @property
    def is_in_order(self) -> bool:
        """Whether everything came out as the claim asserts and every mutant was refuted."""
        printed_ok = self.printed is None or self.printed.is_as_expected
        return (
            not self.failure
            and printed_ok
            and self.precise_status == "proved"
            and bool(self.mutants)
            and self.num_mutants_refuted == len(self.mutants)
        )


_REGISTRY: dict[str, Callable[[], Claim]] = {}


def claim(identifier: str) -> Callable[[Callable[[], Claim]], Callable[[], Claim]]:
    """Registers the function that states and proves a claim of the catalogue.

    Raises:
        ValueError: If the catalogue does not know the id, or it is taken.
    """

    def register(prove: Callable[[], Claim]) -> Callable[[], Claim]:
        if identifier in _REGISTRY or identifier not in {entry.id for entry in CATALOGUE}:
            raise ValueError(f"claim id must be in the catalogue and free; got {identifier!r}.")
        _REGISTRY[identifier] = cache(prove)
        return _REGISTRY[identifier]

    return register


def load(entry: Entry) -> Callable[[], Claim]:
    """The function that states and proves an entry of the catalogue.

    Raises:
        KeyError: If the entry's module does not register it.
    """
    import_module(f"derivation.claims.{entry.module}")
    return _REGISTRY[entry.id]


def _decided(decide: Callable[[], Verdict]) -> Verdict:
    try:
        return decide()
    except Exception as error:  # noqa: BLE001  (a failing proof is a verdict of the check, and the others go on)
        return Verdict("error", reason=f"{type(error).__name__}: {error}")


def examine(entry: Entry, on_progress: Callable[[str], None] = lambda _: None) -> Report:
    """Decides a claim's statements and all their mutants.

    Args:
        entry: Which claim.
        on_progress: Told what is being decided.
    """
    start = perf_counter()
    try:
        claim = load(entry)()
    except Exception as error:  # noqa: BLE001
        return Report(entry, None, None, (), (), perf_counter() - start, f"{type(error).__name__}: {error}")
    on_progress("as printed")
    printed = StatementReport(claim.printed, _decided(claim.printed.decide)) if claim.printed else None
    precise = []
    for i, statement in enumerate(claim.precise, start=1):
        on_progress(f"statement {i} of {len(claim.precise)}")
        precise.append(StatementReport(statement, _decided(statement.decide)))
    mutants = []
    for statement in claim.precise:
        for mutant in statement.mutants():
            on_progress(f"mutant {len(mutants) + 1}")
            mutants.append((mutant.description, _decided(mutant.decide)))
    return Report(entry, claim, printed, tuple(precise), tuple(mutants), perf_counter() - start)
