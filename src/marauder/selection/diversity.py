"""Diversity: features in which pictures with other animals lie apart, and the greedy core-set (k-center) over them.

Sources: Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018
(greedy k-center, a 2-approximation of the smallest covering radius: Gonzalez 1985); Yang, Huang and Crowley, "Plug and
play active learning for object detection", CVPR 2024 (likeness conditioned on categories).
"""

from __future__ import annotations

import numpy as np

from marauder.selection.clustering import nearest

AHEAD = 2048
"""Points, the farthest from all centres, that are kept up to date while picking."""
SYNCHRONISED = 64
"""New centres after which all points are brought up to date, in one matrix product."""


def conditioned_features(features: np.ndarray, class_counts: np.ndarray, share: float) -> np.ndarray:
    """Features whose inner product is ``(1 - share)`` x cosine + ``share`` x likeness of the expected classes.

    ``features``: float32 (N, D) of unit length; ``class_counts``: (N, C) boxes of each class, at least 0. Result:
    float32 (N, D + C + 1) of unit length. The likeness of classes is the Bhattacharyya coefficient of the pictures'
    shares of classes, in which "nothing" counts as one box. Yang et al. match every object with its like of the same
    category in the other picture, which costs objects x objects for each pair; this form tells the same pictures apart
    by what is in them, and is an inner product, as clustering 100,000 pictures needs.
    """
    if share <= 0 or not class_counts.shape[1]:
        return features
    counts = np.maximum(np.asarray(class_counts, np.float32), 0)
    whole = 1 + counts.sum(axis=1, keepdims=True)
    shares = np.concatenate([counts, np.ones((len(counts), 1), np.float32)], axis=1) / whole
    joined = np.empty((len(features), features.shape[1] + shares.shape[1]), np.float32)
    joined[:, : features.shape[1]] = features
    joined[:, : features.shape[1]] *= np.float32(np.sqrt(1 - share))
    # The inner product of roots of shares is their Bhattacharyya coefficient.
    joined[:, features.shape[1] :] = np.sqrt(share * shares)
    return joined


class GreedyCover:
    """The farthest-first order of ``points`` (N, D) from fixed ``centres`` (L, D): each next one is the point farthest
    from all centres and all chosen before.

    Exact, yet without touching all points for every pick: distances to the nearest centre only fall, so that those
    known from earlier bound the present ones from above, and only the farthest ``AHEAD`` are kept up to date.
    """

    def __init__(self, points: np.ndarray, centres: np.ndarray) -> None:
        self.points = points
        self.distances = nearest(points, centres)[1]
        self._lengths = np.einsum("ij,ij->i", points, points)
        self._pending: list[int] = []
        self._ahead = np.zeros(0, np.int64)
        self._ahead_points = points[:0]
        self._bound = np.float32(-1)

    def farthest(self, open_points: np.ndarray) -> tuple[int, float] | None:
        """Of the points that are open (bool (N,)) the one farthest from all centres, and its squared distance.

        Infinite where there is no centre yet. ``None`` when no point is open. Points may close from call to call, not
        open again.
        """
        while True:
            chosen = self._ahead[open_points[self._ahead]]
            if len(chosen):
                best = chosen[self.distances[chosen].argmax()]
                # What lies outside is at most as far as the bound said when all were up to date.
                if self.distances[best] >= self._bound:
                    return int(best), float(self.distances[best])
            if not self._synchronise(open_points):
                return None

    def add(self, index: int) -> None:
        """Make the point a centre."""
        self._pending.append(index)
        if len(self._pending) >= SYNCHRONISED:
            self._settle()
        elif len(self._ahead):
            # Only those ahead: what the others hold is an upper bound, which is enough for now.
            centre, places = self.points[index], self._ahead
            found = self._lengths[places] + centre @ centre - 2 * (self._ahead_points @ centre)
            self.distances[places] = np.minimum(self.distances[places], np.maximum(found, 0))

    def _settle(self) -> None:
        """Bring all points up to date with the centres added since that was done last."""
        if self._pending:
            np.minimum(self.distances, nearest(self.points, self.points[self._pending])[1], out=self.distances)
            self._pending.clear()
        self._ahead, self._ahead_points = np.zeros(0, np.int64), self.points[:0]

    def _synchronise(self, open_points: np.ndarray) -> bool:
        self._settle()
        places = np.flatnonzero(open_points)
        if not len(places):
            return False
        if len(places) > AHEAD:
            distances = self.distances[places]
            split = np.argpartition(-distances, AHEAD)
            # The farthest of those left out: nothing beyond it needs a look while one ahead is farther.
            self._bound = distances[split[AHEAD]]
            places = np.sort(places[split[:AHEAD]])
        else:
            self._bound = np.float32(-1)
        self._ahead, self._ahead_points = places, self.points[places]
        return True
