"""Suppression over the boxes of all members together: the surest box of an object is its box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from marauder.core.settings import Decides, Settings
from marauder.data.boxes import overlap_of
from marauder.data.records import Detections
from marauder.prediction.fusing.base import Fusion, gather, surest_first


class SuppressionSettings(Settings):
    """What is one object."""

    decides: ClassVar[Decides] = Decides.RESULT

    overlap: float = Field(
        0.55, gt=0, lt=1, description="IoU above which the fainter of two boxes of a class is dropped"
    )


class Suppression(Fusion[SuppressionSettings]):
    """Greedy non-maximum suppression, class by class.

    A score counts times the weight of its member over the greatest weight for the class, so that the surest member's
    scores stay as they are. (ensemble-boxes divides by the sum of the weights: the same order, smaller numbers.)
    """

    name = "nms"
    title = "Non-maximum suppression"
    settings_model = SuppressionSettings
    tried = {"overlap": (0.55, 0.45, 0.65, 0.75)}

    def fuse(self, found: Sequence[Detections], weights: np.ndarray) -> Detections:
        """See ``Fusion.fuse``."""
        taken = gather(found, weights)
        kept: list[int] = []
        for run in taken.runs():
            boxes = taken.boxes[run]
            left = np.arange(len(boxes))
            while len(left):
                kept.append(run.start + int(left[0]))
                left = left[1:][overlap_of(boxes[left[0]], boxes[left[1:]]) <= self.settings.overlap]
        chosen = taken.take(np.array(kept, np.int64))
        return surest_first(chosen.boxes, chosen.strengths / _greatest(weights, chosen.classes), chosen.classes)


class SoftSuppressionSettings(Settings):
    """How much an overlap lowers a score."""

    decides: ClassVar[Decides] = Decides.RESULT

    decay: Literal["gaussian", "linear"] = Field(
        "gaussian", description="how scores fall: exp(-IoU²/sigma), or 1 - IoU above `overlap`"
    )
    sigma: float = Field(0.5, gt=0, description="of the gaussian decay: the smaller, the more overlaps cost")
    overlap: float = Field(0.55, gt=0, lt=1, description="IoU above which the linear decay begins")
    least: float = Field(0.001, ge=0, lt=1, description="boxes whose score falls below this are dropped")


class SoftSuppression(Fusion[SoftSuppressionSettings]):
    """Bodla, Singh, Chellappa and Davis, "Soft-NMS: improving object detection with one line of code" (ICCV 2017): the
    boxes that overlap a surer one are not dropped, their scores fall. Weights count as in ``nms``."""

    name = "soft_nms"
    title = "Soft suppression"
    settings_model = SoftSuppressionSettings
    tried = {"sigma": (0.5, 0.1, 0.25, 1.0)}

    def fuse(self, found: Sequence[Detections], weights: np.ndarray) -> Detections:
        """See ``Fusion.fuse``."""
        taken = gather(found, weights)
        scores = taken.strengths / _greatest(weights, taken.classes)
        kept: list[np.ndarray] = [np.zeros(0, np.int64)]
        for run in taken.runs():
            kept.append(run.start + self._soften(taken.boxes[run], scores[run]))
        places = np.concatenate(kept)
        return surest_first(taken.boxes[places], scores[places], taken.classes[places])

    def _soften(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Lower ``scores`` (N,), which are changed, of boxes (N, 4) of one class; returns the places of those that
        stay."""
        left, kept = np.arange(len(boxes)), []
        while len(left):
            # Of equal ones the first, whose order does not depend on the members.
            place = int(scores[left].argmax())
            best = left[place]
            if scores[best] < self.settings.least:
                break
            kept.append(best)
            left = np.delete(left, place)
            overlap = overlap_of(boxes[best], boxes[left])
            if self.settings.decay == "gaussian":
                scores[left] *= np.exp(-(overlap**2) / self.settings.sigma)
            else:
                scores[left] *= np.where(overlap > self.settings.overlap, 1.0 - overlap, 1.0)
        return np.array(kept, np.int64)


def _greatest(weights: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The greatest weight that a member has for the class of each box: (N,)."""
    return np.asarray(weights, np.float64).max(axis=0)[classes] if len(classes) else np.zeros(0)
