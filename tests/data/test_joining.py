"""Records of one picture become one record: no label is lost, none stands twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_sets

from marauder.core.files import read_json
from marauder.data.check import check_dataset
from marauder.data.reading import read_dataset
from marauder.data.records import Record, joined
from marauder.data.repair import repair


def record(boxes: list[list[float]], classes: list[int], **more: object) -> Record:
    return Record("a", Path("a.jpg"), 100, 100, np.array(boxes, float).reshape(-1, 4), np.array(classes, int), **more)  # type: ignore[arg-type]


def test_what_has_a_partner_is_not_taken_twice_and_the_rest_is_added():
    own = record([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 1])
    other = record([[1, 0, 11, 10], [50, 50, 60, 60], [20, 20, 30, 30]], [0, 0, 1])
    whole = joined(own, [other, other])
    assert whole.boxes.tolist() == [[0, 0, 10, 10], [50, 50, 60, 60], [50, 50, 60, 60], [20, 20, 30, 30]]
    assert whole.classes.tolist() == [0, 1, 0, 1]


def test_partners_are_one_to_one_and_the_closest_first():
    own = record([[0, 0, 10, 10]], [0])
    other = record([[2, 0, 12, 10], [0, 0, 10, 10.5]], [0, 0])
    assert joined(own, [other]).boxes.tolist() == [[0, 0, 10, 10], [2, 0, 12, 10]]


def test_flags_and_attributes_of_boxes_travel_along():
    own = record(
        [[0, 0, 10, 10]], [0], box_attributes={"occluded": np.array([True]), "depth": np.array([3.5]), "who": ["ada"]}
    )
    other = record(
        [[0, 0, 10, 10], [20, 20, 30, 30]],
        [0, 0],
        ignored=np.array([False, True]),
        box_attributes={"depth": np.array([1.0, np.nan]), "truncated": np.array([True, False])},
    )
    whole = joined(own, [other])
    assert whole.ignored.tolist() == [False, True]
    assert whole.box_attributes["occluded"].tolist() == [True, None]
    assert whole.box_attributes["truncated"].tolist() == [None, False]
    np.testing.assert_array_equal(whole.box_attributes["depth"], [3.5, np.nan])
    assert whole.box_attributes["who"].tolist() == ["ada", ""]


@pytest.mark.parametrize("boxes", [[], [[0.0, 0.0, 5.0, 5.0]]])
def test_an_unlabelled_record_adds_nothing_and_becomes_labelled_by_another(boxes: list[list[float]]):
    labelled = record([[0, 0, 10, 10]], [0])
    unlabelled = replace(record(boxes, [0] * len(boxes)), labelled=False)
    assert joined(labelled, [unlabelled]) is labelled
    assert joined(replace(record([], []), labelled=False), [record([], [])]).labelled


def test_fixing_joins_copies_and_loses_no_label(tmp_path: Path):
    texts = {"a": "0 .2 .2 .2 .2\n0 .5 .5 .2 .2\n", "b": "0 .2 .2 .2 .2\n1 .8 .8 .2 .2\n", "c": "1 .8 .8 .21 .2\n"}
    for name, text in texts.items():
        small_sets.picture(tmp_path / f"set/images/train/{name}.png", 1)
        label = tmp_path / f"set/labels/train/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text)
    (tmp_path / "set/data.yaml").write_text("train: images/train\nnames: [fish, crab]\n")
    report = check_dataset(tmp_path / "set")
    assert report.counts() == {"picture-duplicate": 2}

    summary = repair(report, tmp_path / "fixed")

    assert (summary.pictures, summary.joined_boxes) == (1, {"train/b": 1})
    assert read_json(tmp_path / "fixed/set_aside.json")["joined_boxes"] == {"train/b": 1}
    assert read_json(tmp_path / "fixed/set_aside.json")["dropped_copies"] == {
        "train/b": "train/a",
        "train/c": "train/a",
    }
    fixed = read_dataset(summary.data_yaml)
    assert fixed.records[0].classes.tolist() == [0, 0, 1]
