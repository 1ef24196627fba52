"""The section of step 6 in a pipeline: two ensembles, and the student that one of them teaches. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from marauder.core.settings import Settings
from marauder.ensembles.training_settings import EnsembleTrainingSettings, NanoSection, ShoreSection
from marauder.students.settings import StudentSection

TEACHERS = ("shore", "nano")
"""Which ensemble teaches: the first that is made."""


class EnsemblesSettings(Settings):
    """Step 6 of the pipeline: one ensemble or both, and a student."""

    nano: NanoSection
    shore: ShoreSection
    student: StudentSection

    @model_validator(mode="after")
    def _check(self) -> EnsemblesSettings:
        if not self.made and not self.student.enabled:
            raise ValueError("nano, shore and student are all off; leave the section out, or switch one on")
        if self.student.enabled and self._teacher is None:
            raise ValueError(
                "student: no ensemble is made that could teach it (nano and shore are off, or their assembly is); name "
                "a detector: student.teacher"
            )
        return self

    @property
    def made(self) -> dict[str, EnsembleTrainingSettings]:
        """The ensembles that are made, by name."""
        return {name: one for name, one in (("nano", self.nano), ("shore", self.shore)) if one.enabled}

    @property
    def taught(self) -> StudentSection | None:
        """The student with its teacher; ``None``: none is trained."""
        return self.student.changed({"teacher": self._teacher}) if self.student.enabled else None

    @property
    def _teacher(self) -> Path | None:
        """The teacher that is named, else the ensemble of this step that there will be."""
        fused = [self.made[kind].folder / "ensemble" for kind in TEACHERS if kind in self.made and self._fuses(kind)]
        return self.student.teacher or (fused[0] if fused else None)

    def _fuses(self, kind: str) -> bool:
        return self.made[kind].assembly.enabled
