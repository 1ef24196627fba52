"""The contract of predictors: one model, in whatever file it lies, finds the same boxes, however pictures are cut."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.core.plugins import resolve
from marauder.data.records import Detections, Record
from marauder.exporting.inputs import pattern
from marauder.models.files import LoadedDetector
from marauder.prediction.detector import DetectorPredictor
from marauder.prediction.opening import open_predictor
from marauder.prediction.predictor import InputShape, Predictor
from marauder.prediction.records import DecodedPictures, detect, predict_records
from marauder.prediction.settings import PREDICTING
from marauder.testing.lively_detectors import NAMES, save_lively

SIZE = 128
SHAPES = ((96, 128), (60, 50), (96, 128), (33, 120), (128, 96))
SURE = replace(PREDICTING, confidence=0.3, iou=0.6)


def make_pictures() -> list[np.ndarray]:
    """Pictures of several shapes, uint8 (H, W, 3)."""
    return [cv2.resize(pattern(3, number), shape[::-1]) for number, shape in enumerate(SHAPES)]


def write_records(pictures: list[np.ndarray], folder: Path) -> list[Record]:
    """The pictures as files in ``folder``."""
    found = []
    for number, picture in enumerate(pictures):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), picture[:, :, ::-1])
        found.append(Record(path.stem, path, picture.shape[1], picture.shape[0]))
    return found


def save_small(folder: Path) -> LoadedDetector:
    """The detector whose boxes every kind of file must find, as ``best.pt`` and ``best.safetensors`` in ``folder``."""
    return save_lively(folder / "best", size=SIZE)


def found_by_network(detector: LoadedDetector) -> list[Detections]:
    """The boxes of ``make_pictures``."""
    found = DetectorPredictor(detector).predict(make_pictures(), SURE)
    assert sum(len(one) for one in found) > 20, "too few boxes to compare anything"
    return found


def same(first: Detections, second: Detections, pixels: float = 0.05, score: float = 1e-3) -> bool:
    """Whether both hold the same boxes, but for rounding and one box in twenty that is at a limit."""
    near = np.abs(first.boxes[:, None] - second.boxes[None]).max(axis=2, initial=0) <= pixels
    near &= np.abs(first.scores[:, None] - second.scores[None]) <= score
    near &= first.classes[:, None] == second.classes[None]
    alone = int((~near.any(axis=1)).sum() + (~near.any(axis=0)).sum())
    return alone <= (len(first) + len(second)) / 20


def all_same(first: list[Detections], second: list[Detections]) -> bool:
    """Whether every picture has the same boxes in both."""
    return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))


class PredictorContract:
    """What every kind of model file promises. A subclass is parametrized over ``name`` and gives ``path``."""

    holds_network: ClassVar[Collection[str]] = ()
    """The kinds whose files hold the network itself, by name."""

    @pytest.fixture
    def path(self, name: str) -> Path:
        """The detector of ``save_small`` in a file of this kind, which takes any number of pictures of any size."""
        raise NotImplementedError

    def place(self, name: str, folder: Path) -> Path:
        """Where a file of this kind would lie in ``folder``."""
        return folder / f"model.{name}"

    def write_damaged(self, path: Path) -> None:
        """Write a file of this kind that cannot be read."""
        path.write_bytes(b"PK\x03\x04 no model at all")

    @pytest.fixture(scope="class")
    @classmethod
    def expected(cls, tmp_path_factory: pytest.TempPathFactory) -> list[Detections]:
        """What the network itself finds in ``make_pictures``."""
        return found_by_network(save_small(tmp_path_factory.mktemp("network")))

    @pytest.fixture
    def pictures(self) -> list[np.ndarray]:
        """What is looked at."""
        return make_pictures()

    @pytest.fixture
    def records(self, pictures: list[np.ndarray], tmp_path: Path) -> list[Record]:
        """The pictures on disk."""
        return write_records(pictures, tmp_path)

    @pytest.fixture
    def predictor(self, path: Path) -> Predictor:
        """The file, opened."""
        return open_predictor(path, "cpu")

    def test_says_what_it_knows_and_takes(self, predictor: Predictor, path: Path, name: str) -> None:
        assert predictor.names == NAMES and predictor.image_size == SIZE and predictor.stride == 32
        assert predictor.accepts == InputShape() and predictor.path == path
        assert len(predictor.digest) == 64 and resolve("predictor", name)().name == name
        if path.is_file():
            assert predictor.digest == hash_file(path)

    def test_finds_what_the_network_finds(
        self, predictor: Predictor, pictures: list[np.ndarray], expected: list[Detections]
    ) -> None:
        found = predictor.predict(pictures, SURE)
        assert all_same(found, expected)
        for one, picture in zip(found, pictures, strict=True):
            assert np.all(np.diff(one.scores) <= 0) and np.all(one.scores >= 0.3)
            assert one.boxes.min() >= 0 and np.all(one.boxes.max(axis=0) <= [*picture.shape[1::-1]] * 2)

    def test_neither_batch_nor_order_matter(
        self, predictor: Predictor, pictures: list[np.ndarray], expected: list[Detections]
    ) -> None:
        for batch in (1, 2):
            turned = predictor.predict(pictures[::-1], replace(SURE, batch=batch))
            assert all_same(turned[::-1], expected)
        assert all_same(predictor.predict(pictures[1:2], SURE), expected[1:2])

    def test_no_pictures_give_nothing(self, predictor: Predictor) -> None:
        assert predictor.predict([]) == []
        assert detect(predictor, [], DecodedPictures([]), [], SURE) == []

    def test_records_give_the_same_and_a_broken_picture_is_set_aside(
        self, predictor: Predictor, records: list[Record], expected: list[Detections]
    ) -> None:
        records[2].picture.write_bytes(b"no picture")
        found = predict_records(predictor, records, SURE, None, "looking")
        assert [one.index for one in found] == list(range(len(records)))
        assert found[2].detections is None and str(records[2].picture) in (found[2].set_aside or "")
        for place in (0, 1, 3, 4):
            detections = found[place].detections
            assert detections is not None and same(detections, expected[place])

    def test_classes_and_size_are_followed(self, predictor: Predictor, pictures: list[np.ndarray]) -> None:
        (found,) = predictor.predict(pictures[:1], replace(SURE, confidence=0.05, classes=("starfish",)))
        assert len(found) and set(found.classes.tolist()) == {2}
        with pytest.raises(UserError, match="knows no whale; its classes are fish"):
            predictor.predict(pictures[:1], replace(SURE, classes=("whale",)))
        assert predictor.letterbox(128, 96, 90).shape == (96, 96)
        other = predictor.predict(pictures[:1], replace(SURE, image_size=90))[0]
        assert not same(other, predictor.predict(pictures[:1], SURE)[0])

    def test_only_pictures_are_taken(self, predictor: Predictor, pictures: list[np.ndarray]) -> None:
        for wrong in (pictures[0].astype(np.float32), pictures[0][:, :, 0], np.zeros((0, 4, 3), np.uint8)):
            with pytest.raises(ValueError, match="picture 1"):
                predictor.predict([pictures[0], wrong])

    def test_a_missing_and_a_damaged_file_are_named(self, name: str, tmp_path: Path) -> None:
        path = self.place(name, tmp_path)
        with pytest.raises(UserError, match=f"{path.name}.*no such file"):
            open_predictor(path, "cpu")
        self.write_damaged(path)
        with pytest.raises(UserError, match=path.name):
            open_predictor(path, "cpu")

    def test_a_device_that_is_not_there_is_named(self, path: Path) -> None:
        with pytest.raises(UserError, match="device"):
            open_predictor(path, "cuda:77")

    def test_inside_is_seen_only_with_a_network(self, predictor: Predictor, name: str) -> None:
        if name in self.holds_network:
            assert predictor.network.stride.max() == 32
        else:
            with pytest.raises(UserError, match=r"\.pt or \.safetensors"):
                _ = predictor.network
