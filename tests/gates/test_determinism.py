"""Two short runs: equal where everything is keyed, told apart where a model, a loss or a loader draws on its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tasks import PointsTask
from torch import nn

from marauder.data.reading import read_dataset
from marauder.engine.settings import TrainingSettings
from marauder.engine.smoke import SmokeResult, same_bits, two_short_runs
from marauder.gates.determinism import DeterminismEvidence, DeterminismGate, DeterminismSettings
from marauder.gates.verdict import Verdict
from marauder.imaging.augmentation import AugmentationSettings
from marauder.tasks.detection.training import DetectionPlan, DetectionTask

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(batch_size=4, device="cpu")


def judged(result: SmokeResult, device: str = "cpu", **settings: object) -> Verdict:
    gate = DeterminismGate(DeterminismSettings.model_validate(settings))
    return gate.judge(DeterminismEvidence.of(result, device))


def test_runs_of_one_seed_agree_and_do_learn() -> None:
    result = two_short_runs(PointsTask(), SETTINGS, CPU, steps=5, samples=4)
    assert result.exact and result.same_batches and result.steps == 5
    assert result.largest_difference == result.share_of_change == 0
    assert judged(result).answer == "pass"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_detector_on_real_pictures_agrees(shared_data: Path, precision: str) -> None:
    dataset = read_dataset(shared_data / "aquarium", format="yolo")
    records = dataset.records[:16]
    plan = DetectionPlan("yolov8t", dataset.names, records, records[:2], 64, 0, AugmentationSettings())
    settings = TrainingSettings.model_validate({"device": "cpu", "precision": precision})
    result = two_short_runs(DetectionTask(plan, None, 0), settings, CPU, samples=4)
    assert result.exact and result.same_batches and result.steps == 3


@pytest.mark.parametrize(
    "values",
    [
        torch.ones(1).expand(5),
        torch.zeros(1).expand(0),
        torch.as_strided(torch.ones(3), (1,), (0,)),
        torch.zeros(0, 4)[:, 0],
        torch.full((3, 2), torch.nan).t(),
    ],
)
def test_bits_are_compared_however_they_lie_in_memory(values: torch.Tensor) -> None:
    """Spread values and batches without a box are among what a loader hands over."""
    assert same_bits(values, values.clone()) and not same_bits(values, values[:0].double())
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))


def test_the_updates_do_change_the_weights() -> None:
    """Otherwise equal weights would prove nothing: other samples are seen in them."""

    class Unseeded(PointsTask):
        def load(self, keys, context):  # type: ignore[no-untyped-def]
            local = super().load(keys, context)
            local.tensors["y"] = local.tensors["y"] + torch.tensor(float(os.urandom(1)[0]))
            return local

    result = two_short_runs(Unseeded(), SETTINGS, CPU)
    assert not result.same_batches and not result.exact and result.largest_difference > 0
    verdict = judged(result)
    assert verdict.answer == "fail" and "other samples" in verdict.why


def test_a_model_that_ignores_the_seed_fails() -> None:
    class Unseeded(PointsTask):
        def build_model(self, seed: int) -> nn.Module:
            return super().build_model(int.from_bytes(os.urandom(4), "little"))

    result = two_short_runs(Unseeded(), SETTINGS, CPU)
    assert result.same_batches and not result.exact and result.share_of_change > 0.5
    assert judged(result).answer == "fail" and judged(result, severity="warn").answer == "warn"


def test_a_loss_with_its_own_randomness_fails() -> None:
    own = np.random.default_rng()

    class Noisy(PointsTask):
        def criterion(self, model):  # type: ignore[no-untyped-def]
            inner = super().criterion(model)

            def loss(outputs, batch):  # type: ignore[no-untyped-def]
                return inner(outputs + torch.from_numpy(own.normal(size=(len(outputs), 1))).float(), batch)

            return loss

    result = two_short_runs(Noisy(), SETTINGS, CPU)
    assert result.same_batches and 0 < result.largest_difference < 1 and result.share_of_change > 0.05
    assert judged(result).answer == "fail"
    assert judged(result, device="cuda").answer == "fail"
    assert judged(result, device="cuda", tolerance=2.0).answer == "pass", "a GPU has a tolerance, a CPU has none"
    assert judged(result, device="cpu", tolerance=2.0).answer == "fail"


def test_a_number_that_is_not_finite_on_one_side_is_infinitely_far() -> None:
    runs = iter((1.0, float("nan")))

    class Sometimes(PointsTask):
        def build_model(self, seed: int) -> nn.Module:
            model = super().build_model(seed)
            model.register_buffer("mark", torch.tensor(next(runs)))
            return model

    result = two_short_runs(Sometimes(), SETTINGS, CPU)
    assert result.largest_difference == float("inf") and not result.exact
    assert judged(result, device="cuda", tolerance=1e9).answer == "fail"


def test_a_data_set_smaller_than_a_batch_does() -> None:
    class Few(PointsTask):
        training_length = 3

    assert two_short_runs(Few(), SETTINGS, CPU, steps=4, samples=8).exact
