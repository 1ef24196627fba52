"""What several views of one picture show, as one list of boxes: the only place in which views are fused.

Weighted boxes fusion, class by class (Solovyev, Wang and Gabruseva, Image and Vision Computing, 2021): boxes that
overlap become their mean, weighted by their scores; the score is the mean over all views, with 0 for one that does not
show the animal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marauder.data.records import Detections
from marauder.prediction.fusion import fuse

OVERLAP = 0.55
"""IoU from which boxes of two views are one animal, as in the paper's experiments."""


def fuse_views(found: Sequence[Detections], overlap: float = OVERLAP) -> Detections:
    """The boxes of one picture seen in K views, best first. One view: its boxes as they are."""
    if len(found) == 1:
        return found[0]
    boxes, scores, classes = [], [], []
    for number in np.unique(np.concatenate([one.classes for one in found])):
        parts = [one.chosen(one.classes == number) for one in found]
        clusters = fuse([part.boxes for part in parts], [part.scores for part in parts], overlap)
        said = np.zeros(len(clusters.boxes))
        for part, index in zip(parts, clusters.index, strict=True):
            said[index >= 0] += part.scores[index[index >= 0]]
        boxes.append(clusters.boxes)
        scores.append(said / len(found))
        classes.append(np.full(len(said), number, np.int64))
    if not boxes:
        return found[0]
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Detections(np.concatenate(boxes)[order], np.concatenate(scores)[order], np.concatenate(classes)[order])
