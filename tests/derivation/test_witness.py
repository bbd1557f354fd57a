from fractions import Fraction

from derivation.averages import MEANS, PLAIN, at
from derivation.series import Schedule, Series, compose
from derivation.trees import Label, tree
from derivation.witness import format_loss, of_difference, search


def test_both_values_of_a_witness_by_hand():
    # Two steps on a then b: the second-order part is H_b g_a. Against three times that, the simplest losses on which
    # they differ are x and x^2/2, and the values there are 1 and 3.
    truth = compose(Schedule.parse("ab"), 2).of_order(2)
    witness = of_difference(lambda _: truth, truth - truth.scaled(3), PLAIN)
    assert witness is not None
    assert witness.setting == "L[a] = x, L[b] = x²/2, at x = 0"
    assert (witness.left, witness.right) == ("1", "3")


def test_losses_that_only_the_truth_names_are_zero_and_said_to_be():
    truth = compose(Schedule.parse("abc"), 2).of_order(2)
    difference = Series({tree("b", tree("a")): Fraction(1)})
    witness = of_difference(lambda _: truth, difference, PLAIN)
    assert witness is not None
    assert "other losses 0" in witness.setting
    assert (witness.left, witness.right) == ("1", "0")


def test_the_number_of_pairs_is_the_first_at_which_two_means_differ():
    # E[H_k g_k] and E[H] E[g] are the same for one pair.
    together = Series({tree(Label("+", 1), tree(Label("-", 1))): Fraction(1)})
    apart = Series({tree(Label("+", 1), tree(Label("-", 2))): Fraction(1)})
    witness = of_difference(lambda n: at(together, MEANS, n), together - apart, MEANS)
    assert witness is not None
    assert witness.setting.startswith("n = 2")
    # H = 1 in one pair and g = 1 in the other: no pair has both, and the means are 1/2 each.
    assert (witness.left, witness.right) == ("0", "1/4")


def test_what_needs_two_dimensions_is_found_there():
    hit = search([Label("a")], 2, lambda _, dimension: dimension == 2)
    assert hit is not None
    losses, dimension = hit
    assert dimension == 2
    assert set(losses[Label("a")].values()) == {0}  # shrunk as far as it goes


def test_polynomials_read_as_a_person_would_write_them():
    assert format_loss({(1,): -1, (2,): 3}) == "−x + 3x²/2"
    assert format_loss({(1, 1): 1, (0, 2): -1, (2, 1): 1}) == "xy − y²/2 + x²y/2"
    assert format_loss({(1,): 0}) == "0"
