"""Arguments that must fit together: a schedule and losses, losses and parameters, a rule and parameters.

Functions are traced for their shapes, once for each, and never run. Each argument by itself has been checked
(`numerics.kinds`).
"""

import inspect
import re
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from numerics import kinds, rules
from numerics.contents import Snapshot
from numerics.rules import Shapes, abstract, shapes_of
from numerics.types import Params

if TYPE_CHECKING:
    from numerics.losses import Losses
    from numerics.schedules import Schedule

__all__ = ["losses_at", "rule_at", "together", "word"]


def word(schedule: "Schedule", num_losses: int | None = None) -> None:
    """Refuses a schedule that cannot be stepped; `num_losses` is None where the losses are not known yet."""
    losses, scales = schedule
    for part in (losses, scales):
        fix = " Build it with schedules.steps."
        kinds.require(hasattr(part, "dtype"), "schedule", "hold arrays", part, fix=fix)
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


def losses_at(losses: "Losses", params: Params) -> None:
    """Refuses losses that are no real scalars of one dtype at these parameters. Traces each once per shape."""
    outputs = {}
    for name, function, stack in zip(losses.names, losses.functions, losses.batches, strict=True):
        for path, leaf in jax.tree.leaves_with_path(stack):
            kinds.digits(f"the batches of loss {name!r}{jax.tree_util.keystr(path)}", leaf)
        structure, shapes = shapes_of(stack)
        members = structure, tuple((shape[1:], dtype) for shape, dtype in shapes)
        outputs[name] = _output(name, Snapshot(function), losses.has_aux, shapes_of(params), members)
    for part, meaning in enumerate(("dtype", "structure, shapes and dtypes beside the loss")):
        first, *others = outputs
        for other in others:
            if outputs[first][part] != outputs[other][part]:
                raise TypeError(
                    f"losses must return one {meaning}; got {outputs[first][part]} of {first!r} and "
                    f"{outputs[other][part]} of {other!r}. Cast what one of them returns."
                )


def _shapes(function: Callable, *arguments: PyTree) -> PyTree:
    """The shapes that a function returns; JAX keeps traces by function, and one of a new one is new."""
    return jax.eval_shape(lambda *these: function(*these), *arguments)  # noqa: PLW0108


@lru_cache(maxsize=1024)
def _output(name: str, function: Snapshot, has_aux: bool, params: Shapes, batch: Shapes) -> tuple[Hashable, Hashable]:
    """The dtype of a loss, and the structure, shapes and dtypes of its auxiliary outputs."""
    arguments = abstract(params), abstract(batch)
    loss = cast("Callable", function.value)
    try:
        inspect.signature(loss).bind(*arguments)
    except TypeError as error:
        raise TypeError(
            f"loss {name!r} must take the parameters and one batch; got one for which this fails: {error}. For a "
            "function of the parameters alone take losses.of_params."
        ) from None
    except ValueError:
        pass  # some callables have no signature
    try:
        out = _shapes(loss, *arguments)
    except Exception as error:
        raise TypeError(
            f"loss {name!r} must be computable, by JAX, from params and its batches; got "
            f"{type(error).__name__} for shapes {[shape for shape, _ in params[1]]} and "
            f"{[shape for shape, _ in batch[1]]}: {kinds.first_line(error)}"
        ) from error
    aside: Hashable = None
    if has_aux:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(f"loss {name!r} must return a pair, as has_aux says; got {out}.")
        out, aux = out
        aside = shapes_of(aux)
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


def rule_at(name: str, rule: rules.Rule, params: Params, state: object = None) -> None:
    """Refuses a rule that makes no update from a gradient, its state and the parameters alone, or not by its rate.

    `name` is that of the argument. `state` is a state of the rule; None for that of its `init`.
    """
    expected = _state_of(name, Snapshot(rule), shapes_of(params))
    rules.check(rule, params)
    if state is None:
        return
    try:
        is_own = shapes_of(jax.eval_shape(lambda: state)) == expected
    except TypeError:
        is_own = False
    if not is_own:
        raise ValueError(
            f"state must be that of {name} for these parameters: {name}.init(params), or the state of an update; "
            f"got {jax.tree.structure(state)}."
        )


@lru_cache(maxsize=256)
def _state_of(name: str, snapshot: Snapshot, like: Shapes) -> Shapes:
    params = abstract(like)
    rule = cast("rules.Rule", snapshot.value)
    rate = jax.ShapeDtypeStruct((), jnp.result_type(*(dtype for _, dtype in like[1])))
    at_rates: list[object] = []
    try:
        if rules.is_function_of_rate(rule):
            _shapes(lambda rate: at_rates.append(rules.at_rate(rule, rate)), rate)
    except Exception as error:
        raise TypeError(_refusal(name, error)) from error
    for item in at_rates:
        must = "be a rule, or a function of the rate that returns one"
        if not kinds.is_rule(item):
            raise TypeError(f"{name} must {must}; got one that returns {kinds.brief(item)}.")
    try:
        state = _shapes(lambda rate, params: rules.at_rate(rule, rate).init(params), rate, params)
        update, after = _shapes(
            lambda rate, *these: rules.at_rate(rule, rate).update(*these), rate, params, state, params
        )
    except Exception as error:
        raise TypeError(_refusal(name, error)) from error
    structure, shapes = like[0], [shape for shape, _ in like[1]]
    if jax.tree.structure(update) != structure or [leaf.shape for leaf in jax.tree.leaves(update)] != shapes:
        raise TypeError(f"{name} must return updates with the structure and the shapes of params; got {update}.")
    if shapes_of(after) != shapes_of(state):
        raise TypeError(
            f"{name} must keep the structure, shapes and dtypes of its state; got {after} after one update for "
            f"{state} before. Give its options as the types that they stand for."
        )
    return shapes_of(state)


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


def together(values: dict[str, Any]) -> None:
    """Refuses arguments that do not fit each other; each of them has been checked by itself."""
    losses, schedule = values.get("losses"), values.get("schedule")
    params = values["epoch"].params if "epoch" in values else values.get("params")
    has_losses = hasattr(losses, "num_losses")
    if hasattr(schedule, "scales"):
        word(cast("Schedule", schedule), cast("Losses", losses).num_losses if has_losses else None)
    elif has_losses and schedule is not None:  # random: of pairs
        _ = cast("Losses", losses).num_pairs
    if has_losses and params is not None:
        losses_at(cast("Losses", losses), params)
    if "rule" in values:
        rule_at("rule", values["rule"], params, values.get("state"))
    for stage, rule in values.get("stages", {}).items():
        rule_at(f"stages[{stage!r}]", rule, params)
    if (index := values.get("index")) is not None and kinds.is_known(index):
        losses_at(values["self"], params)
        last = values["self"].num_losses - 1
        kinds.require(bool(0 <= index <= last), "index", f"be one of 0 ... {last}", index, error=ValueError)
    trees = {f"coefficients[{power}]": tree for power, tree in enumerate(values.get("coefficients") or ())}
    trees |= {name: values[name] for name in ("displacement", "second_moment") if name in values}
    for name, tree in trees.items() if params is not None else ():
        kinds.alike(name, tree, "params", params)
    if "minus" in values and not callable(values["minus"]):
        kinds.alike("plus", values["plus"], "minus", values["minus"])
    if params is not None:
        _of_gradients(values, shapes_of(params))


def _of_gradients(values: dict[str, Any], like: Shapes) -> None:
    """Refuses functions of the gradient that do not return one, or nothing that JAX can keep."""
    for name, num_trees in (("transform_gradient", 1), ("gradient_stats", 2)):
        if values.get(name) is None:
            continue
        try:
            out = _shapes(values[name], *[abstract(like)] * num_trees)
        except Exception as error:
            raise TypeError(
                f"{name} must take {num_trees} tree{'s' * (num_trees > 1)} like params and return arrays; "
                f"got {type(error).__name__}: {kinds.first_line(error)}"
            ) from error
        if name == "transform_gradient" and shapes_of(out) != like:
            raise TypeError(f"{name} must return a gradient of the structure, shapes and dtypes of params; got {out}.")
