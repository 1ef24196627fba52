"""Deterministic zips: the same files give the same bytes, with checksums inside, never half written."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from marauder.core.clock import Clock
from marauder.core.files import atomic_path

CHECKSUMS = "SHA256SUMS"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip can hold: entries tell nothing of when they were written."""

FILE_MODE = 0o100644
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One file of a zip: its name there (``/`` between folders) and its content, or the file that holds it."""

    name: str
    source: Path | bytes


def pack(entries: Iterable[Entry], target: Path, clock: Clock) -> Path:
    """Write ``entries`` and a ``SHA256SUMS`` of them (the form that ``sha256sum -c`` reads) to ``target``.

    Nothing is compressed: pictures are already, and bytes then do not depend on the version of a library. The clock is
    asked before each entry.
    """
    sums: dict[str, str] = {}
    with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            clock.check()
            # zipfile only warns of this, and readers differ in which of the two they take.
            if entry.name in sums:
                raise ValueError(f"{target}: {entry.name} would be in it twice")
            sums[entry.name] = _add(archive, entry)
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        _add(archive, Entry(CHECKSUMS, lines.encode("utf-8")))
    return target


def _add(archive: zipfile.ZipFile, entry: Entry) -> str:
    info = zipfile.ZipInfo(entry.name, EPOCH)
    # 3 is Unix, which the mode in the upper 16 bits needs; zipfile's default differs on Windows.
    info.create_system, info.external_attr = 3, FILE_MODE << 16
    if isinstance(entry.source, bytes):
        archive.writestr(info, entry.source)
        return hashlib.sha256(entry.source).hexdigest()
    digest = hashlib.sha256()
    # zipfile decides by it, before the first byte, whether the entry needs the 64-bit form.
    info.file_size = entry.source.stat().st_size
    with entry.source.open("rb") as stream, archive.open(info, "w") as packed:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
            packed.write(block)
    return digest.hexdigest()
