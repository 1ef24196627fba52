"""Settings of the mining of hard negatives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from marauder.core.decides import BY_CONTENT
from marauder.core.settings import Settings


class MiningSettings(Settings):
    """Where errors are looked for, which are kept, and what is left to a person."""

    unlabelled: Annotated[Path | None, BY_CONTENT] = Field(
        None, description="more pictures without labels: a data set or a folder"
    )
    reviewed: Annotated[Path | None, BY_CONTENT] = Field(
        None, description="suspected_missing.json in which a person wrote a verdict, background or missing, for each"
    )
    count: int = Field(2000, ge=0, description="hard negatives that training uses; 0: no mining")
    least_score: float = Field(0.1, gt=0, lt=1, description="detections below are ignored")
    precision: float = Field(
        0.9, gt=0, le=1, description="confident detections without a label at this precision count as missing labels"
    )
    most_age: int = Field(2, ge=0, description="minings for which an error that was not found again is kept")
    most_of_a_clip: int = Field(20, ge=1, description="errors of one pair of classes that a clip may give")
