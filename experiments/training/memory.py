"""The memory and the disk that a run needs, from shapes alone: nothing is loaded or allocated."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax

from experiments import presets
from experiments.config import Config
from experiments.model import objectives, parameters, pretrained
from experiments.model.published import ARCHITECTURES
from experiments.model.transformer import Architecture
from experiments.training import arm_update
from numerics.rules import at_rate

__all__ = [
    "DEVICES_GB",
    "Allocation",
    "Disk",
    "Requirements",
    "allocations",
    "architecture_of",
    "disk",
    "is_enough",
    "numbers",
    "requirements",
    "size",
]

DEVICES_GB = (80, 141)
"""The memory of an H100 and of an H200."""
_USABLE = 0.92  # of a device's memory; its runtime keeps the rest


class Allocation(NamedTuple):
    """The arrays of one purpose, and their bytes on each device."""

    purpose: str
    num_bytes: int


def numbers(config: Config, architecture: Architecture) -> dict[str, int]:
    """The float32 numbers that an update holds at its peak in arrays of the parameters' shapes, by purpose.

    The moments are those of the state that the optimizer itself would begin with.
    """
    params, count = parameters.shapes(architecture), parameters.count(architecture)
    is_frozen = config.arm.needs_second_moment

    def state(params: optax.Params) -> optax.OptState:
        rule = arm_update.optimizer(config.arm, config.rule, params if is_frozen else None, like=params)
        return at_rate(rule, config.learning_rate).init(params)

    num_sums = 1 if config.arm.is_plain else len(arm_update.kinds(config.arm))
    leaves = jax.tree.leaves(jax.eval_shape(state, params))
    moments = sum(leaf.size for leaf in leaves if leaf.ndim)  # without counters
    return {
        "parameters": count,
        "parameters at the start, for the distance": count,
        "moments": moments + count * is_frozen,  # the frozen second moment is no part of the optimizer's state
        "moments and parameters of the next state": moments + count,
        "displacement, and parameters displaced by it": 2 * count,
        "gradient, and the sum of gradients for g+.g-": (1 + num_sums) * count,
    }


def allocations(config: Config, architecture: Architecture) -> list[Allocation]:
    """The memory that one device needs, by purpose.

    Activations are estimated from the largest arrays: those kept for the backward pass, those of one layer, and a block
    of scores. A compiler may need some tens of per cent more or less.
    """
    a, shape = architecture, config.mesh
    ways, split = shape.data * shape.fsdp, shape.fsdp * shape.tensor
    item = np.dtype("float32").itemsize if config.compute_dtype == "float32" else 2
    needs = [Allocation(purpose, 4 * count // split) for purpose, count in numbers(config, a).items() if count]
    places = _rows(config) // ways * config.max_tokens
    layer = parameters.count(a) // max(a.num_layers, 1)  # with its share of the embedding
    wide = a.mlp_width * 3 + (a.num_heads + 2 * a.num_kv_heads) * a.head_dim * 2 + a.width * 4
    kept = {"everything": a.width, "products": a.width + wide, "nothing": 2 * (a.width + wide)}[config.remat]
    scores = places * config.max_tokens * a.num_heads // shape.tensor * (4 + item) * 2
    own = places * (2 * wide) // shape.tensor * item
    needs += [
        Allocation("activations kept for the backward pass", places * kept * a.num_layers * item),
        Allocation("one layer's activations and attention weights", own + scores),
        Allocation("scores of a block of places", 2 * 4 * max(objectives.MAX_SCORES, a.vocabulary)),
    ]
    if shape.fsdp > 1:
        needs.append(Allocation("one layer's weights, gathered", 2 * layer // shape.tensor * item))
    return needs


def _rows(config: Config) -> int:
    """The most texts whose gradient is computed at once; the letter k takes those of both halves."""
    counts, parts = config.arm.counts, config.num_parts
    rows = [config.num_pairs // (counts[side] * parts) for side in config.arm.sides]
    if counts["k"]:
        rows.append(2 * config.num_pairs if parts == 1 else config.num_pairs // parts)
    return max(rows)


def is_enough(gigabytes: float, num_bytes: int) -> bool:
    """Whether a device of so many gigabytes can hold so many bytes."""
    return num_bytes < _USABLE * gigabytes * 1e9


class Disk(NamedTuple):
    """Bytes of the checkpoints of several runs, one after another.

    Attributes:
        most: The most bytes at any time.
        left: The bytes when all runs have finished.
    """

    most: int
    left: int


def disk(runs: Sequence[tuple[Config, Architecture]]) -> Disk:
    """The bytes of the checkpoints of runs, in float32.

    An unfinished run holds two checkpoints at most, or as many as it keeps. A run that keeps two or more holds the best
    checkpoint beside them.
    """
    most = left = 0
    for config, architecture in runs:
        state = numbers(config, architecture)
        one = 4 * (state["parameters"] + state["moments"])
        num_saved = (config.num_updates - 1) // config.checkpoint_every + (config.keep > 0)
        best = config.keep > 1
        most = max(most, left + one * min(num_saved, max(config.keep, 2) + best))
        left += one * min(num_saved, config.keep + best)
    return Disk(max(most, left), left)


class Requirements(NamedTuple):
    """The size of a preset's model in parameters, and the bytes that the preset needs on all devices together."""

    parameters: int
    memory: int
    disk: int


def requirements(name: str) -> Requirements:
    """The requirements of a preset; its disk holds the model's folder and the checkpoints of one run.

    Raises:
        ValueError: If there is no such preset.
    """
    config, architecture = presets.config(name), ARCHITECTURES[name]
    count, shape = parameters.count(architecture), config.mesh
    on_each = sum(need.num_bytes for need in allocations(config, architecture))
    most = 4 * count + disk([(config, architecture)]).most
    return Requirements(count, on_each * shape.data * shape.fsdp * shape.tensor, most)


def size(num_bytes: float) -> str:
    """Bytes as text with a unit and three digits: 1.61 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.5:  # which three digits round up to 1000
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"


def architecture_of(config: Config) -> tuple[Architecture, bool]:
    """The architecture of a configuration's model, and whether it is the published one, without the model's folder.

    Raises:
        OSError: If the model's folder cannot be read.
        ValueError: If the folder holds no model of the family; or if there is no folder, and the model is not that of
            the preset.
    """
    folder = Path(config.model)
    if config.model == "tiny":
        return ARCHITECTURES["tiny"], False
    if folder.is_dir():
        return pretrained.load_architecture(folder), False
    if config.model == presets.config(config.preset).model:
        return ARCHITECTURES[config.preset], True
    raise ValueError(f"{config.model} must be a model's folder; there is none.")
