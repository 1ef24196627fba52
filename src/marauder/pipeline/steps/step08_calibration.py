"""Step 8 of the pipeline: views worth their time, calibrated scores and thresholds of the trained detectors."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.models.naming import folder_names
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace

DETECTORS = ("baseline", "critical")
"""The steps that leave a detector to calibrate."""
FOLDER = "calibrated"


class Calibration(Step):
    """``training/models/<step>/best.pt`` to ``training/models/calibrated/<step>/`` and ``<step>.pt`` beside it."""

    number, name, title, optional = 8, "calibration", "views, calibration and thresholds", True

    def settings_model(self) -> type[Settings]:
        """``CalibrateSettings``."""
        from marauder.calibration.settings import CalibrateSettings

        return CalibrateSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The output."""
        return {"output": workspace.model(FOLDER), "fresh": False}

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """The detectors of this pipeline, and the data set with what the provider labelled, where there is one."""
        merged = workspace.datasets / "annotated" / "data.yaml"
        return {
            "models": [str(workspace.model(name) / "best.pt") for name in DETECTORS if name in configured],
            "data": merged if "annotation" in configured else workspace.data_yaml,
        }

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The trained detectors, and the pictures that tell how often they are right."""
        models = zip(folder_names(settings.models), settings.models)
        return (
            Artifact("data set", settings.data),
            Artifact("pictures", workspace.datasets / "preprocessed" / "images"),
            *(Artifact(f"best model of {name}", path, f"{path} is missing") for name, path in models),
        )

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """A folder for each model, and the checkpoint beside it."""
        folder = workspace.model(FOLDER)
        names = folder_names(settings.models)
        return (
            *(Artifact(f"calibrated {name}", folder / name) for name in names),
            *(Artifact(f"checkpoint of calibrated {name}", folder / f"{name}.pt") for name in names),
        )

    def run(self, context: StepContext) -> PlainMapping:
        """Calibrate, or continue."""
        from marauder.calibration.files import PAGE
        from marauder.calibration.job import calibrate_models

        context.begun()  # what is there is taken up only where its own record fits model, pictures and settings
        done = calibrate_models(context.settings.changed({"fresh": context.asked}), context.clock)
        # The most specialised, which is the one to deploy.
        last = done.models[-1]
        return {
            "models": ", ".join(model.name for model in done.models),
            "calibration": last.words[0],
            "views": next((words for words in last.words if words.startswith("views: ")), "none"),
            "report": context.workspace.relative(last.folder / PAGE),
        }


STEP = Calibration()
