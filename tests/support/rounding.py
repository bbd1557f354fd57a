"""The one place that says when two trees of floating-point numbers are equal to round-off."""

import jax
import numpy as np

__all__ = ["assert_equal_to_round_off", "flat", "norm"]


def flat(tree):
    """All numbers of a tree in one vector."""
    return np.concatenate([np.zeros(0), *(np.asarray(leaf, np.float64).reshape(-1) for leaf in jax.tree.leaves(tree))])


def norm(tree):
    return float(np.linalg.norm(flat(tree)))


def assert_equal_to_round_off(got, expected, *, scale=None, operations=100, dtype: type = np.float64):
    """|got - expected| <= machine epsilon x scale x sqrt(length) x operations.

    Args:
        got: A tree.
        expected: A tree of the same length.
        scale: The size of what was added up to get there; that of the largest expected number unless given.
        operations: How many roundings of that size may have gone into one number.
        dtype: What was computed in.
    """
    a, b = flat(got), flat(expected)
    assert a.shape == b.shape
    size = np.abs(b).max(initial=0.0) if scale is None else float(scale)
    bound = np.finfo(dtype).eps * size * np.sqrt(a.size) * operations
    assert np.abs(a - b).max(initial=0.0) <= bound, f"differ by {np.abs(a - b).max():.3g}, allowed {bound:.3g}"
