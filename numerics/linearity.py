"""Whether a rule at learning rate 1 is linear in its rate.

Optax keeps the rate in variables that the functions of a transformation close over. A copy of these functions with
another rate in its place is the rule at that rate; a few steps of both then tell.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from math import prod
from types import CellType, FunctionType
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from numerics.contents import Snapshot
from numerics.traces import Shapes, shapes_of
from numerics.types import Params, Scalar

__all__ = ["SMALLER", "is_linear", "require_linear"]

_RATES = ("step_size", "step_size_fn", "learning_rate")
_PLUMBING = ("chain", "named_chain", "with_extra_args_support", "identity", "scale", "scale_by_schedule")
SMALLER = 1 / 16  # the other rate, in units of the first; a power of two adds no round-off
MAGNITUDES = (1e-3, 1.0, 1e3)  # of gradients beside parameters of order one: a clip may act at one and not at another
NUM_STEPS = 64  # most show it at the second or third; rprop when its steps have shrunk to the least that it makes
NUM_STEPS_IF_LARGE = 4
LARGE, FEW = 10**5, 10**3  # parameters
TOLERANCE = 1e4  # machine epsilons, relative to the displacement


def require_linear(rule: object, params: Params) -> None:
    """Refuses a rule at learning rate 1 whose updates are not proportional to its rate, as far as a few steps show it.

    A function of the rate is never refused here, nor a rule whose rate is not kept where Optax keeps it, nor a rule
    that depends on traced values.
    """
    if not isinstance(rule, optax.GradientTransformation):
        return  # a function of the rate, or an object that keeps its rate in its own way
    if any(isinstance(leaf, Tracer) for leaf in (*jax.tree.leaves(params), *_arrays(rule), jnp.zeros(()))):
        return  # inside a transformation, where new arrays are traced as well
    if not _on_few(lambda shapes: _is_linear(Snapshot(rule), shapes), shapes_of(params)):
        raise ValueError(
            "a rule at learning rate 1 must make updates that are proportional to the rate; those of "
            f"{', '.join(_names(rule)) or 'this one'} are not. Give the rule as a function of the rate, with the "
            "rate where 1.0 stands: `lambda rate: optax.fromage(rate)`."
        )


def is_linear(rule: optax.GradientTransformation, other: optax.GradientTransformation, like: Shapes) -> bool:
    """Whether updates are proportional to the rate: those of a rule at rate 1, and of the same at SMALLER.

    False as well where `require_linear` would refuse the rule at rate 1.
    """
    return _on_few(lambda shapes: _is_proportional(rule, other, shapes) and _is_linear(Snapshot(rule), shapes), like)


def _on_few(test: Callable[[Shapes], bool], like: Shapes) -> bool:
    """The test on as many parameters as there are, or on a FEW where they are LARGE: their axes are cut to one length.

    On the parameters themselves where the rule fails on others, for it may hold arrays of their shapes.
    """

    def cut(length: int) -> Shapes:
        return like[0], tuple((tuple(min(size, length) for size in shape), dtype) for shape, dtype in like[1])

    if _count(like) <= LARGE:
        return test(like)
    lengths = (2**power for power in range(10, 0, -1))
    try:
        return test(cut(next((length for length in lengths if _count(cut(length)) <= FEW), 1)))
    except (TypeError, ValueError):
        return test(like)


def _count(like: Shapes) -> int:
    return sum(prod(shape) for shape, _ in like[1])


@lru_cache(maxsize=256)
def _is_linear(snapshot: Snapshot, like: Shapes) -> bool:
    rule = cast("optax.GradientTransformation", snapshot.value)
    others = [_at_smaller_rate(rule, is_last=is_last) for is_last in (True, False)]
    return any(other is None or _is_proportional(rule, other, like) for other in others)


def _is_proportional(rule: optax.GradientTransformation, other: optax.GradientTransformation, like: Shapes) -> bool:
    num_params = _count(like)
    num_steps = NUM_STEPS if num_params <= LARGE else NUM_STEPS_IF_LARGE
    random = np.random.default_rng(0).normal(size=2 * num_params + num_steps)
    program = jax.jit(_agree, static_argnums=(0, 1, 2, 3)).lower(rule, other, like, num_steps, random).compile()
    return bool(program(random))  # a compiled program runs at once, also where the caller is traced


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
