"""What a displacement is compared with: flows, modified fields, modified losses.

A drift is a displacement relative to a frame. The accumulated and the pair-accumulated frame are displacements
themselves and are subtracted; the gradient-flow frame needs backward error analysis: the field whose exact flow for
unit time is the update. All fields here are for unit time, so the field of a whole epoch carries its length.

Whether such a field has a potential is decided, not searched for: its Jacobian is a sum over trees with a second
marked vertex (the slot), transposing exchanges root and slot, and the field is a gradient for every choice of losses
if the antisymmetric part vanishes tree by tree. Where it does not, `witness` finds losses that show it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import chain

from derivation.averages import Indexing
from derivation.series import Coefficient, Schedule, Series, compose
from derivation.trees import Label, Tree, free, graft, labels, num_vertices, rootings, tree

__all__ = [
    "SLOT",
    "accumulated",
    "antisymmetric_jacobian",
    "derivative",
    "flow",
    "gradient",
    "joined",
    "losses_of",
    "modified_field",
    "potential",
    "scalar_tree",
]

SLOT = Label("[\N{WHITE SQUARE}]")
"""The open slot of a Jacobian: a leaf that stands for the vector that the matrix is applied to.

Its name holds brackets, which no loss of a `Schedule` may have in its own: so it is never a loss.
"""

_OPEN = tree(SLOT)


def accumulated(schedule: Schedule, order: int, *, group: int | None = None) -> Series:
    """The displacement of accumulated updates: all gradients of a group of steps are read before the first of them.

    Args:
        schedule: The steps.
        order: The highest power of the step size kept.
        group: How many consecutive steps share one read; None: all of them (then only the first order is not zero),
            2: one accumulated step per pair.

    Raises:
        ValueError: If `group` is smaller than 1 or the number of steps is no multiple of it.
    """
    size = len(schedule.losses) if group is None else group
    if size < 1 or len(schedule.losses) % size:
        raise ValueError(f"number of steps must be a multiple of the group, {size}; got {len(schedule.losses)}.")
    return compose(replace(schedule, sizes=(size,) * (len(schedule.losses) // size)), order)


def derivative(
    field: Mapping[Tree, Coefficient],
    direction: Mapping[Tree, Coefficient],
    indexing: Indexing,
    order: int | None = None,
) -> Series:
    """The derivative of a vector field along another one, both as series (the pre-Lie product of their trees).

    Args:
        field: What is differentiated.
        direction: Along which field.
        indexing: What the bound indices of both mean.
        order: The highest power of the step size kept; None: all. A product has the vertices of both its factors, so
            what is left out is not made at all.
    """
    sizes = set(map(num_vertices, field))
    partners = {
        size: [(s, d) for s, d in direction.items() if order is None or size + num_vertices(s) <= order]
        for size in sizes
    }
    return Series(
        (indexing.canonical(grown), c * d)
        for t, c in field.items()
        for s, d in partners[num_vertices(t)]
        for target, branch in indexing.aligned(t, s)
        for grown in graft(target, branch)
    )


def joined(left: Series, right: Series, indexing: Indexing) -> Series:
    """The inner product of two vectors as a series of free trees: an edge between the two roots."""
    return Series(
        (scalar_tree(tree(target.loss, *target.children, branch), indexing), c * d)
        for t, c in left.items()
        for s, d in right.items()
        for target, branch in indexing.aligned(t, s)
    )


def gradient(scalar: Series, indexing: Indexing) -> Series:
    """The gradient of a series of free trees: every vertex becomes the root once."""
    return Series((indexing.canonical(rooted), c) for t, c in scalar.items() for rooted in rootings(t))


def scalar_tree(t: Tree, indexing: Indexing) -> Tree:
    """The representative of a free tree whose bound indices may be renamed."""
    return min(free(indexing.canonical(rooted)) for rooted in rootings(t))


def flow(field: Series, indexing: Indexing, order: int) -> Series:
    """The displacement of the exact flow of a field for unit time: sum over j of (1/j!) D_field^(j-1) field."""
    displacement, term = field, field
    for j in range(2, order + 1):
        term = derivative(term, field, indexing, order).scaled(Fraction(1, j))
        displacement = displacement + term
    return displacement.up_to(order)


def modified_field(
    displacement: Series, indexing: Indexing, order: int, on_order: Callable[[int], None] = lambda _: None
) -> Series:
    """The field whose flow for unit time is the given displacement, to the given order (backward error analysis).

    The flow is the sum of T_1 = field and T_j = (1/j) D_field T_(j-1). A product has the vertices of both its factors:
    so T_2, T_3, ... at order p need the field below order p only, and the field at order p is the displacement there
    less their sum.

    Args:
        displacement: The displacement.
        indexing: What its bound indices mean.
        order: The highest power of the step size kept.
        on_order: Told each order, from 1, before it is computed.

    Source:
        Hairer, Lubich & Wanner, Geometric Numerical Integration, ch. IX.
    """
    field: dict[int, Series] = {}  # by order
    terms: dict[tuple[int, int], Series] = {}  # T_j at order p under (j, p); every product below is made once
    for p in range(1, order + 1):
        on_order(p)
        rest = displacement.of_order(p)
        for j in range(2, p + 1):  # T_j begins at order j
            products = (derivative(terms[j - 1, q], field[p - q], indexing).items() for q in range(j - 1, p))
            terms[j, p] = Series(chain.from_iterable(products)).scaled(Fraction(1, j))
            rest = rest - terms[j, p]
        terms[1, p] = field[p] = rest
    return Series(chain.from_iterable(part.items() for part in field.values()))


def antisymmetric_jacobian(field: Series, indexing: Indexing) -> Series:
    """J - J^T of a field, as trees with one leaf `SLOT`; where it is zero the field is a gradient for all losses."""
    terms: list[tuple[Tree, Coefficient]] = []
    for t, c in field.items():
        for opened in graft(t, _OPEN):
            terms.append((indexing.canonical(opened), c))
            terms.append((indexing.canonical(_transposed(opened)), -c))
    return Series(terms)


def _transposed(opened: Tree, above: Tree = _OPEN) -> Tree:
    """Root and slot exchanged: the tree is rooted where the slot hung, and the slot hangs at the old root.

    Args:
        opened: A tree with one slot.
        above: What hangs at its root on the other side; the slot itself at the old root.
    """
    for i, child in enumerate(opened.children):
        if SLOT in labels(child):
            stump = tree(opened.loss, *opened.children[:i], *opened.children[i + 1 :], above)
            return stump if child == _OPEN else _transposed(child, stump)
    raise AssertionError("an opened tree holds its slot")


def potential(field: Series, indexing: Indexing) -> Series | None:
    """The scalar whose gradient is the field, as a series of free trees, or None where J - J^T is not zero."""
    candidate: dict[Tree, Coefficient] = {}
    for t, c in field.items():
        multiplicity = sum(1 for rooted in rootings(t) if indexing.canonical(rooted) == t)
        candidate[scalar_tree(t, indexing)] = c * Fraction(1, multiplicity)
    scalar = Series(candidate)
    return scalar if gradient(scalar, indexing) == field else None


def losses_of(series: Series) -> list[Label]:
    """The losses that a series names, without the slot."""
    return sorted({label for t in series for label in labels(t)} - {SLOT})
