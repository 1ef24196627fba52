"""How far boxes are learned: with all trusts 1 the plain loss to the last bit, else what is to be expected of it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detection_loss import Batch, freeze_statistics, make_batch, part

from marauder.models.focal import FocalLoss
from marauder.models.ignored_places import IGNORED_BOXES, IGNORED_INDEX
from marauder.models.trusts import TRUSTS, by_picture, of_cells
from marauder.models.ultralytics_adapter import DetectionLossSums, DetectionModel, build_detector

NAMES = ("fish", "shark", "starfish")


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    return freeze_statistics(build_detector("yolov8t", NAMES).train())


def trusted(batch: Batch, trusts: torch.Tensor | float) -> Batch:
    values = torch.full((len(batch["cls"]),), trusts) if isinstance(trusts, float) else trusts
    return {**batch, TRUSTS: values}


def outcome(model: DetectionModel, batch: Batch, focal: bool = False) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Sums and weight in one vector, and the gradients of the sums."""
    model.zero_grad()
    loss = DetectionLossSums(model, classification=FocalLoss(1.5, 0.4) if focal else None)
    sums, weight = loss.sums(model(batch["img"]), batch)
    sums.sum().backward()
    return torch.cat([sums.detach(), weight[None]]), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("focal", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_whole_trust_is_the_plain_loss_to_the_last_bit(model: DetectionModel, seed: int, focal: bool) -> None:
    plain, plain_gradients = outcome(model, make_batch(seed), focal)
    same, gradients = outcome(model, trusted(make_batch(seed), 1.0), focal)
    assert torch.equal(plain, same)
    assert all(torch.equal(a, b) for a, b in zip(plain_gradients, gradients, strict=True))


def test_a_loss_forgets_the_trusts_of_the_batch_before(model: DetectionModel) -> None:
    loss, batch = DetectionLossSums(model), make_batch(1)
    predictions = model(batch["img"])
    plain = loss.sums(predictions, batch)[0]
    assert not torch.equal(loss.sums(predictions, trusted(batch, 0.5))[0], plain)
    assert torch.equal(loss.sums(predictions, batch)[0], plain)


def test_it_is_the_expected_loss_over_right_and_wrong_boxes(model: DetectionModel) -> None:
    # One box: with probability p the loss of the box, else that of a place which is background for sure.
    batch = {
        "img": make_batch(0, 1)["img"],
        "batch_idx": torch.zeros(1),
        "cls": torch.ones(1, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.3]]),
    }
    p = 0.7
    right, wrong, between = (outcome(model, trusted(batch, value))[0] for value in (1.0, 0.0, p))
    assert float(right[3]) > 0 and float(wrong[3]) == 0
    torch.testing.assert_close(between, p * right + (1 - p) * wrong, rtol=1e-5, atol=1e-5)
    empty = {**batch, "batch_idx": torch.zeros(0), "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4)}
    torch.testing.assert_close(wrong, outcome(model, trusted(empty, torch.zeros(0)))[0], rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(1, 15), max_size=4), st.integers(0, 30), st.booleans())
@settings(max_examples=8, deadline=None)
def test_no_cut_changes_the_sums(model: DetectionModel, inner: list[int], seed: int, focal: bool) -> None:
    batch = make_batch(seed)
    trusts = torch.from_numpy(np.random.default_rng(seed).uniform(0.1, 1, len(batch["cls"]))).float()
    loss = DetectionLossSums(model, classification=FocalLoss(1.5, 0.4) if focal else None)
    cuts = sorted({0, len(batch["img"]), *inner})
    with torch.no_grad():
        whole = loss.sums(model(batch["img"]), trusted(batch, trusts))
        total, weight = torch.zeros(3), torch.zeros(())
        for start, stop in pairwise(cuts):
            chosen = (batch["batch_idx"] >= start) & (batch["batch_idx"] < stop)
            piece = trusted(part(batch, start, stop), trusts[chosen])
            sums, count = loss.sums(model(piece["img"]), piece)
            total, weight = total + sums, weight + count
    torch.testing.assert_close(total, whole[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(weight, whole[1], rtol=1e-4, atol=1e-4)


def test_it_goes_with_ignored_places(model: DetectionModel) -> None:
    batch = make_batch(2)
    everywhere = {
        IGNORED_INDEX: torch.arange(len(batch["img"])).float(),
        IGNORED_BOXES: torch.tensor([[0.5, 0.5, 1.0, 1.0]]).repeat(len(batch["img"]), 1),
    }
    plain = outcome(model, {**batch, **everywhere})[0]
    assert torch.equal(plain, outcome(model, trusted({**batch, **everywhere}, 1.0))[0])
    assert not torch.equal(plain, outcome(model, trusted({**batch, **everywhere}, 0.5))[0])


def test_each_cell_has_the_trust_of_its_box() -> None:
    index = torch.tensor([0.0, 0.0, 2.0])
    found = by_picture(index, torch.tensor([0.25, 0.5, 0.75]), 3, 2)
    assert found.tolist() == [[0.25, 0.5], [1, 1], [0.75, 1]]
    assert of_cells(found, torch.tensor([[1, 0], [0, 0], [0, 1]])).tolist() == [[0.5, 0.25], [1, 1], [0.75, 1]]
