"""The update of an arm: its losses, its schedule and its rule, given to the maps of the numerics.

The rules are those of `numerics.optimizers` and Optax, at learning rate 1. Nothing here measures or knows a loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from console import grammar
from experiments import arms
from experiments.arms import Arm, Hyperparams, scaled_hyperparams
from experiments.data.tokens import Batch
from experiments.model import objectives, sharding
from experiments.training import layers
from experiments.training.batches import PairBatch
from numerics import catalogue, imported, losses, optimizers, schedules, updates
from numerics.epoch import Epoch
from numerics.losses import Losses
from numerics.rules import Rule, at_rate, is_function_of_rate
from numerics.schedules import Schedule
from numerics.types import LossFn, Params, Scalar

__all__ = [
    "Objective",
    "clip_letters",
    "first_of",
    "first_state",
    "kinds",
    "likelihood",
    "losses_of",
    "numbers_of",
    "optimizer",
    "schedule_of",
    "update",
    "weight",
]

_TERM = "term"  # the name of the loss of an explicit term


def optimizer(
    arm: Arm, hyperparams: Hyperparams, second_moment: Params | None = None, *, like: Params | None = None
) -> Rule:
    """The rule of an arm, at learning rate 1; as a function of the rate where an imported one is not linear in it.

    Args:
        arm: The arm.
        hyperparams: The numbers of the optimizers of the catalogue.
        second_moment: The square that `frozen-adamw` divides by the root of.
        like: The parameters, or their shapes, for an optimizer by its import path.

    Raises:
        TypeError: If an import path names no rule.
        ValueError: If `frozen-adamw` has no second moment, or an import path cannot be built.
    """
    own = scaled_hyperparams(arm, hyperparams)
    if arm.is_imported:
        if like is None:
            raise ValueError(f"like must be given for an optimizer by its import path; got none for {arm.optimizer}.")
        rule = layers.build(imported.parse(arm.optimizer), like)
    else:
        # Gradient descent has no weight decay: it would be one more difference between arms.
        options = {name: getattr(own, name) for name in catalogue.OPTIMIZERS[arm.optimizer].options}
        rule = optimizers.build(arm.optimizer, options, second_moment)
    if arm.clipping != "update":
        return rule
    clip = optax.clip_by_global_norm(own.max_norm)
    if is_function_of_rate(rule):
        return lambda rate: optax.chain(clip, at_rate(rule, rate))
    return optax.chain(clip, at_rate(rule, 1.0))


def first_state(arm: Arm, learning_rate: float, rule: Rule, params: Params) -> optax.OptState:
    """The state of a rule before the first step, with moments where their parameters lie."""
    return sharding.init(at_rate(rule, learning_rate * arm.step), params)


def clip_letters(arm: Arm, hyperparams: Hyperparams) -> Callable[[Params], Params] | None:
    """The clip of the gradient of each letter before they are averaged; None unless the arm clips there.

    Beside an explicit term the halves have their weights in the mean, and so has the norm that they are clipped to.
    """
    if arm.clipping != "step":
        return None
    clip = optax.clip_by_global_norm(hyperparams.max_norm * weight(arm))

    def transform(gradient: Params) -> Params:
        clipped, _ = clip.update(gradient, clip.init(gradient))
        return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), clipped, gradient)

    return transform


# Losses ---------------------------------------------------------------------------------------------------------------


class Objective(NamedTuple):
    """The losses that an arm steps. Each returns its value and auxiliary arrays with one entry per solution.

    Attributes:
        plus: L+, a function of the parameters and the preferred half; descended. The loss of a half is the mean over
            equal parts of it, each with its weights times their number.
        minus: L-, of the dispreferred half; descended too: to ascend a loss is to descend its negative.
        third: The loss of the letter k, without auxiliary arrays: a function of the parameters and of a pair, the
            parameters at the start of the run and both halves. None where there is none.
    """

    plus: LossFn
    minus: LossFn
    third: LossFn | None = None


def likelihood(loss: LossFn, third: LossFn | None = None) -> Objective:
    """The post's objective: descent on a loss of the preferred half, ascent on the same loss of the other."""
    return Objective(loss, losses.negated(loss), third)


def weight(arm: Arm) -> float:
    """The factor of the losses of the halves: beside an explicit term gradients are added up, else averaged."""
    return 0.5 if arm.term else 1.0


def kinds(arm: Arm) -> tuple[str, ...]:
    """The names of the kinds of losses: L- and L+, in this order, and a third where the arm has one."""
    return ("-", "+", *(["k"] if arm.counts["k"] else []), *([_TERM] if arm.term else []))


def numbers_of(arm: Arm, side: str) -> range:
    """The numbers of the losses of a half: one for each of its letters, and one where it takes no part."""
    minus, plus = (max(arm.counts[side], 1) for side in "-+")
    return range(minus) if side == "-" else range(minus, minus + plus)


def losses_of(arm: Arm, learning_rate: float, objective: Objective, batch: PairBatch, start: Params) -> Losses:
    """The losses of one update: those of L-, of L+, and of a third kind where there is one.

    The solutions of a half are split over its letters.

    Args:
        arm: The arm.
        learning_rate: eta, the unit of the strength of an explicit term.
        objective: The losses of whole halves.
        batch: The two halves.
        start: The parameters at the start of the run.

    Raises:
        ValueError: If the word has the letter k and the objective no third loss.
    """
    num_parts = [len(numbers_of(arm, side)) for side in "+-"]
    num_rows = [_num_rows(half) // number for half, number in zip(batch, num_parts, strict=True)]
    width = max(num_rows)
    plus, minus = objective.plus, objective.minus
    if arm.term or min(num_rows) < width:
        is_negative = losses.negated(minus) == plus
        plus, minus = (_Weighted(loss, weight(arm), width) for loss in (plus, minus))
        if is_negative:  # as such it is traced once
            minus = losses.negated(plus)
    # L- is there too where no step is on it, so that all arms have one structure.
    functions = [minus, plus]
    stacks: list[object] = [_split(half, number) for half, number in zip(batch, num_parts, strict=True)][::-1]
    if arm.counts["k"]:
        if objective.third is None:
            raise ValueError(f"arm.word must have no letter k where there is no third loss; got {arm.word}.")
        functions.append(_Beside(objective.third, objective.plus, width))
        stacks.append((_split(start, 1), _split(batch, 1)))
    if arm.term:
        functions.append(_Beside(_Term(objective.plus, objective.minus), objective.plus, width))
        stacks.append((jnp.full((1,), arms.term_coefficient(arm, learning_rate)), _split(batch, 1)))
    return Losses(tuple(functions), tuple(stacks), kinds(arm), has_aux=True)


def _num_rows(half: object) -> int:
    return len(jax.tree.leaves(half)[0])


def _split(tree: object, number: int) -> object:
    """Equal parts of the first axis of all leaves, stacked; weights are such that the mean is the whole."""
    if isinstance(tree, Batch) and number > 1:
        tree = tree._replace(weights=number * tree.weights)
    if number == 1:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).reshape(number, -1, *leaf.shape[1:]), tree)


@dataclass(frozen=True)
class _Weighted:
    """A loss times a factor; its auxiliary arrays are filled up to a number of rows."""

    loss: LossFn
    factor: float
    num_rows: int

    def __call__(self, params: Params, batch: object) -> tuple[Scalar, PyTree]:
        value, aux = self.loss(params, batch)

        def filled(leaf: Array) -> Array:
            return jnp.pad(leaf, [(0, self.num_rows - len(leaf)), *[(0, 0)] * (leaf.ndim - 1)])

        return self.factor * value, jax.tree.map(filled, aux)


@dataclass(frozen=True)
class _Beside:
    """A loss of both halves with auxiliary arrays of zeros, as the losses of halves beside it have them."""

    loss: LossFn
    other: LossFn
    num_rows: int

    def __call__(self, params: Params, batch: tuple[object, PairBatch]) -> tuple[Scalar, PyTree]:
        _, aux = jax.eval_shape(self.other, params, batch[1].preferred)
        zeros = jax.tree.map(lambda leaf: jnp.zeros((self.num_rows, *leaf.shape[1:]), leaf.dtype), aux)
        return self.loss(params, batch), zeros


@dataclass(frozen=True)
class _Term:
    """c * g+ . g-, for a batch of c and both halves."""

    plus: LossFn
    minus: LossFn

    def __call__(self, params: Params, batch: tuple[Scalar, PairBatch]) -> Scalar:
        coefficient, halves = batch
        term = objectives.alignment_term(
            lambda params, half: self.plus(params, half)[0], lambda params, half: self.minus(params, half)[0]
        )
        return term(params, (coefficient, *halves))


# Steps ----------------------------------------------------------------------------------------------------------------


def _word(arm: Arm, is_as_written: bool) -> str:
    return arm.word if is_as_written or arm.start == "word" else arm.word.translate(arms.EXCHANGED)


def first_of(arm: Arm, is_as_written: bool) -> str:
    """The letter that an update begins with."""
    return grammar.parse(_word(arm, is_as_written)).steps[0].name


def schedule_of(arm: Arm, is_as_written: bool) -> Schedule:
    """The steps of one update: losses, in their order, with their scales and brackets.

    `is_as_written` counts where the start is random: else + and - are exchanged.
    """
    word = _word(arm, is_as_written)
    if arm.term:
        word = f"({','.join([*word.strip('()'), _TERM])})"
    counts = [len(numbers_of(arm, side)) for side in "-+"]
    names = kinds(arm)
    return schedules.word(word, names, [*counts, *(1 for _ in names[2:])])


def update(
    arm: Arm,
    hyperparams: Hyperparams,
    learning_rate: float,
    epoch: Epoch,
    gradient_stats: updates.GradientStats | None = None,
    *,
    has_sums_by_kind: bool = False,
) -> updates.Update:
    """The update of an arm, by the map of the numerics; its displacement has leading power 1 of the learning rate.

    Args:
        arm: The arm.
        hyperparams: The numbers of all arms.
        learning_rate: eta.
        epoch: The losses, the schedule and the rule of the arm, at the place of the update.
        gradient_stats: The measurements of each gradient, as in `numerics.updates`.
        has_sums_by_kind: Whether they get the gradients before by kind.
    """
    return updates.sequential(
        epoch,
        step_size=learning_rate * arm.step,
        reduction="sum" if arm.term else "mean",
        transform_gradient=clip_letters(arm, hyperparams),
        gradient_stats=gradient_stats,
        has_sums_by_kind=has_sums_by_kind,
    )
