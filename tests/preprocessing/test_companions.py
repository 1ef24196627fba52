"""data.yaml, lists and COCO files point into the output afterwards, as Ultralytics resolves them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from preprocessing_folders import hazy_picture, make_folder, write_picture

from marauder.preprocessing.companions import Companions


def rewritten(root: Path, path: str) -> str:
    paths = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
    result = Companions.of(root, paths).rewritten(path)
    assert result is not None
    return result.content.decode("utf-8")


def test_an_absolute_root_and_absolute_entries_become_relative(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "raw")
    content = yaml.safe_load(rewritten(root, "data.yaml"))
    assert content == {"train": "images/train", "val": "images/val", "nc": 1, "names": {0: "fish"}}


@pytest.mark.parametrize(
    "text",
    [
        "path: /content/gone/datasets/reef\ntrain: images/train\nval: images/val\n",
        "train: ../images/train\nval: ../images/val\n",
        "train: /home/someone/reef/images/train\nval: /home/someone/reef/images/val\n",
        "path: datasets/reef\ntrain: images/train\nval: images/val\n",
    ],
)
def test_roots_that_no_longer_exist_are_found_again(tmp_path: Path, text: str) -> None:
    root = make_folder(tmp_path / "raw")
    (root / "data.yaml").write_text(text + "names: [fish]\n")
    content = yaml.safe_load(rewritten(root, "data.yaml"))
    assert (content["train"], content["val"]) == ("images/train", "images/val") and "path" not in content


def test_a_data_yaml_that_is_right_is_copied_with_its_comments(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "raw")
    (root / "data.yaml").write_text("# our reef\ntrain: images/train\nval: images/val\nnames: [fish]\n")
    assert Companions.of(root, ["data.yaml"]).rewritten("data.yaml") is None


def test_pictures_elsewhere_stay_where_they_are_with_a_note(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "raw")
    elsewhere = tmp_path / "other" / "val"
    elsewhere.mkdir(parents=True)
    (root / "data.yaml").write_text("train: images/train\nval: ../other/val\ntest: nowhere\nnames: [fish]\n")
    result = Companions.of(root, ["data.yaml"]).rewritten("data.yaml")
    assert result is not None
    assert yaml.safe_load(result.content)["val"] == str(elsewhere)
    assert yaml.safe_load(result.content)["test"] == "nowhere"
    assert len(result.notes) == 2


def test_lists_name_pictures_relative_to_themselves(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "raw")
    pictures = sorted((root / "images" / "train").iterdir())
    lines = [str(pictures[0]), f"./images/train/{pictures[1].name}", f"/gone/images/train/{pictures[2].name}", "no.jpg"]
    (root / "train.txt").write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [fish]\n")
    expected = [f"./images/train/{picture.name}" for picture in pictures[:3]]
    assert rewritten(root, "train.txt").splitlines() == [*expected, "no.jpg"]


def test_label_files_are_never_taken_for_lists(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "raw")
    paths = [file.relative_to(root).as_posix() for file in root.rglob("*.txt")]
    companions = Companions.of(root, [*paths, "data.yaml"])
    assert paths and all(companions.rewritten(path) is None for path in paths)


def test_coco_files_lose_absolute_names_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    write_picture(root / "images" / "a.jpg", hazy_picture(1))
    content = {
        "images": [{"id": 1, "file_name": str(root / "images" / "a.jpg")}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"id": 7, "bbox": [1, 2, 3.5, 4]}],
    }
    (root / "coco.json").write_text(json.dumps(content))
    changed = json.loads(rewritten(root, "coco.json"))
    assert [image["file_name"] for image in changed["images"]] == ["images/a.jpg", "b.jpg"]
    assert changed["annotations"] == content["annotations"]


@pytest.mark.parametrize("text", ["just text", "a: [1, 2", "- 1\n- 2\n", "\x00\xff"])
def test_other_yaml_is_copied(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.yaml").write_text(text, encoding="latin-1")
    assert Companions.of(tmp_path, ["notes.yaml"]).rewritten("notes.yaml") is None
