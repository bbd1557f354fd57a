"""The task of a language model: what `inputs` loads, as the loop steps and measures it."""

from dataclasses import replace
from functools import cache

from jax.sharding import Mesh

from experiments.config import Config
from experiments.model import parameters
from experiments.model.transformer import Architecture
from experiments.training import inputs, probe, train_step
from experiments.training.arm_update import Objective
from experiments.training.batches import BatchSource, PairBatch
from experiments.training.inputs import RunInputs
from experiments.training.probe import Probe
from experiments.training.task import Task
from numerics.types import Params

__all__ = ["of"]


@cache  # the seeds of an arm share what is compiled
def _functions(config: Config, architecture: Architecture, mesh: Mesh | None) -> tuple[Objective, probe.Programs]:
    objective = inputs.objective_of(config, architecture, mesh)
    return objective, probe.programs(inputs.loss_of(config, architecture, mesh, num_parts=1))


def of(config: Config, run_inputs: RunInputs, source: BatchSource | None = None) -> Task:
    """The task of a configuration.

    Args:
        config: The configuration.
        run_inputs: Its inputs.
        source: The batches; those of fixed pairs by default.

    Raises:
        ValueError: If there are too few pairs.
    """
    architecture, mesh = run_inputs.architecture, run_inputs.mesh
    objective, programs = _functions(replace(config, seed=0), architecture, mesh)
    prepare = inputs.prepared(config, run_inputs)
    fixed = source or inputs.batch_source(config, run_inputs)

    def prepared(update: int, params: Params) -> PairBatch:
        return prepare(fixed(update, params))

    return Task(
        params=run_inputs.params,
        objective=objective,
        source=prepared,
        measure=Probe(config, run_inputs, programs),
        groups=tuple(name for name in train_step.GROUPS if name != "head" or not architecture.is_tied),
        products=train_step.group_products,
        fingerprint=run_inputs.fingerprint,
        facts={
            "num_parameters": parameters.count(architecture),
            "num_pairs_in_all": len(run_inputs.pairs),
            "left_out": dict(run_inputs.left_out),
        },
        mesh=mesh,
    )
