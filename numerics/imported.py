"""Optimizers by import path: `optax.lion:b1=0.95`, `mypackage.rules:mine`.

The text is PATH[:option=value;option=value]. PATH is `package.module.function` or `package.module:function`; the
function takes `learning_rate` and returns an Optax rule. A value is a number, true, false, none or a word; options are
separated by `;` or `,`. The text alone is read without JAX and without an import of the path, so that `--help` and a
typo are answered at once. Short names such as `adamw:b1=0.9` are those of `numerics.catalogue`.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, TypeAlias

from console import imports
from console.words import nearest
from numerics import catalogue

if TYPE_CHECKING:
    from jaxtyping import PyTree

    from numerics.rules import Rule

__all__ = ["Imported", "Value", "build", "is_path", "parse"]

Value: TypeAlias = float | int | bool | str | None

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WORD = re.compile(r"[A-Za-z_][\w.+/-]*")
_CONSTANTS: dict[str, Value] = {"true": True, "false": False, "none": None}
_NO_NUMBERS = ("nan", "inf", "infinity")  # Python would read them; no rule means them


@dataclass(frozen=True)
class Imported:
    """An optimizer by its import path; printed, it is the text that `parse` reads back.

    Attributes:
        path: The import path `package.module.function`.
        options: The options by name, sorted.
    """

    path: str
    options: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        printed = ";".join(f"{name}={_printed(value)}" for name, value in self.options)
        return f"{self.path}:{printed}" if printed else self.path


def _printed(value: Value) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def is_path(text: str) -> bool:
    """Whether a text is an import path, with options or without, and not a short name of the catalogue."""
    head, _, rest = text.partition(":")
    function = rest.partition(":")[0]
    return "." in head or (head not in catalogue.OPTIMIZERS and bool(function) and "=" not in function)


def parse(text: str) -> Imported:
    """An import path and its options; nothing is imported.

    Raises:
        ValueError: If it is no import path, an option has no value or comes twice, is the learning rate, or its value
            is neither a finite number nor a word.
    """
    head, _, rest = text.partition(":")
    path, items = head, rest
    if rest and "=" not in rest.partition(":")[0]:
        function, _, items = rest.partition(":")
        path = f"{head}:{function}"
    dotted = imports.dotted(path)
    if dotted is None:
        raise ValueError(
            f"optimizer must be an import path, such as optax.lion or mypackage.rules:mine; got {path[:60]!r}."
        )
    options: dict[str, Value] = {}
    for item in filter(None, (part.strip() for part in re.split("[;,]", items))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name.isidentifier():
            raise ValueError(f"optimizer must have options as NAME=VALUE behind its path; got {item[:60]!r}.")
        if name in options:
            raise ValueError(f"optimizer must have each option once; got {name} twice.")
        if name == "learning_rate":
            raise ValueError("optimizer must have no learning_rate among its options; the step size stands for it.")
        options[name] = _value(name, value)
    return Imported(dotted, tuple(sorted(options.items())))


def _value(name: str, text: str) -> Value:
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if _NUMBER.fullmatch(text) and isfinite(float(text)):
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    if not _WORD.fullmatch(text) or text.lower() in _NO_NUMBERS:
        must = "have finite numbers, true, false, none or words as values"
        raise ValueError(f"optimizer must {must}; got {name}={text[:60]}.")
    return text


# From the text to the rule --------------------------------------------------------------------------------------------


def build(spec: Imported, params: "PyTree") -> "Rule":
    """The rule of an import path.

    Args:
        spec: The path and the options.
        params: The parameters, or their shapes; the rule is tried on random gradients of these shapes.

    Returns:
        The rule at learning rate 1 where its updates are proportional to the rate; else a function of the rate.

    Raises:
        TypeError: If the function returns no Optax rule, or one that needs more than gradients and parameters.
        ValueError: If there is no such module or function, it takes no `learning_rate` or not these options, an option
            without a default is missing, or the function raises an error.
    """
    from numerics import rules  # noqa: PLC0415  # JAX: the text is read without it

    with imports.current_folder():
        function = imports.function_of("optimizer", spec.path)
        _check_options(spec, _signature(spec.path, function))
        return rules.from_function(spec.path, function, dict(spec.options), params)


def _signature(path: str, function: Callable[..., object]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some functions of C have none
        raise ValueError(f"{path} must take learning_rate by keyword; got a function without a signature.") from None


def _check_options(spec: Imported, signature: inspect.Signature) -> None:
    kinds = inspect.Parameter
    named = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    if "learning_rate" not in named:
        raise ValueError(f"{spec.path} must take learning_rate by keyword; got parameters {_listed(named)}.")
    known = [name for name in named if name != "learning_rate"]
    takes_any = any(parameter.kind is kinds.VAR_KEYWORD for parameter in signature.parameters.values())
    for name, _ in spec.options:
        if name not in known and not takes_any:
            raise ValueError(
                f"{spec.path} must have options among {_listed(known)}; got {name!r}.{nearest(name, known)}"
            )
    missing = [name for name in known if named[name].default is kinds.empty and name not in dict(spec.options)]
    if missing:
        raise ValueError(
            f"{spec.path} must have a value for {_listed(missing)}; got none. Write {spec.path}:{missing[0]}=VALUE."
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "(none)"
