"""Detection as a student's run judges it: the teacher is measured beside it, and a report says what was taught."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from marauder.core.clock import Clock
from marauder.core.files import fingerprint
from marauder.data.manifests.pinning import DataPin
from marauder.data.pictures import decode_picture
from marauder.ensembles.cost import Cost, measure_cost
from marauder.prediction.opening import open_predictor
from marauder.runs.task_runtime import Findings
from marauder.students.report import STUDENT, Compared, write_student_report
from marauder.students.settings import StudentSettings
from marauder.students.teacher import TeacherIs, evaluate_teacher, open_teacher
from marauder.students.unlabelled import Candidates, candidates
from marauder.tasks.detection.evaluate_split import Measured
from marauder.tasks.detection.runtime import DetectionRuntime


class StudentRuntime(DetectionRuntime):
    """Detectors taught by another. ``candidates``: pictures without labels, known once it is open."""

    settings: StudentSettings
    candidates: Candidates

    def __init__(self, settings: StudentSettings, teacher: TeacherIs) -> None:
        super().__init__(settings)
        self.teacher = teacher
        self.teacher_measured: Measured | None = None
        self.cost: Cost | None = None

    @property
    def lessons_folder(self) -> Path:
        """Where the lessons lie."""
        return self.settings.folder / "lessons"

    def open(self) -> str:
        """Also the pictures without labels. What a student is made of includes its teacher and these."""
        identity = super().open()
        self.candidates = candidates(self.data.dataset, self.settings.data, self.settings.unlabelled, self.clock)
        return fingerprint([identity, self.teacher.digest, self.candidates.identity()])

    def measure(self, findings: Findings, device: torch.device, clock: Clock) -> Mapping[str, float]:
        """Also the teacher, on the same pictures, and the time that both take."""
        metrics = super().measure(findings, device, clock)
        settings, dataset = self.settings, self.data.dataset
        teacher = open_teacher(self.teacher.path, dataset.names, device)
        least = settings.evaluation.least_confidence
        self.teacher_measured = evaluate_teacher(teacher, dataset, self.split, clock, least)
        if settings.cost.enabled:
            assert self.measured is not None
            some = [decode_picture(record.picture) for record in self.measured.records[: settings.cost.pictures]]
            student = open_predictor(settings.folder / self.description.sealed_file, device, settings.image_size)
            self.cost = measure_cost({STUDENT: student}, teacher.predictor, some, settings.cost, clock)
        return metrics

    def report(self, findings: Findings, pinned: DataPin, clock: Clock) -> Path:
        """First what was taught and what came of it, then the report of every detection run."""
        assert self.measured is not None and self.teacher_measured is not None
        compared = Compared(self.measured, self.teacher_measured, self.teacher, self.cost)
        write_student_report(self.settings, self.split, compared, self.lessons_folder, clock)
        return super().report(findings, pinned, clock)
