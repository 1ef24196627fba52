"""Settings of runs that go on from a trained detector, which decides what they leave open; they need no torch."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from marauder.models.naming import family_and_scale, unknown_detector
from marauder.runs.settings import ImageSize
from marauder.tasks.detection.settings import DetectionSettings

AUTO_MODEL = "auto"
"""The model that is taken from the base model."""


def _auto_or_known(name: str) -> str:
    if name != AUTO_MODEL and family_and_scale(name) is None:
        raise ValueError(unknown_detector(name))
    return name


class BasedSettings(DetectionSettings):
    """A run whose architecture and image size may be left to the detector that it starts from."""

    model: Annotated[str, AfterValidator(_auto_or_known)] = Field(
        AUTO_MODEL,
        description="yolov8 or yolo11, scale t (tiny), n, s, m, l or x; auto: the base model's, else yolov8n",
    )
    image_size: ImageSize = Field(
        0, ge=0, description="pixels of the long side; a multiple of 32; 0: the base model's, else 640"
    )

    @model_validator(mode="after")
    def _check_image_size(self) -> Self:
        # The bound of the field lets 0 through, and with it the one size between.
        if self.image_size == 32:
            raise ValueError("image_size: 32 is too small; give 64 or more, or 0 for the base model's")
        return self

    def decided_by(self, model: str, image_size: int) -> Self:
        """These settings with ``model`` and ``image_size`` where they are left open."""
        changes: dict[str, object] = {}
        if self.model == AUTO_MODEL:
            changes["model"] = model
        if not self.image_size:
            changes["image_size"] = image_size
        return self.changed(changes)
