"""Formulas as the post writes them: one object that is both typeset and proved.

An `Expression` carries the series that it means and the LaTeX that it is printed as, and both are built by the same
call; so the formula that a reader sees cannot differ from the one that was proved. A `Formula` is a sum of terms,
each a coefficient in n or B times an expression, and its mutants are the nearby formulas that a slip of the pen makes.
No statement of the post or of ours lives here: those are in `post`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import cast

from sympy import Expr, Rational, latex

from derivation.averages import MEANS, ORDERED, PLAIN, Indexing
from derivation.frames import derivative, joined, scalar_tree
from derivation.frames import gradient as gradient_series
from derivation.series import Series
from derivation.symbols import B, element, m, n
from derivation.trees import Label, Tree, labels, num_vertices, relabel, tree

__all__ = [
    "Expression",
    "Formula",
    "Term",
    "combination",
    "gradient",
    "hessian",
    "inner",
    "loss",
    "mean",
    "squared_norm",
    "sum_over",
    "term",
    "third",
]


@dataclass(frozen=True)
class Expression:
    """A scalar (free trees) or a vector (rooted trees) with the LaTeX that it is printed as.

    Attributes:
        series: What it means.
        latex: Its LaTeX.
        indexing: What its bound indices mean.
        is_sum: Whether the LaTeX needs brackets as a factor.
        is_open: Whether it needs them under an operator only, as a sum sign or an inner product does.
        is_scalar: Whether the trees are free.
    """

    series: Series
    latex: str
    indexing: Indexing
    is_sum: bool = False
    is_open: bool = False
    is_scalar: bool = False

    def bracketed(self) -> str:
        """The LaTeX as a factor, in brackets where it is a sum."""
        return rf"\left({self.latex}\right)" if self.is_sum else self.latex

    def enclosed(self) -> str:
        """The LaTeX as what an operator acts on."""
        return rf"\left({self.latex}\right)" if self.is_sum or self.is_open else self.latex


# A free index is a negative integer; these are its names.
_INDEX_NAMES = {-1: "k", -2: "j", -3: "i", 1: "1", 2: "2"}


def loss(name: str, index: int = 0, *, indexing: Indexing = PLAIN) -> Expression:
    """A loss: name "+" or "-" (the two sides), or "L" (any), with a free (negative) index or none (0)."""
    above = "" if name == "L" else f"^{{{name}}}"
    below = f"_{{{_INDEX_NAMES[index]}}}" if index else ""
    return Expression(
        Series({tree(Label(name, index)): Fraction(1)}), rf"\mathcal{{L}}{above}{below}", indexing, is_scalar=True
    )


def _common(*parts: Expression) -> Indexing:
    (indexing,) = {part.indexing for part in parts}
    return indexing


def combination(*parts: tuple[Fraction | int, Expression], latex: str | None = None) -> Expression:
    """A linear combination with rational factors.

    Args:
        parts: The factors and what they multiply.
        latex: LaTeX for the whole, where it has a name of its own.
    """
    total, text = Series(), ""
    for factor, part in parts:
        total = total + part.series.scaled(factor)
        text += _signed(_number(factor), part, first=not text)
    indexing, (is_scalar,) = _common(*(part for _, part in parts)), {part.is_scalar for _, part in parts}
    return Expression(total, latex or text, indexing, is_sum=latex is None and len(parts) > 1, is_scalar=is_scalar)


def _number(value: Fraction | int) -> Expr:
    return Rational(value.numerator, value.denominator)


def _step_power(part: Expression) -> str:
    (power,) = {num_vertices(t) for t in part.series}
    return r"\varepsilon\," if power == 1 else rf"\varepsilon^{{{power}}}\,"


def _signed(number: Expr, part: Expression, *, first: bool, front: str = "") -> str:
    """A term of a sum in LaTeX, with its sign and what stands in front of it."""
    is_negative = number.could_extract_minus_sign()
    size = -number if is_negative else number
    sign = "-" if is_negative else "" if first else "+"
    if size == 1:
        bare = part.is_sum and (is_negative or front or not first)
        return sign + front + (part.bracketed() if bare else part.latex)
    factor = latex(size)
    if size.is_Add:
        factor = rf"\left({factor}\right)"
    return rf"{sign}{factor}\,{front}{part.bracketed()}"


def gradient(scalar: Expression) -> Expression:
    """The gradient of a scalar."""
    return Expression(gradient_series(scalar.series, scalar.indexing), rf"\nabla {scalar.enclosed()}", scalar.indexing)


def hessian(scalar: Expression, vector: Expression) -> Expression:
    """The Hessian of a scalar applied to a vector."""
    indexing = _common(scalar, vector)
    return Expression(
        derivative(gradient_series(scalar.series, indexing), vector.series, indexing),
        rf"\nabla^{{2}} {scalar.enclosed()}\,{vector.bracketed()}",
        indexing,
    )


def third(scalar: Expression, first: Expression, second: Expression) -> Expression:
    """The third derivative of a linear combination of losses applied to two vectors.

    Raises:
        ValueError: If the scalar is anything else, such as a squared norm.
    """
    if any(t.children for t in scalar.series):
        raise ValueError(f"scalar must be a linear combination of losses; got {scalar.latex}.")
    indexing = _common(scalar, first, second)
    terms: list[tuple[Tree, Fraction]] = []
    for a, x in scalar.series.items():
        for b, y in first.series.items():
            for c, z in second.series.items():
                for root, left in indexing.aligned(a, b):
                    # The third factor is aligned with both others at once, through a tree that holds them.
                    for held, right in indexing.aligned(tree(root.loss, left), c):
                        terms.append((indexing.canonical(tree(held.loss, *held.children, right)), x * y * z))  # type: ignore[operator]
    return Expression(
        Series(terms), rf"\nabla^{{3}} {scalar.enclosed()}\left[{first.latex},\,{second.latex}\right]", indexing
    )


def inner(left: Expression, right: Expression) -> Expression:
    """The inner product of two vectors."""
    indexing = _common(left, right)
    return Expression(
        joined(left.series, right.series, indexing),
        rf"{left.bracketed()} \cdot {right.bracketed()}",
        indexing,
        is_open=True,
        is_scalar=True,
    )


def squared_norm(vector: Expression) -> Expression:
    """The squared Euclidean norm of a vector."""
    return Expression(
        joined(vector.series, vector.series, vector.indexing),
        rf"\left\|{vector.latex}\right\|^{{2}}",
        vector.indexing,
        is_scalar=True,
    )


def mean(part: Expression) -> Expression:
    """The mean over k, uniform over the n pairs: the free index k becomes a bound one."""
    terms = []
    for t, c in part.series.items():
        fresh = 1 + max(0, *(label.member for label in labels(t)))
        terms.append((_representative(_bound(t, {-1: fresh}), MEANS, is_scalar=part.is_scalar), c))
    bound = Series(terms)
    return Expression(bound, rf"\mathbb{{E}}_{{k}}\!\left[{part.latex}\right]", MEANS, is_scalar=part.is_scalar)


def sum_over(part: Expression, ranks: tuple[dict[int, int], ...], condition: str) -> Expression:
    """A sum over ordered positions.

    Args:
        part: What is summed, with free indices.
        ranks: For every order of the free indices that the sum runs over, the rank of each index: for "j < k",
            one dictionary {j: 1, k: 2}; for "j <= k", a second one {j: 1, k: 1}.
        condition: LaTeX of the condition under the sum.
    """
    terms = [
        (_representative(_bound(t, rank), ORDERED, is_scalar=part.is_scalar), c)
        for rank in ranks
        for t, c in part.series.items()
    ]
    return Expression(
        Series(terms), rf"\sum_{{{condition}}} {part.bracketed()}", ORDERED, is_open=True, is_scalar=part.is_scalar
    )


def _representative(t: Tree, indexing: Indexing, *, is_scalar: bool) -> Tree:
    return scalar_tree(t, indexing) if is_scalar else indexing.canonical(t)


def _bound(t: Tree, ranks: dict[int, int]) -> Tree:
    return relabel(t, lambda label: Label(label.name, ranks.get(label.member, label.member)))


@dataclass(frozen=True)
class Term:
    """A coefficient, a rational function of n (or of B = 2n), times an expression."""

    coefficient: Expr
    expression: Expression

    @cached_property
    def series(self) -> Series:
        """What it means, with coefficients in the field of rational functions of n."""
        factor = element(self.coefficient)
        return Series((t, element(c) * factor) for t, c in self.expression.series.items())  # type: ignore[arg-type]


def term(coefficient: Expr | Fraction | int, expression: Expression) -> Term:
    """A term of a formula."""
    return Term(coefficient if isinstance(coefficient, Expr) else _number(coefficient), expression)


@dataclass(frozen=True)
class Formula:
    """A sum of terms.

    Attributes:
        terms: What is added.
        shows_step: Whether the LaTeX shows the power of the step size that comes with each term, and the remainder.
    """

    terms: tuple[Term, ...]
    shows_step: bool = False

    def series(self) -> Series:
        """What the formula means, with coefficients in the field of rational functions of n."""
        return Series(item for part in self.terms for item in part.series.items())

    @property
    def indexing(self) -> Indexing:
        """What the bound indices of all terms mean."""
        return _common(*(part.expression for part in self.terms))

    @property
    def is_scalar(self) -> bool:
        """Whether the trees of all terms are free."""
        (is_scalar,) = {part.expression.is_scalar for part in self.terms}
        return is_scalar

    @property
    def latex(self) -> str:
        """The LaTeX of the formula; a line may be broken between terms."""
        text = ""
        for part in self.terms:
            step = _step_power(part.expression) if self.shows_step else ""
            text += ("" if not text else r" \allowbreak ") + _signed(
                part.coefficient, part.expression, first=not text, front=step
            )
        if self.shows_step:
            highest = max(num_vertices(t) for part in self.terms for t in part.expression.series)
            text += rf" \allowbreak +O(\varepsilon^{{{highest + 1}}})"
        return text

    def mutants(self) -> Iterator[tuple[str, Series]]:
        """The slips of the pen: formulas that differ from this one in one place, and in value.

        In every term: sign flipped, coefficient off by 1 %, n off by one, term lost, + and - swapped.  A slip
        that leaves the value as it was (+ and - swapped where both stand alike) is not a mutant.

        Yields:
            What slipped, and the value of the mutant less that of this formula.
        """
        for i, part in enumerate(self.terms, start=1):
            c = part.coefficient
            slips = {
                "sign flipped": Term(-c, part.expression).series,
                "coefficient 1 % off": Term(c * Rational(101, 100), part.expression).series,
                "n off by one": Term(cast("Expr", c.subs({n: n + 1, B: B + 2, m: m + 2})), part.expression).series,
                "+ and - swapped": _swapped(part).series,
            }
            if len(self.terms) > 1:
                slips["term lost"] = Series()
            for slip, value in slips.items():
                change = value - part.series
                if change:
                    yield f"term {i}: {slip}", change


def _swapped(part: Term) -> Term:
    whole = part.expression
    series = Series(
        (_representative(_exchanged(t), whole.indexing, is_scalar=whole.is_scalar), c) for t, c in whole.series.items()
    )
    return Term(part.coefficient, replace(whole, series=series))


def _exchanged(t: Tree) -> Tree:
    other = {"+": "-", "-": "+"}
    return relabel(t, lambda label: Label(other.get(label.name, label.name), label.member))
