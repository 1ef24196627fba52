"""Whether confidences mean what they say: D-ECE, LaECE, the LRP error, and the data of a reliability diagram.

All from pairs that were made once (``matching``), at IoU 0.5, so that they exist for the whole and for every slice.
Excused detections (on ignored boxes, or outside a slice's areas) take no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from marauder.core.plain import Plain
from marauder.evaluation.matching import IOU_THRESHOLDS, Matches
from marauder.evaluation.metrics import defined_mean
from marauder.evaluation.outcomes import judge_detections

BINS = 10
LOCALISATION_BINS = 25
"""Bins of LaECE, as its authors use them."""
MINIMUM_CONFIDENCE = 0.05
"""Detectors return hundreds of detections near 0; they would have most of the weight in the error and hide the rest."""
IOU = float(IOU_THRESHOLDS[0])


@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Detections by confidence in M bins of equal width; a bin holds its upper edge, the first also 0.

    ``edges``: (M + 1,). ``count``: int64 (M,), detections. ``confidence``, ``precision``, ``iou``: (M,), means over
    the bin of the score, of being right (IoU 0.5, class), and of the IoU with false ones as 0; NaN in an empty bin.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    precision: np.ndarray
    iou: np.ndarray

    @property
    def d_ece(self) -> float:
        """Detection expected calibration error, 0..1: the mean over bins, weighted by their detections, of
        |precision - confidence|; NaN without detections. Küppers et al., "Multivariate confidence calibration for
        object detection", CVPR Workshops 2020, with the confidence as the only variable."""
        return self._error(self.precision)

    @property
    def la_ece(self) -> float:
        """Localisation-aware calibration error, 0..1: the mean over bins, weighted by their detections, of
        |precision x mean IoU of the right ones - confidence|. Oksuz et al., "Towards building self-aware object
        detectors via reliable uncertainty quantification and calibration", CVPR 2023, here at IoU 0.5; Kuzucu et al.,
        "On calibration of object detectors: pitfalls, evaluation and baselines", ECCV 2024, use it at IoU 0."""
        return self._error(self.iou)

    def _error(self, achieved: np.ndarray) -> float:
        filled = self.count > 0
        if not filled.any():
            return float("nan")
        return float(np.average(np.abs(achieved - self.confidence)[filled], weights=self.count[filled]))

    def to_json(self) -> Plain:
        """Plain lists; NaN stays NaN and is written as ``null``."""
        return {name: getattr(self, name).tolist() for name in ("edges", "count", "confidence", "precision", "iou")}


@dataclass(frozen=True)
class LocalisationRecallPrecision:
    """The LRP error of one class at one confidence, 0 (perfect) to 1.

    LRP = (sum over right detections of (1 - IoU) / (1 - 0.5) + false + missed) / (right + false + missed); its parts:
    ``localisation`` = mean of 1 - IoU over the right ones, ``false`` = 1 - precision, ``missed`` = 1 - recall. Oksuz et
    al., "Localization recall precision (LRP): a new performance metric for object detection", ECCV 2018; "One metric to
    measure them all", TPAMI 2021. NaN where undefined: ``localisation`` with nothing right, ``false``
    with nothing detected, all of it for a class without boxes.
    """

    confidence: float
    error: float
    localisation: float
    false: float
    missed: float


@dataclass(frozen=True)
class ClassCalibration:
    """One class. ``lrp``: at the confidence asked for; ``optimal``: at the confidence where the error is lowest, which
    its authors call optimal LRP. ``detections``: how many the calibration errors were measured on."""

    name: str
    boxes: int
    detections: int
    d_ece: float
    la_ece: float
    lrp: LocalisationRecallPrecision
    optimal: LocalisationRecallPrecision


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far confidences can be trusted. ``d_ece``: over all detections of all classes at once; ``la_ece``, ``lrp``
    (at ``confidence``) and ``optimal_lrp``: means over the classes where they are defined, as their authors define
    them. ``bins``: of all classes. All errors in 0..1, lower is better, NaN where undefined.

    Detections below ``minimum_confidence`` take no part in ``bins``, D-ECE and LaECE.
    """

    confidence: float
    minimum_confidence: float
    d_ece: float
    la_ece: float
    lrp: float
    optimal_lrp: float
    bins: ReliabilityBins = field(repr=False)
    per_class: tuple[ClassCalibration, ...] = field(repr=False)

    def to_json(self) -> Plain:
        """Plain values; NaN stays NaN and is written as ``null`` by ``core.files.write_json``."""
        numbers = ("confidence", "minimum_confidence", "d_ece", "la_ece", "lrp", "optimal_lrp")
        return {
            **{name: getattr(self, name) for name in numbers},
            "bins": self.bins.to_json(),
            "per_class": [asdict(one) for one in self.per_class],
        }


def calibrate(
    matches: Matches, confidence: float, minimum_confidence: float = MINIMUM_CONFIDENCE, bins: int = BINS
) -> Calibration:
    """Measure the calibration of a detector on the pictures that count.

    ``confidence``: the operating point, where LRP is measured (``Metrics.confidence``). ``bins``: of the reliability
    diagram and D-ECE; LaECE uses 25.
    """
    true, false, iou = judge_detections(matches)
    judged = np.flatnonzero((true | false) & matches.counted[matches.detection_picture])
    kind, score, true, iou = matches.detection_class[judged], matches.detection_score[judged], true[judged], iou[judged]
    counting = ~matches.box_ignored[0] & matches.counted[matches.box_picture]
    boxes = np.bincount(matches.box_class[counting], minlength=len(matches.names))
    sure = score >= minimum_confidence
    # Detections come by class, then by falling score; the cuts by class and the running sums of LRP rely on both.
    starts = np.searchsorted(kind, np.arange(len(matches.names) + 1))
    per_class = []
    for index, name in enumerate(matches.names):
        one = np.arange(starts[index], starts[index + 1])
        kept = one[sure[one]]
        lrp, optimal = _lrp(score[one], true[one], iou[one], int(boxes[index]), confidence)
        per_class.append(
            ClassCalibration(
                name=name,
                boxes=int(boxes[index]),
                detections=len(kept),
                d_ece=reliability_bins(score[kept], true[kept], iou[kept], bins).d_ece,
                la_ece=reliability_bins(score[kept], true[kept], iou[kept], LOCALISATION_BINS).la_ece,
                lrp=lrp,
                optimal=optimal,
            )
        )
    together = reliability_bins(score[sure], true[sure], iou[sure], bins)
    return Calibration(
        confidence=confidence,
        minimum_confidence=minimum_confidence,
        d_ece=together.d_ece,
        la_ece=_mean([one.la_ece for one in per_class if one.boxes]),
        lrp=_mean([one.lrp.error for one in per_class]),
        optimal_lrp=_mean([one.optimal.error for one in per_class]),
        bins=together,
        per_class=tuple(per_class),
    )


def reliability_bins(score: np.ndarray, true: np.ndarray, iou: np.ndarray, bins: int = BINS) -> ReliabilityBins:
    """Sort detections (N,) into bins by their score in 0..1; ``true``: bool, ``iou``: 0 for false ones."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, score, "left") - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    means = [np.bincount(place, weights=values, minlength=bins) / filled for values in (score, true, iou)]
    return ReliabilityBins(edges, count, *means)


def _lrp(
    score: np.ndarray, true: np.ndarray, iou: np.ndarray, boxes: int, confidence: float
) -> tuple[LocalisationRecallPrecision, LocalisationRecallPrecision]:
    """LRP of one class at a confidence, and at the best one; detections by falling score."""
    if not boxes:
        nan = float("nan")
        return LocalisationRecallPrecision(confidence, *[nan] * 4), LocalisationRecallPrecision(*[nan] * 5)
    found = np.concatenate(([0], np.cumsum(true)))
    lost = np.concatenate(([0.0], np.cumsum(np.where(true, 1 - iou, 0.0))))
    detected = np.arange(len(score) + 1)
    # Right, false and missed together are the detections and the boxes that none of them found.
    errors = (lost / (1 - IOU) + (detected - found) + (boxes - found)) / (detected + boxes - found)
    # Equal scores are kept or left together: only the last of them ends a set that a confidence can make.
    ends = np.append(np.flatnonzero(np.diff(score, append=-np.inf)) + 1, 0)
    best = int(ends[np.argmin(errors[ends])])

    def at(end: int, threshold: float) -> LocalisationRecallPrecision:
        right = int(found[end])
        return LocalisationRecallPrecision(
            confidence=threshold,
            error=float(errors[end]),
            localisation=float(lost[end] / right) if right else float("nan"),
            false=1 - right / end if end else float("nan"),
            missed=1 - right / boxes,
        )

    # searchsorted wants rising values; "right" keeps what scores exactly the confidence.
    kept = int(np.searchsorted(-score, -confidence, "right"))
    return at(kept, confidence), at(best, float(score[best - 1]) if best else 1.0)


def _mean(values: Sequence[float]) -> float:
    return defined_mean(np.array(values, np.float64))
