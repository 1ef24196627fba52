"""What a run hears of its training goes on to trackers, to the outbox of events and to the mirrors of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from marauder.core.plain import PlainMapping
from marauder.engine.observer import Observer
from marauder.messaging.outbox import Outbox
from marauder.storage.mirror import CheckpointMirror
from marauder.tracking.hub import TrackingHub

UNTRACKED = ("epoch", "step")


class RunObserver(Observer):
    """Passes on what it hears; every call only appends to a file or starts a copy in the background."""

    def __init__(
        self, hub: TrackingHub, outbox: Outbox, mirrors: Sequence[CheckpointMirror], checkpoints: Path
    ) -> None:
        self.hub, self.outbox, self.mirrors, self.checkpoints = hub, outbox, mirrors, checkpoints

    def stepped(self, step: int, values: Mapping[str, float]) -> None:
        """To the trackers, under ``step/``."""
        self.hub.metrics(step, {f"step/{name}": value for name, value in values.items()})

    def epoch_ended(self, epoch: int, row: Mapping[str, float]) -> None:
        """To the trackers, with the epoch's number."""
        values = {name: value for name, value in row.items() if name not in UNTRACKED}
        # By step, as all else: trackers keep one axis, and take the epoch as a number on it.
        self.hub.metrics(int(row["step"]), {"epoch": epoch, **values})

    def checkpointed(self, path: Path, step: int) -> None:
        """To the mirrors, and an event."""
        for mirror in self.mirrors:
            # Only offered: copying to a slow place must not hold up the training.
            mirror.offer(path, step)
        self.outbox.emit("io.marauder.run.checkpoint", {"step": step, "checkpoint": path.name})

    def happened(self, kind: str, fields: PlainMapping) -> None:
        """Set-aside pictures, restarts and an early stop are tags, so that they show beside the numbers.

        Mirrors learn of a branch given up: killed before a first copy, the next start must not find its checkpoints.
        """
        if kind == "went_back":
            for mirror in self.mirrors:
                mirror.give_up_after(self.checkpoints, int(fields["step"]))
        if kind in ("set_aside", "out_of_memory", "worker_died", "group_restarted", "stopped_early"):
            self.hub.tags({f"happened.{kind}": str(dict(fields))[:400]})
