"""A store in a folder: on this disk, a fast volume or a network share. Objects are plain files under their keys.

Beside an object ``best.pt`` lies ``.best.pt.sha256.json`` with the SHA-256 that its content must have. It is written
before the content is renamed into place and then names two: the coming one and the one in place. So whatever moment
a writer is killed at, the object is the old or the new one, and either is known as whole.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from marauder.core.files import TEMPORARY_SUFFIX, DamagedFileError, flush_directory, hash_file, read_json, write_json
from marauder.core.locks import turn
from marauder.storage.base import (
    ConflictError,
    Store,
    StoredObject,
    StoreError,
    StoreSettings,
    check_key,
    explained,
)

LOCK = ".marauder.lock"
BLOCK = 1 << 20
LEFTOVER_SECONDS = 24 * 3600.0
"""A temporary file this old was left by a killed writer; a younger one may belong to a writer on another machine."""
TRIES = 5
"""How often a read that met a change starts over."""


class FolderStore(Store):
    """Objects as files below a folder. Safe for threads, processes and, where the share has locks, machines.

    ``address``: a path, or ``file:///path``.
    """

    name = "file"
    title = "Folder"

    def __init__(self, settings: StoreSettings) -> None:
        super().__init__(settings)
        self.root = Path(self.address.removeprefix("file://")).expanduser().absolute()

    def put(self, key: str, path: Path) -> StoredObject:
        """Copy ``path`` in; large copies run outside the lock."""
        target = self._path(key)
        if not path.is_file():
            raise StoreError(f"no such file: {path}; it cannot be stored as {target}; check the path")
        with explained(f"{path} cannot be stored as {target}"), self._staged(target) as staged:
            digest = _copy(path, staged)
            with self._locked():
                self._commit(staged, target, digest)
        return self._about(target)

    def get(self, key: str, path: Path) -> None:
        """Copy the object to ``path``, which is replaced only when the content is whole."""
        target = self._path(key)
        # Hashed while it is copied: a check of the source beforehand would say nothing of what arrived.
        with explained(f"{target} cannot be fetched to {path}"), self._staged(path) as staged:
            for attempt in range(TRIES):
                digest = _copy(target, staged)
                if digest in self._digests(target):
                    staged.replace(path)
                    flush_directory(path.parent)
                    return
                time.sleep(0.01 * attempt)  # a writer may have put a new object in place meanwhile
        raise self._damaged(target)

    def read(self, key: str) -> tuple[bytes, str]:
        """Content and its SHA-256, which is the version."""
        target = self._path(key)
        with explained(f"{target} cannot be read"):
            for attempt in range(TRIES):
                content = target.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                if digest in self._digests(target):
                    return content, digest
                time.sleep(0.01 * attempt)
        raise self._damaged(target)

    def replace(self, key: str, content: bytes, expected_version: str | None) -> str:
        """Compare and swap under the store's lock."""
        target = self._path(key)
        digest = hashlib.sha256(content).hexdigest()
        with explained(f"{target} cannot be written"), self._locked():
            try:
                current: str | None = self.read(key)[1]
            except FileNotFoundError:
                current = None
            if current != expected_version:
                raise ConflictError(f"{target}: was changed by someone else meanwhile; read it again and repeat")
            with self._staged(target) as staged:
                staged.write_bytes(content)
                _flush(staged)
                self._commit(staged, target, digest)
        return digest

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Visible files below the root. Walks only the folder into which ``prefix`` leads."""
        above = prefix.rpartition("/")[0]
        start = self.root / check_key(above) if above else self.root
        found = []
        with explained(f"{start} cannot be listed"):
            for folder, folders, files in os.walk(start):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in files:
                    path = Path(folder) / name
                    key = path.relative_to(self.root).as_posix()
                    if name.startswith(".") or not key.startswith(prefix):
                        continue
                    try:
                        found.append(self._about(path))
                    except FileNotFoundError:
                        continue  # deleted while the folder was walked
        return sorted(found, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Remove the file, then its checksum."""
        target = self._path(key)
        with explained(f"{target} cannot be deleted"):
            if not target.parent.is_dir():
                return
            with self._locked():
                # An object without a checksum is refused as a stranger's; a checksum without an object does no harm.
                target.unlink(missing_ok=True)
                _sidecar(target).unlink(missing_ok=True)
                flush_directory(target.parent)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with turn(self.root / LOCK, f"the store {self.root}"):
            yield

    @contextmanager
    def _staged(self, target: Path) -> Iterator[Path]:
        """A temporary path beside ``target``; the block renames it. What killed writers left there is cleared."""
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f".{_escaped(target.name)}.*{TEMPORARY_SUFFIX}"):
            with suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                    leftover.unlink()
        # Beside the target: a rename is atomic within one file system only.
        staged = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        try:
            yield staged
        finally:
            staged.unlink(missing_ok=True)

    def _commit(self, staged: Path, target: Path, digest: str) -> None:
        """Put ``staged`` in place of ``target``. The lock is held."""
        standing: tuple[str, ...] = ()
        with suppress(StoreError, FileNotFoundError):  # no object there, or one that nobody could read
            standing = self._digests(target)
        if len(standing) > 1:  # a writer was killed between its two steps: find out which one is in place
            standing = (hash_file(target),)
        write_json(_sidecar(target), {"sha256": [digest, *standing]})
        staged.replace(target)
        flush_directory(target.parent)
        # Only now that the rename is durable: before, a power cut could bring the old content back.
        if standing:
            write_json(_sidecar(target), {"sha256": [digest]})

    def _digests(self, target: Path) -> tuple[str, ...]:
        """The SHA-256 values that ``target`` may have."""
        try:
            recorded = read_json(_sidecar(target))["sha256"]
        except FileNotFoundError:
            target.stat()  # raises where there is no object either
            raise StoreError(
                f"{target}: has no recorded SHA-256, so it was not stored by Marauder; store it again, or remove it"
            ) from None
        except (DamagedFileError, KeyError, TypeError):
            raise StoreError(f"{_sidecar(target)}: is damaged; store {target.name} again") from None
        return tuple(str(digest) for digest in recorded)

    def _about(self, path: Path) -> StoredObject:
        status = path.stat()
        try:
            digests = self._digests(path)
            # Two digests: a writer was killed, or is at work, between its two steps.
            version = digests[0] if len(digests) == 1 else hash_file(path)
        except StoreError:
            version = f"{status.st_size}-{status.st_mtime_ns}"
        return StoredObject(path.relative_to(self.root).as_posix(), status.st_size, status.st_mtime, version)

    @staticmethod
    def _damaged(target: Path) -> StoreError:
        return StoreError(f"{target}: is damaged (its SHA-256 is not the recorded one); store it again from its source")


def _sidecar(target: Path) -> Path:
    return target.with_name(f".{target.name}.sha256.json")


def _escaped(name: str) -> str:
    """``name`` without the characters that ``glob`` reads as patterns."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _copy(source: Path, target: Path) -> str:
    """Copy and flush; returns the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(BLOCK):
            digest.update(block)
            writer.write(block)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
