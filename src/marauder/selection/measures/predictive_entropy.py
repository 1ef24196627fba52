"""Predictive entropy: the entropy of what the committee says together."""

from __future__ import annotations

import numpy as np

from marauder.selection.box_evidence import BoxEvidence, class_distribution, shannon_entropy
from marauder.selection.measures.base import Measure, committee, most_entropy


class PredictiveEntropy(Measure):
    """H(mean of the members' distributions), nats, over the classes and "none"; 0 to ln(C + 1). It is the sum of the
    mutual information and of the members' own mean entropy.

    Source: Gal, "Uncertainty in deep learning", 2016, section 3.3.1; over ensembles Lakshminarayanan et al., "Simple
    and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017.
    """

    name = "predictive_entropy"
    title = "Entropy of the committee's mean"
    needs = "members"

    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        return shannon_entropy(class_distribution(committee(evidence)).mean(axis=0))

    def upper_limit(self, classes: int, members: int) -> float:
        return most_entropy(classes + 1)
