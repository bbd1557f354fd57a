import json
from fractions import Fraction

import pytest

from derivation import expand
from derivation.averages import PLAIN
from derivation.frames import SLOT, flow, modified_field
from derivation.series import Schedule, compose
from derivation.trees import text


def printed(capsys, *arguments):
    assert expand.main(arguments) == 0
    return capsys.readouterr().out


def test_json_has_the_documented_form(capsys):
    content = json.loads(printed(capsys, "--schedule=-+", "--order", "2", "--json", "-"))
    assert content["schedule"] == "-+"
    assert content["order"] == 2
    leaf = {"loss": "-", "children": []}
    assert {"tree": {"loss": "+", "children": [leaf]}, "coefficient": "1", "text": "H[+] g[-]"} in content["terms"]
    assert {"tree": leaf, "coefficient": "-1", "text": "g[-]"} in content["terms"]
    assert len(content["terms"]) == 3


def coefficients(word, order, frame="none", sizes=""):
    series = expand.expansion(Schedule.parse(word, sizes), order, frame)
    return {text(t): c for t, c in series.items()}


def test_two_steps_of_different_size_by_hand():
    # theta - p g_a - q g_b(theta - p g_a) = theta - p g_a - q g_b + q p H_b g_a - (q p^2 / 2) T_b[g_a, g_a] + ...
    p, q = Fraction(1, 2), Fraction(3)
    assert coefficients("ab", 3, sizes="1/2,3") == {
        "g[a]": -p,
        "g[b]": -q,
        "H[b] g[a]": p * q,
        "T[b](g[a], g[a])": -q * p**2 / 2,
    }


def test_frames_by_hand():
    assert coefficients("-+", 2, "accumulated") == {"H[+] g[-]": 1}
    assert coefficients("-+-+", 2, "pair-accumulated") == {"H[+] g[-]": 2}
    # One step of descent against its own flow: (1/2) H g is what the flow has and the step has not.
    assert coefficients("a", 2, "gradient-flow") == {"H[a] g[a]": Fraction(-1, 2)}


def test_one_step_can_have_a_long_name():
    assert coefficients("kl,", 1) == {"g[kl]": -1}


def test_modified_field_says_where_a_loss_exists(capsys):
    text_ = printed(capsys, "--schedule=-++-", "--order", "3", "--modified-field")
    assert "order 2: the gradient of a loss" in text_
    assert "order 3: no gradient" in text_
    text_ = printed(capsys, "--schedule=-+", "--order", "2", "--modified-field")
    assert "order 2: no gradient" in text_


@pytest.mark.parametrize("letter", ["\N{WHITE SQUARE}", "\N{BLACK SQUARE}", "\N{WHITE MEDIUM SQUARE}", "x"])
def test_no_letter_means_anything_to_the_engine(letter, capsys):
    # Whatever a loss is called, the same is true of it. Both names sort behind "a".
    ordinary = printed(capsys, "--schedule=aqa", "--modified-field")
    assert "order 1: the gradient of a loss" in ordinary
    assert printed(capsys, f"--schedule=a{letter}a", "--modified-field") == ordinary.replace("q", letter)


def test_the_slot_of_a_jacobian_is_the_name_of_no_loss():
    with pytest.raises(ValueError, match="without blanks or brackets at every step"):
        Schedule((SLOT,))


def test_a_fifth_order_field_of_three_losses_flows_to_the_displacement():
    displacement = compose(Schedule.parse("abcabc"), 5)
    assert flow(modified_field(displacement, PLAIN, 5), PLAIN, 5) == displacement


def test_latex_escapes_names(capsys):
    text_ = printed(capsys, "--schedule", "kl_loss,reward", "--order", "1", "--latex")
    assert text_ == "&\\varepsilon\\left(-g_{\\mathrm{kl\\_loss}} -g_{\\mathrm{reward}}\\right)\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--schedule"),
        (["--schedule="], "at least one step"),
        (["--schedule", "a,,b"], "at step 2"),
        (["--schedule=-+", "--order", "0"], "at least 1; got 0"),
        (["--schedule=-+", "--order", "two"], "got two"),
        (["--schedule=-+", "--step-sizes", "1,x"], "got 'x' at step 2"),
        (["--schedule=-+", "--step-sizes", "1,1/0"], "got '1/0' at step 2"),
        (["--schedule=-+", "--step-sizes", "1"], "1 sizes for 2 steps"),
        (["--schedule=-+", "--step-sizes", "1e9999999,1"], "at step 1"),
        (["--schedule", "-+"], "equals sign"),
        (["--schedule", "a\x07"], "at step 2"),
        (["--schedule=-+", "--json", "-", "--latex"], "only one"),
        (["--schedule=-+-", "--frame", "pair-accumulated"], "multiple of the group, 2; got 3"),
        (["--schedule=-+", "--frame", "flow"], "gradient-flow"),
        (["--schedule=-+", "--frame", "accumulated", "--modified-field"], "leave --frame out"),
        (["--schedul=-+"], "Did you mean --schedule?"),
        (["--schedule=-+", "--json", "no/such/folder/x.json"], "folder that exists"),
    ],
)
def test_a_wrong_call_ends_with_2_and_one_line(arguments, hint, capsys):
    with pytest.raises(SystemExit) as exit_:
        expand.main(arguments)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1
