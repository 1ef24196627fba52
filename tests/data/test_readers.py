"""Every reader in the table of plug points passes the contract; then what is particular to each layout."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import small_sets
from PIL import Image

from marauder.core.errors import UserError
from marauder.core.plugins import names
from marauder.data.reading import choose_reader, read_dataset, refuse_output_among_pictures
from marauder.testing.readers import ReaderContract, kinds


@pytest.mark.parametrize("name", names("reader"))
class TestEveryReader(ReaderContract):
    """All there are."""

    box_class = {"deepfish": "fish"}
    bad_line = {"yolo": 2, "voc": 4, "deepfish": 3, "manifest": 2, "cvat": 11, "viame": 5, "biigle": 4}
    unlabelled = ("pictures",)

    @pytest.fixture
    def folder(self, name: str, tmp_path: Path) -> Path:
        return small_sets.BUILDERS[name](tmp_path / "set")


class TestPictures:
    def test_a_folder_of_pictures_is_read_as_unlabelled(self, tmp_path: Path):
        small_sets.picture(tmp_path / "dive 1" / "a.jpg", 1)
        small_sets.picture(tmp_path / "dive 1" / "b.png", 2)
        small_sets.picture(tmp_path / "c.jpg", 3, orientation=6)
        (tmp_path / "README.txt").write_text("taken off the pier")
        (tmp_path / "broken.jpg").write_bytes(b"no picture")
        dataset = read_dataset(tmp_path)
        assert choose_reader(tmp_path).name == "pictures"
        assert [record.key for record in dataset] == ["c", "dive 1/a", "dive 1/b"]
        assert not any(record.labelled for record in dataset)
        assert [(record.width, record.height) for record in dataset] == [(60, 80), (80, 60), (80, 60)]
        assert kinds(dataset)["picture-unreadable"] == 1

    def test_an_output_among_the_pictures_is_refused(self, tmp_path: Path):
        folder = small_sets.pictures(tmp_path / "dive")
        with pytest.raises(UserError, match="is inside the folder of pictures"):
            refuse_output_among_pictures(folder / "selected", folder)
        refuse_output_among_pictures(tmp_path / "selected", folder)

    def test_pictures_with_labels_of_an_unknown_kind_are_not_taken_for_unlabelled(self, tmp_path: Path):
        small_sets.picture(tmp_path / "a.jpg", 1)
        (tmp_path / "a.csv").write_text("fish;1;2;3;4")
        with pytest.raises(UserError, match="not recognised as any of"):
            read_dataset(tmp_path)


def test_a_folder_of_nothing_says_what_is_known(tmp_path: Path):
    with pytest.raises(UserError, match="is empty; put labelled pictures into it"):
        read_dataset(tmp_path)
    (tmp_path / "notes.txt").write_text("no labels yet")
    with pytest.raises(UserError, match=r"not recognised as any of manifest, .* Seen: 1 .txt \(notes.txt\)"):
        read_dataset(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_dataset(tmp_path / "absent")
    with pytest.raises(UserError, match="no reader named 'jolo'"):
        read_dataset(tmp_path, format="jolo")


class TestYolo:
    def test_splits_names_and_true_negatives(self, tmp_path: Path):
        dataset = read_dataset(small_sets.yolo(tmp_path))
        assert dataset.names == ("fish", "crab")
        assert dataset.splits() == {"train": 2, "val": 1}
        assert all(record.labelled for record in dataset)

    def test_names_as_numbers(self, tmp_path: Path):
        small_sets.yolo(tmp_path)
        (tmp_path / "data.yaml").write_text("train: images/train\nnames: {0: fish, 2: crab}\n")
        assert read_dataset(tmp_path).names == ("fish", "class_1", "crab")

    @pytest.mark.parametrize("root", ["/a/place/that/is/gone", "../elsewhere/gone"])
    def test_a_root_that_is_gone_falls_back_and_says_so(self, tmp_path: Path, root: str):
        small_sets.yolo(tmp_path)
        (tmp_path / "data.yaml").write_text(
            f"path: {root}\ntrain: {root}/images/train\nval: images/val\nnames: [fish, crab]\n"
        )
        dataset = read_dataset(tmp_path / "data.yaml")
        assert dataset.splits() == {"train": 2, "val": 1}
        assert kinds(dataset)["root-moved"] == 2

    def test_list_files_relative_absolute_and_moved(self, tmp_path: Path):
        small_sets.yolo(tmp_path)
        (tmp_path / "train.txt").write_text(
            f"./images/train/a.jpg\n{tmp_path}/images/train/b.jpg\n/gone/images/val/c.jpg\n/gone/images/val/none.jpg\n"
        )
        (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [fish, crab]\n")
        dataset = read_dataset(tmp_path)
        assert [record.picture.name for record in dataset] == ["a.jpg", "b.jpg", "c.jpg"]
        missing = next(p for p in dataset.problems if p.kind == "picture-missing")
        assert (Path(missing.path).name, missing.line) == ("train.txt", 4)

    def test_several_folders_of_one_split(self, tmp_path: Path):
        small_sets.yolo(tmp_path)
        (tmp_path / "data.yaml").write_text("train: [images/train, images/val]\nnames: [fish, crab]\n")
        assert read_dataset(tmp_path).splits() == {"train": 3}

    def test_roboflow_layout_without_yaml(self, tmp_path: Path):
        for split in ("train", "valid"):
            small_sets.picture(tmp_path / split / "images" / "a_jpg.rf.0123456789abcdef0123456789abcdef.jpg")
            (tmp_path / split / "labels").mkdir()
            (tmp_path / split / "labels" / "a_jpg.rf.0123456789abcdef0123456789abcdef.txt").write_text("0 .5 .5 .2 .2")
        dataset = read_dataset(tmp_path)
        assert dataset.splits() == {"train": 1, "val": 1}
        assert {record.group for record in dataset} == {"a"}
        assert dataset.names == ("class_0",)

    def test_polygons_become_boxes(self, tmp_path: Path):
        small_sets.yolo(tmp_path)
        (tmp_path / "labels/train/a.txt").write_text("0 0.25 0.5 0.5 0.25 0.75 0.5\n")
        record = read_dataset(tmp_path).records[0]
        np.testing.assert_allclose(record.boxes, [[20, 15, 60, 30]])

    @pytest.mark.parametrize(
        "line",
        ["0 .5 .5 .5", "0 .5 .5 .5 .5 .9", "a .5 .5 .5 .5", "0.5 .5 .5 .5 .5", "0 nan .5 .5 .5", "0 inf .5 .5 .5"],
    )
    def test_bad_lines(self, tmp_path: Path, line: str):
        small_sets.yolo(tmp_path)
        (tmp_path / "labels/train/a.txt").write_text(f"\n{line}\n1 .5 .5 .5 .5\n")
        dataset = read_dataset(tmp_path)
        assert [(p.kind, p.line) for p in dataset.problems] == [("label-syntax", 2)]
        assert len(dataset.records[0].boxes) == 1

    def test_a_picture_without_labels_is_unlabelled_unless_told(self, tmp_path: Path):
        small_sets.yolo(tmp_path)
        (tmp_path / "labels/train/b.txt").unlink()
        assert [r.labelled for r in read_dataset(tmp_path)] == [True, False, True]
        assert [r.labelled for r in read_dataset(tmp_path, missing_label="empty")] == [True, True, True]

    def test_labels_beside_the_pictures_that_none_of_them_has_are_told(self, tmp_path: Path):
        (small_sets.yolo(tmp_path) / "labels").rename(tmp_path / "label")
        with pytest.raises(UserError, match=r"not one label of this data set can be used.*no picture belongs"):
            read_dataset(tmp_path)

    def test_exif_rotation_counts_in_the_size(self, tmp_path: Path):
        small_sets.yolo(tmp_path)
        small_sets.picture(tmp_path / "images/train/a.jpg", orientation=6)
        dataset = read_dataset(tmp_path)
        assert (dataset.records[0].width, dataset.records[0].height) == (60, 80)
        assert kinds(dataset)["picture-rotated"] == 1

    def test_broken_yaml_names_the_line(self, tmp_path: Path):
        small_sets.yolo(tmp_path)
        (tmp_path / "data.yaml").write_text("train: images/train\nnames: [fish\n")
        with pytest.raises(UserError, match=r"data.yaml:\d"):
            read_dataset(tmp_path)

    def test_aquarium(self, shared_data: Path):
        class_names = ["fish", "jellyfish", "penguin", "puffin", "shark", "starfish", "stingray"]
        dataset = read_dataset(shared_data / "aquarium", names=class_names)
        assert len(dataset) == 575
        assert not dataset.problems
        lines = sum(len(f.read_text().split("\n")) - 1 for f in (shared_data / "aquarium/labels").glob("*.txt"))
        assert abs(int(dataset.class_counts().sum()) - lines) <= 575  # some files lack the last newline
        clip = {record.key for record in dataset if record.group == "IMG_8496_MOV"}
        assert len(clip) == 7
        for record in dataset.records[::97]:
            with Image.open(record.picture) as image:
                assert image.size == (record.width, record.height)

    def test_ten_thousand_pictures_open_in_seconds(self, shared_data: Path, tmp_path: Path):
        originals = sorted((shared_data / "deepfish/images").iterdir())[:100]
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir()
        for number in range(10_000):
            source = originals[number % 100]
            (tmp_path / "images" / f"p{number}.jpg").symlink_to(source)
            (tmp_path / "labels" / f"p{number}.txt").symlink_to(source.parents[1] / "labels" / f"{source.stem}.txt")
        started = time.perf_counter()
        assert len(read_dataset(tmp_path)) == 10_000
        assert time.perf_counter() - started < 20


class TestCoco:
    def test_ids_become_indices_and_crowds_are_ignored(self, tmp_path: Path):
        dataset = read_dataset(small_sets.coco(tmp_path))
        assert dataset.names == ("fish", "crab")
        record = dataset.records[0]
        assert dict(zip(record.classes.tolist(), record.ignored.tolist())) == {1: False, 0: True}
        assert dataset.splits() == {"val": 2}
        assert dataset.records[1].labelled

    def test_unknown_category_and_foreign_annotation(self, tmp_path: Path):
        file = small_sets.coco(tmp_path) / "annotations/instances_val.json"
        content = json.loads(file.read_text())
        content["annotations"] += [
            {"id": 9, "image_id": 7, "category_id": 99, "bbox": [1, 1, 5, 5]},
            {"id": 10, "image_id": 1234, "category_id": 4, "bbox": [1, 1, 5, 5]},
        ]
        file.write_text(json.dumps(content))
        found = kinds(read_dataset(tmp_path))
        assert found["class-unknown"] == 1
        assert found["label-without-picture"] == 1

    def test_pictures_resized_since_take_their_boxes_along(self, tmp_path: Path):
        small_sets.coco(tmp_path)
        small_sets.picture(tmp_path / "images/a.jpg", size=(160, 120))
        dataset = read_dataset(tmp_path)
        np.testing.assert_allclose(dataset.records[0].boxes[0], np.array(small_sets.BOX) * 2)
        assert kinds(dataset)["size-scaled"] == 1
        small_sets.picture(tmp_path / "images/a.jpg", size=(99, 120))
        with pytest.raises(UserError, match="not one label of this data set can be used"):
            read_dataset(tmp_path)
        mismatched = read_dataset(tmp_path, lost=True)
        assert kinds(mismatched)["size-mismatch"] == kinds(mismatched)["labels-lost"] == 1
        assert [record.key for record in mismatched] == ["b"]

    def test_files_of_one_folder_with_own_numbers_are_united_by_name(self, tmp_path: Path):
        small_sets.coco(tmp_path)
        content = json.loads((tmp_path / "annotations/instances_val.json").read_text())
        content["categories"] = [{"id": 4, "name": "crab"}, {"id": 30, "name": "eel"}]
        for row in content["images"]:
            row["file_name"] = f"t{row['file_name']}"
            small_sets.picture(tmp_path / "images" / row["file_name"], 9)
        (tmp_path / "annotations/instances_train.json").write_text(json.dumps(content))
        dataset = read_dataset(tmp_path)
        assert dataset.names == ("crab", "eel", "fish")
        assert dataset.splits() == {"train": 2, "val": 2}

    def test_a_file_name_that_climbs_out_is_that_file_and_told(self, tmp_path: Path):
        file = small_sets.coco(tmp_path / "set") / "annotations/instances_val.json"
        small_sets.picture(tmp_path / "secret.jpg")
        content = json.loads(file.read_text())
        content["images"][0]["file_name"] = "../../secret.jpg"
        file.write_text(json.dumps(content))
        dataset = read_dataset(tmp_path / "set")
        assert dataset.records[0].picture == tmp_path / "secret.jpg"
        assert kinds(dataset)["picture-outside"] == 1

    def test_broken_json_names_the_line(self, tmp_path: Path):
        (tmp_path / "x.json").write_text('{"images": [\n{"id": 1,,}]}')
        with pytest.raises(UserError, match=r"x.json:2: not valid JSON"):
            read_dataset(tmp_path / "x.json", format="coco")


class TestVoc:
    def test_difficult_objects_are_ignored_and_lists_give_splits(self, tmp_path: Path):
        dataset = read_dataset(small_sets.voc(tmp_path))
        assert dataset.names == ("crab", "fish")
        assert dataset.records[0].ignored.tolist() == [False, True]
        assert dataset.splits() == {"train": 1, "val": 1}

    def test_entities_are_refused(self, tmp_path: Path):
        small_sets.voc(tmp_path)
        (tmp_path / "Annotations/a.xml").write_text(
            '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>'
        )
        dataset = read_dataset(tmp_path, format="voc", lost=True)
        assert any("entities" in str(p) for p in dataset.problems)
        assert not dataset.records[0].labelled

    def test_truncated_xml(self, tmp_path: Path):
        small_sets.voc(tmp_path)
        (tmp_path / "Annotations/b.xml").write_text("<annotation>\n<object>\n")
        assert any(p.path.endswith("b.xml") and p.line == 3 for p in read_dataset(tmp_path).problems)

    def test_a_picture_without_xml_is_unlabelled(self, tmp_path: Path):
        root = small_sets.voc(tmp_path)
        for number, name in enumerate(("c", "d", "valid/e")):
            small_sets.picture(root / f"JPEGImages/{name}.jpg", number + 2)
        (root / "ImageSets/Main/val.txt").write_text("b\nd\n")
        small_sets.picture(root / "SegmentationClass/a.png")
        dataset = read_dataset(root)
        found = {record.key: (record.labelled, record.split) for record in dataset}
        assert found == {
            "a": (True, "train"),
            "b": (True, "val"),
            "c": (False, None),
            "d": (False, "val"),
            "valid/e": (False, "val"),
        }
        assert (kinds(dataset)["picture-without-label"], kinds(dataset)["picture-unread"]) == (3, 1), "a mask is none"
        empty = {record.key: record.labelled for record in read_dataset(root, missing_label="empty")}
        assert empty == dict.fromkeys(found, True)

    def test_the_folder_next_door_is_named(self, tmp_path: Path):
        root = small_sets.voc(tmp_path / "my set")
        (alone,) = read_dataset(root / "JPEGImages").problems
        assert alone.message == (
            f"2 pictures and no label file: {root}/Annotations/a.xml is called as a picture is; are the labels there? "
            f"Name the folder around both, {root}"
        )
        missing = [
            one for one in read_dataset(root / "Annotations", lost=True).problems if one.kind == "picture-missing"
        ]
        assert missing[0].message == (
            f"a.jpg: the picture does not exist; looked for in {root}/Annotations and below, but it is "
            f"{root}/JPEGImages/a.jpg: name the folder around both, {root}"
        )
        (root / "JPEGImages/b.jpg").unlink()
        gone = next(one for one in read_dataset(root).problems if one.kind == "picture-missing")
        assert gone.message == f"b.jpg: the picture does not exist; looked for in {root} and below"

    def test_pictures_that_a_label_file_may_mean_are_not_called_unlabelled(self, tmp_path: Path):
        root = small_sets.voc(tmp_path)
        for site in ("siteA", "siteB"):
            small_sets.picture(root / f"JPEGImages/{site}/g.jpg")
        text = (root / "Annotations/a.xml").read_text()
        (root / "Annotations/g.xml").write_text(text.replace("a.jpg", "g.jpg"))
        dataset = read_dataset(root, missing_label="empty")
        assert [record.key for record in dataset if record.labelled] == ["a", "b"]
        assert kinds(dataset)["picture-ambiguous"] == kinds(dataset)["picture-unread"] == 1


class TestPerhapsLabelled:
    """What may have labels is neither background nor to be labelled again: it is left out, and the file is named."""

    @staticmethod
    def read(root: Path, **reading: str | Path) -> tuple[dict[str, bool], dict[str, str]]:
        """Records, labelled or not, and messages on pictures in doubt by the pictures' names."""
        dataset = read_dataset(root, missing_label="empty", **reading)
        doubts = {Path(one.path).name: one.message for one in dataset.problems if one.kind == "picture-doubtful"}
        told = {
            Path(one.path).name for one in dataset.problems if one.kind in ("picture-without-label", "picture-unread")
        }
        assert not told & doubts.keys()
        return {record.key: record.labelled for record in dataset}, doubts

    def test_labelme_files_that_are_cut_short_or_empty(self, tmp_path: Path):
        images = small_sets.labelme(tmp_path) / "images"
        small_sets.picture(images / "c.jpg", 3)
        (images / "c.json").write_text((images / "a.json").read_text()[:30])
        for name in ("d", "e"):
            small_sets.picture(images / f"{name}.jpg", 4)
        (images / "d.json").touch()
        found, doubts = self.read(tmp_path)
        assert found == {"a": True, "b": True, "e": True}
        assert doubts.keys() == {"c.jpg", "d.jpg"}
        assert "images/c.json was not read" in doubts["c.jpg"] and "images/d.json" in doubts["d.jpg"]

    def test_a_label_file_that_dvc_has_not_fetched(self, tmp_path: Path):
        root = small_sets.voc(tmp_path)
        for name in "cd":
            small_sets.picture(root / f"JPEGImages/{name}.jpg", 3)
        (root / "Annotations/c.xml.dvc").write_text("outs:\n- path: c.xml\n")
        (root / "JPEGImages/d.jpg.dvc").write_text("outs:\n- path: d.jpg\n")
        found, doubts = self.read(root)
        assert found == {"a": True, "b": True, "d": True}
        assert doubts.keys() == {"c.jpg"} and "c.xml.dvc is not here (run `dvc pull`)" in doubts["c.jpg"]

    def test_pictures_called_as_a_labelled_one_is(self, tmp_path: Path):
        root = small_sets.voc(tmp_path)
        for name in ("a.png", "a_mask.png", "c_mask.png"):
            small_sets.picture(root / f"JPEGImages/{name}", 3)
        found, doubts = self.read(root)
        assert found == {"a": True, "b": True, "c_mask": True}
        assert doubts.keys() == {"a.png", "a_mask.png"}
        assert all("a.jpg, which has labels" in message for message in doubts.values())

    def test_labels_in_another_format(self, tmp_path: Path):
        root = small_sets.voc(tmp_path / "set")
        for name in "cdef":
            small_sets.picture(root / f"JPEGImages/{name}.jpg", 3)
        shutil.copy(small_sets.labelme(tmp_path / "other") / "images/a.json", root / "JPEGImages/c.json")
        (root / "JPEGImages/d.txt").write_text("0 .5 .5 .2 .2\n")
        (root / "labels").mkdir()
        (root / "labels/e.jpg.TXT").write_text("0 .5 .5 .2 .2\n")
        # Pictures apart from their labels: what lies beside them counts as well.
        apart = shutil.move(root / "JPEGImages", tmp_path / "apart")
        labels = {"c.jpg": apart / "c.json", "d.jpg": apart / "d.txt", "e.jpg": root / "labels/e.jpg.TXT"}
        told = {name: f"may be labelled: {path} was not read (left out)" for name, path in labels.items()}
        assert self.read(root, format="voc", pictures=apart) == ({"a": True, "b": True, "f": True}, told)
        shutil.move(apart, root / "JPEGImages")
        found, doubts = self.read(root, format="voc")
        assert found == {"a": True, "b": True, "f": True} and doubts.keys() == told.keys()

    def test_a_name_that_another_folder_has_too_is_no_doubt(self, tmp_path: Path):
        """Cameras number anew in every folder: the nearest picture of that name is meant."""
        for place in ("siteA/1", "siteB/1", "siteB/2"):
            small_sets.picture(tmp_path / f"{place}.jpg", 1)
        for place in ("siteA/1", "siteB/2"):
            shutil.copy(small_sets.labelme(tmp_path / "other") / "images/a.json", tmp_path / f"{place}.json")
            shutil.rmtree(tmp_path / "other")
        assert self.read(tmp_path) == ({"siteA/1": True, "siteB/1": True, "siteB/2": True}, {})
        (tmp_path / "siteA/1.txt").write_text("0 .5 .5 .2 .2\n")
        found, doubts = self.read(tmp_path, format="labelme")
        assert (found["siteB/1"], doubts) == (True, {})


class TestFathomNet:
    def test_quirks(self, tmp_path: Path):
        dataset = read_dataset(small_sets.fathomnet(tmp_path))
        assert dataset.names == ("fish", "crab", "unidentified")
        here, absent = dataset.records
        assert here.picture.name == "1111-2222.png"
        assert here.classes.tolist() == [1, 2]
        assert here.ignored.tolist() == [False, True]
        assert (absent.width, absent.height, absent.labelled) == (720, 368, False)
        assert absent.attributes["picture_missing"] is True
        assert here.group == absent.group == "Doc Ricketts/0094"

    @pytest.mark.parametrize(
        ("file", "pictures", "boxes", "empty"),
        [("fgvc2023_val.json", 595, 2282, 0), ("fgvc2024_subtrain.json", 1000, 4600, 24)],
    )
    def test_real_exports(self, shared_data: Path, file: str, pictures: int, boxes: int, empty: int):
        dataset = read_dataset(shared_data / "fathomnet" / file)
        assert len(dataset) == pictures
        assert sum(not record.labelled for record in dataset) == empty
        dropped = kinds(dataset).get("box-duplicate", 0) + kinds(dataset).get("box-degenerate", 0)
        assert int(dataset.class_counts().sum()) + dropped == boxes
        assert len({record.group for record in dataset}) > 100


class TestDeepFish:
    def test_real_pictures_in_the_official_layout(self, shared_data: Path, tmp_path: Path):
        originals = sorted((shared_data / "deepfish/images").iterdir())[:3]
        dataset = read_dataset(small_sets.deepfish(tmp_path, originals))
        fish, empty, lost = dataset.records
        assert (fish.width, fish.height) == (360, 360)
        assert fish.boxes.tolist() == [[20.0, 10.0, 60.0, 40.0]]
        assert (empty.labelled, len(empty.boxes)) == (True, 0)
        assert not lost.labelled
        assert dataset.splits() == {"train": 1, "val": 1, "test": 1}
        assert fish.group == "1_clip"
        assert kinds(dataset) == {"label-syntax": 1, "label-unreadable": 1, "mask-specks": 1}

    def test_localization_counts_but_has_no_boxes(self, tmp_path: Path):
        small_sets.deepfish(tmp_path)
        shutil.move(tmp_path / "Segmentation", tmp_path / "Localization")
        (tmp_path / "Localization/train.csv").write_text("ID,labels,counts\nvalid/1_clip_f000001,1,3\n")
        dataset = read_dataset(tmp_path)
        assert dataset.records[0].attributes == {"fish": True, "count": 3}
        assert [record.labelled for record in dataset] == [False, True, False]

    def test_parts(self, tmp_path: Path):
        small_sets.deepfish(tmp_path)
        shutil.copytree(tmp_path / "Segmentation", tmp_path / "Classification")
        assert len(read_dataset(tmp_path)) == 3
        assert len(read_dataset(tmp_path, parts=["Segmentation", "Classification"])) == 6
        with pytest.raises(UserError, match="no part 'Localization'"):
            read_dataset(tmp_path, parts=["Localization"])


def test_a_split_that_names_the_pictures_of_another_is_called_so(tmp_path: Path) -> None:
    for number in range(2):
        small_sets.picture(tmp_path / "images" / f"{number}.jpg", number)
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{number}.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [fish]\n")
    dataset = read_dataset(tmp_path)
    assert dataset.splits() == {"train": 2}
    told = "val has no picture of its own: val names the same as train (images). Give val other pictures, or divide"
    (problem,) = dataset.problems
    assert problem.kind == "split-same" and told in problem.message
    with pytest.raises(UserError, match=re.escape(told)):
        dataset.split("val")
    small_sets.picture(tmp_path / "more" / "2.jpg", 2)
    for lines in ("val: more\nvalid: more", "val: images\nvalid: more", "val: more\nvalid: images"):
        (tmp_path / "data.yaml").write_text(f"train: images\n{lines}\nnames: [fish]\n")
        named = read_dataset(tmp_path)
        assert named.splits() == {"train": 2, "val": 1}
        assert (kinds(named)["split-same"], kinds(named)["picture-listed-twice"]) == (0, 1), lines
    (tmp_path / "data.yaml").write_text("train: images\nval: [images, more]\nnames: [fish]\n")
    again = read_dataset(tmp_path)
    assert again.splits() == {"train": 2, "val": 1}
    listed = [one.message for one in again.problems if one.kind == "picture-listed-twice"]
    assert listed and listed[0].startswith("2 pictures listed more than once (again under val)")
