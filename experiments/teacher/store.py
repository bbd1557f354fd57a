"""Paid answers in one SQLite database, so that nobody pays for them again.

A row holds a request, its reply and the SHA-256 of each; that of the request is its key. A row is on the disk before
its reply is used. A key promises that the words, the parameters, the model's name and the address were the same. It
does not promise that the same answer would come again: another model may stand behind a name, and a server's rounding
depends on its other requests. The database holds the answer that was paid for.

The journal is SQLite's rollback journal. A write-ahead log commits faster (1.5 ms, not 18 ms, on one disk), but it
holds the newest answers in a second file. They are lost where the database is copied alone after a kill, and where a
bit of the log has changed: SQLite passes over the rest of the log (983 of 1,000 changed bits). In the database, SQLite
itself noticed 41 of 4,000 changed bits, and 3,031 changed the text of an answer unnoticed; the hashes notice them all.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

from experiments.files import BusyError
from experiments.teacher.replies import Reply

__all__ = ["BrokenStoreError", "Store", "key"]

_APPLICATION_ID = 0x74656163  # "teac": the mark of this program in the header of its databases
_COLUMNS = "key, request, reply, hash"
_LINE_START = b'{"key": "'  # of a cache of an earlier version
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # the last where a column is not there


class BrokenStoreError(ValueError):
    """The file is damaged, or another program's; the message names the file, and the row or the line."""


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def key(content: Mapping[str, object]) -> str:
    """The SHA-256, in hexadecimal, of an object of JSON values, whatever the order of its names."""
    return _hash(_json(content))


class Store:
    """Replies by request. Nobody else writes to the database until it is closed.

    The database of a path is the file itself where its name ends in .sqlite3. Otherwise it lies beside it, with
    .sqlite3 behind the name, or in the place of .jsonl; the file itself is then a cache of an earlier version (JSON
    lines), and is copied into the database.

    Attributes:
        path: The database.
        notes: What a user should know of the cache of an earlier version, a line each.

    Raises:
        BusyError: If another process has the database open.
        BrokenStoreError: If a file is damaged, or another program's.
        OSError: If a file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        is_database = path.suffix == ".sqlite3"
        self.path = path if is_database else path.with_name(f"{path.name.removesuffix('.jsonl')}.sqlite3")
        self.notes: list[str] = []
        self._replies: dict[str, Reply] = {}
        with self._house_errors():
            self._database = sqlite3.connect(self.path, timeout=0, isolation_level=None)
            try:
                self._load()
                if not is_database and path.exists():
                    self._copy(path)
            except BaseException:
                self.close()
                raise

    def __len__(self) -> int:
        return len(self._replies)

    def close(self) -> None:
        """Lets other processes write."""
        self._database.close()

    def reply(self, request: Mapping[str, object]) -> Reply | None:
        """The reply to a request; None where there is none yet."""
        return self._replies.get(key(request))

    def add(self, request: Mapping[str, object], reply: Reply) -> None:
        """Keeps a reply. It is on the disk when this returns.

        Raises:
            OSError: If it cannot be written; the database is then as it was before.
        """
        texts = _json(request), _json(vars(reply))
        row = _hash(texts[0]), *texts, _hash(texts[1])
        with self._house_errors():
            self._database.execute(f"INSERT INTO answers ({_COLUMNS}) VALUES (?, ?, ?, ?)", row)
        self._replies[row[0]] = reply

    def _load(self) -> None:
        run = self._database.execute
        self._database.text_factory = partial(str, encoding="utf-8", errors="replace")  # damaged text may be no text
        run("PRAGMA locking_mode = EXCLUSIVE")  # from BEGIN on until the end, however the process ends
        run("PRAGMA synchronous = FULL")
        run("BEGIN EXCLUSIVE")
        (num_tables,), (mark,) = *run("SELECT count(*) FROM sqlite_master"), *run("PRAGMA application_id")
        if not num_tables and not mark:
            run(f"PRAGMA application_id = {_APPLICATION_ID}")
            run(f"CREATE TABLE answers (id INTEGER PRIMARY KEY, {_COLUMNS.replace(',', ' TEXT,')} TEXT)")
        elif mark != _APPLICATION_ID:
            raise BrokenStoreError(f"{self.path} must be a database of answers; it is another program's.")
        run("COMMIT")
        ((problem,),) = run("PRAGMA integrity_check(1)")  # of the structure: it notices rows that are missing
        if problem != "ok":
            raise self._damage(" ".join(problem.split()))
        rows = run(f"SELECT id, {_COLUMNS} FROM answers ORDER BY id")
        for number, (row, name, request, reply, check) in enumerate(rows, start=1):
            if (row, name, check) != (number, _hash(request), _hash(reply)):
                raise self._damage(f"answer {number} has another hash")
            self._replies[name] = Reply(**json.loads(reply))

    def _copy(self, path: Path) -> None:
        """Adds the answers of a cache of an earlier version, all or none; the last to a request counts, as it did."""
        data = path.read_bytes()
        if data.startswith(b"SQLite format 3\0"):
            raise BrokenStoreError(f"{path} must have a name that ends in .sqlite3: it is a database. Rename it.")
        *lines, rest = data.split(b"\n")
        entries = dict(_entry(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1))
        try:
            entries.update([_entry(rest, f"{path}, line {len(lines) + 1}")] if rest else [])
        except BrokenStoreError:
            if not rest.startswith(_LINE_START[: len(rest)]):
                raise
            self.notes.append(f"{path}: a torn last line of {len(rest)} bytes, left by a killed run, is left out.")
        missing = [entry for name, entry in entries.items() if name not in self._replies]
        if missing:
            with self._database:
                self._database.execute("BEGIN")
                for request, reply in missing:
                    self.add(request, reply)
            self.notes.append(
                f"{path}: its {len(missing)} answers are copied into {self.path}; it is no longer needed."
            )

    def _damage(self, reason: object) -> BrokenStoreError:
        return BrokenStoreError(
            f"{self.path} must be an undamaged database of answers; {reason}. Restore it, or give another --cache."
        )

    @contextmanager
    def _house_errors(self) -> Iterator[None]:
        """SQLite's errors in the terms of the caller."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the detail
            if code == sqlite3.SQLITE_BUSY:
                rule = "must have one writer; another process has it open"
                raise BusyError(f"{self.path} {rule}. Wait for it, or give another --cache.") from None
            if code in _DAMAGE:
                raise self._damage(error) from None
            raise OSError(f"{self.path}: {error}.") from None
        except (TypeError, AttributeError):  # a value is a number, a reply has other fields
            raise self._damage("it holds other values than texts") from None


def _entry(line: bytes, place: str) -> tuple[str, tuple[Mapping[str, object], Reply]]:
    """The key, the request and the reply on a line of a cache of an earlier version."""
    try:
        entry = json.loads(line)
        name, request, reply = entry["key"], entry["request"], entry["reply"]
        if (name, entry["check"]) == (key(request), key(reply)):
            return name, (request, Reply(**reply))
    except (ValueError, LookupError, TypeError, RecursionError):
        pass  # a line that is no JSON or has no such parts is refused like a line with a wrong hash
    raise BrokenStoreError(f"{place}: must hold a request, its reply and the hashes of both. Remove it.")
