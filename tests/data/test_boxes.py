"""Cleaning boxes: what comes out is usable, whatever goes in, and everything changed is named."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marauder.data.boxes import TOLD_OF_A_KIND, UNKNOWN_CLASS, clean_boxes

numbers = st.one_of(st.floats(-200, 300), st.sampled_from([float("nan"), float("inf"), 0.0, 50.0, 100.0]))
rows = st.lists(st.tuples(numbers, numbers, numbers, numbers, st.integers(-2, 5)), max_size=8)


@given(rows)
def test_usable_and_idempotent(content):
    boxes = np.array([row[:4] for row in content]).reshape(-1, 4)
    classes = np.array([row[4] for row in content], int)
    clean = clean_boxes(boxes, classes, 100, 50, 4)
    assert (clean.boxes[:, :2] < clean.boxes[:, 2:]).all()
    assert (clean.boxes >= 0).all()
    assert (clean.boxes <= [100, 50, 100, 50]).all()
    assert set(classes[clean.kept]) <= {0, 1, 2, 3}
    mended = ("box-out-of-bounds", "box-corners")
    dropped = {finding.index for finding in clean.findings if finding.kind not in mended}
    dropped |= {f.index for f in clean.findings if "wholly outside" in f.message}
    assert sorted(dropped | set(clean.kept.tolist())) == list(range(len(content)))
    again = clean_boxes(clean.boxes, classes[clean.kept], 100, 50, 4)
    assert again.findings == ()
    np.testing.assert_array_equal(again.boxes, clean.boxes)


def test_every_kind_is_named():
    boxes = [[1, 1, 9, 9], [1, 1, 9, 9], [5, 5, 5, 9], [90, 1, 120, 9], [200, 1, 220, 9], [1, 1, 9, 9], [-0.4, 0, 9, 9]]
    classes = [0, 0, 0, 0, 0, 7, 0]
    clean = clean_boxes(np.array(boxes, float), np.array(classes), 100, 50, 2)
    found = [(finding.index, finding.kind) for finding in clean.findings]
    assert found == [
        (1, "box-duplicate"),
        (2, "box-degenerate"),
        (3, "box-out-of-bounds"),
        (4, "box-out-of-bounds"),
        (5, "class-unknown"),
    ]
    assert clean.kept.tolist() == [0, 3, 6]
    assert clean.boxes.tolist() == [[1, 1, 9, 9], [90, 1, 100, 9], [0, 0, 9, 9]]


def test_corners_in_the_wrong_order_are_put_right():
    clean = clean_boxes(np.array([[30, 9, 10, 40], [1, 9, 9, 1], [5, 9, 5, 1.0]]), np.zeros(3), 100, 50, 1)
    assert clean.boxes.tolist() == [[10, 9, 30, 40], [1, 1, 9, 9]]
    assert [(finding.index, finding.kind) for finding in clean.findings] == [
        (0, "box-corners"),
        (1, "box-corners"),
        (2, "box-degenerate"),
    ]
    assert "(30, 9, 10, 40)" in clean.findings[0].message


def test_a_file_that_says_the_same_a_thousand_times_is_told_of_shortly_and_soon():
    count = 30_000
    boxes = np.tile([10.0, 10.0, 40.0, 40.0], (count, 1))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        clean = clean_boxes(boxes, np.zeros(count), 100, 50, 1)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.2
    assert clean.kept.tolist() == [0] and len(clean.findings) == TOLD_OF_A_KIND + 1
    assert sum(finding.count for finding in clean.findings) == count - 1
    assert clean.findings[-1].message == "and 29,979 more like it" and clean.findings[-1].index == TOLD_OF_A_KIND + 1


def test_the_highest_of_many_unknown_classes_can_still_be_read():
    clean = clean_boxes(np.tile([1.0, 1, 9, 9], (100, 1)), np.arange(100) + 1, 100, 50, 1)
    found = [UNKNOWN_CLASS.match(finding.message) for finding in clean.findings]
    assert max(int(match["index"]) for match in found if match) == 100
    assert sum(finding.count for finding in clean.findings) == 100


@pytest.mark.parametrize("key", ["", "a: ", "class 3/img: ", "site: class x/img: "])
def test_a_picture_s_key_is_no_part_of_the_unknown_class(key: str):
    by_name = UNKNOWN_CLASS.match(f"{key}class Platlets: none of the names; did you mean Platelets?")
    by_number = UNKNOWN_CLASS.match(f"{key}class -7 (known: 0 to 2)")
    assert by_name is not None and by_number is not None
    assert (by_name["name"], by_name["index"], by_number["index"]) == ("Platlets", None, "-7")
