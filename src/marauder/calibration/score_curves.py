"""Fitting curves from what a head says to how often it is right, class by class, on labelled pictures.

Per class isotonic regression (Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
estimates", KDD 2002), which on detectors does better than training for calibration (Kuzucu et al., ECCV 2024); with
fewer boxes logistic regression (Platt, "Probabilistic outputs for support vector machines", 1999) on the logit of the
score; with too few of a class all classes together; with too few of all, scores stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marauder.calibration.methods.base import LEAST_SCORE
from marauder.calibration.methods.isotonic import isotonic_curve
from marauder.calibration.methods.logits import GRID, logit
from marauder.data.records import Detections, Record
from marauder.evaluation.evaluate import evaluate
from marauder.evaluation.outcomes import judge_detections
from marauder.prediction.score_calibration import Curve, ScoreCalibration, identity_curve

ENOUGH_FOR_ISOTONIC = 30
"""Right and wrong detections each, at least: steps of a free-form curve need many."""
ENOUGH_FOR_LOGISTIC = 8
"""Right and wrong detections each, at least, for the two numbers of a logistic curve."""


def calibrate_scores(
    records: Sequence[Record], boxes: Sequence[np.ndarray], scores: Sequence[np.ndarray], names: Sequence[str]
) -> ScoreCalibration:
    """Fit on labelled ``records`` with candidates of each: ``boxes[i]`` (N, 4), ``scores[i]`` (N, C) as the head says.

    A candidate counts once for every class it scores at least ``LEAST_SCORE`` for; right is what COCO's rules pair with
    a box of the class at IoU 0.5, so that of two candidates on one box the better one is right.
    """
    detections = [_of_every_class(*pair) for pair in zip(boxes, scores, strict=True)]
    result = evaluate(records, detections, names)
    right, wrong, _ = judge_detections(result.matches)
    judged = right | wrong
    score, kind = result.matches.detection_score[judged], result.matches.detection_class[judged]
    hit = right[judged]
    together = fit_curve(score, hit)
    curves, methods = [], []
    for number in range(len(names)):
        own = fit_curve(score[kind == number], hit[kind == number])
        if own is not None:
            curves.append(own[0])
            methods.append(own[1])
        else:
            curves.append(together[0] if together is not None else identity_curve())
            methods.append("all classes" if together is not None else "none")
    counts = result.overall.per_class
    precision = {str(row["name"]): float(row["ap50"]) for row in counts if np.isfinite(row["ap50"])}
    return ScoreCalibration(tuple(names), tuple(curves), tuple(methods), precision)


def fit_curve(score: np.ndarray, right: np.ndarray) -> tuple[Curve, str] | None:
    """The share right by score, (N,) in 0..1 and bool (N,), as a rising curve from (0, 0), and the method's name.

    ``None`` with too few of either kind, or where a higher score is not more often right.
    """
    fewest = min(int(right.sum()), int((~right).sum()))
    if fewest >= ENOUGH_FOR_ISOTONIC:
        return isotonic_curve(score, right), "isotonic"
    if fewest >= ENOUGH_FOR_LOGISTIC:
        curve = _logistic(score, right)
        return None if curve is None else (curve, "logistic")
    return None


def _logistic(score: np.ndarray, right: np.ndarray) -> Curve | None:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression()
    model.fit(logit(score)[:, None], right)
    # A falling curve would turn the order of detections around.
    if model.coef_[0, 0] <= 0:
        return None
    share = np.concatenate([[0.0], model.predict_proba(logit(GRID[1:])[:, None])[:, 1]])
    return GRID, share


def _of_every_class(boxes: np.ndarray, scores: np.ndarray) -> Detections:
    box, kind = np.nonzero(scores >= LEAST_SCORE)
    order = np.argsort(-scores[box, kind], kind="stable")
    box, kind = box[order], kind[order]
    return Detections(boxes[box], scores[box, kind], kind)
