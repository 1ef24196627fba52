"""Precision, recall and F1 over confidence at IoU 0.5, the confidence that suits best, and the counts at a given one.

The curves, and the choice of the confidence where the smoothed mean F1 of the classes is highest, are those of
Ultralytics' validation, so that both name the same operating point, as long as it lies above a least confidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from marauder.evaluation.matching import Matches
from marauder.evaluation.outcomes import judge_detections
from marauder.evaluation.picture_weights import Selection, gather

CONFIDENCE_GRID = np.linspace(0, 1, 1000)
FALLBACK_CONFIDENCE = 0.25
"""Used where no confidence gives an F1 above 0."""
LEAST_CONFIDENCE = 0.05
"""No operating point is chosen below it: a weak detector's F1 is often highest where every picture fills with boxes."""


@dataclass(frozen=True, eq=False)
class ConfidenceCurves:
    """``precision``, ``recall``, ``f1``: (N, 1000) over ``CONFIDENCE_GRID``, for ``classes``: int64 (N,), those with
    boxes. Between two scores the curves are interpolated linearly."""

    classes: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


@dataclass(frozen=True, eq=False)
class OperatingPoint:
    """Counts of each class (K,) among detections with a score of at least ``confidence``, at IoU 0.5, all sizes.

    ``boxes``: boxes that count. Detections on ignored boxes are neither true nor false.
    """

    confidence: float
    boxes: np.ndarray = field(repr=False)
    true: np.ndarray = field(repr=False)
    false: np.ndarray = field(repr=False)

    @property
    def missed(self) -> np.ndarray:
        """Boxes that no detection found."""
        result: np.ndarray = self.boxes - self.true
        return result

    @property
    def precision(self) -> np.ndarray:
        """Share of detections that are right; NaN for a class with no boxes or no detections."""
        return _ratio(self.true, self.true + self.false, self.boxes > 0)

    @property
    def recall(self) -> np.ndarray:
        """Share of boxes that were found; NaN for a class without boxes."""
        return _ratio(self.true, self.boxes, self.boxes > 0)

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall, 0 if nothing is right; NaN for a class without boxes."""
        return _ratio(2 * self.true, self.true + self.false + self.boxes, self.boxes > 0)


def confidence_curves(matches: Matches, repeats: np.ndarray) -> ConfidenceCurves:
    """The curves of the pictures, each counted ``repeats`` times: int (P,)."""
    count = len(matches.names)
    segment, picture = matches.targets
    first = segment < count
    boxes = np.bincount(segment[first], weights=repeats[picture[first]], minlength=count)
    hit, false, _ = judge_detections(matches)
    times = repeats[matches.detection_picture].astype(np.int64)
    true = np.where(hit, times, 0)
    times[~hit & ~false] = 0
    classes = np.flatnonzero(boxes)
    precision, recall = np.zeros((2, len(classes), len(CONFIDENCE_GRID)))
    starts = np.searchsorted(matches.detection_class, np.arange(count + 1))
    for row, number in enumerate(classes):
        of_class = slice(starts[number], starts[number + 1])
        used = np.flatnonzero(times[of_class]) + starts[number]
        if not len(used):
            continue
        right, all_ = np.cumsum(true[used]), np.cumsum(times[used])
        falling = -matches.detection_score[used]
        # interp wants rising values. Above the highest score nothing is detected: recall 0 and, as Ultralytics has it,
        # precision 1.
        recall[row] = np.interp(-CONFIDENCE_GRID, falling, right / boxes[number], left=0)
        precision[row] = np.interp(-CONFIDENCE_GRID, falling, right / all_, left=1)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return ConfidenceCurves(classes, precision, recall, f1)


def best_confidence(curves: ConfidenceCurves, least: float = LEAST_CONFIDENCE) -> float:
    """The confidence, of at least ``least``, where the mean F1 over classes, smoothed by a box filter of a tenth of the
    grid, is highest."""
    if not curves.f1.any():
        return max(FALLBACK_CONFIDENCE, least)
    mean = curves.f1.mean(axis=0)
    # An odd width and the ends repeated, exactly as Ultralytics smooths, or the two would choose other confidences.
    width = round(len(mean) * 0.1 * 2) // 2 + 1
    margin = np.ones(width // 2)
    padded = np.concatenate((margin * mean[0], mean, margin * mean[-1]))
    smoothed = np.convolve(padded, np.ones(width) / width, mode="valid")
    best = float(CONFIDENCE_GRID[np.where(least <= CONFIDENCE_GRID, smoothed, -1.0).argmax()])
    # Above the whole grid, or between two of its points, there is nothing to choose from.
    return max(best, least)


def operating_point(selection: Selection, confidence: float) -> OperatingPoint:
    """Count true and false detections of each class at ``confidence``."""
    matches, count = selection.matches, len(selection.matches.names)
    # The first K segments are those of all sizes at IoU 0.5.
    last = int(np.searchsorted(selection.segment, count))
    score = matches.detection_score[gather(matches.pair_detection, selection.pairs, last)]
    sure = np.flatnonzero(score >= confidence)
    number = selection.segment[sure]
    true = np.bincount(number, weights=selection.counted(selection.true[sure], sure), minlength=count)
    excused = np.bincount(number, weights=selection.counted(selection.inside[sure], sure), minlength=count)
    starts, ends = matches.inside_starts[0, :-1], matches.inside_ends(confidence)
    false = selection.predicted[ends] - selection.predicted[starts] - excused
    return OperatingPoint(confidence, selection.boxes_of[0], true.astype(np.int64), false.astype(np.int64))


def _ratio(part: np.ndarray, whole: np.ndarray, defined: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=defined & (whole > 0))
