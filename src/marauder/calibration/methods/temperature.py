"""Temperature scaling: logits divided by one number (Guo et al., "On calibration of modern neural networks", 2017)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from marauder.calibration.methods.base import CalibrationMethod
from marauder.calibration.methods.logits import fit_logits, logit
from marauder.prediction.score_calibration import Curve


class Temperature(CalibrationMethod):
    """logit(p) = logit(score) / T: mends scores that are too sure, or too unsure, on both sides of a half alike."""

    name = "temperature"
    title = "temperature scaling"
    parameters: ClassVar[int] = 1

    def fit_curve(self, score: np.ndarray, target: np.ndarray) -> Curve | None:
        """See ``CalibrationMethod``."""
        return fit_logits(score, target, lambda scores: logit(scores)[:, None], [1.0], [0.0])
