"""The head's outputs before suppression are the model's own, and dropout in the head leaves no trace behind."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import nms

from marauder.core.errors import UserError
from marauder.models.dropout import dropout_seed, head_dropout
from marauder.models.raw_outputs import (
    ANCHORS_IN_ALL,
    RawOutputs,
    backbone_map,
    branches,
    decode_sides,
    finish,
    finish_scores,
    keep_candidates,
    run_branches,
    run_to_head,
)
from marauder.models.ultralytics_adapter import DetectionModel, build_detector, suppress
from marauder.prediction.candidates import most_boxes
from marauder.testing.lively_detectors import lively_detector

NAMES = ("fish", "ray", "star")


@pytest.fixture(scope="module", params=["yolov8t", "yolo11t"])
def detector(request: pytest.FixtureRequest) -> DetectionModel:
    return lively_detector(request.param, NAMES, pictures(4), seed=3)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def pictures(count: int) -> np.ndarray:
    random = np.random.default_rng(5)
    coarse = torch.from_numpy(random.random((count, 3, 12, 16), np.float32))
    return nn.functional.interpolate(coarse, size=(96, 128), mode="bicubic").clamp(0, 1).numpy()


def test_boxes_and_scores_are_those_of_the_model(detector: DetectionModel) -> None:
    images = torch.from_numpy(pictures(3))
    decoded = detector(images)[0]
    inputs = run_to_head(detector, images)
    raw = finish(detector, run_branches(detector, inputs.maps))
    centres, sizes = decoded[:, :2].transpose(1, 2), decoded[:, 2:4].transpose(1, 2)
    assert torch.allclose(raw.boxes, torch.cat([centres - sizes / 2, centres + sizes / 2], 2), atol=1e-3)
    assert torch.allclose(raw.scores, decoded[:, 4:].transpose(1, 2), atol=1e-5)


def test_features_are_the_embeddings(detector: DetectionModel) -> None:
    images = torch.from_numpy(pictures(2))
    pooled = nn.functional.normalize(backbone_map(detector, images).mean(dim=(2, 3)), dim=1)
    assert torch.allclose(run_to_head(detector, images).features, pooled, atol=1e-6)


def test_suppression_is_ultralytics_without_classes(detector: DetectionModel) -> None:
    """With one class left, suppression by class and without regard to it are the same."""
    images = torch.from_numpy(pictures(3))
    raw = finish(detector, run_branches(detector, run_to_head(detector, images).maps))
    best = raw.scores.amax(dim=2)
    sizes = raw.boxes[..., 2:] - raw.boxes[..., :2]
    centred = torch.cat([raw.boxes[..., :2] + sizes / 2, sizes, best[..., None]], dim=2).transpose(1, 2)
    expected = suppress(centred, 0.3, 0.6, 300)
    kept = keep_candidates(raw, 0.3, 0.6, 300)
    assert sum(len(chosen) for chosen in kept) > 10
    for place, chosen in enumerate(kept):
        assert torch.allclose(best[place][chosen], expected[place][:, 4], atol=1e-6)
        assert torch.all(torch.diff(best[place][chosen]) <= 0)


def test_a_common_class_crowds_out_no_rare_one() -> None:
    """Whatever number of better boxes there are of one class, the few of another are kept."""
    common, rare = 1500, 3
    corners = 20.0 * torch.stack(torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij"), -1).reshape(-1, 2)
    boxes = torch.cat([corners, corners + 10], 1)[: common + rare]
    scores = torch.zeros(common + rare, 2)
    scores[:common, 0] = torch.linspace(0.9, 0.5, common)
    scores[common:, 1] = torch.tensor([0.1, 0.3, 0.2])
    kept = keep_candidates(RawOutputs(boxes[None], scores[None], None), 0.05, 0.6, 100)[0].tolist()
    assert kept == [*range(97), common + 1, common + 2, common]


def test_many_classes_make_no_more_boxes_and_none_is_left_out() -> None:
    """80 classes, 100 separate boxes of each but the last, which has one, the faintest of all."""
    classes, each = 80, 100
    count = (classes - 1) * each + 1
    places = torch.arange(count)
    corners = 20.0 * torch.stack([places % 100, places // 100], 1)
    boxes = torch.cat([corners, corners + 10], 1)
    scores = torch.zeros(count, classes)
    scores[places, places // each] = torch.linspace(0.9, 0.1, count)
    most = most_boxes(classes)
    assert [most_boxes(number) for number in (1, 5, 10, 25, 80, 1000)] == [100, 100, 200, 500, 500, 500] and most == 500
    with patch("marauder.models.raw_outputs.nms", wraps=nms) as suppressed:
        kept = keep_candidates(RawOutputs(boxes[None], scores[None], None), 0.05, 0.6, most)[0]
    assert len(suppressed.call_args.args[0]) == ANCHORS_IN_ALL, "suppression takes the square of what goes in"
    assert len(kept) == most and torch.all(torch.diff(scores.amax(1)[kept]) < 0)
    assert kept[-1] == count - 1, "the only box of a class stays, however faint"
    shares = torch.bincount(kept // each, minlength=classes)
    assert shares[-1] == 1 and set(shares[:-1].tolist()) == {6, 7}, "the others share alike"
    assert all((kept[kept // each == kind] % each).tolist() == [*range(shares[kind])] for kind in range(classes))


class TestSides:
    """The mean of the distribution of a side, and how unsure it is."""

    def test_a_distance_on_one_bin_or_between_two_is_certain(self) -> None:
        shares = torch.tensor([[0, 1, 0, 0], [0, 0.25, 0.75, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 1.0]])
        logits = torch.log(shares.clamp(min=1e-20)).reshape(1, 1, 16)
        mean, deviation = decode_sides(logits, 4)
        assert mean[0, 0].tolist() == pytest.approx([1, 1.75, 0.5, 3], abs=1e-5)
        assert deviation is not None
        assert deviation[0, 0].tolist() == pytest.approx([0, 0, 0, 0], abs=2e-3)

    def test_a_spread_is_its_root_above_the_floor(self) -> None:
        shares = torch.tensor([[0.5, 0, 0, 0.5], [0.25, 0.25, 0.25, 0.25], [0.5, 0, 0.5, 0], [0.9, 0, 0, 0.1]])
        _, deviation = decode_sides(torch.log(shares.clamp(min=1e-20)).reshape(1, 1, 16), 4)
        places = np.arange(4)
        expected = []
        for row in shares.double().numpy():
            mean = (row * places).sum()
            floor = (mean % 1) * (1 - mean % 1)
            expected.append(np.sqrt((row * (places - mean) ** 2).sum() - floor))
        assert deviation is not None
        assert deviation[0, 0].tolist() == pytest.approx(expected, abs=1e-4)

    def test_one_bin_has_no_spread(self) -> None:
        distances = torch.rand(2, 5, 4)
        mean, deviation = decode_sides(distances, 1)
        assert deviation is None
        assert torch.equal(mean, distances)


class TestDropout:
    """Channels left out before the head's last convolutions."""

    def test_without_a_rate_nothing_changes_and_afterwards_nothing_is_left(self, detector: DetectionModel) -> None:
        images = torch.from_numpy(pictures(2))
        before = detector(images)[0]
        modules = [id(module) for module in detector.modules()]
        with head_dropout(detector, 0.0) as dropout:
            dropout.draw([1, 2])
            assert torch.equal(detector(images)[0], before)
        with pytest.raises(KeyError), head_dropout(detector, 0.5):
            raise KeyError("whatever happens inside")
        assert torch.equal(detector(images)[0], before)
        assert [id(module) for module in detector.modules()] == modules
        assert not any(module._forward_pre_hooks for module in detector.modules())

    def test_finishing_the_branches_is_the_whole_model_with_dropout(self, detector: DetectionModel) -> None:
        images = torch.from_numpy(pictures(2))
        features = run_branches(detector, run_to_head(detector, images).maps)
        with head_dropout(detector, 0.3) as dropout:
            dropout.draw([7, 8])
            short = finish_scores(detector, features)
            whole = detector(images)[0][:, 4:].transpose(1, 2)
        assert torch.allclose(short, whole, atol=1e-5)
        assert not torch.allclose(short, finish_scores(detector, features), atol=1e-3)

    def test_a_pass_depends_on_its_seed_alone(self, detector: DetectionModel) -> None:
        images = torch.from_numpy(pictures(3))
        features = run_branches(detector, run_to_head(detector, images).maps)
        alone = run_branches(detector, run_to_head(detector, images[1:2]).maps)
        seeds = [dropout_seed(0, key, 4) for key in ("a", "b", "c")]
        assert len(set(seeds) | {dropout_seed(0, "a", 5), dropout_seed(1, "a", 4)}) == 5
        with head_dropout(detector, 0.3) as dropout:
            dropout.draw(seeds)
            together = finish_scores(detector, features)[1]
            dropout.draw(seeds[1:2])
            assert torch.allclose(finish_scores(detector, alone)[0], together, atol=1e-5)

    def test_the_mean_of_many_passes_before_the_sigmoid_is_the_model(self, detector: DetectionModel) -> None:
        features = run_branches(detector, run_to_head(detector, torch.from_numpy(pictures(1))).maps)
        plain = finish_scores(detector, features).logit()
        with head_dropout(detector, 0.2) as dropout:
            passes = []
            for number in range(400):
                dropout.draw([number])
                passes.append(finish_scores(detector, features).logit())
        spread = torch.stack(passes).std(dim=0) / 20
        apart = (torch.stack(passes).mean(dim=0) - plain).abs() / spread.clamp(min=1e-3)
        assert apart.mean() < 1.5  # in standard errors

    def test_wrong_use_is_told(self, detector: DetectionModel) -> None:
        features = run_branches(detector, run_to_head(detector, torch.from_numpy(pictures(2))).maps)
        with head_dropout(detector, 0.3) as dropout:
            with pytest.raises(RuntimeError, match="draw"):
                finish_scores(detector, features)
            dropout.draw([1])
            with pytest.raises(RuntimeError, match="2"):
                finish_scores(detector, features)
        with pytest.raises(ValueError, match="rate"), head_dropout(detector, 1.0):
            pass
        odd = build_detector("yolov8t", NAMES)
        branches(odd)[1][0].append(nn.Identity())
        with pytest.raises(UserError, match="use-ensemble"), head_dropout(odd, 0.1):
            pass
