"""Small JSON objects of a registry in a store: read, changed by compare and swap, lines added."""

from __future__ import annotations

import json
from collections.abc import Callable

from marauder.core.files import to_plain
from marauder.core.plain import Plain, PlainMapping
from marauder.registry.record import VersionRecord, read_object
from marauder.storage.base import Store
from marauder.storage.updating import read_or_none, update

ROOT = "models"
TAGS, PROMOTIONS = "tags.json", "promotions.jsonl"


def fetch_object(store: Store, key: str) -> Plain:
    """The object, or an empty one when it is not there."""
    content, _ = read_or_none(store, key)
    return {} if content is None else read_object(content, key)


def update_object(store: Store, key: str, change: Callable[[Plain], Plain]) -> None:
    """Replace the object by ``change`` of it, which may be called several times."""

    def rewrite(present: bytes | None) -> bytes:
        changed = change({} if present is None else read_object(present, key))
        return (json.dumps(changed, indent=2, ensure_ascii=False) + "\n").encode()

    update(store, key, rewrite)


def append_entry(store: Store, key: str, entry: PlainMapping) -> None:
    """Add a JSON line."""
    line = json.dumps(to_plain(dict(entry)), ensure_ascii=False, allow_nan=False).encode() + b"\n"
    update(store, key, lambda present: (present or b"") + line)


def fetch_entries(store: Store, key: str) -> list[Plain]:
    """The JSON lines, none when the object is not there."""
    content, _ = read_or_none(store, key)
    return [read_object(line, key) for line in (content or b"").splitlines()]


def fetch_record(store: Store, key: str) -> VersionRecord | None:
    """A ``version.json``, or ``None`` when it is not there."""
    content, _ = read_or_none(store, key)
    return None if content is None else VersionRecord.from_bytes(content, key)


def place_of(store: Store, key: str) -> str:
    """Where ``key`` lies, for people: the address without its query."""
    return f"{store.address.partition('?')[0].rstrip('/')}/{key}"
