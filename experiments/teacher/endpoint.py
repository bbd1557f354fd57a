"""One request to an endpoint that speaks OpenAI's chat completions, however badly it behaves.

What comes of it is a reply, or why there is none. Tries are bounded in number and in time, secrets stay in the header,
and what a stranger wrote is shown plain. Nothing here knows what is asked, whether an answer is right, or that replies
are kept.

Beside what is asked, `"cache_prompt": false` is sent where it is accepted. Without it, llama.cpp's server gives another
text for the same request once its prompt cache holds the beginning of the prompt (xllamacpp 2026.10.11549). With it,
one request at a time is answered alike; two at a time are computed together, and are not always answered alike.
"""

import asyncio
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import urljoin, urlsplit

from experiments.teacher import refusals, replies
from experiments.teacher.answer_store import key
from experiments.teacher.replies import NoCompletionError, Reply

if TYPE_CHECKING:
    import openai

__all__ = ["HINT", "OPENAI_URL", "PARAMETERS", "Endpoint", "FailedError", "Settings"]

OPENAI_URL = "https://api.openai.com/v1"
_FIRST_WAIT = 1 / 128  # of max_wait: seven doublings use it up
_SHORTEST_SECRET = 8  # a local server's "none" is no secret, and would be struck out of ordinary text
_HOST = re.compile(r"[A-Za-z0-9.:_-]+")
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_MOST_CONNECTIONS = 1000  # of the client
PARAMETERS = ("temperature", "seed", "max_tokens")
"""Of a request, beside the model and the messages."""
HINT = "cache_prompt"
"""Sent as false beside the parameters where it is accepted. It is no part of what is asked."""
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """Whom to ask, and how patiently.

    Attributes:
        base_url: Of the API; what /chat/completions is appended to.
        model: The name that the endpoint knows the teacher by.
        concurrency: The most requests in flight, which is what a killed run pays twice; at most 1000.
        attempts: How often a problem is asked until its answer is right.
        max_tokens: Of an answer.
        timeout: Seconds in which a whole answer must have come.
        max_wait: Seconds that one request may wait between its tries, all in all.
        retries: The most tries of a request after the first.
        seed: Of the first attempt, and of the jitter in the waits; attempt k is asked with seed + k - 1.
        rename: Parameters that the endpoint knows by another name: the name here, and the other.
        omit: Parameters that are not sent.
    """

    base_url: str = OPENAI_URL
    model: str = "gpt-4o"
    concurrency: int = 8
    attempts: int = 3
    max_tokens: int = 512
    timeout: float = 60.0
    max_wait: float = 60.0
    retries: int = 5
    seed: int = 0
    rename: tuple[tuple[str, str], ...] = ()
    omit: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            is_usable = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.hostname or "") and parts.port != 0
            is_usable = is_usable and not parts.query and not parts.fragment
        except ValueError:  # a port or an address that is none
            is_usable = False
        if not is_usable:
            shown = self.base_url.rpartition("@")[2]
            raise ValueError(f"`base_url` must be http(s)://host[:port]/path; got {shown}. It usually ends in /v1.")
        for name, least in {"concurrency": 1, "attempts": 1, "max_tokens": 1, "retries": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}; got {getattr(self, name)}.")
        if self.concurrency > _MOST_CONNECTIONS:
            raise ValueError(f"`concurrency` must be at most {_MOST_CONNECTIONS}; got {self.concurrency}.")
        for name in ("timeout", "max_wait"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"`{name}` must be a positive number of seconds; got {getattr(self, name)}.")
        self._check_names()

    def _check_names(self) -> None:
        known = (*PARAMETERS, HINT)
        for name in self.omit:
            if name not in known:
                raise ValueError(f"`omit` must name one of {', '.join(known)}; got {name[:60]}.")
        others: set[str] = {"model", "messages", *known}
        for place, (name, other) in enumerate(self.rename):
            if name not in PARAMETERS:
                raise ValueError(f"`rename` must name one of {', '.join(PARAMETERS)}; got {name[:60]}.")
            if name in self.omit or any(name == earlier for earlier, _ in self.rename[:place]):
                raise ValueError(f"`rename` must name a parameter once, and none that is left out; got {name} again.")
            if other in others or not _NAME.fullmatch(other):
                raise ValueError(f"`rename` must give {name} a name that no other parameter has; got {other[:60]!r}.")
            others.add(other)

    @property
    def endpoint(self) -> str:
        """The base URL without a name and a password."""
        return _public(self.base_url)

    @property
    def sent_names(self) -> dict[str, str]:
        """The parameters that are sent, and the name that each is sent by."""
        renamed = dict(self.rename)
        return {name: renamed.get(name, name) for name in PARAMETERS if name not in self.omit}


class FailedError(Exception):
    """One request failed.

    Attributes:
        ends: What fails with it.
        wait: The seconds that the endpoint asks for.
        is_refusal: Whether the endpoint does not accept the request as it is.
        num_sent: How often it was sent.
    """

    def __init__(
        self,
        message: str,
        ends: Literal["try", "problem", "run"] = "try",
        wait: float = 0.0,
        *,
        is_refusal: bool = False,
    ) -> None:
        super().__init__(message)
        self.ends, self.wait, self.is_refusal, self.num_sent = ends, wait, is_refusal, 0


class Endpoint:
    """The endpoint behind bounded retries; connects when first asked."""

    def __init__(self, settings: Settings, api_key: str | None) -> None:
        self._settings = settings
        self._api_key = api_key
        password = urlsplit(settings.base_url).password
        self._secrets = [secret for secret in (api_key, password) if secret and len(secret) >= _SHORTEST_SECRET]
        self._client: openai.AsyncOpenAI | None = None
        # Whether the hint is accepted; None while that is open. OpenAI refuses what it does not know.
        is_hint_sent = HINT not in settings.omit and settings.endpoint != OPENAI_URL
        self._is_hint_accepted: bool | None = None if is_hint_sent else False

    def _connected(self) -> "openai.AsyncOpenAI":
        if self._client is None:
            try:
                import openai  # noqa: PLC0415
            except ModuleNotFoundError:
                raise ModuleNotFoundError(
                    "`openai` must be installed to ask a teacher: in the project's folder, pip install '.[teacher]'."
                ) from None
            if self._api_key is None and self._settings.endpoint == OPENAI_URL:
                raise FailedError(
                    f"{OPENAI_URL} needs a key. Set OPENAI_API_KEY, or give another endpoint with --base-url.", "run"
                )
            # Its own retries wait for as long as the server likes, and pay for what cannot succeed; a redirect would
            # take the key and the questions to an address that nobody gave.
            self._client = openai.AsyncOpenAI(
                api_key=self._api_key or "none",
                base_url=self._settings.base_url,
                max_retries=0,
                timeout=self._settings.timeout,
                http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
            )
        return self._client

    async def close(self) -> None:
        """Ends the connections, if there are any."""
        if self._client is not None:
            await self._client.close()

    async def ask(self, asked: Mapping[str, object]) -> tuple[Reply, int]:
        """The reply, and how often it was asked for.

        Raises:
            FailedError: If it is given up.
        """
        client = self._connected()
        body = {name: value for name, value in asked.items() if name not in ("base_url", "attempt")}
        jitter = random.Random(key(asked))  # reproducible, whatever the order in which requests fail
        waited, wait = 0.0, self._settings.max_wait * _FIRST_WAIT
        num_sent, is_hint_refused = 0, False
        while True:
            num_sent += 1
            has_hint = self._is_hint_accepted is not False and not is_hint_refused
            try:
                reply = await self._tried(client, {**body, HINT: False} if has_hint else body)
            except FailedError as error:
                if error.is_refusal and has_hint and self._is_hint_accepted is None:
                    is_hint_refused = True  # or something else is: the same without it says which
                    continue
                error.num_sent = num_sent
                if error.ends != "try":
                    raise
                pause = max(error.wait, wait * jitter.uniform(0.5, 1.0))
                reason = self._enough(num_sent, waited + pause, error.wait)
                if reason:
                    error.args = (f"{error} {reason}",)
                    raise
            else:
                if has_hint or is_hint_refused:
                    self._is_hint_accepted = has_hint
                return reply, num_sent
            await asyncio.sleep(pause)
            waited += pause
            wait *= 2

    def _enough(self, num_sent: int, waited: float, demanded: float) -> str:
        """Why there is no further try; empty where there is one."""
        limit = self._settings.max_wait
        if demanded > limit:
            return f"It asks to wait {demanded:.6g} s (Retry-After), which is more than --max-wait ({limit:g} s)."
        if num_sent > self._settings.retries:
            return f"Tried {num_sent} times (--retries)."
        return f"Tried {num_sent} times, until --max-wait ({limit:g} s) was used up." if waited > limit else ""

    async def _tried(self, client: "openai.AsyncOpenAI", body: Mapping[str, object]) -> Reply:
        import openai  # noqa: PLC0415

        timeout = self._settings.timeout
        asked = {name: body[name] for name in ("model", "messages")}
        # As they are: the client itself knows neither the new names nor the hint.
        parameters = {name: value for name, value in body.items() if name not in asked}
        try:
            # The client's own timeout is for one read: a server that trickles bytes never meets it.
            async with asyncio.timeout(timeout):
                create = client.chat.completions.with_raw_response.create
                response = await create(**asked, extra_body=parameters)  # type: ignore[call-overload]
        except (TimeoutError, openai.APITimeoutError):
            raise FailedError(f"No whole answer came within {timeout:g} s (--timeout).") from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APIConnectionError as error:
            raise FailedError(f"The connection failed: {self._plain(_innermost(error))}.") from None
        content = response.http_response.content
        try:
            return replies.read(self._hidden(content.decode()))
        except (ValueError, RecursionError) as error:
            kind = self._plain(response.headers.get("content-type", "no content type"))
            reason = self._plain(str(error)) if isinstance(error, NoCompletionError) else "not JSON"
            raise FailedError(
                f"Status 200, but no completion ({kind}; {reason}): {self._plain(content.decode(errors='replace'))!r}. "
                "Is --base-url an API? It usually ends in /v1."
            ) from None

    def _refusal(self, error: "openai.APIStatusError") -> FailedError:
        status, headers = error.status_code, error.response.headers
        said = _reason(error.body)
        answer = f"{self._settings.endpoint} answers {status}: {self._plain(str(said or '')) or 'no reason given'!r}."
        if status == 402 or error.code in _QUOTA or error.type in _QUOTA:
            return FailedError(
                f"{answer} The quota is used up; asking again cannot help. Add to it, then rerun.", "run"
            )
        if status < 400:
            target = self._plain(_public(headers.get("location", ""), self._settings.base_url))
            return FailedError(
                f"{answer} It redirects to {target}. Give the address behind it as --base-url, if you trust it.", "run"
            )
        match status:
            case 401 | 403:
                fix = "The key is refused. Set OPENAI_API_KEY to one that this endpoint accepts for this model."
                return FailedError(f"{answer} {fix}", "run")
            case 404 | 405 | 501:
                fix = f"Check --model ({self._settings.model}) and --base-url, which usually ends in /v1."
                return FailedError(f"{answer} {fix}", "run")
            case 408 | 409 | 425 | 429:
                return FailedError(answer, wait=_retry_after(headers))
            case _ if status >= 500:
                return FailedError(answer, wait=_retry_after(headers))
            case _:
                names = {sent: name for name, sent in self._settings.sent_names.items()} | {HINT: HINT}
                remedies = refusals.remedies(error.body, names)
                fix = f"Run again with {' and '.join(remedy.options for remedy in remedies)}." if remedies else ""
                ends = "run" if any(remedy.is_for_all for remedy in remedies) else "problem"
                return FailedError(f"{answer} {fix or 'It does not accept this request.'}", ends, is_refusal=True)

    def _hidden(self, text: str) -> str:
        """The text without the secrets, should the endpoint repeat them."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _plain(self, text: str) -> str:
        """What a stranger wrote, on one line, without what would act on a terminal."""
        printable = "".join(letter if letter.isprintable() else " " for letter in self._hidden(text))
        return " ".join(printable.split())[:160]


def _reason(body: object) -> object:
    """What an error says of itself. Gemini's is a list of one, and the client has unpacked the others."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    return (body.get("message") or body) if isinstance(body, Mapping) else body


def _retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that Retry-After asks for, a number or a date; 0 where it asks for nothing."""
    given = headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if seconds > 0 else 0.0  # not a number is not above 0 either


def _public(url: str, base: str = "") -> str:
    """A URL, which may be relative to a base, without name, password, query and fragment."""
    try:
        parts = urlsplit(urljoin(base, url))
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def _innermost(error: BaseException) -> str:
    while cause := error.__cause__ or error.__context__:
        error = cause
    return str(error) or type(error).__name__
