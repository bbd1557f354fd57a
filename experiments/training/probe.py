"""Readings beside the updates: the probe's log-probabilities and gradients, and the accuracy."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from experiments.config import Config
from experiments.data.tokens import Batch
from experiments.model import generation, sharding
from experiments.model.transformer import Params
from experiments.records import Accuracy, ProbeAlignment, UpdateRow
from experiments.records import Probe as ProbeRow
from experiments.training import train_step
from experiments.training.inputs import RunInputs
from numerics.types import LossFn

__all__ = ["Probe", "Programs", "programs", "score"]


class Programs(NamedTuple):
    """The compiled functions of the probe."""

    log_probs: Callable[[Params, Batch], jax.Array]
    gradient: Callable[[Params, Batch], Params]


def programs(loss: LossFn) -> Programs:
    """The functions of a negative log-likelihood that has log-probabilities as aux."""
    return Programs(
        jax.jit(lambda params, batch: loss(params, batch)[1]),
        jax.jit(jax.grad(lambda params, batch: loss(params, batch)[0])),
    )


def score(row: UpdateRow) -> float:
    """The score that the best checkpoint maximises: the probe's preferred log-probability per token."""
    reading = None if row.probe is None else row.probe.log_prob_plus_per_token
    return -np.inf if reading is None else reading


class Probe:
    """The readings of a run."""

    def __init__(self, config: Config, inputs: RunInputs, programs: Programs) -> None:
        self._config, self._inputs, self._programs = config, inputs, programs
        self._halves = [sharding.place(half, inputs.mesh) for half in inputs.probe]

    def __call__(
        self, update: int, params: Params, first: UpdateRow | None, *, is_finite: bool = True
    ) -> dict[str, object]:
        """As `task.Measure`; collapsed is a run whose criterion of `config.Measures` is met now."""
        started = time.perf_counter()
        measures = self._config.measures

        def is_due(every: int) -> bool:
            return is_finite and every > 0 and (update % every == 0 or update == self._config.num_updates)

        probe = self._log_probs(params) if is_due(measures.probe_every) else None
        row: dict[str, object] = {
            "probe": probe,
            "probe_alignment": self._alignment(params) if is_due(measures.alignment_every) else None,
            "accuracy": self._accuracy(params) if is_due(measures.accuracy_every) else None,
            "is_collapsed": False,
        }
        if first is not None and probe is not None:
            now = probe.log_prob_plus_per_token
            # Not (x >= y): a value that is no number counts as collapsed.
            row["is_collapsed"] = now is None or not now >= score(first) - measures.collapse_nats
        return row | {"probe_seconds": time.perf_counter() - started}

    def _log_probs(self, params: Params) -> ProbeRow:
        readings: dict[str, float] = {}
        for name, side in (("plus", "preferred"), ("minus", "dispreferred")):
            batches = [getattr(half, side) for half in self._halves]
            log_probs = np.concatenate([sharding.on_host(self._programs.log_probs(params, batch)) for batch in batches])
            num_tokens = sum(int(np.sum(getattr(half, side).lengths)) for half in self._inputs.probe)
            total = float(np.sum(np.asarray(log_probs, np.float64)))
            readings |= {f"log_prob_{name}": total / len(log_probs), f"log_prob_{name}_per_token": total / num_tokens}
        return ProbeRow(**readings)

    def _alignment(self, params: Params) -> ProbeAlignment:
        halves = train_step.half_batches(self._programs.gradient, params, *self._halves)
        return ProbeAlignment(
            **{name: float(value) for name, value in halves.whole._asdict().items()},
            product_unbiased=float(halves.product),
            norm_plus_squared_unbiased=float(halves.norm_plus_squared),
            norm_minus_squared_unbiased=float(halves.norm_minus_squared),
        )

    def _accuracy(self, params: Params) -> Accuracy:
        inputs = self._inputs
        samples = generation.samples(
            params,
            inputs.architecture,
            inputs.codec,
            inputs.problems,
            is_chat=self._config.is_chat,
            num_rows=min(64, len(inputs.problems)),  # answers decoded at once: their cache must fit
            max_new_tokens=self._config.measures.max_new_tokens,
            compute_dtype=self._config.compute_dtype,
        )
        right = sum(sample.is_right for several in samples for sample in several)
        low, high = generation.wilson_interval(right, len(inputs.problems))
        return Accuracy(right=right, total=len(inputs.problems), low=low, high=high)
