"""What lies in the inbox: which delivery is whole and new, which is still being copied, which was dealt with before.

A delivery is a zip, a folder or a single file (Label Studio's JSON, CVAT's XML). A zip is whole when its central
directory is there, which is at its end; nothing marks the end of folders and files, so they must have been quiet
for a moment. What became of a delivery is kept in a ledger, ``<output>/imports/<batch>/deliveries.jsonl``.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from marauder.annotation.batch import Batch, find_batch
from marauder.annotation.settings import AnnotationSettings
from marauder.annotation.unpacking import JUNK, Limits, directory_entries
from marauder.core.errors import printable
from marauder.core.files import append_line, fingerprint, hash_file, read_lines

SETTLE_SECONDS = 3.0
"""How long a folder or file must not have changed. One that turns out to be half copied does no harm: nothing of it is
merged without ``accept``, and it is looked at again when it has grown."""
SINGLE_FILES = frozenset({".json", ".xml", ".csv", ".manifest", ".jsonl", ".parquet"})
UNFINISHED = re.compile(r"^[.~]|\.(partial|part|crdownload|download|filepart|tmp|temp|!ut)$", re.IGNORECASE)
LEDGER = "deliveries.jsonl"
Outcome = Literal["merged", "problems", "foreign"]
State = Literal["ready", "copying", "cut", "merged", "problems", "foreign", "elsewhere"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something in the inbox. ``changed``: seconds since the epoch of its last change. ``stamp``: fingerprint of names,
    sizes and times. ``copying``: not yet whole; ``cut``: a zip without end that nobody writes to any more.
    ``elsewhere``: it answered another batch."""

    path: Path
    state: State
    changed: float
    stamp: str
    why: str = ""


def find_delivery(settings: AnnotationSettings) -> Path | None:
    """The oldest whole delivery in the inbox that the open batch has not been given yet, else ``None``.

    One with problems is given again once ``accept`` is set, or when it changed. Waits for at most ``SETTLE_SECONDS``,
    and only while something that just came lies there.
    """
    batch = find_batch(settings.outbox, settings.batch)
    if batch is None:
        return None
    wanted: tuple[State, ...] = ("ready", "problems") if settings.accept else ("ready",)
    candidates = look(settings, batch)
    if not any(one.state in wanted for one in candidates) and any(one.state == "copying" for one in candidates):
        time.sleep(SETTLE_SECONDS)
        candidates = look(settings, batch)
    return next((one.path for one in candidates if one.state in wanted), None)


def look(settings: AnnotationSettings, batch: Batch) -> list[Candidate]:
    """Everything in the inbox that may be a delivery, oldest first."""
    if not settings.inbox.is_dir():
        return []
    # This batch's own ledger last: what it says of a delivery counts more than what another's says.
    known = _answered_elsewhere(settings, batch) | {row["stamp"]: row["outcome"] for row in ledger(settings, batch.id)}
    found = []
    for path in sorted(settings.inbox.iterdir()):
        # A link could lead anywhere, and what it leads to could change while it is read.
        if UNFINISHED.search(path.name) or path.is_symlink():
            continue
        if path.is_dir() or path.suffix.lower() in (".zip", *SINGLE_FILES):
            found.append(_judge(path, known))
    return sorted((one for one in found if one is not None), key=lambda one: (one.changed, one.path.name))


def ledger_path(settings: AnnotationSettings, batch_id: str) -> Path:
    """The file that records what became of each delivery of a batch."""
    return imports_folder(settings, batch_id) / LEDGER


def imports_folder(settings: AnnotationSettings, batch_id: str) -> Path:
    """The folder of a batch's reports, pages and accepted answers."""
    return settings.output / "imports" / batch_id


def ledger(settings: AnnotationSettings, batch_id: str) -> list[dict[str, str]]:
    """What became of each delivery of a batch, oldest first: ``name``, ``stamp``, ``content``, ``outcome``."""
    wanted = {"name", "stamp", "content", "outcome"}
    return [row for row in read_lines(ledger_path(settings, batch_id)) if isinstance(row, dict) and wanted <= set(row)]


def oddities(settings: AnnotationSettings) -> list[str]:
    """What lies in the inbox and is no delivery, in words; what operating systems leave there is not mentioned."""
    if not settings.inbox.is_dir():
        return []
    lines = []
    for path in sorted(settings.inbox.iterdir()):
        name = printable(path.name)
        if JUNK.search(path.name) or path.name.startswith((".", "~")):
            continue
        if path.is_symlink():
            lines.append(f"{name} is a link, which is not followed: put the file or folder itself there.")
        elif UNFINISHED.search(path.name):
            lines.append(f"{name} is still being copied, its name says.")
        elif not path.is_dir() and path.suffix.lower() not in (".zip", *SINGLE_FILES):
            kinds = ", ".join(sorted(SINGLE_FILES))
            lines.append(f"{name} is neither a zip nor a folder nor a {kinds}: pack what came back as one zip.")
    return lines


def _answered_elsewhere(settings: AnnotationSettings, batch: Batch) -> dict[str, str]:
    """Stamps of what answered pictures of another batch: sent again, these have the same names in both."""
    # The folder of all imports: with an empty id ``imports_folder`` is the one above the batches'.
    others = {path.parent.name for path in imports_folder(settings, "").glob(f"*/{LEDGER}")} - {batch.id}
    rows = (row for other in sorted(others) for row in ledger(settings, other))
    return {row["stamp"]: "elsewhere" for row in rows if row["outcome"] in ("merged", "problems")}


def note_outcome(settings: AnnotationSettings, batch_id: str, path: Path, content: str, outcome: Outcome) -> None:
    """Add to the ledger what an import made of the delivery at ``path``."""
    # By stamp the inbox is looked through without reading it; by content a copy under another name is known again.
    row = {"name": path.name, "stamp": stamp_of(path)[0], "content": content, "outcome": outcome}
    append_line(ledger_path(settings, batch_id), {**row, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})


def content_of(path: Path) -> str:
    """Fingerprint of a delivery's bytes, whatever its name and place; links count by where they point to."""
    if not path.is_dir():
        return hash_file(path)
    rows = []
    for file in _files(path):
        link = file.is_symlink()
        rows.append([file.relative_to(path).as_posix(), str(file.readlink()) if link else _hash_regular(file)])
    return fingerprint(rows)


def stamp_of(path: Path) -> tuple[str, float]:
    """(fingerprint of names, sizes and times below ``path``, seconds since the epoch of the last change).

    The last change is that of the inode (ctime), which a copy cannot carry over from its source as it does the time of
    the content.
    """
    rows, changed = [], path.lstat().st_ctime
    for file in _files(path) if path.is_dir() else [path]:
        try:
            status = file.lstat()
        except FileNotFoundError:
            continue  # renamed while we look: the folder's own change tells
        changed = max(changed, status.st_ctime)
        rows.append([file.relative_to(path.parent).as_posix(), status.st_size, status.st_mtime_ns])
    return fingerprint(rows), changed


def is_whole_zip(path: Path) -> bool:
    """Whether the zip's central directory, which is written last, is there as a whole."""
    try:
        return directory_entries(path, Limits().entries) is not None
    except OSError:
        return False


def _judge(path: Path, known: dict[str, str]) -> Candidate | None:
    try:
        stamp, changed = stamp_of(path)
    except FileNotFoundError:
        return None
    outcome = known.get(stamp)
    if outcome in ("merged", "problems", "foreign", "elsewhere"):
        return Candidate(path, outcome, changed, stamp)  # type: ignore[arg-type]
    quiet = time.time() - changed
    if path.suffix.lower() == ".zip" and path.is_file():
        if is_whole_zip(path):
            return Candidate(path, "ready", changed, stamp)
        # Still growing, or nobody writes any more: only the time since the last change tells these apart.
        why = "has no end (central directory) yet"
        return Candidate(path, "copying" if quiet < SETTLE_SECONDS else "cut", changed, stamp, why)
    if path.is_dir():
        unfinished = next((file for file in _files(path) if UNFINISHED.search(file.name) and _is_partial(file)), None)
        if unfinished is not None:
            return Candidate(path, "copying", changed, stamp, f"{unfinished.name} is still being written")
        if next(iter(_files(path)), None) is None:
            return Candidate(path, "copying", changed, stamp, "is empty")
    if quiet < SETTLE_SECONDS:
        # Negative where the clock was set back.
        return Candidate(path, "copying", changed, stamp, f"changed {max(0.0, quiet):.0f} s ago")
    return Candidate(path, "ready", changed, stamp)


def _is_partial(file: Path) -> bool:
    # Hidden files and lock files of office programs stay in a finished folder for good.
    return not file.name.startswith((".", "~"))


def _files(folder: Path) -> list[Path]:
    """Everything below ``folder`` that is no folder, sorted; links are not followed."""
    return sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names)


def _hash_regular(file: Path) -> str:
    return hash_file(file) if file.is_file() else "no regular file"
