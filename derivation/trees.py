"""Coloured rooted trees: one tree per elementary differential.

A tree stands for a vector built from derivatives of losses at one point: its root is differentiated once more
than it has children, and each child is plugged into one of those slots,

    F(tree) = D^k grad(L_root)[F(child_1), ..., F(child_k)],    g_a, H_a g_b, T_a[g_b, g_c], ...

Forgetting the root leaves a *free* tree, and with it a scalar: a vertex of degree d is the d-th derivative of its
loss, an edge is a contraction (one vertex L_a, an edge g_a . g_b, a path g_a . H_b g_c).  Then the gradient of a
scalar is the sum over all vertices of the tree rooted there, and two vectors joined by an edge at their roots are
their inner product.  The three rules below (`graft`, `rootings`, `free`) are all the calculus that the proofs use.
No coefficient lives here.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from math import factorial
from typing import NamedTuple

__all__ = [
    "Label",
    "Tree",
    "automorphisms",
    "free",
    "graft",
    "labels",
    "latex",
    "num_vertices",
    "relabel",
    "rootings",
    "text",
    "tree",
]


class Label(NamedTuple):
    """The loss at a vertex.

    Attributes:
        name: The loss, or the family that it belongs to ("+", "-", "L").
        member: Which one of the family.  0: a loss without an index.  Positive: a bound index (what binds it, a
            sum over ordered positions or a mean, is not known here).  Negative: a free index.
    """

    name: str
    member: int = 0

    def __str__(self) -> str:
        return self.name if self.member == 0 else f"{self.name}{self.member}"


class Tree(NamedTuple):
    """A rooted tree with a loss at every vertex.  Build with `tree`, which sorts the children."""

    loss: Label
    children: tuple["Tree", ...] = ()


def tree(loss: Label | str, *children: Tree) -> Tree:
    """The canonical tree with this root and these children, in whatever order they are given."""
    return Tree(Label(loss) if isinstance(loss, str) else loss, tuple(sorted(children)))


@cache
def num_vertices(t: Tree) -> int:
    """The number of vertices: the power of the step size that comes with F(t)."""
    return 1 + sum(num_vertices(child) for child in t.children)


@cache
def automorphisms(t: Tree) -> int:
    """The number of colour-preserving automorphisms of the rooted tree."""
    count = 1
    for child, multiplicity in Counter(t.children).items():
        count *= factorial(multiplicity) * automorphisms(child) ** multiplicity
    return count


def labels(t: Tree) -> Iterator[Label]:
    """The losses of all vertices, root first."""
    yield t.loss
    for child in t.children:
        yield from labels(child)


def relabel(t: Tree, rename: Callable[[Label], Label]) -> Tree:
    """The tree with every loss renamed."""
    return tree(rename(t.loss), *(relabel(child, rename) for child in t.children))


def graft(t: Tree, branch: Tree) -> Iterator[Tree]:
    """`t` with `branch` as one more child of a vertex, once for every vertex.

    Their sum is the derivative of F(t) in the direction F(branch).
    """
    yield tree(t.loss, *t.children, branch)
    for i, child in enumerate(t.children):
        others = t.children[:i] + t.children[i + 1 :]
        for grown in graft(child, branch):
            yield tree(t.loss, *others, grown)


def rootings(t: Tree) -> Iterator[Tree]:
    """The same free tree rooted at every vertex in turn.

    Their sum is the gradient of the scalar that the free tree stands for.
    """
    yield t
    yield from _rootings_below(t, None)


def _rootings_below(t: Tree, above: Tree | None) -> Iterator[Tree]:
    """Rootings at the proper descendants of `t`, where `above` hangs from `t` on its parent's side."""
    extra = () if above is None else (above,)
    for i, child in enumerate(t.children):
        stump = tree(t.loss, *t.children[:i], *t.children[i + 1 :], *extra)
        yield tree(child.loss, *child.children, stump)
        yield from _rootings_below(child, stump)


@cache
def free(t: Tree) -> Tree:
    """The free tree, represented by its smallest rooting."""
    return min(rootings(t))


_DERIVATIVES = ("g", "H", "T")


def text(t: Tree) -> str:
    """The elementary differential in plain notation: `g[-]`, `H[+] g[-]`, `T[+](g[-], H[+] g[-])`, `D4[a](...)`."""
    arity = len(t.children)
    head = f"{_DERIVATIVES[arity] if arity < 3 else f'D{arity + 1}'}[{t.loss}]"
    if arity == 0:
        return head
    if arity == 1:
        return f"{head} {text(t.children[0])}"
    return f"{head}({', '.join(map(text, t.children))})"


def latex(t: Tree, name: Callable[[Label], str] = str) -> str:
    """The elementary differential in LaTeX.

    Args:
        t: The tree.
        name: How a loss is written as a subscript.
    """
    arity = len(t.children)
    head = (_DERIVATIVES[arity] if arity < 3 else rf"D^{{{arity}}}\!g") + f"_{{{name(t.loss)}}}"
    if arity == 0:
        return head
    if arity == 1:
        return rf"{head}\,{latex(t.children[0], name)}"
    return rf"{head}\!\left[{', '.join(latex(child, name) for child in t.children)}\right]"
