"""Notices that a training makes no progress: writes down where every thread is, and ends the process.

A process that hangs in a collective, a driver call or a disk that does not answer cannot be asked to stop; it is ended
with a status of its own (``EXIT_HUNG``), and goes on from the last checkpoint.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from marauder.core.clock import describe_seconds
from marauder.core.files import write_json
from marauder.core.plain import Plain
from marauder.engine.failures import EXIT_HUNG
from marauder.engine.timing import Moment, Stopwatch

log = logging.getLogger("marauder")

TICK_SECONDS = 1.0
LAST_WORDS_SECONDS = 30.0
UNLIMITED = ("evaluation", "checkpoint", "sanity")
"""Phases that may take any amount of time."""


def evidence_path(folder: Path, rank: int) -> Path:
    """Where the evidence of a rank that hung is kept."""
    return folder / f"hang_rank{rank}.json"


class Stillness:
    """Counts the seconds without progress, from looks at the stopwatch. Pure: moments and times in, seconds out.

    A look that comes late (this process was stopped, or the machine slept) counts as one tick: nothing could go on.
    """

    def __init__(self, tick: float, now: Moment, seconds: float) -> None:
        self.tick, self._seen, self._looked, self.still = tick, now, seconds, 0.0

    def look(self, now: Moment, seconds: float) -> float:
        """Seconds (of a monotonic clock) for which the phase has not changed, with the look at ``seconds``."""
        passed = min(seconds - self._looked, 2 * self.tick)
        # By identity: the same phase begun anew is progress, though the two moments are equal.
        self.still = self.still + passed if now is self._seen else 0.0
        self._seen, self._looked = now, seconds
        return self.still


class HangWatch:
    """Watches the stopwatch of a training from a thread, while the ``with`` block runs.

    Parameters: ``timeout`` is how many seconds a phase may last (0: no watch), ``timeouts`` says otherwise for some
    (``None``: for ever), ``describe`` what stood where (step, pictures), called only when it hangs. Evidence goes to
    ``hang_rank<rank>.json`` in ``folder``.
    """

    def __init__(
        self,
        stopwatch: Stopwatch,
        folder: Path,
        rank: int,
        timeout: float,
        timeouts: dict[str, float | None],
        describe: Callable[[], Plain],
    ) -> None:
        self.stopwatch, self.path, self.rank, self.describe = stopwatch, evidence_path(folder, rank), rank, describe
        self.timeout = timeout
        self.timeouts = {**dict.fromkeys(UNLIMITED), **timeouts}
        # A timeout of less than a few seconds still gets several looks.
        self.tick = min(TICK_SECONDS, timeout / 4)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="hang watch", daemon=True)

    def __enter__(self) -> HangWatch:
        if self.timeout:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        stillness = Stillness(self.tick, self.stopwatch.now, time.monotonic())
        while not self._over.wait(self.tick):
            now = self.stopwatch.now
            limit = self.timeouts.get(now.phase, self.timeout)
            still = stillness.look(now, time.monotonic())
            if limit is not None and still >= limit:
                self._end(now, still)

    def _end(self, now: Moment, still: float) -> None:
        """Write the evidence and leave. Nothing of the stuck thread can be waited for."""
        about = {
            "rank": self.rank,
            "process": os.getpid(),
            "time": round(time.time(), 3),
            "phase": now.phase,
            "seconds": round(still, 1),
            "stack": _stacks(),
        }
        # Should the disk or the description hang as well, this ends the process without asking Python.
        faulthandler.dump_traceback_later(LAST_WORDS_SECONDS, exit=True)
        log.error(
            "rank %d hangs: no progress in %s in the phase %r; the stack of every thread is in %s. Run the same "
            "command again: it continues from the last checkpoint",
            self.rank,
            describe_seconds(still),
            now.phase,
            self.path,
        )
        try:
            # Twice: the description asks the task, which may hang as well, so the plain facts go first.
            write_json(self.path, about)
            write_json(self.path, {**about, **self.describe()})
        finally:
            os._exit(EXIT_HUNG)


def _stacks() -> str:
    """The stack of every thread, the innermost call first."""
    # faulthandler writes to a file descriptor from C; a StringIO has none.
    with tempfile.TemporaryFile("w+") as stream:
        faulthandler.dump_traceback(stream, all_threads=True)
        stream.seek(0)
        return stream.read()
