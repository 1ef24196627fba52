"""One writer for a folder: a lock that the operating system releases when its holder ends, however it ends.

The locks are POSIX record locks (``fcntl``): they belong to a process, not to the children it forks, so that a worker
which outlives a killed parent for a moment does not keep the folder locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from marauder.core.errors import UserError
from marauder.core.files import writing

LOCK_FILE = ".lock"
"""Name of the lock file in a folder that has one writer."""

PATIENCE_SECONDS = 1.0
"""How long taking a lock waits: ``is_held`` of another process holds it for an instant."""

_held: set[Path] = set()
"""Lock files that this process holds. Closing any handle of such a file would release it, so none is opened again."""

_turns: dict[Path, threading.Lock] = {}
"""A lock for the threads of this process beside each lock file of ``turn``: record locks know processes only."""
# A fork copies locks as they stand: one held by a thread that the child lacks would never be let go of.
os.register_at_fork(after_in_child=_turns.clear)


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs. Raises ``UserError`` when it is held already.

    ``what`` names the locked thing in the message. Where the block refuses (``UserError``), folders that were made for
    the lock go with it, as far as nothing else is in them.
    """
    path = path.absolute()
    if path in _held:
        raise UserError(f"{what} is in use by this process already; wait for it or stop it")
    new = [folder for folder in path.parents if not folder.exists()]
    with contextlib.ExitStack() as opened:
        stream = _locked(path, what, opened)
        _held.add(path)
        try:
            with writing(path):
                stream.truncate(0)
                stream.write(json.dumps({"process": os.getpid(), "machine": platform.node(), "since": time.time()}))
                stream.flush()
            yield
        except UserError:
            # Otherwise the file stays, whatever ends the block.
            # The refusal is what is to be told, also where the block took the folder away itself.
            with contextlib.suppress(OSError):
                if new and set(path.parent.iterdir()) <= {path}:
                    path.unlink(missing_ok=True)
                    for folder in new:
                        folder.rmdir()
            raise
        finally:
            _held.discard(path)


def _locked(path: Path, what: str, opened: contextlib.ExitStack) -> IO[str]:
    """The lock file, open and locked. Raises ``UserError`` when another process keeps it."""
    started = time.monotonic()
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened for appending: one who comes in vain must not wipe out the words about the holder.
        with contextlib.ExitStack() as stack, writing(path):
            stream = stack.enter_context(path.open("a+", encoding="utf-8"))
            while not _try_lock(stream, fcntl.LOCK_EX):
                if time.monotonic() - started > PATIENCE_SECONDS:
                    raise UserError(f"{what} is in use by another run ({holder(path)}); wait for it or stop it")
                time.sleep(0.05)
            # One who refused may have deleted it meanwhile: then another process could lock a new one beside it.
            if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                opened.push(stack.pop_all())
                return stream


@contextmanager
def turn(path: Path, what: str, patience_seconds: float = 60.0) -> Iterator[None]:
    """Hold the lock file ``path`` for a few moments, after the processes and threads that came before.

    Raises ``UserError`` when the turn does not come within ``patience_seconds``. ``what`` is named in the message.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_seconds
    refusal = UserError(f"{what} is kept busy by other processes for {patience_seconds:g} s; see who writes to {path}")
    among_threads = _turns.setdefault(path, threading.Lock())
    if not among_threads.acquire(timeout=patience_seconds):
        raise refusal
    try:
        with writing(path), path.open("a+b") as stream:
            pause = 0.001
            while not _try_lock(stream, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise refusal
                time.sleep(pause)
                pause = min(0.05, pause * 2)
            yield
    finally:
        among_threads.release()


def is_held(path: Path) -> bool:
    """Whether another process holds the lock file ``path``."""
    path = path.absolute()
    if path in _held or not path.exists():
        return False
    with path.open("rb") as stream:
        # A shared lock can be asked for on a handle that only reads, and two who ask do not hinder each other.
        return not _try_lock(stream, fcntl.LOCK_SH)


def holder(path: Path) -> str:
    """Who holds, or last held, the lock file ``path`` (which this process does not hold), in words."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # or asked between the holder's truncating and writing
        return "another process"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(about["since"]))
    return f"process {about['process']} on {about['machine']} since {since}"


def _try_lock(stream: IO[str] | IO[bytes], kind: int) -> bool:
    try:
        fcntl.lockf(stream, kind | fcntl.LOCK_NB)
    except OSError as error:
        # POSIX allows either for a lock that another process holds.
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise UserError(
            f"{stream.name}: cannot be locked ({error.strerror}); choose a folder on a file system with locks"
        ) from None
    return True
