"""What a person sees of a training: where it continues from, one line an epoch, why it stopped, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marauder.core.clock import describe_seconds
from marauder.core.progress import Progress

WIDTH = 80
GAP = "  "
FIGURE_WIDTH = 5
BEST = " *"
LINES_A_HEADER = 20
"""Epochs below a header, before it is said again."""


@dataclass(frozen=True)
class Column:
    """A figure of an epoch's row: the ``name`` it has there, the ``title`` over it."""

    name: str
    title: str

    @property
    def width(self) -> int:
        """Characters: room for the title and for a figure."""
        return max(len(self.title), FIGURE_WIDTH)


def choose_columns(losses: Sequence[str], metrics: Mapping[str, str], room: int) -> list[Column]:
    """The parts of the loss and the metrics (name to title), as many as fit into ``room`` characters with their gaps.

    Where the parts would take more than half of the room, their sum stands for all of them.
    """
    parts = [Column(f"train/{name}", name) for name in losses]
    if len(parts) > 1 and _space(parts) > room / 2:
        parts = [Column("train/loss", "loss")]
    chosen = parts
    for name, title in metrics.items():
        column = Column(f"val/{name}", title)
        if _space([*chosen, column]) <= room:
            chosen = [*chosen, column]
    return chosen


class Screen:
    """Lines on standard error, from the process that ``leads``; the others say nothing.

    ``losses``: the parts of the loss. ``metrics``: name to title of what a line shows of an evaluation.
    """

    def __init__(
        self, leads: bool, epochs: int, total_steps: int, losses: Sequence[str], metrics: Mapping[str, str]
    ) -> None:
        self.leads, self.epochs, self.total_steps = leads, epochs, total_steps
        self._epoch_width = max(len("epoch"), len(f"{epochs}/{epochs}"))
        self.columns = choose_columns(losses, metrics, WIDTH - self._epoch_width - len(f"{GAP}59 min 59 s{BEST}"))
        self._losses = losses
        self._progress: Progress | None = None
        self._lines = 0

    def begin(self, step: int) -> None:
        """Show progress from ``step`` on."""
        if self.leads:
            self._progress = Progress("training", self.total_steps, "steps", already_done=step)

    def say(self, text: str) -> None:
        """Write a line of words."""
        if not self.leads:
            return
        # Made for one line where training has not begun: the stream is the same.
        progress = self._progress if self._progress is not None else Progress("training", None)
        progress.say(text)

    def epoch_ended(self, history: Sequence[Mapping[str, float]], is_best: bool) -> None:
        """Write the line of the newest row of ``history``, under a header at first and again every so often."""
        if self._lines % LINES_A_HEADER == 0:
            titles = [column.title.rjust(column.width) for column in self.columns]
            self.say(GAP.join(["epoch".rjust(self._epoch_width), *titles, f"time{GAP}{BEST.strip()}: best"]))
        self._lines += 1
        self.say(self.line(history, is_best))

    def line(self, history: Sequence[Mapping[str, float]], is_best: bool) -> str:
        """Figures of the newest row of ``history``; its time is what was spent since the row before."""
        row = dict(history[-1])
        row["train/loss"] = math.fsum(row.get(f"train/{name}", math.nan) for name in self._losses)
        before = history[-2]["seconds"] if len(history) > 1 else 0.0
        values = [_figure(row.get(column.name)).rjust(column.width) for column in self.columns]
        numbered = f"{int(row['epoch'])}/{self.epochs}".rjust(self._epoch_width)
        took = describe_seconds(row["seconds"] - before)
        return GAP.join([numbered, *values, took + (BEST if is_best else "")])

    def advance(self, note: str) -> None:
        """A step is done."""
        if self._progress is not None:
            self._progress.advance(note=note)

    def close(self) -> None:
        """End the line of progress."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def _space(columns: Sequence[Column]) -> int:
    return sum(column.width + len(GAP) for column in columns)


def _figure(value: float | None) -> str:
    """Four digits: ``0.123``, ``12.34``, ``123.4``; ``nan`` where it is not a number."""
    if value is None:
        return "–"
    decimals = next((places for places, limit in ((3, 10), (2, 100), (1, 1000)) if abs(value) < limit), 0)
    return f"{value:.{decimals}f}"
