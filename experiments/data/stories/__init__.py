"""The stories of which word problems are made: each a function that tells itself in a number of steps."""

from collections.abc import Callable

from experiments.data.stories.amounts import comparisons, reading, water
from experiments.data.stories.trade import sale, shopping, wages
from experiments.data.stories.trips import journey, outing
from experiments.data.storytelling import Story

__all__ = ["THEMES", "Theme"]

Theme = Callable[[Story, int], None]

THEMES: list[tuple[Theme, int]] = [
    (sale, 8), (comparisons, 8), (journey, 8), (shopping, 8), (wages, 8), (reading, 7), (outing, 8), (water, 8)
]  # fmt: skip
"""The stories, and the most steps of which each is capable. Their order is part of what a seed means."""
