"""Text to token ids and back: a tokenizer with its chat template, and batches of prompts with their completions.

No token lies across the boundary of a prompt and its completion. With a chat template the two are a beginning of the
conversation, which is tokenised as a whole; without a template the completion is tokenised apart. Padding is known by
the lengths of texts, never by its id: the padding token of SmolLM2 also ends a turn.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import numpy as np
from jaxtyping import Array, Float, Int
from tokenizers import AddedToken, Encoding, Tokenizer

from experiments import files
from experiments.data.chat import ChatTemplate, Conversation, Frame, Question, messages_of

__all__ = ["Batch", "Encoded", "EncodedTexts", "TextCodec", "batch", "load", "padded_shape"]

_T = TypeVar("_T")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")  # of an added token


class Encoded(NamedTuple):
    """The ids of one text."""

    prompt: list[int]
    completion: list[int]

    @property
    def num_tokens(self) -> int:
        """The tokens of prompt and completion together."""
        return len(self.prompt) + len(self.completion)


class EncodedTexts(Sequence[Encoded]):
    """Encoded texts in one flat array: 4 bytes a token, where a list of Python's integers takes 36."""

    def __init__(self) -> None:
        self._ids = array("i")  # 32 bits: no vocabulary has more
        self._ends = array("q")  # of the prompt and of the completion of each text, in turn

    def append(self, text: Encoded) -> None:
        """Adds a text."""
        for ids in text:
            self._ids.extend(ids)
            self._ends.append(len(self._ids))

    def __len__(self) -> int:
        return len(self._ends) // 2

    @overload
    def __getitem__(self, place: int) -> Encoded: ...

    @overload
    def __getitem__(self, place: slice) -> list[Encoded]: ...

    def __getitem__(self, place: int | slice) -> Encoded | list[Encoded]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        last = 2 * range(len(self))[place]  # an IndexError behind the end
        start, middle, end = (self._ends[last - 1] if last else 0, self._ends[last], self._ends[last + 1])
        return Encoded(self._ids[start:middle].tolist(), self._ids[middle:end].tolist())


class Batch(NamedTuple):
    """Texts of one shape, each with the weight of its log-probability in the loss.

    Attributes:
        tokens: Prompt and completion, then padding.
        first: The place of the state that predicts the first token of the completion.
        targets: The completion, then padding.
        lengths: The lengths of the completions in tokens.
        weights: The factors of the summed log-probabilities of the completions in the loss.
        start_log_probs: The log-probabilities of the targets at the start of the run, 0 in the padding; None where no
            loss reads them.
    """

    tokens: Int[Array | np.ndarray, "b t"]
    first: Int[Array | np.ndarray, " b"]
    targets: Int[Array | np.ndarray, "b c"]
    lengths: Int[Array | np.ndarray, " b"]
    weights: Float[Array | np.ndarray, " b"]
    start_log_probs: Float[Array | np.ndarray, "b c"] | None = None


@dataclass(frozen=True)
class TextCodec:
    """A tokenizer and its chat template.

    Attributes:
        tokenizer: The tokenizer of tokenizer.json.
        template: The source of the chat template; None where the model has none.
        specials: The texts of the special tokens that a template may name: bos_token, eos_token, ...
        stop_tokens: The ids that end a generated text.
        vocabulary: The number of tokens of the model that reads the ids; None where it is not known.
    """

    tokenizer: Tokenizer
    template: str | None
    specials: Mapping[str, str]
    stop_tokens: tuple[int, ...]
    vocabulary: int | None = None

    @cached_property
    def chat(self) -> ChatTemplate:
        """The chat template.

        Raises:
            ValueError: If there is none.
        """
        if self.template is None:
            raise ValueError("the model must have a chat template for this; it has none. Use --no-chat.")
        return ChatTemplate(self.template, self.specials)

    @cached_property
    def _marks(self) -> frozenset[int]:
        """The ids of added tokens, without the runs of blanks that some tokenizers add."""
        added = self.tokenizer.get_added_tokens_decoder()
        return frozenset(id_ for id_, token in added.items() if token.content.strip())

    @cached_property
    def _front(self) -> list[int]:
        """The ids that the tokenizer itself puts before a text."""
        encoding = self.tokenizer.encode("A text, 1 of 2.", add_special_tokens=True)
        is_text = [sequence is not None for sequence in encoding.sequence_ids]
        return self._check(encoding.ids[: is_text.index(True)] if any(is_text) else [])

    def _check(self, ids: list[int]) -> list[int]:
        """The ids, after the check that the model has a row for each: an array would return another row."""
        if self.vocabulary is not None and ids and (largest := max(ids)) >= self.vocabulary:
            raise ValueError(
                f"the tokens of a text must be the model's, which has {self.vocabulary} (vocab_size of config.json); "
                f"the tokenizer gives {self.tokenizer.id_to_token(largest)!r} the id {largest}. Take the tokenizer of "
                "this model, or leave the token out of the text."
            )
        return ids

    def _ids(self, text: str) -> list[int]:
        return self._check(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def turn_end(self) -> int | None:
        """The id that ends an answer: the special token behind it in the chat template, or else eos_token."""
        try:
            after = "" if self.template is None else self.chat.after()
        except ValueError:  # the use of the template raises it; a model can be loaded without it
            after = ""
        ids = self.tokenizer.encode(after, add_special_tokens=False).ids
        end = self.specials.get("eos_token")
        mark = next((id_ for id_ in ids if id_ in self._marks), None)
        return self.tokenizer.token_to_id(end) if mark is None and end is not None else mark

    def prompt(self, text: str, *, is_chat: bool) -> list[int]:
        """The ids of a prompt: the user's turn in the chat template, or plain text.

        The template writes the token that begins a text, where the model has one. Plain text gets the ids with which
        the tokenizer begins every text, and none of the ids with which it ends one.

        Raises:
            ValueError: If a token is not in the model's vocabulary, or the template refuses.
        """
        return self._ids(self.chat.prompt(text)) if is_chat else self._front + self._ids(text)

    def encoded(self, prompt: Question, completion: str, *, is_chat: bool) -> Encoded:
        """The ids of a prompt and its completion: a conversation in the chat template, or plain text and more of it.

        In the template they are the first ids of the conversation: the completion ends with the token that ends the
        turn, or with the conversation.

        Raises:
            ValueError: If one of the two has no tokens, a token is not in the model's vocabulary, the template refuses,
                or the end of its prompt and the beginning of the answer share a token; if messages are to be plain
                text.
        """
        (text,) = self.encoded_all([(prompt, completion)], is_chat=is_chat)
        if isinstance(text, ValueError):
            raise text
        return text

    def encoded_all(self, requests: Sequence[tuple[Question, str]], *, is_chat: bool) -> list[Encoded | ValueError]:
        """The ids of prompts and their completions, as `encoded` has them, tokenised at once on all cores.

        A text that cannot be encoded has its error in its place.
        """
        if is_chat:
            return self._turns(requests)
        return [_tried(self._plain, *request) for request in requests]

    def _plain(self, prompt: Question, completion: str) -> Encoded:
        if not isinstance(prompt, str):
            raise ValueError("messages must be put into the chat template; got is_chat = false.")
        return _checked(self.prompt(prompt, is_chat=False), self._continuation(prompt, completion))

    def _turns(self, requests: Sequence[tuple[Question, str]]) -> list[Encoded | ValueError]:
        frames: dict[Question, Frame | ValueError] = {}  # the answers of a pair have one question

        def conversation(question: Question, answer: str) -> Conversation:
            key = messages_of(question)
            frame = frames[key] = frames.get(key) or _tried(self.chat.frame, key)
            if isinstance(frame, ValueError):
                raise frame
            return self.chat.conversation(question, answer, frame)

        conversations = [_tried(conversation, *request) for request in requests]
        texts = (text for held in conversations if isinstance(held, Conversation) for text in (held.text, held.prompt))
        distinct = list(dict.fromkeys(texts))
        encodings = self.tokenizer.encode_batch(distinct, add_special_tokens=False)
        by_text = dict(zip(distinct, encodings, strict=True))
        return [
            held if isinstance(held, ValueError) else _tried(self._turn, held, by_text[held.text], by_text[held.prompt])
            for held in conversations
        ]

    def _turn(self, conversation: Conversation, whole: Encoding, beginning: Encoding) -> Encoded:
        ids, prompt = whole.ids, self._check(beginning.ids)
        if ids[: len(prompt)] != prompt:
            joint = next((id_ for id_, other in zip(ids, prompt, strict=False) if id_ != other), ids[-1])
            raise conversation.refusal(self.tokenizer.id_to_token(joint))
        ends = (
            place + 1
            for place, id_ in enumerate(ids)
            if id_ in self._marks and (whole.token_to_chars(place) or (0, 0))[1] > conversation.end
        )
        return _checked(prompt, self._check(ids[len(prompt) : next(ends, len(ids))]))

    def _continuation(self, prompt: str, completion: str) -> list[int]:
        """The ids of a text behind another text, without a token across the boundary.

        Some tokenizers put a blank in front of every text. So the completion is tokenised behind the prompt, or, where
        the two would share a token, behind another text.
        """
        for before in (prompt, "\n", "."):
            ids, both = self._ids(before), self._ids(before + completion)
            if both[: len(ids)] == ids and len(both) > len(ids):
                return both[len(ids) :]
        return self._ids(completion)

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


def _tried(function: Callable[..., _T], *values: object) -> _T | ValueError:
    """The value of a function, or its error."""
    try:
        return function(*values)
    except ValueError as error:
        return error


def _checked(prompt: list[int], completion: list[int]) -> Encoded:
    if not prompt or not completion:
        raise ValueError("prompt and completion must each have at least one token; without one nothing is predicted")
    return Encoded(prompt, completion)


def _content(token: object) -> object:
    return token.get("content") if isinstance(token, dict) else token


def _specials(config: Mapping[str, object]) -> dict[str, str]:
    """The texts of the tokens that a configuration names."""
    extra = config.get("extra_special_tokens")
    by_name = {name: token for name, token in config.items() if name.endswith("_token")}
    texts = {name: _content(token) for name, token in (by_name | (extra if isinstance(extra, dict) else {})).items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _add_tokens(tokenizer: Tokenizer, config: Mapping[str, object], specials: Mapping[str, str]) -> None:
    """Adds the tokens that only the configuration names, in the order of `transformers`."""
    listed = config.get("added_tokens_decoder") or {}
    if not isinstance(listed, dict) or not all(id_.isdecimal() for id_ in listed):
        raise ValueError("tokenizer_config.json: added_tokens_decoder must give tokens by their ids")
    others = (config.get(name) for name in ("additional_special_tokens", "extra_special_tokens"))
    tokens = [*(listed[id_] for id_ in sorted(listed, key=int)), *specials.values()]
    tokens += [token for several in others if isinstance(several, list) for token in several]
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for token in tokens:
        text = _content(token)
        if isinstance(text, str) and text and text not in known:
            flags = {name: token[name] is True for name in _FLAGS if name in token} if isinstance(token, dict) else {}
            tokenizer.add_tokens([AddedToken(text, **({"special": True} | flags))])
            known.add(text)


def _template(folder: Path, config: Mapping[str, object]) -> str | None:
    """The chat template in its own file or the configuration; of several the default."""
    separate = folder / "chat_template.jinja"
    template = separate.read_text(encoding="utf-8") if separate.is_file() else config.get("chat_template")
    if isinstance(template, list):
        entries = [entry for entry in template if isinstance(entry, dict)]
        template = next((entry.get("template") for entry in entries if entry.get("name") == "default"), None)
    elif isinstance(template, dict):
        template = template.get("default")
    if template is not None and not isinstance(template, str):
        raise ValueError(f"{folder}: chat_template must be a text; got {type(template).__name__}.")
    return template


def _stops(folder: Path, tokenizer: Tokenizer, configs: Sequence[Mapping[str, object]]) -> list[int]:
    """The ids for the end of a text in several configurations."""
    named = [config.get("eos_token_id") for config in configs]
    stops = [id_ for ids in named if ids is not None for id_ in (ids if isinstance(ids, list) else [ids])]
    known = set(tokenizer.get_vocab(with_added_tokens=True).values())  # some tokenizers have gaps
    good = [stop for stop in stops if type(stop) is int and stop in known]
    if len(good) != len(stops):
        raise ValueError(f"{folder}: eos_token_id must be ids of the tokenizer; got {stops}.")
    return good


def load(folder: Path) -> TextCodec:
    """The tokenizer of a model's folder, with its chat template and the ids that end a text.

    The names of special tokens are read as `transformers` reads them: special_tokens_map.json is read only where
    tokenizer_config.json does not list the added tokens.

    Raises:
        FileNotFoundError: If there is no tokenizer.json.
        ValueError: If a file has a wrong content.
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

    def read(name: str) -> dict[str, object]:
        return files.read_object(folder / name) if (folder / name).is_file() else {}

    config, of_model = read("tokenizer_config.json"), read("config.json")
    if "added_tokens_decoder" not in config:
        config |= read("special_tokens_map.json")
    specials = _specials(config)
    _add_tokens(tokenizer, config, specials)
    tokenizer.encode_special_tokens = config.get("split_special_tokens") is True
    size = of_model.get("vocab_size")
    codec = TextCodec(tokenizer, _template(folder, config), specials, (), size if type(size) is int else None)
    stops = _stops(folder, tokenizer, [read("generation_config.json"), of_model])
    stops += [] if codec.turn_end is None else [codec.turn_end]
    return replace(codec, stop_tokens=tuple(dict.fromkeys(stops)))


def padded_shape(texts: Iterable[Encoded], multiple: int = 32) -> tuple[int, int]:
    """The smallest multiples (t, c) that hold all texts and all completions."""
    longest = completion = 1
    for text in texts:
        longest, completion = max(longest, text.num_tokens), max(completion, len(text.completion))
    return -(-longest // multiple) * multiple, -(-completion // multiple) * multiple


def batch(
    texts: Sequence[Encoded],
    weights: Sequence[float] | None = None,
    *,
    multiple: int = 32,
    shape: tuple[int, int] | None = None,
) -> Batch:
    """A batch with one text a row, padded on the right.

    Args:
        texts: The texts.
        weights: The weight of each text; 1 by default.
        multiple: The widths are multiples of this number, so that few shapes are compiled.
        shape: The widths (t, c) of rows and completions; by default those of `padded_shape`.

    Raises:
        ValueError: If there are no texts, or one is longer than the shape.
    """
    if not texts:
        raise ValueError("texts must be at least one; got none.")
    longest, most = padded_shape(texts, multiple=1)
    t, c = shape or padded_shape(texts, multiple)
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
