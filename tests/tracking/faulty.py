"""A tracker whose faults a test switches on and off, in the follower's process too: run this file as the follower.

It writes the calls that arrive as lines of ``<run>/calls.jsonl``. The file ``<run>/fault`` says what calls do instead:
``fail`` raise, ``hang`` never return, ``crash`` raise what nobody expects.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marauder.core import plugins
from marauder.tracking import follower
from marauder.tracking.base import Tracker

PLUGIN = {"faulty": "faulty:FaultyTracker"}


class FaultyTracker(Tracker):
    """Notes calls, unless it is at fault."""

    def _note(self, *call: Any) -> None:
        fault = self.run.folder / "fault"
        kind = fault.read_text() if fault.exists() else ""
        if kind == "fail":
            raise OSError("the server is away")
        if kind == "crash":
            raise RuntimeError("nobody expects this")
        while kind == "hang":
            time.sleep(1)
        with (self.run.folder / "calls.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(call) + "\n")

    name = "faulty"
    title = "Faulty"

    def open(self) -> None:
        """Noted."""
        self._note("start")

    def log_metrics(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Noted."""
        self._note("metrics", step)

    def log_figure(self, name: str, path: Path, step: int) -> None:
        """Noted."""
        self._note("figure", name)

    def log_curve(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> None:
        """Noted."""
        self._note("curve", name)

    def log_artifact(self, path: Path, kind: str) -> None:
        """Noted."""
        self._note("artifact", path.name)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Noted."""
        self._note("tags", dict(tags))

    def finish(self, status: str) -> None:
        """Noted."""
        self._note("finish", status)


if __name__ == "__main__":
    plugins.TABLE["tracker"] |= PLUGIN
    follower.main()
