"""The contract of predictors: one model, in whatever file it lies, finds the same boxes, however pictures are cut."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from ultralytics import YOLO

from lively_detectors import lively_detector
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, write_bytes
from marauder.core.plugins import names, resolve
from marauder.data.boxes import iou_matrix
from marauder.data.picture_files import load_rgb
from marauder.data.pictures import UnreadablePictureError
from marauder.data.records import Detections, Record
from marauder.exporting.base import GraphOptions
from marauder.exporting.graph import describe_graph
from marauder.exporting.inputs import make_batches, pattern
from marauder.exporting.tracing import trace
from marauder.models.files import LoadedDetector, load_detector, save_detector
from marauder.prediction.detector import DetectorPredictor
from marauder.prediction.export_metadata import describe_exported
from marauder.prediction.folder import DESCRIPTION_FILE, FolderDescription, write_predictor_folder
from marauder.prediction.opening import open_predictor
from marauder.prediction.predictor import InputShape, Predictor
from marauder.prediction.records import DecodedPictures, detect, predict_records
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.prediction.settings import MEASURING, PREDICTING, PredictionSettings

NAMES = ("fish", "jelly's fish", "starfish")
SIZE = 128
SHAPES = ((96, 128), (60, 50), (96, 128), (33, 120), (128, 96))
SURE = replace(PREDICTING, confidence=0.3, iou=0.6)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Pictures of several shapes."""
    return [cv2.resize(pattern(3, number), shape[::-1]) for number, shape in enumerate(SHAPES)]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> LoadedDetector:
    """A small detector that finds boxes."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    inputs = np.concatenate(make_batches([pattern(1, number) for number in range(4)], GraphOptions(SIZE, SIZE), 32))
    save_detector(lively_detector("yolov8t", NAMES, inputs), folder / "best", SIZE, {})
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
def expected(detector: LoadedDetector, pictures: list[np.ndarray]) -> list[Detections]:
    """What the network itself finds."""
    found = DetectorPredictor(detector).predict(pictures, SURE)
    assert sum(len(one) for one in found) > 20, "too few boxes to compare anything"
    return found


@pytest.fixture
def records(pictures: list[np.ndarray], tmp_path: Path) -> list[Record]:
    """The pictures on disk."""
    found = []
    for number, picture in enumerate(pictures):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), picture[:, :, ::-1])
        found.append(Record(path.stem, path, picture.shape[1], picture.shape[0]))
    return found


def same(first: Detections, second: Detections, pixels: float = 0.05, score: float = 1e-3) -> bool:
    """Whether both hold the same boxes, but for rounding and one box in twenty that stands at a limit."""
    near = np.abs(first.boxes[:, None] - second.boxes[None]).max(axis=2, initial=0) <= pixels
    near &= np.abs(first.scores[:, None] - second.scores[None]) <= score
    near &= first.classes[:, None] == second.classes[None]
    alone = int((~near.any(axis=1)).sum() + (~near.any(axis=0)).sum())
    return alone <= (len(first) + len(second)) / 20


def all_same(first: list[Detections], second: list[Detections]) -> bool:
    return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("name", names("predictor"))
class TestPredictorContract:
    """What every kind of model file promises."""

    @pytest.fixture
    def path(self, files: dict[str, Path], name: str) -> Path:
        return files[name]

    @pytest.fixture
    def predictor(self, path: Path) -> Predictor:
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
        path = tmp_path / ("folder" if name == "folder" else f"model.{name}")
        with pytest.raises(UserError, match=f"{path.name}.*no such file"):
            open_predictor(path, "cpu")
        if name == "folder":
            path.mkdir()
            (path / DESCRIPTION_FILE).write_text("{")
        else:
            path.write_bytes(b"PK\x03\x04 no model at all")
        with pytest.raises(UserError, match=path.name):
            open_predictor(path, "cpu")

    def test_a_device_that_is_not_there_is_named(self, path: Path) -> None:
        with pytest.raises(UserError, match="device"):
            open_predictor(path, "cuda:77")

    def test_inside_is_seen_only_with_a_network(self, predictor: Predictor, name: str) -> None:
        if name in ("onnx", "torchscript"):
            with pytest.raises(UserError, match=r"\.pt or \.safetensors"):
                _ = predictor.network
        else:
            assert predictor.network.stride.max() == 32


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
            ({"args": {"nms": True}}, "suppresses boxes by itself"),
            ({"nms": True}, "suppresses boxes by itself"),
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
        settings = replace(MEASURING, confidence=0.3)
        plain = DetectorPredictor(detector).predict(pictures, replace(MEASURING, confidence=0.01, max_detections=9999))
        for found, every in zip(predictor.predict(pictures, settings), plain, strict=True):
            told = np.array([np.interp(s, *curves[k]) for s, k in zip(every.scores, every.classes, strict=True)])
            order = [place for place in np.argsort(-told, kind="stable") if told[place] >= 0.3]
            assert len(order) and np.all(np.diff(found.scores) <= 0)
            assert np.allclose(found.scores, told[order]) and np.allclose(found.boxes, every.boxes[order])
        (few,) = predictor.predict(pictures[:1], replace(settings, max_detections=2))
        assert len(few) == 2

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
