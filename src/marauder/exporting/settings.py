"""The settings of an export: models, formats, what the graph accepts, and what counts as the same answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from marauder.core.plugins import known_as
from marauder.core.settings import COMMAS, Decides, Existing, Settings
from marauder.core.ultralytics_words import EXPORTING, answers
from marauder.models.naming import explain_missing


class ParitySettings(Settings):
    """When an exported file counts as giving the same answers as the model it was made from.

    Raw boxes and scores decide; what suppression makes of them is counted and reported.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {
        "near_tie_share": "ties that suppression breaks differently are counted and no longer fail; leave it out",
    }

    picture_count: int = Field(16, ge=1, description="pictures to compare on")
    confidence: float = Field(0.25, gt=0, lt=1, description="least score of a box; lowered where too few reach it")
    least_boxes: int = Field(20, ge=1, description="boxes needed for the comparison, over all pictures")
    suppression_iou: float = Field(0.7, gt=0, lt=1, description="overlap above which the weaker box is suppressed")
    box_iou: float = Field(0.99, gt=0, le=1, description="overlap from which two boxes count as the same one")
    score_tolerance: float = Field(
        1e-3,
        gt=0,
        description="greatest difference of two raw scores; in proportion less where no score reaches `confidence`",
    )
    raw_box_tolerance: float = Field(0.1, gt=0, description="greatest difference of a raw box coordinate, in pixels")


class LatencySettings(Settings):
    """How long one call takes is measured in interleaved rounds."""

    enabled: bool = True
    rounds: int = Field(50, ge=5, description="timed calls of each format")
    warm_up: int = Field(5, ge=1, description="calls of each format before the first timed one")
    max_seconds: float = Field(90.0, gt=0, description="no new round begins after this, once there are 5")
    threads: int | None = Field(None, ge=1, description="processor threads; default: all this process may use")


class ExportSettings(Settings):
    """What ``marauder export`` does."""

    decides: ClassVar[Decides] = Decides.RESULT
    elsewhere = answers(EXPORTING)

    models: Annotated[tuple[Path, ...], COMMAS, Existing(explain_missing)] = Field(
        min_length=1, description=".pt or .safetensors files"
    )
    output: Annotated[Path, Decides.PLACE] = Path("exported")
    formats: Annotated[tuple[str, ...], COMMAS, known_as("exporter", "format")] = Field(
        ("onnx", "torchscript"), min_length=1
    )
    image_size: tuple[int, int] | None = Field(None, description="height and width; default: the model's own, square")
    batch: int = Field(1, ge=1, description="pictures a call")
    dynamic: bool = Field(False, description="let batch, height and width differ from call to call")
    opset: int = Field(13, ge=11, le=20, description="version of the ONNX operators")
    simplify: bool = Field(True, description="simplify the ONNX graph")
    pictures: Annotated[Path | None, Existing()] = Field(None, description="folder of real pictures to compare on")
    seed: int = Field(0, description="of the patterns used without pictures")
    fresh: Annotated[bool, Decides.NOTHING] = False
    parity: ParitySettings = ParitySettings()
    latency: Annotated[LatencySettings, Decides.NOTHING] = LatencySettings()

    @field_validator("image_size", mode="before")
    @classmethod
    def _read_image_size(cls, value: Any) -> Any:
        if isinstance(value, str):
            found = re.fullmatch(r"\s*(\d+)(?:\s*[xX×,]\s*(\d+))?\s*", value)
            if found is None:
                raise ValueError(f"{value!r} is not a size; write 640, or 384x640 for height x width")
            value = [int(number) for number in found.groups() if number is not None]
        if isinstance(value, int):
            value = [value]
        return [value[0], value[0]] if isinstance(value, (list, tuple)) and len(value) == 1 else value

    @field_validator("image_size")
    @classmethod
    def _positive_image_size(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and min(value) < 32:
            raise ValueError("must be at least 32 pixels in height and width")
        return value
