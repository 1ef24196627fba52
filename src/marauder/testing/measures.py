"""The contract of measures of uncertainty, and evidence to measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.core.plugins import make
from marauder.selection.box_evidence import BoxEvidence
from marauder.selection.measures.base import Measure

CLASSES, MEMBERS, VIEWS = 4, 5, 2


def measure(name: str) -> Measure:
    """The measure of this name."""
    made: Measure = make("uncertainty", name)
    return made


def random_evidence(seed: int, boxes: int = 7) -> BoxEvidence:
    """Evidence of boxes with scores of all sizes, some members and views without a box."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 200, (boxes, 2))
    whole = np.concatenate([corners, corners + random.uniform(5, 80, (boxes, 2))], axis=1)
    # Most scores near 0, as a detector's are.
    members = random.beta(0.4, 1.0, (MEMBERS, boxes, CLASSES))
    members[random.random((MEMBERS, boxes)) < 0.2] = 0.0
    view_boxes = whole + random.normal(0, 4, (VIEWS + 1, boxes, 4))
    view_scores = random.beta(0.4, 1.0, (VIEWS + 1, boxes, CLASSES))
    gone = random.random((VIEWS + 1, boxes)) < 0.2
    view_boxes[gone], view_scores[gone] = np.nan, 0.0
    deviation = random.exponential(6, (boxes, 4))
    return BoxEvidence(whole, members.mean(axis=0), members, deviation, view_boxes, view_scores)


def settled_evidence(scores: np.ndarray) -> BoxEvidence:
    """Everyone says ``scores`` (N, C), sides are exact, views agree."""
    boxes = np.tile([10.0, 20.0, 50.0, 40.0], (len(scores), 1))
    return BoxEvidence(
        boxes,
        scores,
        np.repeat(scores[None], MEMBERS, axis=0),
        np.zeros((len(scores), 4)),
        np.repeat(boxes[None], VIEWS + 1, axis=0),
        np.repeat(scores[None], VIEWS + 1, axis=0),
    )


def doubt(amount: float) -> BoxEvidence:
    """One box about which doubt of every kind grows with ``amount``, 0 to 1: of class, among members, of sides."""
    sure = np.array([1.0, 0.0, 0.0, 0.0])
    other = np.array([0.0, 1.0, 0.0, 0.0])
    scores = (1 - amount / 2) * sure + amount / 2 * other
    # One member after the other says otherwise, and the more members do, the less of one mind they are.
    dissenting = round(amount * (MEMBERS // 2))
    members = np.stack([other if number < dissenting else sure for number in range(MEMBERS)])[:, None]
    boxes = np.array([[10.0, 20.0, 50.0, 40.0]])
    views = np.stack([boxes, *[boxes + np.array([10 * amount, 0, 10 * amount, 0])] * VIEWS])
    view_scores = np.stack([sure, *[(1 - amount) * sure + amount * other] * VIEWS])[:, None]
    return BoxEvidence(boxes, scores[None], members, np.full((1, 4), 8 * amount), views, view_scores)


class MeasureContract:
    """What every measure of uncertainty promises. A subclass is parametrized over ``name``."""

    def test_is_named_as_in_the_table(self, name: str) -> None:
        assert measure(name).name == name
        assert measure(name).needs in ("scores", "members", "sides", "views")

    @pytest.mark.parametrize("scores", [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    def test_is_zero_when_certain(self, name: str, scores: list[float]) -> None:
        assert measure(name).of_boxes(settled_evidence(np.array([scores], float))) == pytest.approx([0.0], abs=1e-9)

    def test_grows_with_doubt(self, name: str) -> None:
        values = [float(measure(name).of_boxes(doubt(amount))[0]) for amount in (0.0, 0.5, 1.0)]
        assert values[0] == pytest.approx(0, abs=1e-9)
        assert values[1] > 1e-3
        assert values[2] > values[1] + 1e-3

    @given(seed=st.integers(0, 10_000))
    def test_lies_in_its_range_and_gives_one_value_a_box(self, name: str, seed: int) -> None:
        values = measure(name).of_boxes(random_evidence(seed))
        assert values.shape == (7,)
        assert np.all(values >= 0)
        assert np.all(values <= measure(name).upper_limit(CLASSES, MEMBERS) + 1e-9)

    @given(seed=st.integers(0, 10_000))
    def test_does_not_depend_on_the_order_of_boxes_classes_and_members(self, name: str, seed: int) -> None:
        evidence = random_evidence(seed)
        random = np.random.default_rng(seed + 1)
        boxes, kinds, who = random.permutation(7), random.permutation(CLASSES), random.permutation(MEMBERS)
        assert evidence.members is not None and evidence.side_deviation is not None
        assert evidence.view_boxes is not None and evidence.view_scores is not None
        turned = BoxEvidence(
            evidence.boxes[boxes],
            evidence.scores[boxes][:, kinds],
            evidence.members[who][:, boxes][:, :, kinds],
            evidence.side_deviation[boxes],
            evidence.view_boxes[:, boxes],
            evidence.view_scores[:, boxes][:, :, kinds],
        )
        expected = measure(name).of_boxes(evidence)[boxes]
        assert np.allclose(measure(name).of_boxes(turned), expected, atol=1e-12)

    def test_a_picture_without_boxes_has_no_values(self, name: str) -> None:
        assert measure(name).of_boxes(random_evidence(0, boxes=0)).shape == (0,)

    def test_one_class_is_enough(self, name: str) -> None:
        whole = random_evidence(3)
        assert whole.members is not None and whole.view_scores is not None
        one = replace(
            whole, scores=whole.scores[:, :1], members=whole.members[..., :1], view_scores=whole.view_scores[..., :1]
        )
        values = measure(name).of_boxes(one)
        assert np.isfinite(values).all()
        assert np.all(values <= measure(name).upper_limit(1, MEMBERS) + 1e-9)

    def test_what_was_not_gathered_is_an_error_not_a_zero(self, name: str) -> None:
        bare = BoxEvidence(np.zeros((1, 4)), np.full((1, CLASSES), 0.5))
        if measure(name).needs == "scores":
            assert measure(name).of_boxes(bare)[0] > 0
        else:
            with pytest.raises(ValueError, match="evidence"):
                measure(name).of_boxes(bare)
