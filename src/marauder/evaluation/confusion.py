"""What is taken for what: the confusion matrix, with background as one more row and column, and counts by picture.

Here a detection may be paired with a box of any class (greedy, best score first, each taking the free box of highest
IoU at or above the threshold), so that a wrong class shows as such. The pairs are made once; any confidence and any
subset of pictures is a count over them, because lower scores never change the choice of higher ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.matching import FlatPictures
from marauder.evaluation.pairing import find_candidates, pair_greedily


@dataclass(frozen=True, eq=False)
class CrossMatches:
    """Pairs of detections and boxes of any class at one IoU threshold, by flat arrays.

    Detections (D,), by picture, then falling score: ``detection_picture``, ``detection_class``, ``detection_score``,
    ``detection_index`` (place in the picture's ``Detections``), ``box_of`` (flat index of the box it was paired with,
    or -1). Boxes (B,), by picture: ``box_picture``, ``box_class``, ``box_index``, ``box_ignored``.
    """

    names: tuple[str, ...]
    iou: float
    counted: np.ndarray
    detection_picture: np.ndarray
    detection_class: np.ndarray
    detection_score: np.ndarray
    detection_index: np.ndarray
    box_of: np.ndarray
    box_picture: np.ndarray
    box_class: np.ndarray
    box_index: np.ndarray
    box_ignored: np.ndarray


@dataclass(frozen=True, eq=False)
class PictureOutcome:
    """One picture at one confidence: places in its ``Detections`` and in its record's boxes.

    ``right``: detections of the right class on a box; ``wrong``: false positives, a wrong class included; ``found``
    and ``missed``: boxes with and without a detection of their class. Ignored boxes, and detections on them, are in
    neither list.
    """

    right: np.ndarray
    wrong: np.ndarray
    found: np.ndarray
    missed: np.ndarray

    @property
    def f1(self) -> float:
        """F1 of this picture; 1 for a picture with neither boxes nor detections."""
        total = 2 * len(self.right) + len(self.wrong) + len(self.missed)
        return 2 * len(self.right) / total if total else 1.0


def match_across_classes(
    records: Sequence[Record],
    detections: Sequence[Detections],
    names: Sequence[str],
    iou: float = 0.5,
    max_detections: int = 300,
) -> CrossMatches:
    """Pair ``detections[i]`` with the boxes of ``records[i]`` whatever their class; the best ``max_detections`` of a
    picture take part. Raises ``ValueError`` as ``matching.match`` does."""
    flat = FlatPictures(records, detections, len(names), max_detections, by_class=False)
    candidates = find_candidates(
        flat.detection_boxes, flat.detection_group, flat.boxes, flat.box_group, flat.box_ignored, iou
    )
    chosen = pair_greedily(candidates, flat.detection_group, flat.box_ignored, flat.box_ignored[None], np.array([iou]))[
        :, 0, 0
    ]
    box_of = np.full(len(flat.detection_score), -1, np.int64)
    box_of[candidates.detection[chosen]] = candidates.box[chosen]
    return CrossMatches(
        names=tuple(names),
        iou=iou,
        counted=flat.counted,
        detection_picture=flat.detection_picture,
        detection_class=flat.detection_class,
        detection_score=flat.detection_score,
        detection_index=flat.detection_index,
        box_of=box_of,
        box_picture=flat.box_picture,
        box_class=flat.box_class,
        box_index=flat.box_index,
        box_ignored=flat.box_ignored,
    )


def confusion_matrix(matches: CrossMatches, confidence: float, subset: np.ndarray | None = None) -> np.ndarray:
    """Counts (K + 1, K + 1): row is the true class, column the predicted one, the last of each is background.

    The last row holds detections of nothing, the last column boxes that were missed. ``confidence``: detections with
    at least this score; ``subset``: bool (P,). Ignored boxes and detections on them are left out.
    """
    count = len(matches.names)
    chosen = np.ones(len(matches.counted), bool) if subset is None else np.asarray(subset, bool)
    sure = (matches.detection_score >= confidence) & chosen[matches.detection_picture]
    box, predicted = matches.box_of[sure], matches.detection_class[sure]
    on_box = box >= 0
    true = np.full(len(box), count)
    true[on_box] = matches.box_class[box[on_box]]
    excused = np.zeros(len(box), bool)
    excused[on_box] = matches.box_ignored[box[on_box]]
    missed = chosen[matches.box_picture] & ~matches.box_ignored
    missed[box[on_box]] = False
    cells = np.concatenate(
        [(true * (count + 1) + predicted)[~excused], matches.box_class[missed] * (count + 1) + count]
    )
    return np.bincount(cells, minlength=(count + 1) ** 2).reshape(count + 1, count + 1)


def picture_outcomes(matches: CrossMatches, confidence: float) -> list[PictureOutcome]:
    """What came out of each picture at ``confidence``, in the records' order."""
    sure = matches.detection_score >= confidence
    on_box = sure & (matches.box_of >= 0)
    excused = np.zeros(len(sure), bool)
    excused[on_box] = matches.box_ignored[matches.box_of[on_box]]
    right = np.zeros(len(sure), bool)
    right[on_box] = matches.box_class[matches.box_of[on_box]] == matches.detection_class[on_box]
    right &= ~excused
    found = np.zeros(len(matches.box_class), bool)
    found[matches.box_of[right]] = True
    counts = ~matches.box_ignored
    pictures = len(matches.counted)
    parts = [
        _by_picture(matches.detection_picture, matches.detection_index, right, pictures),
        _by_picture(matches.detection_picture, matches.detection_index, sure & ~right & ~excused, pictures),
        _by_picture(matches.box_picture, matches.box_index, found, pictures),
        _by_picture(matches.box_picture, matches.box_index, counts & ~found, pictures),
    ]
    return [PictureOutcome(*lists) for lists in zip(*parts, strict=True)]


def _by_picture(picture: np.ndarray, index: np.ndarray, chosen: np.ndarray, count: int) -> list[np.ndarray]:
    bounds = np.searchsorted(picture[chosen], np.arange(1, count))
    return np.split(index[chosen], bounds)
