"""The reply in a chat completion, in the dialects of the servers that speak OpenAI's language.

Nothing here knows how a reply travels, or whether it is right.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator

from experiments.data import reasoning

__all__ = ["Ending", "NoCompletionError", "Reply", "read"]

Ending = Literal["stop", "limit", "other"]
"""Why an answer ends: the model ended it, it was too long, or anything else (a filter, an error, not said)."""

_ENDINGS: Mapping[str, Ending] = {
    "stop": "stop",  # OpenAI, and most; Gemini's own is STOP
    "eos": "stop",  # Together
    "eos_token": "stop",  # text-generation-inference before 2.3
    "stop_sequence": "stop",  # Anthropic, text-generation-inference
    "end_turn": "stop",  # Anthropic
    "complete": "stop",  # Cohere
    "length": "limit",  # OpenAI, and most
    "max_tokens": "limit",  # Anthropic; Cohere's and Gemini's own is MAX_TOKENS
    "model_length": "limit",  # Mistral: the model's limit, not the request's
    "model_context_window_exceeded": "limit",  # Anthropic: likewise
}


class NoCompletionError(ValueError):
    """JSON, but no chat completion."""


def _or_none(value: object, validate: Callable[[object], object]) -> object:
    try:
        return validate(value)
    except ValidationError:
        return None  # a value of a wrong type counts as missing


_Text = Annotated[str | None, WrapValidator(_or_none)]
# A count of a thousand million tokens is a mistake of the endpoint's.
_Count = Annotated[Annotated[int, Field(strict=True, ge=0, lt=10**9)] | None, WrapValidator(_or_none)]
_COUNT = TypeAdapter[int | None](_Count)


class Reply(BaseModel):
    """An answer that was paid for, or the model's refusal to answer.

    Attributes:
        text: The content as it came, with the reasoning that is in it; None where there is none.
        finish_reason: Why it ends, in the endpoint's words.
        prompt_tokens: As the endpoint counts them; None where it does not say.
        completion_tokens: Likewise, with those of the reasoning.
        model: The model's name in the reply.
        reasoning: The reasoning that came apart from the content; None where there is none.
        refusal: Why the model does not answer, in its words; None where it does not say so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: _Text = None
    finish_reason: _Text = None
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    model: _Text = None
    reasoning: _Text = None
    refusal: _Text = None

    @property
    def answer(self) -> str:
        """The content without reasoning and without blanks around it; empty where there is none."""
        return reasoning.without(self.text or "")

    @property
    def ending(self) -> Ending:
        """Why it ends."""
        return _ENDINGS.get((self.finish_reason or "").lower(), "other")

    @property
    def is_spent(self) -> bool:
        """Whether the limit was reached before an answer began, as when all tokens go into reasoning."""
        return self.ending == "limit" and not self.answer


def read(text: str) -> Reply:
    """The reply in the body of a chat completion.

    Raises:
        NoCompletionError: If it is JSON and no chat completion.
        ValueError: If it is no JSON.
    """
    completion = _object(json.loads(text))
    choices = completion.get("choices")
    if not isinstance(choices, list):
        raise NoCompletionError("no list of choices")
    choice = _object(choices[0] if choices else None)
    message = _object(choice.get("message"))
    content = message.get("content")
    usage = _object(completion.get("usage"))
    prompt, completed, total = (
        _COUNT.validate_python(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total")
    )
    if prompt is not None and completed is not None and total is not None:
        # Gemini and xAI count the reasoning, which is paid for, in the total alone.
        completed = max(completed, total - prompt)
    return Reply(
        text=_joined(content, "text"),
        finish_reason=choice.get("finish_reason"),
        prompt_tokens=prompt,
        completion_tokens=completed,
        model=completion.get("model"),
        # DeepSeek, llama.cpp, SGLang; OpenRouter, Ollama, Groq, vLLM from 0.23 on; Mistral has it among the parts
        reasoning=message.get("reasoning_content") or message.get("reasoning") or _joined(content, "thinking"),
        refusal=message.get("refusal") or _joined(content, "refusal"),
    )


def _object(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _joined(content: object, kind: str) -> str | None:
    """The text of one kind in a content, which is a text, or a list of parts that each say their kind."""
    if isinstance(content, list):
        return "".join(_texts(content, kind)) or None
    return content if kind == "text" and isinstance(content, str) else None


def _texts(parts: list[object], kind: str) -> Iterator[str]:
    for part in parts:
        if isinstance(part, dict) and part.get("type") == kind:
            value = part.get(kind)
            # Mistral's part of the kind "thinking" holds a list of parts of the kind "text".
            yield value if isinstance(value, str) else _joined(value, "text") or ""
