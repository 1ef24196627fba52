"""Scores as they are reported: from what a model's head says to how often it is right, one rising curve a class.

Curves are fitted in ``calibration.score_curves``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from marauder.core.plain import Plain, PlainMapping

Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class ScoreCalibration:
    """One rising curve for each class, as scores and the shares right there, linear between. ``methods``: how each was
    found (a ``calibration_method``, ``logistic``, ``all classes``, ``none``). ``average_precision``: AP at IoU 0.5 by
    class name on the same pictures, only of classes with boxes there."""

    names: tuple[str, ...]
    curves: tuple[Curve, ...]
    methods: tuple[str, ...]
    average_precision: dict[str, float]

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated scores (..., C) in 0..1 of scores (..., C); never reverses the order of two scores of a class."""
        calibrated = np.empty(np.shape(scores), np.float64)
        for number, (said, right) in enumerate(self.curves):
            calibrated[..., number] = read_curve((said, right), scores[..., number])
        return calibrated

    def apply_to(self, scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Calibrated scores (N,) of scores (N,) that were given for ``classes``, int (N,)."""
        calibrated = np.empty(len(scores), np.float64)
        for number in np.unique(classes):
            of_class = classes == number
            calibrated[of_class] = read_curve(self.curves[number], scores[of_class])
        return calibrated

    def numbered_as(self, names: Sequence[str]) -> ScoreCalibration:
        """The same curves for the same classes in the order of ``names``. Raises ``ValueError`` for other classes."""
        places = [self.names.index(name) for name in names]
        curves, methods = tuple(self.curves[place] for place in places), tuple(self.methods[place] for place in places)
        return replace(self, names=tuple(names), curves=curves, methods=methods)

    def least_score(self, thresholds: np.ndarray) -> float:
        """A score of the model below which nothing reaches its class's threshold, (C,) on the calibrated scale."""
        lowest = 1.0
        for (said, right), threshold in zip(self.curves, thresholds, strict=True):
            below = np.flatnonzero(right < threshold)
            # Of the last point that does not reach it; between that and the next, the curve may.
            lowest = min(lowest, float(said[below[-1]]) if len(below) else 0.0)
        return lowest

    def describe(self) -> str:
        """A sentence on what was fitted for which class."""
        parts = []
        words = {
            "isotonic": "isotonic regression",
            "logistic": "logistic regression",
            "temperature": "temperature scaling",
            "platt": "Platt scaling",
            "beta": "beta calibration",
            "all classes": "the curve of all classes together (too few boxes of their own)",
            "none": "unchanged (too few labelled validation boxes)",
        }
        for method, text in words.items():
            of_method = [name for name, used in zip(self.names, self.methods, strict=True) if used == method]
            if of_method:
                every = len(of_method) == len(self.names)
                parts.append(f"{text}: {'all classes' if every else ', '.join(of_method)}")
        return f"Scores calibrated: {'; '.join(parts)}."

    def to_json(self) -> Plain:
        """Plain values from which ``from_json`` makes the same calibration."""
        return {
            "names": self.names,
            "curves": [[said.tolist(), right.tolist()] for said, right in self.curves],
            "methods": self.methods,
            "average_precision": self.average_precision,
        }

    @classmethod
    def from_json(cls, content: PlainMapping) -> ScoreCalibration:
        """The calibration that ``to_json`` gave."""
        curves = tuple((np.array(said, np.float64), np.array(right, np.float64)) for said, right in content["curves"])
        precision = {str(name): float(value) for name, value in content["average_precision"].items()}
        return cls(tuple(content["names"]), curves, tuple(content["methods"]), precision)


def read_curve(curve: Curve, scores: np.ndarray) -> np.ndarray:
    """The share right at ``scores``, of any shape, by a rising curve; never falls where scores rise, not by a bit."""
    said, right = curve
    # Rounding may lift a value within a step above the value at its end, and two detections would change places.
    step = np.clip(np.searchsorted(said, scores, "right") - 1, 0, len(said) - 2)
    return np.clip(np.interp(scores, said, right), right[step], right[step + 1])


def no_calibration(names: Sequence[str]) -> ScoreCalibration:
    """Scores as they are."""
    return ScoreCalibration(tuple(names), (identity_curve(),) * len(names), ("none",) * len(names), {})


def identity_curve() -> Curve:
    """The curve that changes nothing."""
    return np.array([0.0, 1.0]), np.array([0.0, 1.0])
