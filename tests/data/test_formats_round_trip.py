"""Properties of all formats: what was written is read, and what is damaged is told."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_sets import FORMATS, LAYOUTS, Sample, Written, composed, samples

from marauder.data.check import DEFECTS
from marauder.data.reading import choose_reader, read_dataset
from marauder.data.records import Dataset, Problem

NEAR = 0.01
Content = dict[str, list[tuple[str, tuple[float, ...]]]]
"""Class and box of every box, in sorted order, by where the picture lies."""

bounded = settings(
    derandomize=True, deadline=None, database=None, max_examples=40, suppress_health_check=list(HealthCheck)
)


def expected(sample: Sample, written: Written) -> Content:
    return {
        str(place.resolve()): in_order((composed(name), tuple(box)) for *box, name in shot.boxes)
        for shot, place in zip(sample.shots, written.places)
        if written.empty or shot.boxes
    }


def in_order(boxes: Iterable[tuple[str, tuple[float, ...]]]) -> list[tuple[str, tuple[float, ...]]]:
    # All sides are written as quarters of a pixel.
    return sorted(boxes, key=lambda box: (box[0], [round(4 * side) for side in box[1]]))


def content(dataset: Dataset) -> Content:
    return {
        str(record.picture.resolve()): in_order(
            (dataset.names[index], tuple(box)) for index, box in zip(record.classes.tolist(), record.boxes.tolist())
        )
        for record in dataset
    }


def same(found: Content, wanted: Content) -> None:
    """The same pictures with the same boxes."""
    assert found.keys() == wanted.keys()
    for picture, boxes in wanted.items():
        assert [name for name, _ in found[picture]] == [name for name, _ in boxes], picture
        np.testing.assert_allclose([box for _, box in found[picture]], [box for _, box in boxes], atol=NEAR, rtol=0)


def errors(problems: Iterable[Problem]) -> list[str]:
    return [f"{one.kind} {one}" for one in problems if DEFECTS[one.kind].severity == "error"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_written_is_read(layout: str):
    @bounded
    @given(samples())
    def check(sample: Sample) -> None:
        with tempfile.TemporaryDirectory() as folder:
            written = LAYOUTS[layout](Path(folder, "set"), sample)
            assert choose_reader(written.path).name == FORMATS[layout]
            dataset = read_dataset(written.path)
            assert errors(dataset.problems) == []
            same(content(dataset), expected(sample, written))
            used = {composed(name) for shot in sample.shots for *_, name in shot.boxes}
            assert used <= set(dataset.names)
            assert all(record.labelled for record in dataset)
            if written.splits:
                splits = {str(place.resolve()): shot.split for shot, place in zip(sample.shots, written.places)}
                assert {str(r.picture.resolve()): r.split for r in dataset} == {
                    place: splits[place] for place in expected(sample, written)
                }

    check()
