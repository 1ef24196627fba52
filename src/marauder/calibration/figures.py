"""Reliability diagrams before and after calibration, with intervals and the number of detections of each bin."""

from __future__ import annotations

import numpy as np

from marauder.evaluation.score_quality import ScoreQuality
from marauder.pages.canvas import ACCENT, FAINT, INK, MUTED, make_figure, style_axes, to_png


def reliability_pair(before: ScoreQuality, after: ScoreQuality) -> bytes:
    """A PNG of two diagrams side by side: share that is right over score, bars are intervals over groups."""
    figure = make_figure(9.2, 4.6)
    axes = figure.subplots(2, 2, sharex=True, height_ratios=(3.4, 1))
    for column, (title, quality) in enumerate((("as the model says", before), ("calibrated", after))):
        upper, lower = axes[0][column], axes[1][column]
        style_axes(upper, title, "", "share that is right" if column == 0 else "")
        bins = quality.bins
        width = np.diff(bins.edges)
        centre = bins.edges[:-1] + width / 2
        filled = bins.count > 0
        upper.bar(centre[filled], bins.precision[filled], width[filled] * 0.92, color=ACCENT, alpha=0.7)
        upper.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=":")
        low, high = quality.bounds[filled].T
        known = ~np.isnan(low)
        x, y = bins.confidence[filled][known], bins.precision[filled][known]
        spread = np.maximum(0, np.stack([y - low[known], high[known] - y]))
        upper.errorbar(x, y, spread, color=INK, linewidth=1, marker="o", markersize=3, linestyle="none", capsize=2)
        upper.set_ylim(0, 1.02)
        if quality.detections:
            text = f"D-ECE {quality.d_ece.value:.1%}, perfect {quality.d_ece.floor:.1%}"
            upper.text(0.03, 0.96, text, fontsize=9, color=INK, va="top", transform=upper.transAxes)
        style_axes(lower, "", "score", "detections" if column == 0 else "")
        lower.bar(centre, bins.count, width * 0.92, color=FAINT)
        lower.set_xlim(0, 1)
    return to_png(figure)
