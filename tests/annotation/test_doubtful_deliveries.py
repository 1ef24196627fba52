"""Deliveries that look whole and are not: boxes of nobody, half-done packages, two formats at odds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

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
