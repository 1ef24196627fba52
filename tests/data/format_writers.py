"""Writes the same labels as each tool would: by hand, from what their manuals say, not with our own code.

Every writer takes a folder and rows ``(picture name, width, height, [(x0, y0, x1, y1, class name), ...])``, writes
labels only, and gives back the file or folder written. The picture's name stands in the file as given; where it has
folders, files of a picture each lie in the same ones. The CSV formats cannot say that a picture holds nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import escape, quoteattr

Box = tuple[float, float, float, float, str]
Row = tuple[str, int, int, Sequence[Box]]
Rows = Sequence[Row]

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


def write_viame(folder: Path, rows: Rows, encoding: str = "utf-8", name: str = "annotations.viame.csv") -> Path:
    """As DIVE exports a sequence of pictures."""
    lines: list[Sequence[object]] = [VIAME_HEADER, ["# metadata", "fps: 5", 'exported_by: "dive:python"']]
    for frame, (picture, _, _, boxes) in enumerate(rows):
        for x0, y0, x1, y1, species in boxes:
            lines.append([len(lines), picture, frame, x0, y0, x1, y1, 1.0, -1, species, 1.0])
    return _write_csv(folder / name, lines, encoding)


def write_biigle(
    folder: Path, rows: Rows, encoding: str = "utf-8", name: str = "12-volume.csv", shape: str = "Rectangle"
) -> Path:
    """As the CSV report of a volume, with the size of the picture in its attributes."""
    lines: list[Sequence[object]] = [BIIGLE_HEADER]
    for picture, (file, width, height, boxes) in enumerate(rows, 70):
        size = json.dumps({"size": 12345, "mimetype": "image/jpeg", "width": width, "height": height})
        for x0, y0, x1, y1, label in boxes:
            points = [x0, y0, x1, y0, x1, y1, x0, y1]
            if shape == "Ellipse":
                points = [(x0 + x1) / 2, y0, (x0 + x1) / 2, y1, x0, (y0 + y1) / 2, x1, (y0 + y1) / 2]
            number = len(lines)
            of_label = [900 + number, 3, label, f"Biota > {label}", 5, "Ada", "Lovelace"]
            of_shape = [5, shape, json.dumps(points), size, 400 + number, "2023-06-05"]
            lines.append([*of_label, picture, file, "", "", *of_shape])
    return _write_csv(folder / name, lines, encoding)


def write_labelme(
    folder: Path,
    rows: Rows,
    encoding: str = "utf-8",
    shape: str = "rectangle",
    path_of: Callable[[str], str] = lambda name: PurePosixPath(name).name,
) -> Path:
    """A JSON for each picture. ``path_of``: what it calls the picture."""
    for name, width, height, boxes in rows:
        shapes = [
            {
                "label": label,
                "points": [[x0, y0], [x1, y1]] if shape == "rectangle" else _outline(x0, y0, x1, y1),
                "group_id": None,
                "description": "",
                "shape_type": shape,
                "flags": {},
                "mask": None,
            }
            for x0, y0, x1, y1, label in boxes
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": path_of(name), "imageData": None}
        path = folder / PurePosixPath(name).with_suffix(".json")
        text = json.dumps(
            content | {"imageHeight": height, "imageWidth": width}, ensure_ascii=encoding == "ascii", indent=2
        )
        _write(path, text, encoding)
    return folder


def write_cvat(folder: Path, rows: Rows, encoding: str = "utf-8", subsets: Mapping[str, str] | None = None) -> Path:
    """``annotations.xml``; pictures are looked for anywhere below the folder. ``subsets``: by the picture's name."""
    names = dict.fromkeys(box[4] for row in rows for box in row[3])
    labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in names)
    meta = f"<version>1.1</version>\n<meta><task><labels>{labels}</labels></task></meta>"
    lines = [f"{_head(encoding)}<annotations>\n{meta}"]
    for number, (picture, width, height, boxes) in enumerate(rows):
        subset = f' subset="{subsets[picture]}"' if subsets else ""
        lines.append(f'<image id="{number}" name={quoteattr(picture)}{subset} width="{width}" height="{height}">')
        for x0, y0, x1, y1, name in boxes:
            place = f'xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"'
            lines.append(f'<box label={quoteattr(name)} source="manual" occluded="0" {place} z_order="0"></box>')
        lines.append("</image>")
    return _write(folder / "annotations.xml", "\n".join([*lines, "</annotations>\n"]), encoding)


def write_label_studio(
    folder: Path,
    rows: Rows,
    encoding: str = "utf-8",
    shape: str = "rectangle",
    address: Callable[[str], str] = "/data/local-files/?d={}".format,
) -> Path:
    """The JSON export."""
    tasks = []
    for number, row in enumerate(rows):
        size = {"original_width": row[1], "original_height": row[2], "image_rotation": 0}
        common = {"type": f"{shape}labels", "from_name": "label", "to_name": "image"}
        result = [{"id": f"r{n}", **common, **size, "value": value} for n, value in enumerate(_values(row, shape))]
        data = {"image": address(row[0])}
        tasks.append({"id": number, "data": data, "annotations": [{"was_cancelled": False, "result": result}]})
    return _write(folder / "project-1.json", json.dumps(tasks, ensure_ascii=encoding == "ascii", indent=1), encoding)


def write_label_studio_min(
    folder: Path,
    rows: Rows,
    encoding: str = "utf-8",
    shape: str = "rectangle",
    address: Callable[[str], str] = "/data/upload/1/{}".format,
) -> Path:
    """The JSON_MIN export."""
    tasks = []
    for number, row in enumerate(rows):
        size = {"original_width": row[1], "original_height": row[2]}
        label = [{**value, **size} for value in _values(row, shape)]
        given = {"label": label} if label else {}
        tasks.append({"image": address(row[0]), "id": number, "annotator": 1, "annotation_id": 1, **given})
    return _write(
        folder / "project-1-min.json", json.dumps(tasks, ensure_ascii=encoding == "ascii", indent=1), encoding
    )


def write_voc(
    folder: Path,
    rows: Rows,
    flat: bool = False,
    encoding: str = "utf-8",
    prefix: str = "",
    filename: Callable[[str], str] = lambda name: PurePosixPath(name).name,
) -> list[Path]:
    """``Annotations/NAME.xml`` for pictures in ``JPEGImages/``; ``flat``: ``NAME.xml`` beside the picture.

    ``prefix``: of a namespace that all elements stand in; ``filename``: what the file calls its picture."""
    start, end = f"<{prefix}:" if prefix else "<", f"</{prefix}:" if prefix else "</"
    space = f' xmlns:{prefix}="http://example.org/voc"' if prefix else ""
    paths = []
    for picture, width, height, boxes in rows:
        name = PurePosixPath(picture)
        lines = [f"<annotation{space}>\n<folder>x</folder>\n<filename>{escape(filename(picture))}</filename>"]
        lines.append(f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
        for x0, y0, x1, y1, class_name in boxes:
            sides = zip(("xmin", "ymin", "xmax", "ymax"), (x0 + 1, y0 + 1, x1, y1))
            place = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
            lines.append(
                f"<object><name>{escape(class_name)}</name><pose>Unspecified</pose><bndbox>{place}</bndbox></object>"
            )
        text = "\n".join([*lines, "</annotation>\n"])
        if prefix:
            text = text.replace("</", "\0").replace("<", start).replace("\0", end)
        path = folder / ("" if flat else "Annotations") / name.with_suffix(".xml")
        paths.append(_write(path, _head(encoding) + text, encoding))
    return paths


def write_coco(
    path: Path,
    rows: Rows,
    names: Sequence[str],
    encoding: str = "utf-8",
    image_id: Callable[[int], object] = int,
    image_id_again: Callable[[int], object] | None = None,
    category_id: Callable[[int], object] = lambda number: number + 1,
    outline: bool = False,
    indent: int | None = None,
) -> Path:
    """One file. ``image_id``, ``image_id_again`` (in annotations) and ``category_id`` make ids of numbers from 0;
    ``outline``: an outline in place of the box."""
    images, annotations = [], []
    for number, (picture, width, height, boxes) in enumerate(rows):
        images.append({"id": image_id(number), "file_name": picture, "width": width, "height": height})
        for x0, y0, x1, y1, name in boxes:
            shape = (
                {"segmentation": [[side for point in _outline(x0, y0, x1, y1) for side in point]]} if outline else {}
            )
            of_box = {"bbox": [x0, y0, x1 - x0, y1 - y0]} if not outline else {}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": (image_id_again or image_id)(number),
                    "category_id": category_id(names.index(name)),
                    **of_box,
                    **shape,
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": "export"},
        "licenses": [],
        "categories": [{"id": category_id(number), "name": name} for number, name in enumerate(names)],
        "images": images,
        "annotations": annotations,
    }
    return _write(path, json.dumps(content, ensure_ascii=encoding == "ascii", indent=indent), encoding)


def write_manifest(path: Path, rows: Rows, names: Sequence[str], label: str = "reef", encoding: str = "utf-8") -> Path:
    """The output manifest of a labelling job of SageMaker Ground Truth."""
    lines = []
    for picture, width, height, boxes in rows:
        annotations = [
            {"class_id": names.index(name), "left": x0, "top": y0, "width": x1 - x0, "height": y1 - y0}
            for x0, y0, x1, y1, name in boxes
        ]
        job = {
            "objects": [{"confidence": 0}] * len(boxes),
            "class-map": {str(number): name for number, name in enumerate(names)},
            "type": "groundtruth/object-detection",
            "human-annotated": "yes",
            "creation-date": "2026-11-01T00:00:00",
            "job-name": f"labeling-job/{label}",
        }
        size = [{"width": width, "height": height, "depth": 3}]
        row = {"source-ref": picture, label: {"image_size": size, "annotations": annotations}, f"{label}-metadata": job}
        lines.append(json.dumps(row, ensure_ascii=encoding == "ascii") + "\n")
    return _write(path, "".join(lines), encoding)


def yolo_text(row: Row, names: Sequence[str], shape: str = "box", keypoints: tuple[int, int] = (3, 2)) -> str:
    """The label lines of a picture. ``shape``: ``box``, ``polygon``, ``obb`` (oriented), ``pose`` (``keypoints``)."""
    _, width, height, boxes = row
    lines = []
    for x0, y0, x1, y1, name in boxes:
        x, y, across, down = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        if shape == "box":
            values = [(x, y), (across, down)]
        elif shape == "pose":
            spots = [(x - across / 4, y + down / 4), (x, y), (x + across / 4, y - down / 4)]
            seen = [2] if keypoints[1] == 3 else []
            values = [(x, y), (across, down)]
        elif shape == "obb":
            values = [(x, y0), (x1, y), (x, y1), (x0, y)]
        else:
            values = [(px, py) for px, py in _outline(x0, y0, x1, y1)]
        texts = [f"{value:.8f}" for px, py in values for value in (px / width, py / height)]
        if shape == "pose":
            for px, py in (spots * keypoints[0])[: keypoints[0]]:
                texts += [f"{px / width:.6f}", f"{py / height:.6f}", *map(str, seen)]
        lines.append(" ".join([str(names.index(name)), *texts]) + "\n")
    return "".join(lines)


def yaml_text(value: str) -> str:
    """A name as people write it in YAML: plain where that can be, else in quotes."""
    plain = value.replace("_", "").replace(".", "").replace(":", "").isalnum() and not value.startswith((".", ":"))
    plain = (plain and not value.endswith(":")) or value == "~"
    return value if plain else "'" + value.replace("'", "''") + "'"


def write_text(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """A text file in any encoding; ``crlf`` behind its name (``utf-8 crlf``): with the line ends of Windows."""
    return _write(path, text, encoding)


def _outline(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    """An outline of six points, not all of them corners, that fills the box."""
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return [[x0, y0], [x, y0], [x1, y], [x1, y1], [x, y1], [x0, y]]


def _values(row: Row, shape: str) -> list[dict[str, Any]]:
    _, width, height, boxes = row
    values = []
    for x0, y0, x1, y1, name in boxes:
        place: dict[str, Any] = {"x": x0 / width * 100, "y": y0 / height * 100}
        place |= {"width": (x1 - x0) / width * 100, "height": (y1 - y0) / height * 100, "rotation": 0}
        if shape == "polygon":
            points = _outline(x0, y0, x1, y1)
            place = {"points": [[x / width * 100, y / height * 100] for x, y in points], "closed": True}
        elif shape == "ellipse":
            place = {"x": (x0 + x1) / 2 / width * 100, "y": (y0 + y1) / 2 / height * 100, "rotation": 0}
            place |= {"radiusX": (x1 - x0) / 2 / width * 100, "radiusY": (y1 - y0) / 2 / height * 100}
        values.append({**place, f"{shape}labels": [name]})
    return values


def _head(encoding: str) -> str:
    """The declaration of an XML file in that encoding."""
    return f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n'


def _write(path: Path, text: str, encoding: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    name, _, windows = encoding.partition(" ")
    path.write_bytes((text.replace("\n", "\r\n") if windows else text).encode(name))
    return path


def _write_csv(path: Path, lines: Sequence[Sequence[object]], encoding: str) -> Path:
    text = io.StringIO()
    csv.writer(text, delimiter=";" if encoding.endswith(";") else ",").writerows(lines)
    return _write(path, text.getvalue(), encoding.rstrip("; "))
