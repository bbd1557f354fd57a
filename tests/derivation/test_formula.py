from fractions import Fraction

import pytest

from derivation.averages import MEANS
from derivation.formula import Formula, gradient, hessian, inner, loss, mean, squared_norm, term, third
from derivation.symbols import B, element, n
from derivation.trees import text


def expanded(formula):
    return {text(t): c for t, c in formula.series().items()}


def test_a_formula_means_what_it_says_by_hand():
    plus, minus = loss("+"), loss("-")
    formula = Formula((term(1 / (2 * B), gradient(inner(gradient(plus), gradient(minus)))),))
    half = element(1 / (4 * n))
    assert expanded(formula) == {"H[+] g[-]": half, "H[-] g[+]": half}
    assert formula.latex == r"\frac{1}{2 B}\,\nabla \left(\nabla \mathcal{L}^{+} \cdot \nabla \mathcal{L}^{-}\right)"


def test_means_of_products_and_products_of_means_are_different_things():
    member = loss("+", -1, indexing=MEANS)
    together = Formula((term(1, mean(squared_norm(gradient(member)))),))
    apart = Formula((term(1, squared_norm(gradient(mean(member)))),))
    assert expanded(together) == {"H[+1] g[+1]": element(1)}
    assert expanded(apart) == {"H[+1] g[+2]": element(1)}


def test_the_gradient_of_a_norm_is_twice_hessian_times_gradient():
    a = loss("a")
    left = Formula((term(1, gradient(squared_norm(gradient(a)))),))
    right = Formula((term(2, hessian(a, gradient(a))),))
    assert left.series() == right.series()


def test_mutants_differ_in_value_and_a_slip_without_effect_is_none():
    plus, minus = loss("+"), loss("-")
    symmetric = Formula((term(n, gradient(inner(gradient(plus), gradient(minus)))),))
    mutants = dict(symmetric.mutants())
    assert set(mutants) == {"term 1: sign flipped", "term 1: coefficient 1 % off", "term 1: n off by one"}
    value = symmetric.series()
    assert mutants["term 1: sign flipped"] == value.scaled(-2)
    assert mutants["term 1: coefficient 1 % off"] == value.scaled(Fraction(1, 100))
    assert mutants["term 1: n off by one"] == value.scaled(1 / element(n))
    one_sided = Formula((term(n, hessian(plus, gradient(minus))),))
    swapped = dict(one_sided.mutants())["term 1: + and - swapped"]
    assert {text(t): c for t, c in swapped.items()} == {"H[+] g[-]": element(-n), "H[-] g[+]": element(n)}


def test_third_derivatives_of_anything_but_losses_are_refused():
    g = gradient(loss("a"))
    with pytest.raises(ValueError, match="linear combination of losses"):
        third(squared_norm(g), g, g)
