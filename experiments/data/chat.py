"""A chat template, and where an answer lies in the conversation that it renders. Knows no token.

Templates are programs of strangers, and few keep what one expects of them: that a conversation begins with the text
that asks for the answer. Nothing is assumed here. The conversation is the text that is rendered of a question and an
answer; the place of the answer is read from a rendering with a mark for an answer; and what does not fit is refused.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple, NoReturn

from jinja2 import Template, TemplateError, UndefinedError
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["ChatTemplate", "Conversation"]

_REMEDY = "Do without the template: --no-chat, or is_chat = false in the configuration of a run."


def _rest(text: str, other: str) -> str:
    """How a text goes on where another one differs from it."""
    same = next((place for place, pair in enumerate(zip(text, other, strict=False)) if len(set(pair)) > 1), None)
    rest = text[min(len(text), len(other)) if same is None else same :]
    return repr(rest if len(rest) <= 40 else rest[:40] + "...")


class Conversation(NamedTuple):
    """A question and its answer, as the template renders them.

    Attributes:
        text: All of it.
        prompt: The beginning of the text, which the answer continues.
        end: The place in the text, in characters, where the answer ends and the end of the turn begins.
    """

    text: str
    prompt: str
    end: int

    def refusal(self, token: str | None) -> ValueError:
        """The error where the tokens of the prompt do not begin those of the text; `token` is the first other one."""
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


class _Frame(NamedTuple):
    before: str
    after: str


class _Generation(Extension):
    """The block {% generation %}, by which some templates mark an answer: its body, in a scope of its own."""

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
        source: In Jinja.
        specials: The texts of the special tokens that it may name: bos_token, eos_token, ...
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

    def render(self, question: str, answer: str | None = None) -> str:
        """The text of a question with the generation prompt behind it, or of a question and its answer.

        A template that asks whether there is a date gets none, and writes its own default: a log-probability must not
        depend on the day. One that has no default gets today's.

        Raises:
            ValueError: If the template fails, or leaves out the question.
        """
        messages = [{"role": "user", "content": question}]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        values = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": answer is None}
        try:
            try:
                text = self._program.render(self.specials, **values)
            except UndefinedError:
                text = self._program.render(self.specials, **values, strftime_now=_today)
        except Exception as error:  # noqa: BLE001  # somebody else's program may fail in any way
            says = (str(error).strip().splitlines() or [type(error).__name__])[0].removesuffix(".")
            raise ValueError(
                f"the chat template must accept a question and an answer; it says: {says}. {_REMEDY}"
            ) from None
        if question.strip() not in text:
            raise ValueError(f"the chat template must repeat the question; it leaves it out. {_REMEDY}")
        return text

    def _frame(self, question: str) -> _Frame:
        """The texts before and behind an answer to a question, whatever the answer is."""
        mark = next(mark for mark in map(chr, range(0xE000, 0xF900)) if mark not in question)  # of private use
        parts = self.render(question, mark).split(mark)
        if len(parts) != 2:  # before and behind
            count = f"holds it {len(parts) - 1} times" if len(parts) > 1 else "leaves it out"
            raise ValueError(f"the chat template must hold the answer once; it {count}. {_REMEDY}")
        return _Frame(*parts)

    def prompt(self, question: str) -> str:
        """The text that an answer continues: all that stands before it in a conversation.

        A template without a generation prompt has one here nevertheless. A blank in front of the answer is not part of
        it, unless it is of the generation prompt: tokens begin with their blank. Where the conversation does not begin
        with the generation prompt, it is the generation prompt, and whoever needs the conversation has to refuse.

        Raises:
            ValueError: If the template fails, leaves out the question, or does not hold an answer once.
        """
        return self._prompt(question, self._frame(question).before)

    def _prompt(self, question: str, before: str) -> str:
        request = self.render(question)
        return max(request, before.rstrip(" "), key=len) if before.startswith(request) else request

    def after(self) -> str:
        """The text behind an answer, which ends the turn.

        Raises:
            ValueError: As `prompt`.
        """
        return self._frame("x").after

    def conversation(self, question: str, answer: str) -> Conversation:
        """A question and its answer, and where the answer lies.

        Raises:
            ValueError: If the template fails, or changes the answer by more than blanks at its ends.
        """
        before, after = self._frame(question)
        text = self.render(question, answer)
        end = len(text) - len(after)
        inside = text[len(before) : end]
        if text != before + inside + after or inside.strip() != answer.strip():
            expected = before + answer + after
            raise ValueError(
                "the chat template must repeat the answer as it is, between the same texts; it has "
                f"{_rest(text, expected)} for {_rest(expected, text)}. {_REMEDY}"
            )
        return Conversation(text, self._prompt(question, before), end)
