"""Micro-batches of unequal sizes as one stack: padded, with the weights that the caller's mean asks for.

Where batches differ in other axes than that of the examples, `losses.of_params` and `losses.pairs_of_params` take one
function for each batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from numerics import checks, contents
from numerics.traces import shapes_of
from numerics.types import Batch, LossFn, Params, Scalar

__all__ = ["padded"]


@checks.arguments
def padded(
    function: LossFn, batches: Sequence[Batch], *, reduction: Literal["sum", "batch-mean", "example-mean"]
) -> tuple[LossFn, Batch]:
    """A loss of one example, over batches of unequal numbers of examples: the function and the stack for `Losses`.

    Batches are padded to the longest with copies of their first example, at weight 0.

    Args:
        function: The loss of one example, `loss(params, example)`; without auxiliary outputs.
        batches: The batches; every leaf has the examples of its batch along the first axis.
        reduction: The loss of a batch: "sum" over its examples; "batch-mean" over them, so that every batch counts
            alike; "example-mean", the sum over the mean number of examples of a batch, so that every example counts
            alike and the mean over the batches is that over all examples.

    Raises:
        TypeError: If a leaf is no array.
        ValueError: If a batch is empty, its leaves differ in the number of examples, or its examples from those before.
    """
    sizes = []
    for k, batch in enumerate(batches):
        for path, leaf in jax.tree.leaves_with_path(batch):
            place = f"batches[{k}]{jax.tree_util.keystr(path)}"
            checks.require(hasattr(leaf, "dtype"), place, "be an array", leaf)
            checks.digits(place, leaf)
        counts = {(*np.shape(leaf), 0)[0] for leaf in jax.tree.leaves(batch)}
        must = "hold one number of examples, one at least, in every leaf"
        is_right = len(counts) == 1 and 0 not in counts
        checks.require(is_right, f"batches[{k}]", must, sorted(counts), error=ValueError)
        example, first = (shapes_of(_rows(each, [0])) for each in (batch, batches[0]))
        checks.require(example == first, f"batches[{k}]", "hold examples as batches[0] does", example, error=ValueError)
        sizes.append(counts.pop())
    longest = max(sizes)
    weights = (np.arange(longest) < np.array(sizes)[:, None]).astype(float)
    if reduction == "batch-mean":
        weights = weights / np.array(sizes)[:, None]
    elif reduction == "example-mean":
        weights = weights / np.mean(sizes)
    padded = [_rows(batch, [*range(size), *[0] * (longest - size)]) for batch, size in zip(batches, sizes, strict=True)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)
    return _OverExamples(contents.hashable(function)), (stack, jnp.asarray(weights, float))


def _rows(batch: Batch, numbers: list[int]) -> Batch:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[np.array(numbers)], batch)


@dataclass(frozen=True)
class _OverExamples:
    function: LossFn

    def __call__(self, params: Params, batch: tuple[Batch, Array]) -> Scalar:
        examples, weights = batch
        values = jax.vmap(self.function, in_axes=(None, 0))(params, examples)
        is_scalar = getattr(values, "shape", None) == weights.shape
        checks.require(is_scalar, "the loss of one example", "be a real scalar, without outputs beside it", values)
        return jnp.sum(weights.astype(values.dtype) * values)
