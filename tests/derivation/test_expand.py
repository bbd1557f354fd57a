import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from itertools import islice
from math import factorial
from pathlib import Path

import pytest

from derivation import effort, expand
from derivation.averages import PLAIN
from derivation.effort import displacement_trees, rooted_trees
from derivation.frames import SLOT, flow, modified_field
from derivation.series import Schedule, compose
from derivation.trees import Label, num_vertices, text

ROOT = Path(__file__).parents[2]


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


def test_brackets_by_hand():
    # Both gradients of the bracket are read at theta, that of c behind their step of 1/2 and 3.
    assert coefficients("(a:1/2,b:3),c", 2) == {
        "g[a]": Fraction(-1, 2), "g[b]": -3, "g[c]": -1, "H[c] g[a]": Fraction(1, 2), "H[c] g[b]": 3,
    }  # fmt: skip
    assert coefficients("(-+)(-+)", 3, "pair-accumulated") == {}
    assert coefficients("(-+-)", 3) == {"g[-]": -2, "g[+]": -1}


@pytest.mark.parametrize("word", ["(ab)c", "c(ab)", "(ab)c(ab)", "(ab)(ab)(ab)", "c(ab)c"])
def test_a_bracket_is_one_step_on_the_sum_of_its_losses(word):
    # s stands for the bracket, and is replaced by the sum afterwards: F is linear in the loss at each vertex.
    of_sum = compose(Schedule.parse(word.replace("(ab)", "s")), 4)
    ones = {Label("s"): {Label("a"): 1, Label("b"): 1}, Label("c"): {Label("c"): 1}}
    assert compose(Schedule.parse(word), 4) == of_sum.substituted(lambda loss: ones[loss])


def test_a_schedule_is_printed_as_it_is_read():
    for word in ("(-+)(-+)", "-+-+", "kl,(reward,kl)", "kl,"):
        assert str(Schedule.parse(word)) == word


def test_a_reversed_schedule_keeps_its_brackets():
    backwards = Schedule.parse("-(+-)", "1,2,3").reversed()
    assert str(Schedule.parse("-(+-)").reversed()) == "(-+)-"
    assert (backwards.sizes, backwards.step_sizes) == ((2, 1), (3, 2, 1))


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
    with pytest.raises(ValueError, match="without blanks, colons, commas and brackets"):
        Schedule((SLOT,))


def test_a_fifth_order_field_of_three_losses_flows_to_the_displacement():
    displacement = compose(Schedule.parse("abcabc"), 5)
    assert flow(modified_field(displacement, PLAIN, 5), PLAIN, 5) == displacement


def test_the_json_says_where_the_modified_field_is_a_gradient(capsys):
    # -++- is a palindrome: its field has no second-order bracket; at third order the curl is that of the text.
    content = json.loads(printed(capsys, "--schedule=-++-", "--modified-field", "--json", "-"))
    assert [(row["order"], row["is_gradient"]) for row in content["gradient"]] == [(1, True), (2, True), (3, False)]
    assert content["gradient"][0]["witness"] is None
    assert content["gradient"][2]["witness"]["jacobian"] == "dX₁/dy = -2/3, dX₂/dx = -1/3"
    assert "gradient" not in json.loads(printed(capsys, "--schedule=-++-", "--json", "-"))


def test_an_order_without_terms_is_a_gradient(capsys):
    # One step and its inverse: the field is zero at first order.
    content = json.loads(printed(capsys, "--schedule=aa", "--step-sizes=1,-1", "--modified-field", "--json", "-"))
    assert content["gradient"][0]["is_gradient"] is True


@pytest.mark.parametrize("word", ["abab", "abcabc", "aab", "aaaa", "abcba"])
def test_the_trees_of_a_displacement_are_counted_without_making_them(word):
    count = Counter(map(num_vertices, compose(Schedule.parse(word), 6)))
    assert [count[order] for order in range(1, 7)] == [trees for trees, _ in islice(displacement_trees(word), 6)]


def test_rooted_trees_are_counted_as_cayley_and_polya_did():
    # The numbers of rooted trees, A000081, and of those whose vertices are of two colours, A000151.
    assert list(islice(rooted_trees(1), 12)) == [1, 1, 2, 4, 9, 20, 48, 115, 286, 719, 1842, 4766]
    assert list(islice(rooted_trees(2), 7)) == [2, 4, 14, 52, 214, 916, 4116]


def test_what_ends_is_computed_to_a_high_order(capsys):
    # One step on a, one on b: b alone has children, all of them g[a], and Taylor's coefficients.
    content = json.loads(printed(capsys, "--schedule=ab", "--order", "40", "--json", "-"))
    assert len(content["terms"]) == 41
    assert content["terms"][-1]["coefficient"] == str(Fraction((-1) ** 40, factorial(39)))


def test_the_limit_can_be_overruled(monkeypatch, capsys):
    monkeypatch.setattr(effort, "LIMIT", 10)
    with pytest.raises(SystemExit):
        expand.main(["--schedule=-+"])
    assert "at most 1 for this schedule; got order 3" in capsys.readouterr().err
    assert "H[+] g[-]" in printed(capsys, "--schedule=-+", "--no-limit")
    monkeypatch.setattr(effort, "LIMIT", 1)
    with pytest.raises(SystemExit):
        expand.main(["--schedule=-+"])
    assert "--schedule must be shorter" in capsys.readouterr().err


def test_a_coefficient_of_thousands_of_digits_is_printed_whole(capsys):
    sizes = f"1/{'9' * 90},1"
    text_ = printed(capsys, "--schedule=ab", "--step-sizes", sizes, "--order", "60")
    assert f"/{int('9' * 90) ** 59 * factorial(59)}  D60[b](" in text_


def test_progress_and_an_interrupt(tmp_path):
    """What takes long says so on standard error, and ends at once."""
    with subprocess.Popen(
        [sys.executable, "-m", "derivation.expand", "--schedule=abcabc", "--order=9", "--modified-field", "--no-limit"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        out, error = process.communicate(timeout=60)
    assert re.fullmatch(r"expanding: \d+ of 24 stages, .*, \d+ s\n", first)
    assert (process.returncode, out) == (130, "")
    assert error.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in error
    assert time.monotonic() - start < 10


def test_latex_escapes_names(capsys):
    text_ = printed(capsys, "--schedule", "kl_loss,reward", "--order", "1", "--latex")
    assert text_ == "&\\varepsilon\\left(-g_{\\mathrm{kl\\_loss}} -g_{\\mathrm{reward}}\\right)\n"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--schedule"),
        (["--schedule="], "at least one step"),
        (["--schedule", "a,,b"], "at step 2"),
        (["--schedule=-+", "--order", "0"], "at least 1 and at most 1000; got 0"),
        (["--schedule=-+", "--order", "two"], "got two"),
        (["--schedule=-+-+", "--order", "40"], "at most 17 for this schedule; got order 40 of 4 steps. Order 40 alone"),
        (["--schedule=abcabc", "--order", "40", "--modified-field"], "at most 6 for this schedule"),
        (["--schedule=ab", "--order", "40", "--frame", "gradient-flow"], "--no-limit begins all the same"),
        (["--schedule=" + 20_000 * "ab", "--order", "40"], "at most 5 for this schedule"),
        (["--schedule=-+", "--step-sizes", "1,x"], "got 'x' at step 2"),
        (["--schedule=-+", "--step-sizes", "1,1/0"], "got '1/0' at step 2"),
        (["--schedule=-+", "--step-sizes", "1"], "1 sizes for 2 steps"),
        (["--schedule=-:2,+", "--step-sizes", "1,1"], "left out where the schedule has scales"),
        (["--schedule=(-+"], "brackets in pairs"),
        (["--schedule=-+", "--step-sizes", "1e9999999,1"], "at step 1"),
        (["--schedule", "--+"], "equals sign"),
        (["--schedule", "--latex"], "--schedule must have a value"),
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
