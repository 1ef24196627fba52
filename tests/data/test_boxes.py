"""Cleaning boxes: what comes out is usable, whatever goes in, and everything changed is named."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from marauder.data.boxes import clean_boxes

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
    dropped = {finding.index for finding in clean.findings if finding.kind != "box-out-of-bounds"}
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
