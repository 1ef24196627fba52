"""Sending pictures out: what goes, under which names, once or twice, at what price; again, killed, odd pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from marauder.annotation import prelabels
from marauder.annotation.batch import Batch, find_batch, list_batches, read_batch, set_state
from marauder.annotation.export import ExportSummary, export_batch
from marauder.annotation.formats.answers import read_delivery
from marauder.annotation.prelabels import Prelabels, plausible
from marauder.annotation.settings import AnnotationSettings, PrelabelSettings
from marauder.annotation.status import batch_status
from marauder.cli.annotation import app
from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import hash_file, write_json
from marauder.core.plugins import TABLE, make
from marauder.core.settings import load_settings
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Detections, Record
from marauder.data.writers import write_yolo
from marauder.selection.job import select_pictures
from marauder.selection.settings import SelectionSettings

NAMES = ("Purple Sea Urchin", "Red Sea Urchin", "gizmo")
UNLABELLED = 12


def draw(path: Path, seed: int, size: tuple[int, int] = (96, 64), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1] // 8, size[0] // 8, 3), np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path, **options)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four labelled pictures with two boxes each, and ``UNLABELLED`` without labels."""
    records = []
    for number in range(4 + UNLABELLED):
        picture = draw(tmp_path / "raw" / f"Bild {number} ü.png", number)
        labelled = number < 4
        boxes = np.array([[8, 8, 40, 40], [50, 10, 80, 50]]) if labelled else np.zeros((0, 4))
        classes = np.array([number % 2, 1]) if labelled else np.zeros(0, int)
        records.append(Record(f"dive/{number} ü", picture, 96, 64, boxes, classes, split="train", labelled=labelled))
    return write_yolo(Dataset(NAMES, tuple(records)), tmp_path / "data")


@pytest.fixture
def settings_for(data: Path, tmp_path: Path) -> Callable[..., AnnotationSettings]:
    def make(**values: Any) -> AnnotationSettings:
        base = {"data": data, "outbox": tmp_path / "outbox", "inbox": tmp_path / "inbox", "overlap_share": 0.25}
        return load_settings(AnnotationSettings, **(base | {"least_overlap": 2} | values))

    return make


def export(settings: AnnotationSettings) -> tuple[ExportSummary, Batch]:
    summary = export_batch(settings, Clock())
    return summary, read_batch(summary.folder)


def entries(package: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(package) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_all_pictures_without_labels_go_out_and_part_of_them_twice(settings_for: Any) -> None:
    summary, batch = export(settings_for(formats="mindy,coco,yolo,cvat,label_studio"))
    assert (summary.pictures, summary.overlap, summary.existed) == (UNLABELLED, 3, False)
    assert batch.state == "open" and len(summary.packages) == 2 * len(TABLE["annotation_format"])
    for package in batch.packages:
        content = entries(summary.folder / package.file)
        files = {name.removeprefix("images/"): data for name, data in content.items() if name.startswith("images/")}
        items = batch.by_file()
        wanted = (
            {i.file for i in batch.items} if package.part == "first" else {i.second_file for i in batch.items} - {""}
        )
        assert set(files) == wanted and package.pictures == len(wanted)
        for file, pixels in files.items():
            assert file.isascii() and " " not in file
            assert pixels == items[file].picture.read_bytes()
        assert content["guidelines/guidelines.html"] and content["classes.txt"].decode().split("\n")[0] == NAMES[0]
        assert package.sha256 == hash_file(summary.folder / package.file)
        assert ("ANOTHER ANNOTATOR" in content["README.txt"].decode()) == (package.part == "second")
    assert set(batch.expected()) == set(batch.by_file()) and len(batch.expected()) == UNLABELLED + 3
    sums = (summary.folder / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ") for line in sums] == [[one.sha256, one.file] for one in batch.packages]


def test_names_of_the_second_package_tell_nothing(settings_for: Any) -> None:
    _, batch = export(settings_for())
    for item in batch.items:
        if item.overlap:
            assert item.second_file.startswith("second-") and item.second_file[7:15] not in item.file


def test_the_overlap_does_not_depend_on_which_other_pictures_go_out(settings_for: Any, tmp_path: Path) -> None:
    _, whole = export(settings_for(overlap_share=0.5))
    keys = [item.key for item in whole.items]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(keys[::-1]) + "\n", encoding="utf-8")
    _, turned = export(settings_for(overlap_share=0.5, pictures=listed, outbox=tmp_path / "other"))
    assert {i.key for i in whole.items if i.overlap} == {i.key for i in turned.items if i.overlap}
    assert len({i.key for i in whole.items if i.overlap}) == 6


def test_no_overlap_means_one_package(settings_for: Any) -> None:
    summary, batch = export(settings_for(overlap_share=0))
    assert len(summary.packages) == 1 and not any(item.overlap for item in batch.items)


def test_the_same_inputs_give_the_same_bytes_and_the_same_name(settings_for: Any, tmp_path: Path) -> None:
    one, _ = export(settings_for(formats="mindy,cvat"))
    other, _ = export(settings_for(formats="mindy,cvat", outbox=tmp_path / "other"))
    assert one.batch == other.batch
    assert [p.read_bytes() for p in one.packages] == [p.read_bytes() for p in other.packages]
    different, _ = export(settings_for(formats="mindy,cvat", outbox=tmp_path / "third", seed=1))
    assert different.batch != one.batch


def test_a_second_call_tells_of_the_open_batch_and_changes_nothing(settings_for: Any) -> None:
    one, _ = export(settings_for())
    before = {path: path.stat().st_mtime_ns for path in one.folder.rglob("*")}
    other, _ = export(settings_for(seed=5))
    assert other.existed and other.batch == one.batch
    assert {path: path.stat().st_mtime_ns for path in one.folder.rglob("*")} == before


def test_new_makes_another_batch_of_what_is_not_out(settings_for: Any, tmp_path: Path) -> None:
    keys = [record.key for record in read_dataset(settings_for().data) if not record.labelled]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(keys[:5]), encoding="utf-8")
    one, _ = export(settings_for(pictures=listed))
    other, second = export(settings_for(new=True))
    assert other.batch != one.batch and {i.key for i in second.items} == set(keys[5:])
    assert any("5 pictures were sent" in note for note in other.notes)
    assert find_batch(settings_for().outbox, one.batch) is not None and len(list_batches(settings_for().outbox)) == 2


def test_what_came_back_is_not_sent_again_unless_asked_for(settings_for: Any) -> None:
    one, _ = export(settings_for())
    set_state(settings_for().outbox, one.batch, "imported", {"event": "import"})
    again, _ = export(settings_for())
    assert again.existed and again.batch == one.batch and "went out before" in again.notes[0]
    forced, batch = export(settings_for(new=True))
    assert not forced.existed and forced.batch == f"{one.batch}-2" and batch.state == "open"
    assert forced.pictures == UNLABELLED


def test_picks_of_step_3_go_out_with_their_estimates(settings_for: Any, tmp_path: Path) -> None:
    records = [record for record in read_dataset(settings_for().data) if not record.labelled]
    stranger = draw(tmp_path / "elsewhere" / "new.jpg", 77)
    picks = [
        {"key": records[2].key, "picture": str(records[2].picture), "estimated_boxes": 7.5},
        {"key": records[0].key, "picture": str(records[0].picture.resolve()), "estimated_boxes": None},
        {"key": "pool/new", "picture": str(stranger), "estimated_boxes": 2},
    ]
    write_json(tmp_path / "selected" / "selection.json", {"format": 1, "names": NAMES, "picks": picks})
    _, batch = export(settings_for(selection=tmp_path / "selected"))
    assert [item.key for item in batch.items] == [records[2].key, records[0].key, "pool/new"]
    assert [item.estimated_boxes for item in batch.items] == [7.5, 2.0, 2.0]  # labelled pictures hold two
    assert batch.items[2].size == (96, 64)


def test_odd_pictures_are_left_out_and_told(settings_for: Any, tmp_path: Path) -> None:
    records = [record for record in read_dataset(settings_for().data) if not record.labelled]
    content = records[0].picture.read_bytes()
    os.unlink(records[1].picture.resolve())  # noqa: PTH108 - behind the link
    records[2].picture.resolve().write_bytes(content[: len(content) // 2])
    records[3].picture.resolve().write_bytes(content)
    summary, batch = export(settings_for(pictures=settings_for().data.parent / "images" / "unlabelled"))
    assert {item.key for item in batch.items}.isdisjoint(record.key for record in records[2:4])
    assert any("cannot be read" in note or "truncated" in note for note in summary.notes)
    assert any("the same picture as" in note for note in summary.notes)


def test_pictures_that_are_stored_turned_go_out_upright(settings_for: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = draw(tmp_path / "turned.jpg", 5, (96, 64), exif=exif)
    listed = tmp_path / "list.txt"
    listed.write_text(str(turned), encoding="utf-8")
    summary, batch = export(settings_for(pictures=listed))
    item = batch.items[0]
    assert item.size == (64, 96) and item.file.endswith(".png")
    pixels = entries(summary.packages[0])[f"images/{item.file}"]
    (tmp_path / "sent.png").write_bytes(pixels)
    assert hash_file(tmp_path / "sent.png") == item.sha256
    with Image.open(tmp_path / "sent.png") as sent:
        assert sent.size == (64, 96) and 274 not in sent.getexif()


@pytest.mark.parametrize("line", ["no such key", "nowhere/x.jpg"])
def test_a_list_that_names_nothing_is_told_with_its_line(settings_for: Any, tmp_path: Path, line: str) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"list\.txt:2: .*correct the line"):
        export(settings_for(pictures=listed))


def test_nothing_to_send_is_told(settings_for: Any, tmp_path: Path) -> None:
    dataset = read_dataset(settings_for().data)
    done = write_yolo(dataset.with_records(r for r in dataset if r.labelled), tmp_path / "labelled")
    with pytest.raises(UserError, match="nothing to send: every picture is labelled"):
        export(settings_for(data=done))


def test_a_stop_request_leaves_nothing_open_and_the_same_call_goes_on(settings_for: Any, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    stop.write_text("enough")
    with pytest.raises(Interrupted):
        export_batch(settings_for(), Clock(stop_file=stop))
    assert find_batch(settings_for().outbox) is None
    assert export(settings_for())[1].state == "open"


def test_killed_at_two_places_the_packages_are_those_of_an_undisturbed_export(
    settings_for: Any, data: Path, tmp_path: Path
) -> None:
    whole, batch = export(settings_for(formats="mindy,yolo,cvat"))
    outbox = tmp_path / "killed"
    # A pause before every flushed file gives the test the time to kill between two of them.
    program = (
        "import sys, time, marauder.core.files as files\n"
        "import marauder.annotation.packing as packing\n"
        "original = packing.atomic_path\n"
        "def slow(path):\n    time.sleep(0.15)\n    return original(path)\n"
        "packing.atomic_path = slow\n"
        "from marauder.cli.main import main\nmain()\n"
    )
    words = ["annotation", "export", "--data", str(data), "--output", str(outbox), "--format", "mindy,yolo,cvat"]
    words += ["--overlap-share", "0.25", "least_overlap=2"]
    command = [sys.executable, "-c", program, *words]
    killed = 0
    for wanted in ("*/batch.json", "*/*-yolo.zip"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not list(outbox.glob(wanted)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert find_batch(outbox) is None
    assert killed == 2
    kept = {path: path.stat().st_mtime_ns for path in outbox.glob("*/*mindy*.zip")}
    assert len(kept) == 2
    subprocess.run(command, check=True, capture_output=True)
    found = read_batch(outbox / batch.id)
    assert found.state == "open" and found.packages == batch.packages
    for package in whole.packages:
        assert (outbox / batch.id / package.name).read_bytes() == package.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished zips are not written again"
    assert not list(outbox.rglob("*.partial"))


def test_pre_labels_of_a_model_go_out_in_the_data_sets_classes(settings_for: Any, tmp_path: Path) -> None:
    from marauder.models.files import save_detector
    from marauder.models.ultralytics_adapter import build_detector

    detector = build_detector("yolov8n", ["gizmo", "red sea  urchin", "anemone"])
    save_detector(detector, tmp_path / "model" / "best", 64, {})
    settings = settings_for(model=tmp_path / "model" / "best.pt", prelabels={"confidence": 1e-6, "device": "cpu"})
    summary, batch = export(settings)
    assert summary.prelabels == sum(len(item.boxes) for item in batch.items) > 0
    assert {int(index) for item in batch.items for index in item.classes} <= {1, 2}
    assert any("anemone" in note for note in summary.notes)
    for item in batch.items:
        assert (item.boxes >= 0).all() and (item.boxes <= [96, 64, 96, 64]).all() and (item.scores > 0).all()
    first, second = (entries(summary.folder / package.file) for package in batch.packages)
    assert len(json.loads(first["prelabels.json"])["annotations"]) == summary.prelabels
    assert json.loads(second["prelabels.json"])["annotations"] == []
    back = tmp_path / "back"
    back.mkdir()
    (back / "annotations.json").write_bytes(first["prelabels.json"])
    reading = read_delivery(make("reader", "coco"), back, batch.expected(), batch.names)
    assert sum(len(answer.boxes) for answer in reading.answers.values()) == summary.prelabels


def test_boxes_of_a_detector_that_proved_to_be_of_no_use_stay_here(
    settings_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its own report withholds is not sent to be corrected, unless somebody asks for it; nor are more boxes a
    picture than can be right."""
    from marauder.models.files import save_detector
    from marauder.models.ultralytics_adapter import build_detector

    # An untrained detector finds few boxes in pictures as small as these.
    monkeypatch.setattr(prelabels, "MOST_TIMES_USUAL", 0.5)
    weights = tmp_path / "model" / "best.pt"
    save_detector(build_detector("yolov8n", list(NAMES)), weights.with_suffix(""), 64, {})
    floor = {"gate": "floor", "essential": True, "answer": "warn", "why": "too few pictures to tell: only 3"}
    content = {
        "artifacts": {"for Ultralytics": {"path": "best.pt", "sha256": hash_file(weights)}},
        "overall": {"confidence": 0.4},
        "gates": [floor],
        "confusion_matrix": {"labels": [], "counts": []},
    }
    write_json(weights.with_name("eval_report.json"), content)
    options = {"model": weights, "prelabels": {"confidence": 1e-6, "device": "cpu"}}
    summary, batch = export(settings_for(**options))
    assert (summary.prelabels, batch.model) == (0, "")
    assert any("too few pictures to tell: only 3" in note and "prelabels.doubtful" in note for note in summary.notes)
    options["prelabels"]["doubtful"] = True
    _, whole = export(settings_for(**options, outbox=tmp_path / "other"))
    assert min(len(item.boxes) for item in whole.items) > 1 and max(len(item.boxes) for item in whole.items) > 2
    options["prelabels"]["doubtful"] = False
    # One that has learned, but less than somebody asked for, is of use to annotators.
    below = "below the level you set"
    content["gates"] = [{**floor, "why": f"{below}: mAP50 is 0.600, below 0.7", "evidence": {"finding": below}}]
    write_json(weights.with_name("eval_report.json"), content)
    assert export(settings_for(**options, outbox=tmp_path / "below"))[0].prelabels > 0
    # The report of other weights says nothing of these.
    content |= {"gates": [floor], "artifacts": {"for Ultralytics": {"path": "best.pt", "sha256": "0" * 64}}}
    write_json(weights.with_name("eval_report.json"), content)
    summary, batch = export(settings_for(**options, outbox=tmp_path / "third"))
    assert summary.prelabels > 0
    # Every labelled picture holds 2.
    assert any("the 2 surest of each picture go out" in note for note in summary.notes)
    for item, before in zip(batch.items, whole.items, strict=True):
        assert item.scores.tolist() == sorted(before.scores, reverse=True)[:2]


def found_in(*counts: int) -> Prelabels:
    boxes = {
        f"{number}": Detections(
            np.tile([1.0, 1.0, 9.0, 9.0], (count, 1)), np.linspace(0.9, 0.8, count), np.zeros(count)
        )
        for number, count in enumerate(counts)
    }
    return Prelabels(boxes, (), ())


def labelled_with(*counts: int) -> list[Record]:
    return [
        Record(
            f"{number}", Path("a.png"), 96, 64, np.tile([1, 1, 9, 9], (count, 1)), np.zeros(count, int), split="train"
        )
        for number, count in enumerate(counts)
    ]


def test_crowded_pictures_keep_their_boxes_however_many_labelled_ones_are_empty() -> None:
    """Eighty labelled pictures without a box say nothing of ten that were chosen because they are full."""
    found = found_in(*[5] * 10)
    assert plausible(found, labelled_with(*[0] * 80, *[5] * 20)) == (found, "")
    assert plausible(found, labelled_with(0, 0)) == (found, ""), "nothing is known"


def test_far_more_boxes_than_labelled_pictures_hold_are_cut_to_the_fullest_of_them() -> None:
    labelled = labelled_with(*[0] * 80, *[2] * 99, 7)
    cut, note = plausible(found_in(300, 40, 3), labelled)
    assert [len(boxes) for boxes in cut.boxes.values()] == [7, 7, 3]
    assert cut.boxes["0"].scores.tolist() == sorted(found_in(300).boxes["0"].scores, reverse=True)[:7]
    assert "suggests 114 boxes a picture" in note and "hold at most 2, and none more than 7" in note
    assert "326 boxes stay here" in note and "prelabels.doubtful=true" in note


def test_pre_labels_go_on_after_a_stop_with_the_block_that_is_missing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marauder.models.files import save_detector
    from marauder.models.ultralytics_adapter import build_detector

    class StopsAtTheThird(Clock):
        asked = 0

        def check(self, next_unit_seconds: float = 0.0) -> None:
            self.asked += 1
            if self.asked == 3:
                raise Interrupted("enough")

    monkeypatch.setattr(prelabels, "BLOCK", 4)
    save_detector(build_detector("yolov8n", list(NAMES)), tmp_path / "best", 64, {})
    records = [record for record in read_dataset(data) if not record.labelled]
    options = PrelabelSettings(confidence=1e-6, device="cpu")

    def run(journal: str, clock: Clock) -> prelabels.Prelabels:
        return prelabels.prelabel(tmp_path / "best.pt", records, NAMES, options, tmp_path / journal, clock)

    whole = run("whole", Clock())
    with pytest.raises(Interrupted):
        run("cut", StopsAtTheThird())
    assert len((tmp_path / "cut").read_text().splitlines()) == 2
    with (tmp_path / "cut").open("a") as stream:
        stream.write('{"block": 8, "ro')  # a line that a kill cut short
    again = run("cut", Clock())
    assert list(again.boxes) == list(whole.boxes) == [record.key for record in records]
    for key, found in whole.boxes.items():
        np.testing.assert_array_equal(found.boxes, again.boxes[key].boxes)
        np.testing.assert_array_equal(found.scores, again.boxes[key].scores)
    assert sum(map(len, whole.boxes.values())) > 0


def test_a_model_of_other_classes_is_refused(settings_for: Any, tmp_path: Path) -> None:
    from marauder.models.files import save_detector
    from marauder.models.ultralytics_adapter import build_detector

    save_detector(build_detector("yolov8n", ["car"]), tmp_path / "best", 64, {})
    with pytest.raises(UserError, match="no class is the same"):
        export(settings_for(model=tmp_path / "best.pt"))
    with pytest.raises(UserError, match="no such file"):
        export(settings_for(model=tmp_path / "missing.pt"))


def test_the_command_goes_from_export_to_import_and_tells_problems_with_status_3(data: Path, tmp_path: Path) -> None:
    places = ["--outbox", str(tmp_path / "out")]

    def call(*words: str) -> Any:
        return CliRunner().invoke(app, list(words))

    done = call("export", "--data", str(data), *places)
    assert done.exit_code == 0 and "estimate:" in done.output, done.output
    batch = list_batches(tmp_path / "out")[0]
    images = [
        {"id": number, "file_name": file, "width": 96, "height": 64} for number, file in enumerate(batch.expected(), 1)
    ]
    rows = [{"id": row["id"], "image_id": row["id"], "category_id": 1, "bbox": [5, 5, 20, 20]} for row in images]
    content = {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 1, "name": NAMES[0]}, {"id": 2, "name": "no such thing"}],
    }
    rows[0]["category_id"] = 2
    write_json(tmp_path / "back" / "annotations.json", content)
    words = ["import", *places, "--output", str(tmp_path / "merged"), "--delivery", str(tmp_path / "back")]
    refused = call(*words)
    assert refused.exit_code == 3 and "--accept" in refused.output and "report:" in refused.output, refused.output
    rows[0]["category_id"] = 1
    write_json(tmp_path / "back" / "annotations.json", content)
    taken = call(*words)
    assert taken.exit_code == 0 and "version 1" in taken.output, taken.output
    assert all(record.labelled for record in read_dataset(tmp_path / "merged"))
    told = call("status", *places, "--output", str(tmp_path / "merged"))
    assert told.exit_code == 0 and "complete" in told.output


def test_the_estimate_names_the_boxes_that_the_price_is_for(settings_for: Any, data: Path, tmp_path: Path) -> None:
    words = ["export", "--data", str(data), "--outbox", str(tmp_path / "out"), "--overlap-share", "0.25"]
    done = CliRunner().invoke(app, [*words, "price.per_picture=0", "price.per_box=1", "least_overlap=2"])
    views = UNLABELLED + 3  # labelled pictures hold two boxes each
    told = f"{UNLABELLED} pictures, 3 of them twice: about {2 * views} boxes, roughly {2 * views}.00 EUR and "
    assert told in done.output and "the second annotator counted" in done.output
    assert told in batch_status(settings_for(outbox=tmp_path / "out")).words


def test_both_steps_quote_the_same_price_and_other_prices_are_told(
    settings_for: Any, data: Path, tmp_path: Path
) -> None:
    quoting = {"strategy": "random", "count": 6, "price": {"per_box": 0.5, "boxes_per_picture": 3, "currency": "USD"}}
    chosen = tmp_path / "selected"
    select_pictures(load_settings(SelectionSettings, pool=data, output=chosen, **quoting), Clock())
    quoted = json.loads((chosen / "selection.json").read_text(encoding="utf-8"))["price"]
    assert (quoted["boxes"], quoted["currency"]) == (18.0, "USD")
    plain = {"selection": chosen, "overlap_share": 0.0}
    summary, batch = export(settings_for(**plain))
    assert batch.price == quoted and summary.price.as_dict() == quoted
    assert not any("priced otherwise" in note for note in summary.notes)
    other = settings_for(**plain, new=True, outbox=tmp_path / "other", price={"per_box": 0.25})
    summary, batch = export(other)
    assert any("per_box 0.25 (there 0.5)" in note for note in summary.notes)
    assert batch.price["amount"] == pytest.approx(6 * 0.02 + 18 * 0.25) and batch.price["currency"] == "USD"


def test_import_and_status_find_the_data_set_from_another_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    outbox, merged = str(tmp_path / "out"), str(tmp_path / "merged")
    assert CliRunner().invoke(app, ["export", "--data", data.name, "--outbox", outbox]).exit_code == 0
    batch = list_batches(tmp_path / "out")[0]
    images = [{"id": n, "file_name": file, "width": 96, "height": 64} for n, file in enumerate(batch.expected(), 1)]
    rows = [{"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20]} for n in range(1, len(images) + 1)]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": NAMES[0]}]}
    write_json(tmp_path / "back" / "annotations.json", content)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = ["import", "--outbox", outbox, "--output", merged, "--delivery", str(tmp_path / "back")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "version 1" in done.output, done.output
