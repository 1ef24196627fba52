"""What ``marauder evaluate`` does: which detector is measured on which pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from marauder.core.settings import Decides, Existing, Settings
from marauder.core.ultralytics_words import EVALUATING, answers
from marauder.engine.devices import CHOICES, Device
from marauder.models.naming import explain_missing
from marauder.runs.settings import ImageSize


class EvaluateSettings(Settings):
    """One measurement of a stored detector."""

    decides: ClassVar[Decides] = Decides.RESULT
    elsewhere = answers(EVALUATING)

    model: Annotated[Path, Existing(explain_missing)] = Field(description="detector to measure (.pt or .safetensors)")
    data: Annotated[Path, Existing()] = Field(
        description="labelled pictures: data.yaml, or any data set of docs/formats.md"
    )
    output: Annotated[Path, Decides.PLACE] = Field(description="folder for eval_report.json, figures and report.html")
    split: str = Field("test", description="split to measure on")
    image_size: ImageSize | None = Field(
        None, ge=32, description="pixels of the long side, a multiple of 32; default: as trained"
    )
    pictures: Annotated[Path | None, Existing()] = Field(
        None, description="folder of the pictures, where they are not beside their labels"
    )
    device: Annotated[Device, Decides.NOTHING] = Field("auto", description=CHOICES)
