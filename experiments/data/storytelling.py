"""How a word problem is told: numbers with their unit, people, and a question that grows together with its solution.

The choices that make a question differ are drawn from a key while it lasts, then by chance. Nothing here knows a plot.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import product
from typing import TypeVar

__all__ = [
    "DAYS",
    "PARTS",
    "PEOPLE",
    "Number",
    "Person",
    "Script",
    "Story",
    "dollars",
    "products",
    "sizes",
    "times",
]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a story.

    Attributes:
        value: Exactly.
        is_money: Whether it counts dollars.
        step: Which step found it, from 0; None for one that the question gives.
    """

    value: int | Fraction
    is_money: bool = False
    step: int | None = None

    @property
    def whole(self) -> int:
        """Without what follows the point."""
        return int(self.value)

    @property
    def cents(self) -> int:
        """In hundredths."""
        return int(self.value * 100)

    @property
    def digits(self) -> str:
        """As it is written, without the dollar sign.

        Raises:
            AssertionError: If it is a fraction and no amount of cents.
        """
        cents = self.value * 100
        if self.value.denominator == 1:
            return str(self.value)
        if not self.is_money or cents.denominator != 1:
            raise AssertionError(f"{self.value} cannot be written")
        return f"{int(cents) // 100}.{int(cents) % 100:02d}"

    def __str__(self) -> str:
        return f"${self.digits}" if self.is_money else self.digits


def dollars(amount: int | Fraction) -> Number:
    """An amount of money."""
    return Number(int(amount) if amount.denominator == 1 else amount, is_money=True)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a story.

    Attributes:
        name: The name.
        she: "she" or "he".
        her: "her" or "his".
    """

    name: str
    she: str
    her: str

    def __str__(self) -> str:
        return self.name

    @property
    def start(self) -> str:
        """The pronoun that opens a sentence."""
        return self.she.capitalize()


def _value(parts: Sequence["Number | str"]) -> int | Fraction:
    total: int | Fraction = 0
    term = _operand(parts[0]).value
    for operator, part in zip(parts[1::2], parts[2::2], strict=True):
        value = _operand(part).value
        if operator == "*":
            term = term * value
        elif operator == "/":
            term = Fraction(term) / value
        else:
            total, term = total + term, value if operator == "+" else -value
    result = total + term
    return int(result) if result.denominator == 1 else result


def _operand(part: "Number | str") -> Number:
    if isinstance(part, str):
        raise AssertionError(f"{part} stands where a number must")
    return part


class Story:
    """A question and its solution while they grow, and the choices that make them.

    Args:
        key: What decides first; another key makes another question.
        num_keys: How many keys there are.
        chance: What decides once the key is spent.
    """

    def __init__(self, key: int, num_keys: int, chance: random.Random) -> None:
        self._key, self._num_keys, self._chance = key, num_keys, chance
        self._signs, self._blank = chance.choice([("*", " "), ("*", ""), ("x", " ")])
        self._sentences: list[str] = []
        self._lines: list[str] = []
        self._unused: set[int] = set()
        self._names: list[Person] = []
        self._last: Number | None = None

    def one(self, options: Sequence[_T]) -> _T:
        """One of several things that differ in the question: chosen by the key while it lasts, then by chance."""
        if not options:
            raise AssertionError("no choice is left")
        if self._num_keys == 1:
            return options[self._chance.randrange(len(options))]
        if self._num_keys < len(options):  # what is left of the key is the rest of the place
            places = range(self._key, len(options), self._num_keys)
            self._key, self._num_keys = 0, 1
            return options[places[self._chance.randrange(len(places))]]
        self._key, digit = divmod(self._key, len(options))
        self._num_keys = -(-self._num_keys // len(options))
        return options[digit]

    def person(self) -> Person:
        """Somebody who is not in the story yet."""
        while True:
            found = PEOPLE[self._chance.randrange(len(PEOPLE))] if self._names else self.one(PEOPLE)
            if found not in self._names:
                self._names.append(found)
                return found

    def plan(self, script: "Script", num_steps: int) -> tuple[str, ...]:
        """The forms that the events of a script take, chosen among those that cost so many steps."""
        return self.one(script.plans(num_steps))

    def say(self, *variants: str, first: bool = False) -> None:
        """A sentence of the question, in one of several wordings; the last so far, or the first of all."""
        self._sentences.insert(0 if first else len(self._sentences), self.one(variants))

    def step(self, variants: Sequence[str], *parts: "Number | int | str") -> Number:
        """A line of the solution: @ stands for the arithmetic, $@ for arithmetic that ends in dollars."""
        numbers = [Number(part) if isinstance(part, int) else part for part in parts]
        text = self._chance.choice(variants)
        result = Number(_value(numbers), is_money="$@" in text, step=len(self._lines))
        if not (result.value > 0 if result.is_money else result.value > 1):  # so that every noun is plural
            raise AssertionError(f"{result.value} is too small")
        self._unused -= {part.step for part in numbers if isinstance(part, Number) and part.step is not None}
        self._unused.add(len(self._lines))
        bare = "".join(part if isinstance(part, str) else part.digits for part in numbers)
        shown = self._blank.join(str(part).replace("*", self._signs) for part in numbers)
        mark = "$" if result.is_money else ""
        arithmetic = f"{shown} = {mark}<<{bare}={result.digits}>>{result.digits}"
        self._lines.append(text.replace(mark + "@", arithmetic))
        self._last = result
        return result

    def told(self, num_steps: int) -> tuple[str, str, str]:
        """The question, the solution and its answer.

        Raises:
            AssertionError: If the story has other than `num_steps` steps, one that nothing uses, or shows too little
                of its key to be sure that no other is the same.
        """
        if self._last is None or len(self._lines) != num_steps or len(self._unused) != 1 or self._num_keys != 1:
            raise AssertionError(f"{self._lines} with {num_steps} steps, unused {self._unused}, key {self._num_keys}")
        answer = self._last.digits
        return " ".join(self._sentences), "\n".join([*self._lines, f"#### {answer}"]), answer


class Script:
    """What may happen in a story, in order: for each event the forms that it can take and the steps that they cost."""

    def __init__(self, *events: str, rule: Callable[..., bool] = lambda *_: True) -> None:
        self._events = [[(form.split(":")[0], int(form.split(":")[1])) for form in event.split()] for event in events]
        self._rule = rule
        self.plans = cache(self._plans)

    def _plans(self, num_steps: int) -> list[tuple[str, ...]]:
        return [
            forms
            for choice in product(*self._events)
            if sum(cost for _, cost in choice) == num_steps
            and self._rule(*(forms := tuple(form for form, _ in choice)))
        ]


def _people() -> list[Person]:
    women = """Ada Agnes Alma Amina Anita Astrid Beata Bella Carla Carmen Celia Chloe Clara Dalia Daphne Delia Doris
        Edith Elena Elsa Emma Erica Esther Eva Farah Fiona Flora Freya Gina Gloria Greta Hana Hazel Heidi Helen Hilda
        Ida Ines Irene Iris Ivy Jana Judith Julia Karen Kira Lara Leila Lena Lina Lucia Lydia Mabel Marta Maya Mina
        Miriam Nadia Nina Nora Olga Olive Paula Petra Rita Rosa Ruth Sara Selma Sonia Tara Thea Tilda Uma Vera Wanda
        Yara Zoe"""
    men = """Aaron Adam Alan Albert Amir Anton Arthur Axel Basil Boris Bruno Carl Cedric Conrad Cyril Damian Daniel
        Derek Edgar Edwin Elias Emil Eric Ernest Felix Frank Fred Gavin George Gilbert Glen Harold Hassan Hector Henry
        Hugo Igor Isaac Ivan Jacob Jasper Joel Jonas Julian Karim Kenji Kurt Lars Leo Leon Louis Lukas Magnus Marco
        Martin Milo Nils Noah Oliver Omar Oscar Otto Pablo Paul Pedro Peter Ralph Rashid Robin Roman Rupert Samuel
        Simon Stefan Theo Tomas Victor Walter Yusuf"""
    return [Person(name, "she", "her") for name in women.split()] + [Person(name, "he", "his") for name in men.split()]


PEOPLE = _people()
PARTS = {2: "half", 3: "a third", 4: "a quarter", 5: "a fifth"}
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def times(factor: int) -> str:
    """The word for so many times as many."""
    return "twice" if factor == 2 else f"{factor} times"


def sizes(number: int, low: int = 3, high: int = 12) -> list[int]:
    """The sizes of packs into which so many things go without rest, in at least two packs."""
    return [size for size in range(low, high + 1) if number % size == 0 and number >= 2 * size]


@cache
def products(rows: range, columns: range, multiple: int, low: int, high: int) -> list[tuple[int, int]]:
    """The pairs of a row and a column whose product is a multiple of `multiple` from `low` to `high`."""
    return [(a, b) for a in rows for b in columns if a * b % multiple == 0 and low <= a * b <= high]
