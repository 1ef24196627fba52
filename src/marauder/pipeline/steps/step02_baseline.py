"""Step 2 of the pipeline: train the baseline detector on the finished data set, and measure it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from marauder.core.settings import Settings
from marauder.pipeline.runs import around_a_run, run_summary
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace


class Baseline(Step):
    """``training/datasets/data.yaml`` to ``training/models/baseline/best.pt`` with its report."""

    number, name, title = 2, "baseline", "baseline YOLO detector"

    def settings_model(self) -> type[Settings]:
        """``BaselineSettings``."""
        from marauder.tasks.detection.settings import BaselineSettings

        return BaselineSettings

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        """The data set, the output, the checkpoints, and the folder of the runs' common store."""
        return {
            "data": workspace.data_yaml,
            "output": workspace.model(self.name),
            "checkpoints": workspace.checkpoints(self.name),
            "runs": workspace.training / "runs",
        }

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> Mapping[str, Any]:
        """The pretrained backbone, where the pipeline makes one."""
        if "pretraining" not in configured:
            return {}
        return {"ssl_backbone": workspace.model("ssl") / "backbone.safetensors"}

    def without_effect(self) -> frozenset[str]:
        """What the engine leaves out of a checkpoint's identity, and where the work is done."""
        return around_a_run() - self.continued()

    def continued(self) -> frozenset[str]:
        """A finished training can be made longer."""
        return frozenset({"training.epochs", "training.patience"})

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The data set, and the weights to start from where they are named."""
        starts = {"weights to start from": settings.weights, "pretrained backbone": settings.ssl_backbone}
        given = [Artifact(name, path, f"{path} is missing") for name, path in starts.items() if path is not None]
        return (
            Artifact("data set", workspace.data_yaml),
            Artifact("pictures", workspace.datasets / "preprocessed" / "images"),
            Artifact("labels", workspace.datasets / "preprocessed" / "labels"),
            *given,
        )

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The best weights in both forms, the figures and the report."""
        folder = workspace.model(self.name)
        return (
            Artifact("best model", folder / "best.pt"),
            Artifact("best weights", folder / "best.safetensors"),
            Artifact("figures", folder / "eval_report.json"),
            Artifact("report", folder / "report.html"),
        )

    def run(self, context: StepContext) -> Mapping[str, Any]:
        """Train, or go on training, then measure and judge. A gate that failed fails the step."""
        from marauder.runs.gated import run_gated

        return run_summary(
            run_gated(context.settings, context.clock, fresh=context.fresh, begun=context.begun), context.workspace
        )


STEP = Baseline()
