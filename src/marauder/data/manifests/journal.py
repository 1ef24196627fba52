"""Results computed from files, kept by path, size and times of change: what has not changed is not read again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marauder.core.environment import cache_folder
from marauder.core.files import append_to_cache, fingerprint, read_lines, skipping_cache, write_text

SETTLED_SECONDS = 2.0
"""A file changed so short ago may change again within one tick of its time stamp; nothing of it is kept."""

Stamp = tuple[str, int, int, int]
"""Absolute path, size in bytes, and two times of change in ns: that of the content, which unpacking and copying set to
what it was elsewhere, and that of the file as the file system keeps it, which nobody can set."""


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file as it is now. Raises ``OSError`` for one that is not there."""
    status = path.stat()
    return str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns


class FileJournal:
    """A JSON-lines file of ``[*stamp, value]``; the last line of a path counts.

    It is a cache: lines that are damaged or lost cost time only. Values go to disk as blocks finish, so that an
    interrupted pass continues; ``keep_only`` drops what is no longer asked for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[Stamp, Any] = {}
        for row in read_lines(path):
            if isinstance(row, list) and len(row) == 5 and isinstance(row[0], str):
                self.values[row[0], row[1], row[2], row[3]] = row[4]

    @classmethod
    def of(cls, purpose: str, place: Path, folder: Path | None = None) -> FileJournal:
        """The journal of a purpose for the data set at ``place``, in the cache folder."""
        name = fingerprint(str(place.absolute()))[:16]
        return cls((folder or cache_folder()) / purpose / f"{name}.jsonl")

    def add(self, found: Mapping[Stamp, Any]) -> None:
        """Keep values of files that have settled."""
        latest = time.time_ns() - int(SETTLED_SECONDS * 1e9)
        for stamp, value in found.items():
            if stamp[2] < latest:
                append_to_cache(self.path, [*stamp, value])
                self.values[stamp] = value

    def keep_only(self, stamps: set[Stamp]) -> None:
        """Rewrite the journal without files that are gone or changed, if there are any."""
        if self.values.keys() - stamps:
            self.values = {stamp: self.values[stamp] for stamp in self.values if stamp in stamps}
            lines = (json.dumps([*stamp, value]) for stamp, value in self.values.items())
            with skipping_cache(self.path):
                write_text(self.path, "".join(f"{line}\n" for line in lines))
