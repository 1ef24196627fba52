"""Localisation stability: how far the sides of a box may lie from where they are drawn."""

from __future__ import annotations

import numpy as np

from marauder.selection.box_evidence import BoxEvidence, presence
from marauder.selection.measures.base import Measure

MEAN_SHIFT = float(np.sqrt(2 / np.pi))
"""Mean absolute deviation of a normal distribution, in standard deviations."""


class LocalisationStability(Measure):
    """P(something) · (1 - exp(-Σ_sides E|shift| / extent across)); 0 (sides certain) to 1.

    To first order a side that shifts by d takes d / width (or height) from the IoU, so that the sum is the loss of IoU
    to be expected where it is small; the exponential keeps boxes apart where it is not. Kao et al.,
    "Localization-aware active learning for object detection", ACCV 2018, measure it by running the detector on noisy
    copies, and weigh it by the score, as is done here. A YOLO head says it by itself: it puts out a distribution for
    each side (Li et al., "Generalized focal loss", NeurIPS 2020), whose spread costs no further pass; He et al.,
    "Bounding box regression with uncertainty", CVPR 2019, use such a spread in the same sense.
    """

    name = "localisation_stability"
    title = "Spread of the sides of a box"
    needs = "sides"

    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        if evidence.side_deviation is None:
            raise ValueError("localisation stability needs the spread of the sides; the evidence holds none")
        # At least a pixel, so that a box without extent does not divide by zero.
        width = np.maximum(evidence.boxes[:, 2] - evidence.boxes[:, 0], 1.0)
        height = np.maximum(evidence.boxes[:, 3] - evidence.boxes[:, 1], 1.0)
        extents = np.stack([width, height, width, height], axis=1)
        lost = (evidence.side_deviation * MEAN_SHIFT / extents).sum(axis=1)
        # expm1 is exact where next to nothing is lost.
        return presence(evidence.scores) * -np.expm1(-lost)

    def upper_limit(self, classes: int, members: int) -> float:
        return 1.0
