"""Detection in short: its settings, figures, gates and files; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from marauder.core.metrics import Metric
from marauder.core.mistakes import Mistake
from marauder.core.settings import Places
from marauder.evaluation.critical_metrics import TIER_METRICS
from marauder.runs.settings import RunSettings
from marauder.runs.task_description import TaskDescription
from marauder.tasks.detection.checking import look_through
from marauder.tasks.detection.settings import EPOCH_METRICS, FLOOR_METRICS, DetectionSettings


class Detection(TaskDescription):
    """Detectors of the YOLO family."""

    name = "detection"
    title = "boxes around animals, by class"
    runtime = "marauder.tasks.detection.runtime:DetectionRuntime"
    settings_model: ClassVar[type[RunSettings]] = DetectionSettings
    metrics = (
        Metric("map50", "mAP50", headline=True, compared=True, per_class=True, floor=0.05),
        Metric("map50_95", "mAP50-95", headline=True, compared=True, per_class=True),
        Metric("precision", "precision", headline=True, per_class=True),
        Metric("recall", "recall", headline=True, compared=True, per_class=True),
        Metric("f1", "F1", per_class=True),
        Metric("pictures", "pictures", share=False, unit="pictures"),
        Metric("boxes", "boxes", share=False, unit="boxes"),
    )
    gates = ("contract", "drift", "limits", "slices", "regression")
    epoch_columns = ("precision", "recall", "map50", "map50_95")
    epoch_metrics = (*EPOCH_METRICS, *FLOOR_METRICS, *TIER_METRICS)
    weights_file = "best.pt"
    sealed_file = "best.safetensors"
    files = {
        "best.pt": "model",
        "best.safetensors": "",
        "last.safetensors": "",
        "reference_profile.json": "",
        "reference_profile.npz": "",
        "slices.yaml": "",
        "labels.jpg": "report",
        "training_batch.jpg": "report",
    }

    @classmethod
    def comparable(cls) -> tuple[str, ...]:
        """``evaluation.resampling.METRICS``, which needs numpy."""
        return ("map50", "map75", "map50_95", "map_small", "map_medium", "map_large", "precision", "recall", "f1")

    @classmethod
    def mistakes(cls, settings: Any, places: Places) -> Iterable[Mistake]:
        """Also classes, slices and metrics that the data set does not have."""
        return look_through(settings, places, lambda known: super(Detection, cls).mistakes(settings, known))
