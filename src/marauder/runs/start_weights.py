"""What a run starts from: decided once, kept in the run's folder as a copy with its checksum, never asked again.

So a run that was trained from random weights goes on from them when a file turns up later, and one that began from a
file goes on when that file is gone. Only where ``auto`` found nothing and nothing was trained yet it is asked again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.files import DamagedFileError, atomic_path, hash_file, read_json, write_json
from marauder.core.locks import LOCK_FILE, exclusive
from marauder.core.plain import Plain
from marauder.models.naming import model_file
from marauder.models.released import UnavailableError, find_weights, here_or_reachable, weights_here, where_to_put
from marauder.runs.record import read_record
from marauder.runs.settings import AUTO, RunSettings, is_word
from marauder.storage.settings import CheckpointTiers

AnyRun = TypeVar("AnyRun", bound=RunSettings)
START_FILE = "start.json"
FOLDER = "start"
"""Holds the copy, in the run's folder."""
RANDOM = "random weights"
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Start:
    """``asked``: the setting ``weights`` (``auto``, a name, a path; empty: random weights were asked for).

    ``name``: the file's name, empty for random weights; ``sha256``: of the file; ``why_random``: why ``auto`` found
    nothing, in words; ``released``: it was found as released COCO weights, not as a file that somebody named so.
    """

    asked: str = ""
    name: str = ""
    sha256: str = ""
    why_random: str = ""
    released: bool = False

    @property
    def copy_name(self) -> str:
        """The copy below the run's folder: two files of one name never take each other's place."""
        path = Path(self.name)
        return f"{FOLDER}/{path.stem}-{self.sha256[:12]}{path.suffix}"

    @property
    def content(self) -> Plain:
        """What files made from it say: no path, so that the same start gives the same bytes anywhere."""
        return {"name": self.name, "sha256": self.sha256, "released": self.released}

    def describe(self) -> str:
        """In words, without the checksum and without a path of this machine."""
        if not self.name:
            return RANDOM
        return f"{self.name} (COCO weights)" if self.released else self.name


def read_start(folder: Path) -> Start | None:
    """What the run in ``folder`` started from; ``None``: nothing is recorded. Raises ``DamagedFileError``."""
    path = folder / START_FILE
    if path.is_file():
        return read_start_file(path)
    record = read_record(folder)
    # A run begun before starts were recorded, when no file named meant random weights.
    if record is not None and record.identity and record.identity.get("settings", {}).get("weights") is None:
        return Start()
    return None


def read_start_file(path: Path) -> Start:
    """What a file written by ``write_start`` says. Raises ``DamagedFileError``."""
    known = read_json(path)
    words = {name: str(known.get(name, "")) for name in ("asked", "name", "sha256", "why_random")}
    start = Start(**words, released=known.get("released") is True)
    if start.name and not SHA256.fullmatch(start.sha256):
        raise DamagedFileError(f"{path}: sha256 is no SHA-256 of a file; restore the file, or start over with --fresh")
    return start


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


def holds(start: Start, settings: RunSettings) -> bool:
    """Whether a run that began with ``start`` goes on from it with ``settings`` as they are now.

    ``auto`` takes what was named when the run began, and what ``auto`` found for the same model; a name takes the
    released file of that name, a path that is gone what it was. The run's own copy is what it was made from. Any other
    file that is there is looked at again, so that another one is noticed.
    """
    asked = settings.weights
    if asked is None:
        return not start.name
    if asked == AUTO:
        return start.asked != str(AUTO) or start.name in ("", settings.released_weights)
    if is_word(asked):
        return start.released and asked.name == start.name
    if start.name and asked.resolve() == (settings.folder / start.copy_name).resolve():
        return True
    return str(asked) == start.asked and not asked.is_file()


def is_open(start: Start, settings: RunSettings) -> bool:
    """Whether another start than ``start`` may still be taken: ``auto`` found nothing, and nothing was trained."""
    folder, checkpoints = settings.folder, settings.checkpoint_folder
    # A series has its figures and weights below, one folder for each part.
    names = [name for file in ("best.*", "last.*", "metrics.jsonl") for name in (file, f"*/*/{file}")]
    left = [*(folder.glob(name) for name in names), checkpoints.rglob("checkpoint_*")]
    # Another disk may hold checkpoints that are no longer here.
    mirrored = settings.checkpoint_tiers != CheckpointTiers()
    wanted = start.why_random and settings.released_weights is not None
    return bool(wanted) and not mirrored and not any(path for paths in left for path in paths)


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
    if start is not None and holds(start, settings) and not (asked == AUTO and is_open(start, settings)):
        source = _kept(start, folder, clock)
        _tell_what_turned_up(start, settings)
    else:
        start, source = _decide(settings, clock)
        _tell(start, source)
    if source is None:
        yield settings.changed({"weights": None}), start
        return
    copy = folder / start.copy_name
    added, new = not copy.is_file(), [path for path in (copy.parent, folder) if not path.exists()]
    try:
        if not _is(copy, start.sha256):
            _copy(source, copy)
        yield settings.changed({"weights": copy}), start
    except BaseException:
        if added:
            _take_back(start, folder, new)
        raise


def present(settings: RunSettings, asked: Path) -> Path:
    """``asked``, which is the setting ``weights``, or the copy of it that the run kept, where the file is gone."""
    start = read_start(settings.folder) if not asked.is_file() else None
    if start is None or not start.name or not holds(start, settings):
        return asked
    return settings.folder / start.copy_name


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
        return _named(start, asked), asked
    try:
        found = find_weights(name, clock)
    except UnavailableError as problem:
        if asked == AUTO:
            return replace(
                start, why_random=f"{name} (COCO weights) is not here: {problem}; {where_to_put(name)}"
            ), None
        raise UserError(f"weights={name}: {_unavailable(name, problem)}") from None
    return replace(start, name=name, sha256=hash_file(found), released=True), found


def has_folder(settings: RunSettings) -> bool:
    """Whether the run's folder is known already, from settings some of which may be ``None``, not being readable."""
    return settings.output is not None or (settings.id is not None and settings.runs is not None)


def _unavailable(name: str, problem: UnavailableError) -> str:
    return f"no such file: {problem}; {where_to_put(name)}, or give weights=none"


def may_be_mirrored(settings: RunSettings) -> bool:
    """Whether a mirror of checkpoints may hold what the run started from, which its folder no longer does."""
    tiers = settings.checkpoint_tiers  # None: not readable
    return tiers not in (None, CheckpointTiers()) and (not has_folder(settings) or read_start(settings.folder) is None)


def why_unavailable(settings: RunSettings) -> str | None:
    """Why released weights that ``settings`` ask for cannot be had, as far as that is known without the network;
    ``None``: nothing speaks against them, or the run keeps a copy of what it began with."""
    asked = settings.weights
    if asked is None or not is_word(asked) or settings.starts_elsewhere is not None:
        return None
    if asked == AUTO and getattr(settings, "model", "") is None:
        return None  # a mistake of its own
    start = read_start(settings.folder) if has_folder(settings) else None
    if start is not None and holds(start, settings):
        return None
    if may_be_mirrored(settings):
        return None
    name = settings.released_weights if asked == AUTO else asked.name
    try:
        if name is not None:
            here_or_reachable(name)
    except UnavailableError as problem:
        return None if asked == AUTO else f"{name}: {_unavailable(name or '', problem)}"
    except UserError as error:
        return str(error)
    return None


def _named(start: Start, file: Path) -> Start:
    """``start`` from a certain file. Where that is the copy which another run kept, it is called what it is there."""
    if not file.is_file():  # a mirror might have held it
        raise UserError(f"weights={file}: no such file; check the path")
    sha256 = hash_file(model_file(file))
    other = read_start(file.parent.parent) if file.parent.name == FOLDER else None
    if other is not None and other.sha256 == sha256:
        return replace(start, name=other.name, sha256=sha256, released=other.released)
    return replace(start, name=file.name, sha256=sha256)


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


def _take_back(start: Start, folder: Path, new: list[Path]) -> None:
    """Remove the copy of a start that no run took, and of the folders that came with it those that hold nothing."""
    lock = folder / LOCK_FILE
    # Another process may have begun here meanwhile, from the same copy.
    with contextlib.suppress(UserError), exclusive(lock, str(folder)) if lock.exists() else contextlib.nullcontext():
        if read_start(folder) != start:
            (folder / start.copy_name).unlink(missing_ok=True)
            for empty in new:
                with contextlib.suppress(OSError):
                    empty.rmdir()


def _tell_what_turned_up(start: Start, settings: RunSettings) -> None:
    """One line where a run goes on from random weights though those that ``auto`` looked for are here by now."""
    name = settings.released_weights
    if settings.weights != AUTO or not start.why_random or name is None:
        return
    found = None
    # A variable that is wrong by now does not keep a run from going on.
    with contextlib.suppress(UserError):
        found = weights_here(name)
    if found is not None:
        print(f"continues from {RANDOM}, as it began; --fresh starts from {found} (COCO weights)", file=sys.stderr)


def _tell(start: Start, source: Path | None) -> None:
    """One line on what ``auto`` or a name turned out to mean."""
    if start.why_random:
        print(f"starts from {RANDOM}: {start.why_random}", file=sys.stderr)
    elif source is not None and is_word(Path(start.asked)):
        print(f"starts from {start.describe()}: {source}, SHA-256 {start.sha256}", file=sys.stderr)
