"""Files that matter: written to a temporary name, flushed, renamed into place; JSON lines that survive a cut.

A reader therefore sees the old content or the new content of a path, never half of either, whenever the writing
process or machine dies.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

TEMPORARY_SUFFIX = ".partial"
log = logging.getLogger("marauder")
_UNWRITTEN: set[Path] = set()


class DamagedFileError(Exception):
    """A file exists but its content cannot be trusted; the message names the file and the remedy."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it into place.

    On an exception the temporary file is removed and ``path`` is left as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each writer: processes and threads may write one path at the same time.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with writing(target):
            yield temporary
            # Flushed before the rename: a file system may make the rename durable first, and a power cut then leaves an
            # empty file under the good name. fsync concerns the file, whichever handle wrote it.
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.replace(target)
            flush_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Name ``target`` in an error of a full disk: writing into an open file says "no space left", but not where."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(target)
        raise


def flush_directory(directory: Path) -> None:
    """Make a rename inside ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path | str, content: bytes) -> str:
    """Write ``content`` atomically and return its SHA-256 as a hexadecimal string."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write_text(path: Path | str, content: str) -> str:
    """Write UTF-8 ``content`` atomically and return its SHA-256."""
    return write_bytes(path, content.encode("utf-8"))


def to_plain(value: Any) -> Any:
    """Turn NumPy scalars and arrays, paths, sets and tuples into what JSON knows."""
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        # Texts in a set come in another order in every process; fingerprints need one.
        return sorted(to_plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, Path):
        return str(value)
    # JSON has no word for them; the NaN and Infinity that Python would write are refused by other readers.
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def write_json(path: Path | str, value: Any) -> str:
    """Write ``value`` as indented JSON atomically; numbers that are not finite become ``null``. Returns the SHA-256."""
    return write_bytes(path, as_json(value))


def as_json(value: Any) -> bytes:
    """What ``write_json`` writes."""
    return (json.dumps(to_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; a file that is not JSON raises ``DamagedFileError`` with its name and line."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path}: not valid JSON ({error}); delete it or restore it, then run again") from error


def append_line(path: Path | str, value: Any) -> None:
    """Append ``value`` as one JSON line in a single write, closing off a line that an earlier kill cut short."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(to_plain(value), ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    with writing(target), target.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                line = b"\n" + line
        # No fsync: the line outlives this process, and waiting for the disk each time would slow down the work.
        stream.write(line)
        stream.flush()


def append_to_cache(path: Path, value: Any) -> None:
    """``append_line`` to a file that only saves time: one that cannot be written is no error, only a warning once."""
    with skipping_cache(path):
        append_line(path, value)


@contextmanager
def skipping_cache(path: Path) -> Iterator[None]:
    """Carry on where the body cannot write ``path``, which only saves time; warns once for each file."""
    try:
        yield
    except OSError as error:
        if path not in _UNWRITTEN:
            _UNWRITTEN.add(path)
            log.warning("%s: cannot be written (%s), so it is worked out again next time", path, error.strerror)


def read_lines(path: Path | str) -> list[Any]:
    """Read a JSON-lines file, skipping lines that a kill cut short. A missing file reads as no lines."""
    target = Path(path)
    if not target.exists():
        return []
    values = []
    # Bytes are split at line ends only; text would also be at U+2028 and its like, which stand unescaped in JSON.
    for line in target.read_bytes().splitlines():
        if line.strip():
            try:
                values.append(json.loads(line))
            except (json.JSONDecodeError, UnicodeDecodeError):
                continue
    return values


def portable_path(path: Path, folder: Path) -> str:
    """``path`` as it is written into a file in ``folder``: relative to that, so that both can move together; absolute
    where they share no folder but the root of the disk. ``located_path`` reads it back."""
    absolute, base = path.absolute(), folder.absolute()
    together = len(Path(os.path.commonpath([absolute, base])).parts) > 1
    return Path(os.path.relpath(absolute, base)).as_posix() if together else absolute.as_posix()


def located_path(text: str, folder: Path) -> Path:
    """The path that ``text`` means in a file in ``folder``, absolute (see ``portable_path``)."""
    return Path(os.path.normpath(folder.absolute() / text))


def hash_file(path: Path | str) -> str:
    """SHA-256 of a file's content, read in blocks."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """SHA-256 of ``value``'s canonical JSON form: equal for equal content, whatever the order of keys."""
    canonical = json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def remove_leftovers(directory: Path | str) -> int:
    """Delete temporary files that killed writers left in ``directory`` (not below); returns how many.

    Call it only where this process is the directory's one writer.
    """
    count = 0
    for leftover in Path(directory).glob(f".*{TEMPORARY_SUFFIX}"):
        leftover.unlink(missing_ok=True)
        count += 1
    return count
