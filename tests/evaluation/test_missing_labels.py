"""Pictures whose labels a detector gives reason to doubt: many confident boxes where nobody drew one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from marauder.data.records import Detections, Record
from marauder.tasks.detection.advice import MANY, SURE, without_label


def record(key: str, boxes: np.ndarray, labelled: bool = True) -> Record:
    return Record(key, Path(f"{key}.jpg"), 1000, 100, boxes, np.zeros(len(boxes)), labelled=labelled)


def test_only_many_confident_boxes_that_touch_no_label_count():
    places = np.array([[x, 10.0, x + 50, 60.0] for x in range(0, 900, 60)])
    sure, unsure = (Detections(places, np.full(len(places), score), np.zeros(len(places))) for score in (SURE, 0.4))
    few = Detections(places[: MANY - 1], np.ones(MANY - 1), np.zeros(MANY - 1))
    records = [
        record("missing", places[:3]),
        record("whole", places),
        record("as many", places[:8] + 5),
        record("unlabelled", places[:0], labelled=False),
        record("unsure", places[:3]),
        record("few", places[:0]),
        record("none", places[:0]),
    ]
    found = without_label(records, [sure, sure, sure, sure, unsure, few, sure])
    assert found == [("missing", 12), ("none", 15)]


def test_what_lies_in_an_ignored_box_or_in_a_large_label_is_no_missing_label():
    small = np.array([[x, 20.0, x + 40, 60.0] for x in range(20, 500, 60)])
    sure = Detections(small, np.ones(len(small)), np.zeros(len(small)))
    large = record("a", np.array([[0.0, 0.0, 600.0, 100.0]]))
    crowd = replace(large, ignored=np.array([True]))
    assert without_label([large, crowd], [sure, sure]) == []
    # An ignored box excuses what lies in it by half at least; a label whatever it touches.
    edge = np.array([[0.0, 0.0, 600.0, 30.0]])
    touched = replace(large, boxes=edge)
    assert without_label([touched, replace(touched, ignored=np.array([True]))], [sure, sure]) == [("a", len(small))]
