"""The rows of a manifest file, JSON lines or Parquet, one after the other; a bad one is reported and left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.data.manifests.format import METADATA, SOURCE, Row, RowError, decode_row, parse_row
from marauder.data.manifests.parquet import parquet_rows
from marauder.data.records import Problem

JSON_SUFFIXES = (".manifest", ".jsonl")
PARQUET_SUFFIX = ".parquet"
SNIFFED_BYTES = 65536


def is_manifest(path: Path) -> bool:
    """Whether a file looks like a manifest, by its suffix and first bytes. Never raises on foreign content."""
    suffix = path.suffix.lower()
    if suffix not in (*JSON_SUFFIXES, PARQUET_SUFFIX) or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(SNIFFED_BYTES)
    except OSError:
        return False
    if suffix == PARQUET_SUFFIX:
        return head.startswith(b"PAR1")
    return f'"{SOURCE}"'.encode() in head


def is_blank(path: Path) -> bool:
    """Whether a file has nothing but white space in it. Raises ``UserError`` for one that cannot be read."""
    try:
        with path.open("rb") as stream:
            return not any(line.lstrip(b"\xef\xbb\xbf").strip() for line in stream)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def manifest_rows(path: Path, problems: list[Problem], label: str | None = None) -> Iterator[tuple[int, Row]]:
    """Line (or row of a Parquet file, from 1) and content of every usable row; what is not goes to ``problems``.

    Raises ``UserError`` for a file that cannot be read at all.
    """
    for line, content in _contents(path, problems):
        try:
            row = parse_row(content, label)
        except RowError as error:
            problems.append(Problem(str(path), line, "label-syntax", str(error)))
            continue
        if label is not None and label not in content and _has_other_label(content):
            row.mistakes.append(f"no attribute {label!r} in this row")
        for mistake in row.mistakes:
            problems.append(Problem(str(path), line, "label-syntax", f"{row.source}: {mistake}", row.identity))
        yield line, row


def _has_other_label(content: Plain) -> bool:
    return any(key.endswith(METADATA) for key in content)


def _contents(path: Path, problems: list[Problem]) -> Iterator[tuple[int, Any]]:
    if path.suffix.lower() == PARQUET_SUFFIX:
        yield from enumerate(parquet_rows(path), 1)
        return
    try:
        with path.open("rb") as stream:
            for line, raw in enumerate(stream, 1):
                text = raw.lstrip(b"\xef\xbb\xbf") if line == 1 else raw
                if not text.strip():
                    continue
                try:
                    content = decode_row(text)
                except RowError as error:
                    problems.append(Problem(str(path), line, "label-syntax", str(error)))
                    continue
                yield line, content
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
