"""Step 8 of the pipeline: views worth their time, calibrated scores and thresholds of the trained detectors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from marauder.core.plain import Plain, PlainMapping
from marauder.core.settings import Settings
from marauder.models.naming import SUFFIXES
from marauder.pipeline.step import Artifact, Step, StepContext
from marauder.pipeline.workspace import Workspace
from marauder.prediction.folder_description import DESCRIPTION_FILE

FOLDER = "calibrated"


class Calibration(Step):
    """Every detector of the pipeline to ``training/models/calibrated/<name>/``, with ``<name>.pt`` beside it unless it
    is an ensemble."""

    number, name, title, optional = 8, "calibration", "views, calibration and thresholds", True

    def settings_model(self) -> type[Settings]:
        """``CalibrateSettings``."""
        from marauder.calibration.settings import CalibrateSettings

        return CalibrateSettings

    def placed(self, workspace: Workspace) -> PlainMapping:
        """The output."""
        return {"output": workspace.model(FOLDER), "fresh": False}

    def suggested(self, workspace: Workspace, configured: Collection[str]) -> PlainMapping:
        """The data set with what the provider labelled, where there is one."""
        merged = workspace.datasets / "annotated" / "data.yaml"
        return {"data": merged if "annotation" in configured else workspace.data_yaml}

    def suggested_for(self, detectors: Callable[[], Mapping[str, Path]], given: Collection[str]) -> PlainMapping:
        """Every detector, by its name."""
        if "models" in given:
            return {}
        found = detectors()
        return {"models": [str(path) for path in found.values()], "names": list(found)}

    def inputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """The trained detectors, and the pictures that tell how often they are right."""
        made = workspace.model("ensembles")
        return (
            Artifact("data set", settings.data),
            Artifact("pictures", workspace.datasets / "preprocessed" / "images"),
            *(
                # Of an ensemble of step 6 what it says of its members: reports beside it tell times, too.
                Artifact(
                    f"best model of {name}",
                    path / DESCRIPTION_FILE if path.is_relative_to(made) and path.suffix == "" else path,
                    f"{path} is missing",
                )
                for name, path in zip(settings.model_names, settings.models)
            ),
        )

    def outputs(self, workspace: Workspace, settings: Any) -> tuple[Artifact, ...]:
        """A folder for each model, and the checkpoint beside it where the model is one detector."""
        folder = workspace.model(FOLDER)
        alone = [name for name, path in zip(settings.model_names, settings.models) if path.suffix in SUFFIXES]
        return (
            *(Artifact(f"calibrated {name}", folder / name) for name in settings.model_names),
            *(Artifact(f"checkpoint of calibrated {name}", folder / f"{name}.pt") for name in alone),
        )

    def run(self, context: StepContext) -> PlainMapping:
        """Calibrate, or continue."""
        from marauder.calibration.files import PAGE
        from marauder.calibration.job import calibrate_models

        context.begun()  # what is there is taken up only where its own record fits model, pictures and settings
        done = calibrate_models(context.settings.changed({"fresh": context.asked}), context.clock)
        result: Plain = {"models": ", ".join(model.name for model in done.models)}
        for model in done.models:
            told = {
                "calibration": model.words[0],
                "views": next((words for words in model.words if words.startswith("views: ")), "none"),
                "report": context.workspace.relative(model.folder / PAGE),
            }
            result |= told if len(done.models) == 1 else {f"{model.name} {key}": words for key, words in told.items()}
        return result


STEP = Calibration()
