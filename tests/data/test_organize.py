"""Organising: several sources into one data set, the same every time, gone on with after an interruption."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import format_writers
import numpy as np
import pytest
import small_sets

from marauder.core.clock import Clock, Interrupted
from marauder.core.errors import UserError
from marauder.core.locks import exclusive
from marauder.data.organize import OrganizeSettings, organize
from marauder.data.reading import read_dataset
from marauder.data.records import Dataset, Problem, Record
from marauder.data.splits import leaking_groups
from marauder.data.writers import is_complete, write_yolo

AQUARIUM = ("fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("hashes.jsonl", "organize.json", ".lock")
    }


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [small_sets.BUILDERS[name](tmp_path / name) for name in ("yolo", "coco", "voc")]


def test_sources_are_united_mapped_and_reported(sources: list[Path], tmp_path: Path):
    summary = organize(OrganizeSettings(inputs=tuple(sources), output=tmp_path / "out", near_duplicates=False))
    assert summary.unmapped == {"crab": 2}
    assert summary.mapped == {"fish": ("Reef Fish (unidentified)", 3)}
    assert [(Path(row["path"]).name, row["kind"]) for row in summary.set_aside] == [
        ("a.jpg", "label-syntax"),
        ("b.jpg", "number-invalid"),
        ("b.jpg", "number-invalid"),
    ]
    dataset = read_dataset(summary.data_yaml)
    assert len(dataset) == summary.pictures == 4
    assert len(dataset.names) == 36
    assert leaking_groups(dataset) == {}
    assert summary.problems["label-syntax"] == 1


def test_source_names_are_kept_and_the_same_pictures_stay_together(sources: list[Path], tmp_path: Path):
    # Picture a of every source has the same pixels.
    (sources[0] / "labels/train/a.txt").write_text("1 0.5 0.41666667 0.5 0.5\n")
    settings = OrganizeSettings(inputs=tuple(sources), output=tmp_path / "out", taxonomy="source", mode="copy")
    summary = organize(settings)
    assert summary.unmapped == {}
    dataset = read_dataset(summary.data_yaml)
    assert dataset.names == ("fish", "crab")
    assert len({record.group for record in dataset if record.key.rsplit("/")[-1].endswith("a")}) == 1
    assert int(dataset.class_counts()[1]) == 3


def test_the_same_again_and_quickly(sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = OrganizeSettings(inputs=tuple(sources), output=tmp_path / "out")
    first = organize(settings)
    before = contents(tmp_path / "out")
    fresh = organize(settings.model_copy(update={"fresh": True}))
    assert not fresh.already_done
    assert contents(tmp_path / "out") == before
    monkeypatch.setattr("marauder.data.organize.read_dataset", lambda *_, **__: pytest.fail("nothing had to be read"))
    again = organize(settings)
    assert again.already_done
    assert (again.pictures, again.splits, again.unmapped) == (first.pictures, first.splits, first.unmapped)


@pytest.mark.parametrize("change", ["label", "setting", "lost picture", "lost label"])
def test_a_change_is_seen(change: str, sources: list[Path], tmp_path: Path):
    settings = OrganizeSettings(inputs=tuple(sources), output=tmp_path / "out")
    organize(settings)
    if change == "label":
        (sources[0] / "labels/train/b.txt").write_text("0 .5 .5 .2 .2\n")
    elif change == "setting":
        settings = settings.model_copy(update={"seed": 1})
    elif change == "lost picture":
        next((tmp_path / "out/images").rglob("*.jpg")).unlink()
    else:
        next((tmp_path / "out/labels").rglob("*.txt")).unlink()
    assert not organize(settings).already_done
    assert organize(settings).already_done


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def first(folder: Path, pattern: str) -> Path:
    return next(path for path in sorted(folder.rglob(pattern)) if path.is_symlink() or path.stat().st_size)


def lead_elsewhere(link: Path) -> None:
    other = next(path for path in sorted(link.parents[1].rglob("*.jpg")) if path != link)
    link.unlink()
    link.symlink_to(other.resolve())


def replace_picture(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[::-1])


DAMAGES = {
    "label edited": lambda out: first(out / "labels", "*.txt").write_text("0 .1 .1 .1 .1\n"),
    "label cut": lambda out: cut(first(out / "labels", "*.txt")),
    "label deleted": lambda out: first(out / "labels", "*.txt").unlink(),
    "names changed": lambda out: (out / "data.yaml").write_text((out / "data.yaml").read_text() + "  99: whale\n"),
    "picture cut": lambda out: cut(first(out / "images", "*.jpg")),
    "picture replaced": lambda out: replace_picture(first(out / "images", "*.jpg")),
    "records cut": lambda out: cut(out / "records.jsonl"),
    "records are no text": lambda out: (out / "records.jsonl").write_bytes(b"\xff\xfe"),
    "rows lost": lambda out: (out / "records.jsonl").write_text((out / "records.jsonl").read_text().split("\n")[0]),
    "state cut": lambda out: cut(out / "dataset.json"),
    "summary cut": lambda out: cut(out / "organize.json"),
    "link elsewhere": lambda out: lead_elsewhere(first(out / "images", "*.jpg")),
    "link to nowhere": lambda out: cut_link(first(out / "images", "*.jpg")),
    "list changed": lambda out: (out / "train.txt").write_text(""),
}
MODES = {"link elsewhere": "link", "link to nowhere": "link", "list changed": "reference"}


def cut_link(link: Path) -> None:
    link.unlink()
    link.symlink_to("nowhere.jpg")


@pytest.mark.parametrize("name", DAMAGES)
def test_what_was_damaged_since_is_healed(name: str, sources: list[Path], tmp_path: Path):
    out = tmp_path / "out"
    settings = OrganizeSettings(
        inputs=tuple(sources), output=out, mode=MODES.get(name, "copy"), taxonomy="source", near_duplicates=False
    )
    organize(settings)
    whole = contents(out)
    DAMAGES[name](out)
    assert not organize(settings).already_done
    assert contents(out) == whole
    assert organize(settings).already_done


def test_a_whole_folder_is_recognised_soon(tmp_path: Path):
    source = small_sets.picture(tmp_path / "a.jpg")
    boxes = np.array([[1.0, 1, 20, 20]])
    records = [Record(f"p{n}", source, *small_sets.SIZE, boxes, [0], split="train") for n in range(2000)]
    write_yolo(Dataset(("fish",), records), tmp_path / "out")
    started = time.perf_counter()
    assert is_complete(tmp_path / "out")
    assert time.perf_counter() - started < 1.0


def test_two_at_once_are_refused_by_name(sources: list[Path], tmp_path: Path):
    settings = OrganizeSettings(inputs=tuple(sources), output=tmp_path / "out", taxonomy="source")
    with (
        exclusive(tmp_path / "out" / ".lock", "it"),
        pytest.raises(UserError, match=f"the data set {tmp_path / 'out'} is in use"),
    ):
        organize(settings)
    assert organize(settings).pictures
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/thesis.txt").touch()
    with pytest.raises(UserError, match="is not empty"):
        organize(settings.model_copy(update={"output": tmp_path / "foreign"}))
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.txt"]


def test_interrupted_anywhere_it_ends_the_same(sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("marauder.data.writers.WRITE_BLOCK", 1)
    monkeypatch.setattr("marauder.data.duplicates.BLOCK", 2)
    asked: list[int] = []

    def stopping(at: int) -> Clock:
        clock = Clock()
        asked.clear()
        monkeypatch.setattr(clock, "stop_reason", lambda *_: asked.append(1) or ("stop" if len(asked) == at else None))
        return clock

    whole = organize(OrganizeSettings(inputs=tuple(sources), output=tmp_path / "whole"), stopping(0))
    settings = OrganizeSettings(inputs=tuple(sources), output=tmp_path / "out")
    last = len(asked)
    assert last > 30
    for stop_at in (*range(1, last - 30, last // 8), *range(last - 30, last + 1)):
        with pytest.raises(Interrupted):
            organize(settings, stopping(stop_at))
        assert not (tmp_path / "out/data.yaml").exists()
    done = organize(settings, Clock())
    assert done.pictures == whole.pictures
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def write_set(folder: Path, count: int, labels: str) -> None:
    """So many pictures in YOLO layout, all with the same labels."""
    for number in range(count):
        small_sets.picture(folder / f"images/{number}.jpg", number)
        label = folder / f"labels/{number}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text(labels)


def test_bad_pictures_are_set_aside(sources: list[Path], tmp_path: Path):
    file = sources[0] / "images/train/b.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    (sources[1] / "images/b.jpg").unlink()
    summary = organize(OrganizeSettings(inputs=tuple(sources), output=tmp_path / "out"))
    assert sorted(row["kind"] for row in summary.set_aside) == [
        "label-syntax",
        "number-invalid",
        "picture-missing",
        "picture-truncated",
    ]
    assert summary.pictures == 3


def test_boxes_of_a_picture_that_is_set_aside_account_for_the_difference_of_the_totals(tmp_path: Path):
    write_set(tmp_path / "set", 6, "0 .5 .5 .2 .2\n0 .3 .3 .2 .2\n")
    file = tmp_path / "set/images/3.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    settings = OrganizeSettings(
        inputs=(tmp_path / "set",), output=tmp_path / "out", names=("crab",), taxonomy="source", near_duplicates=False
    )
    summary = organize(settings)
    assert summary.mapped == {"crab": ("crab", 12)} and summary.boxes == 10
    assert "2 mapped boxes are on pictures that were set aside, and not in the data set" in summary.notes


def test_a_picture_with_rubbish_or_an_unknown_class_is_no_background(tmp_path: Path):
    write_set(tmp_path / "set", 12, "0 .5 .5 .2 .2\n")
    (tmp_path / "set/labels/0.txt").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "set/labels/1.txt").write_text("5 .5 .5 .2 .2\n0 .2 .2 .1 .1\n")
    settings = OrganizeSettings(inputs=(tmp_path / "set",), output=tmp_path / "out", names=("fish",), taxonomy="source")
    summary = organize(settings)
    assert sorted(row["kind"] for row in summary.set_aside) == ["class-unknown", "label-encoding"]
    assert summary.problems["class-unknown"] == 1
    dataset = read_dataset(summary.data_yaml)
    assert {record.key for record in dataset} == {str(number) for number in range(2, 12)}
    assert all(len(record.boxes) == 1 for record in dataset)


def test_one_class_beyond_the_names_in_several_pictures_means_that_names_are_missing(tmp_path: Path):
    for number in range(12):
        small_sets.picture(tmp_path / f"set/images/{number:02}.jpg", number)
        label = tmp_path / f"set/labels/{number:02}.txt"
        label.parent.mkdir(exist_ok=True)
        rare = "2 .8 .8 .1 .1\n" if number in (3, 7) else ""
        label.write_text(f"0 .5 .5 .2 .2\n1 .3 .3 .1 .1\n0 .7 .2 .1 .1\n{rare}")
    settings = OrganizeSettings(
        inputs=(tmp_path / "set",), output=tmp_path / "out", names=("a", "b"), taxonomy="source"
    )
    with pytest.raises(UserError) as caught:
        organize(settings)
    told = str(caught.value)
    assert "2 of 38 boxes have a class without a name, and 2 of 12 pictures would be left out" in told
    assert "There are 2 names (a, b); " in told
    assert "the labels need at least 3 names: give them all, in order" in told and "--fix --output FOLDER" in told
    assert f"First: {tmp_path}/set/labels/03.txt:4: class 2 (known: 0 to 1)" in told
    (tmp_path / "set/labels/07.txt").write_text("9 .8 .8 .1 .1\n")
    assert len(organize(settings).set_aside) == 2, "different numbers, each in one picture: the labels are wrong"


def test_names_that_are_too_few_are_refused_and_spaces_around_them_go(shared_data: Path, tmp_path: Path):
    source = shared_data / "aquarium"
    with pytest.raises(UserError, match=r"boxes have a class without a name.*at least 7 names"):
        organize(OrganizeSettings(inputs=(source,), output=tmp_path / "out", names=AQUARIUM[:3]))
    assert OrganizeSettings(inputs=(source,), output=tmp_path, names=(" fish", "ray ")).names == ("fish", "ray")
    with pytest.raises(ValueError, match="class name 1 is empty"):
        OrganizeSettings(inputs=(source,), output=tmp_path, names=("fish", " ", "ray"))


def test_one_problem_that_stands_for_many_weighs_as_many(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = read_dataset(sources[2])
    many = Problem("a.txt", 21, "class-unknown", "and 500 more like it, up to class 8 (known: 0 to 1)", "a", count=500)
    monkeypatch.setattr("marauder.data.organize.read_dataset", lambda *_, **__: replace(read, problems=(many,)))
    with pytest.raises(UserError, match=r"500 of 50\d boxes have a class without a name.*at least 9 names"):
        organize(OrganizeSettings(inputs=(sources[2],), output=tmp_path / "out"))


def test_an_empty_source_is_called_empty(tmp_path: Path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match="set: is empty; put labelled pictures into it"):
        organize(OrganizeSettings(inputs=(tmp_path / "set",), output=tmp_path / "out"))


def test_splits_of_the_sources(sources: list[Path], tmp_path: Path):
    settings = OrganizeSettings(inputs=(sources[0],), output=tmp_path / "out", fractions=None, taxonomy="source")
    assert read_dataset(organize(settings).data_yaml).splits() == {"train": 1, "val": 1}
    (sources[0] / "data.yaml").unlink()
    for folder, name in (("images", "c.jpg"), ("labels", "c.txt")):
        shutil.move(sources[0] / folder / "val" / name, sources[0] / folder / name)
        shutil.rmtree(sources[0] / folder / "train")
    with pytest.raises(UserError, match="no splits to keep"):
        organize(settings)


@pytest.mark.parametrize("missing", ["unlabelled", "empty"])
def test_one_folder_of_pictures_for_several_sources_gives_each_picture_once(missing: str, tmp_path: Path):
    shared = tmp_path / "pictures"
    for number, name in enumerate(("dive/a", "dive/b", "dive/c", "dive/d", "dive/e", "dive/f", "archive/g")):
        small_sets.picture(shared / f"{name}.jpg", number)
    rows = {name: (f"{name}.jpg", *small_sets.SIZE, [(*small_sets.BOX, "crab")]) for name in "abcd"}
    inputs = (tmp_path / "one", tmp_path / "two")
    for place, names in zip(inputs, ("ab", "cd")):
        format_writers.write_labelme(place, [rows[name] for name in names])
    (inputs[1] / "f.json").touch()  # which may be labelled, and is unlabelled for the first source
    options = {"taxonomy": "source", "near_duplicates": False, "fractions": {"train": 0.5, "val": 0.5}}
    settings = OrganizeSettings(
        inputs=inputs, pictures=shared, output=tmp_path / "out", missing_label=missing, **options
    )
    summary = organize(settings)
    dataset = read_dataset(summary.data_yaml)
    found = sorted((record.key[-1], record.labelled, len(record.boxes)) for record in dataset)
    assert found == [*((name, True, 1) for name in "abcd"), ("e", missing == "empty", 0)]
    assert (summary.problems["picture-without-label"], summary.problems["picture-doubtful"]) == (1, 1)


def test_mistakes(sources: list[Path], tmp_path: Path):
    with pytest.raises(UserError, match="no such file or folder"):
        organize(OrganizeSettings(inputs=(tmp_path / "none",), output=tmp_path / "out"))
    with pytest.raises(UserError, match="must not be inside the input"):
        organize(OrganizeSettings(inputs=tuple(sources), output=sources[0] / "out"))
    with pytest.raises(UserError, match="no such taxonomy"):
        organize(OrganizeSettings(inputs=tuple(sources), output=tmp_path / "out", taxonomy="mine.yaml"))


def test_annotations_without_pictures(shared_data: Path, tmp_path: Path):
    source = shared_data / "fathomnet/fgvc2023_val.json"
    summary = organize(OrganizeSettings(inputs=(source,), output=tmp_path / "out", mode="reference"))
    assert summary.pictures == 595
    assert summary.mapped["Sebastes"] == ("Rockfish", 93)
    assert "Funiculina" in summary.unmapped
    dataset = read_dataset(summary.data_yaml)
    assert int(dataset.class_counts().sum()) == summary.boxes
    with pytest.raises(UserError, match=r"none of 595 pictures is here.*--mode reference"):
        organize(OrganizeSettings(inputs=(source,), output=tmp_path / "link"))


def test_aquarium_has_no_clip_in_two_splits(shared_data: Path, tmp_path: Path):
    settings = OrganizeSettings(
        inputs=(shared_data / "aquarium",), output=tmp_path / "out", names=AQUARIUM, taxonomy="source"
    )
    summary = organize(settings)
    splits: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        for file in (tmp_path / "out/images" / split).iterdir():
            if "_MOV-" in file.name:
                splits.setdefault(file.name.split("_MOV-")[0], set()).add(split)
    assert len(splits) >= 10
    assert all(len(where) == 1 for where in splits.values())
    assert (summary.pictures, summary.boxes) == (575, 4233)
    source = read_dataset(shared_data / "aquarium", names=AQUARIUM)
    written = read_dataset(summary.data_yaml)
    assert written.class_counts().tolist() == source.class_counts().tolist()
