"""What registries keep in a store: small JSON objects changed by compare and swap, and the record of promotions."""

from __future__ import annotations

import json
from abc import ABC
from collections.abc import Callable
from dataclasses import replace

from marauder.core.files import to_plain
from marauder.core.plain import Plain, PlainMapping
from marauder.registry.base import Candidate, Registry
from marauder.registry.record import RECORD, VersionRecord, check_project, inventory, make_record, read_object
from marauder.storage.base import Store
from marauder.storage.updating import read_or_none, update

ROOT = "models"
TAGS = "tags.json"
JUDGED = "judged"
"""Folder of a version with the files of later judgements, each under its SHA-256."""


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


class StoreRegistry(Registry, ABC):
    """A registry that keeps its record of promotions in a store."""

    store: Store

    def append_promotion(self, project: str, entry: PlainMapping) -> None:
        """A line of ``promotions.jsonl``."""
        line = json.dumps(to_plain(dict(entry)), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        update(self.store, _promotions_of(project), lambda present: (present or b"") + line)

    def promotions(self, project: str) -> list[Plain]:
        """The lines of ``promotions.jsonl``, none when it is not there."""
        key = _promotions_of(project)
        content, _ = read_or_none(self.store, key)
        return [read_object(line, key) for line in (content or b"").splitlines()]


def _promotions_of(project: str) -> str:
    return f"{ROOT}/{check_project(project)}/promotions.jsonl"


def fetch_record(store: Store, key: str) -> VersionRecord | None:
    """A ``version.json``, or ``None`` when it is not there."""
    content, _ = read_or_none(store, key)
    return None if content is None else VersionRecord.from_bytes(content, key)


def record_again(store: Store, root: str, present: VersionRecord, candidate: Candidate) -> None:
    """Replace the record below ``root`` by what ``candidate``, the same weights judged again, says and holds.

    New files are stored beside those they replace, and the record, which names them, comes last: killed in between,
    the version still is what it was.
    """
    files, places = inventory(candidate), {}
    for name, digest in files.items():
        place = present.place_of(name)
        if present.files.get(name) != digest:
            place = f"{JUDGED}/{digest[:16]}/{name}"
            store.put(f"{root}/{place}", candidate.folder / name)
        if place != name:
            places[name] = place
    record = replace(make_record(candidate, present.version, present.created, files), places=places)
    if record != present:
        content = record.to_bytes()
        update(store, f"{root}/{RECORD}", lambda _: content)


def place_of(store: Store, key: str) -> str:
    """Where ``key`` lies, for people: the address without its query."""
    return f"{store.address.partition('?')[0].rstrip('/')}/{key}"
