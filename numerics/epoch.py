"""An epoch: losses, the order in which they are stepped, the rule that steps them, and the start."""

from dataclasses import dataclass

import jax
import optax

from numerics import checks, contents, rules
from numerics.losses import Losses
from numerics.random_schedules import RandomSchedule
from numerics.rules import Rule
from numerics.schedules import Schedule
from numerics.types import Params

__all__ = ["Epoch"]


@checks.arguments
def _check(losses: Losses, schedule: Schedule | RandomSchedule, params: Params) -> None:
    """Refuses parts that do not fit each other; `checks.arguments` does it."""


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Epoch:
    """The first argument of updates, drifts and comparisons. Its parts are checked once, here.

    An epoch is a pytree: the rule is static, and compiled programs are kept by the rule and its content.

    Attributes:
        losses: The losses.
        schedule: The steps; or a random schedule, whose exact mean a comparison takes.
        rule: The rule at learning rate 1 (`optax.sgd(1.0)`), with updates proportional to the rate; any other rule as a
            function of the rate (`lambda rate: optax.fromage(rate)`). `numerics.rules` has the reasons.
        params: The start; float32 or float64.
        state: The state of the rule before the first step. None stands for that of its `init` (of a function of the
            rate: at the rate of the first step).

    Raises:
        TypeError: If a loss is not a real scalar, a parameter is not float32 or float64, or the rule makes no update of
            a gradient, its state and the parameters.
        ValueError: If the schedule is empty, names a loss that is not there, or is random and the losses are not
            pairs; if the updates of a rule at learning rate 1 are not proportional to the rate; if the state is that of
            another rule.
    """

    losses: Losses
    schedule: Schedule | RandomSchedule
    rule: Rule
    params: Params
    state: optax.OptState | None = None

    def __post_init__(self) -> None:
        """Refuses parts that do not fit each other."""
        _check(self.losses, self.schedule, self.params)
        rules.check("rule", self.rule, self.params, self.state)

    @property
    def word(self) -> Schedule:
        """The schedule.

        Raises:
            TypeError: If it is random.
        """
        if isinstance(self.schedule, RandomSchedule):
            raise TypeError(
                f"schedule must be a schedules.Schedule for this; got {self.schedule}. Take one word of it, by "
                "random_schedules.sample, or a mean, by `comparison` or `averages`."
            )
        return self.schedule

    def tree_flatten(self) -> tuple[tuple, contents.Snapshot]:
        """All parts but the rule; and the rule with its content at this moment."""
        return (self.losses, self.schedule, self.params, self.state), contents.Snapshot(self.rule)

    @classmethod
    def tree_unflatten(cls, rule: contents.Snapshot, children: tuple) -> "Epoch":
        """The epoch of `tree_flatten`; unchecked, for its leaves may be anything by now."""
        epoch = object.__new__(cls)
        losses, schedule, params, state = children
        parts = {"losses": losses, "schedule": schedule, "rule": rule.value, "params": params, "state": state}
        for name, part in parts.items():
            object.__setattr__(epoch, name, part)
        return epoch
