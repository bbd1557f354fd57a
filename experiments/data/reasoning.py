"""The reasoning that a model writes before its answer, in the marks of every family, and the answer without it.

An endpoint with a parser for the model sends the reasoning apart; one without a parser leaves it in the text. Nothing
here knows what the answer is about.
"""

import re

__all__ = ["without"]

# Each family's own pair. Where the chat template writes the opening mark, only the closing one is in the text.
_MARKS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, Magistral of June 2025
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),  # prompts that ask for it by this name, or the next
    ("<scratchpad>", "</scratchpad>"),
    ("<thought>", "</thought>"),  # Gemini behind its OpenAI-compatible address
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral from July 2025
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<|channel>", "<channel|>"),  # Gemma 4
)
_PAIRS = tuple(tuple(re.compile(re.escape(mark), re.IGNORECASE) for mark in pair) for pair in _MARKS)
_CHANNEL = "<|channel|>"  # gpt-oss: a channel's name, <|message|>, the message, and one of the ends
_CHANNEL_END = re.compile(r"<\|(?:end|return|call)\|>|(?=<\|start\|>)")
_TURN = re.compile(r"<\|start\|>\s*assistant\s*")
# gpt-oss where the special tokens were dropped and the names of the channels stayed
_BARE_CHANNELS = re.compile(r"\s*analysis(?=\S).*?assistantfinal", re.DOTALL)
# Some servers leave the special tokens around an answer in its text.
_TOKEN = re.compile(r"<\|\w+\|>|</s>|<end_of_turn>|<turn\|>")


def without(text: str) -> str:
    """The answer in a text, without the reasoning, the special tokens and the blanks around it.

    Reasoning that is never closed goes on to the end of the text. The time is linear in the length of the text.
    """
    if _CHANNEL in text:
        text = _final_channel(text)
    elif bare := _BARE_CHANNELS.match(text):
        text = text[bare.end() :]
    for opening, closing in _PAIRS:
        *closed, last = closing.split(text)
        pieces: list[str] = []
        for part in closed:
            before, *rest = opening.split(part, maxsplit=1)
            if rest:
                pieces.append(before)
            else:  # opened before the text began
                pieces.clear()
        text = "".join(pieces) + opening.split(last, maxsplit=1)[0]
    return _without_tokens(text)


def _without_tokens(text: str) -> str:
    start, end = 0, len(text)
    tokens = list(_TOKEN.finditer(text))
    for token in tokens:
        if text[start : token.start()].strip():
            break
        start = token.end()
    for token in reversed(tokens):
        if text[token.end() : end].strip():
            break
        end = token.start()
    return text[start:end].strip()


def _final_channel(text: str) -> str:
    """The text in the channel `final` and in no channel."""
    before, *messages = text.split(_CHANNEL)
    pieces = [before]
    for message in messages:
        header, _, content = message.partition("<|message|>")
        end = _CHANNEL_END.search(content)
        if header.split()[:1] == ["final"]:
            pieces.append(content[: end.start()] if end else content)
        pieces.append(content[end.end() :] if end else "")
    return _TURN.sub("", "".join(pieces))
