"""Values of dataclass fields, held to their annotations: a wrong type or word is refused where it is written."""

from dataclasses import Field
from math import isfinite
from typing import Literal, get_args, get_origin, get_type_hints

from console.command import nearest

__all__ = ["check_field", "check_keys"]


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def check_field(owner: object, field: Field, where: str | None = None) -> None:
    """Refuses a value that its field's annotation does not allow; whole numbers are allowed where fractions are.

    Args:
        owner: The object that was made.
        field: One of its fields.
        where: What the object is called in a configuration; as its class unless given.

    Raises:
        TypeError: If the type is another one.
        ValueError: If it is none of the words of a `Literal`, or a number that is not finite.
    """
    hint = get_type_hints(type(owner))[field.name]
    value = getattr(owner, field.name)
    name = f"{where or type(owner).__name__.lower()}.{field.name}"
    if get_origin(hint) is Literal:
        words = get_args(hint)
        if value not in words:
            near = nearest(str(value), map(str, words))
            raise ValueError(f"{name} must be one of {', '.join(map(str, words))}; got {str(value)[:60]!r}.{near}")
        return
    allowed: tuple[type, ...] = get_args(hint) or (hint,)
    if float in allowed:
        allowed = (*allowed, int)
    if type(value) not in allowed and not (isinstance(value, allowed) and not isinstance(value, bool)):
        kinds = " or ".join(_KINDS[kind] for kind in (get_args(hint) or (hint,)))
        raise TypeError(f"{name} must be {kinds}; got {str(value)[:60]!r}.")
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}.")


def check_keys(given: object, known: dict[str, object], where: str) -> dict[str, object]:
    """The object of these keys, or a complaint that names the nearest.

    Raises:
        TypeError: If it is no object.
        ValueError: If it has a key that is not known.
    """
    if not isinstance(given, dict):
        raise TypeError(f"{where} must be an object; got {type(given).__name__}.")
    for key in given:
        if key not in known:
            raise ValueError(
                f"{where} must have keys among {', '.join(known)}; got {str(key)[:60]!r}.{nearest(str(key), known)}"
            )
    return given
