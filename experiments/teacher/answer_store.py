"""Answers that were paid for, kept in one append-only file, so that nobody pays for them again.

A line holds a request and its reply with the SHA-256 of each; that of the request is its key. A line is on the disk
before its reply is used. Nothing here knows what is asked, of whom, or what a good reply is.

A key promises that the same was asked: the same words and parameters, of the same name at the same address. It does not
promise that the same answer would come again. Another model may stand behind a name, and a server's rounding depends on
what it computes at the same time and on what it has computed before. The cache holds the answer that was paid for.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

__all__ = ["BrokenCacheError", "Cache", "CacheInUseError", "key", "opened"]


class CacheInUseError(RuntimeError):
    """Another process writes to the cache."""


class BrokenCacheError(ValueError):
    """A whole line of the file is no line of a cache; the message names the file and the number of the line."""


def key(content: Mapping[str, object]) -> str:
    """The SHA-256, in hexadecimal, of an object of JSON values, whatever the order of its names."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class Cache:
    """Replies by request. Made by `opened`.

    Attributes:
        num_bytes_cut: The length of the torn line that was cut off the end when the file was opened; 0 where none was.
    """

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file = file
        data = file.readall()
        *lines, rest = data.split(b"\n")
        self._replies = dict(_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1))
        self.num_bytes_cut = 0
        if rest:
            try:
                name, reply = _entry(rest, "the last line")
            except BrokenCacheError:
                self.num_bytes_cut = len(rest)
                _cut(file, len(data) - len(rest))
            else:  # only the end of the line is missing: the reply was paid for, and is all there
                self._replies[name] = reply
                _append(file, b"\n")

    def __len__(self) -> int:
        return len(self._replies)

    def reply(self, request: Mapping[str, object]) -> Mapping[str, object] | None:
        """The reply to a request; None where there is none yet."""
        return self._replies.get(key(request))

    def add(self, request: Mapping[str, object], reply: Mapping[str, object]) -> None:
        """Keeps a reply. It is on the disk when this returns.

        Raises:
            OSError: If it cannot be written; the file is then as it was before.
        """
        name = key(request)
        line = json.dumps({"key": name, "check": key(reply), "request": request, "reply": reply}, allow_nan=False)
        _append(self._file, line.encode("ascii") + b"\n")
        self._replies[name] = reply


def _entry(line: bytes, place: str) -> tuple[str, Mapping[str, object]]:
    try:
        entry = json.loads(line)
        request, reply = entry["request"], entry["reply"]
        if isinstance(request, dict) and isinstance(reply, dict):
            name = key(request)
            if (entry["key"], entry["check"]) == (name, key(reply)):
                return name, reply
    except (ValueError, LookupError, TypeError, RecursionError):
        pass  # what is no JSON and what has no such parts is refused like what has the wrong hash
    raise BrokenCacheError(f"{place}: must hold a request, its reply and the hashes of both. Remove it.")


def _append(file: FileIO, data: bytes) -> None:
    before = file.seek(0, os.SEEK_END)
    try:
        left = memoryview(data)
        while left:  # a disk that is nearly full takes a part
            left = left[file.write(left) or 0 :]
        os.fsync(file.fileno())
    except OSError:
        _cut(file, before)  # or the next line would be glued to half a line
        raise


def _cut(file: FileIO, size: int) -> None:
    file.truncate(size)
    os.fsync(file.fileno())


@contextmanager
def opened(path: Path) -> Iterator[Cache]:
    """The cache in a file, created where there is none; nobody else writes to it until it is closed.

    A last line that is torn, because its writer was killed, is cut off; `num_bytes_cut` says so.

    Raises:
        CacheInUseError: If another process has it open.
        BrokenCacheError: If another line than the last is broken.
        OSError: If the file cannot be read or written.
    """
    try:
        import fcntl  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ModuleNotFoundError("A cache needs the file locks of Linux or macOS: `fcntl` is not there.") from None
    is_new = not path.exists()
    # Unbuffered: what is not written must not lie in wait for the next write.
    with path.open("ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CacheInUseError(
                f"{path} must have one writer; another process has it open. Wait for it, or give another --cache."
            ) from None
        if is_new:
            folder = os.open(path.resolve().parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the name of a new file is its folder's content
            finally:
                os.close(folder)
        file.seek(0)
        yield Cache(file, path)
