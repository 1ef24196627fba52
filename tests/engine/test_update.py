"""One update does not depend on how the global batch is cut, whether parts of the loss share a count or not."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing
from torch.optim import SGD

from marauder.engine.averaging import AveragedModel
from marauder.engine.distributed import Group, process_group
from marauder.engine.loader import share_of
from marauder.engine.settings import TrainingSettings
from marauder.engine.state import Position, TrainState
from marauder.engine.task import Batch, Criterion, LocalBatch, SampleContext, SampleKey
from marauder.engine.update import Updater
from marauder.models.loss_gains import LOSS_NAMES
from marauder.models.ultralytics_adapter import DetectionLossSums, build_detector, prepare

SIZE, SAMPLES = 64, 16
PLAIN = SampleContext()


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

    def context(self, epoch: int, step: int, epochs: int) -> SampleContext:
        return PLAIN

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
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


class TwoHeads(torch.nn.Module):
    """A trunk with two heads, ``dropout`` and batch normalisation between them."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.trunk = torch.nn.Linear(3, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.dropout = torch.nn.Dropout(dropout)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(8, 1), torch.nn.Linear(8, 2)])

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        rows = self.dropout(self.norm(self.trunk(images).tanh()))
        return [head(rows) for head in self.heads]


class TwoHeadsTask(DrawnTask):
    """Two parts of a loss whose counts differ: one counts marked samples, the other what the network itself says, so
    that it is known after the forward pass alone. ``shared``: both divide by the first count."""

    loss_names: tuple[str, ...] = ("marked", "weighted")

    def __init__(self, shared: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.shared, self.dropout, self.passes = shared, dropout, 0

    def build_model(self, seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return TwoHeads(self.dropout)

    def criterion(self, model: torch.nn.Module) -> Criterion:
        def loss(outputs: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            self.passes += 1
            first, second = outputs
            weights = second.detach().sigmoid()
            sums = torch.stack(
                [
                    ((first[:, 0] - batch["targets"]).square() * batch["marked"]).sum(),
                    (weights * (second - 1).square()).sum(),
                ]
            )
            counts = torch.stack([batch["marked"].sum(), weights.sum()])
            return sums, counts[0] if self.shared else counts

        return loss

    def load(self, keys: list[SampleKey], context: SampleContext) -> LocalBatch:
        random = torch.Generator().manual_seed(6)
        images = torch.randn(SAMPLES, 3, generator=random)
        marked = torch.tensor([1.0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1])
        return LocalBatch({"images": images, "targets": images.sum(1), "marked": marked}, keys)

    def cut(self, batch: Batch, start: int, stop: int) -> Batch:
        return {name: tensor[start:stop] for name, tensor in batch.items()}

    def inputs(self, batch: Batch) -> torch.Tensor:
        return batch["images"]


def updater_of(task: Any, micro: int, group: Group | None = None, frozen: bool = True) -> Updater:
    """An updater of a new model; ``frozen``: batch normalisation uses its running statistics, or a cut would show."""
    model = task.build_model(3).train()
    for module in model.modules():
        if frozen and isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    state = TrainState(
        model,
        AveragedModel(model, 0.5, 1.0),
        SGD(model.parameters(), lr=0.1),
        torch.amp.GradScaler("cpu", enabled=False),
        Position(micro_batch_size=micro),
    )
    settings = TrainingSettings.model_validate({"batch_size": SAMPLES, "optimizer": {"clip_norm": 1e9}})
    return Updater(task, state, group or Group(), settings, torch.float32, steps=1)


def updated_weights(
    micro: int, group: Group | None = None, make: Callable[[], Any] = DrawnTask
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Weights after one update of all samples, cut into pieces of ``micro``; with the sums and counts of the loss."""
    group, task = group or Group(), make()
    updater = updater_of(task, micro, group)
    share = share_of(SAMPLES, group.rank, group.size)
    own = task.cut(task.load([], PLAIN).tensors, share.start, share.stop)
    result = updater.update(own, share.stop - share.start, PLAIN)
    return {name: value.clone() for name, value in updater.state.model.state_dict().items()}, result.sums, result.counts


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
    batch = task.load([], PLAIN).tensors
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


@pytest.mark.parametrize("micro", [8, 4, 3, 1])
def test_parts_with_counts_of_their_own_do_not_see_the_cut_either(micro: int) -> None:
    start = TwoHeadsTask().build_model(3).state_dict()
    whole, sums, counts = updated_weights(SAMPLES, make=TwoHeadsTask)
    cut, sums_cut, counts_cut = updated_weights(micro, make=TwoHeadsTask)
    assert largest_relative_difference(whole, cut, start) < 1e-5
    torch.testing.assert_close((sums, counts), (sums_cut, counts_cut))
    assert float(counts[0]) == 9 and float(counts[1]) > 10, "the counts differ"


def test_each_part_is_divided_by_its_own_count() -> None:
    """The update is that of plain autograd on (samples x sum / count) of each part, over the whole batch."""
    task = TwoHeadsTask()
    updated = updated_weights(4, make=TwoHeadsTask)[0]
    model = updater_of(task, SAMPLES).state.model
    batch = task.load([], PLAIN).tensors
    sums, counts = task.criterion(model)(model(batch["images"]), batch)
    (SAMPLES * sums / counts).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(updated[name], parameter.detach() - 0.1 * parameter.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("micro", "passes"), [(SAMPLES, 1), (4, 4 + 3), (5, 4 + 3)])
def test_counting_costs_one_more_forward_pass_of_all_micro_batches_but_one(micro: int, passes: int) -> None:
    task = TwoHeadsTask()
    updater_of(task, micro).update(task.load([], PLAIN).tensors, SAMPLES, PLAIN)
    assert task.passes == passes
    shared = TwoHeadsTask(shared=True)
    updater_of(shared, micro).update(shared.load([], PLAIN).tensors, SAMPLES, PLAIN)
    assert shared.passes == math.ceil(SAMPLES / micro), "a shared count costs nothing"


def test_counting_leaves_no_trace_in_running_statistics_and_random_numbers() -> None:
    """Dropout and batch normalisation go on as where nothing is counted."""
    left = []
    for shared in (False, True):
        task = TwoHeadsTask(shared, dropout=0.5)
        torch.manual_seed(11)
        updater = updater_of(task, 4, frozen=False)
        updater.update(task.load([], PLAIN).tensors, SAMPLES, PLAIN)
        left.append((dict(updater.state.model.named_buffers()), torch.get_rng_state()))
    assert int(left[0][0]["norm.num_batches_tracked"]) == 4
    torch.testing.assert_close(left[0], left[1], rtol=0, atol=0)


def test_what_is_counted_before_is_what_counts() -> None:
    """With dropout a second pass would count otherwise, were its random numbers others."""
    task = TwoHeadsTask(dropout=0.5)
    seen: list[torch.Tensor] = []
    criterion = task.criterion

    def recorded(model: torch.nn.Module) -> Criterion:
        inner = criterion(model)

        def loss(outputs: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            sums, counts = inner(outputs, batch)
            seen.append(counts)
            return sums, counts

        return loss

    task.criterion = recorded  # type: ignore[method-assign]
    torch.manual_seed(11)
    updater_of(task, 4).update(task.load([], PLAIN).tensors, SAMPLES, PLAIN)
    first, counted, again = seen[0], seen[1:4], seen[4:]
    assert len(again) == 3 and all(map(torch.equal, counted, again)) and not torch.equal(first, counted[0])


def _rank(rank: int, size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    with process_group("cpu") as group:
        torch.save(updated_weights(3, group)[0], Path(folder) / f"{rank}.pt")
        torch.save(updated_weights(3, group, TwoHeadsTask)[0], Path(folder) / f"two_heads{rank}.pt")


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
    heads = [torch.load(tmp_path / f"two_heads{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    undivided = updated_weights(SAMPLES, make=TwoHeadsTask)[0]
    assert largest_relative_difference(undivided, heads[0], TwoHeadsTask().build_model(3).state_dict()) < 1e-5


def test_running_out_of_memory_leaves_everything_as_it_was() -> None:
    task = DrawnTask(memory=4)
    updater = updater_of(task, 8, frozen=False)
    model = updater.state.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = task.load([], PLAIN).tensors
    with pytest.raises(torch.OutOfMemoryError):
        updater.update(batch, SAMPLES, PLAIN)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    updater.state.position.micro_batch_size = 4
    updater.update(batch, SAMPLES, PLAIN)
    assert task.failures == 1


def test_larger_pictures_go_fewer_at_a_time_and_smaller_ones_more() -> None:
    def per_pass(size: int, micro: int) -> int:
        return SampleContext(image_size=size, base_image_size=640).samples_per_pass(micro)

    assert [per_pass(size, 16) for size in (640, 960, 1280, 320)] == [16, 7, 4, 64]
    assert per_pass(1280, 2) == 1, "one at least"
    assert SampleContext(closing=True).samples_per_pass(5) == 5
    for micro in range(1, 40):
        for size in range(320, 1281, 32):
            assert per_pass(size, micro) * size**2 <= micro * 640**2 or per_pass(size, micro) == 1
    with pytest.raises(ValueError, match="go together"):
        SampleContext(image_size=64)
    task = TwoHeadsTask(shared=True)
    updater = updater_of(task, 8)
    updater.update(task.load([], PLAIN).tensors, SAMPLES, SampleContext(image_size=128, base_image_size=64))
    assert task.passes == 8
