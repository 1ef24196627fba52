"""The registry plug point: versions of a project's model, with aliases that move in one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CANDIDATE, PRODUCTION, PREVIOUS = "candidate", "production", "previous"
ALIASES = (CANDIDATE, PRODUCTION, PREVIOUS)


@dataclass(frozen=True)
class Candidate:
    """What a finished run offers: ``folder`` holds the files of the version (weights, report, card, verdicts).

    ``verdict``: the worst answer of its gates. ``metrics``: overall numbers. ``tags``: plain words (data pin, git SHA).
    """

    project: str
    run_id: str
    folder: Path
    weights_sha256: str
    verdict: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelVersion:
    """A registered version. ``created`` in seconds since 1970; ``location`` is where its files lie."""

    project: str
    version: str
    run_id: str
    weights_sha256: str
    verdict: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    created: float
    location: str


class Registry(ABC):
    """Versions and aliases. Registering the same run and weights twice gives the same version."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    @abstractmethod
    def register(self, candidate: Candidate) -> ModelVersion:
        """Store the candidate's files and make it a version."""

    @abstractmethod
    def projects(self) -> list[str]:
        """Names of all projects that have a version."""

    @abstractmethod
    def versions(self, project: str) -> list[ModelVersion]:
        """All versions, oldest first; empty for an unknown project."""

    @abstractmethod
    def find(self, project: str, version_or_alias: str) -> ModelVersion | None:
        """A version by its number, run id or alias; ``None`` when there is none."""

    @abstractmethod
    def set_alias(self, project: str, alias: str, version: str | None) -> None:
        """Point an alias at a version in one step, or take it away (``None``). Readers see the old or the new one."""

    @abstractmethod
    def add_tags(self, project: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or replace tags of a version (who promoted it, and why)."""

    @abstractmethod
    def fetch(self, version: ModelVersion, folder: Path) -> Path:
        """Bring the version's files into ``folder`` (checked against ``weights_sha256``); returns ``best.pt`` there."""
