"""Recall at a floor of precision and precision at a floor of recall, against a plain reading of ranked detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.records import Detections, Record
from marauder.evaluation.evaluate import evaluate
from marauder.evaluation.floor_metrics import SHARE_OF_MAP50, metrics_at_floors


def _case(ranked: list[bool], boxes: int) -> tuple[list[Record], list[Detections]]:
    """Pictures with a box each; detections by falling score, right (on the next box) or wrong (where nothing is)."""
    truth = np.array([[10.0, 10.0, 40.0, 40.0]])
    records = [Record(str(n), Path(f"{n}.png"), 200, 200, truth, np.zeros(1, np.int64)) for n in range(boxes)]
    found: list[list[tuple[np.ndarray, float]]] = [[] for _ in range(boxes)]
    place = 0
    for rank, right in enumerate(ranked):
        score = 0.99 - 0.9 * rank / max(len(ranked), 1)
        if right:
            found[place].append((truth[0], score))
            place += 1
        else:
            found[0].append((np.array([100.0, 100.0, 150.0, 150.0]), score))
    detections = [
        Detections(
            np.array([box for box, _ in one]).reshape(-1, 4),
            np.array([s for _, s in one]),
            np.zeros(len(one), np.int64),
        )
        for one in found
    ]
    return records, detections


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), max_size=25), st.integers(0, 5), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_it_reads_what_the_ranking_says(ranked: list[bool], missed: int, precision: float, recall: float) -> None:
    boxes = sum(ranked) + missed
    if not boxes:
        return
    records, detections = _case(ranked, boxes)
    result = evaluate(records, detections, ("fish",), None)
    values = metrics_at_floors(result.matches, precision, recall)
    right = np.cumsum(ranked) if ranked else np.zeros(0)
    points = [(count / (rank + 1), count / boxes) for rank, count in enumerate(right)]
    reached = max((r for p, r in points if p >= precision), default=0.0)
    best = max((p for p, r in points if r >= np.ceil(round(recall * 100, 9)) / 100), default=0.0)
    map50 = SHARE_OF_MAP50 * result.overall.map50
    # Recall is read in steps of a hundredth.
    assert values["recall_at_precision"] == pytest.approx((1 - SHARE_OF_MAP50) * reached + map50, abs=0.0101)
    assert values["precision_at_recall"] == pytest.approx((1 - SHARE_OF_MAP50) * best + map50, abs=1e-6)


def test_of_two_that_reach_no_floor_the_better_is_found() -> None:
    weak, weaker = ([False, True, False, False], [False, False, False, True])
    values = [
        metrics_at_floors(evaluate(*_case(ranked, 4), ("fish",), None).matches, 0.9, 0.9) for ranked in (weak, weaker)
    ]
    for name in ("recall_at_precision", "precision_at_recall"):
        assert 0 < values[1][name] < values[0][name] < SHARE_OF_MAP50


def test_nothing_to_find_is_undefined() -> None:
    record = Record("0", Path("0.png"), 200, 200)
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    assert all(
        np.isnan(value)
        for value in metrics_at_floors(evaluate([record], [none], ("fish",), None).matches, 0.5, 0.5).values()
    )
