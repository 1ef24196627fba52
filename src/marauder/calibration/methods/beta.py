"""Beta calibration (Kull, Silva Filho and Flach, "Beta calibration: a well-founded and easily implemented improvement
on logistic calibration for binary classifiers", AISTATS 2017)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from marauder.calibration.methods.base import CalibrationMethod
from marauder.calibration.methods.logits import EDGE, fit_logits
from marauder.prediction.score_calibration import Curve


class Beta(CalibrationMethod):
    """logit(p) = a log(score) - b log(1 - score) + c, a and b >= 0: the two ends bend independently."""

    name = "beta"
    title = "beta calibration"
    parameters: ClassVar[int] = 3

    def fit_curve(self, score: np.ndarray, target: np.ndarray) -> Curve | None:
        """See ``CalibrationMethod``."""
        return fit_logits(score, target, _features, [1.0, 1.0, 0.0], [0.0, 0.0, None])


def _features(scores: np.ndarray) -> np.ndarray:
    inside = np.clip(scores, EDGE, 1 - EDGE)
    return np.stack([np.log(inside), -np.log(1 - inside), np.ones(len(inside))], axis=1)
