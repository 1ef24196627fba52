"""The sheet of the best and worst pictures: what was there, what was found, missed and invented."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.outcomes import PictureOutcome
from marauder.evaluation.shown_pictures import rank_pictures, surest_false
from marauder.pages.canvas import (
    BAD,
    FAINT,
    GOOD,
    INK,
    MISSED,
    MUTED,
    make_figure,
    shorten,
    show_confidence,
    to_png,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLUMNS = 3
TILE_WIDTH = 3.4
TILE_PIXELS = 480
MOST_LABELS = 24
"""In a picture with more boxes than this, only the surest are named."""


def predictions_sheet(
    records: Sequence[Record],
    detections: Sequence[Detections],
    outcomes: Sequence[PictureOutcome],
    names: Sequence[str],
    confidence: float,
    count: int = 6,
) -> bytes:
    """PNG of the ``count`` worst and ``count`` best pictures at ``confidence``.

    A picture that cannot be read is shown as a grey tile that says so. Raises ``ValueError`` if no picture has
    anything to show.
    """
    worst, best = rank_pictures(records, outcomes, count)
    sections = [(title, chosen) for title, chosen in (("Worst pictures", worst), ("Best pictures", best)) if chosen]
    if not sections:
        raise ValueError("no picture has boxes or detections to show")
    rows = [math.ceil(len(chosen) / COLUMNS) for _, chosen in sections]
    tile = _tile_height([records[index] for index in worst + best])
    heights = [0.5, *(0.4 + tile * number for number in rows)]
    figure = make_figure(TILE_WIDTH * COLUMNS, sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_legend(parts[0], confidence)
    for part, (title, chosen), number in zip(parts[1:], sections, rows, strict=True):
        part.suptitle(title, x=0.006, ha="left", fontsize=12, fontweight="bold", color=INK)
        for place in range(number * COLUMNS):
            axes = part.add_subplot(number, COLUMNS, place + 1)
            axes.set_axis_off()
            if place < len(chosen):
                index = chosen[place]
                _draw_tile(axes, records[index], detections[index], outcomes[index], names)
    return to_png(figure, crop=False)


def _tile_height(records: Sequence[Record]) -> float:
    """Inches that a tile with its two lines of text needs for most of the pictures."""
    ratio = float(np.median([record.height / record.width for record in records]))
    return 0.45 + TILE_WIDTH * min(max(ratio, 0.5), 1.35)


def _draw_legend(part: SubFigure, confidence: float) -> None:
    from matplotlib.lines import Line2D

    words = f"Confidence at least {show_confidence(confidence)}, IoU 0.5"
    part.text(0.006, 0.5, words, va="center", fontsize=9, color=MUTED)
    entries = [
        Line2D([], [], color=GOOD, linewidth=2.2, label="found"),
        Line2D([], [], color=BAD, linewidth=2.2, label="false or wrong class"),
        Line2D([], [], color=MISSED, linewidth=2.2, linestyle=(0, (3, 1.5)), label="missed"),
        Line2D([], [], color=MUTED, linewidth=1.2, linestyle=":", label="true box (white)"),
    ]
    part.legend(handles=entries, loc="center right", ncols=len(entries), fontsize=9, frameon=False, labelcolor=INK)


def _draw_tile(axes: Axes, record: Record, found: Detections, outcome: PictureOutcome, names: Sequence[str]) -> None:
    from marauder.data.pictures import UnreadablePictureError, decode_picture, scale_picture

    try:
        # The extent is the picture's own size, so that boxes in its pixels fit the scaled-down picture.
        picture = scale_picture(decode_picture(record.picture), TILE_PIXELS)
        axes.imshow(picture, extent=(0, record.width, record.height, 0), interpolation="antialiased")
    except UnreadablePictureError:
        axes.imshow(np.full((2, 2, 3), 90, np.uint8), extent=(0, record.width, record.height, 0))
        axes.text(record.width / 2, record.height / 2, "picture cannot be read", ha="center", color=FAINT)
    false = surest_false(found, outcome)
    counts = f"{len(outcome.right)} found, {len(outcome.missed)} missed, {len(outcome.wrong)} false"
    if len(false) < len(outcome.wrong):
        counts += f" ({len(false)} surest drawn)"
    axes.set_title(f"{shorten(record.key, 30)}\n{counts}", fontsize=8, loc="left", color=INK)
    for box in record.boxes[outcome.found]:
        _draw_box(axes, box, "white", 0.8, ":")
    for place in outcome.missed:
        _draw_box(axes, record.boxes[place], MISSED, 1.5, (0, (3, 1.5)))
    shown = np.concatenate([outcome.right, false]).astype(np.int64)
    named = set(shown[np.argsort(-found.scores[shown], kind="stable")][:MOST_LABELS].tolist())
    single = len(names) == 1
    for places, color in ((outcome.right, GOOD), (false, BAD)):
        for place in places:
            _draw_box(axes, found.boxes[place], color, 1.5, "-")
            if int(place) in named:
                name = "" if single else f"{shorten(names[found.classes[place]], 14)} "
                _draw_label(axes, record, found.boxes[place], f"{name}{found.scores[place]:.2f}", color)
    if not single:
        for place in outcome.missed[:MOST_LABELS]:
            name = shorten(names[record.classes[place]], 14)
            _draw_label(axes, record, record.boxes[place], name, MISSED, below=True)
    axes.set_xlim(0, record.width)
    axes.set_ylim(record.height, 0)


def _draw_box(
    axes: Axes, box: np.ndarray, color: str, width: float, style: str | tuple[int, tuple[float, ...]]
) -> None:
    from matplotlib.patches import Rectangle

    corner, size = (box[0], box[1]), (box[2] - box[0], box[3] - box[1])
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=width, linestyle=style))


def _draw_label(axes: Axes, record: Record, box: np.ndarray, text: str, color: str, below: bool = False) -> None:
    """Name a box over its upper corner, or under it; turned inwards at the picture's edges."""
    inwards = box[3] > 0.96 * record.height if below else box[1] < 0.04 * record.height
    right = box[0] > 0.85 * record.width
    frame = {"facecolor": color, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
    axes.text(
        min(box[2], record.width) if right else max(box[0], 0.0),
        min(box[3], record.height) if below else max(box[1], 0.0),
        text,
        fontsize=6,
        color="white",
        va="top" if below != inwards else "bottom",
        ha="right" if right else "left",
        bbox=frame,
        clip_on=True,
        in_layout=False,
    )
