"""What calibration changed: errors of scores before and after, what it must not have changed, and figures of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marauder.calibration.fitting import judged_rows
from marauder.core.plain import Plain
from marauder.data.records import Detections, Record
from marauder.evaluation.detection_table import DetectionTable
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.metrics import Metrics, aggregate
from marauder.evaluation.reliability import Calibration, calibrate
from marauder.evaluation.score_quality import ScoreQuality, measure_scores, paired_change
from marauder.prediction.score_calibration import ScoreCalibration

LEAST_JUDGED = 800
"""Detections to fit on and to judge on, each, below which a drop of D-ECE says little: a perfect detector still
measures 3.4 % on so many."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """``before``, ``after``: errors on the same detections. ``fitted_on``: how many the curves were fitted on.
    ``drop``: share by which D-ECE fell, with its interval over groups; ``la_drop``: of LaECE. ``metrics``: average
    precision, the same before and after; ``lrp``: LRP errors after."""

    before: ScoreQuality
    after: ScoreQuality
    fitted_on: int
    drop: float
    drop_interval: Plain
    la_drop: float
    metrics: Metrics
    lrp: Calibration

    def words(self) -> str:
        """The result in a line."""
        before, after = self.before.d_ece, self.after.d_ece
        if not self.before.detections:
            return "no detection of at least 5 % on labelled pictures: nothing to judge"
        change = f"{-self.drop:+.0%}" if self.drop else "unchanged"
        return (
            f"D-ECE {before.value:.1%} -> {after.value:.1%} ({change}) on {self.after.detections:,} "
            f"detections, where a perfect detector would measure {after.floor:.1%}; LaECE "
            f"{self.before.la_ece.value:.1%} -> {self.after.la_ece.value:.1%} (perfect: {self.after.la_ece.floor:.1%})"
        )

    @property
    def too_few(self) -> bool:
        """Whether there are too few detections to say much."""
        return min(self.fitted_on, self.before.detections) < LEAST_JUDGED

    def to_json(self) -> Plain:
        """Plain values."""
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "fitted_on": self.fitted_on,
            "d_ece_drop": self.drop,
            "d_ece_drop_interval": self.drop_interval,
            "la_ece_drop": self.la_drop,
            "metrics": self.metrics.to_json(classes=False),
            "lrp": self.lrp.lrp,
            "optimal_lrp": self.lrp.optimal_lrp,
            "lrp_per_class": [
                {"name": one.name, "optimal_lrp": one.optimal.error, "threshold": one.optimal.confidence}
                for one in self.lrp.per_class
            ],
        }


def judge(
    records: Sequence[Record],
    found: Sequence[Detections],
    table: DetectionTable,
    calibrated: np.ndarray,
    calibration: ScoreCalibration,
    fitted_on: int,
    draws: int,
    seed: int,
) -> Judgement:
    """Judge scores. ``table``: of ``found`` with the model's own scores; ``calibrated``: float64 (D,), what became of
    them; ``calibration``: what the model that is delivered applies. Raises ``RuntimeError`` where that would change an
    average precision."""
    rows = judged_rows(table)
    before = measure_scores(table.chosen(rows), draws, seed)
    after = measure_scores(table.rescored(calibrated).chosen(rows), draws, seed)
    told = [with_calibration(one, calibration) for one in found]
    plain, matches = match(records, found, table.names), match(records, told, table.names)
    metrics = same_precision(plain, matches)
    return Judgement(
        before=before,
        after=after,
        fitted_on=fitted_on,
        drop=_drop(before.d_ece.value, after.d_ece.value),
        drop_interval=paired_change(before.d_ece_draws, after.d_ece_draws, _drops),
        la_drop=_drop(before.la_ece.value, after.la_ece.value),
        metrics=metrics,
        lrp=calibrate(matches, metrics.confidence),
    )


def with_calibration(found: Detections, calibration: ScoreCalibration) -> Detections:
    """``found`` with calibrated scores, in the same order."""
    scores = calibration.apply_to(found.scores, found.classes)
    return Detections(found.boxes, scores, found.classes, found.scores)


def same_precision(plain: Matches, calibrated: Matches) -> Metrics:
    """The metrics of ``calibrated``. Raises ``RuntimeError`` unless every average precision is that of ``plain``, to
    the last bit: calibration must change what scores say, never who comes first."""
    before, after = aggregate(plain), aggregate(calibrated)
    if not np.array_equal(before.ap, after.ap, equal_nan=True):
        raise RuntimeError("calibration changed average precision: a curve falls somewhere, or ties were broken anew")
    return after


def _drop(before: float, after: float) -> float:
    return 1 - after / before if before > 0 else float("nan")


def _drops(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return 1 - np.divide(after, before, out=np.full(len(before), np.nan), where=before > 0)
