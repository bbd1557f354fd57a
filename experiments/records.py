"""The records of a run: its measured quantities, one line an update, and how they are read back whole or cut.

`records.jsonl` holds a header for every start, one line for every update from 0, the state before any, and a last line
that says how the run ended. NaN and infinity are written as such; null is a quantity that was not measured. Nothing
here needs JAX: runs write these lines, and the report reads them.

A new quantity is a field of `UpdateRow` here, with its meaning and unit, and its computation in `training.train_step`.
Where it is to be drawn or summed up, it has a line in `PANELS` or `COLUMNS` too.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from experiments import files
from experiments.typed import fault

__all__ = [
    "AXES",
    "CHECKPOINTS",
    "COLUMNS",
    "CONFIG",
    "LIST",
    "LIVE",
    "PANELS",
    "RECORDS",
    "TIMINGS",
    "Accuracy",
    "Ending",
    "Header",
    "Panel",
    "Probe",
    "ProbeAlignment",
    "Quantity",
    "Record",
    "UpdateRow",
    "completed_config",
    "convert",
    "cut",
    "ending",
    "last",
    "quantities",
    "read",
    "to_json",
    "value",
]

CONFIG, RECORDS, CHECKPOINTS = "config.json", "records.jsonl", "checkpoints"
"""The files of a run's folder."""

LIST = "runs.json"
"""In the folder above: all runs that were asked for there, so that `resume` knows those that never began."""


# What a 64-bit integer holds: a count beyond it is a slip, and has no place on an axis.
_Natural = Annotated[int, Field(ge=0, lt=2**63)]


def _quantity(meaning: str, unit: str = "", *, default: object = None, alias: str | None = None) -> Any:  # noqa: ANN401  # of any type
    """A measured quantity. Its default value means that it was not measured, or that nothing was done yet."""
    return Field(default, alias=alias, description=meaning, json_schema_extra={"unit": unit})


class _Row(BaseModel):
    """Lines of a later version may have more keys: they are kept, and belong to the tables of the report."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, strict=True)


class Probe(_Row):
    """The mean log-probabilities of the probe's solutions: per sequence, and per token (a sum over a sum).

    Of losses of one's own there are the losses of the held-out examples in their place.
    """

    log_prob_plus: float | None = _quantity("of the preferred solutions", "nats per sequence")
    log_prob_plus_per_token: float | None = _quantity("of the preferred solutions", "nats per token")
    log_prob_minus: float | None = _quantity("of the dispreferred solutions", "nats per sequence")
    log_prob_minus_per_token: float | None = _quantity("of the dispreferred solutions", "nats per token")
    loss_plus: float | None = _quantity("L+ of held-out examples, under losses of one's own")
    loss_minus: float | None = _quantity("L- likewise")


class ProbeAlignment(_Row):
    """The alignment of the probe's gradients: of all pairs, and without bias from two halves of them."""

    product: float | None = _quantity("g+ . g- of all pairs, biased", "nats^2")
    cosine: float | None = _quantity("the cosine of g+ and g-")
    norm_minus: float | None = _quantity("|g-|", "nats")
    norm_plus: float | None = _quantity("|g+|", "nats")
    ratio_minus: float | None = _quantity("g+ . g- / |g-|^2")
    ratio_plus: float | None = _quantity("g+ . g- / |g+|^2")
    product_unbiased: float | None = _quantity("the estimate of g+ . g- without bias", "nats^2")
    norm_plus_squared_unbiased: float | None = _quantity("that of |g+|^2; it may be negative", "nats^2")
    norm_minus_squared_unbiased: float | None = _quantity("that of |g-|^2; it may be negative", "nats^2")


class Accuracy(_Row):
    """Test problems solved, with a 95 % Wilson interval."""

    right: _Natural | None = _quantity("problems solved")
    total: Annotated[_Natural, Field(ge=1)] | None = _quantity("problems asked")
    low: float | None = _quantity("the lower end of the interval of the share")
    high: float | None = _quantity("the upper end")

    @property
    def share(self) -> float | None:
        """The share of problems solved."""
        return None if self.right is None or self.total is None else self.right / self.total


class UpdateRow(_Row):
    """The line of an update. Sides are the preferred (plus) and the dispreferred (minus) solutions."""

    kind: Literal["update"] = "update"
    update: _Natural = Field(description="updates made", json_schema_extra={"unit": ""})
    optimizer_steps: _Natural = _quantity("steps of the rule so far", default=0)
    learning_rate_sum: float = _quantity("the sum of their sizes", default=0.0)
    examples: _Natural = _quantity("solutions stepped on so far", default=0)
    tokens: _Natural | None = _quantity("completion tokens stepped on so far")
    first: str | None = _quantity("the half that the update began with")
    loss_plus: float | None = _quantity("L+ where its gradient was read", "nats, by the reduction")
    log_prob_plus: float | None = _quantity(
        "mean log-probability of the batch's preferred solutions", "nats per sequence"
    )
    log_prob_plus_per_token: float | None = _quantity("their sum over the batch by its tokens", "nats per token")
    norm_plus: float | None = _quantity("|g+|", "nats")
    update_norm: float | None = _quantity("the norm of the displacement")
    distance: float | None = _quantity("the distance of the parameters from the start")
    loss_minus: float | None = _quantity("L- likewise: a log-likelihood, for it is ascended", "nats, by the reduction")
    log_prob_minus: float | None = _quantity(
        "mean log-probability of the batch's dispreferred solutions", "nats per sequence"
    )
    log_prob_minus_per_token: float | None = _quantity("their sum over the batch by its tokens", "nats per token")
    norm_minus: float | None = _quantity("|g-|", "nats")
    product: float | None = _quantity(
        "g+ . g- of the update's gradients as they were read", "nats^2", alias="alignment"
    )
    cosine: float | None = _quantity("the cosine of the two")
    ratio_plus: float | None = _quantity("g+ . g- / |g+|^2, the entanglement ratio up to its sign")
    ratio_minus: float | None = _quantity("g+ . g- / |g-|^2")
    gradient_norms: dict[str, dict[str, float]] | None = _quantity("norms of both sides by group of parameters", "nats")
    probe: Probe | None = _quantity("log-probabilities of the probe; null where not read")
    probe_alignment: ProbeAlignment | None = _quantity("alignment of the probe's gradients; null where not read")
    accuracy: Accuracy | None = _quantity("test problems solved; null where not read")
    is_collapsed: bool = _quantity("whether the criterion of collapse is met, now or before", default=False)
    probe_seconds: float | None = _quantity("time of probe, its gradients and accuracy", "seconds")
    seconds: float | None = _quantity("time of the update with its measurements", "seconds")
    memory: _Natural | None = _quantity(
        "the peak so far, of the device, or of the process where it does not say", "bytes"
    )


class Header(_Row):
    """The line of a start: versions, device, commit, and the hash of parameters and texts."""

    kind: Literal["header"] = "header"
    versions: dict[str, str | None] | None = None
    device: str | None = None
    commit: str | None = None
    started: str | None = None
    num_parameters: int | None = None
    num_pairs_in_all: int | None = None
    left_out: dict[str, int] | None = None
    fingerprint: str | None = None


class Ending(_Row):
    """The last line of a run: all updates made, a value was not finite, or the end was asked for."""

    kind: Literal["end"] = "end"
    reason: Literal["finished", "not-finite", "stopped"]
    update: _Natural = 0
    message: str = ""


Record = Annotated[Header | UpdateRow | Ending, Field(discriminator="kind")]
_RECORD: TypeAdapter[Header | UpdateRow | Ending] = TypeAdapter(Record)

_TAIL = 2**15  # bytes; the line of an update has some two thousand

TIMINGS = ("seconds", "probe_seconds", "memory")
"""The quantities that differ between two runs that compute the same."""

LIVE: Mapping[str, str] = {
    "loss_plus": "L+",
    "loss_minus": "L-",
    "log_prob_plus_per_token": "log p+",
    "log_prob_minus_per_token": "log p-",
    "product": "g+.g-",
}
"""The quantities that are shown while runs are at work, with their headings."""

AXES: Mapping[str, tuple[str, str]] = {
    "examples": ("examples", "examples"),
    "optimizer-steps": ("optimizer_steps", "optimizer steps"),
    "learning-rates": ("learning_rate_sum", "sum of learning rates"),
    # How far an arm has come, whatever its rate and its optimizer's normalisation: what is left is where it went.
    "distance": ("distance", "distance of the parameters from the start"),
}
"""Horizontal axes of the figures: the quantity, and its name there."""


class Panel(NamedTuple):
    """A figure of the report.

    Attributes:
        name: For files and anchors.
        title: The text above it.
        unit: Of the vertical axis.
        preferred: The quantity of a solid line, by its name with dots.
        dispreferred: That of a dashed line of the same arm, where there are two.
    """

    name: str
    title: str
    unit: str
    preferred: str
    dispreferred: str | None = None


PANELS = (
    Panel("product-batch", "g⁺·g⁻ on the batch", "g⁺·g⁻ (nats²)", "product"),
    Panel("product-probe", "g⁺·g⁻ on the probe", "g⁺·g⁻ (nats²)", "probe_alignment.product"),
    Panel(
        "product-unbiased",
        "g⁺·g⁻ on the probe, without bias",
        "estimate of g⁺·g⁻ (nats²)",
        "probe_alignment.product_unbiased",
    ),
    Panel(
        "log-probs",
        "Log-probability on the probe",
        "log-probability (nats per token)",
        "probe.log_prob_plus_per_token",
        "probe.log_prob_minus_per_token",
    ),
    Panel("probe-losses", "Losses of held-out examples", "loss", "probe.loss_plus", "probe.loss_minus"),
    Panel("losses", "Losses stepped", "loss (nats, the run's reduction)", "loss_plus", "loss_minus"),
    Panel("cosine-batch", "Cosine of g⁺ and g⁻ on the batch", "cosine", "cosine"),
    Panel("cosine-probe", "Cosine of g⁺ and g⁻ on the probe", "cosine", "probe_alignment.cosine"),
    Panel("accuracy", "Problems solved, with 95 % intervals", "problems solved (%)", "accuracy.share"),
)

COLUMNS: Mapping[str, str] = {
    "preferred": "probe.log_prob_plus_per_token",
    "dispreferred": "probe.log_prob_minus_per_token",
    "product_probe": "probe_alignment.product",
    "product_batch": "product",
    "accuracy": "accuracy.share",
    "distance": "distance",
}
"""Quantities of which the summary has start, end and change: headings, and names with dots."""


class Quantity(NamedTuple):
    """The meaning of a measured quantity, and its unit where it has one."""

    meaning: str
    unit: str


def quantities() -> dict[str, Quantity]:
    """All measured quantities by their keys in the file; a part of an object has the object's key before a dot."""
    return dict(_quantities(UpdateRow))


def _quantities(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Quantity]]:
    for name, field in kind.model_fields.items():
        if isinstance(field.json_schema_extra, dict):
            key = f"{prefix}{field.alias or name}"
            yield key, Quantity(field.description or "", str(field.json_schema_extra["unit"]))
            for part in get_args(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    yield from _quantities(part, f"{key}.")


def value(row: UpdateRow, name: str) -> float | None:
    """A number of a row, by its name with dots; None where it was not measured."""
    held: object = row
    for part in name.split("."):
        held = held.get(part) if isinstance(held, dict) else getattr(held, part, None)
    return float(held) if isinstance(held, (int, float)) and not isinstance(held, bool) else None


def completed_config(content: Mapping[str, object]) -> dict[str, object]:
    """A stored configuration with the keys that older versions did not have, and did as these values say.

    The word of an arm was three keys: update, first and sides.
    """
    completed = {"held_out": 0.1, "held_out_file": "", "columns": "", "skip_broken": False, **content}
    arm = content.get("arm")
    if isinstance(arm, Mapping) and "objective" not in arm and "update" in arm:
        update, first, sides = (arm.get(key) for key in ("update", "first", "sides"))
        word = "+" if sides == "preferred" else "-+" if first == "-" else "+-"
        kept = {key: value for key, value in arm.items() if key not in ("update", "first", "sides")}
        completed["arm"] = {
            **kept,
            "word": f"({word})" if update == "accumulated" and len(word) > 1 else word,
            "start": "random" if first == "random" and sides != "preferred" else "word",
            "objective": "log-likelihood",
        }
    return completed


# Files ----------------------------------------------------------------------------------------------------------------


def to_json(record: Header | UpdateRow | Ending) -> dict[str, object]:
    """A line as JSON has it: the keys that were set, in the order of the class."""
    return {"kind": record.kind, **record.model_dump(by_alias=True, exclude_unset=True)}


def convert(content: Mapping[str, object], previous: UpdateRow | None = None) -> Header | UpdateRow | Ending:
    """A line out of JSON.

    Args:
        content: The object.
        previous: The line of the update before, if there is one.

    Raises:
        ValueError: If the kind is not known, a quantity is of another type or out of range, one that counts is missing,
            or updates do not rise.
    """
    try:
        record = _RECORD.validate_python(content)
    except ValidationError as error:
        if error.errors()[0]["type"].startswith("union_tag"):
            kind = content.get("kind")
            raise ValueError(f"`kind` must be header, update or end; got {kind!r}") from None
        raise ValueError(fault(error, num_outer=1)) from None
    if isinstance(record, UpdateRow):
        if previous is not None and record.update <= previous.update:
            raise ValueError(f"`update` must rise; got {record.update} after {previous.update}")
        if record.update:  # before any update they are 0
            for name in ("optimizer_steps", "learning_rate_sum", "examples"):
                if name not in record.model_fields_set:
                    raise ValueError(f"`{name}` must be a number; got nothing")
    return record


def read(path: Path) -> list[Header | UpdateRow | Ending]:
    """All whole lines, in order. A torn last line is left out.

    Raises:
        OSError: If the file cannot be read.
        ValueError: At a line that is no record; the message names it.
    """
    return list(files.read_lines(path, lambda content, _: convert(content), torn=[]))


def ending(path: Path) -> Ending | None:
    """The last line, if it says how the run ended.

    Raises:
        OSError: If the file cannot be read.
        ValueError: At a line that is no record.
    """
    records = read(path)
    return records[-1] if records and isinstance(records[-1], Ending) else None


def last(path: Path) -> list[Header | UpdateRow | Ending]:
    """The last whole lines: some of them, however long the file is.

    Raises:
        OSError: If the file cannot be read.
        ValueError: At a line that is no record.
    """
    with path.open("rb") as file:
        start = max(file.seek(0, os.SEEK_END) - _TAIL, 0)
        file.seek(start)
        lines = file.read().split(b"\n")[:-1]  # behind the last end of a line there is nothing, or a torn line
    return [convert(json.loads(line)) for line in lines[1 if start else 0 :] if line.strip()]


def cut(path: Path, update: int) -> list[UpdateRow]:
    """Removes every line behind that of an update, and returns the lines of the updates that stay.

    The file is written aside and renamed, so that a kill leaves the old file or the new one.

    Raises:
        ValueError: If there is no line of this update, or no file.
    """
    if not path.is_file():
        raise ValueError(f"{path} must exist: without it a checkpoint cannot be resumed.")
    kept: list[Header | UpdateRow | Ending] = []
    for record in read(path):
        if isinstance(record, UpdateRow) and record.update > update:
            break
        if not isinstance(record, Ending):
            kept.append(record)
    rows = [record for record in kept if isinstance(record, UpdateRow)]
    if not rows or rows[-1].update != update:
        raise ValueError(f"{path} must have a line for update {update}, where the checkpoint is.")
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        for record in kept:
            files.append(file, to_json(record))
        os.fsync(file.fileno())
    part.replace(path)
    return rows
