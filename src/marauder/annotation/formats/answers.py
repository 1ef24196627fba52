"""From what a format says to answers: which picture of the package an entry means, boxes in its pixels, class names.

Nothing is trusted: a picture is found by its name among those that were sent, never on disk, and every doubt becomes a
problem. Never raises on content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from marauder.annotation.formats.base import Answer, Reading, Size
from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.plugins import make
from marauder.core.plugins import names as plugin_names
from marauder.data.boxes import BOUNDS_TOLERANCE, SMALLEST_SIDE
from marauder.data.formats.base import Parsed, Reader, ReadOptions
from marauder.data.formats.entries import Box, Entry, Findings, Label
from marauder.data.formats.source import NameIndex, Source
from marauder.data.formats.text import clean_text, rotated
from marauder.data.records import Problem


def read_delivery(
    layout: Reader, folder: Path, expected: Mapping[str, Size], names: Sequence[str] = (), clock: Clock | None = None
) -> Reading:
    """The answers in an unpacked delivery. ``expected``: name in the package to size of every picture that went out.
    ``names``: the package's class names, for layouts that come back with class numbers alone.

    Problems noted. A box or an entry is lost: ``label-syntax``, ``label-without-picture``, ``number-invalid``,
    ``class-missing``, ``class-several``, ``shape-unknown``, ``shape-without-extent``, ``id-twice``, ``not-answered``,
    ``picture-stranger``, ``picture-twice``. It is kept, and reported: ``box-degenerate``, ``box-out-of-bounds``,
    ``size-mismatch``. It was mended: ``size-scaled``, ``size-unstated``, ``units-converted``, ``shape-converted``,
    ``several-answers``, ``names-missing``, ``label-encoding``.
    """
    findings = Findings(guess=True, clock=clock)
    source = Source(folder, delivery=True, clock=clock)
    try:
        parsed = layout.parse(source, ReadOptions(), findings)
    except UserError as error:
        findings.add("label-syntax", clean_text(str(error), 400), folder)
        parsed = Parsed([])
    if not source.files:
        findings.add("label-syntax", f"no file of the format {layout.name} in the delivery", folder)
    return _Answers(folder, expected, names, findings).of(parsed)


def delivered_formats(folder: Path) -> list[Reader]:
    """The formats that an unpacked delivery holds, the most particular first."""
    source = Source(folder, delivery=True)
    layouts: list[Reader] = [make("reader", name) for name in plugin_names("reader")]
    # In the table's order, which has the more particular layouts first.
    found = {layout.name: layout for layout in layouts if layout.files(source)}
    if "fathomnet" in found:
        found.pop("coco", None)  # the same files
    return list(found.values())


class _Answers:
    def __init__(self, folder: Path, expected: Mapping[str, Size], names: Sequence[str], findings: Findings) -> None:
        self.folder, self.expected, self.sent_names, self.findings = folder, expected, names, findings
        self.index = NameIndex(expected)
        self.answers: dict[str, Answer] = {}
        self.strangers: dict[str, None] = {}
        self.file_of: dict[int, str] = {}

    def of(self, parsed: Parsed) -> Reading:
        named = self._class_names(parsed)
        for entry in parsed.entries:
            self.findings.tick()
            file = self._open(entry)
            # An entry without labels names a picture and says nothing of it.
            if file is not None and entry.labelled:
                self.answers[file] = self._answer(file, entry, named)
        stated = parsed.names.values() if isinstance(parsed.names, dict) else parsed.names
        problems = tuple(
            Problem(
                clean_text(found.file.relative_to(self.folder).as_posix()),
                found.line,
                found.kind,
                clean_text(found.message, 400),
                self.file_of.get(id(found.entry), ""),
            )
            for found in self.findings.list
        )
        # In the package's order, whatever the order of files in the delivery.
        ordered = {file: self.answers[file] for file in self.expected if file in self.answers}
        return Reading(ordered, problems, tuple(dict.fromkeys(stated)), tuple(self.strangers))

    def _open(self, entry: Entry) -> str | None:
        """The picture that an entry means, or ``None``, noting why. A picture that has an answer keeps that one: which
        of two is meant cannot be known."""
        matches = (self.index.find(name) for name in entry.names)
        # A name that could mean two of ours means neither.
        file = next((match.name for match in matches if match is not None and not match.others), None)
        if file is None:
            shown = next((clean_text(name) for name in entry.names if name), "without a name")
            # Reported once: a table has one row for each box.
            if shown not in self.strangers:
                self.strangers[shown] = None
                message = f"picture {shown!r} was not sent out; take it out, or give it the name it was sent with"
                self.findings.add("picture-stranger", message, entry.file, entry.line)
            return None
        self.file_of[id(entry)] = file
        if file in self.answers and entry.labelled:
            message = f"{file} is in the delivery more than once, and it is unclear which one counts: send it once"
            self.findings.add("picture-twice", message, entry.file, entry.line, entry)
            return None
        return file

    def _class_names(self, parsed: Parsed) -> Mapping[int, str]:
        """Names by number: those stated, else those that were sent, from 0, or from 1 where the numbers run to their
        count."""
        if not parsed.numbered or not isinstance(parsed.names, dict):
            return {}
        if parsed.names:
            return parsed.names
        used = {int(label.class_name) for entry in parsed.entries for label in entry.labels}
        first = parsed.first
        if first is None:
            first = 1 if used and min(used) == 1 and max(used) == len(self.sent_names) else 0
        if used:
            message = f"no class names in the delivery: numbers read as those sent, from {first}; check the classes"
            file = parsed.entries[0].file if len({entry.file for entry in parsed.entries}) == 1 else self.folder
            self.findings.add("names-missing", message, file)
        return dict(enumerate(self.sent_names, first))

    def _answer(self, file: str, entry: Entry, named: Mapping[int, str]) -> Answer:
        width, height = self.expected[file]
        across, down = (width, height) if entry.relative else (1.0, 1.0)
        # Asked for fractions, too: a size of another shape says that another picture was labelled.
        scale = self._scale(file, entry)
        if not entry.relative:
            across, down = scale
        boxes, names = [], []
        for label in entry.labels:
            x0, y0, x1, y1 = label.box
            box = (x0 * across, y0 * down, x1 * across, y1 * down)
            if label.turn % 360:
                # In pixels: fractions of a wide picture turned by an angle would be skewed.
                box = rotated(box, label.turn, label.about_corner)
            names.append(_name(label, named))
            boxes.append(box)
            self._look_at(box, label, names[-1], entry, (width, height))
        details = tuple(label.details for label in entry.labels)
        # Where a format has a column for it, it counts like the attribute.
        details = tuple({**one, "crowd": True} if label.ignored else one for one, label in zip(details, entry.labels))
        return Answer(file, np.array(boxes, np.float64).reshape(-1, 4), tuple(names), details if any(details) else ())

    def _scale(self, file: str, entry: Entry) -> tuple[float, float]:
        """Factors from pixels of the size an entry states to those of the picture as sent; a difference is noted."""
        width, height = self.expected[file]
        stated = entry.width, entry.height
        if min(stated) <= 0:
            if not entry.relative:
                message = f"{file}: no width and height given; boxes are read as pixels of the picture as sent"
                self.findings.add("size-unstated", message, entry.file, entry.line, entry)
            return 1.0, 1.0
        if stated == (width, height):
            return 1.0, 1.0
        said = f"{file}: the labels say {stated[0]:g}x{stated[1]:g} pixels, {width}x{height} were sent"
        # The same shape up to one pixel of a side: tools round when they scale.
        if abs(stated[0] * height - stated[1] * width) <= max(*stated, width, height):
            message = f"{said}; boxes scaled to the picture"
            self.findings.add("size-scaled", message, entry.file, entry.line, entry)
            return width / stated[0], height / stated[1]
        message = f"{said}, of another shape; label the picture as it was sent"
        self.findings.add("size-mismatch", message, entry.file, entry.line, entry)
        return 1.0, 1.0

    def _look_at(self, box: Box, label: Label, name: str, entry: Entry, size: Size) -> None:
        x0, y0, x1, y1 = box
        shown = ", ".join(f"{value:.6g}" for value in box)
        place = label.place or name
        if min(x1 - x0, y1 - y0) <= SMALLEST_SIDE:
            message = f"{place}: box without area ({shown}); draw it again"
            self.findings.add("box-degenerate", message, entry.file, label.line, entry)
        elif min(x0, y0, size[0] - x1, size[1] - y1) < -BOUNDS_TOLERANCE:
            message = f"{place}: box reaches outside the {size[0]}x{size[1]} picture ({shown}); draw it within"
            self.findings.add("box-out-of-bounds", message, entry.file, label.line, entry)


def _name(label: Label, named: Mapping[int, str]) -> str:
    if isinstance(label.class_name, str):
        return label.class_name
    return named.get(label.class_name, f"{'class' if named else 'category'} {label.class_name}")
