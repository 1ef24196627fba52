"""From what a model puts out to detections: suppression, calibrated scores, thresholds, pixels of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from marauder.core.errors import UserError
from marauder.data.records import Detections
from marauder.imaging.letterbox import Letterbox
from marauder.models.ultralytics_adapter import suppress
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.prediction.settings import CONFIDENCE, PredictionSettings

EVERY_BOX = 30_000
"""More boxes than suppression looks at."""


@dataclass(frozen=True, eq=False)
class PostprocessingRules:
    """Settings as they apply to one predictor.

    ``least``: what suppression drops at once, on the scale of the model's own scores. ``thresholds``: float64 (C,) on
    the scale of the reported scores, or ``None`` where ``least`` says it all. ``classes``: numbers of those wanted.
    ``image_size``: long side of the input in pixels, as asked for; ``None``: the predictor's.
    """

    least: float
    iou: float
    max_detections: int
    multi_label: bool
    classes: tuple[int, ...] | None = None
    thresholds: np.ndarray | None = None
    calibration: ScoreCalibration | None = None
    image_size: int | None = None

    @classmethod
    def of(
        cls,
        settings: PredictionSettings,
        names: Sequence[str],
        thresholds: np.ndarray | None,
        calibration: ScoreCalibration | None,
        whose: str,
    ) -> PostprocessingRules:
        """``settings`` for classes ``names``. Raises ``UserError`` for a wanted class that is not among them."""
        unknown = [name for name in settings.classes or () if name not in names]
        if unknown:
            raise UserError(f"{whose}: knows no {', '.join(unknown)}; its classes are {', '.join(names)}")
        classes = None if settings.classes is None else tuple(names.index(name) for name in settings.classes)
        if settings.confidence is not None or thresholds is None:
            least = settings.confidence if settings.confidence is not None else CONFIDENCE
            thresholds = None if calibration is None or settings.by_own_scores else np.full(len(names), least)
        if thresholds is not None:
            # Thresholds are on the scale of the reported scores, suppression works on the model's own: it may
            # drop only what cannot reach any of them.
            least = float(thresholds.min()) if calibration is None else calibration.least_score(thresholds)
        return cls(
            least,
            settings.iou,
            settings.max_detections,
            settings.multi_label,
            classes,
            thresholds,
            calibration,
            settings.image_size,
        )


def postprocess(outputs: torch.Tensor, frames: Sequence[Letterbox], rules: PostprocessingRules) -> list[Detections]:
    """The detections of each picture. ``outputs``: (B, 4 + classes, A); ``frames``: where each lies in its input.

    Suppression goes by the model's own scores: calibrated ones have plateaus, on which it would choose at random.
    """
    most = rules.max_detections if rules.thresholds is None else EVERY_BOX
    kept = suppress(outputs, rules.least, rules.iou, most, rules.multi_label, rules.classes)
    found = []
    for frame, rows in zip(frames, kept, strict=True):
        values = rows.cpu().double().numpy()
        found.append(report_scores(Detections(frame.restore(values[:, :4]), values[:, 4], values[:, 5]), rules))
    return found


def report_scores(found: Detections, rules: PostprocessingRules) -> Detections:
    """``found``, best first by the model's own scores, as they are reported: calibrated, above the thresholds, no more
    than are asked for. Which are left out for being too many is a matter of the own scores, as without calibration."""
    if rules.thresholds is None and rules.calibration is None:
        return found.surest(rules.max_detections)
    scores, own = found.scores, None
    if rules.calibration is not None:
        scores, own = rules.calibration.apply_to(found.scores, found.classes), found.scores
    told = Detections(found.boxes, scores, found.classes, own)
    if rules.thresholds is not None:
        told = told.chosen(told.scores >= rules.thresholds[told.classes])
    told = told.surest(rules.max_detections)
    # Calibration goes class by class, so boxes of different classes may have changed places.
    return told.chosen(np.argsort(-told.scores, kind="stable"))
