"""The files that every package has: pictures, the class list, the guidelines and a README."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from marauder.annotation.formats.base import Package
from marauder.annotation.packing import Entry

PICTURES = "images"
GUIDELINES = "guidelines"
CLASS_LIST = "classes.txt"


def common_entries(package: Package) -> Iterator[Entry]:
    """Class list, README, guidelines and pictures, in this order."""
    yield Entry(CLASS_LIST, "".join(f"{name}\n" for name in package.names).encode("utf-8"))
    if package.readme:
        yield Entry("README.txt", package.readme.encode("utf-8"))
    if package.guidelines is not None:
        yield from folder_entries(package.guidelines, GUIDELINES)
    for item in package.items:
        yield Entry(f"{PICTURES}/{item.file}", item.picture)


def folder_entries(folder: Path, prefix: str) -> Iterator[Entry]:
    """All files below a folder, sorted by name."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield Entry(f"{prefix}/{path.relative_to(folder).as_posix()}", path)
