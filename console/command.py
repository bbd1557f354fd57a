"""What the commands of this package share: options with suggestions, output files checked before work begins."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from console.packages import missing

__all__ = ["Parser", "nearest", "output_path", "run", "write"]


def run(main: Callable[[], int], extra: str = "") -> int:
    """Runs a command as a program does.

    Args:
        main: The command; returns its exit status.
        extra: The extra of this project that it needs; empty for none.

    Returns:
        The exit status: that of `main`; 130 where the user interrupts; 141 where the reader of a pipe has gone; 2 with
        one line on standard error where a package is not installed; 1 with one where standard output cannot be written.
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
    except ModuleNotFoundError as error:
        message = missing(error, extra)
        if message is None:
            raise
        print(message, file=sys.stderr)
        return 2
    return status


def _discard_output() -> None:
    """The interpreter flushes standard output once more when it ends: give it somewhere to flush to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint at the nearest known word, empty where none is near."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]}?" if matches else ""


class Parser(argparse.ArgumentParser):
    """An argument parser that names the nearest option for one that it does not know, and exits with 2."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """The options; an unknown one ends the program, before a missing one can."""
        given = list(sys.argv[1:] if arguments is None else arguments)
        for argument in given:
            name = argument.partition("=")[0]
            if name.startswith("--") and name != "--" and name not in self._option_string_actions:
                self.error(f"no such option: {name}.{nearest(name, self._option_string_actions)}")
        return self.parse_args(given)

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit status 2 and one line."""
        if message.endswith("expected one argument"):
            message += ". Write the value behind an equals sign where it begins with a dash (--schedule=-+)."
        self.exit(2, f"{self.prog}: {message}\n")


def output_path(value: str) -> Path:
    """A path that a result is to be written to, checked now rather than after the work; `-` is standard output.

    Raises:
        argparse.ArgumentTypeError: If the folder does not exist, cannot be written to, or the path is a folder.
    """
    path = Path(value)
    if value == "-":
        return path
    try:
        if not value:
            raise argparse.ArgumentTypeError("must name a file; got nothing.")
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"must be a file; got the folder {value}.")
        target = path.resolve()
        if not target.parent.is_dir():
            raise argparse.ArgumentTypeError(
                f"must lie in a folder that exists; got {value}. Create {target.parent.name} first."
            )
        is_writable = os.access(target, os.W_OK) if target.exists() else os.access(target.parent, os.W_OK)
        if not is_writable or (target.is_file() and not os.access(target.parent, os.W_OK)):
            raise argparse.ArgumentTypeError(f"must be writable; got {value}.")
    except (OSError, RuntimeError) as error:  # a name that is too long, a link that leads to itself
        raise argparse.ArgumentTypeError(f"must be a path that can be written to; got {value[:60]}: {error}") from None
    return path


def write(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all, text in UTF-8, keeping links and permissions; `-` is standard output.

    A device or a pipe is written to as it is: there is no whole to replace.

    Raises:
        OSError: If it cannot be written; what was in a file stays.
    """
    data = content.encode() if isinstance(content, str) else content  # whatever the terminal's encoding is
    if str(path) == "-":
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            sys.stdout.write(data.decode())
        return
    target = path.resolve()
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            file.write(data)
        return
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
