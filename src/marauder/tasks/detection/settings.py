"""The settings of a detector's run, apart from the run itself: reading them needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from marauder.core.decides import BY_CONTENT
from marauder.core.setting_mistakes import NAME_PATTERN
from marauder.core.settings import COMMAS, Decides
from marauder.data.bagging import BaggingSettings
from marauder.data.balancing import BalanceSettings
from marauder.engine.settings import TrainingSettings
from marauder.imaging.augmentation import AugmentationSettings
from marauder.imaging.copy_paste_settings import CopyPasteSettings
from marauder.models.released import released_for
from marauder.runs.settings import (
    AUTO,
    START_WEIGHTS,
    DetectorName,
    EvaluationSettings,
    ExportPlan,
    ImageSize,
    RunSettings,
    StartWeights,
    WeightsFile,
)
from marauder.tasks.detection.loss_settings import HardNegativeUse, LossWeights, TeachingUse
from marauder.tasks.detection.multi_scale import MultiScaleSettings

EPOCH_METRICS = ("map50", "map50_95", "precision", "recall", "f1")
"""What is measured after every epoch, whatever the data."""
FLOOR_METRICS = ("recall_at_precision", "precision_at_recall")
"""Measured after every epoch, too, but of the split val alone: they pick weights, and are no headline."""


class DetectionTraining(TrainingSettings):
    """A detector's training."""

    close_mosaic_epochs: int = Field(10, ge=0, description="last epochs without mosaic")
    best_metric: str = Field("map50_95", description="the evaluation metric that picks the best weights")


class DetectionSettings(RunSettings):
    """A gated run that trains a detector."""

    decides: ClassVar[Decides] = Decides.RESULT

    model: DetectorName = Field("yolov8n", description="yolov8 or yolo11, scale t (tiny), n, s, m, l or x")
    image_size: ImageSize = Field(640, ge=64, description="pixels of the long side; a multiple of 32")
    weights: StartWeights = Field(AUTO, description=START_WEIGHTS)
    ssl_backbone: WeightsFile | None = Field(
        None, description="pretrained backbone (step 1), which takes the place of that of the weights"
    )
    training: DetectionTraining = DetectionTraining()
    loss: LossWeights = LossWeights()
    augmentation: AugmentationSettings = AugmentationSettings()
    multi_scale: MultiScaleSettings = MultiScaleSettings()
    critical: Annotated[tuple[str, ...], COMMAS] = Field(
        (), description="names of the critical classes; default: those of the taxonomy's tier critical"
    )
    others_floor: float | None = Field(
        None, ge=0, le=1, description="least map50 of the other classes for best_metric=critical_with_floor"
    )
    precision_floor: float = Field(
        0.5, gt=0, lt=1, description="least precision for best_metric=recall_at_precision: the recall reached with it"
    )
    recall_floor: float = Field(
        0.5, gt=0, lt=1, description="least recall for best_metric=precision_at_recall: the precision reached with it"
    )
    bagging: BaggingSettings = BaggingSettings()
    balance: BalanceSettings = BalanceSettings()
    copy_paste: CopyPasteSettings = CopyPasteSettings()
    hard_negatives: HardNegativeUse = HardNegativeUse()
    teaching: TeachingUse = TeachingUse()
    slices: Annotated[Path | None, Decides.MEASUREMENT, BY_CONTENT] = Field(
        None, description="slices.yaml; default: the data set's, else slices by attributes"
    )
    evaluation: Annotated[EvaluationSettings, Decides.MEASUREMENT] = EvaluationSettings()
    export: Annotated[ExportPlan, Decides.MEASUREMENT] = ExportPlan()

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        # 0 stands for the size of a model that is not opened yet.
        if self.image_size and not self.multi_scale.is_off:
            self.multi_scale.set_for(self.image_size)
        return self

    def without_effect(self, section: str) -> bool:
        """Copy-paste has an effect also where only hard negatives are pasted, as it says how."""
        return super().without_effect(section) and not (section == "copy_paste" and self.hard_negatives.pastes)

    @property
    def released_weights(self) -> str | None:
        """COCO weights of the architecture."""
        return released_for(self.model)

    @property
    def pretrained(self) -> bool:
        """Whether training starts from weights instead of random ones."""
        return self.weights is not None or self.ssl_backbone is not None

    @property
    def title(self) -> str:
        """The architecture."""
        return self.model


class BaselineSettings(DetectionSettings):
    """Step 2 as a run: the same settings with a place and a name of its own."""

    project: str = Field("baseline", pattern=NAME_PATTERN, description="name of the model in tracker and registry")
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/baseline")
