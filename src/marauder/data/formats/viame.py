"""VIAME and DIVE: detections and tracks as CSV, a row a box.

Sources: VIAME's manual ("Detection File Formats"), and what its own programs and DIVE write and take in: the name of a
picture in the third field where the second holds a video's, classes without a confidence, tokens in parentheses.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from marauder.data.formats.base import Entry, Findings, Format, Label, Parsed, ReadOptions
from marauder.data.formats.source import Source
from marauder.data.formats.text import clean_text, csv_rows, first_rows, number, numbers, whole
from marauder.data.picture_files import is_picture
from marauder.data.records import Attribute

HEADER = "detection or track-id"
FIELDS = 9
"""Before the classes: id, picture, frame, left, top, right, bottom, confidence, length."""
VIDEO = re.compile(r"|(\d+:)?\d+:\d+([.,]\d+)?|.*\.(mp4|avi|mov|mkv|mpe?g|m4v|mts|m2ts|ts|wmv|webm|flv)", re.IGNORECASE)
ATTRIBUTE = re.compile(r"\((?:trk-)?atr\)\s+(\S+)\s+(.+)", re.DOTALL)
FLAGS = {"true": True, "false": False}


class ViameFormat(Format):
    """VIAME's and DIVE's CSV."""

    name = "viame"
    title = "VIAME CSV of detections or tracks (VIAME, DIVE)"

    def files(self, source: Source) -> list[Path]:
        return [path for path in source.with_suffix(".csv") if _is_viame(source.marks(path).start)]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        files = self.files(source)
        entries = [entry for path in files for entry in _entries(path, source, findings)]
        return Parsed(entries, used=set(files))


def _is_viame(start: str) -> bool:
    """Whether a file that begins like this has VIAME's header, or an id, four numbers and a class where VIAME has."""
    rows = [row for row in first_rows(start)[0] if len(row) > FIELDS]
    of_class = [row for row in rows if number(row[FIELDS]) is None or row[FIELDS].startswith("(")]
    return HEADER in start.lower() or any(whole(row[0]) is not None and numbers(row[3:8], 5) for row in of_class)


def _entries(path: Path, source: Source, findings: Findings) -> list[Entry]:
    entries: dict[str, Entry] = {}
    boxes: list[tuple[str, dict[str, Attribute]]] = []
    videos: list[int] = []
    begun = False
    for line, row in csv_rows(path, findings, free=FIELDS):
        if row[0].startswith("#"):
            continue
        if len(row) < 7 or not any(number(value) is not None for value in (row[0], *row[3:7])):
            if begun or len(row) < 7:  # else a header without its "#"
                message = f"is no detection ({clean_text(','.join(row), 60)}): id, picture, frame and four numbers"
                findings.add("label-syntax", message, path, line, entries.get(row[1]) if len(row) > 2 else None)
            begun = True
            continue
        begun = True
        name = row[2] if is_picture(row[2]) and not is_picture(row[1]) else row[1]
        if VIDEO.fullmatch(name) or (number(name) is not None and source.pictures.find(name) is None):
            videos.append(line)
            continue
        entry = entries.setdefault(name, Entry((name,), path, line))
        details: dict[str, Attribute] = {}
        _add_label(row, line, path, entry, details, findings)
        boxes.append((row[0], details))
    seen = Counter(identity for identity, _ in boxes)
    for identity, details in boxes:
        if seen[identity] > 1:
            found = whole(identity)
            details["track"] = clean_text(identity) if found is None else found
    if videos:
        # Which picture a frame became is anyone's guess: tools number from 0 or from 1 and leave frames out.
        message = f"{len(videos)} rows are of a video, not of pictures, and are not read: make pictures of its frames "
        message += "and write their names in the second field"
        findings.add("label-without-picture", message, path, videos[0])
    return list(entries.values())


def _add_label(
    row: list[str], line: int, path: Path, entry: Entry, details: dict[str, Attribute], findings: Findings
) -> None:
    place, box = f"detection {clean_text(row[0], 40)}", numbers(row[3:7], 4)
    fields = row[FIELDS:]
    end = next((index for index, field in enumerate(fields) if field.startswith("(")), len(fields))
    stated = [(clean_text(name), text) for name, text in zip(fields[:end:2], [*fields[1:end:2], ""]) if name]
    odd = [text for text in (*row[7:FIELDS], *(sure for _, sure in stated)) if text and number(text) is None]
    if box is None or odd:
        what, shown = ("place", ",".join(row[3:7])) if box is None else ("confidence or length", odd[0])
        message = f"{place}: {what} {clean_text(shown, 60)!r} is no usable number; mend it, or draw the box again"
        findings.add("number-invalid", message, path, line, entry)
        return
    if box[0] == box[2] and box[1] == box[3]:
        message = f"{place}: a point has no extent; draw a box"
        findings.add("shape-without-extent", message, path, line, entry)
        return
    sure: dict[str, float] = {}
    for name, text in stated:
        sure[name] = max(sure.get(name, -1.0), number(text) or 0.0)
    if not sure:
        findings.add("class-missing", f"{place}: no species; name its class", path, line, entry)
        return
    highest = max(sure.values())
    best = [name for name, confidence in sure.items() if confidence == highest]
    if len(best) > 1:
        message = f"{place}: several classes are as sure ({', '.join(best[:6])}); which is meant? Keep one"
        findings.add("class-several", message, path, line, entry)
    for name, text in (found.groups() for found in map(ATTRIBUTE.match, fields[end:]) if found):
        value = number(text)
        details[clean_text(name)] = FLAGS.get(text.lower(), clean_text(text) if value is None else value)
    if 0 < highest < 1:
        details["score"] = highest
    length = number(row[8]) if len(row) >= FIELDS else None
    if length is not None and length > 0:
        details["length"] = length
    x0, y0, x1, y1 = box
    entry.labels.append(Label((x0, y0, x1, y1), best[0], line, place, details=details))
