"""Predictors that look in several views: the exact way back, fusion, batches, and the file that stands for a folder."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.data.records import Detections
from marauder.models.files import LoadedDetector
from marauder.prediction.detector import DetectorPredictor
from marauder.prediction.folder_description import FolderDescription, stands_for, write_predictor_folder
from marauder.prediction.opening import open_predictor
from marauder.prediction.picture_views import look_in_views
from marauder.prediction.predictor import Description, InputShape, Predictor
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.prediction.settings import MEASURING, PREDICTING, PredictionSettings
from marauder.prediction.view_fusion import fuse_views, view_fusion
from marauder.prediction.view_names import find_picture_views
from marauder.prediction.viewing import ViewingPredictor
from marauder.survey.job import model_digest
from marauder.testing.lively_detectors import NAMES
from marauder.testing.predictors import all_same, make_pictures, save_small

GEOMETRY = ("plain", "flip", "flip_vertical", "turn_90", "turn_180", "turn_270", "flip+turn_90")
VIEWS = ("plain", "flip", "turn_90", "scale_1.25")


ANYTHING = InputShape()


class Bright(Predictor):
    """A detector that is the same for every mirror and turn: each column of anchors tells one bright rectangle of its
    own colour channel, wherever it is."""

    def __init__(self, accepts: InputShape = ANYTHING) -> None:
        super().__init__(Path("bright"), Description(("a", "b"), 128, 32, accepts), torch.device("cpu"))

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """See ``Predictor.run``."""
        answers = torch.zeros((len(images), 6, 2))
        for place, image in enumerate(images):
            for channel in range(2):
                rows, columns = torch.where(image[channel] > 0.8)
                if len(rows):
                    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                    box = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])
                    answers[place, :4, channel] = box
                    answers[place, 4 + channel, channel] = 0.9 - 0.3 * channel
        return answers


def two_animals() -> np.ndarray:
    """A picture as large as the input, of two rectangles."""
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[20:40, 10:50, 0] = 255
    picture[60:90, 70:110, 1] = 255
    return picture


@pytest.mark.parametrize("name", GEOMETRY)
def test_a_detector_that_knows_no_left_and_right_finds_the_same_boxes(name: str) -> None:
    predictor = Bright()
    rules = predictor.rules(MEASURING)
    (plain,), (seen,) = (look_in_views(find_picture_views((one,)), [two_animals()], predictor, rules)[0]
                         for one in ("plain", name))  # fmt: skip
    assert plain.boxes.tolist() == [[10, 20, 50, 40], [70, 60, 110, 90]]
    assert np.abs(seen.boxes - plain.boxes).max() <= 1e-9
    assert seen.scores.tolist() == plain.scores.tolist() and seen.classes.tolist() == [0, 1]


def test_tiles_find_each_animal_once_and_drop_what_a_border_cuts() -> None:
    picture = two_animals()
    (tiled,) = look_in_views(find_picture_views(("tiles_2x2",)), [picture], Bright(), Bright().rules(MEASURING))[0]
    # The first lies within one tile. The second crosses the border between the upper and the lower half, but ends in
    # the overlap of neither: it is whole in the lower right tile alone.
    assert sorted(tiled.classes.tolist()) == [0, 1]
    for box, number in zip(tiled.boxes, tiled.classes, strict=True):
        assert box == pytest.approx([[10, 20, 50, 40], [70, 60, 110, 90]][number], abs=1.0)
    large = np.zeros_like(picture)
    large[10:90, 10:120, 0] = 255
    (cut,) = look_in_views(find_picture_views(("tiles_2x2",)), [large], Bright(), Bright().rules(MEASURING))[0]
    assert not len(cut), "no tile shows it whole: the plain view does"


def test_what_views_agree_on_stays_and_the_rest_fades() -> None:
    one = Detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.8, 0.6], [0, 1])
    other = Detections([[0, 0, 12, 10]], [0.4], [0])
    fused = fuse_views([one, other], view_fusion())
    assert fused.classes.tolist() == [0, 1]
    assert fused.boxes[0] == pytest.approx([0, 0, (0.8 * 10 + 0.4 * 12) / 1.2, 10])
    assert fused.scores == pytest.approx([0.6, 0.3])
    assert fuse_views([one], view_fusion()) is one
    # The surest counts by suppression, and nothing fades.
    assert fuse_views([one, other], view_fusion("nms")).scores.tolist() == [0.8, 0.6]


def test_each_view_says_once_how_sure_it_is_of_an_animal() -> None:
    """A fainter second box of the same animal in one view must not lower what both views say of it."""
    twice = Detections([[0, 0, 10, 10], [0, 0, 10, 8]], [0.8, 0.2], [0, 0])
    once = Detections([[0, 0, 10, 10]], [0.6], [0])
    assert fuse_views([twice, once], view_fusion()).scores.tolist() == pytest.approx([0.7])


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> LoadedDetector:
    return save_small(tmp_path_factory.mktemp("views"))


def folder_of(detector: LoadedDetector, folder: Path, **said: object) -> Path:
    return write_predictor_folder(folder, detector.path, FolderDescription("", **said))  # type: ignore[arg-type]


def test_without_views_nothing_is_other_than_before(detector: LoadedDetector, tmp_path: Path) -> None:
    plain = DetectorPredictor(detector).predict(make_pictures(), MEASURING)
    folder = open_predictor(folder_of(detector, tmp_path / "plain"), "cpu")
    assert not isinstance(folder, ViewingPredictor)
    one_view = open_predictor(folder_of(detector, tmp_path / "one", views=("plain",)), "cpu")
    for predictor in (folder, one_view):
        for found, expected in zip(predictor.predict(make_pictures(), MEASURING), plain, strict=True):
            for name in ("boxes", "scores", "classes"):
                assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


def test_a_folder_looks_in_its_views_whatever_is_asked_of_it(detector: LoadedDetector, tmp_path: Path) -> None:
    predictor = open_predictor(folder_of(detector, tmp_path / "p", views=VIEWS), "cpu")
    pictures = make_pictures()
    every = predictor.predict(pictures, MEASURING)
    way = view_fusion()
    views, rules, plain = find_picture_views(VIEWS), predictor.rules(MEASURING), DetectorPredictor(detector)
    expected = [fuse_views(look_in_views(views, [one], plain, rules)[0], way).above(rules.least) for one in pictures]
    assert all_same(every, [one.surest(300) for one in expected])
    # A threshold chooses among the fused boxes and changes none of them.
    few = predictor.predict(pictures, replace(MEASURING, confidence=0.2))
    assert all_same(few, [one.above(0.2) for one in every]) and 0 < sum(map(len, few)) < sum(map(len, every))
    one_by_one = [predictor.predict([picture], MEASURING)[0] for picture in pictures]
    assert all_same(one_by_one, every), "batches change nothing"


def test_numbers_of_classes_sizes_and_calibration_go_through_the_views(
    detector: LoadedDetector, tmp_path: Path
) -> None:
    curves = tuple((np.array([0.0, 1.0]), np.array([0.0, most])) for most in (0.3, 0.6, 0.9))
    calibration = ScoreCalibration(NAMES, curves, ("platt",) * 3, {})
    path = folder_of(detector, tmp_path / "p", views=("plain", "flip"), calibration=calibration)
    plain, turned = open_predictor(path, "cpu"), open_predictor(path, "cpu")
    names = (NAMES[2], NAMES[0], NAMES[1])
    assert turned.number_as(names)
    for one, other in zip(plain.predict(make_pictures()), turned.predict(make_pictures()), strict=True):
        assert [NAMES[number] for number in one.classes] == [names[number] for number in other.classes]
        assert np.allclose(one.scores, other.scores) and one.scores.max(initial=0) <= 0.9
    small, asked = open_predictor(path, "cpu", image_size=64), open_predictor(path, "cpu")
    assert all_same(small.predict(make_pictures()), asked.predict(make_pictures(), PredictionSettings(image_size=64)))
    assert not all_same(small.predict(make_pictures()), plain.predict(make_pictures()))


def test_views_that_a_model_cannot_take_are_told(detector: LoadedDetector, tmp_path: Path) -> None:
    path = folder_of(detector, tmp_path / "p", views=("plain", "rotate"))
    with pytest.raises(UserError, match=r"predictor\.json: views: 'rotate'"):
        open_predictor(path, "cpu")
    with pytest.raises(UserError, match=r"takes only one, or .*; leave the view out"):
        ViewingPredictor(Bright(InputShape(1, (128, 128))), find_picture_views(("plain", "scale_1.25")))
    content = json.loads((path / "predictor.json").read_text())
    (path / "predictor.json").write_text(json.dumps({**content, "views": "flip"}))
    with pytest.raises(UserError, match="views must be a list of names"):
        open_predictor(path, "cpu")


class TestTheFileThatStandsIn:
    """``name.pt`` beside ``name/`` is taken for the folder as long as it is that very file."""

    def make(self, detector: LoadedDetector, folder: Path) -> tuple[Path, Path]:
        checkpoint = folder / "reef.pt"
        checkpoint.write_bytes(detector.path.read_bytes())
        said = FolderDescription("", thresholds=dict.fromkeys(NAMES, 0.6), stands_in=hash_file(checkpoint))
        return write_predictor_folder(folder / "reef", detector.path, said), checkpoint

    def test_it_opens_as_the_folder(self, detector: LoadedDetector, tmp_path: Path) -> None:
        folder, checkpoint = self.make(detector, tmp_path)
        assert stands_for(checkpoint) == folder
        by_file, by_folder = open_predictor(checkpoint, "cpu"), open_predictor(folder, "cpu")
        assert by_file.digest == by_folder.digest and by_file.thresholds is not None
        assert by_file.thresholds.tolist() == [0.6] * len(NAMES)
        assert all_same(by_file.predict(make_pictures(), PREDICTING), by_folder.predict(make_pictures(), PREDICTING))
        assert model_digest(checkpoint) == model_digest(folder), "and counts as the folder where results are kept"

    def test_another_file_of_the_name_is_only_itself(
        self, detector: LoadedDetector, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        _, checkpoint = self.make(detector, tmp_path)
        checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
        with caplog.at_level(logging.WARNING, "marauder"):
            assert stands_for(checkpoint) == checkpoint
        assert "without its calibration" in caplog.text
        assert model_digest(checkpoint) == hash_file(checkpoint)
