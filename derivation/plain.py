r"""LaTeX as one line of text for a terminal:  \tfrac12\,\nabla^{2}\mathcal{L}_{k}  becomes  1/2 ∇²Lₖ.

Only the commands that this package writes; a test runs every formula of every claim through it.
"""

import re
from collections.abc import Iterator

__all__ = ["plain", "plain_text"]

_SIGNS = {
    "nabla": "∇", "sum": "Σ", "prod": "Π", "cdot": " · ", "varepsilon": "ε", "epsilon": "ε", "eta": "η", "theta": "θ",
    "beta": "β", "delta": "δ", "sigma": "σ", "tau": "τ", "mu": "μ", "ell": "ℓ", "pi": "π", "varphi": "φ", "Phi": "Φ",
    "Delta": "Δ", "partial": "∂", "infty": "∞", "to": " → ", "le": " ≤ ", "ge": " ≥ ", "ne": " ≠ ", "top": "⊤",
    "approx": " ≈ ", "ldots": "…", "quad": "   ", "Rightarrow": " ⇒ ", "iff": " ⇔ ", "mid": "|",
    "lim": "lim", "log": "log ", "qquad": "    ",
}  # fmt: skip
_ACCENTS = {"tilde": "\N{COMBINING TILDE}", "bar": "\N{COMBINING MACRON}", "hat": "\N{COMBINING CIRCUMFLEX ACCENT}"}
_TRANSPARENT = {"mathcal", "mathrm", "mathbb"}
_DROPPED = {"left", "right", "big", "Big", "allowbreak"}
_RAISED = dict(zip("0123456789+-nT⊤′", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵀᵀ′", strict=True))
_LOWERED = dict(zip("0123456789+-aehijklmnoprstuvxβ", "₀₁₂₃₄₅₆₇₈₉₊₋ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦ", strict=True))


def plain_text(paragraph: str) -> str:
    """A paragraph with formulas between dollar signs as text.

    Raises:
        ValueError: If a formula holds a command that is not known.
    """
    parts = paragraph.split("$")
    return "".join(part if i % 2 == 0 else plain(part) for i, part in enumerate(parts))


def plain(latex: str) -> str:
    """A formula as text.

    Raises:
        ValueError: If it holds a command that is not known.
    """
    text = "".join(_pieces(_Reader(latex)))
    text = _AFTER_SUM.sub(r"\1 ", text)
    return re.sub(r" ([)\]])", r"\1", " ".join(text.split()).replace(": =", " :="))


_AFTER_SUM = re.compile(r"([ΣΠ](?:_\([^()]*(?:\([^()]*\))?[^()]*\)|_.|[₀-₉ₐ-ₜᵢ-ᵥⱼ]+)?(?:\^\([^)]*\)|\^.|[ⁿ⁰-⁹])?)")


class _Reader:
    """The characters of a formula and how far it has been read."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.place = 0

    def peek(self) -> str:
        return self.source[self.place : self.place + 1]

    def take(self) -> str:
        character = self.peek()
        self.place += 1
        return character

    def command(self) -> str:
        """The name after a backslash: letters, or one other character."""
        if not self.peek().isalpha():
            return self.take()
        start = self.place
        while self.peek().isalpha():
            self.place += 1
        return self.source[start : self.place]

    def argument(self) -> str:
        """The next group, command or character, as text."""
        while self.peek() == " ":
            self.place += 1
        if self.peek() == "{":
            self.place += 1
            return "".join(_pieces(self, closing="}"))
        return next(_pieces(self), "")

    def verbatim(self) -> str:
        """The next group as it stands, blanks and all."""
        end = self.source.index("}", self.place)
        text = self.source[self.place + 1 : end]
        self.place = end + 1
        return text


def _pieces(reader: _Reader, closing: str = "") -> Iterator[str]:
    before = ""
    while reader.peek() and reader.peek() != closing:
        piece = _piece(reader, is_binary=bool(before) and before[-1] not in "([,=<>·≤≥≠→/|‖")
        if piece.strip():
            before = piece.rstrip()
        yield piece
    if closing:
        reader.take()


def _piece(reader: _Reader, *, is_binary: bool) -> str:
    character = reader.take()
    match character:
        case "\\":
            return _read_command(reader)
        case "{":
            return "".join(_pieces(reader, closing="}"))
        case "^" | "_":
            return _script(reader.argument(), raised=character == "^")
        case "'":
            return "′"
        case "+" | "-":
            sign = "−" if character == "-" else "+"
            return f" {sign} " if is_binary else sign
        case "=" | "<" | ">":
            return f" {character} "
        case ",":
            return ", "
        case " ":  # a blank means nothing in a formula
            return ""
        case _:
            return character


def _read_command(reader: _Reader) -> str:
    name = reader.command()
    if name in _SIGNS:
        return _SIGNS[name]
    if name in ("text", "operatorname"):
        return reader.verbatim()
    if name in _TRANSPARENT:
        return reader.argument()
    if name in _ACCENTS:
        return _accented(reader.argument(), _ACCENTS[name])
    if name in ("frac", "tfrac"):
        above, below = reader.argument(), reader.argument()
        return f"{_over(above)}/{_under(below)} "
    if name in ("binom", "tbinom"):
        return f"C({reader.argument()}, {reader.argument()})"
    if name == "sqrt":
        inside = reader.argument()
        return f"√{inside}" if len(inside) == 1 else f"√({inside})"
    if name in _DROPPED:
        if reader.peek() == ".":
            reader.take()
        return ""
    if name == "|":
        return "‖"
    if name in ", !;:":
        return " " if name in ",; :" else ""
    raise ValueError(f"formula must use known commands; got \\{name} in {reader.source!r}.")


def _accented(text: str, accent: str) -> str:
    return text[:1] + accent + text[1:]


def _over(text: str) -> str:
    """A numerator: in brackets where it is a sum."""
    depth = 0
    for character in text.strip()[1:]:
        depth += (character in "([") - (character in ")]")
        if depth <= 0 and character in "+−":
            return f"({text.strip()})"
    return text.strip()


def _under(text: str) -> str:
    """A denominator: in brackets unless it is a number or one symbol with its scripts."""
    stripped = text.strip()
    bare = "".join(c for c in stripped if c not in _RAISED.values() and c not in _LOWERED.values())
    is_atomic = (
        stripped.isdecimal()
        or len(bare) <= 1
        or (len(bare) > 3 and bare.isalpha())
        or (bare[0] == "√" and " " not in bare)
    )
    return stripped if is_atomic else f"({stripped})"


def _script(text: str, *, raised: bool) -> str:
    table = _RAISED if raised else _LOWERED
    compact = text.replace(" ", "").replace("−", "-")
    is_word = compact.isalpha() and len(compact) > 3  # a word in tiny letters cannot be read
    if compact and not is_word and all(character in table for character in compact):
        return "".join(table[character] for character in compact)
    mark = "^" if raised else "_"
    tight = re.sub(r"\s*([=<>≤≥≠→−+,])\s*", r"\1", text.strip())
    return f"{mark}{tight}" if len(tight) == 1 else f"{mark}({tight})"
