"""Who hears, on the leading process, how a training goes: trackers, events, mirrors of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from marauder.core.plain import PlainMapping


class Observer:
    """Hears what a training does; this one ignores it. Methods return at once and do not raise."""

    def stepped(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of the updates since the last call: losses, learning rate, gradient norm, data wait, memory."""

    def epoch_ended(self, epoch: int, row: Mapping[str, float]) -> None:
        """The row that went into ``metrics.jsonl``, with ``val/`` metrics where the epoch was evaluated."""

    def checkpointed(self, path: Path, step: int) -> None:
        """A checkpoint is whole on disk. Called from the thread that wrote it."""

    def happened(self, kind: str, fields: PlainMapping) -> None:
        """An event that went into ``events.jsonl``."""
