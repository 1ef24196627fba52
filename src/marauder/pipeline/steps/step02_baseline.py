"""Step 2 of the pipeline: train the baseline detector on the finished data set, and measure it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.pipeline.run_step import RunStep
from marauder.pipeline.step import StepContext
from marauder.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from marauder.runs.gated import RunSummary


class Baseline(RunStep):
    """``training/datasets/data.yaml`` to ``training/models/baseline/best.pt`` with its report."""

    number, name, title = 2, "baseline", "baseline YOLO detector"
    folder = "baseline"
    starts = {"weights to start from": "weights", "pretrained backbone": "ssl_backbone"}
    leaves = {
        "best model": "best.pt",
        "best weights": "best.safetensors",
        "figures": "eval_report.json",
        "report": "report.html",
    }

    def settings_model(self) -> type[Settings]:
        """``BaselineSettings``."""
        from marauder.tasks.detection.settings import BaselineSettings

        return BaselineSettings

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """The pretrained backbone, where the pipeline makes one."""
        if "pretraining" not in configured:
            return {}
        return {"ssl_backbone": workspace.model("ssl") / "backbone.safetensors"}

    def detectors(self, workspace: Workspace, settings: Any) -> Mapping[str, Path]:
        """Its best model."""
        return {self.name: workspace.model(self.folder) / "best.pt"}

    def train(self, context: StepContext) -> RunSummary:
        """Train, or continue training, then measure and judge."""
        from marauder.runs.gated import run_gated

        return run_gated(context.settings, context.clock, fresh=context.fresh, begun=context.begun)


STEP = Baseline()
