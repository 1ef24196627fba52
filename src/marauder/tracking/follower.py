"""The process in which one tracker follows a run: ``python -m marauder.tracking.follower <run folder> <tracker>``."""

from __future__ import annotations

from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.plugins import make, resolve
from marauder.delivery.follower import Receiver, Refused, Watch, follow, follower_arguments
from marauder.delivery.journal import Journal
from marauder.tracking.base import Tracker
from marauder.tracking.records import START, Start, decode_cell, journal_of, latest_start, tracking_folder

PATIENCE_SECONDS = 30.0
"""How much longer than an orphan may live its successor waits for it."""


class TrackerReceiver(Receiver):
    """Hands records to a tracker, which is opened with the first of them.

    Where the journal tells of a later start already, an end before it is passed over: the run continues. Where the run
    was started over, so is everything before that.
    """

    def __init__(self, name: str, journal: Journal, run_folder: Path) -> None:
        self.name, self.journal, self.run_folder = name, journal, run_folder
        self.kind: type[Tracker] = resolve("tracker", name)
        self.replays = self.kind.replays
        self.tracker: Tracker | None = None
        self.finished = False
        self.generation: int | None = None
        self.first = 1

    def errors(self) -> tuple[type[Exception], ...]:
        """Those of the tracker."""
        return self.kind.errors()

    def deliver(self, record: Plain) -> None:
        """Open the tracker where needed, and make the call that the record stands for."""
        if self.generation is not None and record["kind"] == START and record["generation"] > self.generation:
            self.close()
        tracker = self._opened()
        if record[self.journal.key] < self.first:
            return
        if record["kind"] == "finish":
            self._finish(record, tracker)
            return
        if record["kind"] == START:
            if record["tags"]:
                tracker.set_tags(record["tags"])
        elif record["kind"] == "metrics":
            # float() also undoes encode_number: JSON has no nan and inf, the journal has their names.
            values = {name: float(value) for name, value in record["values"].items()}
            tracker.log_metrics(record["step"], values, record["time"])
        elif record["kind"] == "figure":
            tracker.log_figure(record["name"], self._file(record["path"]), record["step"])
        elif record["kind"] == "curve":
            rows = [[decode_cell(value) for value in row] for row in record["rows"]]
            tracker.log_curve(record["name"], record["columns"], rows)
        elif record["kind"] == "artifact":
            tracker.log_artifact(self._file(record["path"]), record["artifact"])
        elif record["kind"] == "data_set":
            tracker.log_data_set(record["name"], record["digest"], record["splits"])
        elif record["kind"] == "tags":
            tracker.set_tags(record["tags"])
        else:
            raise Refused(f"unknown kind of record: {record['kind']!r}")

    def flush(self) -> None:
        """Have the tracker persist what it has."""
        if self.tracker is not None:
            self.tracker.flush()

    def is_finished(self) -> bool:
        """Whether the end of the run was delivered."""
        return self.finished

    def close(self) -> None:
        """Close the run as its journal ends; one that left no end behind was interrupted."""
        if self.tracker is not None:
            # The run may continue after an end, so that only the last of these says how it ended.
            bounds = [record for record in self.journal.read_after(0) if record["kind"] in (START, "finish")]
            self.tracker.finish(bounds[-1].get("status", "interrupted"))
            self.tracker = None

    def _opened(self) -> Tracker:
        if self.tracker is None:
            start = latest_start(self.journal, self.run_folder)
            if start is None:
                raise Refused("the journal holds no start before this record")
            tracker: Tracker = make("tracker", self.name, start.options.get(self.name), f"tracking.options.{self.name}")
            tracker.start(start.run)
            self.tracker, self.finished = tracker, False
            self.generation, self.first = start.run.generation, start.first
        return self.tracker

    def _finish(self, record: Plain, tracker: Tracker) -> None:
        later = self.journal.read_after(record[self.journal.key])
        if any(after["kind"] == START for after in later):
            return
        tracker.finish(record["status"])
        self.tracker, self.finished = None, True

    def _file(self, path: str) -> Path:
        found = self.run_folder / path
        if not found.is_file():
            raise Refused(f"{found} is not there any more")
        return found


def read_run(run_folder: Path) -> tuple[Journal, Start]:
    """The journal of a run and its newest start. Raises ``UserError`` where the run has none."""
    journal = Journal(journal_of(run_folder))
    start = latest_start(journal, run_folder)
    if start is None:
        raise UserError(f"{journal.path}: holds no start of a run; name the folder of a run that is tracked")
    return journal, start


def main() -> None:
    """Follow until the run is finished and all is delivered, or the parent is gone and nothing is left."""
    arguments = follower_arguments("Deliver a run's tracking journal to one tracker.")
    journal, start = read_run(arguments.folder)
    receiver = TrackerReceiver(arguments.name, journal, arguments.folder)
    watch = Watch(arguments.parent, start.finish_seconds, arguments.call_seconds)
    cursor_path = tracking_folder(arguments.folder) / f"{arguments.name}.json"
    follow(journal, cursor_path, receiver, watch, start.finish_seconds + PATIENCE_SECONDS, arguments.refused)


if __name__ == "__main__":
    main()
