"""Taking in text that cannot be trusted: encodings, JSON, XML, CSV, class lists, numbers, names, each decided once."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from marauder.core.plain import Plain
from marauder.data.formats.entries import Box, Findings
from marauder.data.picture_files import pointer_hint
from marauder.data.records import Attribute

LARGEST_NUMBER = 1e7
"""No coordinate of a picture is larger."""
TEXT_LIMIT = 200
"""Characters kept of a name or a text from outside."""
SNIFFED_BYTES = 65536
DEEPEST = 64
"""Elements inside elements beyond this are no annotations."""
NO_CHARACTER_SETS = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined"})
LARGEST_FIELD = 1 << 24
"""Characters of one CSV field: polygons are long."""
LONGEST_TEXT = 1 << 16
"""Characters of an element's text."""
XML_CHUNK = 1 << 20
DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
ENCODING = re.compile(rb"^[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
QUOTED = re.compile(r'"[^"]*"')


def read_text(path: Path, findings: Findings) -> str | None:
    """A file's text: by its byte-order mark, its XML declaration, else UTF-8 or, by its zero bytes, UTF-16.

    ``None`` with a finding for a file that cannot be opened, is a pointer of Git LFS, or is in no encoding that it
    states; with ``findings.guess`` that last one is read as Latin-1.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        findings.add("label-unreadable", f"cannot be read ({error.strerror}); send or fetch it again", path)
        return None
    if hint := pointer_hint(content):
        findings.add("label-unreadable", hint, path)
        return None
    text, encoding = decode(content)
    if encoding == "latin-1" and not findings.guess:
        message = "is not UTF-8 and states no other encoding, so that its names are unsure; save it as UTF-8"
        findings.add("label-encoding", message, path)
        return None
    if encoding not in ("utf-8", "utf-8-sig"):
        message = f"is not UTF-8, read as {encoding}: check its names, and save it as UTF-8 next time"
        findings.add("text-encoding" if not findings.guess else "label-encoding", message, path)
    return text


def decode(content: bytes) -> tuple[str, str]:
    """The text of ``content`` and the encoding it was read with; Latin-1 where nothing else fits."""
    if content.startswith(b"\xef\xbb\xbf"):
        candidates = ["utf-8-sig"]
    elif content.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        candidates = ["utf-32"]
    elif content.startswith((b"\xff\xfe", b"\xfe\xff")):
        candidates = ["utf-16"]
    else:
        declared = ENCODING.match(content[:300]) if content.lstrip()[:5] == b"<?xml" else None
        # A declaration that can be read as ASCII is not in UTF-16 or UTF-32, whatever it says.
        stated = declared.group(1).decode("ascii").lower() if declared else "utf-16"
        candidates = [] if stated.startswith(("utf-16", "utf-32", "utf_16", "utf_32", "utf16", "utf32")) else [stated]
        candidates.append("utf-8")
        head = content[:SNIFFED_BYTES]
        # UTF-16 of mostly Latin letters has a zero in every second byte; which one tells the order of bytes.
        if head.count(0) > len(head) // 4:
            candidates.insert(0, "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be")
    for encoding in candidates:
        try:
            # Codecs that are no character sets take minutes for a megabyte, or read escapes.
            if codecs.lookup(encoding).name in NO_CHARACTER_SETS:
                continue
            return content.decode(encoding), encoding
        except (UnicodeError, LookupError, ValueError):
            continue
    return content.decode("latin-1"), "latin-1"


def sniff(path: Path) -> str:
    """The beginning and end of a file as text; "" when it cannot be opened."""
    try:
        with path.open("rb") as stream:
            head = stream.read(SNIFFED_BYTES)
            # Starts no earlier than the head ends, so that no byte is read twice.
            stream.seek(max(SNIFFED_BYTES, path.stat().st_size - SNIFFED_BYTES))
            tail = stream.read(SNIFFED_BYTES)
    except OSError:
        return ""
    return f"{decode(head)[0]}\n{decode(tail)[0]}".lstrip("\ufeff \t\r\n")


class _TwiceError(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> Plain:
    found = dict(pairs)
    # json keeps the last of equal keys and says nothing.
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return found


def parse_json(path: Path, findings: Findings) -> Any:
    """The JSON of a file, or ``None`` with a finding that names the line."""
    text = read_text(path, findings)
    if text is None:
        return None
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_object)
    except _TwiceError as error:
        findings.add(
            "label-syntax", f"the key {clean_text(str(error), 60)!r} occurs twice in one object; keep one", path
        )
    except json.JSONDecodeError as error:
        findings.add("label-syntax", f"not valid JSON ({error.msg}); export it again", path, error.lineno)
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or lists in lists without end.
        reason = "nested too deep" if isinstance(error, RecursionError) else "a number beyond all bounds"
        findings.add("label-syntax", f"not usable JSON ({reason}); export it again", path)
    return None


@dataclass(eq=False, slots=True)
class Node:
    """An element of an XML file, names without namespaces. ``text``: what is directly in it. ``broken``: line and
    words of what ended the file within it."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Node] = field(default_factory=list)
    text: str = ""
    broken: tuple[int, str] | None = None

    def all(self, tag: str) -> list[Node]:
        """The elements of a name directly in this one."""
        return [child for child in self.children if child.tag == tag]

    def below(self) -> Iterator[Node]:
        """Every element in this one, at any depth."""
        for child in self.children:
            yield child
            yield from child.below()

    def value(self, *tags: str) -> str:
        """The text of the element that the path of names leads to; "" where there is none."""
        node = self
        for tag in tags:
            for child in node.children:
                if child.tag == tag:
                    node = child
                    break
            else:
                return ""
        return node.text.strip()


def parse_xml(path: Path, findings: Findings, tags: Sequence[str], take: Callable[[Node, Node | None], None]) -> None:
    """Hand every element named in ``tags``, with the element around it, to ``take`` as soon as it is complete; an
    element within a wanted one belongs to it.

    A document type, entities and elements without end are refused. Where the file ends so, or breaks off, within a
    wanted element, that one is handed over with ``broken`` set; else a finding says so.
    """
    text = read_text(path, findings)
    if text is None:
        return
    # The text is decoded already; what its declaration says of bytes is true no more.
    # Its line breaks stay, so that messages name the lines of the file.
    plain = DECLARATION.sub(lambda found: "\n" * found.group().count("\n"), text.lstrip("\ufeff"), count=1)
    content = plain.encode("utf-8", "replace")
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    opened: list[Node] = []
    wanted = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal wanted
        if len(opened) == DEEPEST:
            raise _RefusedError(f"elements are nested {DEEPEST} deep; the rest is not read")
        if attributes:
            attributes = {key.rpartition(":")[2]: text for key, text in attributes.items()}
        node = Node(name.rpartition(":")[2], attributes, parser.CurrentLineNumber)
        if wanted:
            opened[-1].children.append(node)
        wanted += node.tag in tags
        opened.append(node)

    def characters(content: str) -> None:
        node = opened[-1]
        if wanted and (node.text or not content.isspace()):
            # What continues after so much is no name or number, and must not look like one.
            node.text += content if len(node.text) < LONGEST_TEXT else "" if node.text.endswith("…") else "…"

    def end(name: str) -> None:
        nonlocal wanted
        node = opened.pop()
        if node.tag in tags:
            wanted -= 1
            if not wanted:
                take(node, opened[-1] if opened else None)

    def refuse(*_: object) -> NoReturn:
        raise _RefusedError("holds a document type or entities, which annotations have no use for")

    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, characters, end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    try:
        for at in range(0, len(content), XML_CHUNK):
            if findings.clock is not None:
                findings.clock.check()
            parser.Parse(content[at : at + XML_CHUNK])
        parser.Parse(b"", True)
        return
    except _RefusedError as error:
        message = f"{error}; export it again"
    except expat.ExpatError as error:
        message = f"not valid XML ({expat.ErrorString(error.code)}); what follows is not read: export it again"
    broken = next((node for node in opened if node.tag in tags), None)
    if broken is not None:
        broken.broken = parser.CurrentLineNumber, message
        take(broken, None)
    else:
        findings.add("label-syntax", message, path, parser.CurrentLineNumber)


class _RefusedError(Exception):
    pass


def lines_of(text: str) -> list[str]:
    """The lines of a text as editors count them; ``str.splitlines`` also splits at form feeds and within names."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def first_rows(text: str) -> tuple[list[list[str]], str]:
    """The first two rows of a CSV text that are no comments, and what is between their fields: a spreadsheet may
    have saved it anew with semicolons."""
    lines = [line for line in lines_of(text) if line.strip(" \t,;") and not line.lstrip('" ').startswith("#")][:2]
    bare = QUOTED.sub("", lines[0]) if lines else ""
    mark = ";" if bare.count(";") > bare.count(",") else ","
    return [next(csv.reader([line], delimiter=mark)) for line in lines], mark


def csv_rows(path: Path, findings: Findings, free: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of every row of a CSV file that is not blank. What is lost ends with a finding: what cannot be
    read on, an open quotation mark, and a line break in a comment or within the first ``free`` fields, by default all:
    there, one was closed too late."""
    text = (read_text(path, findings) or "").removeprefix("\ufeff")
    # Old spreadsheets end every row with \r alone; among other ends it is a break within a row.
    text = text if "\n" in text else text.replace("\r", "\n")
    line, ended = 0, False

    def lines() -> Iterator[str]:
        nonlocal ended
        yield from io.StringIO(text)
        ended = True

    reader = csv.reader(lines(), delimiter=first_rows(text[:SNIFFED_BYTES])[1])
    # There is one limit for the whole process, so it is put back below.
    previous = csv.field_size_limit(LARGEST_FIELD)
    try:
        for row in reader:
            findings.tick()
            if ended:  # and yet there is a row: its last field continues
                message = 'a quotation mark (") is not closed, so nothing from here on is read; correct it'
                findings.add("label-syntax", message, path, line + 1)
                return
            line, values = reader.line_num, [value.strip() for value in row]
            if not any(values):
                continue
            if any("\n" in value for value in (values if values[0].startswith("#") else values[:free])):
                message = 'rows run into one another up to here: a quotation mark (") is not closed; correct it'
                findings.add("label-syntax", message, path, line)
            yield line, values
    except csv.Error as error:
        findings.add("label-syntax", f"not valid CSV ({error}); what follows is not read", path, line + 1)
    finally:
        csv.field_size_limit(previous)


def class_list(path: Path, findings: Findings) -> dict[int, str]:
    """Class names by number of a file with one name a line; a blank line keeps its number, and is told."""
    lines = [clean_text(line) for line in lines_of(read_text(path, findings) or "")]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines):
        if not line:
            message = f"line {number + 1} is blank: class {number} has no name; write it"
            findings.add("names-missing", message, path, number + 1)
    return {number: line or f"class_{number}" for number, line in enumerate(lines)}


def number(value: object) -> float | None:
    """A finite number of a size that pictures have, also written as text; ``None`` for anything else."""
    # To Python True is a number; as a coordinate it is a mistake.
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
    """A whole number of at most 18 digits, also written as 7.0, "7" or "7.0"; ``None`` for anything else."""
    if isinstance(value, str):
        return int(value.partition(".")[0]) if re.fullmatch(r"\s*-?[0-9]{1,18}(\.0*)?\s*", value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if abs(value) < 10**18 and (isinstance(value, int) or value.is_integer()) else None


def numbers(values: object, count: int) -> list[float] | None:
    """Exactly ``count`` numbers, or ``None``."""
    if not isinstance(values, (list, tuple)) or len(values) != count:
        return None
    found = [number(value) for value in values]
    return [value for value in found if value is not None] if None not in found else None


def pairs(values: object) -> list[tuple[float, float]] | None:
    """Points out of a list of alternating x and y, or of pairs; ``None`` for anything else, and for no point."""
    if isinstance(values, list) and values and all(isinstance(value, (list, tuple)) for value in values):
        values = [value for pair in values for value in (pair if len(pair) == 2 else (None,))]
    found = numbers(values, len(values)) if isinstance(values, list) else None
    return list(zip(found[::2], found[1::2])) if found and len(found) % 2 == 0 else None


def clean_text(value: object, limit: int = TEXT_LIMIT) -> str:
    """A text from outside as one printable line of composed Unicode (NFC) that any file can hold."""
    text = value if isinstance(value, str) else _shown(value)
    if len(text) <= limit and text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()  # nearly all names
    printable = (letter if letter.isprintable() else " " for letter in text[: limit * 4])
    plain = unicodedata.normalize("NFC", " ".join("".join(printable).split()))
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


def plain_value(text: str) -> Attribute:
    """What an element of XML says as text: ``true`` and ``false`` are meant as such."""
    return {"true": True, "false": False}.get(text.strip().lower(), clean_text(text))


def envelope(points: Sequence[tuple[float, float]]) -> Box:
    """The box around points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def rotated(box: Box, degrees: float, about_corner: bool = False) -> Box:
    """The upright box around ``box`` turned clockwise about its centre or its top left corner (y points down)."""
    turn = math.radians(degrees % 360.0)
    cosine, sine = math.cos(turn), math.sin(turn)
    x0, y0, x1, y1 = box
    x, y = (x0, y0) if about_corner else ((x0 + x1) / 2, (y0 + y1) / 2)
    corners = [(a - x, b - y) for a, b in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
    return envelope([(x + a * cosine - b * sine, y + a * sine + b * cosine) for a, b in corners])
