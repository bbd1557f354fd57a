"""What the commands of this package share: options with suggestions, output files checked before work begins."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

__all__ = ["Parser", "nearest", "output_path", "run", "write"]


def run(main: Callable[[], int]) -> int:
    """Runs a command as a program does: quiet where the reader of a pipe has gone, 130 where the user interrupts."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return status


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
        self.exit(2, f"{self.prog}: {message}\n")


def output_path(value: str) -> Path:
    """A path that a result is to be written to, checked now rather than after the work.

    Raises:
        argparse.ArgumentTypeError: If the folder does not exist, cannot be written to, or the path is a folder.
    """
    path = Path(value)
    if value == "-":
        return path
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file; got the folder {value}.")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"must lie in a folder that exists; got {value}. Create {path.parent} first.")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise argparse.ArgumentTypeError(f"must be writable; got {value}.")
    return path


def write(path: Path, text: str) -> None:
    """Writes a file whole or not at all; `-` is standard output.

    Raises:
        OSError: If it cannot be written; what was there stays.
    """
    if str(path) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
