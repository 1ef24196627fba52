"""Detection as step 7 judges it: before and after at several input sizes, and a report on what changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from marauder.core.clock import Clock
from marauder.core.plain import Plain
from marauder.data.manifests.pinning import DataPin
from marauder.multiscale.report import AtSizes, write_multi_scale_report
from marauder.runs.start_weights import read_start
from marauder.runs.task_runtime import Findings
from marauder.tasks.detection.evaluate_split import Measured, evaluate_split
from marauder.tasks.detection.runtime import DetectionRuntime


class MultiScaleRuntime(DetectionRuntime):
    """A detector trained on at changing sizes; its ``weights`` are the detector before."""

    sizes: AtSizes | None = None

    def measure(self, findings: Findings, device: torch.device, clock: Clock) -> Mapping[str, float]:
        """Also the detector before, and both at other input sizes."""
        metrics = super().measure(findings, device, clock)
        settings, measured = self.settings, self.measured
        assert measured is not None and settings.weights is not None
        before: dict[int, Measured] = {}
        after = {settings.image_size: measured}
        best = settings.folder / self.description.sealed_file
        for size in settings.multi_scale.measured_for(settings.image_size):
            before[size] = self._at(settings.weights, size, device, clock)
            if size not in after:
                after[size] = self._at(best, size, device, clock)
        self.sizes = AtSizes(settings.image_size, before, after)
        return metrics

    def report(self, findings: Findings, pinned: DataPin, clock: Clock) -> Path:
        """First what changed, then the report of every detection run."""
        assert self.sizes is not None
        write_multi_scale_report(self.settings.folder, self.sizes, self._about(), self.settings.evaluation.draws, clock)
        return super().report(findings, pinned, clock)

    def _at(self, weights: Path, size: int, device: torch.device, clock: Clock) -> Measured:
        # No slices but the whole: sizes are compared, and the report of the run has the slices.
        return evaluate_split(
            weights,
            self.data.dataset,
            self.split,
            device,
            clock,
            size,
            lambda _records, _names: (),
            self.settings.evaluation.least_confidence,
        )

    def _about(self) -> Plain:
        settings, start = self.settings, read_start(self.settings.folder)
        section = settings.multi_scale
        return {
            "title": f"{settings.project}: what changing sizes changed",
            "split": self.split,
            # The end of the path, not all of it: pages are passed on, and most detectors are called best.pt.
            "before_is": "/".join(Path(start.asked if start is not None else str(settings.weights)).parts[-2:]),
            "native": settings.image_size,
            "trained_sizes": list(section.set_for(settings.image_size)),
            "schedule": section.schedule,
        }
