"""Curves by class, drawn towards that of all classes; the choice of a method by cross-fitting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marauder.calibration.fitting import NONE, cross_fitted, fit_calibration, fit_curves, fold_of_groups, mixed
from marauder.calibration.settings import CalibrateSettings
from marauder.core.plugins import make
from marauder.evaluation.detection_table import DetectionTable
from marauder.evaluation.score_quality import measure_scores
from marauder.prediction.score_calibration import read_curve

NAMES = ("common", "rare")


def settings_of(**given: object) -> CalibrateSettings:
    return CalibrateSettings(models=(Path("a.pt"),), data=Path("d"), draws=100, **given)  # type: ignore[arg-type]


def table(
    seed: int, temperatures: tuple[float, float] = (0.5, 0.5), counts: tuple[int, int] = (1600, 60)
) -> DetectionTable:
    """Detections of two classes, each too sure by its own temperature (1: right), in groups of about eight."""
    random = np.random.default_rng(seed)
    kind = np.repeat([0, 1], counts)
    chance = random.uniform(0.02, 0.95, len(kind))
    score = 1 / (1 + np.exp(-np.log(chance / (1 - chance)) / np.array(temperatures)[kind]))
    right = random.random(len(kind)) < chance
    groups = len(kind) // 8
    group = random.integers(0, groups, len(kind))
    boxes = np.zeros((groups, 2), np.int64)
    np.add.at(boxes, (group[right], kind[right]), 1)
    names = tuple(f"g{number:05d}" for number in range(groups))
    return DetectionTable(NAMES, names, kind, score, right, right * 0.9, group, boxes)


@pytest.mark.parametrize("method", ["temperature", "beta", "isotonic"])
def test_a_detector_that_is_too_sure_is_mended_on_groups_that_were_not_fitted_on(method: str) -> None:
    fitting, judging = table(0), table(1)
    found = fit_calibration(fitting, settings_of(methods=(method,)))
    assert found.taken.method == method and found.taken.low > 0
    after = judging.rescored(found.calibration.apply_to(judging.score, judging.kind))
    # 1,600 + 1,600 detections: the drop that can be seen is near 80 %.
    assert measure_scores(after, 20, 0).d_ece.value < 0.4 * measure_scores(judging, 20, 0).d_ece.value
    scores = cross_fitted(fitting, settings_of(methods=(method,)))
    assert (
        measure_scores(fitting.rescored(scores), 20, 0).d_ece.value < 0.4 * measure_scores(fitting, 20, 0).d_ece.value
    )


def test_scores_that_are_right_are_left_alone() -> None:
    """Many methods and strengths are tried, so that the best of them must do better beyond doubt."""
    kept = [fit_calibration(table(seed, (1.0, 1.0), (400, 40)), settings_of()).taken.method for seed in range(6)]
    assert kept.count(NONE) >= 5


def test_the_overlap_as_target_lowers_scores_to_it() -> None:
    fitting = table(2, (1.0, 1.0))
    found = fit_calibration(fitting, settings_of(target="iou"))
    assert found.taken.method != NONE
    told = found.calibration.apply_to(fitting.score, fitting.kind)
    assert told.mean() == pytest.approx(fitting.overlap.mean(), abs=0.02)


def test_a_class_with_few_boxes_follows_the_others() -> None:
    """Weights by credibility: n / (n + k), the rest from the curve of all classes."""
    fitting = table(3, (0.5, 1.0), (1600, 100))
    curves = fit_curves(fitting, make("calibration_method", "platt"), "hit")
    boxes = fitting.boxes.sum(axis=0)
    assert curves.weight(1, 50.0) == pytest.approx(boxes[1] / (boxes[1] + 50))
    own, pooled = curves.own[1], curves.pooled
    assert own is not None and pooled is not None
    grid = np.linspace(0.02, 0.98, 40)
    for credibility in (10.0, 1e9):
        weight = curves.weight(1, credibility)
        expected = weight * read_curve(own, grid) + (1 - weight) * read_curve(pooled, grid)
        found = curves.mixed(credibility).apply_to(grid, np.ones(40, int))
        assert found == pytest.approx(expected, abs=1e-9)
    few = fit_curves(table(4, counts=(1600, 6)), make("calibration_method", "platt"), "hit")
    assert few.own[1] is None and few.mixed(10.0).methods == ("platt", "all classes")


def test_parts_are_of_groups_and_alike_in_size() -> None:
    part = fold_of_groups(23, 5, 0)
    assert sorted(np.bincount(part)) == [4, 4, 5, 5, 5] and part.tolist() == fold_of_groups(23, 5, 0).tolist()
    assert set(fold_of_groups(3, 5, 0)) == {0, 1, 2}


def test_held_out_scores_are_of_curves_that_never_saw_them() -> None:
    """Were they fitted on themselves, turning the labels of one part around would not leave its own curve alone."""
    fitting = table(5, counts=(400, 40))
    settings = settings_of(methods=("isotonic",))
    part = fold_of_groups(len(fitting.groups), settings.folds, settings.seed)
    rows = part[fitting.group] == 0
    scores = cross_fitted(fitting, settings)
    from dataclasses import replace

    turned = replace(fitting, right=np.where(rows, ~fitting.right, fitting.right))
    assert cross_fitted(turned, settings)[rows].tolist() == scores[rows].tolist()
    assert cross_fitted(turned, settings)[~rows].tolist() != scores[~rows].tolist()


def test_mixing_is_exact_between_points() -> None:
    one = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.2, 1.0]))
    other = (np.array([0.0, 0.3, 1.0]), np.array([0.0, 0.9, 0.9]))
    grid = np.linspace(0, 1, 101)
    found = np.interp(grid, *mixed(one, other, 0.25))
    assert found == pytest.approx(0.25 * np.interp(grid, *one) + 0.75 * np.interp(grid, *other))
