"""The tracker plug point: one method for each kind of record in a run's journal; every call may come twice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marauder.core.plain import PlainMapping
from marauder.core.plugins import Plugin
from marauder.core.settings import Settings


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker knows of its run: ``config`` and ``tags`` are plain values, ``folder`` the run's folder.

    ``generation`` counts how often the run was started over: each is a run of its own in a tracking system.
    """

    project: str
    run_id: str
    folder: Path
    config: PlainMapping
    tags: Mapping[str, str]
    generation: int = 0


class Tracker(Plugin[Settings], ABC):
    """Writes a run into a tracking system. Runs in a process of its own; may raise and may hang: the run continues.

    Calls come in the journal's order, at least once each: the same call again must not add a second entry. Only
    ``start``, which comes first, opens anything.

    A call may raise ``delivery.follower.Refused``: it is passed over. ``replays``: what was logged is safe only after
    ``finish``, so that a new process begins at the journal's first record.
    """

    replays = False

    run: TrackedRun
    """The one it was started for."""

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        """What a call may raise that another attempt can mend; any other error ends the process, which is started
        again later."""
        return (OSError,)

    def start(self, run: TrackedRun) -> None:
        """Begin with a run."""
        self.run = run
        self.open()

    @abstractmethod
    def open(self) -> None:
        """Open ``self.run`` in the tracking system, or continue the one of this ``run_id``; log config and tags."""

    @abstractmethod
    def log_metrics(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Numbers at a step (of updates); ``time`` in seconds since 1970."""

    @abstractmethod
    def log_figure(self, name: str, path: Path, step: int) -> None:
        """A picture (PNG or JPEG)."""

    @abstractmethod
    def log_curve(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> None:
        """A curve or table (precision over recall, ROC) with named columns."""

    @abstractmethod
    def log_artifact(self, path: Path, kind: str) -> None:
        """A file that belongs to the run: ``kind`` is model, report, card, data or log."""

    def log_data_set(self, name: str, digest: str, splits: Mapping[str, int]) -> None:
        """What the run is trained on: ``digest`` is equal for equal data, ``splits`` counts the pictures of each."""
        counted = ", ".join(f"{split} {count}" for split, count in splits.items())
        self.set_tags({"data_set": f"{name} {digest[:12]} ({counted})"})

    @abstractmethod
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Add or replace tags (verdicts, status). ``description`` is what people read first of a run."""

    def flush(self) -> None:
        """Persist what was logged so far."""

    @abstractmethod
    def finish(self, status: str) -> None:
        """Close the run: ``finished``, ``failed`` or ``interrupted``. An interrupted run may be started again."""
