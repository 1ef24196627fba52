"""The settings of preprocessing: which folder, which method, how many processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, field_validator, model_validator

from marauder.core.files import fingerprint
from marauder.core.plain import Plain
from marauder.core.settings import Decides, Existing, Settings
from marauder.data.picture_files import DECODING_VERSION
from marauder.imaging.plan import METHODS, Plan

ENHANCEMENT_VERSION = 1
"""Raised whenever the same settings give other pixels, so that finished pictures are done again."""

MANUAL = "manual"


class PlanSettings(Settings):
    """Strengths of the stages for the method ``manual``; each default switches its stage off."""

    red: float = Field(0.0, ge=0, le=1)
    blue: float = Field(0.0, ge=0, le=1)
    white_balance: float = Field(0.0, ge=0, le=1)
    dehaze: float = Field(0.0, ge=0, le=1)
    clip_limit: float = Field(0.0, ge=0, le=8)
    gamma: float = Field(1.0, ge=0.3, le=3)


class PreprocessingSettings(Settings):
    """What ``marauder preprocess`` does.

    ``input``, ``output``: folders; the output keeps the input's tree. ``method``: a name of ``imaging.plan.METHODS``,
    or ``manual`` with the strengths in ``plan``. ``strength``: scales what ``auto`` chooses, 0..2. ``exact``: run every
    stage at full size. ``jpeg_quality``: of rewritten JPEG and WebP pictures, 1..100. ``clean``: folder of the clean
    pictures, same names, for PSNR and SSIM. ``workers``: processes, 0 for one a core. ``measure_side``: UIQM and UCIQE
    are measured with the longer side at this many pixels. ``kept_folders``: pictures below a folder of such a
    name are masks or labels and are copied as they are. ``sheet_pictures``: pictures shown in the report.
    ``fresh``: forget earlier runs.
    """

    decides: ClassVar[Decides] = Decides.RESULT

    input: Annotated[Path, Decides.PLACE, Existing()]
    output: Annotated[Path, Decides.PLACE]
    method: str = "auto"
    plan: PlanSettings | None = None
    strength: float = Field(1.0, ge=0, le=2)
    exact: bool = False
    jpeg_quality: int = Field(95, ge=1, le=100)
    clean: Path | None = None
    workers: Annotated[int, Decides.NOTHING] = Field(0, ge=0, le=256)
    measure_side: int = Field(128, ge=32, le=4096)
    kept_folders: tuple[str, ...] = ("labels", "masks", "annotations", "segmentationclass", "segmentationobject")
    sheet_pictures: int = Field(12, ge=0, le=200)
    fresh: Annotated[bool, Decides.NOTHING] = False

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str) -> str:
        if method not in (*METHODS, MANUAL):
            raise ValueError(f"no method named {method!r}; choose one of: {', '.join((*METHODS, MANUAL))}")
        return method

    @model_validator(mode="after")
    def _plan_belongs_to_manual(self) -> PreprocessingSettings:
        if (self.method == MANUAL) != (self.plan is not None):
            raise ValueError("the strengths in 'plan' and the method 'manual' go together: give both or neither")
        return self

    def worker_count(self) -> int:
        """Processes to use."""
        return self.workers or len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Recipe:
    """The part of the settings that decides a picture's pixels and figures; sent to the worker processes."""

    method: str
    plan: Plan | None
    strength: float
    exact: bool
    jpeg_quality: int
    measure_side: int

    @classmethod
    def of(cls, settings: PreprocessingSettings) -> Recipe:
        """The recipe in ``settings``."""
        plan = Plan(**settings.plan.model_dump()) if settings.plan is not None else None
        return cls(
            settings.method, plan, settings.strength, settings.exact, settings.jpeg_quality, settings.measure_side
        )

    def fingerprint(self) -> str:
        """Equal for recipes that give the same output."""
        fields: Plain = {name: getattr(self, name) for name in self.__slots__}
        fields["plan"] = self.plan.as_dict() if self.plan is not None else None
        return fingerprint({**fields, "version": [ENHANCEMENT_VERSION, DECODING_VERSION]})[:16]
