"""The procedures that decide a formula.  Each takes what was derived from definitions and a formula, and compares.

Equality of series is decided by coefficients in an exact field, so it never stalls: equal coefficients are a proof for
all losses and all n, and unequal ones send `witness` to find losses that show it. Equality of SymPy expressions is
decided by normal forms; where they do not reach zero, only an exact value at a rational point refutes, and otherwise
the verdict is `undecided`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from typing import cast

from sympy import Basic, Expr, S, Symbol, fraction, latex, nan, simplify, sympify, together, zoo

from derivation.averages import PLAIN, Indexing, at
from derivation.claim import Mutant, Statement, Status, Verdict
from derivation.formula import Formula
from derivation.frames import SLOT, antisymmetric_jacobian, losses_of, potential
from derivation.series import Series
from derivation.symbols import element
from derivation.trees import graft, num_vertices, tree
from derivation.witness import Losses, Witness, evaluated, format_losses, format_value, of_difference, search

__all__ = ["equality", "expressions", "gradient_field", "never_negative"]


def _in_field(series: Series) -> Series:
    return Series((t, element(c) if isinstance(c, Fraction) else c) for t, c in series.items())


def equality(
    left: str,
    derive: Callable[[], Series],
    right: Formula,
    *,
    expected: Status = "proved",
    reading: str = "",
    shown_right: str | None = None,
    slips: Mapping[str, Formula] | None = None,
    pairs: Iterable[int] = (1, 2, 3, 4),
    is_mutated: bool = True,
) -> Statement:
    """States that a derived series is a formula.

    Args:
        left: LaTeX of what is derived.
        derive: Derives it from definitions.
        right: The formula.
        expected: What the claim asserts.
        reading: The words that fix the meaning.
        shown_right: LaTeX that replaces the formula's own.
        slips: Mutants beside the formula's own: misreadings that are particular to this claim.
        pairs: The numbers of pairs among which a witness is looked for.
        is_mutated: Whether the formula's mutants are to be refuted; not where another statement does so with the
            same terms, and never where the formula is expected to fail.
    """
    derived = cache(lambda: _in_field(derive()))
    written_out = cache(lambda num_pairs: at(derived(), right.indexing, num_pairs))

    gap = cache(lambda: derived() - right.series())

    def decide(difference: Series) -> Verdict:
        if not difference:
            return Verdict("proved")
        witness = of_difference(written_out, difference, right.indexing, is_scalar=right.is_scalar, pairs=pairs)
        return Verdict("refuted", witness) if witness else Verdict("undecided", reason="no witness found")

    def mutants() -> Iterator[Mutant]:
        for text, change in right.mutants():
            yield Mutant(text, lambda change=change: decide(gap() - change))
        for text, formula in (slips or {}).items():
            yield Mutant(text, lambda formula=formula: decide(derived() - formula.series()))

    return Statement(
        latex=f"{left} = {shown_right or right.latex}",
        decide=lambda: decide(gap()),
        expected=expected,
        reading=reading,
        mutants=lambda: mutants() if is_mutated and expected == "proved" else [],
    )


def gradient_field(
    left: str, derive: Callable[[], Series], indexing: Indexing, *, expected: Status = "proved", reading: str = ""
) -> Statement:
    """States that a derived field is the gradient of some loss, whatever the losses in it.

    Refuted where its Jacobian is not symmetric at a witness.
    """

    def decide() -> Verdict:
        field = _in_field(derive())
        curl = antisymmetric_jacobian(field, indexing)
        if not curl:
            found_one = potential(field, indexing) is not None
            return Verdict("proved") if found_one else Verdict("undecided", reason="curl-free, no potential found")
        witness = _curl_witness(field, curl, indexing)
        return Verdict("refuted", witness) if witness else Verdict("undecided", reason="no witness found")

    return Statement(latex=left, decide=decide, expected=expected, reading=reading)


_AXES: tuple[Losses, Losses] = ({SLOT: {(1, 0): 1}}, {SLOT: {(0, 1): 1}})
# The gradient of the loss x is the first unit vector, of y the second: in the slot they give the columns.


def _curl_witness(field: Series, curl: Series, indexing: Indexing) -> Witness | None:
    """Losses in the plane at which the two off-diagonal entries of the Jacobian differ.

    Args:
        field: The field.
        curl: Its Jacobian less the transposed one, which is smaller than the Jacobian and fails where that does.
        indexing: What the bound indices of both mean.
    """
    for num_pairs in range(1, 4):
        written_out, gap = at(field, indexing, num_pairs), at(curl, indexing, num_pairs)

        def fails(losses: Losses, _: int, gap: Series = gap) -> bool:
            return evaluated(gap, losses | _AXES[1], 2)[0] != 0

        degree = 1 + max(map(num_vertices, written_out), default=0)
        hit = search(losses_of(written_out), degree, fails, dimensions=(2,))
        if hit is not None:
            jacobian = Series((opened, c) for t, c in written_out.items() for opened in graft(t, tree(SLOT)))
            above, below = (evaluated(jacobian, hit[0] | axis, 2) for axis in _AXES[::-1])
            setting = format_losses(hit[0], 2, None if indexing is PLAIN else num_pairs)
            return Witness(setting, f"dX₁/dy = {above[0]}, dX₂/dx = {below[1]}", "equal")
    return None


def never_negative(
    left: str,
    derive: Callable[[], Series],
    indexing: Indexing,
    *,
    pairs: Iterable[int] = (1, 2),
    reading: str = "",
) -> Statement:
    """States that a derived scalar is at least 0 for all losses, which the claim expects to fail at a witness."""

    def decide() -> Verdict:
        for num_pairs in pairs:
            series = at(_in_field(derive()), indexing, num_pairs)

            def fails(losses: Losses, dimension: int, series: Series = series) -> bool:
                return evaluated(series, losses, dimension, is_scalar=True)[0] < 0

            hit = search(losses_of(series), 3, fails)
            if hit is not None:
                losses, dimension = hit
                value = evaluated(series, losses, dimension, is_scalar=True)
                setting = format_losses(losses, dimension, None if indexing is PLAIN else num_pairs)
                return Verdict("refuted", Witness(setting, format_value(value), "at least 0"))
        return Verdict("undecided", reason="no negative value found, and no proof that there is none")

    return Statement(latex=rf"{left} \ge 0", decide=decide, expected="refuted", reading=reading)


def expressions(
    left: str,
    derive: Callable[[], Basic | tuple[Basic, ...]],
    right: Basic | tuple[Basic, ...],
    *,
    points: Iterable[Mapping[Symbol, Expr | int]] = ({},),
    expected: Status = "proved",
    reading: str = "",
    shown_right: str | None = None,
    slips: Mapping[str, Basic | tuple[Basic, ...]] | None = None,
    is_mutated: bool = True,
) -> Statement:
    """States that derived SymPy expressions are others, identically in every free symbol.

    Args:
        left: LaTeX of what is derived.
        derive: Derives it from definitions.
        right: The formula, with as many entries.
        points: Rational values of the symbols at which a difference is looked for.
        expected: What the claim asserts.
        reading: The words that fix the meaning.
        shown_right: LaTeX that replaces the formula's own.
        slips: Mutants beside the generic ones.
        is_mutated: Whether every entry is mutated; else only `slips` are.
    """
    derived = cache(lambda: _entries(derive()))

    def decide(formula: Basic | tuple[Basic, ...]) -> Verdict:
        claimed = _entries(formula)
        if len(claimed) != len(derived()):
            return Verdict("error", reason=f"{len(derived())} entries derived, {len(claimed)} claimed")
        if all(_vanishes(a - b) for a, b in zip(derived(), claimed, strict=True)):
            return Verdict("proved")
        return _refuted(derived(), claimed, points)

    return Statement(
        latex=f"{left} = {shown_right or ', '.join(map(latex, _entries(right)))}",
        decide=lambda: decide(right),
        expected=expected,
        reading=reading,
        mutants=lambda: (
            [
                Mutant(text, lambda f=mutant: decide(f))
                for text, mutant in (
                    *(_slips_of(_entries(right)).items() if is_mutated else ()),
                    *(slips or {}).items(),
                )
            ]
            if expected == "proved"
            else []
        ),
    )


def _entries(expression: Basic | tuple[Basic, ...]) -> tuple[Expr, ...]:
    entries = expression if isinstance(expression, tuple) else (expression,)
    return tuple(cast("Expr", sympify(entry)) for entry in entries)


def _vanishes(difference: Expr) -> bool:
    """Whether an expression is identically 0; for rational functions the normal form decides, either way."""
    if difference == 0:
        return True
    if difference.is_rational_function(*difference.free_symbols):
        return fraction(together(difference))[0].expand() == 0
    return difference.expand() == 0 or simplify(difference) == 0


def _refuted(left: tuple[Expr, ...], right: tuple[Expr, ...], points: Iterable[Mapping[Symbol, Expr | int]]) -> Verdict:
    """The verdict where no proof of equality was reached: refuted at a point with two different exact values."""
    for point in points:
        for a, b in zip(left, right, strict=True):
            values = tuple(simplify(side.subs(list(point.items()))) for side in (a, b))
            is_exact = all(not value.free_symbols for value in values)
            if is_exact and values[0] != values[1] and simplify(values[0] - values[1]) != 0:
                setting = ", ".join(f"{symbol} = {value}" for symbol, value in point.items()) or "the values named"
                return Verdict("refuted", Witness(setting, _number(values[0]), _number(values[1])))
    return Verdict("undecided", reason="the difference does not simplify to 0 and no point given shows it")


def _number(value: Expr) -> str:
    return "undefined" if value in (nan, zoo) else re.sub(r"sqrt\((\w+)\)", r"√\1", str(value))


def _slips_of(entries: tuple[Expr, ...]) -> dict[str, tuple[Expr, ...]]:
    """The slips of the pen in a tuple of expressions: in each entry that is not 0, sign flipped, 1 % off."""
    mutants = {}
    for i, entry in enumerate(entries):
        if entry == 0:
            continue
        before, after = entries[:i], entries[i + 1 :]
        where = f"entry {i + 1}: " if len(entries) > 1 else ""
        mutants[f"{where}sign flipped"] = (*before, -entry, *after)
        mutants[f"{where}1 % off"] = (*before, entry * S(101) / 100, *after)
    return mutants
