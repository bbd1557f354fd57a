"""The kinds of arguments: one check for each kind of value, of one value alone. Nothing is converted.

A string is no number, 0.7 is no index, True is neither, and a list is no array. Of values under a transformation only
shapes and dtypes are seen.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf, isnan
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

__all__ = [
    "Check",
    "alike",
    "descending",
    "digits",
    "distinct",
    "first_line",
    "flag",
    "function",
    "instance",
    "is_known",
    "key",
    "literal",
    "numbers",
    "optimizer",
    "params",
    "power",
    "real",
    "sequence",
    "shown",
    "stages",
    "text",
    "tree",
    "trees",
    "vector",
    "whole",
]

Check = Callable[[str, object], None]


def shown(value: object) -> str:
    """A value in few words."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Tracer) or hasattr(value, "dtype"):
        dtype, shape = getattr(value, "dtype", "?"), getattr(value, "shape", "?")
        return f"{value}" if shape == () and not isinstance(value, Tracer) else f"an array {dtype}{list(shape)}"
    if callable(value):
        return f"{type(value).__name__} {getattr(value, '__name__', '')}".rstrip()
    text = repr(value)
    return text if len(text) < 80 else f"{type(value).__name__} {text[:60]}..."


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [""])[0]


def is_known(value: object) -> bool:
    """Whether a value is there: under a transformation it is not."""
    return not isinstance(value, Tracer)


def real(
    name: str,
    value: object,
    *,
    least: float = -inf,
    above: float = -inf,
    below: float = inf,
    may_be_nan: bool = False,
) -> None:
    """A real number: of Python, NumPy or JAX, without an axis."""
    dtype = getattr(value, "dtype", None)
    is_number = isinstance(value, (int, float)) and not isinstance(value, (bool, np.bool_))
    if dtype is not None:
        kinds = jnp.floating, jnp.integer
        is_number = getattr(value, "shape", None) == () and any(jnp.issubdtype(dtype, kind) for kind in kinds)
    if not is_number:
        raise TypeError(f"{name} must be a real number; got {shown(value)}.")
    if not is_known(value):
        return
    number = float(cast("float", value))
    if isnan(number) and may_be_nan:
        return
    bounds = f" and at least {least:g}" * (least > -inf and least != 0) + " and not negative" * (least == 0)
    bounds += " and positive" * (above == 0) + f" and below {below:g}" * (below < inf)
    if not (-inf < number < inf and least <= number < below and number > above):
        must = "be positive and finite" if bounds == " and positive" else f"be finite{bounds}"
        raise ValueError(f"{name} must {must}; got {value}.")


def whole(name: str, value: object, *, least: int = 0) -> None:
    """A whole number of Python or NumPy, at least this large."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number; got {shown(value)}.")
    if value < least:
        must = "not be negative" if least == 0 else f"be at least {least}"
        raise ValueError(f"{name} must {must}; got {value}.")


def power(name: str, value: object) -> None:
    """A power of the step size: 1, 2 or 3."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value not in (1, 2, 3):
        raise ValueError(f"{name} must be 1, 2 or 3; got {shown(value)}.")


def literal(name: str, value: object, options: Sequence[str]) -> None:
    """One of a few strings."""
    if not isinstance(value, str) or value not in options:
        quoted = [f'"{option}"' for option in options]
        listed = f"{', '.join(quoted[:-1])} or {quoted[-1]}" if len(options) < 4 else f"one of {', '.join(options)}"
        raise ValueError(f"{name} must be {listed}; got {shown(value)}.")


def instance(name: str, value: object, classes: tuple[type, ...]) -> None:
    """An object of one of these classes."""
    if not isinstance(value, classes):
        names = " or ".join(f"{kind.__module__.split('.')[-1]}.{kind.__name__}" for kind in classes)
        raise TypeError(f"{name} must be a {names}; got {shown(value)}.")


def flag(name: str, value: object) -> None:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False; got {shown(value)}.")


def text(name: str, value: object) -> None:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string; got {shown(value)}.")


def function(name: str, value: object) -> None:
    """Something that can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function; got {shown(value)}.")


def _is_rule(value: object) -> bool:
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))


def optimizer(name: str, value: object) -> None:
    """An Optax rule: an object with `init` and `update`, or a function that makes one of a rate."""
    if not _is_rule(value) and not callable(value):
        raise TypeError(
            f"{name} must be an optax.GradientTransformation at learning rate 1, such as optax.adam(1.0), or a "
            f"function of the rate, such as optax.adam; got {shown(value)}."
        )


def stages(name: str, value: object) -> None:
    """Rules by name, one at least; none is a function of its rate."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping from names to rules; got {shown(value)}.")
    if not value:
        raise ValueError(f"{name} must hold at least one rule; got none.")
    for stage, rule in value.items():
        text(f"a name of {name}", stage)
        if not _is_rule(rule):
            raise TypeError(
                f"{name}[{stage!r}] must be an optax.GradientTransformation at learning rate 1, such as "
                f"optax.adam(1.0): with frozen gradients it is read at rate 1; got {shown(rule)}."
            )


def key(name: str, value: object) -> None:
    """A random key of JAX."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    is_typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    if not is_typed and not (dtype == np.uint32 and shape is not None and len(shape) == 1):
        raise TypeError(f"{name} must be a random key, such as jax.random.key(0); got {shown(value)}.")


def tree(name: str, value: object) -> None:
    """A tree of arrays in float32 or float64, as they are: JAX would cast the latter where float64 is off."""
    leaves = jax.tree.leaves_with_path(value)
    if not leaves:
        raise ValueError(f"{name} must hold at least one array; got an empty tree.")
    for path, leaf in leaves:
        place = f"{name}{jax.tree_util.keystr(path)}"
        if (dtype := getattr(leaf, "dtype", None)) not in (jnp.float32, jnp.float64):
            raise TypeError(
                f"{place} must be a float32 or float64 array; got {dtype or type(leaf).__name__}. "
                "A second-order effect is lost in fewer digits: keep float32 masters and cast inside the loss."
            )
        digits(place, leaf)


def digits(place: str, leaf: object) -> None:
    """An array that JAX takes as it is, and does not cast to 32 bits."""
    if isinstance(leaf, (np.ndarray, np.generic)) and leaf.dtype != jax.dtypes.canonicalize_dtype(leaf.dtype):
        raise TypeError(
            f"{place} must be of 32 bits unless float64 is on; got {leaf.dtype}, which JAX would cast. Call "
            'jax.config.update("jax_enable_x64", True), or cast it yourself.'
        )


def params(name: str, value: object) -> None:
    """A tree of floating-point arrays without NaN and infinity."""
    tree(name, value)
    for path, leaf in jax.tree.leaves_with_path(value):
        if is_known(leaf) and getattr(leaf, "is_fully_addressable", True) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"{name}{jax.tree_util.keystr(path)} must be finite; got NaN or infinity.")


def trees(name: str, value: object) -> None:
    """A tuple of trees that are built alike."""
    if not isinstance(value, tuple) or not value:
        raise TypeError(f"{name} must be a tuple of trees, one per power of the step size; got {shown(value)}.")
    for k, one in enumerate(value):
        tree(f"{name}[{k}]", one)
        alike(f"{name}[{k}]", one, f"{name}[0]", value[0])


def sequence(name: str, value: object, check: Check, *, least: int = 1) -> None:
    """A list, each entry of which passes a check."""
    if isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray)) or np.ndim(value) == 0:
        raise TypeError(f"{name} must be a list; got {shown(value)}.")
    if len(value) < least:
        raise ValueError(f"{name} must be at least {('none', 'one', 'two')[least]}; got {len(value) or 'none'}.")
    for k, item in enumerate(value):
        check(f"{name}[{k}]", item)


def distinct(name: str, value: object) -> None:
    """Refuses names that are not different strings."""
    sequence(name, value, text, least=0)
    names = list(cast("Sequence[str]", value))
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"{name} must be different and not empty, or a word means one loss by two; got {names}.")


def numbers(name: str, value: object, kind: Literal["whole", "real"]) -> None:
    """Refuses what is not an array or a list of whole or of real numbers, along one axis."""
    is_array = hasattr(value, "dtype") and hasattr(value, "shape")
    if not is_array and (isinstance(value, (str, bytes)) or not isinstance(value, Sequence)):
        raise TypeError(f"{name} must be a list of {kind} numbers; got {shown(value)}.")
    try:
        array = value if is_array else np.asarray(value)
    except (ValueError, TypeError, jax.errors.JAXTypeError):
        raise TypeError(f"{name} must be a list of {kind} numbers; got {shown(value)}.") from None
    shape, dtype = np.shape(array), cast("np.ndarray", array).dtype  # type: ignore[arg-type]
    if len(shape) != 1:
        raise ValueError(f"{name} must have one axis; got shape {shape}.")
    kinds = (jnp.integer,) if kind == "whole" else (jnp.integer, jnp.floating)
    if shape[0] and not any(jnp.issubdtype(dtype, k) for k in kinds):
        raise TypeError(f"{name} must be {kind} numbers; got {dtype if is_array else shown(value)}.")


def vector(name: str, value: object, *, num_axes: tuple[int, ...] = (1,), dtype: type = np.floating) -> None:
    """A NumPy array with one axis, or with one of these numbers of axes."""
    if not isinstance(value, np.ndarray) or value.ndim not in num_axes or not np.issubdtype(value.dtype, dtype):
        axes = " or ".join(map(str, num_axes))
        raise TypeError(f"{name} must be a NumPy array of {dtype.__name__}, of {axes} axes; got {shown(value)}.")


def descending(name: str, value: object) -> None:
    """Positive step sizes, each smaller than the one before, two at least."""
    vector(name, value)
    sizes = cast("np.ndarray", value)
    if len(sizes) < 2 or not ((np.diff(sizes) < 0).all() and (sizes > 0).all() and np.isfinite(sizes).all()):
        raise ValueError(f"{name} must be positive and descend, two at least; got {sizes.tolist()}.")


def alike(name: str, value: object, other_name: str, other: object) -> None:
    """A tree of the structure and the shapes of another."""
    if jax.tree.structure(value) != jax.tree.structure(other):
        raise ValueError(
            f"{name} must have the structure of {other_name}; got {jax.tree.structure(value)} for "
            f"{jax.tree.structure(other)}."
        )
    for (path, leaf), like in zip(jax.tree.leaves_with_path(value), jax.tree.leaves(other), strict=True):
        if np.shape(leaf) != np.shape(like):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)} must have the shape of that of {other_name}; got "
                f"{np.shape(leaf)} for {np.shape(like)}."
            )
