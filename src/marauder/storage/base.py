"""The store plug point: objects under keys, whole or not there at all, checked when they come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from marauder.core.errors import UserError, explain_file_error
from marauder.core.plugins import Plugin
from marauder.core.settings import Settings


class StoreError(UserError):
    """A store could not do what was asked (network, credentials, damage); the message names the object and remedy."""


def check_key(key: str) -> str:
    """``key`` itself where it is a relative path of plain names. Raises ``StoreError`` for anything that could leave
    the store's root (``..``, a leading ``/``) or meet a store's own files (names with a leading dot)."""
    parts = key.split("/")
    if any(not part or part.startswith(".") or len(part.encode()) > LONGEST_NAME for part in parts) or any(
        character in key for character in "\\\0\n\r"
    ):
        raise StoreError(
            f"{key!r} cannot be an object's key: write names joined by '/', none of them empty, longer than "
            f"{LONGEST_NAME} bytes or with a leading dot"
        )
    return key


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Errors of the operating system as ``StoreError``; a missing file stays ``FileNotFoundError``."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{what}: {explain_file_error(error) or error.strerror or error}") from error


LONGEST_NAME = 200
"""Bytes of one part of a key: file systems take 255, and temporary names are longer than the name itself."""


@dataclass(frozen=True)
class StoredObject:
    """``key`` below the store's root, ``size`` in bytes, ``modified`` in seconds since 1970, ``version`` changes with
    the content (an ETag)."""

    key: str
    size: int
    modified: float
    version: str


class StoreSettings(Settings):
    """Where a store is."""

    address: str = Field(description="with its scheme: s3://bucket/prefix, file:///folder; a plain path is a folder")


class Store(Plugin[StoreSettings], ABC):
    """Objects under keys such as ``models/reef/7/best.pt``. An object is seen whole or not at all."""

    settings_model = StoreSettings

    @property
    def address(self) -> str:
        """Where it is, as users write it."""
        return self.settings.address

    @abstractmethod
    def put(self, key: str, path: Path) -> StoredObject:
        """Store a file with its SHA-256; replaces what is there. Raises ``StoreError``."""

    @abstractmethod
    def get(self, key: str, path: Path) -> None:
        """Fetch an object into ``path`` atomically, checking its SHA-256. Raises ``StoreError``; missing:
        ``FileNotFoundError``."""

    @abstractmethod
    def read(self, key: str) -> tuple[bytes, str]:
        """Content and version of a small object. Raises ``FileNotFoundError`` when it is not there."""

    @abstractmethod
    def replace(self, key: str, content: bytes, expected_version: str | None) -> str:
        """Write a small object only if its version still is ``expected_version`` (``None``: only if it is not there).

        Returns the new version; raises ``ConflictError`` when someone else was faster.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> list[StoredObject]:
        """Objects whose key starts with ``prefix``, sorted by key."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; a missing one is not an error."""


class ConflictError(StoreError):
    """The object changed since it was read."""
