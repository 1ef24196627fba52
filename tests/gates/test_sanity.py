"""One batch: a task that trains passes, and each way of not training is told; nothing is left behind."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from small_tasks import PointsTask
from torch import nn

from marauder.data.reading import read_dataset
from marauder.engine.settings import TrainingSettings
from marauder.engine.smoke import OneBatch, look_at_one_batch, two_short_runs
from marauder.gates.sanity import SanityEvidence, SanityGate, SanitySettings
from marauder.gates.verdict import Verdict
from marauder.imaging.augmentation import AugmentationSettings
from marauder.tasks.detection.training import DetectionPlan, DetectionTask

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(batch_size=4, device="cpu")


def judged(result: OneBatch, **settings: object) -> Verdict:
    return SanityGate(SanitySettings.model_validate(settings)).judge(SanityEvidence.of(result))


def test_a_task_that_trains_passes() -> None:
    result = look_at_one_batch(PointsTask(), SETTINGS, CPU)
    assert result.error is None and result.lowest_loss < result.first_loss
    assert result.gradient_norm > 0 and result.without_gradient == () and result.parameters == 4
    assert judged(result).answer == "pass"


def test_a_detector_on_real_pictures_passes(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "aquarium", format="yolo")
    records = dataset.records[:24]
    plan = DetectionPlan("yolov8t", dataset.names, records, records[:2], 64, 0, AugmentationSettings())
    result = look_at_one_batch(DetectionTask(plan, None, 0), SETTINGS, CPU)
    assert judged(result).answer == "pass", result


def test_a_loss_that_is_not_finite_fails() -> None:
    class Broken(PointsTask):
        def criterion(self, model):  # type: ignore[no-untyped-def]
            return lambda outputs, batch: ((outputs.log() - batch["y"]).sum().reshape(1), torch.tensor(4.0))

    result = look_at_one_batch(Broken(), SETTINGS, CPU)
    verdict = judged(result)
    assert verdict.answer == "fail" and "gradient norm" in verdict.why and "check the labels" in verdict.why
    assert judged(result, severity="warn").answer == "warn"


def test_a_loss_that_cannot_fall_fails() -> None:
    class Stuck(PointsTask):
        def criterion(self, model):  # type: ignore[no-untyped-def]
            return lambda outputs, batch: (outputs.sum().reshape(1) * 0 + 1, torch.tensor(4.0))

    verdict = judged(look_at_one_batch(Stuck(), SETTINGS, CPU))
    assert verdict.answer == "fail" and "did not fall" in verdict.why


def test_parameters_that_no_loss_reaches_are_warned_of() -> None:
    class Forgotten(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(1, 1), nn.Linear(1, 1)
            self.frozen = nn.Linear(1, 1).requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    class Task(PointsTask):
        def build_model(self, seed: int) -> nn.Module:
            return Forgotten()

    result = look_at_one_batch(Task(), SETTINGS, CPU)
    assert result.without_gradient == ("unused.weight", "unused.bias")
    verdict = judged(result)
    assert verdict.answer == "warn" and "unused.weight" in verdict.why
    assert judged(result, allow_without_gradient=2).answer == "pass"


def test_a_batch_without_anything_to_find_is_passed_over() -> None:
    """The first batch of the order has nothing to find; the gradient is that of one that has."""
    loads: list[int] = []

    class Sparse(PointsTask):
        def load(self, keys, context):  # type: ignore[no-untyped-def]
            local = super().load(keys, context)
            local.tensors["weight"] = torch.full((len(keys), 1), float(len(loads) >= 2))
            loads.append(len(keys))
            return local

        def criterion(self, model):  # type: ignore[no-untyped-def]
            def loss(outputs, batch):  # type: ignore[no-untyped-def]
                return ((outputs - batch["y"]) ** 2 * batch["weight"]).sum().reshape(1), batch["weight"].sum()

            return loss

    result = look_at_one_batch(Sparse(), SETTINGS, CPU)
    assert loads == [4, 4, 4] and result.error is None and result.gradient_norm > 0


def test_the_gate_does_not_trust_a_loss_that_rose() -> None:
    for first, lowest in ((1.0, 1.0), (1.0, 2.0), (1.0, math.nan)):
        assert judged(OneBatch(first, lowest, 1.0, (), 4, None)).answer == "fail"


@pytest.mark.parametrize("look", [look_at_one_batch, two_short_runs])
def test_nothing_is_left_behind(look: object) -> None:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    threads = torch.get_num_threads()
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    look(PointsTask(), SETTINGS, CPU)  # type: ignore[operator]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # type: ignore[index]
    assert torch.get_num_threads() == threads and torch.is_grad_enabled()
