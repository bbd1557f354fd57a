import pytest

from derivation.plain import plain, plain_text


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\tfrac12\,\nabla^{2}\mathcal{L}^{+}_{k}", "1/2 ∇²L⁺ₖ"),
        (r"\frac{B-2}{4 B}", "(B − 2)/(4B)"),
        (r"\frac{\eta^2}{B}", "η²/B"),
        (r"-\varepsilon\,g_{b_1}", "−ε g_(b₁)"),
        (r"\left\|\nabla\bar{\mathcal{L}}\right\|^{2}", "‖∇L̄‖²"),
        (r"a+b \allowbreak -c", "a + b − c"),
        (r"\sqrt{2}\,x", "√2 x"),
        (r"\text{two words}", "two words"),
    ],
)
def test_formulas_read_as_a_person_would_write_them(latex, text):
    assert plain(latex) == text


def test_prose_keeps_its_blanks():
    assert plain_text(r"so $a_1 = b$ and on") == "so a₁ = b and on"


def test_unknown_commands_are_named():
    with pytest.raises(ValueError, match=r"got \\wrongcommand"):
        plain(r"\wrongcommand{x}")
