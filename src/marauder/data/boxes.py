"""What makes a box usable: one pure function finds and mends unusable boxes, for readers and for the checker; and the
overlap of boxes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BOUNDS_TOLERANCE = 1.0
"""Pixels a box may reach past the border without being called out of bounds: labels are rounded."""

UNKNOWN_CLASS = re.compile(
    # Greedy, so that it ends behind the picture's key, in which anything may stand ("class 3/a: class 7 (known: …").
    r"(?:.*(?:: |, up to ))?class (?:(?P<index>-?\d+) \(known: |(?P<name>.+): none of the names)",
    re.DOTALL,
)
"""How the message of a ``class-unknown`` finding, to ``match``, names the class: its number or its name in the source.
"""

CLICKED_SIDE = 1.0
"""Pixels of a side up to which a box is a click rather than an object that somebody drew."""

SMALLEST_SIDE = 1e-3
"""Pixels below which a side counts as nothing, so that the box is degenerate."""

TOLD_OF_A_KIND = 20
"""Findings of one kind that are reported one by one; the rest are counted, since a thousand of them say no more."""


@dataclass(frozen=True, slots=True)
class BoxFinding:
    """What was wrong with the box at position ``index``. ``kind`` is the name of a defect of data.check; ``count``:
    boxes that it stands for, this one and those after it."""

    index: int
    kind: str
    message: str
    count: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class CleanBoxes:
    """The usable boxes. ``kept``: int64 (M,), their positions in the input; ``boxes``: float64 (M, 4),
    clipped."""

    boxes: np.ndarray
    kept: np.ndarray
    findings: tuple[BoxFinding, ...]


def clean_boxes(boxes: np.ndarray, classes: np.ndarray, width: int, height: int, class_count: int | None) -> CleanBoxes:
    """Put corners in order and clip boxes to the picture; drop degenerate ones, unknown classes and exact duplicates,
    each with a finding, and one for all beyond ``TOLD_OF_A_KIND`` of a kind.

    ``boxes``: float (N, 4), x0 y0 x1 y1 in pixels. ``classes``: int (N,); with ``class_count`` they must lie
    in 0..class_count-1. Clipping of at most ``BOUNDS_TOLERANCE`` pixels is rounding and no finding.
    """
    given = np.asarray(boxes, np.float64).reshape(-1, 4)
    classes = np.asarray(classes, np.int64).reshape(-1)
    if not len(given):
        return CleanBoxes(given, np.zeros(0, np.int64), ())
    boxes, turned = with_corners_in_order(given)
    limits = np.array([width, height, width, height], np.float64)
    # Numbers that are not finite become a box of zeros, which has no area and is reported as such.
    plain = np.where(np.isfinite(boxes).all(axis=1)[:, None], boxes, 0.0)
    clipped = np.clip(plain, 0.0, limits)
    sized = (plain[:, 2:] - plain[:, :2] > SMALLEST_SIDE).all(axis=1)
    visible = (clipped[:, 2:] - clipped[:, :2] > SMALLEST_SIDE).all(axis=1)
    outside = np.abs(clipped - plain).max(axis=1) > BOUNDS_TOLERANCE
    known = (classes >= 0) & (classes < (np.inf if class_count is None else class_count))
    usable = np.flatnonzero(known & sized & visible)
    # A hundredth of a pixel is no difference.
    rows = np.concatenate([np.round(clipped[usable], 2), classes[usable, None]], axis=1)
    # Nearly every picture of a sound data set ends here.
    if len(usable) == len(given) == len(set(map(tuple, rows.tolist()))) and not (outside | turned).any():
        return CleanBoxes(clipped, usable, ())

    _, first, same = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    twin = usable[first[same.reshape(-1)]]  # of each usable box, the first that is the same
    kept = usable[twin == usable]
    findings: list[BoxFinding] = []

    def tell(positions: np.ndarray, kind: str, message: Callable[[int], str]) -> None:
        told, rest = positions[:TOLD_OF_A_KIND].tolist(), positions[TOLD_OF_A_KIND:]
        findings.extend(BoxFinding(index, kind, message(index)) for index in told)
        if len(rest):
            of = f", up to class {classes[rest].max()} (known: {span})" if kind == "class-unknown" else ""
            findings.append(BoxFinding(int(rest[0]), kind, f"and {len(rest):,} more like it{of}", len(rest)))

    def place(index: int) -> str:
        return ", ".join(f"{value:.6g}" for value in given[index])

    span = f"0 to {class_count - 1}" if class_count else "none" if class_count == 0 else "0 and up"
    size, far, twin_of = f"{width}x{height}", known & sized & ~visible, dict(zip(usable.tolist(), twin.tolist()))
    tell(np.flatnonzero(~known), "class-unknown", lambda index: f"class {classes[index]} (known: {span})")
    tell(np.flatnonzero(known & ~sized), "box-degenerate", lambda index: f"box without area ({place(index)})")
    tell(
        np.sort(np.concatenate([np.flatnonzero(far), kept[outside[kept]]])),
        "box-out-of-bounds",
        lambda index: f"box {'wholly' if far[index] else 'reaches'} outside the {size} picture ({place(index)})",
    )
    tell(
        usable[twin != usable],
        "box-duplicate",
        lambda index: f"same box and class as number {twin_of[index] + 1} ({place(index)})",
    )
    tell(
        kept[turned[kept]],
        "box-corners",
        lambda index: f"its corners were in the wrong order ({place(index)}); corrected",
    )
    return CleanBoxes(clipped[kept], kept, tuple(sorted(findings, key=lambda finding: finding.index)))


def with_corners_in_order(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) as x0 <= x1 and y0 <= y1, whichever corner came first; and those that changed: bool (N,)."""
    turned = np.asarray((boxes[:, :2] > boxes[:, 2:]).any(axis=1))
    if turned.any():
        low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
        boxes = np.concatenate([low, high], axis=1)
    return boxes, turned


def overlap_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4) that broadcast, x0 y0 x1 y1: float64 (...,); 0 for empty boxes."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.clip(sides, 0.0, None).prod(axis=-1)
    areas = [np.clip(boxes[..., 2:] - boxes[..., :2], 0.0, None).prod(axis=-1) for boxes in (first, second)]
    united = areas[0] + areas[1] - shared
    return np.divide(shared, united, out=np.zeros_like(shared), where=united > 0)


def iou_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each of ``first`` (M, 4) with each of ``second`` (N, 4): float64 (M, N); two equal
    points give 1."""
    # A point has no area, so its overlap with itself would come out as 0.
    same = (first[:, None] == second[None]).all(axis=2)
    return np.where(same, 1.0, overlap_of(first[:, None], second[None]))
