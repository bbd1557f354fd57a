"""Word problems with annotated step-by-step solutions, made up on the spot: for machines without a network.

A problem is a function of the seed, the split and its number alone. Its first sentence is decided by a key that no
other problem has, the rest by chance. So all questions differ, and no question of the one split is in the other,
whatever the seeds. The plots are the table `templates.txt`; nothing here knows them, nor how the problems are used.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import NamedTuple, TypeVar

from experiments.data.gsm8k import SPLITS, Problem, Split

__all__ = ["MOST_PROBLEMS", "MOST_STEPS", "generate"]

MOST_STEPS = 8
MOST_PROBLEMS = 2**20
"""In one split: half of the keys."""

_T = TypeVar("_T")
_KEY_BITS = 21
_SEED_LIMIT = 2**64
_LARGEST = 40_000  # of all amounts: larger ones are not plausible


def generate(
    count: int, *, seed: int, split: Split = "train", min_steps: int = 1, max_steps: int = MOST_STEPS
) -> Iterator[Problem]:
    """The first `count` problems, all different.

    Args:
        count: How many; the first ones do not depend on it.
        seed: Other seeds give other problems.
        split: Train and test share no question, nor do they under different seeds or numbers of steps.
        min_steps: The fewest steps of a solution; as many problems have each number of steps, on average.
        max_steps: The most.

    Raises:
        ValueError: If `count` is not in 0 ... MOST_PROBLEMS, the steps not in 1 ... MOST_STEPS, the seed not in
            0 ... 2^64 - 1, or the split unknown.
    """
    if not 0 <= count <= MOST_PROBLEMS:
        raise ValueError(f"`count` must lie in 0 ... {MOST_PROBLEMS}; got {count}. There are no more distinct ones.")
    if not 0 <= seed < _SEED_LIMIT:
        raise ValueError(f"`seed` must lie in 0 ... 2^64 - 1; got {seed}.")
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}; got {split!r}.")
    if not 1 <= min_steps <= max_steps <= MOST_STEPS:
        raise ValueError(
            f"`min_steps` and `max_steps` must be in order within 1 ... {MOST_STEPS}; got {min_steps} and {max_steps}."
        )
    return (_problem(place, seed, split, min_steps, max_steps) for place in range(count))


def _problem(place: int, seed: int, split: Split, min_steps: int, max_steps: int) -> Problem:
    chance = random.Random(_digest(f"{seed} {split} {place}"))
    num_steps = chance.randint(min_steps, max_steps)
    # The last bit tells the splits apart under every seed; mixed by itself it would show as a habit of the test split.
    key = _mixed(2 * _mixed(place, _digest(f"order {seed}"), _KEY_BITS - 1) + (split == "test"), 0, _KEY_BITS)
    question, solution, gold = _Story(key, chance).of_steps(num_steps)
    return Problem(id=f"{split}-{place + 1}", question=question, solution=solution, gold=gold)


def _digest(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(number: int, salt: int, num_bits: int) -> int:
    """A permutation of the numbers below 2^num_bits: every step of it can be undone."""
    for turn in range(4):
        number = (number * 0x9E3779B1 + (salt >> (16 * turn)) + turn) % 2**num_bits  # odd, so invertible
        number ^= number >> (num_bits // 2)
    return number


# The table ------------------------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """A step of a solution: the name of its result, its arithmetic, and the line that shows it, in each wording."""

    name: str
    tokens: list[str]
    wordings: list[str]


class _Event(NamedTuple):
    """Something that happens to the amount of a problem.

    Attributes:
        draws: The numbers that it needs.
        say: A sentence of the question, in each of its wordings.
        steps: The steps of the solution.
        ask: The question of a problem that ends here.
        is_sure: Whether numbers for it can be drawn at any amount.
        is_needed: Whether it cannot be left out on the way to later ones.
    """

    draws: list[str]
    say: list[str]
    steps: list[_Step]
    ask: str
    is_sure: bool
    is_needed: bool


class _Theme(NamedTuple):
    words: dict[str, list[str]]
    stages: dict[str, list[_Event]]


def _step(text: str) -> _Step:
    expression, _, wordings = text.partition(": ")
    name, _, formula = expression.rpartition(" = ")
    return _Step(name or "now", formula.split(), wordings.split(" / "))


@cache
def _table() -> tuple[list[tuple[str, str, str, str]], list[_Theme]]:
    """The people, each with three pronouns, and the themes; the first lines of the table explain it."""
    themes: dict[str, _Theme] = {}
    text = (Path(__file__).parent / "templates.txt").read_text(encoding="utf-8").replace("\n  | ", " | ")
    for line in text.splitlines():
        theme = list(themes.values())[-1] if themes else _Theme({}, {})
        first, *parts = line.split(" | ")
        if line.startswith("["):
            themes[line.strip("[]")] = _Theme({}, {})
        elif " | " not in line and " = " in line:
            names, _, rows = line.partition(" = ")
            theme.words[names] = rows.split("; ")
        elif parts and not line.startswith("#"):
            draws, say, steps, ask = [*parts, "", ""][:4]
            lines = [_step(step) for step in steps.split(" ; ") if step]
            event = _Event(draws.split(), say.split(" / "), lines, ask, "?" not in first, "!" in first)
            theme.stages.setdefault(first.strip("?!"), []).append(event)
    money = themes.pop("money")
    names = themes.pop("people").words
    people = [(name, "she", "her", "her") for name in names["women"]]
    people += [(name, "he", "his", "him") for name in names["men"]]
    for name in ("sale", "wages"):
        themes[name].words.update(money.words)
        themes[name].stages.update({f"money {stage}": events for stage, events in money.stages.items()})
    return people, list(themes.values())


# Numbers --------------------------------------------------------------------------------------------------------------


class _Number(NamedTuple):
    value: Fraction
    is_money: bool = False

    @property
    def digits(self) -> str:
        """The number without the dollar sign."""
        return str(self.value) if self.value.denominator == 1 else f"{float(self.value):.2f}"

    def __str__(self) -> str:
        return f"${self.digits}" if self.is_money else self.digits

    def __format__(self, form: str) -> str:
        if form == "times":
            return "twice" if self.value == 2 else f"{self.digits} times"
        if form == "part":
            return {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}[int(self.value)]
        return str(self)


@cache
def _options(draw: str) -> tuple[str, bool, list[_Number]]:
    """The name of a draw such as `p:$+2-9`, whether it is counted from the current amount, and its numbers."""
    name, _, text = draw.partition(":")
    bounds, _, step = text.strip("$+").partition("/")
    low, _, high = bounds.partition("-")
    values = range(int(low), int(high) + 1, int(step or 1)) if high else bounds.split(",")
    return name, "+" in text, [_Number(Fraction(value), "$" in text) for value in values]


def _value(tokens: Sequence[str], names: Mapping[str, _Number]) -> tuple[list[_Number], _Number]:
    """The numbers of an expression, and its value; money where its first term is."""
    numbers = [names.get(token) or _Number(Fraction(token)) for token in tokens[::2]]
    terms: list[tuple[Fraction, int]] = []  # with the power of the dollar
    for sign, number in zip(["+", *tokens[1::2]], numbers, strict=True):
        if sign in "+-":
            terms.append((number.value if sign == "+" else -number.value, number.is_money))
        else:
            value, power = terms[-1]
            factor = number.value if sign == "*" else 1 / number.value
            terms[-1] = value * factor, power + (1 if sign == "*" else -1) * number.is_money
    return numbers, _Number(sum((value for value, _ in terms), Fraction(0)), bool(terms[0][1]))


def _workings(event: _Event, names: dict[str, _Number]) -> Iterator[tuple[_Step, list[_Number], _Number]]:
    """Each step of an event, its numbers and its result, which gets its name before the next step."""
    for step in event.steps:
        numbers, result = _value(step.tokens, names)
        yield step, numbers, result
        names[step.name] = result


def _is_plausible(step: _Step, numbers: Sequence[_Number], result: _Number) -> bool:
    """Whole, or cents; no sum too large; no difference below a half; and enough left of a share for later events."""
    is_loss = "-" in step.tokens and step.tokens[0] == "now"
    least = max(2, numbers[0].value / 2) if is_loss else 5 if "/" in step.tokens else 2  # 2: every noun is plural
    return (result.value * (100 if result.is_money else 1)).denominator == 1 and least <= result.value <= _LARGEST


# Stories --------------------------------------------------------------------------------------------------------------


class _Story:
    """A question and its solution while they grow.

    Args:
        key: It decides the first sentence; another key makes another one.
        chance: It decides the rest.
    """

    def __init__(self, key: int, chance: random.Random) -> None:
        self._key, self._num_keys, self._chance = key, 2**_KEY_BITS, chance
        self._signs, self._blank = chance.choice([("*", " "), ("*", ""), ("x", " ")])
        self._sentences: list[str] = []
        self._lines: list[str] = []
        self._words: dict[str, str] = {}
        self._numbers: dict[str, _Number] = {}
        self._ask = ""

    def of_steps(self, num_steps: int) -> tuple[str, str, str]:
        """The question, the solution and its answer."""
        people, themes = _table()
        theme = self._one(themes)
        self._cast(theme, people)
        start, *stages = theme.stages.values()
        opening = self._one(start)
        self._numbers = {name: self._one(options) for name, _, options in map(_options, opening.draws)}
        self._numbers["now"] = self._numbers["a"]
        self._add(opening, self._one(opening.say))
        assert self._num_keys == 1, "the first sentence must show the whole key"
        for place, events in enumerate(stages, start=1):
            left = num_steps - len(self._lines)
            later = sum(max(event.is_sure * len(event.steps) for event in stage) for stage in stages[place:])
            is_needed = left > later or (left > 0 and events[0].is_needed)
            # As likely to be left out as the steps that are left are to be taken later.
            if is_needed or self._chance.random() * (later + 1) < left:
                choices = [event for event in events if left - later <= len(event.steps) <= left]
                self._chance.shuffle(choices)
                self._happen(choices)
        assert len(self._lines) == num_steps, f"{len(self._lines)} steps instead of {num_steps}: {self._lines}"
        answer = self._numbers["now"].digits
        return " ".join([*self._sentences, self._ask]), "\n".join([*self._lines, f"#### {answer}"]), answer

    def _one(self, options: Sequence[_T]) -> _T:
        """One of several things that differ in the first sentence: by the key while it lasts, then by chance."""
        if self._num_keys < len(options):  # the rest of the key is the rest of the place
            places = range(self._key, len(options), self._num_keys)
            self._key, self._num_keys = 0, 1
            return options[self._chance.choice(places)]
        self._key, digit = divmod(self._key, len(options))
        self._num_keys = -(-self._num_keys // len(options))
        return options[digit]

    def _cast(self, theme: _Theme, people: Sequence[tuple[str, str, str, str]]) -> None:
        """Gives the people and the words of a plot their names."""
        hero, she, his, him = self._one(people)
        friend = self._chance.choice([name for name, *_ in people if name != hero])
        self._words = {"hero": hero, "friend": friend, "she": she, "his": his, "him": him}
        self._words |= {"She": she.capitalize(), "His": his.capitalize()}
        for names, rows in theme.words.items():
            row = self._chance.choice(rows) if names == "gift" else self._one(rows)  # no first sentence has the gift
            self._words |= dict(zip(names.split("|"), row.split("|"), strict=True))

    def _happen(self, choices: Sequence[_Event]) -> None:
        """Adds the first event for which there are numbers that fit."""
        for event in choices:
            draws = [_options(draw) for draw in event.draws]
            numbers = list(product(*(options for *_, options in draws)))
            self._chance.shuffle(numbers)
            for drawn in numbers:
                names = dict(self._numbers)
                for (name, is_above, _), number in zip(draws, drawn, strict=True):
                    names[name] = number._replace(value=number.value + is_above * names["now"].value)
                if all(_is_plausible(*working) for working in _workings(event, dict(names))):
                    self._numbers = names
                    self._add(event, self._chance.choice(event.say))
                    return

    def _add(self, event: _Event, sentence: str) -> None:
        """Adds an event, whose numbers are drawn, to the question and the solution."""
        self._sentences.append(self._text(sentence))
        self._ask = self._text(event.ask)
        for step, numbers, result in _workings(event, self._numbers):
            said, bare = list(step.tokens), list(step.tokens)
            said[::2], bare[::2] = map(str, numbers), (number.digits for number in numbers)
            text = self._blank.join(said).replace("*", self._signs)
            mark = "$" * result.is_money
            arithmetic = f"{text} = {mark}<<{''.join(bare)}={result.digits}>>{result.digits}"
            self._lines.append(self._text(self._chance.choice(step.wordings)).replace("@", arithmetic))

    def _text(self, template: str) -> str:
        return template.format_map(self._words | self._numbers)
