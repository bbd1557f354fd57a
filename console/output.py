"""Files of results, whole or not at all."""

import os
import sys
import tempfile
from io import TextIOWrapper
from pathlib import Path

__all__ = ["write"]


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
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{os.fsdecode(os.fsencode(target.name)[:100])}.")
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
