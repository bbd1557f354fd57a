"""The files of `twin`: one update compared both ways, and the gap between the two by its causes. JAX is not needed."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from experiments.typed import fault

__all__ = ["COLUMNS", "AlignmentColumns", "Attribution", "Cause", "Fit", "Twin"]

_Number = Annotated[float, Strict()]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> Self:
        """The record in an object of JSON.

        Raises:
            ValueError: If it is none; the message names the key.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ValueError(f"{fault(error)}.") from None


class Fit(_Record):
    """The fitted order of a remainder, its order in theory, and the verdict."""

    order: _Number | None = None
    theory: Literal[2, 3] | None = None
    verdict: str | None = None
    reason: str | None = None

    @property
    def is_refuted(self) -> bool:
        """Whether theory was missed."""
        return self.verdict == "missed"


class AlignmentColumns(_Record):
    """g+ . g- before an update, and after it both ways, measured and predicted; one number for each learning rate."""

    start: _Number
    accumulated: list[_Number]
    sequential: list[_Number]
    predicted_accumulated: list[_Number]
    predicted_sequential: list[_Number]


class Twin(_Record):
    """One update compared both ways: norms over learning rates.

    Attributes:
        gap: The norm of the difference of the two displacements.
        first: The norm of its first order, predicted.
        second: The norm of its second order, predicted.
        gradient_part: The part of the second order that a reversal of the schedule keeps.
        bracket: The part that a reversal negates.
        remainder_first: The norm of the gap minus the first order.
        remainder_second: The norm of the gap minus both.
        cosine: Between the measured rest after the first order and the predicted second.
        round_off: The floor under which a remainder says nothing.
    """

    kind: Literal["twin"]
    optimizer: str | None = None
    model: str | None = None
    update: int | None = None
    num_pairs: int | None = None
    rate: str | None = None
    schedule: str | None = None
    learning_rates: Annotated[list[Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    gap: list[_Number]
    first: list[_Number]
    second: list[_Number]
    gradient_part: list[_Number]
    bracket: list[_Number]
    remainder_first: list[_Number]
    remainder_second: list[_Number]
    cosine: list[_Number]
    round_off: list[_Number]
    fits: dict[str, Fit]
    alignment: AlignmentColumns | None = None

    @model_validator(mode="after")
    def _has_a_number_for_each_rate(self) -> Self:
        for name, column in self.columns():
            if len(column) != len(self.learning_rates):
                raise ValueError(f"`{name}` must be {len(self.learning_rates)} numbers, one for each learning rate")
        if missing := {"first", "second"} - self.fits.keys():
            raise ValueError(f"`fits` must have `{min(missing)}`")
        return self

    def columns(self) -> Iterator[tuple[str, list[float]]]:
        """The columns of norms, then those of the alignment where it was read."""
        for owner in (self, self.alignment):
            for name, column in owner or ():
                if isinstance(column, list) and name != "learning_rates":
                    yield name, column


COLUMNS = tuple(name for name, field in Twin.model_fields.items() if field.annotation == list[_Number])
"""The columns of norms, in the order of the tables."""


class Cause(_Record):
    """A cause of the gap: the norm of its part, and its share of the whole."""

    cause: str
    norm: _Number
    share: _Number


class Attribution(_Record):
    """The gap at one learning rate by its causes."""

    kind: Literal["attribution"]
    optimizer: str | None = None
    model: str | None = None
    update: int | None = None
    learning_rate: float | None = None
    rate: str | None = None
    num_warm_up: int | None = None
    rows: list[Cause]
    total: _Number
