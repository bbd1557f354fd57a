"""One request to an endpoint that speaks OpenAI's chat completions, however badly the endpoint behaves.

The result is a reply, or a `RequestError` that says why there is none. Tries are bounded in number and in time, secrets
stay in the header, and a stranger's text is printed plain. Nothing here knows the question, whether an answer is right,
or that replies are kept.

Beside the request, `"cache_prompt": false` is sent where it is accepted. Without it, llama.cpp's server gives another
text for the same request once its prompt cache holds the beginning of the prompt (xllamacpp 2026.10.11549). With it,
one request at a time is answered alike; two at a time are computed together, and are not always answered alike.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import urlsplit

from experiments.teacher import refusals, replies
from experiments.teacher.refusals import RequestError
from experiments.teacher.replies import NoCompletionError, Reply
from experiments.teacher.settings import HINT, OPENAI_URL, Settings, public_url

if TYPE_CHECKING:
    import openai
    from tenacity import RetryCallState

__all__ = ["Endpoint"]

_FIRST_WAIT = 1 / 128  # of max_wait: seven doublings use it up
_SHORTEST_SECRET = 8  # a local server's "none" is no secret, and would be struck out of ordinary text
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_PASSING = (408, 409, 425, 429)  # beside all of 500 and above but 501


class Endpoint:
    """The endpoint behind bounded retries. The first request connects: before it, neither key nor client is needed."""

    def __init__(self, settings: Settings, api_key: str | None) -> None:
        self._settings, self._api_key = settings, api_key
        password = urlsplit(settings.base_url).password
        self._secrets = [secret for secret in (api_key, password) if secret and len(secret) >= _SHORTEST_SECRET]
        # Whether the hint is accepted; None while that is open. OpenAI refuses parameters that it does not know.
        self._is_hint_accepted = None if HINT not in settings.omit and not settings.is_openai else False

    @cached_property
    def _client(self) -> "openai.AsyncOpenAI":
        if self._api_key is None and self._settings.is_openai:
            fix = "Set OPENAI_API_KEY, or give another endpoint with --base-url."
            raise RequestError(f"{OPENAI_URL} needs a key. {fix}", "run")
        try:
            import openai  # noqa: PLC0415  # optional packages
            import tenacity  # noqa: F401, PLC0415  # of `ask`
        except ModuleNotFoundError as error:
            fix = "in the project's folder, pip install '.[teacher]'."
            raise RequestError(f"`{error.name}` must be installed to ask a teacher: {fix}", "run") from None
        # Its own retries wait for as long as the server likes, and pay for what cannot succeed; a redirect would take
        # the key and the questions to an address that nobody gave.
        return openai.AsyncOpenAI(
            api_key=self._api_key or "none",
            base_url=self._settings.base_url,
            max_retries=0,
            timeout=self._settings.timeout,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if "_client" in vars(self):
            await self._client.close()

    async def ask(self, request: Mapping[str, object]) -> tuple[Reply, int]:
        """The reply, and the number of times that the request was sent.

        Raises:
            RequestError: If the request is given up.
        """
        client, limits = self._client, self._settings
        from tenacity import AsyncRetrying, retry_if_exception  # noqa: PLC0415  # an optional package

        jitter = random.Random(repr(request))  # reproducible, whatever the order in which requests fail
        num_sent, is_hint_refused = 0, False

        async def reply() -> Reply:
            nonlocal num_sent, is_hint_refused
            has_hint = self._is_hint_accepted is not False and not is_hint_refused
            num_sent += 1
            try:
                answer = await self._send(client, request, {HINT: False} if has_hint else {})
            except RequestError as error:
                if not (error.is_refusal and has_hint and self._is_hint_accepted is None):
                    raise
                is_hint_refused = True  # or something else is: the same request without the hint decides
                return await reply()
            self._is_hint_accepted = has_hint
            return answer

        def pause(state: "RetryCallState") -> float:
            wait = limits.max_wait * _FIRST_WAIT * 2 ** (state.attempt_number - 1)
            return max(_error(state).retry_after, wait * jitter.uniform(0.5, 1.0))

        def limit(state: "RetryCallState") -> str:
            """The limit that forbids another try; empty where none does."""
            demand = _error(state).retry_after
            if demand > limits.max_wait:
                rule = f"which is more than --max-wait ({limits.max_wait:g} s)"
                return f"It asks to wait {demand:.6g} s (Retry-After), {rule}."
            if num_sent > limits.retries:
                return f"Tried {num_sent} times (--retries)."
            is_used_up = state.idle_for + state.upcoming_sleep > limits.max_wait
            return f"Tried {num_sent} times, until --max-wait ({limits.max_wait:g} s) was used up." * is_used_up

        def give_up(state: "RetryCallState") -> NoReturn:
            raise RequestError(f"{_error(state)} {limit(state)}")

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, RequestError) and error.ends == "try"),
            wait=pause,
            stop=lambda state: bool(limit(state)),
            retry_error_callback=give_up,
        )
        try:
            return await retrying(reply), num_sent
        except RequestError as error:
            error.num_sent = num_sent
            raise

    async def _send(
        self, client: "openai.AsyncOpenAI", request: Mapping[str, object], hint: Mapping[str, bool]
    ) -> Reply:
        import openai  # noqa: PLC0415  # an optional package

        timeout = self._settings.timeout
        words = {name: request[name] for name in ("model", "messages")}
        # As they are: the client itself knows neither the new names nor the hint.
        parameters = {name: value for name, value in request.items() if name not in ("base_url", "attempt", *words)}
        try:
            # The client's own timeout is for one read: a server that trickles bytes never meets it.
            async with asyncio.timeout(timeout):
                create = client.chat.completions.with_raw_response.create
                response = await create(**words, extra_body=parameters | hint)  # type: ignore[call-overload]
        except (TimeoutError, openai.APITimeoutError):
            raise RequestError(f"No whole answer came within {timeout:g} s (--timeout).") from None
        except openai.APIStatusError as error:
            raise self._refusal(error) from None
        except openai.APIConnectionError as error:
            raise RequestError(f"The connection failed: {self._plain(_innermost(error))}.") from None
        content = response.http_response.content
        try:
            return replies.read(self._without_secrets(content.decode()))
        except (ValueError, RecursionError) as error:
            kind = self._plain(response.headers.get("content-type", "no content type"))
            reason = error if isinstance(error, NoCompletionError) else "not JSON"
            raise RequestError(
                f"Status 200, but no completion ({kind}; {reason}): {self._plain(content.decode(errors='replace'))!r}. "
                "Is --base-url an API? It usually ends in /v1."
            ) from None

    def _refusal(self, error: "openai.APIStatusError") -> RequestError:
        status, headers, settings = error.status_code, error.response.headers, self._settings
        reason = self._plain(str(_reason(error.body) or "")) or "no reason given"
        answer = f"{settings.endpoint} answers {status}: {reason!r}."
        if status == 402 or error.code in _QUOTA or error.type in _QUOTA:
            fix = "The quota is used up; asking again cannot help. Add to it, then rerun."
        elif status < 400:
            target = self._plain(public_url(headers.get("location", ""), settings.base_url))
            fix = f"It redirects to {target}. Give the address behind it as --base-url, if you trust it."
        elif status in (401, 403):
            fix = "The key is refused. Set OPENAI_API_KEY to one that this endpoint accepts for this model."
        elif status in (404, 405, 501):
            fix = f"Check --model ({settings.model}) and --base-url, which usually ends in /v1."
        elif status in _PASSING or status >= 500:
            return RequestError(answer, retry_after=_retry_after(headers))
        else:
            names = {there: here for here, there in settings.sent_names.items()} | {HINT: HINT}
            remedies = refusals.remedies(error.body, names)
            fix = f"Run again with {' and '.join(remedy.options for remedy in remedies)}." if remedies else ""
            ends = "run" if any(remedy.is_for_all for remedy in remedies) else "problem"
            return RequestError(f"{answer} {fix or 'It does not accept this request.'}", ends, is_refusal=True)
        return RequestError(f"{answer} {fix}", "run")

    def _without_secrets(self, text: str) -> str:
        """The text without the secrets, should the endpoint repeat them."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _plain(self, text: str) -> str:
        """A stranger's text on one line, without characters that act on a terminal."""
        printable = "".join(letter if letter.isprintable() else " " for letter in self._without_secrets(text))
        return " ".join(printable.split())[:160]


def _error(state: "RetryCallState") -> RequestError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, RequestError)  # `retry` lets no other error come so far
    return error


def _reason(body: object) -> object:
    """The message of an error. Gemini's is a list of one, and the client has unpacked the others."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping):
        body = body["error"]
    return (body.get("message") or body) if isinstance(body, Mapping) else body


def _retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that Retry-After asks for, a number or a date; 0 where it asks for nothing."""
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return seconds if seconds > 0 else 0.0  # not a number is not above 0 either


def _innermost(error: BaseException) -> str:
    while cause := error.__cause__ or error.__context__:
        error = cause
    return str(error) or type(error).__name__
