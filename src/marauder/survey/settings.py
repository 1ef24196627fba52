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
from marauder.engine.devices import Device

ANNOTATED, BOXES, PARQUET, VIAME = "annotated", "boxes", "parquet", "viame"
PACKAGES = ("coco", "yolo", "label_studio", "cvat")
"""Formats that stand beside the pictures themselves; of videos, frames are written for them."""
FORMATS = (ANNOTATED, BOXES, PARQUET, VIAME, *PACKAGES)
MOST_AT_ONCE = 64


class PredictSettings(Settings):
    """What to look at, and what to write.

    ``model``: a file or folder that ``prediction.opening`` opens. ``inputs``: pictures, videos, folders, or patterns.
    ``confidence``: least score, 0 to 1; ``None``: the model's own thresholds, else 0.25. ``iou``: overlap above which
    the fainter of two boxes of a class is dropped. ``max_detections``: boxes of a picture. ``classes``: names, or
    numbers, of those wanted; ``None``: all. ``image_size``: long side of the input in pixels, ``None``: the model's.
    ``every``, ``fps``: which frames of videos (``data.video_files.Sampling``). ``formats``: of ``FORMATS``, or ``all``;
    counts and the page are always written. ``group_pattern``: which pictures are frames of one clip (``data.groups``).
    ``page_pictures``: surest, and least sure, pictures on the page. ``fresh``: forget what earlier runs found.
    """

    decides: ClassVar[Decides] = Decides.RESULT
    elsewhere = answers(PREDICTING)

    model: Annotated[Path, BY_CONTENT, Existing()]
    inputs: Annotated[tuple[str, ...], Decides.PLACE, OnThisMachine(why_nothing)] = Field(min_length=1)
    output: Annotated[Path, Decides.PLACE] = Path("predictions")
    confidence: float | None = Field(None, ge=0, le=1)
    iou: float = Field(0.7, ge=0, le=1)
    max_detections: int = Field(300, ge=1)
    classes: Annotated[tuple[str, ...] | None, COMMAS] = None
    image_size: int | None = Field(None, ge=32)
    batch: Annotated[int | None, Decides.NOTHING] = Field(None, ge=1, le=MOST_AT_ONCE)
    device: Annotated[Device, Decides.NOTHING] = "auto"
    every: int | None = Field(None, ge=1)
    fps: float | None = Field(None, gt=0, le=1000)
    formats: Annotated[tuple[str, ...], COMMAS] = (ANNOTATED, BOXES, VIAME)
    group_pattern: GroupPattern | None = None
    page_pictures: int = Field(12, ge=0, le=100)
    fresh: Annotated[bool, Decides.NOTHING] = False

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        if formats == ("all",):
            return FORMATS
        unknown = [name for name in formats if name not in FORMATS]
        if unknown:
            raise ValueError(f"no format named {unknown[0]!r}; choose from {', '.join(FORMATS)}, or all")
        return tuple(name for name in FORMATS if name in formats)

    # On the field, not on the whole: the mistake is told with the place of this option.
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
