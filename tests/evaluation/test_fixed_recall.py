"""Precision at a fixed recall against a count by hand, its paired intervals, and the composite that picks weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.data.records import Detections, Record
from marauder.evaluation.critical_metrics import TIER_METRICS, critical_score, tier_metrics
from marauder.evaluation.evaluate import evaluate
from marauder.evaluation.fixed_recall import at_fixed_recall, tier_masks
from marauder.evaluation.matching import Matches, match

NAMES = ("starfish", "stingray", "fish")
BOX, ELSEWHERE = [10.0, 10.0, 50.0, 50.0], [120.0, 20.0, 160.0, 60.0]


def reef(pictures: int = 40) -> list[Record]:
    """Every fourth picture is empty; the others show a starfish."""
    return [
        Record(str(n), Path(f"{n}.jpg"), 200, 100, np.array([BOX] if n % 4 else []), np.array([0] if n % 4 else []))
        for n in range(pictures)
    ]


def detector(records: list[Record], right: dict[int, float], wrong: dict[int, float]) -> Matches:
    """Detections of starfish: ``right`` and ``wrong`` by picture, with their scores."""
    found = []
    for number in range(len(records)):
        rows = [(BOX, right[number])] if number in right else []
        rows += [(ELSEWHERE, wrong[number])] if number in wrong else []
        rows.sort(key=lambda row: -row[1])
        found.append(Detections(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), np.zeros(len(rows))))
    return match(records, found, NAMES)


def test_precision_recall_and_false_alarms_are_those_counted_by_hand() -> None:
    records = reef()
    shown = [n for n in range(40) if n % 4]  # 30 pictures
    before = detector(records, dict.fromkeys(shown[:20], 0.8), dict.fromkeys(range(10), 0.9))
    after = detector(records, dict.fromkeys(shown[:25], 0.8), dict.fromkeys(range(4), 0.9))
    result = at_fixed_recall(before, after, records, ["starfish"], draws=200, confidence=0.5)
    one = result.classes[0]
    assert (one.boxes, one.recall, one.reached, result.empty_pictures) == (30, 20 / 30, True, 10)
    assert one.precision.before == pytest.approx(20 / 30)
    assert one.precision.after == pytest.approx(25 / 29), "the highest at that recall or more"
    assert one.empty.before == pytest.approx(300) and one.empty.after == pytest.approx(100)  # pictures 0, 4, 8; 0
    assert one.without == one.empty
    assert one.precision.low <= one.precision.delta <= one.precision.high and one.precision.low > 0
    assert result.tier.precision == one.precision


def test_a_recall_that_is_not_reached_has_no_precision() -> None:
    records = reef()
    shown = [n for n in range(40) if n % 4]
    before = detector(records, dict.fromkeys(shown[:20], 0.8), {})
    after = detector(records, dict.fromkeys(shown[:10], 0.8), {})
    one = at_fixed_recall(before, after, records, ["starfish"], draws=50, confidence=0.5).classes[0]
    assert not one.reached and one.precision.after == 0 and math.isnan(one.empty.after)
    nothing = at_fixed_recall(detector(records, {}, {0: 0.9}), after, records, ["starfish"], draws=50, confidence=0.5)
    assert math.isnan(nothing.tier.precision.delta), "without a recall there is nothing to compare at"


def test_the_same_detector_differs_in_no_draw() -> None:
    records = reef()
    same = detector(records, {n: 0.3 + n / 100 for n in range(1, 40, 2) if n % 4}, dict.fromkeys(range(0, 40, 3), 0.5))
    one = at_fixed_recall(same, same, records, ["starfish"], draws=100).tier
    assert one.precision.low == one.precision.delta == one.precision.high == 0


def test_classes_that_one_detector_does_not_define_leave_the_mean() -> None:
    records = reef()
    before = detector(records, {1: 0.8}, {})
    both = at_fixed_recall(before, before, records, ["starfish", "stingray"], draws=20, confidence=0.5)
    assert both.tier.precision.before == both.classes[0].precision.before
    with pytest.raises(ValueError, match="same pictures"):
        at_fixed_recall(before, before, records[:-1], ["starfish"])


def test_tiers_are_means_over_their_classes_and_masks_cover_their_boxes() -> None:
    records = [Record(str(n), Path("x.jpg"), 200, 100, np.array([BOX, ELSEWHERE]), np.array([0, 2])) for n in range(4)]
    found = [Detections(np.array([BOX]), np.array([0.9]), np.array([0])) for _ in records]
    metrics = tier_metrics(evaluate(records, found, NAMES).overall, ["starfish", "stingray"], None)
    assert set(metrics) == set(TIER_METRICS)
    assert metrics["critical/map50"] == pytest.approx(1.0) and metrics["others/map50"] == 0
    masks = tier_masks(records, NAMES, ["starfish"])
    assert masks["critical"].sum() == masks["others"].sum() == masks["class fish"].sum() == 4
    assert "class stingray" not in masks


shares = st.floats(0, 1)


@given(shares, shares, shares, shares, st.floats(0.01, 1))
def test_whatever_keeps_the_floor_is_better_than_all_that_does_not(
    a: float, b: float, c: float, d: float, floor: float
) -> None:
    one, other = critical_score(a, b, floor), critical_score(c, d, floor)
    assert 0 <= one <= 1
    if b >= floor > d:
        assert one > other
    elif b >= floor and d >= floor:
        assert (one > other) == (0.5 + a / 2 > 0.5 + c / 2)
    elif b < floor and d < floor:
        assert (one > other) == (0.5 * b / floor > 0.5 * d / floor)
    assert critical_score(a, b, None) == 0.5 + a / 2 == critical_score(a, math.nan, floor)
