"""The memory that a run needs on each device, reckoned from the sizes before anything is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import presets
from experiments.config import Config
from experiments.model import llama, pretrained, random_model
from experiments.model.llama import Architecture

__all__ = ["PUBLISHED", "Disk", "Need", "architecture_of", "arrays", "disk", "of_run", "show", "size"]

_COMMON = {"norm_epsilon": 1e-5, "rope_scaling": None, "context": 8192}
PUBLISHED = {
    "tiny": random_model.ARCHITECTURE,
    "smollm2": Architecture(
        vocabulary=49152, width=576, num_layers=30, num_heads=9, num_kv_heads=3, head_dim=64, mlp_width=1536,
        rope_theta=1e5, is_tied=True, **_COMMON,
    ),
    "llama3-8b": Architecture(
        vocabulary=128256, width=4096, num_layers=32, num_heads=32, num_kv_heads=8, head_dim=128, mlp_width=14336,
        rope_theta=5e5, is_tied=False, **_COMMON,
    ),
}  # fmt: skip
"""The presets' models as they are published, for a machine that has not fetched them."""

_MOMENTS = {"sgd": 0, "heavy-ball": 1, "adamw": 2, "frozen-adamw": 1}


class Need(NamedTuple):
    """One kind of array and its bytes on each device."""

    what: str
    num_bytes: int


def arrays(optimizer: str) -> dict[str, int]:
    """How many float32 arrays of the parameters' size an update holds at its peak, by what they are."""
    moments = _MOMENTS[optimizer]
    return {
        "parameters": 1,
        "parameters at the start, for the distance": 1,
        "moments": moments + (optimizer == "frozen-adamw"),
        "moments and parameters of the next state": moments + 1,
        "displacement, and parameters displaced by it": 2,
        "gradient, and the sum of gradients for g+.g-": 2,
    }


def of_run(config: Config, architecture: Architecture) -> list[Need]:
    """The memory that one device needs, by kind of array.

    Activations are reckoned from the largest arrays: what is kept for the backward pass, one layer's own, and a block
    of scores; a compiler may do better or worse by some tens of per cent.
    """
    a, shape = architecture, config.mesh
    ways, split = shape.data * shape.fsdp, shape.fsdp * shape.tensor
    count = llama.num_parameters(a)
    item = np.dtype("float32").itemsize if config.compute_dtype == "float32" else 2
    made = [Need(what, 4 * number * count // split) for what, number in arrays(config.arm.optimizer).items() if number]
    places = config.num_pairs // config.num_parts // ways * config.max_tokens
    layer = count // max(a.num_layers, 1)  # with its share of the embedding, which lies somewhere too
    wide = a.mlp_width * 3 + (a.num_heads + 2 * a.num_kv_heads) * a.head_dim * 2 + a.width * 4
    kept = {"everything": a.width, "products": a.width + wide, "nothing": 2 * (a.width + wide)}[config.remat]
    scores = places * config.max_tokens * a.num_heads // shape.tensor * (4 + item) * 2
    own = places * (2 * wide) // shape.tensor * item
    made.append(Need("activations kept for the backward pass", places * kept * a.num_layers * item))
    made.append(Need("one layer's activations and attention weights", own + scores))
    made.append(Need("scores of a block of places", 2 * 4 * max(2**23, a.vocabulary)))
    if shape.fsdp > 1:
        made.append(Need("one layer's weights, gathered", 2 * layer // shape.tensor * item))
    return made


class Disk(NamedTuple):
    """Bytes of checkpoints, of several runs made one after another.

    Attributes:
        most: While they are made.
        left: When all have finished.
    """

    most: int
    left: int


def disk(runs: Sequence[tuple[Config, Architecture]]) -> Disk:
    """The room that the checkpoints of runs take on the disk, float32.

    A run that is made holds two checkpoints at most, or as many as it keeps; a best one comes on top from two on.
    """
    most = left = 0
    for config, architecture in runs:
        moments = arrays(config.arm.optimizer)["moments"]
        one = 4 * llama.num_parameters(architecture) * (1 + moments)
        num_saved = (config.num_updates - 1) // config.checkpoint_every + (config.keep > 0)
        best = config.keep > 1
        most = max(most, left + one * min(num_saved, max(config.keep, 2) + best))
        left += one * min(num_saved, config.keep + best)
    return Disk(max(most, left), left)


def size(num_bytes: float) -> str:
    """Bytes in words, with three digits: 1.61 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def architecture_of(config: Config) -> tuple[Architecture, bool]:
    """The architecture of a configuration's model, and whether it is only the one that was published.

    Raises:
        OSError: If the model's folder cannot be read.
        ValueError: If it holds no model of the family, or is another than the preset's and not there.
    """
    folder = Path(config.model)
    if config.model == "tiny":
        return PUBLISHED["tiny"], False
    if folder.is_dir():
        return pretrained.load_architecture(folder), False
    if config.model == presets.config(config.preset).model:
        return PUBLISHED[config.preset], True
    raise ValueError(f"{config.model} must be a model's folder; there is none.")


def show(config: Config) -> None:
    """Prints the memory that each device needs, and on how many of them.

    Raises:
        OSError: If the model's folder cannot be read.
        ValueError: If it holds no model of the family, or is another than the preset's and not there.
    """
    from rich.table import Table  # noqa: PLC0415

    from console.terminal import Terminal  # noqa: PLC0415

    architecture, is_published = architecture_of(config)
    needs = of_run(config, architecture)
    shape = config.mesh
    devices = shape.data * shape.fsdp * shape.tensor
    terminal = Terminal(highlight=False, markup=False)
    terminal.print(
        f"{config.preset}: {llama.num_parameters(architecture):,} parameters"
        f"{', as published' if is_published else ''}; {config.arm.update} updates, {config.arm.optimizer}; "
        f"{config.num_pairs} pairs of up to {config.max_tokens} tokens in {config.num_parts} "
        f"part{'s' if config.num_parts > 1 else ''}; "
        f"mesh data {shape.data} x fsdp {shape.fsdp} x tensor {shape.tensor}, {devices} "
        f"device{'s' if devices > 1 else ''}",
        soft_wrap=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("on each device")
    table.add_column("GB", justify="right")
    for need in needs:
        table.add_row(need.what, f"{need.num_bytes / 1e9:.2f}")
    total = sum(need.num_bytes for need in needs)
    table.add_row("in all", f"{total / 1e9:.2f}", style="bold")
    terminal.print(table)
    for size in (80, 141):
        fits = "fits" if total < 0.92 * size * 1e9 else "does not fit"  # the runtime keeps some for itself
        terminal.print(f"{fits} on devices of {size} GB")
