"""Shardings of parameters, optimizer state and batches over a mesh of devices.

The mesh has three axes: `data` splits the batch; `fsdp` splits the batch and every matrix; `tensor` splits heads, the
feed-forward part and the vocabulary. JAX's partitioner does the rest; `parameters` has the axes of each parameter.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from experiments.model import parameters
from experiments.model.transformer import Architecture, Params

__all__ = [
    "AXES",
    "batch",
    "check",
    "everywhere",
    "init",
    "mesh",
    "of_parameter",
    "of_parameters",
    "on_host",
    "place",
    "residual",
]

_Tree = TypeVar("_Tree")

AXES = ("data", "fsdp", "tensor")

_ROWS = ("data", "fsdp")


def mesh(data: int = 1, fsdp: int = 1, tensor: int = 1, devices: np.ndarray | Sequence[object] | None = None) -> Mesh:
    """A mesh of devices.

    Args:
        data: The number of parts of the batch alone.
        fsdp: The number of parts of batch and matrices.
        tensor: The number of parts of heads, feed-forward part and vocabulary, on neighbouring devices.
        devices: The devices; all by default.

    Raises:
        ValueError: If the three do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = (data, fsdp, tensor)
    if min(sizes) < 1 or data * fsdp * tensor != len(devices):
        raise ValueError(
            f"data x fsdp x tensor must be the number of devices, {len(devices)}; got {data} x {fsdp} x {tensor}."
        )
    return Mesh(np.asarray(devices).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * 3)


def check(mesh: Mesh | AbstractMesh, architecture: Architecture, num_rows: int) -> None:
    """Refuses a mesh whose axes do not divide the arrays evenly.

    Raises:
        ValueError: If `tensor` does not divide the key-value heads and the feed-forward width, `fsdp`
            the width, both the vocabulary, or the rows are not a multiple of data x fsdp.
    """
    a = architecture
    for name, count, axes in (
        ("key-value heads", a.num_kv_heads, ["tensor"]),
        ("feed-forward width", a.mlp_width, ["tensor"]),
        ("vocabulary", a.vocabulary, ["tensor", "fsdp"]),
        ("width", a.width, ["fsdp"]),
        ("rows of a batch", num_rows, _ROWS),
    ):
        if count % (size := prod(mesh.shape[axis] for axis in axes)):
            raise ValueError(f"{' x '.join(axes)} must divide the {name}; got {size} for {count}.")


def of_parameter(mesh: Mesh) -> Callable[[str], NamedSharding]:
    """The sharding of a parameter by its name, as `pretrained.load` takes it."""
    return lambda name: NamedSharding(mesh, parameters.TABLE[name].partition)


def of_parameters(mesh: Mesh, architecture: Architecture) -> dict[str, object]:
    """The shardings of all parameters, in the structure of the parameters."""
    sharding = of_parameter(mesh)
    return parameters.build(architecture, lambda name, _: sharding(name))


def batch(mesh: Mesh) -> NamedSharding:
    """The sharding of a batch: its rows over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(_ROWS))


def residual(mesh: Mesh) -> NamedSharding:
    """The sharding of the residual stream: that of its rows."""
    return NamedSharding(mesh, PartitionSpec(_ROWS, None))


def everywhere(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def place(rows: _Tree, mesh: Mesh | None) -> _Tree:
    """A batch of the host on its devices; every process passes the whole batch and keeps its own rows."""
    if mesh is None:
        return jax.tree.map(jnp.asarray, rows)
    where = batch(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(leaf.shape, where, lambda place: np.asarray(leaf)[place]), rows
    )


def on_host(array: jax.Array) -> np.ndarray:
    """The whole array, on every process."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def init(optimizer: optax.GradientTransformation, params: Params) -> optax.OptState:
    """The optimizer's first state, with moments where their parameters lie.

    An array of the state belongs to a parameter, or to one layer of it, where its place in the tree ends like that of
    the parameter and its shape is the same; it then has the sharding of the parameter. All other arrays lie on every
    device.
    """
    known = dict(jax.tree.leaves_with_path(params))
    first = next(iter(known.values())).sharding
    other = everywhere(first.mesh) if isinstance(first, NamedSharding) else first

    def of_leaf(path: tuple, leaf: jax.ShapeDtypeStruct) -> Sharding:
        for start in range(len(path) + 1):
            whole, layers = known.get(path[start:]), known.get(path[start:-1])
            if whole is not None and whole.shape == leaf.shape:
                return whole.sharding
            if layers is not None and layers.shape[1:] == leaf.shape:
                return _of_layer(layers.sharding)
        return other

    shardings = jax.tree.map_with_path(of_leaf, jax.eval_shape(optimizer.init, params))
    return jax.jit(optimizer.init, out_shardings=shardings)(params)


def _of_layer(sharding: Sharding) -> Sharding:
    """The sharding of one layer of an array, whose first axis is that of the layers."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))
