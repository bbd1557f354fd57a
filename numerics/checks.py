"""The checks of arguments: the signature of every public function of this room is checked, where data enter.

`arguments` wraps a function and reads its signature: the name of a parameter has its check, or else its annotation.
Losses and schedules then refuse what does not fit them: their `check_beside` gets all arguments of the call. Nothing is
converted: a string is no number, 0.7 is no index, True is neither, and a list is no array. Of values under a
transformation only shapes and dtypes are seen.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from math import inf, isnan
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from numerics.types import Params

__all__ = [
    "AT_RATE_1",
    "alike",
    "arguments",
    "brief",
    "digits",
    "first_line",
    "instance",
    "is_known",
    "is_rule",
    "literal",
    "not_finite",
    "numbers",
    "require",
]


P = ParamSpec("P")
R = TypeVar("R")
Check = Callable[[str, object], None]


# Words and refusals ---------------------------------------------------------------------------------------------------


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


def not_finite(tree: object) -> str | None:
    """The place of the first array of a tree that holds NaN or infinity, as far as the values are known here."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if is_known(leaf) and getattr(leaf, "is_fully_addressable", True) and not np.isfinite(np.asarray(leaf)).all():
            return jax.tree_util.keystr(path)
    return None


def require(
    is_right: bool | np.bool_, name: str, must: str, value: object, *, fix: str = "", error: type[Exception] = TypeError
) -> None:
    """Raises `name` must RULE; got VALUE. FIX."""
    if not is_right:
        raise error(f"{name} must {must}; got {brief(value)}.{fix}")


# The kinds of values: one check for each, of one value alone ----------------------------------------------------------


def _is_real(value: object) -> bool:
    """Whether a value is a real number of Python, NumPy or JAX, without an axis; True is none."""
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    is_number = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    return is_number and getattr(value, "shape", None) == ()


def _real(
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


def _whole(name: str, value: object, *, least: int = 0) -> None:
    """A whole number of Python or NumPy, at least this large."""
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    require(is_whole, name, "be a whole number", value)
    must = "not be negative" if least == 0 else f"be at least {least}"
    require(cast("int", value) >= least, name, must, value, error=ValueError)


def literal(name: str, value: object, options: Sequence[object], or_else: str = "") -> None:
    """One of a few strings, or of a few whole numbers; `or_else` names what a caller takes beside them."""
    quoted = [f'"{option}"' if isinstance(option, str) else f"{option}" for option in options]
    listed = (
        f"{', '.join(quoted[:-1])} or {quoted[-1]}" if len(options) < 4 else f"one of {', '.join(map(str, options))}"
    )
    classes = (int, np.integer) if isinstance(options[0], int) else str
    is_option = isinstance(value, classes) and not isinstance(value, bool) and value in options
    require(is_option, name, f"be {listed}{or_else}", value, error=ValueError)


def instance(name: str, value: object, *classes: type) -> None:
    """An object of one of these classes."""
    nouns = [f"a {kind.__module__.split('.')[-1]}.{kind.__name__}" for kind in classes]
    require(isinstance(value, classes), name, f"be {' or '.join(nouns)}", value)


AT_RATE_1 = "be an optax.GradientTransformation at learning rate 1, such as optax.adam(1.0)"


def is_rule(value: object) -> bool:
    """Whether an object has `init` and `update`, as those of Optax."""
    return callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))


def _key(name: str, value: object) -> None:
    """A random key of JAX."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    is_typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    is_raw = dtype == np.uint32 and shape is not None and len(shape) == 1
    require(is_typed or is_raw, name, "be a random key, such as jax.random.key(0)", value)


def _tree(name: str, value: object) -> None:
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


def _start(name: str, value: object) -> None:
    """A tree of floating-point arrays without NaN and infinity."""
    _tree(name, value)
    if (place := not_finite(value)) is not None:
        raise ValueError(f"{name}{place} must be finite; got NaN or infinity.")


def _trees(name: str, value: object) -> None:
    """A tuple of trees of one structure."""
    is_tuple = isinstance(value, tuple) and len(value) > 0
    require(is_tuple, name, "be a tuple of trees, one per power of the step size", value)
    for k, item in enumerate(cast("tuple", value)):
        _tree(f"{name}[{k}]", item)
        alike(f"{name}[{k}]", item, f"{name}[0]", cast("tuple", value)[0])


def _sequence(name: str, value: object, check: Check, *, least: int = 1) -> None:
    """A list, each entry of which passes a check."""
    is_array = isinstance(value, np.ndarray) and value.ndim > 0
    require(is_array or (isinstance(value, Sequence) and not isinstance(value, (str, bytes))), name, "be a list", value)
    items = cast("Sequence", value)
    if len(items) < least:
        raise ValueError(f"{name} must be at least {('none', 'one', 'two')[least]}; got {len(items) or 'none'}.")
    for k, item in enumerate(items):
        check(f"{name}[{k}]", item)


def _distinct(name: str, value: object) -> None:
    """Different strings, none empty."""
    _sequence(name, value, _PLAIN[str,], least=0)
    names = list(cast("Sequence[str]", value))
    must = "be different and not empty, or a word means one loss by two"
    require("" not in names and len(set(names)) == len(names), name, must, names, error=ValueError)


def numbers(name: str, value: object, kind: Literal["whole", "real"]) -> None:
    """An array or a list of whole or of real numbers, along one axis."""
    is_array = hasattr(value, "dtype") and hasattr(value, "shape")
    must = f"be a list of {kind} numbers"
    require(is_array or (isinstance(value, Sequence) and not isinstance(value, (str, bytes))), name, must, value)
    try:
        array = cast("np.ndarray", value) if is_array else np.asarray(value)
    except (ValueError, TypeError, jax.errors.JAXTypeError):
        raise TypeError(f"{name} must {must}; got {brief(value)}.") from None
    if np.ndim(array) != 1:
        raise ValueError(f"{name} must have one axis; got shape {np.shape(array)}.")
    kinds = (jnp.integer,) if kind == "whole" else (jnp.integer, jnp.floating)
    is_right = not len(array) or any(jnp.issubdtype(array.dtype, k) for k in kinds)
    require(is_right, name, f"be {kind} numbers", value)


def _vector(name: str, value: object, *, num_axes: tuple[int, ...] = (1,), dtype: type = np.floating) -> None:
    """A NumPy array with one axis, or with one of these numbers of axes."""
    is_right = isinstance(value, np.ndarray) and value.ndim in num_axes and np.issubdtype(value.dtype, dtype)
    axes = " or ".join(map(str, num_axes))
    require(is_right, name, f"be a NumPy array of {dtype.__name__}, of {axes} axes", value)


def _descending(name: str, value: object) -> None:
    """Positive step sizes, each smaller than the one before, two at least."""
    _vector(name, value)
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


# Signatures -----------------------------------------------------------------------------------------------------------


def _anything(name: str, value: object) -> None:
    """No check."""


def _function(name: str, value: object) -> None:
    require(callable(value), name, "be a function", value)


def _mapping(name: str, value: object, must: str) -> None:
    require(isinstance(value, Mapping), name, must, value)


def _stages(name: str, value: object) -> None:
    """Rules by name, one at least; none is a function of its rate."""
    _mapping(name, value, "be a mapping from names to rules")
    stages = cast("Mapping[object, object]", value)
    require(len(stages) > 0, name, "hold at least one rule", value, error=ValueError)
    for stage, rule in stages.items():
        require(isinstance(stage, str), f"a name of {name}", "be a string", stage)
        must = f"{AT_RATE_1}: with frozen gradients it is read at rate 1"
        require(is_rule(rule), f"{name}[{stage!r}]", must, rule)


_count = partial(_whole, least=1)
_CHECKS: dict[str, Check] = {
    # A tree may be anything (`require_finite` looks at its leaves); batches are looked at together with their function;
    # a displacement is compared with the parameters, in any dtype.
    "self tree batch minus_batches plus_batches sizes displacement mask": _anything,
    "batches": lambda name, value: _sequence(name, value, _anything),
    "length num_halvings num_layers num_pairs num_steps num_losses num_tokens theory width": _count,
    "num_warm_up seed": _whole,
    "num_samples": partial(_whole, least=2),
    "b1 b2": partial(_real, least=0.0, below=1.0),
    "eps eps_root rate step_size weight_decay": partial(_real, least=0.0),
    "largest_step max_norm tolerance": partial(_real, above=0.0),
    "read_scale scale time": _real,
    "noise norm_minus norm_plus product": partial(_real, may_be_nan=True),
    "floors remainders terms": _vector,
    "fourth_differences": partial(_vector, num_axes=(1, 2)),
    "is_usable": partial(_vector, dtype=np.bool_),
    "step_sizes": _descending,
    "scales": partial(numbers, kind="real"),
    "counts": lambda name, value: _sequence(name, value, _count),
    "widths": lambda name, value: _sequence(name, value, _count, least=2),
    "functions minus_functions plus_functions": lambda name, value: _sequence(name, value, _function),
    "names": _distinct,
    "index": lambda name, value: None if hasattr(value, "dtype") else _whole(name, value),
    "key": _key,
    "options": partial(_mapping, must="be a mapping to numbers"),
    "stages": _stages,
    "coefficients": _trees,
    "params": _start,
    "gradient_stats transform_gradient": _function,
}
_BY_NAME = {name: check for names, check in _CHECKS.items() for name in names.split()}


_PLAIN: dict[tuple, Check] = {
    (int,): _whole,
    (bool,): lambda name, value: require(isinstance(value, (bool, np.bool_)), name, "be True or False", value),
    (str,): lambda name, value: require(isinstance(value, str), name, "be a string", value),
}


def _by_annotation(name: str, annotation: object) -> Check:
    """The check that an annotation asks for."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    options = tuple(option for option in options if option is not NoneType)
    first = options[0]
    if first is Params:
        return _tree
    if get_origin(first) is Literal:
        if int in options:
            words = partial(literal, options=get_args(first), or_else=", or a whole number")
            return lambda name, value: (_count if isinstance(value, (int, np.integer)) else words)(name, value)
        return partial(literal, options=get_args(first))
    if options in _PLAIN:
        return _PLAIN[options]
    if any(get_origin(option) is Callable for option in options):
        return _function
    items = [get_args(option)[0] for option in options if get_origin(option) is Sequence]
    if items:
        return partial(numbers, kind="whole" if items == [int] else "real")
    classes = [option for option in options if isinstance(option, type)]
    if len(classes) == len(options):
        return lambda name, value: instance(name, value, *classes)
    raise TypeError(f"{name} has no check for the annotation {annotation}.")


def _check_of(parameter: inspect.Parameter) -> Check:
    check = _BY_NAME.get(parameter.name) or _by_annotation(parameter.name, parameter.annotation)
    if parameter.default is None or NoneType in get_args(parameter.annotation):
        return lambda name, value: None if value is None else check(name, value)
    return check


_NO_DERIVATIVE = "losses must have the derivatives"
_OF_DERIVATIVES = re.compile(r"differentiation|\bJVP\b|custom_vjp", re.IGNORECASE)


def arguments(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with every argument held to its signature before anything is computed.

    Raises:
        TypeError: If an argument is not of the kind that the annotation says, or a loss has no derivative in JAX.
        ValueError: If it is not in its range, or does not fit the others.
    """
    signature = inspect.signature(function)
    checks: dict[str, Check] = {}  # filled at the first call: an annotation may name what comes later in its module

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            values = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return function(*args, **kwargs)  # Python says what is missing
        if not checks:
            checks.update({parameter.name: _check_of(parameter) for parameter in signature.parameters.values()})
        for name, value in values.items():
            checks[name](name, value)
        for value in values.values():
            if hasattr(type(value), "check_beside"):
                cast("Any", value).check_beside(values)
        try:
            return function(*args, **kwargs)
        except (NotImplementedError, TypeError, ValueError) as error:
            if str(error).startswith(_NO_DERIVATIVE) or not _OF_DERIVATIVES.search(str(error)):
                raise
            raise TypeError(
                f"{_NO_DERIVATIVE} that are asked for, backwards and then forwards, in JAX; got one that has not: "
                f"{first_line(error)} A jax.custom_vjp must be made of operations that can be differentiated "
                "themselves; jax.custom_jvp can be in any order."
            ) from error

    return checked
