"""The final answer in a solution, read as an exact fraction. Knows no model, no data set.

`docs/final-answers.md` has every rule as a row of a table, with its reason and examples that a test reads. A solution
is read in four stages: reasoning between tags is left out; a new problem behind the answer ends the text; numbers that
are written in one of many ways (LaTeX, thousands, powers of units, labels of steps) become plain ones; then the answer
is the number on a line `#### N`, or in a box, or the last one.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from experiments.data import reasoning

__all__ = ["Answer", "AnswerRule", "extract", "number"]

AnswerRule = Literal["hashes", "boxed", "last-number", "none"]
"""The place of an answer in its text: a line `#### N`, a LaTeX box, the last number, or none."""


@dataclass(frozen=True)
class Answer:
    """The final answer of a text.

    Attributes:
        value: The answer; None where there is no number.
        rule: Its place in the text.
    """

    value: Fraction | None
    rule: AnswerRule


# Numbers --------------------------------------------------------------------------------------------------------------

# ASCII digits only: float("٣") is 3 in Python, and no GSM8K answer is written so. A minus that follows a digit, a
# letter or a closing bracket is an operator.
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(rf"(?:(?<![0-9A-Za-z)\]])[-−])?\$?(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)(?:/{_DIGITS})?")
_MOST_CHARACTERS = 100  # a number with more is noise, and Python refuses to read one of thousands


def number(text: str) -> Fraction | None:
    """The number that a text is, exactly; None if it is none. "5.00", "$1,234", "-3", "1/2" and ".5" are numbers."""
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    return _value(match.group()) if match else None


def _value(text: str) -> Fraction | None:
    numerator, _, denominator = text.replace(",", "").replace("$", "").replace("−", "-").partition("/")
    if len(text) > _MOST_CHARACTERS or (denominator and not int(denominator)):
        return None
    return Fraction(numerator) / int(denominator or 1)


_CURRENCY = "[$€£¥₹]"
_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# A number in running text: 5, $5.50, 1/2, 2 1/2, 2 and 1/2, 1.2 million. Behind "8 " a minus is an operator as well,
# and a point behind a letter is a full stop: "Rs.72".
_IN_TEXT = re.compile(
    rf"(?P<sign>(?<![0-9A-Za-z)\]])(?<![0-9)\]%][^\S\n])-)?{_CURRENCY}?"
    rf"(?P<size>(?:{_DIGITS}(?:\.[0-9]+)?|(?<![0-9A-Za-z.])\.[0-9]+)(?:/{_DIGITS})?)"
    rf"(?:[^\S\n](?:and[^\S\n])?(?P<part>[0-9]{{1,4}}/[0-9]{{1,4}}(?![0-9,/]|\.[0-9])))?"
    rf"(?:[^\S\n]?(?P<scale>(?i:{'|'.join(_SCALES)}))(?![A-Za-z]))?"
)


class _Number(NamedTuple):
    start: int
    end: int
    value: Fraction


def _numbers(text: str) -> Iterator[_Number]:
    for match in _IN_TEXT.finditer(text):
        parts = match.group("size", "part")
        values = [value for part in parts if part and (value := _value(part)) is not None]
        if len(values) > 1 and values[0].denominator == 1 > values[1]:
            values = [values[0] + values[1]]
        scale = (-1 if match["sign"] else 1) * (_SCALES[match["scale"].lower()] if match["scale"] else 1)
        for value in values:
            yield _Number(match.start(), match.end(), value * scale)


# Spellings ------------------------------------------------------------------------------------------------------------


def _shifted(match: re.Match[str]) -> str:
    value = Fraction(match[1]) * Fraction(10) ** int(match[2])
    return f"{value.numerator}/{value.denominator}" if value.denominator > 1 else str(value.numerator)


def _of_unit(match: re.Match[str]) -> str:
    """A digit behind letters, or nothing where they are a unit of length: 72 m2."""
    return "" if _LENGTH.search(match.string[max(0, match.start() - 3) : match.start()]) else match[0]


def _vulgar(match: re.Match[str]) -> str:
    is_behind_digit = match.string[max(0, match.start() - 1) : match.start()].isdecimal()
    return " " * is_behind_digit + unicodedata.normalize("NFKC", match[0])


_LENGTH = re.compile(r"(?<![A-Za-z])(?:mm|cm|dm|m|km|in|ft|yd|mi)\Z")
# Blanks of every kind, LaTeX's among them, and apostrophes.
_THIN = r"(?:\{,\}|,\\!|\\[,;:! ]|~|[ \u00a0\u2007\u2009\u202f'’])"
_LABELS = "Day|Week|Month|Year|Part|Round|Phase|Stage|Case|Option|Section"
# Each way to write numbers: characters that every text with it has, its pattern, and its replacement. A model that has
# lost its way writes thousands of blanks or of opened boxes: each pattern takes linear time in them.
_SPELLINGS: tuple[tuple[str, str, str | Callable[[re.Match[str]], str]], ...] = (
    # <<48+24=72>>72 says 72 twice; without a number behind it an annotation says its result.
    ("<<", r"<<[^<>\n]*>>(?=\$?-?\.?[0-9])", ""),
    ("<<", r"<<(?:[^<>=\n]*=)*([^<>=\n]*)>>", r" \1 "),
    # What LaTeX needs around a sign or a word.
    ("\\", r"\\([$%])", r"\1"),
    ("\\", r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}0-9]*)\}", r"\1"),
    # Thousands: 10,\!000, 12\;000, 12 000, 1'234, 10, 000; and 1.234.567, which can be no decimal.
    ("", rf"(?<![0-9.,/])[0-9]{{1,3}}(?:{_THIN}[0-9]{{3}})+(?![0-9])", lambda match: re.sub("[^0-9]", "", match[0])),
    (", 000", r"(?<=[0-9]), 000(?![0-9])", "000"),
    (".", r"(?<![0-9.,/])[0-9]{1,3}(?:\.[0-9]{3}){2,}(?![0-9]|\.[0-9])", lambda match: match[0].replace(".", "")),
    # Fractions, and mixed numbers: the fraction behind a number is parted from it by a blank.
    ("frac", r"(?<=[0-9])[^\S\n]?\\(?=[dtc]?frac)", r" \\"),
    (
        "frac",
        r"\\[dtc]?frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))",
        lambda match: f"{(match[1] or match[2] or '').strip()}/{(match[3] or match[4] or '').strip()}",
    ),
    ("half", r"(?<=[0-9]) and (?:a|one)[ -]half\b", " 1/2"),
    # Powers: of ten behind a factor they shift; of a unit they say nothing; of another number they are no answer.
    (
        "10^",
        r"(?<![0-9.,/])([0-9]{1,15}(?:\.[0-9]{1,15})?) ?(?:\\times|\\cdot|[×x*·]) ?10\^\{?(-?[0-9]{1,2})\}?(?![0-9])",
        _shifted,
    ),
    ("^", r"(?<=[A-Za-z}])[^\S\n]?\^[^\S\n]?\{?-?[0-9]+\}?", " "),
    ("^", r"(?<![0-9,.])[0-9][0-9,.]*[^\S\n]?\^[^\S\n]?\{?-?[0-9]+\}?", " "),
    ("", r"(?<=[a-z])[23](?![0-9A-Za-z]|\.[0-9])", _of_unit),
    # "Step 3:" is a name. Of a time only the full hour is a number, of a ratio nothing is.
    ("Step ", r"\bStep [0-9]{1,3}\b", "Step"),
    (":", rf"\b(?:{_LABELS}) [0-9]{{1,3}}(?=\**:)", "Step"),
    (":", r"(?<![0-9:])([0-9]{1,2}):00(?::00)?(?![0-9:])", r"\1"),
    (":", r"(?<![0-9])[0-9]+(?::[0-9]+)+", " "),
    # Amounts: $ 5, $5k, = - 5.
    (
        "",
        rf"({_CURRENCY}) ?([0-9.][0-9,.]*)(?:([kKM])\b)?",
        lambda match: match[1] + match[2] + {"k": " thousand", "K": " thousand", "M": " million"}.get(match[3], ""),
    ),
    ("=", rf"=[^\S\n]?-[^\S\n](?={_CURRENCY}?\.?[0-9])", "= -"),
)
_SIGNS = {**dict.fromkeys("−–‐‑﹣－", "-"), "⁄": "/", "≈": "="}
_SIGN = re.compile(f"[{''.join(_SIGNS)}]")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
# "2. " at the start of a line.
_ENUMERATOR = re.compile(r"^([#>*_ \t]*)([0-9]{1,2})[.)](?=\**[^\S\n]+\S)", re.MULTILINE)


def _plain(text: str) -> str:
    """The text with its numbers in plain digits."""
    if not text.isascii():
        text = _SIGN.sub(lambda match: _SIGNS[match[0]], _VULGAR.sub(_vulgar, text))
    last = 0

    def without_enumerator(match: re.Match[str]) -> str:
        nonlocal last
        if int(match[2]) not in (1, last + 1):
            return match[0]
        last = int(match[2])
        return f"{match[1]}Step"

    text = _ENUMERATOR.sub(without_enumerator, text)
    for mark, pattern, plain in _SPELLINGS:
        if mark in text:
            text = re.sub(pattern, plain, text, flags=re.MULTILINE)
    return text


# What belongs to the answer -------------------------------------------------------------------------------------------

_ANSWER_AHEAD = re.compile(r"\b(?:Answer|Solution|Response|A)[*_]*:|####", re.IGNORECASE)
# Where a conversation changes hands, and where a line begins a problem.
_NEXT_PROBLEM = re.compile(
    r"<\|\w{1,20}\|>|</s>|\[INST\]|<(?:start|end)_of_turn>"
    r"|^[#>*_\- \t]*(?:(?:new|next|another|similar|practice|bonus)[^\S\n])?"
    r"(?:(?:question|problem|exercise|example|q)[^\S\n]?\#?[0-9]{1,3}[*_]*(?:[:.)]|[^\S\n]*$)"
    r"|(?:question|problem|exercise|q|user|human|instructions?)[^\S\n]?(?:\([^()\n]{1,12}\))?[*_]*:)[*_]*",
    re.IGNORECASE | re.MULTILINE,
)


def _of_one_problem(text: str) -> str:
    """The text up to a new problem behind the answer, without the question where it is restated first."""
    start = 0
    said: list[str] = []
    while match := _NEXT_PROBLEM.search(text, start):
        said.append(text[start : match.start()])
        if re.search("[0-9]", said[-1]):
            return "".join(said)
        start = match.end()
        if match[0][0] in "<[":
            continue
        line = text.find("\n", start)
        if line >= 0 and not text[start:line].strip(" \t*_"):  # the question stands on the line after it
            line = text.find("\n", line + 1)
        line = len(text) if line < 0 else line
        answer = _ANSWER_AHEAD.search(text, start, line)
        start = answer.start() if answer else line
    return "".join([*said, text[start:]])


# The rules ------------------------------------------------------------------------------------------------------------

# Digits with what joins them: "1,2" on a line of hashes is no number, not the number 1.
_JOINED = re.compile(r"[0-9]+(?:[.,/][0-9]+)*")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ANSWER_IS = re.compile(r"\A(?!\W*Step\b).*\banswer\b(?:[^.:=\n]*\bis\b)?\W*\Z", re.IGNORECASE)
_OPERATOR = re.compile(r"[-+*/×÷·]|\\(?:times|div|cdot)\b|\bx\b|^\($")


def extract(text: str) -> Answer:
    r"""The final answer of a generated solution.

    The first line `#### N` with a number or an equation; else the last number in the first `\boxed{}` that holds one;
    else the last number. Reasoning between tags does not count, nor does what follows the beginning of a new problem.

    Source:
        Cobbe et al. 2021 (arXiv 2110.14168) for the format; `docs/final-answers.md` for every rule and its reason.
    """
    if not re.search("[0-9¼-¾⅐-⅞]", text):
        return Answer(None, "none")
    text = _plain(_of_one_problem(reasoning.without(text)))
    before, *parts = text.split("####")
    lines = [_stated(part.partition("\n")[0]) for part in parts]
    value = next((line.value for line in lines if line.value is not None and not line.is_sentence), None)
    if value is None:
        value = _concluding(parts, lines)
    if value is not None:
        return Answer(value, "hashes")
    rests = ["\n" + part.partition("\n")[2] for part in parts]
    text = before + "".join("####" + line.text + rest for line, rest in zip(lines, rests, strict=True))
    after = 0
    while box := _BOX.search(text, after):
        inside = _braced(text[box.end() :])
        numbers = list(_numbers(_TEXT.sub(" ", inside))) or list(_numbers(inside))
        if numbers:
            return Answer(numbers[-1].value, "boxed")
        after = box.end() + len(inside)  # a box inside a box without a number holds none
    numbers = list(_numbers(text))
    return Answer(numbers[-1].value, "last-number") if numbers else Answer(None, "none")


class _Line(NamedTuple):
    """The content of a line of hashes.

    Attributes:
        value: The number; None where it has none.
        is_sentence: Whether words other than "answer" stand before it, as in a heading.
        text: The line without digits that are no number.
    """

    value: Fraction | None
    is_sentence: bool
    text: str


def _stated(line: str) -> _Line:
    line = re.sub(rf"^([^\w\n-]*-)[^\S\n]+(?={_CURRENCY}?\.?[0-9])", r"\1", line)  # #### - 7
    line = _JOINED.sub(lambda run: " " if "," in run.group() and number(run.group()) is None else run.group(), line)
    first = next(_numbers(line), None)
    if first is None:
        return _Line(None, False, line)
    words = _COMMAND.sub("", line[: first.start])
    is_sentence = any(map(str.isalnum, words)) and not _ANSWER_IS.search(words)
    sides = line.split("=")
    values = [value for side in (sides[-1], sides[0]) if (value := _single(side)) is not None]
    return _Line(values[0], is_sentence, line) if values else _Line(None, is_sentence, " ")


def _single(side: str) -> Fraction | None:
    """The first number of one side of an equation; None where there is none, or arithmetic with it."""
    numbers = list(_numbers(side))
    between = side[numbers[0].end : numbers[1].start] if len(numbers) > 1 else ""
    has_words = any(map(str.isalpha, _COMMAND.sub("", between).replace("x", "")))  # 72 clips - 2 of them red
    return numbers[0].value if numbers and (has_words or not _OPERATOR.search(between)) else None


def _concluding(parts: list[str], lines: list[_Line]) -> Fraction | None:
    """The number of a sentence behind hashes where no other number follows: a heading is followed by its section."""
    for part, line in zip(reversed(parts), reversed(lines), strict=True):
        if line.value is not None or next(_numbers(part), None) is not None:
            return None if next(_numbers(part.partition("\n")[2]), None) is not None else line.value
    return None


def _braced(text: str) -> str:
    """The text up to the brace that closes one opened before it; all of it if none does."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if not depth:
            return text[:place]
    return text
