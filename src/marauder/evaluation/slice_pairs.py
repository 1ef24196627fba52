"""The pairs of a slice, without matching again: boxes that do not count excuse the detections on them.

A detection that was paired with a box outside the slice is neither right nor wrong in it. The pairs themselves stay
those of the whole, where a detection chose among all boxes; an evaluation in which the other boxes are ignored from
the start would let it prefer a box that counts. The difference is small (docs/slices.md says how small).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from marauder.data.records import Record
from marauder.data.slices.mask import SliceMask
from marauder.evaluation.matching import Matches


def restrict(matches: Matches, records: Sequence[Record], mask: SliceMask) -> Matches:
    """The pairs that count in a slice; ``matches`` were made with ``records``.

    Pictures outside do not count and their boxes and detections are left out. With ``mask.boxes``, the other boxes
    become ignored and the detections on them excused, in every area range; detections of a class that has no box in
    the slice are left out, as its average precision is undefined. Detections outside ``mask.area`` that found nothing
    do not count. A slice of pictures alone equals matching these pictures alone, up to the numbers of the pictures.
    Raises ``ValueError`` for a mask of another shape.
    """
    counts = box_flags(matches, records, mask)
    counted = matches.counted & mask.pictures
    box_kept = counted[matches.box_picture]
    kept = counted[matches.detection_picture]
    box_ignored = matches.box_ignored | ~counts
    if mask.boxes is not None:
        wanted = np.zeros(len(matches.names), bool)
        wanted[matches.box_class[box_kept & ~box_ignored.all(axis=0)]] = True
        kept &= wanted[matches.detection_class]
    meant = _meant(matches.detection_area, mask)
    inside_detection, inside_bounds = _kept_inside(matches, kept & meant)
    pair_true = matches.pair_true & counts[matches.pair_box]
    pair_inside = matches.pair_inside & meant[matches.pair_detection]
    pairs = np.flatnonzero((pair_true | pair_inside) & kept[matches.pair_detection])
    place, box_place = _places(kept), _places(box_kept)
    # Elements are left out but never moved, so that everything Matches says of its sorting still holds.
    return replace(
        matches,
        counted=counted,
        detection_picture=matches.detection_picture[kept],
        detection_class=matches.detection_class[kept],
        detection_score=matches.detection_score[kept],
        detection_area=matches.detection_area[kept],
        detection_index=matches.detection_index[kept],
        detection_rank=matches.detection_rank[kept],
        box_picture=matches.box_picture[box_kept],
        box_class=matches.box_class[box_kept],
        box_index=matches.box_index[box_kept],
        box_ignored=box_ignored[:, box_kept],
        pair_segment=matches.pair_segment[pairs],
        pair_detection=place[matches.pair_detection[pairs]],
        pair_box=box_place[matches.pair_box[pairs]],
        pair_iou=matches.pair_iou[pairs],
        pair_true=pair_true[pairs],
        pair_inside=pair_inside[pairs],
        inside_detection=place[inside_detection],
        inside_bounds=inside_bounds,
    )


def whole_classes(matches: Matches, counts: np.ndarray, pictures: np.ndarray) -> np.ndarray | None:
    """If all boxes of some classes in these ``pictures`` (bool (P,)) count and no others: the classes, bool (K,)."""
    boxes = ~matches.box_ignored.all(axis=0) & (matches.counted & pictures)[matches.box_picture]
    all_, some = (np.bincount(matches.box_class[one], minlength=len(matches.names)) for one in (boxes, boxes & counts))
    return some > 0 if ((some == 0) | (some == all_)).all() else None


def box_flags(matches: Matches, records: Sequence[Record], mask: SliceMask) -> np.ndarray:
    """Which of the matches' boxes (B,) count: the mask has the boxes of all records, in the records' order."""
    if mask.pictures.dtype != bool or mask.pictures.shape != (matches.pictures,):
        raise ValueError(f"slice {mask.name!r}: pictures are a boolean mask over {matches.pictures} pictures")
    if mask.boxes is None:
        return np.ones(len(matches.box_class), bool)
    starts = np.concatenate(([0], np.cumsum([len(record.boxes) for record in records], dtype=np.int64)))
    if mask.boxes.dtype != bool or mask.boxes.shape != (starts[-1],):
        raise ValueError(f"slice {mask.name!r}: boxes are a boolean mask over {starts[-1]} boxes")
    counts: np.ndarray = mask.boxes[starts[matches.box_picture] + matches.box_index]
    return counts


def _meant(areas: np.ndarray, mask: SliceMask) -> np.ndarray:
    """Detections of an area that the slice speaks of: bool (D,)."""
    if mask.area is None:
        return np.ones(len(areas), bool)
    meant: np.ndarray = (areas >= mask.area[0]) & (areas <= mask.area[1])
    return meant


def _kept_inside(matches: Matches, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kept ones of ``inside_detection``, by the old numbers, and the new bounds of the area ranges."""
    chosen = kept[matches.inside_detection]
    bounds = np.concatenate(([0], np.cumsum(chosen)))[matches.inside_bounds]
    return matches.inside_detection[chosen], bounds


def _places(kept: np.ndarray) -> np.ndarray:
    """The new number of each element that is kept: int32."""
    places: np.ndarray = np.cumsum(kept, dtype=np.int32) - 1
    return places
