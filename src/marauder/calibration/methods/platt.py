"""Platt scaling: logits stretched and moved ("Probabilistic outputs for support vector machines", 1999)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from marauder.calibration.methods.base import CalibrationMethod
from marauder.calibration.methods.logits import fit_logits, logit
from marauder.prediction.score_calibration import Curve


class Platt(CalibrationMethod):
    """logit(p) = a logit(score) + b, a >= 0."""

    name = "platt"
    title = "Platt scaling"
    parameters: ClassVar[int] = 2

    def fit_curve(self, score: np.ndarray, target: np.ndarray) -> Curve | None:
        """See ``CalibrationMethod``."""
        return fit_logits(score, target, _features, [1.0, 0.0], [0.0, None])


def _features(scores: np.ndarray) -> np.ndarray:
    return np.stack([logit(scores), np.ones(len(scores))], axis=1)
