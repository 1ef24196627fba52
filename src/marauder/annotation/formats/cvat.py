"""CVAT for images 1.1: ``annotations.xml`` with an ``image`` element a picture and a ``box`` element a box.

Source: docs.cvat.ai, "XML annotation format", version 1.1. Written so that CVAT takes it as annotations to correct:
make a task of ``images/`` with the labels of ``labels.json``, then upload ``annotations.xml`` as "CVAT 1.1".
"""

from __future__ import annotations

import io
import json
import re
import xml.sax
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.handler import ContentHandler
from xml.sax.saxutils import escape, quoteattr

import defusedxml.sax
from defusedxml.common import DefusedXmlException

from marauder.annotation.formats.base import AnnotationFormat, Item, Package, Reading, Size
from marauder.annotation.formats.collecting import (
    Box,
    Collector,
    clean_text,
    envelope,
    files_with,
    number,
    read_text,
    rotated,
    sniff,
)
from marauder.annotation.formats.package_files import common_entries
from marauder.annotation.packing import Entry
from marauder.data.records import Attribute
from marauder.data.sheets import colour_of

DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
ENCODING = re.compile(rb"^[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
DEEPEST = 64
"""Elements inside elements beyond this are no annotations."""
POINT_SHAPES = ("polygon", "polyline", "points", "cuboid")
UNUSABLE_SHAPES = ("skeleton",)


class CvatFormat(AnnotationFormat):
    """CVAT's own XML."""

    name = "cvat"
    how_to = (
        'Loading it into CVAT: make a task, paste labels.json under "Raw" for its labels, choose the files of images/; '
        'then Actions, Upload annotations, "CVAT 1.1", annotations.xml. Send back: Export task dataset, '
        '"CVAT for images 1.1", without pictures.'
    )

    def entries(self, package: Package) -> Iterator[Entry]:
        yield Entry("annotations.xml", annotations_xml(package).encode("utf-8"))
        yield Entry("labels.json", _labels_json(package.names).encode("utf-8"))
        yield from common_entries(package)

    def recognises(self, folder: Path) -> bool:
        return any(_looks_like_cvat(path) for path in files_with(folder, ".xml"))

    def read(self, folder: Path, expected: Mapping[str, Size], names: Sequence[str] = ()) -> Reading:
        collector = Collector(folder, expected)
        files = files_with(folder, ".xml")
        for path in [path for path in files if _looks_like_cvat(path)] or files:
            _read_file(path, collector)
        if not files:
            collector.problem(folder, "label-syntax", 'no XML in the delivery; export it as "CVAT for images 1.1"')
        return collector.reading()


def _read_file(path: Path, collector: Collector) -> None:
    with path.open("rb") as stream:
        declared = ENCODING.match(stream.read(300))
    text = read_text(path, collector, declared.group(1).decode("ascii") if declared else None)
    # The text is decoded already; what its declaration says of bytes is true no more.
    plain = DECLARATION.sub(lambda found: "\n" * found.group().count("\n"), text.lstrip("\ufeff"), count=1)
    handler = _Handler(path, collector)
    source = io.BytesIO(plain.encode("utf-8", "replace"))
    try:
        defusedxml.sax.parse(source, handler, forbid_dtd=True)
    except DefusedXmlException:
        message = "holds a document type or entities, which annotations have no use for; export it again"
        collector.problem(path, "label-syntax", message)
        handler.abandon_image()
    except xml.sax.SAXParseException as error:
        message = f"not valid XML ({clean_text(error.getMessage())}); what follows is not read: export it again"
        collector.problem(path, "label-syntax", message, error.getLineNumber(), handler.file or "")
        handler.abandon_image()
    except _TooDeepError as error:
        collector.problem(path, "label-syntax", f"{error}; what follows is not read: export it again")
        handler.abandon_image()


class _TooDeepError(Exception):
    pass


class _Handler(ContentHandler):
    """Takes images and shapes in as they come by; needs no memory for the rest."""

    def __init__(self, path: Path, collector: Collector) -> None:
        super().__init__()
        self.path, self.collector = path, collector
        self.file: str | None = None
        self.in_image = False
        self.factors = (1.0, 1.0)
        self.shape: dict[str, str] | None = None
        self.shape_kind, self.shape_line = "", 0
        self.details: dict[str, Attribute] = {}
        self.open_elements: list[str] = []
        self.text: list[str] = []
        self.attribute_name = ""
        self.images = 0

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802 - SAX's name
        self.open_elements.append(name)
        if len(self.open_elements) > DEEPEST:
            raise _TooDeepError(f"elements stand {DEEPEST} deep in one another")
        self.text = []
        if name == "image":
            self._begin_image(dict(attrs.items()))
        elif name == "track" and len(self.open_elements) == 2:
            message = 'is "CVAT for video", which names no pictures; export it as "CVAT for images 1.1"'
            self.collector.problem(self.path, "label-syntax", message, self._line())
        elif self.file is not None and self.open_elements[-2:-1] == ["image"]:
            self.shape, self.shape_kind, self.shape_line = dict(attrs.items()), name, self._line()
            self.details = {"occluded": True} if attrs.get("occluded") == "1" else {}
        elif name == "attribute" and self.shape is not None:
            self.attribute_name = clean_text(attrs.get("name", ""), 60)

    def characters(self, content: str) -> None:
        self.text.append(content)

    def endElement(self, name: str) -> None:  # noqa: N802 - SAX's name
        text = clean_text("".join(self.text))
        self.text = []
        if name == "attribute" and self.shape is not None and self.attribute_name:
            self.details[self.attribute_name] = _plain_value(text)
        elif name == "name" and self.open_elements[-2:-1] == ["label"]:
            self.collector.names.append(text)
        elif name == "image":
            self.end_image()
        elif self.shape is not None and self.open_elements[-2:-1] == ["image"]:
            self._end_shape()
        self.open_elements.pop()

    def endDocument(self) -> None:  # noqa: N802 - SAX's name
        if not self.images and not self.collector.problems:
            message = 'no image element in it; export it as "CVAT for images 1.1"'
            self.collector.problem(self.path, "label-syntax", message)

    def end_image(self) -> None:
        """Nothing more comes of the picture."""
        self.file, self.shape = None, None

    def abandon_image(self) -> None:
        """The file ends within the picture: its answer is not whole."""
        if self.file is not None:
            self.collector.drop(self.file)
        self.end_image()

    def _line(self) -> int:
        return int(self._locator.getLineNumber() or 0)  # type: ignore[attr-defined]

    def _begin_image(self, attributes: dict[str, str]) -> None:
        self.images += 1
        self.end_image()
        self.file = self.collector.open(self.path, self._line(), attributes.get("name"))
        if self.file is not None:
            size = (attributes.get("width"), attributes.get("height"))
            self.factors = self.collector.scale(self.file, size, self.path, self._line())

    def _end_shape(self) -> None:
        attributes, kind, line = self.shape or {}, self.shape_kind, self.shape_line
        self.shape = None
        if self.file is None or kind == "tag":
            return
        label = clean_text(attributes.get("label", ""))
        place = f"{kind} {label!r}"
        if kind in UNUSABLE_SHAPES or kind not in ("box", "ellipse", "mask", *POINT_SHAPES):
            self._note("shape-unknown", f"{place}: no box can be made of it; draw a box", line)
            return
        box = _box_of(kind, attributes)
        if box is None:
            message = f"{place}: coordinates {clean_text(_shown(attributes), 80)} are not usable numbers; draw it again"
            self._note("number-invalid", message, line)
            return
        turn = number(attributes.get("rotation", "0"))
        if kind != "box" or turn is None or turn % 360:
            if turn:
                box = rotated(box, turn, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
            self._note("shape-converted", f"{place}: the upright box around it is taken", line)
        if not label:
            self._note("class-missing", f"{place}: no label; name its class", line)
            return
        across, down = self.factors
        scaled = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
        self.collector.add(self.file, scaled, label, place, self.path, line, self.details)

    def _note(self, kind: str, message: str, line: int) -> None:
        self.collector.problem(self.path, kind, message, line, self.file or "")


def annotations_xml(package: Package) -> str:
    """The pre-labels as CVAT's XML; coordinates in pixels, four decimals."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", "  <meta>"]
    lines += [
        f"    <task>\n      <name>{_element_text(package.batch)}</name>",
        f"      <size>{len(package.items)}</size>",
    ]
    lines += ["      <mode>annotation</mode>", "      <labels>"]
    for index, name in enumerate(package.names):
        lines += ["        <label>", f"          <name>{_element_text(name)}</name>"]
        lines += [f"          <color>{_colour(index)}</color>", "          <type>rectangle</type>"]
        lines += ["          <attributes></attributes>", "        </label>"]
    lines += ["      </labels>", "    </task>", "  </meta>"]
    for identity, item in enumerate(package.items):
        lines += _image_lines(identity, item, package.names)
    return "\n".join([*lines, "</annotations>"]) + "\n"


def _image_lines(identity: int, item: Item, names: Sequence[str]) -> list[str]:
    opening = f'  <image id="{identity}" name={_quoted(item.file)} width="{item.width}" height="{item.height}">'
    lines = [opening]
    for (x0, y0, x1, y1), index in zip(item.boxes.tolist(), item.classes.tolist()):
        place = f'xtl="{x0:.4f}" ytl="{y0:.4f}" xbr="{x1:.4f}" ybr="{y1:.4f}"'
        label = _quoted(names[index])
        lines.append(f'    <box label={label} source="auto" occluded="0" {place} z_order="0"></box>')
    return [*lines, "  </image>"]


def _labels_json(names: Sequence[str]) -> str:
    """The labels as CVAT's "Raw" label constructor takes them."""
    rows = [
        {"name": name, "color": _colour(index), "type": "rectangle", "attributes": []}
        for index, name in enumerate(names)
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2) + "\n"


def _colour(index: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour_of(index))


def _element_text(text: str) -> str:
    return escape(clean_text(text))


def _quoted(text: str) -> str:
    return str(quoteattr("".join(letter for letter in text if letter.isprintable())))


def _box_of(kind: str, attributes: Mapping[str, str]) -> Box | None:
    if kind == "ellipse":
        found = [number(attributes.get(name)) for name in ("cx", "cy", "rx", "ry")]
        x, y, across, down = (value if value is not None else 0.0 for value in found)
        return (x - across, y - down, x + across, y + down) if None not in found else None
    if kind == "mask":
        found = [number(attributes.get(name)) for name in ("left", "top", "width", "height")]
        left, top, width, height = (value if value is not None else 0.0 for value in found)
        return (left, top, left + width, top + height) if None not in found else None
    if kind == "box":
        found = [number(attributes.get(name)) for name in ("xtl", "ytl", "xbr", "ybr")]
        x0, y0, x1, y1 = (value if value is not None else 0.0 for value in found)
        return (x0, y0, x1, y1) if None not in found else None
    points = _points(attributes)
    return envelope(points) if points else None


def _points(attributes: Mapping[str, str]) -> list[tuple[float, float]]:
    """The corners of a polygon, polyline or point set ("x,y;x,y"), or of a cuboid (xtl1, ytl1, xbl1 ...)."""
    if "points" in attributes:
        pairs = [pair.split(",") for pair in attributes["points"].split(";") if pair.strip()]
        values = [(number(pair[0]), number(pair[1])) if len(pair) == 2 else (None, None) for pair in pairs]
    else:
        corners = [f"{side}{face}" for side in ("tl", "bl", "tr", "br") for face in "12"]
        values = [(number(attributes.get(f"x{corner}")), number(attributes.get(f"y{corner}"))) for corner in corners]
    plain = [(x, y) for x, y in values if x is not None and y is not None]
    return plain if len(plain) == len(values) else []


def _plain_value(text: str) -> Attribute:
    return {"true": True, "false": False}.get(text.lower(), text)


def _shown(attributes: Mapping[str, str]) -> str:
    places = {name: text[:40] for name, text in attributes.items() if name not in ("label", "source", "z_order")}
    return ", ".join(f"{name}={text}" for name, text in places.items())


def _looks_like_cvat(path: Path) -> bool:
    return "<annotations" in sniff(path)
