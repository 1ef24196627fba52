"""The process that delivers an outbox to one sink: ``python -m marauder.messaging.follower <outbox.jsonl> <sink>``."""

from __future__ import annotations

from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import read_json
from marauder.core.plain import Plain
from marauder.delivery.follower import Receiver, Refused, Watch, follow, follower_arguments
from marauder.messaging.base import DeliveryError, Sink
from marauder.messaging.outbox import folder_of, journal_of
from marauder.messaging.settings import EventSettings

PATIENCE_SECONDS = 30.0
"""How much longer than an orphan may live its successor waits for it."""


class SinkReceiver(Receiver):
    """Hands events to a sink; an event that the receiver refuses for good is noted and passed over."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def errors(self) -> tuple[type[Exception], ...]:
        """A sink has one error; it says whether another attempt helps."""
        return (DeliveryError,)

    def deliver(self, record: Plain) -> None:
        """Deliver one event."""
        try:
            self.sink.deliver(record)
        except DeliveryError as error:
            if error.final:
                raise Refused(str(error)) from error
            raise

    def flush(self) -> None:
        """An event that was delivered has arrived."""

    def close(self) -> None:
        """A sink holds nothing open."""


def read_settings(path: Path) -> EventSettings:
    """The settings an outbox was started with last. Raises ``UserError`` where it never was."""
    stored = folder_of(path) / "settings.json"
    if not stored.exists():
        raise UserError(f"{stored}: is not there; name an outbox whose events go to a sink")
    return EventSettings.model_validate(read_json(stored))


def main() -> None:
    """Deliver until the parent is done, or gone, and nothing is left."""
    arguments = follower_arguments("Deliver an outbox to one sink.")
    settings = read_settings(arguments.folder)
    sink: Sink = settings.make_sink(arguments.name)
    watch = Watch(arguments.parent, settings.finish_seconds, arguments.call_seconds)
    cursor_path = folder_of(arguments.folder) / f"{arguments.name}.json"
    patience = settings.finish_seconds + PATIENCE_SECONDS
    follow(journal_of(arguments.folder), cursor_path, SinkReceiver(sink), watch, patience, arguments.refused)


if __name__ == "__main__":
    main()
