"""labelme: a JSON a picture; X-AnyLabeling writes the same with more shapes.

Source: labelme's own reader and ``labelme2coco``: a circle is its centre and a point of its rim, ``imagePath`` is
relative to the JSON, and outlines of one label and one group are the pieces of one object.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from marauder.core.plain import Plain
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Entry, Findings, Label
from marauder.data.formats.shapes import Refused, Shape, centred, check_kind, outline
from marauder.data.formats.source import Source
from marauder.data.formats.text import attribute, clean_text, envelope, number, pairs, parse_json
from marauder.data.records import Attribute

LEAST_POINTS = {"rectangle": 2, "mask": 2, "circle": 2, "rotation": 4, "oriented_rectangle": 4, "polygon": 3}
PIECES = ("polygon", "mask")


class LabelmeReader(Reader):
    """labelme's JSON."""

    name = "labelme"
    title = "Labelme JSON"

    def files(self, source: Source) -> list[Path]:
        files = [(path, source.marks(path).keys) for path in source.with_suffix(".json")]
        return [path for path, keys in files if "shapes" in keys and keys & {"imagePath", "imageHeight", "imageData"}]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        files = self.files(source)
        entries = [_entry(path, source, findings) for path in files]
        return Parsed(entries, used=set(files), file_a_picture=True)


def _entry(path: Path, source: Source, findings: Findings) -> Entry:
    findings.tick()
    own = source.relative(path)[: -len(path.suffix)]
    content = parse_json(path, findings)
    stated, shapes = (content.get("imagePath"), content.get("shapes")) if isinstance(content, dict) else (None, None)
    entry = Entry((own,), path)
    if isinstance(stated, str) and stated.strip():
        # The JSON's own name goes first: imagePath keeps the old one when both files are renamed.
        entry.names = (own, stated.strip().replace("\\", "/"))
    if not isinstance(shapes, list):
        entry.labelled = False
        if content is not None:
            findings.add("label-syntax", "no list of shapes; save it again in labelme", path, None, entry)
        return entry
    entry.width, entry.height = (number(content.get(key)) or 0.0 for key in ("imageWidth", "imageHeight"))
    entry.attributes = _told(content.get("flags"))
    pieces: dict[tuple[str, Attribute], Label] = {}
    for position, shape in enumerate(shapes, 1):
        Shape(findings, entry, f"shape {position}").add(_label, shape, pieces)
    return entry


def _label(told: Shape, shape: Any, pieces: dict[tuple[str, Attribute], Label]) -> Label | None:
    """The label of a shape; ``None`` for a further piece of an earlier one, which grows by it."""
    if not isinstance(shape, dict):
        raise Refused("label-syntax", f"no mapping ({clean_text(shape, 60)}); save it again in labelme")
    kind, points, group = str(shape.get("shape_type") or "polygon"), shape.get("points"), shape.get("group_id")
    check_kind(kind, LEAST_POINTS)
    if kind == "circle" and (found := pairs(points)) and len(found) > 1:
        box = centred(kind, (*found[0], *[math.dist(*found[:2])] * 2))
    else:
        box = outline(kind, points, LEAST_POINTS[kind])
    name = told.class_of(clean_text(shape["label"]) if isinstance(shape.get("label"), str) else "")
    label = Label(box, name, place=told.place, ignored=shape.get("difficult") is True, details=_details(shape))
    first = pieces.setdefault((name, attribute(group)), label) if group is not None and kind in PIECES else label
    if first is not label:
        first.box = envelope([first.box[:2], first.box[2:], box[:2], box[2:]])
        told.tell("shape-converted", f"one group with {first.place}, so one object; the box around all is taken")
        return None
    if kind != "rectangle":
        told.converted(kind)
    return label


def _told(stated: Any) -> dict[str, Attribute]:
    return {clean_text(key): attribute(value) for key, value in stated.items()} if isinstance(stated, dict) else {}


def _details(shape: Plain) -> dict[str, Attribute]:
    own = {"group": shape.get("group_id"), "score": shape.get("score"), "note": shape.get("description") or None}
    told = {key: value for key, value in own.items() if value is not None}
    return _told(shape.get("flags")) | _told(shape.get("attributes")) | _told(told)
