from collections import Counter
from itertools import product
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derivation.trees import Label, automorphisms, free, graft, latex, num_vertices, rootings, text, tree

LETTERS = st.sampled_from([Label("a"), Label("b")])
TREES = st.recursive(
    LETTERS.map(tree),
    lambda children: st.builds(lambda r, c: tree(r, *c), LETTERS, st.lists(children, max_size=3)),
    max_leaves=6,
)


def built_from_parents(parents):
    """The unlabelled tree in which vertex i + 1 hangs from parents[i]; one colour."""

    def below(i):
        return tree("a", *(below(j + 1) for j, parent in enumerate(parents) if parent == i))

    return below(0)


@pytest.mark.parametrize(("order", "count"), [(1, 1), (2, 1), (3, 2), (4, 4), (5, 9), (6, 20)])
def test_shapes_are_counted_and_weighed_as_cayley_says(order, count):
    # Every rooted tree arises from vertices that hang from earlier ones; n!/sigma labelled trees share a shape,
    # and there are n^(n-1) labelled rooted trees (Cayley).
    shapes = {built_from_parents(parents) for parents in product(*(range(i + 1) for i in range(order - 1)))}
    assert len(shapes) == count
    assert sum(factorial(order) // automorphisms(shape) for shape in shapes) == order ** (order - 1)


@given(TREES)
def test_a_free_tree_has_one_representative_whatever_its_root(t):
    everywhere = list(rootings(t))
    assert len(everywhere) == num_vertices(t)
    assert {free(rooted) for rooted in everywhere} == {free(t)}


@given(TREES, TREES)
def test_joining_two_roots_does_not_depend_on_which_is_the_root(t, u):
    assert free(tree(t.loss, *t.children, u)) == free(tree(u.loss, *u.children, t))


@given(TREES, TREES)
def test_the_gradient_of_an_inner_product_is_the_product_rule(t, u):
    # grad (F(t) . F(u)) has the graft of each on the other's ... : the derivative of v . w in any direction x
    # is (Dv x) . w + v . (Dw x), and here x is F of a new leaf.
    leaf = tree("new")
    joined = tree(t.loss, *t.children, u)
    along = Counter(free(grown) for grown in graft(joined, leaf))
    by_rule = Counter(free(tree(g.loss, *g.children, u)) for g in graft(t, leaf)) + Counter(
        free(tree(t.loss, *t.children, g)) for g in graft(u, leaf)
    )
    assert along == by_rule
    assert along == Counter(free(tree(rooted.loss, *rooted.children, leaf)) for rooted in rootings(joined))


def test_notation():
    chain = tree("+", tree("-"))
    assert text(chain) == "H[+] g[-]"
    assert text(tree("+", tree("-"), chain)) == "T[+](H[+] g[-], g[-])"
    assert text(tree("a", *[tree("b")] * 3)) == "D4[a](g[b], g[b], g[b])"
    assert latex(chain) == r"H_{+}\,g_{-}"
