"""Every defect planted in a copy of real pictures is found, named and, where safe, mended."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_sets
from PIL import Image

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.files import read_json
from marauder.data.check import DEFECTS, check_dataset, examples_sheet, told_counts
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Record
from marauder.data.repair import SET_ASIDE_KINDS, repair

STEMS = [
    "IMG_8496_MOV-0",
    "IMG_8496_MOV-1",
    "IMG_2274",
    "IMG_2275",
    "IMG_2289",
    "IMG_2300",
    "IMG_2310",
    "IMG_2320",
    "IMG_2330",
]


@pytest.fixture
def aquarium(shared_data: Path, tmp_path: Path) -> Path:
    """A clean copy of some real pictures with their labels, all in train."""
    root = tmp_path / "set"
    source = shared_data / "aquarium"
    for stem in STEMS:
        if (source / "images" / f"{stem}.jpg").exists():
            for folder, suffix in (("images", ".jpg"), ("labels", ".txt")):
                (root / folder / "train").mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / folder / f"{stem}{suffix}", root / folder / "train" / f"{stem}{suffix}")
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [fish, jellyfish, penguin, puffin, shark, starfish, stingray]\n"
    )
    (root / "images/val").mkdir()
    (root / "labels/val").mkdir()
    return root


def picture(root: Path, stem: str = "IMG_2274") -> Path:
    return root / "images/train" / f"{stem}.jpg"


def labels(root: Path, stem: str = "IMG_2274") -> Path:
    return root / "labels/train" / f"{stem}.txt"


def add_line(root: Path, line: str) -> None:
    file = labels(root)
    file.write_text(file.read_text().rstrip("\n") + f"\n{line}\n")


def empty(root: Path) -> None:
    picture(root).write_bytes(b"")


def unreadable(root: Path) -> None:
    picture(root).write_bytes(b"<html>not found</html>")


def truncated(root: Path) -> None:
    picture(root).write_bytes(picture(root).read_bytes()[:-5000])


def rotated(root: Path) -> None:
    with Image.open(picture(root)) as image:
        exif = Image.Exif()
        exif[274] = 3
        image.save(picture(root), exif=exif, quality=95)


def duplicate_box(root: Path) -> None:
    add_line(root, labels(root).read_text().splitlines()[0])


def exact_copy(root: Path) -> None:
    shutil.copyfile(picture(root), picture(root, "IMG_9999"))
    shutil.copyfile(labels(root), labels(root, "IMG_9999"))


def copy_in_val(root: Path) -> None:
    shutil.copyfile(picture(root), root / "images/val/IMG_9999.jpg")
    shutil.copyfile(labels(root), root / "labels/val/IMG_9999.txt")


def near_copy(root: Path) -> None:
    with Image.open(picture(root)) as image:
        image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(picture(root, "IMG_9999"), quality=50)
    shutil.copyfile(labels(root), labels(root, "IMG_9999"))


def clip_in_val(root: Path) -> None:
    shutil.move(picture(root, "IMG_8496_MOV-1"), root / "images/val")
    shutil.move(labels(root, "IMG_8496_MOV-1"), root / "labels/val")


def missing_split(root: Path) -> None:
    with (root / "data.yaml").open("a") as stream:
        stream.write("test: images/test\n")


PLANTED: dict[str, tuple[Callable[[Path], object], dict[str, int]]] = {
    "zero bytes": (empty, {"picture-empty": 1}),
    "unreadable": (unreadable, {"picture-unreadable": 1}),
    "truncated": (truncated, {"picture-truncated": 1}),
    "EXIF rotation": (rotated, {"picture-rotated": 1}),
    "label without picture": (lambda root: picture(root).unlink(), {"label-without-picture": 1}),
    "picture without label": (lambda root: labels(root).unlink(), {"picture-without-label": 1}),
    "class out of range": (lambda root: add_line(root, "7 .5 .5 .1 .1"), {"class-unknown": 1}),
    "negative class": (lambda root: add_line(root, "-1 .5 .5 .1 .1"), {"class-unknown": 1}),
    "no numbers": (lambda root: add_line(root, "fish here"), {"label-syntax": 1}),
    "out of bounds": (lambda root: add_line(root, "0 .99 .5 .4 .1"), {"box-out-of-bounds": 1}),
    "wholly outside": (lambda root: add_line(root, "0 1.5 .5 .1 .1"), {"box-out-of-bounds": 1}),
    "no area": (lambda root: add_line(root, "0 .5 .5 0 .1"), {"box-degenerate": 1}),
    "a click": (lambda root: add_line(root, "0 .5 .5 .0005 .1"), {"box-tiny": 1}),
    "box twice": (duplicate_box, {"box-duplicate": 1}),
    "same picture": (exact_copy, {"picture-duplicate": 1}),
    "same picture in two splits": (copy_in_val, {"picture-duplicate": 1, "duplicates-in-two-splits": 1}),
    "nearly the same picture": (near_copy, {"picture-near-duplicate": 1}),
    "clip in two splits": (clip_in_val, {"group-in-two-splits": 1}),
    "split missing": (missing_split, {"split-missing": 1}),
}


def test_the_clean_copy_is_clean(aquarium: Path):
    report = check_dataset(aquarium)
    assert report.findings == ()
    assert report.clean
    assert report.pictures >= 6


@pytest.mark.parametrize("name", PLANTED)
def test_planted_defects_are_found_and_mended(name: str, aquarium: Path, tmp_path: Path):
    plant, expected = PLANTED[name]
    before = check_dataset(aquarium).pictures
    plant(aquarium)
    report = check_dataset(aquarium)
    assert report.counts() == expected
    assert report.clean == all(DEFECTS[kind].severity == "warning" for kind in expected)
    state = {path: path.read_bytes() for path in aquarium.rglob("*") if path.is_file()}

    summary = repair(report, tmp_path / "fixed")

    assert {path: path.read_bytes() for path in aquarium.rglob("*") if path.is_file()} == state
    after = check_dataset(summary.data_yaml)
    # A split whose folder is missing has no trace in the copy; every other defect goes by its own word.
    expected_left = {k: n for k, n in expected.items() if not DEFECTS[k].fixed and k != "split-missing"}
    if name in ("same picture in two splits", "picture without label"):
        expected_left = {}  # one copy is left; the unlabelled picture is marked as such
    assert after.counts() == expected_left
    aside = any(kind in SET_ASIDE_KINDS for kind in expected)
    assert bool(summary.set_aside) == aside
    assert bool(read_json(tmp_path / "fixed/set_aside.json")["set_aside"]) == aside
    gone = name == "label without picture"
    assert after.pictures == before - (aside or gone) + (name == "nearly the same picture")


def test_several_at_once_with_places_and_sheet(aquarium: Path, tmp_path: Path):
    add_line(aquarium, "99 .5 .5 .1 .1")
    truncated_file = picture(aquarium, "IMG_2275")
    truncated_file.write_bytes(truncated_file.read_bytes()[:-5000])
    copy_in_val(aquarium)
    report = check_dataset(aquarium)
    assert report.severity("error") == 4  # the copied label file has the bad line too
    found = report.of_kind("class-unknown")[0]
    assert found.path == str(labels(aquarium))
    assert found.line == len(labels(aquarium).read_text().splitlines())
    sheet = examples_sheet(report, tmp_path / "sheet.jpg")
    assert sheet is not None
    with Image.open(sheet) as image:
        assert image.width > 600
    report.write(tmp_path / "report.json")
    content = read_json(tmp_path / "report.json")
    assert content["errors"] == 4
    assert len(content["findings"]) == len(report.findings)


def test_turned_upright_pixels_agree_with_the_displayed_picture(aquarium: Path, tmp_path: Path):
    rotated(aquarium)
    with Image.open(picture(aquarium)) as image:
        displayed = np.asarray(image.transpose(Image.Transpose.ROTATE_180), np.int16)
    repair(check_dataset(aquarium), tmp_path / "fixed")
    with Image.open(tmp_path / "fixed/images/train/train__IMG_2274.jpg") as image:
        assert image.getexif().get(274, 1) == 1
        assert np.abs(np.asarray(image, np.int16) - displayed).mean() < 3


def test_a_data_set_made_in_memory_is_checked_too(aquarium: Path):
    dataset = read_dataset(aquarium)
    first = dataset.records[0]
    boxes = np.array([[0, 0, 5, 5], [0, 0, 5, 5], [-50, 0, 8, 8], [3, 3, 3, 8], [0, 0, 5, 5]], float)
    bad = replace(first, boxes=boxes, classes=np.array([0, 0, 0, 0, 9]), ignored=np.zeros(0, bool), width=99)
    counts = check_dataset(dataset.with_records([bad, *dataset.records[1:]])).counts()
    assert counts == {
        "box-out-of-bounds": 1,
        "box-degenerate": 1,
        "box-duplicate": 1,
        "class-unknown": 1,
        "size-mismatch": 1,
    }


def test_findings_that_stand_for_many_are_counted_as_many(aquarium: Path):
    dataset = read_dataset(aquarium)
    first = dataset.records[0]
    bad = replace(
        first, boxes=np.tile([5.0, 5, 50, 50], (1000, 1)), classes=np.zeros(1000), ignored=[], box_attributes={}
    )
    report = check_dataset(dataset.with_records([bad, *dataset.records[1:]]))
    assert report.counts() == {"box-duplicate": 999}
    assert report.severity("warning") == 999 and len(report.findings) < 30
    assert report.to_plain()["defects"]["box-duplicate"]["count"] == 999


def test_every_kind_that_readers_report_is_known():
    import re

    root = Path(__file__).parents[2] / "src/marauder/data"
    kinds = set()
    for file in [*root.glob("readers/*.py"), root / "boxes.py", root / "check.py"]:
        words = "picture|label|box|class|category|size|split|root|names|mask|group|duplicates"
        kinds |= set(re.findall(rf'"((?:{words})-[a-z-]+[a-z])"', file.read_text()))
    kinds |= {f"picture-{kind}" for kind in ("missing", "empty", "unreadable", "truncated")}
    assert len(kinds) >= 20
    assert kinds <= set(DEFECTS)


def test_sources_are_never_written_to(aquarium: Path):
    add_line(aquarium, "0 .5 .5 0 .1")
    with pytest.raises(UserError, match="never written to"):
        repair(check_dataset(aquarium), aquarium / "fixed")


def test_nothing_left(tmp_path: Path, aquarium: Path):
    for file in (aquarium / "images/train").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="no picture is left"):
        repair(check_dataset(aquarium), tmp_path / "fixed")


def test_the_clock_stops_it(aquarium: Path):
    with pytest.raises(Interrupted):
        check_dataset(aquarium, clock=Clock(max_seconds=1e-9))


@pytest.mark.parametrize(("folder", "count"), [("aquarium", 575), ("deepfish", 1500)])
def test_real_sets_have_no_errors(shared_data: Path, folder: str, count: int):
    report = check_dataset(shared_data / folder)
    assert report.clean
    assert report.pictures == count


def test_fathomnet_has_errors_and_absent_pictures(shared_data: Path):
    counts = check_dataset(shared_data / "fathomnet/fgvc2024_subtrain.json").counts()
    assert counts == {"box-out-of-bounds": 8, "box-duplicate": 5, "picture-absent": 1000}


def test_counts_agree_with_what_is_counted():
    counts = {"labels-none": 1, "file-unread": 1, "picture-missing": 1, "box-duplicate": 2}
    told = "\n".join(told_counts(counts, {}))
    assert "error: 1 picture that does not exist (picture-missing)" in told and "2 boxes given twice" in told
    assert "1 folder of pictures without any label" in told and "1 file that may hold labels and was not read" in told
    assert all(defect.one != defect.words for defect in DEFECTS.values())


def test_class_names_that_one_slip_makes_of_each_other_are_told_with_their_boxes(tmp_path: Path):
    boxes = np.array([[float(x), 1, x + 5, 9] for x in range(60)])
    picture = small_sets.picture(tmp_path / "a.jpg")
    names = ("Platlets", "Platelets", "class 1", "platelet")

    def told(*counts: int) -> list[str]:
        classes = np.repeat(np.arange(len(counts)), counts)
        record = Record("a", picture, 80, 60, boxes[: len(classes)], classes)
        return [str(one) for one in check_dataset(Dataset(names, (record,), "blood")).of_kind("class-names-alike")]

    assert told(1, 10, 1) == ["blood: Platlets (1 box) beside Platelets (10 boxes)"]
    assert told(2, 19, 1) == [], "so many are no slip: Scarus and Sparus are two genera"
    assert told(0, 20, 1) == []
    assert told(0, 20, 0, 19) == ["blood: platelet (19 boxes) beside Platelets (20 boxes)"], "a plural is no genus"
