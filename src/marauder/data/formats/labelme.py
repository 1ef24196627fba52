"""labelme: a JSON a picture; X-AnyLabeling writes the same with more shapes.

Source: labelme's own reader and ``labelme2coco``: a circle is its centre and a point of its rim, ``imagePath`` is
relative to the JSON, and outlines of one label and one group are the pieces of one object.
"""

from __future__ import annotations

import math
import posixpath
from pathlib import Path
from typing import Any

from marauder.data.formats.base import Box, Entry, Findings, Format, Label, Parsed, ReadOptions
from marauder.data.formats.source import Source
from marauder.data.formats.text import attribute, clean_text, envelope, number, pairs, parse_json
from marauder.data.records import Attribute

LEAST_POINTS = {"rectangle": 2, "mask": 2, "circle": 2, "rotation": 4, "oriented_rectangle": 4, "polygon": 3}
WITHOUT_EXTENT = ("point", "points", "line", "linestrip")
PIECES = ("polygon", "mask")


class LabelmeFormat(Format):
    """labelme's JSON."""

    name = "labelme"
    title = "labelme JSON, one for each picture (labelme, X-AnyLabeling)"

    def files(self, source: Source) -> list[Path]:
        files = [(path, source.marks(path).keys) for path in source.with_suffix(".json")]
        return [path for path, keys in files if "shapes" in keys and keys & {"imagePath", "imageHeight", "imageData"}]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        files = self.files(source)
        return Parsed([_entry(path, source, findings) for path in files], used=set(files))


def _entry(path: Path, source: Source, findings: Findings) -> Entry:
    findings.tick()
    own = source.relative(path)[: -len(path.suffix)]
    content = parse_json(path, findings)
    stated, shapes = (content.get("imagePath"), content.get("shapes")) if isinstance(content, dict) else (None, None)
    entry = Entry((own,), path)
    if isinstance(stated, str) and stated.strip():
        place = posixpath.join(posixpath.dirname(own), stated.strip().replace("\\", "/"))
        entry.names = (own, posixpath.normpath(place))
    if not isinstance(shapes, list):
        entry.labelled = False
        if content is not None:
            findings.add("label-syntax", "no list of shapes; save it again in labelme", path, None, entry)
        return entry
    entry.width, entry.height = (number(content.get(key)) or 0.0 for key in ("imageWidth", "imageHeight"))
    entry.attributes = _told(content.get("flags"))
    pieces: dict[tuple[str, Attribute], Label] = {}
    for position, shape in enumerate(shapes, 1):
        place = f"shape {position}"
        box, kind, message = _box(shape)
        if box is not None:
            name, group, ignored = clean_text(shape["label"]), shape.get("group_id"), shape.get("difficult") is True
            label = Label(box, name, place=place, ignored=ignored, details=_details(shape))
            first = label
            if group is not None and shape.get("shape_type") in PIECES:
                first = pieces.setdefault((name, attribute(group)), label)
            if first is label:
                entry.labels.append(label)
            else:
                first.box = envelope([first.box[:2], first.box[2:], box[:2], box[2:]])
                message = f"a piece of the object of {first.place}: they are one group; the box around all is taken"
        if kind:
            findings.add(kind, f"{place}: {message}", path, None, entry)
    return entry


def _told(stated: Any) -> dict[str, Attribute]:
    return {clean_text(key): attribute(value) for key, value in stated.items()} if isinstance(stated, dict) else {}


def _details(shape: dict[str, Any]) -> dict[str, Attribute]:
    own = {"group": shape.get("group_id"), "score": shape.get("score"), "note": shape.get("description") or None}
    told = {key: value for key, value in own.items() if value is not None}
    return _told(shape.get("flags")) | _told(shape.get("attributes")) | _told(told)


def _box(shape: Any) -> tuple[Box | None, str, str]:
    """The box of a shape, and a finding, if any: its kind and words."""
    if not isinstance(shape, dict):
        return None, "label-syntax", f"no mapping ({clean_text(shape, 60)}); save it again in labelme"
    kind, label = str(shape.get("shape_type") or "polygon"), shape.get("label")
    if not isinstance(label, str) or not clean_text(label):
        return None, "class-missing", f"its label is {clean_text(label, 40)!r}; name its class"
    if kind in WITHOUT_EXTENT:
        return None, "shape-without-extent", f"a {kind} has no extent; draw a box"
    if kind not in LEAST_POINTS:
        return None, "label-syntax", f"shape {clean_text(kind, 40)!r} is not known; draw a box"
    points = pairs(shape.get("points"))
    if points is None or len(points) < LEAST_POINTS[kind]:
        return None, "number-invalid", f"points {clean_text(shape.get('points'), 80)} are no {kind}; draw it again"
    if kind == "circle":
        (x, y), radius = points[0], math.dist(points[0], points[1])
        points = [(x - radius, y - radius), (x + radius, y + radius)]
    box = envelope(points)
    if box[:2] == box[2:]:
        return None, "shape-without-extent", f"its {kind} has no extent; draw a box"
    return box, "" if kind == "rectangle" else "shape-converted", f"{kind}; the upright box around it is taken"
