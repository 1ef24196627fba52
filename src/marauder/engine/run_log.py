"""What a training writes down in its folder, and tells its observer, on the leading process: events and epochs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.core.events import EventLog
from marauder.core.files import append_line, to_plain, write_text
from marauder.engine.observer import Observer


class RunLog:
    """Writes ``events.jsonl`` and ``metrics.jsonl`` into ``folder`` where ``leads``; elsewhere it does nothing."""

    def __init__(self, folder: Path, leads: bool, observer: Observer | None) -> None:
        self.leads = leads
        self.observer = observer if observer is not None else Observer()
        self.events = EventLog(folder / "events.jsonl")
        self.metrics = folder / "metrics.jsonl"

    def event(self, kind: str, **fields: Any) -> None:
        """Append an event and pass it on."""
        if self.leads:
            self.events.write(kind, **fields)
            self.observer.happened(kind, fields)

    def epoch_ended(self, epoch: int, row: Mapping[str, float]) -> None:
        """Append an epoch's row of numbers and pass it on."""
        if self.leads:
            append_line(self.metrics, row)
            self.observer.epoch_ended(epoch, row)

    def stepped(self, step: int, values: Mapping[str, float]) -> None:
        """Pass on the numbers of the updates up to ``step``."""
        if self.leads:
            self.observer.stepped(step, values)

    def rewrite_epochs(self, history: Sequence[Mapping[str, float]]) -> None:
        """Bring ``metrics.jsonl`` to what the checkpoint knows, so that repeated epochs do not stand in it twice."""
        if self.leads:
            write_text(self.metrics, "".join(json.dumps(to_plain(dict(row))) + "\n" for row in history))
