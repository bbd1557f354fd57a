"""Schedules: losses, their order, and the sizes of the steps. Pure data; a learning-rate schedule is something else.

Pairs are numbered as in `losses.pairs`: loss k is L-_k and loss n + k is L+_k, for k = 0 ... n - 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Num

from console import grammar
from numerics import checks
from numerics.types import Sign

__all__ = [
    "Brackets",
    "Schedule",
    "blocks",
    "check",
    "grouped",
    "interleaved",
    "palindrome",
    "reverse",
    "steps",
    "with_scales",
    "word",
]


MAX_INDEX = 2**31 - 1  # losses are numbered in int32


@jax.tree_util.register_static
@dataclass(frozen=True)
class Brackets:
    """The brackets of a word; a static part of a pytree.

    Attributes:
        sizes: The number of steps of each update, whose gradients are read at one place. Empty where every step is an
            update of its own.
    """

    sizes: tuple[int, ...] = ()


class Schedule(NamedTuple):
    """A word of steps.

    Attributes:
        losses: The number of the loss of every step, m of them.
        scales: The size of every step in units of the step size; positive.
        brackets: The steps whose gradients are read at one place.
    """

    losses: Int[Array | np.ndarray, " m"]
    scales: Float[Array | np.ndarray, " m"]
    brackets: Brackets = Brackets()

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of steps of each update."""
        return self.brackets.sizes or (1,) * len(self.losses)

    def check_beside(self, arguments: Mapping[str, Any]) -> None:
        """Refuses steps that cannot be taken, or not on the losses among these arguments of a function."""
        num_losses = arguments.get("num_losses", getattr(arguments.get("losses"), "num_losses", None))
        _check_steps(self, num_losses)


def _check_steps(schedule: Schedule, num_losses: int | None) -> None:
    """Refuses a schedule that cannot be stepped; `num_losses` is None where the losses are not known yet."""
    losses, scales, brackets = schedule
    for part in (losses, scales):
        fix = " Build it with schedules.steps."
        checks.require(hasattr(part, "dtype"), "schedule", "hold arrays", part, fix=fix)
    if np.ndim(losses) != 1 or np.shape(losses) != np.shape(scales):
        raise ValueError(
            f"schedule must have one loss and one scale per step; got shapes {np.shape(losses)}, {np.shape(scales)}."
        )
    checks.numbers("the losses of schedule", losses, "whole")
    checks.numbers("the scales of schedule", scales, "real")
    if len(losses) == 0:
        raise ValueError("schedule must hold at least one step; got none.")
    checks.instance("the brackets of schedule", brackets, Brackets)
    if brackets.sizes and (min(brackets.sizes) < 1 or sum(brackets.sizes) != len(losses)):
        raise ValueError(
            f"the brackets of schedule must hold all of its {len(losses)} steps, none without one; got the sizes "
            f"{brackets.sizes}."
        )
    if not (checks.is_known(losses) and checks.is_known(scales)):
        return
    if np.min(losses) < 0 or (num_losses is not None and np.max(losses) >= num_losses):
        last = "" if num_losses is None else f" ... {num_losses - 1}"
        raise ValueError(f"schedule must name losses 0{last}; got {np.min(losses)} ... {np.max(losses)}.")
    sizes = np.asarray(scales)
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(
            f"the scales of schedule must be positive and finite; got {sizes.tolist()}. To ascend a loss, descend its "
            "negative."
        )


@checks.arguments
def steps(losses: Sequence[int] | Int[np.ndarray, " m"]) -> Schedule:
    """One step of scale 1 on each of these losses, in this order."""
    if len(losses) == 0:
        raise ValueError("losses must hold at least one step; got none.")
    if not 0 <= min(losses) <= max(losses) <= MAX_INDEX:
        raise ValueError(f"losses must name losses from 0 on; got {min(losses)} ... {max(losses)}.")
    numbers = np.asarray(losses, np.int32)
    return Schedule(numbers, np.ones(numbers.shape))


def _order(num_pairs: int, order: Sequence[int] | Int[np.ndarray, " n"] | None) -> Int[np.ndarray, " n"]:
    chosen = np.arange(num_pairs) if order is None else np.asarray(order)
    if sorted(chosen.tolist()) != list(range(num_pairs)):
        raise ValueError(f"order must be a permutation of 0 ... {num_pairs - 1}; got {chosen.tolist()}.")
    return chosen


@checks.arguments
def interleaved(
    num_pairs: int,
    *,
    first: Sign,
    order: Sequence[int] | Int[np.ndarray, " n"] | None = None,
    other_order: Sequence[int] | Int[np.ndarray, " n"] | None = None,
) -> Schedule:
    """L-_1 L+_1 L-_2 L+_2 ... , or L+ first; one loss of each side in turn.

    Args:
        num_pairs: The number n of pairs.
        first: The side that begins every pair. The post's theory begins with "-", its experiment with "+".
        order: The order of the pairs; as numbered unless given.
        other_order: The order of the L+ where it is another than that of the L- (independent permutations).
    """
    minus = _order(num_pairs, order)
    plus = minus if other_order is None else _order(num_pairs, other_order)
    columns = (minus, num_pairs + plus) if first == "-" else (num_pairs + plus, minus)
    return steps(np.stack(columns, axis=1).reshape(-1))


@checks.arguments
def blocks(num_pairs: int, *, first: Sign) -> Schedule:
    """All losses of one side, then all of the other."""
    minus = _order(num_pairs, None)
    halves = (minus, num_pairs + minus)
    return steps(np.concatenate(halves if first == "-" else halves[::-1]))


@checks.arguments
def reverse(schedule: Schedule) -> Schedule:
    """The same updates from the last to the first."""
    return Schedule(schedule.losses[::-1], schedule.scales[::-1], Brackets(schedule.brackets.sizes[::-1]))


@checks.arguments
def palindrome(schedule: Schedule) -> Schedule:
    """The updates, and then the same updates backwards: no bracket at second order under gradient descent."""
    losses, scales = (np.concatenate([part, part[::-1]]) for part in schedule[:2])
    sizes = schedule.brackets.sizes
    return Schedule(losses, scales, Brackets((*sizes, *sizes[::-1])))


@checks.arguments
def grouped(schedule: Schedule, num_steps: int) -> Schedule:
    """The same steps, every `num_steps` of them accumulated to one update.

    Raises:
        ValueError: If the number of steps is no multiple of it.
    """
    total = len(schedule.losses)
    if total % num_steps:
        raise ValueError(f"num_steps must divide the {total} steps of schedule; got {num_steps}.")
    return schedule._replace(brackets=Brackets((num_steps,) * (total // num_steps)))


@checks.arguments
def with_scales(schedule: Schedule, scales: Sequence[float] | Num[np.ndarray, " m"]) -> Schedule:
    """The same steps with other positive sizes, in units of the step size; one per step."""
    sizes = np.asarray(scales, np.float64)
    if sizes.shape != schedule.losses.shape:
        raise ValueError(f"scales must be one per step; got {sizes.shape} for {schedule.losses.shape}.")
    result = schedule._replace(scales=sizes)
    result.check_beside({})
    return result


@checks.arguments
def word(text: str, names: Sequence[str], counts: Sequence[int]) -> Schedule:
    """A schedule in letters, "-+-+", "(-+)(-+)", "kl:1/2,reward"; the k-th time a name occurs it means its k-th loss.

    Where a name occurs more often than it has losses, its losses come round again; a single loss without data is
    stepped every time.

    Args:
        text: A word of `console.grammar`.
        names: The names of the kinds, as in `Losses.names`.
        counts: The number of losses of each kind, as in `Losses.counts`.

    Raises:
        ValueError: If the word cannot be read or holds a name that is not there.
    """
    if len(names) != len(counts):
        raise ValueError(f"counts must be as many as names; got {len(counts)} for {len(names)}.")
    parsed = grammar.parse(text)
    seen = dict.fromkeys(names, 0)
    starts = dict(zip(names, accumulate(counts, initial=0), strict=False))
    size = dict(zip(names, counts, strict=True))
    numbers = []
    for name, _ in parsed.steps:
        if name not in seen:
            raise ValueError(f'schedule must use the names {", ".join(names)}; got "{name}" in "{text}".')
        numbers.append(starts[name] + seen[name] % size[name])
        seen[name] += 1
    scales = np.array([float(step.scale) for step in parsed.steps])
    sizes = parsed.sizes if max(parsed.sizes) > 1 else ()
    return Schedule(steps(numbers).losses, scales, Brackets(sizes))


@checks.arguments
def check(schedule: Schedule, num_losses: int) -> None:
    """Refuses a schedule that is empty, names a loss that is not there, or has a scale that is not positive."""
