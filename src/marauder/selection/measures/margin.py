"""Margin: how close the second likeliest answer comes to the likeliest."""

from __future__ import annotations

import numpy as np

from marauder.selection.box_evidence import BoxEvidence, class_distribution
from marauder.selection.measures.base import Measure


class Margin(Measure):
    """1 - (P(first) - P(second)) of the two likeliest of the classes and "none"; 0 to 1 (a tie).

    Source: Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction", IDA 2001, turned
    round so that larger is less certain.
    """

    name = "margin"
    title = "Nearness of the two likeliest classes"
    needs = "scores"

    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        best = np.sort(class_distribution(evidence.scores), axis=1)
        return np.asarray(1.0 - (best[:, -1] - best[:, -2]))

    def upper_limit(self, classes: int, members: int) -> float:
        return 1.0
