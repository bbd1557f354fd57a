"""A task: all that a run steps and measures. The loop knows no more of a model than this."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from jax.sharding import Mesh
from jaxtyping import Array

from experiments.records import UpdateRow
from experiments.training.arm_update import Objective
from experiments.training.batches import BatchSource
from numerics.types import Params

__all__ = ["Measure", "Task"]


class Measure(Protocol):
    """The readings beside the updates."""

    def __call__(
        self, update: int, params: Params, first: UpdateRow | None, *, is_finite: bool = True
    ) -> dict[str, object]:
        """The readings that are due after an update, as quantities of `UpdateRow`, and `is_collapsed`.

        Args:
            update: Updates made.
            params: The parameters.
            first: The row before any update; None for that row itself.
            is_finite: Whether the update was finite; else nothing is read.
        """
        ...


class Task(NamedTuple):
    """What a run steps and measures.

    Attributes:
        params: The start; they stay as they are.
        objective: The losses of the halves.
        source: The batches.
        measure: The readings beside the updates.
        groups: The names of the groups of parameters whose gradient norms are recorded.
        products: Inner products of two trees by group; one that all runs of a program share.
        fingerprint: A hash of the parameters and the data: another start or other data are another run.
        facts: The sizes of its inputs, for the header of the records.
        mesh: The devices, where there are several.
    """

    params: Params
    objective: Objective
    source: BatchSource
    measure: Measure
    groups: tuple[str, ...]
    products: Callable[[Params, Params], Array]
    fingerprint: str
    facts: Mapping[str, object]
    mesh: Mesh | None = None
