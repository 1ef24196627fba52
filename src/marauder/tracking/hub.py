"""A run's side of its trackers: every call appends to the run's journal, which they follow in their own processes.

Nothing here waits for a tracker, except ``finish``, and that for no longer than the settings say.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from marauder.core.clock import Interrupted
from marauder.core.files import to_plain
from marauder.core.plugins import make
from marauder.delivery.follower import FollowerGroup, command_of
from marauder.delivery.journal import Journal
from marauder.tracking.base import TrackedRun
from marauder.tracking.records import (
    FINISHES,
    START,
    encode_number,
    journal_of,
    latest_start,
    relative_path,
    tracking_folder,
)
from marauder.tracking.settings import TrackingSettings

FOLLOWER = "marauder.tracking.follower"
log = logging.getLogger("marauder")


class TrackingHub:
    """Feeds the trackers of one run. Thread-safe; one process of a run holds it.

    Paths should name files that stay as they are: a tracker reads them when it comes to them. Metrics of a step may
    come again, as they do after a resume.
    """

    def __init__(self, run: TrackedRun, settings: TrackingSettings, follower: Sequence[str] = ()) -> None:
        """``follower``: the command that runs a follower, where it is another than this program's."""
        self.run, self.settings = run, settings
        self.journal = Journal(journal_of(run.folder))
        base = list(follower) or command_of(FOLLOWER)
        commands = {name: [*base, str(run.folder.absolute()), name] for name in settings.trackers}
        self.followers = FollowerGroup(self.journal, tracking_folder(run.folder), commands)
        self.running = False

    def start(self, fresh: bool = False) -> TrackingHub:
        """Open the run, or continue with it, and start the followers. Raises ``UserError`` on options that are none.

        ``fresh``: the run starts over; what was tracked before stays where it is, apart from what comes now.
        """
        earlier = latest_start(self.journal, self.run.folder)
        generation = 0 if earlier is None else earlier.run.generation + int(fresh)
        # Made once before anything is written: wrong options must not leave a start in the journal.
        for name in self.settings.trackers:
            make("tracker", name, self.settings.options.get(name), f"tracking.options.{name}")
        self._append(
            START,
            project=self.run.project,
            run_id=self.run.run_id,
            generation=generation,
            config=to_plain(dict(self.run.config)),
            tags={str(key): str(value) for key, value in self.run.tags.items()},
            trackers=list(self.settings.trackers),
            options=to_plain(self.settings.options),
            finish_seconds=self.settings.finish_seconds,
        )
        # After the start record, where followers look up their options.
        self.followers.start()
        self.running = True
        return self

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step (of updates); numbers that are not finite are recorded as such."""
        self._append("metrics", step=int(step), values={name: encode_number(value) for name, value in values.items()})

    def figure(self, name: str, path: Path, step: int) -> None:
        """A picture (PNG or JPEG) of a step."""
        self._append("figure", name=name, path=relative_path(self.run.folder, path), step=int(step))

    def curve(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> None:
        """A curve or table with named columns; a later one of the same name replaces it."""
        plain = [[value if isinstance(value, str) else encode_number(value) for value in row] for row in rows]
        self._append("curve", name=name, columns=list(columns), rows=plain)

    def artifact(self, path: Path, kind: str) -> None:
        """A file that belongs to the run: ``kind`` is model, report, card, data or log."""
        self._append("artifact", path=relative_path(self.run.folder, path), artifact=kind)

    def data_set(self, name: str, digest: str, splits: Mapping[str, int]) -> None:
        """What the run is trained on; see ``Tracker.log_data_set``."""
        self._append("data_set", name=name, digest=digest, splits=dict(splits))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Add or replace tags."""
        self._append("tags", tags={str(key): str(value) for key, value in tags.items()})

    def finish(self, status: str) -> list[str]:
        """Close the run as ``finished``, ``failed`` or ``interrupted``; returns the names of trackers that lag.

        Waits for them at most ``settings.finish_seconds``; one line of warning says who lags, and what to do. Nothing
        happens where the run was not started, or is closed.
        """
        if status not in FINISHES:
            raise ValueError(f"no status {status!r}; one of {', '.join(FINISHES)}")
        if not self.running:
            return []
        self.running = False
        self._append("finish", status=status)
        # On disk before the waiting: a machine that goes down meanwhile must not lose the end of the run.
        self.journal.sync()
        lagging = self.followers.finish(self.settings.finish_seconds)
        if lagging:
            log.warning(
                "tracking is behind: %s; it catches up with the next run of %s, or now with "
                "`marauder runs deliver --runs %s %s`",
                "; ".join(lagging.values()),
                self.run.run_id,
                self.run.folder.parent,
                self.run.folder.name,
            )
        return list(lagging)

    def _append(self, kind: str, **fields: Any) -> None:
        self.journal.append(kind, time=round(time.time(), 3), **fields)
        # At a start there are no followers yet that could have died.
        if kind != START:
            self.followers.look()

    def __enter__(self) -> TrackingHub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = isinstance(error, (Interrupted, KeyboardInterrupt))
        self.finish("finished" if error is None else "interrupted" if stopped else "failed")
