"""Loading of a model onto the first device with a line of progress, for the commands."""

from pathlib import Path

from console.progress import progress
from experiments.model import pretrained
from experiments.model.llama import Architecture, Params

__all__ = ["policy"]


def policy(folder: Path) -> tuple[Params, Architecture]:
    """The parameters of a folder on the first device, float32, and their model.

    Raises:
        OSError: If a file is missing or cannot be read.
        ValueError: If the folder does not hold a model of the family.
    """
    with progress("loading", 100, "per cent") as advance:
        return pretrained.load(folder, report=lambda num_bytes, total: advance(num_bytes * 100 // total))
