"""What a detection run knows once it is open and measured: the part of its kind that gate evidence and report read."""

from __future__ import annotations

from dataclasses import replace

from marauder.core.metrics import Metric
from marauder.core.wording import counted
from marauder.evaluation.comparison import Comparison, compare
from marauder.evaluation.intervals import OVERALL, Interval, bootstrap, intervals_by_slice
from marauder.evaluation.metrics import Metrics
from marauder.evaluation.reliability import Calibration, calibrate
from marauder.gates.floor import FloorEvidence
from marauder.gates.regression import RegressionSettings
from marauder.reporting.slice_table import FEW_GROUPS
from marauder.runs.task_runtime import TaskRuntime
from marauder.tasks.detection.data import DetectionData
from marauder.tasks.detection.evaluate_split import Measured
from marauder.tasks.detection.settings import DetectionSettings

LEAST_RECALL = 0.01
"""Recall at the operating point below which a detector finds nothing, whatever its average precision.

Boxes with scores below any that would be shown can reach an average precision of 0.1 by their place alone, where each
picture has one large animal in its middle.
"""


def finds_nothing(overall: Metrics) -> str:
    """Why a detector is of no use though its average precision is not 0; empty: it is of some."""
    if not overall.recall < LEAST_RECALL:
        return ""
    return f"no detection is right at its operating point, a score of {overall.confidence:.3g}"


class DetectionResults(TaskRuntime[DetectionSettings]):
    """The data of a detection run, its model and production's as measured on them, and what follows from both."""

    def __init__(self, settings: DetectionSettings) -> None:
        super().__init__(settings)
        self._data: DetectionData | None = None
        self.measured: Measured | None = None
        self.production: Measured | None = None
        self.production_problem = ""
        self.comparison: Comparison | None = None
        self._intervals: dict[str, Interval] | None = None

    @property
    def data(self) -> DetectionData:
        """The data, once ``open`` was called."""
        assert self._data is not None, "open() comes first"
        return self._data

    def compared(self, asked: RegressionSettings) -> Comparison | None:
        """The paired comparison with production, made once; ``None`` where there is none."""
        # Gate and report must say the same, and thousands of draws take a while.
        if self.comparison is None and self.production is not None and self.measured is not None:
            result = self.measured.result
            self.comparison = compare(
                result.matches,
                self.production.result.matches,
                self.measured.records,
                result.masks,
                asked.metric or self.description.headline(),
                draws=asked.draws,
                margin=asked.margin,
                least_groups=asked.least_groups,
                least_boxes=asked.least_boxes,
                confidences=(result.overall.confidence, self.production.result.overall.confidence),
            )
        return self.comparison

    def intervals(self) -> dict[str, Interval]:
        """95 % intervals of map50: ``overall`` and every slice, drawn over groups of pictures."""
        assert self.measured is not None
        if self._intervals is None:
            result, draws = self.measured.result, self.settings.evaluation.draws
            self._intervals = intervals_by_slice(
                result.matches, self.measured.records, result.masks, "map50", draws=draws
            )
        return dict(self._intervals)

    def learned(self, metric: Metric, value: float) -> FloorEvidence:
        """With its interval over clips or, where they are too few for one, over pictures."""
        assert self.measured is not None
        interval, drawn = self.intervals()[OVERALL], "clips"
        if interval.groups < FEW_GROUPS:
            # Too narrow, since pictures of a clip are alike; and still better than none.
            alone = [replace(one, group=one.key) for one in self.measured.records]
            draws = self.settings.evaluation.draws
            interval, drawn = bootstrap(self.measured.result.matches, alone, metric.name, draws), "pictures"
        found = replace(super().learned(metric, value), useless=finds_nothing(self.measured.result.overall))
        if interval.groups < FEW_GROUPS:
            few = counted(interval.groups, "labelled picture was", "labelled pictures were")
            return replace(found, unknown=f"only {few} measured on")
        return replace(found, low=interval.low, high=interval.high, drawn=f"{interval.groups} {drawn}")

    def calibration(self) -> Calibration:
        """How far scores are from what they promise, on all pictures."""
        assert self.measured is not None
        return calibrate(self.measured.result.matches, self.measured.result.overall.confidence)
