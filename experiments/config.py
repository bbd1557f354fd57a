"""The configuration of a run: frozen data, checked on construction, written to and read from config.json."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, field, is_dataclass
from typing import Annotated, Literal, cast, get_type_hints

from pydantic import Field

from console.words import nearest
from experiments import typed
from experiments.arms import Arm, Hyperparams
from experiments.records import completed_config
from experiments.typed import checked

__all__ = ["PYTHON", "Config", "Dtype", "Measures", "MeshShape", "from_json", "to_json", "with_settings"]

PYTHON = "python"
"""The preset and the data of a run on losses of one's own, which only a call from Python has."""

Dtype = Literal["float32", "bfloat16"]
_Natural = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]


@checked("mesh")
class MeshShape:
    """How many ways devices split the work, as in `sharding.mesh`."""

    data: _Positive = 1
    fsdp: _Positive = 1
    tensor: _Positive = 1


@checked("measures")
class Measures:
    """The measurements beyond the gradients of the update itself, and how often; updates are counted from 1.

    Attributes:
        probe_pairs: Held-out pairs, the same in all arms and seeds. Even, for the estimates from two half-batches.
        probe_every: Updates between two readings of the probe's log-probabilities; 0 for none.
        alignment_every: Updates between two readings of the probe's gradients; 0 for none.
        accuracy_every: Updates between two readings of the accuracy; 0 for none.
        accuracy_problems: Test problems that are solved for it.
        max_new_tokens: The most tokens of an answer.
        collapse_nats: A run counts as collapsed from the first reading of the probe at which the log-probability per
            token of the preferred solutions lies this far below its start, and from the first value that is not finite.
            1: every token has become e times less likely.
    """

    probe_pairs: Annotated[int, Field(ge=2)] = 8
    probe_every: _Natural = 1
    alignment_every: _Natural = 0
    accuracy_every: _Natural = 0
    accuracy_problems: _Positive = 16
    max_new_tokens: _Positive = 192
    collapse_nats: Annotated[float, Field(gt=0)] = 1.0

    def __post_init__(self) -> None:
        if self.probe_pairs % 2:
            raise ValueError(f"measures.probe_pairs must be even, to be halved; got {self.probe_pairs}.")


@checked("config")
class Config:
    """Everything that decides the result of a run.

    Attributes:
        preset: The preset that the numbers come from.
        model: A folder, or "tiny" for random parameters of two layers.
        data: A folder with train.jsonl and test.jsonl, "hub", or "generated"; or preference data: a file .jsonl or
            .parquet, or hub:NAME.
        arm: How updates are made.
        learning_rate: eta, the step of an accumulated update.
        num_updates: Updates; each takes one preferred and one dispreferred half.
        num_pairs: Solutions in a half, n = B/2; they are split over the letters of the half in the arm's word.
        max_tokens: Pairs with a text longer than this, prompt and completion together, are left out.
        rule: The numbers of the optimizers.
        seed: Of the order of the data, of the errors in the wrong solutions, and of random starts; of the parameters
            where the model is "tiny".
        num_parts: Parts of a letter's solutions whose gradients are added up one after another, to save memory.
        num_problems: Problems of the train split that pairs are made from, or pairs of preference data; all if 0.
        held_out: The share of the rows of preference data that are kept for the probe.
        held_out_file: Preference data for the probe, in place of a share of `data`; empty for none.
        columns: The names of the columns of preference data, "chosen=NAME,rejected=NAME"; empty for the usual ones.
        skip_broken: Whether broken rows of preference data are left out; else they are an error.
        pairing: Whether the two halves hold solutions of the same problems, or are drawn independently.
        is_chat: Whether questions are put into the model's chat template.
        compute_dtype: Of the model; parameters, gradients and moments are float32.
        remat: What the backward pass computes again, as in `transformer.hidden`.
        mesh: How devices share the work.
        checkpoint_every: Updates between two checkpoints.
        keep: Checkpoints that a finished run keeps: the newest ones, and from 2 on the best one beside them. With 0 it
            keeps none, and its last parameters are not saved. An unfinished run keeps 2 at least: the newest, and the
            one before in case that it is damaged.
        measures: What is measured, and how often.
    """

    preset: str
    model: str
    data: str
    arm: Arm
    learning_rate: Annotated[float, Field(gt=0, lt=1e3)]
    num_updates: _Positive
    num_pairs: _Positive
    max_tokens: Annotated[int, Field(ge=2)]
    rule: Hyperparams = field(default_factory=Hyperparams)
    seed: _Natural = 0
    num_parts: _Positive = 1
    num_problems: _Natural = 0
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    held_out_file: str = ""
    columns: str = ""
    skip_broken: bool = False
    pairing: Literal["same", "independent"] = "same"
    is_chat: bool = True
    compute_dtype: Dtype = "float32"
    remat: Literal["nothing", "products", "everything"] = "products"
    mesh: MeshShape = field(default_factory=MeshShape)
    checkpoint_every: _Positive = 10
    keep: _Natural = 1
    measures: Measures = field(default_factory=Measures)

    def __post_init__(self) -> None:
        if self.num_pairs % self.num_parts:
            raise ValueError(
                f"config.num_parts must divide num_pairs; got {self.num_parts} for {self.num_pairs} pairs."
            )
        num_letters = self.arm.num_letters
        if self.num_pairs % (self.num_parts * num_letters):
            raise ValueError(
                f"config.num_pairs must be a multiple of {self.num_parts * num_letters}, the letters of a half in "
                f"{self.arm.word} times num_parts; got {self.num_pairs}."
            )
        rows, num_ways = self.num_pairs // (self.num_parts * num_letters), self.mesh.data * self.mesh.fsdp
        if rows % num_ways:
            raise ValueError(
                f"mesh.data x mesh.fsdp must divide the pairs of a letter's part; got {num_ways} for {rows}."
            )
        if not self.model or not self.data:
            raise ValueError("config.model and config.data must not be empty.")


def to_json(config: Config) -> dict[str, object]:
    """The configuration as JSON has it."""
    return asdict(config)  # pyright: ignore[reportArgumentType]


def from_json(content: object) -> Config:
    """The configuration that `to_json` wrote, now or before it knew preference data.

    Raises:
        ValueError: If a key is missing or unknown, or a value of another type or out of range; the message names the
            nearest key.
    """
    return typed.from_json(
        Config, completed_config(content) if isinstance(content, Mapping) else content, "config", is_complete=True
    )


def with_settings(config: Config, settings: Mapping[str, object]) -> Config:
    """The configuration with other values, by dotted names: {"rule.b2": 0.95, "num_pairs": 8}.

    A text is read as a value of the type that the field has.

    Raises:
        ValueError: If there is no such name, or a value is of another type or out of range.
    """
    content = to_json(config)
    kinds = dict(_kinds(Config))
    for name, value in settings.items():
        if name not in kinds:
            raise ValueError(
                f"settings must have keys among {', '.join(kinds)}; got {name[:60]!r}.{nearest(name, kinds)}"
            )
        *owners, last = name.split(".")
        node = content
        for owner in owners:
            node = cast(dict[str, object], node[owner])
        node[last] = _value(value, kinds[name])
    return from_json(content)


def _kinds(owner: type, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The dotted names of all values, with their types."""
    for name, kind in get_type_hints(owner).items():
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _kinds(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, kind


def _value(value: object, kind: object) -> object:
    """The value of a text on the command line; a text that is none stays, to be refused by its name."""
    if not isinstance(value, str):
        return value
    if kind is bool:
        return {"true": True, "false": False}.get(value, value)
    try:
        return int(value) if kind is int else float(value) if kind is float else value
    except ValueError:
        return value
