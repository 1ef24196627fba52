"""Detection as step 5 judges it: the detector before specialising is measured too, and a report says what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import fingerprint
from marauder.core.plain import Plain
from marauder.critical.base_detector import check_classes
from marauder.critical.report import write_critical_report
from marauder.critical.settings import CriticalSettings
from marauder.critical.stages import Scored, judged_on_val
from marauder.data.manifests.pinning import DataPin, pin
from marauder.runs.task_runtime import Findings
from marauder.tasks.detection.class_weighting import check_critical_boxes
from marauder.tasks.detection.data import labelled
from marauder.tasks.detection.evaluate_split import Measured, evaluate_split
from marauder.tasks.detection.runtime import DetectionRuntime


@dataclass(frozen=True)
class Specialised:
    """How the stages went. ``before``: weights that they are compared with, and in words; ``mined``: by stage, hard
    negatives used and labels suspected to be missing."""

    stages: tuple[Scored, ...]
    chosen: Scored
    before: Path
    before_is: str
    floor: float | None
    mined: Mapping[str, tuple[int, int]]


class CriticalRuntime(DetectionRuntime):
    """Detectors specialised on critical classes.

    ``base_classes``: those of the base detector, where there is one. ``specialised`` is set once the stages are done.
    """

    settings: CriticalSettings

    def __init__(self, settings: CriticalSettings, base_classes: tuple[str, ...] | None) -> None:
        super().__init__(settings)
        self.base_classes = base_classes
        self.specialised: Specialised | None = None
        self.before: Measured | None = None

    @property
    def critical(self) -> tuple[str, ...]:
        """The critical classes, at least one."""
        return self.data.critical

    def open(self) -> str:
        """Also: there must be critical classes, boxes of them to learn from, and a base detector that can be used."""
        identity = super().open()
        # Before the checks of critical classes: with other classes their messages would mislead.
        check_classes(self.settings, self.base_classes, self.data.dataset.names)
        if not self.critical:
            raise UserError(
                f"{self.settings.data}: none of its classes ({', '.join(self.data.dataset.names)}) is of the "
                "taxonomy's tier critical; name the critical ones: --critical NAME,NAME"
            )
        dataset = self.data.dataset
        check_critical_boxes(self.critical, labelled(dataset.split("train")), dataset.names)
        more = self.settings.mining.unlabelled
        if self.settings.mining.count and more is not None:
            # As a setting it counts by the file that is named, which may only say where the pictures lie.
            identity = fingerprint([identity, pin(more, self.clock).fingerprint])
        return identity

    def measure(self, findings: Findings, device: torch.device, clock: Clock) -> Mapping[str, float]:
        """Also the detector before, on the same pictures."""
        assert self.specialised is not None
        metrics = super().measure(findings, device, clock)
        # At the run's size, not its own: only the weights may differ.
        self.before = evaluate_split(
            self.specialised.before,
            self.data.dataset,
            self.split,
            device,
            clock,
            self.settings.image_size,
            self.data.masks,
            self.settings.evaluation.least_confidence,
        )
        return metrics

    def report(self, findings: Findings, pinned: DataPin, clock: Clock) -> Path:
        """First what changed, then the report of every detection run."""
        assert self.before is not None and self.measured is not None and self.specialised is not None
        write_critical_report(
            self.settings.folder,
            self.before,
            self.measured,
            self.critical,
            self._about(),
            self.settings.evaluation.draws,
            clock,
        )
        return super().report(findings, pinned, clock)

    def _about(self) -> Plain:
        done = self.specialised
        assert done is not None
        return {
            "title": f"{self.settings.project}: what specialising changed",
            "split": self.split,
            "stage": done.chosen.part.name,
            "before_is": done.before_is,
            "floor": done.floor,
            "judged": judged_on_val(done.chosen.part, done.floor),
            "floor_given": self.settings.floor.value is not None,
            "best_metric": self.settings.training.best_metric,
            "stages": [_stage(one, *done.mined.get(one.part.name, (0, 0))) for one in done.stages],
        }


def _stage(stage: Scored, negatives: int, missing: int) -> Plain:
    part = stage.part
    return {
        "name": part.name,
        "epochs": part.epochs,
        "best_epoch": part.best_epoch,
        "score": stage.score,
        "negatives": negatives,
        "missing": missing,
    }
