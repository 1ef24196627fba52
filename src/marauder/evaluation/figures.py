"""Figures of an evaluation: training and detection curves, ROC, calibration, confusion matrix, slices.

Each function returns the bytes of a PNG file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from marauder.core.plain import Plain, PlainMapping
from marauder.evaluation.curves import CONFIDENCE_GRID, ConfidenceCurves
from marauder.evaluation.metrics import RECALL_POINTS, Metrics
from marauder.evaluation.reliability import Calibration
from marauder.evaluation.roc import PresenceCurve
from marauder.pages.canvas import (
    ACCENT,
    FAINT,
    HEAT_COLORS,
    INK,
    MUTED,
    SERIES,
    make_figure,
    shorten,
    show_confidence,
    style_axes,
    to_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS_WITH_NUMBERS = 25
MOST_MARKERS = 30
"""Epochs up to which each is marked on its curve."""
LEAST_TOP = 0.05
"""Where the axis of an evaluation's shares ends at least."""
PANELS_ABREAST = 2
"""More would be shrunk beyond legibility on a page 900 pixels wide."""
CURVE_TITLES = {
    "train": "training losses",
    "val": "validation",
    "learning_rate": "learning rate",
    "map50": "mAP50",
    "map50_95": "mAP50-95",
    "f1": "F1",
    "d_ece": "D-ECE (low is good)",
}
"""What the curves of epochs are called; a name that is not here stays as it is, without underscores."""

CALIBRATION_ERRORS = (("D-ECE", "d_ece"), ("LaECE", "la_ece"), ("LRP", "lrp"), ("optimal LRP", "optimal_lrp"))


def training_curves(history: Sequence[PlainMapping]) -> bytes:
    """All numbers of the epochs, a panel for each group (``train/…``, ``val/…``) and for each name without a group.

    Values that are missing, ``None`` or no number are passed over. Raises ``ValueError`` if there is nothing to draw.
    """
    # Here and not above, since matplotlib takes long to import.
    from matplotlib.ticker import MaxNLocator

    panels = group_history(history)
    if not panels:
        raise ValueError("the history holds no numbers to draw")
    columns = min(PANELS_ABREAST, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = make_figure(4.6 * columns, 2.9 * rows)
    epochs = [int(entry.get("epoch", index)) for index, entry in enumerate(history)]
    for index, (title, series) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        style_axes(axes, curve_title(title), "epoch" if index + columns >= len(panels) else "")
        for number, (name, values) in enumerate(series.items()):
            known = np.isfinite(values)  # evaluations may be several epochs apart; the line joins them
            # Evaluated epochs, unless there are too many to tell apart.
            marker = "o" if known.sum() <= MOST_MARKERS else None
            color, places = SERIES[number % len(SERIES)], np.array(epochs)[known]
            axes.plot(
                places,
                values[known],
                label=curve_title(name),
                color=color,
                linewidth=1.6,
                marker=marker,
                markersize=3.5,
            )
        if len(series) > 1:
            _place_legend(axes)
        if title == "val" and _best_epoch(series) is not None:
            best = epochs[_best_epoch(series) or 0]
            axes.axvline(best, color=MUTED, linewidth=0.8, linestyle=":")
            late = best > (epochs[0] + epochs[-1]) / 2
            side, place = ("right" if late else "left"), axes.get_xaxis_transform()
            # At the top, where lines that stay near 0 do not cross it.
            words = f" best: epoch {best} "
            axes.text(best, 0.98, words, fontsize=7, color=MUTED, ha=side, va="top", transform=place)
        if title == "val":
            # Shares from 0, and not so close that noise near 0 looks like a rise.
            highest = max(float(np.nanmax(values)) for values in series.values())
            lowest = min(float(np.nanmin(values)) for values in series.values())
            axes.set_ylim(min(0, 1.08 * lowest), max(1.08 * highest, LEAST_TOP))
        # All panels cover all epochs; one tick suffices, or a single epoch would get fractions beside it.
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        margin = 0.02 * (max(epochs) - min(epochs)) or 0.5
        axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    return to_png(figure)


def curve_title(name: str) -> str:
    """What a curve or a group of curves is called in a figure."""
    return CURVE_TITLES.get(name, name.replace("_", " "))


def group_history(history: Sequence[PlainMapping]) -> dict[str, dict[str, np.ndarray]]:
    """Panels of ``training_curves``: group name to series name to values, one per epoch, NaN where missing."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    names = dict.fromkeys(name for entry in history for name in entry if name != "epoch")
    for name in names:
        values = np.array([_number(entry.get(name)) for entry in history])
        if np.isfinite(values).any():
            group, found, rest = name.partition("/")
            panels.setdefault(group, {})[rest if found else name] = values
    return panels


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        return float("nan")
    return float(value)


def _best_epoch(series: Mapping[str, np.ndarray]) -> int | None:
    """Place of the highest mAP50-95, or else mAP50; ``None`` without either."""
    for name in ("map50_95", "map50"):
        if name in series:
            # Some number is there: group_history leaves out series without any.
            return int(np.nanargmax(series[name]))
    return None


def confusion_figure(matrix: np.ndarray, names: Sequence[str], confidence: float) -> bytes:
    """A confusion matrix (true class by row, background last) in shares of each row, with counts where legible."""
    labels = [*(shorten(name, 18) for name in names), "background"]
    count = len(labels)
    side = min(16.0, max(4.6, 2.2 + 0.5 * count))
    figure = make_figure(side + 0.6, side)
    axes = figure.add_subplot()
    style_axes(axes, f"Confusion at confidence {show_confidence(confidence)}, IoU 0.5", "predicted", "true", grid=False)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    shares[-1] = 0  # false detections have no whole to be a share of
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks(range(count), labels, rotation=90 if count > 8 else 35, ha="center" if count > 8 else "right")
    axes.set_yticks(range(count), labels)
    if count > 40:
        axes.tick_params(labelsize=5)
    axes.axhline(count - 1.5, color=MUTED, linewidth=0.8)  # background is set apart
    axes.axvline(count - 1.5, color=MUTED, linewidth=0.8)
    if count <= MOST_CELLS_WITH_NUMBERS:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            color = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", fontsize=8, color=color)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8, length=0)
    bar.set_label("share of the row", color=MUTED, fontsize=8)
    return to_png(figure)


def precision_recall_figure(curves: np.ndarray, metrics: Metrics) -> bytes:
    """Precision over recall at IoU 0.5 for each class and on average; ``curves`` of ``metrics.precision_at_recall``."""
    figure = make_figure(8.2, 4.8)
    axes = figure.add_subplot()
    style_axes(axes, "Precision over recall at IoU 0.5", "recall", "precision")
    labels = [f"{shorten(entry['name'])}  {entry['ap50']:.3f}" for entry in metrics.per_class]
    rows = np.flatnonzero(metrics.boxes_of[0])
    _draw_classes(axes, RECALL_POINTS, curves[rows], [labels[row] for row in rows])
    if len(rows):
        mean_label = f"mean  {metrics.map50:.3f}"
        axes.plot(RECALL_POINTS, curves[rows].mean(axis=0), color=INK, linewidth=2.6, label=mean_label)
    _finish_unit_square(axes)
    return to_png(figure)


def f1_figure(curves: ConfidenceCurves, metrics: Metrics) -> bytes:
    """F1 over confidence for each class and on average, with the confidence at which the metrics were counted."""
    figure = make_figure(8.2, 4.8)
    axes = figure.add_subplot()
    style_axes(axes, "F1 over confidence at IoU 0.5", "confidence", "F1")
    names = [shorten(metrics.names[number]) for number in curves.classes]
    _draw_classes(axes, CONFIDENCE_GRID, curves.f1, names)
    if len(curves.f1):
        axes.plot(CONFIDENCE_GRID, curves.f1.mean(axis=0), color=INK, linewidth=2.6, label="mean")
    axes.axvline(metrics.confidence, color=MUTED, linewidth=0.9, linestyle=":")
    note = f"F1 {metrics.f1:.3f} at {show_confidence(metrics.confidence)}"
    left = metrics.confidence > 0.7
    side, beside = ("right", -0.01) if left else ("left", 0.01)
    axes.text(metrics.confidence + beside, 0.97, note, fontsize=8, color=MUTED, ha=side)
    _finish_unit_square(axes)
    return to_png(figure)


def roc_figure(curves: Sequence[PresenceCurve]) -> bytes:
    """For each class, telling pictures with it from pictures without: true over false positive rate, with its area."""
    figure = make_figure(8.2, 4.8)
    axes = figure.add_subplot()
    style_axes(axes, "Is it in the picture at all (ROC)", "share of pictures without it", "share of pictures with it")
    known = [curve for curve in curves if not math.isnan(curve.auc)]
    few = len(known) <= len(SERIES)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=":", label="chance  0.500")
    for number, curve in enumerate(known):
        label = f"{shorten(curve.name)}  {curve.auc:.3f}" if few else None
        color, width = (SERIES[number], 1.4) if few else (FAINT, 0.8)
        axes.plot(curve.false_rate, curve.true_rate, color=color, linewidth=width, label=label)
    if not few:
        mean = sum(curve.auc for curve in known) / len(known)
        axes.plot([], [], color=FAINT, label=f"{len(known)} classes, mean area {mean:.3f}")
    _finish_unit_square(axes)
    return to_png(figure)


def reliability_figure(calibration: Calibration) -> bytes:
    """Share of right detections over confidence, with the number of detections of each bin below."""
    bins = calibration.bins
    figure = make_figure(6.6, 5.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.4, 1))
    style_axes(upper, "Calibration of confidences at IoU 0.5", "", "share that is right")
    width = np.diff(bins.edges)
    filled = bins.count > 0
    centre = bins.edges[:-1] + width / 2
    upper.bar(centre[filled], bins.precision[filled], width[filled] * 0.92, color=ACCENT, alpha=0.75)
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=":")
    upper.plot(bins.confidence[filled], bins.precision[filled], color=INK, linewidth=1.2, marker="o", markersize=3)
    numbers = ((name, getattr(calibration, field)) for name, field in CALIBRATION_ERRORS)
    text = "\n".join(f"{name}  {'–' if math.isnan(value) else f'{value:.3f}'}" for name, value in numbers)
    upper.text(0.02, 0.96, text, fontsize=9, color=INK, va="top", transform=upper.transAxes)
    upper.set_ylim(0, 1.02)
    style_axes(lower, "", f"confidence (from {calibration.minimum_confidence:g})", "detections")
    lower.bar(centre, bins.count, width * 0.92, color=FAINT)
    lower.set_xlim(0, 1)
    return to_png(figure)


def slices_figure(
    names: Sequence[str],
    titles: Sequence[str],
    values: np.ndarray,
    shades: np.ndarray,
    notes: Sequence[Sequence[str]] | None = None,
) -> bytes:
    """Slices by metrics as a heat map: the first row is the whole.

    ``values``, ``shades``: (R, C); shades from -1 (worst, orange) to 1 (best, blue) colour the cells. ``notes``: small
    text under the values (R lists of C). Raises ``ValueError`` without rows.
    """
    if not names:
        raise ValueError("there are no slices to draw")
    # Here and not above, since matplotlib takes long to import.
    from matplotlib.colors import LinearSegmentedColormap

    colors = LinearSegmentedColormap.from_list("worst to best", HEAT_COLORS)
    figure = make_figure(3.4 + 1.15 * len(titles), 1.0 + (0.42 if notes else 0.3) * len(names))
    axes = figure.add_subplot()
    style_axes(axes, "Slices", grid=False)
    axes.imshow(np.ma.masked_invalid(shades), cmap=colors, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(titles)), titles)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(names)), [shorten(name, 42) for name in names])
    for row, column in np.ndindex(*values.shape):
        text = "–" if np.isnan(values[row, column]) else f"{values[row, column]:.3f}"
        weight = "bold" if row == 0 else "normal"
        note = notes[row][column] if notes else ""
        place = row - (0.16 if note else 0)
        style: Plain = {"ha": "center", "va": "center", "color": INK, "in_layout": False}
        axes.text(column, place, text, fontsize=8.5, fontweight=weight, **style)
        if note:
            axes.text(column, row + 0.24, note, fontsize=6.5, **style)
    axes.axhline(0.5, color=INK, linewidth=0.8)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    return to_png(figure)


def _draw_classes(axes: Axes, x: np.ndarray, lines: np.ndarray, labels: Sequence[str]) -> None:
    """A coloured, named line per class; beyond ten classes thin grey ones."""
    few = len(lines) <= len(SERIES)
    for number, (line, label) in enumerate(zip(lines, labels, strict=True)):
        color = SERIES[number] if few else FAINT
        axes.plot(x, line, color=color, linewidth=1.3 if few else 0.8, label=label if few else None)


def _finish_unit_square(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    if axes.get_legend_handles_labels()[0]:
        _place_legend(axes)


def _place_legend(axes: Axes) -> None:
    """Name the lines to the right of the panel, where the names hide none of them."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False, labelcolor=INK)
