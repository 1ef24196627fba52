"""Clusters of boxes as weighted boxes fusion makes them, in plain Python, which is several times faster here than
NumPy: most pairs of boxes are told apart by one comparison, and an array of four numbers costs more than its
arithmetic.

Solovyev, Wang and Gabruseva, "Weighted boxes fusion: ensembling boxes from different object detection models" (Image
and Vision Computing, 2021), section 3, steps 2 to 5.
"""

from __future__ import annotations

import math

import numpy as np

ROUNDING = 1.0 + 1e-9
"""By how much a bound is widened, so that rounding excludes no box that overlaps enough."""


def cluster_boxes(boxes: np.ndarray, weights: np.ndarray, overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each of ``boxes`` (N, 4), x0 y0 x1 y1, taken in their order: int64 (N,); fused boxes, float64
    (K, 4), in the order in which they were founded.

    Each box joins the cluster whose fused box it overlaps most (of equal ones the oldest), if by more than ``overlap``
    (IoU, 0..1), else it founds one. A fused box is the mean of its boxes with their ``weights`` (N,), all above 0.
    """
    # Two intervals of IoU above t begin no farther apart than (1 - t) / t of the length of either, and the IoU of two
    # boxes is at most that of their sides.
    reach = ROUNDING * (1.0 - overlap) / overlap if overlap > 0 else math.inf
    lefts: list[float] = []
    others: list[tuple[float, float, float]] = []  # top, right, bottom
    sums: list[tuple[float, float, float, float, float]] = []  # of the weights, and of the corners times them
    labels: list[int] = []
    rows = np.asarray(boxes, np.float64).reshape(-1, 4).tolist()
    # One loop without calls, which would take as long as the rest.
    for (x0, y0, x1, y1), weight in zip(rows, np.asarray(weights, np.float64).tolist(), strict=True):
        slack, area = reach * (x1 - x0), (x1 - x0) * (y1 - y0)
        low, high = x0 - slack, x0 + slack
        best, most = -1, overlap
        for number, left in enumerate(lefts):
            if not low <= left <= high:
                continue
            top, right, bottom = others[number]
            height = (y1 if y1 < bottom else bottom) - (y0 if y0 > top else top)
            if height <= 0:
                continue
            width = (x1 if x1 < right else right) - (x0 if x0 > left else left)
            if width <= 0:
                continue
            shared = width * height
            iou = shared / (area + (right - left) * (bottom - top) - shared)
            if iou > most:
                best, most = number, iou
        if best < 0:
            best = len(lefts)
            lefts.append(x0)
            others.append((y0, x1, y1))
            sums.append((weight, weight * x0, weight * y0, weight * x1, weight * y1))
        else:
            total, left, top, right, bottom = sums[best]
            total += weight
            left, top, right, bottom = left + weight * x0, top + weight * y0, right + weight * x1, bottom + weight * y1
            sums[best] = (total, left, top, right, bottom)
            lefts[best], others[best] = left / total, (top / total, right / total, bottom / total)
        labels.append(best)
    fused = [(left, *rest) for left, rest in zip(lefts, others, strict=True)]
    return np.array(labels, np.int64), np.array(fused, np.float64).reshape(-1, 4)
