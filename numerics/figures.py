"""The figure of a comparison: remainders over step sizes, with the slopes of theory beside them."""

import numpy as np
from matplotlib.figure import Figure

from console.figures import COLORS, MARKERS
from numerics import checks
from numerics.comparison import Comparison

__all__ = ["draw"]

_VERDICTS = {"met": "", "exact": ", exact to round-off", "missed": ", missed", "not resolved": ", not resolved"}


@checks.arguments
def draw(comparison: Comparison, title: str) -> Figure:
    """The measured drift and the remainders after each order, log-log; dashed lines have the slope of theory.

    Filled markers are the steps that the order was fitted on; the grey band is round-off.

    Args:
        comparison: The comparison.
        title: The title.
    """
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    sizes = comparison.step_sizes
    # Zero has no logarithm: a remainder that is zero leaves a gap.
    axes.loglog(sizes, np.where(comparison.measured > 0, comparison.measured, np.nan), color="black", label="drift")
    for order, (fit, remainders) in enumerate(zip(comparison.fits, comparison.remainders, strict=True), start=1):
        color, marker = COLORS[order - 1], MARKERS[order - 1]
        visible = np.where(remainders > 0, remainders, np.nan)
        used = np.array(fit.used)
        slope = "" if fit.order is None else f", slope {fit.order:.2f}"
        label = f"after order {order}{slope} (theory {fit.theory}{_VERDICTS[fit.verdict]})"
        axes.loglog(sizes, visible, marker, color=color, markerfacecolor="none", markersize=5)
        axes.loglog(sizes[used], visible[used], marker, color=color, markersize=5)
        axes.plot([], [], f"--{marker}", color=color, markersize=5, label=label)
        clear = np.flatnonzero(used) if used.any() else np.flatnonzero(remainders > comparison.round_off)
        if len(clear):
            through = clear[len(clear) // 2]
            line = remainders[through] * (sizes / sizes[through]) ** fit.theory
            axes.loglog(sizes, line, "--", color=color, linewidth=0.9)
    heights = np.concatenate([comparison.measured, *comparison.remainders, comparison.round_off])
    heights = heights[np.isfinite(heights) & (heights > 0)]
    if not len(heights):
        heights = np.ones(1)
    axes.fill_between(sizes, 1e-300, comparison.round_off, color="0.85", linewidth=0, label="round-off", zorder=0)
    if comparison.kink is not None:
        axes.axvspan(*comparison.kink, color="#CC79A7", alpha=0.25, linewidth=0, label="kink of the update map")
    axes.set_ylim(max(heights.min() / 3, 1e-300), min(heights.max(), 1e300) * 3)
    axes.set_xlim(sizes.min() / 1.3, sizes.max() * 1.3)
    axes.set_xlabel("step size")
    axes.set_ylabel(f"Euclidean norm, {comparison.frame} frame")
    axes.set_title(title, fontsize="small")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return figure
