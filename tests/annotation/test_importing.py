"""Deliveries taken in: every format round, bad ones reported by picture, parts that come later, the inbox."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from provider import HIDDEN, OVERLAP, World, deliver, make_world, same_labels

from marauder.annotation import delivery as delivering
from marauder.annotation.batch import find_batch, read_batch, write_batch
from marauder.annotation.delivery import find_delivery
from marauder.annotation.export import export_batch
from marauder.annotation.importing import ImportSummary, import_delivery
from marauder.annotation.status import batch_status
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.core.plugins import names as plugin_names
from marauder.data.reading import read_dataset

EVERY = HIDDEN + OVERLAP


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def take(world: World, path: Path, **changes: Any) -> ImportSummary:
    return import_delivery(world.settings.model_copy(update=changes), path, Clock())


def report_of(summary: ImportSummary) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((summary.report / "import_report.json").read_text())
    return content


def edit_coco(change: Callable[[dict[str, Any]], None], only: str = "first") -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        if folder.name != only:
            return
        file = next(path for path in folder.rglob("*.json") if "annotations" in json.loads(path.read_text()))
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit


def image_id(content: dict[str, Any], file: str) -> int:
    return int(next(row["id"] for row in content["images"] if Path(row["file_name"]).name == file))


def own(content: dict[str, Any], file: str) -> list[dict[str, Any]]:
    identity = image_id(content, file)
    return [row for row in content["annotations"] if row["image_id"] == identity]


@pytest.mark.parametrize("format_name", plugin_names("annotation_format"))
@pytest.mark.parametrize("packed", ["d.zip", "d"])
def test_a_clean_delivery_gives_back_the_hidden_labels(tmp_path: Path, format_name: str, packed: str) -> None:
    world = make_world(tmp_path, (format_name,))
    summary = take(world, deliver(world, packed, format_name))
    assert (summary.accepted, summary.returned, summary.complete, summary.merged) == (EVERY, 0, True, True)
    merged = read_dataset(world.settings.output / "data.yaml")
    assert not merged.problems and {record.key for record in merged} == set(world.truth)
    for record in merged:
        assert record.labelled and same_labels(record, world.truth[record.key]), record.key
    assert read_batch(world.settings.outbox / "batch-1").state == "imported"
    assert find_delivery(world.settings) is None


@pytest.mark.parametrize("format_name", plugin_names("annotation_format"))
def test_export_then_two_annotators_then_the_merged_set(tmp_path: Path, format_name: str) -> None:
    """The real export; two people who see the pictures send back what is there; the same set as before hiding."""
    world = make_world(tmp_path, (format_name,))
    shutil.rmtree(world.settings.outbox)
    export_batch(world.settings, Clock())
    batch = find_batch(world.settings.outbox)
    assert batch is not None and len(batch.packages) == 2
    assert sum(item.overlap for item in batch.items) >= 1
    world = replace(world, batch=batch)
    for part in ("first", "second"):
        assert find_delivery(world.settings) is None
        deliver(world, f"{part}.zip", format_name, (part,))
        found = find_delivery(world.settings)
        assert found is not None
        assert take(world, found).complete is (part == "second")
    for record in read_dataset(world.settings.output / "data.yaml"):
        assert record.labelled and same_labels(record, world.truth[record.key])


def test_a_delivery_for_a_batch_that_was_moved_since(tmp_path: Path) -> None:
    first = make_world(tmp_path / "first")
    (tmp_path / "first").rename(tmp_path / "moved ?")
    places = {
        name: getattr(first.settings, name).relative_to(first.root) for name in ("data", "outbox", "inbox", "output")
    }
    settings = first.settings.model_copy(update={name: tmp_path / "moved ?" / place for name, place in places.items()})
    batch = read_batch(settings.outbox / "batch-1")
    assert batch.data == str(settings.data) and all(item.picture.is_file() for item in batch.items)
    world = replace(first, root=tmp_path / "moved ?", settings=settings, batch=batch)
    summary = take(world, deliver(world, "d.zip", "mindy"))
    assert (summary.accepted, summary.returned, summary.complete) == (EVERY, 0, True)


BAD: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "unknown class": (
        lambda c: c["categories"][own(c, "dive_05.jpg")[0]["category_id"] - c["categories"][0]["id"]].update(
            name="whale"
        ),
        "class-unknown",
    ),
    "out of bounds": (lambda c: own(c, "dive_05.jpg")[0].update(bbox=[80, 10, 60, 20]), "box-out-of-bounds"),
    "outside": (lambda c: own(c, "dive_05.jpg")[0].update(bbox=[-500, -500, 20, 20]), "box-out-of-bounds"),
    "degenerate": (lambda c: own(c, "dive_05.jpg")[0].update(bbox=[10, 10, 0, 20]), "box-degenerate"),
    "no number": (lambda c: own(c, "dive_05.jpg")[0].update(bbox=[10, "x", 5, 20]), ""),
    "infinite": (lambda c: own(c, "dive_05.jpg")[0].update(bbox=[10, 1e400, 5, 20]), ""),
    "another size": (
        lambda c: next(row for row in c["images"] if row["id"] == image_id(c, "dive_05.jpg")).update(
            width=100, height=300
        ),
        "size-mismatch",
    ),
    "missing": (
        lambda c: c["images"].pop([Path(r["file_name"]).name for r in c["images"]].index("dive_05.jpg")),
        "picture-missing",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_reported_and_merged_only_without_it(world: World, name: str) -> None:
    change, kind = BAD[name]
    path = deliver(world, "d.zip", change=edit_coco(change))
    summary = take(world, path)
    assert not summary.merged and not summary.complete and summary.data is None
    assert not (world.settings.output / "data.yaml").exists()
    assert "Nothing was merged" in summary.advice and "--accept" in summary.advice
    pictures = {row["file"]: row for row in report_of(summary)["pictures"]}
    assert pictures["dive_05.jpg"]["status"] in ("returned", "missing")
    kinds = {note["kind"] for note in pictures["dive_05.jpg"]["notes"] if note["serious"]}
    assert kinds and (not kind or kind in kinds)
    back = list(csv.DictReader((summary.report / "return_list.csv").open()))
    assert "dive_05.jpg" in {row["picture"] for row in back} and all(row["what is wrong"] for row in back)
    assert find_delivery(world.settings) is None
    assert "--accept" in batch_status(world.settings).words

    accepting = world.settings.model_copy(update={"accept": True})
    assert find_delivery(accepting) == path
    summary = import_delivery(accepting, path, Clock())
    assert summary.merged and not summary.complete and summary.version == 1
    back_files = {row["picture"] for row in back}
    merged = {record.key: record for record in read_dataset(world.settings.output / "data.yaml")}
    for item in world.batch.items:
        answered = item.file not in back_files or (item.second_file and item.second_file not in back_files)
        assert merged[item.key].labelled == bool(answered)
        if answered:
            assert same_labels(merged[item.key], world.truth[item.key])
    assert find_delivery(accepting) is None, "what was taken is not taken again"

    rest = deliver(world, "rest.zip", parts=("first",), keys=lambda key: key.endswith("05"))
    if back_files == {"dive_05.jpg"}:
        assert find_delivery(world.settings) == rest
        last = take(world, rest)
        assert last.complete and last.version == 2
        assert all(record.labelled for record in read_dataset(world.settings.output / "data.yaml"))


def test_slight_faults_are_mended_and_told(world: World) -> None:
    def change(content: dict[str, Any]) -> None:
        box = own(content, "dive_00.jpg")[0]
        box["bbox"] = [-2.5, 10, 30, 20]
        content["annotations"].append({**box, "id": 99999})
        content["categories"][0]["name"] = " FISH"

    summary = take(world, deliver(world, "d.zip", change=edit_coco(change)))
    assert summary.merged and summary.complete and summary.returned == 0
    assert {"box-clipped", "box-duplicate"} <= set(report_of(summary)["kinds"])
    record = {one.key: one for one in read_dataset(world.settings.output / "data.yaml")}["dive/00"]
    assert len(record.boxes) == len(world.truth["dive/00"].boxes)
    assert record.boxes.min() == pytest.approx(0.0, abs=1e-6)


def repaint(file: Path, pixels: np.ndarray, **options: Any) -> None:
    Image.fromarray(pixels).save(file, **options)


@pytest.mark.parametrize(
    ("name", "status"),
    [("encoded anew", "accepted"), ("scaled", "returned"), ("another", "returned"), ("none", "returned")],
)
def test_pictures_changed_in_transit(world: World, name: str, status: str) -> None:
    def change(folder: Path) -> None:
        file = next(folder.rglob("dive_01.jpg"), None)
        if file is None:
            return
        pixels = np.asarray(Image.open(file))
        if name == "encoded anew":
            repaint(file, pixels, quality=60)
        elif name == "scaled":
            repaint(file, pixels[::2, ::2])
        elif name == "another":
            repaint(file, 255 - pixels)
        else:
            file.write_bytes(b"no picture at all")

    summary = take(world, deliver(world, "d.zip", change=change))
    row = next(row for row in report_of(summary)["pictures"] if row["file"] == "dive_01.jpg")
    assert row["status"] == status
    assert row["notes"][0]["kind"] == ("picture-encoded-anew" if status == "accepted" else "picture-changed")
    assert summary.merged == (status == "accepted")


def test_pictures_that_are_none_of_ours_are_told_and_left_out(world: World) -> None:
    def change(content: dict[str, Any]) -> None:
        content["images"].append({"id": 777, "file_name": "wreck.jpg", "width": 96, "height": 72})
        content["annotations"].append(
            {"id": 778, "image_id": 777, "category_id": content["categories"][0]["id"], "bbox": [1, 1, 20, 20]}
        )

    summary = take(world, deliver(world, "d.zip", change=edit_coco(change)))
    assert summary.merged and summary.complete
    assert report_of(summary)["strangers"] == ["wreck.jpg"]
    assert len(read_dataset(world.settings.output / "data.yaml")) == len(world.truth)


def test_the_same_delivery_again_changes_nothing(world: World) -> None:
    path = deliver(world, "d.zip")
    first = take(world, path)
    before = {p: p.lstat().st_mtime_ns for p in (world.settings.output / "versions").rglob("*")}
    copy = world.settings.inbox / "again.zip"
    shutil.copy(path, copy)
    again = take(world, copy)
    assert again == first
    assert {p: p.lstat().st_mtime_ns for p in (world.settings.output / "versions").rglob("*")} == before
    assert find_delivery(world.settings) is None


def test_the_two_packages_come_one_after_the_other(world: World) -> None:
    first = take(world, deliver(world, "first.zip", parts=("first",)))
    assert first.merged and first.returned == 0 and not first.complete
    status = batch_status(world.settings)
    assert status.waiting and (status.answered, status.pictures) == (HIDDEN, EVERY)
    second = take(world, deliver(world, "second.zip", parts=("second",)))
    assert second.merged and second.complete
    assert second.version == 1, "the second opinion changes no label of the data set"
    quality = json.loads((second.report / "quality.json").read_text())
    assert quality["annotators"]["kappa"]["value"] == pytest.approx(1.0)


def test_a_correction_replaces_what_was_taken(world: World) -> None:
    take(world, deliver(world, "d.zip"))
    corrected = dict(world.truth)
    old = corrected["dive/01"]
    corrected["dive/01"] = old.with_boxes(np.arange(len(old.boxes)) > 0)
    summary = take(world, deliver(world, "fix.zip", parts=("first",), keys=lambda k: k.endswith("01"), truth=corrected))
    assert summary.merged and summary.version == 2
    merged = {record.key: record for record in read_dataset(world.settings.output / "data.yaml")}
    assert same_labels(merged["dive/01"], corrected["dive/01"])


def test_our_own_package_is_no_delivery(world: World) -> None:
    path = deliver(world, "d.zip")
    sent = replace(world.batch.packages[0], sha256=hash_file(path))
    write_batch(world.settings.outbox, replace(world.batch, packages=(sent,)))
    summary = take(world, path, accept=True)
    assert not summary.merged and "package-unchanged" in report_of(summary)["kinds"]


@pytest.mark.parametrize("content", [b"not a zip", b"", b"PK\x03\x04 half"])
def test_what_is_no_delivery_ends_in_a_report(world: World, content: bytes) -> None:
    path = world.settings.inbox / "odd.zip"
    path.write_bytes(content)
    summary = take(world, path)
    assert not summary.merged and summary.accepted == 0 and "delivery-cut" in report_of(summary)["kinds"]
    assert "Nothing of it can be used" in (summary.report / "import_report.txt").read_text()


def test_hostile_entries_beside_good_labels_end_in_the_report(world: World) -> None:
    path = deliver(world, "d.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../evil.txt", "evil")
    summary = take(world, path)
    assert summary.merged, "the labels themselves are whole"
    assert report_of(summary)["general"][0]["kind"] == "entry-name"
    assert not list(world.root.rglob("evil.txt"))
    assert not (summary.report / "unpacked").exists()


def test_markup_and_formulas_from_outside_stay_text(world: World) -> None:
    evil = "<script>alert(1)</script>"

    def change(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = evil
        content["images"].append({"id": 777, "file_name": f"=cmd|{evil}.jpg", "width": 9, "height": 9})

    summary = take(world, deliver(world, "d.zip", change=edit_coco(change)), accept=True)
    for page in summary.report.rglob("*.html"):
        assert evil not in page.read_text()
    cells = [cell for row in csv.reader((summary.report / "return_list.csv").open()) for cell in row]
    assert not any(cell[:1] in "=+-@" for cell in cells if cell)


def test_a_zip_that_is_being_copied_is_not_there_yet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "SETTLE_SECONDS", 0.05)
    path = deliver(world, "d.zip")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert find_delivery(world.settings) is None
    assert "still being copied" in batch_status(world.settings).words or "cut off" in batch_status(world.settings).words
    time.sleep(0.1)
    assert "cut off; copy it again" in batch_status(world.settings).words
    path.write_bytes(content)
    assert find_delivery(world.settings) == path


def test_a_folder_must_have_been_quiet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "SETTLE_SECONDS", 0.2)
    folder = deliver(world, "d")
    (folder / "first" / "more.jpg.part").write_bytes(b"half")
    os.utime(folder / "first" / "more.jpg.part", (0, 0))
    assert find_delivery(world.settings) is None
    (folder / "first" / "more.jpg.part").unlink()
    assert find_delivery(world.settings) == folder


def test_what_is_waited_for_is_said_in_words(world: World) -> None:
    status = batch_status(world.settings)
    assert status.waiting and status.ready is None and str(world.settings.inbox) in status.words
    assert "2026-01-01" in status.words and str(EVERY) in status.words
    assert find_delivery(world.settings) is None
    empty = world.settings.model_copy(update={"outbox": world.root / "nowhere"})
    assert batch_status(empty).batch is None and "annotation export" in batch_status(empty).words
    assert find_delivery(empty) is None
    with pytest.raises(UserError, match="annotation export"):
        import_delivery(empty, deliver(world, "d.zip"), Clock())
    with pytest.raises(UserError, match="no such file"):
        import_delivery(world.settings, world.root / "none.zip", Clock())
