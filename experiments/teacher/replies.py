"""The reply in a chat completion, in the dialects of the servers that speak OpenAI's language.

Nothing here knows how a reply travels, or whether it is right.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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
_MOST_TOKENS = 10**9  # a count beyond it is a mistake of the endpoint's


class NoCompletionError(ValueError):
    """JSON, but no chat completion."""


@dataclass(frozen=True)
class Reply:
    """An answer that was paid for, or the model's refusal to answer. None stands for what the endpoint does not say.

    `read` checks the types of an endpoint's values; a reply that is built otherwise is trusted.

    Attributes:
        text: The content as it came, with the reasoning that is in it.
        finish_reason: Why it ends, in the endpoint's words.
        prompt_tokens: As the endpoint counts them.
        completion_tokens: Likewise, with those of the reasoning.
        model: The model's name in the reply.
        reasoning: The reasoning that came apart from the content.
        refusal: Why the model does not answer, in its words.
    """

    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str | None = None
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
    """The reply in the body of a chat completion. A value of a wrong type counts as missing.

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
    content, usage = message.get("content"), _object(completion.get("usage"))
    prompt, completed, total = (_count(usage.get(f"{name}_tokens")) for name in ("prompt", "completion", "total"))
    if prompt is not None and completed is not None and total is not None:
        # Gemini and xAI count the reasoning, which is paid for, in the total alone.
        completed = max(completed, total - prompt)
    return Reply(
        text=_joined(content, "text"),
        finish_reason=_text(choice.get("finish_reason")),
        prompt_tokens=prompt,
        completion_tokens=completed,
        model=_text(completion.get("model")),
        # DeepSeek, llama.cpp, SGLang; OpenRouter, Ollama, Groq, vLLM from 0.23 on; Mistral has it among the parts
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")) or _joined(content, "thinking"),
        refusal=_text(message.get("refusal")) or _joined(content, "refusal"),
    )


def _object(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _MOST_TOKENS else None


def _joined(content: object, kind: str) -> str | None:
    """The text of one kind in a content, which is a text, or a list of parts that each say their kind."""
    if not isinstance(content, list):
        return _text(content) if kind == "text" else None
    parts = [part.get(kind) for part in content if isinstance(part, dict) and part.get("type") == kind]
    # Mistral's part of the kind "thinking" holds a list of parts of the kind "text".
    return "".join(_joined(part, "text") or "" for part in parts) or None
