"""The records of a run: its measured quantities, one line an update, and how they are read back whole or cut.

`records.jsonl` holds a header for every start, one line for every update from 0, the state before any, and a last line
that says how the run ended. NaN and infinity are written as such; null is a quantity that was not measured. Nothing
here needs JAX: runs write these lines, and the report reads them.

A new quantity is a field of `UpdateRow` here, with its meaning and unit, and its computation in `training.train_step`.
Where it is to be drawn or summed up, it has a line in `PANELS` or `COLUMNS` too.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from experiments import files
from experiments.typed import fault

__all__ = [
    "AXES",
    "CHECKPOINTS",
    "COLUMNS",
    "CONFIG",
    "LIST",
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
    "convert",
    "cut",
    "ending",
    "quantities",
    "read",
    "to_json",
    "value",
]

CONFIG, RECORDS, CHECKPOINTS = "config.json", "records.jsonl", "checkpoints"
"""The files of a run's folder."""

LIST = "runs.json"
"""In the folder above: all runs that were asked for there, so that `resume` knows those that never began."""


class Quantity(NamedTuple):
    """The meaning of a measured quantity, and its unit where it has one."""

    meaning: str
    unit: str = ""


_Float = Annotated[float, Strict()]
_Natural = Annotated[int, Strict(), Field(ge=0)]
_Bool = Annotated[bool, Strict()]


class _Row(BaseModel):
    """Lines of a later version may have more keys: they are kept, and belong to the tables of the report."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class Probe(_Row):
    """The mean log-probabilities of the probe's solutions: per sequence, and per token (a sum over a sum)."""

    log_prob_plus: Annotated[_Float | None, Quantity("of the preferred solutions", "nats per sequence")] = None
    log_prob_plus_per_token: Annotated[_Float | None, Quantity("of the preferred solutions", "nats per token")] = None
    log_prob_minus: Annotated[_Float | None, Quantity("of the dispreferred solutions", "nats per sequence")] = None
    log_prob_minus_per_token: Annotated[_Float | None, Quantity("of the dispreferred solutions", "nats per token")] = (
        None
    )


class ProbeAlignment(_Row):
    """The alignment of the probe's gradients: of all pairs, and without bias from two halves of them."""

    product: Annotated[_Float | None, Quantity("g+ . g- of all pairs, biased", "nats^2")] = None
    cosine: Annotated[_Float | None, Quantity("the cosine of g+ and g-")] = None
    norm_minus: Annotated[_Float | None, Quantity("|g-|", "nats")] = None
    norm_plus: Annotated[_Float | None, Quantity("|g+|", "nats")] = None
    ratio_minus: Annotated[_Float | None, Quantity("g+ . g- / |g-|^2")] = None
    ratio_plus: Annotated[_Float | None, Quantity("g+ . g- / |g+|^2")] = None
    product_unbiased: Annotated[_Float | None, Quantity("the estimate of g+ . g- without bias", "nats^2")] = None
    norm_plus_squared_unbiased: Annotated[_Float | None, Quantity("that of |g+|^2; it may be negative", "nats^2")] = (
        None
    )
    norm_minus_squared_unbiased: Annotated[_Float | None, Quantity("that of |g-|^2; it may be negative", "nats^2")] = (
        None
    )


class Accuracy(_Row):
    """Test problems solved, with a 95 % Wilson interval."""

    right: Annotated[_Natural | None, Quantity("problems solved")] = None
    total: Annotated[Annotated[int, Strict(), Field(ge=1)] | None, Quantity("problems asked")] = None
    low: Annotated[_Float | None, Quantity("the lower end of the interval of the share")] = None
    high: Annotated[_Float | None, Quantity("the upper end")] = None

    @property
    def share(self) -> float | None:
        """The share of problems solved."""
        return None if self.right is None or self.total is None else self.right / self.total


class UpdateRow(_Row):
    """The line of an update. Sides are the preferred (plus) and the dispreferred (minus) solutions."""

    kind: Literal["update"] = "update"
    update: Annotated[_Natural, Quantity("updates made")]
    optimizer_steps: Annotated[_Natural, Quantity("steps of the rule so far")] = 0
    learning_rate_sum: Annotated[_Float, Quantity("the sum of their sizes")] = 0.0
    examples: Annotated[_Natural, Quantity("solutions stepped on so far")] = 0
    tokens: Annotated[_Natural | None, Quantity("completion tokens stepped on so far")] = None
    first: Annotated[str | None, Quantity("the half that the update began with")] = None
    loss_plus: Annotated[_Float | None, Quantity("L+ where its gradient was read", "nats, by the reduction")] = None
    log_prob_plus: Annotated[
        _Float | None, Quantity("mean log-probability of the batch's preferred solutions", "nats per sequence")
    ] = None
    log_prob_plus_per_token: Annotated[
        _Float | None, Quantity("their sum over the batch by its tokens", "nats per token")
    ] = None
    norm_plus: Annotated[_Float | None, Quantity("|g+|", "nats")] = None
    update_norm: Annotated[_Float | None, Quantity("the norm of the displacement")] = None
    distance: Annotated[_Float | None, Quantity("the distance of the parameters from the start")] = None
    loss_minus: Annotated[
        _Float | None, Quantity("L- likewise: a log-likelihood, for it is ascended", "nats, by the reduction")
    ] = None
    log_prob_minus: Annotated[
        _Float | None, Quantity("mean log-probability of the batch's dispreferred solutions", "nats per sequence")
    ] = None
    log_prob_minus_per_token: Annotated[
        _Float | None, Quantity("their sum over the batch by its tokens", "nats per token")
    ] = None
    norm_minus: Annotated[_Float | None, Quantity("|g-|", "nats")] = None
    product: Annotated[
        _Float | None,
        Field(alias="alignment"),
        Quantity("g+ . g- of the update's gradients as they were read", "nats^2"),
    ] = None
    cosine: Annotated[_Float | None, Quantity("the cosine of the two")] = None
    ratio_plus: Annotated[_Float | None, Quantity("g+ . g- / |g+|^2, the entanglement ratio up to its sign")] = None
    ratio_minus: Annotated[_Float | None, Quantity("g+ . g- / |g-|^2")] = None
    gradient_norms: Annotated[
        dict[str, dict[str, _Float]] | None, Quantity("norms of both sides by group of parameters", "nats")
    ] = None
    probe: Annotated[Probe | None, Quantity("log-probabilities of the probe; null where not read")] = None
    probe_alignment: Annotated[
        ProbeAlignment | None, Quantity("alignment of the probe's gradients; null where not read")
    ] = None
    accuracy: Annotated[Accuracy | None, Quantity("test problems solved; null where not read")] = None
    is_collapsed: Annotated[_Bool, Quantity("whether the criterion of collapse is met, now or before")] = False
    probe_seconds: Annotated[_Float | None, Quantity("time of probe, its gradients and accuracy", "seconds")] = None
    seconds: Annotated[_Float | None, Quantity("time of the update with its measurements", "seconds")] = None
    memory: Annotated[
        _Natural | None, Quantity("the peak so far, of the device, or of the process where it does not say", "bytes")
    ] = None


class Header(_Row):
    """The line of a start: versions, device, commit, and the hash of parameters and texts."""

    kind: Literal["header"] = "header"
    versions: dict[str, str | None] | None = None
    device: str | None = None
    commit: str | None = None
    started: str | None = None
    num_parameters: int | None = None
    fingerprint: str | None = None


class Ending(_Row):
    """The last line of a run: all updates made, a value was not finite, or the end was asked for."""

    kind: Literal["end"] = "end"
    reason: Literal["finished", "not-finite", "stopped"]
    update: _Natural = 0
    message: str = ""


Record = Annotated[Header | UpdateRow | Ending, Field(discriminator="kind")]
_RECORD: TypeAdapter[Header | UpdateRow | Ending] = TypeAdapter(Record)

TIMINGS = ("seconds", "probe_seconds", "memory")
"""The quantities that differ between two runs that compute the same."""

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


def quantities() -> dict[str, Quantity]:
    """All measured quantities by their keys in the file."""
    named = {field.alias or name: field.metadata for name, field in UpdateRow.model_fields.items()}
    return {key: entry for key, metadata in named.items() for entry in metadata if isinstance(entry, Quantity)}


def value(row: UpdateRow, name: str) -> float | None:
    """A number of a row, by its name with dots; None where it was not measured."""
    held: object = row
    for part in name.split("."):
        held = getattr(held, part, None)
    return float(held) if isinstance(held, (int, float)) and not isinstance(held, bool) else None


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
