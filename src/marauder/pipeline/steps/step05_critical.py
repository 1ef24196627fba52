"""Step 5 of the pipeline: specialise the baseline on the critical species, in three stages that are one run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from marauder.core.settings import Settings
from marauder.pipeline.runs import around_a_run, run_summary
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace


class Critical(Step):
    """The newest data set and ``training/models/baseline/best.pt`` to ``training/models/critical/best.pt``."""

    number, name, title, optional = 5, "critical", "critical species", True

    def settings_model(self) -> type[Settings]:
        """``CriticalSettings``."""
        from marauder.critical.settings import CriticalSettings

        return CriticalSettings

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        """The output, the checkpoints, and the folder of the runs' common store."""
        return {
            "output": workspace.model(self.name),
            "checkpoints": workspace.checkpoints(self.name),
            "runs": workspace.training / "runs",
        }

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> Mapping[str, Any]:
        """The data set with what the provider labelled, where there is one; the baseline to start from."""
        merged = workspace.datasets / "annotated" / "data.yaml"
        return {
            "data": merged if "annotation" in configured else workspace.data_yaml,
            "base_model": workspace.model("baseline") / "best.pt",
        }

    def without_effect(self) -> frozenset[str]:
        """What the engine leaves out of a checkpoint's identity, and where the work is done."""
        return around_a_run()

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The data set with its pictures and labels, and the detector to start from."""
        start = settings.base_model
        return (
            Artifact("data set", settings.data, f"{settings.data} is missing"),
            Artifact("pictures", workspace.datasets / "preprocessed" / "images"),
            Artifact("labels", settings.data.parent / "labels" if settings.data.parent.name == "annotated"
                     else workspace.datasets / "preprocessed" / "labels"),
            *([Artifact("detector to start from", start, f"{start} is missing")] if start is not None else []),
        )  # fmt: skip

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The best weights in both forms, the figures and the reports."""
        folder = workspace.model(self.name)
        return (
            Artifact("critical model", folder / "best.pt"),
            Artifact("critical weights", folder / "best.safetensors"),
            Artifact("critical figures", folder / "critical_report.json"),
            Artifact("critical report", folder / "critical_report.html"),
        )

    def run(self, context: StepContext) -> Mapping[str, Any]:
        """The three stages, each going on where it was. A gate that failed fails the step."""
        from marauder.critical.run import run_critical

        done = run_critical(context.settings, context.clock, fresh=context.fresh, begun=context.begun)
        return run_summary(done.run, context.workspace)


STEP = Critical()
