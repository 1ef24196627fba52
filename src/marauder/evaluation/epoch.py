"""What an evaluation after an epoch says, as flat numbers that a tracker can draw over time."""

from __future__ import annotations

import math

from marauder.evaluation.evaluate import EvaluationResult
from marauder.evaluation.matching import AREA_NAMES
from marauder.evaluation.metrics import defined_mean
from marauder.evaluation.reliability import calibrate

HEADLINE = ("map50", "map50_95", "precision", "recall", "f1")
OF_A_SLICE = ("map50", "map50_95", "recall")


def epoch_metrics(result: EvaluationResult, calibration: bool = True) -> dict[str, float]:
    """Numbers in 0..1 by name: ``map50``, ``map50_95``, ``precision``, ``recall``, ``f1``; ``d_ece``, ``la_ece`` and
    ``lrp`` with ``calibration``; ``ap50/<class>``; ``size/<small|medium|large>`` (mAP50-95 of such boxes);
    ``slice/<name>/<map50|map50_95|recall>``. What is undefined is left out."""
    overall = result.overall
    values = {name: float(getattr(overall, name)) for name in HEADLINE}
    if calibration:
        measured = calibrate(result.matches, overall.confidence)
        values |= {"d_ece": measured.d_ece, "la_ece": measured.la_ece, "lrp": measured.lrp}
    values |= {f"ap50/{name}": float(overall.ap[0, 0, index]) for index, name in enumerate(overall.names)}
    # The first range is all sizes, which is map50_95 itself.
    values |= {f"size/{name}": defined_mean(overall.ap[area]) for area, name in enumerate(AREA_NAMES) if area}
    for name, part in result.slices.items():
        values |= {f"slice/{name}/{metric}": float(getattr(part, metric)) for metric in OF_A_SLICE}
    return {name: value for name, value in values.items() if not math.isnan(value)}
