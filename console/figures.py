"""Figures as files: the palette and the formats that every figure shares."""

from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLORS", "FONTS", "MARKERS", "render"]

# Okabe and Ito's palette without its yellow, which is not seen on white. It is told apart in print and by colour-blind
# readers; markers differ too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", "*", ">", "h")

# Families are looked up when a figure is written, not when it is drawn.
FONTS: dict[Any, Any] = {"font.family": ["sans-serif"], "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"]}


def render(figure: "Figure", suffix: str) -> bytes:
    """A figure as a file of the format that the suffix names; text stays text in SVG and PDF.

    The same figure is the same file, without dates and random identifiers, whatever a reader's own settings are.

    Raises:
        ValueError: If the format is not known.
    """
    import matplotlib as mpl  # noqa: PLC0415  # the commands without figures run without it

    known = figure.canvas.get_supported_filetypes()
    kind = suffix.lower().removeprefix(".")
    if kind not in known:
        raise ValueError(f"suffix must be one of {', '.join(known)}; got {suffix!r}.")
    metadata = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    file = BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "composite-updates", **FONTS}):
        figure.savefig(file, format=kind, dpi=160, metadata=metadata.get(kind))
    return file.getvalue()
