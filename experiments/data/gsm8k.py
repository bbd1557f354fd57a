"""Problems with step-by-step solutions in the format of GSM8K: from a folder of JSONL files, or from the hub.

A solution is text whose arithmetic is annotated (`<<48/2=24>>24`) and whose last line is `#### N`. Nothing here knows
how the problems are used.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments import files
from experiments.data import answers
from experiments.files import BrokenLineError

__all__ = [
    "HUB_NAME",
    "NUM_PROBLEMS",
    "SPLITS",
    "BrokenLineError",
    "Problem",
    "Split",
    "final_answer",
    "from_folder",
    "from_hub",
]

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
HUB_NAME = "openai/gsm8k"
NUM_PROBLEMS: dict[Split, int] = {"train": 7473, "test": 1319}
_MOST_CHARACTERS = 20_000  # the longest solution of GSM8K has 1,300; reading one takes more than linear time


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        id: Unique within its source and stable: the split and the number of the line, from 1.
        question: The question.
        solution: A right solution, its last line `#### N`.
        gold: The final answer as the last line has it, without thousands separators.
    """

    id: str
    question: str
    solution: str
    gold: str


def final_answer(solution: str) -> str:
    """The answer on the last line of a solution, without thousands separators.

    Raises:
        ValueError: If the last line is not `#### N` with a number N.
    """
    mark, _, answer = solution.rstrip().rpartition("\n")[2].partition("####")
    text = answer.strip()
    if mark.strip() or answers.number(text) is None:
        raise ValueError(f"the last line must be '#### N' with a number; got {solution.rstrip()[-40:]!r}")
    return text.replace(",", "")


def _problem(record: object, name: str) -> Problem:
    if not isinstance(record, Mapping):
        raise ValueError(f"must be a JSON object; got {type(record).__name__}")
    for key in ("question", "answer"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise ValueError(f"must have a text {key!r}; got the keys {', '.join(map(str, record))[:120] or 'none'}")
        if len(record[key]) > _MOST_CHARACTERS:
            raise ValueError(
                f"must have a {key!r} of at most {_MOST_CHARACTERS:,} characters; got {len(record[key]):,}"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in record[key]):  # JSON can spell them, no file can hold them
            raise ValueError(f"must have a {key!r} without lone surrogates")
    solution = record["answer"].strip()
    return Problem(id=name, question=record["question"].strip(), solution=solution, gold=final_answer(solution))


def from_folder(folder: Path, split: Split, skipped: list[str] | None = None) -> Iterator[Problem]:
    """The problems of `folder/split.jsonl`, one at a time, as openai/grade-school-math lays them out.

    Args:
        folder: Where train.jsonl and test.jsonl lie.
        split: Which of the two.
        skipped: A list for descriptions of broken lines, which are then passed over; None makes them an error.

    Raises:
        FileNotFoundError: If there is no such file; the message lists what lies there instead.
        BrokenLineError: At a line that is no problem, unless `skipped` is given.
    """
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        names = sorted(entry.name for entry in folder.iterdir())[:8] if folder.is_dir() else []
        raise FileNotFoundError(
            f"{path} must exist: a folder of GSM8K holds train.jsonl and test.jsonl. "
            + (f"There is: {', '.join(names) or 'nothing'}." if folder.is_dir() else "There is no such folder.")
        )
    try:
        yield from files.read_lines(path, lambda record, number: _problem(record, f"{split}-{number}"), skipped)
    except BrokenLineError as error:
        raise BrokenLineError(f"{error} Skip such lines with --skip-broken.") from None


def from_hub(split: Split) -> Iterator[Problem]:
    """The problems of openai/gsm8k ("main"), read through Hugging Face `datasets`.

    Raises:
        ModuleNotFoundError: If `datasets` is not installed.
    """
    try:
        from datasets import load_dataset  # pyright: ignore[reportMissingImports]  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "Hugging Face `datasets` must be installed to read the hub: in the project's folder, pip install '.[hub]'. "
            "Or give a folder of JSONL files with --data, or --data generated."
        ) from None
    rows: Iterable[object] = load_dataset(HUB_NAME, "main", split=split)
    for place, record in enumerate(rows, start=1):
        try:
            yield _problem(record, f"{split}-{place}")
        except ValueError as error:
            raise BrokenLineError(f"{HUB_NAME}, {split}, row {place}: {error}.") from None
