"""Arms: the ways to make one update of preferred and dispreferred solutions, as data.

An arm holds no number of the optimizer and no loop: it names a grouping, a rate, a rule and what surrounds them, and
the one training step reads it. `training.arm_update` makes the update of it; nothing here needs JAX.
"""

from dataclasses import dataclass, fields, replace
from math import sqrt
from types import MappingProxyType
from typing import Literal, get_args

from console.command import nearest
from experiments.checked import check_field

__all__ = ["BY_NAME", "RATES", "Arm", "Rule", "parse", "rule_of", "term_coefficient"]

Rate = Literal["eta", "eta/sqrt2", "eta/2", "sqrt-rule"]
RATES = MappingProxyType({"eta": 1.0, "eta/sqrt2": 1 / sqrt(2), "eta/2": 0.5, "sqrt-rule": 1 / sqrt(2)})
"""The step of the rule in units of the learning rate eta of an accumulated update (claim `lr-match`).

eta        the same as an accumulated update
eta/sqrt2  the post's
eta/2      matches gradient descent on the mean of both halves at first order
sqrt-rule  the post's step, with the decay rates and the epsilon of Adam for a batch of half the size as well
           (Malladi et al. 2022)
"""

OptimizerName = Literal["sgd", "heavy-ball", "adamw", "frozen-adamw"]


@dataclass(frozen=True)
class Arm:
    """One way to make an update.

    Attributes:
        name: By which records and reports know it.
        update: Whether both halves make one update of the rule together, or one after the other.
        first: The half that a sequential update begins with; "random" tosses a coin that all arms of a seed share.
        sides: Whether the dispreferred half takes part.
        rate: The step of the rule in units of the learning rate.
        optimizer: The rule; `frozen-adamw` divides by the root of a second moment that is measured once, at the start,
            from the gradients of both halves.
        clipping: Of the global norm: not at all, of what the rule is given, or of the gradient of each half before they
            are added up. In a sequential update the last two are the same.
        decay: Whether decoupled weight decay comes with every step of the rule, or is scaled so that all arms decay
            alike per update.
        reduction: What a half's loss is an average over, as in `objectives.Reduction`.
        term: The strength of an explicit term, c grad(g+ . g-) added to what the rule descends with c = -term * eta/8;
            1 adds the drift that a random start gives sequential gradient descent at eta/2 (THEORY: eta^2/8), 2 that of
            eta/sqrt2; negative values subtract it. For accumulated updates only.
    """

    name: str
    update: Literal["accumulated", "sequential"]
    first: Literal["+", "-", "random"] = "+"
    sides: Literal["both", "preferred"] = "both"
    rate: Rate = "eta"
    optimizer: OptimizerName = "adamw"
    clipping: Literal["none", "update", "step"] = "none"
    decay: Literal["step", "update"] = "step"
    reduction: Literal["token-union", "token-half", "sequence", "sum"] = "token-half"
    term: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_field(self, field)
        if not self.name or not all(letter.isalnum() or letter in "-+=.,_" for letter in self.name):
            raise ValueError(f"arm.name must be of letters, digits and -+=.,_; got {self.name!r}.")
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
    def side_weight(self) -> float:
        """What each half's loss weighs: an accumulated update is of their mean, so that B samples make one mean."""
        return 0.5 if self.update == "accumulated" and self.sides == "both" else 1.0


@dataclass(frozen=True)
class Rule:
    """The numbers of the optimizers, the same in all arms.

    Attributes:
        b1: Adam's decay of the first moment.
        b2: Adam's decay of the second moment.
        eps: Adam's epsilon, outside the root.
        eps_root: Inside it. So small that nothing moves, but not 0: the derivative of the root, which the twin takes,
            is NaN at 0, where unused rows of the embedding are.
        weight_decay: Decoupled, per unit of the learning rate.
        momentum: Of heavy ball.
        max_norm: Of clipping, where an arm clips.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 1e-24
    weight_decay: float = 0.01
    momentum: float = 0.9
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_field(self, field)
        for name in ("b1", "b2", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"rule.{name} must be at least 0 and less than 1; got {getattr(self, name)}.")
        for name in ("eps", "eps_root", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"rule.{name} must be at least 0; got {getattr(self, name)}.")
        if self.max_norm <= 0:
            raise ValueError(f"rule.max_norm must be positive; got {self.max_norm}.")


def rule_of(arm: Arm, rule: Rule) -> Rule:
    """The numbers as this arm uses them: rescaled under the full square-root rule, and with its own weight decay.

    Source: Malladi et al. 2022 (2205.10287), the rule for a batch of half the size; claim `lr-match`.
    """
    if arm.rate == "sqrt-rule":
        rule = replace(rule, b1=1 - (1 - rule.b1) / 2, b2=1 - (1 - rule.b2) / 2, eps=rule.eps * sqrt(2))
    if arm.decay == "update":
        rule = replace(rule, weight_decay=rule.weight_decay / (arm.num_steps * arm.step))
    return rule


def term_coefficient(arm: Arm, learning_rate: float) -> float:
    """What g+ . g- is multiplied by in the loss that an accumulated update descends; power 1 of the learning rate."""
    return -arm.term * learning_rate / 8


_SEQUENTIAL = Arm("sequential", "sequential", rate="eta/sqrt2")
BY_NAME = MappingProxyType(
    {
        arm.name: arm
        for arm in (
            Arm("accumulated", "accumulated"),
            _SEQUENTIAL,
            replace(_SEQUENTIAL, name="sequential-matched", rate="eta/2"),
            replace(_SEQUENTIAL, name="sequential-full-rate", rate="eta"),
            replace(_SEQUENTIAL, name="sequential-sqrt-rule", rate="sqrt-rule"),
            replace(_SEQUENTIAL, name="sequential-minus-first", first="-"),
            replace(_SEQUENTIAL, name="sequential-random-start", first="random"),
            Arm("accumulated-plus-term", "accumulated", term=2.0),
            Arm("accumulated-minus-term", "accumulated", term=-2.0),
            Arm("preferred-only", "accumulated", sides="preferred"),
        )
    }
)
"""The arms by name. The post's two are `accumulated` and `sequential`."""


def parse(text: str) -> Arm:
    """An arm from `name` or `name:key=value,...`, such as "sequential:optimizer=sgd,rate=eta/2".

    Its name is then the name with what was changed, so that two arms never share one.

    Raises:
        ValueError: If there is no such arm or key, or a value is not one of those allowed.
    """
    name, _, given = text.partition(":")
    if name not in BY_NAME:
        raise ValueError(
            f"arm must be one of {', '.join(BY_NAME)}; got {name[:60]!r}.{nearest(name, BY_NAME)} Change one with "
            f"{next(iter(BY_NAME))}:key=value."
        )
    known = {field.name: field for field in fields(Arm) if field.name != "name"}
    changed: dict[str, object] = {}
    for item in filter(None, given.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key in changed:
            raise ValueError(f"arm must be changed by each key once; got {key!r} twice.")
        if key not in known:
            raise ValueError(f"arm must be changed by keys among {', '.join(known)}; got {key!r}.{nearest(key, known)}")
        if key == "term":
            try:
                changed[key] = float(value)
            except ValueError:
                raise ValueError(f"arm.term must be a number; got {value!r}.") from None
        else:
            changed[key] = value
    arm = replace(BY_NAME[name], **changed)
    differing = [key for key in changed if getattr(arm, key) != getattr(BY_NAME[name], key)]
    suffix = ",".join(f"{key}={getattr(arm, key)}".replace("/", "-") for key in differing)
    return replace(arm, name=f"{name}+{suffix}") if suffix else arm


assert set(get_args(Rate)) == set(RATES)
