"""A bundle as one file: a ``.tar.gz`` whose bytes follow from what is in it, with a checksum of every file."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from marauder.core.files import write_bytes

CHECKSUMS = "checksums.sha256"
EXECUTABLE = (".sh",)


def checksums(files: Mapping[str, bytes]) -> bytes:
    """A line for each file, as ``sha256sum`` reads it."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    return "".join(lines).encode()


def write_archive(target: Path, folder: str, files: Mapping[str, bytes]) -> str:
    """Write ``files`` (by path within the bundle) with their checksums, below ``folder``; returns its SHA-256."""
    every = {**files, CHECKSUMS: checksums(files)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(every.items()):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode = len(content), 0o755 if name.endswith(EXECUTABLE) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    # Without a date and a name in its head, the same files give the same bytes.
    return write_bytes(target, gzip.compress(packed.getvalue(), compresslevel=6, mtime=0))
