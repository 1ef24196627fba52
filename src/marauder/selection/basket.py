"""What is chosen from, and the basket that keeps every promise: budget, pictures of a clip, no picture twice.

A strategy only proposes; the basket takes or refuses, so that no strategy can break a promise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from marauder.core.errors import UserError

EXPECTED = 0.5
"""Boxes of a class from which a picture counts as one in which the class is expected."""
LEAST_BOXES = 1.0
"""A budget with fewer boxes left is spent."""


@dataclass(frozen=True, eq=False)
class Pool:
    """N pictures to choose from, and L that are labelled already.

    ``features``: float32 (N, D), of unit length. ``scores``: float64 (N,) in 0..1, how uncertain the detector is
    (higher: more); ``None`` without a detector. ``class_counts``: float (N, C), boxes expected of each class (C may be
    0). ``boxes``: float64 (N,), boxes expected in a picture, what annotation costs. ``groups``: int (N,), the clip of
    each. ``slices``: the pictures of each slice that has a quota, bool (N,). ``centres``: float32 (L, D), features of
    labelled pictures, ``centre_counts``: (L, C), their boxes. ``names``: of the classes. ``labelled_share``: labelled
    pictures over all there are, ``None`` where unknown. ``doubtful``: bool (N,), pictures of which the detector has any
    doubt (``None``: those with a score above 0). ``distrust``: why its doubts mean nothing; empty: they can be trusted.
    ``by_look``: why features say how pictures look instead of what the detector sees in them; empty: they do not.
    """

    features: np.ndarray
    scores: np.ndarray | None
    class_counts: np.ndarray
    boxes: np.ndarray
    groups: np.ndarray
    centres: np.ndarray
    centre_counts: np.ndarray
    names: tuple[str, ...] = ()
    slices: dict[str, np.ndarray] = field(default_factory=dict)
    labelled_share: float | None = None
    doubtful: np.ndarray | None = None
    distrust: str = ""
    by_look: str = ""

    def __post_init__(self) -> None:
        count, width = self.features.shape
        shapes = {
            "class_counts": self.class_counts.shape[:1] == (count,),
            "boxes": self.boxes.shape == (count,),
            "groups": self.groups.shape == (count,),
            "scores": self.scores is None or self.scores.shape == (count,),
            "doubtful": self.doubtful is None or self.doubtful.shape == (count,),
            "centres": self.centres.ndim == 2 and self.centres.shape[1] == width,
            "centre_counts": self.centre_counts.shape == (len(self.centres), self.class_counts.shape[1]),
            "slices": all(mask.shape == (count,) for mask in self.slices.values()),
        }
        wrong = [name for name, fits in shapes.items() if not fits]
        if wrong:
            raise ValueError(f"{count} pictures with {width} features do not fit {', '.join(wrong)}")

    def __len__(self) -> int:
        return len(self.features)

    def expects(self, name: str) -> np.ndarray:
        """Pictures in which a class is expected: bool (N,). Raises ``UserError`` for a class that is none."""
        if name not in self.names:
            known = ", ".join(self.names) or "none, since no detector is used"
            raise UserError(f"class_quotas: no class named {name!r}; there are: {known}")
        expected: np.ndarray = self.class_counts[:, self.names.index(name)] >= EXPECTED
        return expected


@dataclass(frozen=True)
class Pick:
    """A chosen picture: its ``index`` in the pool, the ``kind`` of reason and the ``reason`` in words.

    ``cluster``: number of the group of similar pictures that it stands for, ``None`` where the strategy has none.
    ``score``: its uncertainty in 0..1, ``None`` without a detector.
    """

    index: int
    kind: str
    reason: str
    cluster: int | None = None
    score: float | None = None


class Basket:
    """Takes pictures of ``pool`` while the promises hold.

    ``count``: most pictures; ``boxes``: most expected boxes, together; ``most_per_group``: most pictures of a group.
    ``open``: bool (N,), pictures that would still be taken.
    """

    def __init__(self, pool: Pool, count: int, boxes: float | None, most_per_group: int | None) -> None:
        self.pool, self.count = pool, count
        self.boxes_left = math.inf if boxes is None else float(boxes)
        self.most_per_group = most_per_group
        self.picks: list[Pick] = []
        self.open = pool.boxes <= self.boxes_left
        self._taken_of_group = np.zeros(int(pool.groups.max(initial=-1)) + 1, np.int64)
        # The pictures of each group in one stretch, so that closing a full clip does not search the pool.
        order = np.argsort(pool.groups, kind="stable")
        self._members, self._starts = (
            order,
            np.searchsorted(pool.groups[order], np.arange(len(self._taken_of_group) + 1)),
        )

    @property
    def left(self) -> int:
        """Pictures that still fit by number."""
        return self.count - len(self.picks)

    def taken(self) -> np.ndarray:
        """Indices of what was taken so far, in order: int64 (number of picks,)."""
        return np.array([pick.index for pick in self.picks], np.int64)

    def offer(self, index: int, kind: str, reason: str, cluster: int | None = None) -> bool:
        """Take the picture if that breaks no promise; returns whether it was taken."""
        if self.left <= 0 or not self.open[index]:
            return False
        score = None if self.pool.scores is None else float(self.pool.scores[index])
        self.picks.append(Pick(int(index), kind, reason, cluster, score))
        self.open[index] = False
        group = int(self.pool.groups[index])
        self._taken_of_group[group] += 1
        if self.most_per_group is not None and self._taken_of_group[group] >= self.most_per_group:
            self.open[self._members[self._starts[group] : self._starts[group + 1]]] = False
        if self.boxes_left < math.inf:
            self.boxes_left -= float(self.pool.boxes[index])
            # Pictures that no longer fit close at once: a strategy need not be refused one by one. With less than a box
            # left the budget is spent; else every picture in which the detector sees nothing would still be taken.
            self.open &= (self.pool.boxes <= self.boxes_left) & (self.boxes_left >= LEAST_BOXES)
        return True

    def allowance(self, among: np.ndarray, factor: float = 1.0) -> np.ndarray:
        """``among`` (indices, best first) without what lies beyond ``factor`` times the number that a group may still
        give."""
        if self.most_per_group is None or not len(among):
            return among
        groups = self.pool.groups[among]
        order = np.argsort(groups, kind="stable")
        firsts = np.concatenate([[True], groups[order][1:] != groups[order][:-1]])
        starts = np.maximum.accumulate(np.where(firsts, np.arange(len(order)), 0))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) - starts
        allowed: np.ndarray = among[place < factor * (self.most_per_group - self._taken_of_group[groups])]
        return allowed
