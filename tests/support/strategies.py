"""Random comparisons for Hypothesis. Sizes come from a short list: every new one is compiled."""

from hypothesis import strategies as st

from numerics import schedules

__all__ = ["SCHEDULES", "seeds"]

SCHEDULES = {
    "minus first": schedules.interleaved(2, first="-"),
    "plus first": schedules.interleaved(2, first="+"),
    "blocks": schedules.blocks(2, first="-"),
    "reversed": schedules.reverse(schedules.interleaved(2, first="-")),
    "pairs swapped": schedules.interleaved(2, first="-", order=[1, 0]),
    "repeated": schedules.steps([0, 0, 3, 0]),
    "sizes": schedules.with_scales(schedules.interleaved(2, first="-"), [0.5, 1.5, 1.0, 2.0]),
}
"""Words of four steps over two pairs: one compiled program serves them all."""

seeds = st.integers(0, 2**32 - 1)
