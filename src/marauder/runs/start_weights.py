"""What a run starts from: decided once, kept in the run's folder as a copy with its checksum, never asked again.

So a run that began from random weights goes on from them when a file turns up later, and one that began from a file
goes on when that file is gone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import atomic_path, hash_file, read_json, write_json
from marauder.core.locks import LOCK_FILE, exclusive
from marauder.core.plain import Plain
from marauder.models.naming import model_file
from marauder.models.released import UnavailableError, find_weights, is_released, where_to_put
from marauder.runs.record import read_record
from marauder.runs.settings import AUTO, RunSettings, is_word

AnyRun = TypeVar("AnyRun", bound=RunSettings)
START_FILE = "start.json"
FOLDER = "start"
"""Holds the copy, in the run's folder."""
RANDOM = "random weights"


@dataclass(frozen=True)
class Start:
    """``asked``: the setting ``weights`` (``auto``, a name, a path; empty: random weights were asked for).

    ``name``: the file's name, empty for random weights; ``sha256``: of the file; ``why_random``: why ``auto`` found
    nothing, in words.
    """

    asked: str = ""
    name: str = ""
    sha256: str = ""
    why_random: str = ""

    @property
    def copy_name(self) -> str:
        """The copy below the run's folder: two files of one name never take each other's place."""
        path = Path(self.name)
        return f"{FOLDER}/{path.stem}-{self.sha256[:12]}{path.suffix}"

    @property
    def content(self) -> Plain:
        """What files made from it say: no path, so that the same start gives the same bytes anywhere."""
        return {"name": self.name, "sha256": self.sha256}

    def describe(self) -> str:
        """In words, without the checksum and without a path of this machine."""
        if not self.name:
            return RANDOM
        return f"{self.name} (COCO weights)" if is_released(self.name) else self.name


def read_start(folder: Path) -> Start | None:
    """What the run in ``folder`` started from; ``None``: nothing is recorded. Raises ``DamagedFileError``."""
    path = folder / START_FILE
    if path.is_file():
        known = read_json(path)
        return Start(**{name: str(known.get(name, "")) for name in Start.__dataclass_fields__})
    record = read_record(folder)
    # A run begun before starts were recorded, when no file named meant random weights.
    if record is not None and record.identity and record.identity.get("settings", {}).get("weights") is None:
        return Start()
    return None


def start_of(settings: RunSettings) -> Start:
    """What a run whose settings are decided started from."""
    found = read_start(settings.folder)
    if found is not None:
        return found
    weights = settings.weights
    return Start() if weights is None else Start(str(weights), weights.name, hash_file(weights))


def write_start(start: Start, folder: Path) -> None:
    """Record it, and remove copies that a former run of this folder started from."""
    write_json(folder / START_FILE, asdict(start))
    kept = {start.copy_name} if start.name else set()
    for path in (folder / FOLDER).glob("*"):
        if f"{FOLDER}/{path.name}" not in kept:
            path.unlink()


def holds(start: Start, asked: Path | None) -> bool:
    """Whether a run that began with ``start`` goes on from it when ``asked`` is in the settings now.

    ``auto`` takes whatever the run began with, a name the file of that name, a path that is gone what it was. A file
    that is there is looked at again, so that another one is noticed.
    """
    if asked is None:
        return not start.name
    if asked == AUTO:
        return True
    if is_word(asked):
        return asked.name == start.name
    return str(asked) == start.asked and not asked.is_file()


@contextlib.contextmanager
def started(settings: AnyRun, fresh: bool, clock: Clock) -> Iterator[tuple[AnyRun, Start]]:
    """Settings whose ``weights`` are the copy in the run's folder (``None``: random), and what was decided.

    The copy is made before anything else of the run; where the block fails before ``write_start`` recorded it, it is
    removed again. Raises ``UserError`` for weights that cannot be had, ``Interrupted``.
    """
    folder, asked = settings.folder, settings.weights
    if (other := settings.starts_elsewhere) is not None:
        yield settings.changed({"weights": None}), Start(str(other), other.name, hash_file(model_file(other)))
        return
    start = None if fresh else read_start(folder)
    if start is not None and holds(start, asked):
        source = _kept(start, folder, clock)
    else:
        start, source = _decide(settings, clock)
        _tell(start, source)
    if source is None:
        yield settings.changed({"weights": None}), start
        return
    copy = folder / start.copy_name
    added = not copy.is_file()
    try:
        if not _is(copy, start.sha256):
            _copy(source, copy)
        yield settings.changed({"weights": copy}), start
    except BaseException:
        if added:
            _take_back(start, folder)
        raise


def present(folder: Path, asked: Path) -> Path:
    """``asked``, or the copy of it that the run in ``folder`` kept, where the file itself is gone."""
    start = read_start(folder) if not asked.is_file() else None
    if start is None or not start.name or not holds(start, asked):
        return asked
    return folder / start.copy_name


def _decide(settings: RunSettings, clock: Clock) -> tuple[Start, Path | None]:
    """What the settings mean on this machine, now."""
    asked = settings.weights
    if asked is None:
        return Start(), None
    start = Start(str(asked))
    name = asked.name
    if asked == AUTO:
        released = settings.released_weights
        if released is None:
            return replace(start, why_random=f"no weights were released for {settings.title}"), None
        name = released
    if not is_word(asked):
        return replace(start, name=name, sha256=hash_file(model_file(asked))), asked
    try:
        found = find_weights(name, clock)
    except UnavailableError as problem:
        remedy = where_to_put(name)
        if asked == AUTO:
            return replace(start, why_random=f"{name} (COCO weights) is not here: {problem}; {remedy}"), None
        raise UserError(f"weights={name}: no such file: {problem}; {remedy}, or give weights=none") from None
    return replace(start, name=name, sha256=hash_file(found)), found


def _kept(start: Start, folder: Path, clock: Clock) -> Path | None:
    """The copy of what the run began with, or, where it was lost, the same file from where it came."""
    if not start.name:
        return None
    copy = folder / start.copy_name
    if _is(copy, start.sha256):
        return copy
    origin = Path(start.asked)
    with contextlib.suppress(UnavailableError):
        origin = find_weights(start.name, clock) if is_word(origin) else origin
    if _is(origin, start.sha256):
        return origin
    raise UserError(
        f"{copy}: the weights that this run started from are gone or damaged; put {start.name} of SHA-256 "
        f"{start.sha256} there, or start over with --fresh"
    )


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and hash_file(path) == sha256


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
        # Of the same time: the pipeline knows a file by size and time.
        status = source.stat()
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))


def _take_back(start: Start, folder: Path) -> None:
    """Remove the copy of a start that no run took, and folders that hold nothing else."""
    lock = folder / LOCK_FILE
    # Another process may have begun here meanwhile, from the same copy.
    with contextlib.suppress(UserError), exclusive(lock, str(folder)) if lock.exists() else contextlib.nullcontext():
        if read_start(folder) != start:
            (folder / start.copy_name).unlink(missing_ok=True)
            for empty in (folder / FOLDER, folder):
                with contextlib.suppress(OSError):
                    empty.rmdir()


def _tell(start: Start, source: Path | None) -> None:
    """One line on what ``auto`` or a name turned out to mean."""
    if start.why_random:
        print(f"starts from {RANDOM}: {start.why_random}", file=sys.stderr)
    elif source is not None and is_word(Path(start.asked)):
        print(f"starts from {start.describe()}: {source}, SHA-256 {start.sha256}", file=sys.stderr)
