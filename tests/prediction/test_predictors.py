"""Every predictor in the table of plug points passes the contract; fixed graphs, their metadata, predictor folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from ultralytics import YOLO

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import write_bytes
from marauder.core.plugins import names, resolve
from marauder.data.boxes import iou_matrix
from marauder.data.picture_files import load_rgb
from marauder.data.pictures import UnreadablePictureError
from marauder.data.records import Detections, Record
from marauder.exporting.base import GraphOptions
from marauder.exporting.graph import describe_graph
from marauder.exporting.tracing import trace
from marauder.models.files import LoadedDetector, load_detector, save_detector
from marauder.prediction.detector import DetectorPredictor
from marauder.prediction.export_metadata import describe_exported
from marauder.prediction.folder_description import DESCRIPTION_FILE, FolderDescription, write_predictor_folder
from marauder.prediction.opening import open_predictor
from marauder.prediction.predictor import InputShape, Predictor
from marauder.prediction.records import DecodedPictures, detect, predict_records
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.prediction.settings import MEASURING, PredictionSettings
from marauder.testing.lively_detectors import NAMES
from marauder.testing.predictors import (
    SIZE,
    SURE,
    PredictorContract,
    all_same,
    found_by_network,
    make_pictures,
    same,
    save_small,
    write_records,
)


def test_the_operating_point_travels_with_the_weights(tmp_path: Path) -> None:
    """The score that was best on val is the threshold where nobody names one, in folders and exports, too."""
    save_small(tmp_path)
    whole = load_detector(tmp_path / "best.safetensors")
    save_detector(whole.model, tmp_path / "judged", whole.image_size, {"metrics": {"map50": 0.5, "confidence": 0.6}})
    for path in (tmp_path / "judged.safetensors", tmp_path / "judged.pt"):
        judged, plain = open_predictor(path, "cpu"), DetectorPredictor(whole)
        assert judged.thresholds is not None and judged.thresholds.tolist() == [0.6] * len(NAMES)
        few, many = (one.predict(make_pictures()) for one in (judged, plain))
        assert sum(len(one.above(0.6)) for one in many) < sum(map(len, many))
        assert [len(one) for one in few] == [len(one.above(0.6)) for one in many]
    folder = open_predictor(write_predictor_folder(tmp_path / "folder", tmp_path / "judged.pt"), "cpu")
    assert folder.thresholds is not None and set(folder.thresholds.tolist()) == {0.6}
    described = describe_graph(load_detector(tmp_path / "judged.pt"), GraphOptions(64, 64), "0" * 64)
    assert describe_exported(tmp_path, {key: str(value) for key, value in described.items()}).confidence == 0.6
    assert "confidence" not in describe_graph(whole, GraphOptions(64, 64), "0" * 64)


def test_classes_of_the_same_names_are_numbered_as_asked(tmp_path: Path) -> None:
    save_small(tmp_path)
    plain, other = (open_predictor(tmp_path / "best.safetensors", "cpu") for _ in range(2))
    turned = tuple(reversed(NAMES))
    assert other.number_as(turned) and other.names == turned
    found = 0
    for one, same_one in zip(plain.predict(make_pictures()), other.predict(make_pictures()), strict=True):
        assert one.boxes.tolist() == same_one.boxes.tolist() and one.scores.tolist() == same_one.scores.tolist()
        assert [NAMES[index] for index in one.classes] == [turned[index] for index in same_one.classes]
        found += len(one)
    assert found
    assert other.number_as(NAMES) and other.names == NAMES, "back again"
    assert not other.number_as(NAMES[:-1]) and not other.number_as((*NAMES[:-1], "whale"))


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return make_pictures()


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> LoadedDetector:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    save_small(folder)
    return load_detector(folder / "best.safetensors")


@pytest.fixture(scope="module")
def files(detector: LoadedDetector) -> dict[str, Path]:
    """The same model in a file of each kind."""
    folder = detector.path.parent
    options = GraphOptions(SIZE, SIZE, dynamic=True)
    metadata = describe_graph(detector, options, "")
    resolve("exporter", "onnx")().export(detector, options, metadata, folder / "best.onnx")
    write_bytes(folder / "best.torchscript", trace(detector, options, metadata))
    write_predictor_folder(folder / "folder", detector.path)
    found = {name: folder / f"best.{name}" for name in names("predictor")}
    return {**found, "folder": folder / "folder"}


@pytest.fixture(scope="module")
def expected(detector: LoadedDetector) -> list[Detections]:
    return found_by_network(detector)


@pytest.fixture
def records(pictures: list[np.ndarray], tmp_path: Path) -> list[Record]:
    return write_records(pictures, tmp_path)


@pytest.mark.parametrize("name", names("predictor"))
class TestEveryPredictor(PredictorContract):
    """All there are."""

    holds_network = ("safetensors", "pt", "folder")

    @pytest.fixture
    def path(self, files: dict[str, Path], name: str) -> Path:
        return files[name]

    def place(self, name: str, folder: Path) -> Path:
        return folder / "folder" if name == "folder" else super().place(name, folder)

    def write_damaged(self, path: Path) -> None:
        if path.suffix:
            super().write_damaged(path)
            return
        path.mkdir()
        (path / DESCRIPTION_FILE).write_text("{")


def test_unknown_kinds_of_files_are_told(tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"")
    with pytest.raises(UserError, match=r"model\.engine.*no model that can be opened; a model is a \.safetensors"):
        open_predictor(tmp_path / "model.engine")


def test_boxes_are_those_of_ultralytics(files: dict[str, Path], pictures: list[np.ndarray]) -> None:
    theirs = YOLO(files["pt"])
    ours = open_predictor(files["pt"], "cpu", fuse=True).predict(pictures, SURE)
    for picture, found in zip(pictures, ours, strict=True):
        rows = theirs.predict(picture[:, :, ::-1], conf=0.3, iou=0.6, device="cpu", verbose=False)[0].boxes.data.numpy()
        expected = Detections(rows[:, :4], rows[:, 4], rows[:, 5])
        assert len(expected) == len(found) and same(found, expected)


class TestFixedGraph:
    """A graph that takes two pictures of one size, no more and no fewer."""

    OPTIONS = GraphOptions(96, 128, batch=2)

    @pytest.fixture
    def predictor(self, detector: LoadedDetector) -> Predictor:
        path = detector.path.with_name("fixed.onnx")
        if path.is_file():
            return open_predictor(path, "cpu")
        metadata = describe_graph(detector, self.OPTIONS, "")
        resolve("exporter", "onnx")().export(detector, self.OPTIONS, metadata, path)
        return open_predictor(path, "cpu")

    def test_any_number_of_pictures_goes_through(
        self, predictor: Predictor, pictures: list[np.ndarray], detector: LoadedDetector
    ) -> None:
        assert predictor.accepts == InputShape(2, (96, 128)) and predictor.image_size == 128
        together = predictor.predict(pictures, SURE)
        assert sum(len(one) for one in together) > 10
        alone = [predictor.predict([picture], replace(SURE, batch=1))[0] for picture in pictures]
        assert all_same(together, alone)
        network = DetectorPredictor(detector)
        network.accepts = predictor.accepts
        assert all_same(together, network.predict(pictures, SURE))

    def test_another_size_is_refused(self, predictor: Predictor, pictures: list[np.ndarray]) -> None:
        with pytest.raises(UserError, match="takes pictures of 128x96 pixels only, not of 160"):
            predictor.predict(pictures, replace(SURE, image_size=160))
        with pytest.raises(UserError, match="128x96"):
            open_predictor(predictor.path, "cpu", image_size=160)


def test_eight_bit_graphs_open_as_others_do(
    files: dict[str, Path], pictures: list[np.ndarray], expected: list[Detections], tmp_path: Path
) -> None:
    quantize_dynamic(files["onnx"], tmp_path / "small.onnx", weight_type=QuantType.QUInt8)
    predictor = open_predictor(tmp_path / "small.onnx", "cpu")
    assert predictor.names == NAMES
    found = predictor.predict(pictures, SURE)
    near = [
        (iou_matrix(ours.boxes, theirs.boxes) > 0.7).any(axis=0) for ours, theirs in zip(found, expected, strict=True)
    ]
    assert np.concatenate(near).mean() > 0.7 and not all_same(found, expected)


class TestExportedMetadata:
    """Names and size come from the file, in the words of Ultralytics."""

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"names": None}, "says nothing of its classes"),
            ({"task": "segment"}, "the task segment"),
            ({"args": {"nms": True}}, "applies its own non-maximum suppression"),
            ({"nms": True}, "applies its own non-maximum suppression"),
        ],
    )
    def test_what_is_no_plain_detector_is_refused(
        self, changes: dict[str, object], said: str, detector: LoadedDetector
    ) -> None:
        metadata = {**describe_graph(detector, GraphOptions(64, 64), ""), **changes}
        with pytest.raises(UserError, match=rf"m\.torchscript.*{said}"):
            describe_exported(Path("m.torchscript"), metadata)

    def test_literals_of_python_are_read(self, detector: LoadedDetector, tmp_path: Path) -> None:
        options = GraphOptions(64, 64)
        names = {"names": "{0: 'it''s', 1: \"b's\", 10: 'c'}", "imgsz": "[64, 64]", "batch": "1"}
        path = tmp_path / "m.torchscript"
        write_bytes(path, trace(detector, options, {**describe_graph(detector, options, ""), **names}))
        predictor = open_predictor(path, "cpu")
        assert predictor.names == ("its", "b's", "c") and predictor.accepts == InputShape(1, (64, 64))


class TestPredictorFolder:
    """Names, size, calibration and thresholds that lie beside a model."""

    NAMES = ("cod", "medusa", "star")

    def opened(self, detector: LoadedDetector, folder: Path, **said: object) -> Predictor:
        description = FolderDescription("", **said)  # type: ignore[arg-type]
        return open_predictor(write_predictor_folder(folder / "p", detector.path, description), "cpu")

    def test_names_and_size_take_precedence_over_the_models(self, detector: LoadedDetector, tmp_path: Path) -> None:
        predictor = self.opened(detector, tmp_path, names=self.NAMES, image_size=64)
        assert predictor.names == self.NAMES and predictor.image_size == 64
        assert predictor.digest != self.opened(detector, tmp_path, names=self.NAMES).digest

    def test_thresholds_hold_unless_a_confidence_is_named(
        self, detector: LoadedDetector, tmp_path: Path, pictures: list[np.ndarray]
    ) -> None:
        thresholds = {NAMES[0]: 0.2, NAMES[1]: 1.0, NAMES[2]: 0.6}
        predictor = self.opened(detector, tmp_path, thresholds=thresholds)
        plain = DetectorPredictor(detector)
        limits = np.array(list(thresholds.values()))
        every_box = plain.predict(pictures, replace(SURE, confidence=0.1, iou=0.7))
        for found, every in zip(predictor.predict(pictures), every_box, strict=True):
            kept = every.scores >= limits[every.classes]
            assert np.allclose(found.boxes, every.boxes[kept]) and np.allclose(found.scores, every.scores[kept])
        assert all_same(predictor.predict(pictures, SURE), plain.predict(pictures, SURE))

    def test_scores_are_told_as_calibrated(
        self, detector: LoadedDetector, tmp_path: Path, pictures: list[np.ndarray]
    ) -> None:
        curves = [
            (np.array([0.0, 1.0]), np.array([0.0, 0.5])),
            (np.array([0.0, 0.4, 0.41, 1.0]), np.array([0.0, 0.1, 0.9, 0.9])),
            (np.array([0.0, 1.0]), np.array([0.0, 1.0])),
        ]
        calibration = ScoreCalibration(NAMES, tuple(curves), ("logistic", "isotonic", "none"), {})
        predictor = self.opened(detector, tmp_path, calibration=calibration)
        settings = replace(MEASURING, confidence=0.3, by_own_scores=False)
        plain = DetectorPredictor(detector).predict(pictures, replace(MEASURING, confidence=0.01, max_detections=9999))
        for found, every in zip(predictor.predict(pictures, settings), plain, strict=True):
            told = np.array([np.interp(s, *curves[k]) for s, k in zip(every.scores, every.classes, strict=True)])
            order = [place for place in np.argsort(-told, kind="stable") if told[place] >= 0.3]
            assert len(order) and np.all(np.diff(found.scores) <= 0)
            assert np.allclose(found.scores, told[order]) and np.allclose(found.boxes, every.boxes[order])
        (few,) = predictor.predict(pictures[:1], replace(settings, max_detections=2))
        assert len(few) == 2

    def test_calibration_and_thresholds_follow_the_numbers_of_the_classes(
        self, detector: LoadedDetector, tmp_path: Path, pictures: list[np.ndarray]
    ) -> None:
        curves = tuple((np.array([0.0, 1.0]), np.array([0.0, most])) for most in (0.3, 0.6, 0.9))
        calibration = ScoreCalibration(NAMES, curves, ("logistic", "isotonic", "none"), {})
        said = {"calibration": calibration, "thresholds": {NAMES[0]: 0.1, NAMES[1]: 0.2, NAMES[2]: 0.25}}
        plain, other = (self.opened(detector, tmp_path / name, **said) for name in "ab")
        turned = (NAMES[1], NAMES[2], NAMES[0])
        assert other.number_as(turned) and other.names == turned
        seen = set()
        for one, same_one in zip(plain.predict(pictures), other.predict(pictures), strict=True):
            assert one.scores.tolist() == same_one.scores.tolist() and one.boxes.tolist() == same_one.boxes.tolist()
            assert [NAMES[index] for index in one.classes] == [turned[index] for index in same_one.classes]
            seen |= set(one.classes.tolist())
        assert seen == {0, 1, 2}, "each curve took part"
        assert other.calibration is not None and other.calibration.methods == ("isotonic", "none", "logistic")

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"format": 99}, "format 1"),
            ({"model": "../best.safetensors"}, "a file in the same folder"),
            ({"model": "best.txt"}, "of no kind that can be opened"),
            ({"names": ["one"]}, "names 1 classes, best.safetensors has 3"),
            ({"names": "fish"}, "list of class names"),
            ({"image_size": "big"}, "number of pixels"),
            ({"thresholds": {"fish": 0.2}}, "a number for each of fish"),
            ({"thresholds": {"fish": 2}}, "from 0 to 1"),
            ({"calibration": {"names": ["fish"]}}, "calibration cannot be read"),
        ],
    )
    def test_what_is_wrong_in_it_is_told(
        self, changes: dict[str, object], said: str, detector: LoadedDetector, tmp_path: Path
    ) -> None:
        folder = write_predictor_folder(tmp_path / "p", detector.path)
        content = json.loads((folder / DESCRIPTION_FILE).read_text())
        (folder / DESCRIPTION_FILE).write_text(json.dumps({**content, **changes}))
        with pytest.raises(UserError, match=rf"predictor\.json.*{said}"):
            open_predictor(folder, "cpu")


def test_settings_out_of_range_are_told() -> None:
    for values in ({"confidence": 1.5}, {"iou": -0.1}, {"batch": 0}, {"max_detections": 0}, {"image_size": 0}):
        with pytest.raises(UserError, match=next(iter(values))):
            PredictionSettings(**values)  # type: ignore[arg-type]


def test_detection_stops_between_batches(detector: LoadedDetector, records: list[Record]) -> None:
    predictor = DetectorPredictor(detector)
    answers = iter((False, True))
    stopped = detect(
        predictor, records, DecodedPictures(records), range(5), replace(SURE, batch=1), lambda: next(answers)
    )
    assert stopped is None
    with pytest.raises(Interrupted):
        predict_records(predictor, records, SURE, Clock(max_seconds=1e-9), "looking")


def test_a_picture_of_another_size_than_its_record_is_set_aside(records: list[Record]) -> None:
    wrong = [replace(records[0], width=99)]
    with pytest.raises(UnreadablePictureError, match="its record says 99×96"):
        DecodedPictures(wrong).get(0)
    assert np.array_equal(DecodedPictures(records).get(0), load_rgb(records[0].picture))


def test_one_overlap_for_all() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    assert iou_matrix(box, np.array([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]])).tolist() == [[1 / 3, 1, 0]]
