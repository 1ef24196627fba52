"""Writes the same labels as each tool would: by hand, from what their manuals say, not with our own code.

Every writer takes a folder and rows ``(picture name, width, height, [(x0, y0, x1, y1, class name), ...])``, writes
labels only, and gives back the file or folder written. The CSV formats cannot say that a picture holds nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

Box = tuple[float, float, float, float, str]
Rows = Sequence[tuple[str, int, int, Sequence[Box]]]

VIAME_HEADER = [
    "# 1: Detection or Track-id",
    "2: Video or Image Identifier",
    "3: Unique Frame Identifier",
    *("4-7: Img-bbox(TL_x", "TL_y", "BR_x", "BR_y)"),
    "8: Detection or Length Confidence",
    "9: Target Length (0 or -1 if invalid)",
    *("10-11+: Repeated Species", "Confidence Pairs or Attributes"),
]
BIIGLE_HEADER = [
    *("annotation_label_id", "label_id", "label_name", "label_hierarchy", "user_id", "firstname", "lastname"),
    *("image_id", "filename", "image_longitude", "image_latitude"),
    *("shape_id", "shape_name", "points", "attributes", "annotation_id", "created_at"),
]


def write_viame(folder: Path, rows: Rows) -> Path:
    """As DIVE exports a sequence of pictures."""
    lines: list[Sequence[object]] = [VIAME_HEADER, ["# metadata", "fps: 5", 'exported_by: "dive:python"']]
    for frame, (name, _, _, boxes) in enumerate(rows):
        for x0, y0, x1, y1, species in boxes:
            lines.append([len(lines), name, frame, x0, y0, x1, y1, 1.0, -1, species, 1.0])
    return _write_csv(folder / "annotations.viame.csv", lines)


def write_biigle(folder: Path, rows: Rows) -> Path:
    """As the CSV report of a volume: rectangles, with the size of the picture in its attributes."""
    lines: list[Sequence[object]] = [BIIGLE_HEADER]
    for picture, (name, width, height, boxes) in enumerate(rows, 70):
        size = json.dumps({"size": 12345, "mimetype": "image/jpeg", "width": width, "height": height})
        for x0, y0, x1, y1, label in boxes:
            points = json.dumps([x0, y0, x1, y0, x1, y1, x0, y1])
            number = len(lines)
            of_label = [900 + number, 3, label, f"Biota > {label}", 5, "Ada", "Lovelace"]
            lines.append([*of_label, picture, name, "", "", 5, "Rectangle", points, size, 400 + number, "2023-06-05"])
    return _write_csv(folder / "12-volume.csv", lines)


def write_labelme(folder: Path, rows: Rows) -> Path:
    """A JSON beside each picture."""
    for name, width, height, boxes in rows:
        shapes = [
            {
                "label": label,
                "points": [[x0, y0], [x1, y1]],
                "group_id": None,
                "description": "",
                "shape_type": "rectangle",
                "flags": {},
                "mask": None,
            }
            for x0, y0, x1, y1, label in boxes
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": Path(name).name, "imageData": None}
        path = (folder / name).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content | {"imageHeight": height, "imageWidth": width}, ensure_ascii=False, indent=2)
        path.write_text(text, encoding="utf-8")
    return folder


def _write_csv(path: Path, lines: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)
    return path
