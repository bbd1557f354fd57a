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
    """The function with the checks of beartype: one object for a place in the source and the text of its annotations.

    jaxtyping makes a new class of `Float[Array, "n"]` whenever it is evaluated. So annotations are compared as text.
    """
    code = function.__code__
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    key = function.__module__, function.__qualname__, arguments, repr(function.__annotations__)
    if key not in _CHECKS:
        _CHECKS[key] = beartype.beartype(function)
    return _CHECKS[key]
