"""Variation ratio: the share of the committee that votes against its majority."""

from __future__ import annotations

import numpy as np

from marauder.selection.box_evidence import BoxEvidence, presence
from marauder.selection.measures.base import Measure, committee


class VariationRatio(Measure):
    """P(something) · (1 - votes for the commonest answer / K); 0 (of one mind) to 1 - ⌈K / (C + 1)⌉ / K.

    A member votes for its likeliest class, or for "none" where it saw no such box. Faint boxes are told apart by class
    as well, since a detector that knows little scores everything low; the weight, the committee's mean probability that
    there is anything, keeps votes over what nearly surely is nothing from counting.

    Source: Freeman, "Elementary applied statistics", 1965; over passes with dropout Gal, "Uncertainty in deep
    learning", 2016, section 3.3.1.
    """

    name = "variation_ratio"
    title = "Share of the committee that votes otherwise"
    needs = "members"

    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        scores = committee(evidence)
        nothing = scores.shape[2]
        votes = np.where(scores.max(axis=2) > 0, scores.argmax(axis=2), nothing)
        commonest = np.stack([(votes == answer).sum(axis=0) for answer in range(nothing + 1)]).max(axis=0)
        return presence(scores).mean(axis=0) * (1.0 - commonest / len(votes))

    def upper_limit(self, classes: int, members: int) -> float:
        return 1.0 - -(-members // (classes + 1)) / members
