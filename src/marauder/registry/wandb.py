"""A registry whose versions also become model artifacts of Weights & Biases, with the same aliases.

Without a server W&B can neither look up an artifact nor move an alias. So the record of truth is that of the files
registry (a folder or a store), and W&B is told: an artifact per version, logged again with its new aliases when they
move. W&B knows a logged artifact by its content, so that this makes no second version. Offline it lies ready for
``wandb sync``. What was not told (no network, a kill) is told with the next change.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from marauder.core.files import fingerprint, read_json, write_json
from marauder.core.locks import turn
from marauder.registry.base import Candidate, ModelVersion
from marauder.registry.files import FilesRegistry, FilesRegistrySettings
from marauder.tracking.wandb import usual_mode

SEND_SECONDS = 300.0
log = logging.getLogger("marauder")


class WandbRegistrySettings(FilesRegistrySettings):
    """``entity``: a team. ``mode``: by default that of the environment, see ``tracking.wandb.usual_mode``."""

    mode: str = Field(default_factory=usual_mode, pattern="^(offline|online|disabled)$")
    entity: str | None = None


class WandbRegistry(FilesRegistry):
    """The record of the files registry, told to W&B.

    A W&B that fails or hangs stops nothing: it is told in a warning. Taking an alias away is not told to W&B.
    """

    name = "wandb"
    title = "Plain files, copied to Weights & Biases"
    settings_model = WandbRegistrySettings
    settings: WandbRegistrySettings

    def open(self, runs_folder: Path) -> None:
        """The store of the address; what W&B is told is prepared in the runs' folder."""
        super().open(runs_folder)
        self.folder = runs_folder.absolute() / "wandb-registry"

    def register(self, candidate: Candidate) -> ModelVersion:
        """In the record, then told."""
        version = super().register(candidate)
        self.tell(version.project)
        return version

    def judge_again(self, version: ModelVersion, candidate: Candidate) -> None:
        """In the record, then told: other files make another version of the artifact, which takes the aliases."""
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
        state = self.folder / project / "told.json"
        # Whoever holds it may be sending, which takes SEND_SECONDS at most.
        with turn(state.with_name(".telling.lock"), f"W&B's part of the registry {self.folder}", 2 * SEND_SECONDS):
            told = read_json(state) if state.exists() else {}
            versions = self.versions(project)
            wanted = {one.version: [f"marauder-{one.version}", *one.aliases] for one in versions}
            # Beside the aliases, what was said of the version: a run that is judged again is told again.
            known = {one.version: [*wanted[one.version], self._judgement(one)] for one in versions}
            pending = {number for number, names in known.items() if set(names) - set(told.get(number, ()))}
            if pending and not self._send(project, pending, wanted):
                return False
            # After W&B has it: killed before, it is told again, which makes no second version.
            write_json(state, known)
        return True

    def _judgement(self, version: ModelVersion) -> str:
        about = [version.verdict, version.withheld, dict(version.metrics), dict(self.files(version))]
        return f"judged {fingerprint(about)}"

    def _send(self, project: str, pending: set[str], wanted: Mapping[str, list[str]]) -> bool:
        """In a process of its own: W&B may hang, and starts threads and a service."""
        artifacts = []
        for version in self.versions(project):
            if version.version in pending:
                files = self.folder / project / "files" / version.version
                self.fetch(version, files)  # offline, W&B reads them when it is synced
                facts = {"run_id": version.run_id, "verdict": version.verdict, "metrics": dict(version.metrics)}
                aliases = wanted[version.version]
                withheld = f"; withheld: {version.withheld}" if version.withheld else ""
                artifacts.append(
                    {
                        "folder": str(files),
                        "aliases": aliases,
                        "description": f"run {version.run_id}, gates: {version.verdict}{withheld}",
                        "metadata": facts | {"tags": dict(version.tags)},
                        "files": sorted(self.files(version)),
                    }
                )
        order = {
            "project": project,
            "entity": self.settings.entity,
            "mode": self.settings.mode,
            "folder": str(self.folder / project),
            "artifacts": artifacts,
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
            log.warning(
                "W&B was not updated on %s (%s); the registry itself is right, and W&B is updated with the next change",
                project,
                problem,
            )
        return not problem
