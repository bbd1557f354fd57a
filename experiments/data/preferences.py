"""Preference data: a preferred and a dispreferred answer a row, in the layouts that trainers read.

    question, preferred, dispreferred     the project's own pair lines
    prompt, chosen, rejected              TRL's preference format, of texts or of messages
    chosen, rejected                      the same with an implicit prompt: their common beginning
    prompt, completion, label             TRL's unpaired format: the k-th good answer is paired with the k-th bad one

Rows come one at a time, so that a file may be larger than memory. Nothing here knows tokens or a model.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from console.words import nearest
from experiments import files
from experiments.data.chat import Message, Question
from experiments.files import BrokenLineError

__all__ = ["HUB", "Answer", "Preference", "columns", "count", "is_held_out", "is_source", "preferences"]


_OWN = ("question", "preferred", "dispreferred")
_UNPAIRED = ("prompt", "completion", "label")
_LAYOUTS = (_OWN, ("prompt", "chosen", "rejected"), ("chosen", "rejected"), _UNPAIRED)
_COLUMNS = tuple(dict.fromkeys(name for layout in _LAYOUTS for name in layout))


Row = Mapping[str, object]
HUB = "hub:"


class Answer(NamedTuple):
    """An answer and its prompt."""

    prompt: Question
    text: str


class Preference(NamedTuple):
    """A preferred and a dispreferred answer. Their prompts differ where the data are unpaired.

    Attributes:
        id: The column `id` of the own layout, or the number of the row; of unpaired rows, that of the later one.
        preferred: The preferred answer.
        dispreferred: The dispreferred answer.
    """

    id: str
    preferred: Answer
    dispreferred: Answer


class _LeftOut(Exception):  # noqa: N818  # no error: a row that is left out, with the reason
    """The reason why a row is left out."""


def columns(text: str) -> dict[str, str]:
    """The names of a file's columns by those of a layout, out of "chosen=good,rejected=bad".

    Raises:
        ValueError: If a name is not one of a layout, comes twice, or has no value.
    """
    names: dict[str, str] = {}
    for item in filter(None, text.split(",")):
        name, _, own = (part.strip() for part in item.partition("="))
        if name not in _COLUMNS:
            raise ValueError(f"columns must map {', '.join(_COLUMNS)}; got {name[:60]!r}.{nearest(name, _COLUMNS)}")
        if not own or name in names:
            raise ValueError(f"columns must give {name} one column of the file; got {text[:60]!r}.")
        names[name] = own
    return names


def is_source(name: str) -> bool:
    """Whether a name is that of preference data: a file .jsonl, .json (one object a line too) or .parquet; hub:NAME."""
    return name.startswith(HUB) or Path(name).suffix in (".jsonl", ".json", ".parquet")


def count(source: str) -> int | None:
    """The number of rows, for the display of progress; None where nothing says it, as on the hub.

    Raises:
        OSError: If the file cannot be read.
    """
    path = Path(source)
    if source.startswith(HUB):
        return None
    if path.suffix == ".parquet":
        return _parquet_file(path).metadata.num_rows
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def is_held_out(identifier: str, share: float, seed: int) -> bool:
    """Whether a row belongs to the held-out part, by a hash of its `Preference.id`.

    The `id` of the own layout is independent of the other rows; elsewhere it is the row's number, and a row that is put
    in front of others may move them.
    """
    number = int.from_bytes(sha256(f"{seed} {identifier}".encode()).digest()[:8])
    return number < share * 2**64


def preferences(
    source: str,
    *,
    own_columns: Mapping[str, str] | None = None,
    left_out: Counter[str],
) -> Iterator[Preference]:
    """The preferences of a source, one at a time.

    Args:
        source: A file .jsonl, .json or .parquet, or hub:NAME, the train split of a data set on the hub.
        own_columns: Names of the source's columns, by those of a layout.
        left_out: The number of rows that are left out, by reason; it grows as rows are read.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the columns are those of no layout; at a broken row, which the message names.
        ModuleNotFoundError: If pyarrow or `datasets` is needed and not installed.
    """
    own = {name: (own_columns or {}).get(name, name) for name in _COLUMNS}
    layout: tuple[str, ...] = ()
    waiting: tuple[deque[Answer], deque[Answer]] = deque(), deque()  # bad and good answers of unpaired data
    for number, row in _rows(source):
        layout = layout or _layout(source, row, own)
        try:
            values = _values(row, {name: own[name] for name in layout})
            if layout == _UNPAIRED:
                waiting[_label(values["label"])].append(
                    _answer(_prompt(values["prompt"]), _prompt(values["completion"]))
                )
                if all(waiting):
                    bad, good = (queue.popleft() for queue in waiting)
                    yield Preference(str(number), good, bad)
            else:
                identifier = row.get("id") if layout == _OWN else None
                yield Preference(str(number if identifier is None else identifier), *_answers(values))
        except _LeftOut as reason:
            left_out[str(reason)] += 1
        except ValueError as error:
            raise BrokenLineError(f"{source}, row {number}: {error}.") from None
    if num_single := len(waiting[0]) + len(waiting[1]):
        left_out["without an answer of the other label"] += num_single


# Sources --------------------------------------------------------------------------------------------------------------


def _rows(source: str) -> Iterator[tuple[int, Row]]:
    if source.startswith(HUB):
        return enumerate(_hub(source.removeprefix(HUB)), start=1)
    path = Path(source)
    if path.suffix == ".parquet":
        return enumerate(_parquet(path), start=1)
    return files.read_lines(path, lambda row, number: (number, row))


def _parquet_file(path: Path) -> Any:  # noqa: ANN401  # of an optional package without types
    try:
        from pyarrow import ArrowInvalid, parquet  # pyright: ignore[reportMissingImports]  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} needs pyarrow, which is not installed. Run: python -m pip install pyarrow"
        ) from error
    try:
        return parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} must be a Parquet file: {str(error).splitlines()[0]}") from None


def _parquet(path: Path) -> Iterator[Row]:
    with _parquet_file(path) as file:
        for batch in file.iter_batches(batch_size=1024):  # rows: some megabytes of text
            yield from batch.to_pylist()


def _hub(name: str) -> Iterator[Row]:
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} is no file; a data set on the hub needs `datasets`, which is not installed. Run: "
            "python -m pip install datasets"
        ) from error
    yield from load_dataset(name, split="train", streaming=True)


# Rows -----------------------------------------------------------------------------------------------------------------


def _layout(source: str, row: Row, own: Mapping[str, str]) -> tuple[str, ...]:
    for layout in _LAYOUTS:
        if all(own[name] in row for name in layout):
            return layout
    layouts = "; ".join(", ".join(layout) for layout in _LAYOUTS)
    raise ValueError(
        f"{source} must have the columns of one of these layouts: {layouts}. It has {', '.join(map(str, row))[:200]}. "
        "Map them with --columns, such as chosen=NAME,rejected=NAME."
    )


def _values(row: Row, own: Mapping[str, str]) -> dict[str, object]:
    if missing := [column for column in own.values() if row.get(column) is None]:
        raise ValueError(f"must have a value of {' and '.join(missing)}")
    return {name: row[column] for name, column in own.items()}


def _label(value: object) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise ValueError(f"label must be true or false; got {str(value)[:40]!r}")


def _answers(values: Mapping[str, object]) -> tuple[Answer, Answer]:
    """The two answers of a row of pairs.

    Conversations that hold the question have it as their common beginning, also where a text of it stands beside them,
    as in UltraFeedback's binarised files (TRL 1.16 reads them alike).
    """
    *prompts, good, bad = (_prompt(value) for value in values.values())  # in the order of every layout
    if good == bad:
        raise _LeftOut("equal answers")
    is_whole = all(isinstance(held, tuple) and held and held[0].role != "assistant" for held in (good, bad))
    if not prompts or (is_whole and isinstance(prompts[0], str)):
        prompt, good, bad = _common(good, bad)
    else:
        prompt = prompts[0]
    return _answer(prompt, good), _answer(prompt, bad)


def _common(good: Question, bad: Question) -> tuple[Question, Question, Question]:
    """The implicit prompt, and what is left of both.

    A text is cut at the end of a word: "is 41" and "is 42" share "is", not the 4.
    """
    size = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(good, bad, strict=False)))
    if isinstance(good, str) and isinstance(bad, str):
        is_within_word = any(text[size : size + 1].strip() for text in (good, bad))
        size = len(re.sub(r"\s*\S*$", "", good[:size]) if is_within_word else good[:size].rstrip())
    return good[:size], good[size:], bad[size:]


def _prompt(value: object) -> Question:
    """A prompt or an answer: a text, or messages.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"a prompt or an answer must be a text or messages; got {type(value).__name__}")
    return tuple(map(_message, value))


def _message(value: object) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise ValueError("a message must be an object with role and content")
    content = value.get("content")
    if isinstance(content, list):  # parts, as models that see images read them
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise ValueError("a message must have parts of text alone")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise ValueError("a message must have a text as content")
    return Message(value["role"], content)


def _answer(prompt: Question, held: Question) -> Answer:
    """An answer to a prompt: a text to a text, one message of the assistant to messages.

    A text that answers messages, or a message that answers a text, is read as the other kind: both occur.
    """
    if isinstance(held, str):
        text = held
    else:
        if len(held) > 1:
            raise _LeftOut("an answer of several messages")
        if any(message.role != "assistant" for message in held):
            raise _LeftOut("an answer that is not the assistant's")
        text = "".join(message.content for message in held)
        prompt = (Message("user", prompt),) if isinstance(prompt, str) and prompt.strip() else prompt
    if not text.strip():
        raise _LeftOut("empty answer")
    if not prompt or (isinstance(prompt, str) and not prompt.strip()):
        raise _LeftOut("no prompt")
    return Answer(prompt, text)
