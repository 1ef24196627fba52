"""Small data sets on disk in every layout that is read, with pictures of known content and labels of known boxes.

``BOX`` is the box of class ``crab`` in every picture ``a``.
"""

from __future__ import annotations

import json
from pathlib import Path

import format_writers
import numpy as np
from PIL import Image

from marauder.testing.readers import BOX, SIZE


def picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE, orientation: int | None = None) -> Path:
    """Write a picture of smooth blobs, different for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    if orientation is None:
        image.save(path)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        image.save(path, exif=exif)
    return path


def yolo(root: Path) -> Path:
    """data.yaml with train and val; the second label line of ``a`` is bad (line 2), ``b`` is empty."""
    for number, (split, name) in enumerate((("train", "a"), ("train", "b"), ("val", "c"))):
        picture(root / "images" / split / f"{name}.jpg", number)
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split / f"{name}.txt").write_text("")
    (root / "labels/train/a.txt").write_text("1 0.5 0.41666667 0.5 0.5\nnonsense here\n")
    (root / "labels/val/c.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [fish, crab]\n")
    return root


def coco(root: Path) -> Path:
    """Two pictures, one crowd, one bad bbox."""
    for number, name in enumerate("ab"):
        picture(root / "images" / f"{name}.jpg", number)
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 80, "height": 60},
            {"id": 8, "file_name": "b.jpg", "width": 80, "height": 60},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 30, "bbox": [20, 10, 40, 30], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 10, 10], "iscrowd": 1},
            {"id": 3, "image_id": 8, "category_id": 4, "bbox": [0, "x", 10, 10]},
        ],
        "categories": [{"id": 30, "name": "crab"}, {"id": 4, "name": "fish"}],
    }
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/instances_val.json").write_text(json.dumps(content))
    return root


def voc(root: Path) -> Path:
    """Two pictures; one object is difficult, one has no numbers (line 4 of b.xml)."""
    for number, name in enumerate("ab"):
        picture(root / "JPEGImages" / f"{name}.jpg", number)
    (root / "Annotations").mkdir(parents=True)
    box = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    head = "<annotation>\n<filename>{}.jpg</filename>\n<size><width>80</width><height>60</height></size>\n"
    (root / "Annotations/a.xml").write_text(
        head.format("a")
        + f"<object><name>crab</name>{box.format(21, 11, 60, 40)}</object>\n"
        + f"<object><name>fish</name><difficult>1</difficult>{box.format(1, 1, 10, 10)}</object>\n</annotation>"
    )
    (root / "Annotations/b.xml").write_text(
        head.format("b") + f"<object><name>crab</name>{box.format('left', 1, 5, 5)}</object>\n</annotation>"
    )
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    (root / "ImageSets/Main/val.txt").write_text("b\n")
    return root


def fathomnet(root: Path) -> Path:
    """A float category id, a missing one, a picture without boxes, one that is not here; a bad bbox."""
    picture(root / "images" / "1111-2222.png", 0)
    url = "https://fathomnet.org/static/m3/framegrabs/Doc%20Ricketts/images/0094/05_48_19_27.png"
    content = {
        "images": [
            {"id": 1, "file_name": "1111-2222", "width": 80, "height": 60, "coco_url": url},
            {"id": 2, "file_name": "3333-4444.png", "width": 720, "height": 368, "coco_url": url},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2.0, "bbox": [20.0, 10.0, 40.0, 30.0]},
            {"id": 2, "image_id": 1, "category_id": None, "bbox": [0, 0, 10, 10]},
            {"id": 3, "image_id": 1, "category_id": 2.0, "bbox": None},
        ],
        "categories": [{"id": 1, "name": "fish"}, {"id": 2, "name": "crab"}],
    }
    (root / "export.json").write_text(json.dumps(content))
    return root


def deepfish(root: Path, pictures: list[Path] | None = None) -> Path:
    """Segmentation with one fish (mask), one empty picture and one whose mask is missing; a bad row (line 3)."""
    part = root / "Segmentation"
    identities = ["valid/1_clip_f000001", "empty/2_clip_f000002", "valid/3_clip_f000003"]
    for number, identity in enumerate(identities):
        target = part / "images" / f"{identity}.jpg"
        if pictures:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(pictures[number].read_bytes())
        else:
            picture(target, number)
    with Image.open(part / "images" / f"{identities[0]}.jpg") as image:
        mask = np.zeros((image.height, image.width), np.uint8)
    mask[10:40, 20:60] = 255
    mask[50:52, 2:4] = 255
    for identity, content in ((identities[0], mask), (identities[1], np.zeros_like(mask))):
        target = part / "masks" / f"{identity}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(content).save(target)
    (part / "train.csv").write_text(f"ID,labels\n{identities[0]},1\n{identities[1]},none\n")
    (part / "val.csv").write_text(f"ID,labels\n{identities[1]},0\n")
    (part / "test.csv").write_text(f"ID,labels\n{identities[2]},1\n")
    return root


def manifest(root: Path) -> Path:
    """Two pictures in a manifest of Ground Truth; line 2 is no JSON."""
    rows = []
    for number, name in enumerate("ab"):
        picture(root / "images" / f"{name}.jpg", number)
        boxes = [{"class_id": 1, "left": 20, "top": 10, "width": 40, "height": 30}] if name == "a" else []
        rows.append(
            {
                "source-ref": f"images/{name}.jpg",
                "reef": {"image_size": [{"width": 80, "height": 60, "depth": 3}], "annotations": boxes},
                "reef-metadata": {
                    "objects": [{"confidence": 1}] * len(boxes),
                    "class-map": {"0": "fish", "1": "crab"},
                    "type": "groundtruth/object-detection",
                    "human-annotated": "yes",
                    "creation-date": "2026-11-01T00:00:00",
                    "job-name": "labeling-job/reef",
                },
            }
        )
    lines = [json.dumps(rows[0]), '{"source-ref": "images/c.jpg", ', json.dumps(rows[1])]
    (root / "output.manifest").write_text("".join(f"{line}\n" for line in lines))
    return root


def pictures(root: Path) -> Path:
    """Three pictures in two folders and no labels."""
    for number, name in enumerate(("dive/a.jpg", "dive/b.jpg", "c.png")):
        picture(root / name, number)
    return root


ROWS = [("a.jpg", *SIZE, [(*BOX, "crab")]), ("b.jpg", *SIZE, [(30.0, 20.0, 50.0, 45.0, "fish")])]


def _with_pictures(root: Path) -> Path:
    for number, name in enumerate("ab"):
        picture(root / "images" / f"{name}.jpg", number)
    return root


def cvat(root: Path) -> Path:
    """Two pictures; one box of ``b`` has no number (line 11)."""
    file = format_writers.write_cvat(_with_pictures(root), ROWS)
    box = '<box label="fish" xtl="left" ytl="1" xbr="2" ybr="3"/>'
    file.write_text(file.read_text().replace("</image>\n</annotations>", f"\n{box}</image>\n</annotations>"))
    return root


def label_studio(root: Path) -> Path:
    """Two pictures; one region of ``b`` has no number."""
    file = format_writers.write_label_studio(_with_pictures(root), ROWS)
    tasks = json.loads(file.read_text())
    tasks[1]["annotations"][0]["result"].append({**tasks[1]["annotations"][0]["result"][0], "id": "bad"})
    tasks[1]["annotations"][0]["result"][-1]["value"] = {"x": "left", "rectanglelabels": ["fish"]}
    file.write_text(json.dumps(tasks))
    return root


def labelme(root: Path) -> Path:
    """Two pictures; one shape of ``b`` has no numbers."""
    format_writers.write_labelme(_with_pictures(root) / "images", ROWS)
    file = root / "images/b.json"
    content = json.loads(file.read_text())
    content["shapes"].append({**content["shapes"][0], "points": [["left", 1], [2, 3]]})
    file.write_text(json.dumps(content))
    return root


def viame(root: Path) -> Path:
    """Two pictures; the last row has no number."""
    file = format_writers.write_viame(_with_pictures(root), ROWS)
    file.write_text(file.read_text() + "7,b.jpg,1,left,2,3,4,1,-1,fish,1\n")
    return root


def biigle(root: Path) -> Path:
    """Two pictures; the points of the last row are none."""
    file = format_writers.write_biigle(_with_pictures(root), ROWS)
    lines = file.read_text().splitlines()
    start, _, end = lines[-1].partition('"[')
    bad = (start + '"[1, ""x""]"' + end.partition(']"')[2]).replace("402", "403")
    file.write_text("\n".join([*lines, bad]) + "\n")
    return root


BUILDERS = {
    "cvat": cvat,
    "label_studio": label_studio,
    "labelme": labelme,
    "viame": viame,
    "biigle": biigle,
    "pictures": pictures,
    "yolo": yolo,
    "coco": coco,
    "voc": voc,
    "fathomnet": fathomnet,
    "deepfish": deepfish,
    "manifest": manifest,
}
