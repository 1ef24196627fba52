"""Crops for the probe, and the features seen in them."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marauder.data.pictures import PictureStore
from marauder.data.records import Record
from marauder.models.pretraining.network import STRIDES, Backbone, build_backbone
from marauder.models.pretraining.probing import FREE_OVERLAP, choose_crops, crop_features
from marauder.models.ultralytics_adapter import build_detector


def record(key: str, boxes: list[list[float]], labelled: bool = True, path: Path = Path("none.png")) -> Record:
    return Record(key, path, 100, 80, np.array(boxes).reshape(-1, 4), np.zeros(len(boxes), np.int64), labelled=labelled)


@given(st.lists(st.tuples(st.floats(0, 70), st.floats(0, 50), st.floats(2, 30), st.floats(2, 30)), max_size=8))
@settings(max_examples=60, deadline=None)
def test_background_is_background(sizes: list[tuple[float, float, float, float]]) -> None:
    boxes = [[x, y, x + w, y + h] for x, y, w, h in sizes]
    one = record("a", boxes)
    crops = choose_crops([one], 3, seed=1)
    labelled, background = crops.boxes[crops.classes == 0], crops.boxes[crops.classes == 3]
    assert sorted(map(tuple, labelled)) == sorted(map(tuple, one.boxes))
    assert len(background) <= max(len(boxes), 1)
    assert (background[:, :2] >= 0).all() and (background[:, 2:] <= [100 + 1e-9, 80 + 1e-9]).all()
    for box in background:
        sides = np.minimum(one.boxes[:, 2:], box[2:]) - np.maximum(one.boxes[:, :2], box[:2])
        covered = np.clip(sides, 0, None).prod(axis=1).sum()
        assert covered <= FREE_OVERLAP * (box[2:] - box[:2]).prod() + 1e-9


def test_crops_are_a_function_of_seed_and_record() -> None:
    records = [record(f"r{i}", [[5, 5, 20, 20], [30, 30, 60, 50]]) for i in range(4)]
    whole, part = choose_crops(records, 1, 0), choose_crops(records[2:], 1, 0)
    np.testing.assert_array_equal(whole.boxes[whole.pictures >= 2], part.boxes)
    assert not np.array_equal(whole.boxes, choose_crops(records, 1, 1).boxes)
    assert list(part.groups) == [records[2 + i].group for i in part.pictures]


def test_what_nobody_labelled_is_left_out_and_empty_pictures_are_background() -> None:
    unlabelled, empty = record("u", [], labelled=False), record("e", [])
    crops = choose_crops([unlabelled, empty], 5, 0)
    assert crops.pictures.tolist() == [1]
    assert crops.classes.tolist() == [5]
    ignored = Record("i", Path("x"), 100, 80, np.array([[0, 0, 9, 9.0]]), np.array([0]), np.array([True]))
    assert 0 not in choose_crops([ignored], 5, 0).classes


@pytest.fixture
def pictures(tmp_path: Path) -> list[Record]:
    """Grey pictures with a bright square at a known place, and one file that is no picture."""
    found = []
    for number in range(3):
        picture = np.full((80, 100, 3), 90, np.uint8)
        picture[20:60, 10 + 20 * number : 50 + 20 * number] = (20, 200, 240)
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), picture)
        found.append(record(str(number), [[10 + 20 * number, 20, 50 + 20 * number, 60]], path=path))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    return [*found, record("bad", [[0, 0, 10, 10]], path=tmp_path / "bad.png")]


def test_features_of_crops(pictures: list[Record]) -> None:
    """Of the right shape, for the right rows; an unreadable file gives NaN; the backbone itself is left alone."""
    backbone = build_backbone("yolov8t", 0).train()
    before = copy.deepcopy(backbone.state_dict())
    crops = choose_crops(pictures, 1, 0)
    store = PictureStore(pictures, 160, None, 0)
    features = crop_features(backbone, pictures, crops, store)
    assert features is not None and features.shape == (len(crops.boxes), sum(backbone.channels))
    assert backbone.training
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())
    bad = crops.pictures == 3
    assert np.isnan(features[bad]).all() and np.isfinite(features[~bad]).all()
    again = crop_features(backbone, pictures, crops, store)
    np.testing.assert_array_equal(features, again)


class Colours(Backbone):
    """Maps that are the mean colours of their cells."""

    def __init__(self) -> None:
        super().__init__(build_detector("yolov8t", ["fish"]))
        self.channels = (3, 3, 3)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(images, stride) for stride in STRIDES]


def test_features_are_those_of_the_box(pictures: list[Record]) -> None:
    """On maps of mean colours: the square's colour inside its box, grey in the background, wherever it stands."""
    crops = choose_crops(pictures[:3], 1, 0)
    found = crop_features(Colours(), pictures[:3], crops, PictureStore(pictures, 320, None, 0))
    assert found is not None
    inside, outside = found[crops.classes == 0], found[crops.classes == 1]
    assert len(inside) == 3 and len(outside)
    np.testing.assert_allclose(inside[:, :6], np.tile([240, 200, 20], (3, 2)) / 255, atol=0.07)
    np.testing.assert_allclose(outside[:, :3], np.full((len(outside), 3), 90 / 255), atol=0.12)


def test_stops_when_told(pictures: list[Record]) -> None:
    crops = choose_crops(pictures, 1, 0)
    store = PictureStore(pictures, 64, None, 0)
    assert crop_features(build_backbone("yolov8t", 0), pictures, crops, store, should_stop=lambda: True) is None
