"""Step 1 of the pipeline: pretrain the detector's backbone on all pictures, labelled or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marauder.core.settings import Settings
from marauder.pipeline.runs import around_a_run, run_summary
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace

FOLDER = "ssl"


class Pretraining(Step):
    """``training/datasets/data.yaml`` to ``training/models/ssl/backbone.safetensors`` with the report of its probe."""

    number, name, title, optional = 1, "pretraining", "self-supervised backbone", True

    def settings_model(self) -> type[Settings]:
        """``PretrainingSettings``."""
        from marauder.tasks.pretraining.settings import PretrainingSettings

        return PretrainingSettings

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        """The data set, the output, the checkpoints, and the folder of the runs' common store."""
        return {
            "data": workspace.data_yaml,
            "output": workspace.model(FOLDER),
            "checkpoints": workspace.checkpoints(FOLDER),
            "runs": workspace.training / "runs",
        }

    def without_effect(self) -> frozenset[str]:
        """What the engine leaves out of a checkpoint's identity, and where the work is done."""
        return around_a_run() - self.continued()

    def continued(self) -> frozenset[str]:
        """A finished pretraining can be made longer."""
        return frozenset({"training.epochs", "training.patience"})

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The pictures, the labels of the probe, and the detector to start from where one is named."""
        start = settings.init
        given = [Artifact("detector to start from", start, f"{start} is missing")] if start is not None else []
        return (
            Artifact("data set", workspace.data_yaml),
            Artifact("pictures", workspace.datasets / "preprocessed" / "images"),
            Artifact("labels", workspace.datasets / "preprocessed" / "labels"),
            *given,
        )

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The backbone, what the probe said, and the report."""
        folder = workspace.model(FOLDER)
        return (
            Artifact("backbone", folder / "backbone.safetensors"),
            Artifact("probe", folder / "probe.json"),
            Artifact("report", folder / "report.html"),
        )

    def run(self, context: StepContext) -> Mapping[str, Any]:
        """Pretrain, or go on; then ask the probe whether it helped. Collapse fails the step."""
        from marauder.core.files import read_json
        from marauder.tasks.pretraining.run import pretrain

        done = pretrain(context.settings, context.clock, fresh=context.fresh, begun=context.begun)
        summary = run_summary(done, context.workspace)
        return {"helped": read_json(done.folder / "probe.json")["verdict"], **summary}


STEP = Pretraining()
