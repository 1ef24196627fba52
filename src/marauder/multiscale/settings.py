"""Settings of step 7: which detectors are trained on at changing sizes, and how. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake, Mistakes
from marauder.core.setting_mistakes import NAME_PATTERN
from marauder.core.settings import COMMAS, Places
from marauder.engine.settings import OptimizerSettings
from marauder.multiscale.sources import sources_of
from marauder.runs.settings import AUTO, StartWeights, is_word
from marauder.tasks.detection.base_settings import BasedSettings
from marauder.tasks.detection.multi_scale import MultiScaleSettings
from marauder.tasks.detection.settings import DetectionSettings, DetectionTraining

REPORT_JSON, REPORT_PAGE = "multiscale_report.json", "multiscale_report.html"
"""What changed, in a run's folder."""
CONTINUED_BY = ("multiscale", "--config")


class ContinuingOptimizer(OptimizerSettings):
    """A lower rate and a shorter, flatter warm-up than usual: weights that are good already are not shaken."""

    learning_rate: float = Field(0.002, gt=0, description="highest rate, after the warm-up; less for AdamW")
    warmup_epochs: float = Field(1.0, ge=0)
    warmup_bias_rate: float = Field(0.002, ge=0)


class ContinuingTraining(DetectionTraining):
    """Training as always, but of weights that are good already."""

    epochs: int = Field(50, ge=1, description="passes over the training pictures")
    optimizer: ContinuingOptimizer = ContinuingOptimizer()


class ChangingSizes(MultiScaleSettings):
    """Sizes as always, but on."""

    enabled: bool = Field(True, description="whether the size of the training pictures changes from update to update")


class MultiScaleRunSettings(DetectionSettings):
    """One detector trained on. Nothing but the settings of every detection run: whatever can train one, trains it."""

    continued_by: ClassVar[tuple[str, ...]] = CONTINUED_BY


class MultiScaleStepSettings(BasedSettings):
    """Step 7. Without ``ensemble_models`` one detector is trained on, ``weights``; with them each of them instead, one
    after the other, with the same settings. Each has a folder of its name below ``output``."""

    continued_by: ClassVar[tuple[str, ...]] = CONTINUED_BY

    project: str = Field("multiscale", pattern=NAME_PATTERN, description="name of the model in tracker and registry")
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/multiscale")
    training: ContinuingTraining = ContinuingTraining()
    multi_scale: ChangingSizes = ChangingSizes()
    weights: StartWeights = Field(
        AUTO, description="detector to go on from; auto: critical/best.pt beside the output, else baseline/best.pt"
    )
    ensemble_models: Annotated[tuple[str, ...], COMMAS] = Field(
        (), description="detectors to go on from: files, patterns such as models/*.pt, folders of an ensemble"
    )

    @model_validator(mode="after")
    def _check(self) -> MultiScaleStepSettings:
        if self.multi_scale.is_off:
            raise ValueError("multi_scale.enabled: step 7 changes sizes; without it train with `marauder train`")
        if self.weights is None or (self.weights != AUTO and is_word(self.weights)):
            raise ValueError(
                "weights: step 7 goes on from a detector of these classes; from others, or from random weights, sizes "
                "change in `marauder train` with multi_scale.enabled=true"
            )
        if self.ssl_backbone is not None:
            raise ValueError("ssl_backbone: the detector that step 7 goes on from has a backbone; leave it out")
        return self

    def mistakes(self, places: Places) -> Iterable[Mistake]:
        """Detectors that are not there, and one beside several."""
        found = Mistakes()
        # A pipeline proposes the one; only who gave both is asked which are meant.
        if self.ensemble_models and self.weights != AUTO and places.gives("weights"):
            found.add(
                [places.mistake("weights", "is one detector, and ensemble_models are others: give only one of them")]
            )
        # What could not be read is a mistake of its own, and files that ``weights`` names are every run's to look for.
        named: tuple[str, ...] | None = self.ensemble_models
        if named is None or self.output is None or not (named or self.weights == AUTO):
            return found.found
        try:
            sources_of(named, AUTO, self.output, places.is_made)
        except UserError as error:
            key = "ensemble_models" if named else "weights"
            found.add(places.mistake(key, line) for line in str(error).splitlines())
        return found.found
