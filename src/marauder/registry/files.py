"""A registry of plain files in a folder or an object store; it needs no server and no account.

Below the store's root, for each project:

- ``models/<project>/<version>/…``: the files of the version. ``claim.json`` takes the number, ``version.json`` is
  written last and makes it a version; ``tags.json`` holds what was said about it later, ``judged/`` the files of a run
  that was judged again;
- ``models/<project>/aliases.json``: candidate, production and previous, replaced as a whole by compare and swap;
- ``models/<project>/promotions.jsonl``: who promoted what, and why; lines are only added.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from marauder.core.errors import UserError
from marauder.core.plain import Plain
from marauder.core.settings import Settings
from marauder.registry.base import Candidate, ModelVersion
from marauder.registry.objects import (
    ROOT,
    TAGS,
    StoreRegistry,
    fetch_object,
    fetch_record,
    place_of,
    record_again,
    update_object,
)
from marauder.registry.record import (
    RECORD,
    VersionRecord,
    check_alias,
    check_project,
    inventory,
    make_record,
    must_be_folder,
)
from marauder.storage.base import ConflictError
from marauder.storage.opening import open_store
from marauder.storage.updating import update

CLAIM, ALIASES_FILE = "claim.json", "aliases.json"


class FilesRegistrySettings(Settings):
    """Where the record and the files lie."""

    address: str | None = Field(
        None, description="a folder, file:///folder or s3://bucket/prefix; by default <runs folder>/registry"
    )


class FilesRegistry(StoreRegistry):
    """Plain files, and aliases by compare and swap."""

    name = "files"
    title = "Plain files in a folder or bucket"
    settings_model: ClassVar[type[Settings]] = FilesRegistrySettings
    settings: FilesRegistrySettings

    def open(self, runs_folder: Path) -> None:
        """The store of the address."""
        self.store = open_store(self.settings.address or str(runs_folder / "registry"))

    def register(self, candidate: Candidate) -> ModelVersion:
        """A killed registration is finished by the next one of the same run, under the same number."""
        project = check_project(candidate.project)
        files = inventory(_checked(candidate))
        number = self._claim(candidate)
        record = self._record(project, number)
        if record is None:
            for name in files:
                self.store.put(self._key(project, number, name), candidate.folder / name)
            content = make_record(candidate, number, time.time(), files).to_bytes()
            # Last, as it makes the version. Of two that register the same run at once the first one's record stays.
            update(self.store, self._key(project, number, RECORD), lambda present: present or content)
        return self._version(project, number)

    def projects(self) -> list[str]:
        """Folders below ``models`` that hold a version."""
        keys = [entry.key.split("/") for entry in self.store.list(f"{ROOT}/")]
        return sorted({key[1] for key in keys if len(key) == 4 and key[3] == RECORD})

    def versions(self, project: str) -> list[ModelVersion]:
        """Aliases are read once, so that the answer is one consistent picture of them."""
        check_project(project)
        aliases = self._aliases(project)
        numbers = [number for number, names in self._numbers(project).items() if RECORD in names]
        return [self._version(project, str(number), aliases) for number in numbers]

    def set_alias(self, project: str, alias: str, version: str | None) -> None:
        """One compare and swap."""
        self.move_aliases(project, {alias: version})

    def move_aliases(self, project: str, moves: Mapping[str, str | None]) -> None:
        """All of them in one compare and swap."""
        check_project(project)
        for alias, version in moves.items():
            check_alias(alias)
            if version is not None and self._record(project, version) is None:
                raise UserError(f"{project} has no version {version!r}; see: marauder registry list {project}")

        def change(present: Plain) -> Plain:
            merged = {**present, **moves}
            return {alias: version for alias, version in sorted(merged.items()) if version is not None}

        update_object(self.store, f"{ROOT}/{project}/{ALIASES_FILE}", change)

    def add_tags(self, project: str, version: str, tags: Mapping[str, str]) -> None:
        """Into ``tags.json`` of the version."""
        if self._record(check_project(project), version) is None:
            raise UserError(f"{project} has no version {version!r}; see: marauder registry list {project}")
        update_object(self.store, self._key(project, version, TAGS), lambda present: {**present, **tags})

    def judge_again(self, version: ModelVersion, candidate: Candidate) -> None:
        """New files beside the former ones, then ``version.json``, then the tags."""
        record = self._record(check_project(version.project), version.version)
        if record is None:
            raise UserError(f"{version.location}: the version is gone; see: marauder registry list {version.project}")
        record_again(self.store, f"{ROOT}/{version.project}/{version.version}", record, _checked(candidate))
        self.add_tags(version.project, version.version, candidate.tags_again)

    def files(self, version: ModelVersion) -> Mapping[str, str]:
        """As listed in ``version.json``."""
        record = self._record(version.project, version.version)
        if record is None:
            raise UserError(f"{version.location}: the version is gone; see: marauder registry list {version.project}")
        return record.files

    def fetch_file(self, version: ModelVersion, name: str, path: Path) -> None:
        """From the version's folder."""
        record = self._record(version.project, version.version)
        place = name if record is None else record.place_of(name)
        self.store.get(self._key(version.project, version.version, place), path)

    def _claim(self, candidate: Candidate) -> str:
        """The number of the candidate: the one it has already, or the next free one."""
        project, mine = candidate.project, {"run_id": candidate.run_id, "weights_sha256": candidate.weights_sha256}
        numbers = self._numbers(project)
        for number in numbers:
            if self._claimed(project, str(number)) == mine:
                return str(number)
        number = max(numbers, default=0)
        while True:
            number += 1
            try:
                # None: only where there is no object yet.
                self.store.replace(self._key(project, str(number), CLAIM), json.dumps(mine).encode(), None)
                return str(number)
            except ConflictError:  # taken this moment; by the same run, perhaps
                if self._claimed(project, str(number)) == mine:
                    return str(number)

    def _claimed(self, project: str, number: str) -> Plain:
        return fetch_object(self.store, self._key(project, number, CLAIM))

    def _numbers(self, project: str) -> dict[int, set[str]]:
        """Numbers taken so far, rising, with the names of the files there."""
        numbers: dict[int, set[str]] = {}
        for entry in self.store.list(f"{ROOT}/{project}/"):
            _, _, number, *names = entry.key.split("/")
            if names and number.isdecimal():
                numbers.setdefault(int(number), set()).add("/".join(names))
        return dict(sorted(numbers.items()))

    def _version(self, project: str, number: str, aliases: Mapping[str, str] | None = None) -> ModelVersion:
        record = self._record(project, number)
        if record is None:
            raise UserError(f"{project} has no version {number!r}; see: marauder registry list {project}")
        tags = fetch_object(self.store, self._key(project, number, TAGS))
        location = place_of(self.store, f"{ROOT}/{project}/{number}")
        return record.to_version(tags, self._aliases(project) if aliases is None else aliases, location)

    def _record(self, project: str, number: str) -> VersionRecord | None:
        # Anything else (an alias, a path) must not become part of a key.
        if not number.isdecimal():
            return None
        return fetch_record(self.store, self._key(project, number, RECORD))

    def _aliases(self, project: str) -> dict[str, str]:
        return fetch_object(self.store, f"{ROOT}/{project}/{ALIASES_FILE}")

    @staticmethod
    def _key(project: str, number: str, name: str) -> str:
        return f"{ROOT}/{project}/{number}/{name}"


def _checked(candidate: Candidate) -> Candidate:
    must_be_folder(candidate.folder)
    reserved = [name for name in (CLAIM, TAGS) if (candidate.folder / name).exists()]
    if reserved:
        raise UserError(f"{candidate.folder / reserved[0]}: the registry has its own file of that name; rename it")
    return candidate
