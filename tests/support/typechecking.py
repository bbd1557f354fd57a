"""Checks of annotations at every call, built once for each function of the source.

A function within a function is decorated anew whenever the outer one runs, and beartype takes milliseconds for each.
jaxtyping hands over an empty function with the signature of the true one, so that functions with the same signature can
share a check.
"""

from collections.abc import Callable
from typing import Any

import beartype

__all__ = ["checked"]

_CHECKS: dict[tuple, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the checks of beartype; the same object for the same place in the source and annotations."""
    code = function.__code__
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    key = function.__module__, function.__qualname__, arguments, *function.__annotations__.items()
    try:
        return _CHECKS[key]
    except TypeError:  # an annotation that cannot be hashed
        return beartype.beartype(function)
    except KeyError:
        return _CHECKS.setdefault(key, beartype.beartype(function))
