"""A registry whose versions also become model artifacts of Weights & Biases, with the same aliases.

Without a server W&B can neither look up an artifact nor move an alias. So the record of truth is that of the files
registry (a folder or a store), and W&B is told: an artifact per version, logged again with its new aliases when they
move. W&B knows a logged artifact by its content, so that this makes no second version. Offline it lies ready for
``wandb sync``. What was not sent (no network, a kill) is sent with the next change, version by version.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from marauder.core.files import fingerprint, read_json, write_json
from marauder.core.locks import turn
from marauder.core.plain import Plain, PlainMapping
from marauder.registry.base import Candidate, ModelVersion
from marauder.registry.files import FilesRegistry, FilesRegistrySettings
from marauder.tracking.wandb import usual_mode

SEND_SECONDS = 300.0
"""Longest wait for W&B to take a version. After that time in all, no further version is begun."""
log = logging.getLogger("marauder")


class WandbRegistrySettings(FilesRegistrySettings):
    """``entity``: a team. ``mode``: by default that of the environment, see ``tracking.wandb.usual_mode``."""

    mode: str = Field(default_factory=usual_mode, pattern="^(offline|online|disabled)$")
    entity: str | None = None


class WandbRegistry(FilesRegistry):
    """The record of the files registry, told to W&B.

    A W&B that fails or hangs stops nothing: a warning says so. Taking an alias away is not sent to W&B.
    """

    name = "wandb"
    title = "Plain files, copied to Weights & Biases"
    settings_model = WandbRegistrySettings
    settings: WandbRegistrySettings

    def open(self, runs_folder: Path) -> None:
        """The store of the address; what is sent to W&B is prepared in the runs' folder."""
        super().open(runs_folder)
        self.folder = runs_folder.absolute() / "wandb-registry"

    def register(self, candidate: Candidate) -> ModelVersion:
        """In the record, then told."""
        version = super().register(candidate)
        self.tell(version.project)
        return version

    def judge_again(self, version: ModelVersion, candidate: Candidate) -> None:
        """In the record, then told: other files make another version of the artifact, which takes the aliases."""
        if self.settings.mode != "disabled":
            with self._telling(version.project):
                self._told(version.project)  # before the judgement changes, see there
        super().judge_again(version, candidate)
        self.tell(version.project)

    def move_aliases(self, project: str, moves: Mapping[str, str | None]) -> None:
        """In the record in one step, then told."""
        super().move_aliases(project, moves)
        self.tell(project)

    def tell(self, project: str) -> bool:
        """Log what W&B does not know yet; whether it now knows all."""
        if self.settings.mode == "disabled":
            return True
        with self._telling(project):
            told, begun = self._told(project), time.monotonic()
            wanted = {one.version: (one, self._wanted(one)) for one in self.versions(project)}
            # First forgotten, then sent: killed in between, what changes back is sent again.
            told = {number: _common(told[number], about) for number, (_, about) in wanted.items() if number in told}
            write_json(self._state(project), told)
            for number, (version, about) in wanted.items():
                if told.get(number) == about:
                    continue
                if time.monotonic() - begun > SEND_SECONDS:
                    _warn(project, f"not all versions were sent within {SEND_SECONDS:g} s")
                    return False
                if not self._send(version, about["aliases"]):
                    return False
                # One by one, so that what was sent stays sent. Killed before, it is sent again, which makes no second
                # version.
                told[number] = about
                write_json(self._state(project), told)
        return True

    def _state(self, project: str) -> Path:
        return self.folder / project / "told.json"

    @contextmanager
    def _telling(self, project: str) -> Iterator[None]:
        lock = self._state(project).with_name(".telling.lock")
        # Whoever holds it may be sending: until SEND_SECONDS have passed, and then the last version.
        with turn(lock, f"W&B's part of the registry {self.folder}", 3 * SEND_SECONDS):
            yield

    def _told(self, project: str) -> dict[str, Plain]:
        """What W&B knows of each version: its aliases, and of which judgement its files are.

        Earlier versions of Marauder kept the aliases alone, and never replaced files: what they sent is taken to be of
        the present judgement, lest all versions are sent again.
        """
        state = self._state(project)
        told: dict[str, Plain] = read_json(state) if state.exists() else {}
        former = [one for one in self.versions(project) if isinstance(told.get(one.version), list)]
        for version in former:
            told[version.version] = {"aliases": told[version.version], "judgement": self._judgement(version)}
        if former:
            write_json(state, told)
        return told

    def _wanted(self, version: ModelVersion) -> Plain:
        aliases = [f"marauder-{version.version}", *version.aliases]
        return {"aliases": aliases, "judgement": self._judgement(version)}

    def _judgement(self, version: ModelVersion) -> str:
        return fingerprint([version.verdict, version.withheld, dict(version.metrics), dict(self.files(version))])

    def _send(self, version: ModelVersion, aliases: list[str]) -> bool:
        """In a process of its own: W&B may hang, and starts threads and a service."""
        files = self.folder / version.project / "files" / version.version
        self.fetch(version, files)  # offline, W&B reads them when it is synced
        withheld = f"; withheld: {version.withheld}" if version.withheld else ""
        facts = {"run_id": version.run_id, "verdict": version.verdict, "metrics": dict(version.metrics)}
        order = {
            "project": version.project,
            "entity": self.settings.entity,
            "mode": self.settings.mode,
            "folder": str(self.folder / version.project),
            "artifact": {
                "folder": str(files),
                "aliases": aliases,
                "description": f"run {version.run_id}, gates: {version.verdict}{withheld}",
                "metadata": facts | {"tags": dict(version.tags)},
                "files": sorted(self.files(version)),
            },
        }
        # -P: a file in the current folder must not pass for a package.
        command = [sys.executable, "-P", "-m", "marauder.registry.wandb_artifacts"]
        try:
            done = subprocess.run(
                command, input=json.dumps(order), capture_output=True, text=True, timeout=SEND_SECONDS, check=False
            )
            problem = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]
        except subprocess.TimeoutExpired:
            problem = f"no answer within {SEND_SECONDS:g} s"
        if problem:
            _warn(version.project, problem)
        return not problem


def _common(told: PlainMapping, wanted: PlainMapping) -> Plain:
    """What of ``told`` still holds."""
    aliases = [name for name in wanted["aliases"] if name in told["aliases"]]
    return {"aliases": aliases, "judgement": told["judgement"] if told["judgement"] == wanted["judgement"] else ""}


def _warn(project: str, problem: str) -> None:
    log.warning(
        "W&B was not updated on %s (%s); the registry itself is right, and W&B is updated with the next change",
        project,
        problem,
    )
