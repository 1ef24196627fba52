"""Labels as CVAT, Label Studio and VOC tools write them, out of one neutral list; the pictures are not written.

A row is the picture's name (may have folders), width, height, and boxes (x0, y0, x1, y1, class name) in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape, quoteattr

Row = tuple[str, int, int, Sequence[tuple[float, float, float, float, str]]]
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'


def write_cvat(folder: Path, rows: Sequence[Row]) -> Path:
    """``annotations.xml``; pictures are looked for anywhere below the folder."""
    names = dict.fromkeys(box[4] for row in rows for box in row[3])
    labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in names)
    lines = [f"{HEAD}<annotations>\n<version>1.1</version>\n<meta><task><labels>{labels}</labels></task></meta>"]
    for number, (picture, width, height, boxes) in enumerate(rows):
        lines.append(f'<image id="{number}" name={quoteattr(picture)} width="{width}" height="{height}">')
        for x0, y0, x1, y1, name in boxes:
            place = f'xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"'
            lines.append(f'<box label={quoteattr(name)} source="manual" occluded="0" {place} z_order="0"></box>')
        lines.append("</image>")
    path = folder / "annotations.xml"
    path.write_text("\n".join([*lines, "</annotations>\n"]), encoding="utf-8")
    return path


def _values(row: Row) -> list[dict[str, object]]:
    _, width, height, boxes = row
    return [
        {
            "x": x0 / width * 100,
            "y": y0 / height * 100,
            "width": (x1 - x0) / width * 100,
            "height": (y1 - y0) / height * 100,
            "rotation": 0,
            "rectanglelabels": [name],
        }
        for x0, y0, x1, y1, name in boxes
    ]


def write_label_studio(folder: Path, rows: Sequence[Row]) -> Path:
    """The JSON export."""
    tasks = []
    for number, row in enumerate(rows):
        size = {"original_width": row[1], "original_height": row[2], "image_rotation": 0}
        common = {"type": "rectanglelabels", "from_name": "label", "to_name": "image"}
        result = [{"id": f"r{n}", **common, **size, "value": value} for n, value in enumerate(_values(row))]
        address = {"image": f"/data/local-files/?d={row[0]}"}
        tasks.append({"id": number, "data": address, "annotations": [{"was_cancelled": False, "result": result}]})
    path = folder / "project-1.json"
    path.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def write_label_studio_min(folder: Path, rows: Sequence[Row]) -> Path:
    """The JSON_MIN export."""
    tasks = []
    for number, row in enumerate(rows):
        size = {"original_width": row[1], "original_height": row[2]}
        label = [{**value, **size} for value in _values(row)]
        given = {"label": label} if label else {}
        tasks.append({"image": f"/data/upload/1/{row[0]}", "id": number, "annotator": 1, "annotation_id": 1, **given})
    path = folder / "project-1-min.json"
    path.write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def write_voc(folder: Path, rows: Sequence[Row], flat: bool = False) -> list[Path]:
    """``Annotations/NAME.xml`` for pictures in ``JPEGImages/``; ``flat``: ``NAME.xml`` beside the picture."""
    paths = []
    for picture, width, height, boxes in rows:
        name = PurePosixPath(picture)
        lines = [f"{HEAD}<annotation>\n<folder>x</folder>\n<filename>{escape(name.name)}</filename>"]
        lines.append(f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
        for x0, y0, x1, y1, class_name in boxes:
            sides = zip(("xmin", "ymin", "xmax", "ymax"), (x0 + 1, y0 + 1, x1, y1))
            place = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
            lines.append(
                f"<object><name>{escape(class_name)}</name><pose>Unspecified</pose><bndbox>{place}</bndbox></object>"
            )
        paths.append(folder / ("" if flat else "Annotations") / name.with_suffix(".xml"))
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text("\n".join([*lines, "</annotation>\n"]), encoding="utf-8")
    return paths
