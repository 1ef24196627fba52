"""A way of fusing: what several detectors find in a picture becomes what one finds. The plug point ``fusion``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from marauder.core.plugins import Plugin, SettingsType
from marauder.data.records import Detections


class Fusion(Plugin[SettingsType], ABC):
    """One way of fusing. Pure: it sees boxes, scores and weights, and no picture.

    Every way keeps these: the order of the members does not matter, nor what all weights are multiplied by; a member
    that does not know a class is as good as absent there; scores stay in 0..1; fused boxes lie within the boxes they
    were made of. ``tried``: settings that are worth fitting, with the values to try, the usual one first.
    """

    tried: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    @abstractmethod
    def fuse(self, found: Sequence[Detections], weights: np.ndarray) -> Detections:
        """The boxes of K members as one, best score first.

        ``found[k]``: of member k, in pixels of the picture, its scores on a scale that all members share (calibrated),
        its classes numbered as the columns of ``weights``, float64 (K, C), at least 0: how much each member counts for
        each class; 0: it does not know the class, and its boxes of it are left out.
        """


@dataclass(frozen=True, eq=False)
class Boxes:
    """All boxes that take part, by class, then by falling strength. ``boxes``: float64 (N, 4); ``scores``, ``weights``:
    float64 (N,), of the box and of its member for its class; ``classes``, ``members``: int64 (N,)."""

    boxes: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    classes: np.ndarray
    members: np.ndarray

    @property
    def strengths(self) -> np.ndarray:
        """Scores times weights: (N,)."""
        return self.scores * self.weights

    def runs(self) -> list[slice]:
        """Where each class that occurs begins and ends."""
        bounds = np.flatnonzero(np.diff(self.classes)) + 1
        edges = [0, *bounds.tolist(), len(self.classes)]
        return [slice(start, stop) for start, stop in pairwise(edges) if stop > start]

    def take(self, chosen: np.ndarray) -> Boxes:
        """Some of them, by place or mask."""
        parts = (self.boxes, self.scores, self.weights, self.classes, self.members)
        return Boxes(*(part[chosen] for part in parts))


def gather(found: Sequence[Detections], weights: np.ndarray) -> Boxes:
    """The boxes of all members that have a weight, an area and a score.

    Of equal strength those farther to the left come first, then those farther up: the order must not be that of the
    members.
    """
    counts = [len(one) for one in found]
    members = np.repeat(np.arange(len(found)), counts)
    boxes = np.concatenate([one.boxes for one in found]) if found else np.zeros((0, 4))
    scores = np.concatenate([one.scores for one in found]) if found else np.zeros(0)
    classes = np.concatenate([one.classes for one in found]) if found else np.zeros(0, np.int64)
    weight = np.asarray(weights, np.float64)[members, classes] if len(members) else np.zeros(0)
    whole = Boxes(boxes, scores, weight, classes, members)
    solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    part = whole.take(solid & (weight > 0) & (scores > 0))
    return part.take(np.lexsort((*part.boxes.T[::-1], -part.strengths, part.classes)))


def surest_first(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Detections:
    """Detections by falling score; of equal ones by class and place, which no order of members changes."""
    order = np.lexsort((*boxes.T[::-1], classes, -scores))
    return Detections(boxes[order], scores[order], classes[order])
