"""Confusion matrix and picture outcomes against plain loops; bootstrap intervals that hold what they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import perturbed_detections, random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.records import Detections, Record
from marauder.evaluation.confusion import confusion_matrix, match_across_classes
from marauder.evaluation.group_draws import draw_groups
from marauder.evaluation.intervals import bootstrap
from marauder.evaluation.matching import match
from marauder.evaluation.metrics import aggregate
from marauder.evaluation.outcomes import picture_outcomes


def iou(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(width * height / (sum(areas) - width * height))


def loop_confusion(
    records: list[Record], detections: list[Detections], count: int, confidence: float, threshold: float
) -> np.ndarray:
    """The definition, word by word: best score first, each takes the best free box whatever its class."""
    matrix = np.zeros((count + 1, count + 1), int)
    for record, found in zip(records, detections, strict=True):
        free = set(range(len(record.boxes)))
        for place in np.argsort(-found.scores, kind="stable"):
            if found.scores[place] < confidence:
                continue
            overlaps = [(iou(found.boxes[place], record.boxes[box]), box) for box in free]
            best = max(overlaps, default=(0.0, -1))
            if best[0] >= threshold:
                free.remove(best[1])
                matrix[record.classes[best[1]], found.classes[place]] += 1
            else:
                matrix[count, found.classes[place]] += 1
        for box in free:
            matrix[record.classes[box], count] += 1
    return matrix


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 4),
    confidence=st.sampled_from([0.0, 0.3, 0.5, 0.95, 1.0]),
    threshold=st.sampled_from([0.3, 0.5, 0.75]),
)
def test_confusion_matrix_equals_the_loop(seed: int, count: int, confidence: float, threshold: float) -> None:
    records, detections = random_case(seed, 5, count, crowds=0.0)
    matches = match_across_classes(records, detections, [str(n) for n in range(count)], threshold)
    expected = loop_confusion(records, detections, count, confidence, threshold)
    np.testing.assert_array_equal(confusion_matrix(matches, confidence), expected)
    mask = np.array([True, False, True, False, True])
    halves = confusion_matrix(matches, confidence, mask) + confusion_matrix(matches, confidence, ~mask)
    np.testing.assert_array_equal(halves, expected)


def test_confusion_matrix_leaves_out_ignored_boxes_and_what_lies_on_them() -> None:
    box = [[0.0, 0.0, 40.0, 40.0]]
    record = Record("a", Path("a"), 100, 100, boxes=box, classes=[0], ignored=[True])
    found = Detections(box * 2, [0.9, 0.8], [0, 1])
    assert confusion_matrix(match_across_classes([record], [found], "ab"), 0.5).sum() == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), confidence=st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_picture_outcomes_add_up_to_the_counts(seed: int, confidence: float) -> None:
    records, detections = random_case(seed, 7, 2)
    matches = match(records, detections, "ab")
    outcomes = picture_outcomes(matches, confidence)
    point = aggregate(matches, confidence=confidence).point
    assert sum(len(one.right) for one in outcomes) == sum(len(one.found) for one in outcomes) == point.true.sum()
    assert sum(len(one.wrong) for one in outcomes) == point.false.sum()
    assert sum(len(one.missed) for one in outcomes) == point.missed.sum()
    for record, found, outcome in zip(records, detections, outcomes, strict=True):
        assert all(found.scores[outcome.right] >= confidence)
        counted = np.sort(np.concatenate([outcome.found, outcome.missed]))
        np.testing.assert_array_equal(counted, np.flatnonzero(~record.ignored))
        for place in outcome.right:
            same = outcome.found[record.classes[outcome.found] == found.classes[place]]
            assert max(iou(found.boxes[place], record.boxes[box]) for box in same) >= 0.5


def made_up_records(pictures: int) -> list[Record]:
    random = np.random.default_rng(1)
    records = []
    for index in range(pictures):
        corner = random.random((4, 2)) * 300
        boxes = np.concatenate([corner, corner + random.uniform(20, 90, (4, 2))], axis=1)
        kinds = random.integers(0, 2, 4)
        records.append(Record(str(index), Path(str(index)), 400, 400, boxes, kinds, group=f"clip{index // 3}"))
    return records


def test_bootstrap_draws_whole_groups_and_surrounds_the_value() -> None:
    records = made_up_records(60)
    draws = draw_groups(records, 3, seed=4)
    for weights in (draws.weights(number) for number in range(3)):
        assert weights.sum() == 60
        assert all(len(set(weights[start : start + 3])) == 1 for start in range(0, 60, 3))
    matches = match(records, perturbed_detections(records, 2), "ab")
    interval = bootstrap(matches, records, "map50", draws=60)
    assert interval.low < interval.value < interval.high
    assert interval.high - interval.low < 0.3
    assert interval.groups == 20
    assert interval == bootstrap(matches, records, "map50", draws=60)
    with pytest.raises(ValueError, match="no metric named 'accuracy'"):
        bootstrap(matches, records, "accuracy")
