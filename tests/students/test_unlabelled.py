"""Nothing of val and test reaches a student without labels: equal, nearly equal and other frames of their clips."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from marauder.core.clock import Clock
from marauder.data.duplicates import PictureHash, hash_pictures, near_clusters, near_to
from marauder.data.reading import read_dataset
from marauder.exporting.inputs import pattern
from marauder.students.unlabelled import Unlabelled, candidates, without_leaks


def save(path: Path, number: int, gain: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.clip(pattern(7, number)[:240, :320].astype(float) * gain, 0, 255).astype(np.uint8)
    assert cv2.imwrite(str(path), picture[:, :, ::-1])
    return path


@pytest.fixture
def reef(tmp_path: Path) -> Path:
    """A data set with a clip in val, a labelled picture in train, and pictures of every split without labels."""
    folder = tmp_path / "reef"
    labelled_ones = ("train/a", "val/dive_frame_01", "test/d")
    for number, place in enumerate(("train/a", "train/b", "val/dive_frame_01", "val/c", "test/d")):
        (split, name), labelled = place.split("/"), place in labelled_ones
        save(folder / "images" / split / f"{name}.png", number)
        label = folder / "labels" / split / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        if labelled:
            label.write_text("0 0.5 0.5 0.2 0.2\n")
    splits = "".join(f"{split}: images/{split}\n" for split in ("train", "val", "test"))
    (folder / "data.yaml").write_text(f"path: {folder}\n{splits}names: [fish]\n")
    return folder / "data.yaml"


def chosen(reef: Path, *folders: Path) -> Unlabelled:
    dataset = read_dataset(reef)
    found = candidates(dataset, reef, folders, Clock())
    return without_leaks(found, dataset, reef, reef.parent / "hashes.jsonl", Clock())


def test_what_shows_val_or_test_is_left_out_and_counted(reef: Path, tmp_path: Path) -> None:
    more, images = tmp_path / "more", reef.parent / "images"
    fine = [save(more / "fine.png", 20), save(more / "other_frame_01.png", 21)]
    shutil.copy(images / "test" / "d.png", save(more / "copied.png", 0))
    save(more / "darker.png", 4, 0.8)
    save(more / "dive_frame_07.png", 22)
    shutil.copy(images / "train" / "a.png", more / "known.png")
    shutil.copy(fine[0], more / "twice.png")
    made = chosen(reef, more)
    assert {Path(path).name: why for path, why in made.left_out.items()} == {
        "c.png": "of a split val or test",
        "copied.png": "the same as a picture of val or test",
        "darker.png": "nearly equal to a picture of val or test",
        "dive_frame_07.png": "of a clip that val or test holds",
        "known.png": "labelled already",
        "twice.png": "there twice",
    }
    assert [one.picture.name for one in made.records] == ["b.png", "fine.png", "other_frame_01.png"]
    assert all(not one.labelled and one.split == "train" and not len(one.boxes) for one in made.records)
    assert made.counts()["there twice"] == 1 and len(set(made.contents)) == 3


def test_the_split_of_another_data_set_counts_and_its_labels_do_not(reef: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for split, number in (("train", 30), ("val", 31)):
        save(other / "images" / split / f"{number}.png", number)
        (other / "labels" / split).mkdir(parents=True)
        (other / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (other / "data.yaml").write_text(f"path: {other}\ntrain: images/train\nval: images/val\nnames: [crab]\n")
    made = chosen(reef, other / "data.yaml")
    assert [one.picture.name for one in made.records] == ["b.png", "30.png"]
    assert not any(one.labelled for one in made.records)


def test_what_is_learned_from_is_known_by_content(reef: Path, tmp_path: Path) -> None:
    dataset, more = read_dataset(reef), tmp_path / "more"
    save(more / "x.png", 40)
    first = candidates(dataset, reef, [more], Clock()).identity()
    moved = Path(shutil.copytree(more, tmp_path / "moved"))
    assert candidates(dataset, reef, [moved], Clock()).identity() == first
    save(more / "x.png", 41)
    assert candidates(dataset, reef, [more], Clock()).identity() != first
    (more / "x.png").write_bytes(b"no picture")
    save(more / "y.png", 42)
    broken = candidates(dataset, reef, [more], Clock())
    assert any("x.png" in path for path in broken.problems) or any(
        one.picture.name == "x.png" for one in broken.records
    )


def test_near_to_finds_every_pair_that_is_near(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}-{gain}.png", number, gain) for number in range(6) for gain in (0.7, 1.0)]
    hashes = [one for one in hash_pictures(paths) if isinstance(one, PictureHash)]
    own, others = hashes[::2], hashes[1::2]
    assert near_to(own, others) == list(range(6)) and near_to(own[:2], others[3:]) == [None, None]
    assert near_to([], others) == [] and near_to(own, []) == [None] * 6
    # A cluster is near its leader; whoever is in one with a picture of the other side is found here, too.
    for cluster in near_clusters(hashes):
        leader, *members = cluster
        assert near_to([hashes[one] for one in members], [hashes[leader]]) == [0] * len(members)
    flat = PictureHash(hashes[0].value, True, hashes[0].grey)
    assert near_to([flat], others) == [None] and near_to(own[:1], [flat]) == [None]
