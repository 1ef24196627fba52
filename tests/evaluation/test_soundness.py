"""Damaged and untrained detectors are called so when they are measured; sound ones are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from marauder.cli.main import app
from marauder.core.files import read_json
from marauder.data.records import Detections
from marauder.models.files import save_detector
from marauder.models.ultralytics_adapter import DetectionModel, build_detector
from marauder.tasks.detection.soundness import doubts_of_answers, doubts_of_weights
from marauder.testing.lively_detectors import lively_detector

SIZE = 64


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled pictures of noise."""
    folder, random = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for split, count in {"train": 1, "test": 3}.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(count):
            noise = random.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
            cv2.imwrite(str(folder / "images" / split / f"{split}{index}.png"), noise)
            (folder / "labels" / split / f"{split}{index}.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\ntest: images/test\nnames: [fish, crab]\n")
    return folder / "data.yaml"


def lively() -> DetectionModel:
    inputs = np.random.default_rng(1).random((4, 3, SIZE, SIZE)).astype(np.float32)
    return lively_detector("yolov8t", ("fish", "crab"), inputs)


def one_nan(model: DetectionModel) -> None:
    model.model[0].conv.weight[0, 0, 0, 0] = float("nan")


def all_equal(model: DetectionModel) -> None:
    for parameter in model.parameters():
        parameter.fill_(0.01)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (one_nan, ["1 of", "(model.0.conv.weight) hold numbers that are not finite", "nothing was found in any of 3"]),
        (all_equal, ["hold the same number throughout", "have nearly the same score"]),
    ],
)
def test_evaluate_warns_of_a_damaged_detector(
    damage: Callable[[DetectionModel], None],
    said: list[str],
    pictures: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = lively()
    with torch.no_grad():
        damage(model)
    save_detector(model, tmp_path / "odd", SIZE, {})
    words = ["evaluate", "--model", str(tmp_path / "odd.safetensors"), "--data-yaml", str(pictures)]
    result = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    for part in said:
        assert any(part in record.message and "odd.safetensors" in record.message for record in caplog.records), part
    caveats = read_json(tmp_path / "out" / "eval_report.json")["caveats"]
    assert [one["weight"] for one in caveats if one["kind"] == "doubtful_detector"] == ["serious"] * 2
    assert said[-1] in (tmp_path / "out" / "report.html").read_text(encoding="utf-8").lower()


def test_a_sound_detector_raises_no_doubt() -> None:
    assert doubts_of_weights(lively()) == []
    assert doubts_of_weights(build_detector("yolov8t", ["fish"])) == [], "random weights are no damage"


def found(*scores: float) -> Detections:
    return Detections(np.tile([0.0, 0.0, 9.0, 9.0], (len(scores), 1)), np.array(scores), np.zeros(len(scores)))


@pytest.mark.parametrize(
    ("detections", "said"),
    [
        ([], []),
        ([found(), found()], ["nothing was found in any of 2 pictures"]),
        ([found(0.2, 0.2), found(0.2)], ["all 3 detections have nearly the same score, 0.2"]),
        ([found(0.02, 0.01), found(0.02, 0.015)], ["the best score is about 0.02 in every picture"]),
        ([found(0.9, 0.1), found(0.8)], []),
        ([found(0.9)], []),
        ([found(0.9, 0.4), found()], []),
    ],
)
def test_answers_that_say_nothing_are_named(detections: list[Detections], said: list[str]) -> None:
    doubts = doubts_of_answers(detections)
    assert len(doubts) == len(said)
    assert all(doubt.startswith(part) for doubt, part in zip(doubts, said, strict=True)), doubts
