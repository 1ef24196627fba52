"""CVAT for images 1.1: an ``image`` element a picture, with its shapes inside. Source: docs.cvat.ai, "XML annotation
format"."""

from __future__ import annotations

from pathlib import Path

from marauder.core.errors import UserError
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import SPLIT_NAMES, Entry, Findings, Label
from marauder.data.formats.shapes import Shape, centred, check_kind, outline, usable
from marauder.data.formats.source import Source
from marauder.data.formats.text import Node, clean_text, number, parse_xml, plain_value
from marauder.data.records import Attribute

EXPORT = 'export it as "CVAT for images 1.1"'
CORNERS = tuple(f"{axis}{side}{face}" for side in ("tl", "bl", "tr", "br") for face in "12" for axis in "xy")
SHAPES = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "mask": ("left", "top", "width", "height"),
    "cuboid": CORNERS,
    "polygon": (),
}
"""The attributes that say where a shape is; a polygon has ``points`` ("x,y;x,y")."""


class CvatReader(Reader):
    """CVAT's own XML."""

    name = "cvat"
    title = "CVAT for images XML"

    def files(self, source: Source) -> list[Path]:
        return [path for path in source.with_suffix(".xml") if "annotations" in source.marks(path).keys]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        parsed, names = Parsed([]), list[str]()
        files = self.files(source) or source.with_suffix(".xml")
        if not files:
            raise UserError(f"{source.path}: no XML file in it; {EXPORT}")
        for path in files:
            parsed.used.add(path)
            _read_file(path, parsed.entries, names, findings)
        parsed.names = list(dict.fromkeys(filter(None, names)))
        return parsed


def _read_file(path: Path, entries: list[Entry], names: list[str], findings: Findings) -> None:
    before, tracks = (len(entries), len(findings.list)), list[int]()

    def take(node: Node, around: Node | None) -> None:
        entry = None
        if node.tag == "image":
            findings.tick()
            if node.broken:
                # Half of a picture's boxes would teach that the rest of it is water.
                node.children.clear()
            entry = _entry(node, path, findings)
            entry.labelled = not node.broken
            entries.append(entry)
        if node.broken:
            findings.add("label-syntax", node.broken[1], path, node.broken[0], entry)
        elif node.tag == "track":
            tracks.append(node.line)
        # Labels with a parent are the points of a skeleton, not classes.
        elif node.tag == "label" and around is not None and around.tag == "labels" and not node.all("parent"):
            names.append(clean_text(node.value("name")))

    parse_xml(path, findings, ("image", "label", "track"), take)
    if tracks:
        message = f'is "CVAT for video" ({len(tracks)} tracks), which names no pictures; {EXPORT}'
        findings.add("label-syntax", message, path, tracks[0])
    elif before == (len(entries), len(findings.list)):
        findings.add("label-syntax", f"no image element in it; {EXPORT}", path)


def _entry(node: Node, path: Path, findings: Findings) -> Entry:
    given = node.attributes
    entry = Entry((given["name"],) if given.get("name") else (), path, node.line)
    entry.width, entry.height = (max(0.0, number(given.get(side)) or 0.0) for side in ("width", "height"))
    entry.split = SPLIT_NAMES.get(given.get("subset", "").lower())
    for shape in node.children:
        name = clean_text(shape.attributes.get("label", ""))
        # A tag describes the picture as a whole.
        if shape.tag != "tag":
            Shape(findings, entry, f"{shape.tag} {name!r}", shape.line).add(_label, shape, name)
    return entry


def _label(told: Shape, shape: Node, name: str) -> Label:
    kind, given = shape.tag, shape.attributes
    check_kind(kind, SHAPES)
    (turn,) = usable("rotation", [given.get("rotation", "0")], 1)
    if kind == "polygon":
        box = outline(kind, [pair.split(",") for pair in given.get("points", "").split(";") if pair.strip()])
    elif kind == "cuboid":
        box = outline(kind, [given.get(corner) for corner in SHAPES[kind]])
    else:
        a, b, c, d = place = usable(kind, [given.get(side) for side in SHAPES[kind]], 4)
        box = centred(kind, place) if kind == "ellipse" else (a, b, a + c, b + d) if kind == "mask" else (a, b, c, d)
    name = told.class_of(name)
    if kind != "box" or turn % 360:
        told.converted(kind, turn)
    details: dict[str, Attribute] = {"occluded": True} if given.get("occluded") == "1" else {}
    for node in shape.all("attribute"):
        details[clean_text(node.attributes.get("name", ""), 60)] = plain_value(node.text)
    details.pop("", None)
    return Label(box, name, shape.line, told.place, details=details, turn=turn)
