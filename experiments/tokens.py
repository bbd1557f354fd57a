"""Text to token ids and back: a tokenizer with its chat template, and batches of prompts with their completions.

A prompt and its completion are tokenised apart, so that no token lies across the boundary. What is padding is known by
length, never by its id: SmolLM2's padding token is also the one that ends a turn.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from jaxtyping import Array, Float, Int
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from experiments import jsonl

__all__ = ["Batch", "Encoded", "TextCodec", "batch", "load"]


class Encoded(NamedTuple):
    """One text, as ids."""

    prompt: list[int]
    completion: list[int]


class Batch(NamedTuple):
    """Texts of one shape, each with the weight of its log-probability in the loss.

    Attributes:
        tokens: Prompt and completion, then padding.
        first: The place whose state predicts the first token of the completion.
        targets: The completion, then padding.
        lengths: Of the completions, in tokens.
        weights: What the summed log-probability of the completion is multiplied by.
    """

    tokens: Int[Array | np.ndarray, "b t"]
    first: Int[Array | np.ndarray, " b"]
    targets: Int[Array | np.ndarray, "b c"]
    lengths: Int[Array | np.ndarray, " b"]
    weights: Float[Array | np.ndarray, " b"]


@dataclass(frozen=True)
class TextCodec:
    """A tokenizer and the chat template that goes with it.

    Attributes:
        tokenizer: From tokenizer.json.
        template: The chat template's source; None where the model has none.
        specials: The texts of the special tokens that a template may name: bos_token, eos_token, ...
        stop_tokens: Ids that end a generated text.
    """

    tokenizer: Tokenizer
    template: str | None
    specials: Mapping[str, str]
    stop_tokens: tuple[int, ...]

    def chat(self, question: str, answer: str | None = None) -> str:
        """A question as the chat template puts it, ready for the answer or followed by it.

        A template that dates its system prompt gives its own default date, not today's: a log-probability must not
        depend on the day.

        Raises:
            ValueError: If there is no template, or it refuses.
        """
        if self.template is None:
            raise ValueError("the model must have a chat template for this; it has none. Use --no-chat.")
        messages = [{"role": "user", "content": question}]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        environment.globals["raise_exception"] = _refuse
        try:
            compiled = environment.from_string(self.template)
            text = compiled.render(messages=messages, add_generation_prompt=answer is None, **self.specials)
        except Exception as error:  # noqa: BLE001  # somebody else's program may fail in any way
            says = (str(error).strip().splitlines() or [type(error).__name__])[0].removesuffix(".")
            raise ValueError(f"the chat template must accept a question and an answer; it says: {says}.") from None
        if question.strip() not in text:
            raise ValueError("the chat template must repeat the question; it leaves it out.")
        return text

    @cached_property
    def turn_end(self) -> list[int]:
        """What ends an answer: the special token that the chat template puts behind it, or the end of the text."""
        if self.template is not None:
            mark = "\N{BLACK FOUR POINTED STAR}"
            ids = self.tokenizer.encode(self.chat("x", mark).rpartition(mark)[2], add_special_tokens=False).ids
            if ids and ids[0] in self.tokenizer.get_added_tokens_decoder():
                return ids[:1]
        end = self.specials.get("eos_token")
        return [] if end is None or (id_ := self.tokenizer.token_to_id(end)) is None else [id_]

    def prompt(self, text: str, *, is_chat: bool) -> list[int]:
        """The ids of a prompt: the user's turn in the chat template, or text as it is.

        The template holds the token that begins a text, where the model wants one; then a second is not added.
        """
        return self.tokenizer.encode(self.chat(text) if is_chat else text, add_special_tokens=not is_chat).ids

    def encoded(self, prompt: str, completion: str, *, is_chat: bool) -> Encoded:
        """A prompt and its completion.

        Args:
            prompt: The user's turn with `is_chat`, else text that the completion continues.
            completion: The answer.
            is_chat: Whether to put the prompt into the chat template and to end the completion as a turn ends.

        Raises:
            ValueError: If one of the two has no tokens.
        """
        made = Encoded(
            self.prompt(prompt, is_chat=is_chat),
            self.tokenizer.encode(completion, add_special_tokens=False).ids + (self.turn_end if is_chat else []),
        )
        if not made.prompt or not made.completion:
            raise ValueError(
                "prompt and completion must each have at least one token; without one nothing is predicted"
            )
        return made

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _json(path: Path) -> dict[str, object]:
    return jsonl.read_object(path) if path.is_file() else {}


def load(folder: Path) -> TextCodec:
    """The tokenizer of a model's folder, with its chat template and what ends a text, from whichever files have them.

    Raises:
        FileNotFoundError: If there is no tokenizer.json.
        ValueError: If a file is not what it should be.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} must exist: a model's folder holds its tokenizer.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  # the library raises bare Exception
        raise ValueError(f"{path} must be a tokenizer: {error}.") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    config = _json(folder / "tokenizer_config.json")
    specials = {
        name: text
        for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        if isinstance(text := value.get("content") if isinstance(value := config.get(name), dict) else value, str)
    }
    separate = folder / "chat_template.jinja"
    template = separate.read_text(encoding="utf-8") if separate.is_file() else config.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
    if template is not None and not isinstance(template, str):
        raise ValueError(f"{folder}: chat_template must be a text; got {type(template).__name__}.")
    stops: list[object] = []
    for name in ("generation_config.json", "config.json"):
        given = _json(folder / name).get("eos_token_id")
        stops += given if isinstance(given, list) else [given] if given is not None else []
    if not all(type(stop) is int and 0 <= stop < tokenizer.get_vocab_size() for stop in stops):
        raise ValueError(f"{folder}: eos_token_id must be ids of the tokenizer; got {stops}.")
    codec = TextCodec(tokenizer, template, specials, ())
    end = [] if template is None and "eos_token" not in specials else codec.turn_end
    return TextCodec(
        tokenizer, template, specials, tuple(dict.fromkeys([stop for stop in stops if isinstance(stop, int)] + end))
    )


def batch(
    texts: Sequence[Encoded],
    weights: Sequence[float] | None = None,
    *,
    multiple: int = 32,
    shape: tuple[int, int] | None = None,
) -> Batch:
    """Texts as one batch, padded to the right.

    Args:
        texts: One row each.
        weights: One per text; 1 unless given.
        multiple: Lengths are padded to multiples of this, so that few shapes are compiled.
        shape: The widths (t, c) of rows and completions instead, for batches that must be alike.

    Raises:
        ValueError: If there are no texts, or one is longer than the shape.
    """
    if not texts:
        raise ValueError("texts must be at least one; got none.")
    longest = max(len(text.prompt) + len(text.completion) for text in texts)
    most = max(len(text.completion) for text in texts)
    t, c = shape or (-(-longest // multiple) * multiple, -(-most // multiple) * multiple)
    if longest > t or most > c:
        raise ValueError(
            f"texts must fit the shape ({t}, {c}); the longest has {longest}, its completion up to {most}."
        )
    tokens = np.zeros((len(texts), t), np.int32)
    targets = np.zeros((len(texts), c), np.int32)
    for row, text in enumerate(texts):
        ids = text.prompt + text.completion
        tokens[row, : len(ids)] = ids
        targets[row, : len(text.completion)] = text.completion
    return Batch(
        tokens=tokens,
        first=np.array([len(text.prompt) - 1 for text in texts], np.int32),
        targets=targets,
        lengths=np.array([len(text.completion) for text in texts], np.int32),
        weights=np.ones(len(texts), np.float32) if weights is None else np.asarray(weights, np.float32),
    )
