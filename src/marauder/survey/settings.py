"""What ``marauder predict`` does: which model looks at what, and which files come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from marauder.core.decides import BY_CONTENT
from marauder.core.settings import COMMAS, Decides, Existing, OnThisMachine, Settings
from marauder.core.ultralytics_words import PREDICTING, answers
from marauder.data.groups import GroupPattern
from marauder.data.media_files import why_nothing
from marauder.data.video_files import Sampling
from marauder.engine.devices import CHOICES, Device

ANNOTATED, BOXES, PARQUET, VIAME = "annotated", "boxes", "parquet", "viame"
PACKAGES = ("coco", "yolo", "label_studio", "cvat")
"""Formats that stand beside the pictures themselves; of videos, frames are written for them."""
FORMATS = (ANNOTATED, BOXES, PARQUET, VIAME, *PACKAGES)
MOST_AT_ONCE = 64


class PredictSettings(Settings):
    """What to look at, and what to write."""

    decides: ClassVar[Decides] = Decides.RESULT
    elsewhere = answers(PREDICTING)

    model: Annotated[Path, BY_CONTENT, Existing()] = Field(
        description="detector: .pt, .safetensors, .onnx or .torchscript, or a predictor folder"
    )
    inputs: Annotated[tuple[str, ...], Decides.PLACE, OnThisMachine(why_nothing)] = Field(
        min_length=1, description="pictures, videos, folders, or patterns"
    )
    output: Annotated[Path, Decides.PLACE] = Field(Path("predictions"), description="folder to write to")
    confidence: float | None = Field(
        None, ge=0, le=1, description="least score; default: the model's operating point, or 0.25"
    )
    iou: float = Field(
        0.7, ge=0, le=1, description="overlap above which the fainter of two boxes of a class is dropped"
    )
    max_detections: int = Field(300, ge=1, description="most boxes of a picture")
    classes: Annotated[tuple[str, ...] | None, COMMAS] = Field(
        None, description="names, or numbers, of the classes wanted; default: all"
    )
    image_size: int | None = Field(None, ge=32, description="long side of the input in pixels; default: the model's")
    batch: Annotated[int | None, Decides.NOTHING] = Field(
        None, ge=1, le=MOST_AT_ONCE, description="pictures of a forward pass; default: 4 on a CPU, 16 on a GPU"
    )
    device: Annotated[Device, Decides.NOTHING] = Field("auto", description=CHOICES)
    every: int | None = Field(None, ge=1, description="look at every Nth frame of videos; default: 1")
    fps: float | None = Field(None, gt=0, le=1000, description="frames to look at in a second of video; default: all")
    formats: Annotated[tuple[str, ...], COMMAS] = Field(
        (ANNOTATED, BOXES, VIAME), description=f"of {', '.join(FORMATS)}, or all; counts and page are always written"
    )
    group_pattern: GroupPattern | None = Field(
        None, description="regular expression: which pictures are frames of one clip (data.groups)"
    )
    page_pictures: int = Field(12, ge=0, le=100, description="surest, and least sure, pictures on the page")
    fresh: Annotated[bool, Decides.NOTHING] = Field(False, description="forget what earlier runs found")

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if formats == ("all",):
            return FORMATS
        unknown = [name for name in formats if name not in FORMATS]
        if unknown:
            raise ValueError(f"no format named {unknown[0]!r}; choose from {', '.join(FORMATS)}, or all")
        return tuple(name for name in FORMATS if name in formats)

    # On the field, not on the whole: the mistake is reported with the place of this option.
    @field_validator("fps")
    @classmethod
    def _one_of_both(cls, fps: float | None, info: ValidationInfo) -> float | None:
        if fps is not None and info.data.get("every") is not None:
            raise ValueError("fps and every both say which frames of videos; give one of them")
        return fps

    @property
    def sampling(self) -> Sampling:
        """Which frames of videos; all where nothing is said."""
        return Sampling(self.every or 1, self.fps)
