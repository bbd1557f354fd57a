"""A chat template, and the place of an answer in the conversation that it renders. Knows no token.

A template is a foreign program. Many do not begin a conversation with the text that asks for its answer, so this
module assumes nothing. The conversation is the rendering of a question and an answer. The place of the answer comes
from a rendering with a mark in place of the answer. A template that does not fit is refused.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple, NoReturn

from jinja2 import Template, TemplateError, UndefinedError
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["ChatTemplate", "Conversation", "Frame", "Message", "Question", "messages_of"]

_REMEDY = "Do without the template: --no-chat, or is_chat = false in the configuration of a run."


def _rest(text: str, other: str) -> str:
    """The rest of a text from the first character in which another text differs, shortened."""
    same = next((place for place, pair in enumerate(zip(text, other, strict=False)) if len(set(pair)) > 1), None)
    rest = text[min(len(text), len(other)) if same is None else same :]
    return repr(rest if len(rest) <= 40 else rest[:40] + "...")


class Message(NamedTuple):
    """A message of a conversation."""

    role: str
    content: str


Question = str | Sequence[Message]
"""The part of a conversation before the answer: the user's message alone, or all messages."""


def messages_of(question: Question) -> tuple[Message, ...]:
    """The messages before the answer."""
    return (Message("user", question),) if isinstance(question, str) else tuple(question)


class Frame(NamedTuple):
    """The texts around any answer to a question.

    Attributes:
        before: The text before an answer.
        after: The text behind an answer; it ends the turn.
        prompt: The text that an answer continues, as in `ChatTemplate.prompt`.
    """

    before: str
    after: str
    prompt: str


class Conversation(NamedTuple):
    """A question and its answer, as the template renders them.

    Attributes:
        text: The whole text.
        prompt: The beginning of the text; the answer continues it.
        end: The character of the text at which the answer ends and the end of the turn begins.
    """

    text: str
    prompt: str
    end: int

    def refusal(self, token: str | None) -> ValueError:
        """The error for a prompt whose tokens are not the first tokens of the text.

        Args:
            token: The first token in which the two differ.
        """
        if self.text.startswith(self.prompt):
            answer = self.text[len(self.prompt) : self.end]
            return ValueError(
                "the answer must begin with a token of its own; here the end of the chat template's prompt, "
                f"{self.prompt[-12:]!r}, and the beginning of the answer, {answer[:12]!r}, are one token, {token!r}. "
                f"Take the blanks off the beginning of the answer. Or: {_REMEDY}"
            )
        return ValueError(
            "the chat template must ask for an answer with the text that stands before it in a conversation; its "
            f"generation prompt has {_rest(self.prompt, self.text)}, the conversation {_rest(self.text, self.prompt)}. "
            f"{_REMEDY}"
        )


class _Generation(Extension):
    """The block {% generation %} around an answer in some templates; it renders its body, in a scope of its own."""

    tags = {"generation"}  # noqa: RUF012  # as the base class declares it

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _today(form: str) -> str:
    return datetime.now().strftime(form)


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template.

    Attributes:
        source: The program in Jinja.
        specials: The texts of the special tokens that the program may name: bos_token, eos_token, ...
    """

    source: str
    specials: Mapping[str, str]

    @cached_property
    def _program(self) -> Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        return environment.from_string(self.source)

    def render(self, question: Question, answer: str | None = None) -> str:
        """The text of a question with the generation prompt, or of a question and its answer.

        A template with a default date writes its default: a log-probability must not depend on the day. A template
        without a default gets today's date.

        Raises:
            ValueError: If the template fails, or leaves out a message.
        """
        before = messages_of(question)
        conversation = before if answer is None else (*before, Message("assistant", answer))
        messages = [message._asdict() for message in conversation]
        values = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": answer is None}
        try:
            try:
                text = self._program.render(self.specials, **values)
            except UndefinedError:
                text = self._program.render(self.specials, **values, strftime_now=_today)
        except Exception as error:  # noqa: BLE001  # a foreign program may fail in any way
            says = (str(error).strip().splitlines() or [type(error).__name__])[0].removesuffix(".")
            raise ValueError(
                f"the chat template must accept a question and an answer; it says: {says}. {_REMEDY}"
            ) from None
        if any(message.content.strip() not in text for message in before):
            raise ValueError(f"the chat template must repeat the question; it leaves it out. {_REMEDY}")
        return text

    def frame(self, question: Question) -> Frame:
        """The texts around any answer to a question.

        Raises:
            ValueError: If the template fails, leaves out the question, or does not hold an answer once.
        """
        texts = "".join(message.content for message in messages_of(question))
        mark = next(mark for mark in map(chr, range(0xE000, 0xF900)) if mark not in texts)  # of private use
        parts = self.render(question, mark).split(mark)
        if len(parts) != 2:  # before and behind
            count = f"holds it {len(parts) - 1} times" if len(parts) > 1 else "leaves it out"
            raise ValueError(f"the chat template must hold the answer once; it {count}. {_REMEDY}")
        before, after = parts
        request = self.render(question)
        prompt = max(request, before.rstrip(" "), key=len) if before.startswith(request) else request
        return Frame(before, after, prompt)

    def prompt(self, question: Question) -> str:
        """The text that an answer continues: the part of a conversation before the answer.

        A template without a generation prompt gets this part as its prompt. A blank in front of the answer belongs to
        the answer, for tokens begin with their blank, unless the generation prompt ends with the blank. Where the
        conversation does not begin with the generation prompt, the prompt is the generation prompt, and
        `Conversation.refusal` is the error of a caller who needs the conversation.

        Raises:
            ValueError: If the template fails, leaves out the question, or does not hold an answer once.
        """
        return self.frame(question).prompt

    def after(self) -> str:
        """The text behind an answer; it ends the turn.

        Raises:
            ValueError: As `prompt`.
        """
        return self.frame("x").after

    def conversation(self, question: Question, answer: str, frame: Frame | None = None) -> Conversation:
        """A question and its answer, with the place of the answer.

        Args:
            question: The question.
            answer: The answer.
            frame: The frame of the question, where several answers share it.

        Raises:
            ValueError: If the template fails, or changes the answer by more than blanks at its ends.
        """
        before, after, prompt = frame or self.frame(question)
        text = self.render(question, answer)
        end = len(text) - len(after)
        inside = text[len(before) : end]
        if text != before + inside + after or inside.strip() != answer.strip():
            expected = before + answer + after
            raise ValueError(
                "the chat template must repeat the answer as it is, between the same texts; it has "
                f"{_rest(text, expected)} for {_rest(expected, text)}. {_REMEDY}"
            )
        return Conversation(text, prompt, end)
