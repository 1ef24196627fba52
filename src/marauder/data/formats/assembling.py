"""From what a format says to a data set: classes as numbers, keys, boxes in pixels, and one record a picture.

A picture that two entries mean is one record with the boxes of both. What cannot be used is left out and told.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from marauder.core.errors import UserError
from marauder.core.mistakes import near_names
from marauder.data.boxes import clean_boxes
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import DOUBTFUL_LABELS, SPLIT_NAMES, Box, Entry, Finding, Findings, Label, split_in
from marauder.data.formats.picture_lookup import PictureLookup
from marauder.data.formats.source import Source
from marauder.data.formats.text import rotated
from marauder.data.formats.unread import tell_unread
from marauder.data.groups import group_of
from marauder.data.picture_files import Header, PictureError, read_headers
from marauder.data.records import Dataset, Problem, Record, box_columns, joined

# Pictures whose headers are read between two looks at the clock.
HEADER_BLOCK = 4096
SMALLEST_STATED = 8
"""Pixels of a side below which a stated size is none to scale by: some tools write 1x1 for every picture."""
LOSING = frozenset({*DOUBTFUL_LABELS, "label-without-picture", "box-degenerate", "box-out-of-bounds"})
"""Kinds for which labels are left out."""


def assemble(layout: Reader, source: Source, options: ReadOptions, findings: Findings, parsed: Parsed) -> Dataset:
    """The records that the entries make. Raises ``UserError`` where there is no entry."""
    if not parsed.entries:
        first = "".join(f"\n  {_problem(finding)}" for finding in findings.list[:5])
        raise UserError(f"{source.path}: no picture can be read from this data set (format {layout.name}){first}")
    # Pictures come first: keys are made from where they lie, and boxes are scaled by their sizes.
    lookup = PictureLookup(source, options, findings)
    lookup.place(parsed.entries)
    if parsed.file_a_picture and source.path.is_dir():
        _add_without_label(parsed, lookup, options, findings)
    names = _index_classes(parsed, options, source, findings)
    _give_keys(parsed.entries, source)
    entries, records = _records(parsed, names, options, findings)
    records = _join(entries, records, findings)
    tell_unread(layout, source, options, parsed, findings)
    problems = [_problem(finding) for finding in _summed_up(findings.list)]
    # Boxes of pictures that cannot be read are no lost labels.
    read = {entry.key for entry in entries}
    unread = any(entry.labels and entry.key not in read for entry in parsed.entries)
    doubts = (problem for problem in problems if problem.kind in LOSING and (problem.key in read or not unread))
    lost = next(doubts, None)
    if lost is not None and not any(len(record.boxes) for record in records):
        message = f"not one label of this data set can be used; first: {lost}"
        problems.insert(0, Problem(str(source.path), None, "labels-lost", message))
    return Dataset(names, tuple(records), str(source.path), tuple(problems))


def _add_without_label(parsed: Parsed, lookup: PictureLookup, options: ReadOptions, findings: Findings) -> None:
    """An entry for every picture that has no label file of its own."""
    for name in lookup.without_label(parsed.entries, parsed.used):
        findings.tick()
        picture = lookup.root / name
        split = parsed.listed.get(name) or split_in(name.split("/")[:-1])
        entry = Entry((), picture, picture=picture, labelled=options.missing_label == "empty", split=split)
        message = f"no label file (read as {options.missing_label})"
        findings.add("picture-without-label", message, picture, None, entry)
        parsed.entries.append(entry)


def _index_classes(parsed: Parsed, options: ReadOptions, source: Source, findings: Findings) -> tuple[str, ...]:
    """The class names; every label's ``class_name`` becomes a number, one past the last name where it has none."""
    labels = [label for entry in parsed.entries for label in entry.labels]
    if parsed.numbered and isinstance(parsed.names, dict):
        # Names that a user gives begin at the first number in use: COCO without categories begins at 1.
        stated = dict(enumerate(options.names, parsed.first or 0)) if options.names is not None else parsed.names
        if stated:
            names = tuple(stated.get(index, f"class_{index}") for index in range(max(stated) + 1))
        else:
            names = _numbered_names([int(label.class_name) for label in labels], source, findings)
    else:
        known: list[str] = list(
            dict.fromkeys(parsed.names.values() if isinstance(parsed.names, dict) else parsed.names)
        )
        known = known if options.names is None else list(options.names)
        if options.names is None:
            used = {label.class_name for label in labels if isinstance(label.class_name, str)}
            known += sorted(used - set(known))
        names = tuple(known)
        # Reversed, so that a name given twice means its first number.
        index_of = {name: index for index, name in reversed(list(enumerate(names)))}
        for label in labels:
            # A class that the names leave out is out of range, so that it is reported like any other.
            named = label.class_name if isinstance(label.class_name, str) else f"number {label.class_name}"
            label.place, label.class_name = named, index_of.get(named, len(names))
    for name, count in Counter(names).items():
        if count > 1:
            message = f"{count} classes are called {name!r}, and nothing distinguishes them; give each a different name"
            findings.add("class-name-twice", message, source.path)
    return names


def _numbered_names(indices: Sequence[int], source: Source, findings: Findings) -> tuple[str, ...]:
    """Names made up for numbers alone; a number far beyond the others is a mistake and gets none."""
    used = sorted({index for index in indices if index >= 0})
    # One label with a class of 100,000,000 would otherwise make as many names.
    while used and used[-1] >= max(1000, 10 * len(used)):
        used.pop()
    names = tuple(f"class_{index}" for index in range(used[-1] + 1 if used else 0))
    if names:
        message = f"no class names; called {names[0]} to {names[-1]} (give names, or write a classes.txt)"
        findings.add("names-missing", message, source.path)
    return names


def _give_keys(entries: Sequence[Entry], source: Source) -> None:
    """Keys that are unique, but the same for entries that mean the same picture in the same split. Without one of its
    own, a picture's key is its path below the root without ``images`` folders and suffix."""
    keys: dict[tuple[str, str | None], str] = {}
    taken: set[str] = set()
    for entry in entries:
        picture = _place(entry)
        place = (os.path.normpath(picture), entry.split)
        if place not in keys:
            inside = picture.relative_to(source.root) if picture.is_relative_to(source.root) else Path(picture.name)
            # Folders that every layout puts pictures into say nothing of a picture.
            parts = [part for part in inside.parent.parts if part.lower() not in ("images", "jpegimages")]
            own = entry.key or "/".join((*parts, inside.stem))
            spellings = [own, *([f"{entry.split}/{own}"] if entry.key and entry.split else [])]
            spellings += [] if entry.key else ["/".join((*parts, inside.name))]
            key = next((one for one in spellings if one not in taken), "")
            number = 2
            while not key or key in taken:
                key, number = f"{spellings[-1 if entry.key else 0]}-{number}", number + 1
            taken.add(key)
            keys[place] = key
        entry.key = keys[place]


def _place(entry: Entry) -> Path:
    assert entry.picture is not None  # every entry was placed before
    return entry.picture


def _records(
    parsed: Parsed, names: tuple[str, ...], options: ReadOptions, findings: Findings
) -> tuple[list[Entry], list[Record]]:
    """Entries whose pictures can be used, and their records: headers read, boxes scaled and mended."""
    kept, records = [], []
    for start in range(0, len(parsed.entries), HEADER_BLOCK):
        if findings.clock is not None:
            findings.clock.check()
        block = parsed.entries[start : start + HEADER_BLOCK]
        for entry, header in zip(block, read_headers([_place(entry) for entry in block])):
            size = _size(entry, header, findings, parsed.pictures_required)
            if size is not None:
                kept.append(entry)
                records.append(_record(entry, size, names, options, findings))
    return kept, records


def _size(
    entry: Entry, header: Header | PictureError, findings: Findings, pictures_required: bool
) -> tuple[int, int] | None:
    """Width and height of the picture, with the boxes brought to it; ``None`` for one that cannot be used."""
    picture, stated = _place(entry), (round(entry.width), round(entry.height))
    if isinstance(header, PictureError):
        if header.kind != "missing":
            findings.add(f"picture-{header.kind}", header.detail, picture, None, entry)
        elif pictures_required or min(stated) <= 0:
            name, where = entry.sought or (picture, "")
            message = f"{name}: {header.detail}" + (f"; {where}" if where else "")
            findings.add("picture-missing", message, entry.file, entry.line, entry)
        else:
            entry.attributes["picture_missing"] = True
            return stated
        return None
    actual = (header.width, header.height)
    if header.orientation != 1:
        message = f"stored rotated (EXIF orientation {header.orientation}); tools that ignore EXIF misplace its boxes"
        findings.add("picture-rotated", message, picture, None, entry)
    if min(stated) <= 0 or stated == actual:
        return actual
    note = f"the labels say {stated[0]}x{stated[1]} pixels, the picture has {actual[0]}x{actual[1]}"
    kind = "size-scaled"
    # Many tools ignore EXIF: they measure, and draw boxes on, the pixels as stored.
    if header.orientation >= 5 and stated == actual[::-1]:
        kind, note = "boxes-turned", f"{note}: those of the pixels as stored; boxes turned with the picture"
    # Rounding a side to whole pixels moves the cross products apart by no more than the longest side.
    elif min(stated) < SMALLEST_STATED or abs(stated[0] * actual[1] - stated[1] * actual[0]) > max(*stated, *actual):
        kind, note = "size-mismatch", f"{note}, of another shape: is it another picture?"
        entry.labels = []
    else:
        note += "; boxes scaled to the picture"
    # Fractions hold at any scale; only another shape, or a turn, is of concern to them.
    if not entry.relative or kind != "size-scaled":
        findings.add(kind, note, entry.file, entry.line, entry)
        across, down = actual[0] / stated[0], actual[1] / stated[1]
        for label in entry.labels:
            if kind == "boxes-turned":
                _turn_upright(label, header.orientation, stated, entry.relative)
            else:
                label.box = _scaled(label.box, across, down)
    return None if kind == "size-mismatch" else actual


def _scaled(box: Box, across: float, down: float) -> Box:
    x0, y0, x1, y1 = box
    return x0 * across, y0 * down, x1 * across, y1 * down


def _turn_upright(label: Label, orientation: int, stored: tuple[int, int], relative: bool) -> None:
    """Bring a box of the stored pixels, or of fractions of them, to the picture as displayed."""
    width, height = stored
    # In pixels: a label's own turn is of them, and so is the place of the corner that it turns about.
    box = _scaled(label.box, width, height) if relative else label.box
    if label.turn % 360:
        box, label.turn = rotated(box, label.turn, label.about_corner), 0.0
    box = _upright(box, orientation, stored)
    label.box = _scaled(box, 1 / height, 1 / width) if relative else box


def _upright(box: Box, orientation: int, stored: tuple[int, int]) -> Box:
    """A box of the stored pixels in the picture as displayed. EXIF 2.32, tag 274: 5 to 8 swap the sides."""
    width, height = stored
    x0, y0, x1, y1 = box
    if orientation in (6, 7):
        y0, y1 = height - y1, height - y0
    if orientation in (7, 8):
        x0, x1 = width - x1, width - x0
    return y0, x0, y1, x1


def _record(
    entry: Entry, size: tuple[int, int], names: tuple[str, ...], options: ReadOptions, findings: Findings
) -> Record:
    width, height = size
    boxes = np.array([label.box for label in entry.labels], np.float64).reshape(-1, 4)
    if entry.relative:
        boxes = boxes * np.array([width, height, width, height], np.float64)
    for index, label in enumerate(entry.labels):
        # In pixels, not in fractions: there the two axes have different units, and a turn would skew the box.
        if label.turn % 360:
            x0, y0, x1, y1 = boxes[index].tolist()
            boxes[index] = rotated((x0, y0, x1, y1), label.turn, label.about_corner)
    classes = np.array([label.class_name for label in entry.labels], np.int64)
    clean = clean_boxes(boxes, classes, width, height, len(names))
    for finding in clean.findings:
        label, message = entry.labels[finding.index], finding.message
        if finding.kind == "class-unknown" and label.place:
            message = f"class {label.place}: none of the names{_meant(label.place, names)}"
        # A file that holds the labels of many pictures says too little without the picture.
        message = message if label.line is not None else f"{entry.key}: {message}"
        findings.add(finding.kind, message, entry.file, label.line, entry, finding.count)
    return Record(
        key=entry.key,
        picture=_place(entry),
        width=width,
        height=height,
        boxes=clean.boxes,
        classes=classes[clean.kept],
        ignored=np.array([label.ignored for label in entry.labels], bool)[clean.kept],
        group=entry.group or group_for_key(entry.key, options.group_pattern),
        split=entry.split,
        attributes=entry.attributes,
        labelled=entry.labelled,
        box_attributes=box_columns([entry.labels[index].details for index in clean.kept.tolist()]),
    )


@lru_cache
def _meant(name: str, names: tuple[str, ...]) -> str:
    """What a class that is none of ``names`` perhaps means, to put behind a message."""
    near = near_names(name, names, 1)
    return f"; did you mean {near[0]}?" if near else ""


def group_for_key(key: str, pattern: str | None) -> str:
    """The group of a picture by its key: its clip by its name, with the folder for names that are a frame number alone;
    a picture of no clip is a group of its own, since cameras number anew in every folder."""
    path = PurePosixPath(key)
    folders = [part for part in path.parts[:-1] if part.lower() not in SPLIT_NAMES]
    group = group_of(path.name, pattern, "/".join(folders))
    return key if group == path.name else group


def _join(entries: Sequence[Entry], records: Sequence[Record], findings: Findings) -> list[Record]:
    """One record for each picture and split: halves of a picture's labels would each teach that the rest is water."""
    by_picture: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        # By the file and not by the key: a picture in two splits has a key in each.
        by_picture.setdefault(os.path.normpath(record.picture), []).append(position)
    doubts = {finding.entry.key: finding for finding in findings.list if finding.entry and finding.kind in LOSING}
    united: dict[int, Record] = {}
    for positions in by_picture.values():
        first, members = entries[positions[0]], [records[position] for position in positions]
        if len(positions) > 1:
            places = dict.fromkeys(f"{entries[p].file.name}:{entries[p].line or ''}".rstrip(":") for p in positions)
            words = f"{len(positions)} entries ({', '.join(places)}); their boxes are joined"
            findings.add("picture-twice", f"{first.picture} has {words}", first.file, first.line, first)
        doubt = next((doubts[member.key] for member in members if member.key in doubts), None)
        for split in dict.fromkeys(member.split for member in members):
            own = next(position for position in positions if records[position].split == split)
            united[own] = joined(records[own], [records[position] for position in positions if position != own])
            if doubt is not None and entries[own].key not in doubts:
                # What is unsure of a picture is so in every split that has it.
                findings.add(doubt.kind, doubt.message, doubt.file, doubt.line, entries[own])
    return [united[position] for position in sorted(united)]


def _summed_up(found: Sequence[Finding]) -> list[Finding]:
    """Findings of which one line says all: that shapes became the boxes around them."""
    kept = [finding for finding in found if finding.kind != "shape-converted"]
    shapes = [finding for finding in found if finding.kind == "shape-converted"]
    if shapes:
        message = f"labels that are not upright boxes: the box around each is used; first: {shapes[0].message}"
        kept.append(replace(shapes[0], message=message, entry=None, count=sum(finding.count for finding in shapes)))
    return kept


def _problem(finding: Finding) -> Problem:
    entry = finding.entry
    place = (str(finding.file), finding.line, finding.kind, finding.message)
    return Problem(*place, entry.key if entry else "", finding.count)
