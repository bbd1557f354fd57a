"""The kinds of arguments: one check for each kind of value, of one value alone. Nothing is converted.

A string is no number, 0.7 is no index, True is neither, and a list is no array. Of values under a transformation only
shapes and dtypes are seen.
"""

from collections.abc import Callable, Sequence
from math import inf, isnan
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

__all__ = [
    "Check",
    "alike",
    "brief",
    "descending",
    "digits",
    "distinct",
    "first_line",
    "instance",
    "is_known",
    "key",
    "literal",
    "numbers",
    "real",
    "require",
    "sequence",
    "start",
    "tree",
    "trees",
    "vector",
    "whole",
]

Check = Callable[[str, object], None]


def brief(value: object) -> str:
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
    """The first line of the text of an error."""
    return (str(error).splitlines() or [""])[0]


def is_known(value: object) -> bool:
    """Whether a value is there: under a transformation it is not."""
    return not isinstance(value, Tracer)


def require(
    is_right: bool | np.bool_, name: str, must: str, value: object, *, fix: str = "", error: type[Exception] = TypeError
) -> None:
    """Raises `name` must RULE; got VALUE. FIX."""
    if not is_right:
        raise error(f"{name} must {must}; got {brief(value)}.{fix}")


def _is_real(value: object) -> bool:
    """Whether a value is a real number of Python, NumPy or JAX, without an axis; True is none."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    is_number = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    return is_number and getattr(value, "shape", None) == ()


def real(
    name: str,
    value: object,
    *,
    least: float = -inf,
    above: float = -inf,
    below: float = inf,
    may_be_nan: bool = False,
) -> None:
    """A real number in a range, whose lower end is 0 or missing."""
    require(_is_real(value), name, "be a real number", value)
    if not is_known(value):
        return
    number = float(cast("float", value))
    if isnan(number) and may_be_nan:
        return
    bounds = " and not negative" * (least == 0) + f" and below {below:g}" * (below < inf)
    must = "be positive and finite" if above == 0 else f"be finite{bounds}"
    is_within = -inf < number < inf and least <= number < below and number > above
    require(is_within, name, must, value, error=ValueError)


def whole(name: str, value: object, *, least: int = 0) -> None:
    """A whole number of Python or NumPy, at least this large."""
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    require(is_whole, name, "be a whole number", value)
    must = "not be negative" if least == 0 else f"be at least {least}"
    require(cast("int", value) >= least, name, must, value, error=ValueError)


def literal(name: str, value: object, options: Sequence[object]) -> None:
    """One of a few strings, or of a few whole numbers."""
    quoted = [f'"{option}"' if isinstance(option, str) else f"{option}" for option in options]
    listed = (
        f"{', '.join(quoted[:-1])} or {quoted[-1]}" if len(options) < 4 else f"one of {', '.join(map(str, options))}"
    )
    classes = (int, np.integer) if isinstance(options[0], int) else str
    is_option = isinstance(value, classes) and not isinstance(value, bool) and value in options
    require(is_option, name, f"be {listed}", value, error=ValueError)


def instance(name: str, value: object, *classes: type) -> None:
    """An object of one of these classes."""
    nouns = [f"a {kind.__module__.split('.')[-1]}.{kind.__name__}" for kind in classes]
    require(isinstance(value, classes), name, f"be {' or '.join(nouns)}", value)


def key(name: str, value: object) -> None:
    """A random key of JAX."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    is_typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    is_raw = dtype == np.uint32 and shape is not None and len(shape) == 1
    require(is_typed or is_raw, name, "be a random key, such as jax.random.key(0)", value)


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


def start(name: str, value: object) -> None:
    """A tree of floating-point arrays without NaN and infinity."""
    tree(name, value)
    for path, leaf in jax.tree.leaves_with_path(value):
        if is_known(leaf) and getattr(leaf, "is_fully_addressable", True) and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"{name}{jax.tree_util.keystr(path)} must be finite; got NaN or infinity.")


def trees(name: str, value: object) -> None:
    """A tuple of trees of one structure."""
    is_tuple = isinstance(value, tuple) and len(value) > 0
    require(is_tuple, name, "be a tuple of trees, one per power of the step size", value)
    for k, item in enumerate(cast("tuple", value)):
        tree(f"{name}[{k}]", item)
        alike(f"{name}[{k}]", item, f"{name}[0]", cast("tuple", value)[0])


def sequence(name: str, value: object, check: Check, *, least: int = 1) -> None:
    """A list, each entry of which passes a check."""
    is_list = isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes)) and np.ndim(value) > 0
    require(is_list, name, "be a list", value)
    items = cast("Sequence", value)
    if len(items) < least:
        raise ValueError(f"{name} must be at least {('none', 'one', 'two')[least]}; got {len(items) or 'none'}.")
    for k, item in enumerate(items):
        check(f"{name}[{k}]", item)


def distinct(name: str, value: object) -> None:
    """Different strings, none empty."""
    sequence(name, value, lambda place, item: require(isinstance(item, str), place, "be a string", item), least=0)
    names = list(cast("Sequence[str]", value))
    must = "be different and not empty, or a word means one loss by two"
    require("" not in names and len(set(names)) == len(names), name, must, names, error=ValueError)


def numbers(name: str, value: object, kind: Literal["whole", "real"]) -> None:
    """An array or a list of whole or of real numbers, along one axis."""
    is_array = hasattr(value, "dtype") and hasattr(value, "shape")
    must = f"be a list of {kind} numbers"
    is_list = is_array or (isinstance(value, Sequence) and not isinstance(value, (str, bytes)))
    require(is_list, name, must, value)
    try:
        array = cast("np.ndarray", value) if is_array else np.asarray(value)
    except (ValueError, TypeError, jax.errors.JAXTypeError):
        raise TypeError(f"{name} must {must}; got {brief(value)}.") from None
    if np.ndim(array) != 1:
        raise ValueError(f"{name} must have one axis; got shape {np.shape(array)}.")
    kinds = (jnp.integer,) if kind == "whole" else (jnp.integer, jnp.floating)
    is_right = not len(array) or any(jnp.issubdtype(array.dtype, k) for k in kinds)
    require(is_right, name, f"be {kind} numbers", value)


def vector(name: str, value: object, *, num_axes: tuple[int, ...] = (1,), dtype: type = np.floating) -> None:
    """A NumPy array with one axis, or with one of these numbers of axes."""
    is_right = isinstance(value, np.ndarray) and value.ndim in num_axes and np.issubdtype(value.dtype, dtype)
    axes = " or ".join(map(str, num_axes))
    require(is_right, name, f"be a NumPy array of {dtype.__name__}, of {axes} axes", value)


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
