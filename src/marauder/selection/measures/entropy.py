"""Entropy of what a box shows."""

from __future__ import annotations

import numpy as np

from marauder.selection.box_evidence import BoxEvidence, class_distribution, shannon_entropy
from marauder.selection.measures.base import Measure, most_entropy


class Entropy(Measure):
    """- Σ_y P(y) ln P(y) over the classes and "none", nats; 0 to ln(C + 1).

    Source: Shannon, 1948; for choosing examples Settles, "Active learning literature survey", 2009, section 3.1. With
    an ensemble the scores are the members' mean, and the measure is that of the mean score; ``predictive_entropy`` is
    that of the mean distribution.
    """

    name = "entropy"
    title = "Entropy of the class"
    needs = "scores"

    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        return shannon_entropy(class_distribution(evidence.scores))

    def upper_limit(self, classes: int, members: int) -> float:
        return most_entropy(classes + 1)
