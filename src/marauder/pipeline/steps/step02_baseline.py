"""Step 2 of the pipeline: train the baseline detector on the finished data set, and measure it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marauder.core.settings import Settings
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace


class Baseline(Step):
    """``training/datasets/data.yaml`` to ``training/models/baseline/best.pt`` with its report."""

    number, name, title = 2, "baseline", "baseline YOLO detector"

    def settings_model(self) -> type[Settings]:
        """``BaselineSettings``."""
        from marauder.runs.settings import BaselineSettings

        return BaselineSettings

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        """The data set, the output and the checkpoints."""
        return {
            "data": workspace.data_yaml,
            "output": workspace.model(self.name),
            "checkpoints": workspace.checkpoints(self.name),
        }

    def without_effect(self) -> frozenset[str]:
        """What the engine leaves out of a checkpoint's identity, and where the work is done."""
        from marauder.engine.settings import TrainingSettings

        free = set(TrainingSettings.model_fields) - set(TrainingSettings().deciding())
        names = {f"training.{name}" for name in free} - self.continued()
        return frozenset({*names, "processes", "cache_gigabytes"})

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
            Artifact("figures", folder / "summary.json"),
            Artifact("report", folder / "report.html"),
        )

    def run(self, context: StepContext) -> Mapping[str, Any]:
        """Train, or go on training, then measure."""
        from marauder.runs.baseline import train_baseline

        done = train_baseline(context.settings, context.clock, fresh=context.fresh, begun=context.begun)
        figures = {name: value for name, value in done.metrics.items() if isinstance(value, float)}
        return {
            **{name: round(value, 4) for name, value in figures.items()},
            "measured_on": f"the split {done.split}",
            "epochs": done.epochs,
            "report": context.workspace.relative(done.report),
        }


STEP = Baseline()
