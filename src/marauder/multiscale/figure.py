"""Average precision over input size, before and after, as a PNG."""

from __future__ import annotations

import math

from marauder.core.plain import Plain
from marauder.pages.canvas import FAINT, MUTED, SERIES, make_figure, style_axes, to_png

PANELS = {"map50_95": "all animals", "map_small": "small animals"}


def size_figure(content: Plain) -> bytes:
    """A panel for all animals and one for small ones (``content``: of ``multiscale_report.json``)."""
    figure = make_figure(9.2, 3.2)
    rows, native = content["by_size"], content["native"]
    low, high = min(content["trained_sizes"]), max(content["trained_sizes"])
    for number, (metric, title) in enumerate(PANELS.items()):
        axes = figure.add_subplot(1, len(PANELS), number + 1)
        style_axes(axes, f"mAP50-95, {title}", "input size, pixels")
        axes.axvspan(low, high, color=FAINT, alpha=0.5, linewidth=0, label="sizes of training")
        axes.axvline(native, color=MUTED, linewidth=0.8, linestyle=":")
        drawn = 0
        for when, color in zip(("before", "after"), SERIES):
            known = [(row["size"], row[metric][when]) for row in rows if not math.isnan(row[metric][when])]
            if known:
                drawn += 1
                sizes, values = zip(*known)
                axes.plot(sizes, values, label=when, color=color, linewidth=1.6, marker="o", markersize=3.5)
        axes.text(native, 0.02, " size of use", fontsize=7, color=MUTED, transform=axes.get_xaxis_transform())
        axes.set_xticks([row["size"] for row in rows])
        axes.set_ylim(bottom=0)
        if drawn:
            axes.legend(fontsize=8, frameon=False, loc="best")
        else:
            axes.text(0.5, 0.5, "none in these pictures", ha="center", color=MUTED, transform=axes.transAxes)
    return to_png(figure)
