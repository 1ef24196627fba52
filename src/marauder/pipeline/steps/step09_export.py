"""Step 9 of the pipeline, its portable half: ONNX and TorchScript of the baseline, checked against the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marauder.core.errors import UserError
from marauder.core.settings import Settings
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace


class Export(Step):
    """``training/models/baseline/best.pt`` to ``training/models/tensorrt/baseline/``."""

    number, name, title = 9, "export", "portable model files"

    def settings_model(self) -> type[Settings]:
        """``ExportSettings``."""
        from marauder.export.settings import ExportSettings

        return ExportSettings

    def placed(self, workspace: Workspace) -> Mapping[str, Any]:
        """The model, the pictures to compare on, and the output."""
        return {
            "models": [str(workspace.model("baseline") / "best.pt")],
            "pictures": workspace.datasets / "preprocessed" / "images",
            "output": workspace.model("tensorrt"),
            "fresh": False,
        }

    def without_effect(self) -> frozenset[str]:
        """How long is measured changes no file."""
        return frozenset({"latency"})

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The trained detector."""
        return (Artifact("best model", workspace.model("baseline") / "best.pt"),)

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The folder with every format and its report."""
        return (Artifact("exported model", workspace.model("tensorrt") / "baseline"),)

    def run(self, context: StepContext) -> Mapping[str, Any]:
        """Export, or go on; a format that does not answer as the model does is a failure."""
        from marauder.export.job import export_models

        context.begun()  # what is there is taken up only where its own record fits model and settings
        settings = context.settings.model_copy(update={"fresh": context.fresh})
        done = export_models(settings, context.clock)
        (model,) = done.models
        if model.problem is not None:
            raise UserError(model.problem)
        different = [name for name, result in model.formats.items() if not result.passed]
        if different:
            raise UserError(
                f"{', '.join(different)}: does not answer as {model.source} does and was not put in place; "
                f"{model.folder / 'export_report.md'} says how far off it is"
            )
        return {
            "formats": ", ".join(result.path.name for result in model.formats.values()),
            "compared_on": done.pictures,
            "report": context.workspace.relative(model.folder / "export_report.md"),
        }


STEP = Export()
