"""Augmentation consistency: whether a box stays what and where it is when the picture is changed a little."""

from __future__ import annotations

import numpy as np

from marauder.data.boxes import overlap_of
from marauder.selection.box_evidence import BoxEvidence, class_distribution, jensen_shannon
from marauder.selection.measures.base import Measure


class AugmentationConsistency(Measure):
    """Mean over views of: mean presence of both boxes · (1 - (IoU + 1 - JS) / 2); 0 (the same in all views) to 1.

    JS: Jensen-Shannon divergence, base 2, of the distributions over the classes and "none". A box that a view does not
    show has IoU 0 and is a certain "none" there.

    Source: Yu et al., "Consistency-based active learning for object detection" (CALD), CVPR Workshops 2022, whose sum
    of IoU and ½ (score + score') (1 - JS) is here scaled to 0..1 and turned round, so that larger is less consistent,
    with the weight of the scores on both terms: faint boxes that come and go are no news. Elezi et al., "Not all labels
    are equal", CVPR 2022, use the consistency under a flip in the same way.
    """

    name = "augmentation_consistency"
    title = "Disagreement of altered views"
    needs = "views"

    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        if evidence.view_boxes is None or evidence.view_scores is None or len(evidence.view_boxes) < 2:
            raise ValueError("augmentation consistency compares views of a picture; the evidence holds none")
        distributions = class_distribution(evidence.view_scores)
        present = distributions[..., :-1].sum(axis=2)
        there = ~np.isnan(evidence.view_boxes).any(axis=2)
        # NaN times 0 is NaN: the mask below would not keep it out of the mean.
        boxes = np.where(there[..., None], evidence.view_boxes, 0.0)
        values = []
        for view in range(1, len(boxes)):
            iou = overlap_of(boxes[0], boxes[view]) * (there[0] & there[view])
            agreement = (iou + 1.0 - jensen_shannon(distributions[0], distributions[view])) / 2
            values.append((present[0] + present[view]) / 2 * (1.0 - agreement) * there[0])
        return np.mean(values, axis=0)

    def upper_limit(self, classes: int, members: int) -> float:
        return 1.0
