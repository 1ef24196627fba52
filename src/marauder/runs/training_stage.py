"""The training stage of a gated run: how its weights come about. Mostly by one training; runs.series knows another."""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from marauder.core.clock import Clock
from marauder.core.files import DamagedFileError, read_json, read_lines, write_text
from marauder.engine.checkpoints import Checkpointer, StoredCheckpoint
from marauder.engine.state import Outcome
from marauder.runs.mirroring import mirrors_of
from marauder.runs.notifying import RunNotifier
from marauder.runs.settings import RunSettings
from marauder.runs.task_runtime import TaskRuntime
from marauder.runs.training_processes import train
from marauder.storage.base import StoreError
from marauder.storage.mirror import newest_whole, restore_newest, stored_steps

HISTORY_FILE = "metrics.jsonl"
MIRROR_SECONDS = 60.0
ACCOUNT_FILE = "transfer_account.txt"


@dataclass(frozen=True)
class RunInHand:
    """The run whose weights are made: it has its id, its task is open, its gates before training passed.

    ``identity``: fingerprint of its data and of what it starts from.
    """

    settings: RunSettings
    runtime: TaskRuntime
    identity: str
    device: torch.device
    clock: Clock
    notifier: RunNotifier


class TrainingStage(ABC):
    """Makes the weights of a run, ``best`` and ``last`` in its folder, or goes on making them."""

    leaves: ClassVar[tuple[str, ...]] = ()
    """Files that a finished run of this kind has beside those of every run."""

    @abstractmethod
    def train(self, run: RunInHand, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> Outcome:
        """Train to the end. ``begun`` is called once nothing of an earlier run can be taken up.

        Raises ``Interrupted``, ``UserError``, ``TrainingFailure``.
        """

    @abstractmethod
    def read_named(self, checkpoint: Path, settings: RunSettings) -> StoredCheckpoint | None:
        """The named ``checkpoint``, whose state says what it belongs to; ``None``: to the run in the folder of
        ``settings``.

        Raises ``UserError`` for a checkpoint that is missing or damaged, or that this run cannot go on from. It is
        asked before anything is written or removed.
        """

    @abstractmethod
    def has_begun(self, settings: RunSettings) -> bool:
        """Whether there is a checkpoint that this run would go on from."""

    def has_left(self, folder: Path) -> bool:
        """Whether ``folder`` holds all that ``leaves`` names, each JSON file of it readable."""
        try:
            for name in self.leaves:
                if not (folder / name).is_file():
                    return False
                if name.endswith(".json"):
                    read_json(folder / name)
        except DamagedFileError:
            return False  # it is measured and written again
        return True

    def is_trained(self, settings: RunSettings) -> bool:
        """Whether what a finished run left is enough for training to have nothing to do."""
        return True

    def gives_way(self, settings: RunSettings) -> bool:
        """Whether what lies in the run's folder may be replaced by a run of other settings without being asked."""
        return False


class SingleTraining(TrainingStage):
    """One training by the engine."""

    def train(self, run: RunInHand, resume: Path | None, fresh: bool, begun: Callable[[], None] | None) -> Outcome:
        """Say what training starts from, bring a newer checkpoint back from the mirrors, and train."""
        tell_start(run)
        settings, mirrors = run.settings, mirrors_of(run.settings)
        if fresh:
            for mirror in mirrors:
                # Else the next start would bring the former run's newest checkpoint back.
                mirror.clear()
        elif resume is None:
            restore_newest(settings.checkpoint_folder, mirrors)
        try:
            return train(run.runtime, run.identity, run.clock, run.notifier.observer(mirrors), resume, fresh, begun)
        finally:
            run.clock.doing = "copying checkpoints to their mirrors" if mirrors else ""
            for mirror in mirrors:
                mirror.finish(MIRROR_SECONDS)

    def is_trained(self, settings: RunSettings) -> bool:
        """Where the newest whole checkpoint is that of the last update; without it training begins anew."""
        history = read_lines(settings.folder / HISTORY_FILE)
        newest = newest_whole(settings.checkpoint_folder)
        return bool(history) and newest is not None and newest >= int(history[-1]["step"])

    def read_named(self, checkpoint: Path, settings: RunSettings) -> StoredCheckpoint | None:
        """The checkpoint itself says what it belongs to: it may be one of another folder."""
        return Checkpointer(settings.checkpoint_folder).read(checkpoint)

    def has_begun(self, settings: RunSettings) -> bool:
        """Here, or in a mirror that answers."""
        if newest_whole(settings.checkpoint_folder) is not None:
            return True
        for mirror in mirrors_of(settings):
            # A warning about one that does not answer comes when it is asked to bring the newest back.
            with contextlib.suppress(StoreError, OSError):
                if stored_steps(mirror.store, mirror.prefix):
                    return True
        return False


def tell_start(run: RunInHand) -> None:
    """Say in a line what training starts from, and leave the account of every one in the run's folder."""
    accounts, file = run.runtime.accounts(), run.settings.folder / ACCOUNT_FILE
    if not accounts:
        # One of a former run of other settings would be registered as this one's.
        file.unlink(missing_ok=True)
        return
    write_text(file, "\n".join(one.listing() for one in accounts))
    for one in accounts:
        print(f"{one.summary()} ({file.name} names each)", file=sys.stderr)
