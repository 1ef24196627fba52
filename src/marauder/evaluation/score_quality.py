"""How far scores are from what they stand for, with intervals over groups, and what a perfect detector would measure.

A calibration error is a mean of absolute differences, so that chance alone makes it larger than 0: with few detections
by a lot. The *noise floor* is what detections with exactly these scores measure when each is right exactly as often as
its score says (as in Bröcker and Smith, "Increasing the reliability of reliability diagrams", Weather and Forecasting,
2007). Draws are independent, which detections of one clip are not: the true floor is rather higher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marauder.core.plain import Plain
from marauder.core.randomness import stream
from marauder.evaluation.detection_table import DetectionTable
from marauder.evaluation.group_draws import Draws, draw_names, percentiles
from marauder.evaluation.intervals import LEVEL
from marauder.evaluation.metrics import defined_mean
from marauder.evaluation.reliability import BINS, LOCALISATION_BINS, ReliabilityBins, reliability_bins

FLOOR_DRAWS = 200


@dataclass(frozen=True)
class Error:
    """A calibration error, 0..1, with its interval over groups, and the floor: what perfect scores measure in the mean
    (``floor``), and in all but one draw of forty (``floor_high``). NaN where undefined."""

    value: float
    low: float
    high: float
    floor: float
    floor_high: float

    def to_json(self) -> Plain:
        """Plain numbers."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class ScoreQuality:
    """``d_ece``: over all classes at once, of being right at IoU 0.5. ``la_ece``: mean over classes, of the overlap at
    any IoU (LaECE0). ``brier``, ``squared_overlap_error``: mean squared differences of score and being right, score
    and overlap: proper scores, which no trick of binning lowers. ``bins``: the reliability diagram, ``bounds``: (M, 2),
    interval of each bin's precision over groups. ``d_ece_draws``: D-ECE in each draw, for paired differences."""

    detections: int
    d_ece: Error
    la_ece: Error
    brier: float
    squared_overlap_error: float
    bins: ReliabilityBins
    bounds: np.ndarray
    d_ece_draws: np.ndarray
    la_ece_draws: np.ndarray

    def to_json(self) -> Plain:
        """Plain values; NaN stays NaN and is written as ``null``."""
        return {
            "detections": self.detections,
            "d_ece": self.d_ece.to_json(),
            "la_ece": self.la_ece.to_json(),
            "brier": self.brier,
            "squared_overlap_error": self.squared_overlap_error,
            "bins": self.bins.to_json(),
            "precision_bounds": self.bounds.tolist(),
        }


def measure_scores(table: DetectionTable, draws: int, seed: int) -> ScoreQuality:
    """Judge the scores of ``table`` as they stand; ``draws`` of its groups for the intervals.

    The same groups are drawn for every table with the same groups, so that two scores of the same detections can be
    compared draw by draw.
    """
    drawn = draw_names(table.groups, draws, lambda draw: stream(seed, "bootstrap", draw))
    bins = reliability_bins(table.score, table.right, table.overlap)
    sums = _group_sums(table, BINS)
    d_ece_draws = _d_ece(*(part @ drawn.counts for part in sums)) if len(table) else np.full(draws, np.nan)
    la_ece_draws = _la_ece_draws(table, drawn)
    right_floor, overlap_floor = noise_floors(table, seed)
    return ScoreQuality(
        detections=len(table),
        d_ece=_error(bins.d_ece, d_ece_draws, right_floor),
        la_ece=_error(la_ece(table), la_ece_draws, overlap_floor),
        brier=_mean_square(table.score - table.right),
        squared_overlap_error=_mean_square(table.score - table.overlap),
        bins=bins,
        bounds=_precision_bounds(sums, drawn),
        d_ece_draws=d_ece_draws,
        la_ece_draws=la_ece_draws,
    )


def la_ece(table: DetectionTable) -> float:
    """LaECE at any IoU: the mean over the classes with boxes of |mean overlap - mean score| in 25 bins, weighted by
    their detections (Oksuz et al., CVPR 2023; at IoU 0: Kuzucu et al., ECCV 2024)."""
    return defined_mean(np.array([_class_la_ece(table, number) for number in _with_boxes(table)]))


def noise_floors(table: DetectionTable, seed: int, draws: int = FLOOR_DRAWS) -> tuple[np.ndarray, np.ndarray]:
    """D-ECE and LaECE of a perfectly calibrated detector with these scores, in each draw: two float64 (draws,).

    Right is drawn with the score as its chance. An overlap is drawn among those of the detections that found
    something, in a share of the draws such that its mean is the score (where a score is above their mean: the score).
    """
    if not len(table):
        return np.full(draws, np.nan), np.full(draws, np.nan)
    hits = table.overlap[table.overlap > 0]
    mean = float(hits.mean()) if len(hits) else 1.0
    d_eces, la_eces = np.full((2, draws), np.nan)
    for draw in range(draws):
        random = stream(seed, "noise floor", draw)
        right = random.random(len(table)) < table.score
        d_eces[draw] = reliability_bins(table.score, right, table.overlap).d_ece
        found = random.random(len(table)) < table.score / mean
        drawn = hits[random.integers(0, len(hits), len(table))] if len(hits) else np.ones(len(table))
        overlap = np.where(table.score > mean, table.score, np.where(found, drawn, 0.0))
        la_eces[draw] = la_ece(_with_overlap(table, overlap))
    return d_eces, la_eces


def _with_overlap(table: DetectionTable, overlap: np.ndarray) -> DetectionTable:
    from dataclasses import replace

    return replace(table, overlap=overlap)


def _with_boxes(table: DetectionTable) -> list[int]:
    return np.flatnonzero(table.boxes.sum(axis=0)).tolist()


def _class_la_ece(table: DetectionTable, number: int) -> float:
    rows = table.kind == number
    return reliability_bins(table.score[rows], table.right[rows], table.overlap[rows], LOCALISATION_BINS).la_ece


Sums = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of each bin and group, (M, G): detections, and the sums of their scores, of being right, and of overlaps."""


def _group_sums(table: DetectionTable, bins: int) -> Sums:
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, table.score, "left") - 1, 0, bins - 1)
    width = max(1, len(table.groups))
    cell = place * width + table.group

    def summed(values: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell, weights=values, minlength=bins * width).reshape(bins, width).astype(np.float64)

    return summed(None), summed(table.score), summed(table.right), summed(table.overlap)


def _d_ece(count: np.ndarray, score: np.ndarray, right: np.ndarray, _overlap: np.ndarray) -> np.ndarray:
    total = count.sum(axis=0)
    error = np.abs(right - score).sum(axis=0)
    return np.divide(error, total, out=np.full(len(total), np.nan), where=total > 0)


def _la_ece_draws(table: DetectionTable, drawn: Draws) -> np.ndarray:
    values = []
    for number in _with_boxes(table):
        count, score, _, overlap = (
            part @ drawn.counts for part in _group_sums(table.chosen(table.kind == number), LOCALISATION_BINS)
        )
        values.append(_d_ece(count, score, overlap, overlap))
    if not values:
        return np.full(drawn.number, np.nan)
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    count = defined.sum(axis=0)
    return np.divide(np.where(defined, stacked, 0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)


def _precision_bounds(sums: Sums, drawn: Draws) -> np.ndarray:
    count, _, right, _ = (part @ drawn.counts for part in sums)
    share = np.divide(right, count, out=np.full(right.shape, np.nan), where=count > 0)
    return np.array([percentiles(row, LEVEL) for row in share])


def _error(value: float, draws: np.ndarray, floor: np.ndarray) -> Error:
    low, high = percentiles(draws, LEVEL)
    return Error(value, low, high, defined_mean(floor), percentiles(floor, LEVEL)[1])


def _mean_square(difference: np.ndarray) -> float:
    return float(np.mean(difference**2)) if len(difference) else float("nan")


def paired_change(before: np.ndarray, after: np.ndarray, of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Plain:
    """The interval over draws of ``of(before, after)``, float64 (N,) each: bounds that hold 95 % of them."""
    low, high = percentiles(of(before, after), LEVEL)
    return {"low": low, "high": high}
