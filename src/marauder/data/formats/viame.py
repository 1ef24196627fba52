"""VIAME and DIVE: detections and tracks as CSV, a row a box.

Sources: VIAME's manual ("Detection File Formats"), and what its own programs and DIVE write and take in: the name of a
picture in the third field where the second holds a video's, classes without a confidence, tokens in parentheses.
"""

from __future__ import annotations

import re
from pathlib import Path

from marauder.core.wording import counted
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Entry, Findings, Label
from marauder.data.formats.shapes import Shape, extended, unusable, usable
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


class ViameReader(Reader):
    """VIAME's and DIVE's CSV."""

    name = "viame"
    title = "VIAME CSV"

    def files(self, source: Source) -> list[Path]:
        return [path for path in source.with_suffix(".csv") if _is_viame(source.marks(path).start)]

    def parse(self, source: Source, options: ReadOptions, findings: Findings) -> Parsed:
        files = self.files(source)
        known = source if options.pictures is None else Source(options.pictures, clock=source.clock)
        entries = [entry for path in files for entry in _entries(path, known, findings)]
        return Parsed(entries, used=set(files))


def _is_viame(start: str) -> bool:
    """Whether a file that begins like this has VIAME's header, or an id, four numbers and a class where VIAME has."""
    rows = [row for row in first_rows(start)[0] if len(row) > FIELDS and number(row[FIELDS]) is None]
    return HEADER in start.lower() or any(whole(row[0]) is not None and numbers(row[3:8], 5) for row in rows)


def _entries(path: Path, known: Source, findings: Findings) -> list[Entry]:
    entries: dict[str, Entry] = {}
    tracks: dict[str, list[Label | None]] = {}
    videos: list[int] = []
    begun = False
    for line, row in csv_rows(path, findings, free=FIELDS):
        if row[0].startswith("#"):
            continue
        if len(row) < 7 or not any(number(value) is not None for value in (row[0], *row[3:7])):
            if begun or len(row) < 7:  # else a header without its "#"
                message = f"is not a detection ({clean_text(','.join(row), 60)}): id, picture, frame and four numbers"
                findings.add("label-syntax", message, path, line, entries.get(row[1]) if len(row) > 2 else None)
            begun = True
            continue
        begun = True
        name = row[2] if is_picture(row[2]) and not is_picture(row[1]) else row[1]
        if VIDEO.fullmatch(name) or (number(name) is not None and known.pictures.find(name) is None):
            videos.append(line)
            continue
        entry = entries.setdefault(name, Entry((name,), path, line))
        told = Shape(findings, entry, f"detection {clean_text(row[0], 40)}", line)
        tracks.setdefault(row[0], []).append(told.add(_label, row))
    for identity, labels in tracks.items():
        found = whole(identity)
        # An id that occurs only once marks a single detection, not a track.
        for label in filter(None, labels if len(labels) > 1 else ()):
            label.details = {**label.details, "track": clean_text(identity) if found is None else found}
    if videos:
        # Which picture a frame became is anyone's guess: tools number from 0 or from 1 and leave frames out.
        message = f"{counted(len(videos), 'row')} of a video, not of pictures; not read: make pictures of its frames "
        message += "and write their names in the second field"
        findings.add("label-without-picture", message, path, videos[0])
    return list(entries.values())


def _label(told: Shape, row: list[str]) -> Label:
    x0, y0, x1, y1 = usable("box", row[3:7], 4)
    fields = row[FIELDS:]
    end = next((index for index, field in enumerate(fields) if field.startswith("(")), len(fields))
    # The last class may come without its confidence.
    stated = [(clean_text(name), text) for name, text in zip(fields[:end:2], [*fields[1:end:2], ""]) if name]
    for text in (*row[7:FIELDS], *(sure for _, sure in stated)):
        if text and number(text) is None:
            raise unusable("confidence or length", text)
    sure: dict[str, float] = {}
    for name, text in stated:
        sure[name] = max(sure.get(name, -1.0), number(text) or 0.0)
    highest = max(sure.values(), default=0.0)
    box = extended("box", (x0, y0, x1, y1))
    name = told.class_of(*(name for name, confidence in sure.items() if confidence == highest))
    details: dict[str, Attribute] = {}
    for key, text in (found.groups() for found in map(ATTRIBUTE.match, fields[end:]) if found):
        value = number(text)
        details[clean_text(key)] = FLAGS.get(text.lower(), clean_text(text) if value is None else value)
    # A person's box says 1, or nothing: only what lies between is a detector's score.
    if 0 < highest < 1:
        details["score"] = highest
    # 0 and -1: not measured.
    if (length := number(row[8]) if len(row) >= FIELDS else None) and length > 0:
        details["length"] = length
    return Label(box, name, told.line, told.place, details=details)
