"""What every task's evaluator keeps to, and what the detector's adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar, cast

import numpy as np
import pytest
import torch
from torch import nn

from marauder.core.clock import Clock
from marauder.core.files import fingerprint
from marauder.critical.runtime import CriticalRuntime, Specialised
from marauder.critical.settings import CriticalSettings
from marauder.data.pictures import PictureStore
from marauder.data.reading import read_dataset
from marauder.data.records import Detections, Record
from marauder.data.slices.mask import SliceMask
from marauder.data.slices.resolve import automatic_slices
from marauder.engine.state import Outcome
from marauder.evaluation.critical_metrics import TIER_METRICS
from marauder.evaluation.evaluate import evaluate
from marauder.gates.regression import RegressionSettings
from marauder.models.files import load_detector, save_detector
from marauder.models.ultralytics_adapter import build_detector
from marauder.prediction.folder_description import FolderDescription, write_predictor_folder
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.prediction.settings import MEASURING
from marauder.registry.base import ModelVersion
from marauder.runs.recipes import load_run_settings
from marauder.runs.task_runtime import Evaluator, Findings, Production
from marauder.tasks.detection.evaluate_split import evaluate_split, other_classes
from marauder.tasks.detection.evaluator import DetectionEvaluator
from marauder.tasks.detection.results import finds_nothing
from marauder.tasks.detection.runtime import DetectionRuntime
from marauder.tasks.detection.settings import EPOCH_METRICS, DetectionSettings
from marauder.testing.evaluators import EvaluatorContract
from marauder.testing.lively_detectors import lively_detector

AnySettings = TypeVar("AnySettings", bound=DetectionSettings)


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
    assert other_classes(Path("best.pt"), ("ray", "fish", "ray"), ("fish", "ray")) == "best.pt names ray twice"
    assert other_classes(Path("best.pt"), ("ray", "fish"), ("ray", "ray", "fish")) == "the data set names ray twice"
    with pytest.raises(ValueError, match="are the classes"):
        other_classes(Path("best.pt"), ("ray", "fish"), ("fish", "ray"))


@pytest.fixture(scope="module")
def turned(small_reef: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with ``best.safetensors``, and in ``other`` the same detector in another order."""
    folder = tmp_path_factory.mktemp("turned")
    names = read_dataset(small_reef).names
    inputs = np.random.default_rng(2).random((2, 3, 64, 64), np.float32)
    model = lively_detector("yolov8t", names, inputs)
    save_detector(model, folder / "best", 64, {})
    order = [2, 0, 1]
    for branch in model.model[-1].cv3:
        for values in (branch[-1].weight.data, branch[-1].bias.data):
            values.copy_(values[order].clone())
    model.names = {place: names[number] for place, number in enumerate(order)}
    save_detector(model, folder / "other" / "best", 64, {})
    assert load_detector(folder / "other" / "best.safetensors").names == (names[2], names[0], names[1])
    return folder


class TestClassesInAnotherOrder:
    """The same detector with its classes in another order is measured the same."""

    def test_a_calibrated_predictor_folder_is_evaluated(self, small_reef: Path, turned: Path) -> None:
        dataset, plain = read_dataset(small_reef), turned / "best.safetensors"
        found = []
        for weights in (plain, turned / "other" / "best.safetensors"):
            names = load_detector(weights).names
            curves = {name: (np.array([0.0, 1.0]), np.array([0.0, 0.3 * (number + 1)])) for number, name in
                      enumerate(dataset.names)}  # fmt: skip
            calibration = ScoreCalibration(names, tuple(curves[name] for name in names), ("logistic",) * 3, {})
            said = FolderDescription("", calibration=calibration)
            folder = write_predictor_folder(weights.parent / "predictor", weights, said)
            found.append(evaluate_split(folder, dataset, "test", torch.device("cpu"), None))
        first, second = (one.result.overall for one in found)
        assert first.confidence == second.confidence and first.per_class == second.per_class
        assert sum(map(len, found[0].detections)) and max(one.scores.max() for one in found[0].detections) <= 0.9

    def test_production_is_compared_class_by_class(self, small_reef: Path, turned: Path) -> None:
        runtime = DetectionRuntime(self.settings(DetectionSettings, small_reef, turned))
        self.open_and_measure(runtime, self.production(turned / "other"))
        assert runtime.production_problem == "" and runtime.production is not None and runtime.measured is not None
        before, now = runtime.production.result.overall, runtime.measured.result.overall
        assert before.per_class == now.per_class and now.map50 > 0
        evidence = runtime.evidence("regression", RegressionSettings(draws=200), self.production(turned), Clock())
        assert evidence.comparison is not None and evidence.comparison.overall.delta == 0

    def test_only_other_classes_are_incomparable(self, small_reef: Path, turned: Path, tmp_path: Path) -> None:
        runtime = DetectionRuntime(self.settings(DetectionSettings, small_reef, turned))
        runtime.open()
        assert runtime.incomparable(self.production(turned / "other")) == ""
        save_detector(build_detector("yolov8t", ("disc", "square", "ray")), tmp_path / "best", 64, {})
        why = runtime.incomparable(self.production(tmp_path))
        assert why.endswith("best.safetensors does not know cross and knows ray, which the data set lacks")
        assert "no such" in runtime.incomparable(self.production(tmp_path / "gone"))

    def test_the_detector_before_is_compared_class_by_class(self, small_reef: Path, turned: Path) -> None:
        settings = self.settings(CriticalSettings, small_reef, turned, "critical=[disc]")
        runtime = CriticalRuntime(settings, None)
        before = turned / "other" / "best.safetensors"
        runtime.specialised = cast("Specialised", SimpleNamespace(before=before))
        self.open_and_measure(runtime, None)
        assert runtime.before is not None and runtime.measured is not None
        assert runtime.before.result.overall.per_class == runtime.measured.result.overall.per_class
        assert runtime.measured.result.overall.map50 > 0

    def settings(self, kind: type[AnySettings], data: Path, folder: Path, *words: str) -> AnySettings:
        asked = ["id=x", "model=yolov8t", "image_size=64", "training.device=cpu", "evaluation.draws=20", *words]
        found = load_run_settings(kind, None, asked, data=data, output=folder)
        assert isinstance(found, kind)
        return found

    def production(self, folder: Path) -> Production:
        version = ModelVersion("reef", "1", "x", "", "pass", {}, {}, (), 0.0, str(folder))
        return Production(version, folder)

    def open_and_measure(self, runtime: DetectionRuntime, production: Production | None) -> None:
        runtime.open()
        findings = Findings(Outcome(1, 1, None, None, 1.0, [], False), production)
        runtime.measure(findings, torch.device("cpu"), Clock())


@pytest.mark.parametrize("score, useless", [(0.01, True), (0.9, False)])
def test_boxes_that_nobody_would_be_shown_are_nothing_found(small_reef: Path, score: float, useless: bool) -> None:
    dataset = read_dataset(small_reef)
    records = dataset.split("val").records
    found = [Detections(one.boxes, np.full(len(one.boxes), score), one.classes) for one in records]
    overall = evaluate(records, found, dataset.names).overall
    assert overall.map50 > 0.9
    assert bool(finds_nothing(overall)) is useless
