"""What all arms of a run share before the first update: parameters, texts, the probe, and problems to solve."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.config import Config
from experiments.data import data_sources, tokens
from experiments.data.gsm8k import Problem
from experiments.data.tokens import TextCodec
from experiments.model import objectives, parameters, pretrained, random_model, sharding
from experiments.model.llama import Architecture, Params
from experiments.training import batches
from experiments.training.batches import Halves, PairTexts
from numerics.types import LossFn

__all__ = ["Materials", "Show", "fingerprint", "loss_of", "mesh_of", "prepared", "shared_key"]


class Show(Protocol):
    """How a long piece of work tells how far it is, as `console.progress.progress` does."""

    def __call__(self, what: str, total: int, unit: str) -> AbstractContextManager[Callable[..., None]]:
        """A context that yields `advance(done, note="")`."""
        ...


class Materials(NamedTuple):
    """What is there before the first update.

    Attributes:
        params: The start, float32.
        architecture: Their model.
        codec: Its tokenizer.
        pairs: What updates are made of.
        left_out: Pairs of the train split that are not used, by reason.
        probe: Two half-batches of held-out pairs, of equally many.
        problems: Test problems for the accuracy; none where it is not read.
        mesh: Where everything lies on several devices.
        fingerprint: SHA-256 of the parameters and of the texts: another start or other data are another run.
    """

    params: Params
    architecture: Architecture
    codec: TextCodec
    pairs: list[PairTexts]
    left_out: Counter[str]
    probe: tuple[Halves, Halves]
    problems: list[Problem]
    mesh: Mesh | None
    fingerprint: str


def shared_key(config: Config) -> tuple[object, ...]:
    """What decides the materials: configurations that agree in it can share them."""
    c, m = config, config.measures
    seed = config.seed if config.model == "tiny" else None
    return (c.model, seed, c.data, c.num_problems, c.max_tokens, c.is_chat, c.mesh, c.arm.reduction, m)


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


def prepared(config: Config, show: Show) -> Materials:
    """Loads the model, makes the pairs and lays out the probe.

    Args:
        config: The configuration.
        show: How progress is shown.

    Raises:
        OSError: If model or data are not there.
        ValueError: If they are not what they should be, or too few pairs are left.
    """
    mesh = mesh_of(config)
    folder = None if config.model == "tiny" else Path(config.model)
    if folder is not None:
        architecture, codec = pretrained.load_architecture(folder), tokens.load(folder)
    else:
        architecture, codec = random_model.ARCHITECTURE, random_model.codec()
    if config.is_chat and codec.template is None:
        raise ValueError(f"{config.model} has no chat template: set is_chat to false.")
    if config.max_tokens > architecture.context:
        raise ValueError(
            f"config.max_tokens must be at most the model's context of {architecture.context}; got {config.max_tokens}."
        )
    if mesh is not None:
        for rows in (config.num_pairs // config.num_parts, config.measures.probe_pairs // 2):
            sharding.check(mesh, architecture, rows)

    def texts(split: data_sources.Split, count: int, most: int | None) -> tuple[list[PairTexts], Counter[str]]:
        total = count or data_sources.count(config.data, split)
        with show("making pairs", total, "problems") as advance:
            made = batches.made(config.data, split, seed=0, num_problems=count, report=lambda done, _: advance(done))
            return batches.encoded(made, codec, is_chat=config.is_chat, max_tokens=config.max_tokens, most=most)

    pairs, left_out = texts("train", config.num_problems, None)
    num_probe = config.measures.probe_pairs
    held_out, _ = texts("test", 4 * num_probe + 16, num_probe)
    if len(held_out) < num_probe:
        raise ValueError(
            f"measures.probe_pairs must be at most the {len(held_out)} pairs of the test split's beginning that fit "
            f"max_tokens; got {num_probe}."
        )
    problems: list[Problem] = []
    if config.measures.accuracy_every:
        problems = list(data_sources.problems(config.data, "test", limit=config.measures.accuracy_problems))
    shape = batches.shape_of(held_out)
    probe = tuple(
        batches.halves([pair.plus for pair in half], [pair.minus for pair in half], config.arm.reduction, shape)
        for half in (held_out[::2], held_out[1::2])
    )
    if folder is None:
        params = parameters.init(architecture, jax.random.key(config.seed))
        if mesh is not None:
            params = jax.device_put(params, sharding.of_parameters(mesh, architecture))
    else:
        place = None if mesh is None else sharding.of_parameter(mesh)
        with show("loading", 100, "per cent") as advance:
            params, _ = pretrained.load(folder, sharding=place, report=lambda done, total: advance(done * 100 // total))
    return Materials(
        params,
        architecture,
        codec,
        pairs,
        left_out,
        (probe[0], probe[1]),
        problems,
        mesh,
        fingerprint(params, [*pairs, *held_out]),
    )


def fingerprint(params: Params, pairs: Sequence[PairTexts]) -> str:
    """A hash of parameters and texts; of parameters by exact integer sums over their bits, wherever they lie."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {_bit_sums()(leaf).tolist()}".encode())
    for pair in pairs:
        digest.update(repr(pair).encode())
    return digest.hexdigest()


@cache
def _bit_sums() -> Callable[[jax.Array], np.ndarray]:
    def sums(leaf: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32).reshape(-1)
        # Sums modulo 2^32 do not depend on their order; the second one knows the places.
        return jnp.stack([jnp.sum(bits), jnp.sum(bits * jnp.arange(bits.size, dtype=jnp.uint32))])

    compiled = jax.jit(sums)
    return lambda leaf: sharding.on_host(compiled(leaf))
