"""The reply in a chat completion, in the dialects of the servers that speak OpenAI's.

Nothing here knows how a reply travels, or whether it is right.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from experiments.data import reasoning

__all__ = ["Ending", "NoCompletionError", "Reply", "read", "stored"]

Ending = Literal["stop", "limit", "other"]
"""Why an answer ends: the model ended it, it was too long, or anything else (a filter, an error, not said)."""

_MOST_TOKENS = 10**9  # of an answer: a larger count is a mistake of the endpoint's
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


@dataclass(frozen=True)
class Reply:
    """What came back and was paid for.

    Attributes:
        text: The content as it came, with the reasoning that is in it; None where there is none.
        finish_reason: Why it ends, in the endpoint's words.
        prompt_tokens: As the endpoint counts them; None where it does not say.
        completion_tokens: Likewise, with those of the reasoning.
        model: The model that the endpoint says it was.
        reasoning: The reasoning that came apart from the content; None where there is none.
        refusal: Why the model does not answer, in its words; None where it does not say so.
    """

    text: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str | None
    reasoning: str | None = None
    refusal: str | None = None

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
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("choices"), list):
        raise NoCompletionError("no list of choices")
    first = next(iter(content["choices"]), None)
    choice: dict[str, object] = first if isinstance(first, dict) else {}
    message = choice.get("message")
    parts: dict[str, object] = message if isinstance(message, dict) else {}
    usage = content.get("usage")
    return stored(
        {
            "text": _joined(parts.get("content"), "text"),
            "finish_reason": choice.get("finish_reason"),
            **(_counts(usage) if isinstance(usage, dict) else {}),
            "model": content.get("model"),
            # DeepSeek, llama.cpp, SGLang; OpenRouter, Ollama, Groq, vLLM from 0.23 on; Mistral has it among the parts
            "reasoning": parts.get("reasoning_content")
            or parts.get("reasoning")
            or _joined(parts.get("content"), "thinking"),
            "refusal": parts.get("refusal") or _joined(parts.get("content"), "refusal"),
        }
    )


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


def _counts(usage: Mapping[str, object]) -> dict[str, int | None]:
    """The tokens of the prompt and of the completion.

    Gemini and xAI leave the reasoning, which is paid for, out of the completion's tokens and count it in the total.
    """
    prompt, completion, total = (_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if prompt is not None and total is not None and completion is not None:
        completion = max(completion, total - prompt)
    return {"prompt_tokens": prompt, "completion_tokens": completion}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else None


def stored(values: Mapping[str, object]) -> Reply:
    """A reply from JSON values; those of a wrong type count as missing."""

    def text(name: str) -> str | None:
        value = values.get(name)
        return value if isinstance(value, str) else None

    return Reply(
        text("text"),
        text("finish_reason"),
        _count(values.get("prompt_tokens")),
        _count(values.get("completion_tokens")),
        text("model"),
        text("reasoning"),
        text("refusal"),
    )
