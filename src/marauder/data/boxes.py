"""What makes a box usable: one pure function finds and mends unusable boxes, for readers and for the checker; and the
overlap of boxes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

BOUNDS_TOLERANCE = 1.0
"""Pixels a box may reach past the border without being called out of bounds: labels are rounded."""

UNKNOWN_CLASS = re.compile(r"class (?P<index>-?\d+) \(known: ")
"""How the message of a ``class-unknown`` finding names the class."""

SMALLEST_SIDE = 1e-3
"""Pixels below which a side counts as nothing, so that the box is degenerate."""


@dataclass(frozen=True, slots=True)
class BoxFinding:
    """What was wrong with the box at position ``index``. ``kind`` is the name of a defect of data.check."""

    index: int
    kind: str
    message: str


@dataclass(frozen=True, eq=False, slots=True)
class CleanBoxes:
    """The usable boxes. ``kept``: int64 (M,), their positions in the input; ``boxes``: float64 (M, 4),
    clipped."""

    boxes: np.ndarray
    kept: np.ndarray
    findings: tuple[BoxFinding, ...]


def clean_boxes(boxes: np.ndarray, classes: np.ndarray, width: int, height: int, class_count: int | None) -> CleanBoxes:
    """Clip boxes to the picture; drop degenerate ones, unknown classes and exact duplicates, each with a
    finding.

    ``boxes``: float (N, 4), x0 y0 x1 y1 in pixels. ``classes``: int (N,); with ``class_count`` they must lie
    in 0..class_count-1. Clipping of at most ``BOUNDS_TOLERANCE`` pixels is rounding and no finding.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    classes = np.asarray(classes, np.int64).reshape(-1)
    if not len(boxes):
        return CleanBoxes(boxes, np.zeros(0, np.int64), ())
    limits = np.array([width, height, width, height], np.float64)
    finite = np.asarray(np.isfinite(boxes).all(axis=1))
    plain = np.where(finite[:, None], boxes, 0.0)
    clipped = np.clip(plain, 0.0, limits)
    sized = np.asarray((plain[:, 2:] - plain[:, :2] > SMALLEST_SIDE).all(axis=1))
    visible = (clipped[:, 2:] - clipped[:, :2] > SMALLEST_SIDE).all(axis=1)
    outside = np.asarray(np.abs(clipped - plain).max(axis=1) > BOUNDS_TOLERANCE)
    known = np.asarray((classes >= 0) & (classes < (np.inf if class_count is None else class_count)))
    if (known & sized & visible & ~outside).all() and len(np.unique(_rows(clipped, classes), axis=0)) == len(boxes):
        return CleanBoxes(clipped, np.arange(len(boxes)), ())

    findings: list[BoxFinding] = []
    kept: list[int] = []
    seen: dict[tuple[float, ...], int] = {}
    for index, box in enumerate(boxes):
        place = ", ".join(f"{value:.6g}" for value in box)
        if not known[index]:
            span = f"0 to {class_count - 1}" if class_count else "none" if class_count == 0 else "0 and up"
            findings.append(BoxFinding(index, "class-unknown", f"class {classes[index]} (known: {span})"))
        elif not sized[index]:
            findings.append(BoxFinding(index, "box-degenerate", f"box without area ({place})"))
        elif not visible[index]:
            message = f"box wholly outside the {width}x{height} picture ({place})"
            findings.append(BoxFinding(index, "box-out-of-bounds", message))
        else:
            row = tuple(_rows(clipped[index : index + 1], classes[index : index + 1])[0])
            if row in seen:
                message = f"same box and class as number {seen[row] + 1} ({place})"
                findings.append(BoxFinding(index, "box-duplicate", message))
                continue
            seen[row] = index
            kept.append(index)
            if outside[index]:
                message = f"box reaches outside the {width}x{height} picture ({place})"
                findings.append(BoxFinding(index, "box-out-of-bounds", message))
    positions = np.array(kept, np.int64)
    return CleanBoxes(clipped[positions], positions, tuple(findings))


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (M, 4) and (N, 4), x0 y0 x1 y1: float64 (M, N); two equal points give 1."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    upper = np.minimum(first[:, None, 2:], second[None, :, 2:])
    lower = np.maximum(first[:, None, :2], second[None, :, :2])
    shared = np.clip(upper - lower, 0, None).prod(2)
    areas = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first, second)]
    united = areas[0][:, None] + areas[1][None, :] - shared
    same = (first[:, None] == second[None, :]).all(2)
    return np.where(united > 0, shared / np.where(united > 0, united, 1), same.astype(np.float64))


def _rows(boxes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Box and class as comparable rows; a hundredth of a pixel is no difference."""
    return np.concatenate([np.round(boxes, 2), classes[:, None]], axis=1)
