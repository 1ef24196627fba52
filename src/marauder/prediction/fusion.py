"""Which boxes of several detectors, or of several views, are one object.

Detectors: clusters as in weighted boxes fusion (Solovyev, Wang and Gabruseva, "Weighted boxes fusion: ensembling boxes
from different object detection models", Image and Vision Computing, 2021), without regard to class, since members that
call one object by different names are what is looked for. Views: the box that overlaps most, as in CALD (Yu et al.,
"Consistency-based active learning for object detection", CVPR Workshops 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.data.boxes import overlap_of


@dataclass(frozen=True, eq=False)
class Clusters:
    """N objects seen by K members. ``boxes``: float64 (N, 4), fused. ``index``: int64 (K, N), place of each member's
    strongest box of the object in its own list, -1 where it has none."""

    boxes: np.ndarray
    index: np.ndarray


def fuse(boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], overlap: float) -> Clusters:
    """Cluster the boxes of K members. ``boxes[k]``: (N_k, 4); ``scores[k]``: (N_k,), how sure the member is.

    By falling score (of equal ones the earlier member's earlier box first) each box joins the cluster whose fused box
    it overlaps most, if by more than ``overlap`` (IoU), else it founds one. A fused box is the mean of its boxes
    weighted by their scores.
    """
    member = np.concatenate([np.full(len(part), number) for number, part in enumerate(boxes)]).astype(np.int64)
    place = np.concatenate([np.arange(len(part)) for part in boxes]).astype(np.int64)
    corners = np.concatenate([np.asarray(part, np.float64).reshape(-1, 4) for part in boxes])
    weight = np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in scores])
    fused = np.zeros((len(corners), 4))
    sums, weights = np.zeros((len(corners), 4)), np.zeros(len(corners))
    index = np.full((len(boxes), len(corners)), -1, np.int64)
    count = 0
    for row in np.lexsort((place, member, -weight)):
        ious = overlap_of(corners[row], fused[:count])
        cluster = int(ious.argmax()) if count else -1
        if cluster < 0 or ious[cluster] <= overlap:
            cluster, count = count, count + 1
        # A score of 0 still has to place its box.
        share = max(float(weight[row]), 1e-12)
        sums[cluster] += share * corners[row]
        weights[cluster] += share
        fused[cluster] = sums[cluster] / weights[cluster]
        if index[member[row], cluster] < 0:  # by falling score: the first is the strongest
            index[member[row], cluster] = place[row]
    return Clusters(fused[:count], index[:, :count])


def most_overlapping(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of ``boxes`` (N, 4) the place among ``others`` (M, 4) of the one it overlaps most, -1 for none."""
    if not len(others) or not len(boxes):
        return np.full(len(boxes), -1, np.int64)
    ious = overlap_of(boxes[:, None], others[None])
    best = ious.argmax(axis=1)
    return np.where(ious[np.arange(len(boxes)), best] > 0, best, -1).astype(np.int64)
