"""The detection loss as sums: equal to the stock loss for one batch, and the same however a batch is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from ultralytics.utils.loss import v8DetectionLoss

from marauder.core.randomness import stream
from marauder.models.loss_gains import LOSS_NAMES
from marauder.models.ultralytics_adapter import DetectionLossSums, DetectionModel, build_detector

NAMES = ("fish", "shark", "starfish")
PICTURES = 16
Batch = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    """A detector in training mode with BatchNorm frozen, as where results must not depend on the cut."""
    return freeze_statistics(build_detector("yolov8t", NAMES).train())


def freeze_statistics(model: DetectionModel) -> DetectionModel:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def make_batch(seed: int, pictures: int = PICTURES, most: int = 5) -> Batch:
    """Random pictures with 0 to ``most`` boxes each; about every fourth picture is empty."""
    draw = stream(seed, "loss-test")
    counts = draw.integers(0, most + 1, pictures) * (draw.random(pictures) > 0.25)
    rows = [index for index, count in enumerate(counts) for _ in range(count)]
    sizes = draw.uniform(0.08, 0.6, (len(rows), 2))
    centres = sizes / 2 + draw.random((len(rows), 2)) * (1 - sizes)
    boxes = torch.cat([torch.from_numpy(centres), torch.from_numpy(sizes)], dim=1)
    return {
        "img": torch.from_numpy(draw.random((pictures, 3, 64, 64))).float(),
        "batch_idx": torch.tensor(rows, dtype=torch.float32),
        "cls": torch.from_numpy(draw.integers(0, len(NAMES), (len(rows), 1))).float(),
        "bboxes": boxes.float().reshape(-1, 4),
    }


def part(batch: Batch, start: int, stop: int) -> Batch:
    """The pictures ``start`` to ``stop`` of a batch with their boxes."""
    chosen = (batch["batch_idx"] >= start) & (batch["batch_idx"] < stop)
    return {
        "img": batch["img"][start:stop],
        "batch_idx": batch["batch_idx"][chosen] - start,
        "cls": batch["cls"][chosen],
        "bboxes": batch["bboxes"][chosen],
    }


def sums_of(model: DetectionModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return DetectionLossSums(model).sums(model(batch["img"]), batch)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("evaluation", [False, True])
def test_sums_over_the_weight_are_the_stock_loss(model: DetectionModel, seed: int, evaluation: bool) -> None:
    batch = make_batch(seed)
    predictions = model.eval()(batch["img"]) if evaluation else model(batch["img"])
    freeze_statistics(model.train())
    stock_total, stock_parts = v8DetectionLoss(model)(predictions, batch)
    sums, weight = DetectionLossSums(model).sums(predictions, batch)
    assert float(weight) > 1, "a batch without positives compares nothing"
    torch.testing.assert_close(sums / weight, stock_total / PICTURES, rtol=1e-6, atol=1e-7)
    parts = stock_parts.values() if isinstance(stock_parts, dict) else stock_parts
    torch.testing.assert_close((sums / weight).detach(), torch.stack(list(parts)).flatten(), rtol=1e-6, atol=1e-7)
    assert len(sums) == len(LOSS_NAMES)


def gradients(model: DetectionModel, batch: Batch, cuts: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Loss and gradients of the whole batch, put together from the pieces between ``cuts``."""
    model.zero_grad()
    total, weight = torch.zeros(3), torch.zeros(())
    for start, stop in pairwise(cuts):
        sums, positives = sums_of(model, part(batch, start, stop))
        sums.sum().backward()
        total, weight = total + sums.detach(), weight + positives
    weight = weight.clamp(min=1)
    return total / weight, [p.grad / weight for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("seed", range(2))
def test_one_batch_of_16_and_four_of_4_give_the_same_update(model: DetectionModel, seed: int) -> None:
    batch = make_batch(seed)
    whole, whole_gradients = gradients(model, batch, [0, 16])
    pieces, piece_gradients = gradients(model, batch, [0, 4, 8, 12, 16])
    torch.testing.assert_close(whole, pieces, rtol=1e-5, atol=1e-6)
    scale = max(float(gradient.abs().max()) for gradient in whole_gradients)
    worst = max(float((a - b).abs().max()) for a, b in zip(whole_gradients, piece_gradients, strict=True))
    assert worst < 1e-5 * scale


@given(st.lists(st.integers(1, PICTURES - 1), max_size=5), st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_no_cut_changes_the_sums(model: DetectionModel, inner: list[int], seed: int) -> None:
    batch = make_batch(seed)
    cuts = sorted({0, PICTURES, *inner})
    with torch.no_grad():
        whole, weight = sums_of(model, batch)
        parts = [sums_of(model, part(batch, start, stop)) for start, stop in pairwise(cuts)]
    # A piece without positives weighs nothing, but its background scores count.
    torch.testing.assert_close(sum(sums for sums, _ in parts), whole, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(sum(piece for _, piece in parts), weight, rtol=1e-4, atol=1e-4)


def test_the_stock_loss_does_depend_on_the_cut(model: DetectionModel) -> None:
    batch = make_batch(1)
    with torch.no_grad():
        whole = v8DetectionLoss(model)(model(batch["img"]), batch)[0].sum()
        pieces = [part(batch, start, start + 4) for start in range(0, 16, 4)]
        summed = sum(v8DetectionLoss(model)(model(piece["img"]), piece)[0].sum() for piece in pieces)
    assert abs(float(whole - summed)) > 1e-3 * float(whole), "a hundred times what is allowed above"


def test_a_batch_without_any_box_has_background_loss_only(model: DetectionModel) -> None:
    batch = make_batch(0, most=0)
    sums, weight = sums_of(model, batch)
    assert float(weight) == 0
    box, cls, dfl = sums.tolist()
    assert box == dfl == 0 < cls
    sums.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
