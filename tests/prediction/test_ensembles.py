"""Several detectors as one predictor folder: every member is asked, each picture is fitted once for a size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from marauder.core.errors import UserError
from marauder.core.files import read_json, write_json
from marauder.core.plugins import make
from marauder.data.records import Dataset, Detections
from marauder.exporting.inputs import pattern
from marauder.imaging.letterbox import Letterbox
from marauder.prediction.ensemble import RAW_SHARE, EnsemblePredictor, calibrated
from marauder.prediction.ensemble_description import EnsembleDescription, MemberDescription
from marauder.prediction.folder_description import (
    FolderDescription,
    read_description,
    write_description,
    write_predictor_folder,
)
from marauder.prediction.opening import open_predictor
from marauder.prediction.records import predict_records
from marauder.prediction.score_calibration import ScoreCalibration
from marauder.prediction.settings import MEASURING, PREDICTING
from marauder.tasks.detection.evaluate_split import evaluate_split
from marauder.testing.fusions import same
from marauder.testing.lively_detectors import save_lively
from marauder.testing.predictors import make_pictures, write_records
from marauder.testing.predictors import same as alike

NAMES = ("fish", "ray", "star")
CURVE = (np.array([0.0, 0.4, 0.6, 1.0]), np.array([0.0, 0.3, 0.3, 0.9]))
"""A calibration with a level stretch."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three detectors: of other sizes, and one that knows two of the classes, in another order, and one more."""
    folder = tmp_path_factory.mktemp("members")
    for seed, (name, architecture, names, size) in enumerate(
        [("a", "yolov8t", NAMES, 96), ("b", "yolo11t", NAMES, 96), ("c", "yolov8t", ("star", "crab", "fish"), 64)]
    ):
        save_lively(folder / name, architecture, seed, size, class_names=names)
    return {name: folder / f"{name}.safetensors" for name in "abc"}


def write(
    folder: Path, models: dict[str, Path], members: str, thresholds: dict[str, float] | None = None, **ensemble: Any
) -> Path:
    """An ensemble of some of the models; c has a calibration."""
    described = []
    for place, name in enumerate(members):
        said = None
        if name == "c":
            said = FolderDescription(
                "", calibration=ScoreCalibration(("star", "crab", "fish"), (CURVE,) * 3, ("isotonic",) * 3, {})
            )
        write_predictor_folder(folder / name, models[name], said)
        described.append(MemberDescription(name, 1.0 + place, {"ray": 2.0} if name == "b" else {}))
    fused = EnsembleDescription(tuple(described), **ensemble)
    return write_description(folder, FolderDescription("", NAMES, thresholds=thresholds, ensemble=fused))


def by_hand(models: dict[str, Path], members: str, picture: np.ndarray, least: float) -> Detections:
    """What an ensemble of some of the models must find."""
    found, weights = [], []
    for place, name in enumerate(members):
        predictor = open_predictor(models[name], "cpu")
        (one,) = predictor.predict([picture], replace(MEASURING, confidence=least, multi_label=False))
        if name == "c":
            curve = ScoreCalibration(predictor.names, (CURVE,) * 3, ("isotonic",) * 3, {})
            one = calibrated(curve, one)
        known = np.array([predictor.names[number] in NAMES for number in one.classes], bool)
        classes = [NAMES.index(predictor.names[number]) for number in one.classes[known]]
        found.append(Detections(one.boxes[known], one.scores[known], np.array(classes, np.int64)))
        row = np.array([1.0 + place if name in predictor.names else 0.0 for name in NAMES])
        weights.append(row * [1, 2, 1] if name == "b" else row)
    return make("fusion", "weighted_boxes").fuse(found, np.array(weights))


@pytest.mark.parametrize("members", ["ab", "abc", "ca"])
def test_what_members_find_is_fused(models: dict[str, Path], members: str, tmp_path: Path) -> None:
    predictor = open_predictor(write(tmp_path, models, members, least=0.02), "cpu")
    assert isinstance(predictor, EnsemblePredictor) and predictor.names == NAMES
    pictures = make_pictures()
    found = predictor.predict(pictures, replace(PREDICTING, confidence=0.0))
    assert sum(map(len, found)) > 100
    for one, picture in zip(found, pictures, strict=True):
        expected = by_hand(models, members, picture, 0.02).surest(PREDICTING.max_detections)
        assert alike(one, expected)
        np.testing.assert_allclose(one.scores, expected.scores, atol=1e-4)


def test_confidence_and_classes_only_choose_among_the_fused_boxes(models: dict[str, Path], tmp_path: Path) -> None:
    thresholds = {"fish": 0.2, "ray": 0.35, "star": 0.05}
    predictor = open_predictor(write(tmp_path, models, "abc", thresholds), "cpu")
    picture = make_pictures()[:1]
    (every,) = predictor.predict(picture, replace(PREDICTING, confidence=0.0))
    (sure,) = predictor.predict(picture, replace(PREDICTING, confidence=0.3))
    assert 0 < len(sure) < len(every) and same(sure, every.above(0.3))
    (own,) = predictor.predict(picture)
    limits = np.array([thresholds[name] for name in NAMES])
    keep = every.scores >= limits[every.classes]
    assert same(own, Detections(every.boxes[keep], every.scores[keep], every.classes[keep]))
    (fish,) = predictor.predict(picture, replace(PREDICTING, confidence=0.0, classes=("fish",)))
    assert len(fish) and same(fish, Detections(*(part[every.classes == 0] for part in vars_of(every))))
    with pytest.raises(UserError, match="knows no whale"):
        predictor.predict(picture, replace(PREDICTING, classes=("whale",)))


def vars_of(found: Detections) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return found.boxes, found.scores, found.classes


def test_the_classes_may_be_numbered_otherwise(models: dict[str, Path], tmp_path: Path) -> None:
    folder = write(tmp_path, models, "abc", {"fish": 0.2, "ray": 0.35, "star": 0.05})
    predictor, other = open_predictor(folder, "cpu"), open_predictor(folder, "cpu")
    turned = ("star", "fish", "ray")
    assert other.number_as(turned) and other.names == turned and not other.number_as(("star", "fish"))
    assert other.thresholds is not None and other.thresholds.tolist() == [0.05, 0.2, 0.35]
    (one,), (two,) = (each.predict(make_pictures()[:1]) for each in (predictor, other))
    assert len(one) and len(one) == len(two)
    assert [NAMES[number] for number in one.classes] == [turned[number] for number in two.classes]
    np.testing.assert_allclose(one.scores, two.scores)


def test_members_of_one_size_share_the_letterboxed_picture(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[tuple[int, int]] = []
    apply = Letterbox.apply

    def counted(self: Letterbox, picture: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        fitted.append(self.shape)
        return apply(self, picture, out)

    monkeypatch.setattr(Letterbox, "apply", counted)
    picture = make_pictures()[:1]
    open_predictor(write(tmp_path / "same", models, "ab"), "cpu").predict(picture)
    assert len(fitted) == 1
    fitted.clear()
    mixed = open_predictor(write(tmp_path / "mixed", models, "abc"), "cpu")
    assert mixed.image_size == 96
    mixed.predict(picture)
    # The picture as it is, then once for each of two sizes, not three.
    assert len(fitted) == 3 and fitted[0] == picture[0].shape[:2]
    fitted.clear()
    mixed.predict(picture, replace(PREDICTING, image_size=64))
    assert len(fitted) == 1
    assert open_predictor(tmp_path / "mixed", "cpu", image_size=128).image_size == 128


def test_records_give_the_same_and_a_broken_picture_is_set_aside(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = open_predictor(write(tmp_path / "e", models, "abc"), "cpu")
    pictures = make_pictures()
    records = write_records(pictures, tmp_path)
    records[1].picture.write_bytes(b"no picture")
    found = predict_records(predictor, records, PREDICTING, None, "looking")
    assert found[1].detections is None and str(records[1].picture) in (found[1].set_aside or "")
    expected = predictor.predict(pictures, PREDICTING)
    for place in (0, 2, 3, 4):
        one = found[place].detections
        assert one is not None and len(one) == len(expected[place])
        np.testing.assert_allclose(one.scores, expected[place].scores, atol=1e-4)


def test_it_is_evaluated_like_a_model(models: dict[str, Path], tmp_path: Path) -> None:
    folder = write(tmp_path / "e", models, "ab")
    predictor = open_predictor(folder, "cpu")
    records = []
    for record, found in zip(
        write_records(make_pictures(), tmp_path), predictor.predict(make_pictures(), MEASURING), strict=True
    ):
        best = found.surest(3)
        records.append(
            replace(record, boxes=best.boxes, classes=best.classes, ignored=np.zeros(len(best), bool), split="test")
        )
    measured = evaluate_split(folder, Dataset(NAMES, tuple(records)), "test", predictor.device, None)
    assert measured.result.overall.map50 > 0.3


def test_what_needs_a_network_says_what_to_name(models: dict[str, Path], tmp_path: Path) -> None:
    predictor = open_predictor(write(tmp_path, models, "ab"), "cpu")
    with pytest.raises(UserError, match=r"ensemble \(a, b\).*network"):
        _ = predictor.network
    with pytest.raises(UserError, match=r"ensemble \(a, b\).*fused boxes"):
        predictor.run_inputs([np.zeros((96, 96, 3), np.uint8)])


def test_every_member_and_weight_counts_for_its_identity(models: dict[str, Path], tmp_path: Path) -> None:
    digests = {
        open_predictor(write(tmp_path / "1", models, "ab"), "cpu").digest,
        open_predictor(write(tmp_path / "2", models, "ab"), "cpu").digest,
        open_predictor(write(tmp_path / "3", models, "ac"), "cpu").digest,
        open_predictor(write(tmp_path / "4", models, "ba"), "cpu").digest,
        open_predictor(write(tmp_path / "5", models, "ab", fusion="nms"), "cpu").digest,
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"members": []}, "one at least"),
        ({"members": [{"model": "../a"}]}, "beside predictor.json"),
        ({"members": [{"model": ".."}]}, "beside predictor.json"),
        ({"members": [{"model": "gone"}]}, "gone is not there"),
        ({"members": [{"model": "a", "weight": 0}]}, "above 0"),
        ({"members": [{"model": "a", "weight": float("nan")}]}, "above 0|cannot"),
        ({"members": [{"model": "a", "class_weights": {"fish": -1}}]}, "class_weights"),
        ({"members": ["a"]}, "must name a model"),
        ({"fusion": "median"}, "no fusion named"),
        ({"fusion": 3}, "fusion 3"),
        ({"options": {"overlap": 7}}, "overlap"),
        ({"options": []}, "options"),
        ({"least": 2}, "least"),
    ],
)
def test_a_wrong_description_is_named(
    models: dict[str, Path], change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, models, "ab")
    content = read_json(folder / "predictor.json")
    content["ensemble"] |= change
    write_json(folder / "predictor.json", content)
    with pytest.raises(UserError, match=words) as raised:
        open_predictor(folder, "cpu")
    assert "predictor.json" in str(raised.value) or "fusion" in words


def test_classes_that_no_member_knows_are_named(models: dict[str, Path], tmp_path: Path) -> None:
    folder = write(tmp_path, models, "ab")
    content = read_json(folder / "predictor.json")
    write_json(folder / "predictor.json", content | {"names": [*NAMES, "whale"]})
    with pytest.raises(UserError, match="names whale, which no member knows"):
        open_predictor(folder, "cpu")
    write_json(folder / "predictor.json", content | {"names": None})
    with pytest.raises(UserError, match="must name its classes"):
        open_predictor(folder, "cpu")


def test_where_a_curve_is_level_boxes_keep_their_order() -> None:
    found = Detections(np.tile([0.0, 0, 1, 1], (3, 1)), np.array([0.58, 0.5, 0.45]), np.zeros(3, np.int64))
    scores = calibrated(ScoreCalibration(("fish",), (CURVE,), ("isotonic",), {}), found).scores
    assert scores[0] > scores[1] > scores[2]
    np.testing.assert_allclose(scores, 0.3, atol=RAW_SHARE)


def test_a_picture_is_not_taken_for_a_letterboxed_one(models: dict[str, Path], tmp_path: Path) -> None:
    """A picture that already has the size of the input is fitted for the other member all the same."""
    predictor = open_predictor(write(tmp_path, models, "ac", least=0.02), "cpu")
    picture = cv2.resize(pattern(1, 3), (96, 96))
    (found,) = predictor.predict([picture], replace(PREDICTING, confidence=0.0))
    expected = by_hand(models, "ac", picture, 0.02)
    assert len(found) == min(len(expected), PREDICTING.max_detections)
    np.testing.assert_allclose(found.scores, expected.surest(PREDICTING.max_detections).scores, atol=1e-4)


def test_a_member_that_looks_in_views_sees_the_picture_itself(models: dict[str, Path], tmp_path: Path) -> None:
    """Its views are of the picture, not of another member's input; boxes are in pixels of the picture."""
    flipping = FolderDescription("", views=("plain", "flip"))
    write_predictor_folder(tmp_path / "fused" / "a", models["a"], flipping)
    write_predictor_folder(tmp_path / "fused" / "b", models["b"])
    members = (MemberDescription("a"), MemberDescription("b"))
    folder = write_description(
        tmp_path / "fused", FolderDescription("", NAMES, ensemble=EnsembleDescription(members, least=0.02))
    )
    pictures = make_pictures()
    settings = replace(MEASURING, confidence=0.02, multi_label=False)
    own = [open_predictor(tmp_path / "fused" / name, "cpu").predict(pictures, settings) for name in "ab"]
    fusion = make("fusion", "weighted_boxes")
    ensemble = open_predictor(folder, "cpu")
    for found, *seen in zip(ensemble.predict(pictures, replace(PREDICTING, confidence=0.0)), *own, strict=True):
        assert len(found) and alike(found, fusion.fuse(seen, np.ones((2, 3))).surest(PREDICTING.max_detections))
    assert not ensemble.takes_other_sizes, "a member's own views have sizes of their own"


def test_views_of_an_ensemble_at_other_sizes_only_where_its_members_share_one(
    models: dict[str, Path], tmp_path: Path
) -> None:
    alike_ones = write(tmp_path / "ab", models, "ab")
    different = write(tmp_path / "abc", models, "abc")
    assert open_predictor(alike_ones, "cpu").takes_other_sizes
    assert not open_predictor(different, "cpu").takes_other_sizes
    for folder, views in ((alike_ones, ("plain", "scale_1.25")), (different, ("plain", "flip"))):
        write_description(folder, replace(read_description(folder), views=views))
        found = open_predictor(folder, "cpu").predict(make_pictures()[:2], replace(PREDICTING, confidence=0.0))
        assert sum(map(len, found)) > 10
    write_description(different, replace(read_description(different), views=("plain", "scale_1.25")))
    with pytest.raises(UserError, match=r"scale_1\.25 needs another input size, and .* members whose inputs differ"):
        open_predictor(different, "cpu")
