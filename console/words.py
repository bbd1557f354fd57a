"""The nearest of several words, for a message about an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["must_be_one_of", "nearest"]


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the nearest known word, empty where none is near."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]}?" if matches else ""


def must_be_one_of(known: Iterable[str], value: str) -> str:
    """The rule that a word breaks which is none of the known ones."""
    known = list(known)
    return f"must be one of {', '.join(known)}; got {value[:60]}.{nearest(value, known)}"
