"""Players and fields: closed forms of bilinear games, and Jacobians that are written down by hand."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numerics import averages, comparison, drift, fields, losses, optimizers, schedules, updates
from numerics.epoch import Epoch
from numerics.random_schedules import RandomSchedule
from tests.support.rounding import assert_equal_to_round_off

SGD = optimizers.gradient_descent()
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "games.md").read_text(encoding="utf-8")

# A game on R^2 x R^2 whose fields are not linear: L_a(x, y) = x.A y + sum(x^3)/3, L_b(x, y) = x.B y + sum(y^4)/4.
A, B = np.array([[1.0, 2.0], [-0.5, 1.5]]), np.array([[0.5, -1.0], [2.0, 0.25]])
START = {"x": jnp.array([0.5, -0.75]), "y": jnp.array([1.25, 0.5])}


def loss_a(params, batch):
    return params["x"] @ jnp.asarray(A) @ params["y"] + jnp.sum(params["x"] ** 3) / 3


def loss_b(params, batch):
    return params["x"] @ jnp.asarray(B) @ params["y"] + jnp.sum(params["y"] ** 4) / 4


FIRST, SECOND = fields.masked(loss_a, {"x": True, "y": False}), fields.masked(loss_b, {"x": False, "y": True})
GAME = losses.Losses((FIRST, SECOND), (None, None), ("a", "b"))


def by_hand():
    """Both fields on (x, y) and their Jacobians."""
    x, y = np.asarray(START["x"]), np.asarray(START["y"])
    zero, none = np.zeros(2), np.zeros((2, 2))
    first = np.concatenate([A @ y + x**2, zero]), np.block([[np.diag(2 * x), A], [none, none]])
    second = np.concatenate([zero, B.T @ x + y**3]), np.block([[none, none], [B.T, np.diag(3 * y**2)]])
    return first, second


def test_the_jacobian_of_a_player_has_the_player_s_rows():
    (g_a, J_a), (g_b, J_b) = by_hand()
    own = J_a @ g_a + J_b @ g_b
    for text, (of_a, of_b) in {"(ab)": (-1, -1), "ab": (-1, 1), "ba": (1, -1)}.items():
        word = schedules.word(text, GAME.names, GAME.counts)
        first, second = drift.closed_form(GAME, word, START, frame="gradient-flow", order=2)
        expected = (of_a * J_a @ g_b + of_b * J_b @ g_a - own) / 2  # Rosca et al. 2021, theorems 3.1 and 3.2
        assert_equal_to_round_off(second, expected, scale=10.0)
        assert not any(leaf.any() for leaf in first.values())
    assert np.abs(J_b @ g_a).max() > 0.1


def test_real_updates_of_a_game_agree_through_third_order():
    """Under Adam, at other rates of the players, with both at once in the second half."""
    word = schedules.word("a:2,b,(a,b:1/2)", GAME.names, GAME.counts)
    rule = optimizers.parse("adam:eps_root=1e-2")
    found = comparison.compare(Epoch(GAME, word, rule, START), frame="accumulated")
    assert [fit.verdict for fit in found.fits] == ["met"] * 3


def test_a_bilinear_game_in_closed_form():
    """With z = x + iy the word (ab) multiplies z by 1 + is; under ab y steps with the new x, a shear of each."""
    game = losses.Losses(
        tuple(fields.masked(f, m) for f, m in ((product, (True, False)), (losses.negated(product), (False, True)))),
        (None, None),
        ("a", "b"),
    )
    start, size = (jnp.array(1.0), jnp.array(2.0)), 0.25
    shear_x, shear_y = np.array([[1, -size], [0, 1]]), np.array([[1, 0], [size, 1]])
    maps = {"(ab)": shear_x + shear_y - np.eye(2), "ab": shear_y @ shear_x, "ba": shear_x @ shear_y}
    for text, matrix in maps.items():
        word = schedules.word(text, game.names, game.counts)
        found = updates.sequential(Epoch(game, word, SGD, start), step_size=size)
        assert_equal_to_round_off(found.displacement, (matrix - np.eye(2)) @ [1.0, 2.0], scale=4.0)


def product(params, batch):
    x, y = params
    return x * y


def test_means_over_random_orders_of_a_game():
    """A player on each side, two batches each: the mean in O(n) is that over all words, with Jacobians by hand."""
    factors = jnp.array([1.0, 3.0])
    sides = [fields.masked(lambda p, c: c * loss_a(p, c), {"x": True, "y": False})]
    sides.append(fields.masked(lambda p, c: c * loss_b(p, c), {"x": False, "y": True}))
    pairs = losses.pairs(sides[0], factors, sides[1], factors)
    (g_a, J_a), (g_b, J_b) = by_hand()
    gradients, jacobians = ([c * each for each in of_both for c in (1.0, 3.0)] for of_both in ((g_a, g_b), (J_a, J_b)))
    words = [(0, 2, 1, 3), (1, 3, 0, 2)]
    products = [[jacobians[w[i]] @ gradients[w[j]] for i in range(4) for j in range(i)] for w in words]
    every = np.sum(products, axis=1)
    found = averages.closed_form(pairs, RandomSchedule("joint", "-"), START, frame="accumulated")
    assert_equal_to_round_off(found[1], np.mean(every, axis=0), scale=100.0)
    terms = averages.terms(pairs, START)
    total = jax.tree.map(lambda *leaves: sum(leaves), *terms[:3])
    assert_equal_to_round_off(total, found[1], scale=100.0)


def test_a_field_of_a_function_is_stepped_and_differentiated():
    """(y, -x) turns the plane: no loss has this gradient. The batch scales it."""

    def turn(params, batch):
        return {"x": batch * params["y"], "y": -batch * params["x"]}

    made = losses.Losses((fields.of_function(turn),), (jnp.array([1.0, 2.0]),), ("a",))
    params = {"x": jnp.array([1.0]), "y": jnp.array([3.0])}
    update = updates.sequential(Epoch(made, schedules.steps([0, 1]), SGD, params), step_size=0.5)
    one, other = (np.array([[1.0, -0.5 * c], [0.5 * c, 1.0]]) for c in (1.0, 2.0))
    assert_equal_to_round_off(update.displacement, other @ one @ [1.0, 3.0] - [1.0, 3.0], scale=4.0)
    itself = losses.Losses((fields.of_function(lambda params, batch: params),), (None,), ("a",))
    assert itself.value(params, jnp.asarray(0)) == 0
    found = drift.closed_form(made, schedules.steps([0, 1]), params, frame="accumulated", order=3)
    assert_equal_to_round_off(found[1], 2.0 * np.array([-1.0, -3.0]))  # J^2 = -1, at 2 times 1
    assert not any(leaf.any() for leaf in found[2].values())


def test_a_mask_may_choose_coordinates():
    mask = np.array([True, False])
    made = losses.of_params([lambda p: p[0] ** 2 * p[1]])
    own = losses.Losses((fields.masked(made.functions[0], mask),), (None,), ("a",))
    found = drift.closed_form(own, schedules.steps([0, 0]), jnp.array([2.0, 3.0]), frame="start", order=2)
    assert_equal_to_round_off(found, [[-24.0, 0.0], [72.0, 0.0]])  # -2 (2xy), (2y)(2xy)


@pytest.mark.parametrize("mask", [{"x": True}, {"x": {"deep": True}, "y": False}])
def test_a_mask_that_is_not_of_the_parameters_is_refused(mask):
    game = losses.Losses((fields.masked(loss_a, mask),), (None,), ("a",))
    with pytest.raises(TypeError, match=r"^loss 'a' must be computable"):
        losses.check(game, START)


def test_a_field_of_other_shapes_is_refused():
    made = losses.Losses((fields.of_function(lambda params, batch: {"x": params["x"]}),), (None,), ("a",))
    with pytest.raises(TypeError, match=r"a field must have the structure of params"):
        losses.check(made, START)


# The page -------------------------------------------------------------------------------------------------------------


def test_the_code_of_the_page_prints_what_the_page_says():
    code, printed = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("python", "text"))
    assert code is not None
    assert printed is not None
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code[1], {"__name__": "page"})
    assert out.getvalue() == printed[1]


def test_the_commands_of_the_page_print_what_the_page_says():
    block = re.search(r"```console\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    commands = re.findall(r"^\$ python -m (\S+) (\S+) (.*)\n((?:[^$].*\n)+)", block[1], re.MULTILINE)
    assert len(commands) == 2
    for module, schedule, options, printed in commands:
        call = [sys.executable, "-m", module, schedule.replace('"', ""), *options.split()]
        done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.stdout == printed, done.stderr
