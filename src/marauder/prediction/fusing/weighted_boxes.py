"""Weighted boxes fusion: boxes of one object are averaged, and a score falls where members see nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from marauder.core.settings import Decides, Settings
from marauder.data.records import Detections
from marauder.prediction.box_clusters import cluster_boxes
from marauder.prediction.fusing.base import Fusion, gather, surest_first


class WeightedBoxesSettings(Settings):
    """What is one object, and how sure its members together are."""

    decides: ClassVar[Decides] = Decides.RESULT

    overlap: float = Field(0.55, gt=0, lt=1, description="IoU above which two boxes of a class are one object")
    scoring: Literal["avg", "box_and_model_avg"] = Field(
        "avg",
        description="what lowers a score: few boxes on an object (avg), or few members with one (box_and_model_avg)",
    )


class WeightedBoxes(Fusion[WeightedBoxesSettings]):
    """Solovyev, Wang and Gabruseva, "Weighted boxes fusion: ensembling boxes from different object detection models"
    (Image and Vision Computing, 2021), class by class, as in the authors' package ensemble-boxes.

    The score of an object is the weighted mean of its boxes' scores times the share of the weight that is there, 1 at
    most: with ``avg`` of its boxes, with ``box_and_model_avg`` of its members; the whole is the weight of all members
    that know the class. At equal weights ``avg`` is the package's default; that one is not meant for other weights,
    where its scores leave 0..1.
    """

    name = "weighted_boxes"
    title = "Weighted boxes fusion"
    settings_model = WeightedBoxesSettings
    tried = {"overlap": (0.55, 0.45, 0.65, 0.75)}

    def fuse(self, found: Sequence[Detections], weights: np.ndarray) -> Detections:
        """See ``Fusion.fuse``."""
        taken = gather(found, weights)
        labels, boxes, classes = np.zeros(len(taken.scores), np.int64), [np.zeros((0, 4))], [np.zeros(0, np.int64)]
        count = 0
        strengths = taken.strengths
        for run in taken.runs():
            own, fused = cluster_boxes(taken.boxes[run], strengths[run], self.settings.overlap)
            labels[run] = own + count
            count += len(fused)
            boxes.append(fused)
            classes.append(np.full(len(fused), taken.classes[run.start]))
        kind = np.concatenate(classes)
        present = np.bincount(labels, taken.weights, count)
        mean = np.bincount(labels, strengths, count) / present
        if self.settings.scoring == "box_and_model_avg":
            # Strongest first: of a member's boxes on an object the first one counts.
            _, first = np.unique(labels * len(found) + taken.members, return_index=True)
            present = np.bincount(labels[first], taken.weights[first], count)
        whole = np.asarray(weights, np.float64).sum(axis=0)[kind] if count else np.zeros(0)
        scores = np.minimum(mean * np.minimum(1.0, np.divide(present, whole)), 1.0)
        return surest_first(np.concatenate(boxes), scores, kind)
