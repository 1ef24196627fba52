"""The calibration of a detector: a curve for each class, drawn towards that of all classes where boxes are few, by the
method that predicts held-out groups best.

A class with n labelled boxes gets the curve w own + (1 - w) pooled, w = n / (n + k): the credibility estimator of
Bühlmann, "Experience rating and credibility", ASTIN Bulletin 4 (1967), where k says how much classes differ. k and the
method are chosen together by cross-fitting over groups, by the mean squared difference of score and target (Brier,
"Verification of forecasts expressed in terms of probability", 1950), which is proper: D-ECE itself could be lowered by
blurring the scores. Taken is the best of those that do better than the scores as they are in the whole interval over
groups; where none does, nothing is changed (method ``none``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from marauder.calibration.methods.base import LEAST_SCORE, CalibrationMethod
from marauder.calibration.settings import METHODS, CalibrateSettings
from marauder.core.plain import Plain
from marauder.core.plugins import make
from marauder.core.randomness import stream
from marauder.evaluation.detection_table import DetectionTable
from marauder.evaluation.group_draws import draw_names, percentiles
from marauder.evaluation.intervals import LEVEL
from marauder.evaluation.reliability import MINIMUM_CONFIDENCE
from marauder.prediction.score_calibration import Curve, ScoreCalibration, identity_curve, no_calibration

CREDIBILITIES = (10.0, 50.0, 250.0, 1e9)
"""Values of k that are tried: from classes that stand alone to one curve for all."""
ENOUGH_OF_A_CLASS = 8
"""Right and wrong detections each that a class must have for a curve of its own."""
NONE = "none"


@dataclass(frozen=True)
class Candidate:
    """A way to calibrate. ``loss``: mean squared difference of score and target on held-out groups; ``gain``: how much
    less than with scores as they are, ``low`` and ``high`` bounds of it in draws of groups."""

    method: str
    credibility: float
    loss: float
    gain: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def to_json(self) -> Plain:
        """Plain values."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class Fitted:
    """``calibration``: on all of the groups. ``candidates``: all that were tried, best first; ``taken``: the one that
    is used. ``weights``: by class, how much of its curve is its own."""

    calibration: ScoreCalibration
    candidates: tuple[Candidate, ...]
    taken: Candidate
    weights: dict[str, float]


def judged_rows(table: DetectionTable) -> np.ndarray:
    """Which detections calibration errors are measured on: bool (D,), by the model's own score."""
    return table.score >= MINIMUM_CONFIDENCE


def fit_calibration(table: DetectionTable, settings: CalibrateSettings) -> Fitted:
    """Choose and fit a calibration on ``table``, whose scores are the model's own."""
    parts = fold_of_groups(len(table.groups), settings.folds, settings.seed)
    candidates = _compare(table, settings, parts)
    best = next((one for one in candidates if one.low > 0), None)
    if best is None:
        none = next(one for one in candidates if one.method == NONE)
        return Fitted(no_calibration(table.names), candidates, none, dict.fromkeys(table.names, 0.0))
    curves = fit_curves(table, make(METHODS, best.method), settings.target)
    weights = {name: curves.weight(number, best.credibility) for number, name in enumerate(table.names)}
    return Fitted(curves.mixed(best.credibility), candidates, best, weights)


def cross_fitted(table: DetectionTable, settings: CalibrateSettings) -> np.ndarray:
    """Calibrated scores (D,) of detections none of whose groups took part in choosing and fitting their curves."""
    scores = table.score.copy()
    for number, (rest, held_out) in enumerate(_splits(len(table.groups), settings.folds, settings.seed)):
        inner = settings.changed({"seed": settings.seed + 1 + number})
        found = fit_calibration(table.of_groups(rest), inner).calibration
        rows = held_out[table.group]
        scores[rows] = found.apply_to(table.score[rows], table.kind[rows])
    return scores


def fold_of_groups(groups: int, folds: int, seed: int) -> np.ndarray:
    """The part of each group: int64 (G,), parts of nearly equal size, a function of the seed and the number."""
    part = np.empty(groups, np.int64)
    part[stream(seed, "cross-fitting").permutation(groups)] = np.arange(groups) % max(2, min(folds, groups))
    return part


@dataclass(frozen=True, eq=False)
class Curves:
    """What one method found. ``own``: of each class, ``None`` with too few detections; ``boxes``: labelled boxes of
    each class. How much of each is used is decided when they are mixed."""

    names: tuple[str, ...]
    method: str
    pooled: Curve | None
    own: tuple[Curve | None, ...]
    boxes: np.ndarray

    def weight(self, number: int, credibility: float) -> float:
        """How much of its own curve a class gets."""
        if self.own[number] is None:
            return 0.0
        return float(self.boxes[number] / (self.boxes[number] + credibility)) if self.pooled is not None else 1.0

    def mixed(self, credibility: float) -> ScoreCalibration:
        """The calibration with this k."""
        curves, methods = [], []
        for number, own in enumerate(self.own):
            if own is not None and self.pooled is not None:
                curves.append(mixed(own, self.pooled, self.weight(number, credibility)))
            else:
                curves.append(own or self.pooled or identity_curve())
            methods.append(self.method if own is not None else "all classes" if self.pooled is not None else NONE)
        return ScoreCalibration(self.names, tuple(curves), tuple(methods), {})


def fit_curves(table: DetectionTable, method: CalibrationMethod, target: str) -> Curves:
    """The curves of all classes together and of each by one method."""
    fitting = table.chosen(table.score >= LEAST_SCORE)
    wanted = fitting.target(target)
    own: list[Curve | None] = []
    for number in range(len(table.names)):
        rows = fitting.kind == number
        right = int(fitting.right[rows].sum())
        enough = min(right, int(rows.sum()) - right) >= ENOUGH_OF_A_CLASS
        own.append(method.fit(fitting.score[rows], wanted[rows]) if enough else None)
    return Curves(table.names, method.name, method.fit(fitting.score, wanted), tuple(own), table.boxes.sum(axis=0))


def mixed(own: Curve, pooled: Curve, weight: float) -> Curve:
    """``weight`` of one rising curve and the rest of another: exact, for both are straight between their points."""
    if weight == 0:
        return pooled
    said = np.union1d(own[0], pooled[0])
    return said, np.maximum.accumulate(weight * np.interp(said, *own) + (1 - weight) * np.interp(said, *pooled))


def _splits(groups: int, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Masks (G,) of the groups to fit on and of those held out, for each part."""
    part = fold_of_groups(groups, folds, seed)
    return [(part != number, part == number) for number in np.unique(part)]


def _compare(table: DetectionTable, settings: CalibrateSettings, part: np.ndarray) -> tuple[Candidate, ...]:
    """Every candidate with its loss on held-out groups, best first, the simpler of equals first."""
    judged = _Losses(table, settings)
    candidates = [judged.of(NONE, 0.0, table.score)]
    for method in sorted((make(METHODS, name) for name in settings.methods), key=lambda one: one.parameters):
        # Curves are fitted once for each part; how they are mixed costs nothing.
        held_out = [
            (part[table.group] == number, fit_curves(table.of_groups(part != number), method, settings.target))
            for number in np.unique(part)
        ]
        for credibility in CREDIBILITIES:
            scores = table.score.copy()
            for chosen, curves in held_out:
                scores[chosen] = curves.mixed(credibility).apply_to(table.score[chosen], table.kind[chosen])
            candidates.append(judged.of(method.name, credibility, scores))
    return tuple(sorted(candidates, key=lambda one: one.loss if np.isfinite(one.loss) else np.inf))


class _Losses:
    """Squared differences of scores and target, on the whole and in draws of groups."""

    def __init__(self, table: DetectionTable, settings: CalibrateSettings) -> None:
        self.rows = judged_rows(table)
        self.wanted = table.target(settings.target)[self.rows]
        self.group, self.before = table.group[self.rows], table.score[self.rows]
        drawn = draw_names(table.groups, settings.draws, lambda draw: stream(settings.seed, "calibration gain", draw))
        self.counts = drawn.counts
        self.total = np.bincount(self.group, minlength=len(table.groups)) @ self.counts

    def of(self, method: str, credibility: float, scores: np.ndarray) -> Candidate:
        """What all scores (D,) of a candidate lose, beside the scores as they are."""
        if not self.rows.any():
            return Candidate(method, credibility, float("nan"))
        loss = (scores[self.rows] - self.wanted) ** 2
        saved = (self.before - self.wanted) ** 2 - loss
        sums = np.bincount(self.group, weights=saved, minlength=len(self.counts)) @ self.counts
        gains = np.divide(sums, self.total, out=np.full(len(sums), np.nan), where=self.total > 0)
        low, high = percentiles(gains, LEVEL)
        return Candidate(method, credibility, float(loss.mean()), float(saved.mean()), low, high)
