"""One update does not depend on how the global batch is cut."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import multiprocessing
from torch.optim import SGD

from marauder.engine.averaging import AveragedModel
from marauder.engine.distributed import Group, process_group
from marauder.engine.loader import share_of
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import Position, TrainState
from marauder.engine.task import Batch, LocalBatch, SampleKey
from marauder.engine.update import Updater
from marauder.models.ultralytics_adapter import LOSS_NAMES, DetectionLossSums, build_detector, prepare

SIZE, SAMPLES = 64, 16


class DrawnTask:
    """Random pictures with random boxes, some with none; BatchNorm stays in evaluation mode."""

    loss_names: tuple[str, ...] = LOSS_NAMES
    training_length = SAMPLES

    def __init__(self, memory: int | None = None) -> None:
        self.memory = memory
        self.failures = 0
        self.told: list[tuple[int, int]] = []

    def build_model(self, seed: int) -> torch.nn.Module:
        return build_detector("yolov8t", ["a", "b", "c"], seed)

    def criterion(self, model: torch.nn.Module):
        return DetectionLossSums(model).sums

    def load(self, keys: list[SampleKey]) -> LocalBatch:
        random = torch.Generator().manual_seed(5)
        counts = [0, 3, 1, 7, 2, 0, 4, 1, 5, 2, 9, 0, 1, 3, 2, 6]
        numbers = torch.cat([torch.full((count,), float(number)) for number, count in enumerate(counts)])
        total = len(numbers)
        tensors = {
            "images": torch.randint(0, 256, (SAMPLES, SIZE, SIZE, 3), generator=random, dtype=torch.uint8),
            "batch_idx": numbers,
            "cls": torch.randint(0, 3, (total, 1), generator=random).float(),
            "bboxes": torch.cat(
                [
                    torch.rand(total, 2, generator=random) * 0.5 + 0.25,
                    torch.rand(total, 2, generator=random) * 0.4 + 0.1,
                ],
                1,
            ),
        }
        return LocalBatch(tensors, keys)

    def cut(self, batch: Batch, start: int, stop: int) -> Batch:
        if self.memory is not None and stop - start > self.memory:
            self.failures += 1
            raise torch.OutOfMemoryError("planted")
        chosen = (batch["batch_idx"] >= start) & (batch["batch_idx"] < stop)
        part = {name: batch[name][chosen] for name in ("batch_idx", "cls", "bboxes")}
        return {**part, "batch_idx": part["batch_idx"] - start, "images": batch["images"][start:stop]}

    def inputs(self, batch: Batch) -> torch.Tensor:
        return batch["images"].permute(0, 3, 1, 2).float() / 255

    def updated(self, model: torch.nn.Module, step: int, steps: int) -> None:
        self.told.append((step, steps))


def updated_weights(
    micro: int, group: Group | None = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Weights after one update of all samples, cut into pieces of ``micro``; with the sums and weight of the loss."""
    group = group or Group()
    task = DrawnTask()
    model = prepare(task.build_model(3), ["a", "b", "c"]).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    settings = TrainingSettings(batch_size=SAMPLES)
    optimizer = SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    state = TrainState(model, AveragedModel(model, 0.5, 1.0), optimizer, scaler, Position(micro_batch_size=micro))
    updater = Updater(task, state, group, settings, torch.float32, steps=1)
    share = share_of(SAMPLES, group.rank, group.size)
    batch = task.load([]).tensors
    own = task.cut(batch, share.start, share.stop)
    result = updater.update(own, share.stop - share.start)
    return {name: value.clone() for name, value in model.state_dict().items()}, result.sums, result.weight


def largest_relative_difference(
    a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], start: dict[str, torch.Tensor]
) -> float:
    """Largest difference of the two updates, relative to the largest update."""
    moved = max(float((a[name] - start[name]).abs().max()) for name in a if a[name].is_floating_point())
    return max(float((a[name] - b[name]).abs().max()) for name in a if a[name].is_floating_point()) / moved


@pytest.fixture(scope="module")
def whole() -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    return updated_weights(SAMPLES)[0]


@pytest.fixture(scope="module")
def start() -> dict[str, torch.Tensor]:
    return DrawnTask().build_model(3).state_dict()


@pytest.mark.parametrize("micro", [8, 4, 3, 1])
def test_micro_batches_give_the_same_update(whole, start, micro: int) -> None:
    assert largest_relative_difference(whole, updated_weights(micro)[0], start) < 1e-4


def test_the_stock_loss_is_not_invariant(start) -> None:
    """The reason for the sums: Ultralytics' own normaliser depends on the cut."""
    task, gradients = DrawnTask(), []
    batch = task.load([]).tensors
    for micro in (16, 4):
        model = prepare(task.build_model(3), ["a", "b", "c"]).eval()
        model.requires_grad_(True)
        for first in range(0, SAMPLES, micro):
            part = task.cut(batch, first, first + micro)
            loss, _ = model({**part, "img": task.inputs(part)})
            loss.sum().backward()
        gradients.append(
            torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
        )
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) > 0.01


def _rank(rank: int, size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    with process_group("cpu") as group:
        weights, _, _ = updated_weights(3, group)
        torch.save(weights, Path(folder) / f"{rank}.pt")


def test_two_ranks_give_the_same_update(whole, start, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_rank, args=(2, port, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(
        torch.equal(ranks[0][name], ranks[1][name]) for name, _ in build_detector("yolov8t", "abc").named_parameters()
    )
    assert largest_relative_difference(whole, ranks[0], start) < 1e-4


def test_running_out_of_memory_leaves_everything_as_it_was() -> None:
    task = DrawnTask(memory=4)
    model = prepare(task.build_model(3), ["a", "b", "c"]).train()
    settings = TrainingSettings(batch_size=SAMPLES)
    state = TrainState(
        model, AveragedModel(model, 0.5, 1.0), SGD(model.parameters(), lr=0.1),
        torch.amp.GradScaler("cpu", enabled=False), Position(micro_batch_size=8),
    )  # fmt: skip
    before = {name: value.clone() for name, value in model.state_dict().items()}
    updater = Updater(task, state, Group(), settings, torch.float32, steps=1)
    batch = task.load([]).tensors
    with pytest.raises(torch.OutOfMemoryError):
        updater.update(batch, SAMPLES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    state.position.micro_batch_size = 4
    updater.update(batch, SAMPLES)
    assert task.failures == 1
