"""What every task's evaluator keeps to, and what the detector's adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from marauder.core.files import fingerprint
from marauder.data.pictures import PictureStore
from marauder.data.reading import read_dataset
from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.resolve import automatic_slices
from marauder.evaluation.critical_metrics import TIER_METRICS
from marauder.evaluation.evaluate import evaluate
from marauder.models.ultralytics_adapter import build_detector
from marauder.prediction.settings import MEASURING
from marauder.runs.task_runtime import Evaluator
from marauder.tasks.detection.evaluate_split import other_classes
from marauder.tasks.detection.evaluator import DetectionEvaluator
from marauder.tasks.detection.results import finds_nothing
from marauder.tasks.detection.settings import EPOCH_METRICS
from marauder.testing.evaluators import EvaluatorContract


def _slices(records: Sequence[Record], names: Sequence[str]) -> list[SliceMask]:
    return automatic_slices(records, names, minimum=1)


class TestDetectionEvaluator(EvaluatorContract):
    """The detector's."""

    @pytest.fixture
    def evaluator(self, small_reef: Path) -> DetectionEvaluator:
        """On the validation pictures, with slices by size and class."""
        dataset = read_dataset(small_reef)
        records = dataset.split("val").records
        store = PictureStore(records, 64, None, 0)
        return DetectionEvaluator(records, dataset.names, store, MEASURING, _slices)

    @pytest.fixture
    def model(self) -> nn.Module:
        """A small detector whose scores differ from picture to picture."""
        model = build_detector("yolov8t", ("disc", "square", "cross"), 3).train()
        for branch in model.model[-1].cv3:
            branch[-1].bias.data.add_(5.0)
        return model

    def test_it_measures_slices_classes_and_calibration(self, evaluator: Evaluator, model: nn.Module) -> None:
        score = evaluator.score([evaluator.predict(model, 0, 1, lambda: False)])
        assert set(EPOCH_METRICS) <= set(score)
        assert any(name.startswith("slice/") for name in score)
        assert any(name.startswith("ap50/") for name in score)
        assert "d_ece" in score
        assert len({fingerprint(value) for value in score.values()}) > 1


class TestDetectionEvaluatorWithCriticalClasses(TestDetectionEvaluator):
    """The same contract with critical classes and a floor on the others."""

    @pytest.fixture
    def evaluator(self, small_reef: Path) -> DetectionEvaluator:
        """On the validation pictures, the discs critical."""
        dataset = read_dataset(small_reef)
        records = dataset.split("val").records
        store = PictureStore(records, 64, None, 0)
        return DetectionEvaluator(records, dataset.names, store, MEASURING, _slices, ("disc",), 0.5)

    def test_it_measures_the_critical_classes_and_the_others(
        self, evaluator: DetectionEvaluator, model: nn.Module
    ) -> None:
        assert set(TIER_METRICS) <= set(evaluator.metric_names)
        score = evaluator.score([evaluator.predict(model, 0, 1, lambda: False)])
        assert score["others/map50"] < 0.5 and score["critical_with_floor"] == score["others/map50"]


def test_a_detector_of_other_classes_is_told_by_those_that_differ() -> None:
    known = other_classes(Path("best.pt"), ("ray", "whale"), ("fish", "ray"))
    assert known == "best.pt does not know fish and knows whale, which the data set lacks"
    assert other_classes(Path("best.pt"), ("ray",), ("fish", "ray")) == "best.pt does not know fish"


@pytest.mark.parametrize("score, useless", [(0.01, True), (0.9, False)])
def test_boxes_that_nobody_would_be_shown_are_nothing_found(small_reef: Path, score: float, useless: bool) -> None:
    dataset = read_dataset(small_reef)
    records = dataset.split("val").records
    found = [Detections(one.boxes, np.full(len(one.boxes), score), one.classes) for one in records]
    overall = evaluate(records, found, dataset.names).overall
    assert overall.map50 > 0.9
    assert bool(finds_nothing(overall)) is useless
