"""One line of progress: what is done, rate and time left; redrawn on a terminal, printed now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from marauder.core.clock import describe_seconds


class Progress:
    """Counts units of work and shows them as one line on standard error.

    On a terminal the line is redrawn up to ten times a second; elsewhere it is printed every ``log_seconds``.
    ``already_done`` units (of an earlier, interrupted run) count as done but not towards the rate.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: str = "pictures",
        already_done: int = 0,
        log_seconds: float = 15.0,
        stream: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.already_done = already_done, already_done
        self.stream = stream if stream is not None else sys.stderr
        self.terminal = self.stream.isatty()
        self.interval = 0.1 if self.terminal else log_seconds
        self.started = self.shown = time.monotonic()
        self.note = ""

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Add ``count`` finished units; ``note`` replaces the words at the end of the line."""
        self.done += count
        if note is not None:
            self.note = note
        if time.monotonic() - self.shown >= self.interval:
            self._show()

    def say(self, text: str) -> None:
        """Write a line above the line of progress, which is next shown after another interval."""
        self.stream.write(f"\r\x1b[K{text}\n" if self.terminal else f"{text}\n")
        self.stream.flush()
        self.shown = time.monotonic()

    def line(self) -> str:
        """The line as it is now."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self.already_done) / seconds
        counted = f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"
        parts = [f"{self.label}: {counted} {self.unit}", f"{rate:.3g}/s"]
        if self.total is not None and rate > 0 and self.done < self.total:
            parts.append(f"{describe_seconds((self.total - self.done) / rate)} left")
        if self.note:
            parts.append(self.note)
        return ", ".join(parts)

    def close(self) -> None:
        """Show the last state and end the line."""
        self._show()
        if self.terminal:
            self.stream.write("\n")
            self.stream.flush()

    def _show(self) -> None:
        self.shown = time.monotonic()
        # Erased first: what a longer line left behind would otherwise stay on the screen.
        self.stream.write(f"\r\x1b[K{self.line()}" if self.terminal else f"{self.line()}\n")
        self.stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
