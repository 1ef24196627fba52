"""What lies in the input folder: pictures to enhance, files that travel along, files that stay behind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from marauder.core.errors import UserError
from marauder.data.picture_files import is_picture, walk_once
from marauder.preprocessing.journal import REPORT_FOLDER, Journal
from marauder.preprocessing.settings import PreprocessingSettings

PICTURE, COMPANION = "picture", "companion"
LEFT_BEHIND = (".cache",)
"""Suffixes of files that are of no use beside other pictures: caches that Ultralytics writes beside labels."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input file: path relative to the input (with ``/``), what it is, and its size and time of change (ns)."""

    path: str
    kind: str
    size: int
    changed: int

    @property
    def stamp(self) -> list[int]:
        """What tells a changed file from an unchanged one."""
        return [self.size, self.changed]


@dataclass(frozen=True, slots=True)
class Inventory:
    """The files to handle, sorted by path; ``left_behind`` counts caches, ``unreachable`` has path and reason."""

    items: tuple[Item, ...]
    left_behind: int
    unreachable: tuple[tuple[str, str], ...]

    def pictures(self) -> list[Item]:
        """The pictures to enhance."""
        return [item for item in self.items if item.kind == PICTURE]


def take_inventory(settings: PreprocessingSettings) -> Inventory:
    """Walk the input folder. Hidden files and folders are passed over, links are followed once."""
    kept = {name.lower() for name in settings.kept_folders}
    items: list[Item] = []
    unreachable: list[tuple[str, str]] = []
    left_behind = 0
    for directory, relative in _folders(settings.input):
        below_kept = any(part.lower() in kept for part in Path(relative).parts)
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.name.startswith(".") or (entry.is_dir() and not entry.is_symlink()):
                continue
            try:
                if entry.is_dir():
                    continue
                status = entry.stat()
            except OSError as error:
                unreachable.append((path, f"cannot be read ({error.strerror})"))
                continue
            if entry.name.endswith(LEFT_BEHIND):
                left_behind += 1
                continue
            kind = PICTURE if is_picture(entry.name) and not below_kept else COMPANION
            items.append(Item(path, kind, status.st_size, status.st_mtime_ns))
    return Inventory(tuple(sorted(items, key=lambda item: item.path)), left_behind, tuple(unreachable))


def check_folders(settings: PreprocessingSettings) -> None:
    """Raise ``UserError`` for folders that are missing, lie inside each other, or cannot be an input."""
    source, target = settings.input.resolve(), settings.output.resolve()
    if not source.is_dir():
        raise UserError(f"{settings.input}: no such folder; --input names the folder of the raw pictures")
    if settings.clean is not None and not settings.clean.is_dir():
        raise UserError(f"{settings.clean}: no such folder; --clean names the folder of the clean pictures")
    if target.exists() and not target.is_dir():
        raise UserError(f"{settings.output}: is a file; --output names a folder")
    if source == target or source in target.parents or target in source.parents:
        raise UserError(f"{settings.output}: input and output must not be inside each other; choose another --output")
    if Journal.stands_in(source):
        raise UserError(f"{settings.input}: was written by preprocessing; give the raw pictures, or they change twice")
    foreign = target.is_dir() and any(entry.name != REPORT_FOLDER for entry in target.iterdir())
    if foreign and not Journal.stands_in(target):
        raise UserError(
            f"{settings.output}: holds files that preprocessing did not write; choose an empty or new folder"
        )


def _folders(root: Path) -> list[tuple[str, str]]:
    """All folders below ``root`` with their relative paths (with ``/``), linked ones once, hidden ones not."""
    found = [(directory, os.path.relpath(directory, root)) for directory, _ in walk_once(root, REPORT_FOLDER)]
    return [(directory, "" if relative == "." else Path(relative).as_posix()) for directory, relative in found]
