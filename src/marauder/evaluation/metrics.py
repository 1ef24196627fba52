"""Average precision and recall, precision, recall and F1 of any subset of pictures, from pairs that were made once.

Average precision is COCO's: precision made non-increasing, read at 101 recall values, averaged (Lin et al., ECCV 2014,
and its evaluation code, which these figures equal). Where COCO's code says -1 (nothing to find), these say NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from marauder.core.plain import Plain
from marauder.evaluation.curves import (
    LEAST_CONFIDENCE,
    OperatingPoint,
    best_confidence,
    confidence_curves,
    operating_point,
)
from marauder.evaluation.matching import AREA_NAMES, IOU_THRESHOLDS, Matches
from marauder.evaluation.pairing import run_starts
from marauder.evaluation.picture_weights import Selection, gather, select

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
SCALARS = (
    *("map50", "map50_95", "map75", "map_small", "map_medium", "map_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
    *("precision", "recall", "f1", "confidence", "pictures", "boxes", "detections"),
)


@dataclass(frozen=True, eq=False)
class Metrics:
    """What a set of pictures says of a detector. NaN marks what is undefined: a class without boxes, a size that
    does not occur, precision where nothing was predicted.

    ``ap``: (A, T, K), average precision by area range, IoU threshold and class; ``recall_reached``: (A, T, K), the
    highest recall; ``recall_1``, ``recall_10``: (T, K), with 1 or 10 detections of a class in a picture. ``boxes_of``:
    int64 (A, K), boxes that count. ``point``: counts at ``confidence`` and IoU 0.5. ``pictures``: how many labelled
    pictures; ``detections``: how many detections, of any score.
    """

    names: tuple[str, ...]
    pictures: int
    detections: int
    boxes_of: np.ndarray = field(repr=False)
    ap: np.ndarray = field(repr=False)
    recall_reached: np.ndarray = field(repr=False)
    recall_1: np.ndarray = field(repr=False)
    recall_10: np.ndarray = field(repr=False)
    point: OperatingPoint = field(repr=False)

    @staticmethod
    def scalars() -> tuple[str, ...]:
        """Names of the attributes that are single numbers."""
        return SCALARS

    @property
    def boxes(self) -> int:
        """Boxes that count (ignored ones left out)."""
        return int(self.boxes_of[0].sum())

    @property
    def map50(self) -> float:
        """Mean over classes of the average precision at IoU 0.5."""
        return defined_mean(self.ap[0, 0])

    @property
    def map75(self) -> float:
        """The same at IoU 0.75."""
        return defined_mean(self.ap[0, 5])

    @property
    def map50_95(self) -> float:
        """Mean over classes and the ten IoU thresholds."""
        return defined_mean(self.ap[0])

    @property
    def map_small(self) -> float:
        """``map50_95`` of boxes up to 32² square pixels."""
        return defined_mean(self.ap[1])

    @property
    def map_medium(self) -> float:
        """``map50_95`` of boxes of 32² to 96² square pixels."""
        return defined_mean(self.ap[2])

    @property
    def map_large(self) -> float:
        """``map50_95`` of boxes from 96² square pixels."""
        return defined_mean(self.ap[3])

    @property
    def ar_1(self) -> float:
        """Average recall (over thresholds and classes) with one detection of a class in a picture."""
        return defined_mean(self.recall_1)

    @property
    def ar_10(self) -> float:
        """The same with ten detections."""
        return defined_mean(self.recall_10)

    @property
    def ar_100(self) -> float:
        """The same with all detections that were matched (100)."""
        return defined_mean(self.recall_reached[0])

    @property
    def ar_small(self) -> float:
        """``ar_100`` of small boxes."""
        return defined_mean(self.recall_reached[1])

    @property
    def ar_medium(self) -> float:
        """``ar_100`` of medium boxes."""
        return defined_mean(self.recall_reached[2])

    @property
    def ar_large(self) -> float:
        """``ar_100`` of large boxes."""
        return defined_mean(self.recall_reached[3])

    @property
    def confidence(self) -> float:
        """The confidence at which ``precision``, ``recall`` and ``f1`` were counted."""
        return self.point.confidence

    @property
    def precision(self) -> float:
        """Mean over classes with boxes of the precision at ``confidence`` and IoU 0.5."""
        return defined_mean(self.point.precision)

    @property
    def recall(self) -> float:
        """Mean over classes with boxes of the recall at ``confidence`` and IoU 0.5."""
        return defined_mean(self.point.recall)

    @property
    def f1(self) -> float:
        """Mean over classes with boxes of F1 at ``confidence`` and IoU 0.5."""
        return defined_mean(self.point.f1)

    @cached_property
    def per_class(self) -> list[Plain]:
        """One mapping per class: name, n_boxes, ap50, ap75, ap50_95, precision, recall, f1."""
        point = self.point
        return [
            {
                "name": name,
                "n_boxes": int(self.boxes_of[0, index]),
                "ap50": float(self.ap[0, 0, index]),
                "ap75": float(self.ap[0, 5, index]),
                "ap50_95": float(self.ap[0, :, index].mean()),
                "precision": float(point.precision[index]),
                "recall": float(point.recall[index]),
                "f1": float(point.f1[index]),
            }
            for index, name in enumerate(self.names)
        ]

    def of_classes(self, chosen: np.ndarray, detections: int) -> Metrics:
        """The same with the boxes and detections of some classes alone: ``chosen``, bool (K,)."""
        curves = {
            name: np.where(chosen, getattr(self, name), np.nan)
            for name in ("ap", "recall_reached", "recall_1", "recall_10")
        }
        counts = {name: np.where(chosen, getattr(self.point, name), 0) for name in ("boxes", "true", "false")}
        boxes_of, point = np.where(chosen, self.boxes_of, 0), OperatingPoint(self.confidence, **counts)
        return Metrics(self.names, self.pictures, detections, boxes_of, point=point, **curves)

    def to_json(self, classes: bool = True) -> Plain:
        """Plain numbers; NaN stays NaN and is written as ``null`` by ``core.files.write_json``."""
        content: Plain = {name: getattr(self, name) for name in SCALARS}
        return {**content, "per_class": self.per_class} if classes else content


def aggregate(
    matches: Matches,
    subset: np.ndarray | None = None,
    confidence: float | None = None,
    weights: np.ndarray | None = None,
    least_confidence: float = LEAST_CONFIDENCE,
) -> Metrics:
    """The metrics of some of the pictures.

    ``subset``: bool (P,), which pictures; all by default. ``confidence``: where precision, recall and F1 are counted;
    by default where the smoothed mean F1 of these pictures is highest, from ``least_confidence`` up. ``weights``: int
    (P,), how often each picture counts (for the bootstrap); equal to evaluating a set that holds it that often, up
    to the order of equal scores.
    """
    selection = select(matches, subset, weights)
    if confidence is None:
        confidence = best_confidence(confidence_curves(matches, selection.repeats), least_confidence)
    ap, reached = _precision_and_recall(selection)
    recall_1, recall_10 = _recall_of_first(selection)
    return Metrics(
        names=matches.names,
        pictures=int(selection.repeats.sum()),
        detections=int(selection.repeats @ matches.detections_of),
        boxes_of=selection.boxes_of,
        ap=ap,
        recall_reached=reached,
        recall_1=recall_1,
        recall_10=recall_10,
        point=operating_point(selection, confidence),
    )


def precision_at_recall(matches: Matches, subset: np.ndarray | None = None) -> np.ndarray:
    """Precision at the 101 recall values, IoU 0.5, all sizes: (K, 101); NaN rows for classes without boxes."""
    selection = select(matches, subset)
    segments, table, _ = _precision_table(selection)
    count = len(matches.names)
    curves = np.zeros((count, len(RECALL_POINTS)))
    first = segments < count
    curves[segments[first]] = table[first]
    curves[selection.boxes_of[0] == 0] = np.nan
    return curves


def defined_mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _precision_and_recall(selection: Selection) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and highest recall of every segment: two arrays (A, T, K)."""
    shape = (len(AREA_NAMES), len(IOU_THRESHOLDS), len(selection.matches.names))
    segments, table, highest = _precision_table(selection)
    ap, reached = np.zeros(shape), np.zeros(shape)
    ap.reshape(-1)[segments] = table.mean(axis=1)
    reached.reshape(-1)[segments] = highest
    undefined = np.broadcast_to((selection.boxes_of == 0)[:, None, :], shape)
    ap[undefined] = reached[undefined] = np.nan
    return ap, reached


def _precision_table(selection: Selection) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments with a pair (U,), their precision at the 101 recall values (U, 101), their highest recall (U,).

    Precision rises only at true positives and recall changes only there, so the curve is known from them alone. The
    few pairs with ignored boxes need no care: each has the recall of the true positive before it and no higher
    precision.
    """
    matches, segment = selection.matches, selection.segment
    if not len(segment):
        return segment, np.zeros((0, len(RECALL_POINTS))), np.zeros(0)
    starts = run_starts(segment)
    lengths = np.diff(np.append(starts, len(segment)))
    found = _cumulative_in_runs(selection.counted(selection.true), starts, lengths)
    excused = _cumulative_in_runs(selection.counted(selection.inside), starts, lengths)
    steps = len(IOU_THRESHOLDS)
    base = np.repeat(selection.predicted[matches.inside_starts[:, None, :-1]], steps, axis=1).reshape(-1)
    # A class without boxes is divided by 1 here and made undefined by the callers.
    total = np.repeat(np.maximum(selection.boxes_of, 1)[:, None, :], steps, axis=1).reshape(-1)
    upto = selection.predicted.take(gather(matches.pair_upto, selection.pairs))
    false = upto - np.repeat(base[segment[starts]], lengths) - excused
    # The tiny addend is COCO's: it turns 0/0 into 0, and without it the last digits would differ.
    precision = found / (false + found + np.spacing(1))
    recall = found / np.repeat(total[segment[starts]], lengths)
    row = np.repeat(np.arange(len(starts)), lengths)
    point = last_point_reached(recall)
    best = run_starts(row * len(RECALL_POINTS) + point)
    table = np.zeros((len(RECALL_POINTS), len(starts)))
    table[point[best], row[best]] = np.maximum.reduceat(precision, best)
    for index in range(len(table) - 2, -1, -1):  # faster than np.maximum.accumulate
        np.maximum(table[index], table[index + 1], out=table[index])
    return segment[starts], table.T, recall[starts + lengths - 1]


def last_point_reached(recall: np.ndarray) -> np.ndarray:
    """Index of the last of the 101 recall points that is at most ``recall``, exactly as comparing with each."""
    top = len(RECALL_POINTS) - 1
    point = np.minimum((recall * top).astype(np.intp), top)
    # The product can fall on the wrong side of a whole number; comparing with the points themselves mends it.
    point += (point < top) & (recall >= RECALL_POINTS[np.minimum(point + 1, top)])
    point -= recall < RECALL_POINTS[point]
    return point


def _cumulative_in_runs(amounts: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Cumulative sum of ``amounts`` (at least one) that starts anew at each of ``starts``."""
    total = np.cumsum(amounts, dtype=np.int32 if amounts.dtype == bool else amounts.dtype)
    return total - np.repeat(total[starts] - amounts[starts], lengths)


def _recall_of_first(selection: Selection) -> tuple[np.ndarray, np.ndarray]:
    """Recall by threshold and class, all sizes, with 1 and with 10 detections of a class in a picture: two (T, K)."""
    shape = (len(IOU_THRESHOLDS), len(selection.matches.names))
    last = int(np.searchsorted(selection.segment, shape[0] * shape[1]))
    level = gather(selection.matches.pair_level, selection.pairs, last)
    times = selection.counted(selection.true[:last], slice(last))
    found = np.bincount(selection.segment[:last] * 3 + level, weights=times, minlength=shape[0] * shape[1] * 3)
    found = found.reshape(*shape, 3).cumsum(axis=2)
    boxes = np.where(selection.boxes_of[0] > 0, selection.boxes_of[0], np.nan)
    return found[:, :, 0] / boxes, found[:, :, 1] / boxes
