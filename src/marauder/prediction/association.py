"""Which boxes of several detectors, or of several views, are one object, for those who measure where they differ.

Detectors: clusters as in weighted boxes fusion (``box_clusters``), without regard to class, since members that call one
object by different names are what is looked for; what makes one detector of several is in ``fusing``. Views: the box
that overlaps most, as in CALD (Yu et al., "Consistency-based active learning for object detection", CVPR Workshops
2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.data.boxes import overlap_of
from marauder.prediction.box_clusters import cluster_boxes

LEAST_WEIGHT = 1e-12
"""A score of 0 still has to place its box."""


@dataclass(frozen=True, eq=False)
class Objects:
    """N objects seen by K members. ``boxes``: float64 (N, 4), fused. ``index``: int64 (K, N), place of each member's
    strongest box of the object in its own list, -1 where it has none."""

    boxes: np.ndarray
    index: np.ndarray


def associate(boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], overlap: float) -> Objects:
    """The objects in the boxes of K members. ``boxes[k]``: (N_k, 4); ``scores[k]``: (N_k,), how sure the member is.

    By falling score (of equal ones the earlier member's earlier box first) each box joins the object whose fused box
    it overlaps most, if by more than ``overlap`` (IoU), else it founds one. A fused box is the mean of its boxes
    weighted by their scores.
    """
    member = np.concatenate([np.full(len(part), number) for number, part in enumerate(boxes)]).astype(np.int64)
    place = np.concatenate([np.arange(len(part)) for part in boxes]).astype(np.int64)
    corners = np.concatenate([np.asarray(part, np.float64).reshape(-1, 4) for part in boxes])
    score = np.concatenate([np.asarray(part, np.float64).reshape(-1) for part in scores])
    order = np.lexsort((place, member, -score))
    found, fused = cluster_boxes(corners[order], np.maximum(score[order], LEAST_WEIGHT), overlap)
    index = np.full((len(boxes), len(fused)), -1, np.int64)
    # By falling score: a member's first box of an object is its strongest.
    _, first = np.unique(member[order] * len(fused) + found, return_index=True)
    index[member[order][first], found[first]] = place[order][first]
    return Objects(fused, index)


def most_overlapping(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each of ``boxes`` (N, 4) the place among ``others`` (M, 4) of the one it overlaps most, -1 for none."""
    if not len(others) or not len(boxes):
        return np.full(len(boxes), -1, np.int64)
    ious = overlap_of(boxes[:, None], others[None])
    best = ious.argmax(axis=1)
    return np.where(ious[np.arange(len(boxes)), best] > 0, best, -1).astype(np.int64)
