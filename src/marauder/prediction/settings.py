"""How boxes are taken from what a model puts out: confidence, suppression, classes, size and batch. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from marauder.core.errors import UserError

CONFIDENCE = 0.25
"""Least score where neither the caller nor the predictor names one: that of Ultralytics' predict."""


@dataclass(frozen=True)
class PredictionSettings:
    """The defaults are those of Ultralytics' ``predict``; ``MEASURING`` is for measuring mAP.

    ``confidence``: least score, 0 to 1; ``None``: the predictor's own thresholds, else ``CONFIDENCE``. ``iou``: overlap
    above which suppression drops the fainter of two boxes of a class. ``max_detections``: boxes of a picture.
    ``image_size``: long side of the input in pixels, rounded up to the stride; ``None``: the predictor's.
    ``batch``: pictures that go through the model together; ``None``: what is fastest on the device.
    ``classes``: names of those that are wanted; ``None``: all.
    ``multi_label``: whether one place in the picture may give boxes of several classes. ``by_own_scores``:
    ``confidence`` is one of the model's own scores, where reported ones are calibrated: so calibration leaves out
    nothing, and average precision stays what it was.

    Raises ``UserError`` for values out of range.
    """

    confidence: float | None = None
    iou: float = 0.7
    max_detections: int = 300
    image_size: int | None = None
    batch: int | None = None
    classes: tuple[str, ...] | None = None
    multi_label: bool = False
    by_own_scores: bool = False

    def __post_init__(self) -> None:
        for name, value in (("confidence", self.confidence), ("iou", self.iou)):
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{name} {value:g}: must be between 0 and 1")
        for name, count in (
            ("max_detections", self.max_detections),
            ("batch", self.batch),
            ("image_size", self.image_size),
        ):
            if count is not None and count < 1:
                raise UserError(f"{name} {count}: must be at least 1")


PREDICTING = PredictionSettings()
"""What people look at."""
MEASURING = PredictionSettings(confidence=0.001, multi_label=True, by_own_scores=True)
"""What mAP is measured on: nearly everything, since it is the order of scores that counts."""
