"""The settings of a detector's run, apart from the run itself: reading them needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from marauder.data.balancing import BalanceSettings
from marauder.engine.settings import TrainingSettings
from marauder.imaging.augmentation import AugmentationSettings
from marauder.imaging.copy_paste_settings import CopyPasteSettings
from marauder.runs.settings import NAME_PATTERN, RunSettings
from marauder.tasks.detection.loss_settings import HardNegativeUse, LossWeights


class DetectionTraining(TrainingSettings):
    """A detector's training."""

    close_mosaic_epochs: int = Field(10, ge=0, description="last epochs without mosaic")


class DetectionSettings(RunSettings):
    """A gated run that trains a detector."""

    model: str = Field("yolov8n", description="yolov8 or yolo11, scale t (tiny), n, s, m, l or x")
    image_size: int = Field(640, ge=64, description="pixels of the long side; a multiple of 32")
    weights: Path | None = Field(None, description="detector to start from instead of random weights")
    ssl_backbone: Path | None = Field(None, description="pretrained backbone to start from")
    training: DetectionTraining = DetectionTraining()
    loss: LossWeights = LossWeights()
    augmentation: AugmentationSettings = AugmentationSettings()
    critical: tuple[str, ...] = Field(
        (), description="names of the critical classes; default: those of the taxonomy's tier critical"
    )
    others_floor: float | None = Field(
        None, ge=0, le=1, description="least map50 of the other classes for best_metric=critical_with_floor"
    )
    balance: BalanceSettings = BalanceSettings()
    copy_paste: CopyPasteSettings = CopyPasteSettings()
    hard_negatives: HardNegativeUse = HardNegativeUse()

    @field_validator("image_size")
    @classmethod
    def _multiple_of_32(cls, value: int) -> int:
        if value % 32:
            raise ValueError(f"{value} is no multiple of 32; choose {round(value / 32) * 32}")
        return value

    @field_validator("weights", "ssl_backbone")
    @classmethod
    def _weights_file(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix not in (".pt", ".safetensors"):
            raise ValueError(f"{value}: weights are a .pt or .safetensors file")
        return value

    @property
    def title(self) -> str:
        """The architecture."""
        return self.model

    def starts(self) -> tuple[Path | None, ...]:
        """The detector and the pretrained backbone."""
        return (self.weights, self.ssl_backbone)

    def described(self) -> dict[str, Any]:
        """Settings beside the training's own that decide the weights, by name, so that a difference can be told."""
        content: dict[str, Any] = {
            "model": self.model,
            "image_size": self.image_size,
            "augmentation": self.augmentation.model_dump(mode="json"),
        }
        # Checkpoints from before these were settings have none of them; they are the defaults.
        if self.loss.described() != LossWeights().described():
            content["loss"] = self.loss.described()
        if self.balance.kind != "none":
            content["balance"] = self.balance.model_dump(mode="json")
        if self.copy_paste.probability:
            content["copy_paste"] = self.copy_paste.model_dump(mode="json")
        if self.hard_negatives.file is not None:
            content["hard_negatives"] = self.hard_negatives.described()
            content["balance"] = self.balance.model_dump(mode="json")
        if self.critical:
            content["critical"] = list(self.critical)
        if self.others_floor is not None:
            content["others_floor"] = self.others_floor
        return content


class BaselineSettings(DetectionSettings):
    """Step 2 as a run: the same settings with a place and a name of its own."""

    project: str = Field("baseline", pattern=NAME_PATTERN, description="name of the model in tracker and registry")
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/baseline")
