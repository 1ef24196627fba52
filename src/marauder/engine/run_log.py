"""What a training writes down in its folder, and tells its observer, on the leading process: events and epochs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.core.events import EventLog
from marauder.core.files import DamagedFileError, append_line, read_json, to_plain, write_json, write_text
from marauder.engine.observer import Observer

REACHED_SECONDS = 2.0
"""How often it is noted how far a training is: a kill leaves at most this much unknown."""


class RunLog:
    """Writes ``events.jsonl``, ``metrics.jsonl`` and ``reached.json`` into ``folder``; nothing unless it ``leads``."""

    def __init__(self, folder: Path, leads: bool, observer: Observer | None) -> None:
        self.leads = leads
        self.observer = observer if observer is not None else Observer()
        self.events = EventLog(folder / "events.jsonl")
        self.metrics = folder / "metrics.jsonl"
        self._reached, self._reached_at = folder / "reached.json", 0.0

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

    def reached(self, step: int, seconds: float) -> None:
        """Note how far training is, now and then: after a kill it tells what was done since the checkpoint."""
        now = time.monotonic()
        if self.leads and now - self._reached_at >= REACHED_SECONDS:
            self._reached_at = now
            write_json(self._reached, {"step": step, "seconds": round(seconds, 1)})

    def lost_since(self, step: int, seconds: float) -> tuple[int, float]:
        """Steps and seconds that the process before did after ``step``, which was reached after ``seconds``."""
        try:
            reached = read_json(self._reached)
            return max(reached["step"] - step, 0), max(reached["seconds"] - seconds, 0.0)
        except (FileNotFoundError, DamagedFileError):
            return 0, 0.0

    def forget_reached(self) -> None:
        """What lies in the folder is of another training, or of a branch given up."""
        if self.leads:
            self._reached.unlink(missing_ok=True)

    def stepped(self, step: int, values: Mapping[str, float]) -> None:
        """Pass on the numbers of the updates up to ``step``."""
        if self.leads:
            self.observer.stepped(step, values)

    def rewrite_epochs(self, history: Sequence[Mapping[str, float]]) -> None:
        """Bring ``metrics.jsonl`` to what the checkpoint knows, so that repeated epochs do not stand in it twice."""
        if self.leads:
            write_text(self.metrics, "".join(json.dumps(to_plain(dict(row))) + "\n" for row in history))
