"""COCO detection JSON: pictures in ``images/``, boxes in ``annotations/instances_default.json``, ids from 1.

Layout and meaning: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014 (cocodataset.org, "Data format");
the file's name is the one that CVAT and Datumaro look for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.annotation.formats.base import AnnotationFormat, Package, Reading, Size
from marauder.annotation.formats.collecting import (
    Box,
    Collector,
    attribute,
    clean_text,
    envelope,
    files_with,
    number,
    numbers,
    parse_json,
    sniff,
    whole,
)
from marauder.annotation.formats.package_files import common_entries
from marauder.annotation.packing import Entry
from marauder.data.records import Attribute

PRELABEL_MARK = "prelabels"
"""A file whose name begins so is what we sent, and never an answer: untouched it would say what the model said."""
LARGEST_FRACTION = 1.001


class CocoFormat(AnnotationFormat):
    """Plain COCO, for any tool that takes it."""

    name = "coco"
    annotation_file = "annotations/instances_default.json"
    how_to = "Loading it: annotations/instances_default.json is COCO; take it into your tool together with images/."

    def entries(self, package: Package) -> Iterator[Entry]:
        yield Entry(self.annotation_file, coco_bytes(package))
        yield from common_entries(package)

    def recognises(self, folder: Path) -> bool:
        return any(_looks_like_coco(path) for path in files_with(folder, ".json"))

    def read(self, folder: Path, expected: Mapping[str, Size], names: Sequence[str] = ()) -> Reading:
        collector = Collector(folder, expected)
        files = files_with(folder, ".json")
        chosen = [path for path in files if _looks_like_coco(path)] or files
        answers = [path for path in chosen if not path.name.lower().startswith(PRELABEL_MARK)]
        for path in answers:
            _CocoFile(path, collector, names).read()
        if chosen and not answers:
            message = "is the file that was sent; save the answers as annotations.json, and send that"
            collector.problem(chosen[0], "not-answered", message)
        elif not chosen:
            collector.problem(folder, "label-syntax", "no COCO file (*.json) in the delivery; export it as COCO")
        return collector.reading()


class _CocoFile:
    """One file of a delivery."""

    def __init__(self, path: Path, collector: Collector, names: Sequence[str]) -> None:
        self.path, self.collector, self.names = path, collector, names
        self.pictures: dict[str, tuple[str, tuple[float, float]] | None] = {}
        self.categories: dict[int, str] = {}
        self.first = 1
        self.taken: list[tuple[str, Box, str, str, dict[str, Attribute]]] = []

    def read(self) -> None:
        content = parse_json(self.path, self.collector)
        if content is None:
            return
        if not isinstance(content, dict) or not isinstance(content.get("images"), list):
            self._note("label-syntax", "not COCO: there is no list 'images'; export it as COCO")
            return
        annotations = content.get("annotations")
        if not isinstance(annotations, list):
            self._note("label-syntax", "no list 'annotations': nothing says that the pictures were looked at")
            return
        self._read_categories(content.get("categories"), annotations)
        for position, row in enumerate(content["images"], 1):
            self._read_image(row, position)
        for position, row in enumerate(annotations, 1):
            self._read_annotation(row, position)
        self._hand_over()

    def _note(self, kind: str, message: str, file: str = "") -> None:
        self.collector.problem(self.path, kind, message, None, file)

    def _read_categories(self, rows: object, annotations: list[Any]) -> None:
        for row in rows if isinstance(rows, list) else []:
            identity = whole(row.get("id")) if isinstance(row, dict) else None
            name = row.get("name") if isinstance(row, dict) else None
            if identity is None or not isinstance(name, str) or not name.strip():
                self._note("label-syntax", f"category without a whole id and a name: {clean_text(row)}")
            elif self.categories.setdefault(identity, clean_text(name)) != clean_text(name):
                self._note("label-syntax", f"category {identity} stands twice, with different names; the first counts")
        self.collector.names.extend(self.categories.values())
        if not self.categories and annotations:
            found = {whole(row.get("category_id")) for row in annotations if isinstance(row, dict)}
            self.first = 0 if 0 in found else 1
            message = f"no categories: class numbers read as those sent, counted from {self.first}; check the classes"
            self._note("names-missing", message)
            self.categories = {number + self.first: name for number, name in enumerate(self.names)}

    def _read_image(self, row: object, position: int) -> None:
        if not isinstance(row, dict) or row.get("id") is None:
            self._note("label-syntax", f"images, entry {position}: no id ({clean_text(row)})")
            return
        identity = _identity(row["id"])
        extra = row.get("extra")
        named = (row.get("file_name"), extra.get("name") if isinstance(extra, dict) else None, row.get("path"))
        if identity in self.pictures:
            known = self.collector.find(*named) or ""
            self._note("label-syntax", f"images, entry {position}: id {identity} stands twice; the first counts", known)
            return
        file = self.collector.open(self.path, None, *named)
        size = (row.get("width"), row.get("height"))
        if file is not None and not (number(size[0]) and number(size[1])):
            message = f"{file}: no width and height stand with it; its boxes are taken as pixels of the picture as sent"
            self._note("size-unstated", message, file)
        self.pictures[identity] = None if file is None else (file, self.collector.scale(file, size, self.path))

    def _read_annotation(self, row: object, position: int) -> None:
        if not isinstance(row, dict):
            self._note("label-syntax", f"annotations, entry {position}: no mapping ({clean_text(row)})")
            return
        place = f"annotation {clean_text(row.get('id', f'number {position}'), 40)}"
        identity = _identity(row.get("image_id"))
        if identity not in self.pictures:
            self._note("label-without-picture", f"{place}: no image of id {identity}; send the picture's entry too")
            return
        picture = self.pictures[identity]
        if picture is None:
            return  # told when its picture was read
        file, (across, down) = picture
        box = self._box(row, place, file)
        if box is None:
            return
        category = whole(row.get("category_id"))
        if category is None:
            self._note("class-missing", f"{place}: category_id {clean_text(row.get('category_id'), 40)} is none", file)
            return
        name = self.categories.get(category, f"category {category}")
        scaled = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        details: dict[str, Attribute] = {"crowd": True} if row.get("iscrowd") in (1, True) else {}
        stated = row.get("attributes")
        for key, value in stated.items() if isinstance(stated, dict) else []:
            details[clean_text(key, 60)] = attribute(value)
        self.taken.append((file, scaled, name, place, details))

    def _box(self, row: dict[str, Any], place: str, file: str) -> Box | None:
        values = numbers(row.get("bbox"), 4)
        if values is not None and min(values[2:]) < 0:
            shown = clean_text(row.get("bbox"), 80)
            message = f"{place}: bbox {shown} has a negative width or height, so where it lies is unsure; draw it again"
            self._note("number-invalid", message, file)
            return None
        if values is not None:
            return values[0], values[1], values[0] + values[2], values[1] + values[3]
        if row.get("bbox") in (None, []) and row.get("segmentation"):
            points = _polygon_points(row["segmentation"])
            if points:
                self._note("shape-converted", f"{place}: no bbox; the box around its segmentation is taken", file)
                return envelope(points)
        shown = clean_text(row.get("bbox"), 80)
        self._note("number-invalid", f"{place}: bbox {shown} is not four usable numbers; draw it again", file)
        return None

    def _hand_over(self) -> None:
        """Give the boxes to the collector, in pixels also where all of them were fractions of the picture."""
        fractions = bool(self.taken) and all(max(map(abs, box)) <= LARGEST_FRACTION for _, box, *_ in self.taken)
        if fractions:
            message = "all boxes lie between 0 and 1: read as fractions of the picture; COCO wants pixels"
            self._note("units-converted", message)
        for file, box, name, place, details in self.taken:
            if fractions:
                width, height = self.collector.expected[file]
                box = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
            self.collector.add(file, box, name, place, self.path, None, details)


def coco_bytes(package: Package) -> bytes:
    """The pre-labels as COCO JSON in UTF-8; image, annotation and category ids count from 1."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, item in enumerate(package.items, 1):
        images.append({"id": image_id, "file_name": item.file, "width": item.width, "height": item.height})
        for position, (box, index) in enumerate(zip(item.boxes.tolist(), item.classes.tolist())):
            x0, y0, x1, y1 = (round(value, 4) for value in box)
            row: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": image_id,
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
        "info": {"description": package.batch, "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(package.names, 1)],
    }
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8")


def _looks_like_coco(path: Path) -> bool:
    text = sniff(path)
    return text.lstrip("\ufeff \t\r\n").startswith("{") and '"images"' in text


def _identity(value: object) -> str:
    """An id as text: tools write 7, 7.0 and "7" for the same picture."""
    found = whole(value)
    return str(found) if found is not None else clean_text(value)


def _polygon_points(segmentation: object) -> list[tuple[float, float]]:
    points = []
    for polygon in segmentation if isinstance(segmentation, list) else []:
        values = [number(value) for value in polygon] if isinstance(polygon, list) else []
        if None in values or len(values) % 2:
            return []
        plain = [value for value in values if value is not None]
        points += list(zip(plain[::2], plain[1::2]))
    return points
