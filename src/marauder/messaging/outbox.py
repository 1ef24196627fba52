"""The outbox of a run or registry: every CloudEvent durably in a JSONL file first, then to the sinks from there.

Beside ``outbox.jsonl`` the folder ``outbox/`` holds what the sinks' processes need and leave: settings, cursors, logs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from marauder.core.files import write_json
from marauder.core.plain import Plain, PlainMapping
from marauder.delivery.follower import FollowerGroup, command_of
from marauder.delivery.journal import Journal
from marauder.messaging.cloud_events import make_event
from marauder.messaging.settings import EventSettings

FOLLOWER = "marauder.messaging.follower"
SEQUENCE = "sequence"
log = logging.getLogger("marauder")


def journal_of(path: Path) -> Journal:
    """The journal that an outbox file is."""
    return Journal(path, key=SEQUENCE, durable=True)


def folder_of(path: Path) -> Path:
    """Where settings, cursors and logs of the outbox ``path`` lie."""
    return path.with_suffix("")


class Outbox:
    """Emits events about ``subject`` (a run id) into ``path``; with ``start`` they also go to the settings' sinks.

    Thread-safe; several processes may write into one outbox, one at a time delivers to a sink.
    """

    def __init__(self, path: Path, settings: EventSettings, subject: str, follower: Sequence[str] = ()) -> None:
        """``follower``: the command that runs a follower, where it is another than this program's."""
        self.path, self.settings, self.subject = path, settings, subject
        self.journal = journal_of(path)
        base = list(follower) or command_of(FOLLOWER)
        commands = {name: [*base, str(path.absolute()), name] for name in settings.sinks}
        self.followers = FollowerGroup(self.journal, folder_of(path), commands)
        self.started = False

    def start(self) -> Outbox:
        """Start delivering. Raises ``UserError`` where a sink's options or its secret are missing."""
        for name in self.settings.sinks:
            # Made once in this process, so that a missing secret is reported here and not in a follower's log.
            self.settings.make_sink(name)
        if self.settings.sinks:
            # For the followers, and for `marauder runs deliver` once this process is gone.
            write_json(folder_of(self.path) / "settings.json", self.settings.model_dump(mode="json"))
        self.followers.start()
        self.started = True
        return self

    def emit(self, type: str, data: PlainMapping) -> str:
        """Append an event (``type`` as in ``cloud_events.TYPES``), on disk when this returns; returns its id."""
        events: list[Plain] = []
        now = time.time()

        # The id holds the event's number, which is known only while the journal is locked.
        def make(number: int) -> Plain:
            events.append(make_event(number, type, self.settings.source, self.subject, data, now))
            return events[-1]

        self.journal.append_made(make)
        if self.started:
            self.followers.look()
        return str(events[-1]["id"])

    def finish(self) -> list[str]:
        """Wait at most ``settings.finish_seconds`` for the sinks; returns the names of those that lag, and warns."""
        if not self.started:
            return []
        self.started = False
        lagging = self.followers.finish(self.settings.finish_seconds)
        if lagging:
            log.warning(
                "events are behind: %s; they are delivered with the next run of %s, or now with "
                "`marauder runs deliver --runs %s %s`",
                "; ".join(lagging.values()),
                self.subject,
                self.path.parent.parent,
                self.path.parent.name,
            )
        return list(lagging)

    def __enter__(self) -> Outbox:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()
