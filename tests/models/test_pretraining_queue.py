"""The queue of teacher keys and the followed centre: what they hold after updates, alone and over several ranks."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss.dino_loss import DINOLoss
from lightly.loss.ntx_ent_loss import NTXentLoss
from torch import distributed, multiprocessing
from torch.nn import functional

from marauder.models.pretraining.base import build_method
from marauder.models.pretraining.distillation import FollowedCenter
from marauder.models.pretraining.gathering import gather_rows
from marauder.models.pretraining.moco import KeyQueue, QueueContrast
from marauder.models.pretraining.settings import MethodSettings


@given(st.integers(1, 9), st.lists(st.lists(st.integers(0, 12), min_size=0, max_size=4), max_size=5))
@settings(max_examples=80, deadline=None)
def test_the_queue_holds_the_newest_keys(size: int, updates: list[list[int]]) -> None:
    queue = KeyQueue(size, 2)
    expected = queue.keys.clone()
    angle = 0.0
    for parts in updates:
        for length in parts:
            rows = torch.stack([torch.tensor([angle + 0.1 * i, 0.0]) for i in range(length)]) if length else None
            angle += 0.1 * length
            if rows is None:
                continue
            keys = torch.stack([torch.cos(rows[:, 0]), torch.sin(rows[:, 0])], dim=1)
            before = queue.keys.clone()
            queue.put_aside(3 * keys)
            assert torch.equal(queue.keys, before)  # nothing changes within an update
            expected = torch.cat([expected, keys])
        queue.take_in()
        torch.testing.assert_close(queue.keys, expected[-size:])


def test_contrast_is_lightlys_loss_row_by_row() -> None:
    torch.manual_seed(0)
    ours = QueueContrast(0.2, 32, 8)
    theirs = NTXentLoss(0.2, memory_bank_size=(32, 8))
    theirs.memory_bank.bank = ours.memory_bank.keys.clone()
    queries, keys = torch.randn(6, 8), torch.randn(6, 8)
    rows = ours(queries, keys)
    assert rows.shape == (6,)
    torch.testing.assert_close(rows.mean(), theirs(queries, keys))
    logits = functional.normalize(queries) @ ours.memory_bank.keys.T
    own = (functional.normalize(queries) * functional.normalize(keys)).sum(1, keepdim=True)
    by_hand = -torch.log_softmax(torch.cat([own, logits], dim=1) / 0.2, dim=1)[:, 0]
    torch.testing.assert_close(rows, by_hand)


def test_distillation_is_lightlys_loss_row_by_row() -> None:
    """Both orders of two views by ours, and Lightly's mean over them, with the same centre."""
    torch.manual_seed(0)
    method = build_method("distillation", "yolov8t", MethodSettings(prototypes=16), 0)
    center = torch.randn(1, 16)
    found = method.get_submodule("centers.global_p3")
    assert isinstance(found, FollowedCenter)
    found.center = center
    theirs = DINOLoss(16, teacher_temp=0.05, student_temp=0.1)
    theirs.center.data = center[None]
    student, teacher = [torch.randn(5, 16) for _ in range(2)], [torch.randn(5, 16) for _ in range(2)]
    ours = [method.compare("global_p3", student[1 - i], teacher[i]).mean() for i in range(2)]  # type: ignore[operator]
    torch.testing.assert_close(sum(ours) / 2, theirs(teacher, student))


def test_the_centre_moves_once_an_update() -> None:
    center = FollowedCenter(4, 0.9)
    rows = torch.randn(10, 4)
    center.put_aside(rows[:3])
    center.put_aside(rows[3:])
    assert torch.equal(center.value, torch.zeros(1, 4))
    center.take_in()
    torch.testing.assert_close(center.value, 0.1 * rows.mean(dim=0, keepdim=True))
    held = center.value.clone()
    center.take_in()  # an update in which nothing was seen
    assert torch.equal(center.value, held)


def _rank(rank: int, port: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    rows = torch.arange(2.0 * (rank + 2)).view(-1, 2) + 100 * rank
    torch.manual_seed(0)
    queue, center = KeyQueue(8, 2), FollowedCenter(2, 0.5)
    queue.put_aside(rows + 1)
    center.put_aside(rows)
    queue.take_in()
    center.take_in()
    torch.save([gather_rows(rows), queue.keys, center.value], Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_ranks_hold_the_same_keys_and_centre(tmp_path: Path) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    multiprocessing.spawn(_rank, (port, str(tmp_path)), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    every = torch.cat([torch.arange(4.0).view(-1, 2), torch.arange(6.0).view(-1, 2) + 100])
    for left, right in zip(one, other, strict=True):
        assert torch.equal(left, right)
    assert torch.equal(one[0], every)
    torch.testing.assert_close(one[1][-5:], functional.normalize(every + 1))
    torch.testing.assert_close(one[2], 0.5 * every.mean(dim=0, keepdim=True))


@pytest.mark.parametrize("name", ["moco", "distillation"])
def test_only_the_newest_of_many_small_parts_wait(name: str) -> None:
    """More micro-batches than a queue holds neither fail nor grow."""
    method = build_method(name, "yolov8t", MethodSettings(queue=16, prototypes=8, output=8), 0)
    matrices = torch.eye(3).expand(4, 2, 3, 3)
    with torch.no_grad():
        outputs = method(torch.rand(4, 2, 3, 64, 64))
        for _ in range(6):
            method.loss(outputs, {"matrices": matrices})
        method.updated(0, 5)
    assert all(bool(torch.isfinite(value).all()) for value in method.state_dict().values())
