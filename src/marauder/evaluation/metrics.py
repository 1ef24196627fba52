"""Average precision and recall, precision, recall and F1 of any subset of pictures, from pairs that were made once.

Average precision is COCO's: precision made non-increasing, read at 101 recall values, averaged (Lin et al., ECCV 2014,
and its evaluation code, which these figures equal). Where COCO's code says -1 (nothing to find), these say NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from marauder.evaluation.curves import OperatingPoint, best_confidence, confidence_curves, operating_point
from marauder.evaluation.matching import AREA_NAMES, IOU_THRESHOLDS, Matches

RECALL_POINTS = np.linspace(0.0, 1.0, 101)
SCALARS = (
    "map50", "map50_95", "map75", "map_small", "map_medium", "map_large", "ar_1", "ar_10", "ar_100",
    "ar_small", "ar_medium", "ar_large", "precision", "recall", "f1", "confidence", "pictures", "boxes", "detections",
)  # fmt: skip


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
    def per_class(self) -> list[dict[str, Any]]:
        """One mapping a class: name, n_boxes, ap50, ap75, ap50_95, precision, recall, f1."""
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

    def to_json(self, classes: bool = True) -> dict[str, Any]:
        """Plain numbers; NaN stays NaN and is written as ``null`` by ``core.files.write_json``."""
        content: dict[str, Any] = {name: getattr(self, name) for name in SCALARS}
        return {**content, "per_class": self.per_class} if classes else content


def aggregate(
    matches: Matches,
    subset: np.ndarray | None = None,
    confidence: float | None = None,
    weights: np.ndarray | None = None,
) -> Metrics:
    """The metrics of some of the pictures.

    ``subset``: bool (P,), which pictures; all by default. ``confidence``: where precision, recall and F1 are counted;
    by default where the smoothed mean F1 of these pictures is highest. ``weights``: int (P,), how often each picture
    counts (for the bootstrap); equal to evaluating a set in which it stands that often, up to the order of equal
    scores.
    """
    repeats = picture_weights(matches, subset, weights)
    everything = weights is None and bool(repeats.all())
    boxes_of = _count_boxes(matches, repeats)
    ap, reached = _precision_and_recall(matches, repeats, boxes_of, everything)
    recall_1, recall_10 = (_recall_of(matches, repeats, boxes_of[0], pairs) for pairs in matches.first_pairs)
    if confidence is None:
        confidence = best_confidence(confidence_curves(matches, repeats))
    return Metrics(
        names=matches.names,
        pictures=int(repeats.sum()),
        detections=int(repeats[matches.detection_picture].sum()),
        boxes_of=boxes_of,
        ap=ap,
        recall_reached=reached,
        recall_1=recall_1,
        recall_10=recall_10,
        point=operating_point(matches, repeats, boxes_of[0], confidence),
    )


def picture_weights(matches: Matches, subset: np.ndarray | None, weights: np.ndarray | None) -> np.ndarray:
    """How often each picture counts: int32 (P,); 0 for pictures left out or not labelled."""
    result = matches.counted.astype(np.int32)
    for name, part in (("subset", subset), ("weights", weights)):
        if part is not None:
            values = np.asarray(part)
            if values.shape != result.shape:
                raise ValueError(f"{name} has shape {values.shape}, there are {len(result)} pictures")
            if name == "subset" and values.dtype != bool:
                raise ValueError("subset must be a boolean mask over the pictures")
            if values.dtype.kind not in "bui" or (values.dtype.kind == "i" and (values < 0).any()):
                raise ValueError(f"{name} must be whole numbers of at least 0")
            result *= values.astype(np.int32)
    return result


def precision_at_recall(matches: Matches, subset: np.ndarray | None = None) -> np.ndarray:
    """Precision at the 101 recall values, IoU 0.5, all sizes: (K, 101); NaN rows for classes without boxes."""
    repeats = picture_weights(matches, subset, None)
    boxes_of = _count_boxes(matches, repeats)
    segments, table, _ = _precision_table(matches, repeats, boxes_of, everything=False)
    count = len(matches.names)
    curves = np.zeros((count, len(RECALL_POINTS)))
    first = segments < count
    curves[segments[first]] = table[first]
    curves[boxes_of[0] == 0] = np.nan
    return curves


def defined_mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _count_boxes(matches: Matches, repeats: np.ndarray) -> np.ndarray:
    segment, picture = matches.targets
    shape = (len(AREA_NAMES), len(matches.names))
    counts = np.bincount(segment, weights=repeats[picture], minlength=shape[0] * shape[1])
    return counts.astype(np.int64).reshape(shape)


def _precision_and_recall(
    matches: Matches, repeats: np.ndarray, boxes_of: np.ndarray, everything: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and highest recall of every segment: two arrays (A, T, K)."""
    shape = (len(AREA_NAMES), len(IOU_THRESHOLDS), len(matches.names))
    segments, table, highest = _precision_table(matches, repeats, boxes_of, everything)
    ap, reached = np.zeros(shape), np.zeros(shape)
    ap.reshape(-1)[segments] = table.mean(axis=1)
    reached.reshape(-1)[segments] = highest
    undefined = np.broadcast_to((boxes_of == 0)[:, None, :], shape)
    ap[undefined] = reached[undefined] = np.nan
    return ap, reached


def _precision_table(
    matches: Matches, repeats: np.ndarray, boxes_of: np.ndarray, everything: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments with a true positive (U,), their precision at the 101 recall values (U, 101), their highest recall (U,).

    Precision rises only at true positives and recall changes only there, so the curve is known from them alone.
    """
    chosen: slice | np.ndarray = slice(None) if everything else np.flatnonzero(repeats[matches.pair_picture])
    segment, true = matches.pair_segment[chosen], matches.pair_true[chosen]
    times = repeats[matches.pair_picture[chosen]]
    found = _cumulative_in_runs(segment, times * true)
    excused = _cumulative_in_runs(segment, times * matches.pair_inside[chosen])
    predicted = np.concatenate(([0], np.cumsum(repeats[matches.inside_picture], dtype=np.int64)))
    steps = len(IOU_THRESHOLDS)
    base = np.repeat(predicted[matches.inside_starts[:, None, :-1]], steps, axis=1).reshape(-1)
    false = predicted[matches.pair_upto[chosen]] - base[segment] - excused

    at_true = np.flatnonzero(true)
    segment, found, false = segment[at_true], found[at_true].astype(np.float64), false[at_true]
    precision = found / (false + found + np.spacing(1))
    total = np.repeat(boxes_of[:, None, :], steps, axis=1).reshape(-1)
    recall = found / total[segment]
    point = _last_point_reached(recall)
    segments, row = _runs(segment)
    table = np.zeros((len(segments), len(RECALL_POINTS)))
    if len(segments):
        cell = row * len(RECALL_POINTS) + point
        starts = np.flatnonzero(np.concatenate(([True], cell[1:] != cell[:-1])))
        table.reshape(-1)[cell[starts]] = np.maximum.reduceat(precision, starts)
        table = np.maximum.accumulate(table[:, ::-1], axis=1)[:, ::-1]
    last = np.append(np.flatnonzero(row[1:] != row[:-1]), len(row) - 1) if len(row) else row
    return segments, table, recall[last]


def _last_point_reached(recall: np.ndarray) -> np.ndarray:
    """Index of the last of the 101 recall points that is at most ``recall``, exactly as comparing with each."""
    top = len(RECALL_POINTS) - 1
    point = np.minimum((recall * top).astype(np.int64), top)
    point += (point < top) & (recall >= RECALL_POINTS[np.minimum(point + 1, top)])
    point -= recall < RECALL_POINTS[point]
    return point


def _runs(sorted_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values of a sorted array, and for each element the place of its value among them."""
    if not len(sorted_values):
        return sorted_values, np.zeros(0, np.int64)
    first = np.concatenate(([True], sorted_values[1:] != sorted_values[:-1]))
    return sorted_values[first], np.cumsum(first) - 1


def _cumulative_in_runs(sorted_values: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """Cumulative sum of ``amounts`` that starts anew where the sorted value changes."""
    total = np.cumsum(amounts, dtype=np.int64)
    if not len(total):
        return total
    starts = np.flatnonzero(np.concatenate(([True], sorted_values[1:] != sorted_values[:-1])))
    before = total[starts] - amounts[starts]
    return total - np.repeat(before, np.diff(np.append(starts, len(total))))


def _recall_of(matches: Matches, repeats: np.ndarray, boxes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Recall by threshold and class, all sizes, that some of the true positives amount to: (T, K)."""
    steps, count = len(IOU_THRESHOLDS), len(matches.names)
    segment, picture = matches.pair_segment[pairs], matches.pair_picture[pairs]
    found = np.bincount(segment, weights=repeats[picture], minlength=steps * count).reshape(steps, count)
    return np.divide(found, boxes, out=np.full((steps, count), np.nan), where=boxes > 0)
