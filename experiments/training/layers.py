"""Rules on the matrices of each layer apart, as trainers have them.

The parameters of the model hold the layers of a matrix in one array, along its first axis. A rule that looks at an
array as a whole would see them as one: Muon takes arrays of three axes for no matrices, LAMB and LARS have one norm for
all layers, Adafactor averages over the two longest axes. `per_matrix` shows such a rule every layer's array apart. A
rule that acts on each number by itself, such as Lion, makes the same updates either way.
"""

from typing import cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from experiments.model.parameters import TABLE
from numerics import imported
from numerics.imported import Imported
from numerics.rules import Rule, at_rate, is_function_of_rate

__all__ = ["build", "is_model", "per_matrix", "separate", "stacked"]


def separate(params: PyTree) -> PyTree:
    """The tree of the model with a tuple of arrays, one of each layer, where `layers` has one array of all.

    Every array is then that of a trainer, but for the order of the axes: here a matrix is (in, out).
    """
    layers = {name: tuple(leaf[k] for k in range(leaf.shape[0])) for name, leaf in params["layers"].items()}
    return {**params, "layers": layers}


def stacked(tree: PyTree) -> PyTree:
    """The inverse of `separate`."""
    return {**tree, "layers": {name: jnp.stack(leaves) for name, leaves in tree["layers"].items()}}


def is_model(params: PyTree) -> bool:
    """Whether a tree is that of the model, with stacked layers, and not one of somebody's own."""
    return isinstance(params, dict) and {"embedding", "layers", "norm"} <= set(params) <= set(TABLE) | {"layers"}


def per_matrix(rule: Rule) -> Rule:
    """A rule that sees the arrays of each layer apart.

    Args:
        rule: The rule, at learning rate 1 or as a function of the rate.

    Returns:
        The rule in the same form, for trees of the model's parameters. Its state is that of `rule` for separate arrays.
    """
    if is_function_of_rate(rule):
        return lambda rate: cast("optax.GradientTransformation", per_matrix(at_rate(rule, rate)))
    inner = cast("optax.GradientTransformation", rule)

    def init(params: PyTree) -> optax.OptState:
        return inner.init(separate(params))

    def update(updates: PyTree, state: optax.OptState, params: PyTree = None) -> tuple[PyTree, optax.OptState]:
        after, state = inner.update(separate(updates), state, None if params is None else separate(params))
        return stacked(after), state

    return optax.GradientTransformation(init, update)


def build(spec: Imported, params: PyTree) -> Rule:
    """The rule of an import path; of the model's parameters it sees the arrays of each layer apart.

    Two layers decide whether it is linear in its rate, for all layers are alike.

    Args:
        spec: The import path and the options.
        params: The parameters, or their shapes.

    Raises:
        TypeError: As `numerics.imported.build`.
        ValueError: As `numerics.imported.build`.
    """
    if not is_model(params):
        return imported.build(spec, params)

    def few(params: PyTree) -> PyTree:
        return separate({**params, "layers": {name: leaf[:2] for name, leaf in params["layers"].items()}})

    return per_matrix(imported.build(spec, jax.eval_shape(few, params)))
