"""Step 9 of the pipeline: ONNX and TorchScript of the trained detectors, checked against them; bundles for a board."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from marauder.core.errors import UserError
from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.exporting.folders import folder_names
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace

DETECTORS = ("baseline", "critical")
"""The steps that leave a detector to deploy."""


class Export(Step):
    """``training/models/<step>/best.pt`` to ``training/models/tensorrt/<step>/``."""

    number, name, title = 9, "export", "files for devices"

    def settings_model(self) -> type[Settings]:
        """``EngineSettings``."""
        from marauder.bundles.settings import EngineSettings

        return EngineSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The pictures to compare on, and the output."""
        return {
            "pictures": workspace.datasets / "preprocessed" / "images",
            "output": workspace.model("tensorrt"),
            "fresh": False,
        }

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """The detectors of this pipeline."""
        return {"models": [str(workspace.model(name) / "best.pt") for name in DETECTORS if name in configured]}

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The trained detectors."""
        return tuple(
            Artifact(f"best model of {name}", path, f"{path} is missing")
            for name, path in zip(folder_names(settings.models), settings.models)
        )

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """A folder for each model with every format and its report."""
        return tuple(
            Artifact(f"exported {name}", workspace.model("tensorrt") / name) for name in folder_names(settings.models)
        )

    def run(self, context: StepContext) -> PlainMapping:
        """Export, or continue; a format that does not answer as the model does is a failure."""
        from marauder.bundles.job import export_engines

        context.begun()  # what is there is taken up only where its own record fits model and settings
        settings = context.settings.changed({"fresh": context.fresh})
        done = export_engines(settings, context.clock)
        for model in done.models:
            if model.problem is not None:
                raise UserError(model.problem)
            different = [name for name, result in model.formats.items() if not result.passed]
            if different:
                raise UserError(
                    f"{', '.join(different)}: does not answer as {model.source} does and was not put in place; "
                    f"{model.folder / 'export_report.md'} says how far off it is"
                )
        for bundle in done.bundles:
            if not bundle.passed:
                raise UserError(f"bundle of {bundle.name}: {'; '.join(bundle.problems)}")
        # The most specialised, which is the one to deploy.
        last = done.models[-1]
        archive = done.bundles[-1].archive if done.bundles else None
        packed = {} if archive is None else {"bundle": context.workspace.relative(archive)}
        return {
            "models": ", ".join(model.folder.name for model in done.models),
            "formats": ", ".join(result.path.name for result in last.formats.values()),
            "compared_on": done.pictures,
            **packed,
            "report": context.workspace.relative(last.folder / "export_report.md"),
        }


STEP = Export()
