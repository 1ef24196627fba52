"""The contract of ways of fusing, and made-up members to fuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.plugins import make
from marauder.data.records import Detections
from marauder.prediction.fusing.base import Fusion

CLASSES = 3
NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))


def scene(
    seed: int, members: int = 3, objects: int = 5, classes: int = CLASSES, boxes: int | None = None, level: bool = False
) -> list[Detections]:
    """What members find of the same objects in a picture of 640 pixels, some of it missed, doubled or of another class.

    ``boxes``: of each member; by default some. ``level``: whether scores are of a few steps, so that many are equal.
    """
    random = np.random.default_rng(seed)
    centres, sides = random.uniform(60, 580, (objects, 2)), random.uniform(20, 110, (objects, 2))
    kinds = random.integers(0, classes, objects)
    found = []
    for _ in range(members):
        count = int(random.integers(0, 2 * objects)) if boxes is None else boxes
        which = random.integers(0, objects, count)
        corners = np.concatenate([centres[which] - sides[which] / 2, centres[which] + sides[which] / 2], axis=1)
        corners = np.sort((corners + random.normal(0, 5, (count, 4))).reshape(count, 2, 2), axis=1).reshape(count, 4)
        scores = random.uniform(0.02, 1.0, count)
        scores = np.ceil(5 * scores) / 5 if level else scores
        other = random.random(count) < 0.1
        classes_of = np.where(other, random.integers(0, classes, count), kinds[which])
        order = np.argsort(-scores, kind="stable")
        found.append(Detections(corners[order], scores[order], classes_of[order]))
    return found


def weights_of(seed: int, members: int, classes: int = CLASSES) -> np.ndarray:
    """Weights (K, C) of all sizes; some members do not know some classes."""
    random = np.random.default_rng(seed + 1)
    return np.where(random.random((members, classes)) < 0.2, 0.0, random.uniform(0.1, 3.0, (members, classes)))


def same(first: Detections, second: Detections) -> bool:
    """Whether both are the same boxes in the same order, but for rounding."""
    return (
        len(first) == len(second)
        and np.allclose(first.boxes, second.boxes, atol=1e-9)
        and np.allclose(first.scores, second.scores, atol=1e-12)
        and np.array_equal(first.classes, second.classes)
    )


def only(found: Sequence[Detections], weights: np.ndarray) -> list[Detections]:
    """``found`` without the boxes of classes that their member does not know."""
    kept = []
    for one, row in zip(found, weights, strict=True):
        known = row[one.classes] > 0
        kept.append(Detections(one.boxes[known], one.scores[known], one.classes[known]))
    return kept


class FusionContract:
    """What every way of fusing promises. A subclass is parametrized over ``name``."""

    def way(self, name: str, **options: Any) -> Fusion[Any]:
        """The way of this name."""
        made: Fusion[Any] = make("fusion", name, options)
        assert made.name == name
        return made

    def test_what_is_tried_are_settings_of_it(self, name: str) -> None:
        for setting, values in self.way(name).tried.items():
            assert len(values) == len(set(values))
            # The usual one comes first.
            assert values[0] == getattr(self.way(name).settings, setting)
            for value in values:
                assert getattr(self.way(name, **{setting: value}).settings, setting) == value

    def test_of_nothing_comes_nothing(self, name: str) -> None:
        for found in ([NOTHING], [NOTHING] * 3):
            assert len(self.way(name).fuse(found, np.ones((len(found), CLASSES)))) == 0

    @pytest.mark.parametrize("weight", [0.3, 1.0, 7.0])
    def test_a_box_of_one_member_stays_what_it_is(self, name: str, weight: float) -> None:
        box = Detections(np.array([[10.0, 20, 50, 40]]), np.array([0.7]), np.array([1]))
        assert same(self.way(name).fuse([box], np.full((1, CLASSES), weight)), box)

    @given(seed=st.integers(0, 100_000), members=st.integers(1, 5))
    def test_scores_fall_and_boxes_lie_within_those_they_are_made_of(self, name: str, seed: int, members: int) -> None:
        found, weights = scene(seed, members), weights_of(seed, members)
        fused = self.way(name).fuse(found, weights)
        assert np.all(np.diff(fused.scores) <= 0)
        assert np.all((fused.scores > 0) & (fused.scores <= 1))
        known = only(found, weights)
        boxes = np.concatenate([one.boxes for one in known])
        classes = np.concatenate([one.classes for one in known])
        assert len(fused) <= len(boxes)
        for box, number in zip(fused.boxes, fused.classes, strict=True):
            own = boxes[classes == number]
            near = own[(own[:, 0] < box[2]) & (own[:, 2] > box[0]) & (own[:, 1] < box[3]) & (own[:, 3] > box[1])]
            assert np.all(near[:, :2].min(axis=0) <= box[:2] + 1e-9)
            assert np.all(near[:, 2:].max(axis=0) >= box[2:] - 1e-9)
            # Every class is fused by itself.
            assert len(near)

    @given(seed=st.integers(0, 100_000), level=st.booleans())
    def test_the_order_of_members_does_not_matter_even_where_scores_are_equal(
        self, name: str, seed: int, level: bool
    ) -> None:
        found, weights = scene(seed, 4, level=level), weights_of(seed, 4)
        order = np.random.default_rng(seed).permutation(4)
        turned = self.way(name).fuse([found[place] for place in order], weights[order])
        assert same(turned, self.way(name).fuse(found, weights))

    @given(seed=st.integers(0, 100_000))
    def test_only_proportions_of_weights_matter(self, name: str, seed: int) -> None:
        found, weights = scene(seed), weights_of(seed, 3)
        assert same(self.way(name).fuse(found, 4 * weights), self.way(name).fuse(found, weights))

    @given(seed=st.integers(0, 100_000))
    def test_who_does_not_know_a_class_is_as_good_as_absent(self, name: str, seed: int) -> None:
        found, weights = scene(seed), weights_of(seed, 3)
        weights[2] = 0.0
        assert same(self.way(name).fuse(found, weights), self.way(name).fuse(found[:2], weights[:2]))
        # What it says of classes that it does not know does not count.
        assert same(self.way(name).fuse(only(found, weights), weights), self.way(name).fuse(found, weights))

    def test_several_looks_at_one_object_become_one_box(self, name: str) -> None:
        box = np.array([[10.0, 20, 50, 40]])
        found = [Detections(box, np.array([score]), np.array([0])) for score in (0.9, 0.6, 0.8)]
        fused = self.way(name).fuse(found, np.ones((3, 1)))
        np.testing.assert_allclose(fused.boxes[0], box[0])
        assert fused.scores[0] >= 0.75
        # What soft suppression leaves of a second one is faint.
        assert np.all(fused.scores[1:] < 0.2)

    def test_boxes_without_an_area_are_left_out(self, name: str) -> None:
        flat = Detections(np.array([[5.0, 5, 5, 9], [1, 1, 4, 4]]), np.array([0.9, 0.5]), np.array([0, 0]))
        assert self.way(name).fuse([flat], np.ones((1, 1))).boxes.tolist() == [[1, 1, 4, 4]]
