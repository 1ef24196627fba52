"""Detector files: what is saved comes back, opens in Ultralytics with the same boxes, and nothing foreign is run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics import YOLO

from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.data.picture_files import find_pictures
from marauder.data.pictures import decode_picture
from marauder.exporting.parity import pairs_by_overlap
from marauder.imaging.letterbox import fit
from marauder.models.files import load_detector, restore_detector, save_detector
from marauder.models.ultralytics_adapter import (
    DetectionModel,
    build_detector,
    load_foreign_checkpoint,
    prepare,
    suppress,
)
from marauder.testing.lively_detectors import lively_detector

NAMES = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")
SIZE = 320
CONFIDENCE, OVERLAP = 0.3, 0.6


@pytest.fixture(scope="module")
def pictures(shared_data: Path) -> list[Path]:
    """Pictures of different shapes and from both aquaria."""
    return find_pictures(shared_data / "aquarium" / "images")[::90]


# The first with the class branch of a start from 50 classes.
@pytest.fixture(scope="module", params=[("yolov8t", 50), ("yolo11t", None)], ids=["yolov8t-wide", "yolo11t"])
def detector(request: pytest.FixtureRequest, pictures: list[Path]) -> DetectionModel:
    name, width = request.param
    inputs = np.concatenate([to_input(path, True)[0] for path in pictures])
    return lively_detector(name, NAMES, inputs, branch_width=width)


@pytest.fixture(scope="module")
def saved(detector: DetectionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stem of a saved detector."""
    stem = tmp_path_factory.mktemp("detector") / "best"
    save_detector(detector, stem, SIZE, {"epochs": 3})
    return stem


def to_input(path: Path, square: bool = False) -> tuple[np.ndarray, object]:
    picture = decode_picture(path)
    letterbox = fit(picture.shape[1], picture.shape[0], SIZE, square=square)
    batch = letterbox.apply(picture).transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return batch, letterbox


def boxes_of(model: DetectionModel, path: Path) -> np.ndarray:
    """Rows x0 y0 x1 y1 score class in pixels of the picture."""
    batch, letterbox = to_input(path)
    with torch.inference_mode():
        decoded = model.eval()(torch.from_numpy(batch))[0]
    rows = suppress(decoded.clone(), CONFIDENCE, OVERLAP, multi_label=False)[0].numpy()
    rows[:, :4] = letterbox.restore(rows[:, :4])
    return rows


def test_a_saved_detector_comes_back_with_the_same_answers(detector: DetectionModel, saved: Path) -> None:
    for suffix in (".pt", ".safetensors"):
        loaded = load_detector(saved.with_suffix(suffix))
        assert loaded.path == saved.with_suffix(suffix)
        assert (loaded.names, loaded.image_size, loaded.metadata["epochs"]) == (NAMES, SIZE, 3)
        assert not loaded.model.training
        pictures = torch.rand(2, 3, 96, 64)
        with torch.inference_mode():
            assert torch.equal(loaded.model(pictures)[0], detector.eval()(pictures)[0])


def test_the_same_detector_gives_the_same_bytes(detector: DetectionModel, saved: Path, tmp_path: Path) -> None:
    with torch.inference_mode():
        detector.eval()(torch.rand(1, 3, 160, 224))  # what a detector was last used for is no part of it
    hashes = save_detector(detector, tmp_path / "best", SIZE, {"epochs": 3})
    assert set(hashes) == {"best.pt", "best.safetensors"}
    for name in hashes:
        assert (tmp_path / name).read_bytes() == saved.with_name(name).read_bytes()


def test_saving_leaves_the_detector_as_it_was(detector: DetectionModel, tmp_path: Path) -> None:
    detector.train()
    wanted = [parameter.requires_grad for parameter in detector.parameters()]
    save_detector(detector, tmp_path / "last", SIZE, {})
    assert detector.training and detector.args.box == 7.5
    assert [parameter.requires_grad for parameter in detector.parameters()] == wanted
    assert any(wanted)


def test_ultralytics_opens_the_pt_and_predicts_the_same_boxes(saved: Path, pictures: list[Path]) -> None:
    ours = load_detector(saved.with_suffix(".pt")).model
    theirs = YOLO(saved.with_suffix(".pt"))
    assert theirs.names == dict(enumerate(NAMES))
    found = alone = 0
    for path in pictures:
        options = {"imgsz": SIZE, "conf": CONFIDENCE, "iou": OVERLAP, "device": "cpu", "verbose": False}
        expected = theirs.predict(str(path), **options)[0].boxes.data.numpy()
        rows = boxes_of(ours, path)
        pairs, overlaps = pairs_by_overlap(rows, expected)
        alone += len(rows) + len(expected) - 2 * len(pairs)
        assert all(overlaps[pair] > 0.999 for pair in pairs)
        assert max((abs(rows[ours_at, 4] - expected[at, 4]) for ours_at, at in pairs), default=0) < 1e-4
        found += len(rows)
    assert found > 100, "too few boxes to compare anything"
    # They fold BatchNorm first: of two boxes with scores equal to the last digit suppression may keep the other.
    assert alone <= 0.01 * found


def test_a_pt_alone_is_opened_through_the_restricted_door(saved: Path, tmp_path: Path) -> None:
    alone = tmp_path / "best.pt"
    alone.write_bytes(saved.with_suffix(".pt").read_bytes())
    loaded = load_detector(alone)
    assert loaded.path == alone
    assert (loaded.names, loaded.image_size) == (NAMES, SIZE)
    pictures = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = load_detector(saved.with_suffix(".safetensors")).model(pictures)[0]
        assert torch.equal(loaded.model(pictures)[0], expected)


def test_the_file_that_is_named_is_read_whatever_lies_beside_it(detector: DetectionModel, tmp_path: Path) -> None:
    stem = tmp_path / "best"
    save_detector(detector, stem, SIZE, {"epoch": 1})
    former = stem.with_suffix(".safetensors").read_bytes()
    save_detector(build_detector("yolov8t", ["eel"], seed=7), stem, 64, {"epoch": 9})
    stem.with_suffix(".safetensors").write_bytes(former)
    named, beside = load_detector(stem.with_suffix(".pt")), load_detector(stem.with_suffix(".safetensors"))
    assert (named.names, named.image_size, named.metadata["epoch"]) == (("eel",), 64, 9)
    assert (beside.names, beside.image_size, beside.metadata["epoch"]) == (NAMES, SIZE, 1)
    assert not torch.equal(
        named.model.state_dict()["model.0.conv.weight"], detector.state_dict()["model.0.conv.weight"]
    )


def test_one_of_another_kind_is_not_read_for_a_file_that_is_missing(saved: Path, tmp_path: Path) -> None:
    for suffix, other in ((".pt", ".safetensors"), (".safetensors", ".pt")):
        folder = tmp_path / other[1:]
        folder.mkdir()
        (folder / f"best{other}").write_bytes(saved.with_suffix(other).read_bytes())
        with pytest.raises(UserError, match=rf"best\{suffix}: no such file; there is .*best\{other}: name it"):
            load_detector(folder / f"best{suffix}")


def test_both_files_answer_alike_to_the_last_bit_however_the_weights_lay_in_memory(
    detector: DetectionModel, tmp_path: Path
) -> None:
    save_detector(load_copy(detector).to(memory_format=torch.channels_last), tmp_path / "best", SIZE, {})
    pictures = torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        answers = [load_detector(tmp_path / f"best{suffix}").model(pictures)[0] for suffix in (".pt", ".safetensors")]
    assert torch.equal(*answers)


def test_a_pt_that_a_kill_left_behind_is_written_anew_from_the_safetensors(
    detector: DetectionModel, tmp_path: Path
) -> None:
    stem = tmp_path / "best"
    save_detector(build_detector("yolov8t", NAMES, seed=7), stem, SIZE, {"epoch": 1})
    former = stem.with_suffix(".pt").read_bytes()
    hashes = save_detector(detector, stem, SIZE, {"epoch": 2})
    assert (restore_detector(stem) or {})["epoch"] == 2
    stem.with_suffix(".pt").write_bytes(former)
    assert (restore_detector(stem) or {})["epoch"] == 2
    assert hash_file(stem.with_suffix(".safetensors")) == hashes["best.safetensors"]
    written = load_detector(stem.with_suffix(".pt"))
    assert written.metadata == load_detector(stem.with_suffix(".safetensors")).metadata
    weights = written.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in detector.float().state_dict().items())


@pytest.mark.parametrize(
    "noted", ["no JSON", "{}", '{"architecture": "yolov8t", "names": ["a"], "image_size": 64}', "[]"]
)
def test_a_description_that_does_not_fit_is_told(noted: str, detector: DetectionModel, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    model = load_copy(detector)
    model.args = {"imgsz": 64}
    torch.save({"model": model, "marauder": noted}, path)
    with pytest.raises(UserError, match=r"best\.pt: (its description cannot be read|its weights are not)"):
        load_detector(path)


def test_a_checkpoint_as_ultralytics_trains_it_opens(detector: DetectionModel, tmp_path: Path) -> None:
    half = prepare(load_copy(detector).half(), NAMES)
    half.args = {"imgsz": 96}
    path = tmp_path / "theirs.pt"
    torch.save({"model": None, "ema": half, "epoch": 4, "train_args": {"imgsz": 96}}, path)
    model, size, _ = load_foreign_checkpoint(path)
    assert size == 96
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.args.box == 7.5, "the loss needs its gains"


def load_copy(model: DetectionModel) -> DetectionModel:
    return pickle.loads(pickle.dumps(model))  # noqa: S301 - made in this line


class Malicious:
    """What an attacker would put into a checkpoint: a call that runs when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["model", "train_args", "whole"])
def test_a_malicious_checkpoint_is_refused_and_not_run(place: str, detector: DetectionModel, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    content = Malicious(trap) if place == "whole" else {"model": load_copy(detector), place: Malicious(trap)}
    path = tmp_path / "best.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"best\.pt.*cannot be opened as a detector checkpoint"):
        load_detector(path)
    assert not trap.exists()


def test_a_bare_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = tmp_path / "best.pt"
    path.write_bytes(pickle.dumps({"model": Malicious(trap)}, protocol=2))
    with pytest.raises(UserError, match=r"best\.pt"):
        load_detector(path)
    assert not trap.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_named(share: float, saved: Path, tmp_path: Path) -> None:
    content = saved.with_suffix(".pt").read_bytes()
    path = tmp_path / "best.pt"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"best\.pt.*cannot be opened"):
        load_detector(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_safetensors_are_named(share: float, saved: Path, tmp_path: Path) -> None:
    content = saved.with_suffix(".safetensors").read_bytes()
    path = tmp_path / "best.safetensors"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=r"best\.safetensors: is damaged"):
        load_detector(path)


@pytest.mark.parametrize("content", [OrderedDict(a=torch.zeros(1)), {"model": torch.nn.Linear(1, 1)}, [1, 2]])
def test_a_file_without_a_detector_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"weights\.pt"):
        load_detector(path)


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere.safetensors"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{name}: no such file"):
        load_detector(tmp_path / name)


def test_a_pt_opens_under_any_path(saved: Path, tmp_path: Path) -> None:
    odd = tmp_path / "mo ved?#x%20" / "be?st.pt"
    odd.parent.mkdir()
    odd.write_bytes(saved.with_suffix(".pt").read_bytes())
    assert load_detector(odd).names == load_detector(saved.with_suffix(".pt")).names
    odd.write_bytes(b"hello")
    with pytest.raises(UserError, match="it is not a PyTorch file"):
        load_detector(odd)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a detector is a \.pt or \.safetensors file"):
        load_detector(tmp_path / "model.onnx")


def test_pictures_really_differ_in_shape(pictures: list[Path]) -> None:
    assert len({cv2.imread(str(path)).shape for path in pictures}) > 1


@pytest.mark.parametrize("content", [b"hello\n", b"", b"\x80\x05.", b"(lp0\n.", b"PK\x03\x04 cut"])
def test_bytes_that_are_no_checkpoint_are_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fake.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"fake\.pt"):
        load_foreign_checkpoint(tmp_path / "fake.pt")
