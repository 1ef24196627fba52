"""Labels reach the picture that they were drawn on, or no picture, and then that is told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_sets
from PIL import Image, ImageOps

from marauder.annotation.formats.answers import delivered_formats, read_delivery
from marauder.core.errors import UserError
from marauder.data.check import check_dataset
from marauder.data.formats.entries import Findings
from marauder.data.formats.source import Source
from marauder.data.formats.text import decode
from marauder.data.organize import OrganizeSettings, organize
from marauder.data.reading import choose_reader, read_dataset
from marauder.data.records import counted, merge
from marauder.data.repair import SET_ASIDE_KINDS, repair, without_doubtful

Files = Mapping[str, str | bytes | int]
"""What lies where: text, bytes, or the seed of a picture."""

PLACE = (10, 10, 40, 30)
"""Left, top, width, height of every box."""
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n"
DVC = "outs:\n- md5: abc\n  path: there\n"
YAML = "train: images\nnames: [fish, crab]\n"
FISH, CRAB = "0 0.5 0.5 0.2 0.2\n", "1 0.5 0.5 0.2 0.2\n"
BIIGLE = (
    "annotation_label_id,label_id,label_name,user_id,firstname,lastname,image_id,filename,image_longitude,"
    "image_latitude,shape_id,shape_name,points,attributes,annotation_id,created_at\n"
)


def build(root: Path, files: Files) -> Path:
    for name, content in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            # As PNG, whatever the name says.
            small_sets.picture(place.with_name(f"{place.name}.png"), content).rename(place)
        else:
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def coco(*rows: tuple[Any, ...], categories: tuple[str, ...] = ("fish", "crab"), **more: Any) -> str:
    """Of every row, (name of a picture, class), an image and its annotation; with a third value that is its bbox."""
    images = [{"id": at, "file_name": row[0], "width": 80, "height": 60} for at, row in enumerate(rows)]
    boxes = [
        {"id": at, "image_id": at, "category_id": categories.index(row[1]), "bbox": row[2] if len(row) > 2 else PLACE}
        for at, row in enumerate(rows)
    ]
    names = [{"id": at, "name": name} for at, name in enumerate(categories)]
    return json.dumps({"images": images, "annotations": boxes, "categories": names, **more})


def voc(name: str, label: str, size: tuple[int, int] = (80, 60)) -> str:
    corners = "<xmin>11</xmin><ymin>11</ymin><xmax>50</xmax><ymax>40</ymax>"
    sides = "<width>{}</width><height>{}</height>".format(*size)
    shape = f"<object><name>{label}</name><bndbox>{corners}</bndbox></object>"
    return f"<annotation><filename>{name}</filename><size>{sides}</size>{shape}</annotation>"


def viame(*rows: tuple[str, str], end: str = "\n") -> str:
    return "".join(f"{at},{name},{at},10,10,50,40,1,-1,{label},1{end}" for at, (name, label) in enumerate(rows))


def biigle(*rows: tuple[int, str, str]) -> str:
    points = '"[10,10,50,10,50,40,10,40]"'
    lines = (
        f"{at},1,{label},1,a,b,{image},{name},,,5,Rectangle,{points},,{at},2024\n"
        for at, (image, name, label) in enumerate(rows)
    )
    return BIIGLE + "".join(lines)


def labelme(path: str) -> str:
    shape = {"label": "fish", "points": [[10, 10], [50, 40]], "shape_type": "rectangle"}
    return json.dumps({"shapes": [shape], "imagePath": path, "imageWidth": 80, "imageHeight": 60, "imageData": None})


def task(data: dict[str, Any], *labels: str, **more: Any) -> dict[str, Any]:
    shapes = [
        {
            **{"id": str(at), "type": "rectanglelabels", "original_width": 80, "original_height": 60},
            "value": {"x": 10, "y": 10, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": [label]},
            **{key: values[at] for key, values in more.items()},
        }
        for at, label in enumerate(labels)
    ]
    return {"id": 1, "data": data, "annotations": [{"id": 1, "was_cancelled": False, "result": shapes}]}


def rows_of_manifest(*rows: tuple[int, dict[str, Any]]) -> str:
    lines = []
    for at, (number, meta) in enumerate(rows):
        box = dict(zip(("left", "top", "width", "height"), PLACE), class_id=number)
        size = [{"width": 80, "height": 60, "depth": 3}]
        boxes = {"image_size": size, "annotations": [box]}
        told = {"type": "groundtruth/object-detection", "objects": [{"confidence": 1}], **meta}
        lines.append(json.dumps({"source-ref": f"s3://b/p/{at}.png", "bb": boxes, "bb-metadata": told}) + "\n")
    return "".join(lines)


def yolo(line: str, yaml: str = YAML) -> Files:
    return {"images/0.png": 0, "labels/0.txt": line, "data.yaml": yaml}


def reached(root: Path, **reading: Any) -> tuple[dict[str, str], dict[str, int]]:
    """The classes that lie on each picture (with its split), ``*`` behind ignored ones, and the findings. ``-``: nobody
    looked at it; ``?``: it is set aside."""
    dataset = read_dataset(root, lost=True, **reading)
    doubtful = {problem.key for problem in dataset.problems if problem.kind in SET_ASIDE_KINDS}
    found = {}
    for record in dataset:
        place = os.path.relpath(record.picture, root) + (f" {record.split}" if record.split else "")
        boxes = zip(record.classes.tolist(), record.ignored.tolist())
        labels = " ".join(sorted(dataset.names[index] + "*" * ignored for index, ignored in boxes))
        labels = labels if record.labelled else "-"
        found[place] = "?" if record.key in doubtful else labels
    return found, dict(counted(dataset.problems))


CARDS = {f"{folder}/0.png": seed for seed, folder in enumerate("AB")}
ONE = {"0.png": 0}
TWO = {"0.png": 0, "1.png": 1}
CASES: dict[str, tuple[Files, dict[str, str], set[str]]] = {
    # Of several folders with the same names.
    "viame of two folders above them": (
        {**CARDS, "A.csv": viame(("0.png", "fish")), "B.csv": viame(("0.png", "crab"))},
        {"A/0.png": "fish", "B/0.png": "crab"},
        set(),
    ),
    "coco of two folders above them": (
        {**CARDS, "A.json": coco(("0.png", "fish")), "B.json": coco(("0.png", "crab"))},
        {"A/0.png": "fish", "B/0.png": "crab"},
        set(),
    ),
    "coco of a folder that is not here": (
        {"B/0.png": 0, "a.json": coco(("A/0.png", "fish"), ("B/0.png", "crab"))},
        {"B/0.png": "crab"},
        {"picture-missing"},
    ),
    "coco of a folder that is not here, beside the folder itself": (
        {**ONE, "a.json": coco(("A/0.png", "fish"), ("0.png", "crab"))},
        {"0.png": "crab"},
        {"picture-missing"},
    ),
    "half of a folder": (
        {"A/0.png": 0, "B/1.png": 1, "a.json": coco(("old/A/0.png", "fish"), ("old/A/1.png", "crab"))},
        {"A/0.png": "fish"},
        {"picture-missing", "picture-unread", "root-moved"},
    ),
    "voc of a folder that is not here": (
        {
            **{"JPEGImages/B/0.png": 0, "Annotations/A/0.xml": voc("0.png", "fish")},
            "Annotations/B/0.xml": voc("0.png", "crab"),
        },
        {"JPEGImages/B/0.png": "crab"},
        {"picture-missing"},
    ),
    "a date is no prefix of an upload": (
        {**ONE, "a.json": coco(("20230101-0.png", "fish"), ("0.png", "crab"))},
        {"0.png": "crab"},
        {"picture-missing"},
    ),
    "a path of another machine": (
        {**ONE, "a.json": coco(("C:\\data\\dives\\0.png", "fish"))},
        {"0.png": "fish"},
        {"root-moved"},
    ),
    "a label file that names another folder's picture": (
        {"A/1.png": 0, "B/1.png": 1, "A/1.json": labelme("../B/1.png"), "A/2.png": 2, "A/2.json": labelme("2.png")},
        {"A/1.png": "fish", "A/2.png": "fish"},
        {"filename-stale", "picture-unread"},
    ),
    "a label file that names another name": (
        {**TWO, "0.xml": voc("1.png", "fish"), "1.xml": voc("1.png", "crab")},
        {"0.png": "fish", "1.png": "crab"},
        {"filename-stale"},
    ),
    "voc with the path that the picture once had": (
        {**ONE, "0.xml": voc("0.png</filename><path>/home/a/kangaroo.jpg</path><filename>0.png", "fish")},
        {"0.png": "fish"},
        set(),
    ),
    "biigle: one id of two pictures": (
        {**TWO, "r.csv": biigle((7, "0.png", "fish"), (7, "1.png", "crab"))},
        {"0.png": "fish", "1.png": "crab"},
        set(),
    ),
    # Of tasks of Label Studio.
    "a text beside the picture": (
        {
            **{"1.png": 0, "2.png": 1},
            "p.json": json.dumps(
                [
                    task({"image": "/data/upload/1/gone.png", "station": "1"}, "fish"),
                    task({"image": "/data/upload/1/2.png", "station": "1"}, "crab"),
                ]
            ),
        },
        {"2.png": "crab"},
        {"picture-missing", "picture-unread", "root-moved"},
    ),
    "pictures of two cameras": (
        {**TWO, "p.json": json.dumps([task({"l": "0.png", "r": "1.png"}, "fish", "crab", to_name=["l", "r"])])},
        {"0.png": "?"},
        {"picture-ambiguous", "labels-lost", "picture-unread"},
    ),
    "a list of pictures": (
        {**TWO, "p.json": json.dumps([task({"i": ["0.png", "1.png"]}, "fish", "crab", item_index=[0, 1])])},
        {},
        {"picture-ambiguous", "labels-lost", "picture-unread", "picture-missing"},
    ),
    # Of splits and lists.
    "a folder of a split is not here": (
        {
            **{f"images/{split}/{split}.png": seed for seed, split in enumerate(("train", "val"))},
            **{f"labels/{split}/{split}.txt": FISH for split in ("train", "val")},
            "data.yaml": "train: images/train\nval: validation/images\nnames: [fish]\n",
        },
        {"images/train/train.png train": "fish"},
        {"split-missing", "label-without-picture", "picture-unread"},
    ),
    "a list names a picture of the other split": (
        {
            **{"images/train/0.png": 0, "images/val/1.png": 1, "labels/train/0.txt": FISH, "labels/val/1.txt": FISH},
            **{"train.txt": "images/train/0.png\nimages/train/1.png\n", "val.txt": "images/val/1.png\n"},
            "data.yaml": "train: train.txt\nval: val.txt\nnames: [fish]\n",
        },
        {"images/train/0.png train": "fish", "images/val/1.png val": "fish"},
        {"picture-missing"},
    ),
    "dots in listed names": (
        {
            **{"images/dive.png": 0, "images/dive.2.png": 1, "images/dive.3": 2, "labels/dive.txt": FISH},
            **{"labels/dive.2.txt": CRAB, "labels/dive.3.txt": CRAB + FISH, "data.yaml": "train: t.txt\nnames: [f, c]"},
            "t.txt": "images/dive.2\nimages/dive.png\nimages/dive.3\n",
        },
        {"images/dive.png train": "f", "images/dive.2.png train": "c", "images/dive.3 train": "c f"},
        set(),
    ),
    "a picture of two splits": (
        {**ONE, "train.json": coco(("0.png", "fish")), "val.json": coco(("0.png", "crab", (50, 30, 20, 20)))},
        {"0.png train": "crab fish", "0.png val": "crab fish"},
        {"picture-twice"},
    ),
    "a picture of two splits with a doubt in one": (
        {
            **{**TWO, "2.png": 2, "train.json": coco(("0.png", "fish"), ("1.png", "fish"))},
            "val.json": coco(("0.png", "fish", (10, 10, -20, 20)), ("2.png", "fish")),
        },
        {"0.png train": "?", "0.png val": "?", "1.png train": "fish", "2.png val": "fish"},
        {"number-invalid", "picture-twice"},
    ),
    "a picture of two ids with a doubt in one": (
        {**TWO, "a.json": coco(("0.png", "fish"), ("0.png", "fish", (None, 1, 2, 3)), ("1.png", "crab"))},
        {"0.png": "?", "1.png": "crab"},
        {"number-invalid", "picture-twice"},
    ),
    "a name in two lists": (
        {
            **{"JPEGImages/0.png": 0, "Annotations/0.xml": voc("0.png", "fish")},
            **{"ImageSets/Main/train.txt": "0\n", "ImageSets/Main/val.txt": "0\n"},
        },
        {"JPEGImages/0.png train": "fish"},
        {"split-twice"},
    ),
    # Of class names.
    "names without a split": (yolo(FISH, "names: [ray]\n"), {"images/0.png": "ray"}, set()),
    "a list of other names": (
        {**yolo(CRAB), "classes.txt": "crab\nfish\n"},
        {"images/0.png train": "crab"},
        {"names-missing"},
    ),
    **{
        f"names with {mark!r}": (
            {"images/0.png": 0, "labels/0.txt": CRAB, "classes.txt": f"sea{mark}fish\ncrab\n"},
            {"images/0.png": "crab"},
            set[str](),
        )
        for mark in ("\u2028", "\x0c", "\x85")
    },
    "one name twice": (
        {**TWO, "a.json": coco(("0.png", "fish"), ("1.png", "crab")).replace('"crab"', '"fish"')},
        {"0.png": "fish", "1.png": "fish"},
        {"class-name-twice"},
    ),
    "rows of a manifest without names": (
        {
            **{f"{at}.png": at for at in range(4)},
            "a.manifest": rows_of_manifest(
                *((at, {"class-map": {"0": "fish", "1": "crab"}} if at != 2 else {}) for at in (0, 1, 2, 7))
            ),
        },
        {"0.png": "fish", "1.png": "crab", "2.png": "?", "3.png": "?"},
        {"class-unknown"},
    ),
    # Of labels that look like others.
    "crowds, however written": (
        {**TWO, "a.json": coco(("0.png", "fish"), ("1.png", "crab")).replace('"bbox"', '"iscrowd": "1", "bbox"')},
        {"0.png": "fish*", "1.png": "crab*"},
        set(),
    ),
    "zeros beside an outline": (
        {
            **ONE,
            "a.json": coco(("0.png", "fish", (0, 0, 0, 0))).replace(
                '"bbox"', '"segmentation": [[9, 9, 30, 9, 30, 30]], "bbox"'
            ),
        },
        {"0.png": "fish"},
        {"shape-converted"},
    ),
    **{
        f"voc with {name}": (
            {**TWO, "0.xml": change(voc("0.png", "fish")), "1.xml": voc("1.png", "crab")},
            {"0.png": "?", "1.png": "crab"},
            {"label-syntax"},
        )
        for name, change in {
            "wrapped objects": lambda text: text.replace("<object>", "<o><object>").replace(
                "</object>", "</object></o>"
            ),
            "capitals": lambda text: text.replace("object", "Object").replace("bndbox", "BndBox"),
            "two boxes": lambda text: text.replace("</object>", "<bndbox><xmin>1</xmin></bndbox></object>"),
        }.items()
    },
    "viame: a quotation mark is open": (
        {**TWO, "a.csv": viame(("0.png", "fish")) + viame(("1.png", '"crab'), ("0.png", "fish"))},
        {"0.png": "fish"},
        {"label-syntax", "picture-unread"},
    ),
    "viame: old ends of rows": (
        {**TWO, "a.csv": viame(("0.png", "fish"), ("1.png", "crab"), end="\r")},
        {"0.png": "fish", "1.png": "crab"},
        set(),
    ),
    "biigle: old ends of rows": (
        {**TWO, "a.csv": biigle((1, "0.png", "fish"), (2, "1.png", "crab")).replace("\n", "\r")},
        {"0.png": "fish", "1.png": "crab"},
        set(),
    ),
    # Of what lies beside.
    "a data set of its own below": (
        {**ONE, "a.json": coco(("0.png", "fish")), **{f"other/{name}": text for name, text in yolo(FISH).items()}},
        {"0.png": "fish"},
        {"file-unread"},
    ),
    "labels in another format beside": (
        {**yolo(FISH), "images/0.xml": voc("0.png", "crab")},
        {"images/0.png train": "fish"},
        {"format-unread"},
    ),
    "labels.csv beside": (
        {**yolo(FISH), "labels.csv": "a,b\n1,2\n"},
        {"images/0.png train": "fish"},
        {"file-unread"},
    ),
    # Of which nothing is left.
    "boxes without area": (yolo("0 0.5 0.5 0 0\n"), {"images/0.png train": ""}, {"box-degenerate", "labels-lost"}),
    "an outline without area": (
        yolo("0 " + "0.5 0.6 " * 5000),
        {"images/0.png train": ""},
        {"box-degenerate", "labels-lost", "shape-converted"},
    ),
    "boxes wholly outside": (
        {**ONE, "a.json": coco(("0.png", "fish", (3000, 2000, 20, 20)))},
        {"0.png": ""},
        {"box-out-of-bounds", "labels-lost"},
    ),
    "boxes lost, and a picture missing": (
        {**ONE, "a.json": coco(("0.png", "fish", (10, 10, 0, 0)), ("gone.png", "fish"))},
        {"0.png": ""},
        {"box-degenerate", "labels-lost", "picture-missing"},
    ),
    "a stated size of one pixel": (
        {**ONE, "0.xml": voc("0.png", "fish", (1, 1))},
        {},
        {"size-mismatch", "labels-lost"},
    ),
    **{
        f"numbers like {line!r}": (yolo(line), {"images/0.png train": "?"}, {"label-syntax", "labels-lost"})
        for line in ("0 0.5 0.5 0.2_5 0.2\n", "\u0660 0.5 0.5 0.2 0.2\n")
    },
    **{
        f"a pointer {name}": ({**ONE, name: LFS}, {"0.png": "-"}, {"label-unreadable", "labels-lost", "labels-none"})
        for name in ("a.json", "a.csv", "a.xml")
    },
    "labels that DVC has": (
        {"images/0.png": 0, "labels.dvc": DVC, "data.yaml": YAML},
        {"images/0.png train": "-"},
        {"label-unreadable", "labels-lost", "picture-without-label"},
    ),
    **{
        f"DVC has {name}": (
            {"images/0.png": 0, f"{name}.dvc": DVC},
            {"images/0.png": "-"},
            {"label-unreadable", "labels-lost", "labels-none"},
        )
        for name in ("labels/0.txt", "a.json")
    },
}


@pytest.mark.parametrize("name", CASES)
def test_labels_reach_their_picture_or_none(name: str, tmp_path: Path):
    files, wanted, kinds = CASES[name]
    found, told = reached(build(tmp_path, files))
    assert (found, set(told)) == (wanted, kinds)


TREE = ("train", "valid")
REFUSED: dict[str, tuple[Files, str]] = {
    "two data sets below": (
        {f"{folder}/{name}": text for folder in "AB" for name, text in yolo(FISH).items()},
        "holds 2 data sets",
    ),
    **{
        f"two lists of names, {names}": (
            {
                **{f"{split}/{split}.{end}": FISH if end == "txt" else 0 for split in TREE for end in ("png", "txt")},
                **{f"{split}/_darknet.labels": text for split, text in zip(TREE, names)},
            },
            "names other classes than _darknet.labels",
        )
        for names in (("fish\nray\n", "crab\nfish\n"), ("crab\nfish\nray\n", "fish\nray\n"))
    },
    "a key twice": (
        {**ONE, "a.json": coco(("0.png", "fish"))[:-1] + ', "images": []}'},
        "the key 'images' occurs twice",
    ),
    "names that are pairs": (yolo(FISH, "train: images\nnames: !!omap [0: fish]\n"), "not a class name"),
    "pictures that DVC has": ({"images/0.png.dvc": DVC, "labels/0.txt": FISH, "data.yaml": YAML}, "dvc pull"),
    "folders that DVC has": ({"images.dvc": DVC, "labels.dvc": DVC, "data.yaml": YAML}, "dvc pull"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_decided_is_refused(name: str, tmp_path: Path):
    files, words = REFUSED[name]
    with pytest.raises(UserError, match=words):
        read_dataset(build(tmp_path, files))


APART: dict[str, tuple[Files, dict[str, str]]] = {
    "labels of two splits": (
        {
            "data.yaml": "train: images/train\nval: images/val\nnames: [fish]\n",
            **{"labels/train/IMG_0.txt": FISH, "labels/val/test.txt": FISH},
        },
        {"IMG_0.png train": "fish", "test.png val": "fish"},
    ),
    "bare numbers": (
        {"a.csv": viame(("7", "fish"), ("IMG_0", "crab"))},
        {"7.png": "fish", "IMG_0.png": "crab"},
    ),
    "names of an upload": (
        {"labels/02d3dc5d-IMG_0.txt": FISH, "classes.txt": "fish\n"},
        {"IMG_0.png": "fish"},
    ),
    "an empty file of an odd name": (
        {"labels/IMG_0.txt": FISH, "labels/test.txt": "", "classes.txt": "fish\n"},
        {"IMG_0.png": "fish", "test.png": ""},
    ),
    **{
        f"odd names in {folder or 'the top'}": (
            {f"{folder}test.txt": FISH, f"{folder}notes.txt": FISH, "classes.txt": "fish\n"},
            {"test.png": "fish", "notes.png": "fish"},
        )
        for folder in ("labels/", "")
    },
}


@pytest.mark.parametrize("name", APART)
def test_pictures_apart(name: str, tmp_path: Path):
    """The pictures are in a folder of their own; of those without a label nothing is said."""
    files, wanted = APART[name]
    names = ("7", "IMG_0", "test", "notes")
    pictures = build(tmp_path / "pictures", {f"{name}.png": seed for seed, name in enumerate(names)})
    found, told = reached(build(tmp_path / "set", files), pictures=pictures)
    labelled = {place: labels for place, labels in found.items() if labels != "-"}
    assert labelled == {f"../pictures/{place}": labels for place, labels in wanted.items()}
    assert not set(told) - {"root-moved", "picture-without-label"}


@pytest.mark.parametrize("folder", ["labels/", ""])
def test_answers_for_pictures_of_odd_names(folder: str, tmp_path: Path):
    stems = ("test", "note", "readme_reef", "classes" if folder else "dive")
    build(tmp_path, {**{f"{folder}{stem}.txt": FISH for stem in stems}, "obj.names": "fish\n"})
    layouts = delivered_formats(tmp_path)
    reading = read_delivery(layouts[0], tmp_path, {f"{stem}.png": (80, 60) for stem in stems}, ["fish"])
    assert ([layout.name for layout in layouts], list(reading.answers)) == (["yolo"], [f"{stem}.png" for stem in stems])


def test_the_picture_of_a_camera_is_not_answered_for_the_other(tmp_path: Path):
    build(tmp_path, {"t.json": json.dumps([task({"l": "0.png", "r": "1.png"}, "fish", "crab", to_name=["l", "r"])])})
    reading = read_delivery(delivered_formats(tmp_path)[0], tmp_path, dict.fromkeys(TWO, (80, 60)), ["fish"])
    assert not reading.answers
    assert {problem.kind for problem in reading.problems} == {"picture-ambiguous"}


@pytest.mark.parametrize("fractions", [False, True])
@pytest.mark.parametrize("stated", ["stored", "displayed"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_turned_pictures(orientation: int, stated: str, fractions: bool, tmp_path: Path):
    """The box of a bright rectangle is where it is displayed, whichever pixels the labels were drawn on."""
    pixels = np.zeros((60, 80), np.uint8)
    pixels[6:20, 10:46] = 255
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(tmp_path / "0.png", exif=exif)
    with Image.open(tmp_path / "0.png") as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    rows, columns = np.nonzero(shown)
    right = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    # A mirrored picture has the same size: only of one that lies on its side it says which pixels are meant.
    as_stored = stated == "stored" and orientation >= 5
    x0, y0, x1, y1 = (10, 6, 46, 20) if as_stored else map(int, right)
    height, width = pixels.shape if as_stored else shown.shape
    across, down = (1 / width, 1 / height) if fractions else (1, 1)
    text = coco(("0.png", "fish", (x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down)))
    text = text.replace('"width": 80, "height": 60', f'"width": {width}, "height": {height}')
    dataset = read_dataset(build(tmp_path, {"a.json": text}))
    np.testing.assert_allclose(dataset.records[0].boxes, [right])
    assert ("boxes-turned" in counted(dataset.problems)) == as_stored


def test_a_label_with_a_turn_of_its_own_is_turned_before_its_picture(tmp_path: Path):
    """A rectangle 40 wide and 12 high at (10, 10) of the stored pixels, a quarter turn about its corner."""
    region = {"x": 50, "y": 10, "width": 25, "height": 20, "rotation": 90, "rectanglelabels": ["fish"]}
    build(tmp_path, {"t.json": json.dumps([task({"image": "0.jpg"}, "fish", value=[region])])})
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / "0.jpg", exif=exif)
    dataset = read_dataset(tmp_path)
    # Of the stored pixels: 20 by 12 at (40, 6), turned clockwise to 12 by 20 at (28, 6); then x = 60 - y, y = x.
    np.testing.assert_allclose(dataset.records[0].boxes, [[60 - 26, 28, 60 - 6, 40]])


SMALL = "0 0.5 0.5 0.52 0.5 0.53 0.52 0.51 0.54 0.49 0.52\n"
NEAR = "0 0.5 0.42 0.78 0.6 0.7 0.65 0.4 0.65 0.3 0.5\n"
ORIENTED = "0 0.4 0.5 0.8 0.6 0.75 0.75 0.35 0.65\n"
POSES = (
    "0 0.7 0.7 0.2 0.2 0.62 0.62 0.78 0.65 0.7 0.78\n",
    "0 0.7 0.7 0.2 0.2 0.62 0.62 2 0.78 0.75 1\n",
    "0 0.5 0.5 0.4 0.4 0.4 0.35 0.65 0.6\n",
)


@pytest.mark.parametrize(
    ("lines", "yaml", "kind"),
    [
        *(((line,), YAML, "shape-converted") for line in (SMALL, NEAR, ORIENTED)),
        *(((line,), YAML, "label-meaning") for line in POSES),
        *(((line,), YAML + "kpt_shape: null\n", "shape-converted") for line in POSES),
        ((POSES[0], POSES[0], SMALL), YAML, "label-meaning"),
        ((POSES[0], SMALL), YAML, "shape-converted"),
    ],
)
def test_outlines_and_keypoints(lines: tuple[str, ...], yaml: str, kind: str, tmp_path: Path):
    """What the long lines of a data set are is told by most of them."""
    found, told = reached(build(tmp_path, yolo(lines[0] + "".join(lines[1:]), yaml)))
    assert told.get(kind) == len(lines)
    assert {"label-meaning", "shape-converted"} & set(told) == {kind}
    assert found == {"images/0.png train": "?" if kind == "label-meaning" else " ".join(["fish"] * len(lines))}


def test_names_that_are_no_text(tmp_path: Path):
    build(tmp_path, yolo(FISH))
    os.link(tmp_path / "images/0.png", os.fsencode(tmp_path / "images") + b"/caf\xe9.png")
    found, told = reached(tmp_path)
    assert (found, told) == ({"images/0.png train": "fish"}, {"name-unreadable": 1})
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/fold\xe9r"))
    build(odd, yolo(FISH))
    with pytest.raises(UserError, match="not UTF-8"):
        read_dataset(odd)


def test_pipes_are_no_files(tmp_path: Path):
    build(tmp_path, yolo(FISH))
    for name in ("images/pipe.png", "labels/pipe.txt"):
        os.mkfifo(tmp_path / name)
    assert Source(tmp_path).files == ["data.yaml", "images/0.png", "labels/0.txt"]


@pytest.mark.parametrize("encoding", ["punycode", "idna", "unicode_escape", "utf-7", "undefined", "zlib"])
def test_codecs_that_are_no_character_sets(encoding: str):
    assert decode(f'<?xml version="1.0" encoding="{encoding}"?><a>-b\\u0041+AEE-</a>'.encode())[1] == "utf-8"


def test_annotations_before_the_images(tmp_path: Path):
    """Neither end of the file shows its images."""
    rest, images = json.loads(coco(("0.png", "fish"))), [{"id": 0, "file_name": "0.png", "url": "x" * 90000}]
    rest["annotations"][0]["segmentation"] = [0] * 30000
    text = json.dumps({"annotations": rest["annotations"], "images": images, "categories": rest["categories"]})
    build(tmp_path, {**ONE, "a.json": text})
    assert choose_reader(tmp_path).name == "coco"
    assert reached(tmp_path) == ({"0.png": "fish"}, {})


def test_a_thousand_losses_are_a_thousand():
    findings = Findings()
    for line in range(5000):
        findings.add("label-syntax", "not numbers", Path("a.txt"), line)
    assert (sum(finding.count for finding in findings.list), len(findings.list)) == (5000, 1001)


def test_a_doubt_stays_with_its_picture_when_sets_are_merged(tmp_path: Path):
    build(tmp_path / "a", yolo(FISH))
    build(tmp_path / "b", {**yolo(CRAB + "nonsense\n"), "images/1.png": 1, "labels/1.txt": FISH})
    good, aside = without_doubtful(merge([read_dataset(tmp_path / folder) for folder in "ab"]))
    assert [record.picture.relative_to(tmp_path).as_posix() for record in good] == ["a/images/0.png", "b/images/1.png"]
    assert [Path(problem.path) for problem in aside] == [tmp_path / "b/images/0.png"]


def test_pictures_whose_keys_look_alike_are_turned_apart(tmp_path: Path):
    source = build(tmp_path / "set", {f"labels/{name}.txt": FISH for name in ("a/0", "a__0")})
    for seed, name in enumerate(("a/0", "a__0")):
        small_sets.picture(source / f"images/{name}.jpg", seed, orientation=6)
    build(source, {"data.yaml": YAML})
    repair(check_dataset(source), tmp_path / "fixed")
    copies = [path.read_bytes() for path in (tmp_path / "fixed/images").rglob("*.jpg")]
    assert len(copies) == len(set(copies)) == 2


def test_a_changed_picture_is_organized_anew(tmp_path: Path):
    """Also where the file of labels was named, and where the output lies beside it."""
    source = build(tmp_path, {**TWO, "a.json": coco(("0.png", "fish"), ("1.png", "crab"))}) / "a.json"
    settings = OrganizeSettings(
        inputs=(source,), output=tmp_path / "out", taxonomy="source", near_duplicates=False, mode="copy"
    )
    assert not organize(settings).already_done
    assert organize(settings).already_done
    small_sets.picture(tmp_path / "1.png", 7)
    assert not organize(settings).already_done
    assert (tmp_path / "1.png").read_bytes() in {path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
