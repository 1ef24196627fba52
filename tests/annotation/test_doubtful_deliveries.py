"""Deliveries that look whole and are not: boxes of nobody, half-done packages, two formats at odds."""

from __future__ import annotations

import csv
import json
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
    assert take(world, path, accept=True).merged


def test_our_own_package_is_named_on_the_screen(world: World) -> None:
    path = deliver(world, "d.zip")
    sent = replace(world.batch.packages[0], sha256=hash_file(path))
    write_batch(world.settings.outbox, replace(world.batch, packages=(sent,)))
    assert "byte for byte" in take(world, path).advice


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
