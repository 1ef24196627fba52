"""Taking in what cannot be trusted: text in any encoding, numbers, picture names as tools change them, boxes.

Every reader of a delivery feeds one ``Collector``, which keeps answers and problems and never raises on content.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from marauder.annotation.formats.base import Answer, Reading, Size
from marauder.data.boxes import BOUNDS_TOLERANCE, SMALLEST_SIDE
from marauder.data.records import Attribute, Problem

Box = tuple[float, float, float, float]
LARGEST_NUMBER = 1e7
"""No coordinate of a picture is larger."""
TEXT_LIMIT = 200
"""Characters kept of a name or a text from outside."""
SNIFFED_BYTES = 65536
PROBLEMS_OF_A_KIND = 20
"""Problems of one kind kept of one picture in one file; what comes after says nothing new."""
PROBLEMS_WITHOUT_PICTURE = 1000
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


class Collector:
    """Answers and problems of one delivery in the making. ``folder``: that the problems' paths are relative to."""

    def __init__(self, folder: Path, expected: Mapping[str, Size]) -> None:
        self.folder, self.expected = folder, expected
        self.problems: list[Problem] = []
        self.names: list[str] = []
        self._lookup = _Lookup(expected)
        self._boxes: dict[str, list[Box]] = {}
        self._classes: dict[str, list[str]] = {}
        self._details: dict[str, list[Mapping[str, Attribute]]] = {}
        self._strangers: dict[str, None] = {}
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def problem(self, path: Path, kind: str, message: str, line: int | None = None, file: str = "") -> None:
        """Note a problem; of one kind in one picture only the first ones are kept."""
        place = clean_text(path.relative_to(self.folder).as_posix())
        self._seen[place, kind, file] += 1
        if self._seen[place, kind, file] <= (PROBLEMS_OF_A_KIND if file else PROBLEMS_WITHOUT_PICTURE):
            self.problems.append(Problem(place, line, kind, message, file))

    def find(self, *spellings: object) -> str | None:
        """The picture in the package that one of the spellings (names, paths, addresses) means."""
        texts = [text for text in spellings if isinstance(text, str) and text]
        return next((found for found in map(self._lookup.find, texts) if found is not None), None)

    def open(self, path: Path, line: int | None, *spellings: object) -> str | None:
        """Begin the answer for a picture and return its name in the package, or ``None``, noting why.

        A picture that already has an answer keeps that one: which of two is meant cannot be known.
        """
        file = self.find(*spellings)
        if file is None:
            shown = next((clean_text(text) for text in spellings if isinstance(text, str) and text), "without a name")
            if shown not in self._strangers:
                self._strangers[shown] = None
                message = f"picture {shown!r} was not sent out; take it out, or give it the name it was sent with"
                self.problem(path, "picture-stranger", message, line)
            return None
        if file in self._boxes:
            message = (
                f"{file} stands in the delivery more than once, and which entry is meant cannot be known: send it once"
            )
            self.problem(path, "picture-twice", message, line, file)
            return None
        self._boxes[file], self._classes[file], self._details[file] = [], [], []
        return file

    def drop(self, file: str) -> None:
        """Take back an answer that was begun."""
        for store in (self._boxes, self._classes, self._details):
            store.pop(file, None)

    def scale(
        self, file: str, stated: tuple[object, object], path: Path, line: int | None = None
    ) -> tuple[float, float]:
        """Factors from pixels of the size an entry states to those of the picture as sent; a difference is noted."""
        width, height = self.expected[file]
        stated_width, stated_height = number(stated[0]), number(stated[1])
        if not stated_width or not stated_height or (stated_width, stated_height) == (width, height):
            return 1.0, 1.0
        said = f"{file}: the labels say {stated_width:g}x{stated_height:g} pixels, {width}x{height} were sent"
        if min(stated_width, stated_height) > 0 and (
            abs(stated_width * height - stated_height * width) <= max(stated_width, stated_height, width, height)
        ):
            self.problem(path, "size-scaled", f"{said}; boxes scaled to the picture", line, file)
            return width / stated_width, height / stated_height
        message = f"{said}, of another shape; label the picture as it was sent"
        self.problem(path, "size-mismatch", message, line, file)
        return 1.0, 1.0

    def add(
        self,
        file: str,
        box: Box,
        class_name: str,
        place: str,
        path: Path,
        line: int | None = None,
        details: Mapping[str, Attribute] | None = None,
    ) -> None:
        """Append a box of finite numbers as delivered. ``place`` names it in problems."""
        x0, y0, x1, y1 = box
        width, height = self.expected[file]
        shown = ", ".join(f"{value:.6g}" for value in box)
        if min(x1 - x0, y1 - y0) <= SMALLEST_SIDE:
            self.problem(path, "box-degenerate", f"{place}: box without area ({shown}); draw it again", line, file)
        elif min(x0, y0, width - x1, height - y1) < -BOUNDS_TOLERANCE:
            message = f"{place}: box reaches outside the {width}x{height} picture ({shown}); draw it within"
            self.problem(path, "box-out-of-bounds", message, line, file)
        self._boxes[file].append(box)
        self._classes[file].append(class_name)
        self._details[file].append(dict(details or {}))

    def reading(self) -> Reading:
        """What was collected."""
        answers = {
            file: Answer(
                file,
                np.array(self._boxes[file], np.float64).reshape(-1, 4),
                tuple(self._classes[file]),
                tuple(self._details[file]) if any(self._details[file]) else (),
            )
            for file in self.expected
            if file in self._boxes
        }
        return Reading(answers, tuple(self.problems), tuple(dict.fromkeys(self.names)), tuple(self._strangers))


class _Lookup:
    """Finds a sent picture by what tools make of its name, from the exact name to the name without its suffix."""

    def __init__(self, expected: Iterable[str]) -> None:
        self.exact = set(expected)
        self.folded = _unique((_fold(name), name) for name in self.exact)
        self.stems = _unique((_stem(_fold(name)), name) for name in self.exact)

    def find(self, text: str) -> str | None:
        if text in self.exact:
            return text
        for spelling in _spellings(text[:4096]):
            name = PurePosixPath(spelling).name
            folded = _fold(name)
            for candidate in (folded, UPLOAD_PREFIX.sub("", folded)):
                found = self.folded.get(candidate) or self.stems.get(_stem(candidate)) or self.stems.get(candidate)
                if found is not None:
                    return found
        return None


def _spellings(text: str) -> list[str]:
    plain = text.replace("\\", "/")
    found = [plain]
    try:
        parts = urlsplit(plain)
        # Label Studio serves local files as /data/local-files/?d=PATH; other addresses end in a query of keys.
        found += [value for values in parse_qs(parts.query).values() for value in values]
        found += [unquote(parts.path), unquote(plain)]
    except ValueError:
        pass  # no address
    return found


def _fold(name: str) -> str:
    # Uploading replaces blanks; some disks store accents decomposed and ignore case.
    return unicodedata.normalize("NFC", name).casefold().strip().replace(" ", "_")


def _stem(name: str) -> str:
    return re.sub(r"\.[a-z0-9]{2,5}$", "", name)


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The pairs as a mapping, without keys that mean several values."""
    found: dict[str, str] = {}
    ambiguous = set()
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            ambiguous.add(key)
    return {key: value for key, value in found.items() if key not in ambiguous}


def read_text(path: Path, collector: Collector | None = None, declared: str | None = None) -> str:
    """A file's text: by its byte-order mark, else UTF-8, UTF-16 by its zero bytes, the ``declared`` encoding, Latin-1.

    A guess is noted as a problem. A file that cannot be opened reads as no text, with a problem.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        if collector is not None:
            collector.problem(path, "label-syntax", f"cannot be read ({error.strerror}); send it again")
        return ""
    text, encoding = decode(content, declared)
    if encoding not in ("utf-8", "utf-8-sig") and collector is not None:
        message = f"is not UTF-8, read as {encoding}: look at its names, and save it as UTF-8 next time"
        collector.problem(path, "label-encoding", message)
    return text


def decode(content: bytes, declared: str | None = None) -> tuple[str, str]:
    """The text of ``content`` and the encoding it was read with."""
    if content.startswith(b"\xef\xbb\xbf"):
        candidates = ["utf-8-sig"]
    elif content.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        candidates = ["utf-32"]
    elif content.startswith((b"\xff\xfe", b"\xfe\xff")):
        candidates = ["utf-16"]
    else:
        candidates = ["utf-8"]
        head = content[:SNIFFED_BYTES]
        if head.count(0) > len(head) // 4:
            candidates.insert(0, "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be")
        candidates += [declared] if declared else []
    for encoding in candidates:
        try:
            return content.decode(encoding), encoding
        except (UnicodeError, LookupError, ValueError):
            continue
    return content.decode("latin-1"), "latin-1"


def sniff(path: Path) -> str:
    """The beginning and end of a file as text; "" when it cannot be opened."""
    try:
        with path.open("rb") as stream:
            head = stream.read(SNIFFED_BYTES)
            stream.seek(max(SNIFFED_BYTES, path.stat().st_size - SNIFFED_BYTES))
            tail = stream.read(SNIFFED_BYTES)
    except OSError:
        return ""
    return f"{decode(head)[0]}\n{decode(tail)[0]}"


def parse_json(path: Path, collector: Collector) -> Any:
    """The JSON of a file, or ``None`` with a problem that names the line."""
    text = read_text(path, collector)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        message = f"not valid JSON ({error.msg}); export it again"
        collector.problem(path, "label-syntax", message, error.lineno)
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or lists in lists without end.
        reason = "nested too deep" if isinstance(error, RecursionError) else "a number beyond all bounds"
        collector.problem(path, "label-syntax", f"not usable JSON ({reason}); export it again")
    return None


def files_with(folder: Path, *suffixes: str) -> list[Path]:
    """Files below ``folder`` whose names end so, in order; hidden ones and the guidelines that we sent left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part in ("__MACOSX", "guidelines") for part in parts)
        if not hidden and path.suffix.lower() in suffixes and path.is_file() and not path.is_symlink():
            found.append(path)
    return found


def number(value: object) -> float | None:
    """A finite number of a size that pictures have, also written as text; ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and len(value) > TEXT_LIMIT:
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= LARGEST_NUMBER else None


def whole(value: object) -> int | None:
    """A whole number of at most 18 digits, also written as 7.0 or "7"; ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else None
    return int(value) if abs(value) < 10**18 and (isinstance(value, int) or value.is_integer()) else None


def numbers(values: object, count: int) -> list[float] | None:
    """Exactly ``count`` numbers, or ``None``."""
    if not isinstance(values, (list, tuple)) or len(values) != count:
        return None
    found = [number(value) for value in values]
    return [value for value in found if value is not None] if None not in found else None


def clean_text(value: object, limit: int = TEXT_LIMIT) -> str:
    """A text from outside as one printable line that any file can hold."""
    text = value if isinstance(value, str) else _shown(value)
    printable = (letter if letter.isprintable() else " " for letter in text[: limit * 4])
    plain = " ".join("".join(printable).split())
    return plain if len(plain) <= limit else f"{plain[: limit - 1]}…"


def _shown(value: object) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):
        return type(value).__name__  # nested without end, or a number of thousands of digits


def attribute(value: object) -> Attribute:
    """What a box says of itself, as a record can hold it."""
    if isinstance(value, (bool, int, float)) and (isinstance(value, bool) or number(value) is not None):
        return value
    return clean_text(value)


def envelope(points: Sequence[tuple[float, float]]) -> Box:
    """The box around points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def rotated(box: Box, degrees: float, centre: tuple[float, float]) -> Box:
    """The box around ``box`` turned clockwise about ``centre`` (y points down)."""
    turn = math.radians(degrees % 360.0)
    cosine, sine = math.cos(turn), math.sin(turn)
    x0, y0, x1, y1 = box
    corners = [(x - centre[0], y - centre[1]) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    return envelope([(centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine) for x, y in corners])
