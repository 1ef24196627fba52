"""Step 5 of the pipeline: specialise the baseline on the critical species, in three stages that are one run."""

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


class Critical(RunStep):
    """The newest data set and ``training/models/baseline/best.pt`` to ``training/models/critical/best.pt``."""

    number, name, title, optional = 5, "critical", "critical species", True
    folder = "critical"
    starts = {"detector to start from": "base_model"}
    leaves = {
        "critical model": "best.pt",
        "critical weights": "best.safetensors",
        "critical figures": "critical_report.json",
        "critical report": "critical_report.html",
    }

    def settings_model(self) -> type[Settings]:
        """``CriticalSettings``."""
        from marauder.critical.settings import CriticalSettings

        return CriticalSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """As for every run, but for the data set, which may be the one with what was annotated."""
        return {name: value for name, value in super().placed(workspace).items() if name != "data"}

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """The data set with what the provider labelled, where there is one; the baseline to start from."""
        merged = workspace.datasets / "annotated" / "data.yaml"
        return {
            "data": merged if "annotation" in configured else workspace.data_yaml,
            "base_model": workspace.model("baseline") / "best.pt",
        }

    def detectors(self, workspace: Workspace, settings: Any) -> Mapping[str, Path]:
        """Its best model."""
        return {self.name: workspace.model(self.folder) / "best.pt"}

    def train(self, context: StepContext) -> RunSummary:
        """The three stages, each continuing where it was."""
        from marauder.critical.specialisation import run_critical

        return run_critical(context.settings, context.clock, fresh=context.fresh, begun=context.begun).run


STEP = Critical()
