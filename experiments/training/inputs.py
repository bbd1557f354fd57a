"""The inputs of a run before its first update: parameters, texts, the probe, and problems to solve."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.config import PYTHON, Config, Dtype
from experiments.data import data_sources, preferences, tokens
from experiments.data.gsm8k import Problem
from experiments.data.tokens import TextCodec
from experiments.model import loading, objectives, parameters, pretrained, random_model, sharding, text_losses
from experiments.model.loading import Show
from experiments.model.transformer import Architecture, Params
from experiments.pairs import pair_source
from experiments.pairs.pair_source import PairSource
from experiments.training import arm_update, batches
from experiments.training.arm_update import Objective
from experiments.training.batches import BatchSource, EncodedPair, PairBatch
from numerics.types import LossFn

__all__ = [
    "RunInputs",
    "batch_source",
    "fingerprint",
    "load",
    "loss_of",
    "mesh_of",
    "objective_of",
    "prepared",
    "require_model",
    "shared_key",
]


class RunInputs(NamedTuple):
    """The inputs of a run.

    Attributes:
        params: The start, float32.
        architecture: Their model.
        codec: Its tokenizer.
        pairs: The pairs that updates are made of.
        left_out: What no pair is made of, by reason: problems of the train split, or rows of both splits. Texts that
            are too long are those of the train split.
        probe: Two half-batches of held-out pairs, of equally many.
        problems: Test problems for the accuracy; none where it is not read.
        mesh: The devices, where there are several.
        fingerprint: SHA-256 of the parameters and of the texts: another start or other data are another run.
    """

    params: Params
    architecture: Architecture
    codec: TextCodec
    pairs: Sequence[EncodedPair]
    left_out: Counter[str]
    probe: tuple[PairBatch, PairBatch]
    problems: list[Problem]
    mesh: Mesh | None
    fingerprint: str


def shared_key(config: Config) -> tuple[object, ...]:
    """The key of a cache of inputs: two configurations with the same key share their inputs."""
    c, m = config, config.measures
    seed = config.seed if config.model == "tiny" else None
    return (
        c.model,
        seed,
        c.data,
        c.held_out,
        c.held_out_file,
        c.columns,
        c.skip_broken,
        c.num_problems,
        c.max_tokens,
        c.is_chat,
        c.mesh,
        c.arm.reduction,
        m,
    )


def mesh_of(config: Config) -> Mesh | None:
    """The mesh of a configuration; None for one device.

    Raises:
        ValueError: If it does not fit the devices that there are.
    """
    shape = config.mesh
    if (shape.data, shape.fsdp, shape.tensor) == (1, 1, 1):
        if jax.process_count() > 1:
            raise ValueError(
                f"mesh must split the work among the {jax.process_count()} processes; got 1 x 1 x 1. Set mesh.data, "
                "mesh.fsdp or mesh.tensor."
            )
        return None
    return sharding.mesh(shape.data, shape.fsdp, shape.tensor)


def loss_of(config: Config, architecture: Architecture, mesh: Mesh | None, num_parts: int | None = None) -> LossFn:
    """The negative log-likelihood of a configuration, with log-probabilities as aux."""
    loss = objectives.negative_log_likelihood(
        architecture, compute_dtype=config.compute_dtype, remat=config.remat, mesh=mesh, has_aux=True
    )
    return objectives.in_parts(loss, config.num_parts if num_parts is None else num_parts, has_aux=True)


def objective_of(config: Config, architecture: Architecture, mesh: Mesh | None) -> Objective:
    """The losses that the arm of a configuration steps.

    Raises:
        ValueError: If the objective is no name, and no function that is a loss of texts.
    """
    options = {"compute_dtype": config.compute_dtype, "remat": config.remat, "mesh": mesh}
    third = objectives.from_start(architecture, num_parts=config.num_parts, **options)
    if config.arm.objective == "log-likelihood":
        return arm_update.likelihood(loss_of(config, architecture, mesh), third)
    function = text_losses.build(config.arm.objective)

    def of_side(side: Literal["+", "-"]) -> LossFn:
        loss = objectives.of_texts(architecture, function, side, **options)
        return objectives.in_parts(loss, config.num_parts, has_aux=True)

    return Objective(of_side("+"), of_side("-"), third)


def prepared(config: Config, inputs: RunInputs) -> Callable[[PairBatch], PairBatch]:
    """A function of batches that adds the log-probabilities at the start of the run, where the objective reads them."""
    if config.arm.objective == "log-likelihood":
        return lambda batch: batch
    program = _log_probs(inputs.architecture, config.compute_dtype, inputs.mesh)

    def with_start(half: tokens.Batch) -> tokens.Batch:
        return half._replace(
            start_log_probs=sharding.on_host(program(inputs.params, sharding.place(half, inputs.mesh)))
        )

    return lambda batch: PairBatch(*map(with_start, batch))


@cache
def _log_probs(
    architecture: Architecture, dtype: Dtype, mesh: Mesh | None
) -> Callable[[Params, tokens.Batch], jax.Array]:
    return jax.jit(
        lambda params, batch: objectives.log_probs(params, architecture, batch, compute_dtype=dtype, mesh=mesh)
    )


def batch_source(config: Config, inputs: RunInputs) -> BatchSource:
    """The batches of fixed pairs that a configuration asks for.

    Raises:
        ValueError: If there are too few pairs.
    """
    return batches.epoch_batches(
        inputs.pairs,
        config.num_pairs,
        seed=config.seed,
        reduction=config.arm.reduction,
        is_same_problems=config.pairing == "same",
    )


def require_model(config: Config) -> None:
    """Refuses the configuration of losses of one's own, which a call from Python has.

    Raises:
        ValueError: If it is one.
    """
    if config.preset == PYTHON:
        raise ValueError(f"{config.model} must be run by the call from Python that made it: no file has its losses.")


def load(config: Config, show: Show) -> RunInputs:
    """Loads the model, makes the pairs and lays out the probe.

    Args:
        config: The configuration.
        show: The display of progress.

    Raises:
        OSError: If model or data are not there.
        ValueError: If they are not what they should be, or too few pairs are left.
    """
    require_model(config)
    mesh = mesh_of(config)
    folder = None if config.model == "tiny" else Path(config.model)
    if folder is not None:
        architecture, codec = pretrained.load_architecture(folder), tokens.load(folder)
    else:
        architecture, codec = random_model.ARCHITECTURE, random_model.codec()
    if config.is_chat and codec.template is None:
        raise ValueError(f"config.is_chat must be false for a model without a chat template, {config.model}; got true.")
    if config.max_tokens > architecture.context:
        raise ValueError(
            f"config.max_tokens must be at most the model's context of {architecture.context}; got {config.max_tokens}."
        )
    if mesh is not None:
        for rows in (config.num_pairs // config.num_parts, config.measures.probe_pairs // 2):
            sharding.check(mesh, architecture, rows)

    source = PairSource(
        config.data, config.held_out, config.columns, config.held_out_file, skip_broken=config.skip_broken
    )
    is_preferences = preferences.is_source(config.data)
    for name in filter(None, (config.data, config.held_out_file)) if is_preferences else ():
        try:
            preferences.require_source("the pairs of a run", name)
        except ValueError as error:
            raise ValueError(f"{error} Put it back; a relative path counts from the folder of the call.") from None

    def encode(
        split: data_sources.Split, limit: int, left_out: Counter[str], most: int | None = None
    ) -> Sequence[EncodedPair]:
        total = limit if limit and not is_preferences else pair_source.count(source, split)
        with show("making pairs", total, "rows" if is_preferences else "problems") as advance:
            pairs = pair_source.pairs(source, split, seed=0, limit=limit or None, left_out=left_out, report=advance)
            return batches.encode_pairs(
                pairs,
                codec,
                source=config.held_out_file if split == "test" and config.held_out_file else config.data,
                is_chat=config.is_chat,
                max_tokens=config.max_tokens,
                left_out=left_out,
                most=most,
                skip_broken=config.skip_broken,
            )

    left_out: Counter[str] = Counter()
    pairs = encode("train", config.num_problems, left_out)
    num_probe = config.measures.probe_pairs
    held_out = encode("test", 4 * num_probe + 16, Counter(), num_probe)
    if len(held_out) < num_probe:
        fix = " Hold out more, with --set held_out=SHARE or --held-out FILE." if is_preferences else ""
        raise ValueError(
            f"measures.probe_pairs must be at most the {len(held_out)} pairs of the test split's beginning that fit "
            f"max_tokens; got {num_probe}.{fix}"
        )
    problems: list[Problem] = []
    if config.measures.accuracy_every and is_preferences:
        raise ValueError("measures.accuracy_every must be 0 for preference data, which has no final answers.")
    if config.measures.accuracy_every:
        problems = list(data_sources.problems(config.data, "test", limit=config.measures.accuracy_problems))
    shape = batches.padded_shape(held_out)
    first, second = (
        batches.pair_batch(
            [pair.preferred for pair in half], [pair.dispreferred for pair in half], config.arm.reduction, shape
        )
        for half in (held_out[::2], held_out[1::2])
    )
    if folder is None:
        params = parameters.init(architecture, jax.random.key(config.seed))
        if mesh is not None:
            params = jax.device_put(params, sharding.of_parameters(mesh, architecture))
    else:
        params, _ = loading.policy(folder, show, None if mesh is None else sharding.of_parameter(mesh))
    return RunInputs(
        params,
        architecture,
        codec,
        pairs,
        left_out,
        (first, second),
        problems,
        mesh,
        fingerprint(params, chain(pairs, held_out)),
    )


def fingerprint(params: Params, pairs: Iterable[EncodedPair]) -> str:
    """A hash of parameters and texts; of parameters by exact integer sums over their bits, wherever they are placed."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {_bit_sums()(leaf).tolist()}".encode())
    for pair in pairs:
        # The words of the first version, whatever the classes are called: the hash of a run must stay the same.
        plus, minus = (
            f"Encoded(prompt={text.prompt!r}, completion={text.completion!r})"
            for text in (pair.preferred, pair.dispreferred)
        )
        digest.update(f"PairTexts(id={pair.id!r}, plus={plus}, minus={minus})".encode())
    return digest.hexdigest()


@cache
def _bit_sums() -> Callable[[jax.Array], np.ndarray]:
    def sums(leaf: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32).reshape(-1)
        # Sums modulo 2^32 do not depend on their order; the second one knows the places.
        return jnp.stack([jnp.sum(bits), jnp.sum(bits * jnp.arange(bits.size, dtype=jnp.uint32))])

    compiled = jax.jit(sums)
    return lambda leaf: sharding.on_host(compiled(leaf))
