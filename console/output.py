"""Files of results, whole or not at all."""

import sys
from io import TextIOWrapper
from pathlib import Path
from secrets import token_hex

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
        target.write_bytes(data)
        return
    part = target.with_name(f".{target.name[:100]}.{token_hex(8)}")
    try:
        with part.open("xb") as file:
            file.write(data)
        if target.exists():
            part.chmod(target.stat().st_mode & 0o7777)
        part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
