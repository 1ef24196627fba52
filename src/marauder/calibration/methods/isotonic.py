"""Isotonic regression (Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
estimates", KDD 2002), which on detectors does better than training for calibration (Kuzucu et al., ECCV 2024)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from marauder.calibration.methods.base import CalibrationMethod
from marauder.prediction.score_calibration import Curve


class Isotonic(CalibrationMethod):
    """The rising steps that fit best; of any form, so that it needs many detections."""

    name = "isotonic"
    title = "isotonic regression"
    parameters: ClassVar[int] = 10

    def fit_curve(self, score: np.ndarray, target: np.ndarray) -> Curve | None:
        """See ``CalibrationMethod``."""
        curve = isotonic_curve(score, target)
        return curve if curve[1][-1] > curve[1][1] else None


def isotonic_curve(score: np.ndarray, target: np.ndarray) -> Curve:
    """The steps of scores (N,) and targets (N,) in 0..1, from (0, 0)."""
    from sklearn.isotonic import IsotonicRegression

    # One right and one wrong more (Laplace): nothing that was seen a hundred times is impossible, or certain.
    spare = 1.0 / (len(score) + 2)
    model = IsotonicRegression(y_min=spare, y_max=1.0 - spare, increasing=True, out_of_bounds="clip")
    model.fit(score, target.astype(np.float64))
    said, share = model.X_thresholds_, model.y_thresholds_
    if said[0] > 0:
        said, share = np.concatenate([[0.0], said]), np.concatenate([[0.0], share])
    return np.asarray(said, np.float64), np.asarray(share, np.float64)
