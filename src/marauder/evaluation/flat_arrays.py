"""Records and detections of many pictures as flat arrays, checked and sorted for pairing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.pairing import rank_in_group


class FlatPictures:
    """Records and detections as flat arrays, sorted by group; detections of a group by falling score.

    A group is a picture and class, or without ``by_class`` a picture. Of each the best ``max_detections`` are kept.
    """

    def __init__(
        self,
        records: Sequence[Record],
        detections: Sequence[Detections],
        classes: int,
        max_detections: int,
        by_class: bool = True,
    ) -> None:
        if len(records) != len(detections):
            raise ValueError(f"{len(records)} records, but detections for {len(detections)} pictures")
        self.counted = np.array([record.labelled for record in records], bool)
        used = [index for index, record in enumerate(records) if record.labelled]
        self.detection_picture, self.detection_index = _places([len(detections[i]) for i in used], used)
        self.box_picture, self.box_index = _places([len(records[i].boxes) for i in used], used)
        boxes = _joined([records[i].boxes for i in used], np.float64, (0, 4))
        detected = _joined([detections[i].boxes for i in used], np.float64, (0, 4))
        scores = _joined([detections[i].scores for i in used], np.float64, (0,))
        box_class = _joined([records[i].classes for i in used], np.int64, (0,))
        detection_class = _joined([detections[i].classes for i in used], np.int64, (0,))
        own = scores
        if any(detections[i].own_scores is not None for i in used):
            own = _joined([_own_scores(detections[i]) for i in used], np.float64, (0,))
        _check(records, "box", self.box_picture, boxes.sum(axis=1), box_class, classes)
        _check(records, "detection", self.detection_picture, detected.sum(axis=1) + scores, detection_class, classes)

        box_ignored = _joined([records[i].ignored for i in used], bool, (0,))
        group = self.box_picture * classes + box_class if by_class else self.box_picture
        # Stable: of boxes with the same IoU the later in the record is taken, as COCO's code does.
        order = np.argsort(group, kind="stable")
        self.boxes, self.box_class, self.box_ignored = boxes[order], box_class[order], box_ignored[order]
        self.box_picture, self.box_index, self.box_group = self.box_picture[order], self.box_index[order], group[order]

        group = self.detection_picture * classes + detection_class if by_class else self.detection_picture
        # lexsort is stable too: of equal scores the earlier detection chooses first. Calibrated scores have plateaus,
        # on which the model's own decide, so that no calibration changes who comes first.
        order = np.lexsort((-scores, group) if own is scores else (-own, -scores, group))
        rank = rank_in_group(group[order])
        order, self.detection_rank = order[rank < max_detections], rank[rank < max_detections]
        self.detection_boxes, self.detection_score = detected[order], scores[order]
        self.detection_own = None if own is scores else own[order]
        """The model's own scores where some of the detections have calibrated ones, else ``None``."""
        self.detection_class, self.detection_group = detection_class[order], group[order]
        self.detection_picture = self.detection_picture[order]
        self.detection_index = self.detection_index[order]


def _own_scores(found: Detections) -> np.ndarray:
    return found.scores if found.own_scores is None else found.own_scores


def _places(counts: list[int], pictures: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Picture of each element and its place within the picture."""
    picture = np.repeat(np.array(pictures, np.int64), counts)
    return picture, rank_in_group(picture)


def _joined(parts: list[np.ndarray], kind: type, empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(parts).astype(kind, copy=False) if parts else np.zeros(empty, kind)


def _check(
    records: Sequence[Record], what: str, picture: np.ndarray, sums: np.ndarray, numbers: np.ndarray, classes: int
) -> None:
    """Refuse values that are not finite (their sums are not) and classes without a name, naming the picture."""
    wrong = np.flatnonzero(~np.isfinite(sums))
    if len(wrong):
        raise ValueError(f"{records[picture[wrong[0]]].key}: a {what} is not made of finite numbers")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
    if len(wrong):
        key, number = records[picture[wrong[0]]].key, numbers[wrong[0]]
        raise ValueError(f"{key}: a {what} has class {number}, there are {classes} names")
