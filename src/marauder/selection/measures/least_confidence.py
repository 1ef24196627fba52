"""Least confidence: how far the likeliest answer is from certain."""

from __future__ import annotations

import numpy as np

from marauder.selection.box_evidence import BoxEvidence, class_distribution
from marauder.selection.measures.base import Measure


class LeastConfidence(Measure):
    """1 - max_y P(y), y the classes and "none" (``selection.box_evidence``); 0 to 1 - 1/(C + 1).

    Source: Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994; for more than two
    classes Culotta and McCallum, "Reducing labeling effort for structured prediction tasks", AAAI 2005.
    """

    name = "least_confidence"
    title = "Distance of the likeliest class from certainty"
    needs = "scores"

    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        return np.asarray(1.0 - class_distribution(evidence.scores).max(axis=1))

    def upper_limit(self, classes: int, members: int) -> float:
        return 1.0 - 1.0 / (classes + 1)
