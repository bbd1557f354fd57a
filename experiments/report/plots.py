"""The figures of the report: the post's panels with bands over seeds, and the comparison of two updates at one point.

Pure functions of what was read: nothing is smoothed, filled in or left out; a curve ends at its last finite value.
"""

import re
from collections.abc import Sequence
from math import isfinite, nan
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from console.figures import COLORS, FONTS, MARKERS
from experiments.comparison_records import Twin
from experiments.records import AXES, Panel, value
from experiments.report.curves import Curve, band, curve
from experiments.report.run_folders import Arm, Run

__all__ = ["Style", "draw", "inline", "style", "twin_alignment", "twin_gap"]

_SOLID, _DASHED = "-", "--"
_WIDTH = 4.6  # inches: in the page's narrowest column its text is as large as the page's notes
_CHARACTER = 0.068  # inches that a character of the legend takes
_MOST_MARKERS = 8  # on a curve: more would hide it
_MOST_THIN = 3  # seeds drawn one by one; of more the band says enough
# A range that is wider than this, relative to the typical value, would leave one flat line at 0.
_MOST_LINEAR = 10

# Set for every figure, so that a reader's own settings do not change the report.
_LOOK: dict[Any, Any] = {
    **{f"axes.{name}": value for name, value in (("titlesize", 9), ("labelsize", 8), ("linewidth", 0.6))},
    **{f"axes.spines.{side}": False for side in ("top", "right")},
    "axes.edgecolor": "0.4",
    "axes.axisbelow": True,
    **FONTS,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
}


_NOTE = "solid: preferred, dashed: dispreferred"


def _lines(panel: Panel) -> tuple[tuple[str, str], ...]:
    """The quantities of a panel, each with its line style."""
    dashed = () if panel.dispreferred is None else ((panel.dispreferred, _DASHED),)
    return ((panel.preferred, _SOLID), *dashed)


class Style(NamedTuple):
    """How an arm looks in every figure."""

    color: str
    marker: str
    fill: str


def style(place: int) -> Style:
    """Colour and marker of the arm in that place, from 0; markers are all different up to ten arms."""
    color = COLORS[place % len(COLORS)]
    # A colour that comes again is hollow.
    return Style(color, MARKERS[place % len(MARKERS)], color if place < len(COLORS) else "white")


# The post's panels ----------------------------------------------------------------------------------------------------


@mpl.rc_context(_LOOK)
def draw(panel: Panel, arms: Sequence[Arm], axis: str) -> Figure | None:
    """A panel for all arms: mean over seeds, band from the least to the greatest, each of two or three seeds thin.

    The mean ends where the first of its seeds does; seeds that go on are drawn on their own. A cross is the last finite
    value of a curve, at the foot of the panel where there was none; a tick at the foot is where a run met the criterion
    of collapse. Where a few values dwarf the others the vertical axis is logarithmic beyond a range that it names.

    Args:
        panel: The panel.
        arms: In the order that gives them colours and markers.
        axis: A key of `AXES`.

    Returns:
        The figure; None where no arm has a value.
    """
    field, axis_name = AXES[axis]
    curves_of = {
        (place, name): [curve(run, name, field) for run in arm.runs]
        for place, arm in enumerate(arms)
        for name, _ in _lines(panel)
    }
    if not any(each.x or each.is_cut for curves in curves_of.values() for each in curves):
        return None
    handles = []
    for place, arm in enumerate(arms):
        color, marker, fill = style(place)
        looks = Line2D([], [], color=color, marker=marker, markerfacecolor=fill, markersize=4.5, label=arm.label)
        handles.append(looks)
    labels = [arm.label for arm in arms]
    if any(each.is_cut for curves in curves_of.values() for each in curves):
        handles.append(Line2D([], [], color="0.3", marker="x", linestyle="", label="last finite value"))
        labels.append("last finite value")
    if any(run.collapsed_at is not None for arm in arms for run in arm.runs):
        handles.append(
            Line2D([], [], color="0.3", marker="|", markersize=8, linestyle="", label="collapse criterion met")
        )
        labels.append("collapse criterion met")
    figure, axes = _figure(handles, labels)
    scale = 100.0 if panel.name == "accuracy" else 1.0
    ys = [abs(y) for curves in curves_of.values() for each in curves for y in each.y]
    typical = 2 * median(ys) if ys else 0.0  # most values lie in the linear part
    is_logarithmic = panel.name != "accuracy" and bool(ys) and max(ys) > _MOST_LINEAR * typical > 0
    if is_logarithmic:
        axes.set_yscale("symlog", linthresh=typical)
    for place, arm in enumerate(arms):
        for name, line in _lines(panel):
            _draw_arm(axes, place, curves_of[place, name], line, scale)
        if panel.name == "accuracy":
            _draw_intervals(axes, place, len(arms), arm.runs, field)
    # After the curves: their range is the panel's.
    for place, arm in enumerate(arms):
        for run in arm.runs:
            if (x := _collapse(run, field)) is not None:
                axes.axvline(x, 0, 0.06, color=style(place).color, linewidth=1.6, clip_on=False)
    axes.set_title(panel.title)
    axes.set_xlabel(axis_name)
    if axis == "learning-rates":
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))  # 0.0002, 0.0004 ... would touch
    unit = f"{panel.unit}\nlogarithmic beyond ±{typical:.3g}" if is_logarithmic else panel.unit
    axes.set_ylabel(unit)
    if panel.dispreferred is not None:
        axes.text(0.5, 1.005, _NOTE, transform=axes.transAxes, ha="center", va="bottom", fontsize=6.5, color="0.35")
        axes.set_title(panel.title, pad=14)
    return figure


def _figure(handles: Sequence[Line2D], labels: Sequence[str]) -> tuple[Figure, Axes]:
    """An empty figure that is higher by as many lines as its legend has."""
    longest = max(map(len, labels))
    num_columns = max(1, min(3, len(labels), int(_WIDTH / (_CHARACTER * longest + 0.5))))
    num_lines = -(-len(labels) // num_columns)
    figure = Figure(figsize=(_WIDTH, 3.2 + 0.165 * num_lines), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=True)
    figure.legend(handles=list(handles), loc="outside lower center", ncols=num_columns)
    return figure, axes


def _draw_arm(axes: Axes, place: int, curves: Sequence[Curve], line: str, scale: float) -> None:
    color, marker, fill = style(place)
    measured = [each for each in curves if each.x or each.is_cut]
    if not measured:
        return
    middle = band(measured)
    # Each arm's markers begin at another point, so that curves which agree stay told apart.
    every = max(1, -(-len(middle.x) // _MOST_MARKERS))
    marks = (place * every // 5 % every, every)
    mean = [scale * y for y in middle.mean]
    axes.plot(middle.x, mean, line, color=color, linewidth=1.5, zorder=3)
    axes.plot(middle.x, mean, marker, color=color, markerfacecolor=fill, markersize=4, markevery=marks, zorder=3)
    if len(measured) > 1:
        low, high = ([scale * y for y in side] for side in (middle.low, middle.high))
        axes.fill_between(middle.x, low, high, color=color, alpha=0.15, linewidth=0, zorder=1)
    for each in measured:
        is_longer = len(each.x) > len(middle.x)
        if len(measured) > 1 and (len(measured) <= _MOST_THIN or is_longer):
            axes.plot(each.x, [scale * y for y in each.y], line, color=color, linewidth=0.6, alpha=0.6, zorder=2)
        if not each.is_cut:
            continue
        if each.x:
            axes.plot(each.x[-1:], [scale * each.y[-1]], "x", color=color, markersize=7, markeredgewidth=1.8, zorder=5)
        elif each.cut_at is not None:
            foot = axes.get_xaxis_transform()
            axes.plot(
                [each.cut_at], [0], "x", color=color, markersize=7, markeredgewidth=1.8, transform=foot, clip_on=False
            )


def _draw_intervals(axes: Axes, place: int, num_arms: int, runs: Sequence[Run], field: str) -> None:
    """From the lowest end of the seeds' intervals to the highest; arms a little apart, so that all are seen."""
    spans: dict[float, list[tuple[float, float]]] = {}
    for run in runs:
        for row in run.updates:
            x, low, high = (value(row, name) for name in (field, "accuracy.low", "accuracy.high"))
            if x is not None and low is not None and high is not None:
                spans.setdefault(x, []).append((low, high))
    if not spans:
        return
    width = (max(spans) - min(spans)) or 1.0
    apart = width * 0.008 * (place - (num_arms - 1) / 2)
    for x, ends in spans.items():
        low, high = 100 * min(low for low, _ in ends), 100 * max(high for _, high in ends)
        axes.vlines(x + apart, low, high, color=style(place).color, linewidth=1, alpha=0.8, zorder=2)


def _collapse(run: Run, field: str) -> float | None:
    return next((value(row, field) for row in run.updates if row.is_collapsed), None)


# Two updates at one point ---------------------------------------------------------------------------------------------


@mpl.rc_context(_LOOK)
def twin_gap(twin: Twin) -> Figure:
    """Gap, prediction and remainders over learning rates, log-log; dashed lines have the slope of theory.

    Args:
        twin: The comparison. What is zero or not finite has no logarithm, and leaves a gap.
    """
    rates = twin.learning_rates
    round_off = twin.round_off
    series = [
        ("gap", "gap", "#000000", "o", ""),
        ("first", "first order, predicted", "#56B4E9", "v", ""),
        ("second", "second order, predicted", "#CC79A7", "D", ""),
        ("remainder_first", "gap − first order", "#0072B2", "s", "first"),
        ("remainder_second", "gap − first − second order", "#D55E00", "^", "second"),
    ]
    handles, points, lines = [], [], []
    for name, words, color, marker, fit in series:
        label = words
        norms = [norm if isfinite(norm) and norm > 0 else nan for norm in getattr(twin, name)]
        if fit:
            label, slope = _fitted(words, twin, fit)
            clear = [place for place, norm in enumerate(norms) if norm > round_off[place]]
            if slope is not None and clear:
                through = clear[len(clear) // 2]
                with np.errstate(over="ignore"):  # infinity has no place in the figure, and is no reason to fail
                    lines.append((norms[through] * (np.array(rates) / rates[through]) ** slope, color))
        points.append((norms, color, marker, _SOLID if not fit else ""))
        handles.append(
            Line2D([], [], color=color, marker=marker, linestyle=_DASHED if fit else _SOLID, markersize=4, label=label)
        )
    handles.append(Line2D([], [], color="0.8", linewidth=6, label="round-off"))
    figure, axes = _figure(handles, [str(handle.get_label()) for handle in handles])
    axes.set_xscale("log")
    axes.set_yscale("log")
    for norms, color, marker, line in points:
        axes.plot(rates, norms, linestyle=line or "none", marker=marker, color=color, markersize=4, linewidth=1.1)
    positive = [norm for norms, *_ in points for norm in norms if norm > 0] or [1.0]
    for norms, color in lines:
        axes.plot(rates, norms, _DASHED, color=color, linewidth=0.9)
    least = min([*positive, *(floor for floor in round_off if isfinite(floor) and floor > 0)]) / 3
    axes.fill_between(rates, least, [max(floor, least) for floor in round_off], color="0.85", linewidth=0, zorder=0)
    axes.set_ylim(least, 3 * max(positive))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("norm of the displacement")
    axes.set_title(f"Sequential − accumulated, {twin.optimizer}, update {twin.update}")
    return figure


def _fitted(label: str, twin: Twin, name: str) -> tuple[str, float | None]:
    """The label of a remainder with its fitted order, and the order of theory."""
    fit = twin.fits[name]
    is_resolved = fit.order is not None and isfinite(fit.order)
    slope = f"slope {fit.order:.2f}" if is_resolved else "slope not resolved"
    theory = fit.theory if fit.theory is None else f"{fit.theory:g}"
    verdict = "" if fit.verdict in ("met", "not resolved", None) else f", {fit.verdict}"
    return f"{label}: {slope} (theory {theory}{verdict})", fit.theory


@mpl.rc_context(_LOOK)
def twin_alignment(twin: Twin) -> Figure | None:
    """g⁺·g⁻ after one update against the learning rate: measured markers, predicted lines.

    Args:
        twin: The comparison.

    Returns:
        The figure; None where the twin was made without g⁺·g⁻.
    """
    rates, alignment = twin.learning_rates, twin.alignment
    if alignment is None:
        return None
    handles = []
    for name, color, marker in (("accumulated", "#0072B2", "o"), ("sequential", "#D55E00", "s")):
        handles.append(
            Line2D([], [], color=color, marker=marker, linestyle="", markersize=4, label=f"{name}, measured")
        )
        handles.append(Line2D([], [], color=color, linestyle=_DASHED, linewidth=1, label=f"{name}, predicted"))
    handles.append(Line2D([], [], color="0.4", linestyle=":", label="before the update"))
    figure, axes = _figure(handles, [str(handle.get_label()) for handle in handles])
    axes.set_xscale("log")
    for measured, predicted in zip(handles[0:4:2], handles[1:4:2], strict=True):
        name = str(measured.get_label()).partition(",")[0]
        color, marker = str(measured.get_color()), str(measured.get_marker())
        axes.plot(rates, getattr(alignment, name), linestyle="none", marker=marker, color=color, markersize=4)
        axes.plot(rates, getattr(alignment, f"predicted_{name}"), _DASHED, color=predicted.get_color(), linewidth=1)
    axes.axhline(alignment.start, color="0.4", linestyle=":", linewidth=1)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("g⁺·g⁻ after the update (nats²)")
    axes.set_title(f"Alignment after one update, {twin.optimizer}")
    return figure


# Files ----------------------------------------------------------------------------------------------------------------


def inline(svg: bytes, name: str, title: str) -> str:
    """An SVG as a part of a page: no declarations, no addresses, and identifiers that no other figure has.

    Args:
        svg: A figure as `console.figures.render` writes it.
        name: In front of every identifier.
        title: What a screen reader says.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'\bxlink:href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    quoted = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{quoted}"', 1)
