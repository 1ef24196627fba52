"""What a file or folder is: its listing (names, sizes, times; quick) and its content (a checksum of all; sure)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from marauder.core.files import fingerprint, hash_file

IGNORED_SUFFIXES = (".cache", ".partial")
"""Files that tools leave beside data and that are not part of it (Ultralytics' label cache, cut-off writes)."""


@dataclass(frozen=True)
class Identity:
    """``listing`` changes when a name, size or time of change does, ``content`` only when a name or a byte does.

    ``content`` is ``None`` when it was not computed. ``files`` counts them, ``size`` is in bytes.
    """

    listing: str
    content: str | None
    files: int
    size: int


def identify(path: Path, with_content: bool) -> Identity:
    """The identity of a file or of all files below a folder; links are followed. ``OSError`` when it is gone."""
    found = [(name, file, file.stat()) for name, file in _files(path)]
    listing = fingerprint([[name, status.st_size, status.st_mtime_ns] for name, _, status in found])
    content = fingerprint([[name, hash_file(file)] for name, file, _ in found]) if with_content else None
    return Identity(listing, content, len(found), sum(status.st_size for _, _, status in found))


def is_same(path: Path, recorded: Identity) -> bool:
    """Whether ``path`` still is what was recorded: by listing, else (a copied workspace has other times) by content."""
    current = identify(path, with_content=False)
    if current.listing == recorded.listing:
        return True
    if recorded.content is None or (current.files, current.size) != (recorded.files, recorded.size):
        return False
    return identify(path, with_content=True).content == recorded.content


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of every file, sorted by name; each folder once, also when links make a circle."""
    if not path.is_dir():
        yield "", path
        return
    seen: set[tuple[int, int]] = set()
    found: list[tuple[str, Path]] = []
    for folder, folders, names in os.walk(path, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and not name.endswith(IGNORED_SUFFIXES):
                file = Path(folder, name)
                found.append((file.relative_to(path).as_posix(), file))
    # os.walk gives names in the order of the file system, which a copy on another disk does not share.
    yield from sorted(found)
