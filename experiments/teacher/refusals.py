"""The failure of a request, and the options of the command that avoid a refused parameter.

Servers that speak OpenAI's chat completions accept different parameters, and each refuses in its own words. Nothing
here knows how a request travels.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Remedy", "RequestError", "remedies"]


@dataclass(eq=False)
class RequestError(Exception):
    """The failure of one request.

    Attributes:
        message: Why it failed, for the user.
        ends: The part of the run that fails with it.
        retry_after: Seconds that the endpoint asks to wait.
        is_refusal: Whether the endpoint does not accept the request as it is.
        num_sent: Times that the request was sent.
    """

    message: str
    ends: Literal["try", "problem", "run"] = "try"
    retry_after: float = 0.0
    is_refusal: bool = False
    num_sent: int = 0

    def __str__(self) -> str:
        return self.message


class Remedy(NamedTuple):
    """The way around a parameter that is refused, or a value of it.

    Attributes:
        options: The options of the command.
        is_for_all: Whether every other request would be refused in the same way.
    """

    options: str
    is_for_all: bool


_OTHER_NAMES = {
    "max_tokens": ("max_completion_tokens", "OpenAI's newer name for it"),
    "seed": ("random_seed", "Mistral's name for it"),
}
_VALUE_OPTIONS = {"max_tokens": "another --max-tokens", "seed": "another --seed"}
# The words of a server to which the parameter itself is unwelcome, not the value that it has.
_UNWELCOME = re.compile(
    r"unsupported(?![ _]value)|n[o'’]t support|not (?:permitted|allowed|accepted|a valid field)|deprecated"
    r"|unrecogni[sz]ed|unknown|unexpected|extra|cannot find|instead",
    re.IGNORECASE,
)
_REPLACEMENT = re.compile(r"\buse ['\"`]?(\w+)['\"`]? instead", re.IGNORECASE)
_ECHOES = ("input", "ctx", "url")  # of pydantic: what was sent, which may be a question that speaks of seeds


def remedies(body: object, names: Mapping[str, str]) -> list[Remedy]:
    """The options for each parameter that an error names.

    Args:
        body: The JSON of the error, or its text.
        names: The parameters: the name that was sent, and the name that the options know it by.
    """
    text = "\n".join(_statements(body))
    return [_remedy(sent, name, text) for sent, name in names.items() if _is_named(sent, text)]


def _remedy(sent: str, name: str, text: str) -> Remedy:
    if not _UNWELCOME.search(text):
        # A limit may be too large beside a long question, and fit the next.
        return Remedy(_VALUE_OPTIONS.get(name, f"--omit {name}"), is_for_all=name != "max_tokens")
    replacement = _REPLACEMENT.search(text)
    if replacement and replacement[1] != sent:
        return Remedy(f"--rename {name}={replacement[1]}", is_for_all=True)
    other, whose = _OTHER_NAMES.get(name, (sent, ""))
    also = f" (or --rename {name}={other}, {whose})" if other != sent else ""
    return Remedy(f"--omit {name}{also}", is_for_all=True)


def _is_named(name: str, text: str) -> bool:
    """Whether a text speaks of the parameter: in quotes, first on a line, or beside a word for parameters.

    A word with an underscore needs none of them.
    """
    word = re.escape(name)
    marked = (
        rf"['\"`]{word}['\"`]|(?:^|->)\s*{word}(?!\w)"
        rf"|(?:supplied|parameters?|arguments?|fields?|propert(?:y|ies)|names?):?\s+{word}(?!\w)"
        rf"|(?<!\w){word} (?:parameter|argument|field|property)"
    )
    pattern = rf"(?<!\w){word}(?!\w)" if "_" in name else marked
    return bool(re.search(pattern, text, re.IGNORECASE | re.MULTILINE))


def _statements(body: object) -> Iterator[str]:
    """The texts of an error, those that hold a name alone in quotes."""
    match body:
        case str():
            yield body
        case list():
            for part in body:
                yield from _statements(part)
        case dict():
            for key, value in body.items():
                if key == "param" and isinstance(value, str):
                    yield f"'{value}'"
                elif key == "loc" and isinstance(value, list):  # of pydantic: body and the parameter, or deeper
                    yield f"'{'.'.join(map(str, value[1:] or value))}'"
                elif key not in _ECHOES:
                    yield from _statements(value)
