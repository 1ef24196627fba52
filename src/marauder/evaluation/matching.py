"""Pair predictions with ground truth once for each picture; every metric, class and slice is a sum over these pairs.

The rules are COCO's: ten IoU thresholds, four ranges of box area, at most 100 detections of a class in a picture,
ignored boxes treated as crowds. ``Matches`` keeps the outcome as flat arrays, sorted so that an aggregation needs
cumulative sums only: a curve of precision over recall is known from its true positives and the number of detections
before each, and those are far fewer than detections times thresholds times areas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from marauder.data.records import Detections, Record
from marauder.data.slices.sizes import SIZES
from marauder.evaluation.flat_arrays import FlatPictures
from marauder.evaluation.pairing import find_candidates, pair_greedily

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_NAMES = ("all", *SIZES)
AREA_RANGES = np.array([[0, 1e5**2], *SIZES.values()], np.float64)
"""Box areas in square pixels, both ends included (COCO)."""


@dataclass(frozen=True, eq=False)
class Matches:
    """The pairs of a set of pictures. K classes, A = 4 area ranges, T = 10 thresholds; a *segment* is one
    (area, threshold, class), numbered ``(area * T + threshold) * K + class``.

    Detections (D,), sorted by class, then falling score: ``detection_picture``, ``detection_class``,
    ``detection_score``, ``detection_area`` (square pixels), ``detection_index`` (place in the picture's
    ``Detections``), ``detection_rank`` (place by score among those of its picture and class). Boxes (B,), by picture,
    then class: ``box_picture``, ``box_class``, ``box_index`` (place in the record), ``box_ignored`` (A, B). Pairs (E,),
    sorted by segment, then by detection: ``pair_segment``, ``pair_detection``, ``pair_box``, ``pair_iou``,
    ``pair_true`` (the box counts: a true positive), ``pair_inside`` (the detection's own area lies in the range, so
    that unmatched it would have been a false positive).
    ``inside_detection``: for each area range in turn, the detections whose area lies in it. ``counted``: bool (P,),
    pictures that were labelled; the others take no part.
    """

    names: tuple[str, ...]
    counted: np.ndarray
    detection_picture: np.ndarray
    detection_class: np.ndarray
    detection_score: np.ndarray
    detection_area: np.ndarray
    detection_index: np.ndarray
    detection_rank: np.ndarray
    box_picture: np.ndarray
    box_class: np.ndarray
    box_index: np.ndarray
    box_ignored: np.ndarray
    pair_segment: np.ndarray
    pair_detection: np.ndarray
    pair_box: np.ndarray
    pair_iou: np.ndarray
    pair_true: np.ndarray
    pair_inside: np.ndarray
    inside_detection: np.ndarray
    inside_bounds: np.ndarray

    @property
    def pictures(self) -> int:
        """Number of records, labelled or not."""
        return len(self.counted)

    # What follows is derived once and gathered from often: kept as the platform's index type, which gathers fastest.

    @cached_property
    def pair_picture(self) -> np.ndarray:
        """Picture of each pair."""
        return self.detection_picture[self.pair_detection].astype(np.intp)

    @cached_property
    def pair_level(self) -> np.ndarray:
        """0 if the pair's detection is the first by score of its picture and class, 1 if among ten, else 2."""
        rank = self.detection_rank[self.pair_detection]
        return (rank >= 1).astype(np.intp) + (rank >= 10)

    @cached_property
    def inside_picture(self) -> np.ndarray:
        """Picture of each entry of ``inside_detection``."""
        return self.detection_picture[self.inside_detection].astype(np.intp)

    @cached_property
    def inside_starts(self) -> np.ndarray:
        """Where each (area, class) starts in ``inside_detection``: (A, K + 1)."""
        classes = np.arange(len(self.names) + 1)
        return np.stack(
            [
                start + np.searchsorted(self.detection_class[self.inside_detection[start:stop]], classes)
                for start, stop in pairwise(self.inside_bounds)
            ]
        )

    def inside_ends(self, confidence: float) -> np.ndarray:
        """End of the detections of each class with a score of at least ``confidence``, in the part of
        ``inside_detection`` for all sizes: (K,). Remembered for the last confidence, which all slices share."""
        if confidence not in self._ends:
            falling = -self.detection_score[self.inside_detection[: self.inside_bounds[1]]]
            self._ends.clear()
            self._ends[confidence] = np.array(
                [
                    start + np.searchsorted(falling[start:stop], -confidence, "right")
                    for start, stop in pairwise(self.inside_starts[0])
                ],
                np.intp,
            )
        return self._ends[confidence]

    @cached_property
    def _ends(self) -> dict[float, np.ndarray]:
        return {}

    @cached_property
    def pair_upto(self) -> np.ndarray:
        """End of the detections inside the pair's area range that come no later than its own, in
        ``inside_detection``: (E,)."""
        result = np.empty(len(self.pair_segment), np.intp)
        width = len(IOU_THRESHOLDS) * len(self.names)
        bounds = np.searchsorted(self.pair_segment, np.arange(len(AREA_NAMES) + 1) * width)
        for area in range(len(AREA_NAMES)):
            start, stop = self.inside_bounds[area : area + 2]
            inside = np.zeros(len(self.detection_score) + 1, np.int32)
            inside[self.inside_detection[start:stop] + 1] = 1
            chosen = slice(bounds[area], bounds[area + 1])
            # Shifted by one, so that the pair's own detection is counted.
            result[chosen] = start + np.cumsum(inside, dtype=np.int32)[self.pair_detection[chosen] + 1]
        return result

    @cached_property
    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes that count, for each area range: ``area * K + class`` and the picture."""
        area, box = np.nonzero(~self.box_ignored)
        return area * len(self.names) + self.box_class[box], self.box_picture[box].astype(np.intp)

    @cached_property
    def detections_of(self) -> np.ndarray:
        """Number of detections in each picture: (P,)."""
        return np.bincount(self.detection_picture, minlength=self.pictures)


def match(
    records: Sequence[Record],
    detections: Sequence[Detections],
    names: Sequence[str],
    max_detections: int = 100,
) -> Matches:
    """Pair ``detections[i]`` with the boxes of ``records[i]``.

    ``max_detections`` are kept of each picture and class, the best scores (COCO: 100). Of equal scores the higher
    own score (``Detections.own_scores``), then the earlier detection and the earlier picture comes first. Records with
    ``labelled=False`` take no part. Raises ``ValueError`` when the lists differ in length, a class has no name, or a
    score or coordinate is not a finite number.
    """
    flat = FlatPictures(records, detections, len(names), max_detections)
    crowd = flat.box_ignored
    ignored = crowd | ~_inside(_areas(flat.boxes))
    # What is below the lowest threshold matches at none of them.
    candidates = find_candidates(
        flat.detection_boxes, flat.detection_group, flat.boxes, flat.box_group, crowd, IOU_THRESHOLDS[0]
    )
    chosen = pair_greedily(candidates, flat.detection_group, crowd, ignored, IOU_THRESHOLDS)

    by_class, place = _by_class(flat)
    detection_area = _areas(flat.detection_boxes)
    inside = _inside(detection_area)
    # Read lane by lane (an area range and threshold) and within it by the detections' places, which go by class: so the
    # pairs come out sorted by segment.
    columns = np.argsort(place[candidates.detection], kind="stable")
    lanes = np.ascontiguousarray(chosen.reshape(len(chosen), len(AREA_NAMES) * len(IOU_THRESHOLDS))[columns].T)
    lane, column = np.divmod(np.flatnonzero(lanes), max(1, lanes.shape[1]))
    pair = columns[column]
    area, box, detection = lane // len(IOU_THRESHOLDS), candidates.box[pair], candidates.detection[pair]
    pair_true, pair_inside = ~ignored[area, box], inside[area, detection]
    keep = pair_true | pair_inside  # the others would be ignored unmatched too: they change nothing
    segment = lane * len(names) + flat.detection_class[detection]
    inside_area, inside_detection = np.nonzero(inside[:, by_class])
    return Matches(
        names=tuple(names),
        counted=flat.counted,
        detection_picture=flat.detection_picture[by_class].astype(np.int32),
        detection_class=flat.detection_class[by_class].astype(np.int32),
        detection_score=flat.detection_score[by_class],
        detection_area=detection_area[by_class],
        detection_index=flat.detection_index[by_class].astype(np.int32),
        detection_rank=flat.detection_rank[by_class].astype(np.int32),
        box_picture=flat.box_picture.astype(np.int32),
        box_class=flat.box_class.astype(np.int32),
        box_index=flat.box_index.astype(np.int32),
        box_ignored=ignored,
        pair_segment=segment[keep].astype(np.intp),
        pair_detection=place[detection[keep]].astype(np.int32),
        pair_box=box[keep].astype(np.int32),
        pair_iou=candidates.iou[pair[keep]],
        pair_true=pair_true[keep],
        pair_inside=pair_inside[keep],
        inside_detection=inside_detection.astype(np.int32),
        inside_bounds=np.searchsorted(inside_area, np.arange(len(AREA_NAMES) + 1)),
    )


def _by_class(flat: FlatPictures) -> tuple[np.ndarray, np.ndarray]:
    """The order of the detections by class, then by falling score, and where each comes to stand in it: (D,) each."""
    own = () if flat.detection_own is None else (-flat.detection_own,)
    by_class = np.lexsort((*own, -flat.detection_score, flat.detection_class))
    place = np.empty(len(by_class), np.int64)
    place[by_class] = np.arange(len(by_class))
    return by_class, place


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def _inside(areas: np.ndarray) -> np.ndarray:
    """Which areas lie in each range: bool (A, N)."""
    inside: np.ndarray = (areas >= AREA_RANGES[:, :1]) & (areas <= AREA_RANGES[:, 1:])
    return inside
