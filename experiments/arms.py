"""Arms: the ways to make one update of preferred and dispreferred solutions, as data.

An arm holds no number of the optimizer and no loop: it names a word of steps, a rate, a rule and what surrounds them.
`training.arm_update` makes the update; nothing here needs JAX.
"""

import re
from collections import Counter
from dataclasses import fields, replace
from functools import cache
from math import lcm, sqrt
from types import MappingProxyType
from typing import Annotated, Literal, get_args, get_type_hints

from pydantic import Field

from console import grammar, imports
from console.grammar import Word
from console.words import nearest
from experiments.rates import SQUARE_ROOT_RULE, step_of
from experiments.typed import checked
from numerics import catalogue, imported

__all__ = [
    "BY_NAME",
    "CHOICES",
    "EXCHANGED",
    "FOLDER",
    "KEYS",
    "LETTERS",
    "MEANINGS",
    "OBJECTIVES",
    "OPTIMIZERS",
    "Arm",
    "Hyperparams",
    "Reduction",
    "of_word",
    "parse",
    "scaled_hyperparams",
    "term_coefficient",
]

LETTERS = MappingProxyType(
    {
        "+": "descent on the preferred solutions",
        "-": "ascent on the dispreferred solutions",
        "k": "descent on the divergence from the start of the run (KL)",
    }
)
"""The losses that the letters of an arm's word step."""

EXCHANGED = str.maketrans("+-", "-+")
"""For a random start: the word with preferred and dispreferred exchanged."""

_LONGEST_NAME = 200  # characters: it is the name of a folder

OPTIMIZERS = tuple(name for name, entry in catalogue.OPTIMIZERS.items() if "max_norm" not in entry.options)
"""The optimizers of arms, by the names of the numerics; an arm says apart where it clips."""

OBJECTIVES = MappingProxyType(
    {
        "log-likelihood": "descent on -log p of the preferred, ascent on it of the dispreferred solutions",
        "tapered": "the ascent fades with the ratio to the start, truncated to [0, 1]",
        "npo": "the ascent is bounded, by negative preference optimisation with beta 0.1",
    }
)
"""The losses of the halves, by the names of `model.text_losses`."""

Reduction = Literal["token-union", "token-half", "sequence", "sum"]
"""The average that the loss of a half is.

token-union  over all completion tokens of both halves: every token has the same weight
token-half   over the completion tokens of its own half: each half has the same weight
sequence     first over the tokens of each completion, then over the completions of its half
sum          no average
"""


@cache
def _parsed(word: str) -> Word:
    return grammar.parse(word)


@checked("arm")
class Arm:
    """A way to make an update.

    Attributes:
        name: The name in records and reports.
        word: The steps, in the grammar of `console.grammar`: "+-" one half after the other, "(+-)" one step on the mean
            of both. The solutions of a half are split over its letters. Within brackets gradients are averaged.
        start: Whether the word is stepped as it is written, or a coin that all arms of a seed share exchanges + and -.
        rate: The step of the rule in units of the learning rate, as in `step_of`.
        optimizer: The rule: a name of the catalogue, or an import path with its options behind a colon, between
            semicolons. `frozen-adamw` divides by the root of a second moment that is measured once, at the start,
            from the gradients of both halves.
        objective: The losses of the halves: a name of `OBJECTIVES`, or the import path of a function of one's own.
        clipping: Of the global norm: none; of the gradient that the rule gets; or of the gradient of each letter before
            they are averaged. Without brackets the last two are the same.
        decay: Whether decoupled weight decay comes with every step of the rule, or is scaled so that all arms decay
            alike per update.
        reduction: The average that the loss of a half is.
        term: The strength of an explicit term: c grad(g+ . g-) is added to the gradient, with c = -term * eta/8. The
            value 1 adds the drift that a random start gives sequential gradient descent at eta/2 (claim
            `two-optimizer-steps`: eta^2/8), the value 2 that of eta/sqrt2; negative values subtract it. For
            the words (+-) and (-+) only.
    """

    name: str
    word: str
    start: Literal["word", "random"] = "word"
    rate: str = "eta"
    optimizer: str = "adamw"
    objective: str = "log-likelihood"
    clipping: Literal["none", "update", "step"] = "none"
    decay: Literal["step", "update"] = "step"
    reduction: Reduction = "token-half"
    term: float = 0.0

    def __post_init__(self) -> None:
        if not self.name or not all(letter.isalnum() or letter in "-+=.,_()" for letter in self.name):
            raise ValueError(f"arm.name must be of letters, digits and -+=.,_(); got {self.name[:60]!r}.")
        if len(self.name) > _LONGEST_NAME:
            raise ValueError(f"arm.name must have at most {_LONGEST_NAME} characters; got {len(self.name)}.")
        counts = self.counts
        if unknown := [name for name in counts if name not in LETTERS]:
            letters = ", ".join(f"{letter} ({meaning})" for letter, meaning in LETTERS.items())
            raise ValueError(f"arm.word must have the letters {letters}; got {unknown[0][:60]!r}.")
        if not self.sides:
            raise ValueError(f"arm.word must step a half, + or -; got {self.word[:60]!r}.")
        step_of(self.rate)
        self._check_optimizer()
        if self.objective not in OBJECTIVES and imports.dotted(self.objective) is None:
            raise ValueError(
                f"arm.objective must be one of {', '.join(OBJECTIVES)}, or the import path of a function, such as "
                f"mypackage.losses:mine; got {self.objective[:60]!r}.{nearest(self.objective, OBJECTIVES)}"
            )
        if self.start == "random" and counts["+"] != counts["-"]:
            raise ValueError(
                f"arm.start must be word unless the word has as many + as -, to be exchanged; got {self.start} for "
                f"{self.word[:60]}."
            )
        if self.term and self.word not in ("(+-)", "(-+)"):
            raise ValueError(
                f"arm.term must be 0 unless the update is accumulated from both sides, as in (+-); got {self.term:g} "
                f"for {self.name}."
            )

    def _check_optimizer(self) -> None:
        if self.is_imported:
            imported.parse(self.optimizer)
            if self.rate == SQUARE_ROOT_RULE or self.decay == "update":
                raise ValueError(
                    f"arm.rate must not be {SQUARE_ROOT_RULE} and arm.decay must be step for an optimizer by its "
                    f"import path, whose numbers are its own; got {self.optimizer[:60]}."
                )
        elif self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"arm.optimizer must be one of {', '.join(OPTIMIZERS)}, or an import path such as optax.lion:b1=0.95; "
                f"got {self.optimizer[:60]!r}.{nearest(self.optimizer, OPTIMIZERS)}"
            )

    @property
    def is_imported(self) -> bool:
        """Whether the optimizer is an import path, as in `numerics.imported`."""
        return imported.is_path(self.optimizer)

    @property
    def counts(self) -> Counter[str]:
        """The number of steps of the word on each loss."""
        return Counter(step.name for step in _parsed(self.word).steps)

    @property
    def sides(self) -> tuple[str, ...]:
        """The halves that take part."""
        return tuple(side for side in "+-" if self.counts[side])

    @property
    def num_letters(self) -> int:
        """The number of shares that a half of an update is a multiple of."""
        return lcm(*(self.counts[side] for side in self.sides))

    @property
    def num_steps(self) -> int:
        """Steps of the rule per update."""
        return len(_parsed(self.word).updates)

    @property
    def is_plain(self) -> bool:
        """Whether no half has several steps, and nothing is stepped beside the halves."""
        return not self.counts["k"] and max(self.counts.values()) == 1

    @property
    def is_accumulated(self) -> bool:
        """Whether an update is one step of the rule."""
        return self.num_steps == 1

    @property
    def step(self) -> float:
        """The step of the rule in units of the learning rate, for a step of scale 1."""
        return step_of(self.rate, self.num_steps)

    @property
    def length(self) -> float:
        """The sum of the steps of the rule in an update, in units of the learning rate; within brackets the mean."""
        means = [sum(step.scale for step in update) / len(update) for update in _parsed(self.word).updates]
        return float(sum(means)) * self.step

    @property
    def needs_second_moment(self) -> bool:
        """Whether the optimizer is built from a second moment that is measured at the start."""
        return not self.is_imported and catalogue.OPTIMIZERS[self.optimizer].needs_second_moment


KEYS = tuple(field.name for field in fields(Arm) if field.name not in ("name", "word"))  # pyright: ignore[reportArgumentType]
"""The keys that change an arm."""

_IN_WORDS = {
    "rate": f"a number or fraction: 0.4, 1/3, eta/2, eta/sqrt2; or {SQUARE_ROOT_RULE}",
    "optimizer": f"{', '.join(OPTIMIZERS)}, or an import path with options: optax.lion:b1=0.95;b2=0.98",
    "objective": f"{', '.join(OBJECTIVES)}, or the path of a function, mypackage.losses:mine",
    "term": "a number",
}
CHOICES = MappingProxyType(
    {
        key: _IN_WORDS.get(key) or ", ".join(map(str, get_args(kind)))
        for key, kind in get_type_hints(Arm).items()
        if key in KEYS
    }
)
"""The values of each key, for the help of the commands."""

_Decay = Annotated[float, Field(ge=0, lt=1)]
_NotNegative = Annotated[float, Field(ge=0)]


@checked("rule")
class Hyperparams:
    """The numbers of the optimizers, the same in all arms.

    Attributes:
        b1: Adam's decay of the first moment.
        b2: Adam's decay of the second moment.
        eps: Adam's epsilon, outside the root.
        eps_root: Adam's epsilon inside the root. It is so small that nothing moves, but not 0: the derivative of the
            root, which the twin takes, is NaN at 0, where unused rows of the embedding are.
        weight_decay: Decoupled weight decay, per unit of the learning rate.
        momentum: The momentum of heavy ball.
        max_norm: The largest norm, where an arm clips.
    """

    b1: _Decay = 0.9
    b2: _Decay = 0.999
    eps: _NotNegative = 1e-8
    eps_root: _NotNegative = 1e-24
    weight_decay: _NotNegative = 0.01
    momentum: _Decay = 0.9
    max_norm: Annotated[float, Field(gt=0)] = 1.0


def scaled_hyperparams(arm: Arm, hyperparams: Hyperparams) -> Hyperparams:
    """The numbers as this arm uses them: rescaled under the full square-root rule, and with its own weight decay.

    Source: Malladi et al. 2022 (2205.10287), the rule for a batch of 1/num_steps of the size; claim `lr-match`.
    """
    own = hyperparams
    if arm.rate == SQUARE_ROOT_RULE:
        share = 1 / arm.num_steps
        own = replace(own, b1=1 - share * (1 - own.b1), b2=1 - share * (1 - own.b2), eps=own.eps / sqrt(share))
    if arm.decay == "update":
        own = replace(own, weight_decay=own.weight_decay / arm.length)
    return own


def term_coefficient(arm: Arm, learning_rate: float) -> float:
    """The factor of g+ . g- in the loss that an accumulated update descends; power 1 of the learning rate."""
    return -arm.term * learning_rate / 8


_SEQUENTIAL = Arm("sequential", "+-", rate="eta/sqrt2")
_TABLE: tuple[tuple[Arm, str], ...] = (
    (Arm("accumulated", "(+-)"), "one step on the mean of both halves, rate eta"),
    (_SEQUENTIAL, "preferred, then dispreferred, rate eta/sqrt(2)"),
    (replace(_SEQUENTIAL, name="sequential-matched", rate="eta/2"), "rate eta/2: gradient descent matches to order 1"),
    (replace(_SEQUENTIAL, name="sequential-full-rate", rate="eta"), "rate eta"),
    (replace(_SEQUENTIAL, name="sequential-sqrt-rule", rate="sqrt-rule"), "eta/sqrt(2), Adam's numbers rescaled"),
    (replace(_SEQUENTIAL, name="sequential-minus-first", word="-+"), "dispreferred, then preferred"),
    (replace(_SEQUENTIAL, name="sequential-random-start", start="random"), "a coin says which half is first"),
    (Arm("accumulated-plus-term", "(+-)", term=2.0), "with the term that sequential adds, explicitly"),
    (Arm("accumulated-minus-term", "(+-)", term=-2.0), "with its opposite"),
    (Arm("preferred-only", "+"), "without the dispreferred half"),
)
BY_NAME = MappingProxyType({arm.name: arm for arm, _ in _TABLE})
"""Names for words. The post's two are `accumulated` and `sequential`."""
MEANINGS = MappingProxyType({arm.name: meaning for arm, meaning in _TABLE})
"""One line for each arm, for the help of the commands."""

_CHANGE = re.compile(r"[:,]\s*(?=(?:[A-Za-z_]\w*\s*(?:=|,|$)|$))")  # before a key; a scale is a number
FOLDER = str.maketrans("/:;", "-=,")
"""For names of folders and files: without what they should not have."""


def parse(text: str) -> Arm:
    """An arm from `NAME`, `WORD`, `NAME:key=value,...` or `WORD:key=value,...`, such as "+-+-:optimizer=sgd,rate=1/4".

    Its name is the name or the word with the changed keys, so that two arms never share one.

    Raises:
        ValueError: If there is no such arm or key, the word cannot be read, or a value is not one of those allowed.
    """
    name, *changes = (part.strip() for part in _CHANGE.split(text, maxsplit=1))
    base = BY_NAME.get(name) or of_word(name)
    changed: dict[str, str | float] = {}
    for item in filter(None, (part for change in changes for part in change.split(","))):
        key, _, value = (part.strip() for part in item.partition("="))
        if key in changed:
            raise ValueError(f"arm must be changed by each key once; got {key!r} twice.")
        if key not in KEYS:
            fix = " Semicolons stand between the options of an optimizer." if "optimizer" in changed else ""
            raise ValueError(
                f"arm must be changed by keys among {', '.join(KEYS)}; got {key!r}.{nearest(key, KEYS)}{fix} Its steps "
                "are its word: +-, -+, (+-)."
            )
        if key == "optimizer" and imported.is_path(value):
            value = str(imported.parse(value))
        changed[key] = _number(value) if key == "term" else value
    arm = replace(base, **changed)
    differing = [key for key in changed if getattr(arm, key) != getattr(base, key)]
    suffix = ",".join(f"{key}={getattr(arm, key)}" for key in differing).translate(FOLDER)
    joint = "+" if base.name in BY_NAME else ","
    return replace(arm, name=f"{base.name}{joint}{suffix}") if suffix else arm


def of_word(text: str) -> Arm:
    """The arm of a word, at rate eta.

    Raises:
        ValueError: If the word cannot be read, or is none of an arm.
    """
    if not re.match(r"k*[^A-Za-z]|k+$", text):  # nothing that begins like a word
        raise ValueError(_no_arm(text))
    try:
        word = str(grammar.parse(text))
    except ValueError as error:
        raise ValueError(str(error).replace("schedule must", "arm.word must")) from None
    return Arm(word.translate(FOLDER), word)


def _no_arm(text: str) -> str:
    return (
        f"arm must be one of {', '.join(BY_NAME)}, or a word of steps such as +-+- or (+-)(+-); got {text[:60]!r}."
        f"{nearest(text, BY_NAME)} Change one with {next(iter(BY_NAME))}:key=value."
    )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # which the arm refuses, by name
