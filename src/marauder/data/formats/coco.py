"""COCO JSON: one file, or one a split; pictures beside it, in ``images/`` or a split's folder.

Layout and meaning: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014 (cocodataset.org, "Data format").
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from marauder.core.plain import PlainMapping
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Box, Entry, Findings, Label, split_in
from marauder.data.formats.source import Source
from marauder.data.formats.text import attribute, clean_text, envelope, number, numbers, pairs, parse_json, whole
from marauder.data.records import Attribute

PRELABEL_MARK = "prelabels"
"""A file whose name begins so is what we sent, and never an answer: untouched it would say what the model said."""
# Rounded fractions may end a little above 1.
LARGEST_FRACTION = 1.001
UNIDENTIFIED = "unidentified"
OWN_NAME = re.compile(r"[^:?%\\]+")
"""A ``file_name`` that is the picture's name in this data set, and no path or address of another machine."""


class CocoReader(Reader):
    """COCO detection annotations; crowds become ignored boxes."""

    name = "coco"
    title = "COCO JSON"
    unboxed_pictures_are_labelled = True
    category_required = True
    pictures_required = True

    def files(self, source: Source) -> list[Path]:
        found = [path for path in source.with_suffix(".json") if is_coco(source, path)]
        instances = [path for path in found if path.name.startswith("instances_")]
        # COCO's own folder holds captions and keypoints of the same pictures beside the instances.
        return [path for path in found if path in instances or path.parent not in {one.parent for one in instances}]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        files = self.files(source) or source.with_suffix(".json")
        answers = [path for path in files if not (source.delivery and path.name.lower().startswith(PRELABEL_MARK))]
        if files and not answers:
            message = "is the file that was sent; save the answers as annotations.json, and send that"
            findings.add("not-answered", message, files[0])
        elif not files:
            findings.add("label-syntax", "no COCO file (*.json) here; export it as COCO, or name it", source.path)
        entries: list[Entry] = []
        names: list[str] = []
        stated: set[str] = set()
        for path in answers:
            # A single file at the top is the whole data set, even in a folder called train.
            split = split_of_file(path) if len(answers) > 1 or path.parent != source.path else None
            stated |= _File(self, path, split, findings, entries, names).read()
        used = {label.class_name for entry in entries for label in entry.labels}
        if used and not any(isinstance(name, str) for name in used) and "categories" not in stated:
            # COCO itself numbers its categories from 1.
            parsed = Parsed(entries, {}, True, set(answers), first=0 if 0 in used else 1)
        else:
            parsed = Parsed(entries, names, used=set(answers))
        parsed.pictures_required = self.pictures_required
        return parsed

    def describe(self, row: PlainMapping, entry: Entry) -> None:
        """Take attributes from an image's entry."""
        if isinstance(row.get("coco_url"), str) and row["coco_url"]:
            entry.attributes["url"] = clean_text(row["coco_url"], 1000)
        if isinstance(row.get("date_captured"), str) and row["date_captured"]:
            entry.attributes["date"] = clean_text(row["date_captured"])


class _File:
    """One file being read. ``entries``: by image id; ``None`` for an id that means two pictures."""

    def __init__(
        self,
        layout: CocoReader,
        path: Path,
        split: str | None,
        findings: Findings,
        entries: list[Entry],
        names: list[str],
    ) -> None:
        self.layout, self.path, self.split, self.findings = layout, path, split, findings
        self.all_entries, self.names = entries, names
        self.entries: dict[str, Entry | None] = {}
        self.categories: dict[int, str] = {}

    def read(self) -> set[str]:
        """Take the file in; returns which of its lists hold anything."""
        content = parse_json(self.path, self.findings)
        if content is None:
            return set()
        if not isinstance(content, dict) or not isinstance(content.get("images"), list):
            self._note("label-syntax", "not COCO: there is no list 'images'; export it as COCO")
            return set()
        annotations = content.get("annotations")
        searched = isinstance(annotations, list)
        if not searched:
            self._note("label-syntax", "no list 'annotations': nothing says that the pictures were checked")
        rows: list[Any] = annotations if isinstance(annotations, list) else []
        self._read_categories(content.get("categories"))
        entries: list[Entry] = []
        for position, row in enumerate(content["images"], 1):
            self.findings.tick()
            self._read_image(row, position, entries)
        for position, row in enumerate(rows, 1):
            self.findings.tick()
            self._read_annotation(row, position)
        boxes = [label.box for entry in entries for label in entry.labels]
        if boxes and all(max(map(abs, box)) <= LARGEST_FRACTION for box in boxes):
            message = "all boxes are between 0 and 1: read as fractions of the picture; COCO requires pixels"
            self._note("units-converted", message)
            for entry in entries:
                entry.relative = True
        for entry in entries:
            entry.labelled = entry.labelled and (
                bool(entry.labels) or (searched and self.layout.unboxed_pictures_are_labelled)
            )
        self.all_entries.extend(entries)
        return {key for key in content if content[key]}

    def _note(self, kind: str, message: str, entry: Entry | None = None) -> None:
        self.findings.add(kind, message, self.path, None, entry)

    def _read_categories(self, stated: object) -> None:
        unclear: dict[int, list[str]] = {}
        for row in stated if isinstance(stated, list) else []:
            identity = whole(row.get("id")) if isinstance(row, dict) else None
            name = clean_text(row["name"]) if isinstance(row, dict) and isinstance(row.get("name"), (str, int)) else ""
            if identity is None or not name:
                self._note("label-syntax", f"category without an integer id and a name: {clean_text(row)}")
            elif self.categories.setdefault(identity, name) != name:
                unclear.setdefault(identity, [self.categories[identity]]).append(name)
        for identity, names in unclear.items():
            self._note("id-twice", f"category {identity} is used twice, with different names: {', '.join(names[:4])}")
            del self.categories[identity]
        ids = {name: identity for identity, name in reversed(self.categories.items())}
        for identity, name in self.categories.items():
            if ids[name] != identity:
                message = f"categories {ids[name]} and {identity} are both called {name!r}, and read as one class"
                self._note("class-name-twice", message)
        # Files of one folder may number their categories differently; the name is what counts.
        for identity in sorted(self.categories):
            self.names.append(self.categories[identity])

    def _read_image(self, row: object, position: int, entries: list[Entry]) -> None:
        identity = _identity(row.get("id")) if isinstance(row, dict) else None
        if not isinstance(row, dict) or identity is None:
            self._note("label-syntax", f"images, entry {position}: no id that is a number or text ({clean_text(row)})")
            return
        extra = row.get("extra")
        stated = (row.get("file_name"), extra.get("name") if isinstance(extra, dict) else None, row.get("path"))
        spellings = tuple(text for text in stated if isinstance(text, str) and text)
        if not spellings:
            self._note("label-syntax", f"image {identity} without a file_name")
            return
        entry = Entry(spellings, self.path, split=self.split)
        entry.width, entry.height = (max(0.0, number(row.get(side)) or 0.0) for side in ("width", "height"))
        known = self.entries.get(identity)
        if identity in self.entries:
            if known is not None and known.names == entry.names:
                return
            message = f"image id {identity} is used twice, and it is unclear to which picture its boxes belong"
            for one in (known, entry):
                if one is not None:
                    one.labels, one.labelled = [], False
                    self._note("id-twice", f"{one.names[0]}: {message}", one)
            self.entries[identity] = None
            entries.append(entry)
            return
        self.entries[identity] = entry
        if OWN_NAME.fullmatch(spellings[0]) and ".." not in spellings[0] and not spellings[0].startswith("/"):
            entry.key = re.sub(r"\.[A-Za-z]{3,4}$", "", spellings[0])
        self.layout.describe(row, entry)
        entries.append(entry)

    def _read_annotation(self, row: object, position: int) -> None:
        if not isinstance(row, dict):
            self._note("label-syntax", f"annotations, entry {position}: no mapping ({clean_text(row)})")
            return
        place = f"annotation {clean_text(row.get('id', f'number {position}'), 40)}"
        identity = _identity(row.get("image_id"))
        if identity is None or identity not in self.entries:
            shown = clean_text(row.get("image_id"), 40)
            self._note("label-without-picture", f"{place}: no image of id {shown}; send the picture's entry too")
            return
        entry = self.entries[identity]
        box = self._box(row, place, entry) if entry is not None else None
        if entry is None or box is None:
            return  # reported when its picture, or its box, was read
        category, ignored = whole(row.get("category_id")), row.get("iscrowd") in (1, True, "1")
        if category is None and (row.get("category_id") is not None or self.layout.category_required):
            stated = row.get("category_id")
            words = "no category_id" if stated is None else f"category_id {clean_text(stated, 40)} is not a number"
            self._note("class-missing", f"{place}: {words}; name its class", entry)
            return
        if category is None:
            self._note("category-missing", f"{place}: no category; kept as an ignored box", entry)
            ignored = True
        details: dict[str, Attribute] = {}
        stated = row.get("attributes")
        for key, value in stated.items() if isinstance(stated, dict) else []:
            details[clean_text(key, 60)] = attribute(value)
        name = UNIDENTIFIED if category is None else self.categories.get(category, category)
        entry.labels.append(Label(box, name, None, place, ignored, details))

    def _box(self, row: PlainMapping, place: str, entry: Entry | None) -> Box | None:
        values = numbers(row.get("bbox"), 4)
        outline = row.get("segmentation")
        if values is not None and not any(values) and isinstance(outline, list) and outline:
            values = None  # tools that know outlines only write zeros
        if values is not None and min(values[2:]) >= 0:
            return values[0], values[1], values[0] + values[2], values[1] + values[3]
        shown = clean_text(row.get("bbox"), 80)
        if values is not None:
            message = f"{place}: bbox {shown} has a negative width or height, so its place is unclear; draw it again"
            self._note("number-invalid", message, entry)
            return None
        if row.get("bbox") in (None, [], [0, 0, 0, 0]) and isinstance(outline, list) and outline:
            parts = [pairs(part) if isinstance(part, list) else None for part in outline]
            if None not in parts:
                message = f"{place}: no bbox; the box around its segmentation is taken"
                self._note("shape-converted", message, entry)
                return envelope([point for part in parts for point in part or []])
        if row.get("bbox") in (None, []) and row.get("keypoints"):
            self._note("shape-without-extent", f"{place}: a point has no extent; draw a box", entry)
            return None
        self._note("number-invalid", f"{place}: bbox {shown} is not four usable numbers; draw it again", entry)
        return None


def is_coco(source: Source, path: Path) -> bool:
    """Whether a file looks like COCO: an object with ``images`` and one of what belongs to them."""
    marks = source.marks(path)
    known = {"annotations", "categories", "file_name", "coco_url"} & marks.keys
    # In a large file the key "images" may stand in neither end.
    sure = {"images", "coco_url", "image_id"} & marks.keys
    return marks.start.startswith("{") and bool(known) and bool(sure)


def split_of_file(file: Path) -> str | None:
    """The split a file's name (instances_val2017.json) or its folder's name says."""
    words = [*re.findall(r"[a-z]+", file.stem.lower()), file.parent.name.lower()]
    return split_in(words)


def _identity(value: object) -> str | None:
    """An id as text: tools write 7, 7.0 and "7" for the same picture; ``None`` for what is not a number or text."""
    found = whole(value)
    if found is not None:
        return str(found)
    return clean_text(value) or None if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
