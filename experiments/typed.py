"""Typed records: frozen dataclasses whose values pydantic checks, with errors of one line."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from typing import Any, TypeVar, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from console.words import nearest

__all__ = ["checked", "explanation", "fault", "from_json"]

_T = TypeVar("_T")
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "bool": "true or false",
    "list": "a list",
    "dict": "an object",
    "dataclass": "an object",
    "model": "an object",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


@dataclass_transform(frozen_default=True)
def checked(name: str) -> Callable[[type[_T]], type[_T]]:
    """A frozen dataclass whose values are held to their annotations: no other type, key, word or range.

    Whole numbers are allowed where fractions are; they become fractions. Numbers must be finite.

    Args:
        name: What an error calls the object, as in "measures.probe_pairs must be at least 2; got 1."
    """

    def decorate(kind: type[_T]) -> type[_T]:
        made: Any = dataclass(frozen=True, config=_STRICT)(kind)
        construct = made.__init__

        @wraps(construct)
        def init(self: object, *values: object, **named: object) -> None:
            try:
                construct(self, *values, **named)
            except ValidationError as error:
                raise ValueError(explanation(error, name, made)) from None

        made.__init__ = init
        return made

    return decorate


@cache
def _adapter(kind: type[_T]) -> TypeAdapter[_T]:
    return TypeAdapter(kind)


def from_json(kind: type[_T], content: object, name: str, *, is_complete: bool = False) -> _T:
    """An object out of JSON values.

    Args:
        kind: A class that `checked` made.
        content: The values, as `json` reads them.
        name: What errors call the object.
        is_complete: Whether a key must be there that has a default value: what is stored does not change its meaning
            where a default value does.

    Raises:
        ValueError: If a key is missing or unknown, or a value is of another type or out of range.
    """
    if is_complete:
        _require_keys(kind, content, name)
    try:
        return _adapter(kind).validate_json(json.dumps(content))
    except ValidationError as error:
        raise ValueError(explanation(error, name, kind)) from None


def _require_keys(kind: type, content: object, name: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{name} must be an object; got {_brief(content)}.")
    hints = get_type_hints(kind)
    _require_known(content, hints, name)
    for key, hint in hints.items():
        if key not in content:
            raise ValueError(f"{name} must have the key {key!r}.")
        if isinstance(hint, type) and is_dataclass(hint):
            _require_keys(hint, content[key], key)


def _require_known(content: Mapping[object, object], known: Mapping[str, object], name: str) -> None:
    for key in content:
        if key not in known:
            raise ValueError(
                f"{name} must have keys among {', '.join(known)}; got {str(key)[:60]!r}.{nearest(str(key), known)}"
            )


def explanation(error: ValidationError, name: str, kind: type) -> str:
    """The first of the errors in one line: `name` must RULE; got VALUE. The nearest word.

    Args:
        error: Of pydantic.
        name: Of the object that was checked.
        kind: Its class, whose fields are the keys that it may have.
    """
    first = error.errors()[0]
    *owners, last = (name, *map(str, first["loc"]))
    where = f"{owners[-1]}.{last}" if owners else last
    rule, value = first["type"], first["input"]
    if rule == "value_error":  # raised by the class itself, in its own words
        return str(first.get("ctx", {})["error"])
    if rule in ("missing", "missing_argument"):
        return f"{owners[-1]} must have the key {last!r}."
    if rule in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys(kind, [str(part) for part in first["loc"][:-1]])
        return f"{owners[-1]} must have keys among {', '.join(known)}; got {last!r}.{nearest(last, known)}"
    if rule == "literal_error":
        words = _words(kind, [str(part) for part in first["loc"]])
        return f"{where} must be one of {', '.join(words)}; got {_brief(value)}.{nearest(str(value), words)}"
    shown = value if rule in _BOUNDS or rule == "finite_number" else _brief(value)
    return f"{where} must be {_requirement(first)}; got {shown}."


def fault(error: ValidationError, num_outer: int = 0) -> str:
    """The first of the errors as readers of files have it: `key.key` must be REQUIREMENT; got VALUE.

    Args:
        error: Of pydantic.
        num_outer: The number of names in front of the key that are not in the file.
    """
    first = error.errors()[0]
    if first["type"] == "value_error":
        return str(first.get("ctx", {})["error"])
    name = ".".join(str(part) for part in first["loc"][num_outer:])
    value = "nothing" if first["type"] == "missing" else _brief(first["input"])
    return f"`{name}` must be {_requirement(first)}; got {value}"


def _requirement(first: ErrorDetails) -> str:
    rule, context = first["type"], first.get("ctx", {})
    if rule == "missing":
        return "there"
    if rule == "literal_error":
        return str(context["expected"]).replace("'", "")
    if rule == "finite_number":
        return "finite"
    if rule in _BOUNDS:
        words, key = _BOUNDS[rule]
        return "positive" if rule == "greater_than" and not context[key] else f"{words} {context[key]:g}"
    base = rule.partition("_")[0]
    return _KINDS.get(base, first["msg"].removeprefix("Input should be "))


def _brief(value: object) -> str:
    return repr(str(value)[:60])


def _field(kind: Any, path: list[str]) -> Any:  # noqa: ANN401  # a class, or the type of a value
    for key in path:
        kind = get_type_hints(kind)[key]
    return kind


def _keys(kind: type, path: list[str]) -> list[str]:
    return [field.name for field in fields(_field(kind, path))]


def _words(kind: type, path: list[str]) -> list[str]:
    return [str(word) for word in get_args(_field(kind, path))]
