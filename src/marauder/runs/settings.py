"""The settings of the baseline run, apart from the run itself: reading them needs no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from marauder.core.settings import Settings
from marauder.engine.settings import TrainingSettings
from marauder.imaging.augmentation import AugmentationSettings


class BaselineSettings(Settings):
    """Settings of the baseline detector."""

    data: Path = Field(description="data.yaml of a YOLO data set with the splits train and val (test if there is one)")
    output: Path = Path("workspace/training/models/baseline")
    checkpoints: Path | None = Field(None, description="default: the folder checkpoints in the output")
    model: str = Field("yolov8n", description="yolov8 or yolo11, scale t (tiny), n, s, m, l or x")
    image_size: int = Field(640, ge=64, description="pixels of the long side; a multiple of 32")
    weights: Path | None = Field(None, description="detector to start from instead of random weights")
    ssl_backbone: Path | None = Field(None, description="pretrained backbone to start from")
    training: TrainingSettings = TrainingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    processes: int = Field(1, ge=1, description="training processes on this machine (one for each GPU)")
    cache_gigabytes: float = Field(16.0, ge=0, description="disk space for decoded pictures; 0: decode at every use")

    @field_validator("image_size")
    @classmethod
    def _multiple_of_32(cls, value: int) -> int:
        if value % 32:
            raise ValueError(f"{value} is no multiple of 32; choose {round(value / 32) * 32}")
        return value

    @property
    def checkpoint_folder(self) -> Path:
        """Where step checkpoints lie."""
        return self.checkpoints if self.checkpoints is not None else self.output / "checkpoints"
