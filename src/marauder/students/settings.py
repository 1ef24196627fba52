"""Settings of a student: who teaches it, on which pictures, and what is made of the teacher's boxes. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from marauder.core.mistakes import Mistake
from marauder.core.setting_mistakes import NAME_PATTERN
from marauder.core.settings import COMMAS, Decides, Places, Settings
from marauder.ensembles.settings import CostSettings
from marauder.tasks.detection.loss_settings import TeachingUse
from marauder.tasks.detection.settings import DetectionSettings

REPORT_JSON, REPORT_PAGE = "student_report.json", "student_report.html"
NO_TEACHER = "name the detector that teaches: a predictor folder (of an ensemble, for example) or a model file"


class LessonSettings(Settings):
    """What is made of a box that the teacher found, whose score p says how probably it is right."""

    sure: float = Field(0.5, gt=0, le=1, description="boxes from this score up are learned, as far as they are trusted")
    doubt: float = Field(
        0.1, gt=0, le=1, description="from this score up to `sure` a box's place is ignored; below it is background"
    )
    missing: Literal["ignore", "learn", "background"] = Field(
        "ignore", description="what a box is that a labelled picture has no label for, from `doubt` (learn: `sure`) up"
    )
    trust: Literal["score", "whole"] = Field(
        "score", description="score: a box is learned as far as it is probably right; whole: like a label"
    )
    overlap: float = Field(
        0.5, gt=0, le=1, description="overlap (IoU) with a label, of any class, from which a box is of what is labelled"
    )
    batch: Annotated[int | None, Decides.NOTHING] = Field(
        None, ge=1, le=64, description="pictures the teacher looks at together; default: what suits the device"
    )

    @model_validator(mode="after")
    def _check(self) -> LessonSettings:
        if self.doubt > self.sure:
            raise ValueError(f"doubt, {self.doubt:g}, is above sure, {self.sure:g}")
        return self


class Teaching(TeachingUse):
    """What the training makes of the lessons, which this run leaves itself."""

    @property
    def is_off(self) -> bool:
        """The file comes from this run."""
        # Else the section would count as off, and changes to it would not make another run.
        return False


class StudentSettings(DetectionSettings):
    """A student as a run: a detection run whose training has lessons of a teacher. Which teacher and which pictures,
    counts by their content (``StudentRuntime.open``)."""

    continued_by: ClassVar[tuple[str, ...]] = ("student", "--config")

    project: str = Field("student", pattern=NAME_PATTERN, description="name of the model in tracker and registry")
    runs: Path = Field(Path("workspace/training/runs"), description="folder that holds the MLflow store of the runs")
    output: Path | None = Path("workspace/training/models/ensembles/student")
    teacher: Annotated[Path | None, Decides.PLACE] = Field(
        None, description="detector that teaches: a predictor folder, an ensemble's or another, or a model file"
    )
    unlabelled: Annotated[tuple[Path, ...], COMMAS, Decides.PLACE] = Field(
        (), description="pictures without labels to learn from, beside the data set's own: folders, data sets"
    )
    lessons: LessonSettings = LessonSettings()
    teaching: Teaching = Teaching()
    cost: Annotated[CostSettings, Decides.MEASUREMENT] = CostSettings()

    @model_validator(mode="after")
    def _check(self) -> StudentSettings:
        if self.teaching.file is not None:
            raise ValueError("teaching.file: this run makes its own lessons; leave the file out")
        return self

    def mistakes(self, places: Places) -> Iterable[Mistake]:
        """No teacher, and files that are not there."""
        # One that could not be read is a mistake of its own.
        if self.teacher is None and not places.gives("teacher"):
            yield places.mistake("teacher", NO_TEACHER)
        yield from self._missing(places)

    def _missing(self, places: Places) -> Iterator[Mistake]:
        if self.teacher is not None and places.missing(self.teacher):
            yield places.mistake("teacher", f"{self.teacher}: no such file or folder; check the path")
        for folder in self.unlabelled or ():
            if places.missing(folder):
                yield places.mistake("unlabelled", f"{folder}: no such file or folder; check the path")


class StudentSection(StudentSettings):
    """A student as part of the pipeline."""

    enabled: bool = Field(False, description="whether a student of the ensemble is trained")

    @property
    def is_off(self) -> bool:
        """Whether none is trained."""
        return not self.enabled

    def mistakes(self, places: Places) -> Iterable[Mistake]:
        """Files that are not there; an ensemble of the pipeline teaches where no teacher is named."""
        return self._missing(places) if self.enabled else ()
