"""COCO detection JSON: pictures in ``images/``, boxes in ``annotations/instances_default.json``, ids from 1.

Layout and meaning: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014 (cocodataset.org, "Data format");
the file's name is the one that CVAT and Datumaro look for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from marauder.annotation.formats.base import ExchangeFormat, Package
from marauder.annotation.formats.package_files import common_entries
from marauder.annotation.packing import Entry
from marauder.core.plain import Plain


class CocoExchange(ExchangeFormat):
    """Plain COCO, for any tool that takes it."""

    name = "coco"
    title = "COCO JSON"
    annotation_file = "annotations/instances_default.json"
    how_to = "Loading it: annotations/instances_default.json is COCO; take it into your tool together with images/."

    def entries(self, package: Package) -> Iterator[Entry]:
        yield Entry(self.annotation_file, coco_bytes(package))
        yield from common_entries(package)


def coco_bytes(package: Package) -> bytes:
    """The pre-labels as COCO JSON in UTF-8; image, annotation and category ids count from 1."""
    images: list[Plain] = []
    annotations: list[Plain] = []
    for image_id, item in enumerate(package.items, 1):
        images.append({"id": image_id, "file_name": item.file, "width": item.width, "height": item.height})
        for position, (box, index) in enumerate(zip(item.boxes.tolist(), item.classes.tolist())):
            x0, y0, x1, y1 = (round(value, 4) for value in box)
            row: Plain = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                # Ids from 1, as in COCO itself; some tools take 0 for the background.
                "category_id": index + 1,
                "bbox": [x0, y0, round(x1 - x0, 4), round(y1 - y0, 4)],
                "area": round((x1 - x0) * (y1 - y0), 4),
                "iscrowd": 0,
                "segmentation": [],
            }
            if item.scores is not None:
                row["score"] = round(float(item.scores[position]), 4)
            annotations.append(row)
    content = {
        "info": {"description": "boxes in COCO format, written by Marauder", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(package.names, 1)],
    }
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8")
