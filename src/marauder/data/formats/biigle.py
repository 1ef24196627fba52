"""BIIGLE: CSV reports of annotations, a row a label of an annotation, read by the names of their columns.

Source: BIIGLE's manual ("Reports schema"): rectangles are four corners that may be turned, circles x, y and radius,
ellipses the ends of both axes; labels of a tree are written ``Animalia > Annelida``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Entry, Findings, Label
from marauder.data.formats.shapes import Shape, centred, check_kind, outline, usable
from marauder.data.formats.source import Source
from marauder.data.formats.text import clean_text, csv_rows, first_rows, number, pairs
from marauder.data.records import Attribute

PICTURES = ("filename", "image_filename")
VIDEOS = ("video_filename", "frames")
LEVEL = " > "
LEAST_POINTS = {"rectangle": 4, "circle": 1, "ellipse": 4, "polygon": 3}
NEARLY = 0.1
"""Pixels by which the sides of an upright rectangle may lean: its corners are written rounded."""


class BiigleReader(Reader):
    """BIIGLE's reports."""

    name = "biigle"
    title = "BIIGLE CSV reports"

    def files(self, source: Source) -> list[Path]:
        return [path for path in source.with_suffix(".csv") if _columns(_header(source, path))]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        reader, files = _Reader(findings), self.files(source)
        for path in files:
            columns, videos = {}, []
            for line, row in csv_rows(path, findings):
                if found := _columns(row):
                    columns = found
                    continue
                if len(row) > max(columns.values()) + 1:
                    message = "rows run into one another up to here (is a quotation mark open?): export it again"
                    findings.add("label-syntax", message, path, line)
                if any(name in columns for name in VIDEOS):
                    videos.append(line)
                else:
                    cells = {name: row[at] for name, at in columns.items() if at < len(row)}
                    reader.take(cells, path, line)
            if videos:
                message = f"{len(videos)} annotations are of videos, not of pictures, and are not read: make pictures "
                message += "of the frames, and label them in a volume of images"
                findings.add("label-without-picture", message, path, videos[0])
        reader.tell_volumes()
        entries = list(reader.entries.values())
        _name_branches(entries, findings)
        return Parsed(entries, used=set(files))


def _header(source: Source, path: Path) -> list[str]:
    return next(iter(first_rows(source.marks(path).start)[0]), [])


def _columns(row: Sequence[str]) -> dict[str, int]:
    """Where each column is, if ``row`` is a header; also within a file, where reports were put together."""
    columns = {cell.strip().lower().replace(" ", "_"): at for at, cell in enumerate(row)}
    complete = {"shape_name", "points"} <= columns.keys() and not columns.keys().isdisjoint(PICTURES + VIDEOS)
    return columns if complete else {}


class _Reader:
    """Collects rows. Reports come by label tree or by user as well: one annotation is then in several files."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.entries: dict[tuple[str, str], Entry] = {}
        self.volumes: dict[str, dict[str, Entry]] = {}
        self.known: dict[tuple[Entry, str, str], tuple[str, str]] = {}

    def take(self, cells: Mapping[str, str], path: Path, line: int) -> None:
        identity = cells.get("annotation_id") or f"of line {line} of {path.name}"
        place = f"annotation {clean_text(identity, 40)}"
        name = next((cells[column] for column in PICTURES if cells.get(column)), "")
        if not name:
            message = f"{place}: no file name of its picture; export it again"
            self.findings.add("label-without-picture", message, path, line)
            return
        # Several volumes may use one file name; without ids, all rows of a report count as one volume.
        key = name, cells.get("image_id") or str(path)
        if (entry := self.entries.get(key)) is None:
            stated = _json(cells.get("attributes", ""))
            sizes = [stated.get(side) if isinstance(stated, dict) else 0 for side in ("width", "height")]
            width, height = (number(side) or 0.0 for side in sizes)
            entry = self.entries[key] = Entry((name,), path, line, width=width, height=height)
            if cells.get("image_id"):
                self.volumes.setdefault(name, {})[key[1]] = entry
        branch = clean_text(cells.get("label_hierarchy", ""), 1000)
        label = clean_text(cells.get("label_name", "")) or clean_text(branch.rpartition(LEVEL)[2])
        # Reports put together may number their annotations alike: only one in the same place is the same.
        points = cells.get("points", "")
        told = Shape(self.findings, entry, place, line, path)
        if earlier := self.known.get((entry, identity, points)):
            if earlier != (label, branch):
                told.several([earlier[1] or earlier[0], branch or label])
            return
        self.known[entry, identity, points] = label, branch
        told.add(_label, label, branch, cells.get("shape_name", "").lower().replace(" ", ""), points)

    def tell_volumes(self) -> None:
        """Tell names that stand in several volumes: they are different pictures, and nothing says where each lies."""
        for name, of_name in self.volumes.items():
            for entry in of_name.values() if len(of_name) > 1 else ():
                ids = " and ".join(list(of_name)[:6])
                message = f"{name} has the image ids {ids}: which volume is it from? Export the volumes one by "
                message += "one, or name their folders"
                self.findings.add("picture-ambiguous", message, entry.file, entry.line, entry)
                entry.labelled = False


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _label(told: Shape, name: str, branch: str, kind: str, text: str) -> Label:
    check_kind(kind, LEAST_POINTS)
    values = _json(text)
    points = pairs(values) or []
    if kind == "circle":
        x, y, radius = usable(kind, values, 3)
        box = centred(kind, (x, y, radius, radius))
    elif kind == "ellipse" and len(points) == 4:
        # A turned ellipse reaches sideways by the root of the squares of what its half axes do.
        (x, across), (y, down) = ((fmean(ends), math.sqrt(2) * pstdev(ends)) for ends in zip(*points))
        box = centred(kind, (x, y, across, down))
    else:
        # Text that is no JSON is handed on as it is, so that the refusal shows it.
        box = outline(kind, text if values is None else values, LEAST_POINTS[kind])
    sides = pairwise(points)
    turned = kind == "rectangle" and not all(min(abs(a - c), abs(b - d)) < NEARLY for (a, b), (c, d) in sides)
    label = Label(box, told.class_of(name), told.line, told.place, details={"hierarchy": branch} if branch else {})
    if kind != "rectangle" or turned:
        told.converted(f"turned {kind}" if turned else kind)
    return label


def _name_branches(entries: Sequence[Entry], findings: Findings) -> None:
    """Where one name is in several branches of a tree, the branch is the name."""
    labels: dict[str | int, dict[Attribute, list[tuple[Entry, Label]]]] = {}
    for entry in entries:
        for label in entry.labels:
            if branch := label.details.get("hierarchy"):
                labels.setdefault(label.class_name, {}).setdefault(branch, []).append((entry, label))
    for name, branches in labels.items():
        if len(branches) < 2:
            continue
        message = f"{name!r} is the name of {len(branches)} labels ({'; '.join(map(str, list(branches)[:6]))}), which "
        message += "are different classes: each is named by its full hierarchy"
        entry, label = list(branches.values())[1][0]
        findings.add("class-name-twice", message, entry.file, label.line)
        for branch, found in branches.items():
            for _, label in found:
                label.class_name = str(branch)
