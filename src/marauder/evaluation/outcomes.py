"""What came out of each picture at one confidence: which detections are right or wrong, which boxes found or missed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marauder.evaluation.matching import Matches


@dataclass(frozen=True, eq=False)
class PictureOutcome:
    """One picture at one confidence and IoU 0.5: places in its ``Detections`` and in its record's boxes.

    ``right``, ``wrong``: true and false detections; ``found``, ``missed``: boxes with and without a true detection.
    Ignored boxes, and detections on them, are in neither list. ``labelled``: False for a picture that takes no part.
    """

    right: np.ndarray
    wrong: np.ndarray
    found: np.ndarray
    missed: np.ndarray
    labelled: bool

    @property
    def errors(self) -> int:
        """False detections and missed boxes."""
        return len(self.wrong) + len(self.missed)

    @property
    def f1(self) -> float:
        """F1 of this picture; 1 for a picture with neither boxes nor detections."""
        total = 2 * len(self.right) + self.errors
        return 2 * len(self.right) / total if total else 1.0


def judge_detections(matches: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each detection is at IoU 0.5, all sizes: true, false (both bool (D,)), and the IoU with its box, float64
    (D,), 0 for false ones. Excused ones (on a box that does not count, or outside the areas meant) are neither."""
    last = int(np.searchsorted(matches.pair_segment, len(matches.names)))
    detection, hit = matches.pair_detection[:last], matches.pair_true[:last]
    true, false = np.zeros((2, len(matches.detection_score)), bool)
    # Wrong until a pair says otherwise; a pair with a box that does not count makes it neither.
    false[matches.inside_detection[: matches.inside_bounds[1]]] = True
    false[detection] = False
    true[detection[hit]] = True
    iou = np.zeros(len(true))
    iou[detection[hit]] = matches.pair_iou[:last][hit]
    return true, false, iou


def picture_outcomes(matches: Matches, confidence: float) -> list[PictureOutcome]:
    """The outcome of every picture among detections with a score of at least ``confidence``, in the records' order."""
    last = int(np.searchsorted(matches.pair_segment, len(matches.names)))
    true, false, _ = judge_detections(matches)
    sure = matches.detection_score >= confidence
    certain = matches.pair_true[:last] & sure[matches.pair_detection[:last]]
    found = np.zeros(len(matches.box_class), bool)
    found[matches.pair_box[:last][certain]] = True
    missed = ~matches.box_ignored[0] & ~found
    lists = [
        _by_picture(matches.detection_picture, matches.detection_index, true & sure, matches.pictures),
        _by_picture(matches.detection_picture, matches.detection_index, false & sure, matches.pictures),
        _by_picture(matches.box_picture, matches.box_index, found, matches.pictures),
        _by_picture(matches.box_picture, matches.box_index, missed, matches.pictures),
    ]
    right_of, wrong_of, found_of, missed_of = lists
    return [
        PictureOutcome(right_of[i], wrong_of[i], found_of[i], missed_of[i], bool(matches.counted[i]))
        for i in range(matches.pictures)
    ]


def _by_picture(picture: np.ndarray, index: np.ndarray, chosen: np.ndarray, count: int) -> list[np.ndarray]:
    """The chosen indices of each picture, rising."""
    picture, index = picture[chosen], index[chosen]
    order = np.lexsort((index, picture))
    return np.split(index[order], np.searchsorted(picture[order], np.arange(1, count))) if count else []
