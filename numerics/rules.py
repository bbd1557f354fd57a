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

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from math import prod
from types import CellType, FunctionType
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.extend import core
from jax.tree_util import PyTreeDef
from jaxtyping import Array, Bool, Float, PyTree

from numerics.contents import Snapshot
from numerics.types import Params, Scalar

__all__ = [
    "RateRule",
    "Rule",
    "Shapes",
    "abstract",
    "at_rate",
    "check",
    "is_function_of_rate",
    "is_gradient_descent",
    "shapes_of",
]

RateRule: TypeAlias = Callable[[Any], optax.GradientTransformation]
"""From the learning rate, which may be traced, to the rule."""

Rule: TypeAlias = optax.GradientTransformation | RateRule


Shapes: TypeAlias = tuple[
    PyTreeDef,  # pyright: ignore[reportInvalidTypeForm]  # jax says Any
    tuple[tuple[tuple[int, ...], np.dtype], ...],
]
"""The structure of a tree, and the shapes and dtypes of its leaves."""


def shapes_of(tree: object) -> Shapes:
    """The shapes of a tree of arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(leaf), leaf.dtype) for leaf in leaves)


def abstract(like: Shapes) -> PyTree:
    """A tree of these shapes, without values."""
    structure, leaves = like
    return structure.unflatten([jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves])


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


# Whether a rule is linear in its rate ---------------------------------------------------------------------------------
#
# Optax keeps the rate in variables that the functions of a transformation close over. A copy of these functions with
# another rate in its place is the rule at that rate; a few steps of both then tell.

_RATES = ("step_size", "step_size_fn", "learning_rate")
_PLUMBING = ("chain", "named_chain", "with_extra_args_support", "identity", "scale", "scale_by_schedule")
SMALLER = 1 / 16  # the other rate, in units of the first; a power of two adds no round-off
MAGNITUDES = (1e-3, 1.0, 1e3)  # of gradients beside parameters of order one: a clip may act at one and not at another
NUM_STEPS = 64  # most show it at the second or third; rprop when its steps have shrunk to the least that it makes
NUM_STEPS_IF_LARGE = 4
LARGE = 10**5  # parameters
TOLERANCE = 1e4  # machine epsilons, relative to the displacement


def check(rule: Rule, params: Params) -> None:
    """Refuses a rule at learning rate 1 whose updates are not proportional to its rate, as far as a few steps show it.

    A function of the rate is never refused here, nor a rule whose rate is not kept where Optax keeps it, nor a rule
    that depends on traced values.

    Raises:
        ValueError: If the same steps at a smaller rate do not lead proportionally less far.
    """
    if not isinstance(rule, optax.GradientTransformation):
        return  # a function of the rate, or an object that keeps its rate in its own way
    if any(isinstance(leaf, Tracer) for leaf in (*jax.tree.leaves(params), *_arrays(rule), jnp.zeros(()))):
        return  # inside a transformation, where new arrays are traced as well
    if not _is_linear(Snapshot(rule), shapes_of(params)):
        raise ValueError(
            "a rule at learning rate 1 must make updates that are proportional to the rate; those of "
            f"{', '.join(_names(rule)) or 'this one'} are not. Give the rule as a function of the rate, with the "
            "rate where 1.0 stands: `lambda rate: optax.fromage(rate)`."
        )


@lru_cache(maxsize=256)
def _is_linear(snapshot: Snapshot, like: Shapes) -> bool:
    rule = cast("optax.GradientTransformation", snapshot.value)
    others = [_at_smaller_rate(rule, is_last=is_last) for is_last in (True, False)]
    num_params = sum(prod(shape) for shape, _ in like[1])
    num_steps = NUM_STEPS if num_params <= LARGE else NUM_STEPS_IF_LARGE
    random = np.random.default_rng(0).normal(size=2 * num_params + num_steps)
    run = jax.jit(_agree, static_argnums=(0, 1, 2, 3))
    return any(other is None or bool(run(rule, other, like, num_steps, random)) for other in others)


def _agree(
    rule: optax.GradientTransformation,
    other: optax.GradientTransformation,
    like: Shapes,
    num_steps: int,
    random: Float[Array, " numbers"],
) -> Bool[Array, ""]:
    """Whether SMALLER times the updates of the rule are the updates of the other, at the places that these reach."""
    structure, leaves = like
    sizes = [prod(shape) for shape, _ in leaves]
    ends = np.cumsum(sizes).tolist()

    def tree(start: int | Array) -> Params:
        """As many random numbers as there are parameters, from a place of the list on."""
        flat = jax.lax.dynamic_slice(random, (start,), (ends[-1],))
        return structure.unflatten(
            flat[end - size : end].reshape(shape).astype(dtype)
            for end, size, (shape, dtype) in zip(ends, sizes, leaves, strict=True)
        )

    def displacement(of: optax.GradientTransformation, scale: float, magnitude: Scalar) -> Params:
        params, mean = tree(0), tree(ends[-1])

        def step(carry: tuple[Params, optax.OptState], number: Array) -> tuple[tuple, None]:
            reached, state = carry
            # Signs that stay as well as signs that change: step sizes of a rule's own grow, and shrink.
            gradient = jax.tree.map(lambda m, g: magnitude.astype(g.dtype) * (m + g), mean, tree(number))
            update, state = of.update(gradient, state, jax.tree.map(jnp.add, params, reached))
            return (jax.tree.map(lambda at, by: at + jnp.asarray(scale, at.dtype) * by, reached, update), state), None

        start = jax.tree.map(jnp.zeros_like, params), of.init(params)
        return jax.lax.scan(step, start, jnp.arange(num_steps))[0][0]

    def at(magnitude: Scalar) -> Bool[Array, ""]:
        ours, theirs = displacement(rule, SMALLER, magnitude), displacement(other, 1.0, magnitude)
        eps = max(float(jnp.finfo(dtype).eps) for _, dtype in leaves)
        difference = optax.tree.norm(jax.tree.map(jnp.subtract, ours, theirs))
        return ~(difference > TOLERANCE * eps * optax.tree.norm(theirs))  # where a rule overflows nothing is seen

    return jnp.all(jax.lax.map(at, jnp.asarray(MAGNITUDES)))


def _at_smaller_rate(rule: optax.GradientTransformation, *, is_last: bool) -> optax.GradientTransformation | None:
    """The rule at SMALLER times its rate; None where no rate is seen.

    Args:
        rule: The rule.
        is_last: Whether in a chain only the last transformation with a rate is taken to hold it, so that a factor in
            front of a clip stays as it is.
    """
    num_rates = 0
    open_functions: set[int] = set()  # a function may close over itself

    def named(name: str, value: Any) -> Any:  # noqa: ANN401  # whatever a function closes over
        nonlocal num_rates
        if name in _RATES and isinstance(value, int | float | np.floating | np.ndarray | jax.Array):
            num_rates += 1
            return SMALLER * value
        if name in _RATES and callable(value):
            num_rates += 1
            schedule: Callable[..., Any] = value
            return lambda *args: SMALLER * schedule(*args)
        return copy(value)

    def chain(parts: tuple) -> tuple:
        for place in reversed(range(len(parts))):
            before = num_rates
            part = copy(parts[place])
            if num_rates > before:
                return (*parts[:place], part, *parts[place + 1 :])
        return parts

    def copy(tree: Any) -> Any:  # noqa: ANN401
        if isinstance(tree, optax.GradientTransformation):
            return type(tree)(*map(copy, tree))
        if isinstance(tree, dict):
            return {key: named(str(key), value) for key, value in tree.items()}
        if type(tree) in (tuple, list):
            return chain(tuple(tree)) if is_last and all(map(callable, tree)) else type(tree)(map(copy, tree))
        if isinstance(tree, partial):
            return partial(copy(tree.func), *map(copy, tree.args), **copy(tree.keywords))
        if not isinstance(tree, FunctionType) or tree.__closure__ is None or id(tree) in open_functions:
            return tree
        open_functions.add(id(tree))
        cells = tuple(CellType(named(name, value)) for name, value in _closure(tree).items())
        open_functions.remove(id(tree))
        twin = FunctionType(tree.__code__, tree.__globals__, tree.__name__, tree.__defaults__, cells)
        twin.__kwdefaults__ = tree.__kwdefaults__
        return twin

    other = copy(rule)
    return other if num_rates else None


def _closure(function: FunctionType) -> dict[str, Any]:
    """The variables that a function closes over."""
    cells = function.__closure__ or ()
    return dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in cells), strict=True))


def _parts(tree: object, seen: set[int]) -> Iterator[object]:
    """The functions that a transformation is made of, and whatever else they close over."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple | list):
        for part in tree:
            yield from _parts(part, seen)
    elif not isinstance(tree, FunctionType):
        yield tree
    elif id(tree) not in seen:
        seen.add(id(tree))
        yield tree
        yield from _parts(_closure(tree), seen)


def _arrays(rule: optax.GradientTransformation) -> list[object]:
    """The arrays that a rule holds."""
    return [part for part in _parts((rule.init, rule.update), set()) if isinstance(part, jax.Array)]


def _names(rule: optax.GradientTransformation) -> list[str]:
    """The names of the transformations that a rule is made of, as Optax calls them."""
    names: dict[str, None] = {}
    for part in _parts(rule.update, set()):
        name, _, inner = getattr(part, "__qualname__", "").partition(".<locals>.")
        if inner.endswith(("update_fn", "update")) and name not in _PLUMBING:
            names[name] = None
    return list(names)
