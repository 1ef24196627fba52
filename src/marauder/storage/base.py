"""The store plug point: objects under keys, whole or not there at all, checked when they come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path


class StoreError(Exception):
    """A store could not do what was asked (network, credentials, damage); the message names the object and remedy."""


@dataclass(frozen=True)
class StoredObject:
    """``key`` below the store's root, ``size`` in bytes, ``modified`` in seconds since 1970, ``version`` changes with
    the content (an ETag)."""

    key: str
    size: int
    modified: float
    version: str


class Store(ABC):
    """Objects under keys such as ``models/reef/7/best.pt``. An object is seen whole or not at all."""

    def __init__(self, address: str) -> None:
        self.address = address

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
        """Remove an object; one that is not there is no error."""


class ConflictError(StoreError):
    """The object changed since it was read."""
