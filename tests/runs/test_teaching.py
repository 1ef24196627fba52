"""Trust and ignored places travel with their pictures into the batch; what needs neither is trained as ever."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from small_reef import NAMES

from marauder.core.randomness import stream
from marauder.data.records import Record
from marauder.engine.task import SampleContext, SampleKey
from marauder.imaging.augmentation import AugmentationSettings, Source, compose
from marauder.imaging.copy_paste import CopyPasteSettings, paste
from marauder.models.ignored_places import IGNORED_BOXES, IGNORED_INDEX
from marauder.models.trusts import TRUSTS
from marauder.runs.recipes import load_run_settings
from marauder.tasks.detection.data import DetectionData
from marauder.tasks.detection.lessons import Lesson, write_lessons
from marauder.tasks.detection.settings import DetectionSettings
from marauder.tasks.detection.training import DetectionTask

STRONG = AugmentationSettings(degrees=20, shear=5, flip_vertical=0.5, scale=0.8)


def task(data: Path, *words: str) -> DetectionTask:
    values = {"data": data, "model": "yolov8t", "image_size": 64}
    settings = load_run_settings(DetectionSettings, None, ["weights=none", *words], **values)
    return DetectionTask(DetectionData(settings).plan(), None, 0)


def source(seed: int, most: int = 6) -> Source:
    """A picture whose boxes can be told apart by their classes, each with a trust of its own, and ignored places."""
    draw = stream(seed, "source")
    count = int(draw.integers(0, most + 1))
    corners = draw.uniform(0, 60, (count + 2, 2))
    boxes = np.concatenate([corners, corners + draw.uniform(4, 36, (count + 2, 2))], axis=1)
    classes = np.arange(count) + 100 * seed
    trusts = (1 + classes % 97) / 100
    picture = draw.integers(0, 255, (96, 96, 3)).astype(np.uint8)
    return Source(picture, boxes[:count], classes, boxes[count:], trusts)


@given(st.integers(0, 500), st.sampled_from([1, 4]), st.sampled_from([None, 6.0]))
@limits(max_examples=60, deadline=None)
def test_a_trust_stays_with_its_box(seed: int, count: int, ignored_side: float | None) -> None:
    sources = [source(seed + place) for place in range(count)]
    made = compose(sources, 64, STRONG, stream(seed, "compose"), None, ignored_side)
    assert made.trusts is not None and made.trusts.tolist() == ((1 + made.classes % 97) / 100).tolist()
    # The same sample, whether or not anything is trusted or ignored.
    bare = [replace(one, trusts=None, ignored=np.zeros((0, 4))) for one in sources]
    plain = compose(bare, 64, STRONG, stream(seed, "compose"), None, ignored_side)
    assert plain.trusts is None and np.array_equal(plain.picture, made.picture)
    assert np.array_equal(plain.boxes, made.boxes) and np.array_equal(plain.classes, made.classes)
    inside = made.ignored
    assert (inside >= 0).all() and (inside <= 64).all() and (inside[:, 2:] > inside[:, :2]).all()
    # What is ignored anyway comes beside what has become too small to be learned.
    assert len(made.ignored) >= len(plain.ignored)


def test_where_one_picture_has_trusts_the_others_are_trusted_wholly() -> None:
    sources = [source(16), replace(source(17), trusts=None), source(13), source(14)]
    seen = 0
    for seed in range(10):
        made = compose(sources, 64, AugmentationSettings(scale=0), stream(seed, "x"))
        assert made.trusts is not None
        of_second = made.classes // 100 == 17
        assert (made.trusts[of_second] == 1).all() and (made.trusts[~of_second] < 1).all()
        seen += int(of_second.sum())
    assert seen


def test_an_ignored_place_moves_as_a_box_does() -> None:
    box = np.array([[20.0, 30.0, 50.0, 60.0]])
    one = Source(np.zeros((96, 96, 3), np.uint8), box, np.zeros(1, np.int64), box)
    made = compose([one], 96, AugmentationSettings(scale=0.3, flip_vertical=1), stream(5, "x"))
    assert made.boxes.tolist() == made.ignored.tolist() and made.boxes.tolist() != box.tolist()


def test_pasting_keeps_trusts_and_ignored_places() -> None:
    target, donor = source(3), source(2)
    animal = Source(donor.picture[:40, :40].copy(), np.array([[8.0, 8.0, 30.0, 30.0]]), np.array([7]))
    made = paste(target, [animal], CopyPasteSettings(probability=1, least_side=4, overlap=1, covered=1), stream(0, "p"))
    assert len(made.boxes) == len(target.boxes) + 1 and made.trusts is not None
    assert made.trusts.tolist() == [*target.trusted().tolist(), 1.0] and np.array_equal(made.ignored, target.ignored)
    assert paste(replace(target, trusts=None), [animal], CopyPasteSettings(), stream(0, "p")).trusts is None


def test_a_training_without_crowds_and_teacher_has_neither(small_reef: Path) -> None:
    batch = task(small_reef).load([SampleKey(0, index) for index in range(4)], SampleContext()).tensors
    assert set(batch) == {"images", "batch_idx", "cls", "bboxes"}


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A COCO data set of which each training picture has an animal and a crowd."""
    for split in ("train", "val"):
        images = []
        (tmp_path / split).mkdir()
        for number in range(4):
            picture = np.random.default_rng(number).integers(0, 255, (64, 64, 3)).astype(np.uint8)
            assert cv2.imwrite(str(tmp_path / split / f"{split}{number}.png"), picture)
            images.append({"id": number, "file_name": f"{split}{number}.png", "width": 64, "height": 64})
        boxes = [([8, 8, 16, 16], 0), ([32, 32, 24, 16], 1)]
        annotations = [
            {"id": 2 * one["id"] + crowd, "image_id": one["id"], "category_id": 1, "bbox": box, "iscrowd": crowd,
             "area": 256}
            for one in images for box, crowd in boxes
        ]  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "fish"}]}
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    return tmp_path


def test_crowds_are_ignored_places_and_not_background(crowded: Path) -> None:
    made = task(crowded, "augmentation.mosaic=0", "augmentation.scale=0", "augmentation.translate=0",
                "augmentation.flip_horizontal=0")  # fmt: skip
    assert all(record.ignored.tolist() == [False, True] for record in made.plan.training)
    batch = made.load([SampleKey(0, 0), SampleKey(0, 1)], SampleContext()).tensors
    assert batch["batch_idx"].tolist() == [0, 1] and batch[IGNORED_INDEX].tolist() == [0, 1]
    assert batch[IGNORED_BOXES].tolist() == [[0.6875, 0.625, 0.375, 0.25]] * 2
    second = made.cut(batch, 1, 2)
    assert second[IGNORED_INDEX].tolist() == [0] and second["batch_idx"].tolist() == [0]
    # The loss takes it: with the crowd's place left out it is another one.
    model = made.build_model(0)
    loss, outputs = made.criterion(model), model(made.inputs(batch))
    plain = {name: value for name, value in batch.items() if name not in (IGNORED_INDEX, IGNORED_BOXES)}
    with_crowd, without = loss(outputs, batch)[0], loss(outputs, plain)[0]
    assert torch.equal(with_crowd[[0, 2]], without[[0, 2]]) and float(with_crowd[1]) < float(without[1])


@pytest.fixture
def lessons(small_reef: Path, tmp_path: Path) -> Path:
    """Lessons of one labelled picture, with a box of trust 0.5, and of eight without labels."""
    data = DetectionData(load_run_settings(DetectionSettings, None, [], data=small_reef, model="yolov8t"))
    first = data.dataset.split("train").records[0]
    box, none = np.array([[1.0, 1.0, 20.0, 20.0]]), np.zeros((0, 4))
    made = [Lesson(replace(first.with_boxes(slice(0)), labelled=True), box, np.array([1]), np.array([0.5]), none, "x")]
    for number in range(8):
        picture = np.random.default_rng(number).integers(0, 255, (96, 96, 3)).astype(np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        record = Record(f"u{number}", tmp_path / f"{number}.png", 96, 96, labelled=False)
        made.append(Lesson(record, box, np.array([2]), np.array([0.75]), box + 40, "y"))
    write_lessons(tmp_path / "lessons.json", made, NAMES, {})
    return tmp_path / "lessons.json"


def test_lessons_are_trained_with(small_reef: Path, lessons: Path) -> None:
    plain, made = task(small_reef), task(small_reef, f"teaching.file={lessons}", "augmentation.mosaic=0")
    labelled = len(plain.plan.training)
    assert len(made.plan.training) == labelled + 8 and made.training_length == plain.training_length == labelled
    records = [made._record(0, index) for index in range(made.training_length)]
    assert sum(one >= labelled for one in records) == pytest.approx(labelled * 8 / (labelled + 8), abs=1)
    batch = made.load([SampleKey(0, index) for index in range(labelled)], SampleContext()).tensors
    assert len(batch[TRUSTS]) == len(batch["cls"]) and set(batch[TRUSTS].tolist()) <= {0.5, 0.75, 1.0}
    for place, index in enumerate(records):
        if index >= labelled:
            assert set(batch[TRUSTS][batch["batch_idx"] == place].tolist()) <= {0.75}
    model = made.build_model(0)
    sums, weight = made.criterion(model)(model(made.inputs(batch)), batch)
    assert torch.isfinite(sums).all() and float(weight) > 0
    half = task(small_reef, f"teaching.file={lessons}", "teaching.unlabelled_share=0", "teaching.epoch_length=0.5")
    assert half.training_length == round(labelled / 2)
    assert all(half._record(0, index) < labelled for index in range(half.training_length))


def test_only_what_a_person_labelled_is_pasted(small_reef: Path, lessons: Path) -> None:
    made = task(small_reef, f"teaching.file={lessons}", "critical=[disc,square,cross]", "copy_paste.probability=1",
                "copy_paste.least_side=4")  # fmt: skip
    assert made.pasting is not None and made.plan.pasting is not None
    labelled = len(made.plan.training) - 8
    assert all(place < labelled for places in made.plan.pasting.animals.values() for place in places)
    known = made._donor(0)
    assert known is not None and known[0].classes.tolist()[-1] == -2 and len(known[0].classes) > 1
