"""Calibrated scores say how often they are right, never turn an order, and fall back where labels are few."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.calibration.score_curves import calibrate_scores, fit_curve
from marauder.data.records import Record
from marauder.prediction.score_calibration import ScoreCalibration, no_calibration

NAMES = ("fish", "ray", "star")


def draw(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a detector that is too sure of itself: right with probability score squared."""
    score = random.uniform(0.02, 0.98, count)
    return score, random.random(count) < score**2


def scene(random: np.random.Generator, kinds: list[int]) -> tuple[Record, np.ndarray, np.ndarray]:
    """A picture with candidates far apart, of which some stand on a true box; rightness is score squared."""
    boxes = np.array([[60.0 * place, 10, 60 * place + 40, 50] for place in range(len(kinds))]).reshape(-1, 4)
    scores = np.zeros((len(kinds), len(NAMES)))
    said, right = draw(random, len(kinds))
    scores[np.arange(len(kinds)), kinds] = said
    true = Record(str(random.integers(10**9)), Path("x.jpg"), 4000, 60, boxes[right], np.array(kinds, int)[right])
    return true, boxes, scores


def test_isotonic_finds_the_share_that_is_right() -> None:
    random = np.random.default_rng(0)
    found = fit_curve(*draw(random, 4000))
    assert found is not None
    curve, method = found
    assert method == "isotonic"
    at = np.linspace(0.1, 0.9, 9)
    assert np.interp(at, *curve) == pytest.approx(at**2, abs=0.06)


def test_logistic_takes_over_with_few_and_beats_doing_nothing() -> None:
    random = np.random.default_rng(1)
    found = fit_curve(*draw(random, 60))
    assert found is not None
    curve, method = found
    assert method == "logistic"
    score, right = draw(random, 4000)
    assert np.mean((np.interp(score, *curve) - right) ** 2) < np.mean((score - right) ** 2)


def test_too_few_or_upside_down_gives_none() -> None:
    random = np.random.default_rng(2)
    score, right = draw(random, 10)
    assert fit_curve(score, right) is None
    assert fit_curve(np.zeros(0), np.zeros(0, bool)) is None
    score, right = draw(random, 60)
    assert fit_curve(1 - score, right) is None
    assert fit_curve(score, np.ones(60, bool)) is None


@given(seed=st.integers(0, 10_000), count=st.integers(20, 300))
def test_curves_rise_from_zero_and_stay_inside(seed: int, count: int) -> None:
    found = fit_curve(*draw(np.random.default_rng(seed), count))
    if found is None:
        return
    said, right = found[0]
    assert said[0] == right[0] == 0
    assert np.all(np.diff(said) > 0)
    assert np.all(np.diff(right) >= 0)
    assert right.max() <= 1


def test_each_class_gets_what_its_boxes_allow() -> None:
    random = np.random.default_rng(3)
    scenes = [scene(random, [0] * 20 + [1] * 2) for _ in range(12)]
    records, boxes, scores = (list(part) for part in zip(*scenes, strict=True))
    found = calibrate_scores(records, boxes, scores, NAMES)
    assert found.methods[0] == "isotonic"
    assert found.methods[2] == "all classes"
    assert "star" in found.describe() and "isotonic regression: fish" in found.describe()
    assert set(found.average_precision) == {"fish", "ray"}
    applied = found.apply(np.array([[0.8, 0.8, 0.8], [0.4, 0.4, 0.4]]))
    assert np.all(applied[0] >= applied[1])
    assert applied[0, 0] == pytest.approx(0.64, abs=0.15)
    assert np.allclose(ScoreCalibration.from_json(found.to_json()).apply(applied), found.apply(applied))


def test_a_class_is_right_only_on_boxes_of_its_own() -> None:
    """A candidate that names the wrong class surely, and the right one faintly, teaches both curves."""
    box = np.array([[10.0, 10, 50, 50]])
    records = [Record(str(n), Path("x.jpg"), 100, 100, box, np.array([1])) for n in range(40)]
    records += [Record(f"e{n}", Path("x.jpg"), 100, 100) for n in range(40)]
    random = np.random.default_rng(4)
    scores = [np.array([[0.9, 0.3 + random.uniform(0, 0.01), 0]]) for _ in range(40)]
    scores += [np.array([[0.9, 0.1 + random.uniform(0, 0.01), 0]]) for _ in range(40)]
    found = calibrate_scores(records, [box] * 80, scores, NAMES)
    assert found.methods[1] == "isotonic"
    applied = found.apply(np.array([[0.9, 0.3, 0.0], [0.9, 0.1, 0.0]]))
    assert applied[0, 1] > 0.9
    assert applied[1, 1] < 0.1


def test_without_labels_scores_stay() -> None:
    plain = no_calibration(NAMES)
    scores = np.random.default_rng(0).random((5, 7, 3))
    assert np.allclose(plain.apply(scores), scores)
    assert "unchanged" in plain.describe()
    random = np.random.default_rng(5)
    few = scene(random, [0, 1])
    assert calibrate_scores([few[0]], [few[1]], [few[2]], NAMES).methods == ("none",) * 3
