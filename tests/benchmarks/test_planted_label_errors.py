"""Planted label errors are what they are called, and those who look first where a detector disagrees find them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from marauder.annotation.suspects import KINDS
from marauder.data.boxes import iou_matrix
from marauder.data.records import Detections, Record
from planted_label_errors import ARMS, figures, findings, plant
from tables import Line

RECORDS = [
    Record(f"{number:03}", Path(f"{number}.jpg"), 400, 200, [[20, 20, 90, 90], [200, 50, 300, 150]], [number % 3, 1])
    for number in range(200)
]


def test_each_kind_of_error_changes_one_box_as_it_says() -> None:
    found, planted = plant(RECORDS, 3, 0.15, seed=0)
    assert len(planted) == 30
    assert {kind: list(planted.values()).count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 10)
    for before, after in zip(RECORDS, found, strict=True):
        kind = planted.get(before.key)
        if kind is None:
            assert after is before
        elif kind == "overlooked":
            assert len(after.boxes) == 1
        elif kind == "wrong_class":
            assert (after.boxes == before.boxes).all()
            assert (after.classes != before.classes).sum() == 1
        else:
            assert (after.classes == before.classes).all()
            overlaps = np.sort(np.diag(iou_matrix(before.boxes, after.boxes)))
            assert 0.2 <= overlaps[0] <= 0.5
            assert overlaps[1] == 1
            assert (after.boxes >= 0).all()
            assert (after.boxes <= [400, 200, 400, 200]).all()


def test_where_there_is_one_class_none_is_wrong() -> None:
    alone = [Record("a", Path("a"), 99, 99, [[10, 10, 60, 60]], [0]), *RECORDS[:20]]
    _, planted = plant(alone, 1, 0.5, seed=0)
    assert set(planted.values()) == {"overlooked", "badly_located"}


def looked(records: list[Record], score: float) -> list[Detections]:
    return [Detections(one.boxes, np.full(len(one.boxes), score), one.classes) for one in records]


def test_a_detector_that_sees_the_truth_finds_every_error_and_a_blind_one_none() -> None:
    labels, planted = plant(RECORDS, 3, 0.15, seed=1)
    found = figures(labels, planted, looked(RECORDS, 0.9))
    assert found["precision"] == pytest.approx(30 / 50)
    assert found["recall"] == pytest.approx(20 / 30)  # the first tenth holds 20 pictures
    assert found["random"] == pytest.approx(0.15)
    nothing = [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))] * len(RECORDS)
    blind = figures(labels, planted, nothing)
    in_order = [record.key in planted for record in RECORDS]
    assert blind["precision"] == pytest.approx(sum(in_order[:50]) / 50)


@pytest.mark.parametrize(("precision", "words"), [([0.5, 0.55, 0.6], "more errors"), ([0.1, 0.3, 0.15], "no better")])
def test_what_is_found_is_set_beside_chance(precision: list[float], words: str) -> None:
    lines: list[Line] = [
        {
            "training": {"arm": "other_half", "seed": seed, "pictures": "aquarium", "scale": "small"},
            "precision": value,
            "random": 0.15,
            "map50": 0.4,
        }
        for seed, value in enumerate(precision)
    ]
    (row,) = findings(lines)
    assert ARMS["other_half"] in row.question
    assert row.verdict == "measured"
    assert words in row.consequence
