"""Where problems come from, as the commands name it: a folder, the hub, or made up."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from experiments.data import gsm8k, word_problems
from experiments.data.gsm8k import Problem, Split

__all__ = ["GENERATED", "HUB", "Split", "count", "problems"]

GENERATED = "generated"
HUB = "hub"
_NUM_GENERATED: dict[Split, int] = {"train": 7473, "test": 1319}  # as many as GSM8K has


def problems(
    source: str, split: Split, *, limit: int | None = None, seed: int = 0, skipped: list[str] | None = None
) -> Iterator[Problem]:
    """The problems of a split, one at a time.

    Args:
        source: The path of a folder of JSONL files, "hub" for openai/gsm8k through Hugging Face `datasets`, or
            "generated".
        split: Train or test.
        limit: Only the first ones.
        seed: Of generated problems.
        skipped: Where given, broken lines are described there and passed over.

    Raises:
        ValueError: At a broken line, or if `limit` is more than can be generated.
        FileNotFoundError: If the folder has no such file.
        ModuleNotFoundError: If `datasets` is needed and not installed.
    """
    if source == GENERATED:
        return word_problems.generate(limit or _NUM_GENERATED[split], seed=seed, split=split)
    made = gsm8k.from_hub(split) if source == HUB else gsm8k.from_folder(Path(source), split, skipped)
    return islice(made, limit)


def count(source: str, split: Split) -> int:
    """How many problems a split has.

    Raises:
        FileNotFoundError: If the folder has no such file.
    """
    if source in (GENERATED, HUB):
        return _NUM_GENERATED[split]
    return sum(1 for _ in gsm8k.from_folder(Path(source), split))
