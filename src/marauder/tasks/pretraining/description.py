"""Pretraining in short: its settings, figures, gates and files; nothing here needs torch."""

from __future__ import annotations

from typing import ClassVar

from marauder.core.metrics import Metric
from marauder.runs.settings import RunSettings
from marauder.runs.task_description import TaskDescription
from marauder.tasks.pretraining.settings import SIGNS, PretrainingSettings

BACKBONE_FILE = "backbone.safetensors"


class Pretraining(TaskDescription):
    """Backbones of detectors, pretrained without labels."""

    name = "pretraining"
    title = "a detector's backbone, without labels"
    runtime = "marauder.tasks.pretraining.runtime:PretrainingRuntime"
    settings_model: ClassVar[type[RunSettings]] = PretrainingSettings
    metrics = (
        Metric("probe_after", "probe, pretrained", headline=True, compared=True),
        # The probe of the weights that it started from is what it has to beat.
        Metric("probe_gain", "gain of the probe", headline=True, compared=True, floor=0.0),
        Metric("probe_before", "probe, before"),
        Metric("effective_rank", "effective rank", share=False, unit="directions", headline=True),
    )
    gates = ("representation",)
    exports = False
    epoch_metrics = SIGNS
    weights_file = BACKBONE_FILE
    sealed_file = BACKBONE_FILE
    files = {
        BACKBONE_FILE: "model",
        "probe.json": "report",
        "step2_account.txt": "",
        "thinning.json": "",
        "best.safetensors": "",
        "last.safetensors": "",
    }
