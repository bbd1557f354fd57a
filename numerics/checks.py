"""The checks of arguments: the signature of every public function of this room is held to, where data enter.

`arguments` wraps a function and reads its signature. The annotation says what a parameter is, its name says which range
it has (`numerics.kinds`), and names that stand together must fit together (`numerics.agreement`). Nothing is
converted, and nothing is checked anywhere else; but for what a function knows alone.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from functools import partial, wraps
from types import NoneType, UnionType
from typing import Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin

import numpy as np

from numerics import agreement, kinds
from numerics.kinds import Check
from numerics.types import Params

__all__ = ["arguments"]

P = ParamSpec("P")
R = TypeVar("R")

_count = partial(kinds.whole, least=1)
_fraction = partial(kinds.real, least=0.0, below=1.0)
_not_negative = partial(kinds.real, least=0.0)

_BY_NAME: dict[str, Check] = {
    "b1": _fraction,
    "b2": _fraction,
    "coefficients": kinds.trees,
    "counts": lambda name, value: kinds.sequence(name, value, _count),
    "displacement": lambda name, value: None,  # compared with the parameters, in whatever dtype a rule makes it
    "each": kinds.function,
    "eps": _not_negative,
    "eps_root": _not_negative,
    "fourth_differences": partial(kinds.vector, num_axes=(1, 2)),
    "functions": lambda name, value: kinds.sequence(name, value, kinds.function),
    "floors": kinds.vector,
    "index": lambda name, value: None if hasattr(value, "dtype") else kinds.whole(name, value),
    "is_usable": partial(kinds.vector, dtype=np.bool_),
    "key": kinds.key,
    "largest_step": partial(kinds.real, above=0.0),
    "length": _count,
    "max_norm": partial(kinds.real, above=0.0),
    "names": kinds.distinct,
    "noise": partial(kinds.real, may_be_nan=True),
    "norm_minus": partial(kinds.real, may_be_nan=True),
    "norm_plus": partial(kinds.real, may_be_nan=True),
    "num_halvings": _count,
    "num_layers": _count,
    "num_pairs": _count,
    "num_samples": partial(kinds.whole, least=2),
    "num_steps": _count,
    "num_losses": _count,
    "num_tokens": _count,
    "num_warm_up": kinds.whole,
    "observe": kinds.function,
    "optimizer": kinds.optimizer,
    "params": kinds.params,
    "product": partial(kinds.real, may_be_nan=True),
    "rate": _not_negative,
    "read": kinds.real,
    "remainders": kinds.vector,
    "scale": kinds.real,
    "scales": partial(kinds.numbers, kind="real"),
    "seed": kinds.whole,
    "stages": kinds.stages,
    "step_size": _not_negative,
    "step_sizes": kinds.descending,
    "terms": kinds.vector,
    "theory": _count,
    "time": kinds.real,
    "tolerance": partial(kinds.real, above=0.0),
    "weight_decay": _not_negative,
    "width": _count,
    "widths": lambda name, value: kinds.sequence(name, value, _count, least=2),
}
# A tree may be anything (`require_finite` looks at its leaves); states are compared with what the rule makes; batches
# are looked at together with their function.
_FREE = {"state", "tree", "batch", "minus_batches", "plus_batches", "sizes"}


def _by_annotation(name: str, annotation: object) -> Check:
    """The check that an annotation asks for."""
    if annotation is Params:
        return kinds.tree
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    options = tuple(option for option in options if option is not NoneType)
    if len(options) == 1 and options[0] is Params:
        return kinds.tree
    if len(options) == 1 and get_origin(options[0]) is Literal:
        return partial(kinds.literal, options=get_args(options[0]))
    if options == (int,):
        return kinds.power if name == "order" else kinds.whole
    plain: dict[object, Check] = {bool: kinds.flag, str: kinds.text, float: kinds.real}
    if len(options) == 1 and options[0] in plain:
        return plain[options[0]]
    if any(get_origin(option) is Callable for option in options):
        return kinds.function
    items = [get_args(option)[0] for option in options if get_origin(option) is Sequence]
    if items:
        return partial(kinds.numbers, kind="whole" if items == [int] else "real")
    if all(isinstance(option, type) for option in options):
        return partial(kinds.instance, classes=cast("tuple[type, ...]", options))
    raise TypeError(f"{name} has no check for the annotation {annotation}.")


def _check_of(parameter: inspect.Parameter) -> Check | None:
    if parameter.name in _FREE or parameter.name == "self":
        return None
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
            found = {parameter.name: _check_of(parameter) for parameter in signature.parameters.values()}
            checks.update({name: check or (lambda name, value: None) for name, check in found.items()})
        for name, value in values.items():
            checks[name](name, value)
        agreement.together(values)
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
