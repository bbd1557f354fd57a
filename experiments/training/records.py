"""The records of a run: one JSON object a line, appended and flushed as updates are made; read back whole or cut.

A file holds headers (one for every start), one line for every update from 0, the state before any, and a last line that
says how the run ended. NaN and infinity are written as such.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments import jsonl

if TYPE_CHECKING:
    from experiments.training.train_step import HalfBatches, Told

__all__ = ["SCHEMA", "TIMINGS", "alignment_row", "cut", "end", "probe_row", "read", "update_row"]

SCHEMA: Mapping[str, str] = {
    "update": "updates made",
    "optimizer_steps": "steps of the rule so far",
    "learning_rate_sum": "their sizes added up",
    "examples": "solutions stepped on so far",
    "tokens": "completion tokens stepped on so far",
    "first": "the half that the update began with",
    "loss_plus": "L+ where its gradient was read, nats, averaged as the reduction says",
    "loss_minus": "L- likewise: the log-likelihood of the dispreferred solutions, for it is ascended",
    "log_prob_plus": "mean log-probability of the batch's preferred solutions, nats per sequence",
    "log_prob_minus": "of the dispreferred ones",
    "log_prob_plus_per_token": "summed over the batch and divided by its tokens, nats per token",
    "log_prob_minus_per_token": "of the dispreferred ones",
    "alignment": "g+ . g- of the update's gradients as they were read",
    "cosine": "of the two",
    "norm_plus": "|g+|",
    "norm_minus": "|g-|",
    "ratio_plus": "g+ . g- / |g+|^2, the entanglement ratio up to its sign",
    "ratio_minus": "g+ . g- / |g-|^2",
    "gradient_norms": "of both sides by group of parameters",
    "update_norm": "of the displacement",
    "distance": "of the parameters from the start",
    "probe": "log-probabilities of the probe's solutions; null where not read",
    "probe_alignment": "of the probe's gradients, whole and without bias from two halves; null where not read",
    "accuracy": "test problems solved, with a 95 % Wilson interval; null where not read",
    "is_collapsed": "whether the criterion of the configuration is met, now or before",
    "seconds": "of the update with its measurements",
    "probe_seconds": "of probe, probe's gradients and accuracy, which the update does not need",
    "memory": "bytes at the peak so far: of the device, or of the process where the device does not say",
}
"""The keys of an update's line."""

TIMINGS = ("seconds", "probe_seconds", "memory")
"""What differs between two runs that compute the same."""


def update_row(
    told: "Told",
    *,
    lengths: tuple[Sequence[int], Sequence[int]],
    first: str,
    has_minus: bool,
    groups: Sequence[str],
) -> dict[str, object]:
    """The part of a line that an update tells.

    Args:
        told: By the update, on the host.
        lengths: Of the preferred and the dispreferred completions, in tokens.
        first: The half that the update began with.
        has_minus: Whether the dispreferred half took part; its values are null where not.
        groups: Names of the groups of parameters.
    """
    a = told.alignment
    plus, minus = np.asarray(told.log_probs, np.float64)
    norms = np.sqrt(np.asarray(told.squares, np.float64))
    row: dict[str, object] = {
        "first": first,
        "loss_plus": float(told.losses[0]),
        "log_prob_plus": float(plus.mean()),
        "log_prob_plus_per_token": float(plus.sum() / sum(lengths[0])),
        "norm_plus": float(a.norm_plus),
        "update_norm": float(told.update_norm),
        "distance": float(told.distance),
    }
    gradient_norms = {"plus": dict(zip(groups, norms[0].tolist(), strict=False))}
    of_both: dict[str, float | None] = dict.fromkeys(
        ("loss_minus", "log_prob_minus", "log_prob_minus_per_token", "norm_minus", "alignment", "cosine", "ratio_plus",
         "ratio_minus")
    )  # fmt: skip
    if has_minus:
        gradient_norms["minus"] = dict(zip(groups, norms[1].tolist(), strict=False))
        of_both = {
            "loss_minus": float(told.losses[1]),
            "log_prob_minus": float(minus.mean()),
            "log_prob_minus_per_token": float(minus.sum() / sum(lengths[1])),
            "norm_minus": float(a.norm_minus),
            "alignment": float(a.product),
            "cosine": float(a.cosine),
            "ratio_plus": float(a.ratio_plus),
            "ratio_minus": float(a.ratio_minus),
        }
    return row | of_both | {"gradient_norms": gradient_norms}


def probe_row(
    plus: Sequence[float], minus: Sequence[float], lengths: tuple[Sequence[int], Sequence[int]]
) -> dict[str, float]:
    """The log-probabilities of the probe, per sequence (a mean) and per token (a sum over a sum)."""
    made = {}
    for side, values, own in (("plus", plus, lengths[0]), ("minus", minus, lengths[1])):
        total = float(np.sum(np.asarray(values, np.float64)))
        made |= {f"log_prob_{side}": total / len(own), f"log_prob_{side}_per_token": total / sum(own)}
    return made


def alignment_row(found: "HalfBatches") -> dict[str, float]:
    """The alignment of the probe's gradients."""
    return {name: float(value) for name, value in found.whole._asdict().items()} | {
        "product_unbiased": float(found.product),
        "norm_plus_squared_unbiased": float(found.norm_plus_squared),
        "norm_minus_squared_unbiased": float(found.norm_minus_squared),
    }


def read(path: Path) -> list[dict[str, object]]:
    """All whole lines, in order; a last line without its end is left out.

    Raises:
        OSError: If the file cannot be read.
        ValueError: At a line that is no record; the message names it.
    """
    data = path.read_bytes()
    made = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}.") from None
        if not isinstance(record, dict) or "kind" not in record:
            raise ValueError(f"{path}, line {number}: must be a record with a kind.")
        made.append(record)
    return made


def end(path: Path) -> dict[str, object] | None:
    """The last line, if it says how the run ended."""
    made = read(path)
    return made[-1] if made and made[-1]["kind"] == "end" else None


def cut(path: Path, update: int) -> list[dict[str, object]]:
    """Takes away every line behind that of an update, and returns the updates' lines that stay.

    Written aside and renamed, so that a kill leaves the old file or the new one.

    Raises:
        ValueError: If there is no line of this update, or no file.
    """
    if not path.is_file():
        raise ValueError(f"{path} must exist: without it a checkpoint cannot be gone on with.")
    kept = []
    for record in read(path):
        if record["kind"] == "update" and int(str(record["update"])) > update:
            break
        if record["kind"] != "end":
            kept.append(record)
    rows = [record for record in kept if record["kind"] == "update"]
    if not rows or rows[-1]["update"] != update:
        raise ValueError(f"{path} must have a line for update {update}, where the checkpoint is.")
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        for record in kept:
            jsonl.append(file, record)
        os.fsync(file.fileno())
    part.replace(path)
    return rows
