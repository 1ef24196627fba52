"""Pascal VOC: one XML file a picture, anywhere, with ``ImageSets/Main`` lists for the splits where there are any.

Coordinates are pixels counted from 1 (VOC development kit), so that the left and top edges move by one; objects
marked ``difficult`` become ignored boxes, ``occluded`` and ``truncated`` attributes of their box. roLabelImg's turned
boxes count from 0.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

from marauder.core.errors import UserError
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import SPLIT_NAMES, Entry, Findings, Label, split_in
from marauder.data.formats.shapes import Refused, Shape, centred, check_kind, outline, usable
from marauder.data.formats.source import NameIndex, Source, fold, stem
from marauder.data.formats.text import Node, clean_text, lines_of, number, parse_xml, plain_value, read_text
from marauder.data.records import Attribute

SHAPES: dict[str, tuple[str, ...]] = {
    "bndbox": ("xmin", "ymin", "xmax", "ymax"),
    "robndbox": ("cx", "cy", "w", "h", "angle"),
    "polygon": (),
    "point": (),
}
"""The elements that say where an object is, the best first, and their numbers; a polygon has x1, y1, x2 ..."""
FLAGS: dict[str, Attribute] = {"0": False, "1": True, "false": False, "true": True}
PAIR = re.compile(r"\s( 1| 0|-1)$")
"""What follows a name in the development kit's lists of one class."""
SPLIT_LIST = re.compile(r"(?:(.*)/)?imagesets/(?:main/)?([^/]+)\.txt$", re.IGNORECASE)
SHADOWED_LIST = re.compile(r"(^|/)imagesets/([^/]+/)*(.*_)?(trainval|train|val|test)\.txt$", re.IGNORECASE)
"""Lists that say again, of one class or task, what the splits' own lists say."""


class VocReader(Reader):
    """Pascal VOC folders, and XML files beside their pictures."""

    name = "voc"
    title = "Pascal VOC XML"

    def files(self, source: Source) -> list[Path]:
        marks = {path: source.marks(path).keys for path in source.with_suffix(".xml")}
        return [path for path, keys in marks.items() if "annotation" in keys and "annotations" not in keys]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        known = set(self.files(source))
        # A file that ends before its first element is over would be one of these.
        cut = [p for p in source.with_suffix(".xml") if all("annotation".startswith(k) for k in source.marks(p).keys)]
        files = sorted(known.union(cut)) if known else source.with_suffix(".xml")
        if not files:
            raise UserError(f"{source.path}: no XML annotations in it")
        entries = [_read_file(path, source, findings) for path in files]
        parsed = Parsed(entries, used=set(files), file_a_picture=True)
        if source.path.is_dir():
            pictures = (source if options.pictures is None else Source(options.pictures, clock=source.clock)).pictures
            _give_splits(parsed, source, pictures, findings)
        return parsed


def _read_file(path: Path, source: Source, findings: Findings) -> Entry:
    findings.tick()
    parts = Path(source.relative(path)).parts[:-1]
    own = "/".join((*(part for part in parts if part.lower() != "annotations"), path.stem))
    entry = Entry((own,), path, labelled=False)
    entry.split = split_in(parts)
    before = len(findings.list)

    def take(node: Node, around: Node | None) -> None:
        if entry.labelled:
            message = "holds more than one annotation; only the first is read: write one file a picture"
            findings.add("label-syntax", message, path, node.line, entry)
            return
        entry.names += tuple(filter(None, (node.value("filename"), node.value("path"))))
        entry.width, entry.height = (max(0.0, number(node.value("size", s)) or 0.0) for s in ("width", "height"))
        entry.labelled = not node.broken
        if node.broken:
            findings.add("label-syntax", node.broken[1], path, node.broken[0], entry)
        for element in node.all("object") if entry.labelled else ():
            Shape(findings, entry, "object", element.line).add(_label, element)
        for child in node.children if entry.labelled else ():
            boxes = child.all("bndbox")[1:] if child.tag == "object" else _boxes_in(child)
            if boxes:
                message = f"{len(boxes)} bndbox in an unexpected place: each belongs in its own <object>"
                findings.add("label-syntax", message, path, boxes[0].line, entry)

    parse_xml(path, findings, ("annotation",), take)
    told = findings.list[before:]
    # Only where no earlier finding explains why there is none.
    if not entry.labelled and all(finding.kind == "text-encoding" for finding in told):
        findings.add("label-syntax", "no annotation element in it; export it again", path, None, entry)
    # parse_xml knows no entry; what it reported puts this picture in doubt.
    for finding in told:
        finding.entry = entry
    return entry


def _boxes_in(node: Node) -> list[Node]:
    return [inner for inner in (node, *node.below()) if inner.tag.lower() == "bndbox"]


def _label(told: Shape, element: Node) -> Label:
    name = told.class_of(clean_text(element.value("name")))
    told = replace(told, place=f"object {name!r}")
    shape = next((node for tag in SHAPES for node in element.all(tag)), None)
    if shape is None:
        raise Refused("shape-unknown", "no bndbox; draw a box")
    kind = shape.tag
    check_kind(kind, SHAPES)
    given = [node for holder in element.all("attributes") for node in holder.all("attribute")]
    details = {clean_text(node.value("name"), 60): plain_value(node.value("value")) for node in given}
    details.pop("", None)
    (turn,) = usable("rotation", [details.pop("rotation", 0) or 0], 1)  # degrees, as CVAT writes them
    if kind == "robndbox":
        x, y, width, height, angle = usable(kind, [shape.value(side) for side in SHAPES[kind]], 5)
        box, turn = centred(kind, (x, y, width / 2, height / 2)), math.degrees(angle)
    else:
        if kind == "polygon":
            count = (len(shape.children) + 1) // 2
            x0, y0, x1, y1 = outline(kind, [shape.value(f"{axis}{n + 1}") for n in range(count) for axis in "xy"])
        else:
            x0, y0, x1, y1 = usable(kind, [shape.value(side) for side in SHAPES[kind]], 4)
        # The left and top edges move, whichever corner comes first.
        box = (x0 - (x0 <= x1), y0 - (y0 <= y1), x1 - (x0 > x1), y1 - (y0 > y1))
    if turn % 360 or kind == "polygon":
        told.converted("polygon" if kind == "polygon" else "box", turn)
    stated = {flag: FLAGS.get(element.value(flag).lower()) for flag in ("difficult", "occluded", "truncated")}
    ignored = stated.pop("difficult") is True
    details |= {flag: value for flag, value in stated.items() if value is not None}
    return Label(box, name, element.line, name, ignored, details, turn)


def _give_splits(parsed: Parsed, source: Source, pictures: NameIndex, findings: Findings) -> None:
    """The splits of ``ImageSets/Main``; what a list names and nothing bears is told."""
    entries: dict[str, list[Entry]] = {}
    for entry in parsed.entries:
        entries.setdefault(entry.names[0], []).append(entry)
    index = NameIndex(entries)
    listed: dict[str, str] = {}
    for file in source.files:
        path, found = source.root / file, SPLIT_LIST.match(file)
        split = SPLIT_NAMES.get(found[2].lower()) if found else None
        if split or SHADOWED_LIST.search(file):
            parsed.used.add(path)
        if not found or not split:
            continue
        for line, text in enumerate(lines_of(read_text(path, findings) or ""), 1):
            text = PAIR.sub("", text.strip())
            stated = f"{found[1]}/{text}" if found[1] else text
            match = index.find(stated, ("",)) if text else None
            ends = "/" + fold(stem(stated.replace("\\", "/")))
            kind = message = ""
            if match and match.others:
                names = " or ".join((match.name, *match.others)[:3])
                kind, message = "split-missing", f"{clean_text(text)!r} may be {names}; write its folder"
            elif match and (match.whole or ends.endswith(f"/{fold(match.name)}")):
                if listed.setdefault(match.name, split) != split:
                    kind = "split-twice"
                    message = f"{match.name} is also in the list of {listed[match.name]}; that one counts"
                for entry in entries[match.name]:
                    entry.split = listed[match.name]
            elif text and (picture := pictures.find(text)) and picture.whole:
                parsed.listed.setdefault(picture.name, split)
            elif text:
                kind = "split-missing"
                message = f"{clean_text(text)!r}: no XML and no picture of this name; correct the list"
            if kind:
                findings.add(kind, message, path, line)
