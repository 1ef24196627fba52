"""Thresholds by class: each rule against trying every score, draws of groups, and classes with few boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.calibration.class_thresholds import NOTHING, choose_thresholds, outcome_at, unsure
from marauder.calibration.settings import ThresholdSettings
from marauder.evaluation.detection_table import DetectionTable

ALONE = ThresholdSettings(pooling_boxes=0)


def table(seed: int, count: int = 60, missed: int = 5) -> DetectionTable:
    """One class with plateaus of scores, each right as often as its score says, and some boxes never found."""
    random = np.random.default_rng(seed)
    score = np.round(random.beta(0.8, 0.8, count), 1).clip(0.05, 0.95)
    right = random.random(count) < score
    group = random.integers(0, 8, count)
    boxes = np.zeros((8, 1), np.int64)
    np.add.at(boxes, (group[right], 0), 1)
    boxes[0] += missed
    return DetectionTable(
        ("fish",), tuple("abcdefgh"), np.zeros(count, np.int64), score, right, right * 1.0, group, boxes
    )


def every_outcome(one: DetectionTable) -> list[tuple[float, float, float, float, int]]:
    """Precision, recall, F1 and threshold of every cut that scores allow, from the highest; and cost 1:3."""
    found = []
    for cut in sorted({*one.score.tolist(), 1.0}, reverse=True):
        told = outcome_at(one, 0, cut)
        found.append((told.precision, told.recall, told.f1, cut, told.false + 3 * (told.boxes - told.found)))
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_each_rule_finds_what_trying_every_score_finds(seed: int) -> None:
    one = table(seed)
    tried = every_outcome(one)

    def outcome(**given: object) -> object:
        (chosen,) = choose_thresholds(one, ALONE.changed(given), (), 5, 0)
        return outcome_at(one, 0, chosen.threshold), chosen

    best, _ = outcome(rule="max_f1")
    assert best.f1 == pytest.approx(max(cut[2] for cut in tried))
    precise, chosen = outcome(rule="precision_floor", precision_floor=0.7)
    kept = [cut for cut in tried if cut[0] >= 0.7 and cut[1] > 0]
    assert chosen.reached == bool(kept)
    if kept:
        assert precise.precision >= 0.7 and precise.recall == pytest.approx(max(cut[1] for cut in kept))
    full, chosen = outcome(rule="recall_floor", recall_floor=0.8)
    assert chosen.reached == any(cut[1] >= 0.8 for cut in tried)
    if chosen.reached:
        assert full.recall >= 0.8 and full.precision == pytest.approx(next(cut[0] for cut in tried if cut[1] >= 0.8))
    cheap, _ = outcome(rule="expected_cost", miss=3.0)
    assert cheap.false + 3 * (cheap.boxes - cheap.found) == min(cut[4] for cut in tried)


def test_misses_of_critical_species_cost_more() -> None:
    one = table(1, 400)
    costs = ThresholdSettings(rule="expected_cost", critical_miss=9.0)
    (plain,), (critical,) = (choose_thresholds(one, costs, critical, 50, 0) for critical in ((), ("fish",)))
    assert critical.critical and critical.threshold < plain.threshold
    assert (plain.common, critical.common) == (0.5, 0.1), "the best for scores that are right"
    floor = ThresholdSettings(critical_rule="recall_floor", recall_floor=0.95)
    (careful,) = choose_thresholds(one, floor, ("fish",), 50, 0)
    assert careful.rule == "recall_floor" and careful.outcome.recall >= 0.95


def test_few_boxes_follow_all_classes_and_floors_are_never_given_up() -> None:
    many, few = table(2, 500), table(3, 12)
    both = DetectionTable(
        ("many", "few", "none"),
        many.groups,
        np.concatenate([many.kind, few.kind + 1]),
        np.concatenate([many.score, few.score]),
        np.concatenate([many.right, few.right]),
        np.concatenate([many.overlap, few.overlap]),
        np.concatenate([many.group, few.group]),
        np.concatenate([many.boxes, few.boxes, np.zeros((8, 1), np.int64)], axis=1),
    )
    first, second, third = choose_thresholds(both, ThresholdSettings(), (), 100, 0)
    assert first.weight > 0.9 and abs(first.threshold - first.own) < 0.05
    assert second.weight < 0.5 and min(second.own, second.common) <= second.threshold <= max(second.own, second.common)
    assert third.threshold == third.common and third.boxes == 0 and np.isnan(third.own)
    assert second.high - second.low > first.high - first.low
    assert "none" in unsure((first, second, third)) and "many" not in unsure((first, second, third))
    for rule, sign in (("precision_floor", 1), ("recall_floor", -1)):
        chosen = choose_thresholds(both, ThresholdSettings(rule=rule), (), 20, 0)
        assert all(sign * (one.threshold - one.own) >= 0 for one in chosen[:2])


def test_a_class_that_is_never_right_is_not_reported_where_alarms_cost() -> None:
    one = table(4)
    from dataclasses import replace

    wrong = replace(one, right=np.zeros(len(one), bool))
    (chosen,) = choose_thresholds(wrong, ALONE.changed({"rule": "expected_cost"}), (), 20, 0)
    assert chosen.threshold == NOTHING and chosen.outcome.false == 0
