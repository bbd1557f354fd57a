"""Arguments that must fit together: a schedule and losses, losses and parameters, a rule and parameters.

Functions are traced for their shapes, once for each, and never run. What each argument is by itself is known to be
right here (`numerics.kinds`).
"""

import inspect
import re
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef
from jaxtyping import PyTree

from numerics import kinds, rules
from numerics.contents import Snapshot
from numerics.types import Params

if TYPE_CHECKING:
    from numerics.losses import Losses
    from numerics.schedules import Schedule

__all__ = ["family", "losses_at", "rule_at", "together", "word"]


def word(schedule: "Schedule", num_losses: int | None = None) -> None:
    """Refuses a schedule that cannot be stepped.

    Args:
        schedule: The schedule.
        num_losses: The number of losses there are; None where they are not known yet.
    """
    losses, scales = schedule
    for part in (losses, scales):
        if not hasattr(part, "dtype"):
            raise TypeError(f"schedule must hold arrays; got {kinds.shown(part)}. Build it with schedules.steps.")
    if np.ndim(losses) != 1 or np.shape(losses) != np.shape(scales):
        raise ValueError(
            f"schedule must have one loss and one scale per step; got shapes {np.shape(losses)}, {np.shape(scales)}."
        )
    kinds.numbers("the losses of schedule", losses, "whole")
    kinds.numbers("the scales of schedule", scales, "real")
    if len(losses) == 0:
        raise ValueError("schedule must hold at least one step; got none.")
    if not (kinds.is_known(losses) and kinds.is_known(scales)):
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


Described = tuple[tuple[tuple[int, ...], Hashable], ...]


def _described(tree: object) -> tuple[PyTreeDef, Described]:  # pyright: ignore[reportInvalidTypeForm]  # jax says Any
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(leaf), leaf.dtype) for leaf in leaves)


def _abstract(structure: PyTreeDef, described: Described) -> PyTree:  # pyright: ignore[reportInvalidTypeForm]
    return structure.unflatten([jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in described])


def family(
    functions: object, batches: object, names: object, has_aux: object
) -> tuple[tuple[Callable, ...], tuple[object, ...], tuple[str, ...]]:
    """The parts of a list of losses as tuples; refuses lists that do not fit, and stacks that are none.

    Args:
        functions: One per kind of loss.
        batches: One stack per kind.
        names: One per kind, all different.
        has_aux: Whether the functions return a pair.
    """
    for name, value in (("functions", functions), ("batches", batches), ("names", names)):
        if not isinstance(value, (tuple, list)):
            raise TypeError(f"{name} must be a tuple with one entry per kind of loss; got {kinds.shown(value)}.")
    functions, batches, names = (tuple(value) for value in (functions, batches, names))  # type: ignore[arg-type]
    if not len(functions) == len(batches) == len(names):
        raise ValueError(
            f"losses must have one stack and one name per function; got {len(functions)} functions, "
            f"{len(batches)} stacks and {len(names)} names."
        )
    kinds.sequence("functions", functions, kinds.function)
    kinds.distinct("names", names)
    kinds.flag("has_aux", has_aux)
    for name, stack in zip(names, batches, strict=True):
        leaves = jax.tree.leaves(stack)
        if any(not np.shape(leaf) or not hasattr(leaf, "dtype") for leaf in leaves) or (
            len({np.shape(leaf)[0] for leaf in leaves}) > 1
        ):
            raise ValueError(
                f"the batches of loss {name!r} must be arrays with the losses along the first axis of every leaf; got "
                f"{[np.shape(leaf) if hasattr(leaf, 'dtype') else type(leaf).__name__ for leaf in leaves]}."
            )
        if leaves and not np.shape(leaves[0])[0]:
            raise ValueError(f"the batches of loss {name!r} must hold at least one batch; got none.")
    return functions, batches, names


def losses_at(losses: "Losses", params: Params) -> None:
    """Refuses losses that no update of these parameters can be computed for. Traces them once per shape; runs none.

    Args:
        losses: The losses.
        params: Where they will be stepped.

    Raises:
        TypeError: If a loss does not return a real scalar, or two return different dtypes.
        ValueError: If a stack has leaves of different lengths.
    """
    outcomes = {}
    for name, function, stack in zip(losses.names, losses.functions, losses.batches, strict=True):
        leaves, structure = jax.tree.flatten(stack)
        for path, leaf in jax.tree.leaves_with_path(stack):
            kinds.digits(f"the batches of loss {name!r}{jax.tree_util.keystr(path)}", leaf)
        members = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
        outcomes[name] = _outcome(name, Snapshot(function), losses.has_aux, *_described(params), structure, members)
    for part, meaning in enumerate(("dtype", "structure, shapes and dtypes beside the loss")):
        first, *others = outcomes
        for other in others:
            if outcomes[first][part] != outcomes[other][part]:
                raise TypeError(
                    f"losses must return one {meaning}; got {outcomes[first][part]} of {first!r} and "
                    f"{outcomes[other][part]} of {other!r}. Cast what one of them returns."
                )


def _shapes(function: Callable, *arguments: PyTree) -> PyTree:
    """What a function returns, in shapes; JAX keeps traces by function, and one of a new one is new."""
    return jax.eval_shape(lambda *these: function(*these), *arguments)  # noqa: PLW0108


@lru_cache(maxsize=1024)
def _outcome(
    name: str,
    function: Snapshot,
    has_aux: bool,
    structure: PyTreeDef,  # pyright: ignore[reportInvalidTypeForm]
    described: Described,
    stack_structure: PyTreeDef,  # pyright: ignore[reportInvalidTypeForm]
    members: Described,
) -> tuple[Hashable, Hashable]:
    """The dtype of a loss, and the structure, shapes and dtypes of what it tells beside its value."""
    params, batch = _abstract(structure, described), _abstract(stack_structure, members)
    loss = cast("Callable", function.value)
    try:
        inspect.signature(loss).bind(params, batch)
    except TypeError as error:
        raise TypeError(
            f"loss {name!r} must take the parameters and one batch; got one for which this fails: {error}. For a "
            "function of the parameters alone take losses.of_params."
        ) from None
    except ValueError:
        pass  # some callables have no signature
    try:
        out = _shapes(loss, params, batch)
    except Exception as error:
        raise TypeError(
            f"loss {name!r} must be computable, by JAX, from params and its batches; got "
            f"{type(error).__name__} for shapes {[shape for shape, _ in described]} and "
            f"{[shape for shape, _ in members]}: {kinds.first_line(error)}"
        ) from error
    aside: Hashable = None
    if has_aux:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(f"loss {name!r} must return a pair, as has_aux says; got {out}.")
        out, aux = out
        aside = _described(aux)
    if not isinstance(out, jax.ShapeDtypeStruct) or out.shape or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(
            f"loss {name!r} must return a real scalar; got {out}. Reduce it inside the loss, and say there whether by "
            "sum or by mean."
        )
    if out.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"loss {name!r} must return float32 or float64; got {out.dtype}. Cast before the reduction: "
            "the gradient is read from its last digits."
        )
    return out.dtype, aside


def rule_at(name: str, optimizer: rules.Rule, params: Params, state: object = None) -> None:
    """Refuses a rule that makes no update from a gradient, its state and the parameters alone, or not by its rate.

    Args:
        name: The name of the argument.
        optimizer: The rule.
        params: The parameters.
        state: A state of the rule, or None for the one that it starts from.

    Raises:
        TypeError: If the rule fails on such arguments, or changes the shape of its state.
        ValueError: If the state is not one of the rule, or the updates of a rule at rate 1 are not proportional to it.
    """
    structure, described = _described(params)
    expected = _state_of(name, Snapshot(optimizer), structure, described)
    rules.check(optimizer, params)
    if state is None:
        return
    try:
        is_own = _described(jax.eval_shape(lambda: state)) == expected
    except TypeError:
        is_own = False
    if not is_own:
        raise ValueError(
            f"state must be that of {name} for these parameters: optimizer.init(params), or the state of an update; "
            f"got {jax.tree.structure(state)}."
        )


@lru_cache(maxsize=256)
def _state_of(
    name: str,
    optimizer: Snapshot,
    structure: PyTreeDef,  # pyright: ignore[reportInvalidTypeForm]
    described: Described,
) -> tuple[PyTreeDef, Described]:  # pyright: ignore[reportInvalidTypeForm]
    params = _abstract(structure, described)
    rule = cast("rules.Rule", optimizer.value)
    rate = jax.ShapeDtypeStruct((), jnp.result_type(*(dtype for _, dtype in described)))
    rules_made: list[object] = []
    try:
        if rules.is_function_of_rate(rule):
            _shapes(lambda rate: rules_made.append(rules.at_rate(rule, rate)), rate)
    except Exception as error:
        raise TypeError(_refusal(name, error)) from error
    if not all(hasattr(each, "init") and hasattr(each, "update") for each in rules_made):
        raise TypeError(
            f"{name} must be a rule, or a function of the rate that returns one; got one that returns "
            f"{kinds.shown(rules_made[0])}."
        )
    try:
        state = _shapes(lambda rate, start: rules.at_rate(rule, rate).init(start), rate, params)
        made, after = _shapes(
            lambda rate, *these: rules.at_rate(rule, rate).update(*these), rate, params, state, params
        )
    except Exception as error:
        raise TypeError(_refusal(name, error)) from error
    shapes = [leaf.shape for leaf in jax.tree.leaves(made)]
    if jax.tree.structure(made) != structure or shapes != [shape for shape, _ in described]:
        raise TypeError(f"{name} must return updates with the structure and the shapes of params; got {made}.")
    if _described(after) != _described(state):
        raise TypeError(
            f"{name} must keep the structure, shapes and dtypes of its state; got {after} after one update for "
            f"{state} before. Give its options as the types that they stand for."
        )
    return _described(state)


# Optax names the part that fails, and users know the rule: Optax 0.2.8.
_KNOWN_AS = {
    "scale_by_polyak": "polyak_sgd",
    "scale_by_zoom_linesearch": "lbfgs",
    "scale_by_backtracking_linesearch": "a line search",
    "hutchinson_estimator_diag_hessian": "sophia",
}
_NEEDS = {
    "value": "the value of the loss",
    "grad": "the gradient a second time",
    "value_fn": "the loss itself",
    "obj_fn": "the loss itself, for its Hessian",
    "fast": "two sets of parameters",
}


def _refusal(name: str, error: Exception) -> str:
    """Our words for a rule that fails on a gradient, a state and parameters."""
    text = str(error)
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_qualname)
        trace = trace.tb_next
    closures = [*re.findall(r"(\w+)\.<locals>", text), *re.findall(r"(\w+)\.<locals>", " ".join(reversed(frames)))]
    part = closures[0] if closures else "a rule"
    known = f" ({_KNOWN_AS[part]})" if part in _KNOWN_AS else ""
    needs = [meaning for word, meaning in _NEEDS.items() if re.search(rf"(?<![\w.])'?{word}\b'?", text)]
    if not needs or isinstance(error, RecursionError):
        return (
            f"{name} must make its update from a gradient, its state and the parameters; got {part}{known}, which "
            f"fails on them: {type(error).__name__}: {kinds.first_line(error)}"
        )
    return (
        f"{name} must make its update from a gradient, its state and the parameters alone; got {part}{known}, which "
        f"needs {', '.join(needs)} as well. Only a rule that reads one gradient a step has the expansions of this "
        "project: take one without a line search, a target value or a Hessian."
    )


def together(values: dict[str, object]) -> None:
    """What arguments that are there together must agree in; each of them has been checked by itself."""
    losses = cast("Losses | None", values.get("losses"))
    params = values.get("params")
    has_losses = hasattr(losses, "num_losses")
    schedule, order = values.get("schedule"), values.get("order")
    if schedule is not None and hasattr(schedule, "scales"):
        word(cast("Schedule", schedule), losses.num_losses if has_losses and losses is not None else None)
    elif has_losses and losses is not None and (hasattr(schedule, "pairs") or hasattr(order, "pairs")):
        _ = losses.num_pairs
    if has_losses and losses is not None and params is not None:
        losses_at(losses, params)
    if params is not None and "optimizer" in values and values["optimizer"] is not None:
        rule_at("optimizer", cast("rules.Rule", values["optimizer"]), params, values.get("state"))
    for stage, rule in cast("dict[str, rules.Rule]", values.get("stages", {})).items():
        rule_at(f"stages[{stage!r}]", rule, params)
    for power, tree in enumerate(cast("tuple", values.get("coefficients") or ())):
        if params is not None:
            kinds.alike(f"coefficients[{power}]", tree, "params", params)
    if (index := values.get("index")) is not None and kinds.is_known(index):
        owner = cast("Losses", values["self"])
        losses_at(owner, params)
        if not 0 <= cast("int", index) < owner.num_losses:
            raise ValueError(f"index must be one of 0 ... {owner.num_losses - 1}; got {index}.")
    for one, other in (("displacement", "params"), ("second_moment", "params")):
        if one in values and other in values:
            kinds.alike(one, values[one], other, values[other])
    if "minus" in values and not callable(values["minus"]):
        kinds.alike("plus", values["plus"], "minus", values["minus"])
    if params is not None and (values.get("each") or values.get("observe")):
        _of_gradients(
            cast("Callable | None", values.get("each")), cast("Callable | None", values.get("observe")), params
        )
    for name in ("remainders", "floors", "terms", "is_usable"):
        if values.get(name) is not None and len(values[name]) != len(values["step_sizes"]):  # type: ignore[arg-type]
            raise ValueError(f"{name} must be one per step size; got {len(values[name])}.")  # type: ignore[arg-type]


def _of_gradients(each: Callable | None, observe: Callable | None, params: Params) -> None:
    """Refuses functions of the gradient that do not return one, or nothing that JAX can keep."""
    like = _abstract(*_described(params))
    for name, function, arguments_ in (("each", each, (like,)), ("observe", observe, (like, like))):
        if function is None:
            continue
        try:
            out = _shapes(function, *arguments_)
        except Exception as error:
            raise TypeError(
                f"{name} must take {len(arguments_)} tree{'s' * (len(arguments_) > 1)} like params and return arrays; "
                f"got {type(error).__name__}: {kinds.first_line(error)}"
            ) from error
        if name == "each" and _described(out) != _described(like):
            raise TypeError(f"each must return a gradient of the structure, shapes and dtypes of params; got {out}.")
