"""Deliveries that look whole and are not: boxes of nobody, half-done packages, two formats at odds."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from provider import World, deliver, make_world

from marauder.annotation.batch import write_batch
from marauder.annotation.importing import ImportSummary, import_delivery
from marauder.core.clock import Clock
from marauder.core.files import hash_file
from marauder.data.reading import read_dataset


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def take(world: World, path: Path, **changes: Any) -> ImportSummary:
    return import_delivery(world.settings.model_copy(update=changes), path, Clock())


def report_of(summary: ImportSummary) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((summary.report / "import_report.json").read_text())
    return content


def picture_of(summary: ImportSummary, file: str) -> dict[str, Any]:
    return next(row for row in report_of(summary)["pictures"] if row["file"] == file)


def return_list(summary: ImportSummary) -> dict[str, dict[str, str]]:
    with (summary.report / "return_list.csv").open() as stream:
        return {row["picture"]: row for row in csv.DictReader(stream)}


def edit_coco(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        if folder.name == "first":
            file = next(folder.rglob("instances_default.json"))
            content = json.loads(file.read_text())
            change(content)
            file.write_text(json.dumps(content))

    return edit


def own(content: dict[str, Any], file: str) -> list[dict[str, Any]]:
    identity = next(row["id"] for row in content["images"] if row["file_name"] == file)
    return [row for row in content["annotations"] if row["image_id"] == identity]


def test_a_box_of_no_picture_leaves_the_delivery_in_doubt(world: World) -> None:
    def orphan(content: dict[str, Any]) -> None:
        for row in own(content, "dive_05.jpg"):
            row["image_id"] = 4711

    path = deliver(world, "d.zip", change=edit_coco(orphan))
    summary = take(world, path)
    assert not summary.merged and summary.data is None, "one of the pictures would have become a negative"
    assert "no image of id 4711" in summary.advice and "--accept" in summary.advice


def orphan_boxes(folder: Path) -> None:
    edit_coco(lambda content: [row.update(image_id=4711) for row in own(content, "dive_05.jpg")])(folder)


def unreadable_entry(folder: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        lost = own(content, "dive_05.jpg")
        content["annotations"] = [row for row in content["annotations"] if row not in lost] + [["dive_05", 1, 2, 3, 4]]

    edit_coco(spoil)(folder)


@pytest.mark.parametrize("spoil", [orphan_boxes, unreadable_entry])
def test_no_picture_becomes_a_negative_while_boxes_have_no_picture(world: World, spoil: Callable[[Path], None]) -> None:
    empty = {key for key, one in world.truth.items() if not len(one.boxes)}
    assert empty, "an honest negative is in doubt with the others"
    summary = take(world, deliver(world, "d.zip", change=spoil), accept=True)
    assert summary.merged and summary.data is not None
    assert picture_of(summary, "dive_05.jpg")["status"] == "returned"
    assert "belongs to no picture" in return_list(summary)["dive_05.jpg"]["what is wrong"]
    assert return_list(summary)["dive_05.jpg"]["what to do"]
    merged = read_dataset(summary.data)
    sent = {item.key for item in world.batch.items}
    assert all(len(record.boxes) for record in merged if record.labelled and record.key in sent)
    assert any(len(record.boxes) for record in merged if record.labelled and record.key in sent)
    assert take(world, deliver(world, "whole.zip")).complete, "what went back is taken once it is whole"


def test_our_own_package_is_named_on_the_screen(world: World) -> None:
    path = deliver(world, "d.zip")
    sent = replace(world.batch.packages[0], sha256=hash_file(path))
    write_batch(world.settings.outbox, replace(world.batch, packages=(sent,)))
    assert "exactly the package that was sent" in take(world, path).advice


def expect_boxes(world: World, boxes: float) -> World:
    """The batch as it goes out without a model, where the data set's average is expected in every picture."""
    nothing: dict[str, Any] = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, np.int64), "scores": np.zeros(0)}
    items = [replace(item, **nothing, estimated_boxes=boxes) for item in world.batch.items]
    changed = replace(world, batch=replace(world.batch, items=tuple(items)))
    write_batch(world.settings.outbox, changed.batch)
    return changed


@pytest.mark.parametrize("format_name", ["coco", "yolo"])
def test_a_half_done_package_is_not_merged_as_negatives(world: World, format_name: str) -> None:
    world = expect_boxes(world, 2.0)
    half = {
        key: one.with_boxes(np.zeros(len(one.boxes), bool)) for key, one in world.truth.items() if key[-1] in "56789"
    }
    path = deliver(world, "d.zip", format_name, truth=world.truth | half)
    summary = take(world, path)
    assert not summary.merged and "was the package finished?" in summary.advice
    assert "6 of these hold no box (46%; of the data set's labelled pictures 17%)" in summary.advice
    assert report_of(summary)["without_boxes"] == 6
    assert take(world, path, accept=True).merged


def test_a_usual_share_of_empty_pictures_is_only_counted(world: World) -> None:
    summary = take(expect_boxes(world, 2.0), deliver(world, "d.zip"))
    assert summary.merged and "2 of these hold no box (15%" in summary.advice
    assert "negatives-many" not in report_of(summary)["kinds"]


def test_many_empty_pictures_where_nothing_was_expected_are_told(world: World) -> None:
    world = expect_boxes(world, 0.0)
    nothing = {key: one.with_boxes(np.zeros(len(one.boxes), bool)) for key, one in world.truth.items()}
    summary = take(world, deliver(world, "d.zip", truth=nothing))
    assert summary.merged and "far more than usual" in summary.advice


def test_a_negative_width_sends_the_picture_back(world: World) -> None:
    def turn(content: dict[str, Any]) -> None:
        own(content, "dive_05.jpg")[0].update(bbox=[60, 10, -20, 20])

    summary = take(world, deliver(world, "d.zip", change=edit_coco(turn)))
    assert not summary.merged and picture_of(summary, "dive_05.jpg")["status"] == "returned"
    assert "negative width" in return_list(summary)["dive_05.jpg"]["what is wrong"]


def test_the_return_list_says_what_is_wrong_once_and_what_to_do(world: World) -> None:
    def spoil(content: dict[str, Any]) -> None:
        one = own(content, "dive_08.jpg")[0]
        one["bbox"] = [10, "nan", 5, 5]
        own(content, "dive_07.jpg")[0]["category_id"] = None
        content["categories"].append({"id": 77, "name": "whale"})
        whales = [{**own(content, "dive_05.jpg")[0], "id": 900 + n, "category_id": 77} for n in range(3)]
        content["annotations"] += whales

    rows = return_list(take(world, deliver(world, "d.zip", change=edit_coco(spoil))))
    assert {"dive_05.jpg", "dive_07.jpg", "dive_08.jpg"} == set(rows)
    assert all(row["what to do"] for row in rows.values())
    assert rows["dive_05.jpg"]["what is wrong"].count("not one of ours") == 1
    assert "3 boxes of class 'whale'" in rows["dive_05.jpg"]["what is wrong"]


@pytest.mark.parametrize("line", ["0 nan 0.5 0.1 0.1", "0 48 36 20 20", "0 0.5 0.5"])
def test_the_return_list_of_yolo_holds_no_python(world: World, line: str) -> None:
    def spoil(folder: Path) -> None:
        if folder.name == "first":
            (folder / "labels" / "dive_05.txt").write_text(line + "\n")

    row = return_list(take(world, deliver(world, "d.zip", "yolo", change=spoil)))["dive_05.jpg"]
    assert row["what to do"] and row["what is wrong"] and "Error" not in row["what is wrong"]


def test_a_region_with_two_labels_goes_back(world: World) -> None:
    def label(folder: Path) -> None:
        for file in folder.rglob("tasks.json"):
            tasks = json.loads(file.read_text())
            for task in tasks:
                if task["data"]["file"] == "dive_05.jpg":
                    task["annotations"][0]["result"][0]["value"]["rectanglelabels"] = ["fish", "stingray"]
            file.write_text(json.dumps(tasks))

    summary = take(world, deliver(world, "d.zip", "label_studio", change=label))
    assert not summary.merged
    row = return_list(summary)["dive_05.jpg"]
    assert "fish, stingray" in row["what is wrong"] and row["what to do"]


def test_coco_without_sizes_is_taken_and_told(world: World) -> None:
    def strip(content: dict[str, Any]) -> None:
        for row in content["images"]:
            del row["width"], row["height"]

    summary = take(world, deliver(world, "d.zip", change=edit_coco(strip)))
    assert summary.merged and report_of(summary)["kinds"]["size-unstated"] == 10


def test_a_picture_that_came_twice_is_not_said_to_be_taken(world: World) -> None:
    def double(content: dict[str, Any]) -> None:
        content["images"].append({**content["images"][5], "id": 500})

    summary = take(world, deliver(world, "d.zip", change=edit_coco(double)))
    assert not summary.merged
    row = return_list(summary)["dive_05.jpg"]
    assert "unclear which one counts" in row["what is wrong"] and "taken" not in row["what is wrong"]


def test_the_history_names_no_empty_side(world: World) -> None:
    take(world, deliver(world, "d.zip"))
    history = (world.settings.output / "versions" / "CHANGES.md").read_text()
    assert "labelled pictures: " in history and "- 0" not in history


@pytest.mark.parametrize("differs", [True, False])
def test_two_formats_in_one_delivery_must_agree(world: World, differs: bool) -> None:
    coco, yolo = deliver(world, "coco.zip"), deliver(world, "yolo.zip", "yolo")
    path = world.settings.inbox / "both.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for source in (coco, yolo):
            with zipfile.ZipFile(source) as one:
                for entry in one.namelist():
                    text = one.read(entry)
                    if differs and entry.endswith("labels/dive_05.txt"):
                        text = b"0 0.5 0.5 0.9 0.9\n"
                    if entry not in archive.namelist():
                        archive.writestr(entry, text)
    summary = take(world, path)
    assert summary.merged is not differs
    if differs:
        assert "which is meant?" in summary.advice and list(return_list(summary)) == ["dive_05.jpg"]
