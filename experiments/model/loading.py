"""Loading of a model with a display of progress."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from jax.sharding import Sharding

from console.progress import progress
from experiments.model import pretrained
from experiments.model.transformer import Architecture, Params

__all__ = ["Show", "policy"]


class Show(Protocol):
    """A display of progress, as `console.progress.progress`."""

    def __call__(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Callable[..., None]]:
        """A context that yields `advance(done, note="")`."""
        ...


def policy(
    folder: Path, show: Show = progress, sharding: Callable[[str], Sharding] | None = None
) -> tuple[Params, Architecture]:
    """The parameters of a folder, float32, and their model; `sharding` as in `pretrained.load`.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If the folder does not hold a model of the family.
    """
    with show("loading", 100, "per cent") as advance:
        return pretrained.load(folder, sharding=sharding, report=lambda done, total: advance(done * 100 // total))
