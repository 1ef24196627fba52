"""The data contract: data that keep it pass; each clause, broken on purpose, is told alone and with its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from marauder.core.clock import Clock, Interrupted
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.gates.contract import ContractGate, ContractSettings
from marauder.gates.contract_clauses import contract_evidence
from marauder.gates.verdict import Verdict

NAMES = ("fish", "starfish", "shark")
SETTINGS = {
    "allowed_classes": ["fish", "starfish"],
    "required_classes": ["fish"],
    "least_boxes": 4,
    "least_boxes_of": {"starfish": 2},
    "attributes": {
        "water": {"values": ["clear", "turbid"]},
        "depth": {"minimum": 0, "maximum": 200, "least_share": 0.9},
    },
    "most_empty": 0.5,
    "least_side": 64,
    "most_boxes": 5,
    "duplicates_apart": True,
}
CLAUSES = [
    "splits", "allowed_classes", "required_classes", "attributes.water", "attributes.water.least_share",
    "attributes.depth", "attributes.depth.least_share", "most_set_aside", "empty", "least_side", "most_boxes",
    "pictures_exist", "groups_apart", "duplicates_apart",
]  # fmt: skip


def record(folder: Path, number: int, split: str) -> Record:
    path = folder / f"{number:03d}.png"
    noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (96, 96), interpolation=cv2.INTER_CUBIC))
    boxes = np.array([[5, 5, 25, 25], [40, 40, 80, 90]], np.float64)
    return Record(
        path.stem, path, 96, 96, boxes, np.array([0, 1]), group=f"clip{number // 2}", split=split,
        attributes={"water": "clear", "depth": 12.5},
    )  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(NAMES, tuple(record(tmp_path, number, "train" if number < 12 else "val") for number in range(20)))


def judged(dataset: Dataset, **changed: object) -> Verdict:
    settings = ContractSettings.model_validate({**SETTINGS, **changed})
    return ContractGate(settings).judge(contract_evidence(dataset, settings))


def with_change(dataset: Dataset, position: int, **changes: object) -> Dataset:
    records = list(dataset.records)
    records[position] = replace(records[position], **changes)  # type: ignore[arg-type]
    return dataset.with_records(records)


def test_data_that_keeps_the_contract_passes_and_every_clause_was_looked_at(dataset: Dataset) -> None:
    verdict = judged(dataset)
    assert verdict.answer == "pass", verdict.why
    assert [clause["name"] for clause in verdict.evidence["clauses"]] == CLAUSES
    assert not any(clause["broken"] for clause in verdict.evidence["clauses"])


def one_split(data: Dataset) -> Dataset:
    return data.with_records(replace(one, split="train") for one in data)


def many_boxes(data: Dataset) -> Dataset:
    corners = np.arange(6.0)[:, None] * 12 + [1, 1]
    boxes = np.concatenate([corners, corners + 10], axis=1)
    return with_change(data, 7, boxes=boxes, classes=np.zeros(6, np.int64), ignored=np.zeros(0, bool))


def empty_pictures(data: Dataset) -> Dataset:
    none = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, np.int64), "ignored": np.zeros(0, bool)}
    return data.with_records(
        replace(one, **none) if index not in (0, 1, 2, 3, 12, 13, 14, 15) else one  # type: ignore[arg-type]
        for index, one in enumerate(data)
    )


def lost_picture(data: Dataset) -> Dataset:
    data.records[7].picture.unlink()
    return data


def hollow_picture(data: Dataset) -> Dataset:
    data.records[7].picture.write_bytes(b"")
    return data


def copy_across(data: Dataset) -> Dataset:
    data.records[19].picture.write_bytes(data.records[7].picture.read_bytes())
    return data


BREAKS: list[tuple[str, Callable[[Dataset], Dataset], str]] = [
    ("splits", one_split, "no picture in val"),
    ("allowed_classes", lambda data: with_change(data, 7, classes=np.array([2, 1])), "007.png: shark"),
    (
        "required_classes",
        lambda data: data.with_records(one for one in data if one.split == "train" or int(one.key) > 18),
        "val: 1 boxes of starfish, at least 2 required",
    ),
    ("attributes.water", lambda data: with_change(data, 7, attributes={"water": "Clear", "depth": 1}), "007.png"),
    ("attributes.depth", lambda data: with_change(data, 7, attributes={"water": "clear", "depth": 201}), "is 201"),
    ("attributes.depth", lambda data: with_change(data, 7, attributes={"water": "clear", "depth": "deep"}), "'deep'"),
    ("attributes.depth", lambda data: with_change(data, 7, attributes={"water": "clear", "depth": True}), "is True"),
    ("attributes.water.least_share", lambda data: with_change(data, 7, attributes={"depth": 1}), "007.png: no water"),
    ("empty", empty_pictures, "60.0% of the labelled pictures have no box"),
    ("least_side", lambda data: with_change(data, 7, height=63), "007.png: 96x63"),
    ("most_boxes", many_boxes, "007.png: 6 boxes"),
    ("pictures_exist", lost_picture, "007.png: No such file"),
    ("pictures_exist", hollow_picture, "007.png: has no content"),
    ("groups_apart", lambda data: with_change(data, 7, group="clip8"), "clip8 in train and val"),
    ("duplicates_apart", copy_across, "007"),
]


@pytest.mark.parametrize(("name", "damage", "example"), BREAKS)
def test_each_broken_clause_is_told_with_its_place(
    dataset: Dataset, name: str, damage: Callable[[Dataset], Dataset], example: str
) -> None:
    verdict = judged(damage(dataset))
    broken = [clause["name"] for clause in verdict.evidence["clauses"] if clause["broken"]]
    assert verdict.answer == "fail" and name in broken, verdict.why
    assert example in verdict.why
    # A split without pictures has no boxes either.
    assert broken == (["splits", "required_classes"] if name == "splits" else [name])


def test_several_broken_clauses_are_all_told(dataset: Dataset) -> None:
    verdict = judged(hollow_picture(many_boxes(dataset)))
    assert verdict.value == 2 and "most_boxes" in verdict.why and "pictures_exist" in verdict.why
    assert judged(dataset, severity="warn").answer == "warn"


def test_an_attribute_may_be_missing_as_often_as_the_rule_says(dataset: Dataset) -> None:
    two = dataset
    for position in (3, 9):
        two = with_change(two, position, attributes={"water": "clear"})
    assert judged(two).answer == "pass"
    three = with_change(two, 15, attributes={"water": "clear"})
    assert "85.0% of the pictures have depth" in judged(three).why


def test_values_are_not_true_where_one_is_meant(dataset: Dataset) -> None:
    flagged = dataset.with_records(replace(one, attributes={"day": True}) for one in dataset)
    assert judged(flagged, attributes={"day": {"values": [1]}}).answer == "fail"
    assert judged(flagged, attributes={"day": {"values": [True]}}).answer == "pass"


def test_what_a_reader_could_not_use_is_told_with_file_and_line(tmp_path: Path) -> None:
    for number, split in prepare(tmp_path):
        record(tmp_path / "images" / split, number, split)
    label = tmp_path / "labels" / "train" / "003.txt"
    label.write_text("0 0.5 0.5 0.2 0.2\n0 0.5 half 0.2 0.2\n", encoding="utf-8")
    (tmp_path / "images" / "train" / "004.png").write_bytes(b"no picture")
    data = read_dataset(tmp_path / "data.yaml", format="yolo")
    assert len(data) == 9
    nothing: dict[str, object] = {
        "allowed_classes": None, "attributes": {}, "least_boxes_of": {}, "required_classes": [],
    }  # fmt: skip
    verdict = judged(data, **nothing)
    assert "2 of 10 pictures (20.0%) cannot be used" in verdict.why and f"{label}:2:" in verdict.why
    tolerant = judged(data, **nothing, most_set_aside=0.2)
    assert tolerant.answer == "pass", tolerant.why


def prepare(folder: Path) -> list[tuple[int, str]]:
    numbers = [(number, "train" if number < 6 else "val") for number in range(10)]
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    for number, split in numbers:
        (folder / "labels" / split / f"{number:03d}.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    (folder / "data.yaml").write_text(
        f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [fish]\n", encoding="utf-8"
    )
    return numbers


def test_real_data_keep_the_contract_that_asks_for_nothing(shared_data: Path) -> None:
    data = read_dataset(shared_data / "aquarium", format="yolo")
    settings = ContractSettings(splits=())
    verdict = ContractGate(settings).judge(contract_evidence(data, settings))
    assert verdict.answer == "pass" and "575 pictures" in verdict.why


def test_looking_for_copies_can_be_stopped(dataset: Dataset) -> None:
    clock = Clock(max_seconds=1e-9)
    with pytest.raises(Interrupted):
        contract_evidence(dataset, ContractSettings(duplicates_apart=True), clock)


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_classes": ["fish"], "required_classes": ["shark"]},
        {"least_empty": 0.6, "most_empty": 0.5},
        {"attributes": {"depth": {"minimum": 2, "maximum": 1}}},
        {"most_set_aside": 1.5},
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ContractSettings.model_validate(wrong)
