"""The settings of a teacher: its address, its model, the limits of a request. The command has an option for each."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args
from urllib.parse import urljoin, urlsplit

from console.command import option, option_group
from console.values import number, whole

__all__ = ["HINT", "OPENAI_URL", "Settings", "public_url"]

OPENAI_URL = "https://api.openai.com/v1"
_Parameter = Literal["temperature", "seed", "max_tokens"]
_PARAMETERS: tuple[_Parameter, ...] = get_args(_Parameter)  # of a request, beside the model and the messages
HINT = "cache_prompt"
"""A parameter that is sent as false where it is accepted. It is no part of the request's key."""
_HOST = re.compile(r"[A-Za-z0-9.:_-]+")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,99}", re.ASCII)
_VALUES: Mapping[str, Callable[[str], float]] = {
    "concurrency": whole(1, 1000),  # the client makes 1000 connections at most
    "attempts": whole(1),
    "max_tokens": whole(1),
    "timeout": number(),
    "max_wait": number(),
    "retries": whole(0),
    "seed": whole(0),
}
"""The readers of the numbers among the settings, by name."""


def public_url(url: str, base: str = "") -> str:
    """A URL, which may be relative to a base, without name, password, query and fragment."""
    try:
        parts = urlsplit(urljoin(base, url))
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


@option_group
@dataclass(frozen=True, kw_only=True)
class Settings:
    """The address of a teacher, and the limits of a request. Each option says what its value means.

    Raises:
        ValueError: If the address is none, a number is out of range, or a parameter cannot be renamed or left out as
            asked.
    """

    model: Annotated[str, option(metavar="NAME")] = "gpt-4o"
    base_url: Annotated[str, option("of an OpenAI-compatible API", "URL")] = OPENAI_URL
    # A killed run pays twice for the requests in flight.
    concurrency: Annotated[int, option("requests in flight", "N", _VALUES["concurrency"])] = 8
    attempts: Annotated[int, option("answers asked for per problem", "N", _VALUES["attempts"])] = 3
    max_tokens: Annotated[int, option("of an answer, with its reasoning", "N", _VALUES["max_tokens"])] = 512
    rename: Annotated[
        tuple[str, ...],
        option("send temperature, seed or max_tokens by another name; may be repeated", "NAME=OTHER"),
    ] = ()
    omit: Annotated[
        tuple[_Parameter | Literal["cache_prompt"], ...], option("do not send; may be repeated:", "NAME")
    ] = ()
    timeout: Annotated[float, option("seconds for a whole answer", "S", _VALUES["timeout"])] = 60.0
    max_wait: Annotated[
        float,
        option(
            "seconds that a request may wait between its tries, the server's Retry-After among them",
            "S",
            _VALUES["max_wait"],
        ),
    ] = 60.0
    retries: Annotated[int, option("tries of a request after the first", "N", _VALUES["retries"])] = 5
    seed: Annotated[int, option("sent with the request; of generated problems", "K", _VALUES["seed"])] = 0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            is_usable = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "") and parts.port != 0
        except ValueError:  # the port is no number, or the brackets of an address do not close
            is_usable = False
        if not is_usable or "?" in self.base_url or "#" in self.base_url:
            public = self.base_url.rpartition("@")[2] or "nothing"
            raise ValueError(f"--base-url must be http(s)://host[:port]/path; got {public}. It usually ends in /v1.")
        for name, read in _VALUES.items():
            value = getattr(self, name)
            is_number = isinstance(value, (int, float))
            try:
                read(str(value) if is_number else repr(value))  # by the rule of the option; a text is no number here
            except ValueError as error:
                raise ValueError(f"--{name.replace('_', '-')} {error}") from None
        for name in self.omit:
            if name not in (*_PARAMETERS, HINT):
                raise ValueError(f"--omit must name one of {', '.join((*_PARAMETERS, HINT))}; got {name!r:.60}.")
        unnamed = [name for name in _PARAMETERS if name not in self.omit]
        taken = {"model", "messages", HINT, *_PARAMETERS}
        for item in self.rename:
            name, equals, other = item.partition("=")
            if not equals:
                example = "max_tokens=max_completion_tokens"
                raise ValueError(f"--rename must be NAME=OTHER, as {example}; got {item[:60]}.")
            if name not in _PARAMETERS:
                raise ValueError(f"--rename must name one of {', '.join(_PARAMETERS)}; got {name[:60]}.")
            if name not in unnamed:
                raise ValueError(f"--rename must name a parameter once, and none that is left out; got {name} again.")
            if other in taken or not _NAME.fullmatch(other):
                raise ValueError(f"--rename must give {name} a name that no other parameter has; got {other[:60]!r}.")
            unnamed.remove(name)
            taken.add(other)

    @property
    def endpoint(self) -> str:
        """The address without a name and a password."""
        return public_url(self.base_url)

    @property
    def is_openai(self) -> bool:
        """Whether the host is OpenAI's own, which needs a key and refuses parameters that it does not know."""
        return urlsplit(self.base_url).hostname == urlsplit(OPENAI_URL).hostname  # in lower case, without the port

    @property
    def sent_names(self) -> dict[str, str]:
        """The parameters that are sent, each with its name at the endpoint."""
        names = {name: other for name, _, other in (item.partition("=") for item in self.rename)}
        return {name: names.get(name, name) for name in _PARAMETERS if name not in self.omit}
