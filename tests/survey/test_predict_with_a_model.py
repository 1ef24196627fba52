"""``marauder predict`` with a real detector on real pictures: the boxes that the predictor itself gives."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from perfect_detector import write_video

import marauder
from marauder.data.picture_files import load_rgb


def test_a_size_that_is_rounded_up_is_told(shared_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = shared_data / "weights" / "yolov8n_coco.pt"
    shutil.copy(next((shared_data / "aquarium" / "images").glob("IMG_*.jpg")), tmp_path / "a.jpg")
    for size, told in ((160, 0), (161, 1)):
        caplog.clear()
        settings = {"image_size": size, "device": "cpu", "formats": ["boxes"]}
        marauder.predict(weights, tmp_path / "a.jpg", tmp_path / str(size), settings=settings)
        assert (
            caplog.text.count("--imgsz 161: rounded up to 192 pixels, a multiple of the model's stride of 32") == told
        )


def test_predict_gives_the_predictors_boxes_on_pictures_and_frames(shared_data: Path, tmp_path: Path) -> None:
    from marauder.prediction.opening import open_predictor
    from marauder.prediction.settings import PredictionSettings

    weights = shared_data / "weights" / "yolov8n_coco.pt"
    folder = tmp_path / "in"
    folder.mkdir()
    pictures = sorted((shared_data / "aquarium" / "images").glob("IMG_*.jpg"))[:6]
    for picture in pictures:
        shutil.copy(picture, folder)
    pixels = [load_rgb(picture) for picture in pictures]
    write_video(folder / "tank.mp4", [pixels[0]] * 4)
    settings = {"confidence": 0.05, "image_size": 320, "every": 2, "device": "cpu", "batch": 4, "formats": ["boxes"]}
    summary = marauder.predict(weights, folder, tmp_path / "out", settings=settings)
    assert (summary.pictures, summary.frames) == (6, 2) and summary.page.is_file()
    with (tmp_path / "out" / "boxes.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["frame"] for row in rows if row["file"] == "tank.mp4"} <= {"0", "2"}
    predictor = open_predictor(weights, device="cpu")
    found = predictor.predict(pixels, PredictionSettings(confidence=0.05, image_size=320, batch=4))
    assert sum(len(one) for one in found) > 5
    for picture, one in zip(pictures, found, strict=True):
        own = [row for row in rows if row["file"] == picture.name]
        assert [row["species"] for row in own] == [predictor.names[index] for index in one.classes]
        assert np.allclose([float(row["score"]) for row in own], one.scores, atol=2e-4)
        boxes = np.array([[float(row[side]) for side in ("x0", "y0", "x1", "y1")] for row in own]).reshape(-1, 4)
        assert np.allclose(boxes, one.boxes, atol=0.05)
