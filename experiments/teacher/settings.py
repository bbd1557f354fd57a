"""The settings of a teacher: its address, its model, the limits of a request."""

import re
from typing import Annotated, Literal, get_args
from urllib.parse import urljoin, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from experiments import typed

__all__ = ["HINT", "OPENAI_URL", "PARAMETERS", "Settings", "public_url"]

OPENAI_URL = "https://api.openai.com/v1"
Parameter = Literal["temperature", "seed", "max_tokens"]
PARAMETERS: tuple[Parameter, ...] = get_args(Parameter)
"""Of a request, beside the model and the messages."""
HINT = "cache_prompt"
"""A parameter that is sent as false where it is accepted. It is no part of the request's key."""
_HOST = re.compile(r"[A-Za-z0-9.:_-]+")
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,99}", re.ASCII)


def public_url(url: str, base: str = "") -> str:
    """A URL, which may be relative to a base, without name, password, query and fragment."""
    try:
        parts = urlsplit(urljoin(base, url))
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "") and parts.port != 0
    except ValueError:  # the port is no number, or the brackets of an address do not close
        is_usable = False
    if not is_usable or "?" in url or "#" in url:
        public = url.rpartition("@")[2]
        raise ValueError(f"`base_url` must be http(s)://host[:port]/path; got {public}. It usually ends in /v1.")
    return url


class Settings(BaseModel):
    """The address of a teacher, and the limits of a request.

    Attributes:
        base_url: The address of the API, without /chat/completions.
        model: The endpoint's name for the teacher.
        concurrency: The most requests in flight; a killed run pays for them twice. 1000 is the limit of the client.
        attempts: The most answers to a problem; the first right one is the last.
        max_tokens: The most tokens of an answer.
        timeout: Seconds for a whole answer.
        max_wait: Seconds that one request may wait between its tries, all waits together.
        retries: The most tries of a request after the first.
        seed: The seed of the first attempt; attempt k is asked with seed + k - 1.
        rename: Parameters with another name at the endpoint: the name here, and the name there.
        omit: Parameters that are not sent.

    Raises:
        ValueError: If a value breaks its rule; the message names the setting.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: Annotated[str, AfterValidator(_check_url)] = OPENAI_URL
    model: str = "gpt-4o"
    concurrency: int = Field(8, ge=1, le=1000)
    attempts: int = Field(3, ge=1)
    max_tokens: int = Field(512, ge=1)
    timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    max_wait: float = Field(60.0, gt=0, allow_inf_nan=False)
    retries: int = Field(5, ge=0)
    seed: int = 0
    rename: tuple[tuple[str, str], ...] = ()
    omit: tuple[str, ...] = ()

    def __init__(self, **values: object) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(f"{typed.fault(error).removesuffix('.')}.") from None

    @model_validator(mode="after")
    def _check_names(self) -> "Settings":
        known = (*PARAMETERS, HINT)
        for name in self.omit:
            if name not in known:
                raise ValueError(f"`omit` must name one of {', '.join(known)}; got {name[:60]}.")
        others: set[str] = {"model", "messages", *known}
        for place, (name, other) in enumerate(self.rename):
            if name not in PARAMETERS:
                raise ValueError(f"`rename` must name one of {', '.join(PARAMETERS)}; got {name[:60]}.")
            if name in (*self.omit, *dict(self.rename[:place])):
                raise ValueError(f"`rename` must name a parameter once, and none that is left out; got {name} again.")
            if other in others or not _NAME.fullmatch(other):
                raise ValueError(f"`rename` must give {name} a name that no other parameter has; got {other[:60]!r}.")
            others.add(other)
        return self

    @property
    def endpoint(self) -> str:
        """The address without a name and a password."""
        return public_url(self.base_url)

    @property
    def is_openai(self) -> bool:
        """Whether the endpoint is OpenAI's own, which needs a key and refuses parameters that it does not know."""
        return self.endpoint == OPENAI_URL

    @property
    def sent_names(self) -> dict[str, str]:
        """The parameters that are sent, each with its name at the endpoint."""
        return {name: dict(self.rename).get(name, name) for name in PARAMETERS if name not in self.omit}
