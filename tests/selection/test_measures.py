"""Every measure of uncertainty keeps the contract, and each agrees with its formula written out another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from marauder.core.plugins import names
from marauder.selection.box_evidence import (
    BoxEvidence,
    class_distribution,
    jensen_shannon,
    presence,
    shannon_entropy,
)
from marauder.selection.measures.localisation_stability import MEAN_SHIFT
from marauder.selection.reduction import LEAST_DIFFICULTY, box_weights, class_weights, reduce_boxes
from marauder.testing.measures import (
    MeasureContract,
    measure,
    random_evidence,
)


@pytest.mark.parametrize("name", names("uncertainty"))
class TestEveryMeasure(MeasureContract):
    """All there are."""


class TestDistribution:
    """From independent sigmoids to one distribution."""

    @given(st.lists(st.floats(-12, 12), min_size=1, max_size=9))
    def test_is_the_softmax_of_the_logits_beside_zero(self, logits: list[float]) -> None:
        scores = 1 / (1 + np.exp(-np.array(logits)))
        assert np.allclose(class_distribution(scores), softmax([*logits, 0.0]), rtol=1e-9, atol=1e-12)

    @given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=6))
    def test_is_independent_bernoullis_given_at_most_one_is_there(self, scores: list[float]) -> None:
        shares = []
        for chosen in [*range(len(scores)), None]:
            shares.append(math.prod(s if place == chosen else 1 - s for place, s in enumerate(scores)))
        assert np.allclose(class_distribution(np.array(scores)), np.array(shares) / sum(shares), rtol=1e-9)

    def test_one_class_keeps_its_score(self) -> None:
        assert class_distribution(np.array([[0.3]])) == pytest.approx(np.array([[0.3, 0.7]]))

    def test_two_certain_classes_share(self) -> None:
        assert class_distribution(np.array([1.0, 1.0])) == pytest.approx([0.5, 0.5, 0.0], abs=1e-9)

    @given(st.integers(0, 1000))
    def test_entropy_and_divergence_are_scipys(self, seed: int) -> None:
        first, second = np.random.default_rng(seed).dirichlet(np.full(5, 0.3), 2)
        assert shannon_entropy(first) == pytest.approx(scipy_entropy(first), abs=1e-12)
        assert jensen_shannon(first, second) == pytest.approx(jensenshannon(first, second, base=2) ** 2, abs=1e-9)


class TestFormulas:
    """Values computed box by box, without the code under test."""

    @pytest.mark.parametrize("seed", range(5))
    def test_of_one_distribution(self, seed: int) -> None:
        evidence = random_evidence(seed)
        for box, scores in enumerate(np.clip(evidence.scores, 1e-9, 1 - 1e-9)):
            shares = softmax([*np.log(scores / (1 - scores)), 0.0])
            first, second = sorted(shares, reverse=True)[:2]
            assert measure("least_confidence").of_boxes(evidence)[box] == pytest.approx(1 - first, abs=1e-6)
            assert measure("margin").of_boxes(evidence)[box] == pytest.approx(1 - first + second, abs=1e-6)
            assert measure("entropy").of_boxes(evidence)[box] == pytest.approx(scipy_entropy(shares), abs=1e-6)

    @pytest.mark.parametrize("seed", range(5))
    def test_of_a_committee(self, seed: int) -> None:
        evidence = random_evidence(seed)
        assert evidence.members is not None
        for box in range(7):
            shares = class_distribution(evidence.members[:, box])
            together = scipy_entropy(shares.mean(axis=0))
            apart = np.mean([scipy_entropy(row) for row in shares])
            assert measure("predictive_entropy").of_boxes(evidence)[box] == pytest.approx(together, abs=1e-9)
            assert measure("mutual_information").of_boxes(evidence)[box] == pytest.approx(together - apart, abs=1e-9)
            votes = ["none" if not row.any() else str(row.argmax()) for row in evidence.members[:, box]]
            ratio = 1 - max(votes.count(vote) for vote in votes) / len(votes)
            there = np.mean([1 - row[-1] for row in shares])
            assert measure("variation_ratio").of_boxes(evidence)[box] == pytest.approx(there * ratio, abs=1e-9)

    @given(seed=st.integers(0, 10_000))
    def test_mutual_information_is_no_more_than_predictive_entropy(self, seed: int) -> None:
        evidence = random_evidence(seed)
        between = measure("mutual_information").of_boxes(evidence)
        assert np.all(between >= 0)
        assert np.all(between <= measure("predictive_entropy").of_boxes(evidence) + 1e-12)

    def test_members_that_are_sure_of_different_things_are_all_mutual_information(self) -> None:
        members = np.eye(2)[:, None, :]
        evidence = BoxEvidence(np.zeros((1, 4)), members.mean(axis=0), members)
        assert measure("mutual_information").of_boxes(evidence)[0] == pytest.approx(math.log(2), abs=1e-6)
        assert measure("variation_ratio").of_boxes(evidence)[0] == pytest.approx(0.5, abs=1e-6)

    def test_a_small_spread_of_a_side_is_the_loss_of_iou_it_means(self) -> None:
        random = np.random.default_rng(0)
        box, spread = np.array([0.0, 0.0, 100.0, 50.0]), np.array([0.5, 0.4, 0.0, 0.3])
        shifts = random.normal(0, spread, (20_000, 4))
        drawn = box + shifts
        sides = np.minimum(drawn[:, 2:], box[2:]) - np.maximum(drawn[:, :2], box[:2])
        overlap = sides.prod(axis=1)
        union = 100 * 50 + (drawn[:, 2:] - drawn[:, :2]).prod(axis=1) - overlap
        evidence = BoxEvidence(box[None], np.array([[1.0]]), side_deviation=spread[None])
        value = measure("localisation_stability").of_boxes(evidence)[0]
        assert value == pytest.approx(1 - (overlap / union).mean(), rel=0.05)
        assert value == pytest.approx(1 - np.exp(-MEAN_SHIFT * (0.5 / 100 + 0.4 / 50 + 0.3 / 50)), rel=1e-6)

    def test_consistency_by_hand(self) -> None:
        sure = np.array([[1.0, 0.0]])
        boxes = np.array([[[0.0, 0.0, 10.0, 10.0]], [[0.0, 0.0, 10.0, 5.0]], [[np.nan] * 4]])
        evidence = BoxEvidence(boxes[0], sure, view_boxes=boxes, view_scores=np.stack([sure, sure, sure * 0]))
        # In the first view half the box, of the same class; in the second nothing at all.
        expected = np.mean([1 - (0.5 + 1) / 2, 0.5 * (1 - (0 + 0) / 2)])
        assert measure("augmentation_consistency").of_boxes(evidence)[0] == pytest.approx(expected, abs=1e-6)


class TestReduction:
    """From boxes to a picture."""

    def test_by_hand(self) -> None:
        values, weights = np.array([0.1, 0.9, 0.4, 0.2]), np.array([1.0, 0.5, 2.0, 1.0])
        assert reduce_boxes(values, weights, "sum", 2) == pytest.approx(1.55)
        assert reduce_boxes(values, weights, "mean", 2) == pytest.approx(1.55 / 4)
        assert reduce_boxes(values, weights, "max", 2) == pytest.approx(0.8)
        assert reduce_boxes(values, weights, "top_k_mean", 2) == pytest.approx((0.8 + 0.45) / 2)
        assert reduce_boxes(values[:1], weights[:1], "top_k_mean", 5) == pytest.approx(0.1)

    @given(
        st.lists(st.floats(0, 2), min_size=1, max_size=20),
        st.sampled_from(["sum", "mean", "max", "top_k_mean"]),
        st.integers(1, 9),
    )
    def test_order_does_not_matter_and_one_more_doubt_does_not_lower(
        self, values: list[float], how: str, k: int
    ) -> None:
        array, ones = np.array(values), np.ones(len(values))
        base = reduce_boxes(array, ones, how, k)  # type: ignore[arg-type]
        assert reduce_boxes(array[::-1], ones, how, k) == pytest.approx(base)  # type: ignore[arg-type]
        assert reduce_boxes(array + 0.5, ones, how, k) > base  # type: ignore[arg-type]
        assert reduce_boxes(np.zeros(0), np.zeros(0), how, k) == 0  # type: ignore[arg-type]

    def test_difficult_and_critical_classes_weigh_more(self) -> None:
        weights = class_weights(["fish", "ray", "star", "seal"], {"fish": 0.9, "ray": 0.2, "seal": 1.0}, ["ray"], 2.0)
        middle = np.mean([0.9, 0.2, 1.0])
        assert weights == pytest.approx([0.1, 1.6, 1 - middle, LEAST_DIFFICULTY])
        assert class_weights(["fish", "ray"], None, ["ray"], 3.0) == pytest.approx([1.0, 3.0])

    def test_a_box_weighs_as_what_it_shows(self) -> None:
        weights = np.array([1.0, 3.0])
        scores = np.array([[0.9, 0.0], [0.0, 0.05], [0.5, 0.5], [0.0, 0.0]])
        assert box_weights(scores, weights) == pytest.approx([1.0, 3.0, 2.0, 2.0])

    def test_presence_is_what_is_not_none(self) -> None:
        assert presence(np.array([[0.0, 0.0], [1.0, 0.0]])) == pytest.approx([0.0, 1.0])
