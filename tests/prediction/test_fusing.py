"""Ways of fusing: their contract, and suppression against others; weighted boxes: tests/benchmarks/test_fusion.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from marauder.core.errors import UserError
from marauder.core.plugins import make, names
from marauder.data.records import Detections
from marauder.testing.fusions import FusionContract, scene, weights_of


@pytest.mark.parametrize("name", names("fusion"))
class TestFusions(FusionContract):
    """Marauder's own."""


def test_two_members_on_one_object_by_hand() -> None:
    """Scores 0.8 and 0.4: a third of the way from the first to the second, and the mean of both. What one of two sees
    counts half; a member that does not know the class changes neither."""
    first = Detections(np.array([[0.0, 0, 9, 9], [100, 100, 120, 120]]), np.array([0.8, 0.3]), np.array([0, 0]))
    second = Detections(np.array([[0.0, 0, 12, 9]]), np.array([0.4]), np.array([0]))
    way = make("fusion", "weighted_boxes")
    fused = way.fuse([first, second], np.ones((2, 1)))
    assert fused.boxes == pytest.approx(np.array([[0, 0, 10, 9], [100, 100, 120, 120]]))
    assert fused.scores == pytest.approx([0.6, 0.15])
    stranger = Detections(np.array([[0.0, 0, 9, 9]]), np.array([0.9]), np.array([1]))
    weights = np.array([[1.0, 0], [1, 0], [0, 1]])
    three = way.fuse([first, second, stranger], weights)
    assert three.scores[three.classes == 0] == pytest.approx([0.6, 0.15])
    assert three.scores[three.classes == 1] == pytest.approx([0.9])


def test_a_second_box_of_the_same_member_counts_as_a_box_and_not_as_a_member() -> None:
    twice = Detections(np.array([[0.0, 0, 10, 10], [0, 0, 10, 11]]), np.array([0.8, 0.6]), np.array([0, 0]))
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    by = {
        scoring: make("fusion", "weighted_boxes", {"scoring": scoring}).fuse([twice, nothing], np.ones((2, 1)))
        for scoring in ("avg", "box_and_model_avg")
    }
    assert by["avg"].scores == pytest.approx([0.7])
    assert by["box_and_model_avg"].scores == pytest.approx([0.35])


def plain_iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Of two boxes, as it is defined."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / (sum(areas) - shared)


def softened_by_the_book(found: Sequence[Detections], weights: np.ndarray, decay: str) -> list[tuple[float, int]]:
    """Figure 2 of the paper, box by box: scores that stay, with their class, falling."""
    left = [
        [float(score) * weights[member, kind] / weights[:, kind].max(), box.tolist(), int(kind)]
        for member, one in enumerate(found)
        for box, score, kind in zip(one.boxes, one.scores, one.classes, strict=True)
        if weights[member, kind] > 0
    ]
    kept = []
    while left:
        best = max(left, key=lambda one: one[0])
        left.remove(best)
        if best[0] < 0.001:
            break
        kept.append((best[0], best[2]))
        for one in left:
            if one[2] == best[2]:
                overlap = plain_iou(best[1], one[1])
                fall = math.exp(-(overlap**2) / 0.3) if decay == "gaussian" else (1 - overlap if overlap > 0.4 else 1.0)
                one[0] *= fall
    return sorted(kept, reverse=True)


@pytest.mark.parametrize("decay", ["gaussian", "linear"])
def test_soft_suppression_is_that_of_the_paper(decay: str) -> None:
    way = make("fusion", "soft_nms", {"decay": decay, "sigma": 0.3, "overlap": 0.4})
    for seed in range(60):
        found, weights = scene(seed), weights_of(seed, 3)
        fused, expected = way.fuse(found, weights), softened_by_the_book(found, weights, decay)
        assert fused.scores == pytest.approx([score for score, _ in expected])
        assert fused.classes.tolist() == [kind for _, kind in expected]


def test_suppression_is_that_of_torchvision() -> None:
    import torch
    from torchvision.ops import batched_nms

    for seed in range(60):
        found, overlap = scene(seed), 0.3 + seed / 200
        fused = make("fusion", "nms", {"overlap": overlap}).fuse(found, np.ones((3, 3)))
        boxes = torch.from_numpy(np.concatenate([one.boxes for one in found]))
        scores = torch.from_numpy(np.concatenate([one.scores for one in found]))
        kept = batched_nms(boxes, scores, torch.from_numpy(np.concatenate([one.classes for one in found])), overlap)
        assert fused.scores == pytest.approx(scores[kept].numpy())
        np.testing.assert_allclose(fused.boxes, boxes[kept].numpy())


def test_settings_that_make_no_sense_are_named() -> None:
    with pytest.raises(UserError, match="overlap"):
        make("fusion", "weighted_boxes", {"overlap": 1.5}, "options")
    with pytest.raises(UserError, match="no fusion named"):
        make("fusion", "median")
