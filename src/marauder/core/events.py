"""An append-only record of what happened in a folder: one JSON line an event, in the order it happened."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from marauder.core.files import append_line, read_lines
from marauder.core.plain import Plain


class EventLog:
    """Writes and reads ``events.jsonl``. An event has ``kind``, ``time`` (seconds since 1970), own fields."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event."""
        append_line(self.path, {"kind": kind, "time": round(time.time(), 3), **fields})

    def read(self, kind: str | None = None) -> list[Plain]:
        """All events so far, or those of one kind."""
        return [event for event in read_lines(self.path) if kind is None or event.get("kind") == kind]
