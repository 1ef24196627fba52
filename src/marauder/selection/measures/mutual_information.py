"""Mutual information (BALD): how much the committee's members disagree, each sure of its own answer."""

from __future__ import annotations

import numpy as np

from marauder.selection.box_evidence import BoxEvidence, class_distribution, shannon_entropy
from marauder.selection.measures.base import Measure, committee, most_entropy


class MutualInformation(Measure):
    """H(mean of the members' distributions) - mean of H(member's distribution), nats, over the classes and "none";
    0 to min(ln K, ln(C + 1)). It is high where another model would say otherwise, not where every model sees a blur.

    Source: Houlsby et al., "Bayesian active learning for classification and preference learning", 2011; over passes
    with dropout Gal, Islam and Ghahramani, "Deep Bayesian active learning with image data", ICML 2017.
    """

    name = "mutual_information"
    title = "Mutual information of class and committee"
    needs = "members"

    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        distributions = class_distribution(committee(evidence))
        between = shannon_entropy(distributions.mean(axis=0)) - shannon_entropy(distributions).mean(axis=0)
        return np.maximum(between, 0.0)  # rounding only: entropy is concave

    def upper_limit(self, classes: int, members: int) -> float:
        return min(most_entropy(classes + 1), most_entropy(members))
