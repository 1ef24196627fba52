"""A way of fusing with everything fitted, applied to what members found; pure, and so are those who fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from marauder.calibration.score_curves import calibrate_scores
from marauder.core.plain import PlainMapping
from marauder.core.plugins import make
from marauder.data.records import Detections
from marauder.ensembles.looking import Looked
from marauder.prediction.ensemble import calibrated
from marauder.prediction.fusing.base import Fusion
from marauder.prediction.score_calibration import ScoreCalibration

MOST_DETECTIONS = 300
"""Boxes of a picture that an ensemble reports: those of prediction."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """How K members become one. ``options``: of ``fusion``; ``least``: own score from which a member's boxes take part;
    ``weights``: float64 (K, C), 0 where a member does not know a class."""

    fusion: str
    options: PlainMapping
    least: float
    weights: np.ndarray

    def fuse(self, calibrations: Sequence[ScoreCalibration], looked: Looked) -> list[Detections]:
        """What the ensemble finds in each picture."""
        way: Fusion[Any] = make("fusion", self.fusion, self.options)
        seen = [
            [calibrated(calibration, one.above(self.least)) for one in own]
            for calibration, own in zip(calibrations, looked.found, strict=True)
        ]
        return [way.fuse(one, self.weights).surest(MOST_DETECTIONS) for one in zip(*seen, strict=True)]

    def without(self, place: int) -> Recipe:
        """The same without one member."""
        return replace(self, weights=np.where(np.arange(len(self.weights))[:, None] == place, 0.0, self.weights))

    def equal(self) -> Recipe:
        """The same with equal weights."""
        return replace(self, weights=(self.weights > 0).astype(np.float64))

    def of(self, places: Sequence[int]) -> Recipe:
        """The same with some of the members alone."""
        return replace(self, weights=self.weights[list(places)])


def calibrate_member(looked: Looked, place: int, names: Sequence[str]) -> ScoreCalibration:
    """The calibration of member ``place``, fitted on labelled pictures, for the data set's classes."""
    own = looked.found[place]
    scores = []
    for one in own:
        # A box has one class here; the others have a score of 0.
        table = np.zeros((len(one), len(names)))
        table[np.arange(len(one)), one.classes] = one.scores
        scores.append(table)
    return calibrate_scores(looked.records, [one.boxes for one in own], scores, names)


def alone(calibration: ScoreCalibration, own: Sequence[Detections]) -> list[Detections]:
    """What one member finds by itself, calibrated."""
    return [calibrated(calibration, one).surest(MOST_DETECTIONS) for one in own]
