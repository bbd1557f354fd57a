"""Arms: the ways to make one update of preferred and dispreferred solutions, as data.

An arm holds no number of the optimizer and no loop: it names a grouping, a rate, a rule and what surrounds them.
`training.arm_update` makes the update; nothing here needs JAX.
"""

from dataclasses import fields, replace
from math import sqrt
from types import MappingProxyType
from typing import Annotated, Literal, get_args, get_type_hints

from pydantic import Field

from console.words import nearest
from experiments.typed import checked
from numerics import catalogue

__all__ = [
    "BY_NAME",
    "CHOICES",
    "KEYS",
    "MEANINGS",
    "OPTIMIZERS",
    "RATES",
    "Arm",
    "Hyperparams",
    "Rate",
    "Reduction",
    "parse",
    "scaled_hyperparams",
    "term_coefficient",
]

Rate = Literal["eta", "eta/sqrt2", "eta/2", "sqrt-rule"]
RATES = MappingProxyType({"eta": 1.0, "eta/sqrt2": 1 / sqrt(2), "eta/2": 0.5, "sqrt-rule": 1 / sqrt(2)})
"""The step of the rule in units of the learning rate eta of an accumulated update (claim `lr-match`).

eta        the same as an accumulated update
eta/sqrt2  the post's
eta/2      matches gradient descent on the mean of both halves at first order
sqrt-rule  the post's step, with the decay rates and the epsilon of Adam for a batch of half the size as well
           (Malladi et al. 2022)
"""

OPTIMIZERS = tuple(name for name, entry in catalogue.OPTIMIZERS.items() if "max_norm" not in entry.options)
"""The optimizers of arms, by the names of the numerics; an arm says apart where it clips."""

Reduction = Literal["token-union", "token-half", "sequence", "sum"]
"""The average that the loss of a half is.

token-union  over all completion tokens of both halves: every token has the same weight
token-half   over the completion tokens of its own half: each half has the same weight
sequence     first over the tokens of each completion, then over the completions of its half
sum          no average
"""


@checked("arm")
class Arm:
    """A way to make an update.

    Attributes:
        name: The name in records and reports.
        update: Whether the two halves make one update of the rule together, or one after the other.
        first: The half that a sequential update begins with. "random" tosses a coin that all arms of a seed share.
        sides: Whether the dispreferred half takes part.
        rate: The step of the rule in units of the learning rate.
        optimizer: The rule. `frozen-adamw` divides by the root of a second moment that is measured once, at the start,
            from the gradients of both halves.
        clipping: Of the global norm: none; of the gradient that the rule gets; or of the gradient of each half before
            the two are added. In a sequential update the last two are the same.
        decay: Whether decoupled weight decay comes with every step of the rule, or is scaled so that all arms decay
            alike per update.
        reduction: The average that the loss of a half is.
        term: The strength of an explicit term: c grad(g+ . g-) is added to the gradient, with c = -term * eta/8. The
            value 1 adds the drift that a random start gives sequential gradient descent at eta/2 (claim
            `two-optimizer-steps`: eta^2/8), the value 2 that of eta/sqrt2; negative values subtract it. For
            accumulated updates only.
    """

    name: str
    update: Literal["accumulated", "sequential"]
    first: Literal["+", "-", "random"] = "+"
    sides: Literal["both", "preferred"] = "both"
    rate: Rate = "eta"
    optimizer: str = "adamw"
    clipping: Literal["none", "update", "step"] = "none"
    decay: Literal["step", "update"] = "step"
    reduction: Reduction = "token-half"
    term: float = 0.0

    def __post_init__(self) -> None:
        if not self.name or not all(letter.isalnum() or letter in "-+=.,_" for letter in self.name):
            raise ValueError(f"arm.name must be of letters, digits and -+=.,_; got {self.name!r}.")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"arm.optimizer must be one of {', '.join(OPTIMIZERS)}; got {self.optimizer[:60]!r}."
                f"{nearest(self.optimizer, OPTIMIZERS)}"
            )
        if self.term and (self.update != "accumulated" or self.sides != "both"):
            raise ValueError(
                f"arm.term must be 0 unless the update is accumulated from both sides; got {self.term} for {self.name}."
            )
        if self.update == "accumulated" and self.rate != "eta":
            raise ValueError(
                f"arm.rate must be eta for an accumulated update, whose step it is measured in; got {self.rate}."
            )
        if self.update == "sequential" and self.sides != "both":
            raise ValueError("arm.sides must be both for a sequential update: one side alone has nothing to follow.")

    @property
    def num_steps(self) -> int:
        """Steps of the rule per update."""
        return 2 if self.update == "sequential" else 1

    @property
    def step(self) -> float:
        """The step of the rule in units of the learning rate."""
        return RATES[self.rate]

    @property
    def needs_second_moment(self) -> bool:
        """Whether the optimizer is built from a second moment that is measured at the start."""
        return catalogue.OPTIMIZERS[self.optimizer].needs_second_moment

    @property
    def side_weight(self) -> float:
        """The weight of the loss of each half: an accumulated update is of their mean."""
        return 0.5 if self.update == "accumulated" and self.sides == "both" else 1.0


KEYS = tuple(field.name for field in fields(Arm) if field.name != "name")  # pyright: ignore[reportArgumentType]
"""The keys that change an arm."""

CHOICES = MappingProxyType(
    {
        key: ", ".join(OPTIMIZERS if key == "optimizer" else map(str, get_args(kind))) or "a number"
        for key, kind in get_type_hints(Arm).items()
        if key != "name"
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

    Source: Malladi et al. 2022 (2205.10287), the rule for a batch of half the size; claim `lr-match`.
    """
    own = hyperparams
    if arm.rate == "sqrt-rule":
        own = replace(own, b1=1 - (1 - own.b1) / 2, b2=1 - (1 - own.b2) / 2, eps=own.eps * sqrt(2))
    if arm.decay == "update":
        own = replace(own, weight_decay=own.weight_decay / (arm.num_steps * arm.step))
    return own


def term_coefficient(arm: Arm, learning_rate: float) -> float:
    """The factor of g+ . g- in the loss that an accumulated update descends; power 1 of the learning rate."""
    return -arm.term * learning_rate / 8


_SEQUENTIAL = Arm("sequential", "sequential", rate="eta/sqrt2")
_TABLE: tuple[tuple[Arm, str], ...] = (
    (Arm("accumulated", "accumulated"), "one step on the mean of both halves, rate eta"),
    (_SEQUENTIAL, "preferred, then dispreferred, rate eta/sqrt(2)"),
    (replace(_SEQUENTIAL, name="sequential-matched", rate="eta/2"), "rate eta/2: gradient descent matches to order 1"),
    (replace(_SEQUENTIAL, name="sequential-full-rate", rate="eta"), "rate eta"),
    (replace(_SEQUENTIAL, name="sequential-sqrt-rule", rate="sqrt-rule"), "eta/sqrt(2), Adam's numbers rescaled"),
    (replace(_SEQUENTIAL, name="sequential-minus-first", first="-"), "dispreferred, then preferred"),
    (replace(_SEQUENTIAL, name="sequential-random-start", first="random"), "a coin says which half is first"),
    (Arm("accumulated-plus-term", "accumulated", term=2.0), "with the term that sequential adds, explicitly"),
    (Arm("accumulated-minus-term", "accumulated", term=-2.0), "with its opposite"),
    (Arm("preferred-only", "accumulated", sides="preferred"), "without the dispreferred half"),
)
BY_NAME = MappingProxyType({arm.name: arm for arm, _ in _TABLE})
"""The arms by name. The post's two are `accumulated` and `sequential`."""
MEANINGS = MappingProxyType({arm.name: meaning for arm, meaning in _TABLE})
"""One line for each arm, for the help of the commands."""


def parse(text: str) -> Arm:
    """An arm from `name` or `name:key=value,...`, such as "sequential:optimizer=sgd,rate=eta/2".

    Its name is then the name with the changed keys, so that two arms never share one.

    Raises:
        ValueError: If there is no such arm or key, or a value is not one of those allowed.
    """
    name, _, changes = text.partition(":")
    if name not in BY_NAME:
        raise ValueError(
            f"arm must be one of {', '.join(BY_NAME)}; got {name[:60]!r}.{nearest(name, BY_NAME)} Change one with "
            f"{next(iter(BY_NAME))}:key=value."
        )
    changed: dict[str, str | float] = {}
    for item in filter(None, changes.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key in changed:
            raise ValueError(f"arm must be changed by each key once; got {key!r} twice.")
        if key not in KEYS:
            raise ValueError(f"arm must be changed by keys among {', '.join(KEYS)}; got {key!r}.{nearest(key, KEYS)}")
        changed[key] = _number(value) if key == "term" else value
    arm = replace(BY_NAME[name], **changed)
    differing = [key for key in changed if getattr(arm, key) != getattr(BY_NAME[name], key)]
    suffix = ",".join(f"{key}={getattr(arm, key)}".replace("/", "-") for key in differing)
    return replace(arm, name=f"{name}+{suffix}") if suffix else arm


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # which the arm refuses, by name
