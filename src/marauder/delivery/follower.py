"""Following a journal in a process of its own: whatever is slow, fails or hangs there never touches the writer.

``follow`` is the loop inside that process, ``FollowerGroup`` what its parent holds. Records are delivered in order, at
least once each. A failed attempt is repeated with growing pauses, a process that died is started again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marauder.core.locks import is_held, turn
from marauder.core.plain import Plain
from marauder.delivery.journal import Cursor, Journal

POLL_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE, LAST_PAUSES = 0.5, 60.0, 2.0
"""Seconds before a second attempt, the most between two, and the most once the parent waits for the end."""
REVIVAL_PAUSE, LONGEST_REVIVAL_PAUSE, LAST_REVIVAL_PAUSE = 10.0, 600.0, 1.0
"""Seconds between two starts of a process that died: at first, the most, and once the parent waits for the end."""
END_POLL_SECONDS = 0.02
FLUSH_SHARE = 0.05
"""The most of its time that a follower spends on bringing what it delivered to the disk."""
CALL_SECONDS = 1800.0
"""A call that takes longer hangs; uploading large weights may take minutes."""
EXIT_STUCK = 70


class Refused(Exception):  # noqa: N818 - it is an answer
    """This record can never be delivered: it is noted and passed over."""


class Receiver(ABC):
    """Takes a journal's records somewhere.

    ``replays``: begins at the first record whenever its process starts, as nothing counts before ``close``.
    """

    replays = False

    def errors(self) -> tuple[type[Exception], ...]:
        """The errors worth another attempt; any other ends the process."""
        return (OSError,)

    @abstractmethod
    def deliver(self, record: Plain) -> None:
        """Take one record; raises ``Refused``, or one of ``errors``. May be called again with the same record."""

    @abstractmethod
    def flush(self) -> None:
        """Make safe what was delivered; after it the cursor moves."""

    def is_finished(self) -> bool:
        """Whether no record will follow the last one delivered."""
        return False

    @abstractmethod
    def close(self) -> None:
        """The end of this process: nothing follows for now."""


class Watch:
    """Inside a follower: knows whether the parent is done or gone, and ends this process where that must be.

    That is when a call takes more than ``call_seconds``, or when the parent is gone for ``orphan_seconds``. Without
    a ``parent`` nothing is waited for: what the journal holds is delivered.
    """

    def __init__(self, parent: int | None, orphan_seconds: float, call_seconds: float) -> None:
        self.parent, self.orphan_seconds, self.call_seconds = parent, orphan_seconds, call_seconds
        self.closing = threading.Event()
        self._began: float | None = None
        self._orphaned: float | None = None
        if parent is None:
            self.closing.set()
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Times the call inside the block."""
        self._began = time.monotonic()
        try:
            yield
        finally:
            self._began = None

    def _look(self) -> None:
        while True:
            if self.parent is not None and not self.closing.is_set():
                readable, _, _ = select.select([0], [], [], POLL_SECONDS)
                # A byte when the parent is done, end of file when it is gone: either way nothing more will come.
                if readable:
                    os.read(0, 1)
                    self.closing.set()
            else:
                time.sleep(POLL_SECONDS)
            now, began = time.monotonic(), self._began
            if began is not None and now - began > self.call_seconds:
                self._leave(f"a call took more than {self.call_seconds:g} s")
            # Compared with the parent's number, not with 1: whoever adopts an orphan may have any number.
            if self.parent is not None and os.getppid() != self.parent:
                self.closing.set()
                self._orphaned = self._orphaned or now
                if now - self._orphaned > self.orphan_seconds:
                    self._leave(f"the run is gone for {self.orphan_seconds:g} s, and something is still undelivered")

    @staticmethod
    def _leave(why: str) -> None:
        print(f"left: {why}; it is delivered later", file=sys.stderr, flush=True)
        # The main thread may hang in the call; only the process can be ended from here.
        os._exit(EXIT_STUCK)


class _Following:
    """One follower at work."""

    def __init__(self, journal: Journal, cursor: Cursor, receiver: Receiver, watch: Watch) -> None:
        self.journal, self.cursor, self.receiver, self.watch = journal, cursor, receiver, watch
        self.position = cursor.delivered
        # Where nothing came since it was closed, all it was given is safe already.
        if receiver.replays and journal.last_number() > cursor.delivered:
            self._replay()
        self.flushed, self.flush_pause = time.monotonic(), 0.0
        self.opened = False

    def offer_refused(self) -> None:
        """Offer again what was refused; what is refused again stays noted."""
        numbers = {entry["number"] for entry in self.cursor.refused}
        self.cursor.refused = []
        if not numbers:
            return
        if self.receiver.replays:
            self._replay()
            return
        self.opened = True
        for record in self.journal.read_after(0):
            if int(record[self.journal.key]) in numbers:
                self._offer(record)

    def _replay(self) -> None:
        self.position, self.cursor.refused = 0, []

    def run(self) -> None:
        """Deliver, until the end."""
        while True:
            # Asked before reading: once it is set all is written, so that finding nothing then means the end.
            closing = self.watch.closing.is_set()
            records = self.journal.read_after(self.position)
            for record in records:
                self.opened = True
                self._offer(record)
                self.position = int(record[self.journal.key])
                # Seldom, as flushing is slow; what a kill leaves unsaved is delivered again.
                if time.monotonic() - self.flushed > self.flush_pause and not self.receiver.replays:
                    self._save()
            if records and not self.receiver.replays:
                self._save()
            if not records and (closing or (self.opened and self.receiver.is_finished())):
                break
            if not records:
                self.watch.closing.wait(POLL_SECONDS)
        if self.opened:
            self._attempt(self.receiver.close)
            self._save()

    def _offer(self, record: Plain) -> None:
        number = int(record[self.journal.key])
        try:
            self._attempt(self.receiver.deliver, record)
        except Refused as refusal:
            print(f"record {number} refused: {refusal}", file=sys.stderr, flush=True)
            if all(entry["number"] != number for entry in self.cursor.refused):
                self.cursor.refused.append({"number": number, "error": str(refusal)})

    def _save(self) -> None:
        started = time.monotonic()
        self._attempt(self.receiver.flush)
        # A cursor must never be ahead of what a power cut leaves of the journal.
        self.journal.sync()
        self.cursor.delivered, self.cursor.last_error = max(self.cursor.delivered, self.position), None
        self.cursor.save()
        self.flushed = time.monotonic()
        self.flush_pause = (self.flushed - started) / FLUSH_SHARE

    def _attempt(self, call: Any, *arguments: Any) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                with self.watch.call():
                    call(*arguments)
                return
            except self.receiver.errors() as error:
                self.cursor.failures += 1
                self.cursor.last_error = f"{type(error).__name__}: {error}"
                self.cursor.save()
                print(f"failed, again in {pause:g} s: {self.cursor.last_error}", file=sys.stderr, flush=True)
            # A set event would return from waiting at once and make this a busy loop.
            if self.watch.closing.is_set():
                time.sleep(min(pause, LAST_PAUSES))
            else:
                self.watch.closing.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def follow(
    journal: Journal, cursor_path: Path, receiver: Receiver, watch: Watch, patience_seconds: float, refused: bool
) -> None:
    """Deliver the journal's records to ``receiver`` until it is finished, or the parent is done and nothing is left.

    Only one process at a time follows for a cursor; this one waits up to ``patience_seconds`` for its turn.
    ``refused``: first offer again, out of order, what was refused before. Raises ``UserError`` when no turn comes.
    """
    # Another one may still be there: that of a killed run, which continues delivering for a while.
    with turn(lock_of(cursor_path), f"the follower of {cursor_path.stem}", patience_seconds):
        following = _Following(journal, Cursor.load(cursor_path), receiver, watch)
        if refused:
            following.offer_refused()
        following.run()


def lock_of(cursor_path: Path) -> Path:
    """The lock file that a follower holds."""
    return cursor_path.with_suffix(".lock")


@dataclass
class FollowerProcess:
    """A follower as its parent sees it: the command (the parent's process number is added), log and cursor file."""

    name: str
    command: Sequence[str]
    cursor_path: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    revival_pause: float = REVIVAL_PAUSE

    def start(self) -> None:
        """Start the process: own session, no accelerator, output into the log file beside the cursor."""
        self._close_input()
        self.cursor_path.parent.mkdir(parents=True, exist_ok=True)
        # A follower must not take cores or accelerator memory from the training beside it.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        with self.cursor_path.with_suffix(".log").open("ab") as output:
            self.process = subprocess.Popen(
                [*self.command, "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches the whole group of a terminal; with one of its own, end() also kills all it started.
                start_new_session=True,
                env=environment,
            )
        self.started = time.monotonic()

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def revive(self) -> bool:
        """Start it again if it died and its last start is long enough ago, every time after a longer pause."""
        if self.is_alive() or time.monotonic() - self.started <= self.revival_pause:
            return False
        self.revival_pause = min(2 * self.revival_pause, LONGEST_REVIVAL_PAUSE)
        self.start()
        return True

    def release(self) -> None:
        """Tell it that nothing more will come."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(b"\n")
                self.process.stdin.flush()

    def end(self) -> None:
        """Kill it with everything it started, if it still runs."""
        if self.process is not None and self.is_alive():
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._close_input()

    def _close_input(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()


class FollowerGroup:
    """The followers of one journal. ``commands``: a follower's name to the command that runs it.

    The cursor of follower ``n`` is ``<folder>/n.json``, its log ``<folder>/n.log``.
    """

    def __init__(self, journal: Journal, folder: Path, commands: Mapping[str, Sequence[str]]) -> None:
        self.journal, self.folder = journal, folder
        self.members = [FollowerProcess(name, command, folder / f"{name}.json") for name, command in commands.items()]
        self._looked = time.monotonic()

    def start(self) -> None:
        """Start all of them."""
        for member in self.members:
            member.start()

    def look(self) -> None:
        """Start again what died; costs next to nothing, and is meant to be called often."""
        now = time.monotonic()
        if now - self._looked > 1.0:
            self._looked = now
            for member in self.members:
                member.revive()

    def lagging(self) -> dict[str, str]:
        """Followers that have not delivered everything, and in words how many records each lacks and why."""
        last = self.journal.last_number()
        found = {}
        for member in self.members:
            cursor = Cursor.load(member.cursor_path)
            if cursor.delivered < last:
                why = f" ({cursor.last_error})" if cursor.last_error else ""
                found[member.name] = f"{member.name} lacks {last - cursor.delivered} of {last} records{why}"
        return found

    def finish(self, seconds: float) -> dict[str, str]:
        """Wait at most ``seconds`` for all to deliver what is left, then end them; returns ``lagging``."""
        deadline, last = time.monotonic() + seconds, self.journal.last_number()
        for member in self.members:
            # One that died a moment ago gets another chance within the seconds left.
            member.revival_pause = LAST_REVIVAL_PAUSE
            member.release()
        pending = list(self.members)
        while pending and time.monotonic() < deadline:
            # One that lives may still have to close its receiver, although everything is delivered.
            pending = [one for one in pending if one.is_alive() or Cursor.load(one.cursor_path).delivered < last]
            for member in pending:
                if member.revive():
                    member.release()
            time.sleep(END_POLL_SECONDS)
        for member in self.members:
            member.end()
        return self.lagging()


def is_followed(cursor_path: Path) -> bool:
    """Whether a process follows for this cursor now."""
    return is_held(lock_of(cursor_path))


def command_of(module: str, *words: str) -> list[str]:
    """The command that runs a module of this program as a follower; the current folder is kept out of its imports."""
    # -P: a file of the user's called logging.py or json.py would otherwise be imported in place of Python's.
    return [sys.executable, "-P", "-m", module, *words]


def follower_arguments(description: str) -> argparse.Namespace:
    """The command line of a follower: ``folder``, ``name``, ``parent``, ``refused``, ``call_seconds``.

    From here on a follower also yields to the run, and ignores Ctrl-C in the run's terminal.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="folder whose journal is followed")
    parser.add_argument("name", help="who it is delivered to")
    parser.add_argument("--parent", type=int, help="process that writes the journal; without it, deliver what is there")
    parser.add_argument("--refused", action="store_true", help="offer again what was refused")
    parser.add_argument("--call-seconds", type=float, default=CALL_SECONDS, help="most seconds of one call")
    # Not in a preexec_fn of the parent's: that is not safe in a process with threads.
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return parser.parse_args()
