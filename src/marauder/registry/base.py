"""The registry plug point: versions of a project's model, with aliases that move in one step."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from marauder.core.errors import UserError
from marauder.core.files import hash_file
from marauder.core.plain import Plain, PlainMapping
from marauder.core.plugins import Plugin, loadable
from marauder.core.settings import Settings

CANDIDATE, PRODUCTION, PREVIOUS = "candidate", "production", "previous"
WITHHELD = "withheld"
"""Tag of a version that needs an override though no gate failed it: which gate keeps it back, and why."""
VERDICT = "verdict"
"""Tag of a version whose run was judged again: the verdict that counts now."""
OVERRIDE = "--override --who NAME --why REASON, which is recorded"
"""How to promote a version that its gates refuse, for messages."""


def weights_names() -> tuple[str, ...]:
    """What the weights of a version are called, by kind of model; a version has one of them."""
    return tuple(task.weights_file for task in loadable("task").values())


def weights_name(files: Iterable[str]) -> str | None:
    """Which of ``files`` are the version's weights; ``None``: none of them."""
    known = set(files)
    return next((name for name in weights_names() if name in known), None)


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

    @property
    def tags_again(self) -> dict[str, str]:
        """Tags of a version that is judged again: the verdict among them, and what withholds it, empty where nothing
        does, in the place of what the former judgement said."""
        return {WITHHELD: "", **self.tags, VERDICT: self.verdict}


@dataclass(frozen=True)
class ModelVersion:
    """A registered version. ``verdict``: of the last time its run was judged. ``created`` in seconds since 1970;
    ``location`` is where its files lie."""

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

    @property
    def withheld(self) -> str:
        """Why it needs an override though no gate failed it; empty: it needs none."""
        return self.tags.get(WITHHELD, "")

    @property
    def is_offered(self) -> bool:
        """Whether no gate failed or withheld it."""
        return self.verdict != "fail" and not self.withheld


class DamagedVersionError(UserError):
    """A file of a version is not the registered one."""


class Registry(Plugin[Settings], ABC):
    """Versions and aliases. Registering the same run and weights twice gives the same version.

    Methods raise ``UserError`` for a wrong name, a version that is not there, or a server that does not answer.
    """

    def open(self, runs_folder: Path) -> None:
        """Comes first: a registry without an address of its own lies in ``runs_folder``. Nothing is read or written."""

    @abstractmethod
    def register(self, candidate: Candidate) -> ModelVersion:
        """Store the candidate's files and make it a version. No alias moves."""

    @abstractmethod
    def projects(self) -> list[str]:
        """Names of all projects that have a version."""

    @abstractmethod
    def versions(self, project: str) -> list[ModelVersion]:
        """All versions, oldest first; empty for an unknown project."""

    def find(self, project: str, version_or_alias: str) -> ModelVersion | None:
        """A version by its number, alias or run id (of several with it, the newest); ``None`` when there is none."""
        versions = self.versions(project)
        for matches in (
            lambda one: one.version == version_or_alias,
            lambda one: version_or_alias in one.aliases,
            lambda one: one.run_id == version_or_alias,
        ):
            found = [one for one in versions if matches(one)]
            if found:
                return found[-1]
        return None

    @abstractmethod
    def set_alias(self, project: str, alias: str, version: str | None) -> None:
        """Point an alias at a version in one step, or take it away (``None``). Readers see the old or the new one."""

    def move_aliases(self, project: str, moves: Mapping[str, str | None]) -> None:
        """Several aliases in the order of ``moves``; a registry that keeps them in one place moves them in one step."""
        for alias, version in moves.items():
            self.set_alias(project, alias, version)

    @abstractmethod
    def add_tags(self, project: str, version: str, tags: Mapping[str, str]) -> None:
        """Add or replace tags of a version (who promoted it, and why)."""

    @abstractmethod
    def judge_again(self, version: ModelVersion, candidate: Candidate) -> None:
        """The run of ``version`` was judged again: verdict, figures, tags and files of ``candidate``, which has the
        same weights, count from now on. A tag ``WITHHELD`` that it lacks is gone.

        The version's former files stay until the new ones are there: killed at any moment, the version is whole.
        """

    @abstractmethod
    def files(self, version: ModelVersion) -> Mapping[str, str]:
        """The version's files: name relative to its folder, and SHA-256."""

    @abstractmethod
    def fetch_file(self, version: ModelVersion, name: str, path: Path) -> None:
        """Bring one file of the version to ``path``, unchecked. Raises ``FileNotFoundError`` when it is not there."""

    @abstractmethod
    def append_promotion(self, project: str, entry: PlainMapping) -> None:
        """Add a line to the project's record of promotions, which nothing else changes."""

    @abstractmethod
    def promotions(self, project: str) -> list[Plain]:
        """The record of promotions, oldest first."""

    def fetch(self, version: ModelVersion, folder: Path, names: tuple[str, ...] = ()) -> Path:
        """Bring the version's files (``names``: only these) into ``folder``, each checked against its SHA-256.

        Returns the weights there. Raises ``UserError`` for a file that is missing, or is not the registered one.
        """
        known = self.files(version)
        while True:
            try:
                return self._fetch(version, folder, names, known)
            except (DamagedVersionError, FileNotFoundError) as error:
                now = self.files(version)
                if now == known:
                    if isinstance(error, DamagedVersionError):
                        raise
                    raise UserError(
                        f"{version.project} version {version.version}: a file is missing ({error}); restore it from "
                        "a copy, or register the run again in another registry"
                    ) from error
                # The run was judged again since its files were listed: what arrived is one of the new files.
                known = now

    def require_files(self, version: ModelVersion) -> None:
        """Raise ``UserError`` unless the weights of the version can be fetched, and are the registered ones."""
        weights = weights_name(self.files(version))
        with tempfile.TemporaryDirectory(prefix="marauder-") as folder:
            self.fetch(version, Path(folder), () if weights is None else (weights,))

    def _fetch(self, version: ModelVersion, folder: Path, names: tuple[str, ...], known: Mapping[str, str]) -> Path:
        weights = weights_name(known)
        if weights is None or known[weights] != version.weights_sha256:
            raise UserError(f"{version.location}: the list of files does not fit the weights; register it again")
        for name in names or known:
            if name not in known:
                raise UserError(f"{version.project} version {version.version} has no file {name}")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # What an earlier, interrupted fetch brought needs no second transfer.
            if target.is_file() and hash_file(target) == known[name]:
                continue
            # Beside the target and checked first: its name never stands for a half or a damaged file.
            arriving = target.with_name(f".{target.name}.arriving")
            try:
                self.fetch_file(version, name, arriving)
                if hash_file(arriving) != known[name]:
                    raise DamagedVersionError(
                        f"{version.location}/{name}: is damaged (its SHA-256 is not the registered one); restore it "
                        "from a copy, or register the run again in another registry"
                    )
                arriving.replace(target)
            finally:
                arriving.unlink(missing_ok=True)
        return folder / weights

    def require(self, project: str, version_or_alias: str) -> ModelVersion:
        """``find``, or a ``UserError`` that lists what there is."""
        found = self.find(project, version_or_alias)
        if found is not None:
            return found
        versions = self.versions(project)
        if not versions:
            known = ", ".join(self.projects()) or "none yet"
            raise UserError(f"no project {project!r} in this registry; projects: {known}")
        newest = versions[-1]
        if version_or_alias == CANDIDATE and not newest.is_offered:
            why = newest.withheld or f"its gates say {newest.verdict!r}"
            # The version that would be meant is there, and does not bear the alias for a reason.
            raise UserError(
                f"{project} has no candidate: version {newest.version} (run {newest.run_id}) was withheld: {why}. Look "
                f"at its report; to promote it anyway, give version {newest.version} with {OVERRIDE}"
            )
        listed = ", ".join(one.version + "".join(f" ({alias})" for alias in one.aliases) for one in versions[-10:])
        raise UserError(f"{project}: no version, alias or run {version_or_alias!r}; there are: {listed}")
