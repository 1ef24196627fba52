"""CVAT for images 1.1: an ``image`` element a picture, with its shapes inside. Source: docs.cvat.ai, "XML annotation
format"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from marauder.core.errors import UserError
from marauder.data.formats.base import SPLIT_NAMES, Box, Entry, Findings, Format, Label, Parsed, ReadOptions
from marauder.data.formats.source import Source
from marauder.data.formats.text import Node, clean_text, envelope, number, numbers, parse_xml, plain_value
from marauder.data.records import Attribute

EXPORT = 'export it as "CVAT for images 1.1"'
CORNERS = tuple(f"{axis}{side}{face}" for side in ("tl", "bl", "tr", "br") for face in "12" for axis in "xy")
SHAPES = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "mask": ("left", "top", "width", "height"),
    "cuboid": CORNERS,
    "polygon": (),
    "polyline": (),
    "points": (),
}
"""The attributes that say where a shape is; none where they are in ``points`` ("x,y;x,y")."""


class CvatFormat(Format):
    """CVAT's own XML."""

    name = "cvat"
    title = "CVAT for images 1.1 (annotations.xml)"

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
                node.children.clear()
            entry = _entry(node, path, findings)
            entry.labelled = not node.broken
            entries.append(entry)
        if node.broken:
            findings.add("label-syntax", node.broken[1], path, node.broken[0], entry)
        elif node.tag == "track":
            tracks.append(node.line)
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
        if shape.tag == "tag":
            continue
        name = clean_text(shape.attributes.get("label", ""))
        place = f"{shape.tag} {name!r}"
        box, turn = _box_of(shape.tag, shape.attributes), number(shape.attributes.get("rotation", "0"))
        kind = message = ""
        if shape.tag not in SHAPES:
            kind, message = "shape-unknown", "no box can be made of it; draw a box"
        elif box is None or turn is None:
            kind, message = "number-invalid", f"coordinates {_shown(shape)} are not usable numbers; draw it again"
        elif not name:
            kind, message = "class-missing", "no label; name its class"
        elif shape.tag in ("points", "polyline"):
            what = "point" if shape.tag == "points" else "line"
            kind, message = "shape-without-extent", f"a {what} has no extent; draw a box"
        else:
            if shape.tag != "box" or turn % 360:
                kind, message = "shape-converted", "not upright or no box; the upright box around it is taken"
            entry.labels.append(Label(box, name, shape.line, place, details=_details(shape), turn=turn))
        if kind:
            findings.add(kind, f"{place}: {message}", path, shape.line, entry)
    return entry


def _box_of(kind: str, given: Mapping[str, str]) -> Box | None:
    names = SHAPES.get(kind, ())
    texts = [given.get(name) for name in names]
    if not names:
        pairs = [pair.split(",") for pair in given.get("points", "").split(";") if pair.strip()]
        texts = [text for pair in pairs for text in (pair if len(pair) == 2 else [None])]
    found = numbers(texts, len(texts))
    if not found:
        return None
    if len(names) != 4:
        return envelope(list(zip(found[::2], found[1::2])))
    a, b, c, d = found
    if kind == "ellipse":
        return a - c, b - d, a + c, b + d
    return (a, b, a + c, b + d) if kind == "mask" else (a, b, c, d)


def _details(shape: Node) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {"occluded": True} if shape.attributes.get("occluded") == "1" else {}
    for node in shape.all("attribute"):
        if name := clean_text(node.attributes.get("name", ""), 60):
            found[name] = plain_value(node.text)
    return found


def _shown(shape: Node) -> str:
    places = {key: text[:40] for key, text in shape.attributes.items() if key not in ("label", "source", "z_order")}
    return clean_text(", ".join(f"{key}={text}" for key, text in places.items()), 80)
