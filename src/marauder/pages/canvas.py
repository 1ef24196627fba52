"""The look that all figures share, and turning a figure into PNG bytes without a display or global state."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from marauder.core.plain import Plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT = "#1f2a37", "#64707d", "#dfe4ea"
GOOD, BAD, MISSED, ACCENT = "#0f8a7e", "#c8322f", "#e8a013", "#2563a8"
SERIES = ("#2563a8", "#d9822b", "#0f8a7e", "#c8322f", "#7b5ea7", "#8a5a44", "#c65b9b", "#6b7785", "#9a9a2e", "#2a9db0")
"""Colours of up to ten lines; figures with more classes draw them all in grey."""
HEAT_COLORS = ("#e8965a", "#f3f0e8", "#5aa9c9")
"""Of cells, from worst through middling to best: the colour-blind tell them apart, and dark text is legible on all."""
RESOLUTION = 110


def make_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches, drawn off screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=RESOLUTION, layout="constrained", facecolor="white")
    # Not pyplot: it keeps every figure until it is closed, and looks for a display.
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, title: str = "", x_label: str = "", y_label: str = "", grid: bool = True) -> None:
    """Quiet axes: no box, a light grid, the title at the left."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    axes.set_xlabel(x_label, color=MUTED, fontsize=9)
    axes.set_ylabel(y_label, color=MUTED, fontsize=9)
    axes.set_title(title, color=INK, fontsize=10, loc="left", fontweight="bold")
    if grid:
        axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def to_png(figure: Figure, crop: bool = True) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes. ``crop``: to what is drawn, which takes drawing
    it twice."""
    options: Plain = {"bbox_inches": "tight", "pad_inches": 0.1} if crop else {}
    buffer = io.BytesIO()
    # matplotlib writes its version as Software otherwise, and the same figure gives other bytes.
    # Packed lightly, as photographs would take longer to pack than to draw.
    figure.savefig(buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 3}, **options)
    return buffer.getvalue()


def shorten(text: str, length: int = 24) -> str:
    """Cut long names in the middle, where they differ least."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[head + 1 - length :]}"


def show_confidence(value: float) -> str:
    """Three significant digits, since weak detectors are never sure: 0.312, 0.00100; a dash for what is undefined.

    The best confidence is searched for in steps of 0.001, so it may be 0: no detection is left out then.
    """
    if value == 0:
        return "0 (all detections)"
    return "–" if math.isnan(value) else f"{value:#.3g}"
