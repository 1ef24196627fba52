"""Detectors by name: every scale builds with the published size, answers in the documented forms, follows its seed."""

from __future__ import annotations

import pytest
import torch

from marauder.core.errors import UserError
from marauder.models.naming import detector_names
from marauder.models.ultralytics_adapter import build_detector, input_stride

NAMES = ("fish", "shark", "starfish")
COCO_CLASSES = [f"class {index}" for index in range(80)]
PUBLISHED_MILLIONS = {
    "yolov8n": 3.2,
    "yolov8s": 11.2,
    "yolov8m": 25.9,
    "yolov8l": 43.7,
    "yolov8x": 68.2,
    "yolo11n": 2.6,
    "yolo11s": 9.4,
    "yolo11m": 20.1,
    "yolo11l": 25.3,
    "yolo11x": 56.9,
}


def test_every_name_is_either_published_or_the_tiny_scale() -> None:
    assert set(detector_names()) == {*PUBLISHED_MILLIONS, "yolov8t", "yolo11t"}


@pytest.mark.parametrize("name", list(PUBLISHED_MILLIONS))
def test_a_scale_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("cpu"):
        model = build_detector(name, COCO_CLASSES)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED_MILLIONS[name], abs=0.11)
    assert input_stride(model) == 32
    assert model.names == dict(enumerate(COCO_CLASSES))


@pytest.mark.parametrize("name", ["yolov8t", "yolo11t"])
def test_the_tiny_scale_is_tiny(name: str) -> None:
    model = build_detector(name, NAMES)
    assert 30_000 < sum(parameter.numel() for parameter in model.parameters()) < 90_000


@pytest.mark.parametrize("name", ["yolov8t", "yolo11t", "yolov8n", "yolo11n"])
def test_answers_come_in_the_documented_forms(name: str) -> None:
    model = build_detector(name, NAMES)
    pictures = torch.rand(2, 3, 64, 96)
    anchors = sum((64 // stride) * (96 // stride) for stride in (8, 16, 32))
    channels = 4 * model.model[-1].reg_max
    raw = model.train()(pictures)
    assert set(raw) == {"boxes", "scores", "feats"}
    assert raw["boxes"].shape == (2, channels, anchors)
    assert raw["scores"].shape == (2, len(NAMES), anchors)
    with torch.no_grad():
        decoded, forms = model.eval()(pictures)
    assert decoded.shape == (2, 4 + len(NAMES), anchors)
    assert set(forms) == {"boxes", "scores", "feats"}
    scores = decoded[:, 4:]
    assert 0 <= float(scores.min()) <= float(scores.max()) <= 1


def test_weights_are_a_function_of_the_seed_and_nothing_else() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = build_detector("yolov8t", NAMES, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before), "building a detector drew from the global stream"
    torch.manual_seed(6)
    again, other = build_detector("yolov8t", NAMES, seed=3), build_detector("yolov8t", NAMES, seed=4)
    pairs = [(first.state_dict()[key], again.state_dict()[key]) for key in first.state_dict()]
    assert all(torch.equal(left, right) for left, right in pairs)
    assert any(not torch.equal(first.state_dict()[key], other.state_dict()[key]) for key in first.state_dict())


@pytest.mark.parametrize("name", ["yolov9n", "yolov8", "yolov8q", "../yolov8n", "yolov8n.yaml.pt.exe", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match=r"[Tt]here are: yolov8t, yolov8n"):
        build_detector(name, NAMES)


@pytest.mark.parametrize("name", ["yolov8t.yaml", "yolov8t.pt", "YOLOv8t"])
def test_spellings_users_bring_along_are_understood(name: str) -> None:
    assert build_detector(name, NAMES).marauder_architecture == "yolov8t"


def test_a_detector_of_no_class_is_refused() -> None:
    with pytest.raises(UserError, match="at least one class"):
        build_detector("yolov8t", [])
