"""Tables as CSV files: written atomically, row by row, with the same bytes for the same rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from marauder.core.errors import printable
from marauder.core.files import atomic_path


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write a table; ``None`` is an empty cell. Returns ``path``."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        # csv would end lines with \r\n, on every system.
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow([printable(cell) if isinstance(cell, str) else cell for cell in row])
    return path
