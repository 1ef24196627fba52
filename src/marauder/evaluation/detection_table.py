"""Every detection as a row: its class, score, whether it is right, how far it overlaps its animal, and its group.

What calibration is fitted and judged on, and thresholds are chosen by. The pairs are COCO's, made twice at once: at IoU
0.5, which decides right and wrong, and at any overlap at all, which says how well an animal was found (Kuzucu et al.,
"On calibration of object detectors: pitfalls, evaluation and baselines", ECCV 2024, whose LaECE at IoU 0 asks that a
score be the overlap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from marauder.data.records import Detections, Record
from marauder.evaluation.flat_arrays import FlatPictures
from marauder.evaluation.matching import IOU_THRESHOLDS
from marauder.evaluation.pairing import find_candidates, pair_greedily

ANY_OVERLAP = 1e-6
"""IoU from which a box and an animal overlap at all."""
MOST_OF_A_CLASS = 100
"""Detections of a class in a picture that count, as for average precision."""


@dataclass(frozen=True, eq=False)
class DetectionTable:
    """Detections (D,) that count, by picture and class, then by falling score; those on ignored boxes are left out.

    ``kind``: int64, class. ``score``: float64, as the detections have it. ``right``: bool, at IoU 0.5. ``overlap``:
    float64, IoU with the animal of its class that it is paired with, at IoU 0.5 or else at any overlap, 0 for none.
    ``group``: int64, of the picture, in 0..G-1 by name. ``boxes``: int64 (G, K), labelled boxes of each group and class
    that count. ``groups``: names (G,) of the groups of all labelled pictures. ``names``: of the classes.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    kind: np.ndarray
    score: np.ndarray
    right: np.ndarray
    overlap: np.ndarray
    group: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def chosen(self, rows: np.ndarray) -> DetectionTable:
        """The rows of a mask or an index; groups and boxes stay."""
        columns = {name: getattr(self, name)[rows] for name in ("kind", "score", "right", "overlap", "group")}
        return replace(self, **columns)

    def of_groups(self, chosen: np.ndarray) -> DetectionTable:
        """What lies in the groups of a mask (G,), boxes included; groups keep their numbers."""
        return replace(self.chosen(chosen[self.group]), boxes=np.where(chosen[:, None], self.boxes, 0))

    def rescored(self, score: np.ndarray) -> DetectionTable:
        """The same detections with other scores (D,)."""
        return replace(self, score=score)

    def target(self, name: str) -> np.ndarray:
        """What a score is to stand for, float64 (D,): ``hit`` (0 or 1) or ``iou``. Raises ``ValueError``."""
        if name not in ("hit", "iou"):
            raise ValueError(f"no target named {name!r}; there are hit and iou")
        return self.right.astype(np.float64) if name == "hit" else self.overlap


def tabulate(records: Sequence[Record], detections: Sequence[Detections], names: Sequence[str]) -> DetectionTable:
    """The rows of ``detections[i]`` in ``records[i]``; unlabelled records take no part. Raises ``ValueError``."""
    flat = FlatPictures(records, detections, len(names), MOST_OF_A_CLASS)
    crowd = flat.box_ignored
    found = find_candidates(flat.detection_boxes, flat.detection_group, flat.boxes, flat.box_group, crowd, ANY_OVERLAP)
    thresholds = np.array([ANY_OVERLAP, IOU_THRESHOLDS[0]])
    chosen = pair_greedily(found, flat.detection_group, crowd, crowd[None], thresholds)[:, 0]
    counts = ~crowd[found.box]
    right, excused = np.zeros((2, len(flat.detection_score)), bool)
    right[found.detection[chosen[:, 1] & counts]] = True
    excused[found.detection[chosen[:, 1] & ~counts]] = True
    overlap = np.zeros(len(right))
    anyhow = chosen[:, 0] & counts
    overlap[found.detection[anyhow]] = found.iou[anyhow]
    # A surer one that barely touches an animal takes it from the one that found it, but not from what that is worth.
    found_it = chosen[:, 1] & counts
    overlap[found.detection[found_it]] = found.iou[found_it]
    known, group = _groups(records)
    boxes = np.zeros((len(known), len(names)), np.int64)
    counting = ~crowd
    np.add.at(boxes, (group[flat.box_picture[counting]], flat.box_class[counting]), 1)
    table = DetectionTable(
        names=tuple(names),
        groups=known,
        kind=flat.detection_class,
        score=flat.detection_score,
        right=right,
        overlap=overlap,
        group=group[flat.detection_picture],
        boxes=boxes,
    )
    return table.chosen(~excused)


def _groups(records: Sequence[Record]) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the labelled records' groups, and the number of each record's; -1 for one without labels."""
    labelled = [record.group for record in records if record.labelled]
    known, number = np.unique(np.array(labelled, str), return_inverse=True)
    group = np.full(len(records), -1, np.int64)
    group[[record.labelled for record in records]] = number
    return tuple(known.tolist()), group
