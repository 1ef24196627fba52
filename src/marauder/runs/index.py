"""An index over a folder of runs: what their records say, read again only where a record changed. Never the truth.

It is a file beside the runs that may be deleted at any time; what cannot be read is rebuilt from the records.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marauder.core.files import DamagedFileError, read_json, write_json
from marauder.core.locks import is_held
from marauder.core.plain import Plain, PlainMapping
from marauder.runs.record import RUN_FILE, seconds_of_attempt

log = logging.getLogger("marauder")
INDEX_FILE = ".runs_index.json"
FORMAT = 1
LAST_TIME = 1e11
"""Seconds since 1970, in the year 5138."""


@dataclass(frozen=True)
class IndexedRun:
    """A run as its record describes it. ``about``: the record's content, empty where it is damaged.

    ``state``: that of the record, or ``killed`` (it says running, and no process holds it), or ``damaged``.
    """

    folder: Path
    about: PlainMapping
    state: str

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Its headline figures."""
        found = self.about.get("metrics")
        stated = found.items() if isinstance(found, Mapping) else ()
        return {name: value if _is_number(value) else None for name, value in stated}

    @property
    def verdict(self) -> str:
        """The worst of its gates'; empty: they have not judged it yet."""
        stated = str(self.about.get("verdict") or "")
        # Earlier versions said "off" until the gates had judged.
        return "" if stated == "off" and self.about.get("state") != "finished" else stated

    @property
    def started(self) -> float:
        """Seconds since 1970; 0 where unknown."""
        return _seconds(self.about.get("started"))

    @property
    def seconds(self) -> float | None:
        """How long it took over all attempts, where known."""
        stated, finished = _seconds(self.about.get("seconds")), _seconds(self.about.get("finished"))
        if self.about.get("state") == "running":
            # The record has those of the attempts before this one.
            stated += seconds_of_attempt(self.folder, _seconds(self.about.get("attempt_started")))
        return stated or (finished - self.started if finished and self.started else None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seconds(value: Any) -> float:
    """``value`` where it is a time that a calendar has, else 0: a record may hold anything."""
    return float(value) if _is_number(value) and 0 < value < LAST_TIME else 0.0


def index_runs(folder: Path) -> list[IndexedRun]:
    """The runs in ``folder``, the oldest first. A record that cannot be read is shown as damaged and hides no other."""
    known = _read(folder / INDEX_FILE)
    entries: dict[str, Plain] = {}
    for path in folder.glob(f"*/{RUN_FILE}"):
        name = path.parent.name
        with suppress(FileNotFoundError):  # deleted meanwhile
            stamp = _stamp(path)
            entries[name] = known[name] if known.get(name, {}).get("stamp") == stamp else _entry(path.parent, stamp)
    if entries != known:
        _write(folder / INDEX_FILE, entries)
    runs = [_run(folder / name, entry["about"]) for name, entry in entries.items()]
    return sorted(runs, key=lambda run: (run.started, run.folder.name))


def _run(folder: Path, about: PlainMapping | None) -> IndexedRun:
    if about is None:
        return IndexedRun(folder, {}, "damaged")
    state = str(about.get("state") or "unknown")
    # Asked now, never kept in the index: a lock goes when its process does.
    if state != "running" or is_held(folder / ".lock"):
        return IndexedRun(folder, about, state)
    finished = about.get("finished_before")
    if isinstance(finished, Mapping) and finished:
        # What was killed only measured it again.
        return IndexedRun(folder, finished, str(finished.get("state") or "unknown"))
    return IndexedRun(folder, about, "killed")


def _entry(folder: Path, stamp: list[int]) -> Plain:
    try:
        # As it is, without the model of records: runs of other versions are listed, too.
        about = read_json(folder / RUN_FILE)
    except DamagedFileError:
        about = None
    return {"stamp": stamp, "about": about if isinstance(about, dict) else None}


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    # Records are replaced, never rewritten: the inode tells two of one size within one tick of the clock.
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _read(path: Path) -> dict[str, Plain]:
    try:
        content = read_json(path) if path.is_file() else None
    except DamagedFileError:
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return {}
    runs = content.get("runs")
    return {name: entry for name, entry in runs.items() if _is_entry(entry)} if isinstance(runs, dict) else {}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("about"), dict | None) and "stamp" in entry


def _write(path: Path, entries: PlainMapping) -> None:
    try:
        write_json(path, {"format": FORMAT, "runs": entries})
    except OSError as error:  # a folder that may only be read is listed all the same, each time from the records
        log.debug("%s: the index is not kept (%s)", path, error)
