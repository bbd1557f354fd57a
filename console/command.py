"""Commands as typed functions: the signature is the table of the options; a wrong call is one line and status 2."""

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from console.packages import missing
from console.values import one_of
from console.words import must_be_one_of, nearest

try:
    from cyclopts import App, Argument, ArgumentCollection, CycloptsError, Parameter, Token
    from cyclopts import exceptions as faults
except ModuleNotFoundError as error:  # no command can be called: the same line as for a package that it needs
    print(missing(error), file=sys.stderr)
    raise SystemExit(2) from None

if TYPE_CHECKING:
    from cyclopts.help import HelpPanel
    from rich.console import Console, ConsoleOptions

__all__ = [
    "CallError",
    "FailureError",
    "application",
    "call",
    "call_errors",
    "command",
    "option",
    "option_group",
    "run",
]

_OPTION = re.compile("--[^=]+")
_DASHED = re.compile("-([^-a-zA-Z].*)?")  # no option: -, -+, -1,1
_WIDEST_COLUMN = 28  # for a longer label its meaning stands on the next line


def run(main: Callable[[], int]) -> int:
    """Runs a command as a program does.

    Returns:
        The exit status: that of `main`; 130 where the user interrupts; 141 where the reader of a pipe has gone; 1, with
        one line on standard error, where standard output cannot be written.
    """
    if sys.stdout is None:  # closed by the caller: there is nothing to say and nobody to say it to
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the glyphs gets question marks, not a traceback
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return 141
    except OSError as error:
        _discard_output()
        print(f"Could not write: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return status


def _discard_output() -> None:
    """The interpreter flushes standard output once more when it ends: give it somewhere to flush to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class CallError(Exception):
    """A call that cannot be carried out: exit status 2, and the message on standard error."""


class FailureError(Exception):
    """Work that cannot be finished: exit status 1, and the message on standard error."""


@contextmanager
def call_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turns errors of these kinds, and of the operating system, into a `CallError` with the same message.

    A reader of a pipe that has gone is no fault of the call: `run` ends the program.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, *kinds) as error:
        raise CallError(str(error)) from None


def application(name: str, epilogue: str = "") -> App:
    """An application without a command: its name, as it is typed, and the end of its help, printed as it is."""
    app = App(
        name=name,
        help_epilogue=epilogue,
        help_format="plaintext",
        help_formatter=_HelpFormatter(),
        version_flags=(),
        group_parameters="options",
        group_arguments="options",
        group_commands="commands",
        # No --no-X and --empty-X beside --X; where an option is repeated, the last value counts.
        default_parameter=Parameter(negative=(), allow_repeating=True, show_default=_default),
        exit_on_error=False,
        print_error=False,
    )
    app["--help"].show = False
    return app


def command(name: str, epilogue: str = "") -> Callable[[Callable[..., int]], App]:
    """The decorator that makes an application of a function: the signature is the table of the options."""

    def decorate(function: Callable[..., int]) -> App:
        app = application(name, epilogue)
        app.default(function)
        return app

    return decorate


def option(
    meaning: str = "",
    metavar: str | None = None,
    parse: Callable[[str], object] | None = None,
    *,
    choices: Iterable[str] | None = None,
    name: str | None = None,
    is_required: bool | None = None,
) -> Parameter:
    """An option of a command, or an argument.

    Args:
        meaning: The line in the help; choices and default are added to it.
        metavar: The word for the value in the help; None for a flag and for an argument.
        parse: The value of a text; a ValueError says the rule that the text breaks. None for the type's own conversion.
        choices: The values, if they are fewer than those of the type.
        name: The name on the command line; None for that of the parameter.
        is_required: Whether there must be one; None for what follows from the default.
    """
    read = one_of(choices) if choices else parse
    return Parameter(
        help=meaning,
        metavar=metavar,
        choices=choices,
        name=name,
        required=is_required,
        converter=read and (lambda _, tokens: read(tokens[-1].value)),
        n_tokens=read and 1,
    )


option_group = Parameter(name="*")
"""The decorator of a dataclass whose fields are options."""


def call(app: App, arguments: Sequence[str] | None = None, *, extra: str = "") -> int:
    """Runs the command of an application; returns its exit status.

    Args:
        app: The application.
        arguments: The words behind its name; None for those of the program.
        extra: The extra of this project that it needs; empty for none.

    Raises:
        SystemExit: With status 2, after one line on standard error, if the call cannot be carried out, or a package is
            not installed.
    """
    words = _joined(sys.argv[1:] if arguments is None else arguments)
    try:
        console = None
        if not {"-h", "--help"}.isdisjoint(words):
            from console.terminal import Terminal  # noqa: PLC0415

            console = Terminal()
        try:
            function, bound, _ = app.parse_args(words, console=console)
        except ValueError as error:  # of a group of options that do not go together
            raise CallError(str(error)) from None
        return function(*bound.args, **bound.kwargs) or 0  # None behind the help
    except (CallError, CycloptsError, FailureError, ImportError) as error:
        message = missing(error, extra) if isinstance(error, ImportError) else _message(error)
        if message is None:
            raise
        name = " ".join([app.name[0], *(word for word in words[:1] if word in tuple(app))])
        print(f"{name}: {message}", file=sys.stderr)
        if isinstance(error, FailureError):
            return 1
        raise SystemExit(2) from None


def _joined(words: Sequence[str]) -> list[str]:
    """The words, with an equals sign between an option and a value that begins with a dash: --schedule=-+."""
    joined: list[str] = []
    for word in words:
        if "--" not in joined and joined and _OPTION.fullmatch(joined[-1]) and _DASHED.fullmatch(word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _message(error: Exception) -> str:
    """The line for a call that the signature, or the command itself, refuses."""
    match error:
        case faults.UnknownCommandError(unused_tokens=[word, *_], app=App() as app):
            known = [command for command in app if not command.startswith("-")]
            return f"no such command: {word}.{nearest(word, known)} There are: {', '.join(known)}."
        case faults.UnknownOptionError(token=token):
            return _no_such_option(token.keyword or token.value, error.argument_collection)
        case faults.UnusedCliTokensError(unused_tokens=[word, *_]):
            return f"no such argument: {word}."
        case faults.MissingArgumentError(keyword=str(name)):
            return f"{name} must have a value. One that begins with a dash stands behind an equals sign."
        case faults.MissingArgumentError(unused_tokens=[*words], app=App() as app, argument=Argument(name=name)):
            unknown = [word for word in words if word.startswith("--") and word != "--"]
            if unknown:
                return _no_such_option(unknown[0], app.assemble_argument_collection())
            return f"{name} must be given."
        case faults.CoercionError(argument=Argument(name=name), msg=str(message)):
            return f"{name} {message}"
        case faults.CoercionError(argument=Argument(name=name) as argument, token=Token(value=value)):
            if choices := argument.get_choices():
                return f"{name} {must_be_one_of(choices, value)}"
            if argument.hint is bool:
                return f"{name} must stand alone; got {value[:60]}."
        case CallError() | FailureError():
            return str(error)
    return " ".join(str(error).split())


def _no_such_option(word: str, arguments: ArgumentCollection) -> str:
    name = word.partition("=")[0]
    return f"no such option: {name}.{nearest(name, [name for argument in arguments for name in argument.names])}"


def _default(value: object) -> str | None:
    """The default of an option in the help; None where nothing is to be said."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or None
    return f"{value:g}" if isinstance(value, float) else str(value)


class _HelpFormatter:
    """The help: usage, description, and a row for each option, in two columns."""

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: object) -> None:
        console.print(f"usage: {usage}")

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        if not panel.entries:
            return
        console.print(f"{panel.title}:")
        labels = [f"  {', '.join(entry.display_labels_with_metavar)}  " for entry in panel.entries]
        indent = min(max(map(len, labels)), _WIDEST_COLUMN)
        for label, entry in zip(labels, panel.entries, strict=True):
            default = f"(default: {entry.default})" if entry.default else ""
            parts = str(entry.description.primary_renderable), ", ".join(entry.choices or ()), default
            lines = textwrap.wrap(" ".join(filter(None, parts)), console.width - indent, break_on_hyphens=False)
            row = f"{label:<{indent}}" if len(label) <= indent else f"{label.rstrip()}\n{'':<{indent}}"
            console.print((row + f"\n{'':<{indent}}".join(lines)).rstrip(), soft_wrap=True)
