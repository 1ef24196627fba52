"""From what each model saw in a picture to the evidence that measures read: calibrated, associated box by box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from marauder.prediction.association import associate, most_overlapping
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.selection.box_evidence import BoxEvidence

if TYPE_CHECKING:
    from marauder.prediction.candidates import Sight


def gather_evidence(
    sights: Sequence[Sight], calibrations: Sequence[ScoreCalibration], ensemble_iou: float
) -> BoxEvidence:
    """The evidence of one picture. ``sights[k]``, ``calibrations[k]``: of model k.

    One model: its candidates, the committee being its passes with dropout, anchor by anchor. Several: objects as
    ``association.associate`` finds them, the committee being the models; the scores of an object are the mean over the
    models, 0 for one that has no box of it, as weighted boxes fusion lowers the score of what few models see.
    """
    scores = [calibration.apply(sight.scores) for sight, calibration in zip(sights, calibrations, strict=True)]
    first = sights[0]
    if len(sights) == 1:
        places = np.arange(len(first.boxes))
        views = _views(first, scores[0], places, calibrations[0]) if first.views else (None, None)
        members = None if first.dropout is None else calibrations[0].apply(first.dropout)
        return BoxEvidence(first.boxes, scores[0], members, first.side_deviation, *views)
    best = [part.max(axis=1, initial=0.0) for part in scores]
    objects = associate([sight.boxes for sight in sights], best, ensemble_iou)
    members = np.stack([_rows(part, index, 0.0) for part, index in zip(scores, objects.index, strict=True)])
    views = _views(first, scores[0], objects.index[0], calibrations[0]) if first.views else (None, None)
    return BoxEvidence(objects.boxes, members.mean(axis=0), members, _mean_deviation(sights, objects.index), *views)


def _rows(values: np.ndarray, index: np.ndarray, absent: float) -> np.ndarray:
    """``values[index]`` with rows of ``absent`` where the index is -1."""
    out = np.full((len(index), values.shape[1]), absent)
    out[index >= 0] = values[index[index >= 0]]
    return out


def _mean_deviation(sights: Sequence[Sight], index: np.ndarray) -> np.ndarray | None:
    """Spread of each object's sides, the mean over the models that see it; ``None`` where a model says none."""
    parts = [sight.side_deviation for sight in sights]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    rows = np.stack([_rows(part, places, 0.0) for part, places in zip(known, index, strict=True)])
    return np.asarray(rows.sum(axis=0) / np.maximum((index >= 0).sum(axis=0), 1)[:, None])


def _views(
    sight: Sight, scores: np.ndarray, places: np.ndarray, calibration: ScoreCalibration
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (V + 1, N, 4) and scores (V + 1, N, C) of the objects of which ``places`` gives the model's own box."""
    boxes, found = [_rows(sight.boxes, places, np.nan)], [_rows(scores, places, 0.0)]
    for view_boxes, view_scores in sight.views:
        nearest = most_overlapping(sight.boxes, view_boxes)
        # -1 in places would pick the last box, so those rows are masked.
        index = np.where(places >= 0, nearest[places] if len(nearest) else -1, -1)
        boxes.append(_rows(view_boxes, index, np.nan))
        found.append(_rows(calibration.apply(view_scores), index, 0.0))
    return np.stack(boxes), np.stack(found)
