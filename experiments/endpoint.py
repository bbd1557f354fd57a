"""One request to an endpoint that speaks OpenAI's chat completions, however badly it behaves.

What comes of it is a reply, or why there is none. Tries are bounded in number and in time, secrets stay in the header,
and what a stranger wrote is shown plain. Nothing here knows what is asked, whether an answer is right, or that replies
are kept.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal
from urllib.parse import urljoin, urlsplit

from experiments.cache import key

if TYPE_CHECKING:
    import openai

__all__ = ["OPENAI_URL", "Endpoint", "FailedError", "Reply", "Settings", "stored"]

OPENAI_URL = "https://api.openai.com/v1"
_FIRST_WAIT = 1 / 128  # of max_wait: seven doublings use it up
_SHORTEST_SECRET = 8  # a local server's "none" is no secret, and would be struck out of ordinary text
_HOST = re.compile(r"[A-Za-z0-9.:_-]+")
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_MOST_CONNECTIONS = 1000  # of the client
_MOST_TOKENS = 10**9  # of an answer: a larger count is a mistake of the endpoint's


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

    @property
    def endpoint(self) -> str:
        """The base URL without a name and a password."""
        return _public(self.base_url)


@dataclass(frozen=True)
class Reply:
    """What came back and was paid for.

    Attributes:
        text: The answer; None where there is none.
        finish_reason: Why it ends, in the endpoint's words; "stop" is the good one.
        prompt_tokens: As the endpoint counts them; None where it does not say.
        completion_tokens: Likewise.
        model: The model that the endpoint says it was.
    """

    text: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str | None


class FailedError(Exception):
    """One request failed. `ends` is what fails with it; `wait` the seconds that the endpoint asks for."""

    def __init__(self, message: str, ends: Literal["try", "problem", "run"] = "try", wait: float = 0.0) -> None:
        super().__init__(message)
        self.ends, self.wait, self.num_sent = ends, wait, 0


class Endpoint:
    """The endpoint behind bounded retries; connects when first asked."""

    def __init__(self, settings: Settings, api_key: str | None) -> None:
        self._settings = settings
        self._api_key = api_key
        password = urlsplit(settings.base_url).password
        self._secrets = [secret for secret in (api_key, password) if secret and len(secret) >= _SHORTEST_SECRET]
        self._client: openai.AsyncOpenAI | None = None

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
        num_sent = 0
        while True:
            num_sent += 1
            try:
                return await self._tried(client, body), num_sent
            except FailedError as error:
                error.num_sent = num_sent
                if error.ends != "try":
                    raise
                pause = max(error.wait, wait * jitter.uniform(0.5, 1.0))
                reason = self._enough(num_sent, waited + pause, error.wait)
                if reason:
                    error.args = (f"{error} {reason}",)
                    raise
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
        try:
            # The client's own timeout is for one read: a server that trickles bytes never meets it.
            async with asyncio.timeout(timeout):
                response = await client.chat.completions.with_raw_response.create(**body)  # type: ignore[call-overload]
        except (TimeoutError, openai.APITimeoutError):
            raise FailedError(f"No whole answer came within {timeout:g} s (--timeout).") from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APIConnectionError as error:
            raise FailedError(f"The connection failed: {self._plain(_innermost(error))}.") from None
        content = response.http_response.content
        try:
            return _read(self._hidden(content.decode()))
        except (ValueError, RecursionError) as error:
            kind = self._plain(response.headers.get("content-type", "no content type"))
            reason = self._plain(str(error)) if isinstance(error, _NoCompletionError) else "not JSON"
            raise FailedError(
                f"Status 200, but no completion ({kind}; {reason}): {self._plain(content.decode(errors='replace'))!r}. "
                "Is --base-url an API? It usually ends in /v1."
            ) from None

    def _refusal(self, error: "openai.APIStatusError") -> FailedError:
        status, headers = error.status_code, error.response.headers
        said = error.body.get("message") or error.body if isinstance(error.body, Mapping) else error.body
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
                return FailedError(f"{answer} It does not accept this request.", "problem")

    def _hidden(self, text: str) -> str:
        """The text without the secrets, should the endpoint repeat them."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _plain(self, text: str) -> str:
        """What a stranger wrote, on one line, without what would act on a terminal."""
        printable = "".join(letter if letter.isprintable() else " " for letter in self._hidden(text))
        return " ".join(printable.split())[:160]


class _NoCompletionError(ValueError):
    """JSON, but no chat completion."""


def _read(text: str) -> Reply:
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("choices"), list):
        raise _NoCompletionError("no list of choices")
    first = next(iter(content["choices"]), None)
    choice: dict[str, object] = first if isinstance(first, dict) else {}
    message = choice.get("message")
    usage = content.get("usage")
    return stored(
        {
            "text": message.get("content") if isinstance(message, dict) else None,
            "finish_reason": choice.get("finish_reason"),
            "prompt_tokens": usage.get("prompt_tokens") if isinstance(usage, dict) else None,
            "completion_tokens": usage.get("completion_tokens") if isinstance(usage, dict) else None,
            "model": content.get("model"),
        }
    )


def stored(values: Mapping[str, object]) -> Reply:
    """A reply from JSON values; those of a wrong type count as missing."""

    def text(name: str) -> str | None:
        value = values.get(name)
        return value if isinstance(value, str) else None

    def count(name: str) -> int | None:
        value = values.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None

    return Reply(text("text"), text("finish_reason"), count("prompt_tokens"), count("completion_tokens"), text("model"))


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
