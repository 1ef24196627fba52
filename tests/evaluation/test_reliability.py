"""Calibration errors, LRP and presence ROC against cases worked by hand, plain loops, and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from evaluation_cases import random_case
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.core.files import to_plain
from marauder.data.records import Detections, Record
from marauder.evaluation.matching import Matches, match
from marauder.evaluation.reliability import calibrate, reliability_bins
from marauder.evaluation.roc import presence_curve, presence_curves

SEEDS = st.integers(0, 2**32 - 1)
BOX = [0.0, 0.0, 10.0, 10.0]
HALF_OFF = [0.0, 0.0, 10.0, 8.0]
"""IoU 0.8 with ``BOX``."""
ELSEWHERE = [50.0, 50.0, 60.0, 60.0]
FAR = [80.0, 80.0, 90.0, 90.0]


def by_hand() -> Matches:
    """Two boxes; a detection of IoU 0.8 (score 0.9), one exact (0.62), two false ones (0.65, 0.02)."""
    record = Record("a", Path("a"), 100, 100, boxes=[BOX, ELSEWHERE], classes=[0, 0])
    found = Detections([HALF_OFF, FAR, ELSEWHERE, FAR], [0.9, 0.65, 0.62, 0.02], [0] * 4)
    return match([record], [found], ["fish", "crab"])


def test_the_errors_of_a_case_worked_by_hand() -> None:
    measured = calibrate(by_hand(), confidence=0.63)
    # Bins of 0.1: (0.8, 0.9] has one right one: |1 - 0.9|; (0.6, 0.7] one right, one false: |0.5 - 0.635|.
    assert measured.d_ece == pytest.approx((1 * 0.1 + 2 * 0.135) / 3)
    # Bins of 0.04: 0.9 alone: |0.8 - 0.9|; 0.65 alone in (0.64, 0.68]: |0 - 0.65|; 0.62 in (0.6, 0.64]: |1 - 0.62|.
    assert measured.la_ece == pytest.approx((0.1 + 0.65 + 0.38) / 3)
    fish, crab = measured.per_class
    assert (fish.boxes, fish.detections, fish.d_ece) == (2, 3, measured.d_ece)
    # At 0.63: one right at IoU 0.8, one false, one missed.
    assert fish.lrp.error == pytest.approx((0.2 / 0.5 + 1 + 1) / 3)
    assert (fish.lrp.localisation, fish.lrp.false, fish.lrp.missed) == (pytest.approx(0.2), 0.5, 0.5)
    # Best: down to 0.62, two right and one false: (0.4 + 0 + 1) / 3 < 0.8 > of the first alone: (0.4 + 1) / 2.
    assert fish.optimal.error == pytest.approx(1.4 / 3)
    assert fish.optimal.confidence == 0.62
    assert measured.lrp == fish.lrp.error and measured.optimal_lrp == fish.optimal.error
    assert crab.boxes == 0 and math.isnan(crab.lrp.error) and math.isnan(crab.d_ece)
    assert measured.bins.count.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 1, 0]
    assert measured.bins.precision[6] == 0.5 and measured.bins.confidence[6] == pytest.approx(0.635)
    assert math.isnan(measured.bins.precision[0])
    everything = calibrate(by_hand(), 0.63, minimum_confidence=0.0)
    assert everything.bins.count[0] == 1
    assert everything.d_ece == pytest.approx((1 * 0.1 + 2 * 0.135 + 0.02) / 4)
    plain = to_plain(measured.to_json())
    assert plain["per_class"][1]["lrp"]["error"] is None
    assert plain["bins"]["count"] == measured.bins.count.tolist()


def test_nothing_detected_and_nothing_to_find() -> None:
    record = Record("a", Path("a"), 100, 100, boxes=[BOX], classes=[0])
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    measured = calibrate(match([record], [nothing], ["fish"]), 0.5)
    (fish,) = measured.per_class
    assert math.isnan(measured.d_ece) and math.isnan(measured.la_ece)
    assert (measured.lrp, fish.lrp.missed) == (1.0, 1.0)
    assert math.isnan(fish.lrp.false) and math.isnan(fish.lrp.localisation)
    assert (fish.optimal.confidence, fish.optimal.error) == (1.0, 1.0)
    empty = calibrate(match([], [], ["fish"]), 0.5)
    assert math.isnan(empty.lrp) and math.isnan(empty.d_ece)


def test_bins_hold_their_upper_edge() -> None:
    score = np.array([0.0, 0.1, 0.1000001, 1.0])
    bins = reliability_bins(score, np.ones(4, bool), np.ones(4), 10)
    assert bins.count.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_confidences_that_are_true_have_no_error_and_inflated_ones_have_theirs() -> None:
    random = np.random.default_rng(0)
    score = random.uniform(0.1, 0.8, 40_000)
    true = random.random(len(score)) < score
    assert reliability_bins(score, true, true.astype(float)).d_ece < 0.01
    assert reliability_bins(score + 0.2, true, true.astype(float)).d_ece == pytest.approx(0.2, abs=0.01)


def loop(records: list[Record], detections: list[Detections], confidence: float) -> tuple[float, float]:
    """D-ECE (10 bins, from 0.05) and LRP of one class without ignored boxes, by plain loops over greedy pairs."""
    judged: list[tuple[float, bool, float]] = []
    boxes = sum(len(record.boxes) for record in records)
    for record, found in zip(records, detections, strict=True):
        free = list(range(len(record.boxes)))
        for place in np.argsort(-found.scores, kind="stable"):
            best = max(((iou(found.boxes[place], record.boxes[box]), box) for box in free), default=(0.0, -1))
            if best[0] >= 0.5:
                free.remove(best[1])
            judged.append((float(found.scores[place]), best[0] >= 0.5, best[0]))
    error = 0.0
    counted = [one for one in judged if one[0] >= 0.05]
    for low in range(10):
        inside = [one for one in counted if low / 10 < one[0] <= (low + 1) / 10]
        if inside:
            precision = sum(hit for _, hit, _ in inside) / len(inside)
            error += len(inside) / len(counted) * abs(precision - sum(score for score, _, _ in inside) / len(inside))
    kept = [one for one in judged if one[0] >= confidence]
    right = [value for _, hit, value in kept if hit]
    total = len(kept) + boxes - len(right)
    lost = sum(1 - value for value in right) / 0.5 + (len(kept) - len(right)) + (boxes - len(right))
    return error if counted else float("nan"), lost / total if boxes else float("nan")


def upright(found: Detections) -> Detections:
    """Without detections that end before they start: their area lies outside every range, so they do not count."""
    keep = ((found.boxes[:, 2:] - found.boxes[:, :2]) > 0).all(axis=1)
    return Detections(found.boxes[keep], found.scores[keep], found.classes[keep])


def iou(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(width * height / (sum(areas) - width * height))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, confidence=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_equal_to_plain_loops(seed: int, confidence: float) -> None:
    records, detections = random_case(seed, 6, 1, crowds=0.0)
    detections = [upright(found) for found in detections]
    measured = calibrate(match(records, detections, ["fish"]), confidence)
    d_ece, lrp = loop(records, detections, confidence)
    np.testing.assert_allclose([measured.d_ece, measured.lrp], [d_ece, lrp], atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_the_optimal_confidence_is_the_best_there_is(seed: int) -> None:
    records, detections = random_case(seed, 6, 2)
    matches = match(records, detections, "ab")
    scores = [*sorted({float(score) for found in detections for score in found.scores}), 2.0]
    tried = [calibrate(matches, score) for score in scores]
    for index, one in enumerate(tried[0].per_class):
        errors = [each.per_class[index].lrp.error for each in tried]
        np.testing.assert_allclose(one.optimal.error, min(errors), atol=1e-12)
        if one.boxes and one.optimal.confidence < 1:
            again = calibrate(matches, one.optimal.confidence).per_class[index].lrp
            np.testing.assert_equal(asdict(again), asdict(one.optimal))


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.50001, 0.9]), min_size=2, max_size=30), seed=SEEDS)
def test_presence_equals_scikit_learn(scores: list[float], seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    present = np.random.default_rng(seed).random(len(scores)) < 0.5
    present[:2] = [True, False]
    curve = presence_curve("fish", np.array(scores), present)
    assert curve.auc == pytest.approx(metrics.roc_auc_score(present, scores), abs=1e-12)
    false_rate, true_rate, thresholds = metrics.roc_curve(present, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_rate, false_rate)
    np.testing.assert_allclose(curve.true_rate, true_rate)
    np.testing.assert_allclose(curve.threshold, thresholds)
    assert (curve.present, curve.absent) == (present.sum(), (~present).sum())


def test_presence_in_pictures() -> None:
    def record(key: str, classes: list[int], ignored: list[bool] | None = None, labelled: bool = True) -> Record:
        return Record(key, Path(key), 100, 100, [BOX] * len(classes), classes, ignored or [], labelled=labelled)

    records = [
        record("a", [0]),
        record("b", []),
        record("c", [0], [True]),
        record("d", [1]),
        record("e", [], None, False),
    ]
    scores = {"a": [(0.9, 0), (0.4, 0)], "b": [(0.3, 0)], "c": [(0.99, 0)], "d": [(0.95, 0)], "e": [(1.0, 0)]}
    detections = [
        Detections([ELSEWHERE] * len(scores[r.key]), [s for s, _ in scores[r.key]], [k for _, k in scores[r.key]])
        for r in records
    ]
    fish, crab = presence_curves(match(records, detections, ["fish", "crab"]))
    # c may or may not hold a fish, nobody looked at e: a (0.9) against b (0.3) and d (0.95).
    assert (fish.present, fish.absent, fish.auc) == (1, 2, 0.5)
    assert (crab.present, crab.absent, crab.auc) == (1, 3, 0.5)  # never detected: all tie
    (empty,) = presence_curves(match([], [], ["fish"]))
    assert math.isnan(empty.auc) and to_plain(empty.to_json())["auc"] is None
