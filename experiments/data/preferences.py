"""Preference data: a preferred and a dispreferred answer a row, in the layouts that trainers read.

    question, preferred, dispreferred     the project's own pair lines
    prompt, chosen, rejected              TRL's preference format, of texts or of messages
    chosen, rejected                      the same with an implicit prompt: their common beginning
    prompt, completion, label             TRL's unpaired format: the k-th good answer is paired with the k-th bad one

Rows come one at a time, so that a file may be larger than memory. Nothing here knows tokens or a model.
"""

import re
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from console.values import input_file
from console.words import nearest
from experiments import files
from experiments.data import parquet_files
from experiments.data.chat import Message, Question
from experiments.files import BrokenLineError

__all__ = [
    "HUB",
    "Answer",
    "Preference",
    "broken",
    "columns",
    "count",
    "is_held_out",
    "is_source",
    "preferences",
    "require_source",
]


_OWN = ("question", "preferred", "dispreferred")
_UNPAIRED = ("prompt", "completion", "label")
_LAYOUTS = (_OWN, ("prompt", "chosen", "rejected"), ("chosen", "rejected"), _UNPAIRED)
_COLUMNS = tuple(dict.fromkeys(name for layout in _LAYOUTS for name in layout))


Row = Mapping[str, object]
HUB = "hub:"
_SKIP = " Skip such rows with --skip-broken."


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


def require_source(option: str, name: str) -> None:
    """Checks that the value of an option is the name of a data set on the hub, or of a file that can be read.

    Raises:
        ValueError: If it is neither.
    """
    if not is_source(name):
        raise ValueError(f"{option} must be a file .jsonl or .parquet, or hub:NAME; got {name[:60]}.")
    if not name.startswith(HUB):
        try:
            input_file(name)
        except ValueError as error:
            raise ValueError(f"{option} {error}") from None


def count(source: str) -> int | None:
    """The number of rows, for the display of progress; None where nothing says it, as on the hub.

    Raises:
        OSError: If the file cannot be read.
    """
    path = Path(source)
    if source.startswith(HUB):
        return None
    if _is_parquet(source):
        return parquet_files.count(path)
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def is_held_out(identifier: str, share: float, seed: int) -> bool:
    """Whether a row belongs to the held-out part, by a hash of its `Preference.id`.

    The `id` of the own layout is independent of the other rows; elsewhere it is the row's number, and a row that is put
    in front of others may move them.
    """
    number = int.from_bytes(sha256(f"{seed} {identifier}".encode()).digest()[:8])
    return number < share * 2**64


def broken(fault: str) -> str:
    """The reason why a row is left out that cannot be read: the fault without its details."""
    return f"broken: {re.split('[:;]| in position', fault)[0].removesuffix('.')}"


def preferences(
    source: str,
    *,
    own_columns: Mapping[str, str] | None = None,
    left_out: Counter[str],
    skip_broken: bool = False,
) -> Iterator[Preference]:
    """The preferences of a source, one at a time.

    Args:
        source: A file .jsonl, .json or .parquet, or hub:NAME, the train split of a data set on the hub.
        own_columns: Names of the source's columns, by those of a layout.
        left_out: The number of rows that are left out, by reason; it grows as rows are read.
        skip_broken: Whether a broken row is left out.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the columns are those of no layout, or there are no rows; at a broken row, unless `skip_broken`.
            The message names file, row and fault.
        ModuleNotFoundError: If pyarrow or `datasets` is needed and not installed.
    """
    own = {name: (own_columns or {}).get(name, name) for name in _COLUMNS}
    layout: tuple[str, ...] = ()
    waiting: tuple[deque[Answer], deque[Answer]] = deque(), deque()  # bad and good answers of unpaired data
    fault: ValueError | None = None
    kind = "row" if source.startswith(HUB) or _is_parquet(source) else "line"
    for number, row in _rows(source, own, left_out if skip_broken else None):
        try:
            layout = layout or _layout(source, row, own)
        except ValueError as error:
            if not skip_broken:
                raise
            fault = fault or error
            left_out[broken("must have the columns of a layout")] += 1
            continue
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
            if not skip_broken:
                raise BrokenLineError(f"{source}, {kind} {number}: {error}.{_SKIP}") from None
            left_out[broken(str(error))] += 1
    if not layout:
        raise fault or ValueError(f"{source} must have a row that can be read; it has none.")
    if num_single := len(waiting[0]) + len(waiting[1]):
        left_out["without an answer of the other label"] += num_single


# Sources --------------------------------------------------------------------------------------------------------------


def _is_parquet(source: str) -> bool:
    return Path(source).suffix == ".parquet"


def _rows(source: str, own: Mapping[str, str], left_out: Counter[str] | None) -> Iterator[tuple[int, Row]]:
    """The rows with their numbers; lines that are none are counted, or an error where there is no counter."""
    if source.startswith(HUB):
        return enumerate(_hub(source.removeprefix(HUB)), start=1)
    if _is_parquet(source):
        return enumerate(_parquet(source, own), start=1)
    return _lines(Path(source), left_out)


def _lines(path: Path, left_out: Counter[str] | None) -> Iterator[tuple[int, Row]]:
    with path.open("rb") as file:
        if file.read(1) == b"[":
            raise ValueError(
                f"{path} must hold one JSON object a line; it begins with a list. Convert it: "
                f"jq -c '.[]' {path.name} > {path.stem}.jsonl"
            )
    skipped: list[str] = []
    try:
        for row in files.read_lines(path, lambda row, number: (number, row), None if left_out is None else skipped):
            yield row
            _count(skipped, path, left_out)
    except BrokenLineError as error:
        raise BrokenLineError(f"{error}{_SKIP}") from None
    _count(skipped, path, left_out)


def _count(skipped: list[str], path: Path, left_out: Counter[str] | None) -> None:
    """Counts lines that were skipped by their faults, and forgets them."""
    if left_out is not None:
        left_out.update(broken(message.removeprefix(f"{path}, line ").partition(": ")[2]) for message in skipped)
    skipped.clear()


def _parquet(source: str, own: Mapping[str, str]) -> Iterator[Row]:
    types = parquet_files.types(Path(source))
    layout = _layout(source, types, own)
    for name in layout:
        if name != "label" and (kind := types[own[name]]) is not None:
            raise ValueError(f"{source}, column {own[name]}: must hold texts or lists of messages; it holds {kind}.")
    names = [own[name] for name in layout]
    return parquet_files.rows(Path(source), [*names, "id"] if layout == _OWN and "id" in types else names)


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


def _layout(source: str, names: Collection[str], own: Mapping[str, str]) -> tuple[str, ...]:
    """The layout of a source with columns of these names."""
    has = f"It has {', '.join(map(str, names))[:200]}."
    for name, column in own.items():
        if name != column and column not in names:
            hint = nearest(column, names)
            raise ValueError(f"--columns must name columns of {source}; got {column[:60]}. {has}{hint}")
    for layout in _LAYOUTS:
        if all(own[name] in names for name in layout):
            return layout
    others = [name for name in names if name not in own.values()]
    near = {name: [column] if column in names else get_close_matches(name, others, n=1, cutoff=0.5)
            for name, column in own.items()}  # fmt: skip
    closest = max(_LAYOUTS, key=lambda layout: sum(bool(near[name]) for name in layout) / len(layout))
    example = ",".join(f"{name}={match}" for name in closest for match in near[name] if match != own[name])
    is_complete = all(near[name] for name in closest)
    remedy = f" {example}" if is_complete else f", such as {example or 'chosen=NAME,rejected=NAME'}"
    layouts = "; ".join(", ".join(layout) for layout in _LAYOUTS)
    raise ValueError(
        f"{source} must have the columns of one of these layouts: {layouts}. {has} Map them with --columns{remedy}."
    )


def _values(row: Row, own: Mapping[str, str]) -> dict[str, object]:
    if missing := [column for column in own.values() if row.get(column) is None]:
        has = "null" if missing[0] in row else f"the keys {', '.join(map(str, row))[:120] or 'none'}"
        raise ValueError(f"must have a value of {' and '.join(missing)}; got {has}")
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
        return _text(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"a prompt or an answer must be a text or messages; got {type(value).__name__}")
    return tuple(map(_message, value))


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell it, no file can hold it
        raise ValueError("a text must be without lone surrogates") from None
    return value


def _message(value: object) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        has = f"the keys {', '.join(map(str, value))[:120]}" if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"a message must be an object with role and content; got {has}")
    content = value.get("content")
    if isinstance(content, list):  # parts, as models that see images read them
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise ValueError("a message must have parts of text alone")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise ValueError("a message must have a text as content")
    return Message(_text(value["role"]), _text(content))


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
