"""What is taken for what: the confusion matrix, with background as one more row and column.

Here a detection may be paired with a box of any class (greedy, best score first, each taking the free box of highest
IoU at or above the threshold), so that a wrong class shows as such. The pairs are made once; any confidence and any
subset of pictures is a count over them, because lower scores never change the choice of higher ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.flat_arrays import FlatPictures
from marauder.evaluation.pairing import find_candidates, pair_greedily


@dataclass(frozen=True, eq=False)
class CrossMatches:
    """Pairs of detections and boxes of any class at one IoU threshold, by flat arrays.

    Detections (D,), by picture, then falling score: ``detection_picture``, ``detection_class``, ``detection_score``,
    ``detection_index`` (place in the picture's ``Detections``), ``box_of`` (flat index of the box it was paired with,
    or -1). Boxes (B,), by picture: ``box_picture``, ``box_class``, ``box_ignored``.
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
    box_ignored: np.ndarray


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
    # Only pairs at the confidence count: a box whose detection scores less stays missed.
    missed[box[on_box]] = False
    cells = np.concatenate(
        [(true * (count + 1) + predicted)[~excused], matches.box_class[missed] * (count + 1) + count]
    )
    return np.bincount(cells, minlength=(count + 1) ** 2).reshape(count + 1, count + 1)
