"""The Weights & Biases tracker: offline unless there is a key; all its files stay inside the run's folder.

W&B cannot continue with an offline run, and keeps what it logs in memory of a second process until the end. So every
process logs the whole journal into a new offline run of the same id, and the last one replaces those before it:
``wandb sync`` always finds one whole run. Online the server drops the steps that it has.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from marauder.core.plain import PlainMapping
from marauder.core.settings import Settings
from marauder.tracking.base import Tracker
from marauder.tracking.records import safe_name, tracking_folder
from marauder.tracking.wandb_quietly import open_quietly

if TYPE_CHECKING:
    from wandb import Run

EXIT_CODES = {"finished": 0, "failed": 1, "interrupted": 255}


def usual_mode() -> str:
    """The mode that the environment asks for: WANDB_MODE, else online with WANDB_API_KEY, else offline."""
    return os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")


class WandbTrackerSettings(Settings):
    """``entity``: a team. ``mode``: by default that of the environment, see ``usual_mode``."""

    mode: str = Field(default_factory=usual_mode, pattern="^(offline|online)$")
    entity: str | None = None


class WandbTracker(Tracker):
    """A W&B run per run; offline, a copy for ``wandb sync``."""

    name = "wandb"
    title = "Weights & Biases"
    settings_model = WandbTrackerSettings
    settings: WandbTrackerSettings
    replays = True

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        """W&B's own, and those of the operating system."""
        import wandb

        return (OSError, wandb.errors.Error)

    def open(self) -> None:
        """Open the run; offline, begin a new copy of it."""
        self.mode = self.settings.mode
        self.folder = tracking_folder(self.run.folder).absolute() / "wandb"
        self.tags: dict[str, str] = {}
        self.logged: set[tuple[str, int]] = set()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.wandb_run: Run = open_quietly(
            self.folder,
            project=self.run.project,
            entity=self.settings.entity,
            id=self._id(),
            name=self.run.run_id,
            config=dict(self.run.config),
            mode=self.mode,
            resume="allow" if self.mode == "online" else None,
        )
        # Online, the server may have steps already: those before its latest are in.
        self.first_step = self.wandb_run.step
        self.set_tags(self.run.tags)

    def log_metrics(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Into the history at ``step``. W&B takes no earlier step than its latest: what comes late joins that one."""
        if step < self.first_step:
            return
        new = {name: value for name, value in values.items() if (name, step) not in self.logged}
        self.logged |= {(name, step) for name in new}
        if new:
            self._log(new, step)

    def log_figure(self, name: str, path: Path, step: int) -> None:
        """An image of the history, at ``step`` or the step that the history has reached."""
        import wandb

        self._log({f"figures/{name}": wandb.Image(str(path), caption=f"step {step}")}, step)

    def log_curve(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> None:
        """A line over the first two columns where these are numbers, else a table."""
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        numbers = len(columns) > 1 and all(not isinstance(value, str) for row in rows for value in row[:2])
        if numbers:
            line = wandb.plot.line(table, columns[0], columns[1], title=name)
            self._log({f"curves/{name}": line}, 0)
        else:
            self._log({f"curves/{name}": table}, 0)

    def log_artifact(self, path: Path, kind: str) -> None:
        """An artifact ``<run id>-<kind>-<file>`` with the one file."""
        import wandb

        # W&B takes names of artifacts up to 128 characters, without slashes.
        name = safe_name(f"{self.run.run_id}-{kind}-{path.name}".replace("/", "-"))[:128]
        artifact = wandb.Artifact(name, type=kind)
        # immutable: the file lies in the run's folder and is not copied once more.
        artifact.add_file(str(path), policy="immutable")
        self.wandb_run.log_artifact(artifact)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """W&B's tags are words; names and values go into the config, under ``tags``."""
        self.tags |= tags
        self.wandb_run.config.update({"tags": dict(self.tags)}, allow_val_change=True)

    def finish(self, status: str) -> None:
        """Close the run; offline, remove the copies that this one replaces."""
        self.wandb_run.summary["status"] = status
        here = Path(self.wandb_run.dir).parent
        self.wandb_run.finish(exit_code=EXIT_CODES[status])
        # Only now that this copy is whole: a kill before leaves the former one to sync.
        if self.mode == "offline":
            for former in here.parent.glob("offline-run-*"):
                if former != here:
                    shutil.rmtree(former)

    def _id(self) -> str:
        again = f"-{self.run.generation}" if self.run.generation else ""
        return safe_name(self.run.run_id.replace("/", "-")) + again

    def _log(self, values: PlainMapping, step: int) -> None:
        self.wandb_run.log(dict(values), step=max(step, self.wandb_run.step))
