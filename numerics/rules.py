"""Rules: Optax optimizers as the update maps take them, and the checks of that.

A rule has one of two forms.

At learning rate 1, as `optax.adamw(1.0)`: the step size multiplies its updates, so that a step of size s adds
s * rule.update(...). That is `optax.adamw(s)` only where the updates are proportional to the learning rate, as those of
most optimizers are. They are not where something else follows the rate (a clip, a decay, a projection), where
the rate enters elsewhere (fromage, rprop), or where the state holds parameters (schedule-free): `check` refuses these.

As a function of the learning rate, as `lambda rate: optax.fromage(rate)`: every step makes the rule of its own rate and
takes it as it is, whatever the rate does in it. Predictions are then derivatives in the rate at zero.

A scale of a schedule multiplies the update of a rule at rate 1, and the rate of a function of it. The two differ, at
first order, where a rule remembers a product with its rate (LARS, a `trace` behind `sgd`) and scales vary.
"""

import re
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.extend import core
from jaxtyping import PyTree

from numerics import checks, linearity
from numerics.contents import Snapshot
from numerics.traces import Shapes, abstract, shapes_of, traced
from numerics.types import Params, Scalar

__all__ = ["RateRule", "Rule", "at_rate", "check", "from_function", "is_function_of_rate", "is_gradient_descent"]

RateRule: TypeAlias = Callable[[Any], optax.GradientTransformation]
"""From the learning rate, which may be traced, to the rule."""

Rule: TypeAlias = optax.GradientTransformation | RateRule


def is_function_of_rate(rule: Rule) -> bool:
    """Whether a rule is a function of the rate; else it has learning rate 1."""
    return not hasattr(rule, "update")


def at_rate(rule: Rule, rate: Scalar | float) -> optax.GradientTransformation:
    """The rule of a step: at this rate where it is a function of the rate, else as it is."""
    return cast("RateRule", rule)(rate) if is_function_of_rate(rule) else cast("optax.GradientTransformation", rule)


# Whether a rule is gradient descent -----------------------------------------------------------------------------------


class _Signed(NamedTuple):
    """sign * the input with this number; sign itself where there is none."""

    number: int | None
    sign: float


def is_gradient_descent(rule: Rule, params: Params) -> bool:
    """Whether a rule is gradient descent at learning rate 1, as `optax.sgd(1.0)`; by the program of its update.

    The program, for parameters of these shapes and dtypes, must do nothing but change the sign of the gradient and
    return the state as it is. A rule of the same values by another program is treated as any rule: that costs time and
    changes nothing.
    """
    return not is_function_of_rate(rule) and _is_descent(Snapshot(rule), shapes_of(params))


@lru_cache(maxsize=256)
def _is_descent(snapshot: Snapshot, like: Shapes) -> bool:
    rule, params = cast("optax.GradientTransformation", snapshot.value), abstract(like)
    # New functions: JAX keeps traces by function, and a rule may hold something else by now.
    state = jax.eval_shape(lambda start: rule.init(start), params)  # noqa: PLW0108
    program = jax.make_jaxpr(lambda *parts: rule.update(*parts))(params, state, params)  # noqa: PLW0108
    num_params, num_inputs = len(like[1]), len(program.jaxpr.invars)
    outputs = _signs(program, [_Signed(number, 1.0) for number in range(num_inputs)])
    of_state = range(num_params, num_inputs - num_params)
    return outputs == [*(_Signed(k, -1.0) for k in range(num_params)), *(_Signed(k, 1.0) for k in of_state)]


def _signs(program: core.ClosedJaxpr, inputs: list[_Signed | None]) -> list[_Signed | None]:
    """The outputs of a program, where they are inputs or constants 1, up to sign; else None."""
    known = dict(zip(program.jaxpr.invars, inputs, strict=True))
    known |= dict(zip(program.jaxpr.constvars, map(_constant, program.consts), strict=True))

    def read(atom: core.Var | core.Literal) -> _Signed | None:
        return _constant(atom.val) if isinstance(atom, core.Literal) else known.get(atom)

    for equation in program.jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        shapes = {(atom.aval.shape, atom.aval.dtype) for atom in (*equation.invars[:1], *equation.outvars)}
        match equation.primitive.name, operands:
            case "neg", [_Signed(number, sign)]:
                outputs = [_Signed(number, -sign)]
            case "mul", [_Signed(None, sign), _Signed(number, other)] | [_Signed(number, other), _Signed(None, sign)]:
                outputs = [_Signed(number, sign * other)]
            case "copy" | "convert_element_type" | "broadcast_in_dim", [_Signed(number, _) as same] if (
                number is None or len(shapes) == 1
            ):
                outputs = [same]
            case "jit" | "pjit", _:
                outputs = _signs(equation.params["jaxpr"], operands)
            case _:
                outputs = [None] * len(equation.outvars)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in program.jaxpr.outvars]


def _constant(value: Any) -> _Signed | None:  # noqa: ANN401  # whatever a program holds
    """1 or -1, alone or in every place of an array; else None."""
    if isinstance(value, Tracer) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        return None
    signs = np.unique(np.asarray(value))
    return _Signed(None, float(signs[0])) if signs.tolist() in ([1.0], [-1.0]) else None


# Whether a rule makes an update of a gradient -------------------------------------------------------------------------


def check(name: str, rule: object, params: Params, state: object = None) -> None:
    """Refuses a rule that makes no update from a gradient, its state and the parameters alone, or not by its rate.

    Args:
        name: The name of the argument.
        rule: The rule; traced for its shapes, and run on a few random gradients (`numerics.linearity`).
        params: The parameters.
        state: A state of the rule; None for that of its `init`.

    Raises:
        TypeError: If it is no rule, or one that fails on the three, or changes their structure, shapes or dtypes.
        ValueError: If the updates of a rule at learning rate 1 are not proportional to the rate, or the state is that
            of another rule.
    """
    must = f"{checks.AT_RATE_1}, or a function of the rate, such as optax.adam"
    checks.require(checks.is_rule(rule) or callable(rule), name, must, rule)
    state_shapes = _shapes_of_state(name, Snapshot(rule), shapes_of(params))
    linearity.require_linear(rule, params)
    try:
        is_own = state is None or shapes_of(traced(lambda: state)) == state_shapes
    except TypeError:
        is_own = False
    if not is_own:
        raise ValueError(
            f"state must be that of {name} for these parameters: {name}.init(params), or the state of an update; "
            f"got {jax.tree.structure(state)}."
        )


@lru_cache(maxsize=256)
def _shapes_of_state(name: str, snapshot: Snapshot, like: Shapes) -> Shapes:
    returned: list[object] = []

    def once(rate: Scalar, params: Params) -> tuple:
        rule = at_rate(cast("Rule", snapshot.value), rate)
        returned.append(rule)
        state = jax.tree.map(jnp.asarray, rule.init(params))
        return state, *rule.update(params, state, params)

    structure, leaves = like
    rate = jax.ShapeDtypeStruct((), jnp.result_type(*(dtype for _, dtype in leaves)))
    try:
        state, update, after = traced(once, rate, abstract(like))
    except Exception as error:
        if returned and not checks.is_rule(returned[0]):
            must = "be a rule, or a function of the rate that returns one"
            raise TypeError(f"{name} must {must}; got one that returns {checks.brief(returned[0])}.") from error
        raise TypeError(_refusal(name, error)) from error
    if jax.tree.structure(update) != structure or [x.shape for x in jax.tree.leaves(update)] != [s for s, _ in leaves]:
        raise TypeError(f"{name} must return updates with the structure and the shapes of params; got {update}.")
    if shapes_of(after) != shapes_of(state):
        raise TypeError(
            f"{name} must keep the structure, shapes and dtypes of its state; got {after} after one update for "
            f"{state} before. Give its options as the types that they stand for."
        )
    return shapes_of(state)


# Rules from functions of Optax or of a user ---------------------------------------------------------------------------


def from_function(name: str, function: Callable[..., object], options: Mapping[str, object], params: PyTree) -> Rule:
    """The rule of a function of `learning_rate` and options, in the simpler form that is right.

    Calls with equal arguments return one object, so that compiled programs are found again.

    Args:
        name: The name in messages.
        function: The function, such as `optax.lion`.
        options: Its other arguments, by keyword.
        params: The parameters, or their shapes.

    Returns:
        The rule at learning rate 1 where its updates are proportional to the rate; else a function of the rate.

    Raises:
        TypeError: If the function returns no rule, or one that fails on a gradient, its state and the parameters.
        ValueError: If the function raises an error.
    """
    return _from_function(name, Snapshot((function, tuple(options.items()))), shapes_of(params))


@lru_cache(maxsize=256)
def _from_function(name: str, snapshot: Snapshot, like: Shapes) -> Rule:
    function, options = cast("tuple", snapshot.value)

    def rule_at(rate: Scalar | float) -> Any:  # noqa: ANN401  # checked below
        return function(learning_rate=rate, **dict(options))

    try:
        with jax.ensure_compile_time_eval():  # also where the caller is traced, the arrays of a rule have values
            rule, other = rule_at(1.0), rule_at(linearity.SMALLER)
    except Exception as error:
        raise ValueError(
            f"{name} must make a rule of these options; got {type(error).__name__}: {checks.first_line(error)}"
        ) from error
    checks.require(checks.is_rule(rule), name, "return an optax.GradientTransformation", rule)
    _shapes_of_state(name, Snapshot(rule), like)
    if linearity.is_linear(rule, other, like):
        return rule
    _shapes_of_state(name, Snapshot(rule_at), like)
    return rule_at


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
    frames = [frame.f_code.co_qualname for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside, _, _ = " ".join(reversed(frames)).partition(_shapes_of_state.__name__)
    closures = re.findall(r"(\w+)\.<locals>", f"{text} {inside}")
    part = closures[0] if closures else "a rule"
    known = f" ({_KNOWN_AS[part]})" if part in _KNOWN_AS else ""
    needs = [meaning for word, meaning in _NEEDS.items() if re.search(rf"(?<![\w.])'?{word}\b'?", text)]
    if not needs or isinstance(error, RecursionError):
        return (
            f"{name} must make its update from a gradient, its state and the parameters; got {part}{known}, which "
            f"fails on them: {type(error).__name__}: {checks.first_line(error)}"
        )
    return (
        f"{name} must make its update from a gradient, its state and the parameters alone; got {part}{known}, which "
        f"needs {', '.join(needs)} as well. Only a rule that reads one gradient a step has the expansions of this "
        "project: take one without a line search, a target value or a Hessian."
    )
