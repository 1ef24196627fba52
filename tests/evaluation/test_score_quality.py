"""Rows of detections, calibration errors with their noise floor, average precision that calibration leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.calibration.judging import same_precision, with_calibration
from marauder.calibration.methods.isotonic import isotonic_curve
from marauder.data.records import Detections, Record
from marauder.evaluation.detection_table import DetectionTable, tabulate
from marauder.evaluation.matching import match
from marauder.evaluation.metrics import aggregate
from marauder.evaluation.outcomes import judge_detections
from marauder.evaluation.reliability import calibrate
from marauder.evaluation.score_quality import measure_scores, noise_floors
from marauder.prediction.score_calibration import ScoreCalibration

NAMES = ("fish", "ray", "star")


def scene(seed: int, pictures: int = 12, ignored: bool = True) -> tuple[list[Record], list[Detections]]:
    """Labelled pictures of a few clips, and detections of which some are right; many scores are equal."""
    random = np.random.default_rng(seed)
    records, detections = [], []
    for number in range(pictures):
        count = int(random.integers(0, 6))
        corners = random.uniform(0, 80, (count, 2))
        boxes = np.concatenate([corners, corners + random.uniform(8, 30, (count, 2))], axis=1)
        classes = random.integers(0, len(NAMES), count)
        flags = random.random(count) < (0.15 if ignored else 0.0)
        record = Record(
            f"p{number}", Path(f"p{number}.png"), 128, 128, boxes, classes, ignored=flags, group=f"c{number % 5}"
        )
        noise = np.concatenate([boxes + random.normal(0, 3, boxes.shape), random.uniform(0, 60, (8, 4))])
        noise[:, 2:] = np.maximum(noise[:, 2:], noise[:, :2] + 4)
        kinds = np.concatenate([classes, random.integers(0, len(NAMES), 8)])
        scores = np.round(random.beta(0.7, 0.9, len(noise)), 2).clip(0.01, 0.99)
        order = np.argsort(-scores, kind="stable")
        records.append(record)
        detections.append(Detections(noise[order], scores[order], kinds[order]))
    return records, detections


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rows_are_right_where_the_matching_says_so(seed: int) -> None:
    records, detections = scene(seed)
    table = tabulate(records, detections, NAMES)
    matches = match(records, detections, NAMES)
    right, wrong, iou = judge_detections(matches)
    counted = right | wrong
    assert len(table) == counted.sum() and table.right.sum() == right.sum()
    key = np.lexsort((table.right, -table.score, table.kind))
    assert table.score[key].tolist() == pytest.approx(
        matches.detection_score[counted][
            np.lexsort((right[counted], -matches.detection_score[counted], matches.detection_class[counted]))
        ].tolist()
    )
    assert table.boxes.sum() == (~matches.box_ignored[0]).sum()
    assert (
        np.all(table.overlap[table.right] >= 0.5 - 1e-12) and iou.max(initial=0) <= table.overlap.max(initial=0) + 1e-9
    )
    # The wide bins agree with the figures of every evaluation report.
    figures = calibrate(matches, 0.25)
    quality = measure_scores(table.chosen(table.score >= 0.05), 20, 0)
    assert quality.d_ece.value == pytest.approx(figures.d_ece, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.booleans())
def test_calibration_leaves_average_precision_alone_to_the_last_bit(seed: int, steps: bool) -> None:
    records, detections = scene(seed, 30)
    table = tabulate(records, detections, NAMES)
    curves = []
    for number in range(len(NAMES)):
        rows = table.kind == number
        curve = isotonic_curve(table.score[rows], table.right[rows]) if rows.sum() > 2 else (np.array([0.0, 1.0]),) * 2
        # All scores equal is the hardest plateau.
        curves.append((np.array([0.0, 1.0]), np.array([0.4, 0.4])) if steps and number == 0 else curve)
    calibration = ScoreCalibration(NAMES, tuple(curves), ("isotonic",) * 3, {})
    told = [with_calibration(one, calibration) for one in detections]
    plain = match(records, detections, NAMES)
    same_precision(plain, match(records, told, NAMES))
    if steps and aggregate(plain).ap[0, 0, 0] not in (0.0, 1.0):
        without = [replace(one, own_scores=None) for one in told]
        turned = [one.chosen(np.arange(len(one))[::-1]) for one in without]
        with pytest.raises(RuntimeError, match="changed average precision"):
            same_precision(plain, match(records, turned, NAMES))


def perfect(count: int, seed: int) -> DetectionTable:
    """Detections of one class, each right as often as its score says, in groups of ten; half of them near 0."""
    random = np.random.default_rng(seed)
    score = 0.05 + 0.95 * random.beta(0.6, 1.2, count)
    right = random.random(count) < score
    group = np.arange(count) // 10
    names = tuple(f"{number:05d}" for number in range(group.max() + 1))
    return DetectionTable(("fish",), names, np.zeros(count, np.int64), score, right, right * 0.8, group,
                          np.ones((len(names), 1), np.int64))  # fmt: skip


def test_the_floor_is_what_perfect_scores_measure() -> None:
    """As simulated apart from this code: about 10 % on 100 detections, 5 on 400, 2.4 on 1,600."""
    for count, low, high in ((100, 0.07, 0.12), (400, 0.035, 0.06), (1600, 0.017, 0.03)):
        measured = [measure_scores(perfect(count, seed), 20, 0).d_ece for seed in range(8)]
        values = np.mean([one.value for one in measured])
        assert low < measured[0].floor < high
        assert values == pytest.approx(np.mean([one.floor for one in measured]), rel=0.25)
        assert sum(one.value > one.floor_high for one in measured) <= 1


def test_a_detector_that_is_too_sure_stands_far_above_its_floor() -> None:
    table = perfect(1600, 1)
    sure = table.rescored(np.sqrt(table.score))
    quality = measure_scores(sure, 200, 0)
    assert quality.d_ece.value > 4 * quality.d_ece.floor_high
    assert quality.d_ece.low < quality.d_ece.value < quality.d_ece.high + 0.01
    assert quality.brier > measure_scores(table, 20, 0).brier
    assert np.all(np.isnan(quality.bounds) | ((quality.bounds >= 0) & (quality.bounds <= 1)))


def test_scores_that_are_the_overlap_have_no_localisation_error() -> None:
    table = perfect(2000, 2)
    honest = table.rescored(table.overlap.copy())
    assert measure_scores(honest, 20, 0).la_ece.value == pytest.approx(0, abs=1e-9)
    assert measure_scores(table, 20, 0).la_ece.value > 0.05
    assert noise_floors(table, 0, draws=5)[1].shape == (5,)


def test_nothing_detected_is_undefined_and_no_error() -> None:
    records, _ = scene(3)
    nothing = [Detections(np.zeros((0, 4)), [], []) for _ in records]
    quality = measure_scores(tabulate(records, nothing, NAMES), 20, 0)
    assert quality.detections == 0 and np.isnan(quality.d_ece.value) and np.isnan(quality.la_ece.floor)
