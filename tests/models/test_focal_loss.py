"""The focal loss: the stock loss where it is neutral, the published weights where it is not, the same however cut."""

from __future__ import annotations

import math

import pytest
import torch
from test_detection_loss import NAMES, Batch, freeze_statistics, make_batch, part

from marauder.models.focal import FocalLoss
from marauder.models.ultralytics_adapter import DetectionLossSums, DetectionModel, build_detector


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    return freeze_statistics(build_detector("yolov8t", NAMES).train())


def sums(
    model: DetectionModel, batch: Batch, gamma: float, alpha: float, weights: list[float] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    loss = DetectionLossSums(model, classification=FocalLoss(gamma, alpha), class_weights=weights)
    return loss.sums(model(batch["img"]), batch)


@pytest.mark.parametrize("weights", [None, [1.0, 1.0, 1.0]])
def test_without_focus_it_is_the_stock_loss_to_the_last_bit(model: DetectionModel, weights: list[float] | None) -> None:
    batch = make_batch(1)
    stock, weight = DetectionLossSums(model).sums(model(batch["img"]), batch)
    neutral, same_weight = sums(model, batch, 0.0, 0.5, weights)
    assert torch.equal(stock, neutral) and torch.equal(weight, same_weight)
    assert float(weight) > 1


def test_only_the_classification_changes(model: DetectionModel) -> None:
    batch = make_batch(2)
    stock, weight = DetectionLossSums(model).sums(model(batch["img"]), batch)
    focal, same_weight = sums(model, batch, 2.0, 0.25)
    stock, focal = stock.detach(), focal.detach()
    assert torch.equal(stock[[0, 2]], focal[[0, 2]]) and torch.equal(weight, same_weight)
    assert 0 < float(focal[1]) < float(stock[1])


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_for_hard_labels_it_is_the_published_formula(gamma: float) -> None:
    scores = torch.linspace(-4, 4, 17, dtype=torch.float64)
    alpha = 0.25
    for label in (0.0, 1.0):
        ours = FocalLoss(gamma, alpha)(scores, torch.full_like(scores, label))
        p = scores.sigmoid()
        p_t, alpha_t = (p, alpha) if label else (1 - p, 1 - alpha)
        published = -alpha_t * (1 - p_t) ** gamma * p_t.log()
        torch.testing.assert_close(ours, 2 * published)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0])
def test_gradients_are_those_of_the_loss_and_finite_where_it_vanishes(gamma: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(40, dtype=torch.float64, requires_grad=True)
    targets = torch.rand(40, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: FocalLoss(gamma, 0.3)(x, targets), (scores,))
    at_target = torch.logit(targets).detach().requires_grad_()
    FocalLoss(gamma)(at_target, targets).sum().backward()
    assert at_target.grad is not None and torch.isfinite(at_target.grad).all()


def test_weights_of_classes_count_for_their_class_alone(model: DetectionModel) -> None:
    batch = make_batch(3)
    plain = sums(model, batch, 1.5, 0.5)[0][1]
    parts = [
        sums(model, batch, 1.5, 0.5, [3.0 if number == place else 1.0 for number in range(3)])[0][1] - plain
        for place in range(3)
    ]
    assert all(float(part) > 0 for part in parts)
    torch.testing.assert_close(sum(parts), 2 * plain, rtol=1e-4, atol=1e-4)


def test_no_cut_changes_the_sums(model: DetectionModel) -> None:
    batch = make_batch(4)
    with torch.no_grad():
        whole, weight = sums(model, batch, 2.0, 0.3, [1.0, 2.0, 4.0])
        parts = [
            sums(model, part(batch, a, b), 2.0, 0.3, [1.0, 2.0, 4.0]) for a, b in ((0, 3), (3, 4), (4, 11), (11, 16))
        ]
    torch.testing.assert_close(sum(one for one, _ in parts), whole, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(sum(one for _, one in parts), weight, rtol=1e-4, atol=1e-4)


def test_what_is_easy_is_faded_out() -> None:
    loss, targets = FocalLoss(2.0), torch.zeros(2)
    easy, hard = loss(torch.tensor([-4.0, 2.0]), targets).tolist()
    plain_easy, plain_hard = FocalLoss(0.0)(torch.tensor([-4.0, 2.0]), targets).tolist()
    assert easy / plain_easy < 0.001 and hard / plain_hard > 0.7
    assert math.isfinite(easy)
