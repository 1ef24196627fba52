"""Settings of the generated reef."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from marauder.core.settings import Decides, Settings
from marauder.data.splits import DEFAULT_FRACTIONS, Fractions

FRAMES_PER_CLIP = 6


class SceneSettings(Settings):
    """What to generate, and where.

    ``output``: folder of the data set. ``count``: pictures in all. ``seed``: every picture is a function of it, the
    clip's and the frame's number, and the picture's size. ``width``, ``height``: pixels. ``clips``: over how many
    clips the pictures are spread (``None``: about six pictures a clip). ``keep_clean``: also keep the picture without
    water, in ``images_clean/``. ``quality``: of the JPEG files. ``fractions``: share of each split; clips stay whole.
    ``workers``: processes (``None``: as many as worth while). ``fresh``: start over.
    """

    decides: ClassVar[Decides] = Decides.RESULT

    output: Annotated[Path, Decides.PLACE]
    count: int = Field(400, ge=3)
    seed: int = Field(0, ge=0)
    width: int = Field(640, ge=96, le=4096)
    height: int = Field(480, ge=96, le=4096)
    clips: int | None = Field(None, ge=3)
    keep_clean: bool = False
    quality: int = Field(92, ge=1, le=100)
    fractions: Fractions = DEFAULT_FRACTIONS
    workers: Annotated[int | None, Decides.NOTHING] = Field(None, ge=1)
    fresh: Annotated[bool, Decides.NOTHING] = False

    @model_validator(mode="after")
    def _check_clips(self) -> SceneSettings:
        if self.clips is not None and self.clips > self.count:
            raise ValueError(f"{self.clips} clips need at least as many pictures, not {self.count}")
        if len(self.fractions) > self.number_of_clips:
            raise ValueError(f"{len(self.fractions)} splits need at least as many clips, not {self.number_of_clips}")
        return self

    @property
    def number_of_clips(self) -> int:
        """Clips, given or chosen."""
        return self.clips if self.clips is not None else max(3, round(self.count / FRAMES_PER_CLIP))

    def frames_of(self, clip: int) -> int:
        """Pictures of clip number ``clip`` (from 0)."""
        whole, rest = divmod(self.count, self.number_of_clips)
        return whole + (clip < rest)
