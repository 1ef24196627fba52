"""What every registry agrees on: valid names, the list of a version's files, and the form of ``version.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import hash_file, to_plain
from marauder.core.plain import Plain
from marauder.registry.base import VERDICT, Candidate, ModelVersion, weights_name, weights_names
from marauder.storage.base import check_key

PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,62}", re.ASCII)
RECORD = "version.json"


@dataclass(frozen=True)
class VersionRecord:
    """A version as ``version.json`` has it, which is replaced as a whole when its run is judged again.

    ``files``: relative name to SHA-256; ``places``: where those lie, in the version's folder, that do not lie under
    their name.
    """

    project: str
    version: str
    run_id: str
    weights_sha256: str
    verdict: str
    metrics: dict[str, float]
    tags: dict[str, str]
    created: float
    files: dict[str, str]
    places: dict[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As indented JSON."""
        content = asdict(self)
        if not self.places:
            del content["places"]  # earlier versions of Marauder read a record without it
        return (json.dumps(to_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()

    def place_of(self, name: str) -> str:
        """Where the file ``name`` lies in the version's folder."""
        return self.places.get(name, name)

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> VersionRecord:
        """Read what ``to_bytes`` wrote. Raises ``UserError`` for anything else."""
        try:
            record = cls(**json.loads(content))
            for name in (*record.files, *record.places.values()):
                # The record comes from outside: a name with .. would let a fetch write anywhere.
                check_key(name)
        except (ValueError, TypeError, AttributeError, UserError) as error:
            raise UserError(f"{where}: is not a record of a version ({error}); register the run again") from error
        return record

    def to_version(self, tags: Mapping[str, str], aliases: Mapping[str, str], location: str) -> ModelVersion:
        """The version as callers see it: later ``tags`` over the first ones, ``aliases`` of the whole project."""
        return ModelVersion(
            project=self.project,
            version=self.version,
            run_id=self.run_id,
            weights_sha256=self.weights_sha256,
            verdict=tags.get(VERDICT, self.verdict),
            metrics=self.metrics,
            tags={**self.tags, **tags},
            aliases=tuple(sorted(alias for alias, version in aliases.items() if version == self.version)),
            created=self.created,
            location=location,
        )


def make_record(candidate: Candidate, version: str, created: float, files: Mapping[str, str]) -> VersionRecord:
    """The record of ``candidate`` as ``version``. Metrics that are not finite are left out."""
    metrics = to_plain(dict(candidate.metrics))
    return VersionRecord(
        project=candidate.project,
        version=version,
        run_id=candidate.run_id,
        weights_sha256=candidate.weights_sha256,
        verdict=candidate.verdict,
        metrics={name: float(value) for name, value in metrics.items() if value is not None},
        tags={str(name): str(value) for name, value in candidate.tags.items()},
        created=created,
        files=dict(files),
    )


def inventory(candidate: Candidate) -> dict[str, str]:
    """The candidate's files (not hidden ones, no links to elsewhere) with their SHA-256, sorted.

    Raises ``UserError`` when the weights are missing, or are not those that were judged.
    """
    files = {}
    for path in sorted(candidate.folder.rglob("*")):
        name = path.relative_to(candidate.folder).as_posix()
        # version.json is the registry's own; a folder that was fetched from a registry may hold a former one.
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")) and name != RECORD:
            if not path.resolve().is_relative_to(candidate.folder.resolve()):
                raise UserError(f"{path}: leads out of the folder; put the file itself there, then register again")
            files[check_key(name)] = hash_file(path)
    weights = weights_name(files)
    if weights is None:
        raise UserError(f"{candidate.folder}: holds no {' or '.join(weights_names())}; a version needs its weights")
    if files[weights] != candidate.weights_sha256:
        raise UserError(f"{candidate.folder / weights}: is not the file that was evaluated; evaluate it again")
    return files


def check_project(project: str) -> str:
    """``project`` itself where it is a valid name. Raises ``UserError``."""
    if not PROJECT.fullmatch(project):
        raise UserError(
            f"{project!r} cannot be a project's name: use up to 63 letters, digits, '.', '_' and '-', the first one a "
            "letter or digit"
        )
    return project


def check_alias(alias: str) -> str:
    """``alias`` itself where it is a valid name, and cannot be taken for a version. Raises ``UserError``."""
    # MLflow and W&B keep `latest` and v<number> for themselves.
    if not ALIAS.fullmatch(alias) or alias == "latest" or re.fullmatch(r"v\d+", alias):
        raise UserError(
            f"{alias!r} cannot be an alias: use lower-case letters, digits, '_' and '-', the first one a letter; not "
            "'latest', and not v1, v2, …"
        )
    return alias


def read_object(content: bytes, where: str) -> Plain:
    """A JSON object. Raises ``UserError`` for anything else."""
    try:
        value = json.loads(content)
    except ValueError as error:
        raise UserError(f"{where}: is not valid JSON ({error}); restore it from a copy") from error
    if not isinstance(value, dict):
        raise UserError(f"{where}: is not a JSON object; restore it from a copy")
    return value


def must_be_folder(path: Path) -> Path:
    """``path`` where it is a folder, else ``UserError``."""
    if not path.is_dir():
        raise UserError(f"no such folder: {path}; name the one with the files of the version")
    return path
