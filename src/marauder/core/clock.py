"""The clock that every long loop asks between units of work: time budgets, SIGTERM, SIGINT, notices and stop requests.

A first signal, or a spent budget, means: finish the unit, save, leave with exit status 75 and the line that resumes.
A second signal leaves at once; the last checkpoint is kept. Signals are answered by a thread of their own, so that the
answer comes at once whatever the main thread is at.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from marauder.core.errors import UserError
from marauder.core.mistakes import Mistake, MistakesError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
FIRST_WORDS_SECONDS, MORE_WORDS_SECONDS = 2.0, 10.0
"""Seconds after which someone who waits for the end hears what the work is at: at first, and again."""
AGAIN_SECONDS = 0.5
"""A signal that comes so soon after the first is the same one: who ends a group of processes, as ``timeout`` does,
often sends it to each of them and to the group."""
_NO_MORE = b"\0"
EXIT_INTERRUPTED = 75
"""Exit status of work that stopped in time and can be continued (EX_TEMPFAIL of sysexits.h)."""


class Interrupted(Exception):  # noqa: N818 - it is no error: the work is saved and goes on later
    """Work stopped in time, everything saved. ``reason`` says why, ``resume_command`` how to continue."""

    def __init__(self, reason: str, resume_command: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.resume_command = resume_command


class Clock:
    """Answers one question, ``stop_reason()``, and counts the seconds spent.

    Parameters: ``max_seconds`` is the budget of this process (``None``: no limit), ``reserve_seconds`` what the loop
    needs to save (the budget is spent that much earlier), ``stop_file`` a path whose appearance asks to stop,
    ``parent`` the number of a process without which the work is pointless.
    """

    def __init__(
        self,
        max_seconds: float | None = None,
        reserve_seconds: float = 0.0,
        stop_file: Path | None = None,
        parent: int | None = None,
    ) -> None:
        if max_seconds is not None and not 0 < max_seconds < math.inf:
            raise UserError(f"--max-hours: must be a positive number of hours, not {max_seconds / 3600:g}")
        # Not the time of day: setting the machine's clock must neither spend nor stretch a budget.
        self.started = time.monotonic()
        self.max_seconds = max_seconds
        self.reserve_seconds = reserve_seconds
        self.stop_file = stop_file
        self.parent = parent
        self.signal_name: str | None = None
        self._process = os.getpid()
        self._asked: float | None = None
        self.doing = ""
        """What the work is at ("exporting the model"), for whoever asked it to stop and waits."""
        self.notice: str | None = None
        """Why the machine is about to go away; ``marauder.launch.notices.watch`` sets it, from a thread of its own."""

    @classmethod
    def for_hours(cls, max_hours: float | None, place: str = "option --max-hours") -> Clock:
        """The clock of a command's ``--max-hours``. ``place``: where they were given. Raises ``UserError``."""
        if max_hours is not None and not 0 < max_hours < math.inf:
            words = f"must be a positive number of hours, not {max_hours:g}"
            raise MistakesError([Mistake(words, place)])
        return cls(None if max_hours is None else max_hours * 3600)

    def elapsed(self) -> float:
        """Seconds since this clock was made."""
        return time.monotonic() - self.started

    def remaining(self) -> float | None:
        """Seconds left of the budget (not below 0), or ``None`` without a budget."""
        return None if self.max_seconds is None else max(0.0, self.max_seconds - self.elapsed())

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        """Why work should stop now, or ``None``. ``next_unit_seconds`` is how long the next unit will take."""
        if self.signal_name is not None:
            return f"{self.signal_name} received"
        if self.notice is not None:
            return self.notice
        remaining = self.remaining()
        if remaining is not None and remaining <= self.reserve_seconds + next_unit_seconds:
            return f"time budget of {describe_seconds(self.max_seconds or 0)} spent"
        if self.stop_file is not None and self.stop_file.exists():
            return self.stop_file.read_text(encoding="utf-8").strip() or f"stop requested by {self.stop_file}"
        if self.parent is not None and not _is_alive(self.parent):
            return "the process that started this one is gone"
        return None

    def check(self, next_unit_seconds: float = 0.0) -> None:
        """Raise ``Interrupted`` if work should stop. For loops whose units are saved as they finish."""
        reason = self.stop_reason(next_unit_seconds)
        if reason is not None:
            raise Interrupted(reason)

    @contextmanager
    def listening(self) -> Iterator[Clock]:
        """Catch SIGTERM and SIGINT while the block runs; a second signal ends the process.

        Python delivers signals to the main thread only; in any other thread just the budget is kept.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        global _listening
        before, _listening = _listening, self
        self._process = os.getpid()
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # The interpreter writes the number of a signal there the moment it comes. Its handlers wait until the main
        # thread is back from whatever it called, which may take many seconds.
        former = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        answering = threading.Thread(target=self._answer, args=(reading,), name="signals", daemon=True)
        answering.start()
        try:
            yield self
        finally:
            _listening = before
            # Not by closing it: a forked process may hold the pipe open.
            os.write(writing, _NO_MORE)
            answering.join()
            try:
                signal.set_wakeup_fd(former)
            except (ValueError, OSError):  # whoever listened before has closed it since
                signal.set_wakeup_fd(-1)
            os.close(writing)
            os.close(reading)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        # A forked process has nobody who answers.
        if self._asked is not None and os.getpid() != self._process and time.monotonic() - self._asked > AGAIN_SECONDS:
            os._exit(128 + number)
        self._asked = self._asked or time.monotonic()
        self.signal_name = self.signal_name or signal.Signals(number).name

    def _answer(self, reading: int) -> None:
        """Answer signals: the first, and the waiting after it, with words, the second by leaving."""
        asked, speaks, pause = None, False, FIRST_WORDS_SECONDS
        # Not ``select``, which knows no descriptors above 1023.
        waiting = select.poll()
        waiting.register(reading, select.POLLIN)
        while True:
            ready = waiting.poll(None if asked is None else 1000 * pause)
            numbers = os.read(reading, 64) if ready else b""
            for number in (one for one in numbers if one in SIGNALS):
                if asked is not None:
                    if time.monotonic() - asked < AGAIN_SECONDS:
                        continue
                    # Not sys.exit: its SystemExit could be caught, or wait in a finally, and whoever asks twice wants
                    # out now.
                    os._exit(128 + number)
                self.signal_name = self.signal_name or signal.Signals(number).name
                # Those that were started by another process leave the speaking to it.
                asked, speaks = time.monotonic(), number == signal.SIGINT and self.parent is None
                self._say(speaks, "\nfinishing this step and saving; press Ctrl-C again to stop without saving\n")
            if _NO_MORE in numbers:
                return
            if asked is not None and not numbers:
                waited = describe_seconds(time.monotonic() - asked)
                at = self.doing or "finishing this step"
                self._say(speaks, f"still {at} ({waited} so far); press Ctrl-C again to stop at once\n")
                pause = MORE_WORDS_SECONDS

    @staticmethod
    def _say(speaks: bool, words: str) -> None:
        if speaks:
            # Takes no lock that the main thread may hold. A terminal that is gone must not end the thread.
            with contextlib.suppress(OSError):
                os.write(2, words.encode())


# A forked process would write its signals, too, and one Ctrl-C would be taken for two.
os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
_listening: Clock | None = None


class _Signals(Clock):
    """What a listening clock hears, without its budget: a step is done even where the budget is spent at once."""

    def __init__(self, listening: Clock) -> None:
        super().__init__()
        self.listening_one = listening

    def stop_reason(self, next_unit_seconds: float = 0.0) -> str | None:
        heard = self.listening_one.signal_name
        return f"{heard} received" if heard is not None else self.listening_one.notice


def listening_clock() -> Clock | None:
    """A clock that reports the signals this process listens for now, or ``None``: for code too deep down to be handed
    one."""
    return _Signals(_listening) if _listening is not None else None


def _is_alive(process: int) -> bool:
    try:
        # Signal 0 delivers nothing; the call only says whether there is such a process.
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and belongs to another user
        return True
    return True


def describe_seconds(seconds: float) -> str:
    """``42 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 and seconds != whole else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
