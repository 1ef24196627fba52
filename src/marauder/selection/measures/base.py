"""A measure of uncertainty: a number for each box of a picture, larger where the detector is less sure."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np

from marauder.core.plugins import Plugin
from marauder.core.settings import Settings
from marauder.selection.box_evidence import BoxEvidence

Need = Literal["scores", "members", "sides", "views"]


class Measure(Plugin[Settings], ABC):
    """One measure. ``needs``: the part of ``BoxEvidence`` it reads, and so the passes that have to be run.

    Every measure is 0 for a box about which the detector is certain, even if certain that there is nothing; does not
    depend on the order of boxes, classes or members; and lies in 0 .. ``upper_limit``.
    """

    needs: ClassVar[Need]

    @abstractmethod
    def of_boxes(self, evidence: BoxEvidence) -> np.ndarray:
        """Uncertainty of each box: float64 (N,)."""

    @abstractmethod
    def upper_limit(self, classes: int, members: int) -> float:
        """The highest value there can be with so many classes and members of the committee."""


def committee(evidence: BoxEvidence) -> np.ndarray:
    """The scores of the committee's members (K, N, C). Raises ``ValueError`` where none were gathered."""
    if evidence.members is None:
        raise ValueError("this measure compares several models or passes; the evidence holds one")
    return evidence.members


def most_entropy(outcomes: int) -> float:
    """The entropy of a uniform distribution, nats."""
    return math.log(outcomes)
