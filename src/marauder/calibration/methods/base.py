"""A method of calibration: a rising curve from scores to what they are worth. The plug point ``calibration_method``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from marauder.core.plugins import Plugin
from marauder.core.settings import Settings
from marauder.prediction.score_calibration import Curve

LEAST_SCORE = 0.01
"""Scores below are too many and too alike to fit on; curves fall from there to 0 in a straight line."""


class CalibrationMethod(Plugin[Settings], ABC):
    """Fits one curve for one class, or for all classes together."""

    parameters: ClassVar[int]
    """Numbers that it fits; of methods that do equally well, the one with the fewest is taken."""

    def fit(self, score: np.ndarray, target: np.ndarray) -> Curve | None:
        """The mean of ``target`` by ``score``, both float (N,) in 0..1, as a curve from (0, 0) that never falls.

        ``target``: 1 and 0 for right and wrong, or the overlap (IoU) with the animal, 0 for none. ``None`` where a
        higher score does not stand for a higher target, or nothing, or all, is right: then there is nothing to fit.
        """
        score, target = np.asarray(score, np.float64), np.asarray(target, np.float64)
        if not len(score) or target.max() <= 0 or target.min() >= 1 or score.min() == score.max():
            return None
        return self.fit_curve(score, target)

    @abstractmethod
    def fit_curve(self, score: np.ndarray, target: np.ndarray) -> Curve | None:
        """``fit``, for scores of which at least two differ, and targets not all 0 and not all 1."""
