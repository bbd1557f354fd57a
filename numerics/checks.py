"""The checks of arguments: the signature of every public function of this room is checked, where data enter.

`arguments` wraps a function and reads its signature. The annotation of a parameter has its kind, and its name has its
range (`numerics.kinds`). Losses and schedules then refuse what does not fit them: their `check_beside` gets all
arguments of the call. Nothing is converted.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin

import numpy as np

from numerics import kinds
from numerics.kinds import Check
from numerics.types import Params

__all__ = ["arguments"]

P = ParamSpec("P")
R = TypeVar("R")


def _anything(name: str, value: object) -> None:
    """No check."""


def _function(name: str, value: object) -> None:
    kinds.require(callable(value), name, "be a function", value)


def _mapping(name: str, value: object, must: str) -> None:
    kinds.require(isinstance(value, Mapping), name, must, value)


_count = partial(kinds.whole, least=1)
_CHECKS: dict[str, Check] = {
    # A tree may be anything (`require_finite` looks at its leaves); batches are looked at together with their function;
    # a displacement is compared with the parameters, in any dtype.
    "self tree batch minus_batches plus_batches sizes displacement": _anything,
    "length num_halvings num_layers num_pairs num_steps num_losses num_tokens theory width": _count,
    "num_warm_up seed": kinds.whole,
    "num_samples": partial(kinds.whole, least=2),
    "b1 b2": partial(kinds.real, least=0.0, below=1.0),
    "eps eps_root rate step_size weight_decay": partial(kinds.real, least=0.0),
    "largest_step max_norm tolerance": partial(kinds.real, above=0.0),
    "read_scale scale time": kinds.real,
    "noise norm_minus norm_plus product": partial(kinds.real, may_be_nan=True),
    "floors remainders terms": kinds.vector,
    "fourth_differences": partial(kinds.vector, num_axes=(1, 2)),
    "is_usable": partial(kinds.vector, dtype=np.bool_),
    "step_sizes": kinds.descending,
    "scales": partial(kinds.numbers, kind="real"),
    "counts": lambda name, value: kinds.sequence(name, value, _count),
    "widths": lambda name, value: kinds.sequence(name, value, _count, least=2),
    "functions": lambda name, value: kinds.sequence(name, value, _function),
    "names": kinds.distinct,
    "index": lambda name, value: None if hasattr(value, "dtype") else kinds.whole(name, value),
    "key": kinds.key,
    "options": partial(_mapping, must="be a mapping to numbers"),
    "stages": partial(_mapping, must="be a mapping from names to rules"),
    "coefficients": kinds.trees,
    "params": kinds.start,
    "gradient_stats transform_gradient": _function,
}
_BY_NAME = {name: check for names, check in _CHECKS.items() for name in names.split()}


def _by_annotation(name: str, annotation: object) -> Check:
    """The check that an annotation asks for."""
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    options = tuple(option for option in options if option is not NoneType)
    first = options[0]
    if first is Params:
        return kinds.tree
    if get_origin(first) is Literal:
        return partial(kinds.literal, options=get_args(first))
    if options == (int,):
        return kinds.whole
    nouns = {bool: ((bool, np.bool_), "be True or False"), str: (str, "be a string")}
    if options == (first,) and first in nouns:
        classes, must = nouns[first]
        return lambda name, value: kinds.require(isinstance(value, classes), name, must, value)
    if any(get_origin(option) is Callable for option in options):
        return _function
    items = [get_args(option)[0] for option in options if get_origin(option) is Sequence]
    if items:
        return partial(kinds.numbers, kind="whole" if items == [int] else "real")
    classes = [option for option in options if isinstance(option, type)]
    if len(classes) == len(options):
        return lambda name, value: kinds.instance(name, value, *classes)
    raise TypeError(f"{name} has no check for the annotation {annotation}.")


def _check_of(parameter: inspect.Parameter) -> Check:
    check = _BY_NAME.get(parameter.name) or _by_annotation(parameter.name, parameter.annotation)
    if parameter.default is None or NoneType in get_args(parameter.annotation):
        return lambda name, value: None if value is None else check(name, value)
    return check


_NOT_DIFFERENTIABLE = re.compile(r"differentiation|\bJVP\b|custom_vjp", re.IGNORECASE)


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
            if getattr(error, "is_refusal", False) or not _NOT_DIFFERENTIABLE.search(str(error)):
                raise
            refusal = TypeError(
                "losses must have the derivatives that are asked for, backwards and then forwards, in JAX; got one "
                f"that has not: {kinds.first_line(error)} A jax.custom_vjp must be made of operations that can be "
                "differentiated themselves; jax.custom_jvp can be in any order."
            )
            refusal.is_refusal = True  # type: ignore[attr-defined]
            raise refusal from error

    return checked
